"""Dispatching: which route answers a request, and what stands before it and around."""

from __future__ import annotations

import gc
import logging
import warnings
from collections.abc import AsyncIterator, Callable
from enum import Enum
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest
import websockets
from websockets import Headers

from websockets_routes import (
    BadRequest,
    ClientDisconnected,
    DuplicateName,
    NextRoute,
    Router,
    RoutesError,
    header,
    param,
)
from websockets_routes.http import ErrorResponse, Request, Response
from websockets_routes.testing import Answer, dispatch

VERBS = ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "TRACE", "CONNECT"]


def said(text: str) -> Callable[[Request], Response]:
    """Make a handler that tells who it is, also where there is no body."""
    return lambda request: Response(text, headers={"X-By": text})


async def ask(
    router: Router,
    path: str = "/",
    method: str = "GET",
    headers: Any = None,
    body: bytes = b"",
) -> Answer:
    return await dispatch(router, Request(method, path, headers, body))


async def who(router: Router, *args: Any, **kwargs: Any) -> str | int:
    """Ask; return who answered, else the status."""
    answer = await ask(router, *args, **kwargs)
    found: str | int = answer.headers.get("X-By", answer.status)
    return found


def add(router: Router, method: str, template: str, text: str, **options: Any) -> None:
    methods = [] if method == "any" else [method]
    router.add_route(template, said(text), methods=methods, **options)


async def socket(ws: Any) -> None: ...


# Methods


@pytest.mark.parametrize("method", VERBS)
async def test_a_method_answers_itself_and_nothing_else(method: str) -> None:
    router = Router()
    getattr(router, method.lower())("/")(said("it"))
    assert await who(router, method=method) == "it"
    for other in {*VERBS, method.lower(), "BREW"} - {method, "OPTIONS"}:
        expected = "it" if (method, other) == ("GET", "HEAD") else 405
        assert await who(router, method=other) == expected


@pytest.mark.parametrize("method", [*VERBS, "get", "BREW", "M-SEARCH"])
async def test_any_answers_every_method(method: str) -> None:
    router = Router()
    router.any("/")(said("any"))
    assert await who(router, method=method) == "any"


async def test_a_route_may_have_several_methods() -> None:
    router = Router()
    router.route("/", methods=["GET", "POST", "get"])(said("it"))
    for method in ("GET", "POST", "HEAD", "get"):
        assert await who(router, method=method) == "it"
    assert await who(router, method="post") == 405
    assert await who(router, method="PUT") == 405


async def test_a_method_may_be_a_str() -> None:
    router = Router()
    router.route("/", methods="PUT")(said("it"))
    assert await who(router, method="PUT") == "it"
    assert await who(router, method="P") == 405


@pytest.mark.parametrize("bad", ["", "A B", "GET\r\n", "É", "a/b", None, 1, b"GET"])
def test_what_is_no_method_is_refused(bad: Any) -> None:
    with pytest.raises(RoutesError, match="no HTTP method"):
        Router().route("/", methods=[bad])(said("it"))


