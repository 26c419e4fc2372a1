"""The broker on NATS; the extra ``nats``."""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import Callable
from typing import Any

from nats.aio.client import Client

from ..broker_errors import BrokerError
from ..pubsub.names import Filter
from .base import (
    Broker,
    Envelope,
    Gap,
    HistoryPage,
    HistoryPolicy,
    Position,
    Published,
    Receive,
    State,
)
from .inbox import Inbox
from .link import Backoff, Link, check_port, name_of, not_connected, too_slow
from .nats_session import Publish, Session, Subscribe, Unsubscribe
from .nats_subjects import Subjects
from .wire import encode

__all__ = ["NatsBroker"]


class NatsBroker(Broker):
    """A broker on NATS.

    Order: on a topic without history, the messages of each publisher keep theirs,
    and two nodes may see those of two publishers in different orders. On a topic
    with history all nodes see one order, that of its stream. A message with an
    idempotency key on a topic without history goes through a stream as well: one
    without a key, published just after it, may overtake it.

    History needs JetStream (nats-server 2.11 or later, started with ``-js``). There
    is one stream for each policy, in files and with one replica; offsets increase
    and leave numbers out, since topics share them. A position is recovered if it
    can be proved: not, for example, if it is older than the ``ttl``, though nothing
    was published since. As in every JetStream, a power cut of the server may take
    the newest messages with it.

    Args:
        url: ``nats://[user:password@]host[:port]``, ``tls://…``; several of a
            cluster with commas between.
        prefix: What subjects and streams begin with, tokens of letters, digits and
            hyphens. Applications that do not share it do not hear each other.
        memory: Whether streams are kept in the memory of the server, not in files.
        backoff: How long to wait between two attempts to connect.
        timeout: How long to wait for the engine, in seconds: to connect, to confirm
            a subscription, for JetStream.
        heartbeat: How often the engine is asked for a sign of life, in seconds;
            one left out, and it counts as gone.
        max_pending: How many bytes of publishes may wait for the engine; beyond it
            publishing raises ``BrokerUnavailable``.
        options: More arguments for nats-py's ``connect``, ``tls=`` or
            ``user_credentials=`` for example.

    Raises:
        BrokerError: If the URL or the prefix cannot be used.
    """

    def __init__(
        self,
        url: str,
        *,
        prefix: str = "websockets-routes",
        memory: bool = False,
        backoff: Backoff | None = None,
        timeout: float = 5,
        heartbeat: float = 10,
        max_pending: int = 64 * 1024 * 1024,
        **options: Any,
    ) -> None:
        servers = [each.strip() for each in url.split(",")]
        self.name = ",".join(map(name_of, map(_whole, servers)))
        tokens = prefix.replace("-", "").split(".")
        if not all(token.isascii() and token.isalnum() for token in tokens):
            problem = f"prefix is made of letters, digits, - and dots, not {prefix!r}"
            raise BrokerError(self.name, problem)
        self._subjects = Subjects(prefix)
        self._memory = memory
        self._timeout = timeout
        self._max_pending = max_pending
        self._pending = 0
        self._options = {
            "max_outstanding_pings": 1,
            "ping_interval": heartbeat,
            **options,
            "servers": servers,
            # Connecting again is the link's affair: with pauses that grow, and with
            # the truth about what was published in the meantime.
            "allow_reconnect": False,
            "max_reconnect_attempts": 1,
            "reconnect_time_wait": 0.02,
            "connect_timeout": timeout,
        }
        try:
            for each in servers:
                check_port(_whole(each))
            inspect.signature(Client.connect).bind(None, **self._options)
        except (ValueError, TypeError) as error:
            raise BrokerError(self.name, f"cannot be used: {error}") from None
        self._secure = "tls" in options or any(
            each.startswith("tls://") for each in servers
        )
        self._link = Link(self.name, self._run, backoff or Backoff(), timeout)
        self._inbox = Inbox(self.name, timeout)
        self._session: Session | None = None

    def __repr__(self) -> str:
        return f"<NatsBroker {self.name} {self.state.value}>"

    @property
    def state(self) -> State:
        """What the broker is doing."""
        return self._link.state

    async def start(self, receive: Receive, gap: Gap) -> None:
        """Connect; see ``Broker.start``."""
        self._inbox.open(receive, gap)
        try:
            await self._link.start()
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """Disconnect; see ``Broker.close``."""
        self._inbox.close()
        await self._link.close()

    async def _run(self, ready: Callable[[], None]) -> None:
        session = Session(
            self.name,
            self._subjects,
            self._inbox,
            self._memory,
            self._timeout,
            self._secure,
        )
        try:
            await session.connect(self._options)
            self._session = session
            await session.run(ready)
        finally:
            self._session = None
            await session.close()

    def publish(
        self,
        envelope: Envelope,
        *,
        history: HistoryPolicy | None = None,
        idempotency_key: str | None = None,
        window: float = 120,
    ) -> asyncio.Future[Published]:
        """Publish a message; see ``Broker.publish``."""
        frame = encode(envelope)
        future: asyncio.Future[Published] = asyncio.get_running_loop().create_future()
        if self._session is None:
            future.set_exception(not_connected(self.name, self.state))
        elif self._pending + len(frame) > self._max_pending:
            future.set_exception(too_slow(self.name, self._pending))
        else:
            self._pending += len(frame)
            future.add_done_callback(functools.partial(self._answered, len(frame)))
            topic = envelope.topic
            self._session.put(
                Publish(topic, frame, history, idempotency_key, window, future)
            )
        return future

    def _answered(self, size: int, future: asyncio.Future[Published]) -> None:
        self._pending -= size

    async def subscribe(self, topic: str | Filter) -> None:
        """Begin to hear a topic or filter; see ``Broker.subscribe``."""
        if self._inbox.add(topic) and self._session is not None:
            self._session.put(Subscribe(topic))
        await self._inbox.wait(topic)

    async def unsubscribe(self, topic: str | Filter) -> None:
        """Stop to hear a topic or filter; see ``Broker.unsubscribe``."""
        if self._inbox.remove(topic) and self._session is not None:
            self._session.put(Unsubscribe(topic))

    async def history(
        self,
        topic: str,
        policy: HistoryPolicy,
        *,
        since: Position | None = None,
        limit: int | None = None,
        reverse: bool = False,
    ) -> HistoryPage:
        """Read the history of a topic; see ``Broker.history``."""
        session = self._session
        if session is None:
            raise not_connected(self.name, self.state)
        return await session.streams.page(topic, policy, since, limit, reverse)


def _whole(url: str) -> str:
    return url if "://" in url else f"nats://{url}"
