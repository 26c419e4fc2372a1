"""Messages, encoded once and compressed once for all of their subscribers.

A frame from a server is not masked (RFC 6455 section 5.1), so that the same bytes are
right for every connection that negotiated the same.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from functools import cache
from typing import Any, Protocol

from websockets import Frame, Opcode
from websockets.extensions.permessage_deflate import PerMessageDeflate
from websockets.typing import DataLike

from ..deflate import OWN_DEFLATE, PAYS_FROM, PLAIN
from ..opcodes import OpCode
from .overflow import Overflow

__all__ = ["Batch", "Message", "Publisher", "encode_payload", "join_frames"]

# From so many bytes on, a frame is written on its own rather than copied to stand
# in one write with its neighbours.
_LARGE = 2**16


class Publisher(Protocol):
    """What wants to know about messages that a subscriber lost."""

    def lost(self, ws: Any, message: Message) -> None: ...


class Message:
    """One message on its way to any number of connections.

    Args:
        payload: What to send; for text, in UTF-8.
        text: Whether it is text.
        topic: The topic that it was published to; None if it was sent directly.
        compress: True or False to insist; None lets its size decide.
        overflow: What happens where there is no room for it; None if nothing may.
        key: What tells which older messages it replaces, with ``Overflow.CONFLATE``.
        publisher: Who is told if a subscriber loses it.
    """

    __slots__ = (
        "_frames",
        "compress",
        "key",
        "overflow",
        "payload",
        "publisher",
        "text",
        "topic",
    )

    def __init__(
        self,
        payload: bytes,
        text: bool,
        topic: str | None = None,
        compress: bool | None = None,
        overflow: Overflow | None = None,
        key: Hashable = None,
        publisher: Publisher | None = None,
    ) -> None:
        self.payload = payload
        self.text = text
        self.topic = topic
        self.compress = compress
        self.overflow = overflow
        self.key = key
        self.publisher = publisher
        self._frames: dict[int, bytes] = {}

    def __str__(self) -> str:
        """Show the message as ``websockets`` shows frames in its log."""
        return str(Frame(Opcode.TEXT if self.text else Opcode.BINARY, self.payload))

    @property
    def original(self) -> str | bytes:
        """The message as a subscriber would receive it."""
        return self.payload.decode() if self.text else self.payload

    def lost(self, ws: Any) -> None:
        """Take note that a connection lost it; whoever published it is told."""
        if self.publisher is not None:
            self.publisher.lost(ws, self)

    def frame(self, encoding: int) -> bytes:
        """Return the frame for connections of one encoding that can share it."""
        frame = self._frames.get(encoding)
        if frame is None:
            frame = self._frames[encoding] = self._make(encoding)
        return frame

    def size(self, encoding: int) -> int:
        """Return how many bytes it is going to be, about, for an encoding."""
        return len(self.payload) if encoding < 0 else len(self.frame(encoding))

    def is_shared(self, encoding: int) -> bool:
        """Tell whether its frame can be made here; else the connection has to."""
        return encoding >= 0 or (self.compress is False and encoding == OWN_DEFLATE)

    def _make(self, encoding: int) -> bytes:
        frame = Frame(Opcode.TEXT if self.text else Opcode.BINARY, self.payload)
        if encoding == PLAIN:
            return frame.serialize(mask=False)
        plain = self.frame(PLAIN)
        if self.compress is False or (
            self.compress is None and len(self.payload) < PAYS_FROM
        ):
            return plain
        compressed = frame.serialize(mask=False, extensions=[_compressor(encoding)])
        return compressed if self.compress else min(plain, compressed, key=len)


class Batch:
    """Messages that leave together: one more than those of the batch before.

    Outboxes that get the same messages in one turn have the same batch, whose bytes
    are put together once; nothing is made for each of them.

    Args:
        previous: The batch before, if any.
        message: The message that is added to it.

    Attributes:
        size: Bytes of its messages, before compression.
        following: The batch that was last made from this one; it must be taken away
            in the end, because the two refer to each other.
    """

    __slots__ = ("_pieces", "_previous", "following", "message", "size")

    def __init__(self, previous: Batch | None, message: Message) -> None:
        self._previous = previous
        self.message = message
        self.size = len(message.payload)
        if previous is not None:
            self.size += previous.size
        self.following: Batch | None = None
        self._pieces: dict[int, list[bytes]] = {}

    @property
    def messages(self) -> list[Message]:
        """The messages, in order."""
        messages = []
        batch: Batch | None = self
        while batch is not None:
            messages.append(batch.message)
            batch = batch._previous
        messages.reverse()
        return messages

    def pieces(self, encoding: int) -> list[bytes]:
        """Return what to write, for an encoding whose frames are shared."""
        pieces = self._pieces.get(encoding)
        if pieces is None:
            pieces = self._pieces[encoding] = join_frames(self.messages, encoding)
        return pieces


def join_frames(messages: Iterable[Message], encoding: int) -> list[bytes]:
    """Put the frames of messages together, in as few pieces as pays."""
    pieces: list[bytes] = []
    small: list[bytes] = []
    for message in messages:
        frame = message.frame(encoding)
        if len(frame) < _LARGE:
            small.append(frame)
            continue
        if small:
            pieces.append(b"".join(small))
            small = []
        pieces.append(frame)
    if small:
        pieces.append(b"".join(small))
    return pieces


@cache
def _compressor(window_bits: int) -> PerMessageDeflate:
    # Without context takeover it keeps nothing from one message to the next.
    return PerMessageDeflate(True, True, window_bits, window_bits)


def encode_payload(message: DataLike, opcode: int | None) -> tuple[bytes, bool]:
    """Encode a message once; tell whether it is text.

    Raises:
        TypeError: If it is neither str nor bytes-like.
        ValueError: If the opcode is that of no message, or if text has to go out
            that is no valid Unicode.
    """
    if isinstance(message, str):
        text = True
        payload = message.encode()
    elif isinstance(message, bytes | bytearray | memoryview):
        text = False
        payload = bytes(message)
    else:
        kind = type(message).__name__
        raise TypeError(f"a message is str or bytes-like, not {kind}")
    if opcode is None:
        return payload, text
    if opcode == OpCode.TEXT:
        if not text:
            payload.decode()  # so that nobody gets what would fail its connection
        return payload, True
    if opcode == OpCode.BINARY:
        return payload, False
    raise ValueError(f"a message is TEXT or BINARY, not {opcode!r}")
