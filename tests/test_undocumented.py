"""What the package takes from websockets beyond its documentation.

A test that fails here says that a release of websockets changed something: the
docstring names the module that has to change with it. A fault of websockets that was
worked round, and is now gone, fails here as well.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import socket
import ssl
from contextlib import suppress
from typing import Any

import pytest
import trustme
from websockets import (
    Frame,
    Headers,
    InvalidMessage,
    InvalidStatus,
    NegotiationError,
    Opcode,
    Request,
    Response,
    ServerProtocol,
    Subprotocol,
)
from websockets.asyncio.client import connect
from websockets.asyncio.messages import MAX_FRAGMENTS
from websockets.asyncio.server import Server, ServerConnection
from websockets.exceptions import HeaderLineTooLong, RequestLineTooLong
from websockets.extensions.permessage_deflate import (
    ClientPerMessageDeflateFactory,
    PerMessageDeflate,
    ServerPerMessageDeflateFactory,
)
from websockets.http11 import SERVER
from websockets.protocol import SEND_EOF

from websockets_routes import Protocol, Router

from .integration.servers import (
    HOST,
    connecting,
    exchange,
    port,
    refusal,
    serve_plain,
    serving,
    until,
)

UPGRADE = (
    b"Host: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
)
REQUEST = b"GET / HTTP/1.1\r\n" + UPGRADE + b"\r\n"


async def idle(ws: ServerConnection) -> None:
    await ws.wait_closed()


def serve(connection: Any, handler: Any = idle, **kwargs: Any) -> Server:
    return serve_plain(handler, create_connection=connection, **kwargs)


# loop.start_tls


async def test_tls_takes_bytes_before_it_hears_of_its_connection() -> None:
    """Arrival.data_received has them when it starts TLS: see proxying.py."""
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = trusting.wrap_bio(incoming, outgoing, server_hostname="localhost")
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    hello = outgoing.read()
    loop = asyncio.get_running_loop()
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    transport, protocol = await loop.create_connection(asyncio.Protocol, sock=ours)
    transport.pause_reading()

    def feed() -> None:
        tls: Any = transport.get_protocol()
        assert tls is not protocol
        buffer = tls.get_buffer(len(hello))
        buffer[: len(hello)] = hello
        tls.buffer_updated(len(hello))

    async def start() -> asyncio.Transport | None:
        loop.call_soon(feed)
        return await loop.start_tls(transport, protocol, context, server_side=True)

    starting = loop.create_task(start())
    async with asyncio.timeout(10):
        while True:
            incoming.write(await loop.sock_recv(theirs, 2**16))
            try:
                client.do_handshake()
                break
            except ssl.SSLWantReadError:
                continue
        await loop.sock_sendall(theirs, outgoing.read())
        started = await starting
    assert started is not None
    started.abort()
    theirs.close()


# ServerConnection.handshake


def test_handshake_has_the_signature_that_protocol_py_overrides() -> None:
    """Protocol.handshake wraps its first argument and passes on the others."""
    assert inspect.iscoroutinefunction(ServerConnection.handshake)
    parameters = inspect.signature(ServerConnection.handshake).parameters
    assert {name: p.default for name, p in parameters.items()} == {
        "self": inspect.Parameter.empty,
        "process_request": None,
        "process_response": None,
        "server_header": SERVER,
    }
    assert {p.kind for p in parameters.values()} == {
        inspect.Parameter.POSITIONAL_OR_KEYWORD
    }


async def test_the_server_calls_handshake_once_with_process_request_first() -> None:
    """Protocol.handshake would otherwise wrap something else, or nothing."""
    calls = []

    class Recording(ServerConnection):
        async def handshake(self, *args: Any, **kwargs: Any) -> None:
            calls.append((args, kwargs))
            await super().handshake(*args, **kwargs)

    def process_request(connection: object, request: object) -> None:
        return None

    def process_response(connection: object, request: object, answer: object) -> None:
        return None

    server = serve(
        Recording,
        process_request=process_request,
        process_response=process_response,
        server_header="mine",
    )
    async with serving(server) as url, connecting(url):
        pass
    assert calls == [((process_request, process_response, "mine"), {})]


async def test_the_request_is_known_when_process_request_is_called() -> None:
    """Protocol.path is set there, before anything else sees the connection."""
    seen: list[object] = []

    class Recording(ServerConnection):
        async def handshake(self, process_request: Any = None, *args: Any) -> None:
            seen.append(self.request)
            await super().handshake(process_request, *args)

    def process_request(connection: ServerConnection, request: object) -> None:
        seen.append(connection.request is request)

    server = serve(Recording, process_request=process_request)
    async with serving(server) as url, connecting(url):
        pass
    assert seen == [None, True]


# ServerConnection.send_data and protocol.handshake_exc


class Watched(ServerConnection):
    """Writes down what ``send_data`` finds when the parser has given up."""

    found: list[tuple[bool, bool, list[bytes], Exception | None]]

    def send_data(self) -> None:
        if self.protocol.handshake_exc is not None:
            self.found.append(
                (
                    self.request is None and self.response is None,
                    self.transport.is_closing(),
                    list(self.protocol.writes),
                    self.protocol.handshake_exc,
                )
            )
        super().send_data()


@pytest.mark.parametrize(
    ("request_bytes", "cause", "text"),
    [
        (
            b"GET / HTTP/1.1\r\n" + UPGRADE + b"Content-Length: 5\r\n\r\nhello",
            ValueError,
            "unsupported request body",
        ),
        (
            b"GET / HTTP/1.1\r\n" + UPGRADE + b"Transfer-Encoding: chunked\r\n\r\n",
            NotImplementedError,
            "transfer codings aren't supported",
        ),
        (b"GET / HTTP/2.0\r\n\r\n", ValueError, "unsupported protocol"),
        (b"garbage\r\n\r\n", ValueError, "invalid HTTP request line"),
        (b"GET /\xff HTTP/1.1\r\n\r\n", UnicodeDecodeError, "ascii"),
        (b"garbage\n", EOFError, "connection closed while reading"),
    ],
    ids=["body", "chunks", "HTTP/2", "garbage", "not ASCII", "LF alone"],
)
async def test_send_data_runs_before_the_end_of_a_request_that_was_given_up(
    request_bytes: bytes, cause: type[Exception], text: str
) -> None:
    """Protocol.send_data answers then, and tells 413 from 400 by the cause."""
    Watched.found = []
    async with serving(serve(Watched)) as url:
        assert await exchange(int(url.rpartition(":")[2]), request_bytes) == b""
    unanswered, closing, writes, error = Watched.found[0]
    assert unanswered
    assert not closing
    assert writes == [SEND_EOF]
    assert isinstance(error, InvalidMessage)
    assert type(error.__cause__) is cause
    assert text in str(error.__cause__)


async def test_a_peer_that_goes_away_is_an_eof_error() -> None:
    """Protocol.send_data has nobody to answer then."""
    Watched.found = []
    async with serving(serve(Watched)) as url:
        _, writer = await asyncio.open_connection(HOST, int(url.rpartition(":")[2]))
        writer.write(b"GET / HT")
        writer.close()
        await writer.wait_closed()
    error = Watched.found[0][3]
    assert isinstance(error, InvalidMessage)
    assert isinstance(error.__cause__, EOFError)


@pytest.mark.parametrize(
    ("request_bytes", "kind", "status"),
    [
        (b"GET /" + b"x" * 9000, RequestLineTooLong, 414),
        (b"GET / HTTP/1.1\r\nX: " + b"x" * 9000, HeaderLineTooLong, 431),
    ],
    ids=["414", "431"],
)
async def test_websockets_answers_what_is_too_long_and_names_no_cause(
    request_bytes: bytes, kind: type[Exception], status: int
) -> None:
    """Protocol.send_data must not answer it again."""
    Watched.found = []
    async with serving(serve(Watched)) as url:
        response = await exchange(int(url.rpartition(":")[2]), request_bytes)
    assert response.startswith(f"HTTP/1.1 {status} ".encode())
    error = Watched.found[0][3]
    assert type(error) is kind
    assert error.__cause__ is None


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"GET / HTTP/1.1\r\n" + UPGRADE + b"Content-Length: 5\r\n\r\nhello",
        b"POST / HTTP/1.1\r\n" + UPGRADE + b"Transfer-Encoding: chunked\r\n\r\n",
        b"garbage\r\n\r\n",
    ],
    ids=["body", "chunks", "garbage"],
)
async def test_websockets_drops_what_it_cannot_read_without_a_word(
    request_bytes: bytes,
) -> None:
    """If this fails, Protocol.send_data may no longer be needed."""
    server = serve_plain(idle)
    async with serving(server):
        assert await exchange(port(server), request_bytes) == b""


# Hooks


@pytest.mark.parametrize("result", ["nonsense", (404, [], b""), 404, False])
async def test_websockets_aborts_in_silence_when_a_hook_returns_no_response(
    result: object, caplog: pytest.LogCaptureFixture
) -> None:
    """The reason for refusal.py; if this fails, the reason may be gone."""

    def process_request(connection: object, request: object) -> Any:
        return result

    server = serve_plain(idle, process_request=process_request)
    async with serving(server):
        reader, writer = await asyncio.open_connection(HOST, port(server))
        writer.write(REQUEST)
        try:
            response = await reader.read()
        except ConnectionResetError:
            response = b""
        writer.close()
    assert response == b""
    assert [r for r in caplog.records if r.levelno >= logging.WARNING] == []


async def test_websockets_does_not_look_at_the_host() -> None:
    """The reason for the check in handshake.py."""
    server = serve_plain(lambda ws: ws.close())
    async with serving(server):
        reader, writer = await asyncio.open_connection(HOST, port(server))
        writer.write(REQUEST.replace(b"Host: localhost\r\n", b""))
        assert (await reader.readline()).startswith(b"HTTP/1.1 101 ")
        writer.close()
        await writer.wait_closed()


async def test_every_method_reaches_process_request() -> None:
    """handshake.py answers 404 before 405 because of it, since websockets 17.0."""
    methods = []

    def process_request(connection: ServerConnection, request: Any) -> Any:
        methods.append(request.method)
        return connection.respond(200, "ok\n")

    server = serve_plain(idle, process_request=process_request)
    async with serving(server):
        for method in (b"POST", b"HEAD", b"OPTIONS"):
            await exchange(port(server), REQUEST.replace(b"GET", method))
    assert methods == ["POST", "HEAD", "OPTIONS"]


async def test_closing_twice_keeps_the_first_close_code() -> None:
    """handshake.py closes with 4040, then ``async with connection`` with 1000."""

    async def handler(ws: ServerConnection) -> None:
        await ws.close(4040)
        await ws.close(1000)
        raise ValueError("too late to matter")

    async with serving(serve_plain(handler)) as url:
        assert await refusal(url) == 4040


# Names


@pytest.mark.parametrize("name", ["path", "router", "params", "context", "has_hook"])
async def test_the_names_that_protocol_py_takes_are_free(name: str) -> None:
    """handshake.py sets ``path`` on connections of websockets' own class, too."""
    found = []

    async def handler(ws: ServerConnection) -> None:
        found.append(hasattr(ws, name))

    async with serving(serve_plain(handler)) as url:
        assert await refusal(url) == 1000
    assert found == [False]
    assert not hasattr(ServerConnection, name)
    assert name in {*vars(Protocol), *Protocol.__annotations__}