# (routes, (method, path) to who answers)
CHOICES: dict[
    str, tuple[list[tuple[str, str, str]], dict[tuple[str, str], str | int]]
] = {
    "own before any": (
        [("any", "/{a}", "any"), ("GET", "/{b}", "get")],
        {("GET", "/x"): "get", ("HEAD", "/x"): "get", ("POST", "/x"): "any"},
    ),
    "own before any, the other way round": (
        [("GET", "/{b}", "get"), ("any", "/{a}", "any")],
        {("GET", "/x"): "get", ("HEAD", "/x"): "get", ("POST", "/x"): "any"},
    ),
    "HEAD before GET before any": (
        [("any", "/", "any"), ("GET", "/", "get"), ("HEAD", "/", "head")],
        {("GET", "/"): "get", ("HEAD", "/"): "head", ("OPTIONS", "/"): "any"},
    ),
    "the more specific any": (
        [("GET", "/{a}", "get"), ("any", "/x", "any")],
        {("GET", "/x"): "any", ("POST", "/x"): "any", ("GET", "/y"): "get"},
    ),
    "the more specific GET, to HEAD": (
        [("HEAD", "/{a}", "head"), ("GET", "/x", "get")],
        {("HEAD", "/x"): "get", ("HEAD", "/y"): "head", ("GET", "/y"): 405},
    ),
    "what lacks the method is passed by": (
        [("GET", "/x", "get"), ("POST", "/{a}", "post"), ("any", "/*", "rest")],
        {("GET", "/x"): "get", ("POST", "/x"): "post", ("PUT", "/x"): "rest"},
    ),
    "the first of equal ones": (
        [("GET", "/{a}", "first"), ("GET", "/{b}", "second")],
        {("GET", "/x"): "first"},
    ),
    "OPTIONS of its own": (
        [("GET", "/", "get"), ("OPTIONS", "/", "options")],
        {("OPTIONS", "/"): "options", ("POST", "/"): 405},
    ),
    "optional parts": (
        [("any", "/a/:b?", "any"), ("GET", "/a/:c?", "get")],
        {("GET", "/a"): "get", ("GET", "/a/x"): "get", ("PUT", "/a/x"): "any"},
    ),
    "constrained": (
        [("any", "/{a:[0-9]+}", "any"), ("GET", "/{b}", "get")],
        {("GET", "/7"): "any", ("GET", "/x"): "get", ("POST", "/x"): 405},
    ),
}


@pytest.mark.parametrize("case", CHOICES)
async def test_the_best_route_answers(case: str) -> None:
    routes, expected = CHOICES[case]
    router = Router()
    for each in routes:
        add(router, *each)
    found = {key: await who(router, key[1], key[0]) for key in expected}
    assert found == expected


# What nothing answers


@pytest.mark.parametrize(
    ("methods", "allow"),
    [
        (["GET"], "GET, HEAD, OPTIONS"),
        (["HEAD"], "HEAD, OPTIONS"),
        (["POST", "DELETE"], "DELETE, OPTIONS, POST"),
        (["POST", "OPTIONS"], "OPTIONS, POST"),
    ],
)
async def test_methods_that_are_missing_are_told(
    methods: list[str], allow: str
) -> None:
    router = Router()
    for method in methods:
        add(router, method, "/{a}", method)
    answer = await ask(router, "/x", "PUT")
    assert (answer.status, answer.headers["Allow"]) == (405, allow)
    if "OPTIONS" not in methods:
        answer = await ask(router, "/x", "OPTIONS")
        assert (answer.status, answer.headers["Allow"]) == (204, allow)
        assert answer.body == b""


async def test_allow_lists_the_methods_of_all_templates_that_match() -> None:
    router = Router()
    add(router, "PUT", "/x", "put")
    add(router, "POST", "/{a}", "post")
    add(router, "GET", "/y", "get")
    assert (await ask(router, "/x")).headers["Allow"] == "OPTIONS, POST, PUT"


@pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS", "BREW"])
async def test_a_path_without_routes_is_not_found(method: str) -> None:
    router = Router()
    add(router, "GET", "/a", "a")
    answer = await ask(router, "/b", method)
    assert (answer.status, answer.text) == (404, "no such path\n")


async def test_what_takes_connections_requires_an_upgrade() -> None:
    router = Router()
    router.route("/ws/{name}")(socket)
    answer = await ask(router, "/ws/1")
    assert answer.status == 426
    assert answer.headers["Upgrade"] == "websocket"  # RFC 9110 section 15.5.22
    assert answer.headers["Connection"] == "Upgrade"
    assert (await ask(router, "/other")).status == 404


