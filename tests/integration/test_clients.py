"""Independent clients: three libraries that were not written for one another."""

from __future__ import annotations

import asyncio
import ssl
import struct
from collections.abc import Awaitable, Callable

import aiohttp
import pytest
import trustme
import websocket
from websockets.asyncio.server import ServerConnection

from websockets_routes import RoutedPath, Router

from .servers import HOST, WAYS_IN, WayIn, address, answer, connecting, serving

#: Sends a text; returns the one that comes back and the code of the closing.
Echo = Callable[[str, str, ssl.SSLContext | None], Awaitable[tuple[str, int]]]
#: Returns the HTTP status or the close code that ends a connection.
Refused = Callable[[str, ssl.SSLContext | None], Awaitable[int]]


# websockets


async def websockets_echo(
    uri: str, text: str, context: ssl.SSLContext | None
) -> tuple[str, int]:
    async with connecting(uri, ssl=context) as ws:
        await ws.send(text)
        echoed = await ws.recv(decode=True)
        await ws.wait_closed()
        assert ws.close_code is not None
        return echoed, ws.close_code


async def websockets_refused(uri: str, context: ssl.SSLContext | None) -> int:
    return (await answer(uri, ssl=context))[0]


# websocket-client, which blocks


def open_websocket_client(
    uri: str, context: ssl.SSLContext | None
) -> websocket.WebSocket:
    return websocket.create_connection(
        uri, timeout=5, sslopt={"context": context}, http_no_proxy=["*"]
    )


def close_code_of(ws: websocket.WebSocket) -> int:
    opcode, payload = ws.recv_data()
    assert opcode == websocket.ABNF.OPCODE_CLOSE
    (code,) = struct.unpack("!H", payload[:2])
    return int(code)


async def websocket_client_echo(
    uri: str, text: str, context: ssl.SSLContext | None
) -> tuple[str, int]:
    def echo() -> tuple[str, int]:
        ws = open_websocket_client(uri, context)
        try:
            ws.send(text)
            echoed = ws.recv()
            assert isinstance(echoed, str)
            return echoed, close_code_of(ws)
        finally:
            ws.shutdown()  # type: ignore[no-untyped-call]

    return await asyncio.to_thread(echo)


async def websocket_client_refused(uri: str, context: ssl.SSLContext | None) -> int:
    def refused() -> int:
        try:
            ws = open_websocket_client(uri, context)
        except websocket.WebSocketBadStatusException as error:
            return int(error.status_code)
        try:
            return close_code_of(ws)
        finally:
            ws.shutdown()  # type: ignore[no-untyped-call]

    return await asyncio.to_thread(refused)


# aiohttp


async def aiohttp_echo(
    uri: str, text: str, context: ssl.SSLContext | None
) -> tuple[str, int]:
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(uri, ssl=context or True) as ws,
    ):
        await ws.send_str(text)
        echoed = await ws.receive_str()
        closed = await ws.receive()
        assert closed.type is aiohttp.WSMsgType.CLOSE
        assert ws.close_code is not None
        return echoed, ws.close_code


async def aiohttp_refused(uri: str, context: ssl.SSLContext | None) -> int:
    async with aiohttp.ClientSession() as session:
        try:
            async with session.ws_connect(uri, ssl=context or True) as ws:
                closed = await ws.receive()
                assert closed.type is aiohttp.WSMsgType.CLOSE
                assert ws.close_code is not None
                return ws.close_code
        except aiohttp.WSServerHandshakeError as error:
            return error.status


CLIENTS: dict[str, tuple[Echo, Refused]] = {
    "websockets": (websockets_echo, websockets_refused),
    "websocket-client": (websocket_client_echo, websocket_client_refused),
    "aiohttp": (aiohttp_echo, aiohttp_refused),
}

each_client = pytest.mark.parametrize(
    ("echo", "refused"), CLIENTS.values(), ids=CLIENTS.keys()
)
each_way = pytest.mark.parametrize("way", WAYS_IN.values(), ids=WAYS_IN.keys())


@pytest.fixture
def router() -> Router:
    router = Router()

    @router.route("/echo/{times}")
    async def echo(ws: ServerConnection, path: RoutedPath) -> None:
        text = await ws.recv(decode=True)
        await ws.send(text * int(path.params["times"]))

    @router.route("/secret")
    class Secret:
        def process_request(
            self, path: RoutedPath, headers: object
        ) -> tuple[int, dict[str, str], str]:
            return (403, {}, "not you\n")

        async def handle(self, ws: ServerConnection) -> None:
            raise AssertionError("it was let in")

    return router


@each_client
@each_way
async def test_a_client_is_echoed_and_closed(
    echo: Echo, refused: Refused, way: WayIn, router: Router
) -> None:
    async with serving(way.serve(router)) as url:
        assert await echo(f"{url}/echo/2?x=%ff", "hé", None) == ("héhé", 1000)


@each_client
@each_way
async def test_a_client_is_told_that_nothing_is_there(
    echo: Echo, refused: Refused, way: WayIn, router: Router
) -> None:
    async with serving(way.serve(router)) as url:
        assert await refused(f"{url}/nowhere", None) == way.refusal(404, 4040)


@each_client
@each_way
async def test_a_client_is_told_that_it_may_not(
    echo: Echo, refused: Refused, way: WayIn, router: Router
) -> None:
    async with serving(way.serve(router)) as url:
        assert await refused(f"{url}/secret", None) == way.refusal(403, 1008)


@each_client
@pytest.mark.parametrize("way", ["serve", "handle"])
async def test_a_client_has_the_same_answers_over_tls(
    echo: Echo, refused: Refused, way: str, router: Router
) -> None:
    authority = trustme.CA()
    served = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trusting = ssl.create_default_context()
    authority.issue_cert(HOST).configure_cert(served)
    authority.configure_trust(trusting)
    server = WAYS_IN[way].serve(router, ssl=served)
    async with serving(server):
        url = address(server, "wss")
        assert await echo(f"{url}/echo/1", "hé", trusting) == ("hé", 1000)
        missing = WAYS_IN[way].refusal(404, 4040)
        assert await refused(f"{url}/nowhere", trusting) == missing
