"""Outbox: the way out of one connection, on which everything keeps its order.

What is published gathers in ``batch`` and leaves in one write at the end of the turn
of the event loop. Once the transport holds more than its limit, what comes is held
back in a backlog, where it can still be dropped or replaced, until the peer has read
enough. A ``send`` lets the batch out first, and takes its place behind a backlog.

What this module takes from ``websockets`` beyond its documentation, and
``tests/test_undocumented.py`` watches: ``transport``, ``paused``, ``drain_waiters``,
``write_limit_high`` and ``send_in_progress`` of a connection, and of its protocol
``data_to_send()``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any, cast

from websockets import CloseCode, State
from websockets.asyncio.server import ServerConnection

from ..answering import when_ended
from ..closing import close_in_time
from ..deflate import OWN, PLAIN, encoding_of
from ..exceptions import BacklogFull
from .backlog import Backlog, Outcome, Turn
from .frames import Batch, Message, join_frames

__all__ = ["MAX_BACKLOG", "Outbox", "flush_all", "outbox_of"]

#: Bytes that may wait for a slow peer, unless something else is said.
MAX_BACKLOG = 2**20

# Closing tasks, which the event loop itself does not hold on to.
_closing: set[asyncio.Task[None]] = set()


class Outbox:
    """The way out of one connection.

    Args:
        ws: The connection.
        max_backlog: Bytes that may wait for it.
        batched: Whether the connection lets the batch out before it sends anything
            else. Where it does not, messages are written at once.

    Attributes:
        ws: The connection.
        ready: Whether a message may be put into the batch; else ``put`` takes it.
        batch: What leaves at the end of this turn of the event loop, if anything.
        encoding: What its frames are like.
        limit: Bytes in the batch from which it is flushed at once.
        max_backlog: Bytes that may wait for the connection.
        backlog: What is held back; None if nothing has to be.
        ended: Whether nothing is taken any more.
    """

    # A fan-out looks at thousands of these, none of which is in the processor's
    # cache: whatever it needs of a connection is here, and nowhere else.
    __slots__ = (
        "_batched",
        "_encoding",
        "_listeners",
        "_turn",
        "_write",
        "backlog",
        "batch",
        "encoding",
        "ended",
        "limit",
        "max_backlog",
        "ready",
        "ws",
    )

    def __init__(
        self,
        ws: ServerConnection,
        max_backlog: int = MAX_BACKLOG,
        batched: bool = True,
    ) -> None:
        self.ws = ws
        self._encoding = encoding_of(ws.protocol)
        # Where each frame is logged, none is written without a look at it.
        self.encoding = OWN if ws.protocol.debug else self._encoding
        self.batch: Batch | None = None
        self.ready = batched
        self.max_backlog = max_backlog
        self.limit = min(ws.write_limit_high, max_backlog)
        if max_backlog < ws.write_limit_high:
            # Nothing could be dropped that the transport has taken already.
            ws.transport.set_write_buffer_limits(max_backlog)
        self.backlog: Backlog | None = None
        self._batched = batched
        self.ended = False
        # Whether a send has its turn.
        self._turn = False
        self._listeners: tuple[Callable[[Outbox], None], ...] = ()
        self._write: Callable[[bytes], None] = ws.transport.write
        if not batched:
            ws.connection_lost_waiter.add_done_callback(self.lost)
        else:
            when_ended(ws, self._end)
        if ws.paused:
            self.hold()

    # Messages

    def put(self, message: Message) -> tuple[Outcome, list[Message]]:
        """Take a message that cannot be put into the batch.

        Returns:
            What became of it, and the older messages that were dropped for it.
        """
        ws = self.ws
        if self.ended or ws.protocol.state is not State.OPEN:
            return Outcome.CLOSED, []
        if self.backlog is None:
            if ws.send_in_progress is None:
                self.write([message])
                return Outcome.QUEUED, []
            self.hold()
            self.release()
        assert self.backlog is not None
        size = message.size(self.encoding)
        room = self.max_backlog - ws.transport.get_write_buffer_size()
        outcome, displaced = self.backlog.put(message, size, room)
        if outcome is Outcome.CLOSED:
            self.give_up()
        return outcome, displaced

    def give_up(self) -> None:
        """Close the connection of a peer that reads too slowly."""
        self.ws.logger.info("closing a connection that reads too slowly")
        self._close(CloseCode.TRY_AGAIN_LATER, "too slow")

    def wait(self, message: Message) -> None:
        """Have a message that nobody published wait behind what is held back.

        Raises:
            BacklogFull: If too much waits already.
        """
        assert self.backlog is not None
        waiting = self.ws.transport.get_write_buffer_size() + self.backlog.size
        if waiting > self.max_backlog:
            raise BacklogFull(waiting, self.max_backlog)
        self.backlog.append(message, message.size(self.encoding))

    def flush(self) -> None:
        """Write the batch."""
        batch = self.batch
        if batch is None:
            return
        self.batch = None
        if self.encoding < 0:
            self.write(batch.messages)
            return
        try:
            for piece in batch.pieces(self.encoding):
                self._write(piece)
        except Exception:
            self._failed()

    def write(self, messages: list[Message]) -> None:
        """Write messages at once."""
        try:
            if self.encoding < 0:
                self._write(b"".join(self._own_frames(messages)))
            else:
                for piece in join_frames(messages, self.encoding):
                    self._write(piece)
        except Exception:
            self._failed()
            return
        if not self._batched and self.ws.paused:
            self.hold()

    def _failed(self) -> None:
        # No failure of one connection must stop a fan-out.
        self.ws.logger.error("a message could not be sent", exc_info=True)
        self.ws.transport.abort()
        self._end()

    def _own_frames(self, messages: list[Message]) -> list[bytes]:
        """Have the connection make frames: nobody else has its context."""
        protocol = self.ws.protocol
        pieces: list[bytes] = protocol.data_to_send()
        for message in messages:
            if message.is_shared(self._encoding):
                if protocol.debug:
                    protocol.logger.debug("> %s", message)
                pieces.append(message.frame(max(self._encoding, PLAIN)))
            else:
                send = protocol.send_text if message.text else protocol.send_binary
                send(message.payload)
                pieces += protocol.data_to_send()
        return pieces

    # Holding back

    def hold(self) -> None:
        """Hold back what comes, and the batch."""
        # What is written all the same has to be counted by who watches the peer.
        self._write = self.ws.transport.write
        if self.backlog is not None or self.ended:
            return
        self.ready = False
        self.backlog = backlog = Backlog()
        if self.batch is not None:
            for message in self.batch.messages:
                backlog.append(message, message.size(self.encoding))
            self.batch = None
        if not self._batched and self.ws.paused:
            self._await_drain()

    def _await_drain(self) -> None:
        # A connection of websockets' own class tells nobody else when its peer has
        # read enough.
        waiter = self.ws.loop.create_future()
        waiters = self.ws.drain_waiters
        waiters.append(waiter)

        def drained(future: asyncio.Future[None]) -> None:
            waiters.remove(waiter)
            future.exception()  # that of a lost connection: others tell of it
            self.release()

        waiter.add_done_callback(drained)

    def release(self, _: object = None) -> None:
        """Write what was held back, as far as the transport takes it."""
        backlog = self.backlog
        ws = self.ws
        if backlog is None or self._turn:
            return
        if ws.protocol.state is not State.OPEN:
            self._end()
            return
        if ws.send_in_progress is not None:
            # Nothing may stand between the fragments of a message.
            ws.send_in_progress.add_done_callback(self.release)
            return
        self._write = ws.transport.write
        while backlog and not ws.paused:
            entry = backlog.pop()
            if isinstance(entry, Turn):
                if not entry.done():  # else it was cancelled
                    self._turn = True
                    entry.set_result(None)
                    return
                continue
            batch = [entry]
            size = entry.size(self.encoding)
            while backlog and size < self.limit:
                entry = backlog.first()
                if isinstance(entry, Turn):
                    break
                size += entry.size(self.encoding)
                batch.append(entry)
                backlog.pop()
            self.write(batch)
            if self.ended:
                return
        if not ws.paused:
            self.backlog = None
            self.ready = self._batched
        elif not self._batched:
            self._await_drain()

    # Sends, one at a time

    async def take_turn(self) -> None:
        """Wait until all that was published or sent before is written.

        Until ``end_turn`` everything else is held back.
        """
        self.flush()
        if self.backlog is None:
            self.hold()
            self._turn = not self.ended
            return
        turn: Turn[None] = self.ws.loop.create_future()
        self.backlog.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if not turn.cancelled():  # it came in the same moment
                self.end_turn()
            raise

    async def drain(self) -> bool:
        """Wait until the peer has read enough to be sent more.

        Returns:
            Whether that had to be waited for.
        """
        self.flush()
        if (
            self.backlog is None
            and self.ws.transport.get_write_buffer_size() <= self.limit
        ):
            return False
        # uvloop notices only at the end of a turn that it holds too much.
        await asyncio.sleep(0)
        await self.take_turn()
        self.end_turn()
        return True

    def end_turn(self) -> None:
        """Let go on what was held back behind a send."""
        self._turn = False
        if self.ws.protocol.expect_continuation_frame and not self.ended:
            # A fragmented message was given up: nothing can follow it. websockets
            # says so too, but leaves it to the next send to find out.
            self._close(CloseCode.INTERNAL_ERROR, "error in fragmented message")
            return
        self.release()

    # The end

    def finish(self) -> None:
        """Write all that waits, whether or not it is read: the connection closes.

        Sends that wait find the connection closing when it is their turn.
        """
        self.flush()
        # Nothing may stand between the fragments of a message.
        if self.backlog is not None and self.ws.send_in_progress is None:
            self._write = self.ws.transport.write
            entries = self.backlog.clear()
            self.write([entry for entry in entries if isinstance(entry, Message)])
            for entry in entries:
                if isinstance(entry, Turn):
                    self.backlog.append(entry)
        self._end()

    def _close(self, code: int, reason: str) -> None:
        """Close the connection: nothing may be sent after a gap."""
        ws = self.ws
        protocol = ws.protocol
        if protocol.expect_continuation_frame:
            protocol.fail(code, reason)
        else:
            protocol.send_close(code, reason)
        with suppress(Exception):  # of a transport that is closing anyway
            ws.send_data()
        self._end()
        task = ws.loop.create_task(close_in_time(ws, code, reason))
        _closing.add(task)
        task.add_done_callback(_closing.discard)

    def when_lost(self, call: Callable[[Outbox], None]) -> None:
        """Have a function called once the connection is lost; adding twice is once."""
        if call not in self._listeners:
            self._listeners = (*self._listeners, call)

    def lost(self, _: object = None) -> None:
        """Take note that the connection is lost."""
        self._end()
        for call in self._listeners:
            call(self)
        cast(Any, self.ws).outbox = None  # ends a cycle

    def _end(self) -> None:
        """Take nothing any more, and tell what a slow peer lost."""
        self.ended = True
        self.ready = False
        self.batch = None
        if self.backlog is None:
            return
        entries = self.backlog.clear()
        self.backlog = None
        for entry in entries:
            if isinstance(entry, Turn):
                if not entry.done():
                    entry.set_result(None)
            else:
                entry.lost(self.ws)


def flush_all(outboxes: Iterable[Outbox]) -> None:
    """Write the batches of many connections, as ``flush`` does for one.

    This is the loop in which a fan-out spends its time: where one subscriber gets
    the same as the one before, nothing is called but its transport.
    """
    previous: Batch | None = None
    encoding, data = PLAIN, b""
    for outbox in outboxes:
        batch = outbox.batch
        if batch is None:
            continue
        try:
            if batch is not previous or outbox.encoding != encoding:
                pieces = batch.pieces(outbox.encoding) if outbox.encoding >= 0 else ()
                if len(pieces) != 1:
                    outbox.flush()
                    continue
                previous, encoding, data = batch, outbox.encoding, pieces[0]
            outbox.batch = None
            outbox._write(data)
        except Exception:
            outbox._failed()


def outbox_of(ws: ServerConnection, max_backlog: int = MAX_BACKLOG) -> Outbox:
    """Return the outbox of a connection; make it first if it has none.

    A connection of this package lets the batch out before it sends anything else.
    One of websockets' own class does not: for it, messages are written at once.

    Args:
        ws: The connection.
        max_backlog: Bytes that may wait for a connection that has no limit itself.
    """
    outbox: Outbox | None = getattr(ws, "outbox", None)
    if outbox is None:
        batched = hasattr(ws, "max_backlog")
        outbox = Outbox(ws, getattr(ws, "max_backlog", max_backlog), batched)
        cast(Any, ws).outbox = outbox
    return outbox
