"""Hooks: functions of the user that are told what happens to subscribers."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from typing import Any

from websockets.asyncio.server import ServerConnection

from ..arity import takes
from ..endpoint import endpoint_name
from ..exceptions import EndpointError

__all__ = ["Hooks"]


class Hooks:
    """The functions that were declared for one event.

    Args:
        event: What the event is called.
        arguments: The names of the arguments, the connection first.
    """

    def __init__(self, event: str, *arguments: str) -> None:
        self._event = event
        self._arguments = arguments
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

    def call(self, ws: ServerConnection, *arguments: Any) -> None:
        """Call the functions; what one of them raises is logged."""
        for function in self._functions:
            try:
                result = function(ws, *arguments)
                if inspect.isawaitable(result):
                    self._start(ws, result)
            except Exception:
                self._failed(ws)

    def _start(self, ws: ServerConnection, awaitable: Awaitable[Any]) -> None:
        async def run() -> None:
            try:
                await awaitable
            except Exception:
                self._failed(ws)

        task = ws.loop.create_task(run())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _failed(self, ws: ServerConnection) -> None:
        ws.logger.error("%s failed", self._event, exc_info=True)
