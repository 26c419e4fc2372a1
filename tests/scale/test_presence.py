"""Presence over real engines: all nodes see the same members, whoever dies."""

from __future__ import annotations

import asyncio
import logging
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest

from tests.contract.engines import Engine
from tests.integration.servers import HOST, address
from tests.integration.test_topics import Hall
from websockets_routes import BrokerError, BrokerUnavailable, NotServing, Router, Topics
from websockets_routes.brokers import Broker, Envelope, MemoryBroker, Published, State
from websockets_routes.brokers.memory import MemoryHub
from websockets_routes.pubsub.attendance import CHANNEL

from .nodes import broker_of

# Where nothing has to die nobody's time is over before the test is.
LONG = 30.0
SHORT = 1.2


@pytest.fixture(params=["valkey", "nats"])
def engine(request: pytest.FixtureRequest) -> Engine:
    engine: Engine = request.getfixturevalue(request.param)
    return engine


@pytest.fixture(params=["mortal_valkey", "mortal_nats"])
def mortal(request: pytest.FixtureRequest) -> Engine:
    engine: Engine = request.getfixturevalue(request.param)
    return engine


class PresentHall(Hall):
    """A hall that notes who comes and goes."""

    def __init__(self, broker: Broker, ttl: float) -> None:
        super().__init__(Router(topics=Topics(broker, presence_ttl=ttl)))
        self.router.topic("room/{name}", presence=True)
        self.events: list[tuple[str, list[str], list[str]]] = []
        self.router.topics.on_presence(self._changed)
        self._told = asyncio.Event()

    def _changed(self, topic: str, joins: Any, leaves: Any) -> None:
        self.events.append((topic, [*joins], [*leaves]))
        self._told.set()

    async def wait_for(self, topic: str, expected: Any) -> None:
        """Wait until these are the members of a topic."""
        while await self.router.presence(topic) != expected:
            # An info may change with no event.
            self._told.clear()
            with_event = asyncio.ensure_future(self._told.wait())
            await asyncio.wait([with_event], timeout=0.02)
            with_event.cancel()


@asynccontextmanager
async def nodes(
    number: int, make: Callable[[], Broker], ttl: float = LONG
) -> AsyncIterator[list[PresentHall]]:
    """Run so many nodes, all of which can be closed one by one as well."""
    before = asyncio.all_tasks()
    async with asyncio.timeout(20):
        async with AsyncExitStack() as stack:
            halls = [PresentHall(make(), ttl) for _ in range(number)]
            for hall in halls:
                server = await stack.enter_async_context(hall.router.serve(HOST, 0))
                hall.server = server  # type: ignore[attr-defined]
                hall.url = address(server)
                await stack.enter_async_context(hall._clients)
            yield halls
        left = asyncio.all_tasks() - before
        if left:
            _, left = await asyncio.wait(left, timeout=5)
        assert not left, f"tasks outlive the servers: {left}"


async def test_all_nodes_see_the_same_members(engine: Engine, prefix: str) -> None:
    async with nodes(2, lambda: broker_of(engine, prefix)) as halls:
        one, client = await halls[0].join()
        two, _ = await halls[1].join()
        await one.subscribe("room/a", as_="ann", info={"node": 1})
        for hall in halls:
            await hall.wait_for("room/a", {"ann": [{"node": 1}]})
        await two.subscribe("room/a", as_="ann", info={"node": 2})
        for hall in halls:
            await hall.wait_for("room/a", {"ann": [{"node": 1}, {"node": 2}]})
        await client.close()
        for hall in halls:
            await hall.wait_for("room/a", {"ann": [{"node": 2}]})
        two.unsubscribe("room/a")
        for hall in halls:
            await hall.wait_for("room/a", {})
            # No event for what only one of her connections did.
            assert hall.events == [("room/a", ["ann"], []), ("room/a", [], ["ann"])]


async def test_a_node_that_begins_hears_of_the_others_and_one_that_ends_is_gone(
    engine: Engine, prefix: str
) -> None:
    def make() -> Broker:
        return broker_of(engine, prefix)

    async with nodes(1, make) as [first]:
        ws, _ = await first.join()
        await ws.subscribe("room/a", as_="ann", info={"x": 1})
        async with nodes(1, make) as [second]:
            await second.wait_for("room/a", {"ann": [{"x": 1}]})
            late, _ = await second.join()
            await late.subscribe("room/a", as_="bob")
            await first.wait_for("room/a", {"ann": [{"x": 1}], "bob": [{}]})
        await first.wait_for("room/a", {"ann": [{"x": 1}]})


async def test_members_of_a_node_that_is_killed_are_gone_within_the_time_to_live(
    engine: Engine, prefix: str
) -> None:
    async with nodes(1, lambda: broker_of(engine, prefix), SHORT) as [hall]:
        ws, _ = await hall.join()
        await ws.subscribe("room/a", as_="ann")
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "tests.scale.lonely_node",
            engine.url,
            prefix,
            str(SHORT),
        )
        try:
            await hall.wait_for("room/a", {"ann": [{}], "doomed": [{}]})
        finally:
            process.kill()
        await process.wait()
        killed = time.monotonic()
        await hall.wait_for("room/a", {"ann": [{}]})
        assert time.monotonic() - killed < SHORT * 1.2
        assert hall.events[-1] == ("room/a", [], ["doomed"])