async def test_one_template_answers_requests_and_takes_connections() -> None:
    router = Router()
    router.route("/{name}")(socket)
    router.get("/{name}")(said("get"))
    assert await who(router, "/x") == "get"
    assert await who(router, "/x", "POST") == 405
    found = router.match("/x").route
    assert found is not None
    assert found.methods is None


async def test_conditions_of_connections_know_the_params_of_their_host() -> None:
    router = Router()
    host = router.host("{tenant}.example.com")
    condition = lambda path, headers: path.params["tenant"] == "a"  # noqa: E731
    host.route("/ws", condition=condition)(socket)
    assert await who(router, "/ws", headers={"Host": "a.example.com"}) == 426
    assert await who(router, "/ws", headers={"Host": "b.example.com"}) == 404


async def test_not_found_answers_what_matches_nothing() -> None:
    router = Router()
    add(router, "POST", "/a", "a")
    router.route("/ws")(socket)

    @router.not_found
    async def missing(request: Any, path: Any) -> Any:
        assert request.path is path
        assert path.route is None
        if "none" in path.query_params:
            return None
        if "tuple" in path.query_params:
            return (410, {"X-Gone": "1"}, "gone")
        if "websockets" in path.query_params:
            return websockets.Response(410, "Gone", Headers(), b"gone")
        return Response("none such", 404)

    assert (await ask(router, "/b")).text == "none such"
    assert (await ask(router, "/b?none")).text == "no such path\n"
    for kind in ("tuple", "websockets"):
        answer = await ask(router, f"/b?{kind}")
        assert (answer.status, answer.text) == (410, "gone")
    assert (await ask(router, "/a")).status == 405
    assert (await ask(router, "/ws")).status == 426


async def test_not_found_may_be_plain_and_may_fail() -> None:
    router = Router()

    @router.not_found
    def missing(request: Any, path: Any) -> Any:
        raise ErrorResponse("really not", 404) if "e" in path else ValueError

    assert (await ask(router, "/e")).text == "really not"
    assert (await ask(router, "/x")).status == 500


# What is malformed


@pytest.mark.parametrize(
    "target",
    ["", "x", "*", "/%", "/%zz", "/%ff", "/%00", "/a/../b", "/%2e%2e/b", "/a#b"],
)
async def test_a_malformed_target_is_a_bad_request(target: str) -> None:
    router = Router()
    router.any("/*")(said("any"))
    heard = []
    router.on_error(lambda error, request, path: heard.append(error))
    assert await who(router, target) == 400
    assert heard == []


@pytest.mark.parametrize(
    "hosts", [["a", "b"], ["a", "a"], ["a b"], ["a/b"], ["[::1"], ["a:b"]]
)
async def test_a_malformed_host_is_a_bad_request(hosts: list[str]) -> None:
    router = Router()
    router.any("/*")(said("any"))
    assert await who(router, headers=[("Host", host) for host in hosts]) == 400


# Conditions


async def test_a_condition_may_veto() -> None:
    router = Router()
    seen = []

    def condition(path: Any, headers: Headers) -> bool:
        seen.append((str(path), path.params))
        return "X-Yes" in headers

    add(router, "GET", "/{a}", "conditional", condition=condition)
    add(router, "GET", "/*rest", "rest")
    assert await who(router, "/x?y") == "rest"
    assert await who(router, "/x?y", headers={"X-Yes": "1"}) == "conditional"
    assert seen == [("/x?y", {"a": "x"})] * 2


async def test_a_condition_that_fails_is_an_error_of_ours() -> None:
    router = Router()
    heard = []

    def condition(path: Any, headers: Headers) -> bool:
        raise ValueError("condition")

    @router.on_error
    def hear(error: BaseException, request: Any, path: Any) -> None:
        heard.append(error)

    add(router, "GET", "/{a}", "a", condition=condition)
    assert await who(router, "/x") == 500
    assert [str(each) for each in heard] == ["condition"]


# Mounts, prefixes, names


