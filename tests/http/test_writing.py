"""Writing responses: over pairs of sockets, of which the kernel holds little."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from email.utils import parsedate_to_datetime
from typing import cast

import pytest

from websockets_routes.exceptions import ClientDisconnected
from websockets_routes.http.writing import Writer, response_head


class Served(asyncio.Protocol):
    """The server's end of a connection, with its writer."""

    writer: Writer

    def __init__(
        self, stall_timeout: float | None, made: asyncio.Queue[Served]
    ) -> None:
        self.made = made
        self.stall_timeout = stall_timeout
        self.pauses = 0
        self.lost = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.writer = Writer(cast(asyncio.Transport, transport), self.stall_timeout)
        self.made.put_nowait(self)

    def pause_writing(self) -> None:
        self.pauses += 1
        self.writer.pause()

    def resume_writing(self) -> None:
        self.writer.resume()

    def connection_lost(self, exc: Exception | None) -> None:
        self.writer.stop()
        self.lost.set()


@asynccontextmanager
async def pair(
    stall_timeout: float | None = None,
) -> AsyncIterator[tuple[Served, socket.socket]]:
    with socket.socket() as listening, socket.socket() as client:
        for sock in (listening, client):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8192)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
            sock.setblocking(False)
        listening.bind(("127.0.0.1", 0))
        loop = asyncio.get_running_loop()
        made: asyncio.Queue[Served] = asyncio.Queue()
        server = await loop.create_server(
            lambda: Served(stall_timeout, made), sock=listening
        )
        async with asyncio.timeout(5):
            await loop.sock_connect(client, listening.getsockname())
            served = await made.get()
            try:
                yield served, client
            finally:
                served.writer.transport.abort()
                server.close()
                await served.lost.wait()


async def read(client: socket.socket, size: int) -> int:
    total = 0
    while total < size:
        data = await asyncio.get_running_loop().sock_recv(client, 2**16)
        if not data:
            break
        total += len(data)
    return total


async def test_little_is_written_at_once() -> None:
    async with pair() as (served, client):
        served.writer.write(b"hello")
        await served.writer.drain()
        assert served.pauses == 0
        assert await read(client, 5) == 5


@pytest.mark.parametrize("stall_timeout", [None, 5.0])
async def test_much_is_written_at_the_pace_of_its_reader(
    stall_timeout: float | None,
) -> None:
    async with pair(stall_timeout) as (served, client):
        for times in (1, 2):
            transport = served.writer.transport
            served.writer.write(b"x" * 500_000)
            assert served.pauses == times
            draining = asyncio.create_task(served.writer.drain())
            await asyncio.sleep(0.01)
            assert not draining.done()
            assert await read(client, 500_000) == 500_000
            await draining
            assert served.writer.transport is transport


async def test_several_may_wait_at_once() -> None:
    async with pair(5.0) as (served, client):
        served.writer.write(b"x" * 500_000)
        draining = [asyncio.create_task(served.writer.drain()) for _ in range(2)]
        served.writer.write(b"y")
        assert await read(client, 500_001) == 500_001
        await asyncio.gather(*draining)


async def test_a_client_that_takes_nothing_is_aborted() -> None:
    async with pair(0.1) as (served, client):
        served.writer.write(b"x" * 500_000)
        with pytest.raises(ClientDisconnected):
            await served.writer.drain()
        await served.lost.wait()
        assert served.writer.transport.is_closing()
        assert client.fileno() >= 0


async def test_a_client_that_takes_nothing_may_be_waited_for() -> None:
    async with pair(None) as (served, client):
        served.writer.write(b"x" * 500_000)
        draining = asyncio.create_task(served.writer.drain())
        await asyncio.sleep(0.2)
        assert not draining.done()
        await read(client, 500_000)
        await draining


async def test_a_client_that_leaves_is_waited_for_no_longer() -> None:
    async with pair(5.0) as (served, client):
        served.writer.write(b"x" * 500_000)
        draining = asyncio.create_task(served.writer.drain())
        await asyncio.sleep(0)
        client.close()
        with pytest.raises(ClientDisconnected):
            await draining


@pytest.mark.parametrize("how", ["close", "abort"])
async def test_nobody_waits_for_a_connection_that_ended(how: str) -> None:
    async with pair() as (served, _):
        getattr(served.writer.transport, how)()
        with pytest.raises(ClientDisconnected):
            await served.writer.drain()
        await served.lost.wait()
        # The client left: that is no error of whoever writes on.
        served.writer.write(b"x")
        with pytest.raises(ClientDisconnected):
            await served.writer.drain()


async def test_a_writer_that_waits_for_nothing_can_stop() -> None:
    async with pair() as (served, _):
        served.writer.stop()
        served.writer.write(b"x")
        await served.writer.drain()


def test_a_head_has_a_date_and_ends_with_an_empty_line() -> None:
    head = response_head(404, "Not Found", [("X", "é"), ("X", "z")])
    first, date, *fields = head.split(b"\r\n")
    assert first == b"HTTP/1.1 404 Not Found"
    name, _, value = date.decode().partition(": ")
    assert name == "Date"
    assert value.endswith(" GMT")
    parsedate_to_datetime(value)
    assert fields == ["X: é".encode("latin-1"), b"X: z", b"", b""]


def test_a_head_without_a_reason_keeps_the_space_before_it() -> None:
    # RFC 9112 section 4
    assert response_head(299, "", []).startswith(b"HTTP/1.1 299 \r\n")


def test_a_head_has_one_date() -> None:
    date = "Tue, 15 Nov 1994 08:12:31 GMT"
    head = response_head(200, "OK", [("Date", date)])
    assert head.lower().count(b"\r\ndate:") == 1
