"""What the tests over loopback share: the ways in, and what a client meets there."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import websockets.asyncio.server
from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.server import Server
from websockets.exceptions import ConnectionClosed, InvalidStatus

from websockets_routes import Protocol, Router

HOST = "127.0.0.1"

# Where a test would hang it fails after so many seconds.
TIMEOUT = 10


class MyProtocol(Protocol):
    """A connection class of the user's own."""

    async def greet(self) -> None:
        await self.send(f"hello from {type(self).__name__}")


@dataclass(frozen=True)
class WayIn:
    """One row of the table of ways to serve a router.

    Attributes:
        serve: Makes the server, listening on a free port of 127.0.0.1.
        refuses: Whether a refusal is an HTTP response; else it is a close code.
        routed: Whether connections are of a class of this package.
        hook: Whether the server's own ``process_request`` is free for the user.
    """

    serve: Callable[..., Server]
    refuses: bool
    routed: bool
    hook: bool

    def refusal(self, status: int, close_code: int) -> int:
        """Choose what the client sees: the status or the close code."""
        return status if self.refuses else close_code


def serve_plain(handler: Any, **kwargs: Any) -> Server:
    return websockets.asyncio.server.serve(handler, HOST, 0, **kwargs)


def _serve_partial(router: Router, **kwargs: Any) -> Server:
    make = cast(Any, partial(MyProtocol, router=router))
    return serve_plain(router, create_connection=make, **kwargs)


WAYS_IN = {
    "serve": WayIn(lambda router, **kw: router.serve(HOST, 0, **kw), True, True, True),
    "serve-class": WayIn(
        lambda router, **kw: router.serve(HOST, 0, create_connection=MyProtocol, **kw),
        True,
        True,
        True,
    ),
    "connection-class": WayIn(
        lambda router, **kw: serve_plain(
            router, create_connection=router.connection_class(MyProtocol), **kw
        ),
        True,
        True,
        True,
    ),
    "partial": WayIn(_serve_partial, True, True, True),
    "process-request": WayIn(
        lambda router, **kw: serve_plain(
            router.handle, process_request=router.process_request, **kw
        ),
        True,
        False,
        False,
    ),
    "handle": WayIn(
        lambda router, **kw: serve_plain(router.handle, **kw), False, False, False
    ),
    "call": WayIn(lambda router, **kw: serve_plain(router, **kw), False, False, False),
    "unbound": WayIn(
        lambda router, **kw: serve_plain(router, create_connection=MyProtocol, **kw),
        False,
        True,
        False,
    ),
}


@asynccontextmanager
async def serving(server: Server) -> AsyncIterator[str]:
    """Run a server; yield its address; check that no task outlives it."""
    before = asyncio.all_tasks()
    async with asyncio.timeout(TIMEOUT):
        async with server:
            yield address(server)
        left = asyncio.all_tasks() - before
        if left:
            _, left = await asyncio.wait(left, timeout=TIMEOUT / 2)
        assert not left, f"tasks outlive the server: {left}"


def address(server: Server, scheme: str = "ws") -> str:
    return f"{scheme}://{HOST}:{port(server)}"


async def until(condition: Callable[[], object]) -> None:
    """Let the event loop turn until a condition holds that has no event."""
    while not condition():  # noqa: ASYNC110
        await asyncio.sleep(0)


def port(server: Server) -> int:
    number: int = server.sockets[0].getsockname()[1]
    return number


def connecting(uri: str, **kwargs: Any) -> connect:
    """Connect as ``websockets`` does, whatever proxy the environment names."""
    return connect(uri, proxy=None, **kwargs)


async def refusal(uri: str, **kwargs: Any) -> int:
    """Connect; return the HTTP status or the close code that ends it."""
    return (await answer(uri, **kwargs))[0]


async def answer(uri: str, **kwargs: Any) -> tuple[int, str]:
    """Connect; return what ends it: status and body, or close code and reason."""
    try:
        async with connecting(uri, **kwargs) as ws:
            return await end(ws)
    except InvalidStatus as error:
        return error.response.status_code, bytes(error.response.body).decode()


async def end(ws: ClientConnection) -> tuple[int, str]:
    """Wait for a connection that gets no message to end."""
    try:
        message = await ws.recv()
    except ConnectionClosed:
        assert ws.close_code is not None
        return ws.close_code, ws.close_reason or ""
    raise AssertionError(f"got a message: {message!r}")


async def receive(uri: str, **kwargs: Any) -> str:
    """Connect; return the first message, a text."""
    async with connecting(uri, **kwargs) as ws:
        return await ws.recv(decode=True)


async def exchange(
    port: int, request: bytes, context: ssl.SSLContext | None = None
) -> bytes:
    """Send bytes and return all that comes back until the server ends.

    Nothing is half-closed before the server has ended its side.
    """
    reader, writer = await asyncio.open_connection(HOST, port, ssl=context, limit=2**20)
    try:
        writer.write(request)
        await writer.drain()
        return await reader.read()
    finally:
        writer.close()
        await writer.wait_closed()


def status_line(response: bytes) -> str:
    return response.partition(b"\r\n")[0].decode("ascii")
