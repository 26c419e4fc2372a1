"""Behind proxies: the PROXY protocol, forwarded headers, nginx and haproxy."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import shutil
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trustme
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from websockets_routes import Protocol, Router
from websockets_routes.http import Request
from websockets_routes.proxying import Arrival
from websockets_routes.servers import RoutedServer

from .servers import HOST, TIMEOUT, connecting, port, serving, until

V1 = b"PROXY TCP4 192.0.2.1 198.51.100.2 4660 443\r\n"
CLIENT = "192.0.2.1"
_SIGNATURE = bytes.fromhex("0D0A0D0A000D0A515549540A")


def v2(family: int, addresses: bytes, command: int = 1) -> bytes:
    head = struct.pack(">BBH", 0x20 | command, family, len(addresses))
    return _SIGNATURE + head + addresses


INET = socket.inet_aton(CLIENT) + socket.inet_aton("198.51.100.2") + b"\x12\x34\1\xbb"
V2 = v2(0x11, INET)
SIX = socket.inet_pton(socket.AF_INET6, "2001:db8::1")
PORTS = b"\x12\x34\1\xbb"

# What a header says, and the client that is known then.
HEADERS: dict[str, tuple[bytes, str | None]] = {
    "v1-tcp4": (V1, CLIENT),
    "v1-tcp6": (b"PROXY TCP6 2001:db8::1 2001:db8::2 1 2\r\n", "2001:db8::1"),
    "v1-mapped": (b"PROXY TCP6 ::ffff:192.0.2.1 ::1 1 2\r\n", CLIENT),
    "v1-unknown": (b"PROXY UNKNOWN\r\n", None),
    "v2-tcp4": (V2, CLIENT),
    "v2-tcp6": (v2(0x21, SIX + SIX + PORTS), "2001:db8::1"),
    "v2-unix": (v2(0x31, b"/client".ljust(108, b"\0") + bytes(108)), None),
    "v2-local": (v2(0x00, b"", command=0), None),
    "v2-tlvs": (v2(0x11, INET + b"\x04\x00\x05hello" + b"\x01\x00\x02h2"), CLIENT),
    "v2-longest": (
        v2(0x11, INET + b"\x04" + struct.pack(">H", 4065) + bytes(4065)),
        CLIENT,
    ),
}


class Log(logging.Handler):
    """What a server logged."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)

    def texts(self, level: int = logging.INFO) -> list[str]:
        return [each.getMessage() for each in self.records if each.levelno == level]


@pytest.fixture
def log() -> Iterator[Log]:
    """Keep what servers log; nothing may be worse than a piece of information."""
    logger = logging.getLogger("websockets.server")
    handler = Log()
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    yield handler
    logger.removeHandler(handler)
    logger.setLevel(level)
    assert [each for each in handler.records if each.levelno > logging.INFO] == []
    assert [
        each for each in handler.records if each.exc_info and each.levelno > 10
    ] == []


def sockets() -> int:
    """Count the sockets of this process, where the system tells."""
    found = 0
    for each in Path("/proc/self/fd").glob("*"):
        with suppress(FileNotFoundError):
            found += str(each.readlink()).startswith("socket:")
    return found


@pytest.fixture(scope="module")
def contexts() -> tuple[ssl.SSLContext, ssl.SSLContext]:
    authority = trustme.CA()
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost", HOST).configure_cert(server)
    client = ssl.create_default_context()
    authority.configure_trust(client)
    return server, client


def facts(asked: Any) -> dict[str, Any]:
    return {
        "peer": asked.remote_address[0] if asked.remote_address else None,
        "proxied": asked.proxied_address,
        "client": asked.client_address,
        "http": asked.url_for("http", absolute=True),
        "ws": asked.url_for("ws", absolute=True),
    }


def make_router(*, http: bool = True) -> Router:
    router = Router()

    @router.route("/ws", name="ws")
    async def ws(ws: Protocol) -> None:
        await ws.send_json(facts(ws))
        async for message in ws:
            await ws.send(message)

    if http:

        @router.get("/http", name="http")
        async def get(request: Request) -> dict[str, Any]:
            return facts(request) | {"url": request.url}

        @router.post("/http")
        async def post(request: Request) -> bytes:
            return await request.body()

    return router


