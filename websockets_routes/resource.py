"""Resources: related routes in one class, with one instance for all connections."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, TypeVar

from .exceptions import EndpointError
from .naming import endpoint_name

__all__ = ["WEBSOCKET", "Declaration", "Resource", "declarations", "websocket"]

F = TypeVar("F", bound=Callable[..., Any])

#: The method, in lists of routes, of those that are for WebSocket connections.
WEBSOCKET = "WEBSOCKET"

_DECLARED = "__websockets_routes__"


class Declaration(NamedTuple):
    """A route that a method declares, not yet bound to an instance."""

    method: str
    template: str
    options: dict[str, Any]


def websocket(template: str, **options: Any) -> Callable[[F], F]:
    """Declare that a method of a ``Resource`` serves the connections of a template.

    The method, plain or a coroutine, is ``f(self, ws, opcode, payload)``; see
    ``Router.websocket`` for what it is called with. Several may stand over one method.

    Args:
        template: The URL template.
        **options: See ``Router.route``.
    """

    def declare(function: F) -> F:
        declared: tuple[Declaration, ...] = vars(function).get(_DECLARED, ())
        # Decorators run from the bottom up; the list reads from the top down.
        declaration = Declaration(WEBSOCKET, template, options)
        setattr(function, _DECLARED, (declaration, *declared))
        return function

    return declare


class Resource:
    """A group of routes; subclass it, and decorate methods with ``@websocket``.

    ``Router.register`` takes an instance, which serves all connections. A
    subclass inherits the routes of its bases: a method that it overrides is called
    in the place of the first, under the templates of its own decorators if it has
    any, else of those that it overrides; one that it sets to None is not served.
    """

    def routes(self) -> list[tuple[str, str, Callable[..., Any]]]:
        """List what is declared, bases first: ``(method, template, callback)``."""
        return [
            (declaration.method, declaration.template, callback)
            for declaration, callback in self.declarations()
        ]

    def declarations(self) -> list[tuple[Declaration, Callable[..., Any]]]:
        """List the same with everything that the decorators were given."""
        declared: dict[str, tuple[Declaration, ...]] = {}
        for cls in reversed(type(self).__mro__):
            for attribute, function in vars(cls).items():
                # Over a staticmethod or below it, the decorator counts.
                inner = getattr(function, "__func__", None)
                own = getattr(function, _DECLARED, getattr(inner, _DECLARED, None))
                if own is not None:
                    declared[attribute] = own
        return [
            (declaration, callback)
            for attribute, each in declared.items()
            if (callback := getattr(self, attribute)) is not None
            for declaration in each
        ]


def declarations(
    routes: Resource | Iterable[tuple[str, str, Callable[..., Any]]],
) -> list[tuple[Declaration, Callable[..., Any]]]:
    """List the declarations of a resource, or of a list such as ``routes()`` gives.

    Raises:
        EndpointError: If it is neither, or if a method is unknown.
    """
    if isinstance(routes, Resource):
        return routes.declarations()
    try:
        found = [
            (Declaration(method, template, {}), callback)
            for method, template, callback in routes
        ]
    except (TypeError, ValueError):
        raise EndpointError(
            endpoint_name(routes),
            "register takes a Resource or a list of (method, template, callback)",
        ) from None
    for declaration, callback in found:
        if declaration.method != WEBSOCKET:
            raise EndpointError(
                endpoint_name(callback),
                f"the method {declaration.method!r} is unknown; {WEBSOCKET!r} is not",
            )
    return found
