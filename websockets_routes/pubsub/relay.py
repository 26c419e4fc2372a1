"""Relay: topics on one side, a broker on the other.

A node is interested in a topic at the broker while somebody here is subscribed to it,
or about to be. Whatever it publishes comes back from the broker before it is delivered
here, so that all nodes see one order.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from functools import partial
from itertools import count
from secrets import token_hex
from typing import Any
from weakref import WeakKeyDictionary, WeakValueDictionary

from ..broker_errors import BrokerError, BrokerUnavailable
from ..brokers.base import Broker, Envelope, HistoryPage, HistoryPolicy, Position
from ..brokers.link import Backoff, logger
from ..brokers.opening import open_broker
from ..exceptions import NotServing, WrongThread
from .attendance import CHANNEL, Attendance
from .last_words import LastWords
from .latency import Latencies
from .names import RESERVED, Filter
from .node import Node
from .outbox import Outbox
from .receipt import BrokerReceipt, Receipt
from .tracks import Joiner, Track

__all__ = ["Relay"]

# Bytes that may wait for one topic while a node recovers it.
_MAX_HELD = 16 * 2**20

_NOT_STARTED = "the broker of the topics is not started: serve, or `async with topics:`"

# Between two attempts to read what was missed.
_BACKOFF = Backoff(0.05, 2, 2)


class _Interest:
    """That this node hears a topic, or is about to."""

    __slots__ = ("confirmed", "users")

    def __init__(self, confirmed: asyncio.Task[None]) -> None:
        self.confirmed = confirmed
        # Who is about to subscribe.
        self.users = 0


class Relay:
    """Brings messages of one node to the broker, and those of the broker to the node.

    Args:
        node: The topics of this node.
        broker: A broker, or its URL.
        attendance: Who is present.

    Raises:
        BrokerError: If the URL is that of no broker.
    """

    def __init__(
        self, node: Node, broker: Broker | str, attendance: Attendance
    ) -> None:
        self._node = node
        self._attendance = attendance
        self._url = broker if isinstance(broker, str) else None
        self.broker = open_broker(broker) if isinstance(broker, str) else broker
        self.loop: asyncio.AbstractEventLoop | None = None
        self._locks = WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Lock]()
        self._starts = 0
        self._interests: dict[str | Filter, _Interest] = {}
        self._joiners: dict[str, list[Joiner]] = {}
        self._tracks: dict[str, Track] = {}
        self._sent: WeakValueDictionary[str, BrokerReceipt] = WeakValueDictionary()
        self._prefix = token_hex(8)
        self._numbers = count()
        self._tasks: set[asyncio.Task[None]] = set()
        self._last_words = LastWords()
        # How long the broker takes to confirm; None if nobody wants to know.
        self.latencies: Latencies | None = None

    # The beginning and the end

    async def start(self) -> None:
        """Connect, unless somebody else has; who starts it has to close it.

        Raises:
            BrokerError: If that fails.
            WrongThread: If somebody has it started on another event loop.
        """
        loop = self.loop
        if loop is not None and loop.is_closed():
            self._abandon()
        elif loop not in (None, asyncio.get_running_loop()):
            problem = "the broker of these topics is on another event loop: serve there"
            raise WrongThread(problem)
        async with self._lock():
            if self._starts == 0:
                try:
                    await self.broker.start(self.receive, self.gap)
                    if self._node.has_presence:
                        await self._attendance.start(self.broker)
                    await self._hear_again()
                except BaseException:
                    await self._end()
                    raise
                self.loop = asyncio.get_running_loop()
            self._starts += 1

    def _lock(self) -> asyncio.Lock:
        """Find what lets one at a time start and close: it is of one event loop."""
        return self._locks.setdefault(asyncio.get_running_loop(), asyncio.Lock())

    async def _hear_again(self) -> None:
        """Restore the interest of who stayed while the broker was closed."""
        topics = self._node.heard()
        await asyncio.gather(*map(self.hear, topics))
        for topic in topics:
            self._node.tell_gap(topic)

    async def close(self) -> None:
        """Disconnect, if nobody else has it started."""
        async with self._lock():
            self._starts = max(self._starts - 1, 0)
            if self._starts == 0 and self.loop is not None:
                try:
                    await self.settle()
                finally:
                    await self._end()

    def _abandon(self) -> None:
        """Leave behind what is on an event loop that ended before it was closed."""
        self.loop = None
        self._starts = 0
        self._interests.clear()
        self._joiners.clear()
        self._tracks.clear()
        self._tasks.clear()
        self._attendance.abandon()
        if self._url is not None:
            self.broker = open_broker(self._url)

    async def _end(self) -> None:
        self.loop = None
        tasks = [*self._tasks, *(each.confirmed for each in self._interests.values())]
        for task in tasks:
            task.cancel()
        self._interests.clear()
        self._tracks.clear()
        broker = self.broker
        try:
            await self._attendance.stop()
        finally:
            # Also for whoever does not wait until all have heard of it.
            if self._url is not None:
                # One that was closed does not begin again.
                self.broker = open_broker(self._url)
            await broker.close()
        if tasks:
            await asyncio.wait(tasks)

    async def settle(self) -> None:
        """Wait until what was published here has come back, a second at most."""
        if self.loop is not None and self.broker.healthy:
            await self._last_words.say(self.broker, self.next_id())

    @property
    def is_started(self) -> bool:
        """Whether somebody has it started."""
        return self.loop is not None

    async def attend(self) -> None:
        """Take part in the presence of all nodes, unless this one does already.

        Raises:
            NotServing: If nobody has it started.
            BrokerError: If the broker does not confirm it.
        """
        if self.loop is None:
            raise NotServing(_NOT_STARTED)
        await self._attendance.start(self.broker)

    # Publishing

    def next_id(self) -> str:
        """Make what tells a message from every other one."""
        return f"{self._prefix}{next(self._numbers):x}"

    def publish(
        self,
        envelope: Envelope,
        policy: HistoryPolicy | None,
        idempotency_key: str | None,
    ) -> BrokerReceipt:
        """Publish a message.

        Raises:
            WrongThread: Outside of the event loop of the broker.
            NotServing: Outside of any event loop, if nobody has the broker started.
            ValueError: If the key is no valid Unicode.
        """
        if idempotency_key is not None:
            idempotency_key.encode()  # so that it fails here, not on its way
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            loop = None
        if loop is None and self.loop is None:
            raise NotServing(_NOT_STARTED)
        if loop is None or self.loop not in (None, loop):
            raise WrongThread(
                "the broker of these topics is on another event loop: "
                "use publish_threadsafe() to reach it"
            )
        receipt = BrokerReceipt(envelope.topic, self._confirmed)
        if self.latencies is not None:
            receipt.began = self.latencies.clock()
        self._sent[envelope.id] = receipt
        receipt.follow(
            self.broker.publish(
                envelope, history=policy, idempotency_key=idempotency_key
            )
        )
        return receipt

    def _confirmed(self, receipt: BrokerReceipt) -> None:
        if self.latencies is not None and receipt.began is not None:
            self.latencies.add(receipt.began)
        if receipt.matched is None and not self._node.has_audience(receipt.topic):
            receipt.count(Receipt())  # it does not come back

    # Receiving

    def receive(self, envelope: Envelope) -> None:
        """Take a message from the broker."""
        if envelope.topic.startswith(RESERVED):
            if envelope.topic == CHANNEL:
                self._attendance.receive(envelope.data)
            self._last_words.heard(envelope.topic)
            return
        track = self._tracks.get(envelope.topic)
        if track is not None:
            if track.held is not None:
                track.held.add(envelope)
                return
            if not track.advance(envelope):
                return
        self._spread(envelope, track)

    def _spread(self, envelope: Envelope, track: Track | None) -> None:
        for joiner in self._joiners.get(envelope.topic, ()):
            joiner.held.add(envelope)
        try:
            counts = self._node.spread(envelope, track)
        except Exception:
            # What users do to a message may fail; those behind it go on.
            logger.exception("a message of %r was not delivered", envelope.topic)
            return
        receipt = self._sent.pop(envelope.id, None)
        if receipt is not None:
            receipt.count(counts)

    # Interest

    async def hear(self, topic: str | Filter) -> None:
        """Have the broker send a topic or filter, and wait until it confirms.

        From the call on the topic is of interest, until ``release``.

        Raises:
            BrokerError: If it does not.
        """
        interest = self._interests.get(topic)
        if interest is None:
            confirmed = asyncio.ensure_future(self.broker.subscribe(topic))
            interest = self._interests[topic] = _Interest(confirmed)
            confirmed.add_done_callback(partial(self._answered, topic, interest))
        interest.users += 1
        try:
            if not interest.confirmed.done():
                # Whoever gives up waiting takes nothing from the others.
                await asyncio.wait([interest.confirmed])
            if interest.confirmed.cancelled():
                raise NotServing("the broker was closed meanwhile")
            interest.confirmed.result()
        finally:
            interest.users -= 1

    def _answered(
        self, topic: str | Filter, interest: _Interest, task: asyncio.Task[None]
    ) -> None:
        if task.cancelled() or task.exception() is None:
            return
        if self._interests.get(topic) is interest:
            # Who comes now begins anew.
            del self._interests[topic]
            self._start_task(self.broker.unsubscribe(topic))

    def is_confirmed(self, topic: str | Filter) -> bool:
        """Tell whether a topic is heard already."""
        interest = self._interests.get(topic)
        return interest is not None and interest.confirmed.done()

    def left(self, topic: str | Filter, outbox: Outbox) -> None:
        """Take note that a subscriber left."""
        if not isinstance(topic, Filter):
            track = self._tracks.get(topic)
            if track is not None:
                track.leave(outbox)
        self.release(topic)

    def release(self, topic: str | Filter) -> None:
        """Take note that somebody may have lost interest."""
        interest = self._interests.get(topic)
        if (
            interest is None
            or interest.users
            or topic in self._joiners
            or self._node.is_heard(topic)
        ):
            return
        del self._interests[topic]
        if not isinstance(topic, Filter):
            self._tracks.pop(topic, None)
        self._start_task(self.broker.unsubscribe(topic))

    def _start_task(self, coroutine: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # History

    async def page(
        self,
        topic: str,
        policy: HistoryPolicy,
        since: Position | None = None,
        limit: int | None = None,
        reverse: bool = False,
    ) -> HistoryPage:
        """Read the history of a topic; see ``Broker.history``."""
        return await self.broker.history(
            topic, policy, since=since, limit=limit, reverse=reverse
        )

    def begin_join(self, topic: str, joiner: Joiner) -> None:
        """Hold for a connection what comes live."""
        self._joiners.setdefault(topic, []).append(joiner)

    def end_join(self, topic: str, joiner: Joiner) -> None:
        """Hold nothing any more."""
        joiners = self._joiners[topic]
        joiners.remove(joiner)
        if not joiners:
            del self._joiners[topic]

    def joined(self, topic: str, outbox: Outbox, position: Position) -> None:
        """Take note that a subscriber hears live what is behind a position."""
        track = self._tracks.get(topic)
        if track is None:
            track = self._tracks[topic] = Track(position, _MAX_HELD)
        track.join(outbox, position)

    def gap(self, topic: str | Filter) -> None:
        """Take note that messages may have been missed."""
        if str(topic).startswith(RESERVED):
            self._attendance.gap()
            return
        policy = self._node.policy_of(topic)
        if policy is None or isinstance(topic, Filter):
            self._node.tell_gap(topic)
            return
        for joiner in self._joiners.get(topic, ()):
            joiner.held.miss()
        track = self._tracks.get(topic)
        if track is not None and track.begin():
            self._start_task(self._recover(topic, track, policy))

    async def _recover(self, topic: str, track: Track, policy: HistoryPolicy) -> None:
        """Deliver what was missed, then what came live in the meantime."""
        held = track.held
        assert held is not None
        attempt = 0
        while self._tracks.get(topic) is track:
            held.missed = False
            try:
                page = await self.page(topic, policy, track.since)
            except BrokerUnavailable:
                # It has that of now, once it can be read.
                held.miss()
                await asyncio.sleep(_BACKOFF.pause(attempt))
                attempt += 1
                continue
            except BrokerError as error:
                logger.error("the history of %r cannot be read: %s", topic, error)
                self._node.tell_gap(topic)
                break
            if held.missed:
                continue
            for envelope in page.messages:
                self._spread(envelope, track)
            if page.recovered:
                track.position = Position(page.epoch, page.offset)
            else:
                track.restart(Position(page.epoch, page.offset))
                self._node.tell_gap(topic)
            break
        track.held = None
        for envelope in held.clear():
            self.receive(envelope)