@asynccontextmanager
async def proxied(
    router: Router | None = None, **options: Any
) -> AsyncIterator[RoutedServer]:
    """Serve behind a proxy of this host that speaks the PROXY protocol."""
    given: dict[str, Any] = {"proxy_protocol": True, "trusted_proxies": [HOST]}
    server = (router or make_router()).serve(HOST, 0, **given | options)
    before = sockets()
    async with serving(server):
        yield server
        assert not server.arriving
    # Nothing leaks; event loops close sockets a moment later.
    async with asyncio.timeout(TIMEOUT):
        await until(lambda: sockets() <= before)


async def open_socket(server: Any, header: bytes = b"") -> socket.socket:
    """Connect as a proxy does."""
    sock = socket.socket()
    sock.setblocking(False)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    loop = asyncio.get_running_loop()
    await loop.sock_connect(sock, (HOST, port(server)))
    await loop.sock_sendall(sock, header)
    return sock


def get(headers: bytes = b"") -> bytes:
    return (
        b"GET /http HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
        + headers
        + b"\r\n"
    )


async def ask_http(
    server: Any,
    header: bytes = b"",
    request: bytes | None = None,
    tls: ssl.SSLContext | None = None,
) -> dict[str, Any]:
    sock = await open_socket(server, header)
    reader, writer = await asyncio.open_connection(sock=sock)
    try:
        if tls is not None:
            await writer.start_tls(tls, server_hostname="localhost")
        writer.write(get() if request is None else request)
        answer = await reader.read()
    finally:
        writer.close()
        await writer.wait_closed()
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 "), answer
    found: dict[str, Any] = json.loads(body)
    return found


async def ask_ws(
    server: Any,
    header: bytes = b"",
    tls: ssl.SSLContext | None = None,
    headers: dict[str, str] | None = None,
) -> dict[str, Any]:
    sock = await open_socket(server, header)
    scheme = "ws" if tls is None else "wss"
    options = {} if tls is None else {"ssl": tls}
    uri = f"{scheme}://localhost/ws"
    async with connecting(uri, sock=sock, additional_headers=headers, **options) as ws:
        found: dict[str, Any] = json.loads(await ws.recv())
        await ws.send("x" * 2**17)
        assert await ws.recv() == "x" * 2**17
    return found


async def rest_of(sock: socket.socket) -> bytes:
    """Return what the server sends until it closes or resets the connection."""
    loop = asyncio.get_running_loop()
    found = b""
    try:
        async with asyncio.timeout(TIMEOUT):
            while data := await loop.sock_recv(sock, 2**16):
                found += data
    except ConnectionResetError:
        pass
    finally:
        sock.close()
    return found


# The PROXY protocol

with_and_without_tls = pytest.mark.parametrize(
    "tls", [False, True], ids=["plain", "tls"]
)


@with_and_without_tls
@pytest.mark.parametrize(("header", "client"), HEADERS.values(), ids=HEADERS)
async def test_the_header_tells_the_client(
    header: bytes,
    client: str | None,
    tls: bool,
    contexts: tuple[ssl.SSLContext, ssl.SSLContext],
    log: Log,
) -> None:
    inner = contexts[1] if tls else None
    async with proxied(ssl=contexts[0] if tls else None) as server:
        s = "s" if tls else ""
        expected = {
            "peer": HOST,
            "proxied": client,
            "client": client or HOST,
            "http": f"http{s}://localhost/http",
            "ws": f"ws{s}://localhost/ws",
        }
        assert await ask_ws(server, header, inner) == expected
        url = {"url": expected["http"]}
        assert await ask_http(server, header, tls=inner) == expected | url


@with_and_without_tls
async def test_a_router_without_requests_hears_of_the_client_too(
    tls: bool, contexts: tuple[ssl.SSLContext, ssl.SSLContext]
) -> None:
    router = Router()

    @router.route("/ws")
    async def ws(ws: Protocol) -> None:
        await ws.send_json({"client": ws.client_address})
        async for message in ws:
            await ws.send(message)

    async with proxied(router, ssl=contexts[0] if tls else None) as server:
        inner = contexts[1] if tls else None
        assert await ask_ws(server, V2, inner) == {"client": CLIENT}


