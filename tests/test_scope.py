"""Scope: error handlers by class, and the order of middleware."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import pytest

from websockets_routes import InvalidLimit, RoutesError
from websockets_routes.endpoint import Endpoint, Handler
from websockets_routes.scope import Scope, call_handler, find_error_handler

WS, PATH = object(), object()


class Base(Exception): ...


class Derived(Base): ...


class Mixed(Derived, KeyError): ...


def scope(*kinds: type[BaseException]) -> Scope:
    made = Scope()
    for kind in kinds:
        made.add_error(kind, lambda error, ws, path: None)
    return made


@pytest.mark.parametrize(
    ("declared", "error", "found"),
    [
        ([], Base(), None),
        ([[Exception]], Base(), (0, Exception)),
        ([[Base, Exception]], Derived(), (0, Base)),
        ([[Derived, Base]], Base(), (0, Base)),
        ([[Derived]], Base(), None),
        ([[LookupError, Base]], Mixed(), (0, Base)),
        ([[LookupError, Exception]], Mixed(), (0, LookupError)),
        ([[Derived], [Exception]], Derived(), (1, Exception)),
        ([[Base], [KeyError], []], Derived(), (0, Base)),
        ([[Base], [Base], [KeyError]], Derived(), (1, Base)),
        ([[Exception]], KeyboardInterrupt(), None),
        ([[BaseException]], KeyboardInterrupt(), (0, BaseException)),
    ],
)
def test_the_nearest_router_hears_of_an_error_by_its_nearest_class(
    declared: list[list[type[BaseException]]],
    error: BaseException,
    found: tuple[int, type[BaseException]] | None,
) -> None:
    scopes = [scope(*kinds) for kinds in declared]
    expected = None if found is None else scopes[found[0]].errors[found[1]]
    assert find_error_handler(scopes, error) is expected


class Recorded:
    def __init__(self) -> None:
        self.calls: list[tuple[Any, Any, Mapping[str, Any]]] = []

    def process_request(self, path: Any, headers: Any) -> None:
        raise AssertionError("not asked")

    async def handle(
        self, ws: Any, path: Any, values: Mapping[str, Any] | None = None
    ) -> None:
        self.calls.append((ws, path, dict(values or {})))


async def test_middleware_nests_the_outermost_first() -> None:
    trace: list[str] = []

    def around(name: str) -> Any:
        async def function(ws: Any, path: Any, call_next: Any) -> None:
            trace.append(f"+{name}")
            await call_next(ws, path)
            trace.append(f"-{name}")

        return function

    outer, inner, recorded = Scope(), Scope(), Recorded()
    for each, name in ((inner, "c"), (outer, "a"), (outer, "b"), (inner, "d")):
        each.add_middleware(around(name))
    await call_handler((outer, Scope(), inner), recorded, WS, PATH)
    assert trace == ["+a", "+b", "+c", "+d", "-d", "-c", "-b", "-a"]
    assert recorded.calls == [(WS, PATH, {})]


async def test_values_go_inwards_and_the_inner_one_wins() -> None:
    seen: dict[str, Any] = {}

    async def first(ws: Any, path: Any, call_next: Any) -> None:
        await call_next(ws, path, user="first", kept=1)

    async def second(
        ws: Any, path: Any, call_next: Any, *, user: str, missing: int = 0
    ) -> None:
        seen.update(user=user, missing=missing)
        await call_next(ws, path, user="second", more=2)

    both, recorded = Scope(), Recorded()
    both.add_middleware(first)
    both.add_middleware(second)
    await call_handler([both], recorded, WS, PATH)
    assert seen == {"user": "first", "missing": 0}
    assert recorded.calls == [(WS, PATH, {"user": "second", "kept": 1, "more": 2})]


async def test_call_next_passes_on_what_it_is_given() -> None:
    async def replace(ws: Any, path: Any, call_next: Any) -> None:
        await call_next("other ws", "other path")

    replacing, recorded = Scope(), Recorded()
    replacing.add_middleware(replace)
    await call_handler([replacing], recorded, WS, PATH)
    assert recorded.calls == [("other ws", "other path", {})]


async def test_a_handler_runs_once_even_if_call_next_is_called_twice() -> None:
    async def twice(ws: Any, path: Any, call_next: Any) -> None:
        await call_next(ws, path)
        await call_next(ws, path)

    twofold, recorded = Scope(), Recorded()
    twofold.add_middleware(twice)
    with pytest.raises(RoutesError, match="twice"):
        await call_handler([twofold], recorded, WS, PATH)
    assert len(recorded.calls) == 1


async def test_a_function_gets_only_the_values_that_it_asks_for() -> None:
    got: list[Any] = []

    async def hand_over(ws: Any, path: Any, call_next: Any) -> None:
        await call_next(ws, path, user="u", other="o")

    async def asks(ws: Any, *, user: str, none: int = 7) -> None:
        got.append((ws, user, none))

    async def does_not_ask(ws: Any, path: Any) -> None:
        got.append((ws, path))

    class Asks:
        async def handle(self, ws: Any, path: Any, *, other: str) -> None:
            got.append((ws, path, other))

    handing = Scope()
    handing.add_middleware(hand_over)
    for target in (asks, does_not_ask, Asks):
        handler: Handler = Endpoint(target).open()
        await call_handler([handing], handler, WS, cast(Any, PATH))
    assert got == [(WS, "u", 7), (WS, PATH), (WS, PATH, "o")]


async def test_middleware_may_do_without_the_handler_and_catch_its_errors() -> None:
    caught: list[str] = []

    async def fail(ws: Any) -> None:
        raise KeyError("lost")

    async def catch(ws: Any, path: Any, call_next: Any) -> None:
        try:
            await call_next(ws, path)
        except KeyError as error:
            caught.append(str(error))

    async def skip(ws: Any, path: Any, call_next: Any) -> None: ...

    catching, skipping, recorded = Scope(), Scope(), Recorded()
    catching.add_middleware(catch)
    skipping.add_middleware(skip)
    await call_handler([catching], Endpoint(fail).open(), WS, PATH)
    await call_handler([skipping], recorded, WS, PATH)
    assert caught == ["'lost'"]
    assert recorded.calls == []


def test_origins_are_a_list() -> None:
    with pytest.raises(InvalidLimit, match="origins is a list"):
        Scope("https://example.com")
