"""Backlog: what waits to be written to a slow peer, in order, and what has to go.

No step costs more than the number of messages that it takes away, but where a message
that replaces another one has outgrown its place: that costs the length of its topic.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import Hashable
from enum import Enum

from .frames import Message
from .overflow import Overflow

__all__ = ["Backlog", "Outcome", "Turn"]

#: The place in the order of a ``send``, which writes for itself once it is its turn.
Turn = asyncio.Future


class Outcome(Enum):
    """What became of a message for one subscriber."""

    QUEUED = 1
    CONFLATED = 2
    DROPPED = 3
    CLOSED = 4


class _Topic:
    """The messages of one topic: their numbers, oldest first, and their bytes."""

    __slots__ = ("numbers", "size")

    def __init__(self) -> None:
        self.numbers: deque[int] = deque()
        self.size = 0


class Backlog:
    """What waits for one connection.

    Attributes:
        size: Its bytes.
    """

    __slots__ = ("_by_key", "_entries", "_next", "_topics", "size")

    def __init__(self) -> None:
        self.size = 0
        self._next = 0
        self._entries: OrderedDict[int, tuple[Message | Turn[None], int]] = (
            OrderedDict()
        )
        self._topics: dict[str, _Topic] = {}
        self._by_key: dict[tuple[str | None, Hashable], int] = {}

    def __len__(self) -> int:
        """Count the messages and turns."""
        return len(self._entries)

    def append(self, entry: Message | Turn[None], size: int = 0) -> None:
        """Add an entry, room or not."""
        number = self._next
        self._next += 1
        self._entries[number] = entry, size
        self.size += size
        if isinstance(entry, Message) and entry.topic is not None:
            topic = self._topics.get(entry.topic)
            if topic is None:
                topic = self._topics[entry.topic] = _Topic()
            topic.numbers.append(number)
            topic.size += size
            if entry.overflow is Overflow.CONFLATE:
                self._by_key[entry.topic, entry.key] = number

    def put(
        self, message: Message, size: int, room: int
    ) -> tuple[Outcome, list[Message]]:
        """Add a published message as the overflow of its topic has it.

        Args:
            message: The message.
            size: Its bytes.
            room: Bytes that all that waits may have.

        Returns:
            What became of it, and the older messages that were dropped for it. With
            ``CLOSED`` nothing was changed.
        """
        overflow = message.overflow
        if overflow is Overflow.CONFLATE:
            number = self._by_key.get((message.topic, message.key))
            if number is not None:
                return self._replace(number, message, size, room)
        if self.size + size <= room:
            self.append(message, size)
            return Outcome.QUEUED, []
        if overflow is Overflow.CLOSE:
            return Outcome.CLOSED, []
        topic = self._topics.get(message.topic or "")
        if (
            overflow is Overflow.DROP_NEWEST
            or topic is None
            or self.size - topic.size + size > room
        ):
            return Outcome.DROPPED, []
        displaced = []
        while self.size + size > room:
            displaced.append(self._remove_message(topic.numbers[0]))
        self.append(message, size)
        return Outcome.QUEUED, displaced

    def _replace(
        self, number: int, message: Message, size: int, room: int
    ) -> tuple[Outcome, list[Message]]:
        """Give a message the place of an older one; others of its topic make room."""
        assert message.topic is not None
        topic = self._topics[message.topic]
        older = self._entries[number][1]
        growth = size - older
        displaced: list[Message] = []
        if growth > 0 and self.size + growth > room:
            if self.size - (topic.size - older) + growth > room:
                return Outcome.DROPPED, []
            others = [each for each in topic.numbers if each != number]
            while self.size + growth > room:
                displaced.append(self._remove_message(others.pop(0)))
        self._entries[number] = message, size
        self.size += growth
        topic.size += growth
        return Outcome.CONFLATED, displaced

    def first(self) -> Message | Turn[None]:
        """Return what comes next."""
        return next(iter(self._entries.values()))[0]

    def pop(self) -> Message | Turn[None]:
        """Take what comes next."""
        return self._remove(next(iter(self._entries)))

    def clear(self) -> list[Message | Turn[None]]:
        """Take everything."""
        entries = [entry for entry, _ in self._entries.values()]
        self._entries.clear()
        self._topics.clear()
        self._by_key.clear()
        self.size = 0
        return entries

    def _remove(self, number: int) -> Message | Turn[None]:
        entry, size = self._entries.pop(number)
        self.size -= size
        if isinstance(entry, Message) and entry.topic is not None:
            topic = self._topics[entry.topic]
            if topic.numbers[0] == number:
                topic.numbers.popleft()
            else:
                topic.numbers.remove(number)
            topic.size -= size
            if not topic.numbers:
                del self._topics[entry.topic]
            if self._by_key.get((entry.topic, entry.key)) == number:
                del self._by_key[entry.topic, entry.key]
        return entry

    def _remove_message(self, number: int) -> Message:
        entry = self._remove(number)
        assert isinstance(entry, Message), "turns have no topic"
        return entry
