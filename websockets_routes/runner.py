"""Runner: serves until a signal, then closes gracefully and in time.

``Server.close()`` waits for as long as a peer does not read: a paused write is
bound by no timeout in ``websockets`` 17. The runner aborts such connections when
their time is over.
"""

from __future__ import annotations

import asyncio
import signal
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from websockets import CloseCode
from websockets.asyncio.server import ServerConnection

from .closing import close_in_time
from .servers import RoutedServer

__all__ = ["Runner"]

# The part of close_timeout that is for closing in peace. The rest is for handlers
# to end after their connections were aborted.
_IN_PEACE = 0.9
# What they get, in seconds, where close_timeout is None.
_LAST_WORDS = 1.0


class Runner:
    """One run of one server.

    Args:
        create_connection: Makes the connections; ``self.create_connection`` has
            to be given to the server in its place.
        close_timeout: What a graceful end may take, in seconds, or None.
        code: The close code of what is still open then.
        drain: Seconds in which connections are closed one by one, ``close_timeout``
            included; None to close all at once.
    """

    def __init__(
        self,
        create_connection: Callable[..., ServerConnection],
        close_timeout: float | None,
        code: int = CloseCode.GOING_AWAY,
        drain: float | None = None,
    ) -> None:
        self._create_connection = create_connection
        self._connections: weakref.WeakSet[ServerConnection] = weakref.WeakSet()
        self._close_timeout = close_timeout
        self._code = code
        self._spread = max(0.0, (drain or 0.0) - (close_timeout or 0.0))
        self._stopping = asyncio.Event()
        self._aborting = asyncio.Event()

    def create_connection(self, *args: Any, **kwargs: Any) -> ServerConnection:
        connection = self._create_connection(*args, **kwargs)
        self._connections.add(connection)
        return connection

    def stop(self) -> None:
        """End gracefully; called again, end at once."""
        if self._stopping.is_set():
            self._aborting.set()
        self._stopping.set()

    async def run(self, server: RoutedServer, started: Callable[[], None]) -> None:
        """Serve until SIGINT, SIGTERM, ``stop`` or a cancellation.

        Args:
            server: The server, as ``serve`` returns it.
            started: Called once it listens.

        Raises:
            OSError: If it cannot listen.
        """
        with _signals(self.stop):
            await server
            try:
                started()
                await self._stopping.wait()
            finally:
                await self._close(server)

    async def _close(self, server: RoutedServer) -> None:
        in_peace, last_words = None, _LAST_WORDS
        if self._close_timeout is not None:
            in_peace = self._close_timeout * _IN_PEACE
            last_words = self._close_timeout - in_peace
            in_peace += self._spread
        closed = asyncio.create_task(self._close_in_peace(server))
        aborting = asyncio.create_task(self._aborting.wait())
        try:
            await asyncio.wait(
                {closed, aborting},
                timeout=in_peace,
                return_when=asyncio.FIRST_COMPLETED,
            )
            if not closed.done():
                server.logger.warning("closing takes too long; aborting what is left")
                for connection in list(self._connections):
                    # There is none before a TLS handshake is over.
                    if hasattr(connection, "transport"):
                        connection.transport.abort()
                server.close(code=self._code)
                await asyncio.wait({closed}, timeout=last_words)
        finally:
            aborting.cancel()
            closed.cancel()

    async def _close_in_peace(self, server: RoutedServer) -> None:
        await server.stop_listening()
        if self._spread:
            await self._close_one_by_one(server)
        server.close(code=self._code)
        await server.wait_closed()

    async def _close_one_by_one(self, server: RoutedServer) -> None:
        connections = list(server.connections)
        closing = set()
        for connection in connections:
            closing.add(asyncio.create_task(close_in_time(connection, self._code)))
            try:
                timeout = self._spread / len(connections)
                await asyncio.wait_for(self._aborting.wait(), timeout)
            except TimeoutError:
                continue
            break
        for task in closing:
            # Those that are left are aborted, or closed with the server.
            if self._aborting.is_set():
                task.cancel()
        if closing:
            await asyncio.wait(closing)


@contextmanager
def _signals(stop: Callable[[], None]) -> Iterator[None]:
    """Call ``stop`` on SIGINT and SIGTERM, where signals can be had at all."""
    loop = asyncio.get_running_loop()
    handled = []
    for number in (signal.SIGINT, signal.SIGTERM):
        try:
            loop.add_signal_handler(number, stop)
        except (NotImplementedError, RuntimeError, ValueError):
            # Windows, or not the main thread: whoever runs us cancels us.
            continue
        handled.append(number)
    try:
        yield
    finally:
        for number in handled:
            loop.remove_signal_handler(number)
