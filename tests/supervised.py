"""Supervisors and their workers, in processes of their own."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from websockets.sync.client import ClientConnection, connect

from .processes import ROOT, TIMEOUT


class Supervised:
    """A supervisor, with what it and its workers log.

    Attributes:
        process: The supervisor.
        log: What was logged until now.
    """

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.log = ""
        self._news = threading.Condition()
        self._over = False
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            with self._news:
                self.log += line
                self._news.notify_all()
        with self._news:
            self._over = True
            self._news.notify_all()

    def wait_for(self, pattern: str, count: int = 1) -> list[str]:
        """Wait until a pattern was logged so many times; return what it captured."""

        def found() -> list[str]:
            return re.findall(pattern, self.log)

        with self._news:
            self._news.wait_for(lambda: self._over or len(found()) >= count, TIMEOUT)
            if len(found()) < count:
                raise AssertionError(f"{count} times {pattern!r} not in:\n{self.log}")
            return found()

    def listening(self, count: int) -> int:
        """Wait until so many workers listen; return the port."""
        return int(self.wait_for(r"server listening on .*?:?(\d+)?\n", count)[0] or 0)

    @property
    def workers(self) -> list[int]:
        """The workers that were ever started, the oldest first."""
        return [int(pid) for pid in re.findall(r"worker (\d+) started", self.log)]

    def send(self, number: int) -> None:
        self.process.send_signal(number)

    def end(self, number: int = signal.SIGTERM) -> int:
        """Send a signal; return the exit code when all processes have ended."""
        self.send(number)
        return self.wait()

    def wait(self) -> int:
        """Wait until all processes have ended; return the supervisor's exit code."""
        code = self.process.wait(TIMEOUT)
        # The workers have inherited the other end of what it reads.
        self._reader.join(TIMEOUT)
        assert not self._reader.is_alive(), f"a worker is left:\n{self.log}"
        return code

    def clean_up(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(TIMEOUT)
        self._reader.join(0.1)
        if self._reader.is_alive():
            for pid in self.workers:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        self._reader.join(TIMEOUT)
        assert self.process.stderr is not None
        self.process.stderr.close()


@contextmanager
def supervised(folder: Path, *arguments: str) -> Iterator[Supervised]:
    """Run ``websockets-routes run served:router ARGUMENTS`` until the block ends."""
    command = ["-W", "error", "-m", "websockets_routes", "run", "served:router"]
    process = subprocess.Popen(
        [sys.executable, *command, *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    made = Supervised(process)
    try:
        yield made
    finally:
        made.clean_up()


@contextmanager
def stopped(*pids: int) -> Iterator[None]:
    """Keep processes from doing anything."""
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)


def connect_to(port: int, path: str = "/") -> ClientConnection:
    return connect(f"ws://127.0.0.1:{port}{path}", open_timeout=TIMEOUT)
