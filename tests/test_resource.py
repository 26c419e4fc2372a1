"""Resource: related routes in one class, with one instance for all connections."""

from __future__ import annotations

from typing import Any

import pytest
from websockets import Headers

from websockets_routes import (
    DuplicateName,
    EndpointError,
    OpCode,
    Resource,
    Router,
    TemplateError,
    websocket,
)

from .integration.servers import HOST, connecting, refusal, serving


class Chat(Resource):
    def __init__(self) -> None:
        self.seen: list[tuple[OpCode, object]] = []

    @websocket("/b", name="b")
    @websocket("/{id}", name="id", requirements={"id": "[0-9]+"}, defaults={"x": "y"})
    async def room(self, ws: Any, opcode: OpCode, payload: Any) -> None:
        self.seen.append((opcode, payload))
        if opcode in (OpCode.TEXT, OpCode.BINARY):
            await ws.send(payload)

    @websocket("/a", condition=lambda path, headers: "X-No" not in headers)
    def plain(self, ws: Any, opcode: OpCode, payload: Any) -> None:
        self.seen.append((opcode, payload))

    def helper(self) -> None:
        raise NotImplementedError


class Overrides(Chat):
    async def room(self, ws: Any, opcode: OpCode, payload: Any) -> None:
        pass


class Redeclares(Chat):
    @websocket("/new")
    async def room(self, ws: Any, opcode: OpCode, payload: Any) -> None:
        pass


class Drops(Chat):
    room = None  # type: ignore[assignment]


class Mixin:
    @websocket("/mixin")
    def mixed(self, ws: Any, opcode: OpCode, payload: Any) -> None:
        pass


class Mixed(Chat, Mixin):
    @websocket("/own")
    def own(self, ws: Any, opcode: OpCode, payload: Any) -> None:
        pass


class Restores(Drops):
    def room(self, ws: Any, opcode: OpCode, payload: Any) -> None:  # type: ignore[override]
        pass


class Static(Resource):
    @staticmethod
    @websocket("/inner")
    def inner(ws: Any, opcode: OpCode, payload: Any) -> None:
        pass

    @websocket("/outer")
    @staticmethod
    def outer(ws: Any, opcode: OpCode, payload: Any) -> None:
        pass


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (Resource, []),
        (Chat, [("/b", "room"), ("/{id}", "room"), ("/a", "plain")]),
        (Overrides, [("/b", "room"), ("/{id}", "room"), ("/a", "plain")]),
        (Redeclares, [("/new", "room"), ("/a", "plain")]),
        (Drops, [("/a", "plain")]),
        (Restores, [("/b", "room"), ("/{id}", "room"), ("/a", "plain")]),
        (
            Mixed,
            [
                ("/mixin", "mixed"),
                ("/b", "room"),
                ("/{id}", "room"),
                ("/a", "plain"),
                ("/own", "own"),
            ],
        ),
        (Static, [("/inner", "inner"), ("/outer", "outer")]),
    ],
)
def test_routes_are_listed_bases_first_with_the_nearest_methods(
    kind: type[Resource], expected: list[tuple[str, str]]
) -> None:
    resource = kind()
    assert resource.routes() == [
        ("WEBSOCKET", template, getattr(resource, name)) for template, name in expected
    ]
    router = Router()
    router.register(resource)
    assert {str(route) for route in router.routes} == {each for each, _ in expected}


def test_register_passes_on_all_that_a_decorator_was_told() -> None:
    router = Router()
    router.register(Chat())
    assert router.url_for("b") == "/b"
    assert router.match("/7").params == {"id": "7", "x": "y"}
    assert router.match("/c").route is None
    assert router.match("/a").route is not None
    assert router.match("/a", Headers({"X-No": "1"})).route is None


@pytest.mark.parametrize("as_list", [False, True])
def test_register_puts_a_prefix_before_each_template(as_list: bool) -> None:
    router, chat = Router(), Chat()
    router.register(chat.routes() if as_list else chat, "/chat/{room}")
    expected = {"/chat/{room}/a", "/chat/{room}/b", "/chat/{room}/{id}"}
    assert {str(route) for route in router.routes} == expected
    assert router.match("/chat/x/b").params == {"room": "x"}


def test_register_makes_an_instance_of_a_class() -> None:
    router = Router()
    router.register(Chat, "/chat")
    assert {str(route) for route in router.routes} == {
        "/chat/a",
        "/chat/b",
        "/chat/{id}",
    }


def test_register_takes_any_iterable_of_routes() -> None:
    router = Router()
    router.register(iter(Chat().routes()[2:]))
    router.register([])
    assert [str(route) for route in router.routes] == ["/a"]


def callback(ws: Any, opcode: OpCode, payload: Any) -> None:
    pass


@pytest.mark.parametrize(
    ("routes", "problem"),
    [
        (None, "register takes an object with decorated methods"),
        (1, "register takes an object with decorated methods"),
        ("routes", "register takes an object with decorated methods"),
        ([callback], "register takes an object with decorated methods"),
        ([("/a", callback)], "register takes an object with decorated methods"),
        ([("GET", "/a", callback)], r"must take \(request\)"),
        ([("get", "/a", callback)], "the method 'get' is unknown"),
        ([("BREW", "/a", callback)], "the method 'BREW' is unknown"),
        ([("WEBSOCKET", "/a", None)], "must be a function or a class"),
        ([("WEBSOCKET", "/a", lambda ws: None)], r"takes \(ws, opcode, payload\)"),
        ([("WEBSOCKET", "/a", Chat)], r"takes \(ws, opcode, payload\)"),
    ],
)
def test_register_takes_nothing_else(routes: Any, problem: str) -> None:
    with pytest.raises(EndpointError, match=problem):
        Router().register(routes)


@pytest.mark.parametrize(
    ("bad", "error"),
    [
        (("WEBSOCKET", "/{", callback), TemplateError),
        (("WEBSOCKET", "/bad", 1), EndpointError),
        (("GET", "/bad", callback), EndpointError),
    ],
)
def test_a_registration_that_fails_registers_nothing(
    bad: Any, error: type[Exception]
) -> None:
    router = Router()
    with pytest.raises(error):
        router.register([("WEBSOCKET", "/good", callback), bad])
    assert router.routes == ()


def test_a_name_that_is_taken_registers_nothing() -> None:
    router = Router()
    router.register(Chat())
    before = router.routes
    with pytest.raises(DuplicateName):
        router.register(Chat(), "/again")
    assert router.routes == before


async def test_one_instance_hears_all_events_of_all_connections() -> None:
    router, chat = Router(), Chat()
    router.register(chat, "/chat")
    async with serving(router.serve(HOST, 0)) as url:
        for _ in range(2):
            async with connecting(f"{url}/chat/7") as ws:
                await ws.send("text")
                assert await ws.recv() == "text"
                await (await ws.ping(b"ping"))
                await ws.pong(b"pong")
                await ws.send(b"bytes")
                assert await ws.recv() == b"bytes"
        assert await refusal(f"{url}/chat/x") == 404
    assert (
        chat.seen
        == [
            (OpCode.OPEN, b""),
            (OpCode.TEXT, "text"),
            (OpCode.PING, b"ping"),
            (OpCode.PONG, b"pong"),
            (OpCode.BINARY, b"bytes"),
            (OpCode.CLOSE, b""),
        ]
        * 2
    )
