"""Heads of requests, before they are parsed: who they are for, whether they are sound.

``h11`` and ``websockets`` are lenient where RFC 9112 wants a request refused, because
something in front of us may have understood it otherwise.
"""

from __future__ import annotations

import re
from typing import NamedTuple

__all__ = [
    "MAX_HEAD",
    "Head",
    "asks_for_upgrade",
    "ends_soundly",
    "look_at",
    "without_empty_lines",
]

#: Bytes of a request line and its headers.
MAX_HEAD = 2**14

_FIELD = re.compile(
    rb"\r\n(content-length|transfer-encoding|upgrade)[ \t]*:([^\r\n]*)", re.IGNORECASE
)
_UPGRADE = re.compile(
    rb"\r\nupgrade[ \t]*:(?:[^\r\n]*,)?[ \t]*websocket[ \t]*[,\r]", re.IGNORECASE
)
_WEBSOCKET = re.compile(rb"(?:^|,)[ \t]*websocket[ \t]*(?:,|$)", re.IGNORECASE)
_EMPTY_LINES = re.compile(rb"(?:\r\n)*")
# A line of a trailer has a colon: the last such line is that of the last chunk.
_LAST_CHUNK = re.compile(rb"(?:^|(?<=\r\n))0+[ \t]*(?:;[^\r\n]*)?\r\n")
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
    if _UPGRADE.search(data, 0, end + 2) is None:
        return False
    # RFC 9110 section 7.8: HTTP/1.0 knows of no upgrades.
    return not _is_1_0(data)


def _is_1_0(data: bytes) -> bool:
    line = data.find(b"\r\n")
    return data.startswith(b" HTTP/1.0", line - 9)


def without_empty_lines(data: bytes) -> bytes:
    """Leave out the empty lines before a request (RFC 9112 section 2.2)."""
    found = _EMPTY_LINES.match(data)
    assert found is not None, "there may be none"
    return data[found.end() :]


def ends_soundly(raw: bytes, trailing: bytes) -> bool:
    """Tell whether a chunked body ends as it has to, with its trailers, if any.

    Args:
        raw: The end of what was received: of the body, and what is behind it.
        trailing: What is behind it.
    """
    end = len(raw) - len(trailing)
    last = None
    for last in _LAST_CHUNK.finditer(raw, 0, end):  # noqa: B007
        pass
    if last is None:
        return False  # its trailers are longer than the head of a request may be
    trailers = raw[last.end() - 2 : end]
    lines = trailers.count(b"\r\n")
    return (
        trailers.endswith(b"\r\n\r\n")
        and trailers.count(b"\n") == trailers.count(b"\r") == lines
        and b"\r\n " not in trailers
        and b"\r\n\t" not in trailers
    )


def look_at(head: bytes) -> Head:
    """Look at the head of a request, all of it, in linear time."""
    lengths: list[bytes] = []
    codings: list[bytes] = []
    for name, value in _FIELD.findall(head):
        kind = name.lower()
        if kind == b"upgrade":
            if _WEBSOCKET.search(value) and not _is_1_0(head):
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
    if codings and _is_1_0(head):
        return "HTTP/1.0 has no transfer codings"
    return None
