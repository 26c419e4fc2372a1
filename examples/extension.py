"""An extension: methods and attributes that every connection gets.

    python examples/extension.py

Private messages by user name: connect as ``ws://localhost:8765/as/ada`` and as
``ws://localhost:8765/as/ben``; ada sends ``ben: hello``, and ben receives it.
"""

import asyncio
import logging
from typing import Any

from websockets_routes import Protocol, Registrar, Router

router = Router()
online: dict[str, Any] = {}


def private_messages(ws: Registrar) -> None:
    ws.property("user", "")
    ws.property("contacts", [])  # each connection has a list of its own

    @ws.method
    async def send_private(self: Any, user: str, text: str) -> bool:
        if user not in self.contacts:
            self.contacts.append(user)
        to = online.get(user)
        if to is None:
            return False
        await to.send_json({"from": self.user, "text": text})
        return True


router.extend(private_messages)


# Any: a type checker cannot know what an extension adds.
async def serve_user(ws: Any) -> None:
    ws.user = ws.params["name"]
    online[ws.user] = ws
    try:
        async for message in ws:
            user, _, text = message.partition(": ")
            if not await ws.send_private(user, text):
                await ws.send_json({"offline": user, "contacts": ws.contacts})
    finally:
        del online[ws.user]


@router.route("/as/{name}")
async def as_user(ws: Protocol) -> None:
    if ws.params["name"] in online:
        await ws.close(4000, "this name is taken")
    else:
        await serve_user(ws)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    asyncio.run(router.run("localhost", 8765))
