"""What the tests of slow peers share: clients that read only what they are told to."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from functools import cache
from typing import Any, TypeVar

import pytest
import trustme
import websockets.asyncio.server
from websockets import ClientProtocol, Frame, Opcode, Response
from websockets.asyncio.server import Server
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory
from websockets.uri import parse_uri

from websockets_routes import Protocol, Router

from .servers import HOST, port, serving

__all__ = [
    "Client",
    "Recorder",
    "Recording",
    "Stage",
    "begin",
    "each_security",
    "held_back",
    "resident",
]

T = TypeVar("T")

# Small segments: with large ones, small buffers make the kernel wait for timers.
_SEGMENT = 1200
_BUFFER = 8192
_READ = 2**16

each_security = pytest.mark.parametrize("tls", [False, True], ids=["clear", "tls"])


@cache
def _contexts() -> tuple[ssl.SSLContext, ssl.SSLContext]:
    authority = trustme.CA()
    served = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trusting = ssl.create_default_context()
    authority.issue_cert(HOST).configure_cert(served)
    authority.configure_trust(trusting)
    return served, trusting


def _small_socket() -> socket.socket:
    """Make a socket of which the kernel holds little."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, _SEGMENT)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BUFFER)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER)
    sock.setblocking(False)
    return sock


class Client:
    """A client that reads nothing but what it is told to, and at its own pace.

    It offers to compress messages.

    Attributes:
        messages: What it has read.
        taken: Bytes that it has read.
        frames: How many frames of messages it has read.
    """

    def __init__(self, sock: socket.socket, path: str, tls: bool) -> None:
        self.messages: list[str | bytes] = []
        self.taken = 0
        self.frames = 0
        self._sock = sock
        self._protocol = ClientProtocol(
            parse_uri(f"ws://{HOST}{path}"),
            extensions=[ClientPerMessageDeflateFactory()],
            max_size=None,
        )
        self._fragments: list[Frame] = []
        self._opened = False
        self._ended = False
        self._reading: asyncio.Task[None] | None = None
        self._progress = asyncio.Event()
        self._tls: ssl.SSLObject | None = None
        if tls:
            self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
            context = _contexts()[1]
            self._tls = context.wrap_bio(self._in, self._out, server_hostname=HOST)

    @classmethod
    async def connect(
        cls, port: int, *, path: str = "/hold", tls: bool = False, small: bool = True
    ) -> Client:
        """Connect, with a socket of which the kernel holds little or as usual."""
        sock = _small_socket() if small else socket.socket()
        sock.setblocking(False)
        client = cls(sock, path, tls)
        await asyncio.get_running_loop().sock_connect(sock, (HOST, port))
        client._protocol.send_request(client._protocol.connect())
        await client._write()
        while not client._opened:
            await client.read()
        return client

    @property
    def close_code(self) -> int | None:
        """The close code that it has read."""
        received = self._protocol.close_rcvd
        return None if received is None else received.code

    async def read(self, size: int = _READ) -> bool:
        """Read some bytes, as soon as there are any; tell whether there are more."""
        if self._ended:
            return False
        loop = asyncio.get_running_loop()
        try:
            data = await loop.sock_recv(self._sock, size)
        except ConnectionError:
            data = b""
        self.taken += len(data)
        self._ended = not data
        if self._tls is not None:
            self._in.write(data)
            data = self._decrypt()
        if data:
            self._protocol.receive_data(data)
        if self._ended:
            self._protocol.receive_eof()
        self._take()
        if self._ended:
            self._sock.close()
        else:
            await self._write()
        return not self._ended

    async def read_until(self, condition: Callable[[], object]) -> None:
        while not condition():
            assert not self._ended, "the connection ended before"
            if self._reading is None:
                await self.read()
            else:
                self._progress.clear()
                await self._progress.wait()

    async def read_all(self) -> list[str | bytes]:
        """Read until the connection ends."""
        if self._reading is not None:
            await self._reading
        while await self.read():
            pass
        return self.messages

    def start_reading(self) -> None:
        """Read all that comes, at once, from now on."""
        self._reading = asyncio.create_task(self._read_on())

    async def _read_on(self) -> None:
        while await self.read():
            self._progress.set()
        self._progress.set()

    async def send(self, data: bytes) -> None:
        self._protocol.send_binary(data)
        await self._write()

    async def leave(self) -> None:
        """Leave without a word."""
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.wait([self._reading])
        self._ended = True
        self._sock.close()

    async def say_goodbye(self) -> None:
        """Send a close frame."""
        self._protocol.send_close(1000)
        await self._write()

    def _decrypt(self) -> bytes:
        assert self._tls is not None
        plain = bytearray()
        try:
            while piece := self._tls.read(_READ):
                plain += piece
            self._ended = True
        except ssl.SSLWantReadError:
            pass
        except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
            self._ended = True
        return bytes(plain)

    def _take(self) -> None:
        for event in self._protocol.events_received():
            if isinstance(event, Response):
                assert self._protocol.handshake_exc is None
                self._opened = True
                continue
            assert isinstance(event, Frame)
            if event.opcode not in (Opcode.TEXT, Opcode.BINARY, Opcode.CONT):
                continue
            self.frames += 1
            self._fragments.append(event)
            if event.fin:
                text = self._fragments[0].opcode is Opcode.TEXT
                whole = b"".join(bytes(each.data) for each in self._fragments)
                self._fragments = []
                self.messages.append(whole.decode() if text else whole)
        error = self._protocol.parser_exc
        if error is not None and not isinstance(error, EOFError):
            raise error

    async def _write(self) -> None:
        data = b"".join(self._protocol.data_to_send())
        loop = asyncio.get_running_loop()
        if self._tls is not None:
            while True:
                try:
                    if data:
                        self._tls.write(data)
                    else:
                        self._tls.do_handshake()
                    break
                except ssl.SSLWantReadError:
                    await loop.sock_sendall(self._sock, self._out.read())
                    self._in.write(await loop.sock_recv(self._sock, _READ))
            data = self._out.read()
        if data:
            try:
                await loop.sock_sendall(self._sock, data)
            except ConnectionError:
                self._ended = True


