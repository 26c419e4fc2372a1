"""Attendance: nodes that tell each other who is there, by a broker in memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from websockets_routes.brokers import Envelope, MemoryBroker
from websockets_routes.brokers.memory import MemoryHub
from websockets_routes.pubsub.attendance import Attendance
from websockets_routes.pubsub.presence_messages import Request, encode
from websockets_routes.pubsub.roster import Change


class Node:
    """A node that notes who comes and goes."""

    def __init__(self, ttl: float) -> None:
        self.changes: asyncio.Queue[Change] = asyncio.Queue()
        self.attendance = Attendance(ttl, 4096, self.changes.put_nowait)

    def receive(self, envelope: Envelope) -> None:
        self.attendance.receive(envelope.data)


@asynccontextmanager
async def attending(hub: MemoryHub, ttl: float) -> AsyncIterator[Node]:
    node = Node(ttl)
    async with MemoryBroker(hub) as broker:
        await broker.start(node.receive, lambda topic: None)
        await node.attendance.start(broker)
        yield node
        await node.attendance.stop()


async def test_who_was_not_there_does_not_leave() -> None:
    async with attending(MemoryHub(), 30) as node:
        node.attendance.join("room/a", "ann", "1", None)
        node.attendance.leave("room/a", "2")
        assert node.attendance.presence.members("room/a") == {"ann": [{}]}
        assert node.changes.qsize() == 1


async def test_who_asks_shortly_after_another_waits_for_no_heartbeat() -> None:
    hub, ttl = MemoryHub(), 30.0
    loop = asyncio.get_running_loop()
    async with attending(hub, ttl) as node:
        node.attendance.join("room/a", "ann", "1", None)
        async with attending(hub, ttl) as first:
            change = await first.changes.get()
            assert (change.topic, list(change.joins)) == ("room/a", ["ann"])
            owed = node.attendance.presence.interval / 2
            # It is not asked for again in less than that: let its clock go on.
            presence = node.attendance.presence
            began = loop.time()
            presence._state_after -= owed - 0.2
            async with attending(hub, ttl) as second:
                change = await second.changes.get()
                assert (change.topic, list(change.joins)) == ("room/a", ["ann"])
                assert 0.1 < loop.time() - began < 2


async def test_a_node_that_ends_while_it_owes_its_state_says_no_more() -> None:
    hub, ttl = MemoryHub(), 0.4
    errors: list[Any] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: errors.append(context))
    async with attending(hub, ttl) as last:
        async with attending(hub, ttl) as node:
            node.attendance.join("room/a", "ann", "1", None)
            async with attending(hub, ttl):
                await asyncio.sleep(0)
            node.attendance.receive(encode(Request("somebody", None)))
            assert node.attendance.presence.owed is not None
        # A timer that is left would find no broker.
        await asyncio.sleep(0.1)
        assert not errors
        assert last.attendance.presence.members("room/a") == {}
