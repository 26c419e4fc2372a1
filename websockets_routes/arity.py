"""Arity: whether a callable takes what it will be called with."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

__all__ = [
    "implicit_arguments",
    "is_async",
    "is_plain",
    "keywords",
    "takes",
    "yields",
]


def takes(
    function: Callable[..., Any],
    count: int,
    implicit: int = 0,
    *,
    keywords: bool = False,
) -> bool:
    """Tell whether a callable takes so many positional arguments.

    Args:
        function: The callable; one that does not tell, because it is written in
            C, is trusted.
        count: How many arguments it will be given.
        implicit: How many it gets besides, like ``self``.
        keywords: Whether it may ask for others by keyword.
    """
    try:
        parameters = inspect.signature(function).parameters.values()
    except ValueError:
        return True
    least, most = 0, 0.0
    for parameter in parameters:
        if parameter.kind is parameter.VAR_POSITIONAL:
            most = float("inf")
        elif parameter.kind is parameter.KEYWORD_ONLY:
            if parameter.default is parameter.empty and not keywords:
                return False
        elif parameter.kind is not parameter.VAR_KEYWORD:
            most += 1
            least += parameter.default is parameter.empty
    return least <= count + implicit <= most


def keywords(function: Callable[..., Any]) -> tuple[str, ...]:
    """Name the arguments that a callable takes by keyword only."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except ValueError:
        return ()
    return tuple(each.name for each in parameters if each.kind is each.KEYWORD_ONLY)


def implicit_arguments(target: type, method: str) -> int:
    """Count the arguments, ``self`` or none, that a method gets by being one."""
    static = inspect.getattr_static(target, method)
    if isinstance(static, staticmethod | classmethod):
        return 0
    # What is no function, a callable instance say, is not bound.
    return 1 if hasattr(type(static), "__get__") else 0


def is_async(function: Callable[..., Any]) -> bool:
    """Tell whether what a callable returns has to be awaited or iterated over."""
    called = _called(function)
    return inspect.iscoroutinefunction(called) or inspect.isasyncgenfunction(called)


def yields(function: Callable[..., Any]) -> bool:
    """Tell whether a callable is a generator, plain or asynchronous."""
    called = _called(function)
    return inspect.isasyncgenfunction(called) or inspect.isgeneratorfunction(called)


def is_plain(function: Callable[..., Any]) -> bool:
    """Tell whether what a callable returns certainly cannot be awaited."""
    called = _called(function)
    if inspect.iscoroutinefunction(called):
        return False
    # A plain function may wrap a coroutine function, and says so if it wraps well.
    return yields(called) or (
        inspect.isfunction(called) and not hasattr(called, "__wrapped__")
    )


def _called(function: Callable[..., Any]) -> Any:
    """Find the function that runs when a callable is called."""
    while isinstance(function, functools.partial):
        function = function.func
    if inspect.isroutine(function) or inspect.isclass(function):
        return function
    return type(function).__call__
