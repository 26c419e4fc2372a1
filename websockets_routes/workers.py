"""Workers: several processes that serve one router on the same sockets.

Their supervisor opens the sockets, starts the workers, which inherit them, and starts
another one for each that dies. It accepts no connection itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import sys
from collections.abc import Callable, Sequence

from .brokers import Backoff
from .worker import ABORT, HAND_OVER, READY, STOP, logger

__all__ = ["Process", "Supervisor", "worker_command"]

_BACKOFF = Backoff(first=0.1, longest=30)
# A worker that lived for so many seconds was no failure of its start.
_STABLE = 10.0
# After so many failures in a row, with nobody left who serves, there is no hope.
_FAILURES = 5
# What a worker gets, in seconds, that was told to end at once, or had not begun.
_LAST_MOMENTS = 5.0
# How a worker may end that was told to.
_ENDED_WELL = (0, -signal.SIGTERM, -signal.SIGINT)


def worker_command(arguments: Sequence[str]) -> list[str]:
    """Make the command line of a worker, but for what it inherits.

    Args:
        arguments: What follows ``websockets-routes``.
    """
    flags = [f"-W{each}" for each in sys.warnoptions]
    for name, value in sys._xoptions.items():
        flags += ["-X", name if value is True else f"{name}={value}"]
    flags += ["-O"] * sys.flags.optimize
    return [sys.executable, *flags, "-m", "websockets_routes", *arguments]


class Process:
    """A worker, as its supervisor sees it.

    Args:
        process: The process.
        control: The socket to it.
        changed: Called when it listens, and when it has ended.

    Attributes:
        pid: The id of the process.
        ready: Whether it has begun to listen.
        leaving: Whether it was told to end.
        outdated: Whether it has to be replaced.
        started: When it was started, by the clock of the loop.
    """

    def __init__(
        self,
        process: asyncio.subprocess.Process,
        control: socket.socket,
        changed: Callable[[], None],
    ) -> None:
        self._process = process
        self._control = control
        self._changed = changed
        self._loop = asyncio.get_running_loop()
        self.pid = process.pid
        self.ready = self.leaving = self.outdated = False
        self.started = self._loop.time()
        self._loop.add_reader(control, self._hear)
        self._ending = asyncio.create_task(self._wait())

    @classmethod
    async def start(
        cls,
        command: Sequence[str],
        sockets: Sequence[socket.socket],
        changed: Callable[[], None],
    ) -> Process:
        """Start a worker.

        Raises:
            OSError: If there can be no further process.
        """
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        inherited = [each.fileno() for each in (theirs, *sockets)]
        try:
            process = await asyncio.create_subprocess_exec(
                *command,
                "--inherit",
                ",".join(map(str, inherited)),
                pass_fds=inherited,
            )
        except OSError:
            ours.close()
            raise
        finally:
            theirs.close()
        return cls(process, ours, changed)

    @property
    def code(self) -> int | None:
        """Its exit code; negative for a signal; None while it runs."""
        return self._process.returncode if self._ending.done() else None

    def tell(self, command: bytes) -> None:
        """Tell it to end, one way or another."""
        self.leaving = True
        with contextlib.suppress(OSError):  # it is gone, then
            self._control.send(command)

    def kill(self) -> None:
        """End it, whatever it does."""
        if self.code is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()

    def kill_later(self) -> None:
        """End it after its last moments, if it has not ended by then."""
        self._loop.call_later(_LAST_MOMENTS, self.kill)

    async def wait(self) -> None:
        """Wait until it has ended."""
        await self._ending

    def describe_end(self) -> str:
        """Say how it ended."""
        code = self.code
        assert code is not None
        if code < 0:
            return f"was ended by {signal.Signals(-code).name}"
        return f"exited with {code}"

    def _hear(self) -> None:
        self._loop.remove_reader(self._control)
        with contextlib.suppress(OSError):  # it ended before it had read all
            self.ready = self._control.recv(1) == READY
        self._changed()

    async def _wait(self) -> None:
        await self._process.wait()
        self._loop.remove_reader(self._control)
        self._control.close()
        self._loop.call_soon(self._changed)


class Supervisor:
    """Keeps a number of workers.

    SIGINT and SIGTERM end all of them gracefully, and at once if there is a second
    one; a third one kills. SIGHUP replaces them one after the other: a worker stops
    to accept when its successor listens, answers the handshakes that it has accepted,
    and then ends as on SIGTERM.

    Args:
        command: The command line of a worker, but for what it inherits.
        sockets: The listening sockets; they are closed at the end.
        count: How many workers there shall be.
        backoff: How long to wait before a worker is started for one that died.
    """

    def __init__(
        self,
        command: Sequence[str],
        sockets: Sequence[socket.socket],
        count: int,
        backoff: Backoff = _BACKOFF,
    ) -> None:
        self._command = command
        self._sockets = sockets
        self._count = count
        self._backoff = backoff
        self._workers: list[Process] = []
        self._changed = asyncio.Event()
        self._signals = 0
        self._served = False
        self._failures = 0
        self._pause: asyncio.TimerHandle | None = None
        self._code = 0

    async def run(self) -> int:
        """Run until a signal, or until there is no hope.

        Returns:
            The exit code: 0 if all workers ended well.
        """
        loop = asyncio.get_running_loop()
        handlers = {
            signal.SIGINT: self.stop,
            signal.SIGTERM: self.stop,
            signal.SIGHUP: self.restart,
        }
        for number, handler in handlers.items():
            loop.add_signal_handler(number, handler)
        try:
            while self._workers or not self._signals:
                self._changed.clear()
                await self._settle()
                if self._workers or not self._signals:
                    await self._changed.wait()
        finally:
            for worker in self._workers:
                worker.kill()
                await worker.wait()
            self._stop_listening()
            for number in handlers:
                loop.remove_signal_handler(number)
        return self._code

    def stop(self) -> None:
        """End gracefully; called again, end at once."""
        self._signals += 1
        how = ("gracefully", "at once", "by force")[min(self._signals, 3) - 1]
        logger.info("ending %s", how)
        self._stop_listening()
        for worker in self._workers:
            if self._signals == 1:
                worker.tell(STOP)
                if not worker.ready:
                    # Whatever it starts with may take any time.
                    worker.kill_later()
            elif self._signals == 2:
                worker.tell(ABORT)
                worker.kill_later()
            else:
                worker.kill()
        self._changed.set()

    def restart(self) -> None:
        """Replace all workers, one after the other."""
        logger.info("restarting the workers, one after the other")
        for worker in self._workers:
            worker.outdated = True
        self._changed.set()

    def _stop_listening(self) -> None:
        for each in self._sockets:
            each.close()

    async def _settle(self) -> None:
        """Do what the state of the workers asks for."""
        for worker in tuple(self._workers):
            self._served = self._served or worker.ready
            if worker.code is not None:
                self._workers.remove(worker)
                self._bury(worker)
        if not self._signals and self._pause is None:
            await self._fill()
            await self._renew()

    # The dead

    def _bury(self, worker: Process) -> None:
        if not worker.leaving:
            self._mourn(worker)
        elif worker.code not in _ENDED_WELL:
            logger.error("worker %d %s", worker.pid, worker.describe_end())
            # One that was replaced says nothing about the end of all.
            if self._signals:
                self._code = 1

    def _mourn(self, worker: Process) -> None:
        """Decide what follows from a worker that ended by itself."""
        now = asyncio.get_running_loop().time()
        failed = not worker.ready or now - worker.started < _STABLE
        self._failures = self._failures + 1 if failed else 1
        what = worker.describe_end()
        if not worker.ready:
            what += " before it listened"
        problem = f"worker {worker.pid} {what}"
        if worker.ready or not self._keep_the_old(problem):
            self._pause_or_give_up(problem)

    def _keep_the_old(self, problem: str) -> bool:
        """Give up to replace workers, if there are enough of them."""
        old = [each for each in self._current if each.outdated]
        for each in old:
            each.outdated = False
        if not old or len(self._current) < self._count:
            return False
        logger.error("%s; keeping the old workers", problem)
        return True

    def _pause_or_give_up(self, problem: str) -> None:
        limit = _FAILURES if self._served else 1
        if self._failures >= limit and not self._current:
            logger.critical("%s; giving up: no worker can start", problem)
            self._code = 1
            self.stop()
            return
        pause = self._backoff.pause(self._failures - 1)
        logger.error("%s; starting another one in %.1f s", problem, pause)
        if self._pause is not None:
            self._pause.cancel()
        self._pause = asyncio.get_running_loop().call_later(pause, self._resume)

    def _resume(self) -> None:
        self._pause = None
        self._changed.set()

    # The living

    @property
    def _current(self) -> list[Process]:
        return [each for each in self._workers if not each.leaving]

    async def _fill(self) -> None:
        """Start a worker if one is missing."""
        current = self._current
        # The first one finds out whether it can be done, so that a reason why not is
        # told once.
        wanted = self._count if any(each.ready for each in current) else 1
        if len(current) < wanted:
            await self._start()

    async def _renew(self) -> None:
        """Take the next step in replacing the outdated workers."""
        current = self._current
        outdated = [each for each in current if each.outdated]
        if not outdated or self._pause or len(current) < len(self._workers):
            return  # one after the other
        if len(current) <= self._count:
            await self._start()
        elif all(each.ready for each in current):
            outdated[0].tell(HAND_OVER)

    async def _start(self) -> None:
        try:
            worker = await Process.start(
                self._command, self._sockets, self._changed.set
            )
        except OSError as error:
            self._failures += 1
            self._pause_or_give_up(f"a worker cannot be started: {error}")
        else:
            self._workers.append(worker)
            logger.info("worker %d started", worker.pid)
            self._changed.set()  # there may be more to do
            if self._signals:
                # They came while it was started.
                worker.tell(STOP)
                worker.kill_later()
