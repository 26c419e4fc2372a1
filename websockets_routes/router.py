"""Router: the face of the package. It declares routes and serves them."""

from __future__ import annotations

import asyncio
import json as json_module
import warnings
from collections.abc import Callable, Coroutine, Iterable, Mapping
from typing import Any, TypeVar, cast, overload

import websockets.asyncio.server
from websockets import Headers, Request, Response
from websockets.asyncio.server import Server, ServerConnection

from .binding import bind_class, bind_factory
from .endpoint import Endpoint, endpoint_name
from .exceptions import EndpointError
from .extensions import Extensions, Registrar
from .handshake import Handshake, Hook, NotFound
from .lifespan import Servers
from .path import RoutedPath
from .protocol import Protocol
from .resource import Resource, declarations
from .route import Condition, Route
from .runner import Runner
from .serializer import Serializer
from .serving import serve_connection
from .table import RouteTable

__all__ = ["Router"]

E = TypeVar("E", bound=Callable[..., Any])
N = TypeVar("N", bound=NotFound)
P = TypeVar("P", bound=Protocol)
T = TypeVar("T")

_CLOSE_TIMEOUT = 10  # the default of websockets.serve, in seconds


class Router:
    """Maps URL templates to handlers, and serves them.

    A router is a handler for ``websockets.serve`` itself. ``serve`` refuses an
    unmatched path in the handshake; where the connection opens first, it is
    closed with 4040, and no handler is called.

    Args:
        json: What ``send_json`` and ``recv_json`` use; has ``dumps`` and ``loads``.

    Attributes:
        handshake: The steps that every connection takes.
    """

    def __init__(self, *, json: Any = json_module) -> None:
        self._table = RouteTable()
        self._serializer = Serializer(json)
        self._extensions = Extensions(Protocol)
        self._servers = Servers()
        self.handshake = Handshake(self._table)
        self._classes: dict[type[Protocol], type[Protocol]] = {}

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
        handler(ws)``, or a class. A class is made without arguments for each
        connection. It has such a ``handle`` method, or any of the events
        ``on_open(ws)``, ``on_message(ws, message, opcode)`` or ``on_text(ws, text)``
        and ``on_binary(ws, data)``, ``on_ping(ws, data)``, ``on_pong(ws, data)``,
        ``on_drain(ws)`` and ``on_close(ws, code, reason)``, coroutines or not; and
        maybe a ``process_request(self, path, headers)``, coroutine or not, that
        refuses the handshake by returning a response.

        Events come one at a time, in the order received; ``on_close`` comes last
        and exactly once, whatever happens, if ``on_open`` was called. A plain
        function is called at once, with no task and no queue between. A failing
        event closes with 1011.

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

    def websocket(self, template: str, **options: Any) -> Callable[[E], E]:
        """Declare a route; decorates a function that is called at each event.

        The function, plain or a coroutine, is ``f(ws, opcode, payload)``. It is
        called with ``OpCode.OPEN``, with ``TEXT`` and a str, ``BINARY`` and bytes,
        ``PING``, ``PONG`` and ``CLOSE``; the payload of ``OPEN`` and ``CLOSE`` is
        ``b""``. The promises are those of event classes: see ``route``.

        Args:
            template: The URL template.
            **options: See ``route``.
        """

        def declare(callback: E) -> E:
            self.add_route(template, Endpoint(callback, callback=True), **options)
            return callback

        return declare

    def register(
        self,
        routes: Resource | Iterable[tuple[str, str, Callable[..., Any]]],
        prefix: str = "",
    ) -> None:
        """Declare the routes of a resource.

        Args:
            routes: A ``Resource``, or a list of ``(method, template, callback)`` as
                its ``routes()`` gives, with ``"WEBSOCKET"`` for the method.
            prefix: A template to put before theirs.

        Raises:
            TemplateError: If a template cannot work.
            EndpointError: If it is no such list, or if a callback cannot work.
        """
        made = [
            Route(
                prefix + each.template,
                Endpoint(callback, callback=True),
                **each.options,
            )
            for each, callback in declarations(routes)
        ]
        self._table.add(*made)

    def add_route(
        self,
        template: str,
        endpoint: Callable[..., Any] | Endpoint,
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

    def extend(self, extension: Callable[[Registrar], Any]) -> None:
        """Add methods and attributes to the connections of this router.

        Args:
            extension: A function ``f(ws)``, called now; ``ws`` is a ``Registrar``.

        Raises:
            ExtensionError: If a name is taken, or if the router served already.
        """
        self._extensions.add(extension)

    def not_found(self, function: N) -> N:
        """Decorate a function ``f(ws, path)`` that answers unmatched paths.

        It may be a coroutine. In the handshake it returns a response, or None
        for the plain 404. On a connection that is already open it may send
        something; the connection is then closed with 4040.

        Raises:
            EndpointError: If it is no function.
        """
        if not callable(function):
            name = endpoint_name(function)
            raise EndpointError(name, "not_found decorates a function f(ws, path)")
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
            headers: For conditions that look at them.

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
        return serve_connection(handler, ws)

    async def _handle_open(self, ws: ServerConnection, path: str | None) -> None:
        handler = await self.handshake.admit_open(ws, path)
        if handler is not None:
            await serve_connection(handler, ws)

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
            attributes = {"router": self, "serializer": self._serializer}
            self._classes[base] = bind_class(base, self._extensions, attributes)
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
        server = websockets.asyncio.server.serve(
            self.handle,
            host,
            port,
            create_connection=cast(
                type[ServerConnection], self._connection_factory(create_connection)
            ),
            process_request=process_request,
            **kwargs,
        )
        return self._servers.add(server)

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
        if create is None or isinstance(create, type):
            return self.connection_class(create or Protocol)
        return bind_factory(create, self.connection_class)
