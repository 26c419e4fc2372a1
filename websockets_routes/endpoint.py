"""Endpoints: what a route leads to, a function or a class, seen as one kind."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from websockets import Headers
from websockets.asyncio.server import ServerConnection

from .arity import implicit_arguments, is_plain, takes
from .exceptions import EndpointError
from .path import RoutedPath

__all__ = ["Endpoint", "Handler", "endpoint_name"]


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

    Attributes:
        target: The same.
        name: What it is called in logs and tables: ``module:name``.
        open: Makes what serves one connection.

    Raises:
        EndpointError: If it is none of them.
    """

    open: Callable[[], Handler]

    def __init__(self, target: Any) -> None:
        self.target = target
        self.name = endpoint_name(target)
        if not callable(target):
            raise self._error("it must be a function or a class")
        self.open = self._class() if inspect.isclass(target) else self._function()

    def __repr__(self) -> str:
        return f"Endpoint({self.name})"

    def _error(self, problem: str) -> EndpointError:
        return EndpointError(self.name, problem)

    def _function(self) -> Callable[[], Handler]:
        handler = _FunctionHandler(self.target, self._takes_path(self.target, "it", 0))
        return lambda: handler

    def _class(self) -> Callable[[], Handler]:
        target = self.target
        self._check_class()
        if not callable(getattr(target, "handle", None)):
            raise self._error(
                "the class needs a method, async def handle(self, ws, path)"
            )
        implicit = implicit_arguments(target, "handle")
        takes_path = self._takes_path(target.handle, "handle", implicit)
        hooked = hasattr(target, "process_request")
        return lambda: _ClassHandler(target(), takes_path, hooked)

    def _check_class(self) -> None:
        target = self.target
        try:
            inspect.signature(target).bind()
        except ValueError:  # written in C: it does not tell
            pass
        except TypeError:
            raise self._error(
                "the class is made without arguments, once a connection"
            ) from None
        if hasattr(target, "process_request"):
            hook = target.process_request
            implicit = implicit_arguments(target, "process_request")
            if not callable(hook) or not takes(hook, 2, implicit):
                raise self._error(
                    "process_request must be a method that takes (path, headers)"
                )

    def _takes_path(
        self, function: Callable[..., Any], what: str, implicit: int
    ) -> bool:
        """Check a coroutine handler; tell whether it takes the path."""
        if is_plain(function):
            raise self._error(f"{what} must be an async def")
        if takes(function, 2, implicit):
            return True
        if takes(function, 1, implicit):
            return False
        raise self._error(f"{what} must take (ws, path) or (ws), and nothing else")


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
