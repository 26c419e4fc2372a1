"""Offspring: the tasks that come from one beginning, however many tasks later."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Coroutine
from contextvars import Context, ContextVar, copy_context
from typing import Any, TypeVar

__all__ = ["Offspring"]

T = TypeVar("T")

# Tasks inherit it, and so do the callbacks of transports and timers.
_family: ContextVar[Offspring] = ContextVar("_family")


class Offspring:
    """The tasks that were started here, by these, and by what these listen to."""

    def __init__(self) -> None:
        self._context = copy_context()
        self._context.run(_family.set, self)

    def start(self, coroutine: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Start a task whose offspring belongs to it."""
        loop = asyncio.get_running_loop()
        return loop.create_task(coroutine, context=self._context)

    def tasks(self) -> set[asyncio.Task[Any]]:
        """List those that are not done."""
        return {
            task
            for task in asyncio.all_tasks()
            if any(each.get(_family) is self for each in _contexts(task))
        }

    async def end(self, timeout: float) -> list[str]:
        """Wait until all are done, or cancel them; describe those that were cancelled.

        Args:
            timeout: Seconds to wait before, and at most as many after.
        """
        names = sorted(map(_describe, await self._wait(timeout)))
        if names:
            for task in self.tasks():
                task.cancel()
            await self._wait(timeout)
        return names

    async def _wait(self, timeout: float) -> set[asyncio.Task[Any]]:
        deadline = asyncio.get_running_loop().time() + timeout
        # Some may start others.
        while tasks := self.tasks():
            left = deadline - asyncio.get_running_loop().time()
            done, _ = await asyncio.wait(
                tasks, timeout=left, return_when=asyncio.FIRST_COMPLETED
            )
            if not done:
                break
        return tasks


def _contexts(task: asyncio.Task[Any]) -> list[Context]:
    get_context = getattr(task, "get_context", None)
    # Python 3.11 has no such method, but its garbage collector knows.
    found = [get_context()] if get_context else gc.get_referents(task)
    return [each for each in found if isinstance(each, Context)]


def _describe(task: asyncio.Task[Any]) -> str:
    """Name a task and the coroutines in it, down to the one that waits."""
    names = []
    coroutine: Any = task.get_coro()
    while hasattr(coroutine, "cr_await"):
        names.append(coroutine.__qualname__)
        coroutine = coroutine.cr_await
    return f"{task.get_name()}: {' > '.join(names)}"
