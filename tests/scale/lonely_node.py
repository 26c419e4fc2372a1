"""A node in a process of its own: one member, until the process is killed."""

from __future__ import annotations

import asyncio
import sys

from tests.integration.servers import HOST, address, connecting
from websockets_routes import Router, Topics


async def main(url: str, prefix: str, ttl: float) -> None:
    from websockets_routes.brokers import Broker
    from websockets_routes.brokers.nats import NatsBroker
    from websockets_routes.brokers.redis import RedisBroker

    kind = NatsBroker if url.startswith("nats") else RedisBroker
    broker: Broker = kind(url, prefix=prefix)
    router = Router(topics=Topics(broker, presence_ttl=ttl))
    router.topic("room/{name}", presence=True)

    @router.route("/")
    async def hold(ws: object) -> None:
        await router.subscribe(ws, "room/a", as_="doomed")  # type: ignore[arg-type]
        await asyncio.Event().wait()

    async with router.serve(HOST, 0) as server, connecting(address(server) + "/"):
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], float(sys.argv[3])))
