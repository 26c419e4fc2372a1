"""Endpoints of requests: what is one, and what becomes of what it returns."""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
import websockets
from websockets import Headers

from websockets_routes import EndpointError, Router
from websockets_routes.http import Request, Response
from websockets_routes.http.endpoint import RequestEndpoint
from websockets_routes.testing import Answer, dispatch

RESPONSE = Response("shared", 201)
TEXT = "text/plain; charset=utf-8"


async def answer(handler: Callable[..., Any], router: Router | None = None) -> Answer:
    router = Router() if router is None else router
    router.get("/")(handler)
    return await dispatch(router, Request("GET", "/"))


async def pieces() -> AsyncIterator[Any]:
    yield "é"
    yield b"\xff"
    yield ""
    yield {"a": 1}


class Iterates:
    """An async iterator that is no generator, and closes nothing."""

    def __init__(self) -> None:
        self._left = [b"a", b"b"]

    def __aiter__(self) -> Iterates:
        return self

    async def __anext__(self) -> bytes:
        if not self._left:
            raise StopAsyncIteration
        return self._left.pop(0)


@pytest.mark.parametrize("is_async", [False, True], ids=["plain", "coroutine"])
@pytest.mark.parametrize(
    ("make", "status", "body", "kind"),
    [
        (lambda: "é", 200, "é".encode(), TEXT),
        (lambda: "", 200, b"", TEXT),
        (lambda: b"\xff", 200, b"\xff", "application/octet-stream"),
        (lambda: bytearray(b"a"), 200, b"a", "application/octet-stream"),
        (lambda: memoryview(b"a"), 200, b"a", "application/octet-stream"),
        (lambda: {"a": [1]}, 200, b'{"a": [1]}', "application/json"),
        (list, 200, b"[]", "application/json"),
        (lambda: 0, 200, b"0", "application/json"),
        (lambda: False, 200, b"false", "application/json"),
        (lambda: None, 204, b"", None),
        (lambda: RESPONSE, 201, b"shared", TEXT),
        (lambda: Response.error("no", 409), 409, b"no", TEXT),
        (
            lambda: websockets.Response(202, "Accepted", Headers(), b"x"),
            202,
            b"x",
            "application/octet-stream",
        ),
        (pieces, 200, 'é\ufffd{"a": 1}\n'.encode(), "application/octet-stream"),
        (Iterates, 200, b"ab", "application/octet-stream"),
    ],
    ids=lambda value: None if callable(value) else repr(value)[:20],
)
async def test_whatever_is_returned_is_a_response(
    make: Callable[[], Any],
    status: int,
    body: bytes,
    kind: str | None,
    is_async: bool,
) -> None:
    if is_async:

        async def handler(request: Request) -> Any:
            return make()
    else:

        def handler(request: Request) -> Any:  # type: ignore[misc]
            return make()

    found = await answer(handler)
    assert found.status == status
    assert found.text.encode() == body.replace(b"\xff", "\ufffd".encode())
    assert found.headers.get("Content-Type") == kind


async def test_an_async_generator_is_streamed() -> None:
    async def handler(request: Request) -> AsyncIterator[str]:
        yield request.method
        yield "!"

    assert (await answer(handler)).text == "GET!"


async def test_one_response_may_be_returned_many_times() -> None:
    router = Router()
    router.get("/a")(lambda request: RESPONSE)
    found = [await dispatch(router, Request("GET", "/a")) for _ in range(2)]
    assert found[0].headers == found[1].headers
    assert found[0].body == found[1].body == b"shared"


class Callables:
    async def method(self, request: Request) -> str:
        return "method"

    @staticmethod
    def static(request: Request) -> str:
        return "static"

    def __call__(self, request: Request) -> str:
        return "instance"


class Coroutine:
    async def __call__(self, request: Request) -> str:
        return "coroutine"


class Generator:
    async def __call__(self, request: Request) -> AsyncIterator[str]:
        yield "generator"


async def _partial(greeting: str, request: Request) -> str:
    return greeting


async def _partial_generator(greeting: str, request: Request) -> AsyncIterator[str]:
    yield greeting


@pytest.mark.parametrize(
    ("handler", "expected"),
    [
        (Callables().method, "method"),
        (Callables.static, "static"),
        (Callables(), "instance"),
        (Coroutine(), "coroutine"),
        (Generator(), "generator"),
        (functools.partial(_partial, "partial"), "partial"),
        (functools.partial(_partial_generator, "streamed"), "streamed"),
        (lambda *args: f"{len(args)}", "1"),
        (lambda request, more=1: f"{more}", "1"),
        (lambda request, **more: f"{more}", "{}"),
        (str, None),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
async def test_anything_that_takes_a_request_may_answer(
    handler: Callable[..., Any], expected: str | None
) -> None:
    if expected is None:
        with pytest.raises(EndpointError, match="register"):
            await answer(handler)
    else:
        assert (await answer(handler)).text == expected


def _generator(request: Request) -> Iterator[str]:
    yield ""


class Yields:
    def __call__(self, request: Request) -> Iterator[str]:
        yield ""


class Handler:
    async def handle(self, request: Request) -> None: ...


@pytest.mark.parametrize(
    ("handler", "problem"),
    [
        (None, "a function"),
        (1, "a function"),
        ("text", "a function"),
        (Response("x"), "a function"),
        (Handler, r"register\(\) takes a class"),
        (Handler(), "a function"),
        (_generator, "async generator"),
        (Yields(), "async generator"),
        (functools.partial(_generator), "async generator"),
        (lambda: "", r"take \(request\)"),
        (lambda ws, path: "", r"take \(request\)"),
        (Callables.method, r"take \(request\)"),
    ],
)
def test_what_cannot_answer_is_refused_when_it_is_declared(
    handler: Any, problem: str
) -> None:
    router = Router()
    with pytest.raises(EndpointError, match=problem):
        router.get("/")(handler)
    assert router.routes == ()
    with pytest.raises(EndpointError, match=problem):
        RequestEndpoint(handler)


async def test_values_of_middleware_come_by_keyword_where_they_are_asked_for() -> None:
    router = Router()

    @router.middleware
    async def give(request: Any, path: Any, call_next: Any) -> Any:
        return await call_next(request, path, user="ann", other=1)

    @router.get("/some")
    async def some(request: Request, *, user: str, more: int = 2) -> str:
        return f"{user} {more}"

    @router.get("/none")
    def none(request: Request) -> str:
        return "none"

    @router.get("/stream")
    async def stream(request: Request, *, user: str) -> AsyncIterator[str]:
        yield user

    for path, text in {"/some": "ann 2", "/none": "none", "/stream": "ann"}.items():
        assert (await dispatch(router, Request("GET", path))).text == text


async def test_a_value_that_nobody_gives_is_an_error_of_ours() -> None:
    async def handler(request: Request, *, user: str) -> str:
        raise NotImplementedError

    assert (await answer(handler)).status == 500


@pytest.mark.parametrize(
    "make",
    [object, lambda: {1}, lambda: "\ud800", lambda: (each for each in "ab")],
    ids=["object", "set", "surrogate", "generator"],
)
async def test_what_cannot_be_sent_is_an_error_of_ours(make: Any) -> None:
    found = await answer(lambda request: make())
    assert (found.status, found.text) == (500, "something went wrong here\n")
