"""Negotiation over loopback: what a route agrees on with its clients, by itself."""

from __future__ import annotations

import asyncio
import base64
import logging
from collections.abc import Sequence
from contextlib import AsyncExitStack
from typing import Any

import aiohttp
import pytest
from websockets import Frame, Opcode, Subprotocol
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed, InvalidStatus

from websockets_routes import NextRoute, OpCode, RoutedPath, Router

from .servers import (
    HOST,
    WAYS_IN,
    WayIn,
    answer,
    connecting,
    end,
    port,
    receive,
    serving,
)

each_way = pytest.mark.parametrize("way", WAYS_IN.values(), ids=WAYS_IN.keys())
# Where a connection opens before it is routed, only sizes are left to negotiate.
refusing_ways = pytest.mark.parametrize(
    "way",
    [way for way in WAYS_IN.values() if way.refuses],
    ids=[name for name, way in WAYS_IN.items() if way.refuses],
)
few_ways = pytest.mark.parametrize(
    "way",
    [WAYS_IN[name] for name in ("serve", "process-request")],
    ids=["serve", "process-request"],
)
COMPRESSIONS = ("shared", "deflate", None)
UNSAID = "as the server"
LONG = "to be or not to be, " * 100


def errors(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [
        record.getMessage()
        for record in caplog.records
        if record.levelno >= logging.ERROR
    ]


async def tell(ws: Any) -> None:
    """Say what was negotiated, then echo."""
    await ws.send(f"{ws.subprotocol} {ws.request.path}")
    async for message in ws:
        await ws.send(message)


# Subprotocols


def with_subprotocols() -> Router:
    router = Router()
    router.add_route("/ab", tell, subprotocols=["a", "b"])
    router.add_route("/ba", tell, subprotocols=("b", "a"))
    router.add_route("/server", tell)
    router.add_route("/none", tell, subprotocols=[])
    return router


async def agreed(uri: str, subprotocols: Sequence[str] | None) -> str | int | None:
    """Offer subprotocols; return the one chosen, or the status of a refusal."""
    offered = subprotocols and [Subprotocol(each) for each in subprotocols]
    try:
        async with connecting(uri, subprotocols=offered) as ws:
            said = str(await ws.recv())
            assert said.split()[0] == str(ws.subprotocol)
            return ws.subprotocol
    except InvalidStatus as error:
        return error.response.status_code


async def agreed_by_aiohttp(
    uri: str, subprotocols: Sequence[str] | None
) -> str | int | None:
    async with aiohttp.ClientSession() as session:
        try:
            async with session.ws_connect(uri, protocols=subprotocols or ()) as ws:
                said = await ws.receive_str()
                assert said.split()[0] == str(ws.protocol)
                return ws.protocol
        except aiohttp.WSServerHandshakeError as error:
            return error.status


each_client = pytest.mark.parametrize(
    "client", [agreed, agreed_by_aiohttp], ids=["websockets", "aiohttp"]
)

OFFERS: list[tuple[str, list[str] | None, str | int | None]] = [
    ("/ab", ["a", "b"], "a"),
    ("/ab", ["b", "a"], "a"),
    ("/ba", ["a", "b"], "b"),
    ("/ba", ["x", "a"], "a"),
    ("/ab", ["c", "x"], 400),
    ("/ab", None, 400),
]


@refusing_ways
@each_client
async def test_the_order_of_the_route_decides(
    way: WayIn, client: Any, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving(way.serve(with_subprotocols())) as uri:
        for target, offered, chosen in OFFERS:
            assert await client(uri + target, offered) == chosen, (target, offered)
        assert await client(f"{uri}/server", ["a"]) is None
        assert await client(f"{uri}/server", None) is None
    assert errors(caplog) == []


@refusing_ways
@each_client
async def test_a_route_without_subprotocols_has_those_of_the_server(
    way: WayIn, client: Any
) -> None:
    server = way.serve(
        with_subprotocols(), subprotocols=[Subprotocol("c"), Subprotocol("b")]
    )
    async with serving(server) as uri:
        for target, offered, chosen in OFFERS:
            assert await client(uri + target, offered) == chosen, (target, offered)
        assert await client(f"{uri}/server", ["b", "c"]) == "c"
        assert await client(f"{uri}/server", ["a", "b"]) == "b"
        assert await client(f"{uri}/server", ["a"]) == 400
        assert await client(f"{uri}/server", None) == 400
        # As for websockets, an empty list wants nothing.
        assert await client(f"{uri}/none", ["b"]) is None


@refusing_ways
async def test_select_subprotocol_of_the_server_is_asked_for_other_routes_only(
    way: WayIn,
) -> None:
    asked: list[Sequence[str]] = []

    def select(
        connection: Any, subprotocols: Sequence[Subprotocol]
    ) -> Subprotocol | None:
        asked.append(subprotocols)
        return subprotocols[-1] if subprotocols else None

    server = way.serve(
        with_subprotocols(),
        subprotocols=[Subprotocol("a")],
        select_subprotocol=select,
    )
    async with serving(server) as uri:
        assert await agreed(f"{uri}/server", ["a", "b", "z"]) == "z"
        assert await agreed(f"{uri}/ab", ["b", "a", "z"]) == "a"
        assert await agreed(f"{uri}/server", None) is None
        assert await agreed(f"{uri}/ab", ["z"]) == 400
    assert asked == [["a", "b", "z"], []]


async def test_a_client_that_repeats_the_header_offers_all_of_them() -> None:
    # RFC 6455 section 11.3.4: the header may appear several times in a request.
    request = handshake("/ba", "Sec-WebSocket-Protocol: a", "Sec-WebSocket-Protocol: b")
    server = with_subprotocols().serve(HOST, 0)
    async with serving(server):
        reader, writer = await asyncio.open_connection(HOST, port(server))
        writer.write(request)
        response = await reader.readuntil(b"\r\n\r\n")
        writer.close()
        await writer.wait_closed()
    assert b"HTTP/1.1 101" in response
    assert b"Sec-WebSocket-Protocol: b\r\n" in response


def handshake(target: str, *headers: str) -> bytes:
    key = base64.b64encode(bytes(16)).decode()
    lines = [
        f"GET {target} HTTP/1.1",
        "Host: localhost",
        "Upgrade: websocket",
        "Connection: Upgrade",
        f"Sec-WebSocket-Key: {key}",
        "Sec-WebSocket-Version: 13",
        *headers,
    ]
    return "".join(f"{line}\r\n" for line in (*lines, "")).encode()


@few_ways
async def test_a_client_without_a_subprotocol_reaches_no_handler_and_no_clean_up(
    way: WayIn, caplog: pytest.LogCaptureFixture
) -> None:
    called: list[str] = []
    router = Router()

    @router.middleware
    async def middleware(ws: Any, path: Any, call_next: Any) -> None:
        called.append("middleware")
        await call_next(ws, path)

    @router.on_error
    def failed(error: BaseException, ws: Any, path: Any) -> None:
        called.append("error")

    @router.route("/", subprotocols=["a"])
    class Events:
        def on_open(self, ws: Any) -> None:
            called.append("open")

        def on_message(self, ws: Any, message: Any, opcode: OpCode) -> None:
            called.append("message")

        def on_close(self, ws: Any, code: int, reason: str) -> None:
            called.append("close")

    async with serving(way.serve(router)) as uri:
        status, body = await answer(f"{uri}/")
        assert status == 400
        assert "subprotocol" in body
        assert called == []
        async with connecting(f"{uri}/", subprotocols=[Subprotocol("a")]):
            pass
    assert called == ["middleware", "open", "close"]
    assert errors(caplog) == []


# Where routes come from


@few_ways
@pytest.mark.parametrize("how", ["mount", "host", "websocket"])
async def test_it_is_negotiated_wherever_a_route_was_declared(
    way: WayIn, how: str
) -> None:
    options: dict[str, Any] = {
        "subprotocols": ["a"],
        "max_size": 10,
        "compression": None,
    }
    router = Router()

    def echo(ws: Any, opcode: OpCode, payload: Any) -> Any:
        return ws.send(payload) if opcode is OpCode.TEXT else None

    target = "/x"
    if how == "mount":
        inner = Router(prefix="/p")
        router.mount("/m", Router()).mount("/n", inner)
        inner.add_route("/x", tell, **options)
        target = "/m/n/p/x"
    elif how == "host":
        host = router.host(HOST)
        host.mount("/m", Router()).add_route("/x", tell, **options)
        target = "/m/x"
    else:
        router.websocket("/x", **options)(echo)
    async with serving(way.serve(router)) as uri:
        assert (await answer(uri + target))[0] == 400
        async with connecting(uri + target, subprotocols=[Subprotocol("a")]) as ws:
            assert ws.subprotocol == "a"
            assert ws.protocol.extensions == []
            await ws.send("x" * 10)
            while await ws.recv() != "x" * 10:
                pass
            await ws.send("x" * 11)
            assert (await end(ws))[0] == 1009


# The next route


@few_ways
@pytest.mark.parametrize("where", ["router", "class"])
@pytest.mark.parametrize("again", [False, True], ids=["server's", "its own"])
async def test_after_next_route_only_what_the_other_route_wants_counts(
    way: WayIn, where: str, again: bool
) -> None:
    router = Router()
    first = router.mount("/x", Router())
    options: dict[str, Any] = {}
    if again:
        options = {"subprotocols": ["z"], "max_size": 20, "compression": "deflate"}
    router.add_route("/{any}/{id}", tell, **options)

    def pass_on(ws: Any, path: RoutedPath) -> None:
        raise NextRoute

    wanted: dict[str, Any] = {
        "subprotocols": ["a"],
        "max_size": 10,
        "compression": None,
    }
    if where == "router":
        first.before_handshake(pass_on)
        first.add_route("/{id}", tell, **wanted)
    else:

        @first.route("/{id}", **wanted)
        class Passing:
            def process_request(self, path: RoutedPath, headers: Any) -> None:
                raise NextRoute

            async def handle(self, ws: Any) -> None:
                raise AssertionError("it passed on")

    server = way.serve(
        router, subprotocols=[Subprotocol("s")], max_size=30, compression="deflate"
    )
    async with serving(server) as uri:
        chosen = "z" if again else "s"
        limit = 20 if again else 30
        offered = [Subprotocol(each) for each in "asz"]
        async with connecting(f"{uri}/x/1", subprotocols=offered) as ws:
            assert await ws.recv() == f"{chosen} /x/1"
            assert len(ws.protocol.extensions) == 1
            await ws.send("x" * limit)
            assert await ws.recv() == "x" * limit
            await ws.send("x" * (limit + 1))
            assert (await end(ws))[0] == 1009


async def test_a_route_that_is_passed_on_to_negotiates_what_it_wants() -> None:
    router = Router()

    @router.route("/x")
    class Passing:
        def process_request(self, path: RoutedPath, headers: Any) -> None:
            raise NextRoute

        async def handle(self, ws: Any) -> None:
            raise AssertionError("it passed on")

    router.add_route("/{any}", tell, subprotocols=["a"], compression=None)
    async with serving(router.serve(HOST, 0)) as uri:
        assert await agreed(f"{uri}/x", ["b", "a"]) == "a"
        assert await agreed(f"{uri}/x", ["b"]) == 400


# Sizes


Sizes = int | tuple[int | None, int | None] | None


def frames_of(*sizes: int) -> list[bytes]:
    """Make the fragments of one message."""
    made = []
    for index, size in enumerate(sizes):
        opcode = Opcode.TEXT if index == 0 else Opcode.CONT
        frame = Frame(opcode, b"x" * size, fin=index == len(sizes) - 1)
        made.append(frame.serialize(mask=True))
    return made


async def fate(ws: ClientConnection, *sizes: int) -> int:
    """Send one message in fragments; return its size, or the close code."""
    for frame in frames_of(*sizes):
        ws.transport.write(frame)
    try:
        return len(await ws.recv())
    except ConnectionClosed:
        assert ws.close_code is not None
        return ws.close_code


SIZES: list[tuple[Sizes, Sequence[tuple[Sequence[int], int]]]] = [
    (
        10,
        [
            ((10,), 10),
            ((11,), 1009),
            ((5, 5), 10),
            ((9, 0, 1), 10),
            ((5, 6), 1009),
            ((10, 1), 1009),
        ],
    ),
    ((10, None), [((10,), 10), ((5, 6), 1009)]),
    ((None, 10), [((10,), 10), ((10, 10, 10), 30), ((11,), 1009), ((10, 11), 1009)]),
    ((20, 10), [((10, 10), 20), ((11,), 1009), ((10, 10, 1), 1009)]),
    ((None, None), [((3_000,), 3_000), ((2_000, 2_000), 4_000)]),
    (None, [((3_000,), 3_000), ((2_000, 2_000), 4_000)]),
]


@each_way
@pytest.mark.parametrize(
    ("max_size", "messages"), SIZES, ids=[str(size) for size, _ in SIZES]
)
async def test_a_message_over_the_size_of_its_route_closes_with_1009(
    way: WayIn,
    max_size: Sizes,
    messages: Sequence[tuple[Sequence[int], int]],
    caplog: pytest.LogCaptureFixture,
) -> None:
    router = Router()
    router.add_route("/x", tell, max_size=max_size)
    router.add_route("/server", tell)
    async with serving(way.serve(router, max_size=(1_000, 500))) as uri:
        for fragments, expected in messages:
            async with connecting(f"{uri}/x", compression=None) as ws:
                assert await ws.recv() == "None /x"
                assert await fate(ws, *fragments) == expected, fragments
        # Other routes have what the server was given.
        for fragments, expected in [
            ((500, 500), 1_000),
            ((501,), 1009),
            ((500, 500, 1), 1009),
        ]:
            async with connecting(f"{uri}/server", compression=None) as ws:
                assert await ws.recv() == "None /server"
                assert await fate(ws, *fragments) == expected, fragments
    assert errors(caplog) == []


@few_ways
@pytest.mark.parametrize("compression", ["shared", "deflate"])
async def test_what_a_message_is_like_inflated_counts(
    way: WayIn, compression: str
) -> None:
    router = Router()
    router.add_route("/", tell, max_size=10_000, compression=compression)
    async with serving(way.serve(router, compression=None)) as uri:
        async with connecting(f"{uri}/") as ws:
            await ws.recv()
            await ws.send("x" * 10_000)
            assert await ws.recv() == "x" * 10_000
            await ws.send("x" * 10_001)
            assert (await end(ws))[0] == 1009
        async with (
            aiohttp.ClientSession() as session,
            session.ws_connect(f"{uri}/", compress=15) as other,
        ):
            assert other.compress
            await other.receive_str()
            await other.send_str("x" * 10_000)
            assert await other.receive_str() == "x" * 10_000
            await other.send_str("x" * 10_001)
            assert (await other.receive()).type is aiohttp.WSMsgType.CLOSE
            assert other.close_code == 1009


@pytest.mark.parametrize("hook", [False, True], ids=["at once", "after a hook"])
async def test_a_message_sent_before_the_handshake_has_the_limit_of_the_server(
    hook: bool,
) -> None:
    received: list[int] = []
    router = Router()
    if hook:

        @router.before_handshake
        async def wait(ws: Any, path: RoutedPath) -> None:
            await asyncio.sleep(0)

    @router.route("/", max_size=10)
    async def handler(ws: Any) -> None:
        received.append(len(await ws.recv()))
        await ws.send("got it")

    answers = [b"\x81\x06got it", b"\x88"]
    server = router.serve(HOST, 0, compression=None, max_size=20)
    async with serving(server):
        for size, expected in zip((20, 21), answers, strict=True):
            reader, writer = await asyncio.open_connection(HOST, port(server))
            [frame] = frames_of(size)
            writer.write(handshake("/") + frame)
            assert b" 101 " in await reader.readuntil(b"\r\n\r\n")
            answer = await reader.readexactly(len(expected))
            writer.close()
            await writer.wait_closed()
            assert answer == expected
    assert received == [20]


@pytest.mark.parametrize("name", ["unbound", "handle", "call"])
async def test_a_message_sent_while_a_hook_still_runs_has_the_limit_of_the_server(
    name: str,
) -> None:
    received: list[Any] = []
    going_on = asyncio.Event()
    router = Router()

    @router.before_handshake
    async def wait(ws: Any, path: RoutedPath) -> None:
        await going_on.wait()

    @router.route("/", max_size=10)
    async def handler(ws: Any) -> None:
        received.append(await ws.recv())

    async with (
        serving(WAYS_IN[name].serve(router)) as uri,
        connecting(f"{uri}/", compression=None) as ws,
    ):
        await ws.send("x" * 11)
        # What comes back says that the server has the message.
        await (await ws.ping())
        going_on.set()
        assert (await end(ws))[0] == 1000
    assert received == ["x" * 11]


# Compression


async def compressed_by(uri: str) -> str | None:
    """Connect with websockets and aiohttp; tell which compression both agreed on."""
    async with connecting(uri) as ws:
        await ws.recv()
        await ws.send(LONG)
        assert await ws.recv() == LONG
        assert ws.response is not None
        header = ws.response.headers.get("Sec-WebSocket-Extensions")
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(uri, compress=15) as other,
    ):
        await other.receive_str()
        await other.send_str(LONG)
        assert await other.receive_str() == LONG
        assert bool(other.compress) is (header is not None)
    if header is None:
        return None
    return "shared" if "server_no_context_takeover" in header else "deflate"


@refusing_ways
@pytest.mark.parametrize("server", COMPRESSIONS, ids=str)
async def test_the_compression_of_a_route_replaces_that_of_the_server(
    way: WayIn, server: str | None
) -> None:
    router = Router()
    for compression in COMPRESSIONS:
        router.add_route(f"/{compression}", tell, compression=compression)
    router.add_route("/server", tell)
    try:
        serve = way.serve(router, compression=server)
    except ValueError:
        # websockets.serve itself has no shared compression.
        assert server == "shared"
        serve = way.serve(router)
        server = "deflate"
    async with serving(serve) as uri:
        for compression in COMPRESSIONS:
            assert await compressed_by(f"{uri}/{compression}") == compression
        assert await compressed_by(f"{uri}/server") == server


@refusing_ways
async def test_a_client_that_offers_no_compression_gets_none(way: WayIn) -> None:
    router = Router()
    for compression in COMPRESSIONS:
        router.add_route(f"/{compression}", tell, compression=compression)
    async with serving(way.serve(router)) as uri:
        for compression in COMPRESSIONS:
            async with connecting(f"{uri}/{compression}", compression=None) as ws:
                await ws.recv()
                await ws.send(LONG)
                assert await ws.recv() == LONG
                assert ws.protocol.extensions == []


@pytest.mark.parametrize("server", COMPRESSIONS, ids=str)
async def test_what_is_published_is_right_for_connections_of_every_kind_at_once(
    server: str | None,
) -> None:
    router = Router()
    arrived: asyncio.Queue[Any] = asyncio.Queue()

    async def hold(ws: Any) -> None:
        arrived.put_nowait(ws)
        await ws.wait_closed()

    for compression in COMPRESSIONS:
        router.add_route(
            f"/{compression}", hold, compression=compression, subscribe="a"
        )
    router.add_route("/server", hold, subscribe="a")
    targets = [*map(str, COMPRESSIONS), "server"]
    messages: list[str | bytes] = []
    for number in range(6):
        messages += [f"{number} {LONG}", f"small {number}", f"{number} {LONG}".encode()]

    async with (
        serving(router.serve(HOST, 0, compression=server)) as uri,
        aiohttp.ClientSession() as session,
        AsyncExitStack() as stack,
    ):
        receivers: list[Any] = []
        servers: list[Any] = []
        for target in targets:
            for kwargs in ({}, {"compression": None}):
                client = connecting(f"{uri}/{target}", **kwargs)
                receivers.append((await stack.enter_async_context(client)).recv)
                servers.append(await arrived.get())
            for compress in (15, 9, 0):
                other = await stack.enter_async_context(
                    session.ws_connect(f"{uri}/{target}", compress=compress)
                )

                async def receive_data(other: Any = other) -> Any:
                    return (await other.receive()).data

                receivers.append(receive_data)
                servers.append(await arrived.get())

        async def all_of(receive: Any) -> list[str | bytes]:
            return [await receive() for _ in expected]

        expected: list[str | bytes] = []
        for number, message in enumerate(messages):
            receipt = router.publish("a", message)
            assert receipt.queued == receipt.matched == len(servers)
            expected.append(message)
            if number % 2:
                await asyncio.gather(*(ws.send(f"sent {LONG}") for ws in servers))
                expected.append(f"sent {LONG}")
        for received in await asyncio.gather(*map(all_of, receivers)):
            assert received == expected


async def test_a_hook_sees_no_subprotocol_yet_and_the_handler_does() -> None:
    seen: list[Any] = []
    router = Router()

    @router.before_handshake
    def hook(ws: Any, path: RoutedPath) -> None:
        seen.append(ws.subprotocol)

    router.add_route("/", tell, subprotocols=["a"])
    async with serving(router.serve(HOST, 0)) as uri:
        text = await receive(f"{uri}/", subprotocols=[Subprotocol("a")])
    assert text == "a /"
    assert seen == [None]


async def test_many_clients_at_once_do_not_get_what_is_for_others() -> None:
    router = Router()
    for name in "abc":
        router.add_route(f"/{name}", tell, subprotocols=[name])
    router.add_route("/server", tell)

    async def one(uri: str, index: int) -> None:
        name = "abc"[index % 3]
        offered = ["c", "b", "a", "s"]
        assert await agreed(f"{uri}/{name}", offered) == name
        assert await agreed(f"{uri}/server", offered) == "s"

    server = router.serve(HOST, 0, subprotocols=[Subprotocol("s")])
    async with serving(server) as uri:
        await asyncio.gather(*(one(uri, index) for index in range(15)))
