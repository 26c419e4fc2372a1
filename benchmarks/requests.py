"""What a request costs the server: GET of a small JSON on connections that stay."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from statistics import median

import aiohttp.web
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request as StarletteRequest
from starlette.responses import JSONResponse
from starlette.routing import Route
from websockets.asyncio.server import Server

from websockets_routes import Router
from websockets_routes.http import Request

from . import handshake
from .fanout_servers import FanoutServer, run_on
from .measurement import Ratio, Table, interleave
from .server_process import HOST, ProcessClock, ServerProcess, own_core

__all__ = ["run"]

OURS, UVICORN, AIOHTTP = "`router.get`", "starlette on uvicorn (h11)", "aiohttp"
CONNECTIONS = 20
REQUEST = b"GET /json HTTP/1.1\r\nHost: localhost\r\nAccept: */*\r\n\r\n"
PAYLOAD = {"hello": "world"}


def run(quick: bool) -> Iterator[Table]:
    rounds, laps = (3, 10) if quick else (15, 100)
    for loop in ("asyncio", "uvloop"):
        with own_core(0), ExitStack() as stack:
            servers = {
                name: stack.enter_context(FanoutServer(kind, loop, False))
                for name, kind in KINDS.items()
            }
            yield measure(loop, servers, rounds, laps)
    yield from run_handshakes(quick)


def measure(
    loop: str, servers: dict[str, FanoutServer], rounds: int, laps: int
) -> Table:
    connections: dict[str, list[socket.socket]] = {}
    sizes: dict[str, int] = {}
    for name, server in servers.items():
        connections[name] = [
            socket.create_connection((HOST, server.port)) for _ in range(CONNECTIONS)
        ]
        for connection in connections[name]:
            connection.settimeout(5)
            connection.sendall(REQUEST)
            sizes[name] = len(read_response(connection))
    clocks = {name: ProcessClock(server.pid) for name, server in servers.items()}

    def requests(name: str) -> float:
        size = sizes[name]
        before = clocks[name].seconds()
        for _ in range(laps):
            for connection in connections[name]:
                connection.sendall(REQUEST)
            for connection in connections[name]:
                left = size
                while left:
                    left -= len(connection.recv(left))
        return (clocks[name].seconds() - before) / (laps * CONNECTIONS) * 1e6

    measures: dict[str, Callable[[], float]] = {
        name: partial(requests, name) for name in servers
    }
    interleave(measures, 1)
    values = interleave(measures, rounds)
    for each in connections.values():
        for connection in each:
            connection.close()
    table = Table(
        f"µs of server CPU per request, {loop}, {CONNECTIONS} connections",
        ("", "request", ": uvicorn"),
    )
    for name, measured in values.items():
        ratio = Ratio.of(measured, values[UVICORN])
        table.rows.append(
            [name, f"{median(measured):.1f}", f"{ratio} ({ratio.spread})"]
        )
    faster = Ratio.of(values[OURS], values[UVICORN])
    table.notes.append(
        f"{OURS} : {UVICORN} = {faster.against(1 / 0.6)} (0.6 of its requests a second)"
    )
    return table


def read_response(connection: socket.socket) -> bytes:
    data = b""
    while not data.endswith(b"}"):
        data += connection.recv(2**16)
    return data


def run_handshakes(quick: bool) -> Iterator[Table]:
    """Compare handshakes of a router that answers requests with one that does not."""
    processes, rounds, number = (1, 3, 20) if quick else (5, 31, 50)
    measured: list[dict[str, list[float]]] = []
    for _ in range(processes):
        with own_core(0), ServerProcess(ROUTERS) as process:
            opened, _ = handshake.measure(process, (), rounds, number)
        measured.append(opened)
    table = Table(
        f"µs of server CPU per handshake, {handshake.NUMBER} routes, by HTTP routes",
        ("", "handshake", ": without"),
    )
    for name in ROUTERS:
        ratio = handshake.ratio_of(measured, name, WITHOUT)
        table.rows.append([name, handshake.micros(measured, name), f"{ratio}"])
    ratio = handshake.ratio_of(measured, WITH, WITHOUT)
    table.notes.append(f"{WITH} : {WITHOUT} = {ratio.against(1.05)}")
    yield table


# Servers


def serve_ours(loop: str, deflate: bool, ready: Callable[[int], None]) -> None:
    router = Router()

    @router.get("/json")
    async def answer(request: Request) -> dict[str, str]:
        return PAYLOAD

    async def main() -> None:
        async with router.serve(HOST, 0) as server:
            ready(server.sockets[0].getsockname()[1])
            await server.serve_forever()

    run_on(loop, main)


def serve_starlette(loop: str, deflate: bool, ready: Callable[[int], None]) -> None:
    async def answer(request: StarletteRequest) -> JSONResponse:
        return JSONResponse(PAYLOAD)

    app = Starlette(routes=[Route("/json", answer)])
    config = uvicorn.Config(
        app, http="h11", ws="none", lifespan="off", log_config=None, access_log=False
    )

    async def main() -> None:
        with socket.create_server((HOST, 0), backlog=config.backlog) as listener:
            ready(listener.getsockname()[1])
            await uvicorn.Server(config).serve(sockets=[listener])

    run_on(loop, main)


def serve_aiohttp(loop: str, deflate: bool, ready: Callable[[int], None]) -> None:
    async def answer(request: aiohttp.web.Request) -> aiohttp.web.Response:
        return aiohttp.web.json_response(PAYLOAD)

    async def main() -> None:
        app = aiohttp.web.Application()
        app.router.add_get("/json", answer)
        runner = aiohttp.web.AppRunner(app, access_log=None)
        await runner.setup()
        with socket.create_server((HOST, 0)) as listener:
            await aiohttp.web.SockSite(runner, listener).start()
            ready(listener.getsockname()[1])
            await asyncio.get_running_loop().create_future()

    run_on(loop, main)


KINDS = {OURS: serve_ours, UVICORN: serve_starlette, AIOHTTP: serve_aiohttp}

WITHOUT, WITH = "without HTTP routes", "with one"


def serve_without() -> Server:
    return handshake.build_router().serve(HOST, 0)


def serve_with() -> Server:
    router = handshake.build_router()

    @router.get("/healthz")
    async def healthz(request: Request) -> str:
        return "ok\n"

    return router.serve(HOST, 0)


ROUTERS: dict[str, Callable[[], Server]] = {WITHOUT: serve_without, WITH: serve_with}
