"""Hooks: functions of the user that are told what happens to subscribers."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from typing import Any

from websockets.asyncio.server import ServerConnection

from ..arity import takes
from ..brokers.link import logger
from ..exceptions import EndpointError
from ..naming import endpoint_name

__all__ = ["Hooks"]


class Hooks:
    """The functions that were declared for one event.

    Args:
        event: What the event is called.
        arguments: The names of the arguments, the connection first if there is one.
    """

    def __init__(self, event: str, *arguments: str) -> None:
        self._event = event
        self._arguments = arguments
        #: Told of what they raise, with the connection and what failed; None to log.
        self.failed: Callable[[Exception, Any, str], None] | None = None
        self._functions: list[Callable[..., Any]] = []
        self._tasks: set[asyncio.Future[Any]] = set()

    def __bool__(self) -> bool:
        return bool(self._functions)

    def add(self, function: Callable[..., Any]) -> None:
        """Declare a function, plain or a coroutine function.

        Raises:
            EndpointError: If it is no function, or does not take these arguments.
        """
        if not callable(function) or not takes(function, len(self._arguments)):
            expected = ", ".join(self._arguments)
            problem = f"{self._event} decorates a function f({expected})"
            raise EndpointError(endpoint_name(function), problem)
        self._functions.append(function)

    def adopt(self, other: Hooks) -> None:
        """Take over the functions of others."""
        self._functions += other._functions

    def call(self, ws: ServerConnection, *arguments: Any) -> None:
        """Call the functions; what one of them raises is logged."""
        self._call(ws, ws, *arguments)

    def call_without(self, *arguments: Any) -> None:
        """Call the functions about what concerns no connection."""
        self._call(None, *arguments)

    def _call(self, ws: ServerConnection | None, *arguments: Any) -> None:
        for function in self._functions:
            try:
                result = function(*arguments)
                if inspect.isawaitable(result):
                    self._start(ws, result)
            except Exception as error:
                self._failed(ws, error)

    def _start(self, ws: ServerConnection | None, awaitable: Awaitable[Any]) -> None:
        async def run() -> None:
            try:
                await awaitable
            except Exception as error:
                self._failed(ws, error)

        task = asyncio.ensure_future(run())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _failed(self, ws: ServerConnection | None, error: Exception) -> None:
        what = f"{self._event} failed"
        if self.failed is not None:
            self.failed(error, ws, what)
        else:
            (logger if ws is None else ws.logger).error(what, exc_info=error)
