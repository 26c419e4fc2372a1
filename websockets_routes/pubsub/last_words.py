"""Last words: what a node says to know that all that it said before has come back."""

from __future__ import annotations

import asyncio
import time

from ..broker_errors import BrokerError
from ..brokers.base import Broker, Envelope
from ..brokers.futures import settle
from ..brokers.link import logger
from .names import RESERVED

__all__ = ["LastWords"]

# What they may take, in seconds.
_TIMEOUT = 1.0


class LastWords:
    """Messages to oneself: engines keep the order of a publisher."""

    def __init__(self) -> None:
        self._waiting: dict[str, asyncio.Future[None]] = {}

    def heard(self, topic: str) -> None:
        """Take note that something came back."""
        if topic in self._waiting:
            settle(self._waiting[topic], None)

    async def say(self, broker: Broker, name: str) -> None:
        """Say something, and wait until it has come back, a second at most.

        Args:
            broker: The broker.
            name: What nobody else says.
        """
        topic = f"{RESERVED}last-words/{name}"
        heard = self._waiting[topic] = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(_TIMEOUT):
                await broker.subscribe(topic)
                words = Envelope(topic, b"", False, None, name, time.time())
                await broker.publish(words)
                await heard
        except (TimeoutError, BrokerError) as error:
            logger.debug("not all that was published has come back: %s", error)
        finally:
            del self._waiting[topic]
            await broker.unsubscribe(topic)
