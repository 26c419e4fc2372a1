"""Router: the face of the package. It declares routes and serves them."""

from __future__ import annotations

import asyncio
import json as json_module
import warnings
from collections.abc import Callable, Coroutine
from functools import cache
from typing import Any, TypeVar, cast, overload

import websockets.asyncio.server
from websockets import CloseCode, Request, Response
from websockets.asyncio.server import Server, ServerConnection

from . import deflate
from .binding import bind_class, bind_factory
from .closing import close_all
from .declaring import Declaring
from .extensions import Extensions, Registrar
from .handshake import Hook
from .lifespan import Servers
from .limits import MAX_CONNECTIONS, ConnectionLimits, check_limit
from .protocol import Protocol
from .publishing import Publishing
from .pubsub import Filter, Topics
from .runner import Runner
from .sending import STALL_TIMEOUT
from .serializer import Serializer
from .serving import serve_connection

__all__ = ["Router"]

P = TypeVar("P", bound=Protocol)
T = TypeVar("T")

_CLOSE_TIMEOUT = 10  # the default of websockets.serve, in seconds


class Router(Declaring, Publishing):
    """Maps URL templates to handlers, and serves them.

    A router is a handler for ``websockets.serve`` itself. ``serve`` refuses an
    unmatched path in the handshake; where the connection opens first, it is
    closed with 4040, and no handler is called.

    Args:
        topics: The topics that connections hear; by default, topics of its own.
        json: What ``send_json``, ``recv_json`` and ``publish_json`` use; has
            ``dumps`` and ``loads``.
        max_backlog: Bytes that may wait for a slow peer, beyond which the overflow
            of a topic decides; 1 MiB by default.

    Attributes:
        handshake: The steps that every connection takes.
        topics: The topics: their hooks, counts and limits.

    Raises:
        InvalidLimit: If ``max_backlog`` is no positive number.
    """

    def __init__(
        self,
        *,
        topics: Topics | None = None,
        json: Any = json_module,
        max_backlog: int | None = None,
    ) -> None:
        Declaring.__init__(self)
        check_limit("max_backlog", max_backlog)
        if topics is None:
            topics = Topics(json=json)
            if max_backlog is not None:
                topics.max_backlog = max_backlog
        Publishing.__init__(self, topics, Serializer(json))
        self._extensions = Extensions(Protocol)
        self._servers = Servers()
        self._classes: dict[type[Protocol], type[Protocol]] = {}
        self._attributes: dict[str, Any] = {
            "router": self,
            "serializer": self._serializer,
        }
        if max_backlog is not None:
            self._attributes["max_backlog"] = max_backlog

    def extend(self, extension: Callable[[Registrar], Any]) -> None:
        """Add methods and attributes to the connections of this router.

        Args:
            extension: A function ``f(ws)``, called now; ``ws`` is a ``Registrar``.

        Raises:
            ExtensionError: If a name is taken, or if the router served already.
        """
        self._extensions.add(extension)

    # Serving

    # No coroutine function: its frame would stay for as long as the connection.
    def handle(
        self, ws: ServerConnection, path: str | None = None
    ) -> Coroutine[Any, Any, None]:
        """Handle a connection: the handler for ``websockets.serve``.

        A connection that this router has not let in during its handshake takes
        all its steps now: it is closed with 4040 if its path matches nothing, and
        with 1008 if a hook refuses it.

        Args:
            ws: The connection.
            path: The path to route by, if not the one requested.
        """
        handler = self.handshake.accepted(ws, path)
        if handler is None:
            return self._handle_open(ws, path)
        return serve_connection(handler, ws, self.topics)

    async def _handle_open(self, ws: ServerConnection, path: str | None) -> None:
        handler = await self.handshake.admit_open(ws, path)
        if handler is not None:
            await serve_connection(handler, ws, self.topics)

    __call__ = handle

    async def process_request(
        self, connection: ServerConnection, request: Request
    ) -> Response | None:
        """Route a handshake: the ``process_request`` for ``websockets.serve``."""
        return await self.handshake.process_request(connection, request)

    @overload
    def connection_class(self) -> type[Protocol]: ...

    @overload
    def connection_class(self, base: type[P]) -> type[P]: ...

    def connection_class(self, base: type[Protocol] = Protocol) -> type[Protocol]:
        """Bind a connection class to this router.

        Args:
            base: ``Protocol`` or a subclass.

        Returns:
            A subclass, for the ``create_connection`` of ``websockets.serve``.

        Raises:
            EndpointError: If the base is no ``Protocol``.
            ExtensionError: If the base has a name that an extension adds.
        """
        if getattr(base, "router", None) is self:
            return base
        if base not in self._classes:
            self._classes[base] = bind_class(base, self._extensions, self._attributes)
        return self._classes[base]

    def start_task(self, coroutine: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Start a task that ends with the server, after its last handler returned.

        If it fails, that is logged.

        Raises:
            NotServing: If no server that ``serve`` made for this router runs.
        """
        return self._servers.start_task(coroutine)

    def serve(
        self,
        host: str | None = None,
        port: int | None = None,
        *,
        create_connection: Callable[..., Protocol] | None = None,
        create_protocol: Callable[..., Protocol] | None = None,
        process_request: Hook | None = None,
        compression: str | None = "shared",
        max_backlog: int | None = None,
        stall_timeout: float | None = STALL_TIMEOUT,
        max_connections: int | None = MAX_CONNECTIONS,
        max_connections_per_address: int | None = None,
        **kwargs: Any,
    ) -> Server:
        """Serve the routes; an unmatched path is refused with HTTP 404.

        Takes every argument of ``websockets.serve`` but the handler, with the
        same meaning and defaults, and returns its ``Server``: to be awaited, or
        entered with ``async with``.

        Args:
            host: Interfaces to listen on.
            port: Port to listen on.
            create_connection: A subclass of ``Protocol``, or a function that
                makes one from the arguments that it is given.
            create_protocol: What ``create_connection`` was called in release 0.2.
            process_request: Called with ``(connection, request)`` once the path
                is matched, before it is refused and before any other hook.
            compression: ``"shared"`` compresses what is published once for all, and
                no connection holds a compressor; ``"deflate"`` is that of
                ``websockets``, where each has its own; None is for none.
            max_backlog: Bytes that may wait for a slow peer; that of the router by
                default.
            stall_timeout: Seconds after which a peer is aborted that takes no byte
                while more than ``write_limit`` waits for it; None to wait for ever.
                With less, the keepalive finds out.
            max_connections: Connections beyond which handshakes are refused with
                503; None for no limit.
            max_connections_per_address: The same for each address of a client. None
                by default: behind a proxy, all clients share one.
            **kwargs: See ``websockets.serve``.

        Raises:
            InvalidLimit: If a limit is no positive number.
        """
        check_limit("max_backlog", max_backlog)
        check_limit("stall_timeout", stall_timeout)
        limits = ConnectionLimits(max_connections, max_connections_per_address)
        attributes: dict[str, Any] = {}
        if max_backlog is not None:
            attributes["max_backlog"] = max_backlog
        if stall_timeout != STALL_TIMEOUT:
            attributes["stall_timeout"] = stall_timeout
        if compression == "shared":
            compression = None
            kwargs["extensions"] = deflate.offer(kwargs.get("extensions"))
        if create_protocol is not None:
            warnings.warn(
                "create_protocol is now called create_connection",
                DeprecationWarning,
                stacklevel=2,
            )
            create_connection = create_connection or create_protocol
        if process_request == self.process_request:
            process_request = None  # the connections do that themselves
        server = websockets.asyncio.server.serve(
            self.handle,
            host,
            port,
            create_connection=cast(
                type[ServerConnection],
                self._connection_factory(create_connection, attributes),
            ),
            process_request=process_request,
            compression=compression,
            **kwargs,
        )
        return self._servers.add(server, limits)

    def unix_serve(self, path: str | None = None, **kwargs: Any) -> Server:
        """Serve the routes on a Unix socket.

        Args:
            path: Path of the socket.
            **kwargs: See ``serve``.
        """
        return self.serve(unix=True, path=path, **kwargs)

    async def run(
        self,
        host: str | None = None,
        port: int | None = None,
        *,
        create_connection: Callable[..., Protocol] | None = None,
        close_timeout: float | None = _CLOSE_TIMEOUT,
        **kwargs: Any,
    ) -> None:
        """Serve until SIGINT or SIGTERM, then close gracefully.

        Connections are closed with 1001. What is not closed after
        ``close_timeout``, even by a peer that reads nothing, is aborted. A
        second signal aborts at once; a cancellation closes as a signal does.

        It runs on the loop of its caller: ``uvloop.run(router.run(…))`` for uvloop.

        Args:
            host: See ``serve``.
            port: See ``serve``.
            create_connection: See ``serve``.
            close_timeout: What closing may take, in seconds; None for no limit.
            **kwargs: See ``serve``.

        Raises:
            OSError: If it cannot listen.
        """
        runner = Runner(self._connection_factory(create_connection), close_timeout)
        server = self.serve(
            host,
            port,
            create_connection=cast(Callable[..., Protocol], runner.create_connection),
            close_timeout=close_timeout,
            **kwargs,
        )

        def started() -> None:
            for route in self.routes:
                server.logger.info("route %s -> %s", route, route.endpoint.name)

        await runner.run(server, started)

    async def disconnect(
        self,
        target: str | Filter | Callable[[Any], Any],
        code: int = CloseCode.POLICY_VIOLATION,
        reason: str = "",
    ) -> int:
        """Close connections, and wait until they are closed.

        Args:
            target: The name of a topic, for its subscribers; a ``Filter``, for those
                of every topic that it matches; or a function of the connection,
                which is asked about every connection of this router's servers, and
                every subscriber.
            code: The close code.
            reason: The close reason.

        Returns:
            How many were closed.
        """
        found = dict.fromkeys(self.topics.find(target))
        if callable(target):
            everyone = self._servers.connections()
            found |= dict.fromkeys(ws for ws in everyone if target(ws))
        return await close_all(found, code, reason)

    def _connection_factory(
        self,
        create: Callable[..., Protocol] | None,
        attributes: dict[str, Any] | None = None,
    ) -> Callable[..., Protocol]:
        bind = self.connection_class
        if attributes:

            @cache
            def bind(base: type[Protocol]) -> type[Protocol]:
                return bind_class(self.connection_class(base), None, attributes)

        if create is None or isinstance(create, type):
            return bind(create or Protocol)
        return bind_factory(create, bind)
