"""Topics as channels of Redis, filters as its patterns; nothing is lost on the way.

A channel is a prefix, the topic and a slash. Because of the slash the pattern of
``a/#``, which matches ``a`` too, is ``a/*`` and matches no ``ab``. A ``*`` matches
slashes as well, so a pattern may bring more than its filter wants.
"""

from __future__ import annotations

import functools
import re

from ..exceptions import InvalidTopic
from ..pubsub.names import ANY, REST, Filter, check_name

__all__ = ["Names"]

_SPECIAL = re.compile(r"([*?\[\]\\])")
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)

# How many names are remembered.
_REMEMBERED = 4096


class Names:
    """The channels and patterns behind one prefix.

    Args:
        prefix: The prefix.
    """

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix.encode()
        self._start = _SPECIAL.sub(r"\\\1", prefix)
        self.topic = functools.lru_cache(_REMEMBERED)(self._topic)
        self.pattern = functools.lru_cache(_REMEMBERED)(self._pattern)

    def channel(self, topic: str) -> bytes:
        """Name the channel of a topic."""
        return b"%b%b/" % (self._prefix, topic.encode())

    def _topic(self, channel: bytes) -> str:
        """Name the topic of a channel.

        Raises:
            ValueError: If it is the channel of none.
        """
        if not channel.startswith(self._prefix) or not channel.endswith(b"/"):
            raise ValueError("no topic has this channel")
        topic = channel[len(self._prefix) : -1].decode()
        try:
            check_name(topic)
        except InvalidTopic as error:
            raise ValueError(str(error)) from None
        return topic

    def _pattern(self, topic: Filter) -> bytes:
        """Name the pattern of a filter."""
        levels = [
            "*" if level in (ANY, REST) else _SPECIAL.sub(r"\\\1", level)
            for level in topic.levels
        ]
        end = "" if topic.levels[-1] == REST else "/"
        return f"{self._start}{'/'.join(levels)}{end}".encode()

    def filter(self, pattern: bytes) -> Filter:
        """Name the filter of a pattern that was made here."""
        text = pattern.decode().removeprefix(self._start)
        levels = [
            ANY if level == "*" else _ESCAPED.sub(r"\1", level)
            for level in text.removesuffix("/").split("/")
        ]
        if not text.endswith("/"):
            levels[-1] = REST
        return Filter("/".join(levels))
