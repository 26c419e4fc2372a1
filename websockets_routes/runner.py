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

# The part of the budget that is for closing in peace. The rest is for handlers to end
# after their connections were aborted.
_IN_PEACE = 0.9
# What they get, in seconds, where there is no limit.
_LAST_WORDS = 1.0


class Runner:
    """One run of one server.

    Args:
        create_connection: Makes the connections; ``self.create_connection`` has
            to be given to the server in its place.
        close_timeout: What a graceful end may take, in seconds, or None.
        code: The close code of what is still open then.
        drain: Seconds that the end may take in all, in which connections are closed
            one by one; None to close all at once.
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
        self._drain = drain
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
            Exception: What the lifespan raised while it served, or at its end.
        """
        with _signals(self.stop):
            await server
            server.closing = self._stopping.set
            try:
                started()
                await self._stopping.wait()
            finally:
                await self._close(server)
        if server.lifetime.failure is not None:
            raise server.lifetime.failure

    async def _close(self, server: RoutedServer) -> None:
        budget = self._close_timeout if self._drain is None else self._drain
        in_peace, last_words = None, _LAST_WORDS
        spread_until = 0.0
        if budget is not None:
            in_peace = budget * _IN_PEACE
            last_words = budget - in_peace
        if self._drain is not None:
            # Its last seconds are for those that do not answer.
            last = min(self._close_timeout or self._drain, self._drain / 2)
            spread_until = server.get_loop().time() + self._drain - last
        closed = asyncio.create_task(self._close_in_peace(server, spread_until))
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
                for request in tuple(server.requests):
                    request.abort()
                server.close(code=self._code)
                await asyncio.wait({closed}, timeout=last_words)
        finally:
            aborting.cancel()
            closed.cancel()

    async def _close_in_peace(self, server: RoutedServer, spread_until: float) -> None:
        await server.stop_listening()
        spread = spread_until - server.get_loop().time()
        if spread > 0:
            await self._close_one_by_one(server, spread)
        server.close(code=self._code)
        await server.wait_closed()

    async def _close_one_by_one(self, server: RoutedServer, spread: float) -> None:
        connections = list(server.connections)
        closing = set()
        for connection in connections:
            closing.add(asyncio.create_task(close_in_time(connection, self._code)))
            try:
                timeout = spread / len(connections)
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
