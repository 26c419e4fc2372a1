"""Servers in a process of their own, on a core of their own, which measure themselves.

The client is the process that starts them. It uses blocking sockets and fixed
bytes, so that it costs little and the same whatever it talks to.
"""

from __future__ import annotations

import asyncio
import ctypes
import gc
import multiprocessing
import os
import socket
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AsyncExitStack, contextmanager
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Self

try:
    import resource
except ImportError:  # Windows, which has no such limit
    resource = None  # type: ignore[assignment]

import psutil
from websockets.asyncio.server import Server

__all__ = [
    "ProcessClock",
    "ServerProcess",
    "allow_connections",
    "close_connection",
    "open_connection",
    "own_core",
]

HOST = "127.0.0.1"

#: Makes a server that listens on ``HOST`` and port 0; called on the server's loop.
Serve = Callable[[], Server]

# A masked close frame, code 1000; the masking key is zero.
_CLOSE = b"\x88\x82\x00\x00\x00\x00\x03\xe8"


class ServerProcess:
    """A process that runs some servers, each on a port of its own.

    Args:
        servers: What makes them, by name: functions that can be pickled.
        loop: ``asyncio`` or ``uvloop``.

    Attributes:
        ports: By the same names.
    """

    def __init__(self, servers: Mapping[str, Serve], loop: str = "asyncio") -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(
            target=_main, args=(theirs, dict(servers), loop), daemon=True
        )
        self._process.start()
        theirs.close()
        self.ports: dict[str, int] = self._pipe.recv()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._ask("stop")
        self._process.join()

    def _ask(self, question: str) -> float:
        self._pipe.send(question)
        answer: float = self._pipe.recv()
        return answer

    def cpu_seconds(self) -> float:
        """The CPU time that the process has taken, user and system."""
        return self._ask("cpu")

    def resident_bytes(self) -> float:
        """The resident set size, after a collection."""
        return self._ask("memory")

    def collect(self) -> None:
        """Collect garbage, so that it is not collected while measuring."""
        self._ask("collect")

    def wait_idle(self) -> None:
        """Wait until every connection is over, and what came with it."""
        while self._ask("tasks") > 1:
            pass


def _main(pipe: Connection, servers: dict[str, Serve], loop: str) -> None:
    factory = None
    if loop == "uvloop":
        import uvloop

        factory = uvloop.new_event_loop
    with own_core(-1), asyncio.Runner(loop_factory=factory) as runner:
        runner.run(_serve(pipe, servers))


async def _serve(pipe: Connection, servers: dict[str, Serve]) -> None:
    loop = asyncio.get_running_loop()
    stopped = asyncio.Event()
    process = psutil.Process()

    def answer() -> None:
        question = pipe.recv()
        value = 0.0
        if question == "cpu":
            value = time.process_time()
        elif question == "memory":
            gc.collect()
            value = process.memory_info().rss
        elif question == "collect":
            gc.collect()
        elif question == "tasks":
            value = len(asyncio.all_tasks())
        elif question == "stop":
            stopped.set()
        pipe.send(value)

    async with AsyncExitStack() as stack:
        ports = {}
        for name, serve in servers.items():
            server = await stack.enter_async_context(serve())
            ports[name] = next(iter(server.sockets)).getsockname()[1]
        pipe.send(ports)
        loop.add_reader(pipe.fileno(), answer)
        await stopped.wait()
        loop.remove_reader(pipe.fileno())


class ProcessClock:
    """The CPU time that another process takes, measured from outside.

    That is the same for each kind of server. Linux counts it in nanoseconds.

    Args:
        pid: The process.
    """

    def __init__(self, pid: int) -> None:
        self._process = psutil.Process(pid)
        self._clock: int | None = None
        if sys.platform == "linux":
            clock = ctypes.c_int()
            # CPython has it for threads only.
            failed = ctypes.CDLL(None).clock_getcpuclockid(pid, ctypes.byref(clock))
            assert not failed, f"no clock for the process {pid}"
            self._clock = clock.value

    def seconds(self) -> float:
        """User and system time, of all threads, once it has nothing left to do."""
        while True:
            # While it runs, what it has taken is known up to the last tick only.
            seconds = self._read()
            asleep = self._process.status() != psutil.STATUS_RUNNING
            if asleep and seconds == self._read():
                return seconds

    def _read(self) -> float:
        if self._clock is not None:
            return time.clock_gettime(self._clock)
        times = self._process.cpu_times()
        return float(times.user + times.system)


def allow_connections(number: int) -> int:
    """Allow so many connections, or as many as may be allowed; tell how many.

    Processes that are started later inherit it.
    """
    if resource is None:
        return number
    others = 200
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= number + others:
        return number
    if hard != resource.RLIM_INFINITY:
        number = min(number, hard - others)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, number + others), hard))
    return number


@contextmanager
def own_core(index: int) -> Iterator[None]:
    """Run on one core: on the first (0) or the last (-1), where there are two."""
    if not hasattr(os, "sched_setaffinity"):  # macOS and Windows
        yield
        return
    before = os.sched_getaffinity(0)
    # A child starts on the core of its parent: first back to all there are.
    os.sched_setaffinity(0, range(os.cpu_count() or 1))
    os.sched_setaffinity(0, {sorted(os.sched_getaffinity(0))[index]})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def open_connection(port: int, target: str, *headers: str) -> socket.socket:
    """Open a WebSocket connection: send a handshake, read the 101."""
    connection = socket.create_connection((HOST, port))
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    lines = (
        f"GET {target} HTTP/1.1",
        f"Host: {HOST}:{port}",
        "Upgrade: websocket",
        "Connection: Upgrade",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        "Sec-WebSocket-Version: 13",
        *headers,
    )
    connection.sendall("".join(f"{line}\r\n" for line in (*lines, "")).encode())
    response = b""
    while b"\r\n\r\n" not in response:
        received = connection.recv(4096)
        assert received, f"no whole response: {response!r}"
        response += received
    assert response.startswith(b"HTTP/1.1 101 "), response
    return connection


def close_connection(connection: socket.socket) -> None:
    """Close a WebSocket connection: send a close frame, read all to the end."""
    with connection:
        connection.sendall(_CLOSE)
        while connection.recv(4096):
            pass
