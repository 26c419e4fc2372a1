"""HTTP connections over loopback, with clients that are none of ours.

What a response says is read by ``http.client``, curl, aiohttp, or byte by byte.
"""

from __future__ import annotations

import asyncio
import gc
import http.client
import json
import logging
import shutil
import socket
import ssl
import struct
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
import pytest
import trustme
from websockets import ClientProtocol, Frame, Headers, Opcode, Response
from websockets.asyncio.server import Server
from websockets.uri import parse_uri

from websockets_routes import Router
from websockets_routes.http.request import Request
from websockets_routes.http.response import Response as Answer

from .servers import HOST, connecting, exchange, port, serving, status_line, until

HELLO = b"GET /hello HTTP/1.1\r\nHost: x\r\n\r\n"
CLOSE = b"GET /hello HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
UPGRADE = (
    b"GET /echo HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
#: Longer than a transport holds before it pauses, and than a body waits.
LARGE = 2**20


class Got(NamedTuple):
    """A response as a client saw it."""

    status: int
    headers: Headers
    body: bytes


class Wire:
    """A client that sends the bytes that it is told to."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.reader = reader
        self.writer = writer

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def head(self) -> tuple[int, Headers]:
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        first, *lines = head[:-4].split("\r\n")
        assert first.startswith("HTTP/1.1 ")
        pairs = [tuple(line.split(": ", 1)) for line in lines]
        return int(first.split(" ")[1]), Headers(pairs)  # type: ignore[arg-type]

    async def get(self, *, body: bool = True) -> Got:
        """Read a response, to its end and not further."""
        status, headers = await self.head()
        if not body or status < 200 or status in (204, 304):
            return Got(status, headers, b"")
        if headers.get("Transfer-Encoding") == "chunked":
            return Got(status, headers, await self._chunks())
        if "Content-Length" in headers:
            length = int(headers["Content-Length"])
            return Got(status, headers, await self.reader.readexactly(length))
        return Got(status, headers, await self.reader.read())

    async def _chunks(self) -> bytes:
        body = b""
        while True:
            size = int(await self.reader.readuntil(b"\r\n"), 16)
            piece = await self.reader.readexactly(size + 2)
            assert piece.endswith(b"\r\n")
            if not size:
                return body
            body += piece[:-2]

    async def rest(self) -> bytes:
        return await self.reader.read()

    def abort(self) -> None:
        """Leave without a word."""
        self.writer.transport.abort()

    def reset(self) -> None:
        """Leave so that the server hears of it at once."""
        raw = self.writer.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


@asynccontextmanager
async def wire(server: Server, **kwargs: Any) -> AsyncIterator[Wire]:
    if "sock" not in kwargs and "path" not in kwargs:
        kwargs = {"host": HOST, "port": port(server), **kwargs}
    reader, writer = await asyncio.open_connection(**kwargs)
    try:
        yield Wire(reader, writer)
    finally:
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()


@asynccontextmanager
async def one(router: Router, **kwargs: Any) -> AsyncIterator[tuple[Any, Wire]]:
    """Serve; connect one client."""
    server = router.serve(HOST, 0, **kwargs)
    async with serving(server), wire(server) as client:
        yield server, client


def post(body: bytes, *headers: str, path: str = "/echo") -> bytes:
    lines = [f"POST {path} HTTP/1.1", "Host: x", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


def sized(body: bytes, path: str = "/echo") -> bytes:
    return post(body, f"Content-Length: {len(body)}", path=path)


def chunked(*pieces: bytes, trailers: bytes = b"", path: str = "/echo") -> bytes:
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(each), each) for each in pieces)
    chunks += b"0\r\n" + trailers + b"\r\n"
    return post(chunks, "Transfer-Encoding: chunked", path=path)


def errors(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [
        f"{record.getMessage()} {record.exc_info}"
        for record in caplog.records
        if record.levelno >= logging.WARNING
    ]


def small_socket(*, bound: bool = False) -> socket.socket:
    """Make a socket of which the kernel holds little."""
    sock = socket.socket()
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, 1200)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8192)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
    sock.setblocking(False)
    if bound:
        sock.bind((HOST, 0))
    return sock


async def small_client(server: Server) -> socket.socket:
    sock = small_socket()
    await asyncio.get_running_loop().sock_connect(sock, (HOST, port(server)))
    return sock


async def received(sock: socket.socket) -> bytes:
    """Read until the end, or until the server breaks off."""
    loop = asyncio.get_running_loop()
    data = b""
    with suppress(ConnectionError):
        while piece := await loop.sock_recv(sock, 2**16):
            data += piece
    sock.close()
    return data


class Pieces:
    """A stream that knows whether it was closed."""

    def __init__(self, *pieces: bytes, endless: bool = False, hang: bool = False):
        self._pieces = list(pieces)
        self._endless = endless
        self._hang = hang
        self.given = 0
        self.waits = asyncio.Event()
        self.closed = asyncio.Event()

    def __aiter__(self) -> Pieces:
        return self

    async def __anext__(self) -> bytes:
        if self.given < len(self._pieces) or self._endless:
            piece = self._pieces[self.given % len(self._pieces)]
            self.given += 1
            return piece
        if self._hang:
            self.waits.set()
            await asyncio.get_running_loop().create_future()
        raise StopAsyncIteration

    async def aclose(self) -> None:
        self.closed.set()


def app() -> Router:
    router = Router()

    @router.get("/hello")
    def hello(request: Request) -> str:
        return "hello"

    @router.post("/echo")
    async def echo(request: Request) -> bytes:
        return await request.body()

    @router.post("/count")
    async def count(request: Request) -> str:
        return str(sum([len(piece) async for piece in request.stream()]))

    @router.post("/limited", max_content_length=1000)
    async def limited(request: Request) -> bytes:
        return await request.body()

    @router.post("/ignore")
    def ignore(request: Request) -> str:
        return "ignored"

    @router.get("/large")
    def large(request: Request) -> bytes:
        return b"x" * LARGE

    @router.get("/stream")
    async def stream(request: Request) -> AsyncIterator[str]:
        for word in ("one", "two", "three"):
            yield word

    @router.get("/url")
    def url(request: Request) -> dict[str, Any]:
        address = request.remote_address
        return {
            "url": request.url,
            "client": request.client_address,
            "remote": list(address) if isinstance(address, tuple) else address,
            "protocol": request.protocol,
        }

    @router.route("/echo")
    async def echo_messages(ws: Any) -> None:
        async for message in ws:
            await ws.send(message)

    return router


async def handle(ws: Any) -> None:
    await ws.wait_closed()


def waiting(
    router: Router, path: str = "/wait"
) -> tuple[asyncio.Queue[Request], asyncio.Event]:
    """Add a handler that waits; return its requests, and what lets it go on."""
    arrived: asyncio.Queue[Request] = asyncio.Queue()
    release = asyncio.Event()

    @router.get(path)
    async def wait(request: Request) -> str:
        await arrived.put(request)
        await release.wait()
        return "waited"

    return arrived, release


# Keep-alive and pipelining


async def test_a_connection_takes_one_request_after_the_other() -> None:
    async with one(app()) as (_, client):
        for _ in range(3):
            await client.send(HELLO)
            status, headers, body = await client.get()
            assert (status, body) == (200, b"hello")
            assert headers["Content-Length"] == "5"
            assert "Connection" not in headers
            assert headers["Date"].endswith(" GMT")


async def test_pipelined_requests_are_answered_in_their_order() -> None:
    async with one(app()) as (_, client):
        requests = [sized(b"%d" % number) for number in range(50)]
        await client.send(b"".join(requests))
        for number in range(50):
            assert (await client.get()).body == b"%d" % number


async def test_a_handler_of_a_pipelined_request_waits_for_the_one_before() -> None:
    router = app()
    arrived, release = waiting(router)
    async with one(router) as (_, client):
        wait = b"GET /wait HTTP/1.1\r\nHost: x\r\n\r\n"
        await client.send(wait + wait + HELLO)
        await arrived.get()
        await asyncio.sleep(0)
        assert arrived.empty()
        release.set()
        bodies = [(await client.get()).body for _ in range(3)]
        assert bodies == [b"waited", b"waited", b"hello"]


async def test_pipelined_bodies_of_both_kinds_do_not_mix() -> None:
    async with one(app()) as (_, client):
        await client.send(
            sized(b"GET / HTTP/1.1\r\n\r\n") + chunked(b"a", b"b") + HELLO + sized(b"c")
        )
        bodies = [(await client.get()).body for _ in range(4)]
        assert bodies == [b"GET / HTTP/1.1\r\n\r\n", b"ab", b"hello", b"c"]


async def test_a_client_ends_a_connection_with_close() -> None:
    async with one(app()) as (_, client):
        await client.send(CLOSE + HELLO)
        got = await client.get()
        assert got.headers["Connection"] == "close"
        assert await client.rest() == b""


async def test_a_response_that_closes_is_the_last() -> None:
    router = Router()
    router.get("/hello")(lambda request: Answer("bye", close=True))
    async with one(router) as (_, client):
        await client.send(HELLO + HELLO)
        got = await client.get()
        assert (got.headers["Connection"], got.body) == ("close", b"bye")
        assert await client.rest() == b""


async def test_pipelined_requests_without_end_do_not_fill_the_memory() -> None:
    router = app()
    arrived, release = waiting(router)
    server = router.serve(sock=small_socket(bound=True))
    async with serving(server):
        sock = await small_client(server)
        loop = asyncio.get_running_loop()
        await loop.sock_sendall(sock, b"GET /wait HTTP/1.1\r\nHost: x\r\n\r\n")
        await arrived.get()
        assert await sent_until_full(sock, HELLO * 100) < LARGE
        release.set()
        head = await loop.sock_recv(sock, 15)
        assert head == b"HTTP/1.1 200 OK"
        sock.close()


async def sent_until_full(sock: socket.socket, data: bytes) -> int:
    """Send until nobody takes any more, for a good while; return how much."""
    loop = asyncio.get_running_loop()
    total = 0
    while total < 4 * LARGE:
        try:
            total += sock.send(data)
        except BlockingIOError:
            ready = asyncio.Event()
            loop.add_writer(sock, ready.set)
            try:
                async with asyncio.timeout(0.3):
                    await ready.wait()
            except TimeoutError:
                return total
            finally:
                loop.remove_writer(sock)
    return total


async def test_empty_lines_before_a_request_do_no_harm() -> None:
    async with one(app()) as (_, client):
        await client.send(b"\r\n\r\n" + HELLO + b"\r\n" + HELLO)
        assert (await client.get()).body == b"hello"
        assert (await client.get()).body == b"hello"


# Bodies


@pytest.mark.parametrize(
    "request_bytes",
    [
        pytest.param(sized(b"hello world"), id="content-length"),
        pytest.param(chunked(b"hello", b" ", b"world"), id="chunked"),
        pytest.param(
            chunked(b"hello world", trailers=b"X-Sum: 1\r\nX-B: 2\r\n"), id="trailers"
        ),
    ],
)
async def test_a_body_arrives_whatever_cuts_the_network_makes(
    request_bytes: bytes,
) -> None:
    server = app().serve(HOST, 0)
    async with serving(server), wire(server) as client:
        raw = client.writer.get_extra_info("socket")
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for cut in range(1, len(request_bytes)):
            await client.send(request_bytes[:cut])
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            await client.send(request_bytes[cut:])
            assert (await client.get()).body == b"hello world", cut
        for byte in request_bytes:
            await client.send(bytes([byte]))
            await asyncio.sleep(0)
        assert (await client.get()).body == b"hello world"
        await client.send(HELLO)
        assert (await client.get()).body == b"hello"


async def test_a_body_that_nobody_reads_does_not_become_a_request() -> None:
    async with one(app()) as (_, client):
        await client.send(sized(HELLO, path="/ignore") + HELLO)
        assert (await client.get()).body == b"ignored"
        assert (await client.get()).body == b"hello"
        assert not client.reader._buffer  # type: ignore[attr-defined]


async def test_a_body_that_nobody_reads_and_that_is_not_there_ends_it() -> None:
    async with one(app()) as (_, client):
        await client.send(post(b"", "Content-Length: 100", path="/ignore"))
        got = await client.get()
        assert got.headers["Connection"] == "close"
        await client.send(HELLO + b" " * 100)
        assert await client.rest() == b""


async def test_a_body_is_the_same_each_time() -> None:
    router = Router()

    @router.post("/echo")
    async def twice(request: Request) -> list[str]:
        return [(await request.body()).decode(), await request.text()]

    async with one(router) as (_, client):
        await client.send(sized(b"x"))
        assert json.loads((await client.get()).body) == ["x", "x"]


async def test_a_client_that_asks_first_is_told_to_go_on() -> None:
    async with one(app()) as (_, client):
        asks = ("Content-Length: 5", "Expect: 100-continue")
        await client.send(post(b"", *asks))
        assert await client.head() == (100, Headers())
        await client.send(b"hello")
        assert (await client.get()).body == b"hello"
        await client.send(post(b"", "Transfer-Encoding: chunked", asks[1]))
        assert (await client.head())[0] == 100
        await client.send(b"1\r\nx\r\n0\r\n\r\n")
        assert (await client.get()).body == b"x"


@pytest.mark.parametrize(
    ("path", "length", "status"),
    [("/limited", 1001, 413), ("/nowhere", 5, 404), ("/hello", 5, 405)],
)
async def test_a_client_that_asks_first_is_spared_a_body_that_nobody_wants(
    path: str, length: int, status: int
) -> None:
    async with one(app()) as (_, client):
        asks = (f"Content-Length: {length}", "Expect: 100-continue")
        await client.send(post(b"", *asks, path=path))
        got = await client.get()
        assert (got.status, got.headers["Connection"]) == (status, "close")
        assert await client.rest() == b""


async def test_nobody_is_told_to_go_on_who_did_or_is_too_old_to_know() -> None:
    async with one(app()) as (_, client):
        await client.send(
            post(b"hello", "Content-Length: 5", "Expect: 100-continue")
            + post(b"", "Content-Length: 0", "Expect: 100-continue")
        )
        assert (await client.get()).body == b"hello"
        assert (await client.get()).body == b""
        old = post(b"", "Content-Length: 5", "Expect: 100-continue")
        await client.send(old.replace(b"HTTP/1.1", b"HTTP/1.0"))
        await client.send(b"hello")
        assert (await client.get()).body == b"hello"


@pytest.mark.parametrize("tls", [False, True], ids=["clear", "tls"])
@pytest.mark.parametrize("kind", ["content-length", "chunked", "chunked and read"])
async def test_a_client_reads_that_its_body_is_too_large_while_it_sends(
    kind: str, tls: bool, certificates: tuple[ssl.SSLContext, ssl.SSLContext]
) -> None:
    served, trusting = certificates
    server = app().serve(HOST, 0, ssl=served if tls else None)
    body = b"x" * 8 * LARGE
    request = sized(body, path="/limited")
    if kind.startswith("chunked"):
        request = chunked(*[body[:LARGE]] * 8, path="/limited")

    def upload() -> tuple[int, bytes]:
        raw: socket.socket = socket.create_connection((HOST, port(server)), timeout=5)
        if tls:
            raw = trusting.wrap_socket(raw, server_hostname=HOST)
        with raw:
            # A plain client: it sends all, and then it reads.
            with suppress(BrokenPipeError, ConnectionResetError, ssl.SSLError):
                raw.sendall(request)
            response = http.client.HTTPResponse(raw)
            response.begin()
            return response.status, response.read()

    async with serving(server):
        status, said = await asyncio.to_thread(upload)
        assert status == 413
        assert b"1000 bytes" in said


@pytest.mark.parametrize("path", ["/nowhere", "/hello", "/ignore"])
async def test_a_client_reads_an_early_response_while_it_sends(path: str) -> None:
    server = app().serve(HOST, 0)

    def upload() -> int:
        with socket.create_connection((HOST, port(server)), timeout=5) as raw:
            with suppress(BrokenPipeError, ConnectionResetError):
                raw.sendall(sized(b"x" * 4 * LARGE, path=path))
            response = http.client.HTTPResponse(raw)
            response.begin()
            return response.status

    async with serving(server):
        status = {"/nowhere": 404, "/hello": 405, "/ignore": 200}[path]
        assert await asyncio.to_thread(upload) == status


async def test_a_body_of_just_the_limit_is_taken() -> None:
    async with one(app()) as (_, client):
        await client.send(sized(b"x" * 1000, path="/limited"))
        assert (await client.get()).status == 200
        await client.send(chunked(b"x" * 600, b"x" * 400, path="/limited"))
        assert (await client.get()).status == 200
        await client.send(chunked(b"x" * 600, b"x" * 401, path="/limited"))
        assert (await client.get()).status == 413


async def test_the_limit_is_five_mebibytes_where_nothing_is_said() -> None:
    async with one(app()) as (_, client):
        await client.send(post(b"", f"Content-Length: {5 * LARGE + 1}"))
        assert (await client.get()).status == 413
    async with one(app()) as (_, client):
        await client.send(sized(b"x" * 5 * LARGE, path="/count"))
        assert (await client.get()).body == str(5 * LARGE).encode()


@pytest.mark.parametrize("kind", ["content-length", "chunked"])
async def test_a_large_upload_waits_for_its_reader(kind: str) -> None:
    router = Router()
    begun, release = asyncio.Event(), asyncio.Event()

    @router.post("/slow", max_content_length=None)
    async def slow(request: Request) -> str:
        begun.set()
        await release.wait()
        return str(sum([len(piece) async for piece in request.stream()]))

    server = router.serve(sock=small_socket(bound=True))
    async with serving(server):
        sock = await small_client(server)
        loop = asyncio.get_running_loop()
        size = 4 * LARGE
        first = post(b"", f"Content-Length: {size}", path="/slow")
        data = b"x" * LARGE
        if kind == "chunked":
            first = post(b"", "Transfer-Encoding: chunked", path="/slow")
            first += b"%x\r\n" % size
        await loop.sock_sendall(sock, first)
        await begun.wait()
        sent = await sent_until_full(sock, data)
        assert sent < LARGE
        release.set()
        await loop.sock_sendall(sock, b"x" * (size - sent))
        if kind == "chunked":
            await loop.sock_sendall(sock, b"\r\n0\r\n\r\n")
        await loop.sock_sendall(sock, CLOSE)
        assert str(size).encode() in await received(sock)


async def test_a_client_pays_no_time_for_a_handler_that_is_slow_to_read() -> None:
    router = Router()

    @router.post("/slow")
    async def slow(request: Request) -> str:
        total = 0
        async for piece in request.stream():
            if not total:
                await asyncio.sleep(0.4)  # longer than the body may take
            total += len(piece)
        return str(total)

    async with one(router, body_timeout=0.15) as (_, client):
        await client.send(sized(b"x" * LARGE, path="/slow"))
        assert (await client.get()).body == str(LARGE).encode()


# Methods and versions


@pytest.mark.parametrize("path", ["/hello", "/stream", "/large"])
async def test_head_tells_what_get_would_and_has_no_body(path: str) -> None:
    async with one(app()) as (_, client):
        await client.send(f"HEAD {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        head = await client.get(body=False)
        await client.send(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        got = await client.get()
        for headers in (head.headers, got.headers):
            del headers["Date"]
        assert head.headers == got.headers
        assert head.status == got.status == 200


async def test_options_tells_the_methods() -> None:
    async with one(app()) as (_, client):
        await client.send(b"OPTIONS /hello HTTP/1.1\r\nHost: x\r\n\r\n")
        got = await client.get()
        assert got.status == 204
        assert got.headers["Allow"] == "GET, HEAD, OPTIONS"
        assert "Content-Length" not in got.headers
        await client.send(b"DELETE /hello HTTP/1.1\r\nHost: x\r\n\r\n")
        got = await client.get()
        assert (got.status, got.headers["Allow"]) == (405, "GET, HEAD, OPTIONS")
        await client.send(b"get /hello HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (await client.get()).status == 405


@pytest.mark.parametrize("path", ["/hello", "/stream"])
async def test_http_1_0_ends_a_response_by_closing(path: str) -> None:
    async with one(app()) as (_, client):
        await client.send(f"GET {path} HTTP/1.0\r\n\r\n".encode())
        got = await client.get()
        assert got.body == (b"hello" if path == "/hello" else b"onetwothree")
        assert "Transfer-Encoding" not in got.headers
        assert await client.rest() == b""


async def test_a_path_of_a_websocket_tells_what_it_wants() -> None:
    async with one(app()) as (_, client):
        await client.send(b"GET /echo HTTP/1.1\r\nHost: x\r\n\r\n")
        got = await client.get()
        # It answers POST, too.
        assert (got.status, got.headers["Allow"]) == (405, "OPTIONS, POST")


# Upgrades


def frames(*messages: bytes) -> bytes:
    """Encode messages as a client does."""
    return b"".join(
        Frame(Opcode.BINARY, message).serialize(mask=True, extensions=[])
        for message in messages
    )


class Upgraded:
    """A client of websockets' own, from the upgrade on."""

    def __init__(self, client: Wire) -> None:
        self._client = client
        self._protocol = ClientProtocol(parse_uri("ws://x/echo"))
        request = self._protocol.connect()
        self._protocol.send_request(request)
        self.request = b"".join(self._protocol.data_to_send())

    async def messages(self, number: int) -> list[bytes]:
        """Read the response to the upgrade, and messages."""
        got: list[bytes] = []
        while len(got) < number:
            data = await self._client.reader.read(2**16)
            assert data, "the connection ended before"
            self._protocol.receive_data(data)
            for event in self._protocol.events_received():
                if isinstance(event, Response):
                    assert self._protocol.handshake_exc is None
                elif isinstance(event, Frame) and event.opcode is Opcode.BINARY:
                    got.append(bytes(event.data))
        return got


@pytest.mark.parametrize("before", [0, 1, 3], ids=["first", "second", "fourth"])
async def test_an_upgrade_may_come_with_its_first_frames(before: int) -> None:
    async with one(app()) as (server, client):
        for _ in range(before):
            await client.send(HELLO)
            assert (await client.get()).body == b"hello"
        upgraded = Upgraded(client)
        await client.send(upgraded.request + frames(b"a", b"b" * 70_000))
        assert await upgraded.messages(2) == [b"a", b"b" * 70_000]
        assert not server.requests


async def test_an_upgrade_may_be_pipelined_behind_requests() -> None:
    async with one(app()) as (_, client):
        upgraded = Upgraded(client)
        body = sized(b"body")
        await client.send(HELLO + body + upgraded.request + frames(b"a"))
        assert (await client.get()).body == b"hello"
        assert (await client.get()).body == b"body"
        assert await upgraded.messages(1) == [b"a"]


@pytest.mark.parametrize("before", [0, 1], ids=["first", "second"])
async def test_an_upgrade_may_come_byte_by_byte(before: int) -> None:
    async with one(app()) as (_, client):
        for _ in range(before):
            await client.send(HELLO)
            await client.get()
        upgraded = Upgraded(client)
        for byte in upgraded.request + frames(b"a"):
            await client.send(bytes([byte]))
            await asyncio.sleep(0)
        assert await upgraded.messages(1) == [b"a"]


@pytest.mark.parametrize("cut", [1, 17, 100, -1])
async def test_a_request_of_a_websocket_is_replayed_byte_for_byte(cut: int) -> None:
    seen: list[bytes] = []
    router = app()
    connection_class = router.connection_class()

    class Spy(connection_class):  # type: ignore[misc, valid-type]
        def data_received(self, data: bytes) -> None:
            seen.append(data)
            super().data_received(data)

    async with one(router, create_connection=Spy) as (_, client):
        data = Upgraded(client).request + frames(b"a")
        await client.send(data[:cut])
        await asyncio.sleep(0.01)
        await client.send(data[cut:])
        await client.reader.readuntil(b"\r\n\r\n")
        await client.reader.readexactly(3)
        assert b"".join(seen) == data


async def test_a_refused_upgrade_is_refused_as_without_requests() -> None:
    bare = Router()
    bare.add_route("/other", handle)
    answers = []
    for router in (bare, app()):
        server = router.serve(HOST, 0)
        async with serving(server):
            refused = UPGRADE.replace(b"/echo", b"/none")
            said = await exchange(port(server), refused)
        answers.append([x for x in said.split(b"\r\n") if not x.startswith(b"Date")])
    assert answers[0] == answers[1]
    assert answers[0][0].startswith(b"HTTP/1.1 404")


async def test_an_upgrade_to_something_else_is_a_request() -> None:
    async with one(app()) as (_, client):
        await client.send(
            b"GET /hello HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, HTTP2-Settings\r\n"
            b"Upgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA\r\n\r\n"
        )
        got = await client.get()
        assert (got.status, got.body) == (200, b"hello")


async def test_http_1_0_has_no_upgrades() -> None:
    # RFC 9110 section 7.8: a server MUST ignore an Upgrade in HTTP/1.0.
    async with one(app()) as (_, client):
        old = UPGRADE.replace(b"HTTP/1.1", b"HTTP/1.0").replace(b"/echo", b"/hello")
        await client.send(old)
        got = await client.get()
        assert (got.status, got.body) == (200, b"hello")


# Clients that go away


async def test_a_client_may_leave_before_the_end_of_the_head(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with one(app()) as (server, client):
        await client.send(HELLO[:10])
        await until(lambda: server.requests)
        client.abort()
        await until(lambda: not server.requests)
    assert not errors(caplog)


#: An end that can be that of half of the connection, or the end of all.
leaving = pytest.mark.parametrize("how", ["abort", "reset"])


@pytest.mark.parametrize("how", ["abort", "half"])
async def test_a_reader_of_a_body_hears_that_its_client_left(
    how: str, caplog: pytest.LogCaptureFixture
) -> None:
    router = Router()
    begun: asyncio.Queue[Request] = asyncio.Queue()
    ended: asyncio.Queue[BaseException] = asyncio.Queue()

    @router.post("/echo")
    async def read(request: Request) -> str:
        await begun.put(request)
        try:
            await request.body()
        except Exception as error:
            await ended.put(error)
            raise
        return "whole"

    async with one(router) as (server, client):
        await client.send(post(b"hello", "Content-Length: 10"))
        request = await begun.get()
        if how == "abort":
            client.abort()
        else:
            client.writer.write_eof()
        error = await ended.get()
        assert type(error).__name__ == "ClientDisconnected"
        assert request.disconnected
        await until(lambda: not server.requests)
    assert not errors(caplog)


@leaving
async def test_a_handler_that_runs_can_know_that_its_client_left(
    how: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    router = app()
    arrived, release = waiting(router)
    async with one(router) as (server, client):
        await client.send(b"GET /wait HTTP/1.1\r\nHost: x\r\n\r\n")
        request = await arrived.get()
        assert not request.disconnected
        getattr(client, how)()
        await request.wait_disconnected()
        assert request.disconnected
        release.set()
        await until(lambda: not server.requests)
    assert not errors(caplog)


async def test_a_handler_is_cancelled_when_its_client_leaves_if_it_asks(
    caplog: pytest.LogCaptureFixture,
) -> None:
    router = Router()
    begun, cancelled = asyncio.Event(), asyncio.Event()

    @router.get("/wait")
    async def wait(request: Request) -> None:
        request.cancel_on_disconnect()
        begun.set()
        try:
            await asyncio.get_running_loop().create_future()
        except asyncio.CancelledError:
            cancelled.set()
            raise

    async with one(router) as (server, client):
        await client.send(b"GET /wait HTTP/1.1\r\nHost: x\r\n\r\n")
        await begun.wait()
        client.abort()
        await cancelled.wait()
        await until(lambda: not server.requests)
    assert not errors(caplog)


async def test_a_handler_that_asks_is_not_cancelled_after_its_response() -> None:
    router = app()
    requests = []

    @router.get("/asks")
    async def asks(request: Request) -> str:
        request.cancel_on_disconnect()
        requests.append(request)
        return "asked"

    async with one(router) as (_, client):
        for _ in range(2):
            await client.send(b"GET /asks HTTP/1.1\r\nHost: x\r\n\r\n")
            assert (await client.get()).body == b"asked"
        await client.send(HELLO)
        assert (await client.get()).body == b"hello"


@leaving
async def test_a_stream_is_closed_if_its_client_left_before_it_began(
    how: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    router = Router()
    arrived: asyncio.Queue[Request] = asyncio.Queue()
    release = asyncio.Event()
    pieces = Pieces(b"one", b"two")

    @router.get("/wait")
    async def wait(request: Request) -> Pieces:
        await arrived.put(request)
        await release.wait()
        return pieces

    async with one(router) as (server, client):
        await client.send(b"GET /wait HTTP/1.1\r\nHost: x\r\n\r\n")
        request = await arrived.get()
        if how == "reset":
            client.reset()
            await until(lambda: not server.requests)
        else:
            client.abort()
        await request.wait_disconnected()
        release.set()
        async with asyncio.timeout(1):
            await pieces.closed.wait()
        await until(lambda: not server.requests)
    assert not errors(caplog)


async def test_a_stream_is_closed_when_its_client_leaves(
    caplog: pytest.LogCaptureFixture,
) -> None:
    router = Router()
    pieces = Pieces(b"x" * 1000, endless=True)
    router.get("/endless")(lambda request: pieces)
    async with one(router) as (server, client):
        await client.send(b"GET /endless HTTP/1.1\r\nHost: x\r\n\r\n")
        await client.head()
        client.abort()
        async with asyncio.timeout(2):
            await pieces.closed.wait()
        await until(lambda: not server.requests)
    assert not errors(caplog)


async def test_a_stream_that_waits_is_closed_when_its_client_leaves(
    caplog: pytest.LogCaptureFixture,
) -> None:
    router = Router()
    pieces = Pieces(b"event", hang=True)
    router.get("/events")(lambda request: pieces)
    server = router.serve(HOST, 0, close_timeout=0.2)
    async with serving(server), wire(server) as client:
        await client.send(b"GET /events HTTP/1.1\r\nHost: x\r\n\r\n")
        await client.head()
        await pieces.waits.wait()
        client.abort()
        async with asyncio.timeout(1):
            await pieces.closed.wait()
    assert not errors(caplog)


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("version", ["1.0", "1.1"])
async def test_a_stream_is_closed_at_its_end(method: str, version: str) -> None:
    router = Router()
    pieces = Pieces(b"one", b"two")
    router.get("/stream")(lambda request: pieces)
    async with one(router) as (_, client):
        await client.send(
            f"{method} /stream HTTP/{version}\r\nHost: x\r\n\r\n".encode()
        )
        got = await client.get(body=method == "GET")
        assert got.body == (b"onetwo" if method == "GET" else b"")
        await pieces.closed.wait()


async def test_half_of_a_stream_that_fails_is_not_taken_for_the_whole(
    caplog: pytest.LogCaptureFixture,
) -> None:
    router = Router()
    closed = asyncio.Event()

    @router.get("/fails")
    async def fails(request: Request) -> AsyncIterator[bytes]:
        try:
            yield b"half"
            raise ValueError("no more")
        finally:
            closed.set()

    async with one(router) as (_, client):
        await client.send(b"GET /fails HTTP/1.1\r\nHost: x\r\n\r\n")
        with pytest.raises((asyncio.IncompleteReadError, ConnectionResetError)):
            await client.get()
        await closed.wait()
    assert "ValueError" in "".join(errors(caplog))


@pytest.mark.parametrize("pieces", [[b"12345678"], [b"1234", b"5678"], [b"1"]])
async def test_a_stream_that_lies_about_its_length_makes_no_other_response(
    pieces: list[bytes],
) -> None:
    router = app()
    length = {"Content-Length": "5"}
    router.get("/lies")(lambda request: Answer(Pieces(*pieces), headers=length))
    async with one(router) as (_, client):
        await client.send(b"GET /lies HTTP/1.1\r\nHost: x\r\n\r\n" + CLOSE)
        data = b""
        with suppress(ConnectionResetError):
            while piece := await client.reader.read(2**16):
                data += piece
        body = data.partition(b"\r\n\r\n")[2]
        # The client takes five bytes for the body, whatever they are.
        assert b"HTTP" not in body[:5]
        assert body[5:] == b"" or body[5:].startswith(b"HTTP/1.1 ")


# Slow readers


@pytest.mark.parametrize("tls", [False, True], ids=["clear", "tls"])
async def test_a_client_that_reads_nothing_is_left_after_a_time(
    tls: bool, certificates: tuple[ssl.SSLContext, ssl.SSLContext]
) -> None:
    router = Router()
    pieces = Pieces(b"x" * 10_000, endless=True)
    router.get("/endless")(lambda request: pieces)
    served, trusting = certificates
    server = router.serve(
        sock=small_socket(bound=True), stall_timeout=0.2, ssl=served if tls else None
    )
    async with serving(server):
        sock = await small_client(server)
        kwargs: dict[str, Any] = {"sock": sock, "limit": 1000}
        if tls:
            kwargs |= {"ssl": trusting, "server_hostname": HOST}
        async with wire(server, **kwargs) as client:
            client.writer.transport.pause_reading()  # type: ignore[attr-defined]
            await client.send(b"GET /endless HTTP/1.1\r\nHost: x\r\n\r\n")
            async with asyncio.timeout(3):
                await pieces.closed.wait()
                await until(lambda: not server.requests)
            assert pieces.given * 10_000 < 2 * LARGE
            client.abort()


async def test_a_client_that_reads_little_by_little_is_served() -> None:
    router = Router()
    router.get("/large")(lambda request: b"x" * 200_000)
    server = router.serve(sock=small_socket(bound=True), stall_timeout=0.3)
    async with serving(server):
        sock = await small_client(server)
        loop = asyncio.get_running_loop()
        request = CLOSE.replace(b"/hello", b"/large")
        await loop.sock_sendall(sock, request)
        size, began = 0, loop.time()
        while piece := await loop.sock_recv(sock, 10_000):
            size += len(piece)
            await asyncio.sleep(0.02)  # far slower than it could, but not stalled
        sock.close()
        assert size > 200_000
        assert loop.time() - began > 0.3


@pytest.mark.parametrize("size", [60_000, LARGE])
async def test_nobody_stays_who_takes_no_response(size: int) -> None:
    router = Router()
    router.get("/hello")(lambda request: b"x" * size)
    server = router.serve(
        sock=small_socket(bound=True), stall_timeout=0.2, idle_timeout=0.2
    )
    async with serving(server):
        sock = await small_client(server)
        await asyncio.get_running_loop().sock_sendall(sock, HELLO)
        await until(lambda: server.requests)
        try:
            async with asyncio.timeout(1.5):
                while server.requests:  # noqa: ASYNC110
                    await asyncio.sleep(0.02)
        finally:
            sock.close()


async def test_a_connection_that_ended_leaves_nothing_behind() -> None:
    from websockets_routes.http.connection import HTTPConnection

    def alive() -> int:
        gc.collect()
        return sum(isinstance(each, HTTPConnection) for each in gc.get_objects())

    before = alive()
    server = app().serve(HOST, 0)
    async with serving(server):
        for request in (HELLO, chunked(b"x"), UPGRADE, b"\0", sized(b"")[:-3]):
            async with wire(server) as client:
                await client.send(request)
                await until(lambda: server.requests or server.handler_tasks)
                client.abort()
            await until(lambda: not (server.requests or server.handler_tasks))
        await asyncio.sleep(0.01)
        assert alive() == before


# Time


async def test_idle_connections_are_closed_without_a_word() -> None:
    async with one(app(), idle_timeout=0.1) as (_, client):
        await client.send(HELLO)
        await client.get()
        assert await client.rest() == b""


async def test_the_head_of_a_later_request_meets_its_own_time() -> None:
    router = app()
    async with one(router, header_timeout=0.1, idle_timeout=60) as (_, client):
        await client.send(HELLO)
        await client.get()
        await client.send(HELLO[:20])
        async with asyncio.timeout(1):
            assert (await client.get()).status == 408


async def test_a_later_request_may_take_as_long_as_the_first() -> None:
    router = app()
    async with one(router, header_timeout=5, idle_timeout=0.3) as (_, client):
        await client.send(HELLO)
        await client.get()
        await client.send(HELLO[:20])
        await asyncio.sleep(0.4)  # longer than it may be idle
        await client.send(HELLO[20:])
        assert (await client.get()).status == 200


# The end of the server


async def test_a_server_that_closes_waits_for_the_response() -> None:
    router = app()
    arrived, release = waiting(router)
    server = router.serve(HOST, 0)
    async with serving(server), wire(server) as busy, wire(server) as idle:
        await idle.send(HELLO)
        await idle.get()
        await busy.send(b"GET /wait HTTP/1.1\r\nHost: x\r\n\r\n" + HELLO)
        await arrived.get()
        server.close()
        assert await idle.rest() == b""
        release.set()
        got = await busy.get()
        assert (got.body, got.headers["Connection"]) == (b"waited", "close")
        assert await busy.rest() == b""


async def test_connections_that_said_nothing_yet_are_closed_at_once() -> None:
    server = app().serve(HOST, 0)
    async with serving(server), wire(server) as silent, wire(server) as slow:
        await slow.send(HELLO[:9])
        await until(lambda: len(server.requests) == 2)
        server.close()
        assert await silent.rest() == b""
        with suppress(ConnectionResetError):  # where a byte was not read yet
            assert await slow.rest() == b""


@pytest.mark.parametrize("size", [50_000, 300_000])
async def test_a_response_in_flight_arrives_whole_though_the_server_closes(
    size: int,
) -> None:
    router = Router()
    arrived, release = asyncio.Event(), asyncio.Event()

    @router.get("/large")
    async def large(request: Request) -> bytes:
        arrived.set()
        await release.wait()
        return b"x" * size

    server = router.serve(sock=small_socket(bound=True))
    async with serving(server):
        sock = await small_client(server)
        request = HELLO.replace(b"/hello", b"/large")
        await asyncio.get_running_loop().sock_sendall(sock, request)
        await arrived.wait()
        server.close()
        release.set()
        await asyncio.sleep(0.05)
        body = (await received(sock)).partition(b"\r\n\r\n")[2]
        assert len(body) == size


async def test_a_stream_in_flight_ends_though_the_server_closes() -> None:
    router = Router()
    release = asyncio.Event()

    @router.get("/stream")
    async def stream(request: Request) -> AsyncIterator[bytes]:
        yield b"one"
        await release.wait()
        yield b"two"

    async with one(router) as (server, client):
        await client.send(b"GET /stream HTTP/1.1\r\nHost: x\r\n\r\n")
        await client.head()
        server.close()
        await asyncio.sleep(0)
        release.set()
        assert await client._chunks() == b"onetwo"
        assert await client.rest() == b""


async def test_a_response_that_does_not_end_does_not_hold_up_the_server() -> None:
    router = Router()
    pieces = Pieces(b"event", hang=True)
    router.get("/events")(lambda request: pieces)
    server = router.serve(HOST, 0, close_timeout=0.1)
    async with serving(server), wire(server) as client:
        await client.send(b"GET /events HTTP/1.1\r\nHost: x\r\n\r\n")
        await pieces.waits.wait()
        server.close()
        await server.wait_closed()
        assert pieces.closed.is_set()


async def test_handlers_end_before_the_lifespan_does() -> None:
    events: list[str] = []

    @asynccontextmanager
    async def lifespan() -> AsyncIterator[None]:
        yield
        events.append("lifespan")

    router = Router(lifespan=lifespan)
    begun = asyncio.Event()

    @router.get("/wait")
    async def wait(request: Request) -> None:
        begun.set()
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            await asyncio.sleep(0.05)
            events.append("handler")

    async with one(router, close_timeout=0.1) as (server, client):
        await client.send(b"GET /wait HTTP/1.1\r\nHost: x\r\n\r\n")
        await begun.wait()
        server.close()
        await server.wait_closed()
        assert events == ["handler", "lifespan"]


# Limits


async def test_connections_of_both_kinds_count_together() -> None:
    server = app().serve(HOST, 0, max_connections=2)
    async with serving(server) as uri:
        async with connecting(uri + "/echo"), wire(server) as first:
            await first.send(HELLO)
            assert (await first.get()).status == 200
            async with wire(server) as second:
                await second.send(HELLO)
                got = await second.get()
                assert (got.status, got.headers["Connection"]) == (503, "close")
            refused = await exchange(port(server), UPGRADE)
            assert status_line(refused).startswith("HTTP/1.1 503")
        await until(lambda: not (server.requests or server.handler_tasks))
        assert b" 200 " in await exchange(port(server), CLOSE)


async def test_connections_of_an_address_count_together() -> None:
    server = app().serve(HOST, 0, max_connections_per_address=1)
    async with serving(server):
        async with wire(server) as first:
            await first.send(HELLO)
            assert (await first.get()).status == 200
            await first.send(HELLO)
            assert (await first.get()).status == 200
            async with wire(server) as second:
                await second.send(HELLO)
                assert (await second.get()).status == 503
            assert b" 503 " in await exchange(port(server), UPGRADE)
            # It does not count twice when it is upgraded.
            upgraded = Upgraded(first)
            await first.send(upgraded.request + frames(b"a"))
            assert await upgraded.messages(1) == [b"a"]
            async with wire(server) as third:
                await third.send(HELLO)
                assert (await third.get()).status == 503
            first.abort()
        await until(lambda: not (server.requests or server.handler_tasks))
        assert b" 200 " in await exchange(port(server), CLOSE)


# TLS and Unix sockets


@pytest.fixture(scope="module")
def certificates() -> tuple[ssl.SSLContext, ssl.SSLContext]:
    authority = trustme.CA()
    served = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trusting = ssl.create_default_context()
    authority.issue_cert(HOST, "localhost").configure_cert(served)
    authority.configure_trust(trusting)
    return served, trusting


async def test_everything_works_over_tls(
    certificates: tuple[ssl.SSLContext, ssl.SSLContext],
) -> None:
    served, trusting = certificates
    server = app().serve(HOST, 0, ssl=served)
    async with (
        serving(server),
        wire(server, ssl=trusting, server_hostname=HOST) as client,
    ):
        await client.send(HELLO.replace(b"/hello", b"/url"))
        got = json.loads((await client.get()).body)
        assert got["url"] == "https://x/url"
        assert got["client"] == HOST
        await client.send(chunked(b"x" * 100_000, b"y") + sized(b"z" * LARGE))
        assert len((await client.get()).body) == 100_001
        assert len((await client.get()).body) == LARGE
        upgraded = Upgraded(client)
        await client.send(upgraded.request + frames(b"a"))
        assert await upgraded.messages(1) == [b"a"]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no Unix sockets")
async def test_everything_works_over_a_unix_socket(tmp_path: Path) -> None:
    path = str(tmp_path / "socket")
    server = app().unix_serve(path, max_connections_per_address=1)
    async with server:
        for _ in range(2):
            reader, writer = await asyncio.open_unix_connection(path)
            client = Wire(reader, writer)
            await client.send(HELLO.replace(b"/hello", b"/url"))
            got = json.loads((await client.get()).body)
            assert (got["client"], got["url"]) == (None, "http://x/url")
            upgraded = Upgraded(client)
            await client.send(upgraded.request + frames(b"a"))
            assert await upgraded.messages(1) == [b"a"]
            writer.close()
            await writer.wait_closed()


# Clients that others wrote


async def test_aiohttp_understands_everything() -> None:
    server = app().serve(HOST, 0)
    async with serving(server):
        base = f"http://{HOST}:{port(server)}"
        connector = aiohttp.TCPConnector(limit=1)
        async with aiohttp.ClientSession(base, connector=connector) as session:

            async def body() -> AsyncIterator[bytes]:
                for _ in range(20):
                    yield b"x" * 10_000

            for _ in range(2):
                async with session.get("/stream") as response:
                    assert await response.text() == "onetwothree"
                async with session.post("/count", data=body()) as response:
                    assert await response.text() == "200000"
                async with session.post("/echo", data=b"x", expect100=True) as response:
                    assert await response.read() == b"x"
                async with session.head("/hello") as response:
                    assert response.headers["Content-Length"] == "5"
                async with session.ws_connect("/echo") as ws:
                    await ws.send_str("message")
                    assert await ws.receive_str() == "message"


async def test_http_client_understands_everything() -> None:
    server = app().serve(HOST, 0)

    def talk() -> list[Any]:
        connection = http.client.HTTPConnection(HOST, port(server), timeout=5)
        seen: list[Any] = []
        for method, path, body in (
            ("GET", "/hello", None),
            ("HEAD", "/hello", None),
            ("OPTIONS", "/hello", None),
            ("POST", "/echo", b"body"),
            ("POST", "/echo", iter([b"a", b"b"])),
            ("GET", "/stream", None),
            ("GET", "/large", None),
            ("GET", "/nowhere", None),
        ):
            connection.request(method, path, body, encode_chunked=False)
            response = connection.getresponse()
            seen.append((response.status, len(response.read())))
        connection.close()
        return seen

    async with serving(server):
        seen = await asyncio.to_thread(talk)
    assert seen[:7] == [
        (200, 5),
        (200, 0),
        (204, 0),
        (200, 4),
        (200, 2),
        (200, 11),
        (200, LARGE),
    ]
    assert seen[7][0] == 404


@pytest.mark.parametrize(
    ("arguments", "output"),
    [
        pytest.param(["/hello", "/hello"], "hellohello", id="keep-alive"),
        pytest.param(["-d", "body", "/echo"], "body", id="post"),
        pytest.param(["-0", "/stream"], "onetwothree", id="http-1.0"),
        pytest.param(["--http2", "/hello"], "hello", id="offers-http2"),
        pytest.param(
            ["-H", "Transfer-Encoding: chunked", "-d", "body", "/echo"],
            "body",
            id="chunked",
        ),
        pytest.param(
            ["-H", "Expect: 100-continue", "-d", "body", "/echo"], "body", id="expect"
        ),
        pytest.param(
            ["-o", "/dev/null", "-w", "%{http_code}", "-d", "x" * 1001, "/limited"],
            "413",
            id="too-large",
        ),
        pytest.param(
            ["-o", "/dev/null", "-w", "%{http_code}", "-T", "/dev/zero", "/limited"],
            "405",
            id="endless",
        ),
        pytest.param(
            ["-XPOST", "-o/dev/null", "-w%{http_code}", "-T/dev/zero", "/limited"],
            "413",
            id="endless-post",
        ),
    ],
)
async def test_curl_understands_everything(arguments: list[str], output: str) -> None:
    curl = shutil.which("curl")
    assert curl is not None, "these tests need curl"
    server = app().serve(HOST, 0)
    async with serving(server):
        base = f"http://{HOST}:{port(server)}"
        made = [
            f"{base}{each}" if each.startswith("/") and "dev" not in each else each
            for each in arguments
        ]
        ran = await asyncio.to_thread(
            subprocess.run,
            [curl, "-sS", "-g", "--noproxy", "*", "--max-time", "5", *made],
            capture_output=True,
            text=True,
            check=False,
        )
        assert ran.stdout == output, ran.stderr


# Routers without requests


def test_a_router_without_requests_imports_nothing_of_http() -> None:
    code = """
import asyncio, sys
from websockets.asyncio.client import connect
from websockets_routes import Router
router = Router()
@router.route("/echo")
async def echo(ws):
    await ws.send(type(ws).connection_made.__qualname__)
async def main():
    async with router.serve("127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        async with connect(f"ws://127.0.0.1:{port}/echo", proxy=None) as ws:
            await ws.recv()
asyncio.run(main())
print([x for x in sys.modules if x == "h11" or x.startswith("websockets_routes.http")])
"""
    ran = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert ran.stdout.strip() == "[]"


@pytest.mark.parametrize(
    "request_bytes",
    [
        pytest.param(HELLO, id="get"),
        pytest.param(sized(b"x"), id="body"),
        pytest.param(b"garbage\r\n\r\n", id="garbage"),
    ],
)
async def test_a_router_without_requests_refuses_them(request_bytes: bytes) -> None:
    router = Router()
    router.add_route("/hello", handle)
    server = router.serve(HOST, 0)
    async with serving(server):
        said = status_line(await exchange(port(server), request_bytes))
        assert said.split(" ")[1] in ("400", "413", "426", "404")


async def test_a_route_for_requests_may_be_added_while_the_router_serves() -> None:
    router = Router()
    router.add_route("/echo", handle)
    server = router.serve(HOST, 0)
    async with serving(server):
        assert b" 426 " in (
            await exchange(port(server), HELLO.replace(b"hello", b"echo"))
        )
        router.get("/hello")(lambda request: "hello")
        assert (await exchange(port(server), CLOSE)).endswith(b"hello")
