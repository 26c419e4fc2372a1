"""What clients decode: libraries, window sizes and extensions that share a topic."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import aiohttp
import pytest
import websocket
from websockets import Frame, Opcode
from websockets.extensions import (
    ClientExtensionFactory,
    Extension,
    ServerExtensionFactory,
)
from websockets.extensions.permessage_deflate import (
    ClientPerMessageDeflateFactory,
    PerMessageDeflate,
    ServerPerMessageDeflateFactory,
)
from websockets.typing import ExtensionName, ExtensionParameter

from websockets_routes import OpCode, Router

from .servers import WAYS_IN, connecting
from .test_topics import Hall, heard

DATA_OPCODES = (Opcode.TEXT, Opcode.BINARY)

Receive = Callable[[], Awaitable[str | bytes]]
Client = Callable[[str], AbstractAsyncContextManager[Receive]]


# Clients


def websockets_client(
    bits: int | None = None, forgets: bool = False, client_bits: int | None = None
) -> Client:
    """Make a client of ``websockets``, with deflate, its server's window bounded."""

    @asynccontextmanager
    async def open_client(uri: str) -> AsyncIterator[Receive]:
        deflate = ClientPerMessageDeflateFactory(
            server_no_context_takeover=forgets,
            server_max_window_bits=bits,
            client_max_window_bits=client_bits or True,
        )
        async with connecting(
            uri, compression=None, extensions=[deflate], max_size=None
        ) as ws:
            yield ws.recv

    return open_client


@asynccontextmanager
async def websockets_default(uri: str) -> AsyncIterator[Receive]:
    async with connecting(uri) as ws:
        assert len(ws.protocol.extensions) <= 1
        yield ws.recv


@asynccontextmanager
async def websockets_plain(uri: str) -> AsyncIterator[Receive]:
    async with connecting(uri, compression=None) as ws:
        assert ws.protocol.extensions == []
        yield ws.recv


def aiohttp_client(compress: int) -> Client:
    @asynccontextmanager
    async def open_client(uri: str) -> AsyncIterator[Receive]:
        async with (
            aiohttp.ClientSession() as session,
            session.ws_connect(uri, compress=compress) as ws,
        ):

            async def receive() -> str | bytes:
                message = await ws.receive()
                assert message.type in (
                    aiohttp.WSMsgType.TEXT,
                    aiohttp.WSMsgType.BINARY,
                )
                data: str | bytes = message.data
                return data

            yield receive

    return open_client


@asynccontextmanager
async def websocket_client(uri: str) -> AsyncIterator[Receive]:
    def open_blocking() -> websocket.WebSocket:
        return websocket.create_connection(uri, timeout=5, http_no_proxy=["*"])

    ws = await asyncio.to_thread(open_blocking)

    async def receive() -> str | bytes:
        opcode, data = await asyncio.to_thread(ws.recv_data)
        assert opcode in (OpCode.TEXT, OpCode.BINARY)
        return data.decode() if opcode == OpCode.TEXT else bytes(data)

    try:
        yield receive
    finally:
        ws.shutdown()  # type: ignore[no-untyped-call]


CLIENTS: dict[str, Client] = {
    "websockets": websockets_default,
    "websockets-plain": websockets_plain,
    "websocket-client": websocket_client,
    "websockets-8": websockets_client(8),
    **{
        f"websockets-{bits}{'-forgets' if forgets else ''}": websockets_client(
            bits, forgets, client_bits=24 - bits
        )
        for bits in range(9, 16)
        for forgets in (False, True)
    },
    **{f"aiohttp-{bits}": aiohttp_client(bits) for bits in (0, *range(9, 16))},
}


# Messages


