"""Serving: runs the handler of a connection, and settles how the connection ends."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from websockets import CloseCode, ConnectionClosed, State
from websockets.asyncio.server import ServerConnection

from .answering import failed_early
from .closing import close_in_time, close_reason
from .endpoint import NO_VALUES, Handles, Values
from .exceptions import RoutesError
from .path import RoutedPath
from .protocol import Protocol
from .pubsub import Topic, Topics
from .reporting import report
from .scope import any_middleware, call_handler

__all__ = ["serve_connection"]


async def serve_connection(
    handler: Handles, ws: ServerConnection, topics: Topics
) -> None:
    """Run a handler until it has ended, and the tasks of its connection too.

    Inside the middleware, right before it runs, the connection is subscribed to the
    topics of its route: who is refused by middleware hears nothing.

    A peer that goes away is no failure of the handler, nor is one that breaks a
    rule for which an error of ours has a close code: the connection is closed
    with it.

    Raises:
        Exception: Any other exception of the handler, for ``websockets`` to log.
    """
    if failed_early(ws):
        reason = "no frame behind the request"
        await close_in_time(ws, CloseCode.PROTOCOL_ERROR, reason, fail=True)
        return
    # Set by the handshake, on connections of websockets' own class too.
    path = cast(Protocol, ws).path
    scopes = () if path.route is None else path.route.scopes
    try:
        if path.route is not None and path.route.subscribe:
            names = path.route.topics(path.params)
            handler = _Subscribing(handler, topics, names)
        # Not worth a coroutine where there is none.
        if any_middleware(scopes):
            await call_handler(scopes, handler, ws, path)
        else:
            await handler.handle(ws, path)
    except Exception as error:
        # ConnectionClosed may also be from one of which the handler is a client.
        if isinstance(error, ConnectionClosed) and ws.state is not State.OPEN:
            return
        heard, _ = await report(scopes, error, ws, path, ws.logger)
        code: int = CloseCode.INTERNAL_ERROR
        reason = ""
        if isinstance(error, RoutesError) and error.close_code != code:
            code, reason = error.close_code, close_reason(str(error))
            if not heard:
                where = path.route
                ws.logger.info("closing a connection of route %s: %s", where, error)
        elif not heard:
            raise
        await close_in_time(ws, code, reason)
    finally:
        if isinstance(ws, Protocol) and ws.has_tasks:
            await ws.end_tasks()


class _Subscribing:
    """A handler that hears the topics of its route from the beginning."""

    __slots__ = ("handler", "names", "topics")

    def __init__(
        self, handler: Handles, topics: Topics, names: Sequence[tuple[Topic, str]]
    ) -> None:
        self.handler = handler
        self.topics = topics
        self.names = names

    async def handle(
        self, ws: ServerConnection, path: RoutedPath, values: Values = NO_VALUES
    ) -> None:
        for topic, name in self.names:
            await self.topics.subscribe(ws, name, declared=topic)
        await self.handler.handle(ws, path, values)
