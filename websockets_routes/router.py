"""Router: the face of the package. It declares routes and serves them."""

from __future__ import annotations

import asyncio
import importlib.util
import json as json_module
import warnings
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from types import MappingProxyType
from typing import Any, TypeVar, cast

import websockets.asyncio.server
from websockets import CloseCode
from websockets.asyncio.server import Server, ServerConnection

from . import deflate
from .brokers.base import Broker
from .brokers.link import logger
from .closing import check_close_code, close_all, close_reason
from .connecting import Connecting
from .exceptions import EndpointError
from .handshake import Hook
from .limits import MAX_CONNECTIONS, ConnectionLimits, check_limit
from .protocol import Protocol
from .proxying import Proxies
from .pubsub import Filter, Topics
from .reporting import report_later
from .runner import Runner
from .sending import STALL_TIMEOUT
from .serializer import Serializer
from .servers import HTTPTimeouts, RoutedServer, Servers
from .stats import Stats

__all__ = ["Router"]

T = TypeVar("T")

_CLOSE_TIMEOUT = 10  # the default of websockets.serve, in seconds


class Router(Connecting):
    """Maps URL templates to handlers, and serves them.

    A router is a handler for ``websockets.serve`` itself. ``serve`` refuses an
    unmatched path in the handshake; where the connection opens first, it is
    closed with 4040, and no handler is called.

    Args:
        prefix: A template to put before those of all its routes.
        topics: The topics that connections hear, or the broker of topics of its own,
            or its URL; by default, topics of its own. See ``Topics``.
        json: What ``send_json``, ``recv_json`` and ``publish_json`` use; has
            ``dumps`` and ``loads``.
        max_backlog: Bytes that may wait for a slow peer, beyond which the overflow
            of a topic decides; 1 MiB by default.
        before_handshake: Hooks: see the method of this name.
        middleware: Middleware: see the method of this name, the outermost first.
        origins: What the ``Origin`` header of its routes may be, as websockets has
            it: strings, regexes, None for a request without one. Checked before any
            hook.
        lifespan: A function ``f(router)`` or ``f()`` that makes an async context
            manager. It is entered before the server listens and left after its last
            handler returned, in one task; what it yields is ``router.state``.

    Attributes:
        scope: What this router adds to its routes.
        handshake: The steps that every connection takes.
        topics: The topics: their hooks, counts and limits.

    Raises:
        InvalidLimit: If ``max_backlog`` is no positive number.
    """

    def __init__(
        self,
        *,
        prefix: str = "",
        topics: Topics | Broker | str | None = None,
        json: Any = json_module,
        max_backlog: int | None = None,
        before_handshake: Iterable[Callable[[Any, Any], Any]] = (),
        middleware: Iterable[Callable[..., Awaitable[None]]] = (),
        origins: Sequence[Any] | None = None,
        lifespan: Callable[..., AbstractAsyncContextManager[Any]] | None = None,
    ) -> None:
        check_limit("max_backlog", max_backlog)
        given = topics is not None
        if not isinstance(topics, Topics):
            topics = Topics(topics, json=json)
            if max_backlog is not None:
                topics.max_backlog = max_backlog
        super().__init__(
            topics,
            Serializer(json),
            prefix,
            before_handshake,
            middleware,
            origins,
            lifespan,
        )
        self._given_topics = given
        self._has_json = json is not json_module
        topics.hear_of_errors(self._report_hook)
        self._servers = Servers()
        if max_backlog is not None:
            self._attributes["max_backlog"] = max_backlog

    def host(
        self,
        template: str,
        router: Router | None = None,
        *,
        name: str | None = None,
        **options: Any,
    ) -> Router:
        """Return a router whose routes match only on one host, or some.

        The most specific host wins; a host that has no such route is a 404, it does
        not pass on to the routes that have no host, which come last.

        Args:
            template: A name such as ``api.example.com``, ``*.example.com`` or
                ``{tenant}.example.com``: ``*`` stands for any one label, and so does
                a parameter, which becomes one of ``path.params``. The port and the
                case of the ``Host`` header do not matter.
            router: The router, if there is one; by default, a new one. What holds
                for mounting holds for it.
            name: What to put before the names of its routes, as in ``mount``.
            **options: See ``Router``.

        Raises:
            TemplateError: If the template cannot work, or if the same hosts have a
                router already.
            MountError: If this router is mounted itself, or if the other one cannot
                be.
        """
        return self.add_host(template, router or Router(**options), name=name)

    # Serving

    def _report_task(self, server: Server, error: BaseException) -> None:
        what = "task of the server failed"
        report_later((self.scope,), error, None, None, server.logger, what, server)

    def _report_hook(self, error: BaseException, ws: Any, what: str) -> None:
        if ws is None:
            scopes = (self.root.scope,)
            report_later(scopes, error, None, None, logger, what, None)
            return
        path = getattr(ws, "path", None)
        route = getattr(path, "route", None)
        scopes = (self.root.scope,) if route is None else route.scopes
        report_later(scopes, error, ws, path, ws.logger, what, ws.server)

    def start_task(self, coroutine: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Start a task that ends with the server, after its last handler returned.

        If it fails, that is logged.

        Raises:
            NotServing: If no server that ``serve`` made for this router runs.
        """
        root = cast(Router, self.root)
        return root._servers.start_task(coroutine)

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
        header_timeout: float | None = 10,
        body_timeout: float | None = 30,
        idle_timeout: float | None = 75,
        proxy_protocol: bool = False,
        trusted_proxies: Iterable[str] | None = None,
        forwarded_header: str | None = "x-forwarded-for",
        **kwargs: Any,
    ) -> RoutedServer:
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
                by default: behind proxies that are not trusted, all share one.
            header_timeout: Seconds for the head of an HTTP request; that of a
                handshake too, while the router has HTTP routes.
            body_timeout: Seconds for each 64 KiB of the body of a request.
            idle_timeout: Seconds that an HTTP connection may wait between requests.
            proxy_protocol: Whether every connection begins with a header of the PROXY
                protocol, version 1 or 2, before TLS. One of a peer that is not
                trusted, and one without a header in ``header_timeout``, is closed
                without an answer.
            trusted_proxies: Whose word on the client's address, scheme and host
                counts: addresses, networks such as ``"10.0.0.0/8"``, and ``"unix"``
                for peers on Unix sockets. See ``client_address``.
            forwarded_header: The headers that these set: ``"x-forwarded-for"`` with
                ``X-Forwarded-Proto`` and ``-Host``, ``"forwarded"`` (RFC 7239), or
                None. Each of them must be set or removed by the proxies: what they
                pass on counts as theirs. Behind a PROXY header they are believed if
                the address in it is that of a trusted proxy.
            **kwargs: See ``websockets.serve``.

        Raises:
            InvalidLimit: If a limit is no positive number.
            ProxyError: If what is said of proxies cannot work.
        """
        check_limit("max_backlog", max_backlog)
        check_limit("stall_timeout", stall_timeout)
        check_limit("header_timeout", header_timeout)
        check_limit("body_timeout", body_timeout)
        check_limit("idle_timeout", idle_timeout)
        limits = ConnectionLimits(max_connections, max_connections_per_address)
        proxies = Proxies.of(proxy_protocol, trusted_proxies, forwarded_header, kwargs)
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
        timeout = kwargs.get("close_timeout", _CLOSE_TIMEOUT)
        return self._servers.add(
            server,
            limits,
            self._report_task,
            lambda: self.routers,
            timeout,
            lambda: self.root.topics,
            HTTPTimeouts(header_timeout, body_timeout, idle_timeout),
            proxies,
        )

    def unix_serve(self, path: str | None = None, **kwargs: Any) -> RoutedServer:
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
        shutdown_code: int = CloseCode.GOING_AWAY,
        drain: float | None = None,
        **kwargs: Any,
    ) -> None:
        """Serve until SIGINT or SIGTERM, then close gracefully.

        Connections are closed with ``shutdown_code``. What is not closed after
        ``close_timeout``, even by a peer that reads nothing, is aborted. With
        ``drain``, they are closed one by one, so that they do not all come back in
        the same second. A second signal aborts at once; a cancellation closes as a
        signal does.

        It runs on the loop of its caller: ``uvloop.run(router.run(…))`` for uvloop.

        Args:
            host: See ``serve``.
            port: See ``serve``.
            create_connection: See ``serve``.
            close_timeout: What closing may take, in seconds; None for no limit.
            shutdown_code: The close code; 1012 says that the service restarts.
            drain: Seconds that the end may take in all, shutdown functions included,
                in which connections are closed one by one; the last ``close_timeout``
                of them, but no more than half, is for those that do not answer. None
                to close all at once.
            **kwargs: See ``serve``.

        Raises:
            OSError: If it cannot listen.
            InvalidLimit: If ``drain`` is no positive number.
            InvalidCloseCode: If a close frame may not have the code.
            Exception: What a lifespan raised, at the start or later.
        """
        check_limit("drain", drain)
        check_close_code(shutdown_code)
        runner = Runner(
            self._connection_factory(create_connection),
            close_timeout,
            shutdown_code,
            drain,
        )
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

    # Numbers

    def stats(self) -> Stats:
        """Take a snapshot of the numbers; a mounted router has those of its root.

        It costs a look at each subscriber, a few milliseconds for 100,000. From the
        first one on latencies are measured; see ``Topics.statistics``.
        """
        root = cast(Router, self.root)
        broker = root.topics.broker
        admissions = root.handshake.admissions
        return Stats(
            root._servers.count(),
            *admissions.in_all(),
            MappingProxyType(admissions.by_route()),
            root.stalls,
            root.topics.statistics(),
            root.topics.queue_bytes,
            None if broker is None else broker.state,
        )

    def metrics(
        self, template: str = "/metrics", *, registry: Any = None, **options: Any
    ) -> None:
        """Answer GET with the numbers, for Prometheus.

        Args:
            template: The URL template.
            registry: Metrics to add, such as ``prometheus_client.REGISTRY``.
            **options: See ``route``.

        Raises:
            EndpointError: If ``prometheus_client`` is not installed.
        """
        if importlib.util.find_spec("prometheus_client") is None:
            problem = "it needs pip install 'websockets-routes[metrics]'"
            raise EndpointError("metrics", problem)
        from .http.metrics import MetricsEndpoint

        endpoint = MetricsEndpoint(self.stats, registry)
        self.add_route(template, endpoint, methods=("GET",), **options)

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

        Raises:
            InvalidCloseCode: If a close frame may not have the code.
        """
        check_close_code(code)
        found = dict.fromkeys(self.topics.find(target))
        if callable(target):
            everyone = cast(Router, self.root)._servers.connections()
            found |= dict.fromkeys(ws for ws in everyone if target(ws))
        return await close_all(found, code, close_reason(reason))
