"""Endpoints: which functions and classes can be one, and how they are called."""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any, cast

import pytest
from websockets import Headers
from websockets.asyncio.server import ServerConnection

from websockets_routes.endpoint import Endpoint
from websockets_routes.exceptions import EndpointError
from websockets_routes.naming import endpoint_name
from websockets_routes.path import RoutedPath

WS = cast(ServerConnection, object())
PATH = RoutedPath("/x")
HEADERS = Headers()

calls: list[tuple[Any, ...]] = []


@pytest.fixture(autouse=True)
def fresh_calls() -> None:
    calls.clear()


async def two(ws: Any, path: Any) -> None:
    calls.append((ws, path))


async def one(ws: Any) -> None:
    calls.append((ws,))


async def none() -> None: ...


async def three(ws: Any, path: Any, other: Any) -> None: ...


async def three_with_default(ws: Any, path: Any, other: Any = None) -> None:
    calls.append((ws, path))


async def two_with_default(ws: Any, path: Any = None) -> None:
    calls.append((ws, path))


async def any_number(*args: Any) -> None:
    calls.append(args)


async def one_and_any_keywords(ws: Any, **kwargs: Any) -> None:
    calls.append((ws,))


async def keyword_with_default(ws: Any, path: Any, *, flag: bool = True) -> None:
    calls.append((ws, path))


async def keyword_needed(ws: Any, path: Any, *, flag: bool) -> None: ...


async def first_of_three(extra: Any, ws: Any, path: Any) -> None:
    calls.append((ws, path))


def plain(ws: Any, path: Any) -> None: ...


def generator(ws: Any, path: Any) -> Iterator[int]:
    yield 1


async def async_generator(ws: Any, path: Any) -> AsyncIterator[int]:
    yield 1


def well_wrapped(function: Callable[..., Awaitable[None]]) -> Callable[..., Any]:
    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Awaitable[None]:
        return function(*args, **kwargs)

    return wrapper


def badly_wrapped(function: Callable[..., Awaitable[None]]) -> Callable[..., Any]:
    def wrapper(*args: Any, **kwargs: Any) -> Awaitable[None]:
        return function(*args, **kwargs)

    return wrapper


def wrapped_in_a_coroutine(
    function: Callable[..., Awaitable[None]],
) -> Callable[..., Any]:
    async def wrapper(*args: Any, **kwargs: Any) -> None:
        await function(*args, **kwargs)

    return wrapper


class Callable2:
    async def __call__(self, ws: Any, path: Any) -> None:
        calls.append((ws, path))


class Callable1:
    async def __call__(self, ws: Any) -> None:
        calls.append((ws,))


class Bound:
    async def two(self, ws: Any, path: Any) -> None:
        calls.append((ws, path))

    @classmethod
    async def of_class(cls, ws: Any) -> None:
        calls.append((ws,))

    @staticmethod
    async def static(ws: Any, path: Any) -> None:
        calls.append((ws, path))


class Handle2:
    async def handle(self, ws: Any, path: Any) -> None:
        assert isinstance(self, Handle2)
        calls.append((ws, path))


class Handle1:
    async def handle(self, ws: Any) -> None:
        assert isinstance(self, Handle1)
        calls.append((ws,))


class HandleAny:
    async def handle(self, *args: Any) -> None:
        calls.append(args)


class HandleEverything:
    async def handle(*args: Any) -> None:
        calls.append(args[1:])


class HandleStatic2:
    @staticmethod
    async def handle(ws: Any, path: Any) -> None:
        calls.append((ws, path))


class HandleStatic1:
    @staticmethod
    async def handle(ws: Any) -> None:
        calls.append((ws,))


class HandleOfClass2:
    @classmethod
    async def handle(cls, ws: Any, path: Any) -> None:
        assert cls is HandleOfClass2
        calls.append((ws, path))


class HandleOfClass1:
    @classmethod
    async def handle(cls, ws: Any) -> None:
        calls.append((ws,))


class HandleWrapped:
    @well_wrapped
    async def handle(self, ws: Any) -> None:
        calls.append((ws,))


class Inherited(Handle2):
    pass


class WrittenInC(dict[Any, Any]):
    async def handle(self, ws: Any, path: Any) -> None:
        calls.append((ws, path))


class OptionalArguments:
    def __init__(self, greeting: str = "hello", *args: Any, **kwargs: Any) -> None:
        self.greeting = greeting

    async def handle(self, ws: Any, path: Any) -> None:
        assert self.greeting == "hello"
        calls.append((ws, path))


class HandlePartial2:
    handle = functools.partial(first_of_three, "extra")


class HandleCallable2:
    handle = Callable2()


BOTH = [(WS, PATH)]
CONNECTION = [(WS,)]


