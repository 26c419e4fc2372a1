"""Serving: runs the handler of a connection, and settles how the connection ends."""

from __future__ import annotations

from typing import cast

from websockets import CloseCode, ConnectionClosed, State
from websockets.asyncio.server import ServerConnection

from .answering import failed_early
from .closing import close_in_time, close_reason
from .endpoint import Handler
from .exceptions import RoutesError
from .protocol import Protocol
from .pubsub import Topics

__all__ = ["serve_connection"]


async def serve_connection(
    handler: Handler, ws: ServerConnection, topics: Topics
) -> None:
    """Run a handler until it has ended, and the tasks of its connection too.

    Before it runs, the connection is subscribed to the topics of its route.

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
    try:
        if path.route is not None and path.route.subscribe:
            for topic, name in path.route.topics(path.params):
                await topics.subscribe(ws, name, declared=topic)
        await handler.handle(ws, path)
    except ConnectionClosed:
        # It may also be from a connection of which the handler is a client.
        if ws.state is State.OPEN:
            raise
    except RoutesError as error:
        if error.close_code == CloseCode.INTERNAL_ERROR:
            raise
        ws.logger.info("closing a connection of route %s: %s", path.route, error)
        await close_in_time(ws, error.close_code, close_reason(str(error)))
    finally:
        if isinstance(ws, Protocol) and ws.has_tasks:
            await ws.end_tasks()
