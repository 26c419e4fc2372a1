"""Subscribers: to wait until topics have them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any
from weakref import WeakKeyDictionary

from .pubsub import Filter, Topics

__all__ = ["reach"]

# What to call when a subscription began or ended. A hook cannot be removed again, so
# there is one for all who ever wait.
_waiting: WeakKeyDictionary[Topics, set[Callable[[], None]]] = WeakKeyDictionary()


async def reach(topics: Topics, topic: str | Filter, count: int) -> None:
    """Wait until so many connections are subscribed to this very topic or filter.

    Args:
        topics: The topics.
        topic: The topic or filter.
        count: How many, at least, at any one moment from now on.
    """
    reached = asyncio.get_running_loop().create_future()

    def look() -> None:
        if topics.num_subscribers(topic) >= count and not reached.done():
            reached.set_result(None)

    waiting = _waiting_for(topics)
    waiting.add(look)
    look()
    try:
        await reached
    finally:
        waiting.discard(look)


def _waiting_for(topics: Topics) -> set[Callable[[], None]]:
    waiting = _waiting.get(topics)
    if waiting is not None:
        return waiting
    made = _waiting[topics] = set()

    @topics.on_subscription
    def changed(ws: Any, topic: Any, new_count: int, old_count: int) -> None:
        for look in tuple(made):
            look()

    return made
