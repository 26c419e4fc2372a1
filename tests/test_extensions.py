"""Extensions: what they add is on every connection, and clashes with nothing."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from websockets.asyncio.server import Server

from websockets_routes import ExtensionError, Protocol, RoutedPath, Router, RoutesError
from websockets_routes.extensions import Extensions, Registrar

from .integration.servers import HOST, receive, refusal, serve_plain, serving


class Mine(Protocol):
    """A connection class of the user's own, with a name that an extension may want."""

    nickname = "mine"

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.colour = "red"


class Seeing(Protocol):
    """A connection class whose hook uses what an extension adds."""

    def process_request(self: Any, path: RoutedPath, headers: Any) -> None:
        self.visits.append("class")


def visits(ws: Registrar) -> None:
    ws.property("visits", [])
    ws.property("user")

    @ws.method
    def visited(ws: Any, place: str = "default") -> str:
        ws.visits.append(place)
        return " ".join(ws.visits)

    @ws.method
    async def tell(ws: Any) -> None:
        await ws.send(" ".join(ws.visits))


def nothing(ws: Any) -> None:
    pass


@pytest.fixture
def router() -> Router:
    router = Router()
    router.extend(visits)

    @router.route("/handler")
    async def handler(ws: Any) -> None:
        assert ws.user is None
        ws.user = "Ann"
        assert ws.user == "Ann"
        assert ws.visited("handler") == " ".join(ws.visits)
        await ws.tell()

    @router.route("/events")
    class Events:
        async def on_open(self, ws: Any) -> None:
            assert ws.user is None
            ws.visited("events")
            await ws.tell()
            await ws.close()

    @router.websocket("/callback")
    async def callback(ws: Any, opcode: int, payload: object) -> None:
        if not ws.visited().endswith("default default"):
            await ws.tell()
            await ws.close()

    return router


def hook(ws: Any, request: object) -> None:
    ws.visited("hook")


def _factory(*args: Any, **kwargs: Any) -> Seeing:
    return Seeing(*args, **kwargs)


BOUND: dict[str, Callable[..., Server]] = {
    "class": lambda router, **kw: router.serve(HOST, 0, create_connection=Seeing, **kw),
    "function": lambda router, **kw: router.serve(
        HOST, 0, create_connection=_factory, **kw
    ),
    "partial": lambda router, **kw: router.serve(
        HOST, 0, create_connection=partial(Seeing), **kw
    ),
    "bound-class": lambda router, **kw: router.serve(
        HOST, 0, create_connection=router.connection_class(Seeing), **kw
    ),
    "bound-partial": lambda router, **kw: router.serve(
        HOST, 0, create_connection=partial(Seeing, router=router), **kw
    ),
    "connection-class": lambda router, **kw: serve_plain(
        router, create_connection=router.connection_class(Seeing), **kw
    ),
    "plain-partial": lambda router, **kw: serve_plain(
        router, create_connection=partial(Seeing, router=router), **kw
    ),
    "plain-bound-partial": lambda router, **kw: serve_plain(
        router,
        create_connection=partial(router.connection_class(Seeing), router=router),
        **kw,
    ),
}


@pytest.mark.parametrize("serve", BOUND.values(), ids=BOUND.keys())
@pytest.mark.parametrize(
    ("path", "last"),
    [("/handler", "handler"), ("/events", "events"), ("/callback", "default")],
)
async def test_extensions_are_there_from_the_first_hook_on_and_fresh_each_time(
    serve: Callable[..., Server], path: str, last: str, router: Router
) -> None:
    async with serving(serve(router, process_request=hook)) as url:
        for _ in range(2):
            assert await receive(url + path) == f"hook class {last}"


async def test_extensions_are_there_without_a_class_of_ones_own(router: Router) -> None:
    async with serving(router.serve(HOST, 0)) as url:
        assert await receive(f"{url}/handler") == "handler"


async def test_extensions_are_there_for_what_answers_unmatched_paths(
    router: Router,
) -> None:
    seen = []

    @router.not_found
    def not_found(ws: Any, path: RoutedPath) -> None:
        seen.append(ws.visited("nowhere"))

    async with serving(router.serve(HOST, 0)) as url:
        assert await refusal(f"{url}/nowhere") == 404
    assert seen == ["nowhere"]


async def test_a_subclass_may_use_what_an_extension_adds(router: Router) -> None:
    class Calling(Protocol):
        def visited_twice(self: Any) -> None:
            self.visited("one")
            self.visited("two")

    @router.route("/twice")
    async def handler(ws: Any) -> None:
        ws.visited_twice()
        await ws.tell()

    server = router.serve(HOST, 0, create_connection=Calling)
    async with serving(server) as url:
        assert await receive(f"{url}/twice") == "one two"


def test_extensions_of_one_router_are_not_those_of_another(router: Router) -> None:
    assert hasattr(router.connection_class(), "visited")
    assert not hasattr(Router().connection_class(), "visited")
    assert not hasattr(Protocol, "visited")


