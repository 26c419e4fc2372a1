"""Rooms: whoever is in one hears what is said there, and how many are there.

    python examples/chat.py

Open http://localhost:8765/ in as many windows as you like, or connect as
``ws://localhost:8765/room/kitchen?user=ada``. A room has any name: ``/room/a%2Fb``
and ``/room/%23`` are rooms like all others.
"""

import asyncio
import logging
from pathlib import Path

from websockets.asyncio.server import ServerConnection

from websockets_routes import Filter, Protocol, Router
from websockets_routes.http import Request, Response

PAGE = Path(__file__).with_name("chat.html")

router = Router()
room = router.topic("room/{name}")


@router.get("/")
async def page(request: Request) -> Response:
    return Response.file(PAGE)


@router.get("/healthz")
async def healthz(request: Request) -> str:
    return "ok\n"


@router.topics.on_subscription
def tell_how_many(
    ws: ServerConnection, topic: str | Filter, new_count: int, old_count: int
) -> None:
    router.publish_json(str(topic), {"here": new_count})


@router.route("/room/{name}", subscribe=room)
class Chat:
    def on_text(self, ws: Protocol, text: str) -> None:
        user = ws.path.query_params.get("user", "somebody")
        router.publish_json(room(**ws.params), {"user": user, "text": text})


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    asyncio.run(router.run("localhost", 8765))