def test_process_request_is_no_method_of_a_connection() -> None:
    """Protocol.process_request is a name of ours; ServerProtocol has its own."""
    assert not hasattr(ServerConnection, "process_request")


async def test_a_connection_takes_attributes() -> None:
    """handshake.py keeps the path on connections of websockets' own class."""
    seen = []

    async def handler(ws: Any) -> None:
        ws.path = "/"
        seen.append(ws.path)

    async with serving(serve_plain(handler)) as url:
        assert await refusal(url) == 1000
    assert seen == ["/"]


# ServerConnection.transport and Server.close


async def test_a_connection_has_a_transport_to_abort() -> None:
    """runner.py ends connections with it that do not end in time."""
    connections: asyncio.Queue[ServerConnection] = asyncio.Queue()

    async def handler(ws: ServerConnection) -> None:
        await connections.put(ws)
        await ws.wait_closed()

    async with serving(serve_plain(handler)) as url, connecting(url) as client:
        connection = await connections.get()
        connection.transport.abort()
        await client.wait_closed()
    assert client.close_code == 1006


async def test_a_connection_has_its_transport_from_the_beginning() -> None:
    """runner.py may abort a connection whose handshake is not over."""
    made = asyncio.Event()
    connections = []

    class Recording(ServerConnection):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            super().connection_made(transport)
            connections.append(self)
            made.set()

    async with serving(serve(Recording)) as url:
        reader, writer = await asyncio.open_connection(
            HOST, int(url.rpartition(":")[2])
        )
        await made.wait()
        connections[0].transport.abort()
        with suppress(ConnectionResetError):
            assert await reader.read() == b""
        writer.close()


