"""Writing responses, at the pace of the client that reads them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterable
from email.utils import formatdate
from functools import lru_cache
from typing import cast

from ..exceptions import ClientDisconnected, InvalidResponse
from ..pacing import PacedTransport, StallWatch

__all__ = ["Writer", "response_head"]


class Writer:
    """Writes to a transport, and waits while its client is slow.

    Args:
        transport: The transport.
        stall_timeout: Seconds after which a client is aborted that takes nothing while
            there is more than the transport holds; None to wait for ever.
    """

    def __init__(
        self, transport: asyncio.Transport, stall_timeout: float | None
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._stall_timeout = stall_timeout
        self._paused: asyncio.Future[None] | None = None
        self._stall_watch: StallWatch | None = None
        #: The transport, or what counts what it is given.
        self.transport = transport

    def write(self, data: bytes) -> None:
        """Write, or have it wait in the transport; nothing if the client went away."""
        if not self.transport.is_closing():
            self.transport.write(data)

    async def drain(self) -> None:
        """Wait until the client has taken enough.

        Raises:
            ClientDisconnected: If it went away.
        """
        if self._paused is not None:
            await self._paused
        if self.transport.is_closing():
            raise ClientDisconnected("the client went away")

    async def write_stream(
        self, stream: AsyncIterator[bytes], chunked: bool, length: str | None
    ) -> None:
        """Write pieces, at the pace of the client.

        Args:
            stream: The pieces.
            chunked: Whether each is a chunk (RFC 9112 section 7.1).
            length: What Content-Length promises, or None.

        Raises:
            ClientDisconnected: If the client went away.
            InvalidResponse: If there is more or less than promised: the next
                response would be taken for the rest of it, or the other way round.
        """
        left = None if length is None else int(length)
        async for piece in stream:
            if left is not None:
                left -= len(piece)
                if left < 0:
                    raise InvalidResponse("the stream is longer than Content-Length")
            self.write(b"%x\r\n%b\r\n" % (len(piece), piece) if chunked else piece)
            await self.drain()
        if left:
            raise InvalidResponse("the stream is shorter than Content-Length")

    def pause(self) -> None:
        """Take note that the transport holds enough."""
        self._paused = self._loop.create_future()
        if self._stall_timeout is not None:
            paced = PacedTransport(self.transport)
            self.transport = cast(asyncio.Transport, paced)
            self._stall_watch = StallWatch(
                self._loop, paced, self._stall_timeout, paced.abort
            )

    def resume(self) -> None:
        """Take note that it takes more."""
        self.stop()
        if isinstance(self.transport, PacedTransport):
            self.transport = self.transport.transport
        self._paused = None

    def stop(self) -> None:
        """Wait no longer: the client took enough, or is gone."""
        if self._stall_watch is not None:
            self._stall_watch.cancel()
            self._stall_watch = None
        if self._paused is not None and not self._paused.done():
            self._paused.set_result(None)


def response_head(
    status: int, reason: str, headers: Iterable[tuple[str, str]]
) -> bytes:
    """Write the head of a response, with the date (RFC 9110 section 6.6.1)."""
    lines = [f"HTTP/1.1 {status} {reason}"]
    dated = False
    for name, value in headers:
        lines.append(f"{name}: {value}")
        dated = dated or name.lower() == "date"
    if not dated:
        lines.insert(1, f"Date: {_date(int(time.time()))}")
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


@lru_cache(1)
def _date(seconds: int) -> str:
    return formatdate(seconds, usegmt=True)
