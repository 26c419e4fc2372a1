"""From a URL to a broker."""

from __future__ import annotations

import importlib
from typing import Any
from urllib.parse import urlsplit

from ..broker_errors import BrokerError
from .base import Broker

__all__ = ["open_broker"]

# Scheme: module, class, the client that it needs, extra.
_ENGINES = {
    "memory": ("memory", "MemoryBroker", "", ""),
    "redis": ("redis", "RedisBroker", "redis", "redis"),
    "rediss": ("redis", "RedisBroker", "redis", "redis"),
    "unix": ("redis", "RedisBroker", "redis", "redis"),
    "nats": ("nats", "NatsBroker", "nats", "nats"),
    "tls": ("nats", "NatsBroker", "nats", "nats"),
}


def open_broker(url: str, **options: Any) -> Broker:
    """Make the broker of a URL; it connects when it is started.

    Args:
        url: ``memory://``, ``redis://…``, ``rediss://…`` or ``unix://…``,
            ``nats://…`` or ``tls://…``.
        options: Arguments of the broker's class.

    Raises:
        BrokerError: If there is no such broker, or what it needs is not installed.
    """
    try:
        scheme = urlsplit(url).scheme
    except ValueError as error:
        raise BrokerError(_without_credentials(url), f"no URL: {error}") from None
    if scheme not in _ENGINES or "://" not in url:
        choices = ", ".join(f"{each}://" for each in _ENGINES)
        name = f"{scheme}://" if "://" in url else repr(_without_credentials(url))
        raise BrokerError(name, f"unknown; a URL begins with {choices}")
    module, name, client, extra = _ENGINES[scheme]
    try:
        found = importlib.import_module(f".{module}", __package__)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != client:
            raise
        problem = f"it needs pip install 'websockets-routes[{extra}]'"
        raise BrokerError(f"{scheme}://", problem) from None
    maker = getattr(found, name)
    broker: Broker = maker(**options) if scheme == "memory" else maker(url, **options)
    return broker


def _without_credentials(url: str) -> str:
    """Leave out whatever could be a password, in what may be no URL."""
    return url.rpartition("@")[2]
