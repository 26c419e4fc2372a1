"""Sending: a connection that sends everything in order, and ends peers that stall.

What this module takes from ``websockets`` beyond its documentation, and
``tests/test_undocumented.py`` watches: ``connection_made``, ``pause_writing`` and
``resume_writing``, called as the asyncio documentation has it; ``transport``, through
which every write goes; ``paused``; and ``protocol.data_to_send()``.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, Iterable
from typing import cast

from websockets import CloseCode, State
from websockets.asyncio.server import ServerConnection
from websockets.typing import DataLike

from .closing import closed_error
from .exceptions import BacklogFull
from .opcodes import OpCode
from .pacing import PacedTransport, StallWatch, TLSTransport
from .pubsub.frames import Message
from .pubsub.outbox import MAX_BACKLOG, Outbox, outbox_of

__all__ = ["STALL_TIMEOUT", "SendingConnection"]

#: Seconds without a byte taken, after which a peer is given up.
STALL_TIMEOUT = 20.0

# A message that is not sent in fragments.
_WHOLE = (str, bytes, bytearray, memoryview)

# The heads of whole frames, not masked, that are shorter than 126 bytes.
_TEXT = [bytes((0x80 | OpCode.TEXT, size)) for size in range(126)]
_BINARY = [bytes((0x80 | OpCode.BINARY, size)) for size in range(126)]


class SendingConnection(ServerConnection):
    """A server connection on which ``send`` and what is published keep their order."""

    #: Bytes that may wait for a slow peer: what is published after that meets the
    #: overflow of its topic, ``send_nowait`` raises ``BacklogFull``.
    max_backlog: int = MAX_BACKLOG
    #: Seconds after which a peer is aborted that takes no byte while more than
    #: ``write_limit`` waits for it; None to wait for ever.
    stall_timeout: float | None = STALL_TIMEOUT
    #: For this package: what waits to be written; None until there is a reason.
    outbox: Outbox | None = None
    _stall_watch: StallWatch | None = None

    # Sending

    async def send(
        self,
        message: DataLike | Iterable[DataLike] | AsyncIterable[DataLike],
        *,
        text: bool | None = None,
    ) -> None:
        """Send a message, as ``websockets`` does, behind whatever was sent before.

        What was published to this connection goes out first. Where that is held
        back, because the peer is slow, ``send`` waits for its turn; cancelled until
        then, it sends nothing.

        Args:
            message: See ``websockets``.
            text: See ``websockets``.
        """
        whole = isinstance(message, _WHOLE)
        if self.outbox is None and (whole or self.protocol.state is not State.OPEN):
            await super().send(message, text=text)
            return
        outbox = outbox_of(self)
        outbox.flush()
        if outbox.backlog is None and whole:
            await super().send(message, text=text)
            return
        await outbox.take_turn()
        try:
            await super().send(message, text=text)
        finally:
            outbox.end_turn()

    async def send_message(self, message: DataLike, opcode: OpCode) -> None:
        """Send a message with the opcode ``TEXT`` or ``BINARY``, whatever its type.

        Args:
            message: The message: str, or bytes that are UTF-8 for ``TEXT``.
            opcode: Its opcode.

        Raises:
            ConnectionClosed: If the connection is closed.
            ValueError: If the opcode is that of no message.
        """
        if opcode != OpCode.TEXT and opcode != OpCode.BINARY:
            raise ValueError(f"a message is TEXT or BINARY, not {OpCode(opcode).name}")
        await self.send(message, text=opcode == OpCode.TEXT)

    def send_nowait(self, message: DataLike, *, text: bool | None = None) -> None:
        """Send a message from a plain function, which cannot await.

        It goes out at once, in order with what was sent before; behind the last
        fragment, while a fragmented message is being sent. Nothing waits for a slow
        peer: ``max_backlog`` bounds what may wait to be sent.

        Args:
            message: A str goes out as a text frame, bytes as a binary frame.
            text: Force the one or the other, as in ``send``.

        Raises:
            BacklogFull: If too much waits to be sent. Nothing was sent; unhandled,
                it closes the connection with 1013.
            ConnectionClosed: If the connection is closed or closing.
            TypeError: If the message is neither str nor bytes-like.
        """
        if isinstance(message, str):
            is_text = text is not False
            message = message.encode()
        elif isinstance(message, bytes | bytearray | memoryview):
            is_text = text is True
        else:
            raise TypeError(f"a message is str or bytes, not {type(message).__name__}")
        protocol = self.protocol
        transport = self.transport
        if protocol.state is not State.OPEN or transport.is_closing():
            raise closed_error(self)
        outbox = self.outbox
        if outbox is not None:
            outbox.flush()
            if outbox.backlog is not None:
                outbox.wait(Message(bytes(message), is_text))
                return
        backlog = transport.get_write_buffer_size()
        if backlog > self.max_backlog:
            raise BacklogFull(backlog, self.max_backlog)
        size = len(message)
        if (
            size < 126
            and isinstance(message, bytes)
            and not (protocol.extensions or protocol.debug)
            and not protocol.expect_continuation_frame
        ):
            # What the protocol would make of it (RFC 6455 section 5.2), for less.
            transport.write((_TEXT if is_text else _BINARY)[size] + message)
            return
        if is_text:
            protocol.send_text(message)
        else:
            protocol.send_binary(message)
        for data in protocol.data_to_send():
            transport.write(data)

    # The end

    async def close(
        self, code: CloseCode | int = CloseCode.NORMAL_CLOSURE, reason: str = ""
    ) -> None:
        """Close the connection, as ``websockets`` does, and in time.

        What was published before goes out first. A peer that does not read is
        aborted after ``close_timeout``.

        Args:
            code: The close code.
            reason: The close reason.
        """
        if self.outbox is not None and self.protocol.state is State.OPEN:
            self.outbox.finish()
        timeout = self.close_timeout
        # A peer that has read everything can do without: a close frame is small.
        if timeout is None or not self.transport.get_write_buffer_size():
            await super().close(code, reason)
            return
        timer = self.loop.call_later(timeout, self._abort_if_paused)
        try:
            await super().close(code, reason)
        finally:
            timer.cancel()

    def _abort_if_paused(self) -> None:
        # Else it is not drain() that close() waits for, but what has a timeout.
        if self.paused:
            self.transport.abort()

    def _abort_stalled(self) -> None:
        self.logger.info("aborting a connection whose peer takes nothing")
        self.transport.abort()

    # What the event loop calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        if transport.get_extra_info("sslcontext") is not None:
            self.transport = cast(asyncio.Transport, TLSTransport(self.transport))

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_watching()
        super().connection_lost(exc)
        if self.outbox is not None:
            self.outbox.lost()

    def pause_writing(self) -> None:
        transport = self.transport
        if isinstance(transport, TLSTransport):
            transport.pause()
            if self.paused:  # it goes on with what it has kept
                return
        super().pause_writing()
        if self.stall_timeout is not None:
            self._stall_watch = StallWatch(
                self.loop, self._pace(), self.stall_timeout, self._abort_stalled
            )
        if self.outbox is not None:
            self.outbox.hold()

    def resume_writing(self) -> None:
        transport = self.transport
        if isinstance(transport, TLSTransport):
            if not transport.resume():
                return
        elif isinstance(transport, PacedTransport):
            self.transport = transport.transport
        self._stop_watching()
        super().resume_writing()
        if self.outbox is not None:
            self.outbox.release()

    def _pace(self) -> PacedTransport:
        transport = self.transport
        if not isinstance(transport, PacedTransport):
            paced = PacedTransport(transport)
            self.transport = cast(asyncio.Transport, paced)
            return paced
        return transport

    def _stop_watching(self) -> None:
        if self._stall_watch is not None:
            self._stall_watch.cancel()
            self._stall_watch = None
