"""Extensions: methods and attributes that every connection of a router gets."""

from __future__ import annotations

import dis
from collections.abc import Callable
from copy import deepcopy
from types import FunctionType
from typing import Any, TypeVar

from .arity import takes
from .exceptions import ExtensionError

__all__ = ["Extensions", "Registrar"]

F = TypeVar("F", bound=Callable[..., Any])

# What ``websockets`` sets on connections from outside of their class.
_ANNOTATED = {"handler", "handler_kwargs", "username"}


class Registrar:
    """What an extension is given to add to: it stands for any connection."""

    def __init__(self, add: Callable[[str, Any], None]) -> None:
        self._add = add

    def method(self, function: F) -> F:
        """Decorate a function ``f(ws, …)``: it becomes a method of that name.

        Raises:
            ExtensionError: If the name is taken.
        """
        self._add(function.__name__, function)
        return function

    def property(self, name: str, default: Any = None) -> None:
        """Add an attribute.

        Args:
            name: Its name.
            default: Its value until it is set: a deep copy for each connection.

        Raises:
            ExtensionError: If the name is taken.
        """
        self._add(name, _Default(name, default))


class _Default:
    """Gives a connection its own copy of a default when it first asks for it."""

    def __init__(self, name: str, default: Any) -> None:
        self.name = name
        self.default = default

    def __get__(self, ws: object | None, owner: type) -> Any:
        if ws is None:
            return self
        return vars(ws).setdefault(self.name, deepcopy(self.default))


class Extensions:
    """The extensions of a router.

    Args:
        base: The class of which no name may be taken.

    Attributes:
        attributes: What they add to a connection class, by name.
        request: What they add to requests.
        response: What they add to the responses that ``request.response`` makes.
    """

    def __init__(self, base: type) -> None:
        self._base = base
        self._closed = False
        self.attributes: dict[str, Any] = {}
        self.request: dict[str, Any] = {}
        self.response: dict[str, Any] = {}

    def add(self, extension: Callable[..., Any]) -> None:
        """Run an extension ``f(ws)`` and keep what it registers.

        One that is ``f(request, response, ws)`` adds to requests and responses too.

        Raises:
            ExtensionError: If a name is taken or no identifier, or if connections
                were made already.
        """
        if self._closed:
            raise ExtensionError("extensions must be registered before serving")
        added: dict[str, Any] = {}
        ws = self._registrar("connection", self.attributes, added, self._base)
        if takes(extension, 1):
            extension(ws)
        elif takes(extension, 3):
            # What answers requests is imported only where it is used.
            from .http.request import Request
            from .http.response import Response

            more: tuple[dict[str, Any], dict[str, Any]] = ({}, {})
            request = self._registrar("request", self.request, more[0], Request)
            response = self._registrar("response", self.response, more[1], Response)
            extension(request, response, ws)
            self.request |= more[0]
            self.response |= more[1]
        else:
            problem = "must be a function f(ws) or f(request, response, ws)"
            raise ExtensionError(f"{extension!r} {problem}")
        self.attributes |= added

    def _registrar(
        self, what: str, taken: dict[str, Any], added: dict[str, Any], base: type
    ) -> Registrar:
        def add(name: str, value: Any) -> None:
            if not name.isidentifier():
                raise ExtensionError(f"{name!r} is no name for an attribute")
            if name in taken or name in added or name in _names(base):
                raise ExtensionError(f"a {what} has an attribute {name!r} already")
            added[name] = value

        return Registrar(add)

    def __bool__(self) -> bool:
        return bool(self.attributes or self.request or self.response)

    def end(self) -> None:
        """Take no more extensions."""
        self._closed = True

    def close(self, base: type) -> dict[str, Any]:
        """Take no more extensions; return what they add to a class.

        Raises:
            ExtensionError: If the class has one of their names itself.
        """
        self.end()
        for name in self.attributes:
            if name in _names(base):
                raise ExtensionError(
                    f"{base.__qualname__} has an attribute {name!r} already"
                )
        return self.attributes


def _names(cls: type) -> set[str]:
    """List the attributes of a class and those that its methods set on ``self``."""
    found = set(dir(cls)) | _ANNOTATED
    for each in cls.__mro__:
        found |= set(vars(each).get("__annotations__", ()))
        for value in vars(each).values():
            function = value.fset if isinstance(value, property) else value
            if isinstance(function, FunctionType):
                found |= {
                    instruction.argval
                    for instruction in dis.get_instructions(function)
                    if instruction.opname == "STORE_ATTR"
                }
    return found