async def test_closing_waits_for_a_peer_that_does_not_read_whatever_its_timeout() -> (
    None
):
    """The reason for runner.py; if this fails, the reason may be gone."""
    stuck = asyncio.Event()
    connections: list[ServerConnection] = []

    async def flood(ws: ServerConnection) -> None:
        connections.append(ws)
        while True:
            sending = asyncio.ensure_future(ws.send(bytes(2**16)))
            await asyncio.sleep(0)
            if not sending.done():
                stuck.set()
            await sending

    server = serve_plain(
        flood, close_timeout=0.01, ping_interval=None, compression=None
    )
    async with serving(server):
        _, writer = await asyncio.open_connection(HOST, port(server), limit=1)
        writer.write(REQUEST)
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        await stuck.wait()
        server.close()
        closed = asyncio.ensure_future(server.wait_closed())
        await asyncio.wait({closed}, timeout=0.25)
        assert not closed.done()
        connections[0].transport.abort()
        await closed
        writer.close()


# create_connection


async def test_create_connection_is_called_for_each_connection_as_protocol_py_is() -> (
    None
):
    """Protocol.__init__ takes these arguments and leaves the others to websockets."""
    calls = []

    def create(*args: Any, **kwargs: Any) -> ServerConnection:
        calls.append((args, kwargs))
        return ServerConnection(*args, **kwargs)

    server = serve(create)
    async with serving(server) as url, connecting(url), connecting(url):
        pass
    assert len(calls) == 2
    for (protocol, owner), kwargs in calls:
        assert type(protocol).__name__ == "ServerProtocol"
        assert owner is server
        assert not kwargs.keys() & {"router", "protocol", "server"}