@with_and_without_tls
@pytest.mark.parametrize("header", [V1, V2], ids=["v1", "v2"])
async def test_a_header_may_be_cut_anywhere(
    header: bytes, tls: bool, contexts: tuple[ssl.SSLContext, ssl.SSLContext], log: Log
) -> None:
    async with proxied(ssl=contexts[0] if tls else None) as server:
        for cut in range(1, len(header)):
            sock = await open_socket(server, header[:cut])
            await until(partial(_has_taken, server, cut))
            reader, writer = await asyncio.open_connection(sock=sock)
            writer.write(header[cut:])
            if tls:
                await writer.start_tls(contexts[1], server_hostname="localhost")
            writer.write(get())
            assert b'"192.0.2.1"' in await reader.read()
            writer.close()
            await writer.wait_closed()


def _has_taken(server: RoutedServer, number: int) -> bool:
    return [len(each._data) for each in server.arriving] == [number]


async def test_header_and_tls_handshake_may_come_in_one_piece(
    contexts: tuple[ssl.SSLContext, ssl.SSLContext], log: Log
) -> None:
    async with proxied(ssl=contexts[0]) as server:
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = contexts[1].wrap_bio(incoming, outgoing, server_hostname="localhost")
        with pytest.raises(ssl.SSLWantReadError):
            tls.do_handshake()
        sock = await open_socket(server, V2 + outgoing.read())
        loop = asyncio.get_running_loop()
        while True:
            incoming.write(await loop.sock_recv(sock, 2**16))
            try:
                tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                await loop.sock_sendall(sock, outgoing.read())
        # The end of the handshake and the request in one piece, too.
        tls.write(get())
        await loop.sock_sendall(sock, outgoing.read())
        answer = b""
        while not answer.endswith(b"}"):
            incoming.write(await loop.sock_recv(sock, 2**16))
            with suppress(ssl.SSLWantReadError):
                answer += tls.read(2**16)
        assert b'"192.0.2.1"' in answer
        sock.close()


async def test_bytes_behind_the_header_are_those_of_the_client(log: Log) -> None:
    """Another header is none: it is the beginning of a request that is malformed."""
    async with proxied() as server:
        sock = await open_socket(server, V1 + V1 + b"\r\n")
        assert (await rest_of(sock)).startswith(b"HTTP/1.1 400 ")


# What is no such header

REFUSED = {
    "http": (get(), "byte 0: there is none"),
    "tls": (bytes.fromhex("16030100f8010000f4"), "byte 0: there is none"),
    "v1-bad": (b"PROXY TCP4 1.2.3.4\r\n", "byte 10"),
    "v1-endless": (b"PROXY UNKNOWN " + b"x" * 200, "byte 107"),
    "v2-version": (_SIGNATURE + b"\x31\x11\0\x0c", "byte 12"),
    "v2-too-long": (_SIGNATURE + b"\x21\x11\xff\xff", "byte 14"),
}


@with_and_without_tls
@pytest.mark.parametrize(("data", "said"), REFUSED.values(), ids=REFUSED)
async def test_anything_else_is_closed_without_an_answer(
    data: bytes,
    said: str,
    tls: bool,
    contexts: tuple[ssl.SSLContext, ssl.SSLContext],
    log: Log,
) -> None:
    async with proxied(ssl=contexts[0] if tls else None) as server:
        assert await rest_of(await open_socket(server, data)) == b""
        (text,) = [each for each in log.texts() if "closing a connection" in each]
        assert f"of {HOST}: " in text
        assert said in text


@with_and_without_tls
async def test_who_is_not_trusted_is_not_even_read(
    tls: bool, contexts: tuple[ssl.SSLContext, ssl.SSLContext], log: Log
) -> None:
    context = contexts[0] if tls else None
    async with proxied(trusted_proxies=["10.0.0.0/8"], ssl=context) as server:
        for header in (V1, b"", get()):
            assert await rest_of(await open_socket(server, header)) == b""
        texts = [each for each in log.texts() if "closing a connection" in each]
        assert texts == 3 * [f"closing a connection of {HOST}: it is no trusted proxy"]


