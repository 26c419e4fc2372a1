"""Clients: who is at the other end of a connection, and of the one that comes next."""

from __future__ import annotations

from websockets.asyncio.server import ServerConnection

__all__ = ["check_client_key", "client_key_of"]

_LONGEST = 512  # bytes


def client_key_of(ws: ServerConnection) -> str:
    """Return the key of the client; by default, the id of the connection."""
    key = getattr(ws, "client_key", None)
    return str(ws.id) if key is None else key


def check_client_key(key: object) -> str:
    """Check what is to be the key of a client.

    Raises:
        ValueError: If it is no str, or empty, or longer than 512 bytes of UTF-8.
    """
    if not isinstance(key, str) or not 0 < len(key.encode()) <= _LONGEST:
        raise ValueError(f"a client_key is a str of 1 to {_LONGEST} bytes, not {key!r}")
    return key
