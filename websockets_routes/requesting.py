"""Requesting: the HTTP methods of a router."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

from .composing import Composing

if TYPE_CHECKING:
    from .http.request import Request

__all__ = ["Requesting"]

E = TypeVar("E", bound=Callable[..., Any])


class Requesting(Composing):
    """A router that answers HTTP requests on the port of its connections.

    Each of these declares a route; see ``route`` for the arguments. The handler is
    ``f(request)``, plain or a coroutine function. It returns a ``Response``, a str,
    bytes, None (204), an async iterator to be streamed, or what is sent as JSON.
    """

    def get(self, template: str, **options: Any) -> Callable[[E], E]:
        """Declare what answers GET, and HEAD unless something else does."""
        return self.route(template, methods=("GET",), **options)

    def post(self, template: str, **options: Any) -> Callable[[E], E]:
        """Declare what answers POST."""
        return self.route(template, methods=("POST",), **options)

    def put(self, template: str, **options: Any) -> Callable[[E], E]:
        """Declare what answers PUT."""
        return self.route(template, methods=("PUT",), **options)

    def patch(self, template: str, **options: Any) -> Callable[[E], E]:
        """Declare what answers PATCH."""
        return self.route(template, methods=("PATCH",), **options)

    def delete(self, template: str, **options: Any) -> Callable[[E], E]:
        """Declare what answers DELETE."""
        return self.route(template, methods=("DELETE",), **options)

    def head(self, template: str, **options: Any) -> Callable[[E], E]:
        """Declare what answers HEAD in place of what answers GET."""
        return self.route(template, methods=("HEAD",), **options)

    def options(self, template: str, **options: Any) -> Callable[[E], E]:
        """Declare what answers OPTIONS in place of the methods that there are."""
        return self.route(template, methods=("OPTIONS",), **options)

    def trace(self, template: str, **options: Any) -> Callable[[E], E]:
        """Declare what answers TRACE."""
        return self.route(template, methods=("TRACE",), **options)

    def connect(self, template: str, **options: Any) -> Callable[[E], E]:
        """Declare what answers CONNECT, asked of a path."""
        return self.route(template, methods=("CONNECT",), **options)

    def any(self, template: str, **options: Any) -> Callable[[E], E]:
        """Declare what answers every method that has no route of its own here."""
        return self.route(template, methods=(), **options)

    @cached_property
    def request_class(self) -> type[Request]:
        """The class of the requests of this router."""
        from .http.request import Request

        return type("Request", (Request,), {"router": self, "__doc__": Request.__doc__})
