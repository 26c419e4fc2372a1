"""Composition over loopback: hooks, middleware and error handlers of nested routers."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest
from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection
from websockets.exceptions import InvalidStatus
from websockets.typing import Origin

from websockets_routes import (
    NextRoute,
    OpCode,
    Protocol,
    Resource,
    RoutedPath,
    Router,
    SubscriptionDenied,
    websocket,
)

from .servers import (
    HOST,
    WAYS_IN,
    WayIn,
    answer,
    connecting,
    end,
    port,
    receive,
    refusal,
    serving,
)

each_way = pytest.mark.parametrize("way", WAYS_IN.values(), ids=WAYS_IN.keys())
routed_ways = pytest.mark.parametrize(
    "way",
    [way for way in WAYS_IN.values() if way.routed],
    ids=[name for name, way in WAYS_IN.items() if way.routed],
)
# One that routes in the handshake, one with connections of websockets' own, and one
# that routes once the connection is open.
few_ways = pytest.mark.parametrize(
    "way",
    [WAYS_IN[name] for name in ("serve", "process-request", "unbound")],
    ids=["serve", "process-request", "unbound"],
)
Trace = list[str]


def errors_of(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [
        record.getMessage()
        for record in caplog.records
        if record.levelno >= logging.ERROR
    ]


def nested() -> tuple[Router, Router, Router]:
    """Make three routers, one in the other: ``/m/i`` leads to the last."""
    root, middle, inner = Router(), Router(), Router()
    root.mount("/m", middle).mount("/i", inner)
    return root, middle, inner


def hook(trace: Trace, name: str, result: Any = None, plain: bool = True) -> Any:
    def called(ws: Any, path: RoutedPath) -> Any:
        trace.append(name)
        if isinstance(result, Exception):
            raise result
        return result

    async def called_async(ws: Any, path: RoutedPath) -> Any:
        await asyncio.sleep(0)
        return called(ws, path)

    return called if plain else called_async


def around(trace: Trace, name: str) -> Any:
    async def middleware(ws: Any, path: Any, call_next: Any) -> None:
        trace.append(f"+{name}")
        try:
            await call_next(ws, path)
        finally:
            trace.append(f"-{name}")

    return middleware


# Hooks of the handshake


@each_way
@pytest.mark.parametrize("plain", [True, False], ids=["plain", "coroutine"])
async def test_everything_runs_once_and_the_outermost_first(
    way: WayIn, plain: bool
) -> None:
    root, middle, inner = nested()
    trace: Trace = []
    for name, router in (("inner", inner), ("middle", middle), ("root", root)):
        for number in (1, 2):
            label = f"{name}{number}"
            router.before_handshake(hook(trace, label, plain=plain))
            router.middleware(around(trace, label))

    @inner.route("/x/{id}")
    class Handler:
        def process_request(self, path: RoutedPath, headers: Any) -> None:
            trace.append(f"class {path.params['id']}")

        async def handle(self, ws: ServerConnection, path: RoutedPath) -> None:
            trace.append("handle")
            await ws.send("hello")

    async with serving(way.serve(root)) as uri:
        assert await receive(uri + "/m/i/x/7") == "hello"
    names = [f"{name}{n}" for name in ("root", "middle", "inner") for n in (1, 2)]
    assert trace == [
        *names,
        "class 7",
        *(f"+{name}" for name in names),
        "handle",
        *(f"-{name}" for name in reversed(names)),
    ]


@each_way
@pytest.mark.parametrize("level", [0, 1, 2], ids=["root", "middle", "inner"])
async def test_a_refusal_of_any_router_ends_the_handshake(
    way: WayIn, level: int
) -> None:
    routers = nested()
    trace: Trace = []
    for number, router in enumerate(routers):
        result: Any = (403, [], b"no\n") if number == level else None
        router.before_handshake(hook(trace, str(number), result, level != 1))
        router.middleware(around(trace, f"m{number}"))

    @routers[2].route("/x")
    class Handler:
        def process_request(self, path: Any, headers: Any) -> None:
            trace.append("class")

        async def handle(self, ws: Any, path: Any) -> None:
            trace.append("handle")

    async with serving(way.serve(routers[0])) as uri:
        assert await refusal(uri + "/m/i/x") == way.refusal(403, 1008)
    assert trace == [str(number) for number in range(level + 1)]


async def test_hooks_of_a_router_are_for_its_own_routes_only() -> None:
    root, middle, inner = nested()
    trace: Trace = []
    middle.before_handshake(hook(trace, "middle"))
    middle.middleware(around(trace, "middle"))

    async def hello(ws: Any) -> None:
        await ws.send("hello")

    for router in (root, middle, inner):
        router.add_route("/x", hello)
    async with serving(root.serve(HOST, 0)) as uri:
        await receive(uri + "/x")
        assert trace == []
        await receive(uri + "/m/x")
        await receive(uri + "/m/i/x")
        assert await refusal(uri + "/m/none") == 404
    assert trace == ["middle", "+middle", "-middle"] * 2


@each_way
async def test_hooks_that_are_added_while_serving_are_asked(way: WayIn) -> None:
    root, _, inner = nested()

    async with serving(way.serve(root)) as uri:

        @inner.route("/x")
        async def hello(ws: Any) -> None:
            await ws.send("hello")

        assert await receive(uri + "/m/i/x") == "hello"
        root.before_handshake(lambda ws, path: (403, [], b""))
        assert await refusal(uri + "/m/i/x") == way.refusal(403, 1008)


# NextRoute


def passing(where: str) -> tuple[Router, Trace]:
    """Make routers whose best matches pass on, from a hook of some kind."""
    root = Router()
    trace: Trace = []

    def leave(path: RoutedPath) -> None:
        trace.append(str(path.route))
        path.context.setdefault("asked", []).append(str(path.route))
        raise NextRoute

    async def never(ws: Any) -> None:
        trace.append("never")

    class Passes:
        async def handle(self, ws: Any) -> None:
            trace.append("never")

    class PassesPlain(Passes):
        def process_request(self, path: RoutedPath, headers: Any) -> None:
            leave(path)

    class PassesLater(Passes):
        async def process_request(self, path: RoutedPath, headers: Any) -> None:
            await asyncio.sleep(0)
            leave(path)

    for prefix, template in (("/api", "/thing"), ("/{a}", "/thing")):
        inner = root.mount(prefix, Router())
        if where == "router hook":
            inner.before_handshake(lambda ws, path: leave(path))
            inner.add_route(template, never)
        elif where == "plain endpoint":
            inner.add_route(template, PassesPlain)
        else:
            inner.add_route(template, PassesLater)
    return root, trace


PLACES = ["router hook", "plain endpoint", "coroutine endpoint"]


@each_way
@pytest.mark.parametrize("where", PLACES)
async def test_a_hook_passes_on_to_the_next_best_route(way: WayIn, where: str) -> None:
    root, trace = passing(where)

    @root.route("/{a}/{b}")
    async def last(ws: ServerConnection, path: RoutedPath) -> None:
        await ws.send(f"{path.params} {path.context['asked']} {path.route}")

    async with serving(way.serve(root)) as uri:
        asked = ["/api/thing", "/{a}/thing"]
        params = {"a": "api", "b": "thing"}
        expected = f"{params} {asked} /{{a}}/{{b}}"
        assert await receive(uri + "/api/thing?x=1") == expected
    assert trace == ["/api/thing", "/{a}/thing"]


@few_ways
@pytest.mark.parametrize("where", PLACES)
@pytest.mark.parametrize("answers", [False, True])
async def test_where_no_route_is_left_the_path_is_unmatched(
    way: WayIn, where: str, answers: bool
) -> None:
    root, trace = passing(where)
    if answers:

        @root.not_found
        def not_found(ws: Any, path: RoutedPath) -> Any:
            assert path.route is None
            assert path.params is None
            assert ws.path is path
            return (410, [], b"gone\n")

    async with serving(way.serve(root)) as uri:
        status = 410 if answers else 404
        assert await refusal(uri + "/api/thing") == way.refusal(status, 4040)
    assert trace == ["/api/thing", "/{a}/thing"]


async def test_the_hook_of_the_server_passes_on_as_any_other() -> None:
    root = Router()

    @root.route("/thing")
    async def best(ws: Any) -> None: ...

    @root.route("/{any}")
    async def next_best(ws: Any) -> None:
        await ws.send("next best")

    def pass_on(connection: Any, request: Any) -> None:
        raise NextRoute

    async with serving(root.serve(HOST, 0, process_request=pass_on)) as uri:
        assert await receive(uri + "/thing") == "next best"


async def test_the_hook_of_a_connection_class_passes_on_as_any_other() -> None:
    root = Router()

    @root.route("/thing")
    async def best(ws: Any) -> None: ...

    @root.route("/{any}")
    async def next_best(ws: Any) -> None:
        await ws.send("next best")

    class Passes(Protocol):
        def process_request(self, path: RoutedPath, headers: Any) -> None:
            if str(path.route) == "/thing":
                raise NextRoute

    async with serving(root.serve(HOST, 0, create_connection=Passes)) as uri:
        assert await receive(uri + "/thing") == "next best"


@each_way
async def test_a_refusal_after_passing_on_is_that_of_the_next_route(way: WayIn) -> None:
    root = Router()

    @root.route("/thing")
    class Best:
        def process_request(self, path: Any, headers: Any) -> None:
            raise NextRoute

        async def handle(self, ws: Any) -> None: ...

    @root.route("/{any}")
    class Refuses(Best):
        def process_request(self, path: Any, headers: Any) -> Any:
            return (403, [], b"")

    async with serving(way.serve(root)) as uri:
        assert await refusal(uri + "/thing") == way.refusal(403, 1008)


@each_way
async def test_the_guard_of_the_next_route_is_asked_too(way: WayIn) -> None:
    root = Router()

    @root.route("/thing")
    class Best:
        def process_request(self, path: Any, headers: Any) -> None:
            raise NextRoute

        async def handle(self, ws: Any) -> None: ...

    inner = root.mount("", Router())
    inner.before_handshake(lambda ws, path: (403, [], b""))

    @inner.route("/{any}")
    async def guarded(ws: Any) -> None:
        await ws.send("never")

    async with serving(way.serve(root)) as uri:
        assert await refusal(uri + "/thing") == way.refusal(403, 1008)


# Origins


@each_way
@pytest.mark.parametrize(
    ("origin", "allowed"),
    [
        ("https://a.com", True),
        ("https://b.com", False),
        (None, False),
    ],
)
async def test_origins_of_each_router_are_checked_before_any_hook(
    way: WayIn, origin: str | None, allowed: bool
) -> None:
    trace: Trace = []
    root = Router(before_handshake=[hook(trace, "root")])
    inner = Router(origins=["https://a.com"])

    async def hello(ws: Any) -> None:
        await ws.send("hello")

    root.mount("/api", inner).add_route("/x", hello)
    root.add_route("/x", hello)
    given = None if origin is None else Origin(origin)
    async with serving(way.serve(root)) as uri:
        assert await receive(uri + "/x", origin=given) == "hello"
        trace.clear()
        if allowed:
            assert await receive(uri + "/api/x", origin=given) == "hello"
            assert trace == ["root"]
        else:
            found = await refusal(uri + "/api/x", origin=given)
            assert found == way.refusal(403, 1008)
            assert trace == []


async def test_all_routers_on_the_way_have_a_say_about_the_origin() -> None:
    root = Router(origins=["https://a.com", "https://b.com"])
    inner = Router(origins=["https://b.com", "https://c.com", None])

    async def hello(ws: Any) -> None:
        await ws.send("hello")

    root.mount("/api", inner).add_route("/x", hello)
    async with serving(root.serve(HOST, 0)) as uri:
        for origin in ("https://a.com", "https://c.com", None):
            given = None if origin is None else Origin(origin)
            assert await refusal(uri + "/api/x", origin=given) == 403
        assert await receive(uri + "/api/x", origin=Origin("https://b.com")) == "hello"


# Middleware


def add_endpoints(router: Router, trace: Trace) -> None:
    """Add an endpoint of every kind, which tells what it is and then ends."""

    @router.route("/function")
    async def function(ws: ServerConnection) -> None:
        trace.append("handler")
        await ws.send("hello")
        await ws.wait_closed()

    @router.route("/class")
    class Handler:
        async def handle(self, ws: ServerConnection) -> None:
            await function(ws)

    @router.route("/events")
    class Events:
        async def on_open(self, ws: ServerConnection) -> None:
            trace.append("handler")
            await ws.send("hello")

        def on_close(self, ws: Any, code: int, reason: str) -> None:
            trace.append("on_close")

    @router.websocket("/callback")
    async def callback(ws: ServerConnection, opcode: OpCode, payload: Any) -> None:
        if opcode is OpCode.OPEN:
            trace.append("handler")
            await ws.send("hello")

    class Chat(Resource):
        @websocket("/resource")
        async def resource(self, ws: Any, opcode: OpCode, payload: Any) -> None:
            await callback(ws, opcode, payload)

    router.register(Chat())


KINDS = ["function", "class", "events", "callback", "resource"]


@few_ways
@pytest.mark.parametrize("kind", KINDS)
async def test_middleware_is_around_endpoints_of_every_kind(
    way: WayIn, kind: str
) -> None:
    root = Router()
    trace: Trace = []
    root.middleware(around(trace, "m"))
    add_endpoints(root, trace)
    async with serving(way.serve(root)) as uri, connecting(f"{uri}/{kind}") as ws:
        assert await ws.recv() == "hello"
        assert trace == ["+m", "handler"]
    expected = ["+m", "handler", *(["on_close"] if kind == "events" else []), "-m"]
    assert trace == expected


@few_ways
@pytest.mark.parametrize("kind", KINDS)
async def test_middleware_refuses_by_closing(way: WayIn, kind: str) -> None:
    root = Router()
    trace: Trace = []

    @root.middleware
    async def refuse(ws: ServerConnection, path: Any, call_next: Any) -> None:
        await ws.close(4001, "not today")

    add_endpoints(root, trace)
    async with serving(way.serve(root)) as uri:
        assert await answer(f"{uri}/{kind}") == (4001, "not today")
    assert trace == []


@few_ways
@pytest.mark.parametrize("kind", ["function", "class", "events", "callback"])
async def test_middleware_catches_what_a_handler_raises(way: WayIn, kind: str) -> None:
    root = Router()
    caught: list[Exception] = []
    error = KeyError("x")

    @root.middleware
    async def catch(ws: ServerConnection, path: Any, call_next: Any) -> None:
        try:
            await call_next(ws, path)
        except KeyError as found:
            caught.append(found)
        await ws.close(4002)

    @root.route("/function")
    async def function(ws: Any) -> None:
        raise error

    @root.route("/class")
    class Handler:
        async def handle(self, ws: Any) -> None:
            raise error

    @root.route("/events")
    class Events:
        def on_open(self, ws: Any) -> None:
            raise error

    @root.websocket("/callback")
    def callback(ws: Any, opcode: OpCode, payload: Any) -> None:
        if opcode is OpCode.OPEN:
            raise error

    # The events of a connection close it themselves: see Dispatcher.
    code = 1011 if kind in ("events", "callback") else 4002
    async with serving(way.serve(root)) as uri:
        assert await refusal(f"{uri}/{kind}") == code
    assert caught == [error]


@few_ways
async def test_middleware_hands_values_to_those_that_ask_by_keyword(way: WayIn) -> None:
    root, inner = Router(), Router()
    root.mount("/i", inner)

    @root.middleware
    async def first(ws: Any, path: Any, call_next: Any) -> None:
        await call_next(ws, path, user="ada", level=1)

    @inner.middleware
    async def second(ws: Any, path: Any, call_next: Any, *, level: int) -> None:
        await call_next(ws, path, level=level + 1)

    @inner.route("/function")
    async def function(ws: ServerConnection, *, user: str, level: int) -> None:
        await ws.send(f"{user} {level}")

    @inner.route("/class")
    class Handler:
        async def handle(self, ws: ServerConnection, path: Any, *, level: int) -> None:
            await ws.send(f"{level} {path}")

    async with serving(way.serve(root)) as uri:
        assert await receive(uri + "/i/function") == "ada 2"
        assert await receive(uri + "/i/class") == "2 /i/class"


@few_ways
async def test_a_second_call_next_closes_with_1011_and_runs_no_handler(
    way: WayIn, caplog: pytest.LogCaptureFixture
) -> None:
    root, runs = Router(), []

    @root.middleware
    async def twice(ws: Any, path: Any, call_next: Any) -> None:
        await call_next(ws, path)
        await call_next(ws, path)

    @root.route("/")
    async def handler(ws: Any) -> None:
        runs.append(ws)

    async with serving(way.serve(root)) as uri:
        assert await refusal(uri + "/") == 1011
    assert len(runs) == 1
    assert "called twice" in caplog.text


# Errors


class Base(Exception): ...


class Derived(Base): ...


def hearing(trace: Trace, name: str, plain: bool = True) -> Any:
    def hear(error: Exception, ws: Any, path: Any) -> None:
        where = None if path is None else str(path.route)
        trace.append(f"{name} {type(error).__name__} {where}")

    async def hear_async(error: Exception, ws: Any, path: Any) -> None:
        await asyncio.sleep(0)
        hear(error, ws, path)

    return hear if plain else hear_async


@few_ways
@pytest.mark.parametrize("plain", [True, False], ids=["plain", "coroutine"])
@pytest.mark.parametrize(
    ("error", "path", "heard"),
    [
        (Derived(), "/m/i/x", "inner"),
        (Base(), "/m/i/x", "middle base"),
        (KeyError(), "/m/i/x", "middle"),
        (Derived(), "/m/x", "middle base"),
        (Derived(), "/x", "root"),
    ],
    ids=repr,
)
async def test_the_nearest_router_hears_of_the_error_of_a_handler(
    way: WayIn,
    plain: bool,
    error: Exception,
    path: str,
    heard: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    root, middle, inner = nested()
    trace: Trace = []
    root.on_error(hearing(trace, "root", plain))
    middle.on_error(hearing(trace, "middle", plain))
    middle.on_error(Base)(hearing(trace, "middle base", plain))
    inner.on_error(Derived)(hearing(trace, "inner", plain))

    async def fail(ws: Any) -> None:
        raise error

    for router in nested_routers(root):
        router.add_route("/x", fail)
    async with serving(way.serve(root)) as uri:
        assert await refusal(uri + path) == 1011
    assert trace == [f"{heard} {type(error).__name__} {path}"]
    assert errors_of(caplog) == []


def nested_routers(root: Router) -> list[Router]:
    return [router for router in root.routers if isinstance(router, Router)]


@few_ways
@pytest.mark.parametrize("where", ["router hook", "endpoint hook"])
@pytest.mark.parametrize("answers", [True, False])
async def test_an_error_in_the_handshake_may_be_answered(
    way: WayIn, where: str, answers: bool, caplog: pytest.LogCaptureFixture
) -> None:
    root, middle, _ = nested()
    trace: Trace = []

    @root.on_error
    async def hear(error: Exception, ws: Any, path: RoutedPath) -> Any:
        trace.append(f"{type(error).__name__} {path.route} {ws.path is path}")
        return (503, [], b"later\n") if answers else None

    class Fails:
        def process_request(self, path: Any, headers: Any) -> None:
            if where == "endpoint hook":
                raise Base

        async def handle(self, ws: Any) -> None: ...

    middle.add_route("/x", Fails)
    if where == "router hook":
        middle.before_handshake(hook([], "", Base()))
    async with serving(way.serve(root)) as uri:
        expected = way.refusal(503 if answers else 500, 1011)
        assert await refusal(uri + "/m/x") == expected
    assert trace == ["Base /m/x True"]
    assert errors_of(caplog) == []


@few_ways
async def test_a_wrong_answer_to_an_error_is_logged_and_a_500(
    way: WayIn, caplog: pytest.LogCaptureFixture
) -> None:
    root = Router(before_handshake=[hook([], "", Base())])
    root.on_error(lambda error, ws, path: "no response")

    @root.route("/")
    async def handler(ws: Any) -> None: ...

    async with serving(way.serve(root)) as uri:
        assert await refusal(uri + "/") == way.refusal(500, 1011)
    assert len(errors_of(caplog)) == 1


@few_ways
@pytest.mark.parametrize("where", ["handshake", "handler"])
async def test_an_error_handler_that_fails_is_logged_with_both_errors(
    way: WayIn, where: str, caplog: pytest.LogCaptureFixture
) -> None:
    root = Router()

    @root.on_error
    def broken(error: Exception, ws: Any, path: Any) -> None:
        raise ValueError("second")

    if where == "handshake":
        root.before_handshake(hook([], "", KeyError("first")))

    @root.route("/")
    async def handler(ws: Any) -> None:
        raise KeyError("first")

    async with serving(way.serve(root)) as uri:
        if where == "handshake":
            assert await refusal(uri + "/") == way.refusal(500, 1011)
        else:
            assert await refusal(uri + "/") == 1011
    assert len(errors_of(caplog)) == 1
    assert "KeyError: 'first'" in caplog.text
    assert "ValueError: second" in caplog.text


@few_ways
async def test_an_error_handler_may_close_with_a_code_of_its_own(way: WayIn) -> None:
    root = Router()

    @root.on_error
    async def close(error: Exception, ws: ServerConnection, path: Any) -> None:
        await ws.close(4009, "sorry")

    @root.route("/")
    async def handler(ws: Any) -> None:
        raise KeyError

    async with serving(way.serve(root)) as uri:
        assert await answer(uri + "/") == (4009, "sorry")


@few_ways
async def test_an_error_of_ours_closes_with_its_own_code_heard_or_not(
    way: WayIn, caplog: pytest.LogCaptureFixture
) -> None:
    root, inner = Router(), Router()
    trace: Trace = []
    root.mount("/heard", inner)
    inner.on_error(hearing(trace, "inner"))

    async def deny(ws: Any) -> None:
        raise SubscriptionDenied("room/1")

    root.add_route("/", deny)
    inner.add_route("/", deny)
    async with serving(way.serve(root)) as uri:
        assert await refusal(uri + "/") == 1008
        assert await refusal(uri + "/heard/") == 1008
    assert trace == ["inner SubscriptionDenied /heard/"]
    assert errors_of(caplog) == []


@few_ways
@pytest.mark.parametrize("kind", ["function", "events"])
async def test_a_connection_that_is_closed_is_no_error(
    way: WayIn, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    root = Router()
    trace: Trace = []
    done = asyncio.Event()
    root.on_error(hearing(trace, "root"))

    @root.middleware
    async def tell(ws: Any, path: Any, call_next: Any) -> None:
        try:
            await call_next(ws, path)
        finally:
            done.set()

    @root.route("/function")
    async def handler(ws: ServerConnection) -> None:
        while True:
            await ws.recv()

    @root.route("/events")
    class Events:
        async def on_message(self, ws: ServerConnection, message: Any, _: Any) -> None:
            await ws.wait_closed()
            await ws.send("too late")

    async with serving(way.serve(root)) as uri:
        async with connecting(f"{uri}/{kind}") as ws:
            await ws.send("x")
        await done.wait()
    assert trace == []
    assert errors_of(caplog) == []


@routed_ways
@pytest.mark.parametrize("heard", [True, False])
async def test_a_failing_task_of_a_connection_reaches_the_nearest_router(
    way: WayIn, heard: bool, caplog: pytest.LogCaptureFixture
) -> None:
    root, _, inner = nested()
    told: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    if heard:

        @inner.on_error(Base)
        async def hear(error: Any, ws: Any, path: Any) -> None:
            told.set_result((error, ws, path))

    error = Derived()

    async def fail() -> None:
        raise error

    @inner.route("/x")
    async def handler(ws: Protocol, path: RoutedPath) -> None:
        await asyncio.wait({ws.start_task(fail())})
        if heard:
            assert await told == (error, ws, path)
        await ws.send("goes on")

    async with serving(way.serve(root)) as uri:
        assert await receive(uri + "/m/i/x") == "goes on"
    assert errors_of(caplog) == ([] if heard else ["task of route /m/i/x failed"])


async def test_a_failing_task_of_the_server_reaches_the_root() -> None:
    root = Router()
    told: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    @root.on_error
    def hear(error: Any, ws: Any, path: Any) -> None:
        told.set_result((error, ws, path))

    error = Base()

    async def fail() -> None:
        raise error

    async with serving(root.serve(HOST, 0)):
        root.start_task(fail())
        assert await told == (error, None, None)


@few_ways
@pytest.mark.parametrize("plain", [True, False], ids=["plain", "coroutine"])
async def test_a_failing_hook_of_topics_reaches_the_error_handler(
    way: WayIn, plain: bool, caplog: pytest.LogCaptureFixture
) -> None:
    root, inner = Router(), Router()
    told: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    error = Base()

    def fail(ws: Any, topic: Any, *more: Any) -> None:
        raise error

    async def fail_async(ws: Any, topic: Any, *more: Any) -> None:
        raise error

    inner.topics.on_subscription(fail if plain else fail_async)
    root.mount("/i", inner)

    @root.on_error(Base)
    def hear(error: Any, ws: Any, path: Any) -> None:
        if not told.done():  # it fails when the subscription ends as well
            told.set_result((error, ws, path))

    @inner.route("/")
    async def handler(ws: ServerConnection, path: RoutedPath) -> None:
        await inner.subscribe(ws, "news")
        found = await told
        assert found == (error, ws, path)
        await ws.send("heard")

    async with serving(way.serve(root)) as uri:
        assert await receive(uri + "/i/") == "heard"
    assert errors_of(caplog) == []


# Topics


@few_ways
async def test_all_routers_of_a_tree_publish_to_the_same_subscribers(
    way: WayIn,
) -> None:
    root, middle, inner = nested()
    news = inner.topic("news/{kind}")
    subscribed = asyncio.Event()

    @inner.route("/{kind}")
    async def handler(ws: ServerConnection, path: RoutedPath) -> None:
        await inner.subscribe(ws, news(kind=path.params["kind"]))
        subscribed.set()
        await ws.wait_closed()

    async with (
        serving(way.serve(root)) as uri,
        connecting(uri + "/m/i/local") as ws,
    ):
        await subscribed.wait()
        for number, router in enumerate((root, middle, inner)):
            assert router.publish("news/local", str(number)).matched == 1
            assert await ws.recv() == str(number)


# Hooks that hang, and clients that go away


@each_way
@pytest.mark.parametrize("where", ["router hook", "endpoint hook"])
async def test_a_hook_that_hangs_meets_open_timeout_and_is_logged_with_its_route(
    way: WayIn, where: str, caplog: pytest.LogCaptureFixture
) -> None:
    root, inner = Router(), Router()
    root.mount("/api", inner)
    # For connections that are open already: websockets keeps its own to itself.
    root.handshake.open_timeout = 0.1
    ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    never = asyncio.Event()

    async def hang() -> None:
        try:
            await never.wait()
        except asyncio.CancelledError:
            if not ended.done():
                ended.set_result("cancelled")
            raise

    @inner.route("/x/{id}")
    class Hangs:
        async def process_request(self, path: Any, headers: Any) -> None:
            if where == "endpoint hook":
                await hang()

        async def handle(self, ws: Any) -> None: ...

    @inner.before_handshake
    async def before(ws: Any, path: Any) -> None:
        if where == "router hook":
            await hang()

    async with serving(way.serve(root, open_timeout=0.1)) as uri:
        client = asyncio.create_task(refusal(uri + "/api/x/1"))
        try:
            async with asyncio.timeout(1):
                assert await ended == "cancelled"
        finally:
            never.set()
            client.cancel()
            await asyncio.wait({client})
    assert "/api/x/{id}" in caplog.text


@few_ways
async def test_a_client_that_goes_away_in_a_hook_leaves_nothing(
    way: WayIn, caplog: pytest.LogCaptureFixture
) -> None:
    root = Router()
    entered, leave = asyncio.Event(), asyncio.Event()
    trace: Trace = []

    @root.before_handshake
    async def wait(ws: Any, path: Any) -> None:
        entered.set()
        await leave.wait()
        trace.append("hook")

    @root.middleware
    async def around(ws: Any, path: Any, call_next: Any) -> None:
        try:
            await call_next(ws, path)
        finally:
            trace.append("middleware")

    @root.route("/")
    class Events:
        def on_open(self, ws: Any) -> None:
            trace.append("open")

        def on_close(self, ws: Any, code: int, reason: str) -> None:
            trace.append("close")

        def on_message(self, ws: Any, message: Any, opcode: Any) -> None: ...

    server = way.serve(root)
    async with serving(server):
        _, writer = await asyncio.open_connection(HOST, port(server))
        writer.write(
            b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n"
            b"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
            b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
        )
        await entered.wait()
        writer.transport.abort()
        leave.set()
    assert trace[0] == "hook"
    assert trace.count("open") == trace.count("close") <= 1
    assert errors_of(caplog) == []


@few_ways
async def test_a_client_that_goes_away_in_middleware_leaves_nothing(
    way: WayIn, caplog: pytest.LogCaptureFixture
) -> None:
    root = Router()
    entered, leave = asyncio.Event(), asyncio.Event()
    trace: Trace = []

    @root.middleware
    async def wait(ws: ServerConnection, path: Any, call_next: Any) -> None:
        entered.set()
        await ws.wait_closed()
        try:
            await call_next(ws, path)
        finally:
            trace.append("left")
            leave.set()

    @root.route("/")
    class Events:
        def on_open(self, ws: Any) -> None:
            trace.append("open")

        def on_message(self, ws: Any, message: Any, opcode: Any) -> None: ...

        def on_close(self, ws: Any, code: int, reason: str) -> None:
            trace.append(f"close {code}")

    async with serving(way.serve(root)) as uri:
        ws = await connecting(uri + "/")
        await entered.wait()
        ws.transport.abort()
        await leave.wait()
    assert trace == ["open", "close 1006", "left"]
    assert errors_of(caplog) == []


@each_way
async def test_cleaning_up_in_middleware_runs_when_the_server_ends(way: WayIn) -> None:
    root = Router()
    trace: Trace = []
    root.middleware(around(trace, "m"))
    opened = asyncio.Event()

    @root.route("/")
    async def handler(ws: ServerConnection) -> None:
        opened.set()
        await ws.wait_closed()

    server = way.serve(root)
    async with serving(server) as uri:
        ws = await connecting(uri + "/")
        await opened.wait()
    assert trace == ["+m", "-m"]
    assert await end(ws) == (1001, "")


async def test_an_error_with_a_status_of_its_own_is_answered_with_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    router = Router()
    caplog.set_level(logging.INFO)

    @router.before_handshake
    def deny(ws: Any, path: Any) -> None:
        raise SubscriptionDenied("room/1", "members only")

    @router.route("/x")
    async def handler(ws: Any) -> None: ...

    async with serving(router.serve(HOST, 0)) as uri:
        with pytest.raises(InvalidStatus) as refused:
            await connect(uri + "/x")
    assert refused.value.response.status_code == 403
    assert b"members only" in refused.value.response.body
    assert "handshake of route /x refused" in caplog.text
    assert not [each for each in caplog.records if each.levelno >= logging.ERROR]


async def test_an_error_handler_may_leave_the_answer_to_the_error() -> None:
    router = Router()
    heard: list[Any] = []

    @router.on_error(SubscriptionDenied)
    def hear(error: Any, ws: Any, path: Any) -> None:
        heard.append(error)

    @router.before_handshake
    def deny(ws: Any, path: Any) -> None:
        raise SubscriptionDenied("room/1", "members only")

    @router.route("/x")
    async def handler(ws: Any) -> None: ...

    async with serving(router.serve(HOST, 0)) as uri:
        assert await refusal(uri + "/x") == 403
    assert len(heard) == 1


async def test_the_host_of_a_request_must_be_one() -> None:
    router = Router()
    async with serving(router.serve(HOST, 0)) as uri:
        with pytest.raises(InvalidStatus) as refused:
            await connect(uri, additional_headers={"Host": "a b"})
    assert refused.value.response.status_code == 400


async def test_who_is_refused_by_middleware_hears_no_topic() -> None:
    router = Router()
    heard: list[int] = []

    @router.middleware
    async def refuse(ws: Any, path: Any, call_next: Any) -> None:
        heard.append(router.num_subscribers("news"))
        await ws.close(4003)

    @router.route("/", subscribe="news")
    async def handler(ws: Any) -> None: ...

    async with serving(router.serve(HOST, 0)) as uri, connecting(uri + "/") as ws:
        assert (await end(ws))[0] == 4003
    assert heard == [0]


async def test_conditions_are_asked_once_even_if_hooks_pass_on() -> None:
    router = Router()
    asked: list[str] = []

    def condition(name: str) -> Any:
        def ask(path: Any, headers: Any) -> bool:
            asked.append(name)
            return True

        return ask

    for template, name in (("/{a:x}", "first"), ("/{a}", "second"), ("/*a", "last")):

        @router.route(template, condition=condition(name))
        class Handler:
            def process_request(self, path: Any, headers: Any) -> None:
                if str(path.route) != "/*a":
                    raise NextRoute

            async def handle(self, ws: Any, path: Any) -> None:
                await ws.send(str(path.route))

    async with serving(router.serve(HOST, 0)) as uri, connecting(uri + "/x") as ws:
        assert await ws.recv() == "/*a"
    assert asked == ["first", "second", "last"]


async def test_tasks_and_connections_are_those_of_the_root() -> None:
    root, inner = Router(), Router()
    root.mount("/api", inner)

    @inner.route("/x")
    async def handler(ws: Any) -> None:
        await ws.wait_closed()

    async with serving(root.serve(HOST, 0)) as uri:
        assert await inner.start_task(asyncio.sleep(0, "done")) == "done"
        async with connecting(uri + "/api/x") as ws:
            assert await inner.disconnect(lambda each: True, 4000) == 1
            assert (await end(ws))[0] == 4000


async def test_a_failing_topic_hook_is_heard_of_by_the_router_of_its_connection() -> (
    None
):
    root, inner = Router(), Router()
    root.mount("/api", inner)
    heard: asyncio.Queue[str] = asyncio.Queue()
    root.on_error(lambda error, ws, path: heard.put_nowait("root"))
    inner.on_error(lambda error, ws, path: heard.put_nowait(f"inner {path.route}"))

    @root.topics.on_subscription
    def fail(ws: Any, topic: Any, new_count: int, old_count: int) -> None:
        raise ValueError

    @inner.route("/x", subscribe="news")
    async def handler(ws: Any) -> None:
        await ws.wait_closed()

    async with serving(root.serve(HOST, 0)) as uri, connecting(uri + "/api/x"):
        assert await heard.get() == "inner /api/x"