async def test_a_router_is_made_outside_of_a_loop() -> None:
    """``Router()`` stands at the top of a module, where no loop runs."""
    router = await asyncio.to_thread(Router)
    async with serving(router.serve(HOST, 0)) as url:
        assert await refusal(url) == 404


# dispatcher.py


@pytest.mark.parametrize(
    "name", ["process_event", "pause_writing", "resume_writing", "close"]
)
async def test_what_dispatcher_py_replaces_is_looked_up_at_each_call(name: str) -> None:
    """Dispatcher puts its own into the attributes of a connection."""
    called = asyncio.Event()

    async def handler(ws: ServerConnection) -> None:
        original = getattr(ws, name)

        def replacement(*args: Any) -> Any:
            called.set()
            return original(*args)

        vars(ws)[name] = replacement
        await ws.send("replaced")
        if name == "pause_writing" or name == "resume_writing":
            await ws.send(bytes(2**23))
        await ws.recv()

    server = serve_plain(handler, compression=None, write_limit=1024)
    async with serving(server) as url, connecting(url, max_size=None) as client:
        assert await client.recv() == "replaced"
        await client.send("go on")
        await called.wait()


async def test_a_connection_has_what_dispatcher_py_reads() -> None:
    """Dispatcher reads the marks of the queue, and how the connection is closed."""
    found: list[object] = []

    async def handler(ws: ServerConnection) -> None:
        protocol = ws.protocol
        found.extend((ws.max_queue_high, ws.max_queue_low, ws.paused))
        found.append(ws.connection_lost_waiter.done())
        found.extend((protocol.close_rcvd, protocol.close_sent))
        await ws.wait_closed()
        found.append(ws.connection_lost_waiter.done())
        for close in (protocol.close_rcvd, protocol.close_sent):
            assert close is not None
            found.append((close.code, close.reason))
        found.append(protocol.close_rcvd_then_sent)

    server = serve_plain(handler, max_queue=(8, 3))
    async with serving(server) as url, connecting(url) as client:
        await client.close(4001, "bye")
    close = (4001, "bye")
    assert found == [8, 3, False, False, None, None, True, close, close, True]