@pytest.mark.parametrize("header", [b"", V1[:-1], V2[:20]], ids=["none", "v1", "v2"])
async def test_a_header_must_come_in_time(header: bytes, log: Log) -> None:
    async with proxied(header_timeout=0.05) as server:
        assert await rest_of(await open_socket(server, header)) == b""
        assert any(
            "no PROXY header came in 0.05 seconds" in each for each in log.texts()
        )


async def test_a_tls_handshake_must_come_in_time(
    contexts: tuple[ssl.SSLContext, ssl.SSLContext], log: Log
) -> None:
    async with proxied(ssl=contexts[0], open_timeout=0.05) as server:
        assert await rest_of(await open_socket(server, V1)) == b""
        await until(lambda: not server.arriving)


async def test_what_is_no_tls_handshake_is_closed(
    contexts: tuple[ssl.SSLContext, ssl.SSLContext], log: Log
) -> None:
    async with proxied(ssl=contexts[0]) as server:
        await rest_of(await open_socket(server, V1 + get()))
        await until(lambda: not server.arriving)


# Clients that go away


@pytest.mark.parametrize("reset", [False, True], ids=["end", "reset"])
@pytest.mark.parametrize(
    "sent", [b"", V1[:7], V2[:20], V1], ids=["none", "v1", "v2", "all"]
)
@with_and_without_tls
async def test_clients_may_go_away_at_any_point(
    sent: bytes,
    reset: bool,
    tls: bool,
    contexts: tuple[ssl.SSLContext, ssl.SSLContext],
    log: Log,
) -> None:
    async with proxied(ssl=contexts[0] if tls else None) as server:
        sock = await open_socket(server, sent)
        if sent != V1:
            await until(lambda: _has_taken(server, len(sent)))
        elif tls:
            await until(lambda: any(each._task for each in server.arriving))
        else:
            await until(lambda: server.requests)
        if reset:
            sock.setsockopt(
                socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
            )
        sock.close()
        await until(lambda: not server.arriving and not server.requests)
        ended = [each for each in log.texts() if "ended before its PROXY" in each]
        assert len(ended) == (sent not in (b"", V1))


async def test_clients_may_go_away_within_the_tls_handshake(
    contexts: tuple[ssl.SSLContext, ssl.SSLContext], log: Log
) -> None:
    async with proxied(ssl=contexts[0]) as server:
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = contexts[1].wrap_bio(incoming, outgoing, server_hostname="localhost")
        with pytest.raises(ssl.SSLWantReadError):
            tls.do_handshake()
        hello = outgoing.read()
        loop = asyncio.get_running_loop()
        for sent in (hello[:100], hello):
            sock = await open_socket(server, V1 + sent)
            if sent is hello:
                assert await loop.sock_recv(sock, 1)
            sock.close()
            await until(lambda: not server.arriving)


async def test_clients_may_go_away_right_behind_the_tls_handshake(
    contexts: tuple[ssl.SSLContext, ssl.SSLContext], log: Log
) -> None:
    async with proxied(ssl=contexts[0]) as server:
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = contexts[1].wrap_bio(incoming, outgoing, server_hostname="localhost")
        with pytest.raises(ssl.SSLWantReadError):
            tls.do_handshake()
        sock = await open_socket(server, V1 + outgoing.read())
        incoming.write(await asyncio.get_running_loop().sock_recv(sock, 2**16))
        tls.do_handshake()
        with pytest.raises(ssl.SSLWantReadError):
            tls.unwrap()
        sock.send(outgoing.read())
        sock.close()
        await until(lambda: not server.arriving and not server.requests)


async def test_a_header_may_take_any_time_if_the_server_says_so(log: Log) -> None:
    async with proxied(header_timeout=None) as server:
        assert (await ask_http(server, V1))["client"] == CLIENT


async def test_the_client_is_known_before_its_request() -> None:
    seen = []

    class Early(Protocol):
        def begin(self, transport: asyncio.Transport) -> None:
            super().begin(transport)
            seen.append((self.proxied_address, self.client_address))

    async with proxied(create_connection=Early) as server:
        await ask_ws(server, V2)
        await ask_ws(server, HEADERS["v2-local"][0])
    assert seen == [(CLIENT, CLIENT), (None, HOST)]


