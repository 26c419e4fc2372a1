"""Serving: how a connection ends that its handler leaves by an exception."""

from __future__ import annotations

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, ConnectionClosedError

from websockets_routes import Protocol, Router

from .integration.servers import HOST, serving


async def test_the_end_of_another_connection_is_a_failure_of_the_handler(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A handler may be a client itself, of a server that goes away."""
    router = Router()

    @router.route("/")
    async def handler(ws: Protocol) -> None:
        raise ConnectionClosedError(None, None)

    async with serving(router.serve(HOST, 0)) as url, connect(f"{url}/") as ws:
        with pytest.raises(ConnectionClosed) as closed:
            await ws.recv()
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1011
    assert "connection handler failed" in caplog.text


async def test_tasks_can_be_ended_where_there_are_none() -> None:
    router = Router()

    @router.route("/")
    async def handler(ws: Protocol) -> None:
        assert not ws.has_tasks
        await ws.end_tasks()
        await ws.send("done")

    async with serving(router.serve(HOST, 0)) as url, connect(f"{url}/") as ws:
        assert await ws.recv() == "done"


async def test_an_error_of_ours_that_is_the_handlers_fault_is_logged_and_closes_1011(
    caplog: pytest.LogCaptureFixture,
) -> None:
    router = Router()

    @router.route("/")
    async def handler(ws: Protocol) -> None:
        router.url_for("nowhere")

    async with serving(router.serve(HOST, 0)) as url, connect(f"{url}/") as ws:
        with pytest.raises(ConnectionClosed) as closed:
            await ws.recv()
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1011
    assert "connection handler failed" in caplog.text
