"""The handshake: from a request to what serves the connection, or to a refusal.

The steps and their order: the request is checked, its path matched, the hooks of
the server and of the connection class run, an unmatched path is refused, then the
hook of the route runs. Every way in takes them; where the connection is already
open, a refusal becomes a close code.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from itertools import chain
from typing import Any, NamedTuple, cast

from websockets import CloseCode, Request, Response, State
from websockets.asyncio.server import ServerConnection

from .admissions import Admissions
from .answering import failed_early
from .checks import check_host, check_origin, has_room, host_of
from .closing import close_in_time, close_reason
from .endpoint import Handler
from .exceptions import BadRequest, InvalidResponse, NextRoute, RoutesError
from .host import HostTable
from .inputs import read_inputs
from .path import RoutedPath
from .protocol import Protocol
from .refusal import text_response, to_response
from .reporting import report
from .scope import Scope
from .table import RouteTable
from .target import parse_target

__all__ = ["NOT_FOUND", "Handshake", "Hook", "HostRoutes", "NotFound"]

#: The close code for a path that matches nothing, as in release 0.2; from the
#: range for private use (RFC 6455 section 7.4.2).
NOT_FOUND = 4040

#: A ``process_request`` as ``websockets.serve`` takes it, or one of 0.2's results.
Hook = Callable[[ServerConnection, Request], Awaitable[Any] | Any]
#: What answers an unmatched path: ``f(ws, path)``, plain or a coroutine.
NotFound = Callable[[Any, RoutedPath], Awaitable[Any] | Any]


# The close code for who is refused by a hook (RFC 6455 section 7.4.1).
_REFUSED = CloseCode.POLICY_VIOLATION


class HostRoutes(NamedTuple):
    """The routes of a host, and the handshake of its router."""

    table: RouteTable
    handshake: Handshake


class _Accepted(NamedTuple):
    """What a path gets when its connection is let in, and by whom."""

    handshake: Handshake
    handler: Handler


class Handshake:
    """The steps of a handshake for one table of routes.

    Args:
        table: The routes.
        scope: What the router adds, for paths that match none of them.

    Attributes:
        hosts: The routes of hosts that have their own.
        not_found: What answers an unmatched path instead of the plain 404.
        open_timeout: Seconds that the steps may take where the connection is open
            already. In the handshake, ``open_timeout`` of the server counts, which
            ``websockets`` tells nobody else.
        admissions: What became of the handshakes so far.
    """

    def __init__(self, table: RouteTable, scope: Scope) -> None:
        self.table = table
        self.scope = scope
        self.hosts: HostTable[HostRoutes] = HostTable()
        self.not_found: NotFound | None = None
        self.open_timeout: float | None = 10
        self.admissions = Admissions()

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
        if not has_room(connection):
            self.admissions[None, HTTPStatus.SERVICE_UNAVAILABLE] += 1
            return text_response(HTTPStatus.SERVICE_UNAVAILABLE, "too many connections")
        try:
            check_host(request)
            if self.hosts:
                table, host_params = self.find_table(request)
                path = table.match(request.path, request.headers, host_params)
            else:
                path = self.table.match(request.path, request.headers)
            _with_path(connection).path = path
            response, passed_on = None, False
            if hook is not None or _is_special(connection, request, path):
                response, passed_on = await self._run_hooks(
                    connection, request, path, hook
                )
            route = path.route
            if response is not None:
                path.outcome = NOT_FOUND if route is None else _REFUSED
            elif route is None:
                response = await self._answer_unmatched(connection, request, path)
            elif passed_on or route.is_guarded:
                response = await self._admit(connection, request, path, passed_on)
            else:
                handler = route.endpoint.open()
                try:
                    result = handler.process_request(path, request.headers)
                    # Not worth a coroutine where there is no hook.
                    response = None if result is None else await _response(result)
                    path.outcome = (
                        _Accepted(self, handler) if response is None else _REFUSED
                    )
                except NextRoute:
                    response = await self._admit(connection, request, path, True)
        except asyncio.CancelledError:
            if connection.state is State.CONNECTING:
                connection.logger.warning(
                    "handshake of %s cancelled: a hook took longer than open_timeout, "
                    "or the server ends",
                    _whose(connection),
                )
            raise
        except Exception as error:
            response = await self._failed(connection, request, path, error)
        route = _with_path(connection).path.route
        if response is None:
            self.admissions[route, HTTPStatus.SWITCHING_PROTOCOLS] += 1
            return None
        self.admissions[route, response.status_code] += 1
        if request.method == "HEAD":
            response.body = b""
        return response

    def _find_host(self, request: Any) -> tuple[HostRoutes, dict[str, str]] | None:
        """Find the routes of the host that is asked for, and the params of its name."""
        if not self.hosts:
            return None
        return self.hosts.match(host_of(request))

    def find_table(self, request: Any) -> tuple[RouteTable, dict[str, str]]:
        """Find the routes that a request is for, and the params of its host."""
        found = self._find_host(request)
        return (self.table, {}) if found is None else (found[0].table, found[1])

    async def _failed(
        self,
        connection: ServerConnection,
        request: Request,
        path: RoutedPath | None,
        error: Exception,
    ) -> Response:
        """Answer a handshake in which something was raised."""
        matched = path is not None
        path = getattr(connection, "path", None) if matched else None
        if path is None:
            path = _with_path(connection).path = RoutedPath(request.path)
        status, code, text = _means(error)
        path.outcome = code
        response = None
        scopes = (self.scope,) if path.route is None else path.route.scopes
        if isinstance(error, BadRequest):
            # The client's, not ours.
            return text_response(status, text)
        raised = _raised(error)
        if raised is not None:
            return raised
        logger = connection.logger
        heard, result = await report(scopes, error, connection, path, logger)
        if heard:
            try:
                response = _checked(result)
            except InvalidResponse as wrong:
                error, heard = wrong, False
                status, _, text = _means(wrong)
        if not heard:
            whose = _whose(connection)
            if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
                connection.logger.error("handshake of %s failed", whose, exc_info=error)
            else:
                connection.logger.info("handshake of %s refused: %s", whose, error)
        return response or text_response(status, text)

    async def _admit(
        self,
        connection: ServerConnection,
        request: Request,
        path: RoutedPath,
        passed_on: bool = False,
    ) -> Response | None:
        """Ask the hooks of the matching routes, the best first, until one takes it.

        Args:
            connection: The connection.
            request: Its request.
            path: The best match.
            passed_on: Whether that route was asked already.
        """
        target = parse_target(request.path)
        table, host_params = self.find_table(request)
        others = table.matches(request.path, target, request.headers, host_params, path)
        for match in others if passed_on else chain((path,), others):
            route = match.route
            assert route is not None
            _with_path(connection).path = match
            handler = route.endpoint.open()
            try:
                response = await _ask(connection, request, match, handler)
            except NextRoute:
                continue
            match.outcome = _Accepted(self, handler) if response is None else _REFUSED
            return response
        unmatched = RoutedPath(request.path, target, context=path.context)
        _with_path(connection).path = unmatched
        return await self._answer_unmatched(connection, request, unmatched)

    def find_not_found(self, request: Any) -> NotFound | None:
        """Find what answers an unmatched path, on the host that is asked for."""
        found = self._find_host(request)
        if found is not None and found[0].handshake.not_found is not None:
            return found[0].handshake.not_found
        return self.not_found

    async def _answer_unmatched(
        self, connection: ServerConnection, request: Request, path: RoutedPath
    ) -> Response:
        path.outcome = NOT_FOUND
        not_found = self.find_not_found(request)
        if not_found is not None:
            refusal = await _response(not_found(connection, path))
            if refusal is not None:
                return refusal
        return text_response(HTTPStatus.NOT_FOUND, "no such path")

    async def _run_hooks(
        self,
        connection: ServerConnection,
        request: Request,
        path: RoutedPath,
        hook: Hook | None,
    ) -> tuple[Response | None, bool]:
        """Take the steps that few handshakes need: all but those of the route.

        Returns:
            The refusal, if any, and whether to pass on to the next best route.
        """
        refusal: Response | None
        passed_on = False
        if hook is not None:
            try:
                refusal = await _response(hook(connection, request))
                if refusal is not None:
                    return refusal, False
            except NextRoute:
                passed_on = True
        if isinstance(connection, Protocol) and connection.has_hook:
            try:
                result = connection.process_request(path, request.headers)
                refusal = await _response(result)
                if refusal is not None:
                    return refusal, False
            except NextRoute:
                passed_on = True
        if path.route is None:
            return None, False
        if request.method != "GET":
            refusal = text_response(
                HTTPStatus.METHOD_NOT_ALLOWED, "a WebSocket handshake is a GET"
            )
            refusal.headers["Allow"] = "GET"
            return refusal, False
        return check_origin(connection, request), passed_on

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
        try:
            async with asyncio.timeout(self.open_timeout):
                response = await self.process_request(connection, request)
        except TimeoutError:
            path = _with_path(connection).path
            whose = _whose(connection)
            connection.logger.warning(
                "handshake of %s ended: a hook took longer than %g seconds",
                whose,
                self.open_timeout,
            )
            path.outcome = CloseCode.INTERNAL_ERROR
            response = text_response(HTTPStatus.INTERNAL_SERVER_ERROR, "timed out")
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


async def _ask(
    connection: ServerConnection, request: Request, path: RoutedPath, handler: Handler
) -> Response | None:
    """Ask the hooks of one route, from the outermost router to its endpoint."""
    assert path.route is not None
    scopes = path.route.scopes
    for scope in scopes:
        if scope.origins is not None:
            refusal = check_origin(connection, request, scope.origins)
            if refusal is not None:
                return refusal
    for scope in scopes:
        for hook in scope.hooks:
            refusal = await _response(hook(connection, path))
            if refusal is not None:
                return refusal
    route = path.route
    if route.endpoint.inputs:
        path.inputs = read_inputs(
            route.endpoint.inputs, request.headers, path.query_params
        )
    refusal = await _response(handler.process_request(path, request.headers))
    if refusal is None and route.negotiation is not None:
        route.negotiation.apply(connection.protocol)
    return refusal


def _means(error: Exception) -> tuple[HTTPStatus, int, str]:
    """Tell what an error means to a client: status, close code and text."""
    status = HTTPStatus.INTERNAL_SERVER_ERROR
    if isinstance(error, RoutesError) and error.status != status:
        return error.status, error.close_code, str(error)
    return status, CloseCode.INTERNAL_ERROR, "the handshake failed"


def _raised(error: Exception) -> Response | None:
    """Return what was raised as a response, if it is one."""
    return _checked(error) if hasattr(error, "headers_to_send") else None


def _whose(connection: ServerConnection) -> str:
    path = _with_path(connection).path
    return f"path {path!r}" if path.route is None else f"route {path.route}"


async def _response(result: object) -> Response | None:
    if inspect.isawaitable(result):
        result = await result
    return _checked(result)


def _checked(result: Any) -> Response | None:
    """Make a response for websockets of what a hook returned, or raised."""
    if hasattr(result, "headers_to_send"):
        # One for requests: hooks may be shared with them.
        from .http.encoding import for_handshake

        return for_handshake(result)
    return to_response(result)


def _with_path(connection: ServerConnection) -> Protocol:
    # A Protocol declares the attribute; on websockets' own class the name is free.
    return cast(Protocol, connection)