@pytest.mark.parametrize(
    ("target", "called"),
    [
        (two, BOTH),
        (one, CONNECTION),
        (three_with_default, BOTH),
        (two_with_default, BOTH),
        (any_number, BOTH),
        (one_and_any_keywords, CONNECTION),
        (keyword_with_default, BOTH),
        (functools.partial(first_of_three, "extra"), BOTH),
        (functools.partial(two, path=PATH), BOTH),
        (functools.partial(keyword_needed, flag=True), []),
        (functools.partial(functools.partial(two)), BOTH),
        (well_wrapped(two), BOTH),
        (well_wrapped(one), CONNECTION),
        (well_wrapped(well_wrapped(one)), CONNECTION),
        (wrapped_in_a_coroutine(two), BOTH),
        (Callable2(), BOTH),
        (Callable1(), CONNECTION),
        (Bound().two, BOTH),
        (Bound.of_class, CONNECTION),
        (Bound.static, BOTH),
        (Handle2, BOTH),
        (Handle1, CONNECTION),
        (HandleAny, BOTH),
        (HandleEverything, BOTH),
        (HandleStatic2, BOTH),
        (HandleStatic1, CONNECTION),
        (HandleOfClass2, BOTH),
        (HandleOfClass1, CONNECTION),
        (HandleWrapped, CONNECTION),
        (HandlePartial2, BOTH),
        (HandleCallable2, BOTH),
        (Inherited, BOTH),
        (WrittenInC, BOTH),
        (OptionalArguments, BOTH),
    ],
)
async def test_a_handler_is_called_with_what_it_takes(
    target: Any, called: list[tuple[Any, ...]]
) -> None:
    handler = Endpoint(target).open()
    assert handler.process_request(PATH, HEADERS) is None
    await handler.handle(WS, PATH)
    assert calls == called


class NoHandle:
    async def handel(self, ws: Any, path: Any) -> None: ...


class HandleIsData:
    handle = 4


class HandleIsProperty:
    @property
    def handle(self) -> Any: ...


class HandlePlain:
    def handle(self, ws: Any, path: Any) -> None: ...


class HandleGenerator:
    async def handle(self, ws: Any, path: Any) -> AsyncIterator[int]:
        yield 1


class HandleNone:
    async def handle(self) -> None: ...


class HandleWithoutSelf:
    async def handle() -> None: ...  # type: ignore[misc]


class Handle3:
    async def handle(self, ws: Any, path: Any, other: Any) -> None: ...


class HandleKeyword:
    async def handle(self, ws: Any, path: Any, *, flag: bool) -> None: ...


class HandleStatic3:
    @staticmethod
    async def handle(self: Any, ws: Any, path: Any) -> None: ...


class HandleOfClass0:
    @classmethod
    async def handle(cls) -> None: ...


class NeedsArguments(Handle2):
    def __init__(self, database: object) -> None: ...


class NeedsKeyword(Handle2):
    def __init__(self, *, database: object) -> None: ...


class NeedsNew(Handle2):
    def __new__(cls, database: object) -> Any: ...


class HookNone(Handle2):
    def process_request(self) -> None: ...


class HookPath(Handle2):
    def process_request(self, path: Any) -> None: ...


class Hook3(Handle2):
    async def process_request(self, ws: Any, path: Any, headers: Any) -> None: ...


class HookKeyword(Handle2):
    def process_request(self, path: Any, headers: Any, *, flag: bool) -> None: ...


class HookStatic1(Handle2):
    @staticmethod
    def process_request(path: Any) -> None: ...


class HookIsData(Handle2):
    process_request = None


NEEDS_HANDLE = "the class needs async def handle(self, ws, path), or an event"
NO_ARGUMENTS = "the class is made without arguments, once a connection"
HOOK = "process_request must be a method that takes (path, headers)"


@pytest.mark.parametrize(
    ("target", "problem"),
    [
        (none, "it must take (ws, path) or (ws), and nothing else"),
        (three, "it must take (ws, path) or (ws), and nothing else"),
        (Bound.two, "it must take (ws, path) or (ws), and nothing else"),
        (functools.partial(two, WS, PATH), "it must take (ws, path) or (ws)"),
        (functools.partial(three), "it must take (ws, path) or (ws)"),
        (well_wrapped(three), "it must take (ws, path) or (ws), and nothing else"),
        (plain, "it must be an async def"),
        (lambda ws, path: None, "it must be an async def"),
        (badly_wrapped(two), "it must be an async def"),
        (generator, "it must be an async def"),
        (async_generator, "it must be an async def"),
        (functools.partial(async_generator), "it must be an async def"),
        (functools.partial(plain), "it must be an async def"),
        (None, "it must be a function or a class"),
        ("chat:room", "it must be a function or a class"),
        (Handle2(), "it must be a function or a class"),
        (NoHandle, NEEDS_HANDLE),
        (HandleIsData, NEEDS_HANDLE),
        (HandleIsProperty, NEEDS_HANDLE),
        (HandlePlain, "handle must be an async def"),
        (HandleGenerator, "handle must be an async def"),
        (HandleNone, "handle must take (ws, path) or (ws), and nothing else"),
        (HandleWithoutSelf, "handle must take (ws, path) or (ws)"),
        (Handle3, "handle must take (ws, path) or (ws), and nothing else"),
        (HandleStatic3, "handle must take (ws, path) or (ws), and nothing else"),
        (HandleOfClass0, "handle must take (ws, path) or (ws), and nothing else"),
        (NeedsArguments, NO_ARGUMENTS),
        (NeedsKeyword, NO_ARGUMENTS),
        (NeedsNew, NO_ARGUMENTS),
        (HookNone, HOOK),
        (HookPath, HOOK),
        (Hook3, HOOK),
        (HookKeyword, HOOK),
        (HookStatic1, HOOK),
        (HookIsData, HOOK),
    ],
)
def test_what_cannot_be_an_endpoint_raises_with_what_and_where(
    target: Any, problem: str
) -> None:
    with pytest.raises(EndpointError) as raised:
        Endpoint(target)
    assert raised.value.problem.startswith(problem)
    assert raised.value.endpoint == endpoint_name(target)
    assert str(raised.value).startswith(f"endpoint {endpoint_name(target)}: ")


