"""The broker of a single process: no engine, and nothing to wait for."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from itertools import islice

from ..broker_errors import BrokerUnavailable
from ..pubsub.history import History, IdempotencyKeys
from ..pubsub.names import Filter
from .base import (
    Broker,
    Envelope,
    Gap,
    HistoryPage,
    HistoryPolicy,
    Position,
    Published,
    Receive,
    State,
)

__all__ = ["MemoryBroker", "MemoryHub"]

# How long after its last message has expired a topic keeps its epoch, in seconds.
_REMEMBERED = 86_400


class MemoryHub:
    """What the memory brokers of one process share.

    History outlives its last subscriber. A topic whose messages have all expired is
    forgotten a day later.

    Args:
        max_bytes: The greatest sum of payloads that is kept of a topic, in bytes.
        max_topics: The greatest number of topics with history; beyond it the one
            that was used longest ago is forgotten.
        clock: Tells the time, in seconds; it never goes back.
    """

    def __init__(
        self,
        *,
        max_bytes: int = 16 * 1024 * 1024,
        max_topics: int = 100_000,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._max_bytes = max_bytes
        self._max_topics = max_topics
        self._clock = clock
        self._keys = IdempotencyKeys(clock)
        self._histories: dict[str, tuple[History, HistoryPolicy]] = {}
        self._newest: str | None = None
        self.nodes: list[MemoryBroker] = []

    def __len__(self) -> int:
        return len(self._histories)

    def publish(
        self,
        envelope: Envelope,
        history: HistoryPolicy | None,
        idempotency_key: str | None,
        window: float,
    ) -> Published:
        """Publish a message to all nodes; see ``Broker.publish``."""
        topic = envelope.topic
        if idempotency_key is not None:
            found = self._keys.find(topic, idempotency_key)
            if found is not None:
                return found
        if history is not None:
            envelope = self.history(topic, history).append(envelope, history)
        published = Published(envelope.offset, envelope.epoch)
        if idempotency_key is not None:
            self._keys.remember(topic, idempotency_key, published, window)
        for node in tuple(self.nodes):
            node.deliver(envelope)
        return published

    def history(self, topic: str, policy: HistoryPolicy) -> History:
        """Find or make the history of a topic."""
        if topic == self._newest:
            return self._histories[topic][0]
        # The one used last stands last.
        found = self._histories.pop(topic, None)
        history = found[0] if found else History(self._max_bytes, self._clock)
        self._histories[topic] = history, policy
        self._newest = topic
        if found is None:
            self._sweep()  # it never takes the one that was used last
        return history

    def _sweep(self) -> None:
        """Look at the oldest two, so that nothing overdue stays for long."""
        for topic in tuple(islice(self._histories, 2)):
            history, policy = self._histories[topic]
            history.trim(policy)
            over = self._clock() - history.used
            if policy.ttl is not None and over > policy.ttl + _REMEMBERED:
                del self._histories[topic]
        if len(self._histories) > self._max_topics:
            del self._histories[next(iter(self._histories))]


class MemoryBroker(Broker):
    """A broker that carries messages within this process, at once.

    A message has been received by all nodes when ``publish`` returns. Order: one for
    all nodes and topics, unless a node publishes while it receives.

    Args:
        hub: What it shares with other nodes of this process; its own by default.
    """

    def __init__(self, hub: MemoryHub | None = None) -> None:
        self._hub = MemoryHub() if hub is None else hub
        self._state = State.NEW
        self._names: set[str] = set()
        self._filters: set[Filter] = set()
        self._receive: Receive | None = None

    def __repr__(self) -> str:
        return f"<MemoryBroker {self._state.value}>"

    @property
    def state(self) -> State:
        """What the broker is doing."""
        return self._state

    async def start(self, receive: Receive, gap: Gap) -> None:
        """Begin to receive; there is never a gap."""
        self.start_nowait(receive)

    def start_nowait(self, receive: Receive) -> None:
        """Begin to receive, in a plain call."""
        self._receive = receive
        self._hub.nodes.append(self)
        self._state = State.CONNECTED

    async def close(self) -> None:
        """Stop to receive."""
        if self in self._hub.nodes:
            self._hub.nodes.remove(self)
        self._state = State.CLOSED

    def publish(
        self,
        envelope: Envelope,
        *,
        history: HistoryPolicy | None = None,
        idempotency_key: str | None = None,
        window: float = 120,
    ) -> asyncio.Future[Published]:
        """Publish a message; see ``Broker.publish``. The future is done."""
        future = asyncio.get_running_loop().create_future()
        try:
            published = self.publish_nowait(
                envelope,
                history=history,
                idempotency_key=idempotency_key,
                window=window,
            )
        except BrokerUnavailable as error:
            future.set_exception(error)
        else:
            future.set_result(published)
        return future

    def publish_nowait(
        self,
        envelope: Envelope,
        *,
        history: HistoryPolicy | None = None,
        idempotency_key: str | None = None,
        window: float = 120,
    ) -> Published:
        """Publish a message in a plain call; see ``Broker.publish``.

        Raises:
            BrokerUnavailable: If the broker was not started, or is closed.
        """
        self._check()
        return self._hub.publish(envelope, history, idempotency_key, window)

    async def subscribe(self, topic: str | Filter) -> None:
        """Begin to hear a topic or filter."""
        self._check()
        if isinstance(topic, Filter):
            self._filters.add(topic)
        else:
            self._names.add(topic)

    async def unsubscribe(self, topic: str | Filter) -> None:
        """Stop to hear a topic or filter."""
        if isinstance(topic, Filter):
            self._filters.discard(topic)
        else:
            self._names.discard(topic)

    async def history(
        self,
        topic: str,
        policy: HistoryPolicy,
        *,
        since: Position | None = None,
        limit: int | None = None,
        reverse: bool = False,
    ) -> HistoryPage:
        """Read the history of a topic; see ``Broker.history``."""
        return self.history_nowait(
            topic, policy, since=since, limit=limit, reverse=reverse
        )

    def history_nowait(
        self,
        topic: str,
        policy: HistoryPolicy,
        *,
        since: Position | None = None,
        limit: int | None = None,
        reverse: bool = False,
    ) -> HistoryPage:
        """Read the history of a topic in a plain call; see ``Broker.history``."""
        self._check()
        return self._hub.history(topic, policy).page(policy, since, limit, reverse)

    def deliver(self, envelope: Envelope) -> None:
        """Receive a message if somebody here hears its topic; called by the hub."""
        topic = envelope.topic
        if topic in self._names or any(each.matches(topic) for each in self._filters):
            assert self._receive is not None
            self._receive(envelope)

    def _check(self) -> None:
        if self._state is not State.CONNECTED:
            problem = f"the broker is {self._state.value}; start it first"
            raise BrokerUnavailable("memory", problem, sent=False)