async def test_recv_messages_holds_the_frames_that_came_early() -> None:
    """Dispatcher takes them over, and reading goes on."""
    found: list[Any] = []

    async def handler(ws: ServerConnection) -> None:
        messages = ws.recv_messages
        found.extend(bytes(frame.data) for frame in messages.frames.queue)
        assert messages.paused
        messages.frames.queue.clear()
        messages.maybe_resume()
        assert ws.transport.is_reading()

    server = serve_plain(handler, max_queue=1, close_timeout=0.1)
    async with serving(server):
        frame = Frame(Opcode.TEXT, b"early").serialize(mask=True)
        await exchange(port(server), REQUEST + 2 * frame)
    assert found == [b"early", b"early"]


def test_acknowledge_pings_takes_the_data_of_a_pong() -> None:
    """Dispatcher calls it, as ``process_event`` does."""
    parameters = inspect.signature(ServerConnection.acknowledge_pings).parameters
    assert list(parameters) == ["self", "data"]


def test_a_message_has_at_most_4096_fragments() -> None:
    """Dispatcher has the limit of ``recv()``."""
    assert MAX_FRAGMENTS == 4096


# sending.py and outbox.py


async def test_send_in_progress_is_a_future_that_ends_with_the_fragments() -> None:
    """Outbox waits for it rather than break the message."""
    found: list[Any] = []

    async def handler(ws: ServerConnection) -> None:
        async def fragments() -> Any:
            yield "one"
            found.append(ws.send_in_progress)
            yield "two"

        found.append(ws.send_in_progress)
        await ws.send(fragments())
        found.append(ws.send_in_progress)

    async with serving(serve_plain(handler)) as url, connecting(url) as client:
        assert await client.recv() == "onetwo"
    before, during, after = found
    assert before is after is None
    assert during is not None
    assert during.done()


async def test_data_to_send_holds_what_send_text_and_send_binary_made() -> None:
    """SendingConnection.send_nowait writes it, before anything else can."""

    async def handler(ws: ServerConnection) -> None:
        assert ws.protocol.data_to_send() == []
        ws.protocol.send_text(b"one")
        ws.protocol.send_binary(b"two")
        ws.transport.write(b"".join(ws.protocol.data_to_send()))

    async with serving(serve_plain(handler)) as url, connecting(url) as client:
        assert await client.recv() == "one"
        assert await client.recv() == b"two"


