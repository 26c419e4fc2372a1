"""Lifespan: what lasts as long as a server does.

The server is that of ``websockets.serve``, with a subclass of its class set on it:
``websockets`` has no argument for a Server class. ``tests/test_undocumented.py``
watches that this works.
"""

from __future__ import annotations

import asyncio
from typing import Any

from websockets.asyncio.server import Server

from .tasks import Tasks

__all__ = ["RoutedServer", "with_lifespan"]


class RoutedServer(Server):
    """A ``websockets`` Server that ends its tasks after its last handler returned."""

    tasks: Tasks
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
        if self._ending is not None:
            await asyncio.shield(self._ending)


def with_lifespan(server: Server) -> RoutedServer:
    """Turn a server that ``websockets.serve`` made, not yet started, into ours."""

    def failed(error: BaseException) -> None:
        server.logger.error("task of the server failed", exc_info=error)

    server.__class__ = RoutedServer
    assert isinstance(server, RoutedServer)
    server.tasks = Tasks("the server", failed)
    return server
