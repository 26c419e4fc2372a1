"""Dispatcher: what only a stubborn peer, or an unlucky moment, brings about."""

from __future__ import annotations

import asyncio
from typing import Any

from websockets import Opcode
from websockets.asyncio.client import connect
from websockets.frames import Frame

from websockets_routes import Protocol, Router

from .integration.servers import HOST, port, serving

TIMEOUT = 10


async def raw_connection(
    server: Any,
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Connect without a library, so that frames can be sent at any time."""
    reader, writer = await asyncio.open_connection(HOST, port(server))
    writer.write(
        b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
        b"Sec-WebSocket-Version: 13\r\n\r\n"
    )
    await reader.readuntil(b"\r\n\r\n")
    return reader, writer


def text(message: bytes) -> bytes:
    return Frame(Opcode.TEXT, message).serialize(mask=True)


async def test_nothing_is_delivered_once_this_side_has_closed() -> None:
    heard: list[str] = []
    closed: list[int] = []
    router = Router()

    @router.route("/")
    class Closing:
        def on_text(self, ws: Protocol, text: str) -> None:
            heard.append(text)
            ws.start_task(ws.close(4000))

        def on_close(self, ws: Protocol, code: int, reason: str) -> None:
            closed.append(code)

    server = router.serve(HOST, 0)
    async with serving(server):
        reader, writer = await raw_connection(server)
        writer.write(text(b"first"))
        assert await reader.readexactly(4) == b"\x88\x02\x0f\xa0"
        writer.write(text(b"too late") + text(b"later still"))
        writer.write(Frame(Opcode.PONG, b"").serialize(mask=True))
        writer.write(Frame(Opcode.CLOSE, b"\x0f\xa0").serialize(mask=True))
        assert await reader.read() == b""
        writer.close()
    assert heard == ["first"]
    assert closed == [4000]


async def test_a_coroutine_that_was_not_begun_is_closed_with_its_connection() -> None:
    began = asyncio.Event()
    closed = asyncio.Event()
    router = Router()

    @router.route("/")
    class Unlucky:
        async def on_open(self, ws: Protocol) -> None:
            self.task = asyncio.current_task()

        def on_text(self, ws: Protocol, text: str) -> Any:
            assert self.task is not None
            self.task.cancel()  # before it can await what this returns
            return self.begin()

        async def begin(self) -> None:
            began.set()

        def on_close(self, ws: Protocol, code: int, reason: str) -> None:
            closed.set()

    async with serving(router.serve(HOST, 0)) as url, connect(f"{url}/") as ws:
        await ws.send("go")
        async with asyncio.timeout(TIMEOUT):
            await closed.wait()
    assert not began.is_set()


async def test_a_class_without_on_drain_goes_on_when_its_peer_reads_again() -> None:
    size = 2**16
    count = 200
    router = Router()

    @router.route("/")
    class Echo:
        def on_binary(self, ws: Protocol, data: bytes) -> None:
            ws.send_nowait(data)

    options: dict[str, Any] = {"compression": None, "max_queue": 2}
    async with (
        serving(router.serve(HOST, 0, **options)) as url,
        connect(f"{url}/", compression=None, max_queue=1) as ws,
    ):
        # It reads nothing until all is sent, as far as the server takes it.
        sending = asyncio.create_task(send_all(ws, count, size))
        for number in range(count):
            message = await ws.recv()
            assert isinstance(message, bytes)
            assert message == bytes([number]) * size
        await sending


async def send_all(ws: Any, count: int, size: int) -> None:
    for number in range(count):
        await ws.send(bytes([number]) * size)
