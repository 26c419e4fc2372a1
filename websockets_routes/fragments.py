"""Messages that wait for the last fragment of another one.

What this module takes from ``websockets`` beyond its documentation, and
``tests/test_undocumented.py`` watches: ``send()`` keeps a future in
``send_in_progress`` while it sends fragments, and calls its ``set_result`` behind the
last one. A future of our own takes its place, and sends what waits right then.
"""

from __future__ import annotations

import asyncio

from websockets import State
from websockets.asyncio.server import ServerConnection

__all__ = ["BehindFragments"]


class BehindFragments(asyncio.Future[None]):
    """The end of a fragmented message, and the messages that wait for it.

    They go out in order, before anything that is sent once the last fragment is;
    a ``send`` that has been waiting as well comes after them.

    Args:
        ws: The connection.
        sent: What it keeps in ``send_in_progress``.

    Attributes:
        size: Bytes that wait.
    """

    def __init__(self, ws: ServerConnection, sent: asyncio.Future[None]) -> None:
        super().__init__(loop=ws.loop)
        self._ws = ws
        self._sent = sent
        self._waiting: list[tuple[bytes, bool]] = []
        self.size = 0

    def add(self, message: bytes, text: bool) -> None:
        self._waiting.append((message, text))
        self.size += len(message)

    def set_result(self, result: None) -> None:
        protocol = self._ws.protocol
        # Where sending the fragments failed, the connection is of no use any more.
        if protocol.state is State.OPEN and not protocol.expect_continuation_frame:
            for message, text in self._waiting:
                (protocol.send_text if text else protocol.send_binary)(message)
            self._ws.send_data()
        self._sent.set_result(None)
        super().set_result(None)
