"""Brokers: what carries messages between the processes that share an engine."""

from .base import (
    Broker,
    Envelope,
    HistoryPage,
    HistoryPolicy,
    Position,
    Published,
    State,
)
from .link import Backoff
from .memory import MemoryBroker, MemoryHub
from .opening import open_broker

__all__ = [
    "Backoff",
    "Broker",
    "Envelope",
    "HistoryPage",
    "HistoryPolicy",
    "MemoryBroker",
    "MemoryHub",
    "Position",
    "Published",
    "State",
    "open_broker",
]
