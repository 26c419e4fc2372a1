"""A resource: related routes in one class, one instance for all connections.

    python examples/resource.py

Connect twice to ``ws://localhost:8765/chat/room/tea``: what one says, both hear.
"""

import asyncio
import logging
from collections import defaultdict

from websockets_routes import OpCode, Protocol, Resource, Router, websocket


class Chat(Resource):
    def __init__(self) -> None:
        self.rooms: defaultdict[str, set[Protocol]] = defaultdict(set)

    @websocket("/room/{name}")
    def room(self, ws: Protocol, opcode: OpCode, payload: str | bytes) -> None:
        members = self.rooms[ws.params["name"]]
        if opcode is OpCode.OPEN:
            members.add(ws)
        elif opcode is OpCode.CLOSE:
            members.discard(ws)
        elif opcode is OpCode.TEXT:
            for member in members:
                member.send_nowait(payload)

    @websocket("/rooms")
    async def count(self, ws: Protocol, opcode: OpCode, payload: str | bytes) -> None:
        if opcode is OpCode.OPEN:
            await ws.send_json({room: len(each) for room, each in self.rooms.items()})


router = Router()
router.register(Chat(), prefix="/chat")

if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    asyncio.run(router.run("localhost", 8765))
