"""What publishing and subscribing return: counts, and where a subscription begins."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, NamedTuple

from .names import Filter

__all__ = ["Receipt", "Statistics", "Subscribed"]


class Receipt:
    """What became of one published message, on this server.

    ``matched == queued + dropped + closed``, always. Queued is not delivered: no
    server knows what a client has read. ``await receipt`` gives the receipt itself.

    Attributes:
        matched: Subscribers that the message was for.
        queued: Subscribers to which it was written, or for which it waits.
        dropped: Subscribers that were too slow and did not get it.
        closed: Subscribers that are closing, or that it closed for being too slow.
        conflated: Older messages, waiting for slow subscribers, whose place it took.
        displaced: Older messages, waiting for slow subscribers, that were dropped to
            make room for it.
    """

    __slots__ = ("closed", "conflated", "displaced", "dropped", "matched", "queued")

    def __init__(self, matched: int = 0) -> None:
        self.matched = matched
        self.queued = matched
        self.dropped = 0
        self.closed = 0
        self.conflated = 0
        self.displaced = 0

    def __await__(self) -> Generator[Any, None, Receipt]:
        return self
        yield

    def __repr__(self) -> str:
        counts = ", ".join(
            f"{name}={getattr(self, name)}"
            for name in (
                "matched",
                "queued",
                "dropped",
                "closed",
                "conflated",
                "displaced",
            )
        )
        return f"Receipt({counts})"


class Subscribed(NamedTuple):
    """What a subscription begins with.

    Attributes:
        topic: The topic.
        new: Whether the connection was not subscribed before.
    """

    topic: str | Filter
    new: bool


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