async def test_mounted_routes_answer_under_their_prefix() -> None:
    router, api, inner = Router(prefix="/v1"), Router(prefix="/api"), Router()
    api.mount("/{tenant}", inner, name="inner")
    router.mount("/m", api, name="api")

    @inner.get("/thing/{id}", name="thing")
    def thing(request: Request) -> Any:
        return request.params

    inner.route("/ws/{id}", name="ws")(socket)
    answer = await ask(router, "/v1/m/api/t/thing/1")
    assert answer.json() == {"tenant": "t", "id": "1"}
    assert await who(router, "/thing/1") == 404
    assert await who(router, "/v1/m/api/t/ws/1") == 426
    for each in (router, api, inner):
        prefix = {router: "api:inner:", api: "inner:", inner: ""}[each]
        url = each.url_for(f"{prefix}thing", tenant="é", id=1)
        assert url == "/v1/m/api/%C3%A9/thing/1"
        url = each.url_for(f"{prefix}ws", tenant="t", id=1)
        assert url == "/v1/m/api/t/ws/1"
    with pytest.raises(DuplicateName):
        inner.get("/other", name="ws")(said("other"))


async def test_routes_that_are_declared_later_are_seen() -> None:
    router, api = Router(), Router()
    router.mount("/api", api)
    assert await who(router, "/api/x") == 404
    add(api, "GET", "/x", "x")
    assert await who(router, "/api/x") == "x"


# Hosts


async def test_hosts_have_routes_of_their_own() -> None:
    router = Router()
    add(router, "GET", "/", "root")
    add(router, "GET", "/only", "only")
    add(router.host("{tenant}.example.com"), "GET", "/", "tenant")
    api = router.host("api.example.com")

    @api.any("/{a}")
    def handler(request: Request) -> Any:
        return request.params

    def missing(request: Any, path: Any) -> Any:
        return Response("not here", 404)

    api.not_found(missing)
    tenant = router.host("{tenant}.{zone}.test")
    tenant.post("/{a}")(lambda request: request.params)
    assert await who(router) == "root"
    assert await who(router, headers={"Host": "X.example.com.:80"}) == "tenant"
    assert await who(router, "/only", headers={"Host": "x.example.com"}) == 404
    assert await who(router, "http://x.example.com/") == "tenant"
    answer = await ask(router, "/x", "POST", {"Host": "Ä".encode().decode("latin-1")})
    assert answer.status == 400
    answer = await ask(router, "/x", "POST", {"Host": "T.Z.test"})
    assert answer.json() == {"tenant": "t", "zone": "z", "a": "x"}
    assert (await ask(router, "/", headers={"Host": "api.example.com"})).text == (
        "not here"
    )
    answer = await ask(router, "/x", "GET", {"Host": "t.z.test"})
    assert (answer.status, answer.headers["Allow"]) == (405, "OPTIONS, POST")


async def test_a_host_without_a_not_found_has_that_of_the_root() -> None:
    router = Router()
    add(router.host("a.example"), "GET", "/a", "a")
    router.not_found(lambda request, path: Response(f"not on {request.host}", 404))
    assert await who(router, "/a", headers={"Host": "a.example"}) == "a"
    answer = await ask(router, "/b", headers={"Host": "a.example"})
    assert (answer.status, answer.text) == (404, "not on a.example")
    answer = await ask(router, "/b", "HEAD", {"Host": "a.example"})
    assert (answer.status, answer.body) == (404, b"")
    assert answer.headers["Content-Length"] == "16"


# Hooks

HOOKED: dict[str, tuple[Callable[[], Any], int, str]] = {
    "none": (lambda: None, 200, "handler"),
    "response": (lambda: Response("no", 403), 403, "no"),
    "websockets": (
        lambda: websockets.Response(403, "Forbidden", Headers(), b"no"),
        403,
        "no",
    ),
    "tuple": (lambda: (403, {"X-A": "b"}, "no"), 403, "no"),
    "tuple with a status of its own": (lambda: (499, [], b"no"), 499, "no"),
    "redirect": (lambda: Response.redirect("/login"), 302, ""),
}


