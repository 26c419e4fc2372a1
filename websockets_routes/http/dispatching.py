"""Dispatching: from a request to its response, through everything in between."""

from __future__ import annotations

import asyncio
import inspect
from http import HTTPStatus
from typing import Any, cast

from websockets import ServerProtocol
from websockets.exceptions import InvalidHandshake, InvalidOrigin
from websockets.typing import LoggerLike

from ..checks import check_host
from ..exceptions import (
    BadRequest,
    BodyTooLarge,
    ClientDisconnected,
    NextRoute,
    NoSuchFile,
    RoutesError,
    UnsafePath,
)
from ..handshake import Handshake
from ..inputs import read_inputs
from ..path import RoutedPath
from ..refusal import to_response
from ..reporting import report
from ..route import Route
from ..scope import Scope, any_middleware, call_handler
from ..serializer import Serializer
from ..target import Target, parse_target
from .encoding import Encoded, encoded
from .request import Request
from .response import ErrorResponse, Response

__all__ = ["answer", "dispatch", "report_failure"]


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
        if request.method == "OPTIONS" and request.path == "*":
            return Response(None, 204)  # RFC 9110 section 9.3.7: the server is there
        target = request.target or parse_target(request.path)
        table, host = handshake.find_table(request)
        matches = table.requests(
            request.path, target, request.method, request.headers, host
        )
        passed_on = False
        for path in matches:
            request.path = path
            try:
                return await _answer(request, path, cast(Route, path.route))
            except NextRoute:
                passed_on = True
        return await _answer_unmatched(handshake, request, target, passed_on)
    except ErrorResponse as response:
        return response
    except (BadRequest, ClientDisconnected) as error:
        return _error_response(error)
    except asyncio.CancelledError as error:
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
        # It is that of another task, which the handler awaited.
        problem = RuntimeError("what the handler awaited was cancelled")
        problem.__cause__ = error
        return await _failed(handshake.scope, request, problem, logger)
    except Exception as error:
        return await _failed(handshake.scope, request, error, logger)


async def answer(router: Any, request: Request, logger: LoggerLike) -> Encoded:
    """Dispatch a request, and turn the response into what goes on the wire."""
    response = await dispatch(router.handshake, request, logger)
    try:
        return await _encode(response, request, router.serializer)
    except Exception as error:
        response = await _failed(router.scope, request, error, logger)
    try:
        return await _encode(response, request, router.serializer)
    except Exception as error:
        # What an error handler has made of it.
        logger.error("answering %r failed", request, exc_info=error)
        response = _error_response(error)
    return await _encode(response, request, router.serializer)


async def _encode(
    response: Response, request: Request, serializer: Serializer
) -> Encoded:
    accept = ", ".join(request.headers.get_all("Accept-Encoding")) or None
    prepared = await response.prepare(request.method, request.headers)
    try:
        return encoded(prepared, serializer, accept, head=request.method == "HEAD")
    except BaseException:
        close = getattr(prepared.payload, "aclose", None)
        if close is not None:
            await close()
        raise


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
                return _checked(result)
    if route.endpoint.inputs:
        path.inputs = read_inputs(
            route.endpoint.inputs, request.headers, path.query_params
        )
    if any_middleware(scopes):
        return Response.of(await call_handler(scopes, route.endpoint, request, path))
    response: Response = await route.endpoint.handle(request, path)
    return response


async def _answer_unmatched(
    handshake: Handshake, request: Request, target: Target, passed_on: bool
) -> Response:
    path = request.path = RoutedPath(request.path, target, context=request.context)
    table, host = handshake.find_table(request)
    # Where all have passed on, nothing matches.
    methods = set() if passed_on else table.methods(target)
    if methods:
        if "GET" in methods:
            methods.add("HEAD")
        allow = {"Allow": ", ".join(sorted({*methods, "OPTIONS"}))}
        if request.method == "OPTIONS":
            return Response(None, 204, allow)
        if request.method not in methods:
            return Response("this path does not take the method\n", 405, allow)
    elif (
        not passed_on
        and table.match(request.path, request.headers, host).route is not None
    ):
        upgrade = {"Upgrade": "websocket", "Connection": "Upgrade"}
        return Response("this path takes WebSocket connections\n", 426, upgrade)
    not_found = handshake.find_not_found(request)
    if not_found is not None:
        # It takes connections as well as requests.
        result: Any = not_found(cast(Any, request), path)
        if inspect.isawaitable(result):
            result = await result
        if result is not None:
            return _checked(result)
    return Response("no such path\n", 404)


def _checked(result: Any) -> Response:
    """Make a response of what a hook returned; what is none may mean anything."""
    return result if isinstance(result, Response) else Response.of(to_response(result))


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
        except InvalidHandshake as error:
            raise ErrorResponse(f"{error}\n", 400) from error


async def report_failure(
    root: Scope, request: Request, error: BaseException, logger: LoggerLike
) -> None:
    """Tell error handlers of a response that failed once it had begun.

    What they return comes too late; the connection was aborted.
    """
    route = request.path.route
    scopes = (root,) if route is None else route.scopes
    heard, _ = await report(scopes, error, request, request.path, logger)
    if not heard:
        logger.error("response to %r failed", request, exc_info=error)


async def _failed(
    root: Scope, request: Request, error: Exception, logger: LoggerLike
) -> Response:
    route = request.path.route
    scopes = (root,) if route is None else route.scopes
    heard, result = await report(scopes, error, request, request.path, logger)
    if heard:
        try:
            if result is not None:
                refused = isinstance(result, tuple)
                return _checked(result) if refused else Response.of(result)
            return _error_response(error)
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
    if isinstance(error, NoSuchFile | UnsafePath):
        # Where files are is nobody's business.
        return Response("no such path\n", error.status)
    if isinstance(error, RoutesError) and error.status != status:
        return Response(f"{error}\n", error.status)
    return Response("something went wrong here\n", status)
