"""Local: what topics of a single process keep, without a broker and at once."""

from __future__ import annotations

from ..brokers.base import HistoryPage, HistoryPolicy, Position, Published
from ..brokers.memory import MemoryHub
from .history import History, IdempotencyKeys

__all__ = ["Local"]

# How long an idempotency key is remembered, in seconds: as with a broker.
_WINDOW = 120.0


class Local:
    """Histories, and idempotency keys."""

    def __init__(self) -> None:
        self._hub = MemoryHub()
        self._keys = IdempotencyKeys()

    def known(self, topic: str, key: str) -> Published | None:
        """Find what came of the first publish with this key."""
        return self._keys.find(topic, key)

    def remember(self, topic: str, key: str, published: Published) -> None:
        """Remember a key, and what came of it."""
        self._keys.remember(topic, key, published, _WINDOW)

    def history(self, topic: str, policy: HistoryPolicy) -> History:
        """Find or make the history of a topic."""
        return self._hub.history(topic, policy)

    async def page(
        self,
        topic: str,
        policy: HistoryPolicy,
        since: Position | None = None,
        limit: int | None = None,
        reverse: bool = False,
    ) -> HistoryPage:
        """Read the history of a topic; it suspends nowhere. See ``Broker.history``."""
        return self.history(topic, policy).page(policy, since, limit, reverse)
