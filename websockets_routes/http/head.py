"""Heads of requests, before they are parsed: who they are for, whether they are sound.

``h11`` and ``websockets`` are lenient where RFC 9112 wants a request refused, because
something in front of us may have understood it otherwise.
"""

from __future__ import annotations

import re
from typing import NamedTuple

__all__ = ["MAX_HEAD", "Head", "asks_for_upgrade", "look_at"]

#: Bytes of a request line and its headers.
MAX_HEAD = 2**14

_FIELD = re.compile(
    rb"\r\n(content-length|transfer-encoding|upgrade)[ \t]*:([^\r\n]*)", re.IGNORECASE
)
_UPGRADE = re.compile(
    rb"\r\nupgrade[ \t]*:(?:[^\r\n]*,)?[ \t]*websocket[ \t]*[,\r]", re.IGNORECASE
)
_WEBSOCKET = re.compile(rb"(?:^|,)[ \t]*websocket[ \t]*(?:,|$)", re.IGNORECASE)
_LENGTH = re.compile(rb"[ \t]*[0-9]{1,18}[ \t]*")


class Head(NamedTuple):
    """What there is to know about a head.

    Attributes:
        upgrade: Whether it asks for a WebSocket: ``websockets`` sees to the rest.
        problem: Why it has to be refused with 400, or None.
    """

    upgrade: bool
    problem: str | None


def asks_for_upgrade(data: bytes, end: int) -> bool:
    """Tell whether a request asks for a WebSocket: ``look_at`` for one question.

    Args:
        data: The request, and maybe more.
        end: Where the empty line behind its head begins.
    """
    return _UPGRADE.search(data, 0, end + 2) is not None


def look_at(head: bytes) -> Head:
    """Look at the head of a request, all of it, in linear time."""
    lengths: list[bytes] = []
    codings: list[bytes] = []
    for name, value in _FIELD.findall(head):
        kind = name.lower()
        if kind == b"upgrade":
            if _WEBSOCKET.search(value):
                return Head(True, None)
        elif kind == b"content-length":
            lengths.append(value)
        else:
            codings.append(value)
    return Head(False, _problem(head, lengths, codings))


def _problem(head: bytes, lengths: list[bytes], codings: list[bytes]) -> str | None:
    lines = head.count(b"\r\n")
    if head.count(b"\n") != lines or head.count(b"\r") != lines:
        return "lines end with CR and LF"
    if b"\r\n " in head or b"\r\n\t" in head:  # RFC 9112 section 5.2
        return "a header is one line"
    # RFC 9112 section 6.3
    if len(lengths) > 1 or len(codings) > 1 or (lengths and codings):
        return "the length of the body is told more than once"
    if lengths and not _LENGTH.fullmatch(lengths[0]):
        return "Content-Length is no number"
    if codings and codings[0].strip(b" \t").lower() != b"chunked":
        return "chunked is the one transfer coding"
    if codings and b" HTTP/1.0\r\n" in head:
        return "HTTP/1.0 has no transfer codings"
    return None
