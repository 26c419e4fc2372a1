"""Nodes on an engine, for the tests of one kind of broker."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from nats.aio.client import Client

from websockets_routes import Filter
from websockets_routes.brokers import Backoff, Broker
from websockets_routes.brokers.nats import NatsBroker
from websockets_routes.brokers.redis import RedisBroker
from websockets_routes.contract import Node

QUICK = Backoff(first=0.02, longest=0.05)


async def until(condition: Callable[[], object]) -> None:
    """Look until a condition holds that has no event, but not for ever."""
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.005)


@asynccontextmanager
async def started(broker: Broker, *topics: str | Filter) -> AsyncIterator[Node]:
    node = Node(broker)
    await node.broker.start(node.receive, node.gap)
    try:
        for topic in topics:
            await node.broker.subscribe(topic)
        yield node
    finally:
        await node.broker.close()


@asynccontextmanager
async def started_nats(
    url: str, *topics: str | Filter, **options: Any
) -> AsyncIterator[Node]:
    broker = NatsBroker(url, backoff=QUICK, memory=True, **options)
    async with started(broker, *topics) as node:
        yield node


@asynccontextmanager
async def started_redis(
    url: str, *topics: str | Filter, **options: Any
) -> AsyncIterator[Node]:
    async with started(RedisBroker(url, backoff=QUICK, **options), *topics) as node:
        yield node


async def settled(client: Client) -> None:
    """Wait until the engine has done what a client sent; its flush may overtake it."""
    inbox = client.new_inbox()
    subscription = await client.subscribe(inbox)
    await client.publish(inbox)
    await subscription.next_msg(20)
    await subscription.unsubscribe()