@pytest.mark.parametrize("is_async", [False, True], ids=["plain", "coroutine"])
@pytest.mark.parametrize("case", HOOKED)
async def test_a_hook_goes_on_or_answers(case: str, is_async: bool) -> None:
    make, status, text = HOOKED[case]
    router, calls = Router(), []

    if is_async:

        @router.before_handshake
        async def hook(request: Any, path: Any) -> Any:
            return make()
    else:

        @router.before_handshake
        def plain(request: Any, path: Any) -> Any:
            return make()

    @router.get("/")
    def handler(request: Request) -> str:
        calls.append(request)
        return "handler"

    answer = await ask(router)
    assert (answer.status, answer.text) == (status, text)
    assert len(calls) == (case == "none")
    if case == "tuple":
        assert answer.headers["X-A"] == "b"


@pytest.mark.parametrize("wrong", [(), (200,), (200, {}), ("a", {}, b""), (99, {}, "")])
async def test_a_tuple_that_is_no_response_is_an_error_of_ours(wrong: Any) -> None:
    router = Router(before_handshake=[lambda request, path: wrong])
    add(router, "GET", "/", "handler")
    assert await who(router) == 500


async def test_hooks_run_from_the_outermost_in_and_share_the_context() -> None:
    router, api = Router(), Router()
    router.mount("/api", api)

    def note(name: str) -> Callable[[Any, Any], None]:
        def hook(request: Any, path: Any) -> None:
            assert request.path is path
            assert request.context is path.context
            path.context.setdefault("order", []).append(name)

        return hook

    for each, name in ((api, "inner"), (router, "outer"), (router, "outer 2")):
        each.before_handshake(note(name))
    api.get("/")(lambda request: request.context["order"])
    assert (await ask(router, "/api/")).json() == ["outer", "outer 2", "inner"]


@pytest.mark.parametrize("where", ["hook", "middleware", "handler"])
async def test_the_next_route_is_asked(where: str) -> None:
    router, first, calls = Router(), Router(), []
    router.mount("", first)

    def passes(request: Any, path: Any) -> None:
        path.context["passed"] = True
        calls.append(path.params)
        if where == "hook":
            raise NextRoute

    @first.middleware
    async def around(request: Any, path: Any, call_next: Any) -> Any:
        if where == "middleware":
            raise NextRoute
        return await call_next(request, path)

    @first.get("/{a}")
    async def handler(request: Request) -> str:
        raise NextRoute

    first.before_handshake(passes)

    @router.get("/*rest")
    def rest(request: Request) -> Any:
        assert request.path.context == {"passed": True}
        return request.params

    assert (await ask(router, "/x")).json() == {"rest": "x"}
    assert calls == [{"a": "x"}]


async def test_where_no_next_route_is_left_nothing_is_found() -> None:
    router, heard = Router(), []
    router.on_error(lambda error, request, path: heard.append(error))

    @router.get("/{a}")
    def handler(request: Request) -> None:
        raise NextRoute

    assert (await ask(router, "/x")).status == 404
    router.not_found(lambda request, path: Response(repr(path.route), 404))
    assert (await ask(router, "/x")).text == "None"
    assert heard == []


# Middleware


async def test_middleware_stands_around_the_handler_and_what_it_returns_counts() -> (
    None
):
    router, api, order = Router(), Router(), []
    router.mount("/api", api)

    def note(name: str) -> Any:
        async def middleware(request: Any, path: Any, call_next: Any) -> None:
            order.append(name)
            response = await call_next(request, path)
            assert isinstance(response, Response)
            response.headers["X-Seen"] = name
            order.append(name)

        return middleware

    for each, name in ((api, "inner"), (router, "outer")):
        each.middleware(note(name))

    @api.get("/{a}")
    def handler(request: Request) -> Any:
        order.append("handler")
        return {"a": 1}

    answer = await ask(router, "/api/x")
    assert order == ["outer", "inner", "handler", "inner", "outer"]
    assert answer.headers.get_all("X-Seen") == ["inner", "outer"]
    assert answer.json() == {"a": 1}


