"""Router: what it declares, asks and makes; what it serves is in integration/."""

from __future__ import annotations

from functools import partial, wraps
from typing import Any

import pytest
from websockets import Headers
from websockets.asyncio.client import connect
from websockets.asyncio.server import Server, ServerConnection

import websockets_routes
from websockets_routes import (
    BadRequest,
    DuplicateName,
    EndpointError,
    Protocol,
    RoutedPath,
    Router,
    TemplateError,
    UnknownName,
)

from .integration.servers import HOST, answer, receive, refusal, serve_plain, serving


class Named(Protocol):
    """What it is."""

    async def name(self) -> str:
        return type(self).__qualname__


async def handler(ws: Named) -> None:
    await ws.send(await ws.name())


@pytest.fixture
def router() -> Router:
    return Router()


# Declaring


def test_route_returns_the_function_it_decorates(router: Router) -> None:
    assert router.route("/")(handler) is handler


def test_route_returns_the_class_it_decorates(router: Router) -> None:
    class Endpoint:
        async def handle(self, ws: ServerConnection) -> None:
            raise NotImplementedError

    assert router.route("/")(Endpoint) is Endpoint


def test_a_function_may_be_decorated_twice(router: Router) -> None:
    router.route("/a")(router.route("/b")(handler))
    assert {str(route) for route in router.routes} == {"/a", "/b"}


def test_route_passes_on_all_it_is_told(router: Router) -> None:
    def condition(path: RoutedPath, headers: Headers) -> bool:
        return headers.get("X-Veto") is None

    router.route(
        "/{lang}/{id}",
        name="thing",
        requirements={"id": "[0-9]+"},
        defaults={"kind": "thing"},
        condition=condition,
    )(handler)
    (route,) = router.routes
    assert route.name == "thing"
    assert route.condition is condition
    assert route.endpoint.target is handler
    assert router.match("/en/7").params == {"lang": "en", "id": "7", "kind": "thing"}
    assert router.match("/en/x").route is None
    assert router.match("/en/7", Headers({"X-Veto": "1"})).route is None
    assert router.url_for("thing", lang="en", id=7) == "/en/7"


def test_add_route_returns_the_route_that_a_match_finds(router: Router) -> None:
    route = router.add_route("/{id}", handler, name="thing")
    assert router.match("/7").route is route
    assert router.routes == (route,)


def test_routes_are_in_the_order_in_which_they_are_tried(router: Router) -> None:
    templates = ["/*rest", "/{id}", "/{id:[0-9]+}", "/a{id}", "/a"]
    for template in templates:
        router.add_route(template, handler)
    assert [str(route) for route in router.routes] == templates[::-1]


@pytest.mark.parametrize("declare", ["route", "add_route"])
def test_what_cannot_work_raises_when_it_is_declared(
    router: Router, declare: str
) -> None:
    def add(template: str, endpoint: Any, **kwargs: Any) -> None:
        if declare == "route":
            router.route(template, **kwargs)(endpoint)
        else:
            router.add_route(template, endpoint, **kwargs)

    add("/", handler, name="home")
    with pytest.raises(TemplateError, match=r"/\{id"):
        add("/{id", handler)
    with pytest.raises(EndpointError, match="must be an async def"):
        add("/a", lambda ws: None)
    with pytest.raises(DuplicateName, match="'home' is taken"):
        add("/a", handler, name="home")
    assert [str(route) for route in router.routes] == ["/"]


def test_not_found_decorates_a_function_and_nothing_else(router: Router) -> None:
    with pytest.raises(EndpointError, match=r"not_found decorates a function"):
        router.not_found("/nowhere")  # type: ignore[type-var]


# Asking


def test_match_raises_for_a_malformed_path(router: Router) -> None:
    with pytest.raises(BadRequest, match="dot segment"):
        router.match("/..")


def test_url_for_suggests_the_nearest_name(router: Router) -> None:
    router.add_route("/", handler, name="home")
    with pytest.raises(UnknownName, match="did you mean 'home'"):
        router.url_for("hone")


# Connection classes


