"""Testing: a router that serves for the time of a test, and clients to meet it.

Also the contract that every broker keeps, as tests to inherit.

What it takes from ``websockets`` beyond its documentation, ``tests/test_testing.py``
watches: ``transport`` of a connection, and ``connect.process_redirect``.
"""

from __future__ import annotations

import asyncio
import json
import logging
import socket
import ssl as ssl_module
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, cast

from websockets import (
    Headers,
    HeadersLike,
    InvalidStatus,
    Origin,
    Response,
    Subprotocol,
)
from websockets.asyncio.client import ClientConnection, connect

from .contract import BrokerContract, EngineContract
from .offspring import Offspring
from .pubsub import Filter
from .router import Router
from .servers import RoutedServer
from .subscribers import reach

if TYPE_CHECKING:
    from .http.request import Request

__all__ = [
    "TIMEOUT",
    "Answer",
    "BrokerContract",
    "Client",
    "EngineContract",
    "Refused",
    "Stalled",
    "client",
    "dispatch",
]

#: Seconds after which a test that waits for something fails.
TIMEOUT = 5.0

_HOST = "127.0.0.1"

# Bytes that the kernel takes for a peer that reads nothing; it knows its own minimum.
_RECEIVE_BUFFER = 2**12


class Answer:
    """What a router answered a request with; made by ``dispatch``.

    Attributes:
        status: The status code.
        headers: The headers.
        body: The body, all of it.
        text: The body as text; what is not UTF-8 in it is replaced.
    """

    def __init__(self, status: int, headers: Headers, body: bytes) -> None:
        self.status = status
        self.headers = headers
        self.body = body
        self.text = body.decode(errors="replace")

    def __repr__(self) -> str:
        return f"<Answer {self.status}: {self.text.strip()}>"

    def json(self) -> Any:
        """Parse the body."""
        return json.loads(self.body)


async def dispatch(router: Router, request: Request) -> Answer:
    """Have a router answer a request, without a server and without a socket.

    Hooks, middleware and error handlers run as they always do; the lifespan does not.

    Args:
        router: The router, a root.
        request: Such as ``Request("POST", "/x", {"Host": "a"}, b"body")``; a missing
            ``Host`` header is added.
    """
    # What answers requests is imported only where it is used.
    from .http.dispatching import answer

    if "Host" not in request.headers:
        request.headers["Host"] = _HOST
    if type(request) is router.request_class.__base__:
        request.__class__ = router.request_class
    message = await answer(router, request, logging.getLogger("websockets.server"))
    body = message.body
    if message.stream is not None:
        try:
            body = b"".join([piece async for piece in message.stream])
        finally:
            await message.stream.aclose()
    return Answer(message.status, message.headers, body)


class Refused(InvalidStatus):
    """The server answered a handshake with a response that opens no connection.

    Attributes:
        status: The status code.
        headers: The headers.
        body: The body.
        text: The body as text; what is not UTF-8 in it is replaced.
    """

    def __init__(self, response: Response) -> None:
        super().__init__(response)
        self.status = response.status_code
        self.headers = response.headers
        self.body = bytes(response.body)
        self.text = self.body.decode(errors="replace")

    def __str__(self) -> str:
        return f"refused with HTTP {self.status}: {self.text.strip()}"


class Stalled:
    """A peer that has opened its connection and reads nothing; see ``Client.stalled``.

    Attributes:
        ws: The connection. It can send all the while.
    """

    def __init__(self, ws: ClientConnection) -> None:
        self.ws = ws
        self._reads = False
        ws.transport.pause_reading()

    def resume(self) -> None:
        """Read again: ``ws.recv()`` returns what has waited, in order."""
        self._reads = True
        self.ws.transport.resume_reading()

    async def close(self) -> None:
        """Close the connection; one that still reads nothing is aborted."""
        if self._reads:
            await self.ws.close()
        else:
            self.ws.transport.abort()
            await self.ws.wait_closed()


