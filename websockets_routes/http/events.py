"""Server-sent events: what a page hears through an ``EventSource``."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from ..exceptions import InvalidResponse
from ..naming import shown
from ..refusal import checked_body
from ..serializer import Serializer
from .payloads import as_body

__all__ = ["Event", "as_event"]

_NEWLINE = re.compile(r"\r\n|\r|\n")  # those of an event stream, and no others


@dataclass(frozen=True, slots=True)
class Event:
    """A server-sent event (HTML standard, section 9.2).

    Args:
        data: Text, one line or several, or anything else, sent as JSON.
        event: Its type; ``message`` to a browser if it has none.
        id: What the client says in ``Last-Event-ID`` when it comes back.
        retry: Milliseconds after which it shall come back.

    Raises:
        InvalidResponse: If a type or an id has a CR, LF or NUL, or retry is no
            number of milliseconds.
    """

    data: Any
    event: str | None = None
    id: str | None = None
    retry: int | None = None

    def __post_init__(self) -> None:
        for text in (self.event, self.id):
            if text is not None and (
                not isinstance(text, str) or set(text) & {"\r", "\n", "\0"}
            ):
                raise InvalidResponse(f"an event is told in one line: {shown(text)}")
        retry = self.retry
        if retry is not None and (type(retry) is not int or retry < 0):
            raise InvalidResponse(f"retry= takes milliseconds, not {shown(retry)}")


def as_event(item: Any, serializer: Serializer) -> bytes:
    """Make the lines of an event, or of one that has nothing but the item as data.

    Raises:
        InvalidResponse: If the data make no JSON, or something of it is no valid
            Unicode.
    """
    event = item if isinstance(item, Event) else Event(item)
    data = event.data
    if not isinstance(data, str):  # bytes that are no UTF-8 fail below
        data = as_body(data, serializer).decode(errors="surrogateescape")
    fields = [
        (name, value)
        for name, value in (
            ("event", event.event),
            ("id", event.id),
            ("retry", event.retry),
        )
        if value is not None
    ]
    fields += [("data", line) for line in _NEWLINE.split(data)]
    return checked_body("".join(f"{name}: {value}\n" for name, value in fields) + "\n")