async def test_nothing_arrives_any_more_at_a_server_that_ends() -> None:
    async with proxied() as server:
        pass
    ours, theirs = socket.socketpair()
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_connection(asyncio.Protocol, sock=ours)
    Arrival(server, None, transport)
    assert transport.is_closing()
    assert not server.arriving
    theirs.setblocking(False)
    assert await rest_of(theirs) == b""


@pytest.mark.parametrize("sent", [b"", V1[:7], V1], ids=["none", "half", "all"])
async def test_closing_the_server_ends_what_has_not_arrived(
    sent: bytes, contexts: tuple[ssl.SSLContext, ssl.SSLContext], log: Log
) -> None:
    async with proxied(ssl=contexts[0]) as server:
        sock = await open_socket(server, sent)
        if sent == V1:
            await until(lambda: any(each._task for each in server.arriving))
        else:
            await until(lambda: _has_taken(server, len(sent)))
        server.close()
        await server.wait_closed()
        assert await rest_of(sock) == b""


async def test_what_arrives_at_a_server_that_ends_is_closed(log: Log) -> None:
    shutting_down, go_on = asyncio.Event(), asyncio.Event()
    router = make_router()

    @router.on_shutdown
    async def wait() -> None:
        shutting_down.set()
        await go_on.wait()

    async with proxied(router) as server:
        sock = await open_socket(server)
        await until(lambda: server.arriving)
        server.close()
        await shutting_down.wait()
        # It has arrived in time, and is answered.
        await asyncio.get_running_loop().sock_sendall(sock, V1 + get())
        go_on.set()
        await server.wait_closed()
        await rest_of(sock)


# Limits


async def test_connections_are_counted_by_the_client_that_the_proxy_tells(
    log: Log,
) -> None:
    other = b"PROXY TCP4 192.0.2.2 198.51.100.2 4660 443\r\n"
    async with proxied(max_connections_per_address=1) as server:
        uri = "ws://localhost/ws"
        first = await connect(uri, sock=await open_socket(server, V1), proxy=None)
        with pytest.raises(InvalidStatus) as raised:
            await connect(uri, sock=await open_socket(server, V2), proxy=None)
        assert raised.value.response.status_code == 503
        assert (await ask_ws(server, other))["client"] == "192.0.2.2"
        sock = await open_socket(server, V1 + get())
        assert (await rest_of(sock)).startswith(b"HTTP/1.1 503 ")
        await first.close()
        await first.wait_closed()
        await until(lambda: not server.handler_tasks)
        assert (await ask_http(server, V1))["client"] == CLIENT


async def test_what_has_not_arrived_counts_as_well(log: Log) -> None:
    async with proxied(max_connections=1) as server:
        waiting = await open_socket(server, V1[:7])
        await until(lambda: server.arriving)
        sock = await open_socket(server, V1 + get())
        assert (await rest_of(sock)).startswith(b"HTTP/1.1 503 ")
        waiting.close()
        await until(lambda: not server.arriving)
        assert (await ask_http(server, V1))["client"] == CLIENT


async def test_requests_of_one_connection_are_counted_by_their_own_clients() -> None:
    """A proxy keeps connections alive, and uses them for whoever comes."""
    router = make_router()
    async with (
        serving(
            server := router.serve(
                HOST, 0, trusted_proxies=[HOST], max_connections_per_address=1
            )
        ),
        connecting(
            f"ws://{HOST}:{port(server)}/ws",
            additional_headers={"X-Forwarded-For": CLIENT},
        ),
    ):
        reader, writer = await asyncio.open_connection(HOST, port(server))
        for client, status in (("192.0.2.2", 200), ("192.0.2.3", 200), (CLIENT, 503)):
            writer.write(
                b"GET /http HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: "
                + client.encode()
                + b"\r\n\r\n"
            )
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 %d " % status)
            if status == 200:
                body = await reader.readuntil(b"}")
                assert json.loads(body)["client"] == client
        writer.close()
        await writer.wait_closed()


# Forwarded headers

SPOOFED = {
    "X-Forwarded-For": "203.0.113.9, 192.0.2.1",
    "X-Forwarded-Proto": "https",
    "X-Forwarded-Host": "example.com",
    "Forwarded": 'for="[2001:db8::1]:80";proto=https;host=example.org',
}
LINES = "".join(f"{name}: {value}\r\n" for name, value in SPOOFED.items()).encode()


