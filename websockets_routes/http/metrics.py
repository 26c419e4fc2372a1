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
        try:
            encode, kind = choose_encoder(accept)
        except Exception:
            # It takes no version for granted that a client may send.
            encode, kind = choose_encoder("")
        return Response(encode(self), 200, {"Content-Type": kind})

    def collect(self) -> Iterator[Metric]:
        """Give all metrics, as a registry of Prometheus does."""
        yield from _metrics(self._stats())
        if self._registry is not None:
            yield from self._registry.collect()


def _metrics(stats: Stats) -> Iterator[Metric]:
    connections = "WebSocket connections, those in their handshake included."
    yield _gauge("connections", connections, stats.connections)
    accepted = CounterMetricFamily(
        f"{_PREFIX}_handshakes_accepted",
        "Handshakes that were accepted, by the template of their route.",
        labels=["route"],
    )
    refused = CounterMetricFamily(
        f"{_PREFIX}_handshakes_refused",
        "Handshakes that were refused, by the template of their route and HTTP status.",
        labels=["route", "status"],
    )
    for route, counts in stats.routes.items():
        accepted.add_metric([route], counts.accepted)
        for status, number in sorted(counts.refused.items()):
            refused.add_metric([route, str(status)], number)
    yield accepted
    yield refused
    stalls = "Connections that were aborted because their peer took nothing."
    yield _counter("stalls", stalls, stats.stalls)
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
    yield _latencies(stats)


def _latencies(stats: Stats) -> Metric:
    latency = GaugeMetricFamily(
        f"{_PREFIX}_latency_seconds",
        "How long it took in the last minute to write what was published (delivery), "
        "or until the broker had confirmed it (confirmation).",
        labels=["of", "quantile"],
    )
    for name in ("delivery", "confirmation"):
        found = getattr(stats.topics, name)
        if found is not None:
            latency.add_metric([name, "0.5"], found.p50)
            latency.add_metric([name, "0.99"], found.p99)
            latency.add_metric([name, "1"], found.highest)
    return latency


def _gauge(name: str, meaning: str, value: float) -> Metric:
    return GaugeMetricFamily(f"{_PREFIX}_{name}", meaning, value)


def _counter(name: str, meaning: str, value: float) -> Metric:
    return CounterMetricFamily(f"{_PREFIX}_{name}", meaning, value)
