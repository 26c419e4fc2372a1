"""A worker: this process, as one of several that a supervisor started."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Sequence

from .sockets import SharedServer, listen_together

__all__ = ["ABORT", "HAND_OVER", "READY", "STOP", "Worker", "logger", "patience"]

logger = logging.getLogger("websockets_routes.workers")

#: What a worker tells its supervisor: that it listens.
READY = b"r"
#: What it is told: to end gracefully, to end at once, or to end for a successor.
STOP, ABORT, HAND_OVER = b"s", b"a", b"h"

# Whoever sends a signal to all processes at once (a terminal, systemd) sends it to the
# supervisor and to its workers. A second signal would end them at once, so a worker
# that is told to stop first sees, for so many seconds, whether it is stopping already.
_SETTLES = 0.1
# How long handshakes may take that were accepted before a successor took over.
_HANDSHAKES = 5.0
_GLANCE = 0.02
# What the end may take beyond its budget where there is no supervisor left to kill us.
_EXTRA = 2.0


def patience(close_timeout: float | None, drain: float | None) -> float:
    """Tell how long the end of a server may take that has these limits, in seconds."""
    budget = close_timeout if drain is None else drain
    return (10.0 if budget is None else budget) + _EXTRA


class Worker:
    """A process in the hands of its supervisor: the one that makes this object.

    When the supervisor is gone, however it ended, the worker ends too.

    Args:
        control: The descriptor of the socket to the supervisor.
        listening: The descriptors of the sockets to listen on.
        patience: What its end may take when the supervisor is gone, in seconds.

    Attributes:
        sockets: What to give to the server as ``sock``.
    """

    def __init__(self, control: int, listening: Sequence[int], patience: float) -> None:
        for descriptor in (control, *listening):
            # Not for processes that the handlers start.
            os.set_inheritable(descriptor, False)
        self._control = socket.socket(fileno=control)
        self.sockets = [socket.socket(fileno=each) for each in listening]
        self._patience = patience
        self._loop: asyncio.AbstractEventLoop | None = None
        self._server: SharedServer | None = None
        self._ended = False
        self._handing_over: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to obey, before there is a loop too."""
        # Until there is a server, Ctrl-C needs no traceback from every worker.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        threading.Thread(target=self._obey, name="supervisor", daemon=True).start()

    def loop_factory(
        self, factory: Callable[[], asyncio.AbstractEventLoop] | None
    ) -> Callable[[], asyncio.AbstractEventLoop]:
        """Make a factory of loops that listen on the sockets."""

        def make() -> asyncio.AbstractEventLoop:
            loop = (factory or asyncio.new_event_loop)()
            listen_together(loop, self.sockets, self._listens)
            self._loop = loop
            return loop

        return make

    def _listens(self, server: SharedServer) -> None:
        self._server = server
        # If the supervisor is gone, the thread hears of it too.
        with contextlib.suppress(OSError):
            self._control.send(READY)

    # In the thread

    def _obey(self) -> None:
        while command := self._receive():
            if command == ABORT:
                _terminate()
            elif command == HAND_OVER:
                self._call(self._hand_over)
            else:
                self._call(self._stop_soon)
        self._call(self._stop_soon)
        time.sleep(self._patience)
        os._exit(1)

    def _receive(self) -> bytes:
        try:
            return self._control.recv(1)
        except OSError:
            # It is reset if the supervisor ended before it had read what we sent.
            return b""

    def _call(self, function: Callable[[], object]) -> None:
        if self._loop is None:
            _terminate()
            return
        # A loop that is closed means that we are ending.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(function)

    # On the loop

    def _stop_soon(self) -> None:
        assert self._loop is not None
        self._loop.call_later(_SETTLES, self._stop)

    def _stop(self) -> None:
        if not self._ended and not (self._server and self._server.closed):
            _terminate()
        self._ended = True

    def _hand_over(self) -> None:
        self._handing_over = asyncio.ensure_future(self._leave())

    async def _leave(self) -> None:
        assert self._server is not None
        assert self._loop is not None
        self._server.stop_accepting()
        logger.info("handing over to a new worker")
        deadline = self._loop.time() + _HANDSHAKES
        # What has just been accepted is a connection after the next turn of the loop.
        await asyncio.sleep(_GLANCE)
        # There is nothing that tells when a handshake is over.
        while self._server.is_opening and self._loop.time() < deadline:  # noqa: ASYNC110
            await asyncio.sleep(_GLANCE)
        self._stop()


def _terminate() -> None:
    """End as on SIGTERM: gracefully if there is a server, and at once if not."""
    os.kill(os.getpid(), signal.SIGTERM)
