"""Numbers: what a router holds at one moment, and what it did so far."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from .brokers.base import State
from .pubsub import Statistics

__all__ = ["RouteStats", "Stats"]


class RouteStats(NamedTuple):
    """What became of the handshakes for a route.

    Attributes:
        accepted: How many were accepted so far.
        refused: How many were refused so far, by HTTP status.
    """

    accepted: int
    refused: Mapping[int, int]


class Stats(NamedTuple):
    """A snapshot of the numbers of a router, of this process alone.

    Attributes:
        connections: WebSocket connections of its servers, from the first byte of a
            handshake on until the handler has returned.
        accepted: Handshakes that were accepted so far. What is no WebSocket
            handshake at all counts neither here nor below.
        refused: Handshakes that were refused so far, by HTTP status.
        routes: The same for each template that had any; those that matched none,
            or found no room, are under ``""``.
        stalls: Connections that were aborted so far because their peer took nothing.
        topics: What its topics hold, and what became of their messages.
        queue_bytes: Bytes that wait for slow subscribers, in this process.
        broker: What the broker is doing; None where there is none.
    """

    connections: int
    accepted: int
    refused: Mapping[int, int]
    routes: Mapping[str, RouteStats]
    stalls: int
    topics: Statistics
    queue_bytes: int
    broker: State | None
