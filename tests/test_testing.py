"""Testing one's own router: clients, refusals, waiting, stalled peers, leftovers."""

from __future__ import annotations

import asyncio
import gc
import socket
import ssl
import subprocess
import sys
import weakref
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
import trustme
from websockets import (
    ConnectionClosed,
    ConnectionClosedOK,
    InvalidMessage,
    InvalidStatus,
    Response,
)
from websockets.asyncio.client import ClientConnection

from websockets_routes import Filter, Protocol, Router
from websockets_routes.testing import TIMEOUT, Client, Refused, client

from .integration.servers import HOST, connecting, exchange, status_line

# What a test may take before it fails where it would hang.
SOON = 0.1


@pytest.fixture
def router() -> Router:
    router = Router()

    @router.route("/echo/{name}")
    async def echo(ws: Protocol) -> None:
        async for message in ws:
            await ws.send(message)

    @router.route("/headers")
    async def headers(ws: Protocol) -> None:
        asked = {name.lower(): value for name, value in ws.headers.raw_items()}
        await ws.send_json(asked)

    @router.route("/hear/{topic}")
    async def hear(ws: Protocol) -> None:
        topic = ws.params["topic"]
        await ws.subscribe(topic)
        async for message in ws:
            assert message == "leave"
            ws.unsubscribe(topic)

    return router


# Connecting


async def test_a_client_meets_a_router_without_a_port_to_choose(
    router: Router,
) -> None:
    async with client(router) as c:
        assert c.router is router
        assert c.url == f"ws://{HOST}:{c.port}"
        assert c.server.sockets[0].getsockname() == (HOST, c.port)
        ws = await c.connect("/echo/a?b=c")
        await ws.send("hello")
        assert await ws.recv() == "hello"
        async with await c.connect("/echo/b") as other:
            await other.send(b"bytes")
            assert await other.recv() == b"bytes"
        async with connecting(f"{c.url}/echo/c"):
            pass
    with pytest.raises(OSError, match="Connect"):
        await c.connect("/echo/a")


async def test_two_clients_of_two_routers_do_not_meet(router: Router) -> None:
    async with client(router) as first, client(Router()) as second:
        assert first.port != second.port
        await first.connect("/echo/a")
        assert (await second.refusal("/echo/a")).status == 404


async def test_a_client_sends_what_it_is_told(router: Router) -> None:
    async with client(router, subprotocols=["two", "one"]) as c:
        ws = await c.connect(
            "/headers",
            headers={"X-Token": "t"},
            origin="https://example.com",
            subprotocols=["one", "three"],
            compression=None,
            user_agent_header="tests",
        )
        text = await ws.recv()
    assert '"x-token": "t"' in text
    assert '"origin": "https://example.com"' in text
    assert '"user-agent": "tests"' in text
    assert f'"host": "{HOST}:{c.port}"' in text
    assert "sec-websocket-extensions" not in text
    assert ws.subprotocol == "one"


async def test_a_client_offers_compression_by_default(router: Router) -> None:
    async with client(router) as c:
        ws = await c.connect("/headers")
        assert "permessage-deflate" in str(await ws.recv())


async def test_a_client_asks_for_a_host_by_name(router: Router) -> None:
    @router.host("{tenant}.example.com").route("/")
    async def tenant(ws: Protocol) -> None:
        await ws.send(f"{ws.params['tenant']} {ws.headers['Host']}")

    async with client(router) as c:
        ws = await c.connect("/", host="me.example.com")
        assert await ws.recv() == f"me me.example.com:{c.port}"
        assert (await c.refusal("/")).status == 404
        stalled = await c.stalled("/", host="me.example.com")
        stalled.resume()
        assert str(await stalled.ws.recv()).startswith("me ")


@pytest.mark.parametrize("path", ["", "echo/a", "?a=b", "ws://127.0.0.1/echo/a"])
async def test_a_path_begins_with_a_slash(router: Router, path: str) -> None:
    async with client(router) as c:
        with pytest.raises(ValueError, match="a path begins with a slash"):
            await c.connect(path)


