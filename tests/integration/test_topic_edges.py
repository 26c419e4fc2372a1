"""Topics at the edge: what happens in the same moment as something else."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from websockets import ConnectionClosed, Headers
from websockets.asyncio.server import broadcast

from websockets_routes import Filter, MustAwait, NotServing, RoutedPath, Router

from .servers import HOST, connecting, refusal, serving
from .slow_clients import Stage, held_back


async def test_a_connection_that_is_aborted_before_it_was_written_to_harms_nobody(
    caplog: pytest.LogCaptureFixture,
) -> None:
    stage = Stage()
    async with stage.open():
        ws, _ = await stage.join("a")
        _, client = await stage.join("a")
        assert stage.router.publish("a", "to both").queued == 2
        ws.transport.abort()
        await ws.wait_closed()
        await client.read_until(lambda: "to both" in client.messages)
    assert [each for each in caplog.records if each.levelname == "ERROR"] == []


async def test_what_was_published_waits_if_something_else_fills_the_transport() -> None:
    stage = Stage()
    async with stage.open(write_limit=4096):
        ws, client = await stage.join("a")
        stage.router.publish("a", "waits")
        large = bytes(2**20)
        broadcast([ws], large)
        assert ws.paused
        stage.router.publish("a", "waits, too")
        await client.read_until(lambda: len(client.messages) == 3)
        assert client.messages == [large, "waits", "waits, too"]


async def test_overflow_of_a_connection_that_is_being_aborted_harms_nobody() -> None:
    stage = Stage()
    async with stage.open(max_backlog=50_000):
        ws, _ = await stage.join("a")
        await held_back(ws)
        ws.transport.abort()
        receipt = stage.router.publish("a", bytes(100_000))
        assert (receipt.matched, receipt.closed) == (1, 1)
        await ws.wait_closed()


async def test_fragments_sent_on_a_closed_connection_raise_connection_closed() -> None:
    stage = Stage()
    async with stage.open(max_backlog=1000):
        ws, client = await stage.join()
        await client.leave()
        await ws.wait_closed()
        with pytest.raises(ConnectionClosed):
            await ws.send(["too ", "late"])


async def test_a_send_that_was_cancelled_ends_with_its_connection() -> None:
    stage = Stage()
    async with stage.open():
        ws, _ = await stage.join("a")
        await held_back(ws)
        sending = asyncio.create_task(ws.send("waits"))
        await asyncio.sleep(0)
        sending.cancel()
        await asyncio.wait([sending])
        ws.transport.abort()
        await ws.wait_closed()
    assert sending.cancelled()


async def test_closing_leaves_what_is_not_paused_to_websockets() -> None:
    stage = Stage()
    async with stage.open(close_timeout=0.1, write_limit=2**24):
        ws, _ = await stage.join()
        ws.send_nowait(bytes(2**20))
        assert ws.transport.get_write_buffer_size()
        assert not ws.paused
        await ws.close()
        assert ws.close_code == 1006


async def test_every_guard_of_a_filter_is_asked_even_from_a_plain_function() -> None:
    router = Router()
    asked: list[tuple[Any, Any]] = []

    def allow(ws: Any, topic: Any, params: Any) -> bool:
        asked.append((topic, params))
        return True

    router.topic("room/{name}", authorize=allow, filters=True)
    router.topic("room/{name}/{part}", authorize=allow, filters=True)
    stage = Stage(router)
    async with stage.open():
        ws, _ = await stage.join()
        rooms = Filter("room/#")
        assert ws.subscribe_nowait(rooms).new
        assert asked == [(rooms, {}), (rooms, {})]


async def test_authorize_may_return_a_future_but_not_to_a_plain_function() -> None:
    router = Router()

    def later(ws: Any, topic: Any, params: Any) -> Any:
        future = asyncio.get_running_loop().create_future()
        future.set_result(True)
        return future

    router.topic("room/{name}", authorize=later)
    stage = Stage(router)
    async with stage.open():
        ws, _ = await stage.join()
        with pytest.raises(MustAwait):
            ws.subscribe_nowait("room/7")
        assert (await ws.subscribe("room/7")).new


async def test_a_connection_cannot_subscribe_before_it_is_open() -> None:
    router = Router()
    raised: list[str] = []

    @router.route("/")
    class Early:
        async def process_request(self, path: RoutedPath, headers: Headers) -> Any:
            with pytest.raises(NotServing, match="not open yet") as error:
                await router.subscribe(connections[0], "a")
            raised.append(str(error.value))

        async def handle(self, ws: Any) -> None:
            await ws.subscribe("a")

    connections: list[Any] = []

    def keep(connection: Any, request: Any) -> None:
        connections.append(connection)

    server = router.serve(HOST, 0, process_request=keep)
    async with serving(server) as url:
        assert await refusal(url + "/") == 1000
    assert len(raised) == 1


async def test_counts_are_those_of_all_topics_or_of_some() -> None:
    router = Router()

    @router.route("/{name}", subscribe=["room/{name}", "all"])
    async def stay(ws: Any) -> None:
        await ws.send("here")
        await ws.wait_closed()

    async with (
        serving(router.serve(HOST, 0)) as url,
        connecting(f"{url}/a") as one,
        connecting(f"{url}/b") as two,
    ):
        await one.recv()
        await two.recv()
        counts = router.topics.counts()
        assert counts == {"room/a": 1, "room/b": 1, "all": 2}
        assert router.topics.counts(Filter("+/a")) == {"room/a": 1}
