"""What a node asked to hear, and the way of what it hears to the node."""

from __future__ import annotations

import asyncio

from ..broker_errors import BrokerError, BrokerUnavailable
from ..pubsub.names import Filter
from .base import Envelope, Gap, Receive
from .link import logger

__all__ = ["Inbox"]


class Inbox:
    """What a node asked to hear, whether confirmed, and who takes what comes.

    Args:
        name: Which engine, for errors and the log.
        timeout: How long to wait for the confirmation of a subscription, in seconds.

    Attributes:
        wanted: What the node asked to hear, with a future that is done when it was
            confirmed for the first time.
        held: What came since the connection is back and before all is restored, or
            None.
    """

    def __init__(self, name: str, timeout: float) -> None:
        self.wanted: dict[str | Filter, asyncio.Future[None]] = {}
        self.held: list[Envelope] | None = None
        self._name = name
        self._timeout = timeout
        self._receive: Receive | None = None
        self._gap: Gap | None = None

    def open(self, receive: Receive, gap: Gap) -> None:
        """Begin to hand over."""
        self._receive, self._gap = receive, gap

    def close(self) -> None:
        """Hand over nothing any more; whoever waits for a confirmation hears why."""
        self._receive = self._gap = None
        for topic in tuple(self.wanted):
            self.remove(topic, "the broker was closed")

    def add(self, topic: str | Filter) -> bool:
        """Want a topic or filter.

        Returns:
            Whether it was not wanted before.
        """
        if topic in self.wanted:
            return False
        if self._receive is None:
            problem = "the broker is not started, or closed"
            raise BrokerUnavailable(self._name, problem, sent=False)
        self.wanted[topic] = asyncio.get_running_loop().create_future()
        return True

    async def wait(self, topic: str | Filter) -> None:
        """Wait until it is confirmed that a topic or filter is heard.

        Raises:
            BrokerUnavailable: If that takes too long; it stays wanted.
            BrokerError: If it was refused.
        """
        future = self.wanted[topic]
        if not future.done():
            await asyncio.wait([future], timeout=self._timeout)
        if not future.done():
            problem = f"it did not confirm within {self._timeout:g} s"
            raise BrokerUnavailable(self._name, problem)
        future.result()

    def remove(self, topic: str | Filter, problem: str = "unsubscribed") -> bool:
        """Want a topic or filter no longer.

        Returns:
            Whether it was wanted.
        """
        future = self.wanted.pop(topic, None)
        if future is None:
            return False
        if not future.done():
            problem = f"{problem} before it was confirmed"
            future.set_exception(BrokerUnavailable(self._name, problem))
            future.exception()  # maybe nobody waits for it
        return True

    def confirm(self, topic: str | Filter) -> None:
        """Take note that a topic or filter is heard from now on."""
        future = self.wanted.get(topic)
        if future is not None and not future.done():
            future.set_result(None)

    def refuse(self, topic: str | Filter, error: BrokerError) -> None:
        """Take note that a topic or filter will not be heard.

        Raises:
            BrokerUnavailable: If it was heard before: it stays wanted, and nobody
                was told that it is not heard. So the connection is not restored.
        """
        future = self.wanted.get(topic)
        if future is None:
            return
        if future.done():
            problem = f"{str(topic)[:100]!r}, which was heard before: {error.problem}"
            raise BrokerUnavailable(self._name, problem)
        del self.wanted[topic]
        future.set_exception(error)
        future.exception()  # maybe nobody waits for it

    def hold(self) -> None:
        """Keep what comes until ``release``."""
        self.held = []

    def release(self, heard: set[str | Filter]) -> None:
        """Tell about the gaps, then hand over what came in the meantime.

        Args:
            heard: What is confirmed to be heard again.
        """
        held, self.held = self.held, None
        for topic, future in tuple(self.wanted.items()):
            if topic not in heard:
                continue
            if not future.done():
                future.set_result(None)
            else:
                self.tell_gap(topic)
        for envelope in held or ():
            self.deliver(envelope)

    def tell_gap(self, topic: str | Filter) -> None:
        """Tell that messages may have been missed."""
        if self._gap is not None:
            try:
                self._gap(topic)
            except Exception:
                logger.exception("broker %s: error in gap", self._name)

    def deliver(self, envelope: Envelope) -> None:
        """Hand over a message, or keep it."""
        if self.held is not None:
            self.held.append(envelope)
        elif self._receive is not None:
            try:
                self._receive(envelope)
            except Exception:
                logger.exception("broker %s: error in receive", self._name)

    def drop(self, place: str, error: Exception) -> None:
        """Log that something is dropped which is no message of ours."""
        logger.warning(
            "broker %s: dropped what is no message, on %.100r: %.200s",
            self._name,
            place,
            error,
        )