async def test_a_connection_has_what_outbox_py_reads() -> None:
    """Outbox takes its limit from it, and waits where ``drain()`` does."""
    found: list[Any] = []

    async def handler(ws: ServerConnection) -> None:
        found.extend((ws.write_limit_high, ws.paused, list(ws.drain_waiters)))
        sending = asyncio.ensure_future(ws.send(bytes(2**24)))
        await until(lambda: ws.drain_waiters)
        found.append(ws.paused)
        waiter = ws.loop.create_future()
        ws.drain_waiters.append(waiter)
        await waiter
        found.append(ws.paused)
        ws.drain_waiters.remove(waiter)
        await sending

    server = serve_plain(handler, compression=None, write_limit=1024)
    async with serving(server) as url, connecting(url, max_size=None) as client:
        await client.recv()
    assert found == [1024, False, [], True, False]


@pytest.mark.parametrize("how", ["close", "rubbish", "end"])
async def test_send_eof_is_called_when_a_peer_ends_a_connection(how: str) -> None:
    """answering.when_ended learns by it that no message must be sent any more."""
    states: list[str] = []
    ended = asyncio.Event()

    async def handler(ws: ServerConnection) -> None:
        def send_eof() -> None:
            states.append(ws.protocol.state.name)
            del ws.protocol.send_eof
            ws.protocol.send_eof()
            ended.set()

        object.__setattr__(ws.protocol, "send_eof", send_eof)
        await ws.send("ready")
        await ws.wait_closed()

    async with serving(serve_plain(handler)) as url, connecting(url) as client:
        await client.recv()
        if how == "close":
            await client.close()
        elif how == "rubbish":
            client.transport.write(b"\xff\xff")
        else:
            client.transport.abort()
        await ended.wait()
    assert len(states) == 1


async def test_the_limits_of_limits_py_count_every_connection() -> None:
    """ConnectionLimits counts ``handler_tasks``: one for each, from the beginning."""
    counts: list[int] = []

    def process_request(connection: ServerConnection, request: object) -> None:
        counts.append(len(connection.server.handler_tasks))

    server = serve_plain(idle, process_request=process_request)
    async with serving(server) as url:
        _, writer = await asyncio.open_connection(HOST, port(server))
        await until(lambda: server.handler_tasks)
        async with connecting(url):
            writer.close()
            await writer.wait_closed()
            async with connecting(url):
                await until(lambda: len(server.handler_tasks) == 2)
                async with connecting(url):
                    pass
    assert counts[0] == 2
    assert counts[2] == 3


# deflate.py and frames.py


async def test_what_deflate_negotiated_can_be_read() -> None:
    """deflate.encoding_of tells by it which frames can be shared."""
    found: list[tuple[bool, int]] = []

    async def handler(ws: ServerConnection) -> None:
        for extension in ws.protocol.extensions:
            assert isinstance(extension, PerMessageDeflate)
            found.append(
                (extension.local_no_context_takeover, extension.local_max_window_bits)
            )

    client = ClientPerMessageDeflateFactory(server_max_window_bits=11)
    for takeover in (True, False):
        factory = ServerPerMessageDeflateFactory(
            server_no_context_takeover=takeover, server_max_window_bits=12
        )
        server = serve_plain(handler, extensions=[factory])
        async with serving(server) as url, connecting(url, extensions=[client]) as ws:
            await ws.wait_closed()
    assert found == [(True, 11), (False, 11)]


def test_a_frame_without_context_is_the_same_for_every_connection() -> None:
    """frames.py has one extension make the frames of all connections."""
    extension = PerMessageDeflate(True, True, 12, 12)
    frame = Frame(Opcode.TEXT, b"abc" * 400)
    first = frame.serialize(mask=False, extensions=[extension])
    assert first == frame.serialize(mask=False, extensions=[extension])
    assert len(first) < 100
    assert first[0] == 0b11000001


