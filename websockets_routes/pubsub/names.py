"""Names of topics, and filters that match many of them (MQTT 5, section 4.7).

A name is made of levels with slashes between; levels may be empty. In a filter ``+``
stands for any one level and ``#``, at the end, for all that follow, even none.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from ..exceptions import InvalidTopic
from ..target import UNFIT

__all__ = [
    "ANY",
    "RESERVED",
    "REST",
    "Filter",
    "check_levels",
    "check_name",
    "is_hidden",
]

ANY = "+"
REST = "#"

#: What names of the package's own begin with.
RESERVED = "$websockets-routes/"

_NAME = re.compile(r"[^+#\x00-\x1f\x7f-\x9f\ud800-\udfff]+")


def check_name(name: object) -> None:
    """Check the name of a topic.

    Raises:
        InvalidTopic: If it is none; says why.
    """
    if not isinstance(name, str):
        kind = type(name).__name__
        raise InvalidTopic(name, f"a topic is a str or a Filter, not {kind}")
    if _NAME.fullmatch(name) is None:
        _check_text(name)
        raise InvalidTopic(
            name, f"a name has no wildcard; to hear many topics, use Filter({name!r})"
        )


def check_levels(topic: str | Filter, max_length: int, max_levels: int) -> None:
    """Check that a name or a filter is not longer than allowed, nor reserved.

    Args:
        topic: The name or filter.
        max_length: Its greatest length, in bytes of UTF-8.
        max_levels: The greatest number of its levels.

    Raises:
        InvalidTopic: If it is too long, has too many levels, or is not for users.
    """
    text = str(topic)
    if text.startswith(RESERVED):
        raise InvalidTopic(text, f"{RESERVED} is reserved: nodes talk there")
    if len(text) > max_length or len(text.encode()) > max_length:
        shown = text[:40] + "…" if len(text) > 40 else text
        raise InvalidTopic(shown, f"it has more than {max_length} bytes")
    if text.count("/") >= max_levels:
        raise InvalidTopic(text, f"it has more than {max_levels} levels")


def is_hidden(levels: Sequence[str]) -> bool:
    """Tell whether a filter that begins with a wildcard passes a name by.

    MQTT 5, section 4.7.2: what begins with ``$`` is for the server's own use.
    """
    return levels[0].startswith("$")


class Filter:
    """A wildcard subscription: ``ws.subscribe(Filter("room/+/news"))``.

    It is never made from a plain string, so that a path like ``/room/%23`` hears
    one room rather than all of them.

    Args:
        text: The filter.

    Attributes:
        levels: Its levels.

    Raises:
        InvalidTopic: If a wildcard does not stand alone in its level, or if ``#``
            is not the last one.
    """

    __slots__ = ("levels", "text")

    def __init__(self, text: str) -> None:
        if not isinstance(text, str):
            kind = type(text).__name__
            raise InvalidTopic(text, f"a filter is made from a str, not {kind}")
        _check_text(text)
        levels = tuple(text.split("/"))
        for level in levels:
            if len(level) > 1 and (ANY in level or REST in level):
                raise InvalidTopic(
                    text, f"a wildcard stands alone in its level, not in {level!r}"
                )
        if REST in levels[:-1]:
            raise InvalidTopic(text, "nothing can follow #")
        self.text = text
        self.levels = levels

    def __str__(self) -> str:
        return self.text

    def __repr__(self) -> str:
        return f"Filter({self.text!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Filter) and other.text == self.text

    def __hash__(self) -> int:
        return hash((Filter, self.text))

    def matches(self, name: str) -> bool:
        """Tell whether a topic of this name is heard."""
        levels = name.split("/")
        first = self.levels[0]
        if first in (ANY, REST) and is_hidden(levels):
            return False
        for index, level in enumerate(self.levels):
            if level == REST:
                return True
            if index == len(levels) or (level != ANY and level != levels[index]):
                # "sport/#" also matches the parent level, "sport".
                return False
        return len(levels) == len(self.levels)


def _check_text(text: str) -> None:
    if not text:
        raise InvalidTopic(text, "it is empty")
    if UNFIT.search(text):
        raise InvalidTopic(text, "it contains a control character or a lone surrogate")