async def test_presence_is_right_again_when_the_engine_was_away(
    mortal: Engine, prefix: str
) -> None:
    async with nodes(2, lambda: broker_of(mortal, prefix), 4.0) as halls:
        one, client = await halls[0].join()
        two, _ = await halls[1].join()
        await one.subscribe("room/a", as_="ann")
        await two.subscribe("room/a", as_="bob")
        for hall in halls:
            await hall.wait_for("room/a", {"ann": [{}], "bob": [{}]})
        mortal.kill()
        # Nobody hears of that now.
        await client.close()
        await halls[0].wait_for("room/a", {"bob": [{}]})
        await asyncio.to_thread(mortal.start)
        for hall in halls:
            await hall.wait_for("room/a", {"bob": [{}]})


async def test_what_a_stranger_says_is_dropped(
    engine: Engine, prefix: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with nodes(1, lambda: broker_of(engine, prefix)) as [hall]:
        stranger = broker_of(engine, prefix)
        async with stranger:
            await stranger.start(lambda envelope: None, lambda topic: None)
            with caplog.at_level(logging.WARNING):
                for data in (b"", b"\xff", b'{"join"', b"[" * 100_000):
                    await stranger.publish(
                        Envelope(CHANNEL, data, False, None, "x", 0.0)
                    )
                while len(caplog.messages) < 4:  # noqa: ASYNC110
                    await asyncio.sleep(0)
        assert all(CHANNEL in each for each in caplog.messages)
        ws, _ = await hall.join()
        await ws.subscribe("room/a", as_="ann")
        assert await hall.router.presence("room/a") == {"ann": [{}]}


async def test_a_topic_that_is_declared_late_has_presence_too() -> None:
    hub = MemoryHub()
    late = Topics(MemoryBroker(hub))
    async with nodes(1, lambda: MemoryBroker(hub)) as [hall]:
        ws, _ = await hall.join()
        await ws.subscribe("room/a", as_="ann")
        told = asyncio.Event()

        @late.on_presence
        def came(topic: str, joins: Any, leaves: Any) -> None:
            told.set()

        async with late:
            late.topic("room/{name}", presence=True)
            await asyncio.gather(late.presence("room/a"), late.presence("room/a"))
            await told.wait()
            assert await late.presence("room/a") == {"ann": [{}]}


class Deaf(MemoryBroker):
    """A broker that does not let anybody hear anything."""

    def __init__(self) -> None:
        super().__init__()
        self.given_up: list[Any] = []
        self.asked = asyncio.Event()
        self.answer = asyncio.Event()

    async def subscribe(self, topic: Any) -> None:
        self.asked.set()
        await self.answer.wait()
        raise BrokerUnavailable("deaf", "no answer", sent=False)

    async def unsubscribe(self, topic: Any) -> None:
        self.given_up.append(topic)


async def test_nothing_starts_that_cannot_hear_the_others() -> None:
    broker = Deaf()
    broker.answer.set()
    topics = Topics(broker)
    topics.topic("room/{name}", presence=True)
    with pytest.raises(BrokerError):
        await topics.start()
    assert broker.given_up == [CHANNEL]
    assert not broker.healthy


class Slow(Deaf):
    async def subscribe(self, topic: Any) -> None:
        self.asked.set()
        await self.answer.wait()


async def test_who_asks_while_the_broker_is_closed_is_told() -> None:
    broker = Slow()
    topics = Topics(broker)
    await topics.start()
    topics.topic("room/{name}", presence=True)
    asking = asyncio.ensure_future(topics.presence("room/a"))
    await broker.asked.wait()
    await topics.close()
    broker.answer.set()
    with pytest.raises(NotServing):
        await asking


async def test_a_node_that_stood_still_forgets_nobody_before_it_has_read() -> None:
    hub = MemoryHub()
    async with nodes(2, lambda: MemoryBroker(hub), ttl=0.2) as halls:
        ws, _ = await halls[0].join()
        await ws.subscribe("room/a", as_="ann")
        await halls[1].wait_for("room/a", {"ann": [{}]})
        time.sleep(0.4)  # noqa: ASYNC251  # both of them, as a debugger would
        await asyncio.sleep(0.1)
        assert halls[1].events == [("room/a", ["ann"], [])]


async def test_connections_that_are_left_at_the_end_leave() -> None:
    hub = MemoryHub()
    async with nodes(2, lambda: MemoryBroker(hub)) as halls:
        ws, _ = await halls[0].join()
        await ws.subscribe("room/a", as_="ann")
        await halls[1].wait_for("room/a", {"ann": [{}]})
        await halls[0].router.topics.close()
        assert halls[0].events[-1] == ("room/a", [], ["ann"])
        await halls[1].wait_for("room/a", {})


async def test_who_does_not_wait_for_the_farewell_closes_all_the_same() -> None:
    class Slow(MemoryBroker):
        def publish(self, *args: Any, **kwargs: Any) -> asyncio.Future[Published]:
            super().publish(*args, **kwargs)
            return asyncio.get_running_loop().create_future()

    broker = Slow()
    topics = Topics(broker)
    topics.topic("room/{name}", presence=True)
    await topics.start()
    attendance: Any = topics._attendance
    node = attendance.presence.node
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0):
            await topics.close()
    assert broker.state is State.CLOSED
    assert attendance.presence.node != node