def test_a_connection_class_is_called_like_its_base(router: Router) -> None:
    made = router.connection_class(Named)
    assert made is not Named
    assert issubclass(made, Named)
    assert made.router is router
    assert Named.router is None
    assert (made.__name__, made.__qualname__) == (Named.__name__, Named.__qualname__)
    assert made.__module__ == Named.__module__
    assert made.__doc__ == "What it is."


def test_a_connection_class_is_made_of_protocol_by_default(router: Router) -> None:
    made: type[Protocol] = router.connection_class()
    assert made.__bases__ == (websockets_routes.Protocol,)
    assert made.__doc__ == Protocol.__doc__


def test_a_connection_class_may_be_bound_to_another_router(router: Router) -> None:
    other = Router()
    assert other.connection_class(router.connection_class(Named)).router is other


def test_each_router_has_connection_classes_of_its_own(router: Router) -> None:
    other = Router().connection_class(Named)
    assert router.connection_class(Named).router is router
    assert other.router is not router


@pytest.mark.parametrize(
    ("base", "name"),
    [
        (ServerConnection, "websockets.asyncio.server:ServerConnection"),
        (int, "builtins:int"),
        (partial(Protocol), "websockets_routes.protocol:Protocol"),
        (lambda *args: Protocol(*args), "<lambda>"),
        (None, "builtins:NoneType"),
        ("Protocol", "builtins:str"),
    ],
)
def test_a_base_that_is_no_protocol_is_named_in_the_error(
    router: Router, base: Any, name: str
) -> None:
    with pytest.raises(EndpointError) as raised:
        router.connection_class(base)
    assert name in str(raised.value)
    assert "must be a subclass of websockets_routes.Protocol" in str(raised.value)


# create_connection


def make(*args: Any, **kwargs: Any) -> Named:
    return Named(*args, **kwargs)


@wraps(make)
def wrapper(*args: Any, **kwargs: Any) -> Named:
    return make(*args, **kwargs)


class Maker:
    def __call__(self, *args: Any, **kwargs: Any) -> Named:
        return Named(*args, **kwargs)

    def method(self, *args: Any, **kwargs: Any) -> Named:
        return Named(*args, **kwargs)


CREATE: dict[str, Any] = {
    "class": Named,
    "made class": Router().connection_class(Named),
    "function": make,
    "wrapper": wrapper,
    "partial": partial(Named),
    "partial of another router": partial(Named, router=Router()),
    "partial function": partial(make),
    "method": Maker().method,
    "callable": Maker(),
}


@pytest.mark.parametrize("create", CREATE.values(), ids=CREATE.keys())
async def test_serve_binds_whatever_makes_its_connections(
    router: Router, create: Any
) -> None:
    router.add_route("/", handler)
    async with serving(router.serve(HOST, 0, create_connection=create)) as url:
        assert await receive(url) == "Named"
        assert await answer(f"{url}/nowhere") == (404, "no such path\n")


async def test_create_connection_wins_over_its_old_word(router: Router) -> None:
    class Old(Protocol):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            raise NotImplementedError

    router.add_route("/", handler)
    with pytest.warns(DeprecationWarning, match="create_protocol is now called"):
        server = router.serve(HOST, 0, create_connection=Named, create_protocol=Old)
    async with serving(server) as url:
        assert await receive(url) == "Named"


async def test_serve_returns_the_server_of_websockets(router: Router) -> None:
    server = router.serve(HOST, 0)
    assert isinstance(server, Server)
    assert not server.all_connections


async def test_a_router_without_routes_refuses_everything(router: Router) -> None:
    async with serving(router.serve(HOST, 0)) as url:
        assert await refusal(url) == 404
    async with serving(serve_plain(router)) as url:
        assert await refusal(url) == 4040


async def test_the_routers_own_hook_given_to_serve_does_not_run_the_guards_twice(
    router: Router,
) -> None:
    made: list[object] = []

    @router.route("/guarded")
    class Guarded:
        def __init__(self) -> None:
            made.append(self)

        async def handle(self, ws: Protocol) -> None:
            await ws.send("in")

    server = router.serve("127.0.0.1", 0, process_request=router.process_request)
    async with server:
        port = server.sockets[0].getsockname()[1]
        async with connect(f"ws://127.0.0.1:{port}/guarded") as ws:
            assert await ws.recv() == "in"
    assert len(made) == 1
