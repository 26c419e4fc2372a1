"""OpCode: what kind of event a connection meets."""

from __future__ import annotations

from enum import IntEnum

__all__ = ["OpCode"]


class OpCode(IntEnum):
    """The opcodes of RFC 6455 section 11.8, and one of our own.

    They equal those of ``websockets.Opcode``.
    """

    CONTINUATION = 0
    TEXT = 1
    BINARY = 2
    CLOSE = 8
    PING = 9
    PONG = 10
    #: The connection opened. No frame has it: opcodes have four bits.
    OPEN = 255
