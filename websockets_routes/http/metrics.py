"""Metrics: the numbers of a router for Prometheus."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import choose_encoder

from ..brokers.base import State
from ..stats import Stats
from .request import Request
from .response import Response

__all__ = ["MetricsEndpoint"]

_PREFIX = "websockets_routes"

# Fields of the statistics of topics: what they are called, and what they mean.
_HELD = {
    "names": ("topics", "Topics that have a subscriber."),
    "subscribers": ("subscribers", "Connections that have a subscription."),
    "subscriptions": ("subscriptions", "Subscriptions, those to filters included."),
}
_DONE = {
    "published": ("published", "Messages that were published."),
    "queued": ("deliveries", "Messages that were queued for a subscriber."),
    "conflated": ("conflated", "Waiting messages that a newer one replaced."),
    "dropped": ("dropped", "Messages that a slow subscriber did not get."),
    "displaced": ("displaced", "Waiting messages that were dropped to make room."),
    "closed": ("closed", "Messages that found a subscriber closing, or closed it."),
    "lost": ("lost", "Messages that waited for slow subscribers and were given up."),
}


class MetricsEndpoint:
    """Answers with the numbers of a router, in the format that is asked for.

    Args:
        stats: Takes the numbers.
        registry: More metrics: whatever has a ``collect``, or None.
    """

    def __init__(self, stats: Callable[[], Stats], registry: Any = None) -> None:
        self._stats = stats
        self._registry = registry

    def __call__(self, request: Request) -> Response:
        accept = ", ".join(request.headers.get_all("Accept"))
        encode, kind = choose_encoder(accept)
        return Response(encode(self), 200, {"Content-Type": kind})

    def collect(self) -> Iterator[Metric]:
        """Give all metrics, as a registry of Prometheus does."""
        yield from _metrics(self._stats())
        if self._registry is not None:
            yield from self._registry.collect()


def _metrics(stats: Stats) -> Iterator[Metric]:
    connections = "WebSocket connections, those in their handshake included."
    yield _gauge("connections", connections, stats.connections)
    accepted = "Handshakes that were accepted."
    yield _counter("handshakes_accepted", accepted, stats.accepted)
    refused = CounterMetricFamily(
        f"{_PREFIX}_handshakes_refused",
        "Handshakes that were refused, by HTTP status.",
        labels=["status"],
    )
    for status, number in sorted(stats.refused.items()):
        refused.add_metric([str(status)], number)
    yield refused
    for field, (name, meaning) in _HELD.items():
        yield _gauge(name, meaning, getattr(stats.topics, field))
    for field, (name, meaning) in _DONE.items():
        yield _counter(f"messages_{name}", meaning, getattr(stats.topics, field))
    waiting = "Bytes that wait for slow subscribers."
    yield _gauge("queue_bytes", waiting, stats.queue_bytes)
    if stats.broker is not None:
        broker = GaugeMetricFamily(
            f"{_PREFIX}_broker_state", "1 for what the broker does.", labels=["state"]
        )
        for state in State:
            broker.add_metric([state.value], state is stats.broker)
        yield broker


def _gauge(name: str, meaning: str, value: float) -> Metric:
    return GaugeMetricFamily(f"{_PREFIX}_{name}", meaning, value)


def _counter(name: str, meaning: str, value: float) -> Metric:
    return CounterMetricFamily(f"{_PREFIX}_{name}", meaning, value)
