"""An extension: methods and attributes that every connection gets.

    python examples/extension.py

Private messages by user name: connect as ``ws://localhost:8765/as/ada`` and as
``ws://localhost:8765/as/ben``; ada sends ``ben: hello``, and ben receives it.
"""

import asyncio
import logging
from typing import Any

from websockets_routes import Registrar, Router

router = Router()
inbox = router.topic("user/{name}")


def private_messages(ws: Registrar) -> None:
    ws.property("contacts", [])  # each connection has a list of its own

    @ws.method
    def send_private(self: Any, user: str, text: str) -> bool:
        if user not in self.contacts:
            self.contacts.append(user)
        message = {"from": self.params["name"], "text": text}
        return router.publish_json(inbox(name=user), message).matched > 0


router.extend(private_messages)


@router.route("/as/{name}")
# Any: a type checker cannot know what an extension adds.
async def as_user(ws: Any) -> None:
    name = inbox(name=ws.params["name"])
    if router.num_subscribers(name):
        await ws.close(4000, "this name is taken")
        return
    await ws.subscribe(name)
    async for message in ws:
        user, _, text = message.partition(": ")
        if not ws.send_private(user, text):
            await ws.send_json({"offline": user, "contacts": ws.contacts})


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    asyncio.run(router.run("localhost", 8765))
