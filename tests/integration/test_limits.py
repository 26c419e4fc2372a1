"""Limits of a server: how many connections it takes, in all and from one address."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, unix_connect
from websockets.asyncio.server import Server
from websockets.exceptions import InvalidStatus

from websockets_routes import InvalidLimit, Protocol, RoutedPath, Router

from .servers import (
    HOST,
    MyProtocol,
    answer,
    connecting,
    exchange,
    receive,
    refusal,
    serving,
    status_line,
)

LIMITS = ["max_connections", "max_connections_per_address"]
each_limit = pytest.mark.parametrize("limit", LIMITS)

REQUEST = (
    b"GET /echo HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n"
    b"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)


@pytest.fixture
def router() -> Router:
    router = Router()

    @router.route("/echo")
    async def echo(ws: Protocol) -> None:
        async for message in ws:
            await ws.send(message)

    @router.route("/broken")
    class Broken:
        def process_request(self, path: RoutedPath, headers: object) -> None:
            raise ZeroDivisionError

        async def handle(self, ws: Protocol) -> None: ...

    @router.route("/secret")
    class Secret:
        def process_request(self, path: RoutedPath, headers: object) -> Any:
            return (403, {}, "no\n")

        async def handle(self, ws: Protocol) -> None: ...

    @router.route("/fails")
    async def fails(ws: Protocol) -> None:
        raise ZeroDivisionError

    return router


def serve(router: Router, limit: str, value: Any, **kwargs: Any) -> Server:
    kwargs[limit] = value
    return router.serve(HOST, 0, **kwargs)


@asynccontextmanager
async def attempt(uri: str, **kwargs: Any) -> AsyncIterator[ClientConnection | None]:
    """Connect; yield None where that is refused with 503."""
    async with AsyncExitStack() as stack:
        client = None
        try:
            client = await stack.enter_async_context(connecting(uri, **kwargs))
        except InvalidStatus as error:
            if error.response.status_code != 503:
                raise
        yield client


async def full_at(url: str, places: int, **kwargs: Any) -> None:
    """Check that so many connections are let in, and no more.

    Whoever was there a moment ago may still be on its way out.
    """
    async with AsyncExitStack() as stack:
        for _ in range(places):
            async with asyncio.timeout(5):
                while True:
                    opening = attempt(f"{url}/echo", **kwargs)
                    client = await stack.enter_async_context(opening)
                    if client is not None:
                        break
            await client.send("in")
            assert await client.recv() == "in"
        for _ in range(3):
            assert await refusal(f"{url}/echo", **kwargs) == 503


@each_limit
async def test_one_connection_too_many_is_refused_with_503(
    limit: str, router: Router
) -> None:
    async with serving(serve(router, limit, 2)) as url:
        await full_at(url, 2)


@each_limit
async def test_the_refusal_says_why(limit: str, router: Router) -> None:
    async with (
        serving(serve(router, limit, 1)) as url,
        connecting(f"{url}/echo"),
    ):
        assert await answer(f"{url}/echo") == (503, "too many connections\n")
        assert await answer(f"{url}/nowhere") == (503, "too many connections\n")
        response = await exchange(
            int(url.rpartition(":")[2]), REQUEST.replace(b"GET", b"HEAD")
        )
        assert status_line(response) == "HTTP/1.1 503 Service Unavailable"


@each_limit
@pytest.mark.parametrize("how", ["close", "abort", "server", "fails"])
async def test_a_place_is_free_again_after_a_connection(
    limit: str, how: str, router: Router
) -> None:
    server = serve(router, limit, 2)
    async with serving(server) as url:
        for _ in range(3):
            path = "fails" if how == "fails" else "echo"
            async with connecting(f"{url}/{path}") as client:
                if how == "abort":
                    client.transport.abort()
                elif how == "server":
                    await asyncio.gather(*(ws.close() for ws in server.connections))
                elif how == "fails":
                    await client.wait_closed()
            await full_at(url, 2)


@each_limit
async def test_places_are_free_again_after_refused_handshakes(
    limit: str, router: Router
) -> None:
    async with serving(serve(router, limit, 2)) as url:
        for path, status in (
            ("nowhere", 404),
            ("secret", 403),
            ("broken", 500),
            ("%00", 400),
        ):
            for _ in range(4):
                seen = await refusal(f"{url}/{path}")
                assert seen in (status, 503)  # the one before may still be leaving
            await full_at(url, 2)
        await full_at(url, 2)


@each_limit
@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"GET /echo HT",
        b"garbage\r\n\r\n",
        REQUEST.replace(b"Version: 13", b"Version: 7"),
        REQUEST.replace(b"Host: localhost\r\n", b""),
        REQUEST.replace(b"GET", b"POST"),
        REQUEST[:-2] + b"Content-Length: 5\r\n\r\nhello",
        REQUEST + b"\xff\xff\xff\xff",
        REQUEST,
    ],
    ids=[
        "nothing",
        "half",
        "garbage",
        "version",
        "host",
        "post",
        "body",
        "early",
        "request",
    ],
)
async def test_places_are_free_again_after_failed_handshakes(
    limit: str, data: bytes, router: Router
) -> None:
    async with serving(serve(router, limit, 2)) as url:
        for _ in range(5):
            _, writer = await asyncio.open_connection(HOST, int(url.rpartition(":")[2]))
            writer.write(data)
            if data:
                await writer.drain()
            writer.transport.abort()
        await full_at(url, 2)


@each_limit
async def test_a_place_is_free_again_after_a_hook_that_was_cancelled(
    limit: str,
) -> None:
    router = Router()
    asked = asyncio.Event()

    @router.route("/echo")
    class Slow:
        async def process_request(self, path: RoutedPath, headers: object) -> None:
            if not asked.is_set():
                asked.set()
                await asyncio.Event().wait()

        async def on_text(self, ws: Protocol, text: str) -> None:
            await ws.send(text)

    server = serve(router, limit, 1, open_timeout=0.1)
    async with serving(server) as url:
        _, writer = await asyncio.open_connection(HOST, int(url.rpartition(":")[2]))
        writer.write(REQUEST)
        await asked.wait()
        assert await refusal(f"{url}/echo") == 503
        await full_at(url, 1)
        writer.close()


@each_limit
async def test_the_limit_holds_when_all_come_at_once(
    limit: str, router: Router
) -> None:
    async with (
        serving(serve(router, limit, 3)) as url,
        AsyncExitStack() as stack,
    ):
        let_in = await asyncio.gather(
            *(stack.enter_async_context(attempt(f"{url}/echo")) for _ in range(10))
        )
        # In all, also those count that are about to be refused.
        number = sum(client is not None for client in let_in)
        assert number == 3 if limit == "max_connections_per_address" else number <= 3


@each_limit
async def test_each_server_has_places_of_its_own(limit: str, router: Router) -> None:
    async with (
        serving(serve(router, limit, 1)) as one,
        serving(serve(router, limit, 2)) as other,
    ):
        await full_at(other, 2)
        await full_at(one, 1)
        await full_at(other, 2)


@pytest.mark.parametrize("way", ["class", "function"])
@each_limit
async def test_the_limit_holds_with_a_connection_class_of_the_users_own(
    way: str, limit: str, router: Router
) -> None:
    create = MyProtocol if way == "class" else lambda *args, **kw: Protocol(*args, **kw)
    server = serve(router, limit, 1, create_connection=create)
    async with serving(server) as url:
        await full_at(url, 1)


@each_limit
async def test_a_hook_of_the_user_is_not_asked_where_there_is_no_room(
    limit: str, router: Router
) -> None:
    asked = []

    def process_request(connection: object, request: object) -> None:
        asked.append(request)

    server = serve(router, limit, 1, process_request=process_request)
    async with serving(server) as url, connecting(f"{url}/echo"):
        assert await refusal(f"{url}/echo") == 503
    assert len(asked) == 1


@pytest.mark.skipif(sys.platform != "linux", reason="has but one address of its own")
async def test_each_address_has_places_of_its_own(router: Router) -> None:
    server = router.serve(HOST, 0, max_connections_per_address=2)
    async with serving(server) as url:
        async with connecting(f"{url}/echo"), connecting(f"{url}/echo"):
            assert await refusal(f"{url}/echo") == 503
            await full_at(url, 2, local_addr=("127.0.0.2", 0))
            assert await refusal(f"{url}/echo") == 503
        await full_at(url, 2)


async def test_both_limits_hold_at_once(router: Router) -> None:
    server = router.serve(HOST, 0, max_connections=3, max_connections_per_address=2)
    async with serving(server) as url:
        await full_at(url, 2)
    server = router.serve(HOST, 0, max_connections=2, max_connections_per_address=3)
    async with serving(server) as url:
        await full_at(url, 2)


async def test_a_unix_socket_has_no_addresses(router: Router, tmp_path: Path) -> None:
    path = str(tmp_path / "socket")
    async with (
        router.unix_serve(path, max_connections_per_address=1),
        unix_connect(path, uri="ws://localhost/echo") as one,
        unix_connect(path, uri="ws://localhost/echo") as other,
    ):
        for client in (one, other):
            await client.send("in")
            assert await client.recv() == "in"


async def test_there_is_no_limit_for_an_address_by_default(router: Router) -> None:
    async with serving(router.serve(HOST, 0)) as url, AsyncExitStack() as stack:
        for _ in range(50):
            await stack.enter_async_context(connecting(f"{url}/echo"))


async def test_none_is_for_no_limit(router: Router) -> None:
    limits: dict[str, Any] = dict.fromkeys([*LIMITS, "stall_timeout", "max_backlog"])
    async with (
        serving(router.serve(HOST, 0, **limits)) as url,
        connecting(f"{url}/echo") as one,
        connecting(f"{url}/echo"),
    ):
        await one.send("in")
        assert await one.recv() == "in"


@each_limit
async def test_a_connection_that_is_handled_by_another_path_takes_one_place(
    limit: str, router: Router
) -> None:
    # ``handle(ws, path)``: the path to route by, if not the one requested.
    @router.route("/outer")
    async def outer(ws: Protocol) -> None:
        await router.handle(ws, "/inner")

    @router.route("/inner")
    async def inner(ws: Protocol) -> None:
        await ws.send("inner")

    async with serving(serve(router, limit, 1)) as url:
        for _ in range(3):
            async with asyncio.timeout(5):
                while True:
                    try:
                        assert await receive(f"{url}/outer") == "inner"
                        break
                    except InvalidStatus:
                        continue


@pytest.mark.parametrize("limit", [*LIMITS, "max_backlog", "stall_timeout"])
@pytest.mark.parametrize(
    "value", [0, -1, -0.5, True, False, "1", float("nan"), [1], {}], ids=repr
)
async def test_a_limit_that_is_no_positive_number_raises(
    limit: str, value: Any
) -> None:
    router = Router()
    with pytest.raises(InvalidLimit, match=limit):
        serve(router, limit, value).close()
