"""Declaring: the routes of a router, and what can be asked about them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar, cast

from websockets import Headers

from .endpoint import AnyEndpoint, Endpoint
from .exceptions import InvalidLimit, TemplateError
from .handshake import Handshake
from .limits import check_limit
from .negotiation import UNSET, Negotiation
from .path import RoutedPath
from .resource import WEBSOCKET, declarations
from .route import Condition, Route, Subscribe
from .scope import Scope
from .table import RouteTable
from .target import parse_target
from .template import Template
from .tokens import TOKEN

__all__ = ["MAX_CONTENT_LENGTH", "Declaring", "check_prefix"]

#: Bytes that the body of a request may have, unless something else is said.
MAX_CONTENT_LENGTH = 5 * 2**20


E = TypeVar("E", bound=Callable[..., Any])


class Declaring:
    """Routes, and how to declare them.

    Args:
        prefix: A template to put before those of all routes.

    Attributes:
        scope: What this router adds to its routes.
        handshake: The steps that every connection takes.
    """

    def __init__(self, prefix: str = "", origins: Sequence[Any] | None = None) -> None:
        self.prefix = check_prefix(prefix)
        self.scope = Scope(origins)
        self._table = RouteTable()
        self.handshake = Handshake(self._table, self.scope)

    # Declaring

    def route(
        self,
        template: str,
        *,
        name: str | None = None,
        requirements: Mapping[str, str] | None = None,
        defaults: Mapping[str, Any] | None = None,
        condition: Condition | None = None,
        subscribe: Subscribe = (),
        subprotocols: Sequence[str] | None = None,
        max_size: Any = UNSET,
        compression: Any = UNSET,
        methods: Iterable[str] | None = None,
        max_content_length: int | None = MAX_CONTENT_LENGTH,
    ) -> Callable[[E], E]:
        """Declare a route; decorates what handles its connections, or requests.

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
            subscribe: A topic that connections hear from the moment they open: its
                template, filled with the params of the path, as in
                ``"room/{name}"``; a declared topic; or several of them. Where it is
                denied, the connection closes with 1008.
            subprotocols: The subprotocols of this route, the preferred first: a
                client has to offer one of them. By default, those of the server.
            max_size: Bytes of an incoming message; by default, that of the server,
                which also holds for what arrives before the handshake is over.
            compression: ``"shared"``, ``"deflate"`` or None; by default, that of the
                server. Where a connection opens before it is routed, this and
                ``subprotocols`` come too late.
            methods: HTTP methods, for a route that answers requests in place of
                taking connections: its handler is ``f(request)``, plain or a
                coroutine function, and returns the response. Empty for any method.
            max_content_length: Bytes that the body of a request may have, 5 MiB by
                default; None for any number.

        Raises:
            TemplateError: If the template cannot work.
            EndpointError: If the handler or the condition cannot work.
            DuplicateName: If another route has the name.
            InvalidLimit: If what is to be negotiated cannot be.
        """

        def declare(endpoint: E) -> E:
            self.add_route(
                template,
                endpoint,
                name=name,
                requirements=requirements,
                defaults=defaults,
                condition=condition,
                subscribe=subscribe,
                subprotocols=subprotocols,
                max_size=max_size,
                compression=compression,
                methods=methods,
                max_content_length=max_content_length,
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
        routes: Any,
        prefix: str = "",
    ) -> None:
        """Declare the routes of a resource.

        Args:
            routes: A ``Resource``, or any other object or class whose methods are
                decorated; or a list of ``(method, template, callback)`` as the
                ``routes()`` of a resource gives, with ``"WEBSOCKET"`` for the method
                of connections.
            prefix: A template to put before theirs.

        Raises:
            TemplateError: If a template cannot work.
            EndpointError: If it is no such list, or if a callback cannot work.
        """
        made = []
        for each, callback in declarations(routes):
            options = each.options
            endpoint: Any = callback
            if each.method == WEBSOCKET:
                endpoint = Endpoint(callback, callback=True)
            else:
                options = {**options, "methods": (each.method,)}
            made.append(self._make_route(prefix + each.template, endpoint, **options))
        self._add_routes(made)

    def add_route(
        self, template: str, endpoint: Callable[..., Any] | Endpoint, **options: Any
    ) -> Route:
        """Declare a route without a decorator; see ``route``.

        Returns:
            The declared route.
        """
        route = self._make_route(template, endpoint, **options)
        self._add_routes([route])
        return route

    def _make_route(
        self,
        template: str,
        endpoint: Callable[..., Any] | AnyEndpoint,
        *,
        subprotocols: Sequence[str] | None = None,
        max_size: Any = UNSET,
        compression: Any = UNSET,
        methods: Iterable[str] | None = None,
        max_content_length: int | None = MAX_CONTENT_LENGTH,
        **options: Any,
    ) -> Route:
        if methods is not None:
            # h11, and all that answers requests, is imported only where it is used.
            from .http.endpoint import RequestEndpoint

            check_limit("max_content_length", max_content_length)
            options["methods"] = _check_methods(methods)
            options["max_content_length"] = max_content_length
            endpoint = RequestEndpoint(cast(Callable[..., Any], endpoint))
        return Route(
            self.prefix + template,
            endpoint,
            negotiation=Negotiation(subprotocols, max_size, compression),
            scopes=(self.scope,),
            **options,
        )

    def _add_routes(self, routes: Sequence[Route]) -> None:
        self._table.add(*routes)

    # Asking

    @property
    def routes(self) -> tuple[Route, ...]:
        """The declared routes, in the order in which they are tried."""
        return self._table.routes

    def match(
        self,
        raw_path: str,
        headers: Headers | None = None,
        method: str | None = None,
    ) -> RoutedPath:
        """Find the best match of a request target.

        Args:
            raw_path: The target as it stands in a request, query included.
            headers: For conditions that look at them.
            method: That of a request; by default, what takes a connection is found.

        Returns:
            The path; its ``route`` and ``params`` are None if nothing matches.

        Raises:
            BadRequest: If the target is malformed.
        """
        if method is None:
            return self._table.match(raw_path, headers)
        target = parse_target(raw_path)
        found = self._table.requests(raw_path, target, method, headers)
        return next(found, None) or RoutedPath(raw_path, target)


def _check_methods(methods: Iterable[str]) -> frozenset[str]:
    names = [methods] if isinstance(methods, str) else list(methods)
    for name in names:
        if not isinstance(name, str) or not TOKEN.fullmatch(name):
            raise InvalidLimit(f"{name!r} is no HTTP method")
    return frozenset(names)


def check_prefix(prefix: str) -> str:
    """Check a template that others are put behind; ``/`` is none.

    Raises:
        TemplateError: If it cannot work; says what is wrong, and where.
    """
    if prefix in ("", "/"):
        return ""
    template = Template(prefix)
    if prefix.endswith("/"):
        problem = "a prefix does not end with a slash: routes begin with one"
        raise TemplateError(prefix, len(prefix) - 1, problem)
    if template.forms[0].tail is not None or len(template.forms) > 1:
        problem = "a prefix has no optional part, and none that spans segments"
        raise TemplateError(prefix, 0, problem)
    return prefix
