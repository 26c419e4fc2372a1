"""Requesting: the HTTP methods of a router."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from .composing import Composing
from .declaring import check_prefix
from .exceptions import EndpointError
from .extensions import Extensions
from .protocol import Protocol
from .template import Template

if TYPE_CHECKING:
    from .http.front import Front
    from .http.request import Request

__all__ = ["Requesting"]

E = TypeVar("E", bound=Callable[..., Any])


class Requesting(Composing):
    """A router that answers HTTP requests on the port of its connections.

    Each of these declares a route; see ``route`` for the arguments. The handler is
    ``f(request)``, plain or a coroutine function. It returns a ``Response``, a str,
    bytes, None (204), an async iterator to be streamed, or what is sent as JSON.
    """

    _extensions: Extensions
    _request_class: type[Request] | None = None
    _front: type[Front] | None = None

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

    def static(
        self,
        prefix: str,
        directory: str | os.PathLike[str],
        *,
        name: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """Answer GET with the files below a directory, and with nothing else.

        Args:
            prefix: What stands before the names of files, such as ``/assets``.
            directory: Where they are.
            name: The name for ``url_for``, with the param ``filename``.
            headers: What to add to each response, such as ``Cache-Control``.

        Raises:
            NotADirectoryError: If there is no such directory.
            TemplateError: If the prefix cannot work.
        """
        from .http.static import StaticFiles

        prefix = check_prefix(prefix)
        files = StaticFiles(directory, headers)
        self.add_route(f"{prefix}/*filename", files, name=name, methods=("GET",))

    def publish_endpoint(
        self, template: str = "/publish/*topic", *, token: str, **options: Any
    ) -> None:
        """Publish what is posted, for whoever knows a token.

        The body is the message: text if its type says so, binary otherwise. The
        answer is the ``Receipt`` as JSON, once the broker has the message if there is
        one; what it counts is None then until the message came back. If the broker is
        not there the answer is a 503: post it again, with the same header
        ``Idempotency-Key``, and it is published once. The token is asked for in the
        header ``Authorization: Bearer …``, and compared in constant time.

        Args:
            template: The URL template, with a param ``topic``.
            token: The token; it should be long, and random.
            **options: See ``route``.

        Raises:
            EndpointError: If the token is empty, or if the template has no ``topic``.
        """
        from .http.publishing import PublishEndpoint

        if "topic" not in Template(template).parameters:
            problem = f"the template {template!r} needs a param 'topic'"
            raise EndpointError("publish_endpoint", problem)
        endpoint = PublishEndpoint(self, token)
        self.add_route(template, endpoint, methods=("POST",), **options)

    def stand_before(self, ws: Protocol, transport: asyncio.Transport) -> None:
        """Wait for a request before a connection begins; for this package."""
        front = self._front
        if front is None:
            from .http.front import Front

            # An import statement costs as much as the rest of it.
            front = self._front = Front
        front(ws, transport)

    @property
    def request_class(self) -> type[Request]:
        """The class of the requests of this router."""
        if self._request_class is None:
            from .http.request import Request
            from .http.response import Response

            self._extensions.end()
            response = type("Response", (Response,), dict(self._extensions.response))
            attributes = {
                "__doc__": Request.__doc__,
                "router": self,
                "response": response,
                **self._extensions.request,
            }
            self._request_class = type("Request", (Request,), attributes)
        return self._request_class
