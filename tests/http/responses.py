"""Responses as a client would get them, without a connection."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from websockets_routes.http.encoding import Encoded, encoded
from websockets_routes.http.response import Response
from websockets_routes.serializer import Serializer

JSON = Serializer()


def sent(response: Response, accept: str | None = None, head: bool = False) -> Encoded:
    return encoded(response, JSON, accept, head=head)


async def streamed(response: Response, accept: str | None = None) -> list[bytes]:
    stream = sent(response, accept).stream
    assert stream is not None
    try:
        return [piece async for piece in stream]
    finally:
        await stream.aclose()


async def each(*items: Any) -> AsyncIterator[Any]:
    for item in items:
        yield item
