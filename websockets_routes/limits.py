"""Limits: how many connections a server takes, in all and from one address."""

from __future__ import annotations

from collections import Counter
from typing import Any, cast

from websockets.asyncio.server import ServerConnection

from .exceptions import InvalidLimit

__all__ = ["MAX_CONNECTIONS", "ConnectionLimits", "check_limit"]

#: Connections of one server, unless something else is said.
MAX_CONNECTIONS = 100_000


class ConnectionLimits:
    """The limits of one server.

    Every connection counts from its first byte on, before its handshake; what the
    server counts them by, ``handler_tasks``, is undocumented, and
    ``tests/test_undocumented.py`` watches it.

    Args:
        connections: How many may be there; None for any number.
        per_address: How many of one address; None for any number.

    Raises:
        InvalidLimit: If a limit is no positive number.
    """

    def __init__(self, connections: int | None, per_address: int | None) -> None:
        check_limit("max_connections", connections)
        check_limit("max_connections_per_address", per_address)
        self._connections = connections
        self._per_address = per_address
        self._addresses: Counter[str] = Counter()

    def admit(self, ws: ServerConnection) -> bool:
        """Tell whether there is room for a connection; to be asked once for each."""
        if not self.has_room(cast(Any, ws.server).num_connections):
            return False
        host = self.enter(ws)
        if host is None:
            return False
        if host:
            ws.connection_lost_waiter.add_done_callback(lambda _: self.leave(host))
        return True

    def has_room(self, number: int) -> bool:
        """Tell whether so many connections may be there."""
        return self._connections is None or number <= self._connections

    def enter(self, client: Any) -> str | None:
        """Count a connection or request by its ``client_address``.

        Returns:
            What to ``leave`` by; empty if nothing is counted, None if it is too many.
        """
        if self._per_address is None:
            return ""
        host: str | None = client.client_address
        if host is None:  # on a Unix socket
            return ""
        if self._addresses[host] >= self._per_address:
            return None
        self._addresses[host] += 1
        return host

    def leave(self, host: str) -> None:
        """Count a connection no longer."""
        self._addresses[host] -= 1
        if not self._addresses[host]:
            del self._addresses[host]


def check_limit(name: str, limit: float | None, *, optional: bool = True) -> None:
    """Check that a limit is a positive number, or None where it may be.

    Raises:
        InvalidLimit: If it is not.
    """
    if limit is None and optional:
        return
    if isinstance(limit, bool) or not (isinstance(limit, int | float) and limit > 0):
        expected = "a positive number or None" if optional else "a positive number"
        raise InvalidLimit(f"{name} is {expected}, not {limit!r}")
