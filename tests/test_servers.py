"""Servers: what runs around one, and ends with it."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest

from websockets_routes import NotServing, Router
from websockets_routes.servers import RoutedServer

from .integration.servers import HOST, address, connecting, end, port, refusal


async def forever() -> None:
    await asyncio.get_running_loop().create_future()


async def test_serve_returns_a_server_of_ours() -> None:
    async with Router().serve(HOST, 0) as server:
        assert isinstance(server, RoutedServer)


async def test_stop_listening_keeps_connections_open() -> None:
    router = Router()

    @router.route("/")
    async def echo(ws: Any) -> None:
        async for message in ws:
            await ws.send(message)

    async with router.serve(HOST, 0) as server:
        uri = address(server)
        async with connecting(uri) as ws:
            await server.stop_listening()
            with pytest.raises(OSError, match=r"."):
                await refusal(uri)
            await ws.send("still here")
            assert await ws.recv() == "still here"
            server.close()
            assert await end(ws) == (1001, "")


@pytest.mark.parametrize("times", [1, 2])
async def test_a_server_may_be_closed_more_than_once(times: int) -> None:
    calls: list[str] = []
    router = Router()
    router.on_shutdown(lambda: calls.append("shutdown"))
    server = await router.serve(HOST, 0)
    for _ in range(times):
        server.close()
        await server.wait_closed()
    assert calls == ["shutdown"]


async def test_a_cancelled_wait_does_not_cancel_the_end() -> None:
    router, done = Router(), asyncio.Event()
    entered, leave = asyncio.Event(), asyncio.Event()

    @router.on_shutdown
    async def shutdown() -> None:
        entered.set()
        await leave.wait()
        done.set()

    server = await router.serve(HOST, 0)
    task = router.start_task(forever())
    server.close()
    waiting = asyncio.create_task(server.wait_closed())
    await entered.wait()
    waiting.cancel()
    await asyncio.wait({waiting})
    assert waiting.cancelled()
    leave.set()
    await server.wait_closed()
    assert done.is_set()
    assert task.cancelled()


async def test_a_port_in_use_leaves_no_server_that_runs() -> None:
    router = Router()
    with socket.create_server((HOST, 0)) as taken:
        with pytest.raises(OSError, match=r"."):
            await router.serve(HOST, taken.getsockname()[1])
        coroutine = forever()
        with pytest.raises(NotServing):
            router.start_task(coroutine)


async def test_a_server_that_is_closed_gives_its_port_back() -> None:
    router = Router()
    async with router.serve(HOST, 0) as server:
        number = port(server)
    async with router.serve(HOST, number) as server:
        assert port(server) == number