MIDDLEWARE: dict[str, tuple[Callable[..., Any], int, str]] = {
    "refuses": (lambda call_next: Response("no", 403), 403, "no"),
    "text": (lambda call_next: "text", 200, "text"),
    "nothing": (lambda call_next: None, 204, ""),
}


@pytest.mark.parametrize("case", MIDDLEWARE)
async def test_middleware_may_answer_in_place_of_the_handler(case: str) -> None:
    make, status, text = MIDDLEWARE[case]
    router = Router()

    @router.middleware
    async def middleware(request: Any, path: Any, call_next: Any) -> Any:
        return make(call_next)

    @router.get("/")
    def handler(request: Request) -> str:
        raise NotImplementedError

    answer = await ask(router)
    assert (answer.status, answer.text) == (status, text)


async def test_middleware_may_replace_responses_and_catch_errors() -> None:
    router = Router()

    @router.middleware
    async def middleware(request: Any, path: Any, call_next: Any) -> Any:
        try:
            response = await call_next()
        except ValueError as error:
            return Response(f"caught {error}", 400)
        return Response(response.payload.upper())

    @router.get("/{a}")
    def handler(request: Request) -> str:
        if request.params["a"] == "x":
            raise ValueError("x")
        return "text"

    assert (await ask(router, "/a")).text == "TEXT"
    assert (await ask(router, "/x")).text == "caught x"


async def test_middleware_asks_for_values_of_the_one_further_out() -> None:
    router = Router()

    @router.middleware
    async def outer(request: Any, path: Any, call_next: Any) -> Any:
        return await call_next(user="ann", role="admin")

    @router.middleware
    async def inner(request: Any, path: Any, call_next: Any, *, user: str) -> Any:
        return await call_next(user=user.upper())

    @router.get("/")
    async def handler(request: Request, *, user: str, role: str) -> str:
        return f"{user} {role}"

    assert (await ask(router)).text == "ANN admin"


async def test_a_handler_runs_once() -> None:
    router = Router()

    @router.middleware
    async def middleware(request: Any, path: Any, call_next: Any) -> Any:
        await call_next()
        await call_next()

    add(router, "GET", "/", "handler")
    assert await who(router) == 500


# Errors


class Mine(Exception):
    pass


class Denied(RoutesError):
    status = HTTPStatus.FORBIDDEN


def failing(error: BaseException) -> Callable[[Any], Any]:
    def handler(request: Any) -> Any:
        raise error

    return handler


@pytest.mark.parametrize(
    ("error", "status", "text", "is_logged"),
    [
        (Mine("secret"), 500, "something went wrong here\n", True),
        (RoutesError("secret"), 500, "something went wrong here\n", True),
        (Denied("not you"), 403, "not you\n", False),
        (BadRequest("bad"), 400, "bad\n", False),
        (ClientDisconnected("away"), 408, "away\n", False),
        (ErrorResponse({"a": 1}, 422), 422, '{"a": 1}', False),
        (Response.error("no", 503), 503, "no", False),
    ],
    ids=repr,
)
@pytest.mark.parametrize("where", ["hook", "middleware", "handler"])
async def test_an_error_is_an_answer(
    caplog: pytest.LogCaptureFixture,
    error: Exception,
    status: int,
    text: str,
    is_logged: bool,
    where: str,
) -> None:
    router = Router()
    handler = failing(error) if where == "handler" else said("it")
    if where == "hook":
        router.before_handshake(lambda request, path: failing(error)(request))
    if where == "middleware":

        @router.middleware
        async def middleware(request: Any, path: Any, call_next: Any) -> Any:
            raise error

    router.get("/")(handler)
    with caplog.at_level(logging.INFO):
        answer = await ask(router)
    assert (answer.status, answer.text) == (status, text)
    errors = [each for each in caplog.records if each.levelno >= logging.ERROR]
    assert len(errors) == is_logged
    assert all(each.exc_info is not None for each in errors)


