"""What an echo costs the server: one message in, the same message out."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from functools import partial
from multiprocessing.connection import Connection
from statistics import median
from types import TracebackType
from typing import Any, Protocol, Self

import psutil
from websockets.asyncio.server import Server, ServerConnection, serve

import websockets_routes
from websockets_routes import OpCode, Router

from .measurement import Ratio, Table, interleave
from .server_process import (
    HOST,
    ServerProcess,
    close_connection,
    open_connection,
    own_core,
)

__all__ = [
    "MALLOC",
    "OPTIONS",
    "Measured",
    "build_table",
    "echo_messages",
    "measure",
    "run",
]

PLAIN = "`async for` and `send`, `websockets.serve`"
LOOP = "`async for` and `send`, `router.serve`"
COROUTINE = "coroutine `on_message` and `send`"
EVENT = "plain `on_message` and `send_nowait`"
CALLBACK = "plain opcode callback and `send_nowait`"
SOCKETIFY = "socketify"

CONNECTIONS = 50
SIZE = 100  # bytes, text
# asyncio receives into 256 KiB, which glibc maps and unmaps each time unless a
# program happens to have freed something larger before: twice the cost of an echo,
# or not, by chance. This takes the chance away.
MALLOC = {"MALLOC_MMAP_THRESHOLD_": "1048576", "MALLOC_TRIM_THRESHOLD_": "4194304"}
# The client answers no pings.
OPTIONS: dict[str, Any] = {"compression": None, "ping_interval": None}


def run(quick: bool) -> Iterator[Table]:
    rounds, laps = (3, 4) if quick else (15, 200)
    with own_core(0), ExitStack() as stack:
        os.environ.update(MALLOC)
        for loop in ("asyncio", "uvloop"):
            peers: dict[str, tuple[Measured, int]] = {}
            for name, serve_echo in SERVERS.items():
                # One process each: in one, the caches that CPython keeps in its
                # bytecode would belong to whichever class came first.
                process = ServerProcess({name: serve_echo}, loop)
                stack.enter_context(process)
                peers[name] = process, process.ports[name]
            if loop == "uvloop":
                other = stack.enter_context(SocketifyProcess())
                peers[SOCKETIFY] = other, other.port
            yield compare(loop, measure(peers, rounds, laps))


class Measured(Protocol):
    def cpu_seconds(self) -> float: ...


def measure(
    peers: Mapping[str, tuple[Measured, int]], rounds: int, laps: int
) -> dict[str, list[float]]:
    connections = {
        name: [open_connection(port, "/echo") for _ in range(CONNECTIONS)]
        for name, (_, port) in peers.items()
    }
    payload = b"x" * SIZE
    message = bytes((0x81, 0x80 | SIZE)) + bytes(4) + payload  # the mask is zero
    echo = bytes((0x81, SIZE)) + payload

    def echoes(name: str) -> float:
        process, _ = peers[name]
        before = process.cpu_seconds()
        for _ in range(laps):
            for connection in connections[name]:
                connection.send(message)
            for connection in connections[name]:
                received = connection.recv(len(echo))
                assert received == echo, received
        return (process.cpu_seconds() - before) / (laps * CONNECTIONS) * 1e6

    measures: dict[str, Callable[[], float]] = {
        name: partial(echoes, name) for name in peers
    }
    interleave(measures, 1)
    values = interleave(measures, rounds)
    for each in connections.values():
        for connection in each:
            close_connection(connection)
    return values


def build_table(what: str, values: Mapping[str, list[float]], plain: str) -> Table:
    table = Table(
        f"µs of server CPU per round trip, {what}, {SIZE} bytes of text, "
        f"{CONNECTIONS} connections",
        ("", "round trip", ": plain"),
    )
    for name, measured in values.items():
        ratio = Ratio.of(measured, values[plain])
        cells = (name, f"{median(measured):.1f}", f"{ratio} ({ratio.spread})")
        table.rows.append(cells)
    return table


def compare(loop: str, values: Mapping[str, list[float]]) -> Table:
    table = build_table(loop, values, PLAIN)
    targets = [(EVENT, PLAIN, 0.75), (COROUTINE, PLAIN, 1.1), (LOOP, PLAIN, 1.03)]
    if SOCKETIFY in values:
        targets.append((EVENT, SOCKETIFY, 1.35))
    for name, base, target in targets:
        ratio = Ratio.of(values[name], values[base])
        table.notes.append(f"{name} : {base} = {ratio.against(target)}")
    return table


async def echo_messages(ws: ServerConnection) -> None:
    async for message in ws:
        await ws.send(message)


class CoroutineEcho:
    async def on_message(
        self, ws: ServerConnection, message: str, opcode: OpCode
    ) -> None:
        await ws.send(message)


class Echo:
    def on_message(
        self, ws: websockets_routes.Protocol, message: str, opcode: OpCode
    ) -> None:
        ws.send_nowait(message)


def echo(ws: websockets_routes.Protocol, opcode: OpCode, payload: str) -> None:
    if opcode is OpCode.TEXT:
        ws.send_nowait(payload)


def serve_plain() -> Server:
    return serve(echo_messages, HOST, 0, **OPTIONS)


def serve_route(endpoint: Callable[..., Any]) -> Server:
    router = Router()
    router.add_route("/echo", endpoint)
    return router.serve(HOST, 0, **OPTIONS)


def serve_callback() -> Server:
    router = Router()
    router.websocket("/echo")(echo)
    return router.serve(HOST, 0, **OPTIONS)


SERVERS: dict[str, Callable[[], Server]] = {
    PLAIN: serve_plain,
    LOOP: partial(serve_route, echo_messages),
    COROUTINE: partial(serve_route, CoroutineEcho),
    EVENT: partial(serve_route, Echo),
    CALLBACK: serve_callback,
}


class SocketifyProcess:
    """The same echo by uWebSockets through socketify, measured from outside."""

    def __init__(self) -> None:
        context = multiprocessing.get_context("spawn")
        pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve_socketify, args=(theirs,))
        self._process.daemon = True
        self._process.start()
        self.port: int = pipe.recv()
        self._times = psutil.Process(self._process.pid)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._process.kill()
        self._process.join()

    def cpu_seconds(self) -> float:
        times = self._times.cpu_times()
        return float(times.user + times.system)


def _serve_socketify(pipe: Connection) -> None:
    from socketify import App

    def echo_message(ws: Any, message: Any, opcode: Any) -> None:
        ws.send(message, opcode)

    with own_core(-1):
        app = App()
        app.ws("/echo", {"message": echo_message, "compression": 0})
        port = _free_port()
        app.listen(port, lambda config: pipe.send(port))
        app.run()
    os._exit(0)


def _free_port() -> int:
    import socket

    with socket.create_server((HOST, 0)) as listener:
        port: int = listener.getsockname()[1]
        return port
