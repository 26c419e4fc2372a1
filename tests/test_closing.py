"""Closing a connection in time, whether or not its peer goes along."""

from __future__ import annotations

import asyncio

import pytest
from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from websockets_routes.closing import close_in_time, close_reason

TIMEOUT = 20


@pytest.mark.parametrize("fail", [False, True])
async def test_a_peer_that_goes_along_sees_code_and_reason(fail: bool) -> None:
    async def handler(ws: ServerConnection) -> None:
        await close_in_time(ws, 4000, "enough", fail=fail)
        assert ws.state.name == "CLOSED"
        await close_in_time(ws, 4001, "again", fail=fail)

    async with serve(handler, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        async with connect(f"ws://127.0.0.1:{port}/") as client:
            with pytest.raises(ConnectionClosed) as closed:
                await client.recv()
        assert closed.value.rcvd is not None
        assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (4000, "enough")


@pytest.mark.parametrize("fail", [False, True])
async def test_a_peer_that_does_not_read_is_aborted_after_close_timeout(
    fail: bool,
) -> None:
    deaf = asyncio.Event()
    closed = asyncio.Event()

    async def handler(ws: ServerConnection) -> None:
        await deaf.wait()
        flood = asyncio.create_task(ws.send(b"x" * 2**25))
        while not ws.paused:  # noqa: ASYNC110 - there is no event for it
            await asyncio.sleep(0)
        await close_in_time(ws, 4000, fail=fail)
        await asyncio.wait([flood])
        closed.set()

    async with serve(
        handler, "127.0.0.1", 0, close_timeout=0.2, compression=None
    ) as server:
        port = server.sockets[0].getsockname()[1]
        client = await connect(f"ws://127.0.0.1:{port}/", ping_interval=None)
        client.transport.pause_reading()
        deaf.set()
        async with asyncio.timeout(TIMEOUT):
            await closed.wait()
        client.transport.abort()
        await client.wait_closed()


@pytest.mark.parametrize(
    ("reason", "sent"),
    [
        ("", ""),
        ("x" * 123, "x" * 123),
        ("x" * 124, "x" * 120 + "…"),
        ("é" * 100, "é" * 60 + "…"),
        ("\ud800", "?"),
    ],
)
def test_a_reason_fits_into_a_close_frame(reason: str, sent: str) -> None:
    assert close_reason(reason) == sent
    assert len(sent.encode()) <= 123
