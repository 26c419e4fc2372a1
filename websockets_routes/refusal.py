"""Refusals: whatever a handshake hook may return, turned into a response.

Hooks answer with a ``websockets`` Response or, as in release 0.2, with a tuple
``(status, headers, body)``. ``websockets`` itself aborts the connection without a
word when a hook returns anything else, so nothing unchecked may reach it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from email.utils import formatdate
from http import HTTPStatus
from typing import Any

from websockets import Headers, Response

from .exceptions import InvalidResponse

__all__ = ["text_response", "to_response"]

# RFC 9110 sections 5.1 and 5.5; what else h11 and websockets let through.
_HEADER_NAME = re.compile(r"[-!#$%&'*+.^_`|~0-9A-Za-z]+")
_HEADER_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")


def to_response(result: object) -> Response | None:
    """Check what a handshake hook returned.

    Args:
        result: None to go on with the handshake, or a response: a
            ``websockets.Response``, or ``(status, headers, body)`` with an int
            or HTTPStatus, headers as pairs or a mapping, and bytes or str.

    Raises:
        InvalidResponse: If it is something else.
    """
    if result is None:
        return None
    if isinstance(result, Response):
        # A hook may return the same one each time; websockets adds headers to it.
        return Response(
            result.status_code,
            result.reason_phrase,
            result.headers.copy(),
            result.body,
        )
    if not isinstance(result, tuple) or len(result) != 3:
        raise InvalidResponse(
            "a handshake hook must return None, a Response or a tuple "
            f"(status, headers, body), not {_shown(result)}"
        )
    status, fields, body = result
    return _build(_status(status), _headers(fields), _body(body))


def text_response(status: HTTPStatus, text: str) -> Response:
    """Make a response of one line of plain text."""
    return _build(status, Headers(), f"{text}\n".encode())


def _build(status: int, headers: Headers, body: bytes) -> Response:
    for name, value in (
        ("Date", formatdate(usegmt=True)),
        ("Connection", "close"),
        ("Content-Length", str(len(body))),
        ("Content-Type", "text/plain; charset=utf-8"),
    ):
        if name not in headers:
            headers[name] = value
    try:
        phrase = HTTPStatus(status).phrase
    except ValueError:  # a status of the user's own has no phrase
        phrase = ""
    return Response(int(status), phrase, headers, body)


def _status(status: object) -> int:
    # True is an int, and 101 would open the connection without its handshake.
    if type(status) is bool or not isinstance(status, int) or not 200 <= status < 600:
        raise InvalidResponse(
            f"the status must be an int from 200 to 599, not {_shown(status)}"
        )
    return status


def _headers(fields: Any) -> Headers:
    if isinstance(fields, Headers):  # its items() would refuse repeated ones
        fields = fields.raw_items()
    elif isinstance(fields, Mapping):
        fields = fields.items()
    try:
        pairs = [(name, value) for name, value in fields]
    except (TypeError, ValueError):
        pairs = [(fields, None)]
    if not all(isinstance(each, str) for pair in pairs for each in pair):
        raise InvalidResponse(
            f"the headers must be a mapping or pairs of str, not {_shown(fields)}"
        )
    for name, value in pairs:
        if not _HEADER_NAME.fullmatch(name) or not _HEADER_VALUE.fullmatch(value):
            raise InvalidResponse(
                f"the header {_shown(name)} has a character that no header may have"
            )
    return Headers(pairs)


def _body(body: object) -> bytes:
    if isinstance(body, str):
        try:
            return body.encode()
        except UnicodeEncodeError:
            raise InvalidResponse(
                f"the body is no valid Unicode: {_shown(body)}"
            ) from None
    if isinstance(body, bytes | bytearray | memoryview):
        return bytes(body)
    raise InvalidResponse(f"the body must be bytes or str, not {_shown(body)}")


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}…"
