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
from .naming import shown
from .tokens import TOKEN

__all__ = [
    "checked_body",
    "checked_headers",
    "checked_status",
    "text_response",
    "to_response",
]

# RFC 9110 section 5.5; what else h11 and websockets let through.
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
            f"(status, headers, body), not {shown(result)}"
        )
    status, fields, body = result
    return _build(checked_status(status), checked_headers(fields), checked_body(body))


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


def checked_status(status: object) -> int:
    """Check a status: an int from 200 to 599.

    Raises:
        InvalidResponse: If it is something else, a bool say.
    """
    # True is an int, and 101 would open the connection without its handshake.
    if type(status) is bool or not isinstance(status, int) or not 200 <= status < 600:
        raise InvalidResponse(
            f"the status must be an int from 200 to 599, not {shown(status)}"
        )
    return status


def checked_headers(fields: Any) -> Headers:
    """Check headers, and make new ones of them.

    Args:
        fields: A mapping or pairs, of str.

    Raises:
        InvalidResponse: If they are something else, a name is no token, or a value
            has a character that none may have, CR, LF and NUL above all.
    """
    if isinstance(fields, Headers):  # its items() would refuse repeated ones
        fields = fields.raw_items()
    elif isinstance(fields, Mapping):
        fields = fields.items()
    try:
        pairs = [(name, value) for name, value in fields]
    except (TypeError, ValueError):
        pairs = [(fields, None)]
    headers = Headers()
    for name, value in pairs:
        if not isinstance(name, str) or not isinstance(value, str):
            raise InvalidResponse(
                f"the headers must be a mapping or pairs of str, not {shown(fields)}"
            )
        if not TOKEN.fullmatch(name) or not _HEADER_VALUE.fullmatch(value):
            raise InvalidResponse(
                f"the header {shown(name)} has a character that no header may have"
            )
        headers[name] = value
    return headers


def checked_body(body: object) -> bytes:
    """Make bytes of a body: str as UTF-8, whatever is like bytes as it is.

    Raises:
        InvalidResponse: If it is something else, or no valid Unicode.
    """
    if isinstance(body, str):
        try:
            return body.encode()
        except UnicodeEncodeError:
            raise InvalidResponse(
                f"the body is no valid Unicode: {shown(body)}"
            ) from None
    if isinstance(body, bytes | bytearray | memoryview):
        return bytes(body)
    raise InvalidResponse(f"the body must be bytes or str, not {shown(body)}")
