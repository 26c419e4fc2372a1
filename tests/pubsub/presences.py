"""Nodes that know each other's presence, and a clock that goes when it is told to."""

from __future__ import annotations

from websockets_routes.pubsub.presence import Presence
from websockets_routes.pubsub.roster import Change

TTL = 40.0
INTERVAL = TTL / 4


class Clock:
    """A clock that stands still until it is told to go."""

    def __init__(self, now: float = 0.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def make(node: str, clock: Clock, max_bytes: int = 10_000_000) -> Presence:
    return Presence(
        node, ttl=TTL, max_bytes=max_bytes, clock=clock, wall_clock=lambda: 1e9
    )


def exchange(*nodes: Presence) -> dict[str, list[Change]]:
    """Deliver everything to everyone, the sender included, until all are quiet."""
    changes: dict[str, list[Change]] = {node.node: [] for node in nodes}
    while messages := [message for node in nodes for message in node.take()]:
        for message in messages:
            for node in nodes:
                changes[node.node] += node.receive(message)
    return changes


def beat(*nodes: Presence) -> dict[str, list[Change]]:
    """Have everyone send a heartbeat, and deliver what comes of it."""
    for node in nodes:
        node.heartbeat()
    return exchange(*nodes)
