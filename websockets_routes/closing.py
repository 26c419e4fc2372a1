"""Closing a connection in time, whether or not its peer goes along."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from websockets import (
    Close,
    ConnectionClosed,
    ConnectionClosedError,
    ProtocolError,
    State,
)
from websockets.asyncio.server import ServerConnection

from .exceptions import InvalidCloseCode

__all__ = [
    "check_close_code",
    "close_all",
    "close_in_time",
    "close_reason",
    "closed_error",
]

_MAX_REASON = (
    123  # bytes; RFC 6455 section 5.5: a control frame has 125, 2 for the code
)


async def close_in_time(
    ws: ServerConnection, code: int, reason: str = "", *, fail: bool = False
) -> None:
    """Close a connection, and wait until it is closed.

    ``ws.close()`` itself may wait forever for a peer that does not read; here the
    connection is aborted when ``close_timeout`` is over.

    Args:
        ws: The connection.
        code: The close code.
        reason: The close reason.
        fail: Whether to _Fail the WebSocket Connection_ (RFC 6455 section 7.1.7),
            which ignores whatever the peer still sends. ``ws.recv()`` does so, by
            the same undocumented means, for a message that breaks the protocol.
    """
    try:
        async with asyncio.timeout(ws.close_timeout):
            if not fail:
                await ws.close(code, reason)
                return
            async with ws.send_context():
                ws.protocol.fail(code, reason)
    except ConnectionClosed:
        pass
    except TimeoutError:
        ws.transport.abort()
        await ws.wait_closed()


def check_close_code(code: int) -> None:
    """Check that a close frame may have a code.

    Raises:
        InvalidCloseCode: If not: RFC 6455 section 7.4 has 1000 to 1014, but for
            some, and 3000 to 4999 for one's own.
    """
    try:
        Close(code, "").check()
    except ProtocolError as error:
        raise InvalidCloseCode(f"{error}; use 3000 to 4999 for your own") from None


def close_reason(reason: str) -> str:
    """Shorten a text so that it fits into a close frame."""
    text = reason.encode(errors="replace")
    if len(text) <= _MAX_REASON:
        return text.decode()
    return text[: _MAX_REASON - 3].decode(errors="ignore") + "…"


def closed_error(ws: ServerConnection) -> ConnectionClosed:
    """Make the error for what is asked of a connection that is closed or closing."""
    protocol = ws.protocol
    if protocol.state is State.CLOSED:
        return ws.close_exc
    return ConnectionClosedError(
        protocol.close_rcvd, protocol.close_sent, protocol.close_rcvd_then_sent
    )


async def close_all(
    connections: Iterable[ServerConnection], code: int, reason: str
) -> int:
    """Close connections at the same time; return how many of them were open."""
    open_ones = [ws for ws in connections if ws.state is State.OPEN]
    await asyncio.gather(*(close_in_time(ws, code, reason) for ws in open_ones))
    return len(open_ones)
