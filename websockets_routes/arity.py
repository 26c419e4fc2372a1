"""Arity: whether a callable takes what it will be called with."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

__all__ = ["implicit_arguments", "takes"]


def takes(function: Callable[..., Any], count: int, implicit: int = 0) -> bool:
    """Tell whether a callable takes so many positional arguments.

    Args:
        function: The callable; one that does not tell, because it is written in
            C, is trusted.
        count: How many arguments it will be given.
        implicit: How many it gets besides, like ``self``.
    """
    try:
        parameters = inspect.signature(function).parameters.values()
    except ValueError:
        return True
    least, most = 0, 0.0
    for parameter in parameters:
        if parameter.kind is parameter.VAR_POSITIONAL:
            most = float("inf")
        elif parameter.kind is parameter.KEYWORD_ONLY:
            if parameter.default is parameter.empty:
                return False
        elif parameter.kind is not parameter.VAR_KEYWORD:
            most += 1
            least += parameter.default is parameter.empty
    return least <= count + implicit <= most


def implicit_arguments(target: type, method: str) -> int:
    """Count the arguments, ``self`` or none, that a method gets by being one."""
    static = inspect.getattr_static(target, method)
    return 0 if isinstance(static, staticmethod | classmethod) else 1
