"""What topics cost beside their messages: finding, subscribing, and memory."""

from __future__ import annotations

import asyncio
import gc
import multiprocessing
import sys
import time
import tracemalloc
from collections.abc import Callable, Iterator
from functools import partial
from itertools import cycle
from multiprocessing.connection import Connection
from statistics import median
from typing import Any, Self

import psutil
from websockets.asyncio.server import Server

from websockets_routes import Filter, Protocol, RoutedPath, Router, Topics
from websockets_routes.pubsub.subscriptions import Subscriptions

from . import memory
from .measurement import Ratio, Table, interleave, time_calls
from .server_process import (
    HOST,
    allow_connections,
    open_connection,
)

__all__ = ["run"]

LEVELS = (1, 4, 16, 32)

PLAIN, OURS = "`websockets.serve`", "`router.serve`"
SUBSCRIBED = "`router.serve`, subscribed to a topic"
NEITHER = "`websockets.serve(compression=None)`"

TOPICS = 10  # of each connection


def run(quick: bool) -> Iterator[Table]:
    yield finding(quick)
    yield subscribing(quick)
    yield idle_connections(quick)
    yield subscriptions(quick)
    yield rounds_without_end(quick)


# Time


def finding(quick: bool) -> Table:
    rounds, seconds = (3, 0.001) if quick else (21, 0.02)
    few, many = 10, 1_000 if quick else 100_000
    table = Table(
        "µs to find the subscribers of a topic, by the number of other topics",
        ("", f"{few:,}", f"{many:,}", f"{many:,} : {few:,}"),
    )
    for name, make in FINDING.items():
        finders = {number: make(number) for number in (few, many)}
        measures = {
            str(number): time_calls(find, seconds) for number, find in finders.items()
        }
        add_row(table, name, interleave(measures, rounds))
    with Publisher(few) as one, Publisher(many) as other:
        publish = {str(few): one.measure, str(many): other.measure}
        interleave(publish, 1)
        name = "`router.publish` and what the event loop does for it, a real subscriber"
        add_row(table, name, interleave(publish, rounds))
    return table


def add_row(table: Table, name: str, values: dict[str, list[float]]) -> None:
    few, many = values.values()
    ratio = Ratio.of(many, few)
    numbers = (f"{median(few):.2f}", f"{median(many):.2f}")
    table.rows.append((name, *numbers, f"{ratio} ({ratio.spread})"))


def find_name(others: int) -> Callable[[], object]:
    table: Subscriptions[object] = Subscriptions()
    for i in range(others):
        table.add(object(), f"other/{i}")
    table.add(object(), "room/7")
    return partial(table.audience, "room/7")


def find_filter(others: int) -> Callable[[], object]:
    table: Subscriptions[object] = Subscriptions()
    for i in range(others):
        table.add(object(), Filter(f"other/{i}/+"))
    table.add(object(), Filter("room/+"))
    return partial(table.audience, "room/7")


def find_nobody(others: int) -> Callable[[], object]:
    table: Subscriptions[object] = Subscriptions()
    for i in range(others):
        table.add(object(), f"other/{i}")
    return partial(table.audience, "room/7")


def find_each(others: int) -> Callable[[], object]:
    table: Subscriptions[object] = Subscriptions()
    for i in range(others):
        table.add(object(), f"other/{i}")
    names = cycle([f"other/{i}" for i in range(others)])
    return lambda: table.audience(next(names))


FINDING: dict[str, Callable[[int], Callable[[], object]]] = {
    "a name": find_name,
    "a name that a filter matches, all others filters too": find_filter,
    "a name that nobody hears": find_nobody,
    "another name each time, so that nothing is in the processor's cache": find_each,
}


