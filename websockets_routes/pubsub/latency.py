"""Latency: how long things took in the last minute, in little memory."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import NamedTuple

__all__ = ["Latencies", "Latency"]

# Slots of so many seconds, and how many of them make a minute.
_SLOT = 10
_SLOTS = 6

# Each bucket ends at a time a fourth root of two greater than the one before, the
# first at a microsecond: 108 of them reach beyond two minutes.
_STEPS = 4
_BUCKETS = 27 * _STEPS


class Latency(NamedTuple):
    """How long something took in the last minute, the last ten seconds included.

    Attributes:
        count: How often it was done.
        p50: What half of the times were not above, in seconds, to within a tenth.
        p99: The same for 99 of a hundred.
        highest: The longest time, in seconds.
    """

    count: int  # type: ignore[assignment]
    p50: float
    p99: float
    highest: float


class _Slot:
    """What was measured in ten seconds."""

    __slots__ = ("buckets", "highest", "number")

    def __init__(self, number: int) -> None:
        self.number = number
        self.buckets = [0] * _BUCKETS
        self.highest = 0.0


class Latencies:
    """Counts times in buckets, and forgets those of more than a minute ago.

    Args:
        clock: Tells the time, in seconds; it never goes back.
    """

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self.clock = clock
        self._slots: list[_Slot] = []

    def add(self, began: float) -> None:
        """Take note of what began at a time of the clock, and is done."""
        now = self.clock()
        slot = self._slot(now)
        seconds = now - began
        if seconds > slot.highest:
            slot.highest = seconds
        microseconds = seconds * 1e6
        place = 0
        if microseconds > 1:
            place = min(int(math.log2(microseconds) * _STEPS) + 1, _BUCKETS - 1)
        slot.buckets[place] += 1

    def _slot(self, now: float) -> _Slot:
        number = int(now // _SLOT)
        slots = self._slots
        if not slots or slots[-1].number != number:
            slots.append(_Slot(number))
            del slots[:-_SLOTS]
        return slots[-1]

    def last_minute(self) -> Latency | None:
        """Sum up; None if nothing was done."""
        oldest = int(self.clock() // _SLOT) - _SLOTS
        slots = [slot for slot in self._slots if slot.number > oldest]
        buckets = [
            sum(counts)
            for counts in zip(*(slot.buckets for slot in slots), strict=True)
        ]
        count = sum(buckets)
        if not count:
            return None
        highest = max(slot.highest for slot in slots)
        p50, p99 = (
            min(_seconds(_place(buckets, math.ceil(count * share))), highest)
            for share in (0.5, 0.99)
        )
        return Latency(count, p50, p99, highest)


def _place(buckets: list[int], rank: int) -> int:
    """Find the bucket of the one that has this place, from the quickest."""
    place = -1
    while rank > 0:
        place += 1
        rank -= buckets[place]
    return place


def _seconds(place: int) -> float:
    """Return the middle of a bucket."""
    return float(2 ** ((place - 0.5) / _STEPS)) / 1e6
