"""Connecting: how connections get to a router, whatever makes them."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from functools import cache
from typing import Any, TypeVar, overload

from websockets import Request, Response
from websockets.asyncio.server import ServerConnection

from .binding import bind_class, bind_factory
from .exceptions import MountError
from .extensions import Extensions
from .protocol import Protocol
from .requesting import Requesting
from .serving import serve_connection

__all__ = ["Connecting"]

P = TypeVar("P", bound=Protocol)


class Connecting(Requesting):
    """A router as a handler for ``websockets.serve``, and as what makes connections."""

    _has_json = False

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._extensions = Extensions(Protocol)
        self._classes: dict[type[Protocol], type[Protocol]] = {}
        # Of the connections.
        self._attributes: dict[str, Any] = {
            "router": self,
            "serializer": self.serializer,
        }

    def extend(self, extension: Callable[..., Any]) -> None:
        """Add methods and attributes to the connections of this router.

        Args:
            extension: A function ``f(ws)`` or ``f(request, response, ws)``, called
                now; these are ``Registrar`` objects. What it adds to responses, those
                have that ``request.response(…)`` makes.

        Raises:
            ExtensionError: If a name is taken, or if the router served already.
            MountError: If the router is mounted: the root makes the connections.
        """
        self._check_root("extends connections")
        self._extensions.add(extension)

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
        if self._mount is not None:
            self._check_root("handles connections")
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
        self._check_root("handles handshakes")
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
            MountError: If this router is mounted in another one.
        """
        self._check_root("makes connections")
        if getattr(base, "router", None) is self:
            return base
        if base not in self._classes:
            self._classes[base] = bind_class(base, self._extensions, self._attributes)
        return self._classes[base]

    @property
    def is_bound(self) -> bool:
        """Whether connections were made for this router."""
        return bool(self._classes)

    def _check_root(self, does: str) -> None:
        # A mounted router knows nothing of the hooks of those that it is in.
        if self._mount is not None:
            raise MountError(f"a router that is mounted never {does}; its root does")

    def _check_own(self) -> None:
        given = {
            "json": self._has_json,
            "max_backlog": "max_backlog" in self._attributes,
            "extensions": bool(self._extensions),
        }
        found = [name for name, is_given in given.items() if is_given]
        if found:
            problem = f"the router has {', '.join(found)} of its own"
            raise MountError(f"{problem}: give what holds for connections to the root")

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
