"""Listening sockets that several processes share: opened once, inherited by workers.

The queue of connections that nobody has accepted yet belongs to the socket, not to a
process: what one worker does not take, another one does. With SO_REUSEPORT each
process would have a queue of its own, which is lost with it.
"""

from __future__ import annotations

import asyncio
import errno
import socket
import stat
import sys
import weakref
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from websockets.asyncio.server import ServerConnection
from websockets.protocol import State

__all__ = [
    "BACKLOG",
    "SharedServer",
    "listen_together",
    "listening",
    "open_sockets",
    "open_unix",
]

#: How many connections may wait to be accepted: enough for a restart of all workers.
BACKLOG = 2048

# What a name of this machine may resolve to without being there.
_ABSENT = {errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT}

# Python 3.13 removes a Unix socket with its server; but here others listen on it too.
_KEEP = {"cleanup_socket": False} if sys.version_info >= (3, 13) else {}


def open_sockets(host: str | None, port: int) -> list[socket.socket]:
    """Open a listening socket for each address of a host.

    Args:
        host: A name or an address; none for all interfaces.
        port: The port; 0 for a free one, not the same for each address.

    Raises:
        OSError: If one of them cannot be had. An address that this machine does not
            have is passed over if there is another one.
    """
    found = socket.getaddrinfo(
        host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )
    opened: list[socket.socket] = []
    absent: OSError | None = None
    try:
        for family, _, _, _, address in dict.fromkeys(found):
            try:
                made = socket.create_server(address, family=family, backlog=BACKLOG)
            except OSError as error:
                if error.errno not in _ABSENT:
                    raise
                absent = error
            else:
                opened.append(made)
        if absent is not None and not opened:
            raise absent
    except OSError:
        for each in opened:
            each.close()
        raise
    return opened


@contextmanager
def listening(
    host: str | None, port: int, unix: str | None
) -> Iterator[list[socket.socket]]:
    """Open listening sockets for as long as the block runs.

    Args:
        host: See ``open_sockets``.
        port: See ``open_sockets``.
        unix: The path of a Unix socket, in place of host and port. It is removed at
            the end, unless somebody else has taken its place.

    Raises:
        OSError: If they cannot be had.
    """
    sockets = open_sockets(host, port) if unix is None else [open_unix(unix)]
    identity = None if unix is None else _identity(unix)
    try:
        yield sockets
    finally:
        for each in sockets:
            each.close()
        if unix is not None and _identity(unix) == identity:
            Path(unix).unlink(missing_ok=True)


def _identity(path: str) -> tuple[int, int] | None:
    try:
        found = Path(path).stat()
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino


def open_unix(path: str) -> socket.socket:
    """Open a listening Unix socket, in place of one that is there already.

    Raises:
        OSError: If it cannot be had.
    """
    found = Path(path)
    if found.exists() and stat.S_ISSOCK(found.stat().st_mode):
        found.unlink()
    made = socket.socket(socket.AF_UNIX)
    try:
        made.bind(path)
        made.listen(BACKLOG)
    except OSError:
        made.close()
        raise
    return made


class SharedServer:
    """What ``websockets`` needs of an ``asyncio.Server``, on several sockets.

    Args:
        servers: A server for each of the sockets.
        sockets: The sockets.
        connections: The connections, which may not be open yet.
    """

    def __init__(
        self,
        servers: Sequence[asyncio.Server],
        sockets: Sequence[socket.socket],
        connections: weakref.WeakSet[ServerConnection],
    ) -> None:
        self._servers = servers
        self._descriptors = [each.fileno() for each in sockets]
        self._connections = connections
        self._accepting = True
        #: Whether the server has begun to close.
        self.closed = False

    @property
    def sockets(self) -> tuple[Any, ...]:
        return tuple(sock for each in self._servers for sock in each.sockets)

    def get_loop(self) -> asyncio.AbstractEventLoop:
        return self._servers[0].get_loop()

    def is_serving(self) -> bool:
        return not self.closed

    @property
    def is_opening(self) -> bool:
        """Whether there is a connection in the middle of its handshake."""
        return any(
            ws.protocol.state is State.CONNECTING
            # There is no transport before a TLS handshake is over.
            and not (hasattr(ws, "transport") and ws.transport.is_closing())
            for ws in tuple(self._connections)
        )

    def stop_accepting(self) -> None:
        """Leave new connections to other processes; serve those that are there."""
        if not self._accepting:
            return
        self._accepting = False
        loop = self.get_loop()
        for descriptor in self._descriptors:
            # asyncio accepts in one turn of the loop and makes the transport in the
            # next, for which its server must not be closed yet.
            loop.remove_reader(descriptor)
        for server in self._servers:
            loop.call_soon(server.close)

    def close(self) -> None:
        self.closed = True
        self.stop_accepting()

    async def wait_closed(self) -> None:
        for server in self._servers:
            await server.wait_closed()


def listen_together(
    loop: asyncio.AbstractEventLoop,
    sockets: Sequence[socket.socket],
    listening: Callable[[SharedServer], None],
) -> None:
    """Teach a loop to create a server on several sockets that are open already.

    ``websockets`` hands what it is given as ``sock`` to ``loop.create_server``, which
    knows one socket only.

    Args:
        loop: The loop.
        sockets: The sockets. Whoever creates a server gives them as ``sock``.
        listening: Called with the server once it listens.
    """
    tcp: Callable[..., Awaitable[asyncio.Server]] = loop.create_server
    unix: Callable[..., Awaitable[asyncio.Server]] = loop.create_unix_server

    async def create_server(
        factory: Callable[[], ServerConnection],
        *args: Any,
        sock: Any = None,
        **options: Any,
    ) -> Any:
        if sock is not sockets:
            return await tcp(factory, *args, sock=sock, **options)
        connections: weakref.WeakSet[ServerConnection] = weakref.WeakSet()

        def make() -> ServerConnection:
            connection = factory()
            connections.add(connection)
            return connection

        servers = []
        for each in sockets:
            create, more = tcp, options
            if each.family == socket.AF_UNIX:
                create, more = unix, options | _KEEP
            servers.append(await create(make, sock=each, backlog=BACKLOG, **more))
        server = SharedServer(servers, sockets, connections)
        listening(server)
        return server

    loop.create_server = create_server  # type: ignore[assignment, method-assign]