class Client:
    """Clients of one router that is being served; made by ``client``.

    Attributes:
        router: The router.
        server: Its server.
        port: The port that it listens on, at 127.0.0.1.
        url: What its URLs begin with, without a path.
    """

    server: RoutedServer
    port: int
    url: str

    def __init__(
        self, router: Router, ssl: ssl_module.SSLContext | None, timeout: float
    ) -> None:
        self.router = router
        self._client_options: dict[str, Any] = {"proxy": None}
        if ssl is not None:
            self._client_options["ssl"] = ssl
        self._timeout = timeout
        self._peers: list[ClientConnection | Stalled] = []
        self._offspring = Offspring()

    # Connecting

    async def connect(
        self,
        path: str,
        *,
        headers: HeadersLike | None = None,
        subprotocols: Sequence[str] | None = None,
        origin: str | None = None,
        compression: str | None = "deflate",
        host: str = _HOST,
        **connect_options: Any,
    ) -> ClientConnection:
        """Open a connection, which is closed with the client at the latest.

        No redirect is followed: it is a refusal.

        Args:
            path: The path, and the query if there is one: ``"/room/1?since=2"``.
            headers: Headers to add to the request.
            subprotocols: Subprotocols to offer, the preferred one first.
            origin: The ``Origin`` header.
            compression: None to offer none.
            host: The name to ask for in the ``Host`` header and, with TLS, in SNI.
            **connect_options: See ``websockets.connect``.

        Returns:
            The connection; it can be entered with ``async with`` as well.

        Raises:
            Refused: If the server refuses.
            InvalidHandshake: If it answers anything else.
            TimeoutError: If it does not answer in ``open_timeout``.
            ValueError: If the path is none.
        """
        if not path.startswith("/"):
            raise ValueError(f"a path begins with a slash: {path!r}")
        options = self._client_options | connect_options
        if "sock" not in options:
            options |= {"host": _HOST, "port": self.port}
        try:
            ws = await _Connect(
                self.url.replace(_HOST, host) + path,
                additional_headers=headers,
                subprotocols=cast("Sequence[Subprotocol] | None", subprotocols),
                origin=cast("Origin | None", origin),
                compression=compression,
                **options,
            )
        except InvalidStatus as error:
            raise Refused(error.response) from None
        self._peers.append(ws)
        return ws

    async def refusal(self, path: str, **options: Any) -> Refused:
        """Expect a handshake to be refused; return the response to it.

        See ``connect`` for the arguments.

        Raises:
            AssertionError: If it succeeds.
        """
        try:
            ws = await self.connect(path, **options)
        except Refused as refused:
            return refused
        await self._close(ws)
        raise AssertionError(f"the handshake of {path!r} was not refused")

    async def stalled(self, path: str, **options: Any) -> Stalled:
        """Open a connection that takes nothing once its handshake is done.

        It does not answer pings either, and sends none. What is sent to it fills the
        buffers of the operating system first, up to some megabytes of them; then the
        server sees that it is slow. See ``connect`` for the arguments.
        """
        sock = socket.socket()
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER)
            sock.setblocking(False)
            loop = asyncio.get_running_loop()
            await loop.sock_connect(sock, (_HOST, self.port))
            options = {"ping_interval": None, **options, "sock": sock}
            ws = await self.connect(path, **options)
        except BaseException:
            sock.close()
            raise
        stalled = Stalled(ws)
        self._peers[self._peers.index(ws)] = stalled
        return stalled

    # Waiting

    async def subscribed(
        self, topic: str | Filter, count: int = 1, *, timeout: float | None = None
    ) -> None:
        """Wait until at least so many connections are subscribed to a topic.

        Args:
            topic: The topic, or the filter; who hears the topic only by a filter does
                not count.
            count: How many.
            timeout: Seconds to wait; those of the client by default.

        Raises:
            TimeoutError: If they are not subscribed in time; tells how many are.
        """
        timeout = self._timeout if timeout is None else timeout
        try:
            async with asyncio.timeout(timeout):
                await reach(self.router.topics, topic, count)
        except TimeoutError:
            found = self.router.num_subscribers(topic)
            raise TimeoutError(
                f"after {timeout:g} seconds, {found} of {count} connections are "
                f"subscribed to {str(topic)!r}"
            ) from None

    # Beginning and end

    async def _start(self, options: dict[str, Any]) -> None:
        scheme = "ws" if options.get("ssl") is None else "wss"
        self.server = await self.router.serve(_HOST, 0, **options)
        self.port = self.server.sockets[0].getsockname()[1]
        self.url = f"{scheme}://{_HOST}:{self.port}"

    async def _end(self) -> None:
        try:
            await asyncio.gather(*map(self._close, reversed(self._peers)))
        finally:
            # What only ends the server is not to blame if it does not end.
            closing = Offspring()
            closed = closing.start(self.server.__aexit__(None, None, None))
            left = await self._offspring.end(self._timeout)
            left += await closing.end(self._timeout)
            if left:
                raise AssertionError("\n- ".join(["tasks outlive the server:", *left]))
            closed.result()
        if self.server.lifetime.failure is not None:
            raise self.server.lifetime.failure

    async def _close(self, peer: ClientConnection | Stalled) -> None:
        try:
            async with asyncio.timeout(self._timeout):
                await peer.close()
        except TimeoutError:
            ws = peer.ws if isinstance(peer, Stalled) else peer
            ws.transport.abort()
            await ws.wait_closed()


@asynccontextmanager
async def client(
    router: Router,
    *,
    client_ssl: ssl_module.SSLContext | None = None,
    timeout: float = TIMEOUT,
    **serve_options: Any,
) -> AsyncIterator[Client]:
    """Serve a router on a free port of 127.0.0.1, for clients in the same process.

    Its lifespan runs as it always does. At the end all connections of the client are
    closed, then the server, as ``server.close()`` has it.

    Args:
        router: The router.
        client_ssl: The TLS context of the clients, where ``ssl`` is that of the
            server; by default, they trust what the system trusts.
        timeout: Seconds that each step of waiting may take: for subscribers, for a
            connection to close, for the server and its tasks to end.
        **serve_options: See ``Router.serve``.

    Raises:
        AssertionError: If a task that the server or one of its handlers started
            outlives the server; names them. They are cancelled.
        Exception: What a lifespan raised.
    """
    self = Client(router, client_ssl, timeout)
    await self._offspring.start(self._start(serve_options))
    try:
        yield self
    except BaseException as error:
        # What the test raised says more than what may be left of it.
        try:
            await self._end()
        except AssertionError as left:
            error.add_note(str(left))
        raise
    await self._end()


class _Connect(connect):
    # A redirect is an answer to the test, not to be followed.
    def process_redirect(self, exc: Exception) -> Exception | str:
        return exc