async def test_no_proxy_of_the_environment_is_asked(
    router: Router, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "https_proxy", "socks_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.delenv("no_proxy", raising=False)
    async with client(router) as c:
        await c.connect("/echo/a")


# Refusals


async def test_a_refusal_is_an_object(router: Router) -> None:
    @router.before_handshake
    def refuse(ws: Protocol, path: Any) -> Any:
        return 403, {"X-Why": "no"}, "nö\n"

    async with client(router) as c:
        with pytest.raises(Refused) as caught:
            await c.connect("/echo/a")
        returned = await c.refusal("/echo/a")
    for refused in (caught.value, returned):
        assert isinstance(refused, InvalidStatus)
        assert refused.status == 403
        assert refused.headers["X-Why"] == "no"
        assert refused.body == "nö\n".encode()
        assert type(refused.body) is bytes
        assert refused.text == "nö\n"
        assert str(refused) == "refused with HTTP 403: nö"


async def test_a_refusal_that_is_no_text_is_shown_all_the_same(router: Router) -> None:
    @router.before_handshake
    def refuse(ws: Protocol, path: Any) -> Any:
        return 400, {}, b"\xff\x00"

    async with client(router) as c:
        refused = await c.refusal("/echo/a")
    assert (refused.body, refused.text) == (b"\xff\x00", "\ufffd\x00")


async def test_a_redirect_is_a_refusal(router: Router) -> None:
    @router.before_handshake
    def move(ws: Protocol, path: Any) -> Any:
        return 302, {"Location": "/echo/b"}, ""

    async with client(router) as c:
        refused = await c.refusal("/echo/a")
    assert (refused.status, refused.headers["Location"]) == (302, "/echo/b")


async def test_a_refusal_that_does_not_come_fails_the_test(router: Router) -> None:
    async with client(router) as c:
        with pytest.raises(AssertionError, match=r"'/echo/a' was not refused"):
            await c.refusal("/echo/a")
        assert not c.server.connections


async def test_an_answer_that_is_no_response_is_no_refusal(router: Router) -> None:
    @router.before_handshake
    def drop(ws: Protocol, path: Any) -> None:
        ws.transport.abort()

    async with client(router) as c:
        with pytest.raises(InvalidMessage):
            await c.refusal("/echo/a")


# Waiting for subscribers


async def test_subscribers_are_waited_for(router: Router) -> None:
    async with client(router) as c:
        waiting = [asyncio.create_task(c.subscribed("a", n)) for n in (1, 2, 2, 3)]
        await c.subscribed("a", 0)
        await c.connect("/hear/b")
        await c.connect("/hear/a")
        await c.connect("/hear/a")
        await c.subscribed("b")
        await asyncio.gather(*waiting[:3])
        assert router.num_subscribers("a") == 2
        assert not waiting[3].done()
        await c.connect("/hear/a")
        await waiting[3]
        await c.subscribed("a", 3, timeout=0)


async def test_a_subscriber_that_left_does_not_count(router: Router) -> None:
    async with client(router) as c:
        ws = await c.connect("/hear/a")
        await c.subscribed("a")
        await ws.send("leave")
        await (await ws.ping())
        waiting = asyncio.create_task(c.subscribed("a"))
        await c.connect("/hear/b")
        await c.subscribed("b")
        assert not waiting.done()
        await c.connect("/hear/a")
        await waiting


async def test_a_filter_is_waited_for_as_such(router: Router) -> None:
    @router.route("/all")
    async def hear_all(ws: Protocol) -> None:
        await ws.subscribe(Filter("a/#"))
        await ws.wait_closed()

    async with client(router) as c:
        await c.connect("/all")
        await c.subscribed(Filter("a/#"))
        assert router.num_subscribers("a/b") == 0


@pytest.mark.parametrize("of", ["client", "call"])
async def test_waiting_for_subscribers_ends_with_a_clear_text(
    router: Router, of: str
) -> None:
    async with client(router, timeout=SOON if of == "client" else TIMEOUT) as c:
        await c.connect("/hear/a")
        await c.subscribed("a")
        options = {} if of == "client" else {"timeout": SOON}
        with pytest.raises(TimeoutError) as caught:
            await c.subscribed("a", 2, **options)
    text = "after 0.1 seconds, 1 of 2 connections are subscribed to 'a'"
    assert str(caught.value) == text
    assert caught.value.__suppress_context__


async def test_a_router_can_be_waited_for_many_times(router: Router) -> None:
    called = 0

    @router.topics.on_subscription
    def count(ws: Any, topic: str, new: int, old: int) -> None:
        nonlocal called
        called += 1

    for _ in range(3):
        async with client(router) as c:
            await c.connect("/hear/a")
            await c.subscribed("a")
    assert called == 6


async def test_topics_that_were_waited_for_can_be_forgotten() -> None:
    router = Router()
    with pytest.raises(TimeoutError):
        await reach_in_no_time(router)
    topics = weakref.ref(router.topics)
    del router
    gc.collect()
    assert topics() is None


async def reach_in_no_time(router: Router) -> None:
    async with client(router) as c:
        await c.subscribed("a", timeout=0)


# Stalled peers


@pytest.fixture
def flooding(router: Router) -> asyncio.Event:
    """Tell that a route has sent until its peer was slow."""
    is_slow = asyncio.Event()

    @router.route("/flood")
    async def flood(ws: Protocol) -> None:
        number = 0
        while ws.transport.get_write_buffer_size() < 2**16:
            ws.send_nowait(f"{number:<10000}")
            number += 1
            await asyncio.sleep(0)
        is_slow.set()
        await ws.send("end")
        await ws.wait_closed()

    return is_slow


async def test_a_stalled_peer_reads_on_where_it_stopped(
    router: Router, flooding: asyncio.Event
) -> None:
    async with client(router, compression=None) as c:
        stalled = await c.stalled("/flood")
        await flooding.wait()
        stalled.resume()
        number = 0
        while (message := await stalled.ws.recv()) != "end":
            assert int(message) == number
            number += 1
        await stalled.close()
        assert stalled.ws.close_code == 1000


async def test_a_stalled_peer_closes_by_going_away(
    router: Router, flooding: asyncio.Event
) -> None:
    async with client(router, compression=None) as c:
        stalled = await c.stalled("/flood")
        await flooding.wait()
        await stalled.close()
        await stalled.close()
        assert stalled.ws.close_code == 1006


async def test_a_stalled_peer_is_aborted_by_the_server(
    router: Router, flooding: asyncio.Event
) -> None:
    async with client(router, compression=None, stall_timeout=SOON) as c:
        stalled = await c.stalled("/flood")
        await flooding.wait()
        (ws,) = c.server.connections
        await ws.wait_closed()
        stalled.resume()
        await read_to_the_end(stalled.ws)
    assert stalled.ws.close_code == 1006


async def read_to_the_end(ws: ClientConnection) -> None:
    with suppress(ConnectionClosed):
        while True:
            await ws.recv()


@pytest.mark.parametrize("resumed", [False, True])
async def test_leaving_the_client_closes_a_stalled_peer(
    router: Router, flooding: asyncio.Event, resumed: bool
) -> None:
    async with client(router, compression=None, timeout=1) as c:
        stalled = await c.stalled("/flood")
        await flooding.wait()
        if resumed:
            stalled.resume()
    await stalled.ws.wait_closed()


async def test_a_stalled_peer_can_send(router: Router) -> None:
    got = asyncio.get_running_loop().create_future()

    @router.route("/take")
    async def take(ws: Protocol) -> None:
        got.set_result(await ws.recv())

    async with client(router) as c:
        stalled = await c.stalled("/take", ping_interval=20)
        await stalled.ws.send("hello")
        assert await got == "hello"
        assert stalled.ws.ping_interval == 20


async def test_a_peer_cannot_stall_that_is_refused(router: Router) -> None:
    async with client(router) as c:
        with pytest.raises(Refused):
            await c.stalled("/none")
        c.port = unused_port()
        with pytest.raises(OSError, match="Connect"):
            await c.stalled("/echo/a")


def unused_port() -> int:
    with socket.socket() as sock:
        sock.bind((HOST, 0))
        return int(sock.getsockname()[1])


async def test_a_peer_whose_connection_ends_at_once_can_stall(router: Router) -> None:
    @router.route("/bye")
    async def bye(ws: Protocol) -> None:
        ws.transport.abort()

    async with client(router) as c:
        for _ in range(20):
            with suppress(InvalidMessage):
                stalled = await c.stalled("/bye")
                stalled.resume()
                await stalled.close()


# TLS


@pytest.fixture
def contexts() -> tuple[ssl.SSLContext, ssl.SSLContext]:
    authority = trustme.CA()
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(HOST, "me.example.com").configure_cert(server)
    theirs = ssl.create_default_context()
    authority.configure_trust(theirs)
    return server, theirs


async def test_a_client_meets_a_router_over_tls(
    router: Router, contexts: tuple[ssl.SSLContext, ssl.SSLContext]
) -> None:
    names: list[str | None] = []
    contexts[0].sni_callback = lambda _, name, __: names.append(name)
    async with client(router, ssl=contexts[0], client_ssl=contexts[1]) as c:
        assert c.url == f"wss://{HOST}:{c.port}"
        ws = await c.connect("/echo/a", host="me.example.com")
        await ws.send("hello")
        assert await ws.recv() == "hello"
        assert (await c.refusal("/none")).status == 404
        with pytest.raises(ssl.SSLCertVerificationError):
            await c.connect("/echo/a", host="you.example.com")
        with pytest.raises(ssl.SSLCertVerificationError):
            await c.connect("/echo/a", ssl=ssl.create_default_context())
    assert names == ["me.example.com", None, "you.example.com", None]


async def test_a_peer_stalls_over_tls(
    router: Router,
    flooding: asyncio.Event,
    contexts: tuple[ssl.SSLContext, ssl.SSLContext],
) -> None:
    options: Any = {"ssl": contexts[0], "client_ssl": contexts[1]}
    async with client(router, compression=None, **options) as c:
        first = await c.stalled("/flood")
        await flooding.wait()
        first.resume()
        while await first.ws.recv() != "end":
            pass
        flooding.clear()
        await c.stalled("/flood")
        await flooding.wait()


# Beginning and end


async def test_the_lifespan_is_around_the_client() -> None:
    log: list[str] = []
    closed: list[tuple[int | None, bool]] = []

    @asynccontextmanager
    async def lifespan() -> AsyncIterator[str]:
        log.append("enter")
        yield "state"
        log.append("leave")

    router = Router(lifespan=lifespan)
    router.on_shutdown(lambda: log.append("shutdown"))

    @router.route("/")
    async def handler(ws: Protocol) -> None:
        await ws.wait_closed()
        closed.append((ws.close_code, "leave" in log))

    for _ in range(2):
        async with client(router) as c:
            assert c.router.state == "state"
            await c.connect("/")
            log.append("body")
        assert log == ["enter", "body", "shutdown", "leave"]
        assert closed == [(1000, False)]
        log.clear()
        closed.clear()


async def test_a_failure_at_the_start_is_raised() -> None:
    router = Router()

    @router.on_start
    def fail() -> None:
        raise LookupError("no database")

    with pytest.raises(LookupError, match="no database"):
        async with client(router):
            pytest.fail("it does not serve")


async def test_options_reach_the_server(router: Router) -> None:
    async with client(router, max_connections=1, server_header="mine") as c:
        ws = await c.connect("/echo/a")
        assert ws.response is not None
        assert ws.response.headers["Server"] == "mine"
        assert (await c.refusal("/echo/a")).status == 503


async def test_leaving_closes_the_connections_and_the_server(router: Router) -> None:
    async with client(router) as c:
        sockets = [await c.connect("/echo/a") for _ in range(10)]
        await sockets[3].close(4000)
        sockets[4].transport.abort()
    assert {ws.close_code for ws in sockets} == {1000, 4000, 1006}
    assert not c.server.is_serving()


async def test_a_server_that_was_closed_already_ends_well(router: Router) -> None:
    async with client(router) as c:
        ws = await c.connect("/echo/a")
        c.server.close()
        with pytest.raises(ConnectionClosedOK):
            await ws.recv()
        assert ws.close_code == 1001


async def test_connections_of_others_are_closed_by_the_server(router: Router) -> None:
    async with client(router) as c:
        ws = await connecting(f"{c.url}/echo/a")
    await ws.wait_closed()
    assert ws.close_code == 1001


async def test_a_server_that_does_not_answer_a_close_is_left(router: Router) -> None:
    @router.route("/deaf")
    async def deaf(ws: Protocol) -> None:
        ws.transport.pause_reading()
        await asyncio.sleep(0)
        await ws.send("paused")
        await ended.wait()
        ws.transport.resume_reading()

    ended = asyncio.Event()
    async with client(router, timeout=SOON) as c:
        ws = await c.connect("/deaf")
        stalled = await c.stalled("/deaf")
        stalled.resume()
        assert await stalled.ws.recv() == "paused"
        assert await ws.recv() == "paused"
        asyncio.get_running_loop().call_later(SOON * 1.5, ended.set)
    assert ws.close_code == 1006
    assert stalled.ws.close_code == 1006


async def forever() -> None:
    await asyncio.Event().wait()


async def task_of_a_handler(ws: Protocol) -> None:
    ws.context["task"] = asyncio.create_task(forever())


async def task_of_a_task(ws: Protocol) -> None:
    async def another() -> None:
        ws.context["task"] = asyncio.create_task(forever())

    await asyncio.create_task(another())


async def task_of_a_callback(ws: Protocol) -> None:
    def later() -> None:
        ws.context["task"] = asyncio.create_task(forever())

    ws.loop.call_soon(later)


async def handler_that_hangs(ws: Protocol) -> None:
    await forever()


async def meet(
    router: Router, error: Exception | None = None, timeout: float = SOON
) -> None:
    async with client(router, timeout=timeout) as c:
        await c.connect("/")
        if error is not None:
            raise error


@pytest.mark.parametrize(
    ("handler", "what"),
    [
        (task_of_a_handler, "forever > Event.wait"),
        (task_of_a_task, "forever > Event.wait"),
        (task_of_a_callback, "forever > Event.wait"),
        (handler_that_hangs, "handler_that_hangs > forever > Event.wait"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
async def test_a_task_that_outlives_the_server_fails_the_test(
    handler: Callable[..., Any], what: str
) -> None:
    router = Router()
    router.route("/")(handler)
    before = asyncio.all_tasks()
    with pytest.raises(AssertionError, match="tasks outlive the server:") as caught:
        await meet(router)
    _, *lines = str(caught.value).splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("- Task-")
    assert lines[0].endswith(what)
    assert asyncio.all_tasks() <= before


async def test_a_task_of_the_lifespan_may_outlive_it_no_more_than_others() -> None:
    tasks = set()
    router = Router()
    router.on_start(lambda: tasks.add(asyncio.create_task(forever())))
    with pytest.raises(AssertionError, match="forever"):
        async with client(router, timeout=SOON):
            pass
    assert all(task.cancelled() for task in tasks)


async def test_a_lifespan_that_does_not_end_fails_the_test() -> None:
    @asynccontextmanager
    async def lifespan() -> AsyncIterator[None]:
        yield
        await forever()

    with pytest.raises(AssertionError, match=r"Lifetime\._run"):
        async with client(Router(lifespan=lifespan), timeout=SOON):
            pass


async def test_a_task_that_ends_a_little_later_is_waited_for(router: Router) -> None:
    ended = []

    async def nap() -> None:
        with suppress(asyncio.CancelledError):
            await asyncio.sleep(0.01)
        ended.append(asyncio.create_task(asyncio.sleep(0.01)))

    @router.route("/")
    async def handler(ws: Protocol) -> None:
        ws.context["task"] = asyncio.create_task(nap())

    async with client(router) as c:
        await c.connect("/")
    assert [task.done() for task in ended] == [True]


async def test_a_task_that_refuses_to_end_does_not_hang_the_test() -> None:
    released = asyncio.Event()
    router = Router()

    async def stubborn() -> None:
        while not released.is_set():
            with suppress(asyncio.CancelledError):
                await released.wait()

    @router.route("/")
    async def handler(ws: Protocol) -> None:
        ws.context["task"] = asyncio.create_task(stubborn())

    with pytest.raises(AssertionError, match="stubborn"):
        await meet(router)
    released.set()


async def test_tasks_of_the_test_are_none_of_the_server(router: Router) -> None:
    before = asyncio.create_task(forever())
    async with client(router) as c:
        await c.connect("/echo/a")
        during = asyncio.create_task(forever())
        async with client(router):
            nested = asyncio.create_task(forever())
    for task in (before, during, nested):
        assert not task.done()
        task.cancel()


async def test_a_future_that_the_server_waits_for_is_none_of_its_tasks() -> None:
    router = Router()
    task = asyncio.create_task(forever())

    @router.route("/")
    async def handler(ws: Protocol) -> None:
        await asyncio.wait({task}, timeout=0.01)

    async with client(router) as c:
        await c.connect("/")
    assert not task.done()
    task.cancel()


async def test_a_task_of_one_client_is_not_blamed_on_another(router: Router) -> None:
    router.route("/leak")(task_of_a_handler)
    blamed = client(router, timeout=SOON)
    async with client(Router()):
        c = await blamed.__aenter__()
        await c.connect("/leak")
    with pytest.raises(AssertionError, match="forever"):
        await blamed.__aexit__(None, None, None)


async def test_what_the_test_raises_is_not_hidden_by_what_is_left() -> None:
    router = Router()
    router.route("/")(task_of_a_handler)
    with pytest.raises(ZeroDivisionError) as caught:
        await meet(router, ZeroDivisionError())
    (note,) = caught.value.__notes__
    assert note.startswith("tasks outlive the server:\n- Task-")


async def test_what_the_test_raises_closes_all_the_same(router: Router) -> None:
    codes = []

    @router.route("/")
    async def handler(ws: Protocol) -> None:
        await ws.wait_closed()
        codes.append(ws.close_code)

    with pytest.raises(ZeroDivisionError) as caught:
        await meet(router, ZeroDivisionError(), TIMEOUT)
    assert not hasattr(caught.value, "__notes__")
    assert codes == [1000]


async def test_a_test_that_is_cancelled_closes_all_the_same(router: Router) -> None:
    clients: list[Client] = []
    entered = asyncio.Event()

    async def body() -> None:
        async with client(router) as c:
            clients.append(c)
            await c.connect("/echo/a")
            entered.set()
            await forever()

    task = asyncio.create_task(body())
    await entered.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not clients[0].server.is_serving()


async def test_plain_requests_reach_the_port(router: Router) -> None:
    async with client(router) as c:
        response = await exchange(c.port, b"GET / HTTP/1.0\r\n\r\n")
    assert status_line(response).startswith("HTTP/1.1 4")


def test_a_refusal_needs_no_body() -> None:
    refused = Refused(Response(204, "No Content", {}))  # type: ignore[arg-type]
    assert (refused.body, refused.text) == (b"", "")
    assert str(refused) == "refused with HTTP 204: "


@pytest.mark.parametrize(
    ("module", "absent"),
    [
        ("websockets_routes", {"websockets_routes.testing", "pytest"}),
        ("websockets_routes.testing", {"pytest", "websockets_routes.pytest_plugin"}),
    ],
)
def test_importing_takes_no_more_than_it_needs(module: str, absent: set[str]) -> None:
    code = f"import sys, {module}; print(*sys.modules)"
    output = subprocess.check_output([sys.executable, "-c", code], text=True)
    assert not absent & set(output.split())


async def test_a_lifespan_that_fails_at_its_end_fails_the_test() -> None:
    @asynccontextmanager
    async def lifespan() -> AsyncIterator[None]:
        yield
        raise LookupError("left behind")

    with pytest.raises(LookupError, match="left behind"):
        async with client(Router(lifespan=lifespan)):
            pass
