"""Pacing: knows what a peer takes from a transport, and when it takes nothing.

``websockets`` 17 waits for a peer that does not read, without any limit in time: in
``send``, in its keepalive, and in ``close``. And a TLS transport that was given a
large piece hides it below its SSL layer, where no limit sees it; given pieces of
64 KiB, it shows all but some 120 KB.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

__all__ = ["PacedTransport", "StallWatch"]

_PIECE = 2**16

# How often a timeout looks whether the peer took anything.
_LOOKS = 4


class PacedTransport:
    """A transport that counts what is written to it, in pieces that TLS shows.

    Args:
        transport: The transport to write to.

    Attributes:
        transport: The same.
        written: Bytes written through this object.
    """

    def __init__(self, transport: asyncio.Transport) -> None:
        self.transport = transport
        self.written = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.transport, name)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        size = len(data)
        if size <= _PIECE:
            self.written += size
            self.transport.write(data)
            return
        view = memoryview(data)
        for start in range(0, size, _PIECE):
            self.write(view[start : start + _PIECE])

    @property
    def taken(self) -> int:
        """Bytes that the peer has taken; only differences mean something."""
        return self.written - self.transport.get_write_buffer_size()


class StallWatch:
    """Calls back when a peer has taken nothing for some time.

    Args:
        loop: The event loop.
        transport: The transport.
        timeout: The time, in seconds; the call comes at most a quarter later.
        stalled: What to call.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        transport: PacedTransport,
        timeout: float,
        stalled: Callable[[], None],
    ) -> None:
        self._loop = loop
        self._transport = transport
        self._timeout = timeout
        self._stalled = stalled
        self._taken = transport.taken
        self._since = loop.time()
        self._look_later()

    def cancel(self) -> None:
        """Watch no longer."""
        self._timer.cancel()

    def _look_later(self) -> None:
        self._timer = self._loop.call_later(self._timeout / _LOOKS, self._look)

    def _look(self) -> None:
        taken, now = self._transport.taken, self._loop.time()
        if taken > self._taken:
            self._taken, self._since = taken, now
        elif now - self._since >= self._timeout:
            self._stalled()
            return
        self._look_later()
