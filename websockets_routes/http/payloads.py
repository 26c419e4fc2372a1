"""Payloads: the bytes of what handlers return."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

from ..exceptions import InvalidResponse
from ..naming import shown
from ..refusal import checked_body
from ..serializer import Serializer

__all__ = ["Convert", "as_body", "as_json", "as_piece"]

#: Makes the bytes of a payload, or of an item of one.
Convert: TypeAlias = Callable[[Any, Serializer], bytes]

_AS_IT_IS = (str, bytes, bytearray, memoryview)  # a union is built anew at each call


def as_body(payload: Any, serializer: Serializer) -> bytes:
    """Take str and bytes as they are, anything else as JSON.

    Raises:
        InvalidResponse: If it makes no JSON, or is no valid Unicode.
    """
    if isinstance(payload, _AS_IT_IS):
        return checked_body(payload)
    return as_json(payload, serializer)


def as_json(payload: Any, serializer: Serializer) -> bytes:
    """Make JSON, of a str too.

    Raises:
        InvalidResponse: If the serializer cannot, for whatever reason.
    """
    try:
        text = serializer.dumps(payload)
        return text.encode() if type(text) is str else checked_body(text)
    except Exception as error:
        raise InvalidResponse(f"no JSON can be made of {shown(payload)}") from error


def as_piece(item: Any, serializer: Serializer) -> bytes:
    """Take str and bytes of a stream as they are, anything else as a line of JSON.

    Raises:
        InvalidResponse: If it makes no JSON, or is no valid Unicode.
    """
    if isinstance(item, _AS_IT_IS):
        return checked_body(item)
    return as_json(item, serializer) + b"\n"