@pytest.mark.parametrize(
    ("options", "client", "origin"),
    [
        ({}, None, "://localhost"),
        ({"trusted_proxies": ["10.0.0.0/8"]}, None, "://localhost"),
        ({"trusted_proxies": [HOST]}, CLIENT, "s://example.com"),
        (
            {"trusted_proxies": [HOST], "forwarded_header": "Forwarded"},
            "2001:db8::1",
            "s://example.org",
        ),
        (
            {"trusted_proxies": [HOST], "forwarded_header": None},
            None,
            "://localhost",
        ),
    ],
    ids=["nobody", "others", "x-forwarded", "forwarded", "none"],
)
async def test_forwarded_headers_are_believed_of_trusted_proxies_only(
    options: dict[str, Any], client: str | None, origin: str
) -> None:
    server = make_router().serve(HOST, 0, **options)
    expected = {
        "peer": HOST,
        "proxied": client,
        "client": client or HOST,
        "http": f"http{origin}/http",
        "ws": f"ws{origin}/ws",
    }
    async with serving(server):
        assert await ask_ws(server, headers=SPOOFED) == expected
        found = await ask_http(server, request=get(LINES))
        assert found == expected | {"url": expected["http"]}


async def test_behind_a_proxy_header_the_headers_of_the_client_are_not_believed() -> (
    None
):
    async with proxied() as server:
        found = await ask_http(server, V1, request=get(LINES))
        assert (found["client"], found["url"]) == (CLIENT, "http://localhost/http")
        trusted = V1.replace(CLIENT.encode(), HOST.encode())
        found = await ask_http(server, trusted, request=get(LINES))
        assert (found["client"], found["url"]) == (CLIENT, "https://example.com/http")


# Unix sockets


@pytest.mark.parametrize("trusted", [True, False], ids=["trusted", "not-trusted"])
async def test_peers_on_a_unix_socket_are_trusted_by_name(
    tmp_path: Path, trusted: bool, log: Log
) -> None:
    path = str(tmp_path / "socket")
    networks = ["unix"] if trusted else [HOST]
    options: dict[str, Any] = {"proxy_protocol": True, "trusted_proxies": networks}
    async with serving_unix(make_router().unix_serve(path, **options)):
        reader, writer = await asyncio.open_unix_connection(path)
        writer.write(V2 + get())
        try:
            answer = await reader.read()
        except (BrokenPipeError, ConnectionResetError):
            answer = b""
        writer.close()
    assert (b'"192.0.2.1"' in answer) is trusted
    assert bool(answer) is trusted


@asynccontextmanager
async def serving_unix(server: RoutedServer) -> AsyncIterator[None]:
    async with asyncio.timeout(TIMEOUT), server:
        yield


# Proxies that others made

NGINX = """\
daemon off;
master_process off;
pid {folder}/nginx.pid;
error_log stderr;
events {{}}
http {{
    access_log off;
    client_body_temp_path {folder};
    proxy_temp_path {folder};
    fastcgi_temp_path {folder};
    uwsgi_temp_path {folder};
    scgi_temp_path {folder};
    upstream server {{
        server {host}:{server};
        keepalive 4;
    }}
    map $http_upgrade $connection_upgrade {{
        default upgrade;
        "" "";
    }}
    server {{
        listen {host}:{port};
        location / {{
            proxy_pass http://server;
            proxy_http_version 1.1;
            proxy_set_header Upgrade $http_upgrade;
            proxy_set_header Connection $connection_upgrade;
            proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
            proxy_set_header X-Forwarded-Proto https;
            proxy_set_header X-Forwarded-Host $http_host;
        }}
    }}
}}
"""

HAPROXY = """\
global
    log stderr local0
defaults
    timeout connect 10s
    timeout client 10s
    timeout server 10s
listen proxy
    bind {host}:{port}
    mode {mode}
    {options}
    server server {host}:{server} {send}
"""
FORWARDFOR = """
    option forwardfor
    http-request set-header X-Forwarded-Proto https
    http-request set-header X-Forwarded-Host %[req.hdr(Host)]
"""

# A peer of the proxy that is not the proxy itself.
ELSEWHERE = "127.0.0.2"


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind((HOST, 0))
        number: int = sock.getsockname()[1]
        return number


