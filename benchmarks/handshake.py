"""What a handshake costs the server, with 20 routes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from itertools import chain
from statistics import median

from websockets.asyncio.router import route
from websockets.asyncio.server import Server, ServerConnection, serve
from werkzeug.routing import Map, Rule

from websockets_routes import Protocol, RoutedPath, Router

from .measurement import Ratio, Table, interleave
from .server_process import (
    HOST,
    ServerProcess,
    close_connection,
    open_connection,
    own_core,
)

__all__ = [
    "NUMBER",
    "PLAIN",
    "build_router",
    "measure",
    "micros",
    "ratio_of",
    "run",
    "serve_plain",
]

PLAIN, SERVE = "`websockets.serve`", "`router.serve`"
HOOK, ROUTE = "`router.process_request`", "websockets' `route()`"

NUMBER = 20
TARGET = f"/resource{NUMBER - 1}/42/action"
# What websockets' own client offers, and a browser.
EXTENSION = "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits"


def run(quick: bool) -> Iterator[Table]:
    processes, rounds, number = (1, 3, 20) if quick else (5, 31, 50)
    for headers, what in (
        ((EXTENSION,), "with deflate, as websockets' client asks for it"),
        ((), "without an extension"),
    ):
        opening: list[dict[str, list[float]]] = []
        closing: list[dict[str, list[float]]] = []
        # Where a process happens to put things in memory is worth a percent.
        for _ in range(processes):
            with own_core(0), ServerProcess(SERVERS) as process:
                opened, closed = measure(process, headers, rounds, number)
            opening.append(opened)
            closing.append(closed)
        yield build_table(what, opening, closing)


def measure(
    process: ServerProcess, headers: tuple[str, ...], rounds: int, number: int
) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    """Measure handshakes, and handshakes with the close that follows."""
    with_close: dict[str, list[float]] = {name: [] for name in process.ports}

    def handshakes(name: str) -> float:
        process.wait_idle()
        process.collect()
        before = process.cpu_seconds()
        port = process.ports[name]
        connections = [open_connection(port, TARGET, *headers) for _ in range(number)]
        opened = process.cpu_seconds()
        for connection in connections:
            close_connection(connection)
        process.wait_idle()
        with_close[name].append((process.cpu_seconds() - before) / number * 1e6)
        return (opened - before) / number * 1e6

    measures: dict[str, Callable[[], float]] = {
        name: partial(handshakes, name) for name in process.ports
    }
    interleave(measures, 3)  # what only the first connections cost
    for values in with_close.values():
        values.clear()
    return interleave(measures, rounds), with_close


def build_table(
    what: str,
    opening: list[dict[str, list[float]]],
    closing: list[dict[str, list[float]]],
) -> Table:
    table = Table(
        f"µs of server CPU per handshake, {NUMBER} routes, {what}",
        ("", "handshake", ": plain", "handshake and close", ": plain"),
    )
    for name in SERVERS:
        cells = [name]
        for measured in (opening, closing):
            ratio = ratio_of(measured, name, PLAIN)
            cells += [micros(measured, name), f"{ratio} ({ratio.spread})"]
        table.rows.append(cells)
    for name, base, target in (
        (SERVE, PLAIN, 1.08),
        (HOOK, PLAIN, 1.08),
        (SERVE, ROUTE, 1),
        (HOOK, ROUTE, 1),
    ):
        ratio = ratio_of(opening, name, base)
        medians = [ratio_of([each], name, base).median for each in opening]
        table.notes.append(
            f"{name} : {base} = {ratio.against(target)}; "
            f"medians of the processes {min(medians):.3f}–{max(medians):.3f}"
        )
    return table


def ratio_of(measured: list[dict[str, list[float]]], name: str, base: str) -> Ratio:
    """The ratios of two servers in all rounds of all processes."""
    return Ratio.of(
        list(chain.from_iterable(each[name] for each in measured)),
        list(chain.from_iterable(each[base] for each in measured)),
    )


def micros(measured: list[dict[str, list[float]]], name: str) -> str:
    """The median of one server in all rounds of all processes."""
    return f"{median(chain.from_iterable(each[name] for each in measured)):.0f}"


async def wait_closed(ws: ServerConnection) -> None:
    await ws.wait_closed()


async def handler(ws: Protocol, path: RoutedPath) -> None:
    await ws.wait_closed()


async def handle_with_params(ws: ServerConnection, id: str) -> None:  # noqa: A002
    await ws.wait_closed()


def serve_plain() -> Server:
    return serve(wait_closed, HOST, 0)


def build_router() -> Router:
    router = Router()
    for i in range(NUMBER):
        router.add_route(f"/resource{i}/{{id}}/action", handler)
    return router


def serve_router() -> Server:
    return build_router().serve(HOST, 0)


def serve_hook() -> Server:
    router = build_router()
    return serve(router.handle, HOST, 0, process_request=router.process_request)


def serve_route() -> Server:
    rules = [
        # An endpoint for each rule: werkzeug looks for redirects among those
        # that share one.
        Rule(f"/resource{i}/<id>/action", endpoint=partial(handle_with_params))
        for i in range(NUMBER)
    ]
    return route(Map(rules), HOST, 0)


SERVERS: dict[str, Callable[[], Server]] = {
    PLAIN: serve_plain,
    SERVE: serve_router,
    HOOK: serve_hook,
    ROUTE: serve_route,
}
