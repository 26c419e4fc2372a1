"""Bad input, byte by byte: every request has its answer, and leaves no trace.

The answer is never a traceback, a hang or a wrong match. Where the connection opens
before it is routed, the answer is a close code.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
import struct
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import pytest
import trustme
from websockets.asyncio.server import Server, ServerConnection

from websockets_routes import Protocol, RoutedPath, Router

from .servers import HOST, exchange, port, serve_plain, serving, status_line

# Of websockets, documented under "Limits" (WEBSOCKETS_MAX_LINE_LENGTH and others).
MAX_LINE = 8192
MAX_HEADERS = 128

UPGRADE = (
    "Upgrade: websocket",
    "Connection: Upgrade",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    "Sec-WebSocket-Version: 13",
)

#: What a server writes that says nothing, not even that it refuses.
SILENCE = 0


@dataclass(frozen=True)
class Case:
    """A request and its answers.

    Attributes:
        request: The bytes.
        status: The HTTP status that ``router.serve`` answers.
        params: What the handler gets, where the status is 101.
        opened: The close code, or the status where websockets itself refuses, of a
            server that routes once the connection is open.
    """

    request: bytes
    status: int
    params: dict[str, str] | None
    opened: int


def case(
    request: bytes,
    status: int,
    params: dict[str, str] | None = None,
    opened: int | None = None,
) -> Case:
    if opened is None:
        opened = {101: 1000, 400: 1008, 404: 4040}[status]
    return Case(request, status, params, opened)


def http(first: str | bytes, *headers: str, host: str | None = "localhost") -> bytes:
    """Make a request, complete but for what its first line and headers break."""
    if isinstance(first, str):
        first = first.encode("ascii")
    fields = [*([] if host is None else [f"Host: {host}"]), *UPGRADE, *headers]
    lines = "\r\n".join([*fields, "", ""])
    return first + b"\r\n" + lines.encode("iso-8859-1")


def get(target: str | bytes, *headers: str, host: str | None = "localhost") -> bytes:
    if isinstance(target, str):
        target = target.encode("ascii")
    return http(b"GET " + target + b" HTTP/1.1", *headers, host=host)


def client_hello() -> bytes:
    """Record how a TLS client begins, without the bytes that end a line."""
    outgoing = ssl.MemoryBIO()
    tls = ssl.create_default_context().wrap_bio(ssl.MemoryBIO(), outgoing, False, HOST)
    with pytest.raises(ssl.SSLWantReadError):
        tls.do_handshake()
    return outgoing.read().replace(b"\n", b"\0").replace(b"\r", b"\0")


def long_target(length: int) -> str:
    """Make a target that gives a request line of so many bytes."""
    return "/thing/".ljust(length - len("GET  HTTP/1.1\r\n"), "x")


def long_header(length: int) -> str:
    return "X-Long: ".ljust(length - len("\r\n"), "x")


THING = {"id": "1"}

TARGETS: dict[str, tuple[str, int, dict[str, str] | None]] = {
    # What stands before the path
    "another host": ("//x/echo", 404, None),
    "two slashes": ("//echo", 404, None),
    "three slashes": ("///echo", 404, None),
    "absolute http": ("http://localhost/thing/1?x", 101, THING),
    "absolute https": ("https://localhost:443/thing/1", 101, THING),
    "absolute ws": ("ws://localhost/thing/1", 101, THING),
    "absolute upper": ("HTTP://LOCALHOST/thing/1", 101, THING),
    "absolute root": ("http://localhost", 404, None),
    "absolute query": ("http://localhost?/echo", 404, None),
    "absolute unmatched": ("http://localhost/nowhere", 404, None),
    "absolute no host": ("http:///echo", 400, None),
    "absolute ftp": ("ftp://localhost/echo", 400, None),
    "absolute dots": ("http://localhost/../echo", 400, None),
    "authority": ("localhost:80", 400, None),
    "relative": ("echo", 400, None),
    "asterisk": ("*", 400, None),
    "empty": ("", 400, None),
    "query only": ("?x", 400, None),
    "backslash": ("\\echo", 400, None),
    "encoded slash first": ("%2Fecho", 400, None),
    # Control characters
    "%00": ("/thing/%00", 400, None),
    "%0A": ("/thing/1%0A", 400, None),
    "%0A after echo": ("/echo%0A", 400, None),
    "%0D%0A": ("/thing/1%0D%0AX-A:%201", 400, None),
    "%7F": ("/thing/%7f", 400, None),
    "C1": ("/thing/%c2%85", 400, None),
    "raw NUL": ("/thing/\0", 400, None),
    "raw tab": ("/thing/a\tb", 400, None),
    "raw CR": ("/thing/a\rb", 400, None),
    "raw DEL": ("/thing/\x7f", 400, None),
    "raw NUL in the query": ("/thing/1?\0", 400, None),
    # Percent signs
    "%2F": ("/thing/%2F", 101, {"id": "/"}),
    "%2f inside": ("/thing/a%2fb", 101, {"id": "a/b"}),
    "%2F for a slash": ("/thing%2F1", 404, None),
    "%25": ("/thing/%25", 101, {"id": "%"}),
    "%2525": ("/thing/%2525", 101, {"id": "%25"}),
    "%252F": ("/thing/%252F", 101, {"id": "%2F"}),
    "%25ff": ("/thing/%25ff", 101, {"id": "%ff"}),
    "%3F": ("/thing/1%3Fx", 101, {"id": "1?x"}),
    "%ZZ": ("/thing/%ZZ", 400, None),
    "%": ("/thing/%", 400, None),
    "%2": ("/thing/%2", 400, None),
    "%u": ("/thing/%u0041", 400, None),
    "% in the query": ("/thing/1?%ZZ&%00&%ff&%", 101, THING),
    "encoded letters": ("/%74hing/%31", 101, THING),
    "plus": ("/thing/a+b", 101, {"id": "a+b"}),
    "semicolon": ("/thing/a;b=c", 101, {"id": "a;b=c"}),
    # UTF-8
    "€": ("/thing/%e2%82%ac", 101, {"id": "€"}),
    "%ff": ("/thing/%ff", 400, None),
    "overlong": ("/thing/%c0%af", 400, None),
    "surrogate": ("/thing/%ed%a0%80", 400, None),
    "too high": ("/thing/%f5%80%80%80", 400, None),
    "cut short": ("/thing/%e2%82", 400, None),
    "split by a slash": ("/thing/%e2%82/%ac", 400, None),
    # Dot segments
    "..": ("/thing/..", 400, None),
    ".": ("/thing/.", 400, None),
    ".. first": ("/../echo", 400, None),
    ". first": ("/./echo", 400, None),
    ".. inside": ("/files/a/../../echo", 400, None),
    "%2e%2e": ("/thing/%2e%2e", 400, None),
    "%2E": ("/thing/%2E", 400, None),
    ".%2e": ("/thing/.%2e", 400, None),
    "...": ("/thing/...", 101, {"id": "..."}),
    "hidden": ("/thing/.a", 101, {"id": ".a"}),
    "dots in the query": ("/thing/1?/../", 101, THING),
    # Empty segments
    "empty inside": ("/thing//1", 404, None),
    "empty last": ("/thing/", 404, None),
    "empty twice": ("/thing/1//", 404, None),
    "slash after": ("/echo/", 404, None),
    # Queries and fragments
    "no value": ("/thing/1?x", 101, THING),
    "no name": ("/thing/1?=", 101, THING),
    "empty query": ("/thing/1?", 101, THING),
    "two marks": ("/thing/1??x?", 101, THING),
    "query for a segment": ("/thing?1", 404, None),
    "fragment": ("/echo#x", 400, None),
    "fragment in the query": ("/echo?x#y", 400, None),
    "fragment first": ("#/echo", 400, None),
    "%23": ("/thing/%23", 101, {"id": "#"}),
    "%23 after echo": ("/echo%23x", 404, None),
}

MESSAGES: dict[str, Case] = {
    # Host
    "no host": case(get("/echo", host=None), 400),
    "two hosts": case(get("/echo", "Host: elsewhere"), 400),
    "the same host twice": case(get("/echo", "hOST: localhost"), 400),
    "empty host": case(get("/thing/1", host=""), 101, THING),
    "no host, unmatched": case(get("/nowhere", host=None), 400),
    # Request lines
    "a line that just fits": case(
        get(long_target(MAX_LINE)), 101, {"id": long_target(MAX_LINE)[7:]}
    ),
    "a line too long": case(get(long_target(MAX_LINE + 1)), 414, opened=414),
    "an endless line": case(b"GET /" + b"x" * 100_000, 414, opened=414),
    "8 KiB of percent": case(
        get("/thing/" + "%41" * 2700), 101, {"id": "A" * 2700}
    ),
    "8 KiB of slashes": case(get("/" * 8000), 404),
    "8 KiB of wildcard": case(
        get("/files/" + "a/" * 4000 + "a"), 101, {"rest": "a/" * 4000 + "a"}
    ),
    "UTF-8": case(get("/thing/é".encode()), 400, opened=SILENCE),
    "ISO-8859-1": case(get("/thing/é".encode("iso-8859-1")), 400, opened=SILENCE),
    "a space": case(get("/thing/a b"), 400, opened=SILENCE),
    "no target": case(http("GET HTTP/1.1"), 400, opened=SILENCE),
    "HTTP/0.9": case(b"GET /echo\r\n", 400, opened=SILENCE),
    "HTTP/1.2": case(http("GET /echo HTTP/1.2"), 400, opened=SILENCE),
    "HTTP/2": case(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400, opened=SILENCE),
    "HTTP/3 of a body": case(http("GET /body HTTP/3"), 400, opened=SILENCE),
    "garbage": case(b"\x00\xff\x80garbage\r\n\r\n", 400, opened=SILENCE),
    "an empty line": case(b"\r\n" + get("/echo"), 400, opened=SILENCE),
    "garbage with LF alone": case(b"garbage\n\n", 400, opened=SILENCE),
    "LF alone": case(get("/echo").replace(b"\r\n", b"\n"), 400, opened=SILENCE),
    "LF alone in a header": case(
        get("/echo").replace(b"13\r\n", b"13\n"), 400, opened=SILENCE
    ),
    "TLS": case(client_hello() + b"\r\n", 400, opened=SILENCE),
    "TLS with LF": case(client_hello() + b"\n", 400, opened=SILENCE),
    "long TLS": case((client_hello() * 100)[:20_000], 414, opened=414),
    # HTTP/1.0
    "HTTP/1.0": case(http("GET /echo HTTP/1.0"), 505, opened=505),
    "HTTP/1.0, no host": case(http("GET /echo HTTP/1.0", host=None), 505, opened=505),
    "HTTP/1.0, unmatched": case(http("GET /nowhere HTTP/1.0"), 404, opened=505),
    "HTTP/1.0, two hosts": case(
        http("GET /echo HTTP/1.0", "Host: x"), 400, opened=505
    ),
    # Headers
    "a header that just fits": case(
        get("/thing/1", long_header(MAX_LINE)), 101, THING
    ),
    "a header too long": case(
        get("/echo", long_header(MAX_LINE + 1)), 431, opened=431
    ),
    "an endless header": case(
        get("/echo")[:-2] + b"X: " + b"x" * 100_000, 431, opened=431
    ),
    "as many headers as fit": case(
        get("/thing/1", *["X: 1"] * (MAX_HEADERS - 5)), 101, THING
    ),
    "a header too many": case(
        get("/echo", *["X: 1"] * (MAX_HEADERS - 4)), 431, opened=431
    ),
    "endless headers": case(
        get("/echo", *["X: 1"] * 10_000), 431, opened=431
    ),
    "no colon": case(get("/echo", "garbage"), 400, opened=SILENCE),
    "no header name": case(get("/echo", ": 1"), 400, opened=SILENCE),
    "a space in a name": case(get("/echo", "X Y: 1"), 400, opened=SILENCE),
    "a body in a name": case(get("/echo", "A body: 1"), 400, opened=SILENCE),
    "a folded header": case(get("/echo", "X: 1", " 2"), 400, opened=SILENCE),
    "NUL in a header": case(get("/echo", "X: a\0b"), 400, opened=SILENCE),
    "ISO-8859-1 in a header": case(get("/thing/1", "X: é"), 101, THING),
    "no upgrade": case(
        b"GET /echo HTTP/1.1\r\nHost: localhost\r\n\r\n", 426, opened=426
    ),
    "no upgrade, unmatched": case(
        b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", 404, opened=426
    ),
    "two keys": case(get("/echo", UPGRADE[2]), 400, opened=400),
    "another version": case(get("/echo", "Sec-WebSocket-Version: 8"), 400, opened=400),
    # Bodies
    "an empty body": case(get("/thing/1", "Content-Length: 0"), 101, THING),
    "a body": case(get("/echo", "Content-Length: 5") + b"hello", 413, opened=SILENCE),
    "a body to come": case(get("/echo", "Content-Length: 5"), 413, opened=SILENCE),
    "a body, unmatched": case(
        get("/nowhere", "Content-Length: 5") + b"hello", 413, opened=SILENCE
    ),
    "a body without end": case(
        get("/echo", "Content-Length: 9999999") + b"x" * 1_000_000,
        413,
        opened=SILENCE,
    ),
    "chunks": case(
        get("/echo", "Transfer-Encoding: chunked") + b"5\r\nhello\r\n0\r\n\r\n",
        413,
        opened=SILENCE,
    ),
    "a posted body": case(
        http("POST /echo HTTP/1.1", "Content-Length: 5") + b"hello",
        413,
        opened=SILENCE,
    ),
    # Methods
    **{
        method: case(http(f"{method} /echo HTTP/1.1"), 405, opened=405)
        for method in ("HEAD", "POST", "PUT", "DELETE", "OPTIONS", "TRACE", "get", "{}")
    },
    "POST, unmatched": case(http("POST /nowhere HTTP/1.1"), 404, opened=405),
    "POST, malformed": case(http("POST /thing/%00 HTTP/1.1"), 400, opened=405),
    "OPTIONS *": case(http("OPTIONS * HTTP/1.1"), 400, opened=405),
    "CONNECT": case(http("CONNECT localhost:80 HTTP/1.1"), 400, opened=405),
}  # fmt: skip

CASES = {
    **{
        f"target: {name}": case(get(target), status, params)
        for name, (target, status, params) in TARGETS.items()
    },
    **MESSAGES,
}

each_case = pytest.mark.parametrize("given", CASES.values(), ids=CASES.keys())


class Recorder:
    """A router that writes down what its handlers were called with."""

    def __init__(self) -> None:
        self.router = Router()
        self.calls: list[dict[str, str]] = []
        for template in ("/echo", "/thing/{id}", "/files/*rest"):
            self.router.add_route(template, self.handle)

    async def handle(self, ws: ServerConnection, path: RoutedPath) -> None:
        self.calls.append(path.params)


async def meet(server: Server, request: bytes) -> tuple[int, bytes]:
    """Send a request; return the status, or the close code, and the response.

    It ends when the server has ended: where it opened a connection, once the client
    has half-closed it, else of its own accord.
    """
    reader, writer = await asyncio.open_connection(HOST, port(server))
    try:
        writer.write(request)
        response = await reader.readuntil(b"\r\n\r\n")
        if response.startswith(b"HTTP/1.1 101 "):
            opcode, length = await reader.readexactly(2)
            assert opcode == 0x88, "the first frame closes the connection"
            (ended,) = struct.unpack("!H", (await reader.readexactly(length))[:2])
            writer.write_eof()
            assert await reader.read() == b""
        else:
            ended = int(response.split(b" ", 2)[1])
            response += await reader.read()
    except asyncio.IncompleteReadError as error:
        return SILENCE, error.partial
    finally:
        writer.close()
        await writer.wait_closed()
    return ended, response


def complaints(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    return [record for record in caplog.records if record.levelno >= logging.WARNING]


@each_case
async def test_serve_answers_before_the_connection_opens(
    given: Case, caplog: pytest.LogCaptureFixture
) -> None:
    recorder = Recorder()
    server = recorder.router.serve(HOST, 0)
    async with serving(server):
        ended, response = await meet(server, given.request)
    assert ended == (1000 if given.status == 101 else given.status)
    assert status_line(response).startswith(f"HTTP/1.1 {given.status} ")
    assert recorder.calls == ([] if given.params is None else [given.params])
    assert complaints(caplog) == []


@each_case
async def test_process_request_answers_whatever_websockets_can_read(
    given: Case, caplog: pytest.LogCaptureFixture
) -> None:
    recorder = Recorder()
    router = recorder.router
    server = serve_plain(router.handle, process_request=router.process_request)
    async with serving(server):
        ended, response = await meet(server, given.request)
    if given.opened == SILENCE:
        assert (ended, response) == (SILENCE, b"")
    else:
        assert ended == (1000 if given.status == 101 else given.status)
    assert recorder.calls == ([] if given.params is None else [given.params])
    assert complaints(caplog) == []


@each_case
async def test_handle_answers_with_a_close_code_where_the_connection_opens(
    given: Case, caplog: pytest.LogCaptureFixture
) -> None:
    recorder = Recorder()
    server = serve_plain(recorder.router.handle)
    async with serving(server):
        ended, _ = await meet(server, given.request)
    assert ended == given.opened
    assert recorder.calls == ([] if given.params is None else [given.params])
    assert complaints(caplog) == []


@pytest.mark.parametrize("name", [name for name in CASES if CASES[name].status >= 400])
async def test_a_refusal_is_a_whole_http_response(name: str) -> None:
    server = Recorder().router.serve(HOST, 0)
    async with serving(server):
        _, response = await meet(server, CASES[name].request)
    head, _, body = response.partition(b"\r\n\r\n")
    fields = head.decode("ascii").lower().split("\r\n")[1:]
    assert "connection: close" in fields
    if CASES[name].request.startswith(b"HEAD "):
        # RFC 9110 section 9.3.2: the length that the body of a GET would have.
        assert body == b""
        assert "content-length: 0" not in fields
    else:
        assert f"content-length: {len(body)}" in fields
    assert "content-type: text/plain; charset=utf-8" in fields
    if CASES[name].status == 405:
        assert "allow: get" in fields


@pytest.mark.parametrize("name", ["a body", "garbage", "a line too long", "no host"])
async def test_a_request_that_comes_byte_by_byte_has_the_same_answer(name: str) -> None:
    recorder = Recorder()
    server = recorder.router.serve(HOST, 0)
    async with serving(server):
        reader, writer = await asyncio.open_connection(HOST, port(server))
        for byte in CASES[name].request:
            writer.write(bytes([byte]))
            await asyncio.sleep(0)
        response = await reader.read()
        writer.close()
        await writer.wait_closed()
    assert status_line(response).startswith(f"HTTP/1.1 {CASES[name].status} ")


@pytest.mark.parametrize(
    ("name", "status"), [("a body", 413), ("garbage", 400), ("no host", 400)]
)
async def test_the_answer_ends_the_connection_over_tls_too(
    name: str, status: int
) -> None:
    """A TLS connection cannot be closed by half."""
    authority = trustme.CA()
    served, trusting = (
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER),
        ssl.create_default_context(),
    )
    authority.issue_cert(HOST).configure_cert(served)
    authority.configure_trust(trusting)
    server = Recorder().router.serve(HOST, 0, ssl=served)
    async with serving(server):
        response = await exchange(port(server), CASES[name].request, trusting)
    assert status_line(response).startswith(f"HTTP/1.1 {status} ")


async def test_a_connection_bound_to_no_router_answers_what_cannot_be_read() -> None:
    recorder = Recorder()
    server = serve_plain(recorder.router, create_connection=Protocol)
    async with serving(server):
        for name, status in (("a body", 413), ("garbage", 400)):
            assert (await meet(server, CASES[name].request))[0] == status


# Clients that go away


def leave_by_eof(writer: asyncio.StreamWriter) -> None:
    writer.write_eof()


def leave_by_closing(writer: asyncio.StreamWriter) -> None:
    writer.close()


def leave_by_reset(writer: asyncio.StreamWriter) -> None:
    linger = struct.pack("ii", 1, 0)  # closing resets what the server may yet send
    sock = writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    writer.transport.abort()


FRAGMENTS = {
    "nothing": b"",
    "a byte": b"G",
    "half a line": b"GET /ec",
    "a line": b"GET /echo HTTP/1.1\r\n",
    "half a request": get("/echo")[:-30],
    "all but an LF": get("/echo")[:-1],
    "TLS": client_hello(),
}


@pytest.mark.parametrize("request_bytes", FRAGMENTS.values(), ids=FRAGMENTS.keys())
@pytest.mark.parametrize("leave", [leave_by_eof, leave_by_closing, leave_by_reset])
@pytest.mark.parametrize("way", ["serve", "handle"])
async def test_a_client_that_goes_away_leaves_nothing_behind(
    request_bytes: bytes,
    leave: Callable[[asyncio.StreamWriter], None],
    way: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    recorder, lost = Recorder(), asyncio.Event()

    class Watched(Protocol):
        def connection_lost(self, exc: Exception | None) -> None:
            super().connection_lost(exc)
            lost.set()

    if way == "serve":
        server: Server = recorder.router.serve(HOST, 0, create_connection=Watched)
    else:
        server = serve_plain(recorder.router, create_connection=Watched)
    async with serving(server):
        reader, writer = await asyncio.open_connection(HOST, port(server))
        writer.write(request_bytes)
        await writer.drain()
        leave(writer)
        await lost.wait()
        if leave is leave_by_eof:
            assert await reader.read() == b""
            writer.close()
            await writer.wait_closed()
    assert recorder.calls == []
    assert complaints(caplog) == []


async def test_a_client_that_says_nothing_is_dropped_after_the_open_timeout(
    caplog: pytest.LogCaptureFixture,
) -> None:
    recorder = Recorder()
    server = recorder.router.serve(HOST, 0, open_timeout=0.01)
    async with serving(server):
        reader, writer = await asyncio.open_connection(HOST, port(server))
        writer.write(b"GET /echo HTTP/1.1\r\n")
        with suppress(ConnectionResetError):  # an end or a reset, as the system has it
            assert await reader.read() == b""
        writer.close()
    assert recorder.calls == []
    assert complaints(caplog) == []


async def test_a_request_and_its_frames_may_come_at_once() -> None:
    """Frames behind the request wait for the handler; they are not a body."""
    router = Router()

    @router.route("/echo")
    async def echo(ws: ServerConnection) -> None:
        await ws.send(await ws.recv())

    masked = b"\x81\x82" + bytes(4) + b"hi"
    server = router.serve(HOST, 0)
    async with serving(server):
        reader, writer = await asyncio.open_connection(HOST, port(server))
        writer.write(get("/echo") + masked)
        await reader.readuntil(b"\r\n\r\n")
        assert await reader.readexactly(4) == b"\x81\x02hi"
        writer.close()
        await writer.wait_closed()


TRAILING = {
    "another request": get("/thing/1"),
    "an empty line": b"\r\n",
    "garbage": b"garbage",
    "a frame without a mask": b"\x81\x02hi",
    "a close frame": b"\x88\x80\0\0\0\0",
}


@pytest.mark.parametrize("trailing", TRAILING.values(), ids=TRAILING.keys())
async def test_a_refusal_is_not_lost_by_what_comes_behind_the_request(
    trailing: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    recorder = Recorder()
    server = recorder.router.serve(HOST, 0)
    async with serving(server):
        response = await exchange(port(server), get("/nowhere") + trailing)
    assert recorder.calls == []
    assert complaints(caplog) == []
    assert status_line(response) == "HTTP/1.1 404 Not Found"
    assert response.count(b"HTTP/1.1 ") == 1


@pytest.mark.parametrize("trailing", TRAILING.values(), ids=TRAILING.keys())
async def test_what_is_no_frame_behind_a_request_ends_the_connection(
    trailing: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    recorder = Recorder()
    server = recorder.router.serve(HOST, 0)
    async with serving(server):
        response = await exchange(port(server), get("/echo") + trailing)
    assert status_line(response) == "HTTP/1.1 101 Switching Protocols"
    assert complaints(caplog) == []


@pytest.mark.parametrize("origins", [None, ["http://a"]])
async def test_two_origins_are_a_bad_request(origins: Any) -> None:
    server = Recorder().router.serve(HOST, 0, origins=origins)
    async with serving(server):
        response = await exchange(
            port(server), get("/echo", "Origin: http://a", "Origin: http://b")
        )
    assert status_line(response) == "HTTP/1.1 400 Bad Request"
