"""Sending and receiving: messages by opcode, without awaiting, and as JSON."""

from __future__ import annotations

import asyncio
import json
import logging
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import msgspec
import orjson
import pytest
import ujson
from websockets import ConnectionClosed, Frame, Opcode
from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.server import Server

from websockets_routes import (
    BacklogFull,
    InvalidJSON,
    OpCode,
    Protocol,
    Router,
    RoutesError,
)

from .servers import HOST, connecting, end, refusal, serving, until

CHUNK = os.urandom(2**16)  # nothing that deflate makes smaller

compressions = pytest.mark.parametrize("compression", [None, "deflate"])


def errors(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [
        record.getMessage()
        for record in caplog.records
        if record.levelno >= logging.ERROR
    ]


def serve(handler: Callable[[Any], Awaitable[None]], **kwargs: Any) -> Server:
    router = Router()
    router.add_route("/", handler)
    return router.serve(HOST, 0, **kwargs)


async def everything(ws: ClientConnection) -> list[str | bytes]:
    """Receive until the connection is closed."""
    received = []
    try:
        while True:
            received.append(await ws.recv())
    except ConnectionClosed:
        return received


async def exchange(handler: Callable[[Any], Awaitable[None]], **kwargs: Any) -> Any:
    """Serve one connection; return what its client receives."""
    async with serving(serve(handler, **kwargs)) as url, connecting(url) as ws:
        return await everything(ws)


# send_message


@pytest.mark.parametrize(
    ("message", "opcode", "expected"),
    [
        ("é", OpCode.TEXT, "é"),
        ("é", OpCode.BINARY, "é".encode()),
        (b"\xc3\xa9", OpCode.TEXT, "é"),
        (b"\xc3\xa9", OpCode.BINARY, b"\xc3\xa9"),
        (bytearray(b"a"), OpCode.TEXT, "a"),
        (memoryview(b"a"), OpCode.BINARY, b"a"),
        ("", OpCode.TEXT, ""),
        (b"", OpCode.BINARY, b""),
        ("a", Opcode.BINARY, b"a"),
        (b"a", 1, "a"),
    ],
)
async def test_send_message_sends_any_data_with_either_opcode(
    message: Any, opcode: Any, expected: str | bytes
) -> None:
    async def handler(ws: Protocol) -> None:
        await ws.send_message(message, opcode)

    assert await exchange(handler) == [expected]


@pytest.mark.parametrize("opcode", [*set(OpCode) - {1, 2}, 3, -1, "TEXT", None])
async def test_send_message_takes_no_opcode_but_that_of_a_message(opcode: Any) -> None:
    async def handler(ws: Protocol) -> None:
        with pytest.raises(ValueError, match=r"TEXT or BINARY|not a valid OpCode"):
            await ws.send_message("a", opcode)
        await ws.send("still open")

    assert await exchange(handler) == ["still open"]


async def test_send_message_on_a_closed_connection_raises_connection_closed() -> None:
    raised = []

    async def handler(ws: Protocol) -> None:
        await ws.close()
        with pytest.raises(ConnectionClosed):
            await ws.send_message("a", OpCode.TEXT)
        raised.append(True)

    assert await exchange(handler) == []
    assert raised == [True]


# messages


async def test_messages_come_with_their_opcodes() -> None:
    got: list[object] = []

    async def handler(ws: Protocol) -> None:
        async for opcode, message in ws.messages():
            assert isinstance(opcode, OpCode)
            got.append((opcode, message))
            await ws.send_message(message, opcode)

    async with serving(serve(handler)) as url, connecting(url) as ws:
        for message in ("é", b"\xff", "", b""):
            await ws.send(message)
            assert await ws.recv() == message
        await ws.send(iter(["a", "b"]))
        assert await ws.recv() == "ab"
    assert got == [
        (OpCode.TEXT, "é"),
        (OpCode.BINARY, b"\xff"),
        (OpCode.TEXT, ""),
        (OpCode.BINARY, b""),
        (OpCode.TEXT, "ab"),
    ]


# send_nowait


@compressions
@pytest.mark.parametrize(
    ("message", "text", "expected"),
    [
        ("é", None, "é"),
        ("é", True, "é"),
        ("é", False, b"\xc3\xa9"),
        (b"\xc3\xa9", None, b"\xc3\xa9"),
        (b"\xc3\xa9", True, "é"),
        (b"\xc3\xa9", False, b"\xc3\xa9"),
        (bytearray(b"a"), None, b"a"),
        (memoryview(b"a"), None, b"a"),
        (memoryview(b"a"), True, "a"),
        ("", None, ""),
        (b"", None, b""),
    ],
)
@pytest.mark.parametrize("fragmented", [False, True], ids=["free", "during-fragments"])
async def test_send_nowait_sends_text_and_bytes_as_send_does(
    message: Any,
    text: bool | None,
    expected: str | bytes,
    fragmented: bool,
    compression: str | None,
) -> None:
    async def handler(ws: Protocol) -> None:
        if fragmented:
            async with sending_fragments(ws):
                ws.send_nowait(message, text=text)
        else:
            ws.send_nowait(message, text=text)
        await ws.send(message, text=text)

    received = await exchange(handler, compression=compression)
    assert received == [*["first last"][: int(fragmented)], expected, expected]


class sending_fragments:
    """Be in the middle of a fragmented message; at exit, wait for its end."""

    def __init__(self, ws: Protocol, then: Callable[[], Awaitable[None]] | None = None):
        self.ws = ws
        self.then = then
        self.middle, self.go_on = asyncio.Event(), asyncio.Event()

    async def fragments(self) -> AsyncIterator[str]:
        yield "first "
        self.middle.set()
        await self.go_on.wait()
        yield "last"

    async def send(self) -> None:
        await self.ws.send(self.fragments())
        if self.then is not None:
            await self.then()

    async def __aenter__(self) -> asyncio.Task[None]:
        self.task = asyncio.create_task(self.send())
        await self.middle.wait()
        return self.task

    async def __aexit__(self, *_: object) -> None:
        self.go_on.set()
        await asyncio.wait({self.task})


@pytest.mark.parametrize("message", [None, 1, ["a"], {"a": 1}, iter("a")])
async def test_send_nowait_takes_nothing_but_text_and_bytes(message: Any) -> None:
    async def handler(ws: Protocol) -> None:
        with pytest.raises(TypeError, match="a message is str or bytes, not"):
            ws.send_nowait(message)
        await ws.send("still open")

    assert await exchange(handler) == ["still open"]


@compressions
async def test_send_and_send_nowait_keep_their_order(compression: str | None) -> None:
    async def handler(ws: Protocol) -> None:
        for i in range(0, 100, 2):
            ws.send_nowait(str(i))
            await ws.send(str(i + 1))

    received = await exchange(handler, compression=compression)
    assert received == [str(i) for i in range(100)]


@compressions
async def test_what_is_sent_during_a_fragmented_message_comes_after_it(
    compression: str | None,
) -> None:
    async def handler(ws: Protocol) -> None:
        async with sending_fragments(ws):
            ws.send_nowait("a")
            ws.send_nowait(b"b")
        async with sending_fragments(ws):
            ws.send_nowait("c")
        ws.send_nowait("d")

    received = await exchange(handler, compression=compression)
    assert received == ["first last", "a", b"b", "first last", "c", "d"]


@pytest.mark.parametrize("nowait", [False, True])
async def test_nothing_sent_later_overtakes_what_waits_behind_fragments(
    nowait: bool,
) -> None:
    """The task that sent the fragments goes on before any callback is called."""

    async def handler(ws: Protocol) -> None:
        async def then() -> None:
            if nowait:
                ws.send_nowait("later")
            else:
                await ws.send("later")

        async with sending_fragments(ws, then):
            ws.send_nowait("earlier")

    assert await exchange(handler) == ["first last", "earlier", "later"]


async def test_what_waits_behind_fragments_keeps_the_order_of_the_calls() -> None:
    async def handler(ws: Protocol) -> None:
        async with sending_fragments(ws):
            sending = asyncio.create_task(ws.send("earlier"))
            await asyncio.sleep(0)
            ws.send_nowait("later")
        await sending

    assert await exchange(handler) == ["first last", "earlier", "later"]


async def test_what_waits_behind_fragments_is_not_lost_if_the_handler_returns() -> None:
    async def handler(ws: Protocol) -> None:
        async def fragments() -> AsyncIterator[str]:
            yield "first "
            ws.send_nowait("waiting")
            yield "last"

        await ws.send(fragments())

    assert await exchange(handler) == ["first last", "waiting"]


async def test_what_waits_behind_fragments_is_what_was_sent() -> None:
    """The buffer of a bytearray is the caller's again once the call returns."""

    async def handler(ws: Protocol) -> None:
        buffer = bytearray(b"sent")
        async with sending_fragments(ws):
            ws.send_nowait(buffer)
            buffer[:] = b"used"

    assert await exchange(handler) == ["first last", b"sent"]


class Small(Protocol):
    max_backlog = 10


async def test_what_waits_behind_fragments_is_bounded() -> None:
    raised: list[tuple[int, int]] = []

    async def handler(ws: Protocol) -> None:
        async with sending_fragments(ws):
            ws.send_nowait("12345")
            ws.send_nowait("67890+")
            with pytest.raises(BacklogFull) as full:
                ws.send_nowait("x")
            raised.append((full.value.backlog, full.value.limit))
        await asyncio.sleep(0)
        ws.send_nowait("again")

    received = await exchange(handler, create_connection=Small)
    assert received == ["first last", "12345", "67890+", "again"]
    assert raised == [(15, 10)]  # with the heads of their frames


async def test_a_failed_fragmented_message_takes_with_it_what_waits_behind(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def handler(ws: Protocol) -> None:
        async def fragments() -> AsyncIterator[str]:
            yield "first"
            ws.send_nowait("waiting")
            raise ValueError("no more")

        with pytest.raises(ValueError, match="no more"):
            await ws.send(fragments())

    async with serving(serve(handler)) as url, connecting(url) as ws:
        assert await end(ws) == (1011, "error in fragmented message")
    assert errors(caplog) == []


async def test_a_cancelled_fragmented_message_raises_nothing_in_a_callback(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def handler(ws: Protocol) -> None:
        async with sending_fragments(ws) as task:
            ws.send_nowait("waiting")
            task.cancel()
        await asyncio.sleep(0)

    await exchange(handler)
    assert errors(caplog) == []


async def test_a_connection_closed_amid_fragments_drops_what_waits_behind(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def handler(ws: Protocol) -> None:
        async with sending_fragments(ws) as task:
            ws.send_nowait("waiting")
            await ws.close()
        assert isinstance(task.exception(), ConnectionClosed)

    async with serving(serve(handler)) as url, connecting(url) as ws:
        assert await end(ws) == (1011, "close during fragmented message")
    assert errors(caplog) == []


async def test_a_full_buffer_behind_fragments_raises_nothing_in_a_callback(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """What send_nowait has taken is sent."""
    connections: list[Protocol] = []

    async def handler(ws: Protocol) -> None:
        async def fragments() -> AsyncIterator[bytes]:
            yield CHUNK
            ws.send_nowait("waiting")
            for _ in range(256):  # more than the kernel holds
                yield CHUNK

        connections.append(ws)
        await ws.send(fragments())

    server = serve(handler, compression=None)
    async with serving(server) as url, connecting(url, max_size=None) as ws:
        ws.transport.pause_reading()
        await until(lambda: connections and connections[0].paused)
        ws.transport.resume_reading()
        received = await everything(ws)
    assert received[1:] == ["waiting"]
    assert errors(caplog) == []


@pytest.mark.parametrize("leaving", ["close", "closed", "abort"])
async def test_send_nowait_on_a_connection_that_ends_raises_connection_closed(
    leaving: str,
) -> None:
    raised = []

    async def handler(ws: Protocol) -> None:
        if leaving == "abort":
            ws.transport.abort()
        elif leaving == "closed":
            await ws.close()
        else:
            closing = asyncio.create_task(ws.close())
            await asyncio.sleep(0)
        with pytest.raises(ConnectionClosed):
            ws.send_nowait("too late")
        raised.append(True)
        if leaving == "close":
            await closing

    assert await exchange(handler) == []
    assert raised == [True]


@pytest.mark.parametrize("plain", [False, True], ids=["handler", "event"])
async def test_a_peer_that_closes_behind_its_message_is_no_failure(
    plain: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """The answer finds the connection closing, not closed."""
    router = Router()
    raised = asyncio.Event()

    def echo(ws: Protocol, message: str | bytes) -> None:
        try:
            ws.send_nowait(message)
        except ConnectionClosed:
            raised.set()
            raise

    if plain:

        @router.route("/")
        class Echo:
            def on_message(self, ws: Protocol, message: str, opcode: OpCode) -> None:
                echo(ws, message)

    else:

        @router.route("/")
        async def handler(ws: Protocol) -> None:
            async for message in ws:
                echo(ws, message)

    close = Frame(Opcode.CLOSE, b"\x03\xe8").serialize(mask=True)
    server = router.serve(HOST, 0, compression=None)
    async with serving(server) as url, connecting(url) as ws:
        text = Frame(Opcode.TEXT, b"hello").serialize(mask=True)
        ws.transport.write(text + close)
        await raised.wait()
        await ws.wait_closed()
    assert errors(caplog) == []


@compressions
@pytest.mark.parametrize("max_backlog", [2**16, 2**20])
async def test_a_peer_that_does_not_read_fills_the_backlog_and_is_closed_with_1013(
    max_backlog: int, compression: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    raised: list[BacklogFull] = []
    full = asyncio.Event()

    class Limited(Protocol):
        pass

    Limited.max_backlog = max_backlog

    async def handler(ws: Protocol) -> None:
        try:
            while True:
                ws.send_nowait(CHUNK)
        except BacklogFull as error:
            raised.append(error)
            full.set()
            raise

    server = serve(handler, create_connection=Limited, compression=compression)
    async with serving(server) as url, connecting(url) as ws:
        ws.transport.pause_reading()
        await full.wait()
        ws.transport.resume_reading()
        received = await everything(ws)
        assert ws.close_code == 1013
        assert (ws.close_reason or "").startswith("the peer is slow")
    assert set(received) == {CHUNK}
    (error,) = raised
    assert error.limit == max_backlog
    assert max_backlog < error.backlog <= max_backlog + len(CHUNK) + 100
    assert isinstance(error, RoutesError)
    assert errors(caplog) == []


async def test_a_handler_may_go_on_after_a_full_backlog() -> None:
    full = asyncio.Event()

    async def handler(ws: Protocol) -> None:
        def flood() -> None:
            while True:
                ws.send_nowait(CHUNK)

        with pytest.raises(BacklogFull):
            flood()
        full.set()
        await ws.send("read on")

    async with serving(serve(handler)) as url, connecting(url) as ws:
        ws.transport.pause_reading()
        await full.wait()
        ws.transport.resume_reading()
        received = await everything(ws)
    assert received[-1] == "read on"
    assert set(received[:-1]) == {CHUNK}
    assert ws.close_code == 1000


# JSON


class Own:
    """Somebody's own module."""

    @staticmethod
    def dumps(value: object) -> str:
        return "own" + json.dumps(value)

    @staticmethod
    def loads(text: str) -> Any:
        return json.loads(text.removeprefix("own"))


MODULES: dict[str, dict[str, Any]] = {
    "default": {},
    "json": {"json": json},
    "orjson": {"json": orjson},
    "ujson": {"json": ujson},
    "msgspec": {"json": msgspec.json},
    "own": {"json": Own()},
}
each_module = pytest.mark.parametrize("module", MODULES.values(), ids=MODULES.keys())


@pytest.fixture
def values() -> list[Any]:
    return []


def json_router(module: dict[str, Any], values: list[Any]) -> Router:
    router = Router(**module)

    @router.route("/")
    async def echo(ws: Protocol) -> None:
        while True:
            value = await ws.recv_json()
            values.append(value)
            await ws.send_json(value)

    @router.route("/handled")
    async def handled(ws: Protocol) -> None:
        with pytest.raises(InvalidJSON):
            await ws.recv_json()
        await ws.send_json(await ws.recv_json())

    return router


@each_module
async def test_json_goes_out_as_text_and_comes_in_as_text_or_binary(
    module: dict[str, Any], values: list[Any]
) -> None:
    value = {"a": [1, 2.5, "é\U0001f600", None, True], "b": {}}
    own = "own" if isinstance(module.get("json"), Own) else ""
    text = json.dumps(value)
    server = json_router(module, values).serve(HOST, 0)
    async with serving(server) as url, connecting(url) as ws:
        for message in (text, text.encode()):
            await ws.send(message)
            answer = await ws.recv()
            assert isinstance(answer, str)
            assert answer.startswith(own)
            assert json.loads(answer.removeprefix(own)) == value
    assert values == [value, value]


INVALID: dict[str, str | bytes] = {
    "empty": "",
    "nothing": b"",
    "word": "word",
    "cut": '{"a": ',
    "two": "1 2",
    "trailing comma": "[1,]",
    "invalid UTF-8": b'"\xff"',
    "UTF-16": json.dumps({"a": 1}).encode("utf-16"),
    "deep": "[" * 100_000 + "]" * 100_000,
    "deep binary": b"[" * 100_000,
    "deep objects": '{"a":' * 100_000,
}
each_invalid = pytest.mark.parametrize(
    "message", INVALID.values(), ids=[name.replace(" ", "-") for name in INVALID]
)


@each_module
@each_invalid
async def test_what_is_no_json_closes_with_1007_and_is_no_error(
    module: dict[str, Any],
    message: str | bytes,
    values: list[Any],
    caplog: pytest.LogCaptureFixture,
) -> None:
    server = json_router(module, values).serve(HOST, 0)
    async with serving(server) as url, connecting(url) as ws:
        await ws.send(message)
        code, reason = await end(ws)
        assert code == 1007
        assert "JSON" in reason
    assert values == []
    assert errors(caplog) == []


@each_module
@each_invalid
async def test_a_handler_may_go_on_after_what_is_no_json(
    module: dict[str, Any], message: str | bytes, values: list[Any]
) -> None:
    server = json_router(module, values).serve(HOST, 0)
    async with serving(server) as url, connecting(f"{url}/handled") as ws:
        await ws.send(message)
        await ws.send("[1]")
        answer = await ws.recv(decode=True)
        assert json.loads(answer.removeprefix("own")) == [1]
        assert (await end(ws))[0] == 1000


async def test_invalid_utf8_in_a_text_message_closes_with_1007(
    caplog: pytest.LogCaptureFixture, values: list[Any]
) -> None:
    server = json_router({}, values).serve(HOST, 0)
    async with serving(server) as url, connecting(url) as ws:
        await ws.send(b'"\xff"', text=True)
        assert (await end(ws))[0] == 1007
    assert errors(caplog) == []


@each_module
async def test_a_value_that_is_no_json_raises_and_is_a_1011(
    module: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    router, raised = Router(**module), []

    @router.route("/")
    async def handler(ws: Protocol) -> None:
        try:
            await ws.send_json({"a": object()})
        except (TypeError, OverflowError) as error:
            raised.append(error)
            raise

    async with serving(router.serve(HOST, 0)) as url:
        assert await refusal(url) == 1011
    assert len(raised) == 1
    assert errors(caplog) == ["connection handler failed"]


async def test_recv_json_of_a_connection_that_ends_raises_connection_closed() -> None:
    ended = asyncio.Event()

    async def handler(ws: Protocol) -> None:
        with pytest.raises(ConnectionClosed):
            await ws.recv_json()
        with pytest.raises(ConnectionClosed):
            await ws.send_json(None)
        ended.set()

    async with serving(serve(handler)) as url:
        async with connecting(url):
            pass
        await ended.wait()


@pytest.mark.parametrize("size", [0, 1, 125, 126, 65535, 65536])
@pytest.mark.parametrize("text", [True, False])
async def test_a_message_of_any_length_is_framed_as_the_protocol_frames_it(
    size: int, text: bool
) -> None:
    message = b"x" * size
    router = Router()

    @router.route("/")
    async def handler(ws: Protocol) -> None:
        ws.send_nowait(message, text=text)

    async with serving(router.serve(HOST, 0, compression=None)) as url:
        async with connect(f"{url}/") as ws:
            assert await ws.recv(decode=False) == message
        _, port = url.rsplit(":", 1)
        reader, writer = await asyncio.open_connection(HOST, int(port))
        writer.write(
            b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n"
            b"Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
            b"Sec-WebSocket-Version: 13\r\n\r\n"
        )
        await reader.readuntil(b"\r\n\r\n")
        opcode = Opcode.TEXT if text else Opcode.BINARY
        expected = Frame(opcode, message).serialize(mask=False)
        assert await reader.readexactly(len(expected)) == expected
        writer.close()
