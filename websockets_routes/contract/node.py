"""What the contract's tests look at brokers with."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Awaitable, Callable, Sequence

from ..broker_errors import BrokerUnavailable
from ..brokers.base import Broker, Envelope
from ..pubsub.names import Filter

__all__ = ["FILTERS", "NAMES", "Node", "message", "refused"]

_NAMES = """
a ab ba a/b /a a/ / // a//b a.b a/b. .a a* * a? ? [ab] [a-c] a] ^a a\\ \\ \\* > a> ~ a/~
- _ % %25 %2F a%2Fb %zz {a} { } {} a}b $ $SYS/a a/$b : a:b | ' " ` & = ; , ! @ A é É
日本/語 日本/ 😀 m h stream wildcard
"""

#: Names that an encoding could lose.
NAMES: Sequence[str] = (
    *_NAMES.split(),
    *("a b", "a  b", " ", " a", "a ", "a\u00a0b", "\u2028", "x" * 500),
)

#: Filters for them.
FILTERS = ("#", "+", "+/+", "a/#", "+/b", "/#", "+/", "%/#", "a*/#", "$SYS/#", "日本/+")

_numbers = itertools.count()


def message(
    topic: str, data: bytes | str | None = None, origin: str | None = None
) -> Envelope:
    """Make a message that differs from every other one."""
    number = next(_numbers)
    payload = str(number) if data is None else data
    text = isinstance(payload, str)
    raw = payload.encode() if isinstance(payload, str) else payload
    return Envelope(topic, raw, text, origin, f"id-{number}", time.time())


async def refused(call: Awaitable[object]) -> BrokerUnavailable:
    """Await what has to fail because there is no engine."""
    try:
        await call
    except BrokerUnavailable as error:
        return error
    raise AssertionError("it was done without an engine")


class Node:
    """A broker, and what it received.

    Attributes:
        broker: The broker.
        received: The messages.
        events: Topics of messages and of gaps in their order, with a word each.
    """

    def __init__(self, broker: Broker) -> None:
        self.broker = broker
        self.received: list[Envelope] = []
        self.events: list[tuple[str, str]] = []
        self._news = asyncio.Event()

    def receive(self, envelope: Envelope) -> None:
        """Take a message."""
        self.received.append(envelope)
        self.events.append(("message", envelope.topic))
        self._news.set()

    def gap(self, topic: str | Filter) -> None:
        """Take note of a gap."""
        self.events.append(("gap", str(topic)))
        self._news.set()

    @property
    def payloads(self) -> list[bytes]:
        """The payloads of the messages."""
        return [envelope.data for envelope in self.received]

    @property
    def gaps(self) -> list[str]:
        """What gaps were told about."""
        return [topic for kind, topic in self.events if kind == "gap"]

    async def until(self, count: int) -> list[Envelope]:
        """Wait for as many messages."""
        await self._until(lambda: len(self.received) >= count)
        return self.received

    async def until_payload(self, data: bytes) -> None:
        """Wait for a message with this payload."""
        await self._until(lambda: data in self.payloads)

    async def until_gaps(self, count: int) -> list[str]:
        """Wait for as many gaps."""
        await self._until(lambda: len(self.gaps) >= count)
        return self.gaps

    async def _until(self, done: Callable[[], bool]) -> None:
        async with asyncio.timeout(20):
            while not done():
                self._news.clear()
                await self._news.wait()

    async def publish(self, *topics: str) -> list[Envelope]:
        """Publish a message to each topic, and wait until all are confirmed."""
        envelopes = [message(topic) for topic in topics]
        await asyncio.gather(*map(self.broker.publish, envelopes))
        return envelopes