def make_messages() -> list[tuple[str | bytes, OpCode | None, bool | None]]:
    """Make messages that deflate loves or hates, around every size that matters."""
    chosen = random.Random(7)
    sizes = [0, 1, 125, 126, 511, 512, 513, 4096, 65_535, 65_536, 70_000]
    contents: list[str | bytes] = ["é" * 300, '{"price": 1.5}', "\0" * 600]
    for size in sizes:
        contents.append(chosen.randbytes(size))
        contents.append(("the same words again and again " * size)[:size])
    messages: list[tuple[str | bytes, OpCode | None, bool | None]] = [
        (content, None, compress)
        for content in contents
        for compress in (None, True, False)
    ]
    messages.append(("é" * 700, OpCode.BINARY, None))
    messages.append((("é" * 700).encode(), OpCode.TEXT, True))
    chosen.shuffle(messages)
    return messages


MESSAGES = make_messages()


def as_received(message: str | bytes, opcode: OpCode | None) -> str | bytes:
    if opcode is OpCode.BINARY and isinstance(message, str):
        return message.encode()
    if opcode is OpCode.TEXT and isinstance(message, bytes):
        return message.decode()
    return message


async def receive_all(receive: Receive, count: int) -> list[str | bytes]:
    return [await receive() for _ in range(count)]


def first_difference(got: Sequence[object], expected: Sequence[object]) -> object:
    for index, (one, other) in enumerate(zip(got, expected, strict=True)):
        if one != other:
            return index, str(one)[:50], str(other)[:50]
    return None


each_compression = pytest.mark.parametrize(
    "compression", ["shared", "deflate", None], ids=str
)
each_debug = pytest.mark.parametrize("debug", [False, True], ids=["", "debug"])


@each_compression
@each_debug
async def test_all_clients_decode_what_is_published_and_sent(
    compression: str | None, debug: bool, caplog: pytest.LogCaptureFixture
) -> None:
    level = logging.DEBUG if debug else logging.INFO
    caplog.set_level(level, "websockets.server")
    # Formatting takes its time, and one frame in each form is enough to be told.
    messages = MESSAGES[::4] if debug else MESSAGES
    chosen = dict(list(CLIENTS.items())[:: 3 if debug else 1])
    hall = Hall()
    expected: list[str | bytes] = []
    for number, (message, opcode, _) in enumerate(messages):
        expected.append(as_received(message, opcode))
        if number % 3 == 0:
            expected.append(f"sent {number}" * (number % 2 * 200 + 1))

    async def follow(client: Client, connected: asyncio.Event) -> object:
        async with client(f"{hall.url}/hold") as receive:
            connected.set()
            return first_difference(await receive_all(receive, len(expected)), expected)

    async with hall.open(compression=compression, max_backlog=2**26, write_limit=2**17):
        followers = []
        connections = []
        for client in chosen.values():
            connected = asyncio.Event()
            followers.append(asyncio.ensure_future(follow(client, connected)))
            ws = await hall.arrival()
            await ws.subscribe("a")
            connections.append(ws)
            await connected.wait()
        assert any(ws.protocol.debug for ws in connections) is debug
        for number, (message, opcode, compress) in enumerate(messages):
            receipt = hall.router.publish("a", message, opcode, compress=compress)
            assert receipt.queued == receipt.matched == len(chosen)
            if number % 3 == 0:
                text = f"sent {number}" * (number % 2 * 200 + 1)
                await asyncio.gather(*(ws.send(text) for ws in connections))
        differences = await asyncio.gather(*followers)
        assert dict(zip(chosen, differences, strict=True)) == dict.fromkeys(chosen)


