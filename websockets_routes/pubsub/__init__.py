"""Publish and subscribe: topics, who hears them, and how messages get there."""

from ..brokers.base import Position
from .latency import Latency
from .message import Message, json_envelope
from .names import Filter
from .overflow import Overflow
from .receipt import Receipt, Statistics, Subscribed
from .topic import Topic
from .topics import Topics

__all__ = [
    "Filter",
    "Latency",
    "Message",
    "Overflow",
    "Position",
    "Receipt",
    "Statistics",
    "Subscribed",
    "Topic",
    "Topics",
    "json_envelope",
]
