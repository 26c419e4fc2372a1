"""Request: what a client asks for, and the body that comes with it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from websockets import Headers
from websockets.datastructures import HeadersLike

from ..cookies import parse_cookies
from ..exceptions import (
    BadRequest,
    BodyTooLarge,
    ClientDisconnected,
    NotServing,
    RoutesError,
)
from ..path import QueryParams, RoutedPath
from ..proxied import Proxied
from ..proxying import Proxies
from ..serializer import Serializer
from ..target import Target, parse_target, target_host
from .response import Response

if TYPE_CHECKING:
    from ..router import Router

__all__ = ["Body", "Peer", "Request"]

T = TypeVar("T")


class Body(Protocol):
    """Where the body of a request comes from."""

    async def read(self) -> bytes:
        """Return what has come, at least a byte; nothing at the end.

        Raises:
            ClientDisconnected: If the peer went away before the end.
        """


class Peer(Protocol):
    """Who sent a request, and what it came in by."""

    scheme: str
    remote_address: Any
    proxies: Proxies | None
    announced_address: str | None
    disconnected: asyncio.Event

    def start_task(self, coroutine: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Start a task that ends with the server."""


class _Bytes:
    """A body that is there already."""

    def __init__(self, body: bytes) -> None:
        self._body = body

    async def read(self) -> bytes:
        body, self._body = self._body, b""
        return body


class Request(Proxied):
    """An HTTP request. It stays valid after any await.

    Args:
        method: The method; case matters (RFC 9110 section 9.1).
        target: The request target: a path, maybe with a query.
        headers: The headers.
        body: The body, or where it comes from.
        protocol: The version of HTTP.

    Attributes:
        method: The method.
        path: The routed path, with ``params``, ``context``, ``inputs`` and ``route``.
        headers: The headers.
        protocol: ``HTTP/1.1`` or ``HTTP/1.0``.
        max_content_length: Bytes that the body may have, or None; that of the route.
        router: The router that serves, or None.
    """

    router: Router | None = None
    #: Makes responses that have what extensions of the router add to them.
    response: type[Response] = Response

    def __init__(
        self,
        method: str,
        target: str,
        headers: HeadersLike | None = None,
        body: bytes | Body = b"",
        *,
        protocol: str = "HTTP/1.1",
        peer: Peer | None = None,
    ) -> None:
        self.method = method
        self.headers = (
            headers if isinstance(headers, Headers) else Headers(headers or {})
        )
        self.protocol = protocol
        #: What its path is made of; None if it is malformed.
        self.target: Target | None
        try:
            self.target = parse_target(target)
        except BadRequest:
            self.target = None
        self.path: RoutedPath = RoutedPath(target, self.target)
        self.max_content_length: int | None = None
        self._body: Body = _Bytes(body) if isinstance(body, bytes) else body
        self._whole: bytes | None = None
        self._streamed = False
        self._failure: Exception | None = None
        self._peer = peer
        self.announced_address = None if peer is None else peer.announced_address

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.method} {self.path}>"

    # The head

    @property
    def params(self) -> dict[str, str]:
        """What the route found in the path."""
        params: dict[str, str] = self.path.params
        return params

    @property
    def context(self) -> dict[Any, Any]:
        """The context of the path, shared by hooks and handler."""
        return self.path.context

    @property
    def query_params(self) -> QueryParams:
        """The parameters of the query."""
        return self.path.query_params

    @property
    def cookies(self) -> dict[str, str]:
        """The cookies, by name; the first of a name counts."""
        return parse_cookies(self.headers)

    @property
    def scheme(self) -> str:
        """``http`` or ``https``, as the client has it."""
        return "https" if self._asked_for()[0] else "http"

    @property
    def content_length(self) -> int | None:
        """Bytes of the body, if that was said."""
        for length in self.headers.get_all("Content-Length")[:1]:
            if length.isascii() and length.isdigit() and len(length) < 19:
                return int(length)
        return None

    @property
    def host(self) -> str:
        """The host that the client asks for, with the port if it has one."""
        host = target_host(self.path)
        return self._asked_for()[1] if host is None else host

    @property
    def url(self) -> str:
        """The whole URL that is asked for."""
        if not self.path.startswith("/"):
            return str(self.path)
        return f"{self.scheme}://{self.host}{self.path}"

    @property
    def remote_address(self) -> Any:
        """The address of the peer, as ``websockets`` has it."""
        return None if self._peer is None else self._peer.remote_address

    def _asked_by(self) -> tuple[Proxies | None, Headers | None, bool]:
        if self._peer is None:
            return None, self.headers, False
        return self._peer.proxies, self.headers, self._peer.scheme == "https"

    # The body

    async def stream(self) -> AsyncIterator[bytes]:
        """Iterate over the body as it comes, once.

        Raises:
            BodyTooLarge: If it is longer than it may be; unhandled, it is a 413.
            ClientDisconnected: If the peer went away before its end.
            RoutesError: If it was streamed before.
        """
        if self._whole is not None:
            if self._whole:
                yield self._whole
            return
        if self._failure is not None:
            raise self._failure
        if self._streamed:
            raise RoutesError("the body was streamed already: there is no more of it")
        self._streamed = True
        limit, size = self.max_content_length, 0
        while piece := await self._body.read():
            size += len(piece)
            if limit is not None and size > limit:
                self._failure = BodyTooLarge(limit)
                raise self._failure
            yield piece

    async def body(self) -> bytes:
        """Return the whole body; again the same, if called again.

        Raises:
            BodyTooLarge: If it is longer than it may be; unhandled, it is a 413.
            ClientDisconnected: If the peer went away before its end.
            RoutesError: If it was streamed before.
        """
        if self._whole is None:
            try:
                self._whole = b"".join([piece async for piece in self.stream()])
            except ClientDisconnected as error:
                self._failure = error
                raise
        return self._whole

    async def text(self) -> str:
        """Return the whole body as text; what is not UTF-8 is replaced."""
        return (await self.body()).decode(errors="replace")

    async def json(self) -> Any:
        """Return what the body is the JSON of.

        Raises:
            InvalidJSON: If it is none; unhandled, it is a 400.
        """
        router = self.router
        serializer = Serializer() if router is None else router.serializer
        return serializer.loads(await self.body())

    # The peer

    @property
    def disconnected(self) -> bool:
        """Whether the peer went away."""
        return self._peer is not None and self._peer.disconnected.is_set()

    async def wait_disconnected(self) -> None:
        """Wait until the peer goes away."""
        if self._peer is None:
            await asyncio.get_running_loop().create_future()
        else:
            await self._peer.disconnected.wait()

    def cancel_on_disconnect(self) -> None:
        """Have the handler, which is the current task, cancelled if the peer leaves."""
        task = asyncio.current_task()
        assert task is not None, "a handler runs in a task"
        waiting = asyncio.get_running_loop().create_task(self.wait_disconnected())
        task.add_done_callback(lambda _: waiting.cancel())

        def gone(waiting: asyncio.Task[None]) -> None:
            if not waiting.cancelled():
                task.cancel()

        waiting.add_done_callback(gone)

    def start_task(self, coroutine: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Start a task that may outlive the request, and ends with the server.

        If it fails, error handlers hear of it.

        Raises:
            NotServing: If no server runs.
        """
        if self._peer is None:
            coroutine.close()
            raise NotServing("the request came from no server")
        return self._peer.start_task(coroutine)
