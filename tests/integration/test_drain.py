"""Drain: a graceful restart closes connections one by one, and ends in time."""

from __future__ import annotations

import asyncio
import os
import signal
from itertools import pairwise
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection
from websockets.asyncio.server import ServerConnection

from websockets_routes import InvalidLimit, Router

from .servers import HOST, connecting, end, refusal
from .test_lifespan import running

MESSAGE = b"x" * 2**20


def echoing() -> Router:
    router = Router()

    @router.route("/")
    async def echo(ws: ServerConnection) -> None:
        async for message in ws:
            await ws.send(message)

    return router


def flooding(sending: asyncio.Event) -> Router:
    router = Router()

    @router.route("/")
    async def flood(ws: ServerConnection) -> None:
        while True:
            await ws.send(MESSAGE)
            sending.set()

    return router


async def deaf(uri: str) -> ClientConnection:
    """Connect, and read nothing from then on."""
    client = await connecting(uri, ping_interval=None, compression=None)
    client.transport.pause_reading()
    return client


async def close_deaf(client: ClientConnection) -> None:
    client.transport.abort()
    await client.wait_closed()


async def end_time(ws: ClientConnection) -> tuple[float, int]:
    code, _ = await end(ws)
    return asyncio.get_running_loop().time(), code


def ask_to_end(task: asyncio.Task[None], how: str) -> None:
    if how == "cancel":
        task.cancel()
    else:
        os.kill(os.getpid(), signal.SIGTERM)


@pytest.mark.parametrize("how", ["signal", "cancel"])
@pytest.mark.parametrize("code", [1001, 1012, 4000])
async def test_connections_are_closed_one_by_one_with_the_code(
    code: int, how: str
) -> None:
    loop = asyncio.get_running_loop()
    options = {"drain": 0.7, "close_timeout": 0.2, "shutdown_code": code}
    async with running(echoing(), **options) as (task, uri):
        clients = [await connecting(uri) for _ in range(5)]
        ends = [asyncio.create_task(end_time(ws)) for ws in clients]
        began = loop.time()
        ask_to_end(task, how)
        times = sorted([await each for each in ends])
        assert [code for _, code in times] == [code] * 5
        # One each tenth of a second, the first at once.
        gaps = [later - before for (before, _), (later, _) in pairwise(times)]
        assert min(gaps) > 0.05
        assert times[0][0] - began < 0.1
        await asyncio.wait({task})
        assert loop.time() - began < 0.7 + 0.3


async def test_while_it_drains_connections_work_and_none_is_taken() -> None:
    async with running(echoing(), drain=0.6, close_timeout=0.1) as (task, uri):
        first = await connecting(uri)
        last = await connecting(uri)
        task.cancel()
        closed = [asyncio.create_task(ws.wait_closed()) for ws in (first, last)]
        await asyncio.wait(closed, return_when=asyncio.FIRST_COMPLETED)
        open_one = last if closed[0].done() else first
        assert not all(each.done() for each in closed)
        await open_one.send("still served")
        assert await open_one.recv() == "still served"
        with pytest.raises(OSError, match=r"."):
            await refusal(uri)
        await asyncio.wait(closed)
        assert open_one.close_code == 1001


async def test_without_drain_all_are_closed_at_once_with_the_code() -> None:
    async with running(echoing(), shutdown_code=1012) as (task, uri):
        clients = [await connecting(uri) for _ in range(3)]
        task.cancel()
        assert [await end(ws) for ws in clients] == [(1012, "")] * 3


async def test_with_no_connection_there_is_nothing_to_drain() -> None:
    loop = asyncio.get_running_loop()
    async with running(echoing(), drain=5, close_timeout=0.1) as (task, _):
        began = loop.time()
        task.cancel()
        await asyncio.wait({task})
        assert loop.time() - began < 1


async def test_a_second_signal_ends_it_at_once() -> None:
    loop = asyncio.get_running_loop()
    async with running(echoing(), drain=8, close_timeout=1) as (task, uri):
        clients = [await connecting(uri) for _ in range(5)]
        os.kill(os.getpid(), signal.SIGTERM)
        ended = [asyncio.create_task(ws.wait_closed()) for ws in clients]
        await asyncio.wait(ended, return_when=asyncio.FIRST_COMPLETED)
        began = loop.time()
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.wait(ended)
        await asyncio.wait({task})
        assert loop.time() - began < 1
        assert task.exception() is None


@pytest.mark.parametrize(
    ("drain", "close_timeout"),
    [(1.0, 0.5), (0.5, 10.0), (0.5, None)],
    ids=["longer", "shorter", "no close_timeout"],
)
async def test_stalled_peers_are_aborted_within_the_budget(
    drain: float, close_timeout: float | None
) -> None:
    loop = asyncio.get_running_loop()
    sending = asyncio.Event()
    options: dict[str, Any] = {"drain": drain, "close_timeout": close_timeout}
    router = flooding(sending)
    async with running(router, stall_timeout=None, **options) as (task, uri):
        clients = [await deaf(uri) for _ in range(3)]
        await sending.wait()
        began = loop.time()
        os.kill(os.getpid(), signal.SIGTERM)
        try:
            await asyncio.wait({task}, timeout=drain + 1)
            assert task.done(), "drain is the whole budget"
            assert loop.time() - began < drain + 0.5
        finally:
            if not task.done():
                os.kill(os.getpid(), signal.SIGTERM)
            for client in clients:
                await close_deaf(client)


async def test_shutdown_comes_first_and_the_lifespan_ends_last() -> None:
    router, trace = echoing(), []
    connections: list[ServerConnection] = []

    @router.middleware
    async def around(ws: ServerConnection, path: Any, call_next: Any) -> None:
        connections.append(ws)
        await call_next(ws, path)
        trace.append("handler")

    @router.on_shutdown
    async def shutdown() -> None:
        trace.append("shutdown")
        for ws in connections:
            await ws.send("farewell")

    async with running(router, drain=0.3, close_timeout=0.1) as (task, uri):
        clients = [await connecting(uri) for _ in range(2)]
        for client in clients:
            await client.send("x")
            await client.recv()
        task.cancel()
        for client in clients:
            assert await client.recv() == "farewell"
            assert await end(client) == (1001, "")
    assert trace == ["shutdown", "handler", "handler"]


@pytest.mark.parametrize("drain", [0, -1, True, "5"])
async def test_a_drain_that_is_no_time_raises(drain: Any) -> None:
    with pytest.raises(InvalidLimit):
        await Router().run(HOST, 0, drain=drain)
