"""Pacing: knows what a peer takes from a transport, and when it takes nothing.

``websockets`` 17 waits for a peer that does not read, without any limit in time: in
``send``, in its keepalive, and in ``close``. And a TLS transport of asyncio hides below
its SSL layer whatever it was given, as soon as the socket takes a little of it, so that
no limit sees it: it must not be given more than a piece at a time.
"""

from __future__ import annotations

import asyncio
import os
import socket
import struct
import sys
from collections import deque
from collections.abc import Callable
from typing import Any

__all__ = ["PacedTransport", "StallWatch", "TLSTransport"]

_PIECE = 2**16

# Where tcp_info of Linux has tcpi_bytes_acked (since 4.1).
_BYTES_ACKED = 120
_TCP_INFO_SIZE = 128

# How often a timeout looks whether the peer took anything.
_LOOKS = 4


class PacedTransport:
    """A transport that counts what is written to it.

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
        self.written += len(data)
        self.transport.write(data)

    def get_write_buffer_size(self) -> int:
        return self.transport.get_write_buffer_size()

    @property
    def taken(self) -> int:
        """A number that grows when the peer takes bytes; only differences mean more.

        What the operating system takes, it takes in large portions; where it tells,
        what the peer has acknowledged counts as well.
        """
        return self.written - self.get_write_buffer_size() + _acknowledged(self)


def _acknowledged(transport: PacedTransport) -> int:
    """Return how many bytes a peer has acknowledged, or 0 if nobody tells."""
    if sys.platform != "linux":  # pragma: no cover - only Linux tells
        return 0
    try:
        number = os.dup(transport.get_extra_info("socket").fileno())
        with socket.socket(fileno=number) as sock:
            info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO_SIZE)
        (acknowledged,) = struct.unpack_from("=Q", info, _BYTES_ACKED)
    except (AttributeError, OSError, struct.error):
        return 0  # a Unix socket, or one that is closed
    return int(acknowledged)


class TLSTransport(PacedTransport):
    """A TLS transport that is given its next piece when the last one has left.

    Whoever uses it has to call ``pause`` and ``resume`` when the event loop has it
    pause and resume writing.
    """

    def __init__(self, transport: asyncio.Transport) -> None:
        super().__init__(transport)
        self._pieces: deque[memoryview] = deque()
        self._size = 0
        self._paused = False
        self._closing = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        view = memoryview(data)
        for start in range(0, len(data), _PIECE):
            piece = view[start : start + _PIECE]
            self.written += len(piece)
            if self._paused:
                self._pieces.append(piece)
                self._size += len(piece)
            else:
                self.transport.write(piece)

    def get_write_buffer_size(self) -> int:
        return self._size + self.transport.get_write_buffer_size()

    def pause(self) -> None:
        """Keep what is written from now on."""
        self._paused = True

    def resume(self) -> bool:
        """Write what was kept, as far as it goes; tell whether that was all."""
        self._paused = False
        while self._pieces and not self._paused:
            piece = self._pieces.popleft()
            self._size -= len(piece)
            self.transport.write(piece)
        if self._closing and not self._pieces:
            self.transport.close()
        return not self._pieces and not self._paused

    def is_closing(self) -> bool:
        return self._closing or self.transport.is_closing()

    def close(self) -> None:
        self._closing = True
        if not self._pieces:
            self.transport.close()

    def abort(self) -> None:
        self._pieces.clear()
        self._size = 0
        self.transport.abort()


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
