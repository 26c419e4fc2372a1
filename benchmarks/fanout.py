"""What a message costs the server for each of many subscribers."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from statistics import median

from .echo import MALLOC
from .fanout_client import Subscribers
from .fanout_load import Load
from .fanout_servers import (
    BROADCAST,
    OURS,
    PLAIN,
    SERVERS,
    SOCKETIFY,
    STARLETTE,
    TRANSPORT,
    WRITE,
    FanoutServer,
)
from .measurement import Ratio, Table, interleave
from .server_process import allow_connections

__all__ = ["run"]

#: What is measured: the server, and what it publishes with if it has several ways.
CANDIDATES = {
    OURS: (OURS, ""),
    BROADCAST: (PLAIN, BROADCAST),
    SOCKETIFY: (SOCKETIFY, ""),
    STARLETTE: (STARLETTE, ""),
    TRANSPORT: (PLAIN, TRANSPORT),
    WRITE: (PLAIN, WRITE),
}
PEERS = (BROADCAST, SOCKETIFY, STARLETTE)
# What the floor is made of.
FLOORS = (TRANSPORT, WRITE)

FEW, MANY = 500, 5_000
LARGE = 16_384
SIZES = {100: "100 B", 300: "300 B", 1_024: "1 KB", LARGE: "16 KB"}
NUMBERS = (1, 10)  # messages a tick

# How many deliveries are measured at a time, where one tick is not more already.
DELIVERIES, LARGE_DELIVERIES = 10_000, 2_500
# How long a cell is measured; how long one with a target.
SECONDS, LONGER = 3, 10


@dataclass(frozen=True)
class Group:
    """What is measured on the same connections.

    Attributes:
        subscribers: How many.
        loop: ``asyncio`` or ``uvloop``.
        deflate: Whether it is offered and accepted, as all do by default.
        sizes: Bytes of the messages.
    """

    subscribers: int
    loop: str
    deflate: bool
    sizes: Sequence[int]

    def __str__(self) -> str:
        compression = "default deflate" if self.deflate else "no compression"
        return f"{self.subscribers:,} subscribers, {self.loop}, {compression}"

    @property
    def candidates(self) -> Sequence[str]:
        """What is measured: the floors where it does not take too long."""
        floors = FLOORS if self.subscribers == FEW else ()
        return (OURS, *PEERS, *floors)

    def targets(self, size: int, number: int) -> dict[str, float]:
        """What ours may cost at most, as a multiple of others."""
        if self.subscribers != FEW:
            return {}
        targets: dict[str, float] = {}
        if not self.deflate and size == 300:
            targets[BROADCAST] = 0.75 if number == 1 else 0.12
            if self.loop == "uvloop":
                targets[SOCKETIFY] = 1.3 if number == 1 else 1.0
        elif self.deflate and size == 1_024:
            targets[BROADCAST] = 0.35 if number == 1 else 0.06
        return targets


def title(candidate: str) -> str:
    return f"`{candidate}`" if CANDIDATES[candidate][1] else candidate


def run(quick: bool) -> Iterator[Table]:
    for name, value in MALLOC.items():
        os.environ[name] = value
    for group in groups(quick):
        yield measure(group, quick)


def groups(quick: bool) -> Iterator[Group]:
    loops = ("asyncio", "uvloop")
    if quick:
        for loop in loops:
            yield Group(FEW, loop, False, (300,))
            yield Group(FEW, loop, True, (1_024,))
        return
    for deflate in (False, True):
        for loop in loops:
            yield Group(FEW, loop, deflate, tuple(SIZES))
    for deflate in (False, True):
        for loop in loops:
            yield Group(MANY, loop, deflate, (1_024,) if deflate else (300,))


def measure(group: Group, quick: bool) -> Table:
    subscribers = allow_connections(group.subscribers)
    header = (
        "size × messages a tick",
        *map(title, group.candidates),
        *(f"ours : {title(peer)}" for peer in PEERS),
        "rounds",
    )
    table = Table(f"µs of server CPU per delivery, {group}", header)
    if subscribers < group.subscribers:
        table.notes.append(
            f"no more than {subscribers:,} subscribers: so many files may be open here"
        )
    with ExitStack() as stack:
        servers = {
            name: FanoutServer(kind, group.loop, group.deflate)
            for name, kind in SERVERS.items()
        }
        clients = {
            name: Subscribers(server.port, server.pid, subscribers, group.deflate)
            for name, server in servers.items()
        }
        # In the end the servers are ended first, which leaves no connection behind.
        for client in clients.values():
            stack.enter_context(client)
        for server in servers.values():
            stack.enter_context(server)
        for client in clients.values():
            client.wait()
        for candidate in group.candidates:
            name, mode = CANDIDATES[candidate]
            # What happens once only, in each connection and in the interpreter.
            clients[name].measure(Load(mode, group.sizes[0], 4, 10))
        for size in group.sizes:
            for number in NUMBERS:
                wanted = LARGE_DELIVERIES if size == LARGE else DELIVERIES
                if quick:
                    wanted //= 10
                cell = Cell(group, clients, subscribers, size, number, wanted)
                targets = group.targets(size, number)
                seconds = 0 if quick else LONGER if targets else SECONDS
                cell.measure(seconds)
                table.rows.append(cell.row())
                table.notes += cell.verdicts(targets)
                if group.deflate:
                    table.notes.append(cell.frames())
    return table


class Cell:
    """One size, and one number of messages a tick.

    Args:
        group: What it belongs to.
        clients: Those of each server.
        subscribers: How many each has.
        size: Bytes of a message.
        number: Messages a tick.
        wanted: How many deliveries to measure at a time, about; more where several
            messages leave at a time.
    """

    def __init__(
        self,
        group: Group,
        clients: Mapping[str, Subscribers],
        subscribers: int,
        size: int,
        number: int,
        wanted: int,
    ) -> None:
        self.name = f"{SIZES[size]} × {number}"
        ticks = max(1, round(wanted * number**0.5 / (subscribers * number)))
        deliveries = subscribers * number * ticks
        self._bytes: dict[str, float] = {}
        self._measures: dict[str, Callable[[], float]] = {}
        for candidate in group.candidates:
            server, mode = CANDIDATES[candidate]
            load = Load(mode, size, ticks, number)
            self._measures[candidate] = partial(
                self._measure, candidate, clients[server], load, deliveries
            )
        self._values: dict[str, list[float]] = {}

    def _measure(
        self, candidate: str, client: Subscribers, load: Load, deliveries: int
    ) -> float:
        seconds, self._bytes[candidate] = client.measure(load)
        return seconds / deliveries * 1e6

    def measure(self, seconds: float) -> None:
        """Measure for about so long, and three rounds at least; one if for no time."""
        start = time.perf_counter()
        self._values = interleave(self._measures, 1)
        elapsed = time.perf_counter() - start
        rounds = max(3, min(25, round(seconds / elapsed))) if seconds else 1
        more = interleave(self._measures, rounds - 1)
        for candidate, values in more.items():
            self._values[candidate] += values

    def ratio(self, base: str) -> Ratio:
        return Ratio.of(self._values[OURS], self._values[base])

    def row(self) -> Sequence[str]:
        """A row of the table."""
        ratios = [self.ratio(base) for base in PEERS]
        return (
            self.name,
            *(f"{median(values):.2f}" for values in self._values.values()),
            *(f"{ratio} ({ratio.spread})" for ratio in ratios),
            str(len(self._values[OURS])),
        )

    def verdicts(self, targets: Mapping[str, float]) -> Iterator[str]:
        """Say of each target whether it was met."""
        for base, target in targets.items():
            verdict = self.ratio(base).against(target)
            yield f"{self.name}, ours : {title(base)} = {verdict}"

    def frames(self) -> str:
        """Say how well each compresses."""
        sizes = (f"{name} {self._bytes[name]:,.0f}" for name in (OURS, *PEERS))
        return f"{self.name}, mean bytes of a frame: {', '.join(sizes)}"
