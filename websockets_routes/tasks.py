"""Tasks that end with what they were started for: a connection or a server."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from .exceptions import NotServing

__all__ = ["Tasks"]

T = TypeVar("T")


class Tasks:
    """A set of tasks, to be cancelled together.

    Args:
        owner: What they belong to, for the error that says that it has ended.
        failed: Called with the exception of a task that fails.
    """

    def __init__(self, owner: str, failed: Callable[[BaseException], None]) -> None:
        self._owner = owner
        self._failed = failed
        self._tasks: set[asyncio.Task[Any]] = set()
        self._ended = False

    def start(self, coroutine: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Start a task.

        Raises:
            NotServing: If they were cancelled already; the coroutine is closed.
        """
        if self._ended:
            coroutine.close()
            raise NotServing(f"{self._owner} has ended; no task can be started on it")
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def cancel(self) -> None:
        """Cancel all of them; none can be started from now on."""
        if not self._ended:
            self._ended = True
            for task in self._tasks:
                task.cancel()

    async def end(self) -> None:
        """Cancel all of them, and wait until each is done.

        A task that calls this is spared: it would wait for itself.
        """
        self.cancel()
        others = self._tasks - {asyncio.current_task()}
        if others:
            await asyncio.wait(others)

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if task.cancelled():
            return
        error = task.exception()
        if error is not None:
            self._failed(error)
