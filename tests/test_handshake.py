"""Handshake: what the ways in have in common, and its corners."""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from typing import Any

import pytest
from websockets import Headers, Request, Response
from websockets.asyncio.server import ServerConnection
from websockets.exceptions import InvalidHandshake

from websockets_routes import BadRequest, Protocol, RoutedPath, Router
from websockets_routes.handshake import NOT_FOUND

from .integration.servers import (
    HOST,
    answer,
    connecting,
    end,
    refusal,
    serve_plain,
    serving,
)


@pytest.fixture
def router() -> Router:
    router = Router()

    @router.route("/{id}")
    async def handler(ws: ServerConnection) -> None:
        pass

    return router


def test_the_close_code_of_what_is_not_found_is_that_of_release_0_2() -> None:
    assert NOT_FOUND == 4040


@pytest.mark.parametrize("opens_first", [False, True])
async def test_a_hook_may_raise_bad_request(
    opens_first: bool, caplog: pytest.LogCaptureFixture
) -> None:
    router = Router()

    @router.route("/{id}")
    class Endpoint:
        def process_request(self, path: RoutedPath, headers: Headers) -> None:
            raise BadRequest("the id is odd")

        async def handle(self, ws: ServerConnection) -> None:
            raise NotImplementedError

    server = serve_plain(router) if opens_first else router.serve(HOST, 0)
    async with serving(server) as url:
        ended = await answer(f"{url}/7")
    assert ended == ((1008, "Bad Request") if opens_first else (400, "the id is odd\n"))
    assert not any(record.exc_info for record in caplog.records)


async def test_a_refusal_says_why_in_the_close_reason(router: Router) -> None:
    class Guarded(Protocol):
        def process_request(self, path: RoutedPath, headers: Headers) -> Any:
            return (HTTPStatus.UNAUTHORIZED, {}, "a token, please\n")

    server = serve_plain(router, create_connection=Guarded)
    async with serving(server) as url:
        assert await answer(f"{url}/7") == (1008, "Unauthorized")


async def test_a_status_without_a_phrase_closes_without_a_reason() -> None:
    router = Router()

    @router.route("/")
    class Endpoint:
        def process_request(self, path: RoutedPath, headers: Headers) -> Any:
            return (499, [], b"")

        async def handle(self, ws: ServerConnection) -> None:
            raise NotImplementedError

    async with serving(serve_plain(router)) as url:
        assert await answer(url) == (1008, "")


async def test_a_hook_that_outlasts_the_open_timeout_ends_the_connection() -> None:
    router, cancelled = Router(), asyncio.Event()

    @router.route("/")
    class Slow:
        async def process_request(self, path: RoutedPath, headers: Headers) -> None:
            try:
                await asyncio.Event().wait()
            finally:
                cancelled.set()

        async def handle(self, ws: ServerConnection) -> None:
            raise NotImplementedError

    async with serving(router.serve(HOST, 0, open_timeout=0.01)) as url:
        with pytest.raises((InvalidHandshake, OSError)):
            await connecting(url)
        await cancelled.wait()


@pytest.mark.parametrize(
    "awaitable", ["future", "task", "object"], ids=["future", "task", "object"]
)
async def test_a_hook_may_return_any_awaitable(router: Router, awaitable: str) -> None:
    async def refuse() -> Response:
        return Response(403, "Forbidden", Headers())

    class Awaitable:
        def __await__(self) -> Any:
            return refuse().__await__()

    def hook(connection: ServerConnection, request: Request) -> Any:
        if awaitable == "future":
            future = asyncio.get_running_loop().create_future()
            future.set_result((403, {}, ""))
            return future
        return asyncio.ensure_future(refuse()) if awaitable == "task" else Awaitable()

    async with serving(router.serve(HOST, 0, process_request=hook)) as url:
        assert await refusal(f"{url}/7") == 403


async def test_a_path_of_the_users_own_on_the_connection_is_no_routed_path(
    router: Router,
) -> None:
    """0.2's users may have set ``ws.path``, as the old websockets did."""
    seen = []

    @router.route("/thing/{id}")
    async def thing(ws: Any, path: RoutedPath) -> None:
        seen.append((path.params, ws.path is path))

    async def handler(ws: Any) -> None:
        ws.path = ws.request.path
        await router(ws, ws.path)

    async with serving(serve_plain(handler)) as url:
        assert await refusal(f"{url}/thing/7") == 1000
        assert await refusal(f"{url}/a/b") == 4040
    assert seen == [({"id": "7"}, True)]


async def test_a_path_that_no_hook_has_let_in_is_not_handled() -> None:
    """Whoever sets ``ws.path`` to a match of one's own does not skip a guard."""
    router = Router()

    @router.route("/{id}")
    class Guarded:
        def process_request(self, path: RoutedPath, headers: Headers) -> Any:
            return (403, [], b"")

        async def handle(self, ws: ServerConnection) -> None:
            raise NotImplementedError

    async def handler(ws: Any) -> None:
        ws.path = router.match(ws.request.path)
        await router(ws)

    async with serving(serve_plain(handler)) as url:
        assert await refusal(f"{url}/7") == 1008


async def test_a_response_that_switches_protocols_does_not_skip_a_guard() -> None:
    router = Router()

    @router.route("/")
    class Guarded:
        def process_request(self, path: RoutedPath, headers: Headers) -> Any:
            return Response(101, "Switching Protocols", Headers())

        async def handle(self, ws: ServerConnection) -> None:
            raise AssertionError("it was let in")

    async with serving(router.serve(HOST, 0)) as url:
        with pytest.raises(InvalidHandshake):
            await connecting(url)


async def test_a_route_may_be_handled_twice_on_one_connection(router: Router) -> None:
    """The second call goes on with what the handshake let in."""
    trace = []

    @router.route("/thing/{id}")
    class Thing:
        def process_request(self, path: RoutedPath, headers: Headers) -> None:
            trace.append("hook")

        async def handle(self, ws: ServerConnection) -> None:
            trace.append("handle")

    async def handler(ws: ServerConnection) -> None:
        await router(ws)
        await router(ws)

    server = serve_plain(handler, process_request=router.process_request)
    async with serving(server) as url:
        assert await refusal(f"{url}/thing/7") == 1000
    assert trace == ["hook", "handle", "handle"]


async def test_a_connection_that_its_client_has_closed_is_refused_in_peace(
    router: Router, caplog: pytest.LogCaptureFixture
) -> None:
    gone = asyncio.Event()

    async def handler(ws: ServerConnection) -> None:
        await ws.wait_closed()
        await router(ws, "/a/b")
        gone.set()

    async with serving(serve_plain(handler)) as url:
        async with connecting(f"{url}/7") as ws:
            pass
        await gone.wait()
        assert await end(ws) == (1000, "")
    assert not any(record.exc_info for record in caplog.records)
