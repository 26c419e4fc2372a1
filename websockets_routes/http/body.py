"""The body of a request, as it comes."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from ..exceptions import RoutesError

__all__ = ["ReceivedBody"]

# Bytes that wait for the handler before no more are read.
_MAX_WAITING = 2**16
# With each of these many bytes a body gets its time anew.
_PORTION = 2**16


class ReceivedBody:
    """What a client sends behind the head of a request.

    Args:
        wanted: Called when more is wanted.
        enough: Called when so much waits that no more should be read.
        portion: Called each time that another 64 KiB have come.
    """

    __slots__ = (
        "_enough",
        "_error",
        "_pieces",
        "_portion",
        "_received",
        "_size",
        "_waiter",
        "_wanted",
        "ended",
        "is_whole",
    )

    def __init__(
        self,
        wanted: Callable[[], None],
        enough: Callable[[], None],
        portion: Callable[[], None],
    ) -> None:
        self._wanted = wanted
        self._enough = enough
        self._portion = portion
        self._pieces: deque[bytes] = deque()
        self._size = 0
        self._received = 0
        self._error: Exception | None = None
        self._waiter: asyncio.Future[None] | None = None
        #: Whether nothing more comes, and whether that is all of it.
        self.ended = False
        self.is_whole = False

    def add(self, data: bytes) -> None:
        """Take what has come."""
        self._pieces.append(data)
        self._size += len(data)
        self._received += len(data)
        if self._received > _PORTION:
            self._received = 0
            self._portion()
        if self._size > _MAX_WAITING:
            self._enough()
        self._wake()

    def end(self) -> None:
        """Take note that this was all."""
        self.ended = self.is_whole = True
        self._wake()

    def fail(self, error: Exception) -> None:
        """Have whoever reads on get an error; nothing more comes."""
        if not self.ended:
            self._error = error
            self.ended = True
            self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def read(self) -> bytes:
        """Return what has come, at least a byte; nothing at the end.

        Raises:
            ClientDisconnected: If the client went away before, or takes too long.
            BadRequest: If it is malformed.
            RoutesError: If another task is reading it.
        """
        while not self._pieces:
            if self._error is not None:
                raise self._error
            if self.ended:
                return b""
            if self._waiter is not None and not self._waiter.done():
                raise RoutesError("another task is reading the body")
            self._wanted()
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        body = b"".join(self._pieces)
        self._pieces.clear()
        self._size = 0
        return body
