"""Endpoints: what a route leads to, a function or a class, seen as one kind."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from websockets import Headers
from websockets.asyncio.server import ServerConnection

from .exceptions import EndpointError
from .path import RoutedPath

__all__ = ["Endpoint", "Handler", "endpoint_name", "positional_arity"]


class Handler(Protocol):
    """What serves one connection."""

    def process_request(self, path: RoutedPath, headers: Headers) -> Any:
        """Return None to go on, a response to refuse, or an awaitable of either."""

    async def handle(self, ws: ServerConnection, path: RoutedPath) -> None:
        """Serve the open connection."""


class Endpoint:
    """A function or a class that handles connections, checked when declared.

    Args:
        target: An ``async def handler(ws, path)`` or ``handler(ws)``, or a class
            with such a ``handle`` method and maybe ``process_request(path, headers)``.

    Raises:
        EndpointError: If it is none of them.
    """

    def __init__(self, target: Any) -> None:
        self.target = target
        self.name = endpoint_name(target)
        #: Makes what serves one connection.
        self.open: Callable[[], Handler]
        if inspect.isclass(target):
            self._check_class(target)
            cls: Any = target
            takes_path = self._check_handler(
                cls.handle, "handle", _implicit_arguments(cls, "handle")
            )
            hooked = hasattr(target, "process_request")
            if hooked:
                self._check_hook(target)
            self.open = lambda: _ClassHandler(target(), takes_path, hooked)
        else:
            if not callable(target):
                raise EndpointError(self.name, "it must be a function or a class")
            takes_path = self._check_handler(target, "it", 0)
            handler = _FunctionHandler(target, takes_path)
            self.open = lambda: handler

    def __repr__(self) -> str:
        return f"Endpoint({self.name})"

    def _check_class(self, target: type) -> None:
        if not callable(getattr(target, "handle", None)):
            raise EndpointError(
                self.name, "the class needs a method, async def handle(self, ws, path)"
            )
        try:
            inspect.signature(target).bind()
        except ValueError:  # written in C: it does not tell
            pass
        except TypeError:
            raise EndpointError(
                self.name, "the class is made without arguments, once a connection"
            ) from None

    def _check_handler(
        self, function: Callable[..., Any], what: str, implicit: int
    ) -> bool:
        """Check a handler; tell whether it takes the path."""
        if _is_no_coroutine(function):
            raise EndpointError(self.name, f"{what} must be an async def")
        arity = positional_arity(function, implicit)
        if arity is None:
            return True
        least, most = arity
        if least <= 2 <= most:
            return True
        if least <= 1 <= most:
            return False
        raise EndpointError(
            self.name, f"{what} must take (ws, path) or (ws), and nothing else"
        )

    def _check_hook(self, target: Any) -> None:
        hook = target.process_request
        implicit = _implicit_arguments(target, "process_request")
        arity = positional_arity(hook, implicit) if callable(hook) else (1, 0)
        if arity is not None and not arity[0] <= 2 <= arity[1]:
            raise EndpointError(
                self.name, "process_request must be a method that takes (path, headers)"
            )


class _FunctionHandler:
    def __init__(self, function: Callable[..., Awaitable[None]], takes_path: bool):
        self.function = function
        self.takes_path = takes_path

    def process_request(self, path: RoutedPath, headers: Headers) -> None:
        return None

    async def handle(self, ws: ServerConnection, path: RoutedPath) -> None:
        await (self.function(ws, path) if self.takes_path else self.function(ws))


class _ClassHandler:
    __slots__ = ("hooked", "instance", "takes_path")

    def __init__(self, instance: Any, takes_path: bool, hooked: bool):
        self.instance = instance
        self.takes_path = takes_path
        self.hooked = hooked

    def process_request(self, path: RoutedPath, headers: Headers) -> Any:
        return self.instance.process_request(path, headers) if self.hooked else None

    async def handle(self, ws: ServerConnection, path: RoutedPath) -> None:
        instance = self.instance
        await (instance.handle(ws, path) if self.takes_path else instance.handle(ws))


def endpoint_name(target: object) -> str:
    """Name a function or class as a person would look it up: ``module:name``."""
    unwrapped = inspect.unwrap(target) if callable(target) else target
    unwrapped = getattr(unwrapped, "func", unwrapped)  # a functools.partial
    name = getattr(unwrapped, "__qualname__", None)
    if name is None:
        unwrapped = type(unwrapped)
        name = unwrapped.__qualname__
    return f"{unwrapped.__module__}:{name}"


def positional_arity(
    function: Callable[..., Any], implicit: int = 0
) -> tuple[int, float] | None:
    """Count the positional arguments that a callable needs and takes.

    Args:
        implicit: How many of them are not the caller's to give, like ``self``.

    Returns:
        The least and the most; None if the callable does not tell. A callable
        that needs keyword arguments takes fewer than it needs: nothing fits it.
    """
    try:
        parameters = inspect.signature(function).parameters.values()
    except ValueError:  # a callable written in C
        return None
    least, most = 0, 0.0
    for parameter in parameters:
        if parameter.kind is parameter.VAR_POSITIONAL:
            most = float("inf")
        elif parameter.kind is parameter.KEYWORD_ONLY:
            if parameter.default is parameter.empty:
                return (1, 0)
        elif parameter.kind is not parameter.VAR_KEYWORD:
            most += 1
            least += parameter.default is parameter.empty
    return max(0, least - implicit), most - implicit


def _implicit_arguments(target: type, method: str) -> int:
    """Count the arguments, ``self`` or none, that a method gets by being one."""
    static = inspect.getattr_static(target, method)
    return 0 if isinstance(static, staticmethod | classmethod) else 1


def _is_no_coroutine(function: Callable[..., Any]) -> bool:
    """Tell whether a callable certainly returns no awaitable."""
    if inspect.iscoroutinefunction(function):
        return False
    if inspect.isasyncgenfunction(function) or inspect.isgeneratorfunction(function):
        return True
    # A plain function may wrap a coroutine function, and says so if it wraps well.
    return inspect.isfunction(function) and not hasattr(function, "__wrapped__")
