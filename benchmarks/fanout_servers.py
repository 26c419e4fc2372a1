"""The servers of a fan-out, each in a process of its own.

Each has two paths. Who connects to ``SUBSCRIBE`` hears all that is published; who
connects to ``CONTROL`` has a ``Load`` published by sending it: all its ticks, one in
each turn of the event loop, for one command.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import socket
from collections.abc import AsyncIterable, Awaitable, Callable, Mapping, Sequence
from functools import cached_property, partial
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Any, Self

import uvicorn
from starlette.applications import Starlette
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket
from websockets import Frame, Opcode
from websockets.asyncio.server import Server, ServerConnection, broadcast, serve
from websockets.extensions.permessage_deflate import PerMessageDeflate

import websockets_routes
from websockets_routes import Router

from .fanout_load import CONTROL, COUNT, SUBSCRIBE, TOPIC, Load
from .server_process import HOST, own_core

__all__ = [
    "BROADCAST",
    "OURS",
    "PLAIN",
    "SERVERS",
    "SOCKETIFY",
    "STARLETTE",
    "TRANSPORT",
    "WRITE",
    "FanoutServer",
    "ServerKind",
]

#: What the plain server publishes with: its own function, and two floors below it.
BROADCAST, TRANSPORT, WRITE = "broadcast", "transport.write", "os.write"

#: Serves until the process is killed; is told the event loop, whether to compress,
#: and whom to tell the port.
ServerKind = Callable[[str, bool, Callable[[int], None]], None]

#: Publishes the messages of one tick.
Publish = Callable[[Sequence[str]], Awaitable[None]]

# From so many bytes on, the floors compress; as ours does.
_PAYS_FROM = 512


class FanoutServer:
    """A process that runs a server, on a core of its own.

    Args:
        kind: The server.
        loop: ``asyncio`` or ``uvloop``, where it has the choice.
        deflate: Whether it compresses by its defaults, or not at all.

    Attributes:
        pid: Its process.
    """

    def __init__(self, kind: ServerKind, loop: str, deflate: bool) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(
            target=_main, args=(theirs, kind, loop, deflate), daemon=True
        )
        self._process.start()
        theirs.close()
        assert self._process.pid is not None
        self.pid: int = self._process.pid

    @cached_property
    def port(self) -> int:
        """Where it listens, as soon as it does."""
        port: int = self._pipe.recv()
        return port

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


def _main(pipe: Connection, kind: ServerKind, loop: str, deflate: bool) -> None:
    with own_core(-1):
        kind(loop, deflate, pipe.send)


# Servers on an event loop of Python's


def run_on(loop: str, main: Callable[[], Awaitable[None]]) -> None:
    factory = None
    if loop == "uvloop":
        import uvloop

        factory = uvloop.new_event_loop

    async def run() -> None:
        await main()

    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(run())


async def obey(
    commands: AsyncIterable[str | bytes],
    answer: Callable[[str], Awaitable[None]],
    count: Callable[[], int],
    ways: Mapping[str, Publish],
) -> None:
    async for command in commands:
        assert isinstance(command, str)
        if command == COUNT:
            await answer(str(count()))
            continue
        load = Load.parse(command)
        publish = ways[load.mode]
        for texts in load.messages():
            await publish(texts)
            await asyncio.sleep(0)


async def serve_forever(server: Server, ready: Callable[[int], None]) -> None:
    async with server:
        ready(next(iter(server.sockets)).getsockname()[1])
        await server.serve_forever()


def serve_router(loop: str, deflate: bool, ready: Callable[[int], None]) -> None:
    router = Router()

    @router.route(SUBSCRIBE, subscribe=TOPIC)
    async def subscribe(ws: websockets_routes.Protocol) -> None:
        await ws.wait_closed()

    async def publish(texts: Sequence[str]) -> None:
        for text in texts:
            router.publish(TOPIC, text)

    @router.route(CONTROL)
    async def control(ws: websockets_routes.Protocol) -> None:
        count = partial(router.num_subscribers, TOPIC)
        await obey(ws, ws.send, count, {"": publish})

    async def main() -> None:
        options: dict[str, Any] = {} if deflate else {"compression": None}
        server = router.serve(HOST, 0, ping_interval=None, **options)
        await serve_forever(server, ready)

    run_on(loop, main)


def serve_plain(loop: str, deflate: bool, ready: Callable[[int], None]) -> None:
    connections: set[ServerConnection] = set()

    async def publish(texts: Sequence[str]) -> None:
        for text in texts:
            broadcast(connections, text)

    async def write_transports(texts: Sequence[str]) -> None:
        data = make_frames(texts, deflate)
        for ws in connections:
            ws.transport.write(data)

    async def write_sockets(texts: Sequence[str]) -> None:
        data = make_frames(texts, deflate)
        for ws in connections:
            fileno = ws.transport.get_extra_info("socket").fileno()
            if os.write(fileno, data) != len(data):
                raise BlockingIOError("a socket took a part only")

    ways = {BROADCAST: publish, TRANSPORT: write_transports, WRITE: write_sockets}

    async def handler(ws: ServerConnection) -> None:
        assert ws.request is not None
        if ws.request.path == CONTROL:
            await obey(ws, ws.send, connections.__len__, ways)
        else:
            connections.add(ws)
            await ws.wait_closed()

    async def main() -> None:
        options: dict[str, Any] = {} if deflate else {"compression": None}
        server = serve(handler, HOST, 0, ping_interval=None, **options)
        await serve_forever(server, ready)

    run_on(loop, main)


def make_frames(texts: Sequence[str], deflate: bool) -> bytes:
    """Make frames once for all, and put them together."""
    pieces = []
    for text in texts:
        data = text.encode()
        frame = Frame(Opcode.TEXT, data)
        extensions = []
        if deflate and len(data) >= _PAYS_FROM:
            # As no client of this server negotiated it: these are floors only.
            extensions.append(PerMessageDeflate(True, True, 12, 12))
        pieces.append(frame.serialize(mask=False, extensions=extensions))
    return b"".join(pieces)


def serve_starlette(loop: str, deflate: bool, ready: Callable[[int], None]) -> None:
    subscribers: set[WebSocket] = set()

    async def publish(texts: Sequence[str]) -> None:
        for text in texts:
            for ws in subscribers:
                await ws.send_text(text)

    async def subscribe(ws: WebSocket) -> None:
        await ws.accept()
        subscribers.add(ws)
        async for _ in ws.iter_text():
            pass

    async def control(ws: WebSocket) -> None:
        await ws.accept()
        await obey(ws.iter_text(), ws.send_text, subscribers.__len__, {"": publish})

    app = Starlette(
        routes=[WebSocketRoute(SUBSCRIBE, subscribe), WebSocketRoute(CONTROL, control)]
    )
    config = uvicorn.Config(
        app,
        log_level="warning",
        lifespan="off",
        ws_ping_interval=None,
        ws_per_message_deflate=deflate,
    )

    async def main() -> None:
        with socket.create_server((HOST, 0), backlog=config.backlog) as listener:
            ready(listener.getsockname()[1])
            await uvicorn.Server(config).serve(sockets=[listener])

    run_on(loop, main)


# uWebSockets


def serve_socketify(loop: str, deflate: bool, ready: Callable[[int], None]) -> None:
    from socketify import App, CompressOptions, OpCode

    app = App()
    event_loop = app.loop.uv_loop
    timers: list[Any] = []

    def command(ws: Any, message: str, opcode: Any) -> None:
        if message == COUNT:
            ws.send(str(app.num_subscribers(TOPIC)), OpCode.TEXT)
            return
        timers.clear()
        ticks = Load.parse(message).messages()

        def tick(_: object = None) -> None:
            texts = next(ticks, None)
            if texts is None:
                return
            for text in texts:
                app.publish(TOPIC, text, OpCode.TEXT, deflate)
            # A timer that is due at once would run in this same turn of the loop.
            timers.append(event_loop.create_timer(1, 0, tick, None))

        tick()

    app.ws(
        SUBSCRIBE,
        {
            "open": lambda ws: ws.subscribe(TOPIC),
            "message": lambda ws, message, opcode: None,
            "compression": CompressOptions.SHARED_COMPRESSOR if deflate else 0,
            "idle_timeout": 0,
            # It would drop what is beyond.
            "max_backpressure": 0,
        },
    )
    app.ws(CONTROL, {"message": command, "compression": 0, "idle_timeout": 0})
    with socket.create_server((HOST, 0)) as listener:
        port: int = listener.getsockname()[1]
    app.listen(port, lambda config: ready(port))
    # Not app.run(), which asks for events over and over, so that asyncio runs too.
    event_loop.run()


OURS, PLAIN, STARLETTE, SOCKETIFY = "ours", "plain", "starlette", "socketify"

SERVERS: dict[str, ServerKind] = {
    OURS: serve_router,
    PLAIN: serve_plain,
    SOCKETIFY: serve_socketify,
    STARLETTE: serve_starlette,
}
