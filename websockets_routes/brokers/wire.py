"""How a message looks on an engine: a short header, then the payload as it is."""

from __future__ import annotations

import struct

from .base import Envelope

__all__ = ["decode", "encode", "split_position"]

# Magic and version, flags, length of the id, length of the origin, timestamp.
_HEADER = struct.Struct(">2sBHHd")
_MAGIC = b"W1"
_TEXT = 1
_HAS_ORIGIN = 2
_COMPRESS = {None: 0, True: 4, False: 8}
_COMPRESS_OF = {flag: compress for compress, flag in _COMPRESS.items()}

# The longest id and origin, in bytes of UTF-8.
_LONGEST = 65_535


def encode(envelope: Envelope) -> bytes:
    """Write a message, but for its topic, offset and epoch.

    Raises:
        ValueError: If its id or origin is longer than 65,535 bytes.
    """
    name = envelope.id.encode()
    origin = b"" if envelope.origin is None else envelope.origin.encode()
    if len(name) > _LONGEST or len(origin) > _LONGEST:
        raise ValueError(f"an id and an origin have at most {_LONGEST} bytes")
    flags = (
        (_TEXT if envelope.text else 0)
        | (0 if envelope.origin is None else _HAS_ORIGIN)
        | _COMPRESS[envelope.compress]
    )
    header = _HEADER.pack(_MAGIC, flags, len(name), len(origin), envelope.timestamp)
    return b"".join((header, name, origin, envelope.data))


def decode(
    topic: str,
    frame: bytes,
    offset: int | None = None,
    epoch: str | None = None,
    start: int = 0,
) -> Envelope:
    """Read a message.

    Args:
        topic: Its topic.
        frame: What was written.
        offset: Its offset.
        epoch: Its epoch.
        start: Where in the frame the message begins.

    Raises:
        ValueError: If that is no message; says why.
    """
    try:
        magic, flags, size, more, timestamp = _HEADER.unpack_from(frame, start)
    except struct.error:
        raise ValueError("it is too short") from None
    if magic != _MAGIC:
        raise ValueError("it does not begin as a message does")
    first = start + _HEADER.size
    second = first + size
    third = second + more
    if third > len(frame):
        raise ValueError("it is cut off")
    data = frame[third:]
    if flags & _TEXT and not data.isascii():
        data.decode()  # a client would have to fail the connection
    origin = frame[second:third].decode() if flags & _HAS_ORIGIN else None
    text = bool(flags & _TEXT)
    name = frame[first:second].decode()
    compress = _COMPRESS_OF.get(flags & 12)
    return Envelope(topic, data, text, origin, name, timestamp, offset, epoch, compress)


def split_position(frame: bytes) -> tuple[int | None, str | None, int]:
    """Read the offset and epoch that an engine wrote before a message, if it did.

    Returns:
        Offset, epoch, and where the message begins.

    Raises:
        ValueError: If there is something else.
    """
    if not frame.startswith(b"H"):
        return None, None, 0
    end = frame.find(b"\n", 1, 256)
    epoch, colon, offset = frame[1:end].partition(b":")
    if end < 0 or not colon or not epoch or not offset.isdigit():
        raise ValueError("its position is malformed")
    return int(offset), epoch.decode("ascii"), end + 1
