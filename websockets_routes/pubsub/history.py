"""The history of one topic, and the keys of what was published: no I/O, no tasks."""

from __future__ import annotations

import secrets
import time
from collections import deque
from collections.abc import Callable
from itertools import islice, takewhile

from ..brokers.base import Envelope, HistoryPage, HistoryPolicy, Position, Published

__all__ = ["History", "IdempotencyKeys", "new_epoch"]


def new_epoch() -> str:
    """Make an epoch: random, and fit for all engines."""
    return secrets.token_hex(8)


class History:
    """What is kept of one topic.

    Offsets begin with 1 and leave none out. The epoch is made with the history, and
    as long as it lives a position is right, or known not to be.

    Args:
        max_bytes: The greatest sum of payloads, in bytes. A message that is larger
            by itself gets an offset and is not kept.
        clock: Tells the time, in seconds; it never goes back.

    Attributes:
        epoch: What the offsets count in.
        offset: The offset of the newest message, kept or not; 0 before the first.
        size: The sum of the payloads, in bytes.
        used: When it was written to or read last, by the clock.
    """

    def __init__(
        self,
        max_bytes: int = 16 * 1024 * 1024,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.epoch = new_epoch()
        self.offset = 0
        self.size = 0
        self.used = clock()
        self._max_bytes = max_bytes
        self._clock = clock
        # The offsets of what is kept have no gaps, and end with the newest one.
        self._kept: deque[tuple[float, Envelope]] = deque()

    def __len__(self) -> int:
        return len(self._kept)

    def append(self, envelope: Envelope, policy: HistoryPolicy) -> Envelope:
        """Give a message its offset, and keep it.

        Returns:
            The message with offset and epoch.
        """
        envelope = envelope._replace(offset=self.offset + 1, epoch=self.epoch)
        self.keep(envelope, policy)
        return envelope

    def keep(self, envelope: Envelope, policy: HistoryPolicy) -> None:
        """Keep a message that was made with the next offset, and the epoch."""
        assert envelope.offset == self.offset + 1, "offsets leave none out"
        self.offset += 1
        self.used = self._clock()
        self._kept.append((self.used, envelope))
        self.size += len(envelope.data)
        self._trim(policy, self.used)

    def trim(self, policy: HistoryPolicy) -> None:
        """Forget what is too much or too old."""
        self._trim(policy, self._clock())

    def _trim(self, policy: HistoryPolicy, now: float) -> None:
        kept = self._kept
        while kept and (len(kept) > policy.length or self.size > self._max_bytes):
            self.size -= len(kept.popleft()[1].data)
        if policy.ttl is not None:
            limit = now - policy.ttl
            while kept and kept[0][0] <= limit:
                self.size -= len(kept.popleft()[1].data)

    def page(
        self,
        policy: HistoryPolicy,
        since: Position | None = None,
        limit: int | None = None,
        reverse: bool = False,
    ) -> HistoryPage:
        """Read a part of it; see ``Broker.history``. Linear in what is kept."""
        self.used = self._clock()
        self.trim(policy)
        kept = len(self._kept)
        first, last = self.offset - kept + 1, self.offset
        recovered = True
        if since is not None:
            recovered = since.epoch == self.epoch and 0 <= since.offset <= self.offset
            if reverse:
                last = since.offset - 1
            else:
                recovered = recovered and since.offset + 1 >= first
                first = since.offset + 1
        if not recovered:
            return HistoryPage((), self.epoch, self.offset, False)
        # Counted from the newest one: what a client has missed is mostly there.
        newest = islice(reversed(self._kept), self.offset - last, None)
        count = max(0, last - first + 1)
        if reverse:
            count = count if limit is None else min(limit, count)
            messages = [envelope for _, envelope in islice(newest, count)]
        else:
            messages = [envelope for _, envelope in islice(newest, count)][::-1]
            messages = messages[:limit]
        return HistoryPage(tuple(messages), self.epoch, self.offset, True)


class IdempotencyKeys:
    """Which keys were used to publish, and what came of it.

    Args:
        clock: Tells the time, in seconds; it never goes back.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        # What is overdue is looked for at the front, so a key with a short window
        # may stay for as long as an older one with a long window.
        self._known: dict[tuple[str, str], tuple[float, Published]] = {}

    def __len__(self) -> int:
        return len(self._known)

    def find(self, topic: str, key: str) -> Published | None:
        """Find what came of the first publish with this key."""
        found = self._known.get((topic, key))
        if found is None or found[0] <= self._clock():
            return None
        return found[1]._replace(duplicate=True)

    def remember(
        self, topic: str, key: str, published: Published, window: float
    ) -> None:
        """Remember a key for as long as the window, in seconds."""
        now = self._clock()
        # One whose time is over keeps its old place otherwise.
        self._known.pop((topic, key), None)
        self._known[topic, key] = now + window, published
        overdue = takewhile(lambda item: item[1][0] <= now, self._known.items())
        for place, _ in tuple(overdue):
            del self._known[place]
