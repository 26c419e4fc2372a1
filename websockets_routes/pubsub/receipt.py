"""What publishing and subscribing return: counts, and where a subscription begins."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator
from typing import Any, NamedTuple

from ..brokers.base import Published
from ..brokers.link import logger
from .latency import Latency
from .names import Filter

__all__ = [
    "BrokerReceipt",
    "HistoryReceipt",
    "Receipt",
    "Statistics",
    "Subscribed",
]

_COUNTS = ("matched", "queued", "dropped", "closed", "conflated", "displaced")


class Receipt:
    """What became of one published message, on this server.

    ``matched == queued + dropped + closed``, always. Queued is not delivered: no
    server knows what a client has read. ``await receipt`` gives the receipt itself.

    With a broker the counts are None until the message has come back from it, and
    ``await receipt`` waits for the engine to have the message: it raises
    ``BrokerUnavailable`` or ``BrokerError`` if it has not, or may not have it. An
    error that nobody awaits is logged.

    Attributes:
        matched: Subscribers that the message was for.
        queued: Subscribers to which it was written, or for which it waits.
        dropped: Subscribers that were too slow and did not get it.
        closed: Subscribers that are closing, or that it closed for being too slow.
        conflated: Older messages, waiting for slow subscribers, whose place it took.
        displaced: Older messages, waiting for slow subscribers, that were dropped to
            make room for it.
        offset: Its number in its topic; None without history, or until known.
        epoch: What its offset counts in; None without history, or until known.
        duplicate: Whether its idempotency key was known, so that nothing was
            published this time. Offset and epoch are those of the first time.
    """

    # What most receipts have in common costs them nothing.
    offset: int | None = None
    epoch: str | None = None
    duplicate: bool = False

    __slots__ = ("closed", "conflated", "displaced", "dropped", "matched", "queued")

    def __init__(self, matched: int = 0) -> None:
        # ``int | None`` would have everybody look who has no broker.
        self.matched: int | Any = matched
        self.queued: int | Any = matched
        self.dropped: int | Any = 0
        self.closed: int | Any = 0
        self.conflated: int | Any = 0
        self.displaced: int | Any = 0

    def __await__(self) -> Generator[Any, None, Receipt]:
        return self
        yield

    def __repr__(self) -> str:
        counts = ", ".join(f"{name}={getattr(self, name)}" for name in _COUNTS)
        if self.offset is not None:
            counts += f", offset={self.offset}, epoch={self.epoch!r}"
        return f"Receipt({counts}{', duplicate=True' if self.duplicate else ''})"


_UNKNOWN = Receipt()
for _name in _COUNTS:
    setattr(_UNKNOWN, _name, None)


class HistoryReceipt(Receipt):
    """A receipt of what was given an offset, or an idempotency key.

    Args:
        matched: Subscribers that the message was for.
        offset: Its offset, if any.
        epoch: What the offset counts in.
        duplicate: Whether its idempotency key was known.
    """

    __slots__ = ("duplicate", "epoch", "offset")

    def __init__(
        self,
        matched: int = 0,
        offset: int | None = None,
        epoch: str | None = None,
        duplicate: bool = False,
    ) -> None:
        super().__init__(matched)
        self.offset = offset
        self.epoch = epoch
        self.duplicate = duplicate

    def count(self, counts: Receipt) -> None:
        """Take over the counts."""
        self.matched = counts.matched
        self.queued = counts.queued
        self.dropped = counts.dropped
        self.closed = counts.closed
        self.conflated = counts.conflated
        self.displaced = counts.displaced


class BrokerReceipt(HistoryReceipt):
    """A receipt of what goes to a broker.

    Args:
        topic: The name of the topic.
        confirmed: Called with the receipt once the engine has the message.

    Attributes:
        began: When it was published, by the clock of whoever measures that; or None.
    """

    __slots__ = (
        "__weakref__",
        "_awaited",
        "_confirmed",
        "_error",
        "_future",
        "began",
        "topic",
    )

    def __init__(self, topic: str, confirmed: Callable[[BrokerReceipt], None]) -> None:
        super().__init__()
        self.count(_UNKNOWN)
        self.topic = topic
        self.began: float | None = None
        self._awaited = False
        self._error: BaseException | None = None
        self._confirmed = confirmed
        self._future: asyncio.Future[Published] | None = None

    def follow(self, future: asyncio.Future[Published]) -> None:
        """Take what the broker answers."""
        self._future = future
        if future.done():
            self._settle(future)
        else:
            future.add_done_callback(self._settle)

    def _settle(self, future: asyncio.Future[Published]) -> None:
        if self._future is None:
            return
        self._future = None
        self._error = future.exception()
        if self._error is None:
            self.offset, self.epoch, self.duplicate = future.result()
            if self.duplicate:
                self.count(Receipt())  # it does not come back
            self._confirmed(self)

    def __await__(self) -> Generator[Any, None, Receipt]:
        future = self._future
        if future is not None:
            # Whoever gives up waiting takes nothing from the others.
            yield from asyncio.wait([future]).__await__()
            self._settle(future)
        self._awaited = True
        if self._error is not None:
            raise self._error
        return self

    def __del__(self) -> None:
        # As asyncio does for its futures: only now nobody can await it any more.
        if self._error is not None and not self._awaited:
            problem = "a message to %r was not published, or may not be: %s"
            logger.error(problem, self.topic, self._error)


class Subscribed(NamedTuple):
    """What a subscription begins with.

    Attributes:
        topic: The topic.
        new: Whether the connection was not subscribed before. What it hears already
            is not replayed.
        epoch: What offsets count in; None without history.
        offset: The offset of the newest message before what comes live; None without
            history. What is replayed goes up to it.
        recovered: Whether nothing is missing between the position that was asked
            about and what comes live. If it is False, nothing is replayed. True if
            no position was asked about.
        count: How many messages are replayed.
    """

    topic: str | Filter
    new: bool
    epoch: str | None = None
    offset: int | None = None
    recovered: bool = True
    count: int = 0  # type: ignore[assignment]


class Statistics(NamedTuple):
    """What topics hold at one moment, and what became of their messages so far.

    Attributes:
        names: Names that have a subscriber.
        subscribers: Connections that have a subscription.
        subscriptions: Subscriptions, those to filters included.
        published: Messages that were published.
        queued: Sum of this count of all receipts; so are the others.
        conflated: Older messages that were replaced.
        dropped: Messages that a slow subscriber did not get.
        displaced: Older messages that were dropped to make room.
        closed: Messages that found a subscriber closing, or closed it.
        lost: Messages that waited for slow subscribers and were given up.
        delivery: How long the turns of the event loop took in which messages were
            delivered: from the first that was queued until all were written.
        confirmation: How long the broker took to confirm what was published here.
    """

    names: int
    subscribers: int
    subscriptions: int
    published: int
    queued: int
    conflated: int
    dropped: int
    displaced: int
    closed: int
    lost: int
    delivery: Latency | None = None
    confirmation: Latency | None = None