@pytest.mark.parametrize("way", ["process-request", "handle"])
@pytest.mark.parametrize("compression", ["deflate", None], ids=str)
async def test_all_clients_decode_what_reaches_a_connection_of_websockets_own(
    way: str, compression: str | None
) -> None:
    hall = Hall(Router())
    hall.router.topics.max_backlog = 2**26
    messages = MESSAGES[::2]
    expected = [as_received(message, opcode) for message, opcode, _ in messages]

    async def follow(client: Client, connected: asyncio.Event) -> object:
        async with client(f"{hall.url}/hold") as receive:
            connected.set()
            return first_difference(await receive_all(receive, len(expected)), expected)

    async with hall.open(WAYS_IN[way], compression=compression):
        followers = []
        connections = []
        for client in CLIENTS.values():
            connected = asyncio.Event()
            followers.append(asyncio.ensure_future(follow(client, connected)))
            ws = await hall.arrival()
            await hall.router.subscribe(ws, "a")
            connections.append(ws)
            await connected.wait()
        for number, (message, opcode, compress) in enumerate(messages):
            if number % 3:
                hall.router.publish("a", message, opcode, compress=compress)
            else:
                data = as_received(message, opcode)
                await asyncio.gather(*(ws.send(data) for ws in connections))
        differences = await asyncio.gather(*followers)
        assert dict(zip(CLIENTS, differences, strict=True)) == dict.fromkeys(CLIENTS)


# What is compressed, seen by a client that tells


