"""Publish and subscribe: topics, who hears them, and how messages get there."""

from .names import Filter
from .overflow import Overflow
from .receipt import Receipt, Statistics, Subscribed
from .topic import Topic
from .topics import Topics

__all__ = [
    "Filter",
    "Overflow",
    "Receipt",
    "Statistics",
    "Subscribed",
    "Topic",
    "Topics",
]