async def test_the_nearest_error_handler_hears_of_an_error() -> None:
    router, api = Router(), Router()
    router.mount("/api", api)

    @router.on_error(Mine)
    def outer(error: BaseException, request: Any, path: Any) -> Any:
        return Response(f"outer {request.method} {path}", 500)

    @router.on_error
    async def everything(error: BaseException, request: Any, path: Any) -> Any:
        return (599, {}, "everything")

    @api.on_error(LookupError)
    async def inner(error: BaseException, request: Any, path: Any) -> Any:
        assert request.path is path
        return {"inner": type(error).__name__}

    for each in (router, api):
        each.get("/mine")(failing(Mine()))
        each.get("/key")(failing(KeyError()))
    assert (await ask(router, "/api/mine")).text == "outer GET /api/mine"
    assert (await ask(router, "/api/key")).json() == {"inner": "KeyError"}
    answer = await ask(router, "/key")
    assert (answer.status, answer.text) == (599, "everything")


@pytest.mark.parametrize(
    ("error", "status"), [(Mine("secret"), 500), (Denied("no"), 403)], ids=repr
)
@pytest.mark.parametrize("how", ["none", "raises", "again", "wrong"])
async def test_an_error_handler_may_leave_the_answer_to_us(
    caplog: pytest.LogCaptureFixture, error: Exception, status: int, how: str
) -> None:
    router = Router()

    @router.on_error
    def hear(error: BaseException, request: Any, path: Any) -> Any:
        if how == "raises":
            raise ValueError("the handler")
        if how == "again":
            raise error
        return (1, 2) if how == "wrong" else None

    router.get("/")(failing(error))
    answer = await ask(router)
    assert answer.status == (500 if how == "wrong" else status)
    assert "secret" not in answer.text
    if how == "raises":
        assert "error handler" in caplog.text
        assert "the handler" in caplog.text
        assert str(error) in caplog.text


@pytest.mark.parametrize(
    "make", [lambda: {1}, lambda: Response({1}), lambda: Response.file("/nowhere/x")]
)
async def test_an_error_handler_whose_answer_cannot_be_sent_is_answered_for(
    make: Callable[[], Any],
) -> None:
    router = Router()
    router.on_error(lambda error, request, path: make())
    router.get("/")(failing(Mine()))
    assert (await ask(router)).status >= 400


async def test_what_cannot_be_sent_reaches_the_error_handler() -> None:
    router = Router()

    @router.on_error
    def hear(error: BaseException, request: Any, path: Any) -> Any:
        return Response(type(error).__name__, 500)

    router.get("/json")(lambda request: {1})
    router.get("/file")(lambda request: Response.file("/nowhere/x"))
    assert (await ask(router, "/json")).text == "InvalidResponse"
    assert (await ask(router, "/file")).text == "NoSuchFile"


async def test_a_file_that_cannot_be_sent_is_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What is logged would hold on to the frames, and they to the file.
    monkeypatch.setattr(logging.getLogger("websockets.server"), "disabled", True)
    path = tmp_path / "file"
    path.write_text("content")
    router = Router()

    @router.get("/")
    def handler(request: Request) -> Response:
        response = Response.file(path)
        response.status = 204
        return response

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert (await ask(router)).status == 500
        gc.collect()
    assert [str(each.message) for each in caught] == []


# Inputs, origins, limits


class Colour(Enum):
    RED = "red"