@pytest.mark.parametrize("target", [keyword_needed, HandleKeyword])
async def test_a_handler_gets_the_values_that_it_asks_for_by_keyword(
    target: Any,
) -> None:
    handler = Endpoint(target).open()
    await handler.handle(WS, PATH, {"flag": True, "unasked": 2})
    with pytest.raises(TypeError, match="flag"):
        await Endpoint(target).open().handle(WS, PATH)


def test_a_class_makes_one_instance_a_connection_and_a_function_none() -> None:
    made = []

    class Counted(Handle2):
        def __init__(self) -> None:
            made.append(self)

    endpoint = Endpoint(Counted)
    assert made == [], "nothing is made when it is declared"
    endpoint.open()
    endpoint.open()
    assert len(made) == 2
    assert Endpoint(two).open() is not None


async def test_one_instance_hears_of_the_request_and_then_of_the_connection() -> None:
    class Remembers:
        def process_request(self, path: Any, headers: Any) -> str:
            self.seen = (path, headers)
            return "answer"

        async def handle(self, ws: Any, path: Any) -> None:
            calls.append((self.seen, ws, path))

    handler = Endpoint(Remembers).open()
    assert handler.process_request(PATH, HEADERS) == "answer"
    await handler.handle(WS, PATH)
    assert calls == [((PATH, HEADERS), WS, PATH)]


async def test_the_answer_of_a_coroutine_hook_is_its_awaitable() -> None:
    class Asks(Handle2):
        async def process_request(self, path: Any, headers: Any) -> str:
            return "answer"

    assert await Endpoint(Asks).open().process_request(PATH, HEADERS) == "answer"


class HookStatic2(Handle2):
    @staticmethod
    def process_request(path: Any, headers: Any) -> Any:
        return (path, headers)


class HookOfClass2(Handle2):
    @classmethod
    def process_request(cls, path: Any, headers: Any) -> Any:
        return (path, headers)


class HookAny(Handle2):
    def process_request(self, *args: Any) -> Any:
        return args


class HookDefault(Handle2):
    def process_request(self, path: Any, headers: Any, more: int = 1) -> Any:
        return (path, headers)


@pytest.mark.parametrize("target", [HookStatic2, HookOfClass2, HookAny, HookDefault])
def test_a_hook_may_be_any_kind_of_method(target: Any) -> None:
    handler = Endpoint(target).open()
    assert handler.process_request(PATH, HEADERS) == (PATH, HEADERS)


def test_a_callable_that_does_not_tell_what_it_takes_is_taken_at_its_word() -> None:
    class InC(Handle2):
        process_request = max

    assert Endpoint(max).name == "builtins:max"
    assert Endpoint(InC).open().process_request(cast(Any, 1), cast(Any, 2)) == 2


def test_an_endpoint_shows_its_name() -> None:
    assert repr(Endpoint(two)) == f"Endpoint({__name__}:two)"


@pytest.mark.parametrize(
    ("target", "name"),
    [
        (two, f"{__name__}:two"),
        (Handle2, f"{__name__}:Handle2"),
        (Bound().two, f"{__name__}:Bound.two"),
        (Bound.of_class, f"{__name__}:Bound.of_class"),
        (functools.partial(two), f"{__name__}:two"),
        (functools.partial(functools.partial(two), WS), f"{__name__}:two"),
        (functools.partial(Callable2()), f"{__name__}:Callable2"),
        (well_wrapped(two), f"{__name__}:two"),
        (Callable2(), f"{__name__}:Callable2"),
        (None, "builtins:NoneType"),
        ("x", "builtins:str"),
    ],
)
def test_a_name_is_where_a_person_would_look_it_up(target: Any, name: str) -> None:
    assert endpoint_name(target) == name
