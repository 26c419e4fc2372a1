"""Lifespan: what lasts as long as a server does.

The server is that of ``websockets.serve``, with a subclass of its class set on it:
``websockets`` has no argument for a Server class. ``tests/test_undocumented.py``
watches that this works.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from websockets.asyncio.server import Server, ServerConnection

from .exceptions import NotServing
from .limits import ConnectionLimits
from .tasks import Tasks

__all__ = ["RoutedServer", "Servers"]

T = TypeVar("T")


class RoutedServer(Server):
    """A ``websockets`` Server that ends its tasks after its last handler returned."""

    tasks: Tasks
    limits: ConnectionLimits
    _ending: asyncio.Task[None] | None = None

    def close(self, *args: Any, **kwargs: Any) -> None:
        super().close(*args, **kwargs)
        if self._ending is None:
            self._ending = self.get_loop().create_task(self._end())

    async def _end(self) -> None:
        await super().wait_closed()
        await self.tasks.end()

    async def wait_closed(self) -> None:
        await super().wait_closed()
        assert self._ending is not None, "close() was called"
        await asyncio.shield(self._ending)


class Servers:
    """The servers of one router."""

    def __init__(self) -> None:
        self._servers: list[RoutedServer] = []

    def add(self, server: Server, limits: ConnectionLimits) -> RoutedServer:
        """Turn a server of ``websockets.serve``, not yet started, into one of ours."""

        def failed(error: BaseException) -> None:
            server.logger.error("task of the server failed", exc_info=error)

        server.__class__ = RoutedServer
        assert isinstance(server, RoutedServer)
        server.tasks = Tasks("the server", failed)
        server.limits = limits
        self._servers = [each for each in self._servers if each.close_task is None]
        self._servers.append(server)
        return server

    def connections(self) -> list[ServerConnection]:
        """List the open connections."""
        return [ws for server in self._servers for ws in server.connections]

    def start_task(self, coroutine: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Start a task that ends with a server.

        Raises:
            NotServing: If none of the servers runs; the coroutine is closed.
        """
        for server in self._servers:
            # It has no ``server`` before it listens.
            if hasattr(server, "server") and server.is_serving():
                return server.tasks.start(coroutine)
        coroutine.close()
        raise NotServing("no server of this router runs")
