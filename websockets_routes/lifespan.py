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

# What each shutdown function gets, in seconds, when the time of all is over.
_LEAST_TIME = 0.1

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
        logger: Where failures go, once it has started.
        timeout: What ``shutdown`` may take, in seconds; None for any time.
        broken: Called when a context manager ends before the server does, as a task
            group does if one of its tasks fails.

    Attributes:
        failure: What a context manager raised after the start.
    """

    def __init__(
        self,
        routers: Callable[[], Sequence[_Router]],
        logger: LoggerLike,
        timeout: float | None,
        broken: Callable[[], None],
    ) -> None:
        self._find_routers = routers
        self._logger = logger
        self._timeout = timeout
        self._broken = broken
        self._task: asyncio.Task[None] | None = None
        self._routers: Sequence[_Router] = ()
        self._started_routers: list[_Router] = []
        # Whether shutdown functions were called, where nothing was to be started.
        self._is_over = False
        self.failure: BaseException | None = None

    async def start(self) -> None:
        """Start what there is to start.

        Raises:
            Exception: What a start raised; what had started is shut down by then.
        """
        # All of them: one may be given a shutdown function while it serves.
        self._routers = self._find_routers()
        if not any(each.lifespan for each in self._routers):
            return
        loop = asyncio.get_running_loop()
        self._started: asyncio.Future[None] = loop.create_future()
        self._shut_down = asyncio.Event()
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
            await self._shut_down.wait()
        elif not self._is_over:
            self._is_over = True
            self._started_routers = list(self._routers)
            await self._call_shutdowns()

    async def end(self) -> None:
        """Leave the context managers; wait until that is done."""
        if self._task is not None:
            self._closing.set()
            self._ending.set()
            await asyncio.wait([self._task])

    async def _run(self) -> None:
        failure: BaseException | None = None
        try:
            async with AsyncExitStack() as stack:
                try:
                    for router in self._routers:
                        await self._start(router, stack)
                except BaseException as error:
                    failure = error
                    await self._call_shutdowns()
                    raise
                self._started.set_result(None)
                await self._serve()
        except BaseException as error:
            failure = failure or error
        finally:
            self._shut_down.set()
        if failure is not None:
            self._fail(failure)

    async def _serve(self) -> None:
        interrupted: asyncio.CancelledError | None = None
        try:
            await self._closing.wait()
        except asyncio.CancelledError as error:
            interrupted = error
            self._broken()
        await self._call_shutdowns()
        self._shut_down.set()
        await self._ending.wait()
        if interrupted is not None:
            # The context manager that asked for it is left by this.
            raise interrupted

    def _fail(self, failure: BaseException) -> None:
        if not self._started.done():
            if isinstance(failure, asyncio.CancelledError):
                # Not to be taken for a cancellation of whoever starts the server.
                failure = RuntimeError("the start of the lifespan was cancelled")
            # Outer context managers may suppress it; nothing serves all the same.
            self._started.set_exception(failure)
            # Whoever waited may have been cancelled.
            self._started.exception()
        else:
            self.failure = failure
            self._logger.error("lifespan failed", exc_info=failure)

    async def _start(self, router: _Router, stack: AsyncExitStack) -> None:
        context = router.lifespan.context
        if context is not None:
            manager = context(router) if takes(context, 1) else context()
            router.state = await stack.enter_async_context(manager)
        self._started_routers.append(router)
        for function in router.lifespan.starts:
            await _settle(function())

    async def _call_shutdowns(self) -> None:
        functions = [
            function
            for router in reversed(self._started_routers)
            for function in reversed(router.lifespan.shutdowns)
        ]
        loop = asyncio.get_running_loop()
        deadline = None if self._timeout is None else loop.time() + self._timeout
        for function in functions:
            left = None
            if deadline is not None:
                # Those behind one that hangs are not passed over.
                left = max(_LEAST_TIME, deadline - loop.time())
            await self._call_shutdown(function, left)

    async def _call_shutdown(self, function: _Function, timeout: float | None) -> None:
        name = endpoint_name(function)
        try:
            async with asyncio.timeout(timeout) as limit:
                await _settle(function())
        except (Exception, asyncio.CancelledError):
            if limit.expired():
                problem = "on_shutdown %s took longer than %.3g seconds; going on"
                self._logger.error(problem, name, timeout)
            else:
                # Cancelled is also what a task is that it has cancelled and awaits.
                self._logger.error("on_shutdown %s failed", name, exc_info=True)


def _checked(function: _Function, what: str) -> _Function:
    if not callable(function) or not takes(function, 0):
        raise EndpointError(endpoint_name(function), f"{what} takes a function f()")
    return function


async def _settle(result: Any) -> None:
    if inspect.isawaitable(result):
        await result
