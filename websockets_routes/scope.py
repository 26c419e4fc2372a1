"""Scope: what a router adds to the routes that are declared in it, or mounted in it.

A route has the scopes of all routers that it is in, the outermost first.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from websockets.typing import Origin

from .arity import is_plain, keywords, takes
from .endpoint import NO_VALUES, Values
from .exceptions import EndpointError, InvalidLimit, RoutesError
from .naming import endpoint_name

__all__ = ["Scope", "any_middleware", "call_handler", "find_error_handler"]


class Scope:
    """What one router adds.

    Attributes:
        hooks: Functions ``f(ws, path)``, to be called before a handshake ends.
        middleware: Coroutine functions ``m(ws, path, call_next)``, around handlers.
        errors: Functions ``f(error, ws, path)`` by the class of the error.
        origins: What an ``Origin`` header may be; None for anything.
    """

    __slots__ = ("errors", "hooks", "middleware", "origins")

    def __init__(self, origins: Sequence[Any] | None = None) -> None:
        if isinstance(origins, str):
            raise InvalidLimit(f"origins is a list of them, not {origins!r}")
        self.hooks: list[Callable[[Any, Any], Any]] = []
        self.middleware: list[Callable[..., Awaitable[None]]] = []
        self.errors: dict[type[BaseException], Callable[..., Any]] = {}
        self.origins: Sequence[Origin | Any | None] | None = origins

    def add_hook(self, function: Callable[[Any, Any], Any]) -> None:
        """Add a hook.

        Raises:
            EndpointError: If it does not take ``(ws, path)``.
        """
        if not callable(function) or not takes(function, 2):
            problem = "before_handshake takes a function f(ws, path)"
            raise EndpointError(endpoint_name(function), problem)
        self.hooks.append(function)

    def add_middleware(self, function: Callable[..., Awaitable[None]]) -> None:
        """Add a middleware.

        Raises:
            EndpointError: If it is no coroutine function of three arguments.
        """
        if (
            not callable(function)
            or is_plain(function)
            or not takes(function, 3, keywords=True)
        ):
            problem = "middleware is an async def m(ws, path, call_next)"
            raise EndpointError(endpoint_name(function), problem)
        self.middleware.append(function)

    def add_error(
        self, kind: type[BaseException], function: Callable[..., Any]
    ) -> None:
        """Add what hears of errors of one class.

        Raises:
            EndpointError: If it does not take ``(error, ws, path)``, or if the same
                class has a function already.
        """
        if not callable(function) or not takes(function, 3):
            problem = "on_error takes a function f(error, ws, path)"
            raise EndpointError(endpoint_name(function), problem)
        if kind in self.errors:
            taken = endpoint_name(self.errors[kind])
            problem = f"errors of {kind.__name__} go to {taken} already"
            raise EndpointError(endpoint_name(function), problem)
        self.errors[kind] = function


def find_error_handler(
    scopes: Sequence[Scope], error: BaseException
) -> Callable[..., Any] | None:
    """Find what hears of an error: in the nearest scope, by the nearest class."""
    for scope in reversed(scopes):
        if scope.errors:
            for kind in type(error).__mro__:
                if kind in scope.errors:
                    return scope.errors[kind]
    return None


def any_middleware(scopes: Sequence[Scope]) -> bool:
    """Tell whether there is any middleware in these scopes."""
    # any() would make a generator for each connection.
    for scope in scopes:  # noqa: SIM110
        if scope.middleware:
            return True
    return False


async def call_handler(
    scopes: Sequence[Scope], handler: Any, ws: Any, path: Any
) -> Any:
    """Run a handler inside the middleware of its route; return what it returns."""
    middleware = [each for scope in scopes for each in scope.middleware]
    return await _call(middleware, 0, handler, ws, path, NO_VALUES)


async def _call(
    middleware: Sequence[Callable[..., Awaitable[Any]]],
    index: int,
    handler: Any,
    ws: Any,
    path: Any,
    values: Values,
) -> Any:
    if index == len(middleware):
        return await handler.handle(ws, path, values)
    called = False
    inner: Any = None

    async def call_next(ws: Any = ws, path: Any = path, **more: Any) -> Any:
        nonlocal called, inner
        if called:
            raise RoutesError("call_next was called twice; a handler runs once")
        called = True
        further = {**values, **more}
        inner = await _call(middleware, index + 1, handler, ws, path, further)
        return inner

    function = middleware[index]
    asked = {name: values[name] for name in keywords(function) if name in values}
    result = await function(ws, path, call_next, **asked)
    # What only looks on need not hand on the response.
    return inner if result is None else result
