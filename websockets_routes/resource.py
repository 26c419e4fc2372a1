"""Resources: related routes in one class, with one instance for all connections."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

from .exceptions import EndpointError
from .naming import endpoint_name

__all__ = [
    "WEBSOCKET",
    "Declaration",
    "Resource",
    "declarations",
    "delete",
    "get",
    "patch",
    "post",
    "put",
    "websocket",
]

F = TypeVar("F", bound=Callable[..., Any])

#: The method, in lists of routes, of those that are for WebSocket connections.
WEBSOCKET = "WEBSOCKET"

_METHODS = (WEBSOCKET, "GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS")

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
    return _declare(WEBSOCKET, template, options)


def get(template: str, **options: Any) -> Callable[[F], F]:
    """Declare that a method answers GET requests: ``f(self, request)``.

    Args:
        template: The URL template.
        **options: See ``Router.route``.
    """
    return _declare("GET", template, options)


def post(template: str, **options: Any) -> Callable[[F], F]:
    """Declare that a method answers POST requests; see ``get``."""
    return _declare("POST", template, options)


def put(template: str, **options: Any) -> Callable[[F], F]:
    """Declare that a method answers PUT requests; see ``get``."""
    return _declare("PUT", template, options)


def patch(template: str, **options: Any) -> Callable[[F], F]:
    """Declare that a method answers PATCH requests; see ``get``."""
    return _declare("PATCH", template, options)


def delete(template: str, **options: Any) -> Callable[[F], F]:
    """Declare that a method answers DELETE requests; see ``get``."""
    return _declare("DELETE", template, options)


def _declare(method: str, template: str, options: dict[str, Any]) -> Callable[[F], F]:
    def declare(function: F) -> F:
        declared: tuple[Declaration, ...] = vars(function).get(_DECLARED, ())
        # Decorators run from the bottom up; the list reads from the top down.
        declaration = Declaration(method, template, options)
        setattr(function, _DECLARED, (declaration, *declared))
        return function

    return declare


class Resource:
    """A group of routes; decorate methods with ``@websocket``, ``@get``, ``@post``….

    Any class may do so; this one lists its routes besides.

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

    def declarations(self: Any) -> list[tuple[Declaration, Callable[..., Any]]]:
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


def declarations(routes: Any) -> list[tuple[Declaration, Callable[..., Any]]]:
    """List the declarations of a resource, or of a list such as ``routes()`` gives.

    Args:
        routes: An instance whose methods are decorated, or a class that is made
            without arguments; or a list of ``(method, template, callback)``.

    Raises:
        EndpointError: If it is neither, or if a method is unknown.
    """
    if inspect.isclass(routes):
        try:
            inspect.signature(routes).bind()
        except TypeError:
            problem = "the class is made without arguments; register an instance"
            raise EndpointError(endpoint_name(routes), problem) from None
        routes = routes()
    if isinstance(routes, Resource):
        return routes.declarations()
    if type(routes) not in (list, tuple):
        found = Resource.declarations(routes)
        if found:
            return found
    try:
        found = [
            (Declaration(method, template, {}), callback)
            for method, template, callback in routes
        ]
    except (TypeError, ValueError):
        raise EndpointError(
            endpoint_name(routes),
            "register takes an object with decorated methods, or a list of "
            "(method, template, callback)",
        ) from None
    for declaration, callback in found:
        if declaration.method not in _METHODS:
            known = ", ".join(_METHODS)
            raise EndpointError(
                endpoint_name(callback),
                f"the method {declaration.method!r} is unknown; {known} are not",
            )
    return found