class Connected:
    """A router on an event loop of its own, and one connection to it."""

    def __init__(self) -> None:
        self.router = Router(topics=Topics(max_subscriptions=10**6))
        self.router.topic("room/{name}")
        self.router.add_route("/", self._handle)
        self._opened: asyncio.Future[Protocol] | None = None

    async def _handle(self, ws: Protocol) -> None:
        assert self._opened is not None
        self._opened.set_result(ws)
        await ws.wait_closed()

    async def _open(self) -> None:
        self._opened = asyncio.get_running_loop().create_future()
        self._server = await self.router.serve(HOST, 0, ping_interval=None)
        port = next(iter(self._server.sockets)).getsockname()[1]
        self.client = await asyncio.to_thread(open_connection, port, "/")
        self.client.setblocking(False)
        self.ws = await self._opened

    async def _close(self) -> None:
        self.client.close()
        self._server.close()
        await self._server.wait_closed()

    def __enter__(self) -> Self:
        self.runner = asyncio.Runner()
        self.runner.__enter__()
        self.runner.run(self._open())
        return self

    def __exit__(self, *exc_info: Any) -> None:
        self.runner.run(self._close())
        self.runner.__exit__(*exc_info)

    def drain(self) -> None:
        try:
            while self.client.recv(2**20):
                pass
        except BlockingIOError:
            pass


class Publisher(Connected):
    """Publishes to one subscriber among others, who hear other topics."""

    def __init__(self, others: int) -> None:
        super().__init__()
        self._others = others

    async def _open(self) -> None:
        await super()._open()
        for i in range(self._others):
            self.ws.subscribe_nowait(f"other/{i}")
        self.ws.subscribe_nowait("room/7")

    def measure(self) -> float:
        self.drain()
        return self.runner.run(self._publish(1_000))

    async def _publish(self, number: int) -> float:
        router = self.router
        gc.disable()
        start = time.process_time_ns()
        for _ in range(number):
            router.publish("room/7", "hello")
            await asyncio.sleep(0)
        elapsed = time.process_time_ns() - start
        gc.enable()
        return elapsed / number / 1000


