"""The front of a server that answers requests: it waits for the first head.

An upgrade goes to ``websockets``, with all its bytes, before ``websockets`` is told
that there is a connection; anything else to an ``HTTPConnection``.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from .connection import HTTPConnection, hand_over
from .head import MAX_HEAD, asks_for_upgrade

if TYPE_CHECKING:
    from ..protocol import Protocol
    from ..servers import RoutedServer

__all__ = ["Front"]


class Front(asyncio.Protocol):
    """Stands before a connection until its first request tells what it is.

    Nearly all of them ask for an upgrade at once: it does as little as it can.

    Args:
        ws: The connection that the server made, which nobody has told so yet.
        transport: Its transport.
    """

    __slots__ = ("_buffer", "_server", "_timer", "_transport", "_ws")

    def __init__(self, ws: Protocol, transport: asyncio.Transport) -> None:
        self._ws = ws
        self._transport = transport
        self._buffer = b""
        self._server: RoutedServer = ws.server  # type: ignore[assignment]
        self._timer: asyncio.TimerHandle | None = None
        timeout = self._server.http.header
        if timeout is not None:
            self._timer = ws.loop.call_later(timeout, self._end)
        self._server.requests.add(self)
        transport.set_protocol(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._leave()

    def data_received(self, data: bytes) -> None:
        if self._buffer:
            data = self._buffer + data
        end = data.find(b"\r\n\r\n", 0, MAX_HEAD)
        if end < 0 and len(data) < MAX_HEAD and b"\n\n" not in data:
            self._buffer = data
            return
        self._leave()
        # One whose head is longer is the business of websockets as well.
        if asks_for_upgrade(data, len(data) if end < 0 else end):
            hand_over(self._ws, self._transport, data)
        else:
            self._begin().data_received(data)

    def _leave(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._server.requests.discard(self)

    def _begin(self) -> HTTPConnection:
        connection = HTTPConnection(self._ws)
        connection.stand_before(self._transport)
        return connection

    def _end(self) -> None:
        self._leave()
        self._begin().end_slow(self._buffer)

    # What the server asks for when it closes

    @property
    def task(self) -> None:
        """Nothing is being answered."""
        return None

    def shutdown(self) -> None:
        """End the connection."""
        self._transport.close()

    def abort(self) -> None:
        """End the connection at once."""
        self._transport.abort()
