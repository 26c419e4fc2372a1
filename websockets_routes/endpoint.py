"""Endpoints: what a route leads to, a function or a class, seen as one kind."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Protocol

from websockets import Headers
from websockets.asyncio.server import ServerConnection

from .arity import implicit_arguments, is_plain, keywords, takes, yields
from .dispatcher import Dispatcher
from .events import EVENTS, Events, callback_events, check_event_class, instance_events
from .exceptions import EndpointError
from .inputs import inputs_of, settle_inputs
from .naming import endpoint_name
from .path import RoutedPath

__all__ = ["NO_VALUES", "AnyEndpoint", "Endpoint", "Handler", "Handles", "Values"]

#: What middleware hands on to a handler, by name.
Values = Mapping[str, Any]
NO_VALUES: Values = {}
# Where a class may declare inputs, beside the class itself.
_METHODS = ("process_request", "handle", *EVENTS)


class Handles(Protocol):
    """What serves one connection, once it is open."""

    def handle(
        self, ws: ServerConnection, path: RoutedPath, values: Values = NO_VALUES
    ) -> Awaitable[None]:
        """Serve the connection; hand over values that are asked for by name."""


class Handler(Handles, Protocol):
    """What serves one connection, its handshake included."""

    def process_request(self, path: RoutedPath, headers: Headers) -> Any:
        """Return None to go on, a response to refuse, or an awaitable of either."""


class AnyEndpoint:
    """What a route leads to.

    Attributes:
        target: The function or class.
        name: What it is called in logs and tables: ``module:name``.
        inputs: The headers and query parameters that it declares.
    """

    def __init__(self, target: Any) -> None:
        self.target = target
        self.name = endpoint_name(target)
        self.inputs = inputs_of(target, _METHODS)
        settle_inputs(target)
        if not callable(target):
            raise EndpointError(self.name, "it must be a function or a class")

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name})"


class Endpoint(AnyEndpoint):
    """What handles connections, checked when declared.

    Args:
        target: An ``async def handler(ws, path)`` or ``handler(ws)``, a class with
            such a ``handle`` method, or an event class; classes may have a
            ``process_request(path, headers)``.
        callback: Whether it is a function ``f(ws, opcode, payload)`` instead.

    Attributes:
        open: Makes what serves one connection.

    Raises:
        EndpointError: If it is none of them.
    """

    open: Callable[[], Handler]

    def __init__(self, target: Any, *, callback: bool = False) -> None:
        super().__init__(target)
        if callback:
            self.open = self._callback()
        elif inspect.isclass(target):
            self._check_class()
            if check_event_class(target, self.name):
                self.open = self._event_class()
            else:
                self.open = self._handler_class()
        else:
            self.open = self._function()

    def _error(self, problem: str) -> EndpointError:
        return EndpointError(self.name, problem)

    def _function(self) -> Callable[[], Handler]:
        takes_path = self._takes_path(self.target, "it", 0)
        handler = _Function(self.target, takes_path, keywords(self.target))
        return lambda: handler

    def _callback(self) -> Callable[[], Handler]:
        if inspect.isclass(self.target) or not takes(self.target, 3):
            raise self._error("it must be a function that takes (ws, opcode, payload)")
        if yields(self.target):
            raise self._error("it must not yield")
        handler = _Callback(callback_events(self.target))
        return lambda: handler

    def _handler_class(self) -> Callable[[], Handler]:
        target = self.target
        if not callable(getattr(target, "handle", None)):
            raise self._error(
                "the class needs async def handle(self, ws, path), or an event "
                "such as on_message(self, ws, message, opcode)"
            )
        implicit = implicit_arguments(target, "handle")
        takes_path = self._takes_path(target.handle, "handle", implicit)
        hooked = hasattr(target, "process_request")
        names = keywords(target.handle)
        return lambda: _Instance(target(), hooked, takes_path, names)

    def _event_class(self) -> Callable[[], Handler]:
        target = self.target
        hooked = hasattr(target, "process_request")
        return lambda: _EventInstance(target(), hooked)

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
        if takes(function, 2, implicit, keywords=True):
            return True
        if takes(function, 1, implicit, keywords=True):
            return False
        raise self._error(f"{what} must take (ws, path) or (ws), and nothing else")


class _Shared:
    """What serves all connections alike has no hook."""

    def process_request(self, path: RoutedPath, headers: Headers) -> None:
        return None


class _Function(_Shared):
    def __init__(
        self,
        function: Callable[..., Awaitable[None]],
        takes_path: bool,
        names: Sequence[str],
    ):
        self.function = function
        self.takes_path = takes_path
        self.names = names

    def handle(
        self, ws: ServerConnection, path: RoutedPath, values: Values = NO_VALUES
    ) -> Awaitable[None]:
        return _handle(self.function, self.takes_path, self.names, ws, path, values)


class _Callback(_Shared):
    def __init__(self, events: Events):
        self.events = events

    def handle(
        self, ws: ServerConnection, path: RoutedPath, values: Values = NO_VALUES
    ) -> Awaitable[None]:
        return Dispatcher(ws, self.events).run()


class _Made:
    """What is made for one connection may have a hook."""

    __slots__ = ("hooked", "instance")

    def __init__(self, instance: Any, hooked: bool):
        self.instance = instance
        self.hooked = hooked

    def process_request(self, path: RoutedPath, headers: Headers) -> Any:
        return self.instance.process_request(path, headers) if self.hooked else None


class _EventInstance(_Made):
    __slots__ = ()

    def handle(
        self, ws: ServerConnection, path: RoutedPath, values: Values = NO_VALUES
    ) -> Awaitable[None]:
        return Dispatcher(ws, instance_events(self.instance)).run()


class _Instance(_Made):
    __slots__ = ("names", "takes_path")

    def __init__(
        self, instance: Any, hooked: bool, takes_path: bool, names: Sequence[str]
    ):
        super().__init__(instance, hooked)
        self.takes_path = takes_path
        self.names = names

    def handle(
        self, ws: ServerConnection, path: RoutedPath, values: Values = NO_VALUES
    ) -> Awaitable[None]:
        handle: Callable[..., Awaitable[None]] = self.instance.handle
        return _handle(handle, self.takes_path, self.names, ws, path, values)


def _handle(
    function: Callable[..., Awaitable[None]],
    takes_path: bool,
    names: Sequence[str],
    ws: ServerConnection,
    path: RoutedPath,
    values: Values,
) -> Awaitable[None]:
    if values and names:
        asked = {name: values[name] for name in names if name in values}
        return function(ws, path, **asked) if takes_path else function(ws, **asked)
    return function(ws, path) if takes_path else function(ws)
