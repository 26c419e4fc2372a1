"""Composing: what a mounted router brings along, and what cannot be mounted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import orjson
import pytest

from websockets_routes import (
    DuplicateName,
    EndpointError,
    InvalidTopic,
    MountError,
    OpCode,
    Resource,
    Route,
    Router,
    TemplateError,
    Topics,
    UnknownName,
    websocket,
)


async def handler(ws: Any) -> None: ...


async def other(ws: Any) -> None: ...


def texts(router: Router) -> list[str]:
    return sorted(map(str, router.routes))


def route_of(router: Router, path: str) -> Route:
    route = router.match(path).route
    assert route is not None
    return route


def state(*routers: Router) -> list[object]:
    """All that mounting may change, as far as it can be asked for."""
    return [
        (
            router.routes,
            router.routers,
            router.root,
            router.topics,
            router.topics._declarations._topics.copy(),
            router.hosts,
        )
        for router in routers
    ]


# Prefixes


NESTED = {"v": "1", "t": "2", "u": "3", "id": "4"}


@pytest.mark.parametrize("late", [False, True], ids=["before", "after"])
@pytest.mark.parametrize(
    ("root_prefix", "mount_prefix", "own_prefix", "path", "params"),
    [
        ("", "/api", "", "/api/thing/1", {"id": "1"}),
        ("", "", "/api", "/api/thing/1", {"id": "1"}),
        ("", "/", "/api", "/api/thing/1", {"id": "1"}),
        ("", "", "", "/thing/1", {"id": "1"}),
        ("/v1", "/api", "/x", "/v1/api/x/thing/1", {"id": "1"}),
        ("", "/t/{tenant}", "", "/t/acme/thing/1", {"tenant": "acme", "id": "1"}),
        ("/{v}", "/{t}", "/{u}", "/1/2/3/thing/4", NESTED),
        ("", r"/t/{n:\d{2}}", "", "/t/12/thing/1", {"n": "12", "id": "1"}),
    ],
)
def test_a_route_is_found_under_all_prefixes_whenever_it_was_declared(
    root_prefix: str,
    mount_prefix: str,
    own_prefix: str,
    path: str,
    params: dict[str, str],
    late: bool,
) -> None:
    root, inner = Router(prefix=root_prefix), Router(prefix=own_prefix)
    if late:
        assert root.mount(mount_prefix, inner) is inner
    inner.add_route("/thing/{id}", handler, name="thing")
    if not late:
        root.mount(mount_prefix, inner)
    assert root.match(path).params == params
    assert list(root.match(path).params) == list(params)
    assert root.url_for("thing", **params) == path
    assert root.match("/elsewhere/thing/1/2/3/4/5").route is None


def test_a_requirement_holds_under_a_prefix() -> None:
    root, inner = Router(), Router()
    requirements = {"id": r"\d+"}
    root.mount("/{tenant}", inner)
    inner.add_route("/{id}", handler, requirements=requirements)
    inner.add_route("/d/d", handler, defaults={"id": "7"})
    assert root.match("/a/1").params == {"tenant": "a", "id": "1"}
    assert root.match("/a/b").route is None
    assert root.match("/a/d/d").params == {"tenant": "a", "id": "7"}


@pytest.mark.parametrize("prefix", ["api", "/api/", "/a{", "/*rest", "/{a}/{a}"])
def test_a_prefix_that_cannot_work_is_refused_and_nothing_changes(prefix: str) -> None:
    root, inner = Router(), Router()
    inner.add_route("/x", handler)
    before = state(root, inner)
    with pytest.raises(TemplateError):
        root.mount(prefix, inner)
    assert state(root, inner) == before
    with pytest.raises(TemplateError):
        Router(prefix=prefix)


def test_parameters_of_prefix_and_route_that_clash_are_refused() -> None:
    root, inner = Router(), Router()
    inner.topic("t")
    inner.add_route("/x/{id}", handler)
    before = state(root, inner)
    with pytest.raises(TemplateError):
        root.mount("/{id}", inner)
    assert state(root, inner) == before
    root.mount("/{tenant}", inner)
    before = state(root, inner)
    with pytest.raises(TemplateError):
        inner.add_route("/{tenant}", handler)
    assert state(root, inner) == before


def test_mounted_routes_compete_by_specificity_in_one_table() -> None:
    root, first, second = Router(), Router(), Router()
    root.add_route("/{a}/{b}", other)
    root.mount("/{a}", first)
    root.mount("/api", second)
    first.add_route("/thing", handler)
    second.add_route("/{b}", handler)
    assert str(route_of(root, "/x/y")) == "/{a}/{b}"
    assert str(route_of(root, "/x/thing")) == "/{a}/thing"
    assert str(route_of(root, "/api/thing")) == "/api/{b}"


# Names


def test_names_are_put_together_with_colons() -> None:
    root, api, v1, plain = Router(), Router(), Router(), Router()
    v1.add_route("/early", handler, name="early")
    api.mount("/v1", v1, name="v1")
    v1.add_route("/middle", handler, name="middle")
    root.mount("/api", api, name="api")
    v1.add_route("/late", handler, name="late")
    v1.add_route("/unnamed", handler)
    v1.mount("/plain", plain).add_route("/x", handler, name="x")
    names = {route.name for route in root.routes}
    assert names == {"api:v1:early", "api:v1:middle", "api:v1:late", "api:v1:x", None}
    assert root.url_for("api:v1:late") == "/api/v1/late"
    assert root.url_for("api:v1:x") == "/api/v1/plain/x"


def test_a_name_that_is_taken_is_refused_and_nothing_changes() -> None:
    root, inner = Router(), Router()
    root.add_route("/x", handler, name="x")
    inner.add_route("/free", handler, name="free")
    inner.add_route("/x", handler, name="x")
    inner.topic("news/{kind}")
    before = state(root, inner)
    with pytest.raises(DuplicateName):
        root.mount("/api", inner)
    assert state(root, inner) == before
    root.mount("/api", inner, name="api")
    root.add_route("/late", handler, name="api:late")
    before = state(root, inner)
    with pytest.raises(DuplicateName):
        inner.add_route("/late", handler, name="late")
    assert state(root, inner) == before


def test_two_routers_may_share_a_name_but_no_name_of_a_route() -> None:
    root, one, two = Router(), Router(), Router()
    root.mount("/one", one, name="api").add_route("/a", handler, name="a")
    root.mount("/two", two, name="api").add_route("/b", handler, name="b")
    with pytest.raises(DuplicateName):
        two.add_route("/a", handler, name="a")
    assert root.url_for("api:b") == "/two/b"


# What cannot be mounted


def twice() -> tuple[Router, Router, list[Router]]:
    root, inner, elsewhere = Router(), Router(), Router()
    elsewhere.mount("/x", inner)
    return root, inner, [elsewhere]


def twice_in_one() -> tuple[Router, Router, list[Router]]:
    root, inner = Router(), Router()
    root.mount("/x", inner)
    return root, inner, []


def in_itself() -> tuple[Router, Router, list[Router]]:
    root = Router()
    return root, root, []


def in_its_own() -> tuple[Router, Router, list[Router]]:
    outer, middle, inner = Router(), Router(), Router()
    outer.mount("/m", middle).mount("/i", inner)
    return inner, outer, [middle]


def same_prefix() -> tuple[Router, Router, list[Router]]:
    root, taken = Router(), Router()
    root.mount("/api", taken)
    return root, Router(), [taken]


def same_prefix_of_its_own() -> tuple[Router, Router, list[Router]]:
    root, taken = Router(), Router(prefix="/api")
    root.mount("", taken)
    return root, Router(), [taken]


def serving_already() -> tuple[Router, Router, list[Router]]:
    inner = Router()
    inner.connection_class()
    return Router(), inner, []


def published_to() -> tuple[Router, Router, list[Router]]:
    inner = Router()
    inner.publish("news", "lost")
    return Router(), inner, []


def inner_published_to() -> tuple[Router, Router, list[Router]]:
    middle, inner = Router(), Router()
    middle.mount("/i", inner)
    inner.publish("news", "lost")
    return Router(), middle, [inner]


def topics_of_its_own() -> tuple[Router, Router, list[Router]]:
    return Router(), Router(topics=Topics()), []


@pytest.mark.parametrize(
    "make",
    [
        twice,
        twice_in_one,
        in_itself,
        in_its_own,
        same_prefix,
        same_prefix_of_its_own,
        serving_already,
        published_to,
        inner_published_to,
        topics_of_its_own,
    ],
)
def test_what_cannot_be_mounted_raises_and_nothing_changes(
    make: Callable[[], tuple[Router, Router, list[Router]]],
) -> None:
    root, inner, others = make()
    inner.add_route("/x", handler)
    inner.topic("t")
    before = state(root, inner, *others)
    with pytest.raises(MountError):
        root.mount("/api", inner)
    assert state(root, inner, *others) == before


@pytest.mark.parametrize("what", [handler, None, "api", Router])
def test_only_routers_are_mounted(what: Any) -> None:
    with pytest.raises(MountError):
        Router().mount("/api", what)


def test_after_a_refusal_a_router_can_be_mounted_elsewhere() -> None:
    root, taken, inner = Router(), Router(), Router()
    inner.topic("t")
    inner.add_route("/x", handler)
    root.mount("/api", taken)
    with pytest.raises(MountError):
        root.mount("/api", inner)
    root.mount("/other", inner)
    assert texts(root) == ["/other/x"]


def test_a_mounted_router_does_not_serve() -> None:
    root, inner = Router(), Router()
    root.mount("/api", inner)
    with pytest.raises(MountError):
        inner.serve("127.0.0.1", 0)
    with pytest.raises(MountError):
        inner.connection_class()


def test_a_router_mounted_into_one_that_is_bound_is_seen() -> None:
    root, inner = Router(), Router()
    root.connection_class()
    root.mount("/api", inner).add_route("/x", handler)
    assert texts(root) == ["/api/x"]


# What comes along


def test_topics_are_those_of_the_root_for_all() -> None:
    root, middle, inner = Router(), Router(), Router()
    inner.topic("inner/{x}")
    middle.mount("/i", inner)
    middle.topic("middle/{x}")
    root.mount("/m", middle)
    inner.topic("late/{x}")
    assert root.topics is middle.topics is inner.topics
    for text in ("inner/{x}", "middle/{x}", "late/{x}"):
        with pytest.raises(InvalidTopic, match="declared already"):
            root.topic(text)


def test_a_topic_that_is_declared_twice_is_refused_and_nothing_changes() -> None:
    root, inner = Router(), Router()
    root.topic("room/{name}")
    inner.topic("free/{name}")
    inner.topic("room/{name}")
    inner.add_route("/x", handler, name="x")
    before = state(root, inner)
    with pytest.raises(InvalidTopic):
        root.mount("/api", inner)
    assert state(root, inner) == before


def test_one_topics_may_be_given_to_both() -> None:
    topics = Topics()
    topics.topic("room/{name}")
    root, inner = Router(topics=topics), Router(topics=topics)
    root.mount("/api", inner)
    assert inner.topics is topics


def test_resources_and_callbacks_come_along() -> None:
    class Chat(Resource):
        @websocket("/chat", name="chat")
        def chat(self, ws: Any, opcode: OpCode, payload: Any) -> None: ...

    root, inner = Router(), Router(prefix="/v1")
    inner.register(Chat(), prefix="/early")
    root.mount("/api", inner, name="api")

    @inner.websocket("/callback")
    def callback(ws: Any, opcode: OpCode, payload: Any) -> None: ...

    inner.register([("WEBSOCKET", "/list", callback)])
    assert texts(root) == ["/api/v1/callback", "/api/v1/early/chat", "/api/v1/list"]
    assert root.url_for("api:chat") == "/api/v1/early/chat"


def test_a_route_has_the_scopes_of_its_routers_the_outermost_first() -> None:
    root, middle, inner = Router(), Router(), Router()
    early = inner.add_route("/early", handler)
    middle.mount("/i", inner)
    root.mount("/m", middle)
    inner.add_route("/late", handler)
    root.add_route("/", handler)
    expected = (root.scope, middle.scope, inner.scope)
    assert route_of(root, "/m/i/early").scopes == expected
    assert route_of(root, "/m/i/late").scopes == expected
    assert route_of(root, "/").scopes == (root.scope,)
    assert early.endpoint is route_of(root, "/m/i/early").endpoint


def test_routers_are_listed_the_outer_before_the_inner() -> None:
    root, a, b, aa = Router(), Router(), Router(), Router()
    a.mount("/aa", aa)
    root.mount("/a", a)
    root.mount("/b", b)
    assert root.routers == (root, a, aa, b)
    assert aa.root is a.root is root.root is root


# Declaring


def hook(ws: Any, path: Any) -> None: ...


def one(ws: Any) -> None: ...


async def around(ws: Any, path: Any, call_next: Any) -> None: ...


async def around_values(ws: Any, path: Any, call_next: Any, *, user: str) -> None: ...


def plain_around(ws: Any, path: Any, call_next: Any) -> None: ...


def fails(error: Any, ws: Any, path: Any) -> None: ...


def nothing() -> None: ...


def test_decorators_return_the_function() -> None:
    router = Router()
    assert router.before_handshake(hook) is hook
    assert router.middleware(around) is around
    assert router.middleware(around_values) is around_values
    assert router.on_error(fails) is fails
    assert router.on_error(KeyError)(fails) is fails
    assert router.on_start(nothing) is nothing
    assert router.on_shutdown(nothing) is nothing
    assert router.scope.hooks == [hook]
    assert router.scope.middleware == [around, around_values]
    assert router.scope.errors == {Exception: fails, KeyError: fails}


def test_hooks_and_middleware_given_to_the_router_come_first() -> None:
    router = Router(before_handshake=[hook], middleware=[around])

    @router.before_handshake
    async def second(ws: Any, path: Any) -> None: ...

    router.middleware(around_values)
    assert router.scope.hooks == [hook, second]
    assert router.scope.middleware == [around, around_values]


DECLARE: dict[str, tuple[Callable[[Router, Any], Any], Sequence[Any]]] = {
    "hook": (lambda r, f: r.before_handshake(f), [one, fails, None, "x"]),
    "hook argument": (lambda r, f: Router(before_handshake=[f]), [one, None]),
    "middleware": (
        lambda r, f: r.middleware(f),
        [plain_around, hook, handler, None, "x"],
    ),
    "middleware argument": (lambda r, f: Router(middleware=[f]), [plain_around]),
    "on_error": (lambda r, f: r.on_error(f), [hook, nothing, None, "x", int]),
    "on_error of a class": (lambda r, f: r.on_error(KeyError)(f), [hook, None]),
    "on_start": (lambda r, f: r.on_start(f), [one, None]),
    "on_shutdown": (lambda r, f: r.on_shutdown(f), [one, None]),
    "lifespan": (lambda r, f: Router(lifespan=f), [hook, "x"]),
}


@pytest.mark.parametrize(
    ("declare", "wrong"),
    [
        (declare, wrong)
        for declare, all_wrong in DECLARE.values()
        for wrong in all_wrong
    ],
    ids=[
        f"{name}-{getattr(wrong, '__name__', wrong)}"
        for name, (_, all_wrong) in DECLARE.items()
        for wrong in all_wrong
    ],
)
def test_what_cannot_work_raises_when_it_is_declared(
    declare: Callable[[Router, Any], Any], wrong: Any
) -> None:
    with pytest.raises(EndpointError):
        declare(Router(), wrong)


def test_errors_of_one_class_go_to_one_function() -> None:
    router = Router()
    router.on_error(KeyError)(fails)
    with pytest.raises(EndpointError, match="KeyError"):
        router.on_error(KeyError)(fails)
    router.on_error(LookupError)(fails)


# What only a root has


async def test_a_mounted_router_takes_no_connections() -> None:
    root, inner = Router(), Router()
    root.mount("/api", inner)
    for use in (
        lambda: inner.handle(Mock),
        lambda: inner(Mock),
        lambda: inner.extend(lambda ws: None),
        lambda: inner.not_found(other_than_404),
    ):
        with pytest.raises(MountError):
            use()
    with pytest.raises(MountError):
        await inner.process_request(Mock, Mock)


Mock: Any = object()


@pytest.mark.parametrize(
    ("inner", "named"),
    [
        (lambda: Router(json=orjson), "json"),
        (lambda: Router(max_backlog=1), "max_backlog"),
        (lambda: extended(Router()), "extensions"),
        (lambda: Router(json=orjson, max_backlog=1), "json, max_backlog"),
        (lambda: explaining(Router()), "not_found"),
    ],
)
def test_what_holds_for_connections_is_given_to_the_root(
    inner: Callable[[], Router], named: str
) -> None:
    with pytest.raises(MountError, match=named):
        Router().mount("/api", inner())


def extended(router: Router) -> Router:
    router.extend(lambda ws: ws.property("user"))
    return router


def explaining(router: Router) -> Router:
    router.not_found(other_than_404)
    return router


def other_than_404(ws: Any, path: Any) -> None: ...


@pytest.mark.parametrize("function", [None, "x", lambda: None, lambda ws: None])
def test_not_found_takes_a_connection_and_a_path(function: Any) -> None:
    with pytest.raises(EndpointError, match="not_found decorates a function"):
        Router().not_found(function)


def test_only_a_root_has_hosts() -> None:
    root, inner = Router(), Router()
    root.mount("/api", inner)
    with pytest.raises(MountError, match="only a root has hosts"):
        inner.host("a.example.com")
    with pytest.raises(MountError, match="a host gets a router, not str"):
        root.add_host("a.example.com", "router")  # type: ignore[type-var]
    root.host("a.example.com")
    with pytest.raises(MountError, match="the router has hosts"):
        Router().mount("/", root)


def test_a_lifespan_cannot_begin_once_the_root_serves() -> None:
    root, inner = Router(), Router()
    inner.mount("/more", Router()).on_start(lambda: None)
    root.connection_class()
    with pytest.raises(MountError, match="serves already"):
        root.mount("/api", inner)
    with pytest.raises(MountError, match="serves already"):
        root.host("a.example.com", inner)
    assert root.routers == (root,)


# Building paths


def test_every_router_builds_the_whole_path() -> None:
    root, middle, inner = Router(), Router(prefix="/m"), Router()
    inner.add_route("/x/{id}", handler, name="x")
    middle.mount("/i", inner, name="inner")
    root.mount("/{tenant}", middle)
    for router, name in ((inner, "x"), (middle, "inner:x"), (root, "inner:x")):
        assert router.url_for(name, tenant="t", id=1) == "/t/m/i/x/1"
    with pytest.raises(UnknownName):
        inner.url_for("inner:x", tenant="t", id=1)


def test_a_root_builds_the_paths_of_its_hosts_the_most_specific_first() -> None:
    root = Router()
    root.host("*.example.com").add_route("/any", handler, name="home")
    exact = root.host("a.example.com")
    exact.add_route("/exact", handler, name="home")
    named = root.host("b.example.com", name="b")
    named.add_route("/named", handler, name="home")
    assert root.url_for("home") == "/exact"
    assert root.url_for("b:home") == named.url_for("home") == "/named"
    assert exact.url_for("home") == "/exact"
    root.add_route("/own", handler, name="home")
    assert root.url_for("home") == "/own"


def test_a_host_that_was_removed_can_be_added_again() -> None:
    root = Router()
    host = root.host("a.example.com")
    host.topic("room/{name}")
    host.add_route("/x", handler, name="x")
    assert root.remove_host("a.example.com")
    with pytest.raises(UnknownName):
        root.url_for("x")
    root.host("b.example.com", host)
    assert root.url_for("x") == "/x"
    assert not root.remove_host("a.example.com")
