"""Reloading: one worker for development, started again when a file changes."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence
from pathlib import Path

from watchfiles import PythonFilter, awatch

from .worker import ABORT, STOP, logger
from .workers import Process, Supervisor

__all__ = ["Reloader"]

# What a worker gets to end gracefully, and then again to end at all, in seconds:
# somebody waits to see what his change does.
_PATIENCE = 1.0


class Reloader(Supervisor):
    """Keeps one worker, and starts it again when a Python file changes.

    A worker that ends by itself is not started again before the next change: most
    likely that was a mistake, which is being corrected.

    Args:
        command: The command line of a worker, but for what it inherits.
        sockets: The listening sockets. They stay open while there is no worker, so
            that whoever connects is served by the next one.
        folder: Where to look for changes, at any depth.
    """

    def __init__(
        self, command: Sequence[str], sockets: Sequence[socket.socket], folder: Path
    ) -> None:
        super().__init__(command, sockets, count=1)
        self._folder = folder
        self._broken = False

    async def run(self) -> int:
        """Run until a signal.

        Returns:
            The exit code: 0 if the worker ended well.
        """
        watching = asyncio.create_task(self._watch())
        # In its first step it begins to watch: before the worker reads a file.
        await asyncio.sleep(0)
        try:
            return await super().run()
        finally:
            watching.cancel()
            await asyncio.wait([watching])

    def restart(self) -> None:
        """Replace the worker; the next one starts when this one has ended."""
        self._broken = False
        loop = asyncio.get_running_loop()
        for worker in self._current:
            worker.tell(STOP)
            loop.call_later(_PATIENCE, worker.tell, ABORT)
            loop.call_later(2 * _PATIENCE, worker.kill)
        self._changed.set()

    async def _watch(self) -> None:
        watched = awatch(
            self._folder, watch_filter=PythonFilter(), debounce=200, step=50
        )
        try:
            while True:
                changes = await anext(watched)
                names = sorted({Path(name).name for _, name in changes})
                logger.info("%s changed; reloading", ", ".join(names))
                self.restart()
        except OSError as error:
            logger.critical("cannot watch %s: %s", self._folder, error)
            self._code = 1
            self.stop()

    def _mourn(self, worker: Process) -> None:
        self._broken = True
        what = worker.describe_end()
        logger.error("worker %d %s; waiting for a change", worker.pid, what)

    async def _fill(self) -> None:
        if not self._workers and not self._broken:
            await self._start()