async def test_declared_inputs_are_read() -> None:
    router = Router()

    @router.get("/")
    @header("X-Colour", type=Colour, required=True)
    @param("since", type=int, default=0)
    async def handler(request: Request) -> Any:
        inputs = request.path.inputs
        return [inputs["X-Colour"].name, inputs["since"]]

    good = {"X-Colour": "red"}
    assert (await ask(router, "/?since=7", headers=good)).json() == ["RED", 7]
    assert (await ask(router, headers=good)).json() == ["RED", 0]
    answer = await ask(router, "/?since=x")
    assert answer.status == 400
    assert "'since' must be" in answer.text
    assert "'X-Colour' is required" in answer.text


@pytest.mark.parametrize(
    ("origins", "status"),
    [
        ([], 200),
        (["https://a.example"], 200),
        (["https://b.example"], 403),
        (["null"], 403),
        (["https://a.example", "https://b.example"], 400),
        (["https://a.example", "https://a.example"], 400),
    ],
)
async def test_origins_are_checked_before_any_hook(
    caplog: pytest.LogCaptureFixture, origins: list[str], status: int
) -> None:
    router, calls = Router(origins=["https://a.example"]), []
    router.before_handshake(lambda request, path: calls.append(path))
    add(router, "GET", "/", "it")
    answer = await ask(router, headers=[("Origin", each) for each in origins])
    assert answer.status == status
    assert len(calls) == (status == 200)
    assert "Traceback" not in caplog.text


async def test_origins_of_a_mount_are_its_own() -> None:
    router, api = Router(), Router(origins=["https://a.example"])
    router.mount("/api", api)
    for each in (router, api):
        add(each, "GET", "/x", "it")
    headers = {"Origin": "https://b.example"}
    assert await who(router, "/x", headers=headers) == "it"
    assert await who(router, "/api/x", headers=headers) == 403


@pytest.mark.parametrize("told", [False, True], ids=["chunked", "told"])
@pytest.mark.parametrize(
    ("path", "size", "status"),
    [
        ("/small", 3, 200),
        ("/small", 4, 413),
        ("/default", 5 * 2**20, 200),
        ("/default", 5 * 2**20 + 1, 413),
        ("/any", 5 * 2**20 + 1, 200),
    ],
)
async def test_a_body_may_be_as_long_as_its_route_says(
    path: str, size: int, status: int, told: bool
) -> None:
    router, calls = Router(), []
    router.before_handshake(lambda request, path: calls.append(path))

    async def handler(request: Request) -> str:
        return str(len(await request.body()))

    router.post("/small", max_content_length=3)(handler)
    router.post("/default")(handler)
    router.post("/any", max_content_length=None)(handler)
    headers = {"Content-Length": str(size)} if told else {}
    answer = await ask(router, path, "POST", headers, bytes(size))
    assert answer.status == status
    if told:  # what is refused is refused before anybody looks at it
        assert len(calls) == (status == 200)


@pytest.mark.parametrize("limit", [0, -1, "1", True])
def test_a_limit_is_a_positive_number(limit: Any) -> None:
    with pytest.raises(RoutesError, match="max_content_length"):
        Router().post("/", max_content_length=limit)(said("it"))


# What testing.dispatch gives


async def test_dispatch_closes_a_stream_that_fails() -> None:
    router, closed = Router(), []

    @router.get("/")
    async def handler(request: Request) -> AsyncIterator[str]:
        try:
            yield "a"
            raise Mine
        finally:
            closed.append(True)

    with pytest.raises(Mine):
        await ask(router)
    assert closed == [True]


async def test_an_answer_shows_itself() -> None:
    router = Router()
    add(router, "GET", "/", "it")
    assert repr(await ask(router)) == "<Answer 200: it>"


async def test_dispatch_leaves_a_host_alone() -> None:
    router = Router()
    router.get("/")(lambda request: request.host)
    assert (await ask(router)).text == "127.0.0.1"
    assert (await ask(router, headers={"Host": "a:1"})).text == "a:1"
