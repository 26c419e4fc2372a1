"""Requests that are none, on the wire: refused as RFC 9112 says, and nothing stays.

Whatever comes, it is never a traceback, never a second request that somebody in front
of the server has not seen, and never a connection that is held for ever.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from websockets.asyncio.server import Server

from websockets_routes import Router
from websockets_routes.http.request import Request

from .servers import HOST, exchange, port, serving, until

#: What nobody may ever see answered: it is part of something else.
HIDDEN = b"GET /hidden HTTP/1.1\r\nHost: x\r\n\r\n"
CHUNKS = b"5\r\nhello\r\n0\r\n\r\n"
WEBSOCKET = (
    b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
)


class Site:
    """A server that counts what its handlers saw."""

    def __init__(self) -> None:
        self.router = Router()
        self.hidden = 0
        self.bodies: list[bytes] = []
        self.server: Any = None

        @self.router.any("/hidden")
        def hidden(request: Request) -> str:
            self.hidden += 1
            return "hidden"

        @self.router.any("/")
        async def body(request: Request) -> bytes:
            self.bodies.append(await request.body())
            return self.bodies[-1]

        @self.router.get("/who")
        def who(request: Request) -> list[str]:
            return [request.host, request.url]

        @self.router.route("/ws")
        async def echo(ws: Any) -> None:
            async for message in ws:
                await ws.send(message)

    async def answers(self, data: bytes) -> list[int]:
        """Send bytes; return the statuses of all that is answered."""
        async with asyncio.timeout(5):
            said = await exchange(port(self.server), data)
        return statuses(said)


def statuses(said: bytes) -> list[int]:
    return [int(each[:3]) for each in said.split(b"HTTP/1.1 ")[1:]]


@asynccontextmanager
async def site(caplog: pytest.LogCaptureFixture, **kwargs: Any) -> AsyncIterator[Site]:
    """Serve; check that nothing is complained about, and that nobody stays."""
    made = Site()
    server: Server = made.router.serve(
        HOST, 0, **{"header_timeout": 0.2, "idle_timeout": 0.2, **kwargs}
    )
    made.server = server
    async with serving(server):
        yield made
        await until(lambda: not (made.server.requests or server.handler_tasks))
    assert not [each for each in caplog.records if each.levelno >= logging.WARNING]
    assert not made.hidden


def http(*lines: str | bytes, body: bytes = b"") -> bytes:
    """Make a request of ``Host`` and lines, the request line first."""
    first, *rest = [x.encode("latin-1") if isinstance(x, str) else x for x in lines]
    return b"\r\n".join([first, b"Host: x", *rest, b"", b""]) + body


def post(*lines: str | bytes, body: bytes = b"") -> bytes:
    return http("POST / HTTP/1.1", *lines, body=body)


# Heads


HEADS = {
    # RFC 9112 section 6.3
    "two lengths": post("Content-Length: 5", "Content-Length: 0", body=b"hello"),
    "two lengths swapped": post(
        "Content-Length: 0", "Content-Length: 5", body=b"hello"
    ),
    "two lengths alike": post("Content-Length: 5", "Content-Length: 5", body=b"hello"),
    "a list of lengths": post("Content-Length: 5, 5", body=b"hello"),
    "a list of other lengths": post("Content-Length: 5, 0", body=b"hello"),
    "length and coding": post(
        "Content-Length: 5", "Transfer-Encoding: chunked", body=CHUNKS
    ),
    "coding and length": post(
        "Transfer-Encoding: chunked", "Content-Length: 5", body=CHUNKS
    ),
    "length and no coding": post(
        "Content-Length: 5", "Transfer-Encoding: identity", body=b"hello"
    ),
    "length with plus": post("Content-Length: +5", body=b"hello"),
    "length below zero": post("Content-Length: -5", body=b"hello"),
    "length in hex": post("Content-Length: 0x5", body=b"hello"),
    "length with underscore": post("Content-Length: 1_0", body=b"hello"),
    "length with a dot": post("Content-Length: 5.0", body=b"hello"),
    "length with a space": post("Content-Length: 5 0", body=b"hello"),
    "length empty": post("Content-Length:", body=b"hello"),
    "length in other digits": post("Content-Length: ²".encode("latin-1"), body=b"ab"),
    "length beyond all": post("Content-Length: " + "9" * 400, body=b"hello"),
    # RFC 9112 sections 6.1 and 6.3
    "coding not last": post("Transfer-Encoding: chunked, gzip", body=CHUNKS),
    "coding not chunked": post("Transfer-Encoding: gzip", body=CHUNKS),
    "coding twice": post("Transfer-Encoding: chunked, chunked", body=CHUNKS),
    "two codings": post(
        "Transfer-Encoding: chunked", "Transfer-Encoding: chunked", body=CHUNKS
    ),
    "two other codings": post(
        "Transfer-Encoding: chunked", "Transfer-Encoding: identity", body=CHUNKS
    ),
    "coding with a tab inside": post("Transfer-Encoding: chun\tked", body=CHUNKS),
    "coding after VT": post(b"Transfer-Encoding: \x0bchunked", body=CHUNKS),
    "coding in quotes": post('Transfer-Encoding: "chunked"', body=CHUNKS),
    "coding with a parameter": post("Transfer-Encoding: chunked;a=b", body=CHUNKS),
    "coding with more": post("Transfer-Encoding: xchunked", body=CHUNKS),
    "coding empty": post("Transfer-Encoding:", body=CHUNKS),
    "coding in HTTP/1.0": http(
        "POST / HTTP/1.0", "Transfer-Encoding: chunked", body=CHUNKS
    ),
    # RFC 9112 section 5.1
    "a space before the colon": post("X : 1"),
    "a space before the colon of a length": post("Content-Length : 5", body=b"hello"),
    "a tab before the colon of a coding": post(
        "Transfer-Encoding\t: chunked", body=CHUNKS
    ),
    "a space before a name": http("POST / HTTP/1.1", " X: 1"),
    "a space before the first name": b"GET / HTTP/1.1\r\n Host: x\r\n\r\n",
    "a name of two words": post("X Y: 1"),
    "no name": post(": 1"),
    "no colon": post("X"),
    "a name with a NUL": post(b"X\0: 1"),
    "a name beyond ASCII": post(b"Content-Length\xa0: 5"),
    # RFC 9112 section 5.2
    "folded": post("X: 1", " 2"),
    "folded with a tab": post("X: 1", "\t2"),
    "folded length": post("Content-Length:", " 5", body=b"hello"),
    "folded coding": post("Transfer-Encoding:", "\tchunked", body=CHUNKS),
    "folded with nothing": post("X: 1", " "),
    "folded upgrade": http(b"GET /ws HTTP/1.1", WEBSOCKET + b"X: 1\r\n 2"),
    # RFC 9112 section 2.2
    "LF alone": post("X: 1").replace(b"\r\n", b"\n"),
    "LF in the request line": b"GET / HTTP/1.1\nHost: x\r\n\r\n",
    "LF between headers": post(b"X: 1\nContent-Length: 5", body=b"hello"),
    "LF before the last CRLF": b"GET / HTTP/1.1\r\nHost: x\n\r\n" + HIDDEN,
    "LF after the last CRLF": b"GET / HTTP/1.1\r\nHost: x\r\n\n" + HIDDEN,
    "LF LF behind all": b"GET / HTTP/1.1\r\nHost: x\n\n" + HIDDEN,
    "LF in an upgrade": http(b"GET /ws HTTP/1.1", WEBSOCKET + b"X: 1\nY: 2"),
    "CR in a value": post(b"X: 1\r2"),
    "CR before a header": post(b"X: 1\rContent-Length: 5", body=b"hello"),
    "CR CR LF": post(b"X: 1\r"),
    "CR in the request line": http(b"GET /\r HTTP/1.1"),
    "CR before the request line": b"\r\n\r" + http(b"GET / HTTP/1.1"),
    "NUL in a value": post(b"X: a\0b"),
    "NUL in the target": http(b"GET /\0 HTTP/1.1"),
    # RFC 9112 section 3
    "no version": http("GET /"),
    "no target": http("GET HTTP/1.1"),
    "two spaces": http("GET  / HTTP/1.1"),
    "a tab": http("GET\t/\tHTTP/1.1"),
    "a space at the end": http("GET / HTTP/1.1 "),
    "a space in the target": http("GET / x HTTP/1.1"),
    "a method that is none": http("GE(T / HTTP/1.1"),
    "lower-case version": http("GET / http/1.1"),
    "a version that is none": http("GET / HTTP/11"),
    "a longer version": http("GET / HTTP/1.10"),
    "bytes beyond ASCII": http(b"GET /\xff HTTP/1.1"),
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0",
    "garbage": b"\x00\xff\x80garbage\r\n\r\n",
    # RFC 9112 section 3.2
    "no host": b"GET / HTTP/1.1\r\n\r\n",
    "two hosts": http("GET / HTTP/1.1", "Host: y"),
    "two hosts alike": http("GET / HTTP/1.1", "Host: x"),
    "a host that is none": b"GET / HTTP/1.1\r\nHost: x y\r\n\r\n",
    "a host with a path": b"GET / HTTP/1.1\r\nHost: x/y\r\n\r\n",
    "authority form": http("GET x:80 HTTP/1.1"),
    "CONNECT": http("CONNECT x:80 HTTP/1.1"),
    "CONNECT with a body": http("CONNECT x:80 HTTP/1.1", body=HIDDEN),
    "asterisk": http("GET * HTTP/1.1"),
    "asterisk and more": http("OPTIONS *x HTTP/1.1"),
    "relative": http("GET x HTTP/1.1"),
    "fragment": http("GET /#x HTTP/1.1"),
    "absolute ftp": http("GET ftp://x/ HTTP/1.1"),
    "absolute without host": http("GET http:/// HTTP/1.1"),
    "dots": http("GET /../hidden HTTP/1.1"),
    "encoded NUL": http("GET /%00 HTTP/1.1"),
}


@pytest.mark.parametrize("request_bytes", HEADS.values(), ids=HEADS)
async def test_a_head_that_is_none_is_refused(
    request_bytes: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    async with site(caplog) as here:
        # What comes behind it is not looked at, wherever that may begin.
        answers = await here.answers(request_bytes)
        assert answers == [505 if b"HTTP/2.0" in request_bytes else 400], answers


FRAMED = {
    name: data
    for name, data in HEADS.items()
    if name.split()[0] in {"two", "length", "coding", "folded", "LF", "CR", "NUL"}
    and "hosts" not in name
}


@pytest.mark.parametrize("request_bytes", FRAMED.values(), ids=FRAMED)
async def test_nothing_is_smuggled_behind_a_head_whose_end_is_unclear(
    request_bytes: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    async with site(caplog) as here:
        assert await here.answers(request_bytes + HIDDEN) == [400]
        assert not here.bodies


async def test_a_coding_that_is_unknown_is_refused(
    caplog: pytest.LogCaptureFixture,
) -> None:
    # RFC 9112 section 6.1 would have a 501 (SHOULD).
    async with site(caplog) as here:
        data = post("Transfer-Encoding: gzip, chunked", body=CHUNKS)
        assert await here.answers(data + HIDDEN) in ([400], [501])


@pytest.mark.parametrize("version", ["0.9", "2.0", "3.0", "9.9"])
async def test_another_major_version_is_refused(
    version: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with site(caplog) as here:
        answers = await here.answers(http(f"GET / HTTP/{version}"))
        assert answers in ([400], [505])


async def test_a_later_minor_version_is_taken_for_1_1(
    caplog: pytest.LogCaptureFixture,
) -> None:
    # RFC 9110 section 2.5
    async with site(caplog) as here:
        assert await here.answers(http("GET / HTTP/1.2")) == [200]


# What is unusual, and none the less right


@pytest.mark.parametrize(
    ("request_bytes", "body"),
    [
        pytest.param(post("content-LENGTH:\t 5 \t", body=b"hello"), b"hello", id="OWS"),
        pytest.param(
            post("Content-Length: 00005", body=b"hello"), b"hello", id="zeros"
        ),
        pytest.param(
            post("TRANSFER-encoding:CHUNKED", body=CHUNKS), b"hello", id="case"
        ),
        pytest.param(
            post(
                "Transfer-Encoding: chunked",
                "X: HTTP/1.0",
                "Via: HTTP/1.0",
                body=CHUNKS,
            ),
            b"hello",
            id="HTTP/1.0 in a header",
        ),
        pytest.param(post("X-Content-Length: 5"), b"", id="another name"),
        pytest.param(post(b"X: \xff\x80"), b"", id="bytes in a value"),
        pytest.param(http("M-SEARCH!#$ / HTTP/1.1"), b"", id="method"),
        pytest.param(
            # RFC 9112 section 7.1.1: a recipient MUST ignore unknown ones.
            post(
                "Transfer-Encoding: chunked",
                body=b'5;a=b;c="d;e"\r\nhello\r\n0;x\r\n\r\n',
            ),
            b"hello",
            id="chunk extensions",
        ),
        pytest.param(
            post(
                "Transfer-Encoding: chunked",
                body=b"0005\r\nhello\r\nA\r\n0123456789\r\n000\r\nX: y\r\n\r\n",
            ),
            b"hello0123456789",
            id="chunk sizes",
        ),
    ],
)
async def test_a_request_that_is_unusual_is_right(
    request_bytes: bytes, body: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    async with site(caplog) as here:
        end = http("GET / HTTP/1.1", "Connection: close")
        assert await here.answers(request_bytes + end) == [200, 200]
        assert here.bodies == [body, b""]


# Bodies


CHUNKED = {
    "no number": b"x\r\nhello\r\n0\r\n\r\n",
    "empty": b"\r\nhello\r\n0\r\n\r\n",
    "0x": b"0x5\r\nhello\r\n0\r\n\r\n",
    "plus": b"+5\r\nhello\r\n0\r\n\r\n",
    "below zero": b"-5\r\nhello\r\n0\r\n\r\n",
    "a space first": b" 5\r\nhello\r\n0\r\n\r\n",
    "underscore": b"1_0\r\n0123456789abcdef\r\n0\r\n\r\n",
    "too large": b"f" * 17 + b"\r\nhello\r\n0\r\n\r\n",
    "wrong, too short": b"4\r\nhello\r\n0\r\n\r\n",
    "wrong, too long": b"6\r\nhello\r\n0\r\n\r\n",
    "no CRLF behind": b"5\r\nhello0\r\n\r\n",
    "LF behind": b"5\r\nhello\n0\r\n\r\n",
    "CR behind": b"5\r\nhello\r0\r\n\r\n",
    "LF behind the size": b"5\nhello\r\n0\r\n\r\n",
    "CR behind the size": b"5\rhello\r\n0\r\n\r\n",
    "LF behind the last size": b"5\r\nhello\r\n0\n\r\n",
    "LF for the last line": b"5\r\nhello\r\n0\r\n\n",
    "LF behind a trailer": b"5\r\nhello\r\n0\r\nX: y\n\r\n",
    "LF twice behind a trailer": b"5\r\nhello\r\n0\r\nX: y\n\n",
    "LF in an extension": b"5;a\nb\r\nhello\r\n0\r\n\r\n",
    "NUL in a size": b"5\0\r\nhello\r\n0\r\n\r\n",
    "folded trailer": b"5\r\nhello\r\n0\r\nX: y\r\n z\r\n\r\n",
    "trailer without colon": b"5\r\nhello\r\n0\r\nXy\r\n\r\n",
    "space before the colon of a trailer": b"5\r\nhello\r\n0\r\nX : y\r\n\r\n",
    "NUL in a trailer": b"5\r\nhello\r\n0\r\nX: \0\r\n\r\n",
    "an extension without end": b"5;" + b"x" * 2**20 + b"\r\nhello\r\n0\r\n\r\n",
    "trailers without end": b"0\r\n" + b"X: y\r\n" * 200_000 + b"\r\n",
}


@pytest.mark.parametrize("body", CHUNKED.values(), ids=CHUNKED)
async def test_chunks_that_are_none_are_refused(
    body: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    async with site(caplog, body_timeout=0.2) as here:
        data = post("Transfer-Encoding: chunked", body=body)
        answers = await here.answers(data + HIDDEN)
        # What misses its end may be waited for.
        assert answers in ([400], [408], [413], [431]), answers
        assert not here.bodies


async def test_a_client_reads_that_its_chunks_are_malformed_while_it_sends(
    caplog: pytest.LogCaptureFixture,
) -> None:
    # RFC 9112 section 9.6: closed in stages, so that no reset takes the response.
    async with site(caplog) as here:
        data = post("Transfer-Encoding: chunked", body=b"x\r\n" + b"y" * 2**23)

        def upload() -> bytes:
            with socket.create_connection((HOST, port(here.server)), 5) as raw:
                with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                    raw.sendall(data)
                return raw.recv(2**16)

        assert statuses(await asyncio.to_thread(upload)) == [400]


@pytest.mark.parametrize("size", [2**14, 2**18, 2**23])
async def test_a_client_reads_that_its_head_is_too_large_while_it_sends(
    size: int, caplog: pytest.LogCaptureFixture
) -> None:
    async with site(caplog) as here:

        def send() -> bytes:
            with socket.create_connection((HOST, port(here.server)), 5) as raw:
                with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                    raw.sendall(http("GET / HTTP/1.1", "X: " + "x" * size))
                return raw.recv(2**16)

        assert statuses(await asyncio.to_thread(send)) == [431]


# Upgrades


@pytest.mark.parametrize(
    "lines",
    [
        pytest.param(["Content-Length: 5"], id="length"),
        pytest.param([f"Content-Length: {len(HIDDEN)}"], id="length of a request"),
        pytest.param(["Transfer-Encoding: chunked"], id="chunked"),
        pytest.param(["Content-Length: 5", "Content-Length: 0"], id="two lengths"),
        pytest.param(
            ["Content-Length: 0", "Transfer-Encoding: chunked"], id="length and coding"
        ),
    ],
)
@pytest.mark.parametrize("path", ["/ws", "/", "/hidden", "/nowhere"])
async def test_an_upgrade_has_no_body(
    path: str, lines: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    async with site(caplog) as here:
        data = http(f"GET {path} HTTP/1.1".encode(), WEBSOCKET + lines[0].encode())
        for line in lines[1:]:
            data = data[:-2] + line.encode() + b"\r\n\r\n"
        answers = await here.answers(data + HIDDEN)
        assert len(answers) == 1
        assert 400 <= answers[0] < 500
        assert answers[0] != 404 or path != "/ws"


@pytest.mark.parametrize("path", ["/ws", "/nowhere", "/"])
async def test_a_request_behind_an_upgrade_is_none(
    path: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with site(caplog) as here:
        data = http(f"GET {path} HTTP/1.1".encode(), WEBSOCKET[:-2])
        answers = await here.answers(data + HIDDEN)
        assert answers == ([101] if path == "/ws" else [404])


@pytest.mark.parametrize("number", [1, 2])
async def test_an_upgrade_behind_a_request_is_one(
    number: int, caplog: pytest.LogCaptureFixture
) -> None:
    async with site(caplog) as here:
        data = http("GET / HTTP/1.1") * number
        data += http(b"GET /ws HTTP/1.1", WEBSOCKET[:-2]) + HIDDEN
        assert await here.answers(data) == [200] * number + [101]


async def test_an_upgrade_that_a_body_hides_is_none(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with site(caplog) as here:
        upgrade = http(b"GET /ws HTTP/1.1", WEBSOCKET[:-2])
        data = post(
            f"Content-Length: {len(upgrade)}", "Connection: close", body=upgrade
        )
        assert await here.answers(data) == [200]
        assert here.bodies == [upgrade]


# Targets


@pytest.mark.parametrize("host", ["x", "a.example", "a.example:8080"])
async def test_the_host_of_a_target_counts_more_than_the_header(
    host: str, caplog: pytest.LogCaptureFixture
) -> None:
    # RFC 9112 section 3.2.2: the Host header MUST be ignored.
    async with site(caplog) as here:
        target = f"GET http://{host}/who HTTP/1.1"
        data = http(target, "Connection: close")
        said = await exchange(port(here.server), data)
        assert statuses(said) == [200]
        assert f'["{host}", "http://{host}/who"]'.encode() in said


async def test_options_may_ask_about_the_server(
    caplog: pytest.LogCaptureFixture,
) -> None:
    # RFC 9110 section 9.3.7
    async with site(caplog) as here:
        answers = await here.answers(http("OPTIONS * HTTP/1.1", "Connection: close"))
        assert answers in ([200], [204])


# Sizes


@pytest.mark.parametrize(
    ("data", "status"),
    [
        # RFC 9112 section 3: a target that is too long MUST be a 414.
        pytest.param(http("GET /" + "x" * 40_000 + " HTTP/1.1"), 414, id="target"),
        pytest.param(b"GET /" + b"x" * 40_000, 414, id="target without end"),
        pytest.param(http("GET / HTTP/1.1", "X: " + "x" * 40_000), 431, id="header"),
        pytest.param(http("GET / HTTP/1.1", *["X: y"] * 9_000), 431, id="headers"),
        pytest.param(
            b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 9_000, 431, id="headers without end"
        ),
    ],
)
async def test_a_head_that_is_too_large_is_refused(
    data: bytes, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    async with site(caplog, header_timeout=5) as here:
        assert await here.answers(data) == [status]


# Time


@pytest.mark.parametrize(
    ("data", "answer"),
    [
        pytest.param(b"", [], id="nothing"),
        pytest.param(b"\r\n\r\n", [], id="empty lines"),
        pytest.param(b"G", [408], id="a byte"),
        pytest.param(http("GET / HTTP/1.1")[:-1], [408], id="all but a byte"),
        pytest.param(http(b"GET /ws HTTP/1.1", WEBSOCKET)[:-3], [408], id="upgrade"),
        pytest.param(http("GET / HTTP/1.1") + b"G", [200, 408], id="a later one"),
    ],
)
async def test_a_head_that_does_not_come_is_not_waited_for(
    data: bytes, answer: list[int], caplog: pytest.LogCaptureFixture
) -> None:
    async with site(caplog) as here:
        assert await here.answers(data) == answer


async def test_a_head_meets_its_time_though_it_comes_on_and_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with site(caplog) as here:
        reader, writer = await asyncio.open_connection(HOST, port(here.server))

        async def drip() -> None:
            with contextlib.suppress(ConnectionError):
                writer.write(b"GET / HTTP/1.1\r\n")
                while True:
                    writer.write(b"X: y\r\n")
                    await writer.drain()
                    await asyncio.sleep(0.02)

        dripping = asyncio.create_task(drip())
        async with asyncio.timeout(2):
            head = await reader.readuntil(b"\r\n\r\n")
        assert statuses(head) == [408]
        dripping.cancel()
        await asyncio.wait([dripping])
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(post("Content-Length: 5"), id="nothing"),
        pytest.param(post("Content-Length: 5", body=b"hell"), id="length"),
        pytest.param(
            post("Transfer-Encoding: chunked", body=CHUNKS[:-1]), id="chunked"
        ),
        pytest.param(
            post("Content-Length: 5", "Expect: 100-continue"), id="asks and leaves it"
        ),
    ],
)
async def test_a_body_that_does_not_come_is_not_waited_for(
    data: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    async with site(caplog, body_timeout=0.2) as here:
        answers = await here.answers(data)
        assert answers[-1] == 408
        assert not here.bodies


async def test_a_body_meets_its_time_though_it_comes_on_and_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with site(caplog, body_timeout=0.3) as here:
        reader, writer = await asyncio.open_connection(HOST, port(here.server))

        async def drip() -> None:
            with contextlib.suppress(ConnectionError):
                writer.write(post("Transfer-Encoding: chunked"))
                while True:
                    writer.write(b"1;" + b"x" * 100 + b"\r\nx\r\n")
                    await writer.drain()
                    await asyncio.sleep(0.02)

        dripping = asyncio.create_task(drip())
        async with asyncio.timeout(2):
            head = await reader.readuntil(b"\r\n\r\n")
        assert statuses(head) == [408]
        dripping.cancel()
        await asyncio.wait([dripping])
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


# Who is at the wrong door


async def test_a_client_that_speaks_tls_is_let_go(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with site(caplog) as here:
        context = ssl.create_default_context()
        with pytest.raises(OSError):  # noqa: PT011 - an SSLError, or a reset
            await asyncio.open_connection(HOST, port(here.server), ssl=context)


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(bytes(range(256)) * 300, id="binary"),
        pytest.param(b"\xff" * 100_000, id="ff"),
        pytest.param(b"\r\n" * 50_000, id="empty lines"),
        pytest.param(b"\r" * 50_000, id="CR"),
        pytest.param(b"\n" * 50_000, id="LF"),
        pytest.param(b"GET / HTTP/1.1\r\n" * 5_000, id="request lines"),
        pytest.param(b"*1\r\n$4\r\nPING\r\n\r\n", id="redis"),
        pytest.param(b"EHLO x\r\n\r\n", id="mail"),
    ],
)
async def test_a_client_that_speaks_something_else_is_let_go(
    data: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    async with site(caplog) as here:
        with contextlib.suppress(ConnectionError):
            answers = await here.answers(data)
            assert all(400 <= each < 500 for each in answers)


async def test_many_requests_without_end_take_linear_time(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with site(caplog) as here:
        one = (
            b"OPTIONS /none HTTP/1.0\r\n" + b"X: ," * 3000 + b"\t" * 3000 + b"\r\n\r\n"
        )
        upgrade = b"GET / HTTP/1.1\r\nUpgrade: " + b",\t" * 8000 + b"\r\n\r\n"
        for data in (one, upgrade):
            assert await here.answers(data) in ([404], [400], [431])
