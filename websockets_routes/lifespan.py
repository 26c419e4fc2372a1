"""Lifespan: what begins before a server listens, and ends after its last handler."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from typing import Any, Protocol

from websockets.typing import LoggerLike

from .arity import takes
from .exceptions import EndpointError
from .naming import endpoint_name

__all__ = ["Lifespan", "Lifetime"]

_Function = Callable[[], Awaitable[Any] | Any]


class Lifespan:
    """What one router has to do when a server starts and ends.

    Args:
        context: A function of the router, or of nothing, that makes an async context
            manager: entered at the start, left at the end.

    Raises:
        EndpointError: If it takes something else.
    """

    def __init__(
        self, context: Callable[..., AbstractAsyncContextManager[Any]] | None = None
    ) -> None:
        if context is not None and not (
            callable(context) and (takes(context, 1) or takes(context, 0))
        ):
            problem = "a lifespan is a function f(router) or f()"
            raise EndpointError(endpoint_name(context), problem)
        self.context = context
        self.starts: list[_Function] = []
        self.shutdowns: list[_Function] = []

    def __bool__(self) -> bool:
        return bool(self.context or self.starts or self.shutdowns)

    def add_start(self, function: _Function) -> None:
        """Add a function to be called at the start.

        Raises:
            EndpointError: If it takes an argument.
        """
        self.starts.append(_checked(function, "on_start"))

    def add_shutdown(self, function: _Function) -> None:
        """Add a function to be called when the server closes.

        Raises:
            EndpointError: If it takes an argument.
        """
        self.shutdowns.append(_checked(function, "on_shutdown"))


class _Router(Protocol):
    lifespan: Lifespan
    state: Any


class Lifetime:
    """One run of one server: start, shutdown and end, all in one task.

    A context manager that is entered in one task and left in another breaks the task
    groups of anyio.

    Args:
        routers: Gives the routers, the outer before the inner.
        logger: Where failures at the end go.
        timeout: What ``shutdown`` may take, in seconds; None for any time.
    """

    def __init__(
        self,
        routers: Callable[[], Sequence[_Router]],
        logger: LoggerLike,
        timeout: float | None,
    ) -> None:
        self._find_routers = routers
        self._logger = logger
        self._timeout = timeout
        self._task: asyncio.Task[None] | None = None
        self._started_routers: list[_Router] = []

    async def start(self) -> None:
        """Start what there is to start.

        Raises:
            Exception: What a start raised; what had started is shut down by then.
        """
        self._routers = [each for each in self._find_routers() if each.lifespan]
        if not self._routers:
            return
        loop = asyncio.get_running_loop()
        self._started: asyncio.Future[None] = loop.create_future()
        self._shut_down: asyncio.Future[None] = loop.create_future()
        self._closing = asyncio.Event()
        self._ending = asyncio.Event()
        self._task = loop.create_task(self._run())
        try:
            await asyncio.shield(self._started)
        except asyncio.CancelledError:
            self._task.cancel()
            await asyncio.wait([self._task])
            raise
        except BaseException:
            await asyncio.wait([self._task])
            raise

    async def shutdown(self) -> None:
        """Call the shutdown functions, the inner before the outer; once only."""
        if self._task is not None:
            self._closing.set()
            await asyncio.shield(self._shut_down)

    async def end(self) -> None:
        """Leave the context managers; wait until that is done."""
        if self._task is not None:
            self._closing.set()
            self._ending.set()
            await asyncio.wait([self._task])

    async def _run(self) -> None:
        try:
            async with AsyncExitStack() as stack:
                try:
                    for router in self._routers:
                        await self._start(router, stack)
                except BaseException:
                    await self._call_shutdowns()
                    raise
                self._started.set_result(None)
                await self._closing.wait()
                await self._call_shutdowns()
                self._shut_down.set_result(None)
                await self._ending.wait()
        except BaseException as error:
            if not self._started.done():
                self._started.set_exception(error)
                # Whoever waited may have been cancelled.
                self._started.exception()
            else:
                self._logger.error("lifespan failed at its end", exc_info=error)
        finally:
            if not self._shut_down.done():
                self._shut_down.set_result(None)

    async def _start(self, router: _Router, stack: AsyncExitStack) -> None:
        context = router.lifespan.context
        if context is not None:
            manager = context(router) if takes(context, 1) else context()
            router.state = await stack.enter_async_context(manager)
        self._started_routers.append(router)
        for function in router.lifespan.starts:
            await _settle(function())

    async def _call_shutdowns(self) -> None:
        try:
            async with asyncio.timeout(self._timeout):
                for router in reversed(self._started_routers):
                    for function in reversed(router.lifespan.shutdowns):
                        await self._call_shutdown(function)
        except TimeoutError:
            self._logger.error("on_shutdown takes too long; closing all the same")

    async def _call_shutdown(self, function: _Function) -> None:
        try:
            await _settle(function())
        except Exception:
            name = endpoint_name(function)
            self._logger.error("on_shutdown %s failed", name, exc_info=True)


def _checked(function: _Function, what: str) -> _Function:
    if not callable(function) or not takes(function, 0):
        raise EndpointError(endpoint_name(function), f"{what} takes a function f()")
    return function


async def _settle(result: Any) -> None:
    if inspect.isawaitable(result):
        await result
