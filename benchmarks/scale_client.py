"""The clients of some workers: publish, and see when it arrives, and whether."""

from __future__ import annotations

import math
import select
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from .fanout_servers import FanoutServer
from .scale_servers import DIGITS, READY
from .server_process import ProcessClock, close_connection, open_connection

__all__ = ["SIZE", "Lap", "Room"]

#: Bytes of a message; short enough for the shortest head of a frame.
SIZE = 100
_HEAD = 2
_FRAME = _HEAD + SIZE
_PUBLISHED = slice(_HEAD, _HEAD + DIGITS)
_ARRIVED = slice(_PUBLISHED.stop + 1, _PUBLISHED.stop + 1 + DIGITS)
_NUMBER = slice(_ARRIVED.stop + 1, _ARRIVED.stop + 11)

# Seconds without a byte, after which what is missing is lost.
_PATIENCE = 2
# See ``fanout_client``.
_WARM_UP = 17


@dataclass
class Lap:
    """What was measured in one go.

    Attributes:
        messages: How many were published.
        deliveries: How many arrived.
        lost: How many did not.
        disordered: How many came behind a later one.
        seconds: How long it took.
        cpu: CPU time of all workers.
        engine_cpu: CPU time of the engine.
        latencies: Microseconds from publish to delivery, for each.
        arrivals: Microseconds from publish to arrival at the worker, where it tells.
    """

    messages: int = 0
    deliveries: int = 0
    lost: int = 0
    disordered: int = 0
    seconds: float = 0
    cpu: float = 0
    engine_cpu: float = 0
    latencies: list[float] = field(default_factory=list)
    arrivals: list[float] = field(default_factory=list)


class Room:
    """Subscribers spread over some workers, and a publisher on each of these.

    Args:
        name: What it is called.
        workers: Where.
        engine: The process of the engine.
        subscribers: How many, in all.
    """

    def __init__(
        self, name: str, workers: Sequence[FanoutServer], engine: int, subscribers: int
    ) -> None:
        self.subscribers = subscribers
        self._clocks = [ProcessClock(worker.pid) for worker in workers]
        self._engine = ProcessClock(engine)
        self._poll = select.epoll()
        self._sockets: dict[int, socket.socket] = {}
        self._rests: dict[int, bytes] = {}
        self._numbers: dict[int, int] = {}
        self._number = 0
        ports = [worker.port for worker in workers]
        for i in range(subscribers):
            # One after the other: of two at once, broadcaster forgets one.
            subscriber = open_connection(ports[i % len(ports)], f"/subscribe/{name}")
            _wait_ready(subscriber)
            subscriber.setblocking(False)
            fileno = subscriber.fileno()
            self._sockets[fileno] = subscriber
            self._rests[fileno] = b""
            self._numbers[fileno] = 0
            self._poll.register(fileno, select.EPOLLIN)
        self._publishers = [open_connection(port, f"/publish/{name}") for port in ports]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._poll.close()
        for connection in (*self._sockets.values(), *self._publishers):
            connection.setblocking(True)
            close_connection(connection)

    def measure(self, burst: int, seconds: float) -> Lap:
        """Publish a burst, wait until everybody has it, publish the next.

        Args:
            burst: How many messages at once; each worker publishes in its turn.
            seconds: How long to go on.
        """
        for _ in range(_WARM_UP):
            self._publish(1, Lap())
        lap = Lap()
        cpu, engine_cpu = self._cpu_seconds(), self._engine.seconds()
        start = time.monotonic()
        while not lap.messages or time.monotonic() < start + seconds:
            self._publish(burst, lap)
        lap.seconds = time.monotonic() - start
        lap.cpu = self._cpu_seconds() - cpu
        lap.engine_cpu = self._engine.seconds() - engine_cpu
        return lap

    def _cpu_seconds(self) -> float:
        return math.fsum(clock.seconds() for clock in self._clocks)

    def _publish(self, burst: int, lap: Lap) -> None:
        data = b""
        for _ in range(burst):
            self._number += 1
            text = f"{0:0{DIGITS}d} {0:0{DIGITS}d} {self._number:010d} "
            data += bytes((0x81, 0x80 | SIZE, 0, 0, 0, 0))  # the mask is zero
            data += text.ljust(SIZE, "x").encode()
        publisher = self._publishers[self._number // burst % len(self._publishers)]
        publisher.sendall(data)
        expected = burst * self.subscribers
        before = lap.deliveries
        lap.messages += burst
        while lap.deliveries - before < expected:
            events = self._poll.poll(_PATIENCE)
            if not events:
                break
            for fileno, _ in events:
                self._receive(fileno, lap)
        lap.lost += expected - (lap.deliveries - before)

    def _receive(self, fileno: int, lap: Lap) -> None:
        received = self._sockets[fileno].recv(2**16)
        now = time.monotonic_ns()
        if not received:
            raise ConnectionError("a worker closed a connection")
        data = self._rests[fileno] + received
        end = len(data) - len(data) % _FRAME
        last = self._numbers[fileno]
        for start in range(0, end, _FRAME):
            frame = data[start : start + _FRAME]
            since = int(frame[_PUBLISHED])
            lap.latencies.append((now - since) / 1000)
            arrived = int(frame[_ARRIVED])
            if arrived:
                lap.arrivals.append((arrived - since) / 1000)
            number = int(frame[_NUMBER])
            lap.disordered += number <= last
            last = number
        self._numbers[fileno] = last
        self._rests[fileno] = data[end:]
        lap.deliveries += end // _FRAME


def _wait_ready(connection: socket.socket) -> None:
    question = b"?"
    connection.sendall(bytes((0x81, 0x80 | len(question), 0, 0, 0, 0)) + question)
    expected = bytes((0x81, len(READY))) + READY.encode()
    received = b""
    while len(received) < len(expected):
        data = connection.recv(4096)
        assert data, "the worker closed the connection"
        received += data
    assert received == expected, received
