"""Tasks of a connection: they end with it, and no failure is lost."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest
from websockets import ConnectionClosed

from websockets_routes import NotServing, Protocol, Router

from .servers import HOST, connecting, end, refusal, serve_plain, serving


def errors(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [
        each.getMessage() for each in caplog.records if each.levelno >= logging.ERROR
    ]


class Work:
    def __init__(self) -> None:
        self.begun, self.ended = asyncio.Event(), asyncio.Event()

    async def __call__(self) -> None:
        try:
            self.begun.set()
            await asyncio.get_running_loop().create_future()
        finally:
            await asyncio.sleep(0)
            self.ended.set()


@pytest.mark.parametrize("raising", [False, True])
async def test_tasks_are_awaited_when_the_handler_has_ended(raising: bool) -> None:
    router, work = Router(), Work()

    @router.route("/")
    async def handler(ws: Protocol) -> None:
        ws.start_task(work())
        await work.begun.wait()
        if raising:
            raise ValueError("no luck")

    async with serving(router.serve(HOST, 0)) as url, connecting(url) as ws:
        assert (await end(ws))[0] == (1011 if raising else 1000)
        assert work.ended.is_set()


async def test_tasks_end_when_the_peer_vanishes_while_the_handler_is_busy() -> None:
    router, work, late = Router(), Work(), []

    @router.route("/")
    async def handler(ws: Protocol) -> None:
        ws.start_task(work())
        await work.ended.wait()
        with pytest.raises(NotServing):
            ws.start_task(work())
        late.append(True)

    async with serving(router.serve(HOST, 0)) as url, connecting(url) as ws:
        await work.begun.wait()
        ws.transport.abort()
    assert late == [True]


async def test_a_first_task_after_the_end_is_refused() -> None:
    router, late = Router(), []

    @router.route("/")
    async def handler(ws: Protocol) -> None:
        await ws.close()
        with pytest.raises(NotServing, match="the connection has ended"):
            ws.start_task(Work()())
        late.append(True)

    async with serving(router.serve(HOST, 0)) as url:
        assert await refusal(url) == 1000
    assert late == [True]


async def test_tasks_end_when_the_server_closes() -> None:
    router, work = Router(), Work()

    @router.route("/")
    async def handler(ws: Protocol) -> None:
        ws.start_task(work())
        await ws.wait_closed()

    async with serving(router.serve(HOST, 0)) as url:
        await connecting(url)
        await work.begun.wait()
    assert work.ended.is_set()


async def test_tasks_end_after_a_refused_handshake() -> None:
    router, work = Router(), Work()

    async def hook(ws: Any, request: Any) -> Any:
        ws.start_task(work())
        await work.begun.wait()
        return (403, [], b"")

    server = router.serve(HOST, 0, process_request=hook)
    async with serving(server) as url:
        assert await refusal(url) == 403
        await work.ended.wait()


@pytest.mark.parametrize("routed", [True, False])
async def test_a_failure_is_logged_and_the_connection_goes_on(
    routed: bool, caplog: pytest.LogCaptureFixture
) -> None:
    router = Router()

    async def fail() -> None:
        raise ValueError("no luck")

    @router.route("/{id}")
    async def handler(ws: Protocol) -> None:
        await asyncio.wait({ws.start_task(fail())})
        await ws.send("still open")

    server = (
        router.serve(HOST, 0)
        if routed
        else serve_plain(handler, create_connection=Protocol)
    )
    async with serving(server) as url, connecting(f"{url}/7") as ws:
        assert await ws.recv() == "still open"
    (message,) = errors(caplog)
    assert message.startswith("task of ")
    assert not routed or message == "task of route /{id} failed"


async def test_a_closed_connection_is_no_failure_of_a_task(
    caplog: pytest.LogCaptureFixture,
) -> None:
    router, raised = Router(), asyncio.Event()

    @router.route("/")
    async def handler(ws: Protocol) -> None:
        async def work() -> None:
            try:
                await ws.recv()
            except ConnectionClosed:
                raised.set()
                raise

        task = ws.start_task(work())
        await asyncio.wait({task})

    async with serving(router.serve(HOST, 0)) as url:
        async with connecting(url):
            pass
        await raised.wait()
    assert errors(caplog) == []