# pacing.py


async def test_tls_hides_what_it_was_given_in_one_piece() -> None:
    """The reason for PacedTransport; if this fails, the reason may be gone."""
    sizes: list[int] = []
    written = asyncio.Event()

    async def handler(ws: ServerConnection) -> None:
        ws.transport.write(bytes(2**24))
        sizes.append(ws.transport.get_write_buffer_size())
        written.set()
        ws.transport.abort()

    authority = trustme.CA()
    server_context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(HOST).configure_cert(server_context)
    client_context = ssl.create_default_context()
    authority.configure_trust(client_context)
    server = serve_plain(handler, ssl=server_context)
    async with serving(server):
        _, writer = await asyncio.open_connection(
            HOST, port(server), ssl=client_context, server_hostname=HOST, limit=1
        )
        writer.write(REQUEST)
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        await written.wait()
        writer.transport.abort()
    assert sizes[0] < 2**20


# servers.py


async def test_a_server_made_by_serve_listens_by_create_server_and_takes_a_class() -> (
    None
):
    class Ours(Server): ...

    server = serve_plain(idle)
    assert type(server) is Server
    server.__class__ = Ours
    calls = []
    create = server.create_server

    async def wrapped() -> asyncio.Server:
        calls.append(hasattr(server, "server"))
        return await create()

    server.create_server = wrapped
    async with server as entered:
        assert entered is server
        assert server.server.is_serving()
    assert calls == [False]


# negotiation.py


def test_a_protocol_negotiates_what_its_attributes_say() -> None:
    def choose(protocol: ServerProtocol, offered: Any) -> Any:
        raise AssertionError("the route decides")

    protocol = ServerProtocol(
        subprotocols=[Subprotocol("theirs")], select_subprotocol=choose, max_size=1
    )
    assert "select_subprotocol" in vars(protocol)
    del protocol.select_subprotocol
    assert (protocol.max_message_size, protocol.max_fragment_size) == (1, None)
    protocol.max_message_size, protocol.max_fragment_size = 5, 3
    protocol.available_subprotocols = [Subprotocol("ours")]
    protocol.available_extensions = [ServerPerMessageDeflateFactory()]
    offers = (
        b"Sec-WebSocket-Protocol: theirs, ours\r\n"
        b"Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n"
    )
    protocol.receive_data(REQUEST.removesuffix(b"\r\n") + offers)
    [request] = protocol.events_received()
    assert isinstance(request, Request)
    response = protocol.accept(request)
    assert response.status_code == 101
    assert response.headers["Sec-WebSocket-Protocol"] == "ours"
    assert response.headers["Sec-WebSocket-Extensions"] == "permessage-deflate"
    protocol.send_response(response)
    for data, failed in ((b"12", False), (b"1234", True)):
        frame = Frame(Opcode.BINARY, data, fin=False)
        protocol.receive_data(frame.serialize(mask=True))
        assert (protocol.parser_exc is not None) is failed


def test_protocols_without_subprotocols_refuse_who_offers_others() -> None:
    protocol = ServerProtocol(subprotocols=[Subprotocol("ours")])
    with pytest.raises(NegotiationError):
        protocol.select_subprotocol([Subprotocol("theirs")])
    with pytest.raises(NegotiationError):
        protocol.select_subprotocol([])


# testing.py


async def test_a_client_asks_what_to_do_about_a_redirect() -> None:
    def redirect(connection: Any, request: Request) -> Response:
        return Response(302, "Found", Headers({"Location": "/elsewhere"}))

    asked = []

    class Connect(connect):
        def process_redirect(self, exc: Exception) -> Exception | str:
            asked.append(exc)
            return exc

    async with serving(serve_plain(idle, process_request=redirect)) as uri:
        with pytest.raises(InvalidStatus):
            await Connect(uri)
    assert len(asked) == 1