def subscribing(quick: bool) -> Table:
    rounds, seconds = (3, 0.001) if quick else (21, 0.02)
    others = 1_000 if quick else 100_000
    table = Table(
        "µs to subscribe and to leave again, "
        f"by the number of levels; {others:,} other topics",
        ("", *map(str, LEVELS), f"{LEVELS[-1]} : {LEVELS[0]}"),
    )
    with Connected() as connected:
        ws = connected.ws

        async def measure() -> None:
            for i in range(others // 2):
                ws.subscribe_nowait(f"other/{i}")
                ws.subscribe_nowait(Filter(f"other/{i}/+"))
            for name, make in {"a name": make_name, "a filter": make_filter}.items():
                measures = {
                    str(levels): time_calls(
                        partial(subscribe_and_leave, ws, make(levels)), seconds
                    )
                    for levels in LEVELS
                }
                values = list(interleave(measures, rounds).values())
                ratio = Ratio.of(values[-1], values[0])
                cells = [f"{median(each):.2f}" for each in values]
                table.rows.append((name, *cells, f"{ratio} ({ratio.spread})"))

        connected.runner.run(measure())
    return table


def make_name(levels: int) -> str:
    return "/".join(["room"] * levels)


def make_filter(levels: int) -> str | Filter:
    return Filter("/".join(["room"] * (levels - 1) + ["+"]))


def subscribe_and_leave(ws: Protocol, topic: str | Filter) -> None:
    ws.subscribe_nowait(topic)
    ws.unsubscribe(topic)


# Memory


def idle_connections(quick: bool) -> Table:
    rounds, number = (1, 200) if quick else (3, 2_000)
    number = allow_connections(number)
    makers: dict[str, Callable[[], Server]] = {
        PLAIN: partial(memory.serve_plain, "deflate"),
        OURS: serve_topics,
        SUBSCRIBED: partial(serve_topics, "room/{name}"),
        NEITHER: partial(memory.serve_plain, None),
    }
    values = interleave(
        {
            name: partial(memory.bytes_per_connection, make, number)
            for name, make in makers.items()
        },
        rounds,
    )
    table = Table(
        "Resident bytes per idle connection, each with its default compression",
        ("", "bytes", ": plain"),
    )
    for name, measured in values.items():
        ratio = Ratio.of(measured, values[PLAIN])
        cells = (f"{median(measured):,.0f}", f"{ratio} ({ratio.spread})")
        table.rows.append((name, *cells))
    for name in (OURS, SUBSCRIBED):
        ratio = Ratio.of(values[name], values[PLAIN])
        table.notes.append(f"{name} : {PLAIN} = {ratio.against(0.4)}")
    return table


async def wait_closed(ws: Protocol, path: RoutedPath) -> None:
    await ws.wait_closed()


def serve_topics(*subscribe: str) -> Server:
    router = Router()
    router.route("/room/{name}", subscribe=subscribe)(wait_closed)
    return router.serve(HOST, 0)


def subscriptions(quick: bool) -> Table:
    wanted = 200 if quick else 10_000
    number = allow_connections(wanted)
    table = Table(
        f"Resident bytes per connection, {number:,} connections, compression as it "
        "comes",
        ("", "per connection", "per subscription"),
    )
    if number < wanted:
        table.notes.append(
            f"no more than {number:,} connections: so many files may be open here"
        )
    idle = memory.bytes_per_connection(partial(serve_rooms, 0, False), number)
    table.rows.append(("no topic", f"{idle:,.0f}", ""))
    for own, what in (
        (False, "each has the same"),
        (True, "each has topics of its own"),
    ):
        one, ten = (
            memory.bytes_per_connection(partial(serve_rooms, count, own), number)
            for count in (1, TOPICS)
        )
        each = f"{(ten - one) / (TOPICS - 1):,.0f}"
        table.rows.append((f"1 topic, {what}", f"{one:,.0f}", f"{one - idle:,.0f}"))
        table.rows.append((f"{TOPICS} topics, {what}", f"{ten:,.0f}", each))
    table.notes.append(
        f"per subscription: the first, with all that it brings; of {TOPICS}, each of "
        f"the {TOPICS - 1} others"
    )
    return table


def serve_rooms(count: int, own: bool) -> Server:
    """Make a server that subscribes each connection to so many topics."""
    router = Router()
    opened = 0

    @router.route("/room/{name}")
    async def handler(ws: Protocol) -> None:
        nonlocal opened
        opened += 1
        prefix = f"user/{opened}" if own else "room"
        for i in range(count):
            await ws.subscribe(f"{prefix}/{i}")
        await ws.wait_closed()

    return router.serve(HOST, 0)


def rounds_without_end(quick: bool) -> Table:
    rounds = 10_000 if quick else 1_000_000
    context = multiprocessing.get_context("spawn")
    pipe, theirs = context.Pipe()
    process = context.Process(target=_go_round, args=(theirs, rounds), daemon=True)
    process.start()
    theirs.close()
    before, after, traced = pipe.recv()
    process.join()
    table = Table(
        f"One connection, {rounds:,} times subscribed to a topic and a filter that are "
        "new each time, and left again",
        ("", "before", "after", "growth"),
    )
    for name, first, last in zip(COUNTS, before, after, strict=True):
        table.rows.append((name, f"{first:,}", f"{last:,}", f"{last - first:,}"))
    first, last = traced
    name = f"bytes that tracemalloc knows of, {rounds // 10:,} times more"
    table.rows.append((name, f"{first:,}", f"{last:,}", f"{last - first:,}"))
    return table


COUNTS = ("resident bytes", "objects of the collector", "blocks of memory")


def _go_round(pipe: Connection, rounds: int) -> None:
    with Connected() as connected:
        run = connected.runner.run
        # All that is remembered up to a limit is full after that.
        run(subscribe_many(connected.ws, 10_000))
        before = count_memory()
        run(subscribe_many(connected.ws, rounds))
        after = count_memory()
        tracemalloc.start()
        run(subscribe_many(connected.ws, 10_000))
        gc.collect()
        first = tracemalloc.get_traced_memory()[0]
        run(subscribe_many(connected.ws, rounds // 10))
        gc.collect()
        last = tracemalloc.get_traced_memory()[0]
        tracemalloc.stop()
        pipe.send((before, after, (first, last)))


async def subscribe_many(ws: Protocol, rounds: int) -> None:
    for i in range(rounds):
        name, filter_ = f"room/{i}", Filter(f"room/{i}/+")
        await ws.subscribe(name)
        await ws.subscribe(filter_)
        ws.unsubscribe(name)
        ws.unsubscribe(filter_)
        if not i % 1_000:
            await asyncio.sleep(0)


def count_memory() -> tuple[int, int, int]:
    gc.collect()
    resident: int = psutil.Process().memory_info().rss
    return resident, len(gc.get_objects()), sys.getallocatedblocks()
