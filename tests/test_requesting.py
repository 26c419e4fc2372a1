"""Requesting: how a router declares what answers requests, and what extends it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from websockets_routes import (
    DuplicateName,
    EndpointError,
    ExtensionError,
    MountError,
    NextRoute,
    OpCode,
    Registrar,
    Resource,
    Router,
    TemplateError,
    delete,
    get,
    param,
    patch,
    post,
    put,
    websocket,
)
from websockets_routes.http import Request, Response
from websockets_routes.testing import client, dispatch

VERBS = ["get", "post", "put", "patch", "delete", "head", "options", "trace", "connect"]


async def ask(router: Router, path: str, method: str = "GET", **headers: str) -> str:
    answer = await dispatch(router, Request(method, path, headers))
    return answer.text if answer.status == 200 else str(answer.status)


# Declaring


@pytest.mark.parametrize("verb", [*VERBS, "any"])
def test_each_method_declares_a_route_with_all_its_options(verb: str) -> None:
    router = Router(prefix="/p")

    def handler(request: Any) -> None: ...

    declare = getattr(router, verb)
    declared = declare(
        "/{a}/:b?",
        name="it",
        requirements={"a": "[0-9]+"},
        defaults={"c": "x"},
        condition=lambda path, headers: True,
        max_content_length=7,
    )(handler)
    assert declared is handler
    (route,) = router.routes
    assert route.methods == (frozenset() if verb == "any" else {verb.upper()})
    assert route.max_content_length == 7
    assert route.name == "it"
    assert route.endpoint.target is handler
    assert router.url_for("it", a=1) == "/p/1"
    assert repr(route).startswith("Route('/p/{a}/:b?', ")


def test_methods_of_one_template_may_not_share_a_name() -> None:
    router = Router()
    router.get("/a", name="a")(lambda request: "")
    with pytest.raises(DuplicateName):
        router.post("/a", name="a")(lambda request: "")
    with pytest.raises(TemplateError):
        router.get("/{")(lambda request: "")
    assert len(router.routes) == 1


def test_a_router_knows_whether_it_answers_requests() -> None:
    router, api = Router(), Router()
    router.route("/")(_socket)
    router.mount("/api", api)
    assert not router.answers_requests
    api.get("/")(lambda request: "")
    assert router.answers_requests
    other = Router()
    other.host("a.example").get("/")(lambda request: "")
    assert other.answers_requests
    third = Router()
    third.mount("/api", Router()).mount("/x", api_of())
    assert third.answers_requests


def api_of() -> Router:
    router = Router()
    router.get("/")(lambda request: "")
    return router


async def _socket(ws: Any) -> None: ...


IMPORTS = """\
import sys
from websockets_routes import Router
router = Router()

@router.route("/")
async def socket(ws): ...

