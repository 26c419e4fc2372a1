"""Node: what a relay wants from the topics of its process."""

from __future__ import annotations

from typing import Protocol

from ..brokers.base import Envelope, HistoryPolicy
from .names import Filter
from .receipt import Receipt
from .tracks import Track

__all__ = ["Node"]


class Node(Protocol):
    """What a relay wants from topics."""

    def spread(self, envelope: Envelope, track: Track | None) -> Receipt:
        """Deliver a message to those here that hear it and lack it."""

    def policy_of(self, topic: str | Filter) -> HistoryPolicy | None:
        """Find the history of a topic."""

    def is_heard(self, topic: str | Filter) -> bool:
        """Tell whether anybody is subscribed to this very topic or filter."""

    def heard(self) -> list[str | Filter]:
        """List the topics and filters that anybody is subscribed to."""

    def has_audience(self, topic: str) -> bool:
        """Tell whether anybody would hear a message."""

    @property
    def has_presence(self) -> bool:
        """Whether a topic has presence."""

    def tell_gap(self, topic: str | Filter) -> None:
        """Tell that messages were missed, and are lost."""
