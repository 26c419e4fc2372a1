"""Servers: those of ``websockets.serve``, with a beginning and an end of our own.

The server is that of ``websockets.serve``, with a subclass of its class set on it:
``websockets`` has no argument for a Server class. ``tests/test_undocumented.py``
watches that this works.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from websockets import CloseCode
from websockets.asyncio.server import Server, ServerConnection

from .exceptions import NotServing
from .lifespan import Lifetime
from .limits import ConnectionLimits
from .proxying import Arrival, Proxies
from .pubsub import Topics
from .tasks import Tasks

if TYPE_CHECKING:
    from .http.connection import HTTPConnection
    from .http.front import Front

__all__ = ["HTTPTimeouts", "OpenRequests", "RoutedServer", "Servers"]

T = TypeVar("T")

# What error handlers get, in seconds, when everything else has ended.
_LAST_REPORTS = 5.0


class HTTPTimeouts(NamedTuple):
    """Seconds that a client may take, or None for any number.

    Attributes:
        header: For the head of a request.
        body: For each 64 KiB of its body.
        idle: Between one request and the next.
    """

    header: float | None = 10.0
    body: float | None = 30.0
    idle: float | None = 75.0


class OpenRequests(set["HTTPConnection | Front"]):
    """Connections that have asked for no upgrade."""

    _emptied: asyncio.Event | None = None

    def discard(self, connection: object) -> None:
        super().discard(connection)
        if self._emptied is not None and not self:
            self._emptied.set()

    async def wait_empty(self) -> None:
        """Wait until there is none."""
        if self:
            self._emptied = asyncio.Event()
            await self._emptied.wait()


class RoutedServer(Server):
    """A ``websockets`` Server that ends its tasks after its last handler returned."""

    tasks: Tasks
    limits: ConnectionLimits
    lifetime: Lifetime
    find_topics: Callable[[], Topics]
    topics: Topics
    # Reports of errors that are on their way to error handlers.
    reports: set[asyncio.Task[Any]]
    # Connections that have asked for no upgrade, and what they may take.
    requests: OpenRequests
    http: HTTPTimeouts
    proxies: Proxies | None
    # Connections whose PROXY header is not there yet.
    arriving: set[Arrival]
    #: Called once, when the server begins to close.
    closing: Callable[[], None] | None = None
    _ending: asyncio.Task[None] | None = None
    _broken = False
    _close_timeout: float | None

    def close(self, *args: Any, **kwargs: Any) -> None:
        if self._ending is None:
            self._ending = self.get_loop().create_task(self._end(*args, **kwargs))
            if self.closing is not None:
                self.closing()

    @property
    def is_ending(self) -> bool:
        """Whether it closes, or is closed."""
        return self._ending is not None

    @property
    def num_connections(self) -> int:
        """How many connections there are, from their first byte on."""
        return len(self.handler_tasks) + len(self.requests) + len(self.arriving)

    def end_broken(self) -> None:
        """Close, because the lifespan has ended by itself."""
        self._broken = True
        # Else it does not listen yet, and will not.
        if hasattr(self, "server"):
            self.close(code=CloseCode.INTERNAL_ERROR, reason="lifespan failed")

    async def stop_listening(self) -> None:
        """Take no more connections, and call the shutdown functions."""
        self.server.close()
        await self.lifetime.shutdown()
        await self.topics.settle()

    async def _end(self, *args: Any, **kwargs: Any) -> None:
        await self.stop_listening()
        for arrival in tuple(self.arriving):
            arrival.abort()
        super().close(*args, **kwargs)
        if self.requests:
            await self._end_requests()
        await super().wait_closed()
        await self.tasks.end()
        await self._end_reports()
        await self.lifetime.end()
        await self.topics.close()

    async def _end_requests(self) -> None:
        """Let responses that have begun end, but not for ever."""
        for connection in tuple(self.requests):
            connection.shutdown()
        tasks = {each.task for each in self.requests if each.task is not None}
        with suppress(TimeoutError):
            async with asyncio.timeout(self._close_timeout):
                await self.requests.wait_empty()
        for connection in tuple(self.requests):
            connection.abort()
        if tasks:
            # Handlers have cleaned up before the lifespan ends.
            await asyncio.wait(tasks)

    async def _end_reports(self) -> None:
        # Error handlers may need what the lifespan holds; but not for ever.
        if self.reports:
            _, left = await asyncio.wait(self.reports, timeout=_LAST_REPORTS)
            for task in left:
                task.cancel()

    async def wait_closed(self) -> None:
        await super().wait_closed()
        assert self._ending is not None, "close() was called"
        await asyncio.shield(self._ending)


async def _create_server(
    server: RoutedServer, create: Callable[[], Awaitable[asyncio.Server]]
) -> asyncio.Server:
    topics = server.topics = server.find_topics()
    await topics.start()
    try:
        await server.lifetime.start()
        listening = await create()
        if server._broken:
            listening.close()
            raise NotServing("the lifespan ended before the server could listen")
    except BaseException:
        await server.lifetime.end()
        await topics.close()
        raise
    return listening


class Servers:
    """The servers of one router."""

    def __init__(self) -> None:
        self._servers: list[RoutedServer] = []

    def add(
        self,
        server: Server,
        limits: ConnectionLimits,
        failed: Callable[[Server, BaseException], None],
        routers: Callable[[], Sequence[Any]],
        close_timeout: float | None,
        topics: Callable[[], Topics],
        http: HTTPTimeouts,
        proxies: Proxies | None = None,
    ) -> RoutedServer:
        """Turn a server of ``websockets.serve``, not yet started, into one of ours.

        Args:
            server: The server.
            limits: How many connections it takes.
            failed: Called with the error of a task that fails.
            routers: Gives the routers whose lifespan is that of the server, the outer
                before the inner.
            close_timeout: What closing a connection may take, in seconds; shutdown
                functions have half of it.
            topics: Gives the topics whose broker is started before the routers, and
                closed after them.
            http: What clients may take that ask for no upgrade.
            proxies: The proxies that it believes.
        """
        server.__class__ = RoutedServer
        assert isinstance(server, RoutedServer)
        server.tasks = Tasks("the server", partial(failed, server))
        server.limits = limits
        server.reports = set()
        server.requests = OpenRequests()
        server.http = http
        server.proxies = proxies
        server.arriving = set()
        server._close_timeout = close_timeout
        timeout = None if close_timeout is None else close_timeout / 2
        server.lifetime = Lifetime(routers, server.logger, timeout, server.end_broken)
        server.find_topics = topics
        server.create_server = partial(_create_server, server, server.create_server)
        self._servers = [each for each in self._servers if not each.is_ending]
        self._servers.append(server)
        return server

    def connections(self) -> list[ServerConnection]:
        """List the open connections."""
        return [ws for server in self._servers for ws in server.connections]

    def count(self) -> int:
        """Count the connections, those in their handshake included; cheaply."""
        return sum(len(server.handler_tasks) for server in self._servers)

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
