"""Pacing: what a peer takes is counted, and a peer that takes nothing is noticed."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import pytest

from websockets_routes.pacing import PacedTransport, StallWatch, TLSTransport

TIMEOUT = 0.1


class Counting:
    """A transport that keeps what is written to it."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self.transport = transport
        self.pieces: list[bytes | bytearray | memoryview] = []

    def __getattr__(self, name: str) -> object:
        return getattr(self.transport, name)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.pieces.append(data)
        self.transport.write(data)


class Pausing(asyncio.Protocol):
    """Pauses and resumes a transport of ours as the event loop says."""

    def __init__(self) -> None:
        self.paced: PacedTransport | None = None

    def pause_writing(self) -> None:
        if isinstance(self.paced, TLSTransport):
            self.paced.pause()

    def resume_writing(self) -> None:
        if isinstance(self.paced, TLSTransport):
            self.paced.resume()


T = TypeVar("T", bound=PacedTransport)


@asynccontextmanager
async def pair(make: Callable[[Any], T]) -> AsyncIterator[tuple[T, Any, socket.socket]]:
    """Connect a transport of ours and a socket."""
    loop = asyncio.get_running_loop()
    ours, theirs = socket.socketpair()
    for sock in (ours, theirs):
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2**14)
    transport, protocol = await loop.connect_accepted_socket(Pausing, ours)
    counting = Counting(transport)
    protocol.paced = paced = make(counting)
    try:
        yield paced, counting, theirs
    finally:
        if not transport.is_closing():
            transport.abort()
        theirs.close()


async def read(sock: socket.socket, size: int) -> bytes:
    """Read so many bytes, in small portions."""
    loop = asyncio.get_running_loop()
    data = bytearray()
    while len(data) < size:
        data += await loop.sock_recv(sock, min(size - len(data), 4096))
    return bytes(data)


each_kind = pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
each_transport = pytest.mark.parametrize("make", [PacedTransport, TLSTransport])


@each_kind
@pytest.mark.parametrize("size", [1, 2**16, 2**16 + 1, 2**18, 2**18 + 5])
async def test_a_tls_transport_is_given_pieces_of_at_most_64_kib(
    size: int, kind: type
) -> None:
    data = bytes(range(256)) * (size // 256) + b"." * (size % 256)
    async with pair(TLSTransport) as (paced, counting, peer):
        paced.write(kind(data))
        assert paced.written == size
        assert await read(peer, size) == data
        assert max(map(len, counting.pieces)) <= 2**16
        assert len(counting.pieces) == -(-size // 2**16)
        assert paced.get_write_buffer_size() == 0


async def test_a_tls_transport_is_given_no_more_than_it_takes() -> None:
    async with pair(TLSTransport) as (paced, counting, peer):
        paced.write(bytes(2**20))
        paced.write(b"last")
        assert len(counting.pieces) < 4
        waiting = paced.get_write_buffer_size()
        assert waiting > 2**20 - 2**18
        assert waiting > counting.get_write_buffer_size()
        data = await read(peer, 2**20 + 4)
        assert data == bytes(2**20) + b"last"
        assert paced.get_write_buffer_size() == 0


async def test_large_data_is_not_copied() -> None:
    data = bytes(2**18)
    async with pair(TLSTransport) as (paced, counting, peer):
        paced.write(data)
        await read(peer, 2**18)
        assert len(counting.pieces) == 4
        assert all(piece.obj is data for piece in counting.pieces)


async def test_a_tls_transport_closes_once_all_is_written() -> None:
    async with pair(TLSTransport) as (paced, counting, peer):
        paced.write(bytes(2**20))
        paced.close()
        assert paced.is_closing()
        assert not counting.is_closing()
        assert await read(peer, 2**20) == bytes(2**20)
        assert await asyncio.get_running_loop().sock_recv(peer, 1) == b""
        assert counting.is_closing()


async def test_a_tls_transport_that_has_written_all_closes_at_once() -> None:
    async with pair(TLSTransport) as (paced, counting, _):
        paced.close()
        assert paced.is_closing()
        assert counting.is_closing()


async def test_a_tls_transport_that_is_aborted_keeps_nothing() -> None:
    async with pair(TLSTransport) as (paced, counting, _):
        paced.write(bytes(2**20))
        paced.abort()
        assert paced.is_closing()
        assert counting.is_closing()
        assert paced.get_write_buffer_size() <= counting.get_write_buffer_size()


@each_transport
async def test_the_rest_is_that_of_the_transport(make: type[PacedTransport]) -> None:
    async with pair(make) as (paced, counting, _):
        assert id(paced.transport) == id(counting)
        assert paced.get_write_buffer_size() == 0
        assert paced.get_extra_info("socket") is not None
        assert not paced.is_closing()
        with pytest.raises(AttributeError):
            _ = paced.no_such_thing
        paced.abort()
        assert paced.is_closing()


@each_transport
async def test_what_the_peer_takes_is_counted(make: type[PacedTransport]) -> None:
    async with pair(make) as (paced, _, peer):
        paced.write(bytes(2**20))
        await asyncio.sleep(0)  # uvloop writes at the end of the turn
        before = paced.taken
        await read(peer, 2**18)
        between = paced.taken
        assert before < between
        await read(peer, 2**20 - 2**18)
        assert before < between < paced.taken == 2**20


class Stalls:
    """A watch, and when it called."""

    def __init__(self, paced: PacedTransport, timeout: float = TIMEOUT) -> None:
        self.loop = asyncio.get_running_loop()
        self.begun = self.loop.time()
        self.after: list[float] = []
        self.called = asyncio.Event()
        self.watch = StallWatch(self.loop, paced, timeout, self._stalled)

    def _stalled(self) -> None:
        self.after.append(self.loop.time() - self.begun)
        self.called.set()


async def test_a_peer_that_takes_nothing_is_noticed_about_then_and_once() -> None:
    async with pair(PacedTransport) as (paced, _, _):
        paced.write(bytes(2**20))
        stalls = Stalls(paced)
        await stalls.called.wait()
        later = Stalls(paced, TIMEOUT * 2)
        await later.called.wait()
        (after,) = stalls.after
        assert after >= TIMEOUT
        assert later.after[0] >= TIMEOUT * 2


async def test_a_peer_that_takes_something_has_its_time_again() -> None:
    loop = asyncio.get_running_loop()
    async with pair(PacedTransport) as (paced, _, peer):
        paced.write(bytes(2**22))
        stalls = Stalls(paced)
        while loop.time() - stalls.begun < TIMEOUT * 3:
            await read(peer, 2**14)
            await asyncio.sleep(TIMEOUT / 10)
        assert not stalls.after
        await stalls.called.wait()
        assert stalls.after[0] >= TIMEOUT * 3.5


async def test_a_watch_that_is_cancelled_calls_nobody() -> None:
    async with pair(PacedTransport) as (paced, _, _):
        paced.write(bytes(2**20))
        stalls, other = Stalls(paced), Stalls(paced, TIMEOUT * 2)
        stalls.watch.cancel()
        stalls.watch.cancel()
        await other.called.wait()
        assert not stalls.after
        other.watch.cancel()
