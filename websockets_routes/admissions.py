"""Admissions: what became of handshakes, by route and status."""

from __future__ import annotations

from collections import Counter
from http import HTTPStatus
from types import MappingProxyType

from .route import Route
from .stats import RouteStats

__all__ = ["Admissions"]


class Admissions(Counter[tuple["Route | None", int]]):
    """Counts handshakes by route, None for those without one, and status."""

    def by_route(self) -> dict[str, RouteStats]:
        """Sum up by template: several routes may have the same."""
        found: dict[str, Counter[int]] = {}
        for (route, status), count in self.items():
            name = "" if route is None else str(route)
            found.setdefault(name, Counter())[status] += count
        return {name: _stats(counts) for name, counts in sorted(found.items())}

    def in_all(self) -> RouteStats:
        """Sum up all of them."""
        counts: Counter[int] = Counter()
        for (_, status), count in self.items():
            counts[status] += count
        return _stats(counts)


def _stats(counts: Counter[int]) -> RouteStats:
    accepted = counts.pop(HTTPStatus.SWITCHING_PROTOCOLS, 0)
    return RouteStats(accepted, MappingProxyType(dict(counts)))
