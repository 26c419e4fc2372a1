"""Servers in processes of their own, as a user starts them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parent.parent
TIMEOUT = 30  # seconds until a process that hangs fails its test


class ServerProcess:
    """A server that logs to its standard error.

    Attributes:
        port: The port that it logged to listen on.
        log: What it has logged until then, and after ``stop`` the rest.
    """

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.log = ""
        self.port = 0
        assert process.stderr is not None
        for line in process.stderr:
            self.log += line
            found = re.search(r"server listening on .*:(\d+)$", line)
            if found:
                self.port = int(found.group(1))
            if "server listening" in line:
                return
        raise AssertionError(f"the server did not start:\n{self.log}")

    def stop(self, *signals: int) -> int:
        """Send signals; return the exit code."""
        for number in signals:
            self.process.send_signal(number)
        code = self.process.wait(TIMEOUT)
        assert self.process.stderr is not None
        self.log += self.process.stderr.read()
        return code


@contextmanager
def serving(arguments: Sequence[str], folder: Path = ROOT) -> Iterator[ServerProcess]:
    """Run ``python ARGUMENTS`` until the block ends."""
    process = subprocess.Popen(
        [sys.executable, "-W", "error", *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    )
    try:
        yield ServerProcess(process)
    finally:
        if process.poll() is None:
            process.kill()
        process.wait(TIMEOUT)
        assert process.stderr is not None
        process.stderr.close()
