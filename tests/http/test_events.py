"""Server-sent events: their lines, and what none of them may have."""

from __future__ import annotations

from typing import Any

import pytest

from websockets_routes.exceptions import InvalidResponse
from websockets_routes.http.events import Event
from websockets_routes.http.response import Response

from .responses import each, streamed


async def test_events_are_streamed() -> None:
    response = Response.events(
        each(
            "one\ntwo\r\nthree\rfour\u2028",
            {"a": 1},
            b"raw",
            Event("x", event="news", id="7", retry=0),
            Event([], id=""),
            "",
        )
    )
    assert response.headers["Content-Type"] == "text/event-stream"
    assert response.headers["Cache-Control"] == "no-store"
    assert await streamed(response) == [
        "data: one\ndata: two\ndata: three\ndata: four\u2028\n\n".encode(),
        b'data: {"a": 1}\n\n',
        b"data: raw\n\n",
        b"event: news\nid: 7\nretry: 0\ndata: x\n\n",
        b"id: \ndata: []\n\n",
        b"data: \n\n",
    ]


def test_a_handler_may_have_its_events_cached() -> None:
    response = Response.events(each(), {"cache-control": "no-cache"})
    assert response.headers.get_all("Cache-Control") == ["no-cache"]


@pytest.mark.parametrize("item", [b"\xff", "\ud800", Event("x", id="\udc80"), {1}])
async def test_an_event_that_cannot_be_sent_raises(item: Any) -> None:
    with pytest.raises(InvalidResponse):
        await streamed(Response.events(each(item)))


@pytest.mark.parametrize(
    "fields",
    [
        {"event": "a\nb"},
        {"event": "a\r"},
        {"id": "a\n\ndata: b"},
        {"id": "a\0"},
        {"id": 7},
        {"retry": -1},
        {"retry": True},
        {"retry": 1.5},
    ],
)
def test_an_event_that_cannot_be_raises(fields: dict[str, Any]) -> None:
    with pytest.raises(InvalidResponse):
        Event("x", **fields)