class Telling(PerMessageDeflate):
    """Deflate that notes which messages came compressed."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.compressed: list[bool] = []

    def decode(self, frame: Frame, *, max_size: int | None = None) -> Frame:
        if frame.opcode in DATA_OPCODES:
            self.compressed.append(frame.rsv1)
        return super().decode(frame, max_size=max_size)


class TellingFactory(ClientPerMessageDeflateFactory):
    def process_response_params(
        self,
        params: Sequence[ExtensionParameter],
        accepted_extensions: Sequence[Extension],
    ) -> Telling:
        made = super().process_response_params(params, accepted_extensions)
        return Telling(
            made.remote_no_context_takeover,
            made.local_no_context_takeover,
            made.remote_max_window_bits,
            made.local_max_window_bits,
            made.compress_settings,
        )


@pytest.mark.parametrize("compression", ["shared", "deflate"])
@each_debug
@pytest.mark.parametrize(
    ("size", "compress", "expected"),
    [
        (5000, False, False),
        (5000, True, True),
        (5000, None, True),
        (100, True, True),
        (100, False, False),
    ],
)
async def test_compress_insists_on_the_one_or_the_other(
    compression: str,
    debug: bool,
    size: int,
    compress: bool | None,
    expected: bool,
    caplog: pytest.LogCaptureFixture,
) -> None:
    level = logging.DEBUG if debug else logging.INFO
    caplog.set_level(level, "websockets.server")
    hall = Hall()
    async with hall.open(compression=compression):
        ws, client = await hall.join(compression=None, extensions=[TellingFactory()])
        await ws.subscribe("a")
        hall.router.publish("a", "x" * size, compress=compress)
        assert await client.recv() == "x" * size
        [telling] = client.protocol.extensions
        assert isinstance(telling, Telling)
        assert telling.compressed == [expected]


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("x" * 100, False),
        ("x" * 5000, True),
        (random.Random(1).randbytes(5000), False),
    ],
    ids=["small", "large", "random"],
)
async def test_the_size_decides_what_is_compressed_with_shared_compression(
    message: str | bytes, expected: bool
) -> None:
    hall = Hall()
    async with hall.open():
        ws, client = await hall.join(compression=None, extensions=[TellingFactory()])
        await ws.subscribe("a")
        hall.router.publish("a", message)
        await ws.send(message if expected else message[:100])
        await client.recv()
        await client.recv()
        [telling] = client.protocol.extensions
        assert isinstance(telling, Telling)
        assert telling.compressed == [expected, expected]


# Another extension


class Flip(Extension):
    """Flips every bit of a message, and says so in RSV2."""

    name = ExtensionName("x-flip")

    def encode(self, frame: Frame) -> Frame:
        if frame.opcode in DATA_OPCODES:
            return dataclasses.replace(frame, data=flipped(frame.data), rsv2=True)
        return frame

    def decode(self, frame: Frame, *, max_size: int | None = None) -> Frame:
        if frame.opcode in DATA_OPCODES:
            assert frame.rsv2, "it was not encoded"
            return dataclasses.replace(frame, data=flipped(frame.data), rsv2=False)
        return frame


def flipped(data: Any) -> bytes:
    return bytes(data).translate(bytes(range(255, -1, -1)))


class ServerFlip(ServerExtensionFactory):
    name = Flip.name

    def process_request_params(
        self,
        params: Sequence[ExtensionParameter],
        accepted_extensions: Sequence[Extension],
    ) -> tuple[list[ExtensionParameter], Extension]:
        return [], Flip()


class ClientFlip(ClientExtensionFactory):
    name = Flip.name

    def get_request_params(self) -> Sequence[ExtensionParameter]:
        return []

    def process_response_params(
        self,
        params: Sequence[ExtensionParameter],
        accepted_extensions: Sequence[Extension],
    ) -> Extension:
        return Flip()


@each_compression
@each_debug
async def test_a_client_with_another_extension_gets_correct_frames(
    compression: str | None, debug: bool, caplog: pytest.LogCaptureFixture
) -> None:
    level = logging.DEBUG if debug else logging.INFO
    caplog.set_level(level, "websockets.server")
    messages = MESSAGES[:: 4 if debug else 2]
    expected = [as_received(message, opcode) for message, opcode, _ in messages]
    hall = Hall()
    async with hall.open(
        compression=compression, extensions=[ServerFlip()], max_backlog=2**26
    ):
        deflate = ClientPerMessageDeflateFactory()
        pairs = [
            await hall.join(compression=None, extensions=extensions, max_size=None)
            for extensions in (
                [ClientFlip()],
                [ClientFlip(), deflate],
                [deflate],
                None,
            )
        ]
        names = [
            [extension.name for extension in ws.protocol.extensions] for ws, _ in pairs
        ]
        with_deflate = ["permessage-deflate"] if compression else []
        assert names == [["x-flip"], ["x-flip", *with_deflate], with_deflate, []]
        receiving = [
            asyncio.ensure_future(receive_all(client.recv, len(expected)))
            for _, client in pairs
        ]
        for ws, _ in pairs:
            await ws.subscribe("a")
        for number, (message, opcode, compress) in enumerate(messages):
            if number % 4:
                hall.router.publish("a", message, opcode, compress=compress)
            else:
                data = as_received(message, opcode)
                await asyncio.gather(*(ws.send(data) for ws, _ in pairs))
        for each in receiving:
            assert first_difference(await each, expected) is None


# Deflate of the user's own, and a logger of the user's own


async def test_deflate_that_the_user_offers_is_not_offered_twice() -> None:
    hall = Hall()
    offered = [ServerPerMessageDeflateFactory(server_max_window_bits=10)]
    async with hall.open(extensions=offered):
        ws, client = await hall.join()
        [extension] = ws.protocol.extensions
        assert extension.local_max_window_bits == 10
        assert not extension.local_no_context_takeover
        await ws.subscribe("a")
        texts = [f"number {number} " * 100 for number in range(5)]
        for number, text in enumerate(texts):
            hall.router.publish("a", text, compress=number % 2 == 0)
        assert await heard(ws, client) == texts


async def test_a_logger_that_debugs_sees_every_frame(
    caplog: pytest.LogCaptureFixture,
) -> None:
    logger = logging.getLogger("tests.debugging")
    caplog.set_level(logging.DEBUG, logger.name)
    hall = Hall()
    async with hall.open(logger=logger):
        ws, client = await hall.join()
        await ws.subscribe("a")
        hall.router.publish("a", "one")
        hall.router.publish("a", "é" * 1000)
        hall.router.publish("a", b"\xff\0", compress=True)
        await ws.send("three")
        assert await heard(ws, client) == ["one", "é" * 1000, b"\xff\0", "three"]
    sent = [r.getMessage() for r in caplog.records if r.getMessage().startswith("> ")]
    assert sum("TEXT" in line or "BINARY" in line for line in sent) == 5
