"""Hearing through Redis: one connection, its subscriptions, each message once."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Iterable
from typing import Any

from redis.asyncio.connection import ConnectionPool
from redis.exceptions import ResponseError

from ..broker_errors import BrokerUnavailable
from ..pubsub.names import Filter
from .inbox import Inbox
from .redis_names import Names
from .redis_pipe import Pipe
from .wire import decode, split_position

__all__ = ["Hearing"]

# How many names are in one command when subscriptions are restored.
_CHUNK = 500

# Of how many topics it is remembered which subscription brings them.
_REMEMBERED = 4096


class Hearing:
    """What this node hears.

    Args:
        name: Which engine, for errors.
        pool: Makes connections.
        names: Names channels and patterns.
        inbox: What is wanted, and where messages go.
        heartbeat: See ``Pipe``.
        publishing: Set while commands can be sent. Nothing is told before: whoever
            hears of a gap asks for history.
    """

    def __init__(
        self,
        name: str,
        pool: ConnectionPool,
        names: Names,
        inbox: Inbox,
        heartbeat: float,
        publishing: asyncio.Event,
    ) -> None:
        self._name = name
        self._pool = pool
        self._names = names
        self._inbox = inbox
        self._heartbeat = heartbeat
        self._publishing = publishing
        self._pipe: Pipe | None = None
        self._ready: Callable[[], None] = lambda: None
        # How many confirmations of a channel or pattern are still to come.
        self._due: dict[bytes, int] = {}
        # What the engine has confirmed, filters in the order of that. It confirms
        # in the stream of the messages: so for each message this is what it went by.
        self._topics: set[str] = set()
        self._filters: dict[Filter, None] = {}
        # The filter by which a topic is taken, the first one that matches it.
        self._speakers: dict[str, bytes | None] = {}

    def ask(self, topics: Iterable[str | Filter]) -> None:
        """Subscribe at the engine, if it is there."""
        if self._pipe is None:
            return
        channels, patterns = [], []
        for topic in topics:
            if isinstance(topic, Filter):
                patterns.append(self._names.pattern(topic))
            else:
                channels.append(self._names.channel(topic))
        for command, names in (("SUBSCRIBE", channels), ("PSUBSCRIBE", patterns)):
            for name in names:
                self._due[name] = self._due.get(name, 0) + 1
            for start in range(0, len(names), _CHUNK):
                self._pipe.send(command, *names[start : start + _CHUNK])

    def leave(self, topic: str | Filter) -> None:
        """Unsubscribe at the engine, if it is there."""
        if self._pipe is None:
            return
        if isinstance(topic, Filter):
            self._pipe.send("PUNSUBSCRIBE", self._names.pattern(topic))
        else:
            self._pipe.send("UNSUBSCRIBE", self._names.channel(topic))

    async def run(self, ready: Callable[[], None]) -> None:
        """Hear until the connection is lost; see ``Link``."""
        pipe = Pipe(self._name, self._pool, self._heartbeat)
        try:
            await self._publishing.wait()
            await pipe.connect()
            self._pipe = pipe
            if self._inbox.wanted:
                self._ready = ready
                self._inbox.hold()
                self.ask(self._inbox.wanted)
            else:
                ready()
            await pipe.run(self._heard, functools.partial(pipe.send, "PING"))
        finally:
            self._pipe = None
            self._inbox.held = None
            self._due.clear()
            self._topics.clear()
            self._filters.clear()
            self._speakers.clear()
            await pipe.close()

    def _heard(self, reply: Any) -> None:
        if isinstance(reply, ResponseError):
            raise BrokerUnavailable(self._name, f"it refused to subscribe: {reply}")
        if not isinstance(reply, list):
            return  # the answer to a ping
        kind, name, *rest = reply
        if kind == b"message":
            self._message(None, name, rest[0])
        elif kind == b"pmessage":
            self._message(name, rest[0], rest[1])
        elif kind != b"pong":
            self._confirmed(kind, name)

    def _message(self, pattern: bytes | None, channel: bytes, frame: bytes) -> None:
        try:
            topic = self._names.topic(channel)
            if pattern is not None and not self._speaks(pattern, topic):
                return
            offset, epoch, start = split_position(frame)
            envelope = decode(topic, frame, offset, epoch, start)
        except ValueError as error:
            self._inbox.drop(channel.decode(errors="replace"), error)
        else:
            self._inbox.deliver(envelope)

    def _speaks(self, pattern: bytes, topic: str) -> bool:
        """Tell whether a message of this topic is taken by this pattern.

        The engine sends it once for the channel and once for each pattern that
        matches. The channel comes first, then the filter confirmed first.
        """
        if topic in self._topics:
            return False
        if topic not in self._speakers:
            if len(self._speakers) == _REMEMBERED:
                self._speakers.clear()
            matching = (each for each in self._filters if each.matches(topic))
            first = next(matching, None)
            self._speakers[topic] = (
                None if first is None else self._names.pattern(first)
            )
        return self._speakers[topic] == pattern

    def _confirmed(self, kind: bytes, name: bytes) -> None:
        topic: str | Filter
        if kind.startswith(b"p"):
            topic = self._names.filter(name)
            self._speakers.clear()
            if kind == b"psubscribe":
                self._filters[topic] = None
            else:
                self._filters.pop(topic, None)
        else:
            topic = self._names.topic(name)
            if kind == b"subscribe":
                self._topics.add(topic)
            else:
                self._topics.discard(topic)
        if kind.endswith(b"unsubscribe"):
            return
        self._due[name] -= 1
        if self._due[name]:
            return  # it was left and asked for again since
        del self._due[name]
        if self._inbox.held is None:
            self._inbox.confirm(topic)
        elif not self._due:
            self._ready()
            self._inbox.release({*self._topics, *self._filters})
