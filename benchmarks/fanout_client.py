"""The subscribers of a fan-out: a process that takes bytes from sockets and counts.

It never sleeps while it measures. A server that sends to a process on the same machine
which sleeps has to wake it up, which over a network no server does, and which is as
dear as what it sends.
"""

from __future__ import annotations

import multiprocessing
import os
import select
import socket
import struct
import time
import traceback
import zlib
from dataclasses import replace
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Any, Self

from .fanout_load import CONTROL, COUNT, SUBSCRIBE, Load
from .handshake import EXTENSION
from .server_process import ProcessClock, open_connection, own_core

__all__ = ["Subscribers"]

_BUFFER = 2**20
# Seconds without a byte, after which something is wrong.
_PATIENCE = 30
# Closes with a reset: thousands of connections that linger would be in the way.
_NO_LINGER = struct.pack("ii", 1, 0)

# A connection on which nothing came for 200 ms acknowledges the next 16 segments one by
# one (Linux, TCP_MAX_QUICKACKS), and the server's sends pay for that, over loopback.
_WARM_UP_TICKS = 17
_WARM_UP_SIZE = 100

_RSV1 = 0x40


class Subscribers:
    """A process with all subscribers of one server.

    Args:
        port: That of the server.
        pid: That of the server.
        number: How many subscribers.
        deflate: Whether they offer it.
    """

    def __init__(self, port: int, pid: int, number: int, deflate: bool) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(
            target=_main, args=(theirs, port, pid, number, deflate), daemon=True
        )
        self._process.start()
        theirs.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._pipe.close()
        self._process.join()

    def wait(self) -> None:
        """Wait until all are there."""
        self._receive()

    def measure(self, load: Load) -> tuple[float, float]:
        """Have a load published, after a warm-up, and measure it.

        Returns:
            Seconds of CPU that the server took, and the mean bytes of a frame.
        """
        self._pipe.send(load)
        seconds, size = self._receive()
        return seconds, size

    def _receive(self) -> Any:
        answer = self._pipe.recv()
        if isinstance(answer, str):
            raise RuntimeError(f"the client failed:\n{answer}")
        return answer


def _main(pipe: Connection, port: int, pid: int, number: int, deflate: bool) -> None:
    with own_core(0):
        try:
            client = _Client(port, pid, number, deflate)
            pipe.send(None)
            while True:
                pipe.send(client.measure(pipe.recv()))
        except EOFError:
            pass
        except Exception:
            pipe.send(traceback.format_exc())
    os._exit(0)


class _Client:
    def __init__(self, port: int, pid: int, number: int, deflate: bool) -> None:
        self._clock = ProcessClock(pid)
        self._buffer = bytearray(_BUFFER)
        self._poll = select.epoll()
        self._sockets: dict[int, socket.socket] = {}
        self._first = -1
        for _ in range(number):
            subscriber = open_connection(port, SUBSCRIBE, *[EXTENSION] * deflate)
            subscriber.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
            subscriber.setblocking(False)
            fileno = subscriber.fileno()
            self._sockets[fileno] = subscriber
            self._poll.register(fileno, select.EPOLLIN)
            if self._first < 0:
                self._first = fileno
        self._control = open_connection(port, CONTROL)
        # The handlers that subscribe may run after their handshakes.
        while self._count_subscribers() < number:
            pass
        self._start = 0
        # What each mode's messages are compressed with goes on from one to the next.
        self._decompressors: dict[str, Any] = {}

    def measure(self, load: Load) -> tuple[float, float]:
        # Other servers ran in between: this one's memory is in no cache any more, and
        # its connections were idle. Who publishes all the time meets neither.
        self._publish(Load(load.mode, _WARM_UP_SIZE, _WARM_UP_TICKS, 1))
        before = self._clock.seconds()
        size = self._publish(load)
        return self._clock.seconds() - before, size

    def _publish(self, load: Load) -> float:
        """Have a load published; wait until each subscriber has all of it.

        As all of them get the same bytes, frames are looked for on the first only,
        and bytes are counted on the others.
        """
        load = replace(load, start=self._start)
        self._start += load.ticks * load.number
        frames = _Frames()
        expected = load.ticks * load.number
        received = dict.fromkeys(self._sockets, 0)
        total, everything = 0, -1
        buffer, poll, sockets, first = (
            self._buffer,
            self._poll.poll,
            self._sockets,
            self._first,
        )
        last = time.monotonic()
        self._tell(load.dump())
        while total != everything:
            events = poll(0)
            for fileno, _ in events:
                size = sockets[fileno].recv_into(buffer)
                if not size:
                    raise ConnectionError(f"the server closed a connection: {load}")
                received[fileno] += size
                total += size
                if fileno == first:
                    frames.feed(buffer[:size])
                    if len(frames.found) == expected:
                        everything = received[fileno] * len(sockets)
            if events:
                last = time.monotonic()
            elif time.monotonic() - last > _PATIENCE:
                found = len(frames.found)
                raise TimeoutError(
                    f"{found} of {expected} messages, "
                    f"{total} of {everything} bytes: {load}"
                )
        assert set(received.values()) == {received[first]}, received
        self._check(load, frames)
        return received[first] / expected

    def _check(self, load: Load, frames: _Frames) -> None:
        expected = [text for texts in load.messages() for text in texts]
        decompressor = self._decompressors.setdefault(
            load.mode, zlib.decompressobj(-15)
        )
        for (head, payload), text in zip(frames.found, expected, strict=True):
            if head & _RSV1:
                data = decompressor.decompress(payload + b"\x00\x00\xff\xff")
            else:
                data = payload
            assert data == text.encode(), (load, data, text)

    def _tell(self, command: str) -> None:
        data = command.encode()
        size = len(data)
        head = bytes((0x81, 0x80 | min(size, 126)))
        if size > 125:
            head += size.to_bytes(2, "big")
        self._control.sendall(head + bytes(4) + data)  # the mask is zero

    def _count_subscribers(self) -> int:
        self._tell(COUNT)
        frames = _Frames()
        while not frames.found:
            received = self._control.recv(4096)
            assert received, "no answer"
            frames.feed(received)
        return int(frames.found[0][1])


class _Frames:
    """Finds whole frames from a server; knows text only, in one frame each.

    Attributes:
        found: The first byte and the payload of each.
    """

    def __init__(self) -> None:
        self.found: list[tuple[int, bytes]] = []
        self._buffer = bytearray()

    def feed(self, data: bytes | bytearray) -> None:
        buffer = self._buffer
        buffer += data
        while len(buffer) >= 2:
            start, size = 2, buffer[1]
            if size > 125:
                start = 4 if size == 126 else 10
                size = int.from_bytes(buffer[2:start], "big")
            if len(buffer) < start + size:
                return
            assert buffer[0] & ~_RSV1 == 0x81, f"no text: {bytes(buffer[:16])!r}"
            self.found.append((buffer[0], bytes(buffer[start : start + size])))
            del buffer[: start + size]
