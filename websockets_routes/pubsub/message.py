"""Message: what is kept in a topic's history, and how clients learn its offset."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any, NamedTuple

from ..brokers.base import Envelope
from ..opcodes import OpCode

__all__ = ["Enveloping", "Message", "json_envelope", "message_of"]


class Message(NamedTuple):
    """A published message.

    Attributes:
        topic: The name of its topic.
        offset: Its number in its topic; None without history.
        epoch: What its offset counts in; None without history.
        data: What was published: str if it is text, bytes if it is binary.
        opcode: ``OpCode.TEXT`` or ``OpCode.BINARY``.
        timestamp: When it was published, in seconds since the epoch (1970), by the
            clock of its publisher.
    """

    topic: str
    offset: int | None
    epoch: str | None
    data: str | bytes
    opcode: OpCode
    timestamp: float


#: ``envelope(message)``: what goes on the wire.
Enveloping = Callable[[Message], str | bytes]


def message_of(envelope: Envelope) -> Message:
    """Return what users see of a message on its way."""
    text = envelope.text
    return Message(
        envelope.topic,
        envelope.offset,
        envelope.epoch,
        envelope.data.decode() if text else envelope.data,
        OpCode.TEXT if text else OpCode.BINARY,
        envelope.timestamp,
    )


def json_envelope(message: Message) -> str:
    """Put a message into JSON, with all that a client needs to resume.

    ``{"topic": …, "offset": …, "epoch": …, "timestamp": …, "data": …}``. A text is a
    JSON string; what is binary is in base64, and there is ``"base64": true``.
    """
    fields: dict[str, Any] = {
        "topic": message.topic,
        "offset": message.offset,
        "epoch": message.epoch,
        "timestamp": message.timestamp,
        "data": message.data,
    }
    if isinstance(message.data, bytes):
        fields["data"] = base64.b64encode(message.data).decode("ascii")
        fields["base64"] = True
    return json.dumps(fields)
