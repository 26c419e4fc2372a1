"""Hearing through Redis: one connection, its subscriptions, each message once."""

from __future__ import annotations

import asyncio
import functools
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

from redis.asyncio.connection import ConnectionPool
from redis.exceptions import ResponseError

from ..broker_errors import BrokerError
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
        # What is still to be answered, in order: commands with names, last one first.
        self._asked: deque[tuple[str, list[bytes]]] = deque()
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
                self._send(self._pipe, command, names[start : start + _CHUNK])

    def leave(self, topic: str | Filter) -> None:
        """Unsubscribe at the engine, if it is there."""
        if self._pipe is None:
            return
        if isinstance(topic, Filter):
            self._send(self._pipe, "PUNSUBSCRIBE", [self._names.pattern(topic)])
        else:
            self._send(self._pipe, "UNSUBSCRIBE", [self._names.channel(topic)])

    def _send(self, pipe: Pipe, command: str, names: list[bytes]) -> None:
        self._asked.append((command, names[::-1]))
        pipe.send(command, *names)

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
            await pipe.run(
                functools.partial(self._heard, pipe),
                functools.partial(self._send, pipe, "PING", []),
            )
        finally:
            self._pipe = None
            self._inbox.held = None
            self._asked.clear()
            self._due.clear()
            self._topics.clear()
            self._filters.clear()
            self._speakers.clear()
            await pipe.close()

    def _heard(self, pipe: Pipe, reply: Any) -> None:
        if isinstance(reply, list) and reply[0] == b"message":
            self._message(None, reply[1], reply[2])
        elif isinstance(reply, list) and reply[0] == b"pmessage":
            self._message(reply[1], reply[2], reply[3])
        else:
            self._answered(pipe, reply)

    def _answered(self, pipe: Pipe, reply: Any) -> None:
        command, names = self._asked[0]
        if isinstance(reply, ResponseError):
            self._asked.popleft()
            if len(names) == 1:
                self._refused(command, names[0], reply)
            else:
                # For the sake of one it refused them all; a ping has none.
                for name in reversed(names):
                    self._send(pipe, command, [name])
            return
        if names:
            kind, name = reply[:2]
            if (kind, name) != (command.lower().encode(), names.pop()):
                raise ValueError(reply)
            self._confirmed(kind, name)
        if not names:
            self._asked.popleft()

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
        if self._last(name) and self._inbox.held is None:
            self._inbox.confirm(topic)
        self._restored()

    def _refused(self, command: str, name: bytes, reply: ResponseError) -> None:
        topic = (
            self._names.filter(name)
            if command == "PSUBSCRIBE"
            else self._names.topic(name)
        )
        if self._last(name):
            error = BrokerError(self._name, f"refused: {reply}")
            self._inbox.refuse(topic, error)
        self._restored()

    def _last(self, name: bytes) -> bool:
        """Take note of an answer; tell whether it is the last one to be expected.

        If it is not, the name was left and asked for again since.
        """
        self._due[name] -= 1
        if self._due[name]:
            return False
        del self._due[name]
        return True

    def _restored(self) -> None:
        if self._inbox.held is not None and not self._due:
            self._ready()
            self._inbox.release({*self._topics, *self._filters})
