"""Router: the face of the package. It declares routes and serves them."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from typing import Any, TypeVar, cast, overload

import websockets.asyncio.server
from websockets import ConnectionClosed, Headers, Request, Response, State
from websockets.asyncio.server import Server, ServerConnection

from .endpoint import endpoint_name
from .exceptions import EndpointError
from .handshake import Handshake, Hook, NotFound
from .path import RoutedPath
from .protocol import Protocol
from .route import Condition, Route
from .runner import Runner
from .table import RouteTable

__all__ = ["Router"]

E = TypeVar("E", bound=Callable[..., Any])
N = TypeVar("N", bound=NotFound)
P = TypeVar("P", bound=Protocol)

_CLOSE_TIMEOUT = 10  # the default of websockets.serve, in seconds


class Router:
    """Maps URL templates to handlers, and serves them.

    A router is a handler for ``websockets.serve`` itself. ``serve`` refuses an
    unmatched path in the handshake; where the connection opens first, it is
    closed with 4040, and no handler is called.

    Attributes:
        handshake: The steps that every connection takes.
    """

    def __init__(self) -> None:
        self._table = RouteTable()
        self.handshake = Handshake(self._table)

    # Declaring

    def route(
        self,
        template: str,
        *,
        name: str | None = None,
        requirements: Mapping[str, str] | None = None,
        defaults: Mapping[str, Any] | None = None,
        condition: Condition | None = None,
    ) -> Callable[[E], E]:
        """Declare a route; decorates what handles its connections.

        The handler is an ``async def handler(ws, path)``, an ``async def
        handler(ws)``, or a class: made without arguments for each connection, it
        has such a ``handle`` method, and maybe a ``process_request(self, path,
        headers)``, coroutine or not, that refuses the handshake by returning a
        response.

        A route may be declared while the router serves; the next handshake sees it.

        Args:
            template: The URL template, as in ``/room/{name}``.
            name: The name for ``url_for``.
            requirements: Regexes by parameter name, which values must match.
            defaults: Params to add, or to take in place of a missing optional part.
            condition: A plain function ``condition(path, headers)``; if it
                returns a false value the next best template is tried.

        Raises:
            TemplateError: If the template cannot work.
            EndpointError: If the handler or the condition cannot work.
            DuplicateName: If another route has the name.
        """

        def declare(endpoint: E) -> E:
            self.add_route(
                template,
                endpoint,
                name=name,
                requirements=requirements,
                defaults=defaults,
                condition=condition,
            )
            return endpoint

        return declare

    def add_route(
        self,
        template: str,
        endpoint: Callable[..., Any],
        *,
        name: str | None = None,
        requirements: Mapping[str, str] | None = None,
        defaults: Mapping[str, Any] | None = None,
        condition: Condition | None = None,
    ) -> Route:
        """Declare a route without a decorator; see ``route``.

        Returns:
            The declared route.
        """
        route = Route(
            template,
            endpoint,
            name=name,
            requirements=requirements,
            defaults=defaults,
            condition=condition,
        )
        self._table.add(route)
        return route

    def not_found(self, function: N) -> N:
        """Decorate a function ``f(ws, path)`` that answers unmatched paths.

        It may be a coroutine. In the handshake it returns a response, or None
        for the plain 404. On a connection that is already open it may send
        something; the connection is then closed with 4040.

        Raises:
            EndpointError: If it is no function.
        """
        if not callable(function):
            raise EndpointError(
                endpoint_name(function), "not_found decorates a function f(ws, path)"
            )
        self.handshake.not_found = function
        return function

    # Asking

    @property
    def routes(self) -> tuple[Route, ...]:
        """The declared routes, in the order in which they are tried."""
        return self._table.routes

    def match(self, raw_path: str, headers: Headers | None = None) -> RoutedPath:
        """Find the best match of a request target.

        Args:
            raw_path: The target as it stands in a request, query included.
            headers: Request headers, for conditions that look at them.

        Returns:
            The path; its ``route`` and ``params`` are None if nothing matches.

        Raises:
            BadRequest: If the target is malformed.
        """
        return self._table.match(raw_path, headers)

    def url_for(self, name: str, /, **params: object) -> str:
        """Build the path of a named route, percent-encoded.

        Args:
            name: The name of the route.
            **params: A value for each parameter that is not optional.

        Raises:
            UnknownName: If no route has the name; suggests the nearest.
            BuildError: If a parameter is missing or unknown, or if a value
                would not come back as it is.
        """
        return self._table.url_for(name, params)

    # Serving

    async def handle(self, ws: ServerConnection, path: str | None = None) -> None:
        """Handle a connection: the handler for ``websockets.serve``.

        A connection that this router has not let in during its handshake takes
        all its steps now: it is closed with 4040 if its path matches nothing, and
        with 1008 if a hook refuses it.

        Args:
            ws: The connection.
            path: The path to route by, if not the one requested.
        """
        admitted = await self.handshake.admit_open(ws, path)
        if admitted is not None:
            handler, routed = admitted
            try:
                await handler.handle(ws, routed)
            except ConnectionClosed:
                # A peer that goes away is no failure of the handler. Anybody
                # else's connection, of which the handler is a client, may be.
                if ws.state is not State.CLOSED:
                    raise

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
        """
        if not (isinstance(base, type) and issubclass(base, Protocol)):
            raise EndpointError(
                endpoint_name(base),
                "it must be a subclass of websockets_routes.Protocol",
            )
        attributes = {
            "router": self,
            "__doc__": base.__doc__,
            "__module__": base.__module__,
            "__qualname__": base.__qualname__,
        }
        return type(base.__name__, (base,), attributes)

    def serve(
        self,
        host: str | None = None,
        port: int | None = None,
        *,
        create_connection: Callable[..., Protocol] | None = None,
        create_protocol: Callable[..., Protocol] | None = None,
        process_request: Hook | None = None,
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
            **kwargs: See ``websockets.serve``.
        """
        if create_protocol is not None:
            warnings.warn(
                "create_protocol is now called create_connection",
                DeprecationWarning,
                stacklevel=2,
            )
            create_connection = create_connection or create_protocol
        if process_request == self.process_request:
            process_request = None  # the connections do that themselves
        return websockets.asyncio.server.serve(
            self.handle,
            host,
            port,
            create_connection=cast(
                type[ServerConnection], self._connection_factory(create_connection)
            ),
            process_request=process_request,
            **kwargs,
        )

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

    def _connection_factory(
        self, create: Callable[..., Protocol] | None
    ) -> Callable[..., Protocol]:
        if create is None:
            return self.connection_class()
        if isinstance(create, type):
            return self.connection_class(create)

        def create_connection(*args: Any, **kwargs: Any) -> Protocol:
            connection = create(*args, **kwargs)
            connection.router = self
            return connection

        return create_connection
