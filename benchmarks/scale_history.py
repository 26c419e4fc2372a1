"""What it costs to keep history in memory, and what declarations cost not used."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from functools import partial
from statistics import median
from typing import Any

import websockets_routes
from websockets_routes import Router

from .fanout_client import Subscribers
from .fanout_load import CONTROL, SUBSCRIBE, TOPIC, Load
from .fanout_servers import FanoutServer, obey, run_on, serve_forever
from .measurement import Ratio, Table, interleave
from .server_process import HOST, allow_connections

__all__ = ["run"]

SUBSCRIBERS = (1, 10, 100, 500)
NUMBERS = (1, 10)  # messages a tick
SIZE = 100
DELIVERIES = 10_000
TICKS = 1_000  # at most

PLAIN, HISTORY = "nothing declared", "`history=1000`"
DECLARED, BESIDE = "declared", "declared, another topic has history"
PRESENCE = "`presence=True`, nobody is present"

# The arguments of the topic that is published to; of another one.
DECLARATIONS: dict[str, tuple[dict[str, Any] | None, dict[str, Any] | None]] = {
    PLAIN: (None, None),
    DECLARED: ({}, None),
    HISTORY: ({"history": 1000}, None),
    BESIDE: ({}, {"history": 1000}),
    PRESENCE: ({"presence": True}, None),
}


def run(quick: bool, repeat: int) -> Iterator[Table]:
    tables = {number: build_table(number) for number in NUMBERS}
    for subscribers in SUBSCRIBERS[1:2] if quick else SUBSCRIBERS:
        measure(allow_connections(subscribers), tables, 1 if quick else 2 * repeat + 1)
    yield from tables.values()


def build_table(number: int) -> Table:
    return Table(
        f"µs of server CPU per message in one process, {SIZE} bytes of text, {number} "
        "a tick",
        ("topic", "subscribers", "µs", f": {PLAIN}"),
    )


def measure(subscribers: int, tables: Mapping[int, Table], rounds: int) -> None:
    with ExitStack() as stack:
        servers = {
            name: FanoutServer(partial(serve, name), "asyncio", False)
            for name in DECLARATIONS
        }
        clients = {
            name: Subscribers(server.port, server.pid, subscribers, False)
            for name, server in servers.items()
        }
        # In the end the servers are ended first, which leaves no connection behind.
        for client in clients.values():
            stack.enter_context(client)
        for server in servers.values():
            stack.enter_context(server)
        for client in clients.values():
            client.wait()
            # What happens once only.
            client.measure(Load("", SIZE, 100, 10))
        for number, table in tables.items():
            ticks = min(TICKS, max(10, DELIVERIES // subscribers))
            load = Load("", SIZE, ticks, number)
            measures: dict[str, Callable[[], float]] = {
                name: partial(cpu_per_message, client, load)
                for name, client in clients.items()
            }
            add_row(table, subscribers, interleave(measures, rounds))


def cpu_per_message(client: Subscribers, load: Load) -> float:
    seconds, _ = client.measure(load)
    return seconds / (load.ticks * load.number) * 1e6


def add_row(table: Table, subscribers: int, values: dict[str, list[float]]) -> None:
    for name, each in values.items():
        ratio = Ratio.of(each, values[PLAIN])
        cells = f"{median(each):.1f}", f"{ratio} ({ratio.spread})"
        table.rows.append((name, f"{subscribers:,}", *cells))
    verdict = Ratio.of(values[HISTORY], values[PLAIN]).against(1.3)
    table.notes.append(f"subscribers: {subscribers:,}, {HISTORY} : {PLAIN} = {verdict}")


def serve(kind: str, loop: str, deflate: bool, ready: Callable[[int], None]) -> None:
    router = Router()
    topic, other = DECLARATIONS[kind]
    if topic is not None:
        router.topic(TOPIC, **topic)
    if other is not None:
        router.topic("other/{name}", **other)

    @router.route(SUBSCRIBE, subscribe=TOPIC)
    async def subscribe(ws: websockets_routes.Protocol) -> None:
        await ws.wait_closed()

    async def publish(texts: Any) -> None:
        for text in texts:
            router.publish(TOPIC, text)

    @router.route(CONTROL)
    async def control(ws: websockets_routes.Protocol) -> None:
        count = partial(router.num_subscribers, TOPIC)
        await obey(ws, ws.send, count, {"": publish})

    async def main() -> None:
        server = router.serve(HOST, 0, ping_interval=None, compression=None)
        await serve_forever(server, ready)

    run_on(loop, main)
