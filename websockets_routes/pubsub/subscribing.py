"""Subscribing: who may hear what, and what a subscription begins with."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Iterable
from typing import NamedTuple

from websockets import State
from websockets.asyncio.server import ServerConnection
from websockets.typing import DataLike

from ..brokers.base import Envelope, HistoryPage, HistoryPolicy, Position
from ..brokers.link import logger
from ..closing import closed_error
from ..exceptions import InvalidLimit, InvalidTopic, MustAwait, SubscriptionDenied
from ..limits import check_limit
from ..target import UNFIT
from .attending import Attending
from .clients import client_key_of
from .frames import Message, encode_payload
from .message import Message as KeptMessage
from .message import message_of
from .names import Filter, check_levels, check_name
from .outbox import Outbox, outbox_of
from .overflow import Overflow
from .receipt import Subscribed
from .roster import Info
from .topic import Topic
from .tracks import Joiner

__all__ = ["Reply", "Subscribing"]

#: ``reply(subscribed)``: a message that tells a client where it stands.
Reply = Callable[[Subscribed], DataLike]

# No engine counts further; a client may say anything.
_MAX_OFFSET = 2**53

# What stands for a position that is none.
_NOWHERE = Position("", -1)


class _Wish(NamedTuple):
    """What a subscription is to begin with."""

    since: Position | None
    last: int | None
    reply: Reply | None


class Subscribing(Attending):
    """Topics that can be subscribed to: one half of ``Topics``."""

    async def subscribe(
        self,
        ws: ServerConnection,
        topic: str | Filter,
        *,
        declared: Topic | None = None,
        since: Position | None = None,
        last: int | None = None,
        reply: Reply | None = None,
        as_: str | None = None,
        info: Info | None = None,
    ) -> Subscribed:
        """Subscribe a connection. Subscribing twice is one subscription.

        A connection whose filters overlap gets a message once. It leaves its topics
        when it is closed.

        Args:
            ws: The connection; one of websockets' own class will do.
            topic: The name of a topic, or a ``Filter``.
            declared: A declaration whose ``authorize`` is asked even if it is not
                one of these topics.
            since: Replay what is behind this position, as far as it is not the
                client's own, and go on live: nothing is missing, nothing comes twice.
                For a topic with history. A ``Filter`` of the same connection that
                matches it goes on meanwhile: what comes live may be replayed too.
            last: Replay so many messages at most, in place of ``since``.
            reply: A plain function ``f(subscribed)`` that returns a message, which is
                sent before the first that is replayed.
            as_: The member that the connection is one of, for a topic with presence,
                until it unsubscribes or ends. Another one takes the place of the one
                before.
            info: What all nodes are told of the connection: a dict that is JSON, of
                4 KiB at most.

        Raises:
            InvalidTopic: If it is no name; a wildcard needs a ``Filter``. Also if
                there is no history to replay, or if a member subscribes where there
                is no presence.
            InvalidLimit: If ``last`` is no positive number.
            BrokerError: If the broker did not confirm it, or cannot tell the history.
            SubscriptionDenied: If ``authorize`` says so; unhandled, it closes with
                1008.
            TooManySubscriptions: If it has as many as it may.
            InvalidPresence: If the member or the info is none.
            PresenceTooLarge: If the info is too large.
            ConnectionClosed: If the connection is closed or closing.
        """
        if as_ is not None or info is not None:
            self._check_member(ws, topic, as_, info)
            assert as_ is not None
            await self._attend()
            subscribed = await self.subscribe(
                ws, topic, declared=declared, since=since, last=last, reply=reply
            )
            self._join_as(ws, topic, as_, info)
            return subscribed
        if since is not None or last is not None:
            self._check_replay(topic, since, last)
        if not self._check(ws, topic) and not self._beyond and reply is None:
            return Subscribed(topic, False)
        for authorized, params in self._declarations.guards(topic, declared):
            allowed = authorized(ws, topic, params)
            if inspect.isawaitable(allowed):
                allowed = await allowed
            if not allowed:
                raise SubscriptionDenied(topic)
        # The connection may have closed in the meantime.
        new = self._check(ws, topic)
        if not self._beyond and reply is None:
            return Subscribed(topic, new and self._add(ws, topic))
        policy = self._declarations.policy(topic)
        if policy is None or isinstance(topic, Filter):
            return await self._hear(ws, topic, reply)
        return await self._join(ws, topic, policy, _Wish(since, last, reply))

    def subscribe_nowait(self, ws: ServerConnection, topic: str | Filter) -> Subscribed:
        """Subscribe a connection from a plain function.

        Raises:
            MustAwait: If ``authorize`` or a broker has to be awaited.
            Exception: What ``subscribe`` raises.
        """
        if not self._check(ws, topic):
            return Subscribed(topic, False)
        policy = self._declarations.policy(topic) if self._beyond else None
        relay = self._relay
        if relay is not None and (policy is not None or not relay.is_confirmed(topic)):
            raise MustAwait(
                f"the broker has to confirm {str(topic)!r}: "
                "use subscribe() rather than subscribe_nowait()"
            )
        for authorized, params in self._declarations.guards(topic):
            allowed = authorized(ws, topic, params)
            if inspect.isawaitable(allowed):
                if inspect.iscoroutine(allowed):
                    allowed.close()
                raise MustAwait(
                    f"the authorize of {str(topic)!r} has to be awaited: "
                    "use subscribe() rather than subscribe_nowait()"
                )
            if not allowed:
                raise SubscriptionDenied(topic)
        if self._joining and (outbox_of(ws), topic) in self._joining:
            raise MustAwait(
                f"{topic!r} is being replayed to the connection: await that"
            )
        new = self._check(ws, topic) and self._add(ws, topic)
        if policy is None or isinstance(topic, Filter):
            return Subscribed(topic, new)
        history = self._local.history(topic, policy)
        return Subscribed(topic, new, history.epoch, history.offset)

    def _check_replay(
        self, topic: str | Filter, since: Position | None, last: int | None
    ) -> None:
        """Check that there is something to replay."""
        if isinstance(topic, Filter):
            raise InvalidTopic(topic, "a filter has no history: since is for names")
        self._history_of(topic)
        if since is not None and last is not None:
            raise InvalidLimit("either since or last, not both")
        if last is not None and (type(last) is not int or last < 1):
            raise InvalidLimit(f"last is at least 1 message, not {last!r}")

    def _history_of(self, topic: str) -> HistoryPolicy:
        check_name(topic)
        policy = self._declarations.policy(topic)
        if policy is None:
            problem = "it has no history: declare it with history=…"
            raise InvalidTopic(topic, problem)
        return policy

    # Without history

    async def _hear(
        self, ws: ServerConnection, topic: str | Filter, reply: Reply | None
    ) -> Subscribed:
        # Before the broker is asked: of two that come first, both hear everything.
        new = self._check(ws, topic) and self._add(ws, topic)
        relay = self._relay
        if relay is not None:
            try:
                await relay.hear(topic)
                ended = self._check(ws, topic)
            except BaseException:
                if new:
                    self.unsubscribe(ws, topic)
                relay.release(topic)
                raise
            if ended and new:
                relay.release(topic)  # it was unsubscribed in the meantime
            elif ended:
                new = self._add(ws, topic)  # whoever was first has given up
        subscribed = Subscribed(topic, new)
        if reply is not None:
            self._send_reply(outbox_of(ws), topic, reply(subscribed))
        return subscribed

    def _send_reply(
        self, outbox: Outbox, topic: str | Filter, message: DataLike
    ) -> None:
        payload, text = encode_payload(message, None)
        sent = Message(payload, text, str(topic), None, Overflow.CLOSE, None, self)
        self._delivery.deliver(sent, (outbox,))

    # With history

    async def _join(
        self, ws: ServerConnection, topic: str, policy: HistoryPolicy, wish: _Wish
    ) -> Subscribed:
        outbox = outbox_of(ws, self.max_backlog)
        before = self._joining.get((outbox, topic))
        if before is not None:
            await asyncio.wait([before])
            return await self._join(ws, topic, policy, wish)
        if not self._check(ws, topic):
            page = await self._read(topic, policy, _Wish(None, None, None))
            recovered = wish.since is None and wish.last is None
            found = Subscribed(topic, False, page.epoch, page.offset, recovered)
            if wish.reply is not None:
                self._send_reply(outbox, topic, wish.reply(found))
            return found
        done = ws.loop.create_future()
        self._joining[outbox, topic] = done
        joiner = Joiner(max(outbox.max_backlog, 1))
        relay = self._relay
        if relay is not None:
            relay.begin_join(topic, joiner)
        try:
            if relay is not None:
                await relay.hear(topic)
            return await self._replay(ws, outbox, topic, policy, wish, joiner)
        finally:
            del self._joining[outbox, topic]
            done.set_result(None)
            if relay is not None:
                relay.end_join(topic, joiner)
                relay.release(topic)

    async def _replay(
        self,
        ws: ServerConnection,
        outbox: Outbox,
        topic: str,
        policy: HistoryPolicy,
        wish: _Wish,
        joiner: Joiner,
    ) -> Subscribed:
        page = await self._read(topic, policy, wish)
        self._check(ws, topic)
        client = client_key_of(ws)
        envelopes = [each for each in page.messages if each.origin != client]
        subscribed = Subscribed(
            topic, True, page.epoch, page.offset, page.recovered, len(envelopes)
        )
        if wish.reply is not None:
            self._send_reply(outbox, topic, wish.reply(subscribed))
        joiner.position = Position(page.epoch, page.offset)
        # Nothing suspends from the last look at what came live to the subscription.
        while True:
            await self._feed(outbox, envelopes, client)
            if ws.protocol.state is not State.OPEN:
                raise closed_error(ws)
            if self._relay is None:
                # While it waited, or by the reply: here nobody holds what comes.
                history = self._local.history(topic, policy)
                if (history.epoch, history.offset) != joiner.position:
                    joiner.held.miss()
            if joiner.held.missed:
                joiner.held.missed = False
                envelopes = await self._read_on(ws, outbox, topic, policy, joiner)
                continue
            envelopes = joiner.take()
            if not envelopes:
                break
        self._check(ws, topic)
        self._add(ws, topic)
        if self._relay is not None:
            self._relay.joined(topic, outbox, joiner.position)
        return subscribed

    async def _read(
        self, topic: str, policy: HistoryPolicy, wish: _Wish
    ) -> HistoryPage:
        """Read what is to be replayed, oldest first."""
        source = self._relay or self._local
        if wish.since is not None:
            return await source.page(topic, policy, _checked(wish.since))
        # The newest one tells where the topic stands.
        last = min(wish.last or 1, policy.length)
        page = await source.page(topic, policy, None, last, True)
        messages = page.messages[::-1] if wish.last else ()
        return page._replace(messages=messages)

    async def _read_on(
        self,
        ws: ServerConnection,
        outbox: Outbox,
        topic: str,
        policy: HistoryPolicy,
        joiner: Joiner,
    ) -> list[Envelope]:
        """Read what came while a connection could not take more."""
        source = self._relay or self._local
        page = await source.page(topic, policy, joiner.position)
        if not page.recovered:
            # It was told that nothing is missing: it has to come again.
            outbox.give_up()
            raise closed_error(ws)
        joiner.position = Position(page.epoch, page.offset)
        return list(page.messages)

    async def _feed(
        self, outbox: Outbox, envelopes: Iterable[Envelope], client: str
    ) -> None:
        """Send one connection what it lacks, as fast as it reads."""
        size = 0
        for envelope in envelopes:
            if envelope.origin == client:
                continue
            try:
                message = self._wire(envelope, self._declared(envelope.topic))
            except Exception:
                # As where it comes live: else nobody could join who lacks it.
                logger.exception("a message of %r was not delivered", envelope.topic)
                continue
            self._delivery.deliver(message, (outbox,))
            size += len(message.payload)
            if size >= outbox.limit or outbox.backlog is not None:
                size = 0
                await outbox.drain()
                if outbox.ended:
                    break

    async def history(
        self,
        topic: str,
        *,
        since: Position | None = None,
        limit: int | None = None,
        reverse: bool = False,
    ) -> list[KeptMessage]:
        """Read the history of a topic.

        Args:
            topic: The name of the topic.
            since: Messages behind this position only; before it if in reverse. None
                at all if the position is not one of this history any more.
            limit: The greatest number of messages.
            reverse: Newest first.

        Raises:
            InvalidTopic: If it is no name, or the topic has no history.
            InvalidLimit: If the limit is no positive number.
            BrokerError: If the broker cannot tell it.
        """
        policy = self._history_of(topic)
        check_levels(topic, self.max_length, self.max_levels)
        check_limit("limit", limit)
        if limit is not None:
            if type(limit) is not int:
                raise InvalidLimit(f"limit is a number of messages, not {limit!r}")
            limit = min(limit, policy.length)  # no engine counts as far as a client
        position = None if since is None else _checked(since)
        source = self._relay or self._local
        page = await source.page(topic, policy, position, limit, reverse)
        return [message_of(each) for each in page.messages]


def _checked(since: Position) -> Position:
    """Take what a client says; what is no position is none of this history."""
    if not isinstance(since, tuple | list) or len(since) != 2:
        return _NOWHERE
    epoch, offset = since
    fits = type(offset) is int and 0 <= offset < _MAX_OFFSET
    # An engine could not be asked about a lone surrogate.
    fits = fits and isinstance(epoch, str) and not UNFIT.search(epoch)
    return Position(epoch, offset) if fits else _NOWHERE
