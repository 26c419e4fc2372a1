"""The handshake: from a request to what serves the connection, or to a refusal.

The steps and their order: the request is checked, its path matched, the hooks of
the server and of the connection class run, an unmatched path is refused, then the
hook of the route runs. Every way in takes them; where the connection is already
open, a refusal becomes a close code.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Any, NamedTuple, cast

from websockets import (
    CloseCode,
    InvalidHandshake,
    InvalidOrigin,
    Request,
    Response,
    State,
)
from websockets.asyncio.server import ServerConnection

from .answering import failed_early
from .closing import close_in_time, close_reason
from .endpoint import Handler
from .exceptions import BadRequest
from .limits import ConnectionLimits
from .path import RoutedPath
from .protocol import Protocol
from .refusal import text_response, to_response
from .table import RouteTable

__all__ = ["NOT_FOUND", "Handshake", "Hook", "NotFound"]

#: The close code for a path that matches nothing, as in release 0.2; from the
#: range for private use (RFC 6455 section 7.4.2).
NOT_FOUND = 4040

#: A ``process_request`` as ``websockets.serve`` takes it, or one of 0.2's results.
Hook = Callable[[ServerConnection, Request], Awaitable[Any] | Any]
#: What answers an unmatched path: ``f(ws, path)``, plain or a coroutine.
NotFound = Callable[[Any, RoutedPath], Awaitable[Any] | Any]


class _Accepted(NamedTuple):
    """What a path gets when its connection is let in, and by whom."""

    handshake: Handshake
    handler: Handler


class Handshake:
    """The steps of a handshake for one table of routes.

    Args:
        table: The routes.

    Attributes:
        not_found: What answers an unmatched path instead of the plain 404.
    """

    def __init__(self, table: RouteTable) -> None:
        self.table = table
        self.not_found: NotFound | None = None

    async def process_request(
        self, connection: ServerConnection, request: Request, hook: Hook | None = None
    ) -> Response | None:
        """Take all the steps, as a ``process_request`` for ``websockets``.

        ``connection.path`` is set from then on, and its ``outcome``: what serves the
        connection, or the code to close it with if it is open already.

        Returns:
            None if the connection is let in, or the response that refuses it.
        """
        path: RoutedPath | None = None
        if connection.protocol.eof_sent:
            failed_early(connection)
        if not _has_room(connection):
            return text_response(HTTPStatus.SERVICE_UNAVAILABLE, "too many connections")
        try:
            _check_host(request)
            path = self.table.match(request.path, request.headers)
            _with_path(connection).path = path
            response = None
            if hook is not None or _is_special(connection, request, path):
                response = await self._run_hooks(connection, request, path, hook)
            if response is None and path.route is not None:
                handler = path.route.endpoint.open()
                result = handler.process_request(path, request.headers)
                # Not worth a coroutine where there is no hook.
                response = None if result is None else await _response(result)
                path.outcome = _Accepted(self, handler)
            if response is not None:
                path.outcome = CloseCode.POLICY_VIOLATION if path.route else NOT_FOUND
        except BadRequest as error:
            path = _with_path(connection).path = path or RoutedPath(request.path)
            path.outcome = error.close_code
            response = text_response(error.status, str(error))
        except Exception:
            path = _with_path(connection).path = path or RoutedPath(request.path)
            path.outcome = CloseCode.INTERNAL_ERROR
            response = text_response(
                HTTPStatus.INTERNAL_SERVER_ERROR, "the handshake failed"
            )
            whose = f"path {path!r}" if path.route is None else f"route {path.route}"
            connection.logger.error("handshake of %s failed", whose, exc_info=True)
        if response is not None and request.method == "HEAD":
            response.body = b""
        return response

    async def _run_hooks(
        self,
        connection: ServerConnection,
        request: Request,
        path: RoutedPath,
        hook: Hook | None,
    ) -> Response | None:
        """Take the steps that few handshakes need: all but that of the route."""
        refusal: Response | None
        if hook is not None:
            refusal = await _response(hook(connection, request))
            if refusal is not None:
                return refusal
        if isinstance(connection, Protocol) and connection.has_hook:
            refusal = await _response(connection.process_request(path, request.headers))
            if refusal is not None:
                return refusal
        if path.route is None:
            if self.not_found is not None:
                refusal = await _response(self.not_found(connection, path))
                if refusal is not None:
                    return refusal
            return text_response(HTTPStatus.NOT_FOUND, "no such path")
        if request.method != "GET":
            refusal = text_response(
                HTTPStatus.METHOD_NOT_ALLOWED, "a WebSocket handshake is a GET"
            )
            refusal.headers["Allow"] = "GET"
            return refusal
        return _check_origin(connection, request)

    def accepted(self, connection: ServerConnection, raw: str | None) -> Handler | None:
        """Return what serves a connection, if this handshake has let it in.

        Args:
            connection: The connection.
            raw: The path to route by if not the one requested, or None.
        """
        path = getattr(connection, "path", None)
        if isinstance(path, RoutedPath) and (raw is None or raw == path):
            outcome = path.outcome
            if isinstance(outcome, _Accepted) and outcome.handshake is self:
                return outcome.handler
        return None

    async def admit_open(
        self, connection: ServerConnection, raw: str | None
    ) -> Handler | None:
        """Take all the steps for a connection that is open already.

        Args:
            connection: The connection.
            raw: The path to route by if not the one requested, or None.

        Returns:
            What serves the connection; None if it was refused, and so closed:
            with 4040 if nothing matches, 1011 if a hook failed, 1008 otherwise.
        """
        request = connection.request
        assert request is not None, "the connection is open"
        if raw is not None:
            request = Request(str(raw), request.headers)
        response = await self.process_request(connection, request)
        if response is not None:
            code = _with_path(connection).path.outcome
            await close_in_time(connection, code, close_reason(response.reason_phrase))
            return None
        return self.accepted(connection, None)


def _is_special(
    connection: ServerConnection, request: Request, path: RoutedPath
) -> bool:
    """Tell whether a handshake needs more steps than that of its route."""
    return (
        path.route is None
        or request.method != "GET"
        or connection.protocol.origins is not None
        or (isinstance(connection, Protocol) and connection.has_hook)
    )


def _has_room(connection: ServerConnection) -> bool:
    limits: ConnectionLimits | None = getattr(connection.server, "limits", None)
    return (
        limits is None
        # One that is open already was let in before.
        or connection.state is not State.CONNECTING
        or limits.admit(connection)
    )


def _check_host(request: Request) -> None:
    # RFC 9112 section 3.2; websockets does not look at the Host header.
    hosts = len(request.headers.get_all("Host"))
    if hosts > 1 or (hosts == 0 and request.protocol != "HTTP/1.0"):
        raise BadRequest("the request must have one Host header")


def _check_origin(connection: ServerConnection, request: Request) -> Response | None:
    """Check the origin as ``websockets`` will, but before the hooks of routes run."""
    try:
        connection.protocol.process_origin(request.headers)
    except InvalidOrigin as error:
        return text_response(HTTPStatus.FORBIDDEN, str(error))
    except InvalidHandshake as error:
        return text_response(HTTPStatus.BAD_REQUEST, str(error))
    return None


async def _response(result: object) -> Response | None:
    if inspect.isawaitable(result):
        result = await result
    return to_response(result)


def _with_path(connection: ServerConnection) -> Protocol:
    # A Protocol declares the attribute; on websockets' own class the name is free.
    return cast(Protocol, connection)