assert not {each for each in sys.modules if each.startswith("h11")}, "h11"
assert not {each for each in sys.modules if "websockets_routes.http" in each}
"""


def test_without_routes_of_requests_nothing_for_them_is_imported() -> None:
    subprocess.run([sys.executable, "-c", IMPORTS], check=True, timeout=60)


# Both kinds of routes


async def test_hooks_and_middleware_stand_before_both_kinds() -> None:
    router = Router()
    seen: list[tuple[str, str]] = []

    @router.before_handshake
    async def authenticate(ws: Any, path: Any) -> Any:
        token = ws.headers.get("X-Token")
        if token is None:
            return (401, {"X-Why": "token"}, "who are you?")
        if token == "next":
            raise NextRoute
        path.context["user"] = token.upper()
        return None

    @router.middleware
    async def log(ws: Any, path: Any, call_next: Any) -> Any:
        seen.append((type(ws).__name__, str(path)))
        return await call_next(ws, path, user=path.context["user"])

    @router.route("/{name}")
    async def socket(ws: Any, *, user: str) -> None:
        await ws.send(f"{user} {ws.params['name']}")

    @router.get("/{name}")
    async def page(request: Request, *, user: str) -> str:
        return f"{user} {request.params['name']}"

    async with client(router) as c:
        ws = await c.connect("/x", headers={"X-Token": "ann"})
        assert await ws.recv() == "ANN x"
        refused = await c.refusal("/x")
        assert (refused.status, refused.text) == (401, "who are you?")
        assert refused.headers["X-Why"] == "token"
        assert (await c.refusal("/x", headers={"X-Token": "next"})).status == 404
        answer = await dispatch(router, Request("GET", "/x"))
        assert (answer.status, answer.text) == (401, "who are you?")
        assert answer.headers["X-Why"] == "token"
        assert await ask(router, "/x", **{"X-Token": "ann"}) == "ANN x"
        assert await ask(router, "/x", **{"X-Token": "next"}) == "404"
    assert [each[1] for each in seen] == ["/x", "/x"]


# Resources


class Rooms(Resource):
    def __init__(self) -> None:
        self.calls = 0

    @get("/{room}", name="room")
    async def show(self, request: Request) -> Any:
        self.calls += 1
        return {"room": request.params["room"], "calls": self.calls}

    @post("/{room}", max_content_length=3)
    @put("/{room}")
    def change(self, request: Request) -> str:
        return request.method

    @patch("/{room}")
    @delete("/{room}")
    @staticmethod
    def other(request: Request) -> str:
        return request.method.lower()

    @websocket("/{room}")
    async def chat(self, ws: Any, opcode: OpCode, payload: Any) -> None:
        if opcode is OpCode.TEXT:
            await ws.send(f"{ws.params['room']}: {payload}")


class Plain:
    show = Rooms.show
    change = Rooms.change
    other = Rooms.__dict__["other"]
    chat = Rooms.chat
    calls = 0


class Slotted:
    __slots__ = ()

    @get("/{room}")
    def show(self, request: Request) -> str:
        return "slotted"


class Listed(list[Any]):
    """An object with decorated methods that can be iterated over as well."""

    @get("/{room}")
    def show(self, request: Request) -> str:
        return "listed"


@pytest.mark.parametrize(
    "make",
    [Rooms, lambda: Rooms, Plain, lambda: Plain, lambda: Rooms().routes()],
    ids=["resource", "class", "plain", "plain class", "list"],
)
async def test_methods_answer_requests_and_take_connections(
    make: Callable[[], Any],
) -> None:
    router = Router()
    router.register(make(), "/rooms")
    for _ in range(2):
        shown = await dispatch(router, Request("GET", "/rooms/a"))
        assert shown.json()["room"] == "a"
    assert shown.json()["calls"] == 2
    assert await ask(router, "/rooms/a", "POST") == "POST"
    assert await ask(router, "/rooms/a", "PUT") == "PUT"
    assert await ask(router, "/rooms/a", "PATCH") == "patch"
    assert await ask(router, "/rooms/a", "DELETE") == "delete"
    assert await ask(router, "/rooms/a", "TRACE") == "405"
    async with client(router) as c:
        ws = await c.connect("/rooms/a")
        await ws.send("hi")
        assert await ws.recv() == "a: hi"


@pytest.mark.parametrize("kind", [Slotted, Listed])
async def test_any_object_may_have_decorated_methods(kind: type) -> None:
    router = Router()
    router.register(kind())
    assert await ask(router, "/x") == kind.__name__.lower()


async def test_options_of_decorators_are_kept() -> None:
    router = Router()
    router.register(Rooms())
    assert router.url_for("room", room="x") == "/x"
    answer = await dispatch(router, Request("POST", "/x", {"Content-Length": "4"}))
    assert answer.status == 413


class Asks:
    @get("/above")
    @param("since", type=int, required=True)
    def above(self, request: Request) -> Any:
        return request.path.inputs["since"]

    @param("since", type=int, required=True)
    @get("/below")
    async def below(self, request: Request) -> Any:
        return request.path.inputs["since"]


@pytest.mark.parametrize("path", ["/above", "/below"])
async def test_methods_declare_inputs(path: str) -> None:
    router = Router()
    router.register(Asks)
    assert await ask(router, f"{path}?since=7") == "7"
    assert await ask(router, path) == "400"


def test_a_resource_lists_its_methods() -> None:
    rooms = Rooms()
    assert rooms.routes() == [
        ("GET", "/{room}", rooms.show),
        ("POST", "/{room}", rooms.change),
        ("PUT", "/{room}", rooms.change),
        ("PATCH", "/{room}", rooms.other),
        ("DELETE", "/{room}", rooms.other),
        ("WEBSOCKET", "/{room}", rooms.chat),
    ]


async def test_lists_of_routes_may_have_any_of_the_methods() -> None:
    router = Router()
    methods = ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"]
    router.register([(each, "/a", lambda request: request.method) for each in methods])
    for each in methods:
        assert await ask(router, "/a", each) == ("" if each == "HEAD" else each)


class NeedsMore(Resource):
    def __init__(self, more: int) -> None:
        raise NotImplementedError


class Undecorated:
    def show(self, request: Request) -> None: ...


@pytest.mark.parametrize(
    "wrong",
    [NeedsMore, Undecorated, Undecorated(), [("GET", "/a", Undecorated)], [("GET",)]],
    ids=["needs more", "class", "object", "class in a list", "short"],
)
def test_what_declares_nothing_cannot_be_registered(wrong: Any) -> None:
    router = Router()
    with pytest.raises(EndpointError):
        router.register(wrong)
    assert router.routes == ()


# Extensions


def accounts(request: Registrar, response: Registrar, ws: Registrar) -> None:
    request.property("user", "nobody")
    request.property("visits", [])
    ws.property("user", "nobody")

    @request.method
    def greet(request: Any) -> str:
        request.visits.append(1)
        return f"{request.user} {request.path} {len(request.visits)}"

    @response.method
    def shout(response: Any) -> Any:
        response.payload = response.payload.upper()
        return response

    @ws.method
    def greeting(ws: Any) -> str:
        return f"{ws.user} {ws.path}"


def extended() -> Router:
    router = Router()
    router.extend(accounts)

    @router.before_handshake
    def hook(ws: Any, path: Any) -> None:
        ws.user = path.query_params.get("user", ws.user)

    @router.get("/a")
    def handler(request: Any) -> Any:
        return request.response(request.greet()).shout()

    @router.route("/ws")
    async def socket(ws: Any) -> None:
        await ws.send(ws.greeting())

    return router


async def test_extensions_add_to_requests_responses_and_connections() -> None:
    router = extended()
    kind: Any = router.request_class
    for _ in range(2):  # what is added is each request's own
        answer = await dispatch(router, kind("GET", "/a?user=ann"))
        assert answer.text == "ANN /A?USER=ANN 1"
    assert (await dispatch(router, kind("GET", "/a"))).text == "NOBODY /A 1"
    async with client(router) as c:
        assert await (await c.connect("/ws?user=ann")).recv() == "ann /ws?user=ann"


async def test_dispatch_extends_a_request_as_a_server_does() -> None:
    assert await ask(extended(), "/a?user=ann") == "ANN /A?USER=ANN 1"


def test_the_class_of_requests_is_the_routers_own() -> None:
    router, other = extended(), Router()
    assert router.request_class is router.request_class
    assert issubclass(router.request_class, Request)
    assert issubclass(router.request_class.response, Response)
    assert router.request_class("GET", "/").router is router
    assert other.request_class is not router.request_class
    assert not hasattr(other.request_class, "greet")
    assert not hasattr(Request, "greet")
    assert not hasattr(Response, "shout")


def test_an_extension_comes_before_the_class_of_requests_is_made() -> None:
    router = Router()
    assert router.request_class
    with pytest.raises(ExtensionError, match="before serving"):
        router.extend(accounts)


@pytest.mark.parametrize(
    "name",
    ["headers", "path", "method", "body", "router", "target", "_body", "start_task"],
)
def test_no_name_of_a_request_may_be_taken(name: str) -> None:
    router = Router()
    with pytest.raises(ExtensionError, match=name):
        router.extend(lambda request, response, ws: request.property(name))


@pytest.mark.parametrize("name", ["status", "headers", "payload", "json", "reason"])
def test_no_name_of_a_response_may_be_taken(name: str) -> None:
    router = Router()
    with pytest.raises(ExtensionError, match=name):
        router.extend(lambda request, response, ws: response.property(name))


def test_an_extension_that_fails_adds_nothing() -> None:
    router = Router()

    def extension(request: Registrar, response: Registrar, ws: Registrar) -> None:
        request.property("a")
        response.property("b")
        ws.property("c")
        ws.property("send")

    with pytest.raises(ExtensionError, match="send"):
        router.extend(extension)
    router.extend(lambda request, response, ws: request.property("a"))
    router.extend(lambda request, response, ws: response.property("b"))
    router.extend(lambda ws: ws.property("c"))
    with pytest.raises(ExtensionError, match="'a'"):
        router.extend(lambda request, response, ws: request.property("a"))


@pytest.mark.parametrize(
    "wrong", [lambda: None, lambda a, b: None, lambda a, b, c, d: None]
)
def test_an_extension_takes_one_or_three(wrong: Any) -> None:
    with pytest.raises(ExtensionError, match=r"f\(ws\) or f\(request, response, ws\)"):
        Router().extend(wrong)


@pytest.mark.parametrize(
    "extension",
    [
        lambda request, response, ws: request.property("a"),
        lambda request, response, ws: response.property("a"),
        lambda request, response, ws: ws.property("a"),
    ],
    ids=["request", "response", "ws"],
)
def test_what_is_mounted_has_no_extensions_of_its_own(extension: Any) -> None:
    router, api = Router(), Router()
    api.extend(extension)
    with pytest.raises(MountError, match="extensions"):
        router.mount("/api", api)
