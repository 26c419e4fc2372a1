"""Payloads: bytes of what handlers return, or an error that says why not."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from websockets_routes.exceptions import InvalidResponse
from websockets_routes.http.payloads import as_body, as_json, as_piece
from websockets_routes.serializer import Serializer

from .responses import JSON


@pytest.mark.parametrize(
    ("payload", "body", "json"),
    [
        ("é", "é".encode(), b'"\\u00e9"'),
        ({"a": 1}, b'{"a": 1}', b'{"a": 1}'),
        (None, b"null", b"null"),
    ],
)
def test_json_is_made_where_it_is_wanted(
    payload: Any, body: bytes, json: bytes
) -> None:
    assert as_body(payload, JSON) == body
    assert as_json(payload, JSON) == json
    assert as_piece(payload, JSON) == (
        body if isinstance(payload, str) else json + b"\n"
    )


@pytest.mark.parametrize("payload", [b"a", bytearray(b"a"), memoryview(b"a")])
def test_what_is_like_bytes_becomes_bytes(payload: Any) -> None:
    for convert in (as_body, as_piece):
        assert convert(payload, JSON) == b"a"
        assert type(convert(payload, JSON)) is bytes


def test_json_that_is_nested_too_deeply_raises() -> None:
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(InvalidResponse, match="no JSON can be made of"):
        as_json(deep, JSON)


@pytest.mark.parametrize("text", [None, 7, "\ud800"])
def test_a_serializer_that_makes_no_text_raises(text: Any) -> None:
    serializer = Serializer(SimpleNamespace(dumps=lambda _: text, loads=str))
    with pytest.raises(InvalidResponse, match="no JSON can be made of"):
        as_json({}, serializer)
