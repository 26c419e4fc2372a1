"""A chat on many processes, whose clients lose nothing when they lose a connection.

    websockets-routes run chat:router --workers 4 --broker redis://localhost?durable=true

See README.md, in this folder, for the broker; http://localhost:8765/ is a page that
shows it. What is said, all in JSON:

- ``{"join": "kitchen"}`` is answered by ``{"joined": "kitchen", "epoch": …,
  "offset": …, "recovered": true, "count": 0}``. From then on messages come as
  ``{"topic": "room/kitchen", "epoch": …, "offset": …, "timestamp": …, "data": …}``.
- ``{"join": "kitchen", "since": [epoch, offset]}``, with what the last message said,
  brings what was missed, then what is new. If that cannot be known to be all, the
  answer says ``"recovered": false``.
- ``{"say": "hello", "room": "kitchen", "id": "a1"}`` is answered by ``{"said": "a1",
  "epoch": …, "offset": …}`` or ``{"failed": "a1"}``. Without an answer, or with the
  second one, the same may be sent again: within two minutes the same id is the same
  message.
"""

import json
import os
from pathlib import Path
from typing import Any

from websockets.frames import CloseCode

from websockets_routes import (
    BrokerUnavailable,
    Position,
    Protocol,
    Router,
    json_envelope,
)
from websockets_routes.http import Request, Response

PAGE = Path(__file__).with_name("chat.html")


router = Router()
room = router.topic("room/{name}", history=10_000, ttl=3600, envelope=json_envelope)


@router.get("/")
async def page(request: Request) -> Response:
    return Response.file(PAGE)


@router.route("/chat")
async def chat(ws: Protocol) -> None:
    await ws.send_json({"worker": os.getpid()})
    async for message in ws:
        match parse(message):
            case {"join": str(name), "since": [str(epoch), int(offset)]}:
                await join(ws, name, Position(epoch, offset))
            case {"join": str(name)}:
                await join(ws, name, None)
            case {"say": str(text), "room": str(name), "id": str(key)}:
                await say(ws, name, text, key)
            case _:
                await ws.close(CloseCode.POLICY_VIOLATION, "neither join nor say")


def parse(message: str | bytes) -> Any:
    try:
        return json.loads(message)
    except (ValueError, RecursionError):
        return None


async def join(ws: Protocol, name: str, since: Position | None) -> None:
    await ws.subscribe(
        room(name=name),
        since=since,
        reply=lambda subscribed: json.dumps(
            {
                "joined": name,
                "epoch": subscribed.epoch,
                "offset": subscribed.offset,
                "recovered": subscribed.recovered,
                "count": subscribed.count,
            }
        ),
    )


async def say(ws: Protocol, name: str, text: str, key: str) -> None:
    try:
        receipt = await router.publish(room(name=name), text, idempotency_key=key)
    except BrokerUnavailable:
        await ws.send_json({"failed": key})
    else:
        await ws.send_json(
            {"said": key, "epoch": receipt.epoch, "offset": receipt.offset}
        )
