"""Measuring in rounds: medians, ratios paired by round, tables in Markdown.

On a machine that is not quiet, what is measured at different times cannot be
compared. So everything that is compared is measured in turns, A B C A B C…, and a
ratio is the median of the ratios of each round.
"""

from __future__ import annotations

import gc
import os
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from statistics import median

__all__ = ["Ratio", "Table", "environment", "interleave", "time_calls"]


def interleave(
    measures: Mapping[str, Callable[[], float]], rounds: int
) -> dict[str, list[float]]:
    """Measure in turns, ``rounds`` times; one value a round, by name."""
    values: dict[str, list[float]] = {name: [] for name in measures}
    for _ in range(rounds):
        for name, measure in measures.items():
            values[name].append(measure())
    return values


def time_calls(call: Callable[[], object], seconds: float) -> Callable[[], float]:
    """Make a measure of the CPU time of one call, in microseconds.

    Args:
        call: What to measure.
        seconds: About how long a measurement takes; at least one call.
    """
    call()  # whatever is made when first asked for
    start = time.perf_counter()
    call()
    number = max(1, round(seconds / (time.perf_counter() - start)))

    def measure() -> float:
        # As timeit does: a collection that happens to fall in here is not ours.
        gc.disable()
        start = time.process_time_ns()
        for _ in range(number):
            call()
        elapsed = time.process_time_ns() - start
        gc.enable()
        return elapsed / number / 1000

    return measure


@dataclass(frozen=True)
class Ratio:
    """The ratios of two measures, round by round."""

    values: tuple[float, ...]

    @classmethod
    def of(cls, measured: Sequence[float], base: Sequence[float]) -> Ratio:
        return cls(tuple(a / b for a, b in zip(measured, base, strict=True)))

    @property
    def median(self) -> float:
        return median(self.values)

    def __str__(self) -> str:
        return f"{self.median:.3f}"

    @property
    def spread(self) -> str:
        return f"{min(self.values):.2f}–{max(self.values):.2f}"

    def against(self, target: float) -> str:
        """Say whether the median is within a target, and what it is."""
        verdict = "met" if self.median <= target else "MISSED"
        return f"{self} ({self.spread}), target {target:g}: {verdict}"


@dataclass
class Table:
    """A table and what is to be said below it."""

    title: str
    header: Sequence[str]
    rows: list[Sequence[str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        # The first column is text, all others are numbers.
        rule = ["---", *("---:" for _ in self.header[1:])]
        rows = [self.header, rule, *self.rows]
        lines = [f"| {' | '.join(row)} |" for row in rows]
        notes = [f"- {note}" for note in self.notes]
        return "\n".join(
            [f"**{self.title}**", "", *lines, *(["", *notes] if notes else [])]
        )


def environment() -> str:
    """Tell what was measured, on what."""
    packages = ("websockets-routes", "websockets", "werkzeug", "Routes")
    versions = ", ".join(f"{name} {version(name)}" for name in packages)
    return (
        f"{platform.python_implementation()} {platform.python_version()}, "
        f"{versions}; {platform.system()}, {os.cpu_count()} cores"
    )
