"""Topics as subjects of NATS, filters as its wildcards; nothing is lost on the way.

A subject is ``PREFIX.m.EPOCH.LEVEL.LEVEL.~``: the epoch is ``-`` for a topic without
history. What no token may contain is percent-encoded, and an empty level is a lone
percent sign. The tilde ends each topic, so that the subject of ``a/#``, which matches
``a`` too, is ``a.>``.
"""

from __future__ import annotations

import functools
import re

from ..exceptions import InvalidTopic
from ..pubsub.names import ANY, REST, Filter, check_name
from .base import HistoryPolicy

__all__ = ["Subjects", "policy_token"]

_END = "~"
_EMPTY = "%"
_NO_EPOCH = "-"
_UNFIT = re.compile(r"[^A-Za-z0-9_\-:@!$&'()+,;=|]")
_TOKEN = re.compile(r"%|(?:[A-Za-z0-9_\-:@!$&'()+,;=|]|%[0-9A-F]{2})+")
_ENCODED = re.compile(r"(?:%[0-9A-F]{2})+")

# How many subjects are remembered.
_REMEMBERED = 4096


class Subjects:
    """The subjects behind one prefix.

    Args:
        prefix: The prefix, one or more tokens.
    """

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix
        self._tokens = prefix.count(".") + 1
        self.tokens = functools.lru_cache(_REMEMBERED)(_tokens)
        self.topic = functools.lru_cache(_REMEMBERED)(self._topic)

    def plain(self, topic: str) -> str:
        """Name what a message without history is published to."""
        return f"{self.prefix}.m.{_NO_EPOCH}.{self.tokens(topic)}"

    def stored(self, topic: str, policy: str) -> str:
        """Name what a message with history is published to."""
        return f"{self.prefix}.h.{policy}.{self.tokens(topic)}"

    def interest(self, topic: str | Filter) -> str:
        """Name what is subscribed for a topic or filter."""
        return f"{self.prefix}.m.*.{self.tokens(topic)}"

    def _topic(self, subject: str) -> tuple[str, str | None]:
        """Name the topic and epoch of a message that was heard.

        Raises:
            ValueError: If it is the subject of none.
        """
        epoch, *tokens = subject.split(".")[self._tokens + 1 :]
        if len(tokens) < 2 or tokens.pop() != _END:
            raise ValueError("no topic has this subject")
        levels = []
        for token in tokens:
            if _TOKEN.fullmatch(token) is None:
                raise ValueError("no topic has this subject")
            levels.append("" if token == _EMPTY else _ENCODED.sub(_decode, token))
        topic = "/".join(levels)
        try:
            check_name(topic)
        except InvalidTopic as error:
            raise ValueError(str(error)) from None
        return topic, None if epoch == _NO_EPOCH else epoch


def policy_token(policy: HistoryPolicy) -> str:
    """Name a policy in subjects and streams."""
    ttl = "" if policy.ttl is None else f"_{round(policy.ttl * 1000)}"
    return f"{policy.length}{ttl}"


def _tokens(topic: str | Filter) -> str:
    if isinstance(topic, Filter):
        wild = {ANY: "*", REST: ">"}
        tokens = [wild.get(level) or _encode(level) for level in topic.levels]
        if tokens[-1] != ">":
            tokens.append(_END)
    else:
        tokens = [*map(_encode, topic.split("/")), _END]
    return ".".join(tokens)


def _encode(level: str) -> str:
    return _UNFIT.sub(_percent, level) if level else _EMPTY


def _percent(match: re.Match[str]) -> str:
    return "".join(f"%{byte:02X}" for byte in match[0].encode())


def _decode(match: re.Match[str]) -> str:
    return bytes.fromhex(match[0].replace("%", "")).decode()
