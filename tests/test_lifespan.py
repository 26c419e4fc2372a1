"""Lifespan: tasks that end with the server, after its last handler returned."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from websockets_routes import NotServing, Router

from .integration.servers import HOST, address, connecting, serving


async def forever() -> None:
    await asyncio.get_running_loop().create_future()


@pytest.mark.parametrize("way", ["async with", "close", "serve_forever"])
async def test_a_task_ends_with_the_server(way: str) -> None:
    router = Router()
    server = await router.serve(HOST, 0)
    if way == "async with":
        async with server:
            task = router.start_task(forever())
    elif way == "close":
        task = router.start_task(forever())
        server.close()
        server.close()
        await server.wait_closed()
    else:
        task = router.start_task(forever())
        serve = asyncio.create_task(server.serve_forever())
        await asyncio.sleep(0)
        serve.cancel()
        await asyncio.wait({serve})
    assert task.cancelled()
    await refused(router)


async def refused(router: Router) -> None:
    late = forever()
    with pytest.raises(NotServing, match="no server of this router runs"):
        router.start_task(late)
    with pytest.raises(RuntimeError, match="cannot reuse"):
        await late


async def test_no_task_is_started_without_a_server_that_runs() -> None:
    router = Router()
    await refused(router)
    server = router.serve(HOST, 0, start_serving=False)
    await refused(router)
    async with server:
        await refused(router)
        await server.start_serving()
        task = router.start_task(forever())
    assert task.cancelled()


async def test_of_two_servers_the_one_that_runs_has_the_task() -> None:
    router = Router()
    async with router.serve(HOST, 0), router.serve(HOST, 0) as other:
        first = router.start_task(forever())
        other.close()
        await other.wait_closed()
        assert not first.done()
    assert first.cancelled()
    async with router.serve(HOST, 0):
        assert await router.start_task(asyncio.sleep(0, "again")) == "again"


async def test_a_task_outlives_the_last_handler() -> None:
    router, trace = Router(), []
    opened = asyncio.Event()

    @router.route("/")
    async def handler(ws: Any) -> None:
        opened.set()
        await ws.wait_closed()
        await asyncio.sleep(0)
        trace.append("handler")

    async def work() -> None:
        try:
            await forever()
        finally:
            trace.append("task")

    async with router.serve(HOST, 0) as server:
        router.start_task(work())
        await connecting(address(server))
        await opened.wait()
    assert trace == ["handler", "task"]


async def test_a_failure_is_logged_and_the_server_goes_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    router = Router()

    async def fail() -> None:
        raise ValueError("no luck")

    server = router.serve(HOST, 0)
    async with serving(server):
        await asyncio.wait({router.start_task(fail())})
        assert server.is_serving()
    (record,) = [each for each in caplog.records if each.levelno >= logging.ERROR]
    assert record.getMessage() == "task of the server failed"
