"""A resource: related routes in one class, one instance for all connections.

    python examples/resource.py

Connect twice to ``ws://localhost:8765/chat/room/tea``: what one says, both hear.
"""

import asyncio
import logging

from websockets_routes import OpCode, Protocol, Resource, Router, websocket

router = Router()
room = router.topic("room/{name}")


class Chat(Resource):
    def __init__(self) -> None:
        self.said = 0

    @websocket("/room/{name}")
    def room(self, ws: Protocol, opcode: OpCode, payload: str | bytes) -> None:
        topic = room(**ws.params)
        if opcode is OpCode.OPEN:
            ws.subscribe_nowait(topic)
        elif opcode is OpCode.TEXT:
            self.said += 1
            router.publish(topic, payload)

    @websocket("/rooms")
    async def count(self, ws: Protocol, opcode: OpCode, payload: str | bytes) -> None:
        if opcode is OpCode.OPEN:
            await ws.send_json({"here": router.topics.counts(), "said": self.said})


router.register(Chat(), prefix="/chat")

if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    asyncio.run(router.run("localhost", 8765))
