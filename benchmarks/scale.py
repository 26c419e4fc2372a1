"""What it costs to publish through an engine, beside peers that do the same."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from statistics import median, quantiles

from . import scale_history
from .echo import MALLOC
from .measurement import Ratio, Table
from .scale_client import SIZE, Lap, Room
from .scale_engines import Engine, Nats, Valkey, round_trips
from .scale_servers import (
    BY_HAND,
    CONSUMER,
    LAYER,
    NATS_SERVERS,
    OURS,
    REDIS_SERVERS,
    WorkerKind,
    start_worker,
)
from .server_process import own_core

__all__ = ["run"]

ASYNCIO, UVLOOP = "asyncio", "uvloop"
#: How many workers, and on which event loop.
SETUPS = ((1, ASYNCIO), (2, ASYNCIO), (4, ASYNCIO), (1, UVLOOP))
MANY = 100  # subscribers, in all
BURSTS = (1, 10)  # messages at once

#: Beside the laps of each candidate: what has no subscriber, but a time.
BARE, ALONE = "bare client", "bare sockets"

Laps = Mapping[str, Sequence[Lap]]


def run(quick: bool, seconds: float = 0.3, repeat: int = 3) -> Iterator[Table]:
    """Measure.

    Args:
        quick: Small numbers.
        seconds: How long each lap takes.
        repeat: How many rounds.
    """
    if quick:
        seconds, repeat = 0.05, 1
    os.environ.update(MALLOC)
    engines: dict[
        str, tuple[type[Engine], Mapping[str, WorkerKind], Sequence[tuple[int, str]]]
    ] = {
        "Valkey": (Valkey, REDIS_SERVERS, SETUPS[:1] if quick else SETUPS),
        "NATS": (Nats, NATS_SERVERS, SETUPS[:1]),
    }
    for title, (engine, kinds, setups) in engines.items():
        latency, loads = latency_table(title), [load_table(title, n) for n in BURSTS]
        for number, loop in setups:
            workers = f"{number}" if loop == ASYNCIO else f"{number}, {loop}"
            with own_core(0), Candidates(engine, kinds, number, loop) as candidates:
                few, alone = candidates.measure_few(seconds, repeat)
                add_latencies(latency, workers, few, alone)
                many = candidates.measure_many(seconds, repeat)
                for burst, table in zip(BURSTS, loads, strict=True):
                    add_load(table, workers, many[burst])
        yield from (latency, *loads)
    yield from scale_history.run(quick, repeat)


class Candidates:
    """An engine, and workers of each kind that use it.

    Args:
        engine: Which engine.
        kinds: The kinds of workers.
        number: How many of each.
        loop: Their event loop.
    """

    def __init__(
        self,
        engine: type[Engine],
        kinds: Mapping[str, WorkerKind],
        number: int,
        loop: str,
    ) -> None:
        self._stack = ExitStack()
        self._number = number
        self._engine = self._stack.enter_context(engine())
        self._workers = {
            name: [
                self._stack.enter_context(start_worker(kind, self._engine.url, loop))
                for _ in range(number)
            ]
            for name, kind in kinds.items()
        }

    def __enter__(self) -> Candidates:
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def _open(self, stack: ExitStack, room: str, subscribers: int) -> dict[str, Room]:
        return {
            name: stack.enter_context(
                Room(room, workers, self._engine.pid, subscribers)
            )
            for name, workers in self._workers.items()
        }

    def measure_few(
        self, seconds: float, repeat: int
    ) -> tuple[dict[str, list[Lap]], list[float]]:
        """Measure with one subscriber on each worker, one message at a time.

        Returns:
            Laps, and medians of round trips without a client, where there are any.
        """
        laps: dict[str, list[Lap]] = {name: [] for name in self._workers}
        alone: list[float] = []
        with ExitStack() as stack:
            rooms = self._open(stack, "few", self._number)
            for _ in range(repeat):
                for name, room in rooms.items():
                    laps[name].append(room.measure(1, seconds))
                if isinstance(self._engine, Valkey) and self._number == 1:
                    with own_core(-1):
                        trips = round_trips(self._engine.port, SIZE, 300)
                    alone.append(median(trips))
        return laps, alone

    def measure_many(
        self, seconds: float, repeat: int
    ) -> dict[int, dict[str, list[Lap]]]:
        """Measure with many subscribers, by the number of messages at once."""
        laps: dict[int, dict[str, list[Lap]]] = {
            burst: {name: [] for name in self._workers} for burst in BURSTS
        }
        with ExitStack() as stack:
            rooms = self._open(stack, "many", MANY)
            for burst, measured in laps.items():
                for _ in range(repeat):
                    for name, room in rooms.items():
                        measured[name].append(room.measure(burst, seconds))
        return laps


# Tables


def percentile(values: Sequence[float], percent: int) -> float:
    if len(values) < 2:
        return values[0] if values else float("nan")
    return quantiles(values, n=100)[percent - 1]


def latency_table(engine: str) -> Table:
    return Table(
        f"µs from publish to delivery through {engine}, {SIZE} bytes of text, one "
        "subscriber on each worker, one message at a time",
        ("", "workers", "p50", "p99", ": bare client", "µs of CPU per message"),
    )


def add_latencies(table: Table, workers: str, laps: Laps, alone: list[float]) -> None:
    bare = [lap.arrivals for lap in laps[BY_HAND]]
    base = [median(each) for each in bare]
    for name, each in laps.items():
        found = [lap.latencies for lap in each]
        cpu = [lap.cpu / lap.messages * 1e6 for lap in each]
        add_latency(table, name, workers, found, base, f"{median(cpu):.0f}")
    add_latency(table, BARE, workers, bare, base, "")
    if alone:
        ratio = Ratio.of(alone, base)
        trip = f"{median(alone):.0f}"
        table.rows.append((ALONE, workers, trip, "", f"{ratio}", ""))
    engine = median(lap.engine_cpu / lap.messages * 1e6 for lap in laps[OURS])
    ours = Ratio.of([median(lap.latencies) for lap in laps[OURS]], base)
    table.notes.append(
        f"workers: {workers}, p50, {OURS} : {BARE} = {ours.against(1.5)}; "
        f"the engine takes {engine:.0f} µs of CPU per message"
    )


def add_latency(
    table: Table,
    name: str,
    workers: str,
    laps: Sequence[Sequence[float]],
    base: Sequence[float],
    cpu: str,
) -> None:
    half = [median(each) for each in laps]
    most = [percentile(each, 99) for each in laps]
    ratio = Ratio.of(half, base)
    table.rows.append(
        (
            name,
            workers,
            f"{median(half):.0f}",
            f"{median(most):.0f}",
            f"{ratio} ({ratio.spread})",
            cpu,
        )
    )


def load_table(engine: str, burst: int) -> Table:
    at_once = "one message at a time" if burst == 1 else f"{burst} messages at once"
    return Table(
        f"{MANY} subscribers through {engine}, {SIZE} bytes of text, {at_once}",
        (
            "",
            "workers",
            "deliveries a second",
            "… a second of CPU",
            "µs of CPU per delivery",
            "ours : it",
            "engine's µs per message",
            "p50, µs",
            "p99, µs",
            "lost",
        ),
    )


def add_load(table: Table, workers: str, laps: Laps) -> None:
    costs = {
        name: [lap.cpu / lap.deliveries * 1e6 for lap in each]
        for name, each in laps.items()
    }
    ratios = {name: Ratio.of(costs[OURS], cost) for name, cost in costs.items()}
    disordered = {}
    for name, each in laps.items():
        cost = median(costs[name])
        engine = median(lap.engine_cpu / lap.messages * 1e6 for lap in each)
        table.rows.append(
            (
                name,
                workers,
                f"{median(lap.deliveries / lap.seconds for lap in each):,.0f}",
                f"{1e6 / cost:,.0f}",
                f"{cost:.1f}",
                f"{ratios[name]} ({ratios[name].spread})",
                f"{engine:.0f}",
                f"{median(median(lap.latencies) for lap in each):,.0f}",
                f"{median(percentile(lap.latencies, 99) for lap in each):,.0f}",
                f"{sum(lap.lost for lap in each):,}",
            )
        )
        disordered[name] = sum(lap.disordered for lap in each)
    for name in (LAYER, CONSUMER):
        if name in ratios:
            verdict = ratios[name].against(0.2)
            table.notes.append(
                f"workers: {workers}, {OURS} : {name} = {verdict} (5 times its "
                "deliveries a second of CPU)"
            )
    table.notes += [
        f"workers: {workers}, {name}: {count:,} deliveries behind later ones"
        for name, count in disordered.items()
        if count
    ]