def test_a_default_is_copied_in_depth_for_each_connection() -> None:
    default = {"a": [1]}
    extensions = Extensions(Protocol)
    extensions.add(lambda ws: ws.property("notes", default))
    kind: Any = type("Kind", (), extensions.close(Protocol))
    one, other = kind(), kind()
    one.notes["a"].append(2)
    assert one.notes is one.notes
    assert one.notes == {"a": [1, 2]}
    assert other.notes == default == {"a": [1]}
    assert kind.notes.default is default


def test_method_returns_the_function_it_decorates() -> None:
    same = []

    def extension(ws: Any) -> None:
        same.append(ws.method(nothing) is nothing)

    Router().extend(extension)
    assert same == [True]


# Clashes


TAKEN = [
    # of the class of websockets
    "send",
    "recv",
    "close",
    "id",
    "logger",
    "request",
    "response",
    "subprotocol",
    "state",
    "latency",
    "transport",
    "protocol",
    "server",
    "recv_messages",
    "keepalive_task",
    "username",
    "handler",
    "handler_kwargs",
    # of Protocol
    "path",
    "params",
    "context",
    "router",
    "serializer",
    "max_backlog",
    "send_nowait",
    "process_request",
    "start_task",
    "_tasks",
    # of every object
    "__init__",
    "__class__",
    "__doc__",
    "__dict__",
]


@pytest.mark.parametrize("name", TAKEN)
@pytest.mark.parametrize("kind", ["method", "property"])
def test_a_name_that_a_connection_has_raises(name: str, kind: str) -> None:
    def extension(ws: Any) -> None:
        if kind == "property":
            ws.property(name)
        else:
            function: Any = lambda ws: None  # noqa: E731
            function.__name__ = name
            ws.method(function)

    with pytest.raises(ExtensionError, match=f"has an attribute '{name}' already"):
        Router().extend(extension)


def test_a_name_of_another_extension_raises(router: Router) -> None:
    with pytest.raises(ExtensionError, match="'visits' already") as raised:
        router.extend(lambda ws: ws.property("visits"))
    assert isinstance(raised.value, RoutesError)
    with pytest.raises(ExtensionError, match=r"'\w+' already"):
        router.extend(visits)


def test_a_name_twice_in_one_extension_raises() -> None:
    def extension(ws: Any) -> None:
        ws.property("nothing")
        ws.method(nothing)

    with pytest.raises(ExtensionError, match="'nothing' already"):
        Router().extend(extension)


@pytest.mark.parametrize("name", ["nickname", "colour"])
def test_a_name_of_the_users_class_raises_when_the_class_is_bound(name: str) -> None:
    router = Router()
    router.extend(lambda ws: ws.property(name))
    message = f"Mine has an attribute '{name}' already"
    with pytest.raises(ExtensionError, match=message):
        router.connection_class(Mine)
    with pytest.raises(ExtensionError, match=message):
        router.connection_class(Mine)


@pytest.mark.parametrize("name", ["", "a b", "a-b", "1a", "a.b", "<lambda>", "é\n"])
def test_a_name_that_is_no_identifier_raises(name: str) -> None:
    with pytest.raises(ExtensionError, match="is no name for an attribute"):
        Router().extend(lambda ws: ws.property(name))


def test_a_function_without_a_name_of_its_own_raises() -> None:
    with pytest.raises(ExtensionError, match="'<lambda>' is no name"):
        Router().extend(lambda ws: ws.method(lambda ws: None))


@pytest.mark.parametrize("failure", ["clash", "exception"])
def test_an_extension_that_fails_adds_nothing(failure: str) -> None:
    router = Router()

    def extension(ws: Any) -> None:
        ws.property("good")
        ws.method(nothing)
        if failure == "clash":
            ws.property("send")
        raise ValueError("no luck")

    with pytest.raises(ValueError, match=r"'send' already|no luck"):
        router.extend(extension)
    kind = router.connection_class()
    assert not hasattr(kind, "good")
    assert not hasattr(kind, "nothing")


@pytest.mark.parametrize(
    "extension", [lambda: None, lambda ws, more: None, lambda *, ws: None]
)
def test_an_extension_takes_one_argument(extension: Any) -> None:
    with pytest.raises(ExtensionError, match=r"must be a function f\(ws\)"):
        Router().extend(extension)


# Too late


def test_extensions_come_before_a_connection_class_is_made() -> None:
    router = Router()
    router.extend(nothing)
    router.connection_class()
    with pytest.raises(ExtensionError, match="before serving"):
        router.extend(nothing)


@pytest.mark.parametrize("create", [None, Seeing, _factory])
async def test_extensions_come_before_serving(create: Any) -> None:
    router = Router()
    async with serving(router.serve(HOST, 0, create_connection=create)):
        with pytest.raises(ExtensionError, match="before serving"):
            router.extend(nothing)
