"""Events: a class that is called, in place of a loop.

    python examples/events.py

Plain methods are called at once, with no task and no queue between: an echo costs
the server about a third less than ``async for`` and ``send``.
"""

import asyncio
import logging

from websockets_routes import OpCode, Protocol, Router

router = Router()


@router.route("/echo")
class Echo:
    """Plain methods: they cannot await, and need not."""

    def on_message(self, ws: Protocol, message: str | bytes, opcode: OpCode) -> None:
        ws.send_nowait(message)


@router.route("/count")
class Count:
    """One instance a connection: what it knows is the connection's own."""

    def __init__(self) -> None:
        self.words = 0

    async def on_open(self, ws: Protocol) -> None:
        await ws.send_json({"say": "something"})

    def on_text(self, ws: Protocol, text: str) -> None:
        self.words += len(text.split())

    def on_binary(self, ws: Protocol, data: bytes) -> None:
        raise ValueError("only words can be counted")  # closes with 1011

    async def on_ping(self, ws: Protocol, data: bytes) -> None:
        await ws.send_json({"words": self.words})

    def on_close(self, ws: Protocol, code: int, reason: str) -> None:
        logging.getLogger(__name__).info("%d words until %d", self.words, code)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    asyncio.run(router.run("localhost", 8765))
