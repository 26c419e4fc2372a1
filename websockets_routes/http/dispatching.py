"""Dispatching: from a request to its response, through everything in between."""

from __future__ import annotations

import inspect
from http import HTTPStatus
from typing import Any, cast

from websockets import ServerProtocol
from websockets.exceptions import InvalidOrigin
from websockets.typing import LoggerLike

from ..checks import check_host
from ..exceptions import (
    BadRequest,
    BodyTooLarge,
    ClientDisconnected,
    NextRoute,
    RoutesError,
)
from ..handshake import Handshake
from ..inputs import read_inputs
from ..path import RoutedPath
from ..refusal import to_response
from ..reporting import report
from ..route import Route
from ..scope import Scope, any_middleware, call_handler
from ..table import RouteTable
from ..target import Target, parse_target
from .encoding import Encoded, encoded
from .request import Request
from .response import ErrorResponse, Response

__all__ = ["answer", "dispatch"]


async def dispatch(
    handshake: Handshake, request: Request, logger: LoggerLike
) -> Response:
    """Route a request and answer it; whatever is raised on the way is an answer too.

    The order: the path is matched; origins, hooks of the routers from the outermost
    inwards, declared inputs, middleware, the handler. ``NextRoute`` passes on to the
    next best match from any of them.

    Args:
        handshake: The routes, and what the root adds.
        request: The request; its ``path`` is set to the routed one.
        logger: Where errors go that no error handler hears of.
    """
    try:
        check_host(request)
        target = parse_target(request.path)
        table, host = handshake.find_table(request)
        matches = table.requests(
            request.path, target, request.method, request.headers, host
        )
        for path in matches:
            request.path = path
            try:
                return await _answer(request, path, cast(Route, path.route))
            except NextRoute:
                if request.has_begun:
                    raise
        return await _answer_unmatched(handshake, table, request, target)
    except ErrorResponse as response:
        return response
    except (BadRequest, ClientDisconnected) as error:
        return _error_response(error)
    except Exception as error:
        return await _failed(handshake.scope, request, error, logger)


async def answer(router: Any, request: Request, logger: LoggerLike) -> Encoded:
    """Dispatch a request, and turn the response into what goes on the wire."""
    response = await dispatch(router.handshake, request, logger)
    accept = ", ".join(request.headers.get_all("Accept-Encoding")) or None
    head = request.method == "HEAD"
    try:
        prepared = await response.prepare(request.method, request.headers)
        return encoded(prepared, router.serializer, accept, head=head)
    except Exception as error:
        response = await _failed(router.scope, request, error, logger)
    prepared = await response.prepare(request.method, request.headers)
    return encoded(prepared, router.serializer, accept, head=head)


async def _answer(request: Request, path: RoutedPath, route: Route) -> Response:
    _check_length(request, route)
    scopes = route.scopes
    for scope in scopes:
        if scope.origins is not None:
            _check_origin(request, scope)
    for scope in scopes:
        for hook in scope.hooks:
            result = hook(request, path)
            if inspect.isawaitable(result):
                result = await result
            if result is not None:
                return _as_response(result)
    if route.endpoint.inputs:
        path.inputs = read_inputs(
            route.endpoint.inputs, request.headers, path.query_params
        )
    if any_middleware(scopes):
        return Response.of(await call_handler(scopes, route.endpoint, request, path))
    response: Response = await route.endpoint.handle(request, path)
    return response


async def _answer_unmatched(
    handshake: Handshake, table: RouteTable, request: Request, target: Target
) -> Response:
    path = request.path = RoutedPath(request.path, target, context=request.context)
    methods = table.methods(target)
    if methods:
        if "GET" in methods:
            methods.add("HEAD")
        allow = {"Allow": ", ".join(sorted({*methods, "OPTIONS"}))}
        if request.method == "OPTIONS":
            return Response(None, 204, allow)
        if request.method not in methods:
            return Response("this path does not take the method\n", 405, allow)
    elif table.match(request.path, request.headers).route is not None:
        upgrade = {"Upgrade": "websocket", "Connection": "Upgrade"}
        return Response("this path takes WebSocket connections\n", 426, upgrade)
    not_found = handshake.find_not_found(request)
    if not_found is not None:
        # It takes connections as well as requests.
        result: Any = not_found(cast(Any, request), path)
        if inspect.isawaitable(result):
            result = await result
        if result is not None:
            return _as_response(result)
    return Response("no such path\n", 404)


def _as_response(result: Any) -> Response:
    """Make a response of what a hook returned: a tuple is one of 0.2."""
    if isinstance(result, tuple):
        result = to_response(result)
    return Response.of(result)


def _check_length(request: Request, route: Route) -> None:
    limit = request.max_content_length = route.max_content_length
    length = request.content_length
    if limit is not None and length is not None and length > limit:
        raise BodyTooLarge(limit)


def _check_origin(request: Request, scope: Scope) -> None:
    # A browser tells none where it need not: a page that somebody opens has none.
    if "Origin" in request.headers:
        try:
            ServerProtocol(origins=scope.origins).process_origin(request.headers)
        except InvalidOrigin as error:
            raise ErrorResponse(f"{error}\n", 403) from error


async def _failed(
    root: Scope, request: Request, error: Exception, logger: LoggerLike
) -> Response:
    route = request.path.route
    scopes = (root,) if route is None else route.scopes
    heard, result = await report(scopes, error, request, request.path, logger)
    if heard:
        try:
            return _error_response(error) if result is None else _as_response(result)
        except RoutesError as wrong:
            error, heard = wrong, False
    response = _error_response(error)
    whose = f"{request.method} {request.path!r}"
    if response.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        logger.error("answering %s failed", whose, exc_info=error)
    else:
        logger.info("refusing %s: %s", whose, error)
    return response


def _error_response(error: Exception) -> Response:
    status = HTTPStatus.INTERNAL_SERVER_ERROR
    if isinstance(error, RoutesError) and error.status != status:
        return Response(f"{error}\n", error.status)
    return Response("something went wrong here\n", status)
