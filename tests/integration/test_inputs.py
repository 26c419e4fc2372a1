"""Declared inputs over loopback: who gets in with what, and what others are told."""

from __future__ import annotations

import enum
import json
import logging
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from websockets import Headers
from websockets.typing import Origin

import websockets_routes
from websockets_routes import (
    NextRoute,
    OpCode,
    Protocol,
    Resource,
    RoutedPath,
    Router,
    RoutesError,
    websocket,
)
from websockets_routes.inputs import header, param

from .servers import (
    HOST,
    WAYS_IN,
    WayIn,
    answer,
    exchange,
    port,
    receive,
    refusal,
    serving,
    status_line,
)

each_way = pytest.mark.parametrize("way", WAYS_IN.values(), ids=WAYS_IN.keys())
few_ways = pytest.mark.parametrize(
    "way",
    [WAYS_IN[name] for name in ("serve", "process-request", "unbound")],
    ids=["serve", "process-request", "unbound"],
)
KINDS = ["function", "class", "events", "callback", "resource"]
each_kind = pytest.mark.parametrize("kind", KINDS)
Decorator = Callable[[Any], Any]


class Color(enum.Enum):
    RED = "red"
    GREEN = "green"


def errors_of(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [
        record.getMessage()
        for record in caplog.records
        if record.levelno >= logging.ERROR
    ]


def shown(path: RoutedPath) -> str:
    return json.dumps(path.inputs, default=str)


def add(
    router: Router,
    kind: str,
    *decorators: Decorator,
    template: str = "/x",
    above: bool = False,
) -> None:
    """Add an endpoint that sends its inputs, with decorators from top to bottom.

    Args:
        above: Whether they stand above the one that declares the route.
    """

    def decorated(target: Any, route: Decorator) -> None:
        declared = [*decorators, route] if above else [route, *decorators]
        for each in reversed(declared):
            target = each(target)

    async def function(ws: Any, path: RoutedPath) -> None:
        await ws.send(shown(path))

    class Handler:
        async def handle(self, ws: Any, path: RoutedPath) -> None:
            await ws.send(shown(path))

    class Events:
        async def on_open(self, ws: Any) -> None:
            await ws.send(shown(ws.path))

        def on_message(self, ws: Any, message: Any, opcode: Any) -> None: ...

    async def callback(ws: Any, opcode: OpCode, payload: Any) -> None:
        if opcode is OpCode.OPEN:
            await ws.send(shown(ws.path))

    async def method(self: Any, ws: Any, opcode: OpCode, payload: Any) -> None:
        await callback(ws, opcode, payload)

    if kind == "callback":
        decorated(callback, router.websocket(template))
    elif kind == "resource":
        decorated(method, websocket(template))
        router.register(type("Group", (Resource,), {"method": method})())
    else:
        target = {"function": function, "class": Handler, "events": Events}[kind]
        decorated(target, router.route(template))


def request(*headers: bytes, method: bytes = b"GET", path: bytes = b"/x") -> bytes:
    lines = [
        method + b" " + path + b" HTTP/1.1",
        b"Host: x",
        b"Upgrade: websocket",
        b"Connection: Upgrade",
        b"Sec-WebSocket-Version: 13",
        b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
        *headers,
    ]
    return b"".join(line + b"\r\n" for line in lines) + b"\r\n"


TOKEN = header("authorization", required=True)
SINCE = param("since", type=int, default=0)


@pytest.mark.parametrize("name", ["header", "param"])
def test_what_declares_inputs_is_public(name: str) -> None:
    assert name in websockets_routes.__all__
    assert getattr(websockets_routes, name) is globals()[name]


# Values


@few_ways
@each_kind
async def test_every_kind_of_endpoint_gets_its_inputs(way: WayIn, kind: str) -> None:
    router = Router()
    add(router, kind, TOKEN, SINCE)
    async with serving(way.serve(router)) as uri:
        headers = {"Authorization": "Bearer x"}
        uri += "/x?since=-7&other=1"
        found = json.loads(await receive(uri, additional_headers=headers))
    assert found == {"authorization": "Bearer x", "since": -7}


@few_ways
@each_kind
async def test_no_kind_of_endpoint_is_reached_without_what_it_requires(
    way: WayIn, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    router = Router()
    heard: list[BaseException] = []
    router.on_error(lambda error, ws, path: heard.append(error))
    add(router, kind, TOKEN, SINCE)
    async with serving(way.serve(router)) as uri:
        code, text = await answer(uri + "/x?since=1&authorization=x")
        assert code == way.refusal(400, 1008)
        if way.refuses:
            assert text == "header 'authorization' is required\n"
    assert heard == []
    assert errors_of(caplog) == []


@each_way
async def test_what_is_not_required_may_be_missing(way: WayIn) -> None:
    router = Router()
    add(router, "function", SINCE, header("x-id"), param("q", type=float))
    async with serving(way.serve(router)) as uri:
        found = json.loads(await receive(uri + "/x"))
    assert found == {"since": 0, "x-id": None, "q": None}


@few_ways
@pytest.mark.parametrize(
    ("query", "value"),
    [
        ("%6Eame=%C3%A9+b%2B", "é b+"),
        ("name=a%26name%3Dc", "a&name=c"),
        ("name=first&name=second", "first"),
        ("name=&name=second", ""),
        ("name", ""),
        ("NAME=x&name=y", "y"),
        ("name=%", "%"),
        ("name=%ff", "\ufffd"),
        ("name=%0D%0AX:%20y", "\r\nX: y"),
        ("name=%25C3%25A9", "%C3%A9"),
        ("name=a=b?c/d", "a=b?c/d"),
    ],
)
async def test_a_parameter_is_percent_decoded_once(
    way: WayIn, query: str, value: str
) -> None:
    router = Router()
    add(router, "function", param("name", required=True))
    async with serving(way.serve(router)) as uri:
        assert json.loads(await receive(f"{uri}/x?{query}")) == {"name": value}


async def test_each_connection_has_inputs_of_its_own() -> None:
    router = Router()
    add(router, "function", SINCE)
    async with serving(router.serve(HOST, 0)) as uri:
        found = [
            json.loads(await receive(uri + query))["since"]
            for query in ("/x?since=1", "/x", "/x?since=2", "/x")
        ]
    assert found == [1, 0, 2, 0]


@few_ways
async def test_what_is_put_into_inputs_stays_on_its_connection(way: WayIn) -> None:
    router = Router()
    shared: list[bool] = []

    @router.before_handshake
    def hook(ws: Any, path: RoutedPath) -> None:
        shared.append("user" in path.inputs)
        try:
            path.inputs["user"] = "ada"
        except TypeError:  # as good: nobody can put anything there
            return

    @router.route("/x")
    async def handler(ws: Any, path: RoutedPath) -> None:
        await ws.send("hello")

    try:
        async with serving(way.serve(router)) as uri:
            await receive(uri + "/x")
            await receive(uri + "/x")
        assert shared == [False, False]
    finally:
        empty = RoutedPath("/").inputs
        if isinstance(empty, dict):
            empty.pop("user", None)


# Refusals


@few_ways
@pytest.mark.parametrize(
    ("query", "headers", "names"),
    [
        ("", {}, ["header 'X-Key'", "required"]),
        ("?n=1", {"X-Key": "1", "x-color": "pink"}, ["'x-color'", "red", "'pink'"]),
        ("?n=x", {"X-Key": "1"}, ["query parameter 'n'", "int", "'x'"]),
        ("?n=", {"X-Key": "1"}, ["query parameter 'n'", "int", "''"]),
        ("?n=1_0", {"X-Key": "1"}, ["query parameter 'n'", "'1_0'"]),
        ("?n=%D9%A1", {"X-Key": "1"}, ["query parameter 'n'", "'١'"]),
        ("?n=x&n=1", {"X-Key": "1"}, ["query parameter 'n'", "'x'"]),
        ("?n=x", {}, ["header 'X-Key'", "query parameter 'n'", ";"]),
    ],
)
async def test_a_refusal_names_all_that_is_missing_or_wrong(
    way: WayIn, query: str, headers: dict[str, str], names: list[str]
) -> None:
    router = Router()
    add(
        router,
        "function",
        header("X-Key", type=Decimal, required=True),
        header("x-color", type=Color),
        param("n", type=int),
    )
    async with serving(way.serve(router)) as uri:
        code, text = await answer(f"{uri}/x{query}", additional_headers=headers)
    assert code == way.refusal(400, 1008)
    if way.refuses:
        for each in names:
            assert each in text


@few_ways
async def test_a_repeated_header_is_refused(way: WayIn) -> None:
    router = Router()
    add(router, "function", header("X-Id"))
    headers = Headers([("x-id", "1"), ("X-ID", "1")])
    async with serving(way.serve(router)) as uri:
        code, text = await answer(uri + "/x", additional_headers=headers)
    assert code == way.refusal(400, 1008)
    if way.refuses:
        assert text == "header 'X-Id' must not be repeated\n"


@pytest.mark.parametrize(
    "value",
    ["%0d%0aX: y", "%00", "%ff%fe", "%E2%80%AE", "%1b[31m", "a" * 4000, "%F0%9F%98%80"],
    ids=["line", "nul", "invalid", "bidi", "escape", "long", "emoji"],
)
async def test_a_refusal_is_one_short_line_whatever_was_sent(value: str) -> None:
    router = Router()
    add(router, "function", SINCE)
    server = router.serve(HOST, 0)
    async with serving(server):
        path = f"/x?since={value}".replace(" ", "%20").encode()
        response = await exchange(port(server), request(path=path))
    head, _, body = response.partition(b"\r\n\r\n")
    assert status_line(response) == "HTTP/1.1 400 Bad Request"
    assert b"content-type: text/plain; charset=utf-8" in head.lower()
    assert f"\r\ncontent-length: {len(body)}".encode() in head.lower()
    text = body.decode()
    assert text.startswith("query parameter 'since' must be int, not ")
    assert text[:-1].isprintable()
    assert text[-1] == "\n"
    assert len(text) < 200


async def test_a_header_that_is_not_ascii_is_told_of_all_the_same(
    caplog: pytest.LogCaptureFixture,
) -> None:
    router = Router()
    add(router, "function", header("x-id", type=int))
    server = router.serve(HOST, 0)
    async with serving(server):
        response = await exchange(port(server), request(b"X-Id: \xff\xe9\x80"))
    assert status_line(response) == "HTTP/1.1 400 Bad Request"
    assert response.partition(b"\r\n\r\n")[2].decode().startswith("header 'x-id' must")
    assert errors_of(caplog) == []


@pytest.mark.parametrize(
    ("method", "upgrade", "given"),
    [
        ("HEAD", True, True),
        ("HEAD", True, False),
        ("HEAD", False, True),
        ("HEAD", False, False),
        ("GET", False, True),
        ("GET", False, False),
    ],
)
async def test_a_request_that_is_no_handshake_is_answered_in_full(
    method: str, upgrade: bool, given: bool, caplog: pytest.LogCaptureFixture
) -> None:
    router = Router()
    add(router, "function", SINCE)
    path = b"/x?since=" + (b"1" if given else b"x")
    sent = request(method=method.encode(), path=path)
    if not upgrade:
        sent = method.encode() + b" " + path + b" HTTP/1.1\r\nHost: x\r\n\r\n"
    server = router.serve(HOST, 0)
    async with serving(server):
        response = await exchange(port(server), sent)
    status = int(status_line(response).split()[1])
    body = response.partition(b"\r\n\r\n")[2]
    if method == "HEAD":
        assert 400 <= status < 500
        assert body == b""
    elif given:
        assert status == 426
    else:
        assert status == 400
        assert b"'since'" in body
    assert errors_of(caplog) == []


@few_ways
async def test_what_a_type_raises_is_a_refusal_if_it_is_a_value_error(
    way: WayIn, caplog: pytest.LogCaptureFixture
) -> None:
    router = Router()
    heard: list[str] = []
    router.on_error(lambda error, ws, path: heard.append(f"{error} {path.route}"))

    def even(text: str) -> int:
        if text == "broken":
            raise LookupError(text)
        if int(text) % 2:
            raise ValueError("not even")
        return int(text)

    add(router, "function", param("n", type=even))
    async with serving(way.serve(router)) as uri:
        assert json.loads(await receive(uri + "/x?n=4")) == {"n": 4}
        code, text = await answer(uri + "/x?n=3")
        assert code == way.refusal(400, 1008)
        if way.refuses:
            assert text == "query parameter 'n' must be even, not '3'\n"
        assert heard == []
        assert await refusal(uri + "/x?n=broken") == way.refusal(500, 1011)
    assert heard == ["broken /x"]
    assert errors_of(caplog) == []


@each_kind
async def test_inputs_above_a_route_are_not_passed_over(kind: str) -> None:
    router = Router()
    try:
        add(router, kind, TOKEN, above=True)
    except RoutesError:  # as good: whoever declares them hears of it
        return
    async with serving(router.serve(HOST, 0)) as uri:
        assert await refusal(uri + "/x") == 400


# The order of a handshake


def ordered(trace: list[str]) -> Router:
    """Make a router whose route needs ``?since=`` with all that can look before."""
    root = Router()
    inner = root.mount("/m", Router(origins=["https://a.com"]))

    def looking(name: str) -> Callable[[Any, RoutedPath], Any]:
        def hook(ws: Any, path: RoutedPath) -> Any:
            trace.append(name)
            refuses = path.query_params.get("refuse") == name
            return (403, [], name.encode()) if refuses else None

        return hook

    root.before_handshake(looking("root"))
    inner.before_handshake(looking("inner"))

    @inner.middleware
    async def around(ws: Any, path: RoutedPath, call_next: Any) -> None:
        trace.append(f"middleware {path.inputs}")
        await call_next(ws, path)

    @inner.route("/x")
    @param("since", type=int, required=True)
    class Handler:
        def process_request(self, path: RoutedPath, headers: Headers) -> Any:
            trace.append(f"class {path.inputs}")
            return looking("class")(None, path)

        async def handle(self, ws: Any, path: RoutedPath) -> None:
            trace.append(f"handle {path.inputs}")
            await ws.send("hello")

    return root


@each_way
@pytest.mark.parametrize(
    ("query", "origin", "answered", "seen"),
    [
        ("", "https://b.com", (403, 1008), []),
        ("?refuse=root", "https://a.com", (403, 1008), ["root"]),
        ("?refuse=inner", "https://a.com", (403, 1008), ["root", "inner"]),
        ("?refuse=class", "https://a.com", (400, 1008), ["root", "inner"]),
        (
            "?since=1&refuse=class",
            "https://a.com",
            (403, 1008),
            ["root", "inner", "class {'since': 1}", "class"],
        ),
        (
            "?since=1",
            "https://a.com",
            None,
            [
                "root",
                "inner",
                "class {'since': 1}",
                "class",
                "middleware {'since': 1}",
                "handle {'since': 1}",
            ],
        ),
    ],
    ids=["origin", "root", "inner", "input", "class", "open"],
)
async def test_inputs_are_read_behind_guards_and_before_the_endpoint(
    way: WayIn,
    query: str,
    origin: str,
    answered: tuple[int, int] | None,
    seen: list[str],
) -> None:
    trace: list[str] = []
    async with serving(way.serve(ordered(trace))) as uri:
        uri += "/m/x" + query
        if answered is None:
            assert await receive(uri, origin=Origin(origin)) == "hello"
        else:
            found = await refusal(uri, origin=Origin(origin))
            assert found == way.refusal(*answered)
    assert trace == seen


async def test_the_hook_of_the_server_comes_before_inputs() -> None:
    router = Router()
    add(router, "function", TOKEN)

    def hook(connection: Any, request: Any) -> Any:
        return (503, [], b"later")

    async with serving(router.serve(HOST, 0, process_request=hook)) as uri:
        assert await answer(uri + "/x") == (503, "later")


async def test_the_hook_of_a_connection_class_comes_before_inputs() -> None:
    router = Router()
    add(router, "function", TOKEN)

    class Busy(Protocol):
        def process_request(self, path: RoutedPath, headers: Headers) -> Any:
            return (503, [], b"later")

    async with serving(router.serve(HOST, 0, create_connection=Busy)) as uri:
        assert await answer(uri + "/x") == (503, "later")


@few_ways
async def test_an_unmatched_path_needs_no_inputs(way: WayIn) -> None:
    router = Router()
    add(router, "function", TOKEN)
    async with serving(way.serve(router)) as uri:
        assert await refusal(uri + "/y") == way.refusal(404, 4040)


# Mounted routers, hosts, and routes that pass on


@few_ways
@each_kind
async def test_inputs_of_mounted_routers_come_along(way: WayIn, kind: str) -> None:
    root, middle, inner = Router(), Router(), Router()
    add(inner, kind, SINCE, TOKEN)
    root.mount("/tenant/{tenant}", middle).mount("/i", inner, name="i")
    add(inner, kind, param("n", type=int, required=True), template="/late")
    async with serving(way.serve(root)) as uri:
        uri += "/tenant/a/i"
        headers = {"Authorization": "x"}
        found = await receive(uri + "/x?since=3", additional_headers=headers)
        assert json.loads(found) == {"since": 3, "authorization": "x"}
        assert json.loads(await receive(uri + "/late?n=1")) == {"n": 1}
        assert await refusal(uri + "/x?since=3") == way.refusal(400, 1008)
        assert await refusal(uri + "/late?n=") == way.refusal(400, 1008)


@few_ways
async def test_inputs_of_a_host_are_those_of_its_routes(way: WayIn) -> None:
    router = Router()
    add(router, "function", SINCE)
    add(router.host("{tenant}.example.com"), "function", TOKEN)
    server = way.serve(router)
    async with serving(server) as uri:
        assert json.loads(await receive(uri + "/x")) == {"since": 0}
        sent = request().replace(b"Host: x", b"Host: ada.example.com")
        if way.refuses:
            response = await exchange(port(server), sent)
            assert status_line(response) == "HTTP/1.1 400 Bad Request"


@few_ways
@pytest.mark.parametrize("where", ["router hook", "endpoint hook"])
@pytest.mark.parametrize("first", [True, False], ids=["inputs", "no-inputs"])
async def test_a_route_that_passes_on_leaves_none_of_its_inputs(
    way: WayIn, where: str, first: bool
) -> None:
    root = Router()
    inner = root.mount("", Router())

    class Passing:
        def process_request(self, path: RoutedPath, headers: Headers) -> None:
            if where == "endpoint hook":
                raise NextRoute

        async def handle(self, ws: Any) -> None:
            await ws.send("never")

    @inner.before_handshake
    def hook(ws: Any, path: RoutedPath) -> None:
        if where == "router hook":
            raise NextRoute

    inner.add_route("/x", param("since", type=int)(Passing) if first else Passing)
    add(root, "function", param("until", required=True), template="/{any}")
    add(root, "function", template="/{any:[a-z]+}/")
    async with serving(way.serve(root)) as uri:
        found = await receive(uri + "/x?since=1&until=2")
        assert json.loads(found) == {"until": "2"}
        code, text = await answer(uri + "/x?since=1")
        assert code == way.refusal(400, 1008)
        if way.refuses:
            assert "'until'" in text


@few_ways
async def test_a_route_without_inputs_gets_none_of_the_one_that_passed_on(
    way: WayIn,
) -> None:
    router = Router()

    @router.route("/x")
    @param("since", type=int, required=True)
    class Passing:
        def process_request(self, path: RoutedPath, headers: Headers) -> None:
            assert path.inputs == {"since": 1}
            raise NextRoute

        async def handle(self, ws: Any) -> None: ...

    add(router, "function", template="/{any}")
    async with serving(way.serve(router)) as uri:
        assert json.loads(await receive(uri + "/x?since=1")) == {}
        # What is missing is a refusal; only a hook passes on.
        assert await refusal(uri + "/x") == way.refusal(400, 1008)


async def test_one_handler_has_its_inputs_under_every_template() -> None:
    router = Router()

    @router.route("/a")
    @router.route("/b/{id}")
    @SINCE
    async def handler(ws: Any, path: RoutedPath) -> None:
        await ws.send(shown(path))

    async with serving(router.serve(HOST, 0)) as uri:
        assert json.loads(await receive(uri + "/a?since=1")) == {"since": 1}
        assert json.loads(await receive(uri + "/b/7?since=2")) == {"since": 2}
        assert await refusal(uri + "/b/7?since=x") == 400


async def test_a_subclass_of_a_handler_asks_for_what_it_inherits() -> None:
    router = Router()

    @TOKEN
    class Base:
        async def handle(self, ws: Any, path: RoutedPath) -> None:
            await ws.send(shown(path))

    @router.route("/x")
    @SINCE
    class Child(Base): ...

    async with serving(router.serve(HOST, 0)) as uri:
        headers = {"Authorization": "x"}
        found = await receive(uri + "/x", additional_headers=headers)
        assert json.loads(found) == {"authorization": "x", "since": 0}
        assert (await answer(uri + "/x"))[1] == "header 'authorization' is required\n"