class Recorder:
    """A transport that remembers what is written to it.

    Attributes:
        writes: The very objects.
    """

    def __init__(self, transport: Any) -> None:
        self._transport = transport
        self.writes: list[Any] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: Any) -> None:
        self.writes.append(data)
        self._transport.write(data)


class Recording(Protocol):
    """A connection with a recorder as its transport."""

    recorder: Recorder

    def connection_made(self, transport: Any) -> None:
        self.recorder = Recorder(transport)
        super().connection_made(self.recorder)  # type: ignore[arg-type]

    def writes(self) -> list[Any]:
        """Return what was written since the last call."""
        writes, self.recorder.writes = self.recorder.writes, []
        return writes


class Stage:
    """A router whose connections a test holds by both ends.

    Attributes:
        router: The router.
        server: Its server, while it is open.
        lost: What ``on_drop`` was told: topics and messages.
    """

    server: Server

    def __init__(self, router: Router | None = None) -> None:
        self.router = Router() if router is None else router
        self.router.add_route("/hold", self._hold)
        self.lost: list[tuple[str, str | bytes]] = []
        self.router.topics.on_drop(
            lambda ws, topic, message: self.lost.append((topic, message))
        )
        self._arrivals: asyncio.Queue[Any] = asyncio.Queue()
        self._clients: list[Client] = []

    async def _hold(self, ws: Any) -> None:
        await self._arrivals.put(ws)
        await ws.wait_closed()

    @asynccontextmanager
    async def open(
        self, *, tls: bool = False, small: bool = True, own: bool = True, **kwargs: Any
    ) -> AsyncIterator[Stage]:
        """Serve.

        Args:
            tls: Whether over TLS.
            small: Whether the kernel is to hold little.
            own: Whether with connections of this package, not of websockets.
            **kwargs: For ``serve``.
        """
        sock = _small_socket() if small else socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((HOST, 0))
        kwargs = {"compression": None, "ping_interval": None} | kwargs | {"sock": sock}
        if tls:
            kwargs["ssl"] = _contexts()[0]
        if own:
            self.server = self.router.serve(**kwargs)
        else:
            self.server = websockets.asyncio.server.serve(self.router.handle, **kwargs)
        self._tls, self._small = tls, small
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(serving(self.server))
            stack.push_async_callback(self._leave)
            yield self

    async def _leave(self) -> None:
        for client in self._clients:
            await client.leave()

    async def join(self, *topics: str) -> tuple[Any, Client]:
        """Connect and subscribe; return the server's end and the client's."""
        client = await Client.connect(
            port(self.server), tls=self._tls, small=self._small
        )
        self._clients.append(client)
        ws = await self._arrivals.get()
        for topic in topics:
            await self.router.subscribe(ws, topic)
        return ws, client


async def begin(coroutine: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
    """Start a task; return once it waits for something."""
    task = asyncio.create_task(coroutine)
    await asyncio.sleep(0)
    return task


async def held_back(ws: Any, size: int = 1000) -> list[bytes]:
    """Send so much that the connection holds back what comes; return the messages."""
    sent: list[bytes] = []
    while not (ws.paused or (ws.outbox is not None and ws.outbox.backlog)):
        sent.append(b"%d " % len(sent) + b"." * size)
        ws.send_nowait(sent[-1])
    return sent


def resident(ws: Any) -> int:
    """Count the bytes that wait for a connection, as far as they can be seen."""
    outbox = ws.outbox
    waiting = 0 if outbox is None or outbox.backlog is None else outbox.backlog.size
    return int(ws.transport.get_write_buffer_size() + waiting)
