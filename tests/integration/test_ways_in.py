"""The ways in: each serves the same routes, and no guard is ever skipped."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest
from websockets import Headers, Request, Response
from websockets.asyncio.client import unix_connect
from websockets.asyncio.server import Server, ServerConnection
from websockets.exceptions import InvalidStatus

from websockets_routes import EndpointError, Protocol, RoutedPath, Router

from .servers import (
    HOST,
    WAYS_IN,
    MyProtocol,
    WayIn,
    address,
    answer,
    connecting,
    end,
    exchange,
    port,
    receive,
    refusal,
    serve_plain,
    serving,
)


def ways(
    *, refuses: bool | None = None, routed: bool | None = None, hook: bool | None = None
) -> pytest.MarkDecorator:
    """Parametrise a test over the ways in that have these properties."""
    wanted = {"refuses": refuses, "routed": routed, "hook": hook}
    chosen = {
        name: way
        for name, way in WAYS_IN.items()
        if all(v is None or getattr(way, k) is v for k, v in wanted.items())
    }
    return pytest.mark.parametrize("way", chosen.values(), ids=chosen.keys())


each_way = ways()


@pytest.fixture
def router() -> Router:
    router = Router()

    @router.route("/echo")
    async def echo(ws: ServerConnection) -> None:
        async for message in ws:
            await ws.send(message)

    @router.route("/thing/{id}")
    async def thing(ws: ServerConnection, path: RoutedPath) -> None:
        await ws.send(f"{path} {path.params} {path.query_params.get('x')}")

    return router


# What a client sees


@each_way
async def test_a_matched_path_reaches_its_handler(way: WayIn, router: Router) -> None:
    async with serving(way.serve(router)) as url:
        async with connecting(f"{url}/echo") as ws:
            await ws.send("one")
            assert await ws.recv() == "one"
        message = await receive(f"{url}/thing/a%2Fb?x=%20")
    assert message == "/thing/a%2Fb?x=%20 {'id': 'a/b'}  "


@each_way
async def test_an_unmatched_path_is_refused(way: WayIn, router: Router) -> None:
    async with serving(way.serve(router)) as url:
        for path in ("/", "/nowhere", "/echo/", "/echoes", "/thing", "/thing/1/2"):
            assert await answer(url + path) == (
                (404, "no such path\n") if way.refuses else (4040, "Not Found")
            )


@each_way
async def test_a_malformed_path_is_refused(way: WayIn, router: Router) -> None:
    async with serving(way.serve(router)) as url:
        assert await refusal(f"{url}/thing/%00") == way.refusal(400, 1008)
        assert await refusal(f"{url}/thing/..") == way.refusal(400, 1008)


@each_way
async def test_no_handler_sees_an_unmatched_connection(way: WayIn) -> None:
    router, calls = Router(), []

    @router.route("/thing/{id}")
    async def thing(ws: ServerConnection, path: RoutedPath) -> None:
        calls.append(path)

    async with serving(way.serve(router)) as url:
        await refusal(f"{url}/nowhere")
        await refusal(f"{url}/thing/%ff")
        await refusal(f"{url}/thing/7")
    assert calls == ["/thing/7"]


@each_way
async def test_a_handler_that_returns_closes_with_1000(way: WayIn) -> None:
    router = Router()

    @router.route("/")
    async def handler(ws: ServerConnection) -> None:
        pass

    async with serving(way.serve(router)) as url:
        assert await refusal(f"{url}/") == 1000


@each_way
async def test_a_handler_that_raises_is_logged_and_closes_with_1011(
    way: WayIn, caplog: pytest.LogCaptureFixture
) -> None:
    router = Router()

    @router.route("/")
    async def handler(ws: ServerConnection) -> None:
        raise ValueError("no luck")

    async with serving(way.serve(router)) as url:
        assert await refusal(f"{url}/") == 1011
    (record,) = errors(caplog)
    assert record.getMessage() == "connection handler failed"


@each_way
@pytest.mark.parametrize("leaving", ["abort", "close"])
async def test_a_peer_that_goes_away_is_no_failure_of_the_handler(
    way: WayIn, leaving: str, caplog: pytest.LogCaptureFixture
) -> None:
    router, raised = Router(), asyncio.Event()

    @router.route("/")
    async def handler(ws: ServerConnection) -> None:
        try:
            await ws.recv()
        finally:
            raised.set()

    async with serving(way.serve(router)) as url, connecting(f"{url}/") as ws:
        if leaving == "abort":
            ws.transport.abort()
        else:
            await ws.close(4000)
        await raised.wait()
    assert errors(caplog) == []


@each_way
async def test_a_failure_of_another_connection_is_one_of_the_handler(
    way: WayIn, caplog: pytest.LogCaptureFixture
) -> None:
    router = Router()

    @router.route("/backend")
    async def backend(ws: ServerConnection) -> None:
        await ws.close(4000)

    @router.route("/{port}")
    async def handler(ws: ServerConnection, path: RoutedPath) -> None:
        async with connecting(f"ws://{HOST}:{path.params['port']}/backend") as other:
            await other.recv()

    server = way.serve(router)
    async with serving(server) as url:
        assert await refusal(f"{url}/{port(server)}") == 1011
    (record,) = errors(caplog)
    assert record.getMessage() == "connection handler failed"


# What a handler sees


@each_way
async def test_the_path_is_one_object_on_the_connection_and_in_the_handler(
    way: WayIn,
) -> None:
    router, seen = Router(), []

    @router.route("/room/{name}")
    async def handler(ws: Protocol, path: RoutedPath) -> None:
        seen.append(ws.path is path)
        seen.append(path.route is router.routes[0])
        assert ws.request is not None
        seen.append(ws.request.path == path)

    async with serving(way.serve(router)) as url:
        assert await refusal(f"{url}/room/7?q") == 1000
    assert seen == [True, True, True]


@ways(routed=True)
async def test_params_and_context_are_on_a_connection_of_our_class(way: WayIn) -> None:
    router = Router()
    seen: list[Any] = []

    @router.route("/room/{name}")
    class Room:
        def process_request(self, path: RoutedPath, headers: Headers) -> None:
            path.context["from the hook"] = path

        async def handle(self, ws: Protocol, path: RoutedPath) -> None:
            seen.append(ws.params is path.params)
            seen.append(ws.context is path.context)
            seen.append(ws.context == {"from the hook": path})
            seen.append(ws.params)

    async with serving(way.serve(router)) as url:
        assert await refusal(f"{url}/room/7") == 1000
    assert seen == [True, True, True, {"name": "7"}]


@pytest.mark.parametrize(
    "way", ["serve-class", "connection-class", "partial", "unbound"]
)
async def test_the_connection_is_of_the_class_given(way: str) -> None:
    router = Router()

    @router.route("/")
    async def handler(ws: MyProtocol) -> None:
        assert isinstance(ws, MyProtocol)
        await ws.greet()

    async with serving(WAYS_IN[way].serve(router)) as url:
        assert await receive(f"{url}/") == "hello from MyProtocol"


@pytest.mark.parametrize("way", ["process-request", "handle", "call"])
async def test_the_connection_is_the_class_of_websockets_without_ours(way: str) -> None:
    router = Router()

    @router.route("/")
    async def handler(ws: ServerConnection) -> None:
        await ws.send(type(ws).__module__)

    async with serving(WAYS_IN[way].serve(router)) as url:
        assert await receive(f"{url}/") == "websockets.asyncio.server"


@each_way
async def test_class_endpoints_have_an_instance_for_each_connection(way: WayIn) -> None:
    router, instances = Router(), []

    @router.route("/")
    class Endpoint:
        def __init__(self) -> None:
            instances.append(self)

        def process_request(self, path: RoutedPath, headers: Headers) -> None:
            self.headers = headers

        async def handle(self, ws: ServerConnection) -> None:
            await ws.send(f"{instances.index(self)} {self.headers['X-Who']}")

    async with (
        serving(way.serve(router)) as url,
        connecting(f"{url}/", additional_headers={"X-Who": "a"}) as one,
        connecting(f"{url}/", additional_headers={"X-Who": "b"}) as two,
    ):
        assert {await one.recv(), await two.recv()} == {"0 a", "1 b"}
    assert len(instances) == 2


# Hooks of classes


class Answer:
    """An endpoint class made by ``endpoint`` below."""

    handled = 0


def endpoint(result: object, *, coroutine: bool) -> type[Answer]:
    """Make a class whose hook returns something, or raises it."""

    def decide() -> object:
        if isinstance(result, Exception):
            raise result
        return result

    class Plain(Answer):
        def process_request(self, path: RoutedPath, headers: Headers) -> Any:
            return decide()

        async def handle(self, ws: ServerConnection, path: RoutedPath) -> None:
            type(self).handled += 1

    class Coroutine(Plain):
        async def process_request(self, path: RoutedPath, headers: Headers) -> Any:
            await asyncio.sleep(0)
            return decide()

    return Coroutine if coroutine else Plain


def errors(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    return [record for record in caplog.records if record.levelno >= logging.WARNING]


plain_or_coroutine = pytest.mark.parametrize(
    "coroutine", [False, True], ids=["plain", "coroutine"]
)


@each_way
@plain_or_coroutine
async def test_a_hook_that_returns_none_lets_in(way: WayIn, coroutine: bool) -> None:
    router = Router()
    guard = endpoint(None, coroutine=coroutine)
    router.add_route("/", guard)
    async with serving(way.serve(router)) as url:
        assert await refusal(f"{url}/") == 1000
    assert guard.handled == 1


@each_way
@plain_or_coroutine
@pytest.mark.parametrize("status", [401, 403, 404, 503])
async def test_a_hook_that_returns_a_response_refuses(
    way: WayIn, coroutine: bool, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    router = Router()
    guard = endpoint((status, [], b"no\n"), coroutine=coroutine)
    router.add_route("/", guard)
    async with serving(way.serve(router)) as url:
        assert await refusal(f"{url}/") == way.refusal(status, 1008)
    assert guard.handled == 0
    assert errors(caplog) == []


RESPONSES: dict[str, tuple[object, int, bytes, dict[str, str]]] = {
    "response": (
        Response(402, "Pay", Headers({"X-A": "1"}), b"pay\n"),
        402,
        b"pay\n",
        {"X-A": "1"},
    ),
    "pairs": ((403, [("X-A", "1"), ("X-B", "2")], b""), 403, b"", {"X-B": "2"}),
    "no pairs": ((404, [], b"gone"), 404, b"gone", {"Content-Length": "4"}),
    "mapping": ((410, {"X-A": "é"}, b"a"), 410, b"a", {"X-A": "é"}),
    "headers": ((410, Headers({"X-A": "1"}), b"a"), 410, b"a", {"X-A": "1"}),
    "http status": (
        (HTTPStatus.CONFLICT, {}, b"a"),
        409,
        b"a",
        {"Connection": "close"},
    ),
    "str": ((404, {}, "né\n"), 404, "né\n".encode(), {"Content-Length": "4"}),
    "bytearray": ((404, {}, bytearray(b"a")), 404, b"a", {}),
    "own type": (
        (404, {"content-type": "text/html"}, "<p>"),
        404,
        b"<p>",
        {"Content-Type": "text/html"},
    ),
    "unknown status": ((499, {}, b"a"), 499, b"a", {}),
    "redirect": ((307, {"Location": "/there"}, b""), 307, b"", {"Location": "/there"}),
}


@ways(refuses=True)
@pytest.mark.parametrize(
    ("result", "status", "body", "headers"), RESPONSES.values(), ids=RESPONSES.keys()
)
async def test_every_shape_of_response_arrives(
    way: WayIn, result: object, status: int, body: bytes, headers: dict[str, str]
) -> None:
    router = Router()
    router.add_route("/", endpoint(result, coroutine=False))
    async with serving(way.serve(router)) as url:
        # By hand: ``connect`` would follow the redirect.
        reply = await exchange(int(url.rpartition(":")[2]), UPGRADE)
    head, _, content = reply.partition(b"\r\n\r\n")
    first, *fields = head.decode("iso-8859-1").split("\r\n")
    assert first.startswith(f"HTTP/1.1 {status} ")
    assert content == body
    received = Headers(field.partition(": ")[::2] for field in fields)
    assert all(received.get_all(name) == [value] for name, value in headers.items())


UPGRADE = (
    b"GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n"
    b"Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    b"Sec-WebSocket-Version: 13\r\n\r\n"
)


NONSENSE: dict[str, object] = {
    "str": "no",
    "int": 404,
    "true": True,
    "false": False,
    "object": object(),
    "long": "x" * 10_000,
    "short tuple": (404, []),
    "long tuple": (404, [], b"", None),
    "list": [404, [], b""],
    "str status": ("404", [], b""),
    "bool status": (True, [], b""),
    "status 101": (101, [], b""),
    "status 199": (199, [], b""),
    "status 600": (600, [], b""),
    "status -1": (-1, [], b""),
    "float status": (404.0, [], b""),
    "headers none": (404, None, b""),
    "headers int": (404, 5, b""),
    "headers str": (404, "X-A: 1", b""),
    "header triple": (404, [("X-A", "1", "2")], b""),
    "header int": (404, {"X-A": 1}, b""),
    "header name": (404, {"X A": "1"}, b""),
    "header split": (404, {"X-A": "1\r\nX-B: 2"}, b""),
    "header wide": (404, {"X-A": "€"}, b""),
    "body none": (404, [], None),
    "body int": (404, [], 5),
    "body list": (404, [], [b"a"]),
    "ValueError": ValueError("broken guard"),
    "KeyError": KeyError("id"),
    "TimeoutError": TimeoutError(),
    "AssertionError": AssertionError(),
    "ExceptionGroup": ExceptionGroup("many", [ValueError()]),
}


@pytest.mark.parametrize("way", ["serve", "process-request", "handle"])
@plain_or_coroutine
@pytest.mark.parametrize("result", NONSENSE.values(), ids=NONSENSE.keys())
async def test_nonsense_from_a_hook_is_a_logged_500_and_never_a_silent_abort(
    way: str, coroutine: bool, result: object, caplog: pytest.LogCaptureFixture
) -> None:
    router = Router()
    guard = endpoint(result, coroutine=coroutine)
    router.add_route("/guarded/{id}", guard)
    async with serving(WAYS_IN[way].serve(router)) as url:
        ended, text = await answer(f"{url}/guarded/1")
    assert ended == WAYS_IN[way].refusal(500, 1011)
    assert "broken" not in text
    assert guard.handled == 0
    (record,) = errors(caplog)
    assert (record.name, record.levelname) == ("websockets.server", "ERROR")
    assert record.getMessage() == "handshake of route /guarded/{id} failed"
    assert record.exc_info is not None


@each_way
async def test_a_class_that_cannot_be_made_is_a_logged_500(
    way: WayIn, caplog: pytest.LogCaptureFixture
) -> None:
    router = Router()

    @router.route("/thing")
    class Broken:
        def __init__(self) -> None:
            raise OSError("no database")

        async def handle(self, ws: ServerConnection) -> None:
            raise AssertionError("it was not made")

    async with serving(way.serve(router)) as url:
        assert await refusal(f"{url}/thing") == way.refusal(500, 1011)
    (record,) = errors(caplog)
    assert record.getMessage() == "handshake of route /thing failed"


@ways(refuses=False)
async def test_a_long_reason_phrase_does_not_keep_a_refusal_from_closing_with_1008(
    way: WayIn, caplog: pytest.LogCaptureFixture
) -> None:
    """A reason for closing has at most 123 bytes (RFC 6455 section 5.5)."""
    router = Router()
    guard = endpoint(Response(403, "é" * 200, Headers()), coroutine=False)
    router.add_route("/", guard)
    async with serving(way.serve(router)) as url:
        assert await refusal(f"{url}/") == 1008
    assert errors(caplog) == []


# Conditions


@each_way
async def test_a_condition_vetoes_a_match_and_the_next_best_is_tried(
    way: WayIn,
) -> None:
    router = Router()

    def is_inside(path: RoutedPath, headers: Headers) -> bool:
        return headers.get("X-Inside") == path.params["id"]

    @router.route("/thing/{id:[0-9]+}", condition=is_inside)
    async def inside(ws: ServerConnection) -> None:
        await ws.send("inside")

    @router.route("/thing/{id}", condition=lambda path, headers: path.query != "veto")
    async def outside(ws: ServerConnection) -> None:
        await ws.send("outside")

    async with serving(way.serve(router)) as url:
        uri = f"{url}/thing/7"
        assert await receive(uri, additional_headers={"X-Inside": "7"}) == "inside"
        assert await receive(uri) == "outside"
        assert await refusal(f"{uri}?veto") == way.refusal(404, 4040)


@each_way
async def test_a_condition_that_raises_is_a_logged_500(
    way: WayIn, caplog: pytest.LogCaptureFixture
) -> None:
    router = Router()

    def condition(path: RoutedPath, headers: Headers) -> bool:
        raise ValueError("broken condition")

    @router.route("/", condition=condition)
    async def handler(ws: ServerConnection) -> None:
        raise AssertionError("it was not let in")

    async with serving(way.serve(router)) as url:
        assert await refusal(f"{url}/") == way.refusal(500, 1011)
    (record,) = errors(caplog)
    assert record.getMessage().startswith("handshake of ")


# The order of the hooks


class Traced(Protocol):
    """A class whose hook writes down that it ran, and refuses where it is told to."""

    trace: list[str]

    async def process_request(self, path: RoutedPath, headers: Headers) -> Any:
        self.trace.append("class")
        assert self.path is path
        assert path.params == ({"id": "1"} if path.startswith("/thing/") else None)
        return (403, {}, "") if headers.get("X-Refuse") == "class" else None


def traced_router(trace: list[str]) -> Router:
    router = Router()

    @router.route("/thing/{id}")
    class Thing:
        def process_request(self, path: RoutedPath, headers: Headers) -> Any:
            trace.append("route")
            return (401, {}, "") if headers.get("X-Refuse") == "route" else None

        async def handle(self, ws: ServerConnection, path: RoutedPath) -> None:
            trace.append("handle")

    @router.not_found
    def not_found(ws: ServerConnection, path: RoutedPath) -> None:
        trace.append("not-found")

    return router


@pytest.mark.parametrize(
    ("path", "refuse", "ended", "order"),
    [
        ("/thing/1", "", 1000, "server class route handle"),
        ("/thing/1", "server", 402, "server"),
        ("/thing/1", "class", 403, "server class"),
        ("/thing/1", "route", 401, "server class route"),
        ("/nowhere", "", 404, "server class not-found"),
        ("/nowhere", "server", 402, "server"),
        ("/nowhere", "class", 403, "server class"),
        ("/thing/%00", "server", 400, ""),
    ],
)
@pytest.mark.parametrize("how", ["serve", "wrapper", "connection-class", "partial"])
@plain_or_coroutine
async def test_hooks_run_in_their_order_and_the_first_refusal_ends_it(
    path: str, refuse: str, ended: int, order: str, how: str, coroutine: bool
) -> None:
    trace: list[str] = []
    router = traced_router(trace)
    Traced.trace = trace

    def plain(connection: Any, request: Request) -> Response | None:
        trace.append("server")
        assert connection.path == request.path
        assert (connection.path.route is None) == (path == "/nowhere")
        if request.headers.get("X-Refuse") == "server":
            response: Response = connection.respond(402, "")
            return response
        return None

    async def as_coroutine(connection: Any, request: Request) -> Response | None:
        return plain(connection, request)

    hook: Any = as_coroutine if coroutine else plain
    make: Any = {
        "serve": Traced,
        "wrapper": lambda *args, **kwargs: Traced(*args, **kwargs),
        "connection-class": router.connection_class(Traced),
        "partial": partial(Traced, router=router),
    }[how]
    if how in ("serve", "wrapper"):
        server: Server = router.serve(
            HOST, 0, create_connection=make, process_request=hook
        )
    else:
        server = serve_plain(router, create_connection=make, process_request=hook)
    async with serving(server) as url:
        headers = {"X-Refuse": refuse}
        assert await refusal(url + path, additional_headers=headers) == ended
    assert trace == order.split()


async def test_an_unbound_class_runs_its_hook_once_the_connection_is_open() -> None:
    trace: list[str] = []
    router = traced_router(trace)
    Traced.trace = trace
    async with serving(serve_plain(router, create_connection=Traced)) as url:
        headers = {"X-Refuse": "class"}
        assert await refusal(f"{url}/thing/1", additional_headers=headers) == 1008
        assert await refusal(f"{url}/thing/1") == 1000
    assert trace == ["class", "class", "route", "handle"]


@ways(hook=True)
async def test_the_hook_of_the_server_may_answer_as_in_release_0_2(way: WayIn) -> None:
    router = Router()
    router.add_route("/", endpoint(None, coroutine=False))

    def hook(connection: ServerConnection, request: Request) -> Any:
        return (HTTPStatus.OK, {}, "ok\n")

    async with serving(way.serve(router, process_request=hook)) as url:
        assert await answer(f"{url}/") == (200, "ok\n")


@ways(hook=True)
@pytest.mark.parametrize("path", ["/", "/nowhere"])
async def test_nonsense_from_the_hook_of_the_server_is_a_logged_500(
    way: WayIn, path: str, caplog: pytest.LogCaptureFixture
) -> None:
    router = Router()
    router.add_route("/", endpoint(None, coroutine=False))

    def hook(connection: ServerConnection, request: Request) -> Any:
        return "nonsense"

    async with serving(way.serve(router, process_request=hook)) as url:
        assert await refusal(url + path) == 500
    (record,) = errors(caplog)
    whose = "route /" if path == "/" else f"path {path!r}"
    assert record.getMessage() == f"handshake of {whose} failed"


@ways(refuses=True)
async def test_an_origin_that_is_not_allowed_is_refused(way: WayIn) -> None:
    router = Router()
    guard = endpoint(None, coroutine=False)
    router.add_route("/", guard)
    async with serving(way.serve(router, origins=["https://example.com"])) as url:
        good, bad = "https://example.com", "https://example.net"
        assert await refusal(f"{url}/", origin=good) == 1000
        assert await refusal(f"{url}/", origin=bad) == 403
        assert await refusal(f"{url}/nowhere", origin=bad) == 404
    assert guard.handled == 1


@ways(refuses=True)
async def test_subprotocols_and_the_answer_of_the_server_see_the_route(
    way: WayIn,
) -> None:
    router, seen = Router(), []
    router.add_route("/{id}", endpoint(None, coroutine=False))

    def select_subprotocol(connection: Any, subprotocols: Any) -> Any:
        seen.append(connection.path.params)
        return "chat"

    def process_response(connection: Any, request: Any, response: Response) -> None:
        seen.append(response.status_code)

    server = way.serve(
        router,
        select_subprotocol=select_subprotocol,
        process_response=process_response,
    )
    async with serving(server) as url:
        async with connecting(f"{url}/7", subprotocols=["chat"]) as ws:
            assert ws.subprotocol == "chat"
            await end(ws)
        assert await refusal(f"{url}/a/b") == 404
    assert seen == [{"id": "7"}, 101, 404]


# not_found


@each_way
@plain_or_coroutine
@pytest.mark.parametrize(
    ("result", "status"), [(None, 404), ((410, {}, "gone"), 410)], ids=["none", "410"]
)
async def test_not_found_answers_unmatched_paths_and_no_others(
    way: WayIn, coroutine: bool, result: Any, status: int, router: Router
) -> None:
    seen = []

    def plain(ws: Any, path: RoutedPath) -> Any:
        seen.append((path, path.route, path.params, ws.path is path))
        return result

    async def as_coroutine(ws: Any, path: RoutedPath) -> Any:
        return plain(ws, path)

    function: Callable[[Any, RoutedPath], Any] = as_coroutine if coroutine else plain
    assert router.not_found(function) is function
    async with serving(way.serve(router)) as url:
        assert await receive(f"{url}/thing/1")
        assert await refusal(f"{url}/nowhere?x") == way.refusal(status, 4040)
    assert seen == [("/nowhere?x", None, None, True)]


@ways(refuses=False)
async def test_not_found_may_send_on_an_open_connection_before_it_is_closed(
    way: WayIn, router: Router
) -> None:
    @router.not_found
    async def not_found(ws: ServerConnection, path: RoutedPath) -> None:
        await ws.send(f"no {path} here")

    async with (
        serving(way.serve(router)) as url,
        connecting(f"{url}/nowhere") as ws,
    ):
        assert await ws.recv() == "no /nowhere here"
        assert await end(ws) == (4040, "Not Found")


@ways(refuses=False)
async def test_not_found_may_close_an_open_connection_in_its_own_way(
    way: WayIn, router: Router, caplog: pytest.LogCaptureFixture
) -> None:
    @router.not_found
    async def not_found(ws: ServerConnection, path: RoutedPath) -> None:
        await ws.close(4999, "elsewhere")

    async with serving(way.serve(router)) as url:
        assert await answer(f"{url}/nowhere") == (4999, "elsewhere")
    assert errors(caplog) == []


@each_way
@pytest.mark.parametrize("result", ["nonsense", (404,), ValueError("broken")])
async def test_nonsense_from_not_found_is_a_logged_500(
    way: WayIn, result: object, router: Router, caplog: pytest.LogCaptureFixture
) -> None:
    @router.not_found
    def not_found(ws: ServerConnection, path: RoutedPath) -> object:
        if isinstance(result, Exception):
            raise result
        return result

    async with serving(way.serve(router)) as url:
        ended = await refusal(f"{url}/nowhere")
    assert ended == way.refusal(500, 1011)
    (record,) = errors(caplog)
    assert record.getMessage() == "handshake of path '/nowhere' failed"


# Release 0.2's ways of calling a router


async def test_create_protocol_is_the_old_word_for_create_connection(
    router: Router,
) -> None:
    @router.route("/class")
    async def handler(ws: MyProtocol) -> None:
        await ws.greet()

    with pytest.warns(DeprecationWarning, match="create_connection") as warned:
        server = router.serve(HOST, 0, create_protocol=MyProtocol)
    assert warned[0].filename == __file__
    async with serving(server) as url:
        assert await receive(f"{url}/class") == "hello from MyProtocol"
        assert await refusal(f"{url}/nowhere") == 404


@pytest.mark.parametrize("way", ["handle", "call"])
async def test_a_router_is_called_with_a_connection_and_its_path(
    way: str, router: Router
) -> None:
    call = router if way == "call" else router.handle

    async def handler(ws: ServerConnection) -> None:
        assert ws.request is not None
        await call(ws, ws.request.path)

    async with serving(serve_plain(handler)) as url:
        assert await receive(f"{url}/thing/1?x=2") == "/thing/1?x=2 {'id': '1'} 2"
        assert await refusal(f"{url}/nowhere") == 4040


@pytest.mark.parametrize("way", WAYS_IN)
async def test_another_path_may_be_routed_than_the_one_requested(way: str) -> None:
    router, seen = Router(), []

    @router.route("/requested")
    async def requested(ws: ServerConnection) -> None:
        await router.handle(ws, "/other/7?x=2")

    @router.route("/lost")
    async def lost(ws: ServerConnection) -> None:
        await router(ws, "/nowhere")

    @router.route("/guarded")
    async def guarded(ws: ServerConnection) -> None:
        await router(ws, "/other/secret")

    @router.route("/broken")
    async def broken(ws: ServerConnection) -> None:
        await router(ws, "other/%")

    @router.route("/other/{id}")
    class Other:
        def process_request(self, path: RoutedPath, headers: Headers) -> Any:
            return (403, [], b"") if path.params["id"] == "secret" else None

        async def handle(self, ws: Any, path: RoutedPath) -> None:
            seen.append((path, path.params, ws.path is path))

    async with serving(WAYS_IN[way].serve(router)) as url:
        assert await refusal(f"{url}/requested") == 1000
        assert await refusal(f"{url}/lost") == 4040
        assert await refusal(f"{url}/guarded") == 1008
        assert await refusal(f"{url}/broken") == 1008
    assert seen == [("/other/7?x=2", {"id": "7"}, True)]


@pytest.mark.parametrize("bound", [False, True], ids=["process-request", "class"])
async def test_a_path_that_was_let_in_is_not_asked_again(bound: bool) -> None:
    """Called with the path of the handshake, the router goes on where that ended."""
    trace: list[str] = []
    router = guarded_router(trace, "it", None)

    async def handler(ws: Any) -> None:
        await router(ws, str(ws.path))

    if bound:
        server = serve_plain(handler, create_connection=router.connection_class())
    else:
        server = serve_plain(handler, process_request=router.process_request)
    async with serving(server) as url:
        assert await refusal(f"{url}/7") == 1000
    assert trace == ["guard it", "handle it"]


# Several routers, and routes that come late


def guarded_router(trace: list[str], name: str, status: int | None) -> Router:
    router = Router()

    @router.route("/{id}")
    class Thing:
        def process_request(self, path: RoutedPath, headers: Headers) -> Any:
            trace.append(f"guard {name}")
            return None if status is None else (status, [], b"")

        async def handle(self, ws: ServerConnection, path: RoutedPath) -> None:
            trace.append(f"handle {name}")

    return router


@pytest.mark.parametrize("bound", [False, True], ids=["process-request", "class"])
async def test_the_guards_of_one_router_do_not_let_into_another(bound: bool) -> None:
    trace: list[str] = []
    first = guarded_router(trace, "first", None)
    second = guarded_router(trace, "second", 403)
    if bound:
        server = serve_plain(second, create_connection=first.connection_class())
    else:
        server = serve_plain(second, process_request=first.process_request)
    async with serving(server) as url:
        assert await refusal(f"{url}/7") == 1008
        assert await refusal(f"{url}/a/b") == 404
    assert trace == ["guard first", "guard second"]


async def test_two_routers_may_share_a_server() -> None:
    trace: list[str] = []
    first = guarded_router(trace, "first", None)
    second = guarded_router(trace, "second", None)

    async def handler(ws: ServerConnection) -> None:
        await first(ws)
        await second(ws)

    async with serving(serve_plain(handler)) as url:
        assert await refusal(f"{url}/7") == 1000
    assert trace == ["guard first", "handle first", "guard second", "handle second"]


@each_way
async def test_a_route_added_while_serving_is_seen_by_the_next_handshake(
    way: WayIn, router: Router
) -> None:
    async with serving(way.serve(router)) as url:
        assert await refusal(f"{url}/late") == way.refusal(404, 4040)

        @router.route("/late")
        async def late(ws: ServerConnection) -> None:
            await ws.send("at last")

        assert await receive(f"{url}/late") == "at last"


@ways(refuses=True)
async def test_a_route_added_after_its_handshake_does_not_change_the_handler(
    way: WayIn,
) -> None:
    router, waiting, go_on = Router(), asyncio.Event(), asyncio.Event()

    @router.route("/{id}")
    class Slow:
        async def process_request(self, path: RoutedPath, headers: Headers) -> None:
            waiting.set()
            await go_on.wait()

        async def handle(self, ws: ServerConnection) -> None:
            await ws.send("slow")

    async with serving(way.serve(router)) as url:
        client = asyncio.create_task(receive(f"{url}/7"))
        await waiting.wait()

        @router.route("/7")
        async def better(ws: ServerConnection) -> None:
            await ws.send("better")

        go_on.set()
        assert await client == "slow"
        assert await receive(f"{url}/7") == "better"


# The servers that serve and unix_serve return


async def test_serve_is_awaited(router: Router) -> None:
    before = asyncio.all_tasks()
    server = await router.serve(HOST, 0)
    assert server.is_serving()
    assert await receive(f"{address(server)}/thing/1")
    server.close()
    await server.wait_closed()
    assert asyncio.all_tasks() == before


async def test_serve_is_entered_and_closes_connections_with_1001(
    router: Router,
) -> None:
    async with router.serve(HOST, 0) as server:
        ws = await connecting(f"{address(server)}/echo")
    assert await end(ws) == (1001, "")
    await ws.wait_closed()
    assert not server.is_serving()


async def test_serve_starts_later_if_told_so(router: Router) -> None:
    async with router.serve(HOST, 0, start_serving=False) as server:
        assert not server.is_serving()
        await server.start_serving()
        assert await receive(f"{address(server)}/thing/1")


@pytest.mark.parametrize("create", [None, MyProtocol])
async def test_unix_serve_serves_on_a_unix_socket(
    router: Router, tmp_path: Path, create: type[Protocol] | None
) -> None:
    socket = str(tmp_path / "socket")
    before = asyncio.all_tasks()
    async with router.unix_serve(socket, create_connection=create):
        async with unix_connect(socket, "ws://localhost/echo") as ws:
            await ws.send("one")
            assert await ws.recv() == "one"
        with pytest.raises(InvalidStatus) as refused:
            await unix_connect(socket, "ws://localhost/nowhere")
    assert refused.value.response.status_code == 404
    assert asyncio.all_tasks() == before


async def test_the_arguments_of_websockets_serve_keep_their_meaning(
    router: Router,
) -> None:
    log = logging.getLogger("tests.of.its.own")
    server = router.serve(
        HOST,
        0,
        server_header="mine",
        max_size=10,
        compression=None,
        ping_interval=None,
        logger=log,
    )
    assert server.logger is log
    async with serving(server) as url:
        async with connecting(f"{url}/echo") as ws:
            assert ws.response is not None
            assert ws.response.headers["Server"] == "mine"
            assert "Sec-WebSocket-Extensions" not in ws.response.headers
            await ws.send("x" * 11)
            assert (await end(ws))[0] == 1009
        with pytest.raises(InvalidStatus) as refused:
            await connecting(f"{url}/nowhere")
        assert refused.value.response.headers["Server"] == "mine"


async def test_a_connection_class_that_is_no_protocol_raises_at_once(
    router: Router,
) -> None:
    with pytest.raises(EndpointError, match=r"ServerConnection.*subclass"):
        router.serve(HOST, 0, create_connection=ServerConnection)  # type: ignore[arg-type]


async def test_one_hundred_clients_at_once_each_reach_their_own_thing(
    router: Router,
) -> None:
    async with serving(router.serve(HOST, 0)) as url:
        uris = [f"{url}/thing/{i}" for i in range(100)]
        messages = await asyncio.gather(*map(receive, uris))
    assert messages == [f"/thing/{i} {{'id': '{i}'}} None" for i in range(100)]


async def test_a_client_that_leaves_during_a_hook_is_never_handled(
    caplog: pytest.LogCaptureFixture,
) -> None:
    router, handled = Router(), []
    waiting, left, go_on = asyncio.Event(), asyncio.Event(), asyncio.Event()

    class Watched(Protocol):
        def connection_lost(self, exc: Exception | None) -> None:
            super().connection_lost(exc)
            left.set()

    @router.route("/")
    class Slow:
        async def process_request(self, path: RoutedPath, headers: Headers) -> None:
            waiting.set()
            await go_on.wait()

        async def handle(self, ws: ServerConnection) -> None:
            handled.append(ws)

    server = router.serve(HOST, 0, create_connection=Watched)
    async with serving(server):
        _, writer = await asyncio.open_connection(HOST, port(server))
        writer.write(UPGRADE)
        await waiting.wait()
        writer.transport.abort()
        await left.wait()
        go_on.set()
    assert handled == []
    assert errors(caplog) == []
