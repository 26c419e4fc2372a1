"""From a URL to a broker."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any
from urllib.parse import unquote, urlsplit

from ..broker_errors import BrokerError
from .base import Broker

__all__ = ["open_broker"]

_FLAGS = {"true": True, "false": False, "1": True, "0": False}

# What a URL may say behind its question mark; the rest is the client's.
_OPTIONS: dict[str, dict[str, Callable[[str], Any]]] = {
    "memory": {},
    "redis": {"prefix": str, "durable": _FLAGS.__getitem__},
    "nats": {"prefix": str, "memory": _FLAGS.__getitem__},
}

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
            ``nats://…`` or ``tls://…``. Behind a question mark it may have
            ``prefix=…``, for Redis ``durable=true`` and what redis-py knows, for NATS
            ``memory=true``: see the broker's class.
        options: Arguments of the broker's class, which come before those of the URL.

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
    url, said = _take_options(url, _OPTIONS[module])
    options = {**said, **options}
    maker = getattr(found, name)
    broker: Broker = maker(**options) if scheme == "memory" else maker(url, **options)
    return broker


def _take_options(
    url: str, known: dict[str, Callable[[str], Any]]
) -> tuple[str, dict[str, Any]]:
    """Take the options of the broker's class out of a URL."""
    base, mark, query = url.partition("?")
    taken: dict[str, Any] = {}
    left = []
    for pair in query.split("&") if query else ():
        name, _, value = pair.partition("=")
        if name not in known:
            left.append(pair)
            continue
        try:
            taken[name] = known[name](unquote(value))
        except KeyError:
            scheme = base.partition(":")[0]
            problem = f"{name} is true or false, not {value!r}"
            raise BrokerError(f"{scheme}://", problem) from None
    if taken:
        url = base + (mark + "&".join(left) if left else "")
    return url, taken


def _without_credentials(url: str) -> str:
    """Leave out whatever could be a password, in what may be no URL."""
    return url.rpartition("@")[2]
