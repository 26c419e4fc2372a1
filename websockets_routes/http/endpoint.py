"""Endpoints of requests: functions that return responses."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from ..arity import is_async, keywords, takes, yields
from ..endpoint import NO_VALUES, AnyEndpoint, Values
from ..exceptions import EndpointError
from .request import Request
from .response import Response

__all__ = ["RequestEndpoint"]


class RequestEndpoint(AnyEndpoint):
    """What answers requests, checked when declared.

    Args:
        target: A function ``handler(request)``, plain or a coroutine function; what
            middleware hands on, it asks for by keyword.

    Raises:
        EndpointError: If it is none.
    """

    def __init__(self, target: Callable[..., Any]) -> None:
        super().__init__(target)
        if inspect.isclass(target):
            problem = "requests are answered by functions; register() takes a class"
            raise EndpointError(self.name, problem)
        if not takes(target, 1, keywords=True):
            raise EndpointError(self.name, "it must take (request), and nothing else")
        if yields(target) and not is_async(target):
            raise EndpointError(self.name, "only an async generator is streamed")
        self._names = keywords(target)

    async def handle(
        self, request: Request, path: Any, values: Values = NO_VALUES
    ) -> Response:
        """Call the handler; hand over values that are asked for by name."""
        if values and self._names:
            asked = {name: values[name] for name in self._names if name in values}
            result = self.target(request, **asked)
        else:
            result = self.target(request)
        if inspect.isawaitable(result):
            result = await result
        return Response.of(result)
