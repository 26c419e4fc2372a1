"""Composing: routers in routers, and what they add to the routes in them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, NamedTuple, TypeVar, overload

from .arity import takes
from .declaring import Declaring, check_prefix
from .exceptions import BuildError, EndpointError, MountError
from .handshake import HostRoutes, NotFound
from .host import HostTable, HostTemplate
from .lifespan import Lifespan
from .naming import endpoint_name
from .publishing import Publishing
from .pubsub import Topics
from .route import Route
from .serializer import Serializer
from .table import RouteTable

__all__ = ["Composing"]

F = TypeVar("F", bound=Callable[..., Any])
C = TypeVar("C", bound="Composing")
N = TypeVar("N", bound=NotFound)

_NO_NOT_FOUND = "a path that matches nothing is in no mount: give not_found to the root"


class _Mount(NamedTuple):
    """Where a router is mounted."""

    into: Composing
    prefix: str
    name: str | None
    # That of the other one; that of the host if it has one, whose routes are not
    # among those of the root.
    table: RouteTable
    is_host: bool = False

    def move(self, route: Route) -> Route:
        """Make a route of the mounted router as it is in the other one."""
        into = self.into
        return route.mounted(into.prefix + self.prefix, self.name, (into.scope,))


class Composing(Declaring, Publishing, ABC):
    """A router that others can be mounted in, and that can be mounted itself.

    Routes compete in the table of the outermost router, the root. Topics are those
    of the root as well.
    """

    def __init__(
        self,
        topics: Topics,
        serializer: Serializer,
        prefix: str = "",
        before_handshake: Iterable[Callable[[Any, Any], Any]] = (),
        middleware: Iterable[Callable[..., Awaitable[None]]] = (),
        origins: Sequence[Any] | None = None,
        lifespan: Callable[..., AbstractAsyncContextManager[Any]] | None = None,
    ) -> None:
        self.lifespan = Lifespan(lifespan)
        #: What the context manager of the lifespan yielded.
        self.state: Any = None
        Declaring.__init__(self, prefix, origins)
        Publishing.__init__(self, topics, serializer)
        #: Whether anything here answers requests.
        self.answers_requests = False
        #: Connections that were aborted because their peer took nothing; the root
        #: counts.
        self.stalls = 0
        for hook in before_handshake:
            self.scope.add_hook(hook)
        for each in middleware:
            self.scope.add_middleware(each)
        self._mount: _Mount | None = None
        self._hosts: HostTable[Composing] = HostTable()
        self._mounted: list[Composing] = []
        self._given_topics = False

    @property
    def root(self) -> Composing:
        """The outermost router that this one is mounted in, or itself."""
        return self if self._mount is None else self._mount.into.root

    def mount(self, prefix: str, router: C, *, name: str | None = None) -> C:
        """Put all routes of a router under a prefix, those that come later as well.

        Its hooks, middleware, error handlers and declared topics come along.

        Args:
            prefix: A template; it may have parameters, as in ``/tenant/{tenant}``.
            router: The router. It cannot be mounted twice, nor serve any more.
            name: What to put before the names of its routes: ``name="api"`` makes
                ``thing`` of it ``api:thing``.

        Returns:
            The router.

        Raises:
            MountError: If the router is mounted already, or is this one, or holds
                it, or serves, or has topics of its own; or if another router has
                the prefix.
            TemplateError: If the prefix cannot work, or does not fit a route.
            DuplicateName: If a name of its routes is taken.
            InvalidTopic: If a topic of it is declared here already.
        """
        if not isinstance(router, Composing):
            kind = type(router).__name__
            raise MountError(f"a router is mounted, not {kind}")
        prefix = check_prefix(prefix)
        router._check_mountable(self)
        if router.handshake.not_found is not None:
            raise MountError(_NO_NOT_FOUND)
        for other in self._mounted:
            taken = other._mount
            if taken is not None and taken.prefix + other.prefix == (
                prefix + router.prefix
            ):
                raise MountError(
                    f"another router is mounted under {prefix + router.prefix!r}"
                )
        mount = _Mount(self, prefix, name, self._table)
        moved = [mount.move(route) for route in router._table.declared]
        # What may be refused comes first: then nothing has changed.
        self.root.topics.check_adoption(router.topics)
        self._add_routes(moved)
        self._take(router, mount)
        self._mounted.append(router)
        return router

    def _take(self, router: Composing, mount: _Mount) -> None:
        self.root.topics.adopt(router.topics)
        router._mount = mount
        if router.answers_requests:
            self.root.answers_requests = True
        router._use_topics(self.root.topics)

    def add_host(self, template: str, router: C, *, name: str | None = None) -> C:
        """Give the routes of a router to a host.

        They match only where the ``Host`` header does: without its port, whatever its
        case. The most specific host wins; a host that has no such route is a 404, it
        does not pass on to the routes that have no host, which come last.

        Args:
            template: A name such as ``api.example.com``, ``*.example.com`` or
                ``{tenant}.example.com``: ``*`` stands for any one label, and so does
                a parameter, which becomes one of ``path.params``.
            router: The router; what holds for mounting holds for it. Its
                ``not_found`` answers what does not match on this host.
            name: What to put before the names of its routes, as in ``mount``.

        Returns:
            The router.

        Raises:
            TemplateError: If the template cannot work, or if the same hosts have a
                router already.
            MountError: If this router is mounted itself, or if the other one cannot
                be.
        """
        if self._mount is not None:
            raise MountError("only a root has hosts: mounted routers share its own")
        if not isinstance(router, Composing):
            kind = type(router).__name__
            raise MountError(f"a host gets a router, not {kind}")
        parsed = HostTemplate(template)
        router._check_mountable(self)
        table = RouteTable()
        mount = _Mount(self, "", name, table, True)
        table.add(*map(mount.move, router._table.declared))
        self.topics.check_adoption(router.topics)
        self.handshake.hosts.add(parsed, HostRoutes(table, router.handshake))
        self._hosts.add(parsed, router)
        self._take(router, mount)
        return router

    def remove_host(self, template: str) -> bool:
        """Take its routes from a host again; tell whether it had any.

        Clients of that host get the next best one, or the routes without a host.
        Connections that are open stay. The router may be added again.
        """
        parsed = HostTemplate(template)
        self.handshake.hosts.remove(parsed)
        for each, router in self._hosts:
            if each.key == parsed.key:
                router._mount = None
        return self._hosts.remove(parsed)

    @property
    def hosts(self) -> tuple[tuple[str, tuple[Route, ...]], ...]:
        """The hosts that have routes, and these, the most specific host first."""
        return tuple(
            (template.text, found.table.routes)
            for template, found in self.handshake.hosts
        )

    def url_for(self, name: str, /, **params: object) -> str:
        """Build the path of a named route, percent-encoded.

        A mounted router builds the whole path, by the name that the route has in it. A
        root knows the routes of its hosts as well; where the same name is on several,
        that of the most specific host counts.

        Args:
            name: The name of the route.
            **params: A value for each parameter that is not optional, those of the
                prefixes included.

        Raises:
            UnknownName: If no route has the name; suggests the nearest.
            BuildError: If a parameter is missing or unknown, or if a value
                would not come back as it is.
        """
        return self._named(name)[0].url(params)

    def absolute_url(
        self, name: str, params: dict[str, object], secure: bool, host: str
    ) -> str:
        """Build the whole URL of a named route; for this package.

        Args:
            name: The name of the route.
            params: Its params.
            secure: Whether clients come by TLS.
            host: The ``Host`` that the client asks for.

        Raises:
            UnknownName: If no route has the name.
            BuildError: If the params do not fit, or no host is known.
        """
        route, template = self._named(name)
        if template is not None:
            host = template.find(host)
        if not host:
            raise BuildError(route.template.text, "it is not known on which host")
        scheme = "ws" if route.methods is None else "http"
        return f"{scheme}{'s' * secure}://{host}{route.url(params)}"

    def _named(self, name: str) -> tuple[Route, HostTemplate | None]:
        """Find a route by its name, and the hosts that it is on, if not on all."""
        if not self._table.has(name):
            for template, found in self.handshake.hosts:
                if found.table.has(name):
                    return found.table.named(name), template
            return self._table.named(name), None
        table = self._table
        outer: Composing = self
        while (mount := outer._mount) is not None:
            if mount.name is not None:
                name = f"{mount.name}:{name}"
            table, outer = mount.table, mount.into
        return table.named(name), None

    def not_found(self, function: N) -> N:
        """Decorate a function ``f(ws, path)`` that answers unmatched paths.

        It may be a coroutine. In the handshake it returns a response, or None
        for the plain 404. On a connection that is already open it may send
        something; the connection is then closed with 4040.

        Raises:
            EndpointError: If it is no such function.
            MountError: If the router is mounted; that of a host may have one.
        """
        if self._mount is not None and not self._mount.is_host:
            raise MountError(_NO_NOT_FOUND)
        if not callable(function) or not takes(function, 2):
            name = endpoint_name(function)
            raise EndpointError(name, "not_found decorates a function f(ws, path)")
        self.handshake.not_found = function
        return function

    def _check_mountable(self, into: Composing) -> None:
        if self._mount is not None:
            raise MountError("the router is mounted already; make another one")
        if into.root is self:
            raise MountError("a router cannot be mounted in itself")
        if self._hosts:
            raise MountError("the router has hosts: only a root has them")
        if self.is_bound:
            raise MountError("the router serves already; mount before serving")
        if into.root.is_bound and any(each.lifespan for each in self.routers):
            raise MountError("the root serves already: the lifespan would not begin")
        self._check_own()
        if self.topics is not into.root.topics and (
            self._given_topics or self.topics.is_used
        ):
            raise MountError(
                "the router has topics of its own that are in use already: nobody "
                "would hear what was published to them; mount it first"
            )

    @property
    @abstractmethod
    def is_bound(self) -> bool:
        """Whether connections were made for this router."""

    @abstractmethod
    def _check_own(self) -> None:
        """Check that the router was given nothing that only a root has.

        Raises:
            MountError: If it was.
        """

    def _use_topics(self, topics: Topics) -> None:
        self.topics = topics
        for router in self.routers[1:]:
            router.topics = topics

    def _add_routes(self, routes: Sequence[Route]) -> None:
        if any(route.methods is not None for route in routes):
            root = self.root
            root.answers_requests = self.answers_requests = True
        # The root first: if it takes them, so does every router on the way.
        mount = self._mount
        if mount is not None:
            moved = [mount.move(each) for each in routes]
            if mount.is_host:
                mount.table.add(*moved)
            else:
                mount.into._add_routes(moved)
        super()._add_routes(routes)

    @property
    def routers(self) -> tuple[Composing, ...]:
        """The router and all that are in it, the outer before the inner."""
        direct = [*self._mounted, *(router for _, router in self._hosts)]
        inner = [each for router in direct for each in router.routers]
        return (self, *inner)

    def on_start(self, function: F) -> F:
        """Decorate a function ``f()`` that runs before the server listens.

        It may be a coroutine function. If it fails, nothing listens, and what had
        started is shut down. Those of mounted routers come after.

        Raises:
            EndpointError: If it takes an argument.
        """
        self.lifespan.add_start(function)
        return function

    def on_shutdown(self, function: F) -> F:
        """Decorate a function ``f()`` that runs once the server listens no more.

        It may be a coroutine function. Connections are still open. All of these
        functions together have half of ``close_timeout``. If one fails, or takes
        longer, that is logged, and the others run; those that are left when the time
        is over have a moment each. Those of mounted routers come before.

        Raises:
            EndpointError: If it takes an argument.
        """
        self.lifespan.add_shutdown(function)
        return function

    def before_handshake(self, function: F) -> F:
        """Decorate a function ``f(ws, path)`` that looks at handshakes.

        It is called for every path that matches a route of this router, before the
        hooks of mounted routers and of the endpoint; it may be a coroutine function.
        It returns None to go on, or a response to refuse, or raises ``NextRoute`` to
        pass on to the next best route.

        Raises:
            EndpointError: If it does not take ``(ws, path)``.
        """
        self.scope.add_hook(function)
        return function

    def middleware(self, function: F) -> F:
        """Decorate an ``async def m(ws, path, call_next)`` around handlers.

        ``await call_next(ws, path, **values)`` runs what is further in: middleware of
        this router that was declared later, then that of mounted routers, then the
        handler. Values are handed to those that ask for them by keyword. It may do
        without, and may catch what is raised.

        Raises:
            EndpointError: If it is no coroutine function of three arguments.
        """
        self.scope.add_middleware(function)
        return function

    @overload
    def on_error(self, kind: type[BaseException]) -> Callable[[F], F]: ...

    @overload
    def on_error(self, kind: F) -> F: ...

    def on_error(self, kind: Any) -> Any:
        """Decorate a function ``f(error, ws, path)`` that hears of errors.

        ``@router.on_error`` hears of every ``Exception``, ``@router.on_error(Kind)``
        of one class and those derived from it: the nearest class, in the nearest
        router. In a handshake it may return a response, the default being 500. A
        connection that is still open afterwards is closed with the close code of the
        error, 1011 if it has none. It may be a coroutine function. ``ws`` and
        ``path`` are None where there is no connection.

        Raises:
            EndpointError: If it does not take ``(error, ws, path)``.
        """
        if isinstance(kind, type):
            if not issubclass(kind, BaseException):
                raise EndpointError(kind.__qualname__, "on_error takes an exception")

            def declare(function: F) -> F:
                self.scope.add_error(kind, function)
                return function

            return declare
        self.scope.add_error(Exception, kind)
        return kind
