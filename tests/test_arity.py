"""Whether a callable takes what it will be called with, told before it is called."""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import pytest

from websockets_routes.arity import (
    implicit_arguments,
    is_async,
    is_plain,
    keywords,
    takes,
)


def none() -> None: ...


def two_with_default(a: int, b: int = 1) -> None: ...


def any_number(*a: int) -> None: ...


def keyword_with_default(a: int, *, b: int = 1) -> None: ...


def keyword_needed(a: int, *, b: int) -> None: ...


def one_and_any_keywords(a: int, **b: int) -> None: ...


@pytest.mark.parametrize(
    ("function", "implicit", "counts"),
    [
        (none, 0, {0}),
        (two_with_default, 0, {1, 2}),
        (two_with_default, 1, {0, 1}),
        (any_number, 0, {0, 1, 2, 3}),
        (any_number, 1, {0, 1, 2, 3}),
        (keyword_with_default, 0, {1}),
        (keyword_needed, 0, set()),
        (one_and_any_keywords, 0, {1}),
        (none, 1, set()),
        (max, 0, {0, 1, 2, 3}),
    ],
)
def test_a_callable_takes_so_many_arguments(
    function: Any, implicit: int, counts: set[int]
) -> None:
    assert {n for n in range(4) if takes(function, n, implicit)} == counts


def test_arguments_by_keyword_are_allowed_where_they_are_handed_over() -> None:
    assert takes(keyword_needed, 1, keywords=True)
    assert not takes(keyword_needed, 2, keywords=True)


@pytest.mark.parametrize(
    ("function", "names"),
    [
        (none, ()),
        (two_with_default, ()),
        (keyword_with_default, ("b",)),
        (keyword_needed, ("b",)),
        (one_and_any_keywords, ()),
        (max, ()),
    ],
)
def test_what_a_callable_asks_for_by_keyword_is_known(
    function: Any, names: tuple[str, ...]
) -> None:
    assert keywords(function) == names


class Class:
    def method(self) -> None: ...

    @staticmethod
    def static() -> None: ...

    @classmethod
    def of_class(cls) -> None: ...

    class Called:
        def __call__(self) -> None: ...

    instance = Called()


@pytest.mark.parametrize(
    ("name", "count"), [("method", 1), ("static", 0), ("of_class", 0), ("instance", 0)]
)
def test_a_method_gets_self_only_where_it_is_bound(name: str, count: int) -> None:
    assert implicit_arguments(Class, name) == count


async def coroutine() -> None: ...


async def async_generator() -> AsyncIterator[int]:
    yield 1


def generator() -> Iterator[int]:
    yield 1


def returns_an_awaitable() -> Awaitable[None]:
    return coroutine()


def wrapper(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def call(*args: Any) -> Any:
        return function(*args)

    return call


class AsyncCalled:
    async def __call__(self) -> None: ...


@pytest.mark.parametrize(
    ("function", "awaits", "plain"),
    [
        (none, False, True),
        (functools.partial(none), False, True),
        (coroutine, True, False),
        (functools.partial(functools.partial(coroutine)), True, False),
        (AsyncCalled(), True, False),
        (functools.partial(AsyncCalled()), True, False),
        (Class.Called(), False, True),
        (async_generator, True, True),
        (generator, False, True),
        (returns_an_awaitable, False, True),
        (wrapper(coroutine), False, False),
        (Class, False, False),
        (max, False, False),
    ],
)
def test_what_a_callable_returns_is_told_as_far_as_it_can_be(
    function: Any, awaits: bool, plain: bool
) -> None:
    assert is_async(function) is awaits
    assert is_plain(function) is plain