@asynccontextmanager
async def in_front(
    program: str, config: str, server: Any, folder: Path, **options: str
) -> AsyncIterator[int]:
    """Run a proxy in front of a server; yield its port."""
    path = shutil.which(program, path=f"{os.environ['PATH']}:/usr/sbin:/usr/local/sbin")
    if path is None:
        pytest.skip(f"{program} is not installed")
    number = free_port()
    file = folder / "config"
    file.write_text(
        config.format(
            host=HOST, port=number, server=port(server), folder=folder, **options
        )
    )
    command = {"nginx": ["-p", str(folder), "-c"], "haproxy": ["-db", "-f"]}[program]
    log = folder / "log"
    with log.open("wb") as stderr:
        process = await asyncio.create_subprocess_exec(
            path, *command, str(file), stderr=stderr
        )
    try:
        async with asyncio.timeout(TIMEOUT):
            while not await _listens(number):
                if process.returncode is not None:
                    pytest.fail(log.read_text())
                await asyncio.sleep(0.01)
        yield number
    finally:
        with suppress(ProcessLookupError):
            process.terminate()
        await process.wait()


async def _listens(number: int) -> bool:
    try:
        _, writer = await asyncio.open_connection(HOST, number)
    except ConnectionRefusedError:
        return False
    writer.close()
    await writer.wait_closed()
    return True


async def ask_both(
    number: int, tls: ssl.SSLContext | None = None
) -> list[dict[str, Any]]:
    """Ask through a proxy, as a client with an address of its own."""
    source = (ELSEWHERE, 0)
    options: dict[str, Any] = {} if tls is None else {"ssl": tls}
    scheme = "ws" if tls is None else "wss"
    uri = f"{scheme}://localhost:{number}/ws"
    headers = {"X-Forwarded-For": "203.0.113.9"}
    async with connecting(
        uri, host=HOST, local_addr=source, additional_headers=headers, **options
    ) as ws:
        found = [json.loads(await ws.recv())]
        await ws.send("x" * 2**17)
        assert await ws.recv() == "x" * 2**17
    reader, writer = await asyncio.open_connection(
        HOST, number, local_addr=source, ssl=tls, server_hostname=tls and "localhost"
    )
    for _ in range(2):
        writer.write(
            b"GET /http HTTP/1.1\r\nHost: localhost:%d\r\n"
            b"X-Forwarded-For: 203.0.113.9\r\n\r\n" % number
        )
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 ")
        found.append(json.loads(await reader.readuntil(b"}")))
        del found[-1]["url"]
    writer.close()
    await writer.wait_closed()
    return found


def through(number: int, s: str) -> dict[str, Any]:
    return {
        "peer": HOST,
        "proxied": ELSEWHERE,
        "client": ELSEWHERE,
        "http": f"http{s}://localhost:{number}/http",
        "ws": f"ws{s}://localhost:{number}/ws",
    }


@pytest.mark.parametrize(
    ("program", "config", "options"),
    [
        ("nginx", NGINX, {}),
        ("haproxy", HAPROXY, {"mode": "http", "options": FORWARDFOR, "send": ""}),
    ],
    ids=["nginx", "haproxy"],
)
async def test_a_proxy_that_sets_headers(
    program: str, config: str, options: dict[str, str], tmp_path: Path, log: Log
) -> None:
    server = make_router().serve(HOST, 0, trusted_proxies=[HOST])
    async with (
        serving(server),
        in_front(program, config, server, tmp_path, **options) as number,
    ):
        assert await ask_both(number) == 3 * [through(number, "s")]


@with_and_without_tls
@pytest.mark.parametrize("send", ["send-proxy", "send-proxy-v2", "send-proxy-v2-ssl"])
async def test_a_proxy_that_sends_a_header_before_everything_else(
    send: str,
    tls: bool,
    contexts: tuple[ssl.SSLContext, ssl.SSLContext],
    tmp_path: Path,
    log: Log,
) -> None:
    options = {"mode": "tcp", "options": "", "send": send}
    async with (
        proxied(ssl=contexts[0] if tls else None) as server,
        in_front("haproxy", HAPROXY, server, tmp_path, **options) as number,
    ):
        found = await ask_both(number, contexts[1] if tls else None)
        assert found == 3 * [through(number, "s" if tls else "")]
