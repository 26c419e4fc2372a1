"""How requests end that are none of the usual ones: shared hooks, ends of servers."""

from __future__ import annotations

import asyncio
import socket
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

import pytest

from websockets_routes import ClientDisconnected, InvalidLimit, Router, RoutesError
from websockets_routes.http import Request, Response
from websockets_routes.http.body import ReceivedBody
from websockets_routes.http.head import ends_soundly
from websockets_routes.servers import OpenRequests
from websockets_routes.testing import client, dispatch

from .servers import HOST, port, serving, until
from .test_lifespan import running


async def events() -> Any:
    yield "never"


@pytest.mark.parametrize(
    ("answer", "status", "text"),
    [
        (lambda: Response({"no": "way"}, 403), 403, '{"no": "way"}'),
        (lambda: Response.error("a teapot", 418), 418, "a teapot"),
        (lambda: Response(events()), 500, "the handshake failed\n"),
        (lambda: Response.file(__file__), 500, "the handshake failed\n"),
    ],
    ids=["returned", "error", "stream", "file"],
)
async def test_a_hook_may_answer_handshakes_as_it_answers_requests(
    answer: Any, status: int, text: str
) -> None:
    router = Router()
    router.before_handshake(lambda ws, path: answer())
    router.get("/x")(lambda request: "never")

    @router.route("/x")
    async def handler(ws: Any) -> None: ...

    async with client(router) as c:
        refused = await c.refusal("/x")
        assert (refused.status, refused.text) == (status, text)


async def test_a_response_may_be_raised_in_a_handshake_and_by_an_error_handler() -> (
    None
):
    router = Router()

    @router.before_handshake
    def deny(ws: Any, path: Any) -> None:
        if "raise" in path.query_params:
            raise Response.error("not you", 403)
        raise LookupError

    @router.on_error(LookupError)
    def explain(error: Any, ws: Any, path: Any) -> None:
        raise Response.error("not here", 404)

    @router.route("/x")
    async def handler(ws: Any) -> None: ...

    router.get("/x")(lambda request: "never")
    async with client(router) as c:
        assert (await c.refusal("/x?raise")).status == 403
        assert (await c.refusal("/x")).text == "not here"
    assert (await dispatch(router, Request("GET", "/x?raise"))).text == "not you"
    assert (await dispatch(router, Request("GET", "/x"))).text == "not here"


async def test_what_a_handler_awaits_may_be_cancelled() -> None:
    router = Router()

    @router.get("/")
    async def handler(request: Request) -> None:
        task = asyncio.ensure_future(asyncio.sleep(10))
        task.cancel()
        await task

    assert (await dispatch(router, Request("GET", "/"))).status == 500


async def test_a_request_that_is_cancelled_is_not_answered() -> None:
    router = Router()
    asked = asyncio.Event()

    @router.get("/")
    async def handler(request: Request) -> None:
        asked.set()
        await asyncio.get_running_loop().create_future()

    task = asyncio.create_task(dispatch(router, Request("GET", "/")))
    await asked.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_route_whose_condition_says_no_is_not_there() -> None:
    router = Router()
    router.get("/", condition=lambda path, headers: False)(lambda request: "never")
    assert (await dispatch(router, Request("GET", "/"))).status == 404


@pytest.mark.parametrize("method", ["", "G ET", 7])
def test_a_method_is_a_token(method: Any) -> None:
    with pytest.raises(InvalidLimit, match="is no HTTP method"):
        Router().route("/", methods=[method])(lambda request: None)


async def test_only_one_task_reads_a_body() -> None:
    body = ReceivedBody(lambda: None, lambda: None, lambda: None)
    first = asyncio.create_task(body.read())
    await asyncio.sleep(0)
    with pytest.raises(RoutesError, match="another task"):
        await body.read()
    body.fail(ClientDisconnected("gone"))
    with pytest.raises(ClientDisconnected):
        await first


def test_a_chunked_body_ends_with_a_last_chunk() -> None:
    assert ends_soundly(b"0\r\n\r\nGET", b"GET")
    assert not ends_soundly(b"no such line", b"")


async def test_there_is_nothing_to_wait_for_where_there_is_no_request() -> None:
    await OpenRequests().wait_empty()


async def test_a_connection_that_has_asked_for_nothing_can_be_aborted() -> None:
    router = Router()
    router.get("/")(lambda request: "never")
    server = router.serve(HOST, 0)
    async with serving(server):
        reader, writer = await asyncio.open_connection(HOST, port(server))
        await until(lambda: bool(server.requests))
        (front,) = server.requests
        assert front.task is None
        front.abort()
        with suppress(ConnectionError):
            assert await reader.read() == b""
        writer.close()
        assert not server.requests


async def test_a_client_that_does_not_read_its_response_does_not_hold_up_the_end() -> (
    None
):
    router = Router()
    answered = asyncio.Event()

    @router.get("/")
    async def handler(request: Request) -> bytes:
        request.start_task(asyncio.sleep(0)).add_done_callback(lambda _: answered.set())
        return b"x" * 60_000

    async with client(router, close_timeout=0.1) as c:
        with socket.socket() as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            sock.setblocking(False)
            loop = asyncio.get_running_loop()
            await loop.sock_connect(sock, (HOST, c.port))
            for _ in range(60):
                await loop.sock_sendall(sock, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            await answered.wait()
            c.server.close()
            await c.server.wait_closed()
            assert not c.server.is_serving()


async def test_a_run_ends_in_time_whatever_a_request_waits_for() -> None:
    router = Router()
    asked = asyncio.Event()
    ended = asyncio.Event()

    @router.get("/")
    async def handler(request: Request) -> None:
        asked.set()
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            ended.set()

    async with running(router, close_timeout=0.2) as (task, uri):
        _, writer = await asyncio.open_connection(HOST, urlsplit(uri).port)
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        await asked.wait()
        task.cancel()
        await asyncio.wait({task})
        assert ended.is_set()
        writer.close()


async def test_a_connection_that_waits_for_its_next_request_can_be_aborted() -> None:
    router = Router()
    router.get("/")(lambda request: "hello")
    server = router.serve(HOST, 0)
    async with serving(server):
        reader, writer = await asyncio.open_connection(HOST, port(server))
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (await reader.readuntil(b"hello")).startswith(b"HTTP/1.1 200 OK")
        (connection,) = server.requests
        await until(lambda: connection.task is None)
        connection.abort()
        with suppress(ConnectionError):
            assert await reader.read() == b""
        writer.close()
        await until(lambda: not server.requests)


@pytest.mark.parametrize("handled", [True, False])
async def test_an_error_handler_hears_of_a_stream_that_fails(
    handled: bool, caplog: pytest.LogCaptureFixture
) -> None:
    router = Router()
    heard: list[tuple[str, str]] = []

    @router.get("/")
    async def stream(request: Request) -> Any:
        yield "half"
        raise LookupError("the rest is gone")

    if handled:

        @router.on_error(LookupError)
        def hear(error: Any, request: Any, path: Any) -> Response:
            heard.append((str(error), str(path)))
            return Response("too late", 500)

    server = router.serve(HOST, 0)
    async with serving(server):
        reader, writer = await asyncio.open_connection(HOST, port(server))
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        answer = b""
        with suppress(ConnectionError):
            answer = await reader.read()
        assert b"too late" not in answer
        assert not answer.endswith(b"0\r\n\r\n")
        writer.close()
        await until(lambda: not server.requests)
    assert heard == ([("the rest is gone", "/")] if handled else [])
    assert ("response to" in caplog.text) is not handled
