"""Nodes: servers in one process that share nothing but an engine."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from tests.contract.engines import Engine, Nats
from tests.integration.servers import HOST, address
from tests.integration.test_topics import Hall
from websockets_routes import Router, Topics
from websockets_routes.brokers import Backoff, Broker
from websockets_routes.brokers.nats import NatsBroker
from websockets_routes.brokers.redis import RedisBroker

QUICK = Backoff(first=0.02, longest=0.05)


def broker_of(engine: Engine, prefix: str, **options: Any) -> Broker:
    """Make the broker of an engine."""
    options = {"prefix": prefix, "backoff": QUICK, "timeout": 5, **options}
    if isinstance(engine, Nats):
        return NatsBroker(engine.url, **options)
    return RedisBroker(engine.url, **{"durable": True, **options})


def make_hall(broker: Broker | str, **declared: Any) -> Hall:
    hall = Hall(Router(topics=Topics(broker)))
    hall.router.topic("room/{name}", **{"history": 1000, **declared})

    @hall.router.before_handshake
    async def know(ws: Any, path: Any) -> None:
        if path.query.startswith("key="):
            ws.client_key = path.query.removeprefix("key=")

    return hall


@asynccontextmanager
async def nodes(
    number: int, make: Callable[[], Broker | str], **declared: Any
) -> AsyncIterator[list[Hall]]:
    """Run so many nodes."""
    before = asyncio.all_tasks()
    async with asyncio.timeout(20):
        async with AsyncExitStack() as stack:
            halls = [make_hall(make(), **declared) for _ in range(number)]
            for hall in halls:
                server = await stack.enter_async_context(hall.router.serve(HOST, 0))
                hall.url = address(server)
                await stack.enter_async_context(hall._clients)
            yield halls
        left = asyncio.all_tasks() - before
        if left:
            _, left = await asyncio.wait(left, timeout=5)
        assert not left, f"tasks outlive the servers: {left}"
