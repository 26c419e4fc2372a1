"""Attendance: presence on one side, a broker on the other.

All nodes hear one channel, on which each publishes what it has to say of its own
connections. Without a broker there is nobody to tell.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterable
from uuid import uuid4

from ..brokers.base import Broker, Envelope, Published
from ..brokers.link import logger
from ..exceptions import NotServing
from ..presence_errors import InvalidPresence
from .names import RESERVED
from .presence import Presence
from .roster import Change, Info

__all__ = ["CHANNEL", "Attendance"]

#: Where nodes tell each other of their connections. Nobody else may hear it.
CHANNEL = f"{RESERVED}presence"

# How much of the time to live a node may be silent. The rest is for finding out: the
# silent are looked for every quarter of this.
_SILENCE = 0.8

# What the last messages of a node may take, in seconds.
_FAREWELL = 2.0


class Attendance:
    """Keeps the presence of one node, and tells the other nodes of it.

    Args:
        ttl: Seconds within which a node that died is gone.
        max_info: Bytes of JSON that an info may have.
        told: Called with who came and went, one after the other, also where one
            makes the next.
    """

    def __init__(
        self, ttl: float, max_info: int, told: Callable[[Change], None]
    ) -> None:
        self._ttl = ttl
        self._max_info = max_info
        self._told = told
        # What has to be told, and whether somebody is at it.
        self._changes: deque[Change] = deque()
        self._telling = False
        self._sending: set[asyncio.Future[Published]] = set()
        self._broker: Broker | None = None
        self._renew()

    def _renew(self) -> None:
        """Be a node that nobody knows yet."""
        node = uuid4().hex
        ttl = self._ttl * _SILENCE
        self.presence = Presence(node, ttl=ttl, max_info=self._max_info)
        self._connections: set[str] = set()
        self._starting = asyncio.Lock()
        self._number = 0
        self._due: asyncio.Handle | None = None
        self._owed: asyncio.Handle | None = None
        self._timer: asyncio.TimerHandle | None = None

    # The beginning and the end

    async def start(self, broker: Broker) -> None:
        """Take part, unless this node does already.

        Args:
            broker: The broker, which is started.

        Raises:
            BrokerError: If it does not confirm that it hears the others.
        """
        async with self._starting:
            if self._broker is not None:
                return
            presence = self.presence
            try:
                await broker.subscribe(CHANNEL)
            except BaseException:
                await broker.unsubscribe(CHANNEL)
                raise
            if self.presence is not presence:
                raise NotServing("the broker was closed meanwhile")
            self._broker = broker
            self.presence.announce()
            self._send()
            self._tick_later()

    async def stop(self) -> None:
        """Tell the others that all connections have left, and take part no more."""
        broker = self._broker
        self.forget()
        self._cancel()
        if broker is not None:
            self._send()
            self._cancel()
            self._broker = None
        try:
            if broker is not None and broker.healthy and self._sending:
                await asyncio.wait(self._sending, timeout=_FAREWELL)
        finally:
            self._renew()

    def abandon(self) -> None:
        """Be a new node: the event loop of this one has ended."""
        self._broker = None
        self._sending.clear()
        self._renew()

    def _cancel(self) -> None:
        for handle in (self._due, self._owed, self._timer):
            if handle is not None:
                handle.cancel()

    def forget(self) -> None:
        """Have all connections of this node leave."""
        for connection in tuple(self._connections):
            self._tell(self.presence.leave_all(connection))
        self._connections.clear()
        self._send_soon()

    # Who comes and goes here

    @property
    def is_used(self) -> bool:
        """Whether a connection of this node may be present."""
        return bool(self._connections)

    def join(self, topic: str, member: str, connection: str, info: Info | None) -> None:
        """Add a connection of a member to a topic; see ``Presence.join``."""
        change = self.presence.join(topic, member, connection, info)
        self._connections.add(connection)
        self._changed(change)

    def leave(self, topic: str, connection: str) -> None:
        """Remove a connection from a topic, if it is there."""
        if connection in self._connections:
            self._changed(self.presence.leave(topic, connection))

    def gone(self, connection: str) -> None:
        """Take note that a connection has left all its topics."""
        self._connections.discard(connection)

    def _changed(self, change: Change | None) -> None:
        self._send_soon()
        if change is not None:
            self._tell((change,))

    def _tell(self, changes: Iterable[Change]) -> None:
        self._changes.extend(changes)
        if self._telling:
            return
        self._telling = True
        try:
            while self._changes:
                self._told(self._changes.popleft())
        finally:
            self._telling = False

    # The other nodes

    def receive(self, message: bytes) -> None:
        """Take what was published on the channel, by any node."""
        try:
            changes = self.presence.receive(message)
        except InvalidPresence as error:
            logger.warning("dropped a message on %s: %s", CHANNEL, error)
            return
        self._send_soon()
        self._tell(changes)

    def gap(self) -> None:
        """Take note that the broker was away, and is there again."""
        self.presence.heartbeat()
        self._send_soon()

    def _tick_later(self) -> None:
        loop = asyncio.get_running_loop()
        pause = self.presence.interval
        self._timer = loop.call_later(pause, self._tick, loop.time() + pause)

    def _tick(self, expected: float) -> None:
        late = asyncio.get_running_loop().time() - expected
        self._tick_later()
        self.presence.heartbeat()
        self._send()
        if late < self.presence.interval:
            # Else it was this node that stood still: heartbeats may wait to be read.
            self._tell(self.presence.expire())

    def _send_soon(self) -> None:
        """Send all that comes up in this turn of the event loop, at its end."""
        if self._due is None and self._broker is not None:
            self._due = asyncio.get_running_loop().call_soon(self._send)

    def _send(self) -> None:
        self._due = None
        broker = self._broker
        assert broker is not None
        for data in self.presence.take():
            self._number += 1
            name = f"{self.presence.node}{self._number:x}"
            sent = broker.publish(
                Envelope(CHANNEL, data, False, None, name, time.time())
            )
            self._sending.add(sent)
            sent.add_done_callback(self._sent)
        owed = self.presence.owed
        if owed is not None and self._owed is None:
            self._owed = asyncio.get_running_loop().call_later(owed, self._send_owed)

    def _send_owed(self) -> None:
        self._owed = None
        self._send()

    def _sent(self, sent: asyncio.Future[Published]) -> None:
        self._sending.discard(sent)
        if not sent.cancelled() and (error := sent.exception()) is not None:
            # The others find that it is missing, and ask.
            logger.debug("presence was not published: %s", error)
