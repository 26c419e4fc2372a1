"""Futures that whoever waits may have cancelled already."""

from __future__ import annotations

import asyncio
from typing import TypeVar

__all__ = ["fail", "settle"]

T = TypeVar("T")


def settle(future: asyncio.Future[T], result: T) -> None:
    """Set a result, if anybody can still wait for it."""
    if not future.done():
        future.set_result(result)


def fail(future: asyncio.Future[T], error: Exception) -> None:
    """Set an exception, if anybody can still wait for it."""
    if not future.done():
        future.set_exception(error)
