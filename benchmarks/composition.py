"""What hooks and middleware cost, and that they cost nothing where there are none."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack
from functools import partial
from typing import Any

from websockets.asyncio.server import Server, serve

from websockets_routes import Router

from . import echo, handshake
from .measurement import Table
from .server_process import HOST, ServerProcess, own_core

__all__ = ["run"]

PLAIN = "`websockets.serve`"
COUNTS = (0, 1, 5)


def run(quick: bool) -> Iterator[Table]:
    yield from run_handshakes(quick)
    yield run_echoes(quick)


def run_handshakes(quick: bool) -> Iterator[Table]:
    processes, rounds, number = (1, 3, 20) if quick else (5, 31, 50)
    measured: list[dict[str, list[float]]] = []
    for _ in range(processes):
        with own_core(0), ServerProcess(HOOKED) as process:
            opened, _ = handshake.measure(process, (), rounds, number)
        measured.append(opened)
    table = Table(
        f"µs of server CPU per handshake, {handshake.NUMBER} routes, by hooks",
        ("", "handshake", ": plain"),
    )
    for name in HOOKED:
        ratio = handshake.ratio_of(measured, name, PLAIN)
        table.rows.append([name, handshake.micros(measured, name), f"{ratio}"])
    ratio = handshake.ratio_of(measured, "0 hooks", PLAIN)
    table.notes.append(f"0 hooks : plain = {ratio.against(1.08)}")
    yield table


def run_echoes(quick: bool) -> Table:
    rounds, laps = (3, 4) if quick else (15, 200)
    with own_core(0), ExitStack() as stack:
        os.environ.update(echo.MALLOC)
        peers: dict[str, tuple[echo.Measured, int]] = {}
        for name, serve_echo in WRAPPED.items():
            process = ServerProcess({name: serve_echo})
            stack.enter_context(process)
            peers[name] = process, process.ports[name]
        values = echo.measure(peers, rounds, laps)
    return echo.build_table("by middleware, asyncio", values, PLAIN)


def look(ws: Any, path: Any) -> None:
    pass


async def wrap(ws: Any, path: Any, call_next: Callable[..., Awaitable[None]]) -> None:
    await call_next(ws, path)


def serve_hooked(count: int) -> Server:
    router = handshake.build_router()
    for _ in range(count):
        router.before_handshake(look)
    return router.serve(HOST, 0)


def serve_wrapped(count: int) -> Server:
    router = Router(middleware=[wrap] * count)
    router.add_route("/echo", echo.echo_messages)
    return router.serve(HOST, 0, **echo.OPTIONS)


def serve_plain_echo() -> Server:
    return serve(echo.echo_messages, HOST, 0, **echo.OPTIONS)


HOOKED: dict[str, Callable[[], Server]] = {
    PLAIN: handshake.serve_plain,
    **{f"{count} hooks": partial(serve_hooked, count) for count in COUNTS},
}
WRAPPED: dict[str, Callable[[], Server]] = {
    PLAIN: serve_plain_echo,
    **{f"{count} middlewares": partial(serve_wrapped, count) for count in COUNTS},
}
