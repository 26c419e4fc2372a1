"""Dispatcher: calls the events of one connection, one at a time, in order.

A plain function is called straight from the callback in which ``websockets``
hands over a frame. A coroutine runs in the handler's task; until it has ended,
what arrives is queued, and reading pauses where ``max_queue`` says.

What this module takes from ``websockets`` beyond its documentation, and
``tests/test_undocumented.py`` watches: it puts its own ``process_event``,
``pause_writing``, ``resume_writing`` and ``close`` in the place of those of a
connection (they are looked up at each call), takes over what ``recv_messages``
holds, and its marks, calls ``acknowledge_pings``, and reads ``paused``,
``connection_lost_waiter``, and of the protocol ``close_rcvd``, ``close_sent``,
``close_rcvd_then_sent`` and ``parser_exc``.
"""

from __future__ import annotations

import asyncio
import inspect
from collections import deque
from typing import Any

from websockets import CloseCode, Frame, Opcode, State
from websockets.asyncio.messages import MAX_FRAGMENTS
from websockets.asyncio.server import ServerConnection

from .closing import close_in_time, close_reason
from .events import Event, Events
from .exceptions import RoutesError
from .opcodes import OpCode

__all__ = ["Dispatcher"]

_TEXT, _BINARY, _CONTINUATION = Opcode.TEXT, Opcode.BINARY, Opcode.CONT
_PING, _PONG = Opcode.PING, Opcode.PONG
# Looked up once: an attribute of an enum is slow in Python 3.11.
_ON_TEXT, _ON_BINARY = OpCode.TEXT, OpCode.BINARY
_ON_PING, _ON_PONG = OpCode.PING, OpCode.PONG
# In the queue, for an event that comes without a frame.
_DRAINED = Frame(Opcode.PONG, b"")


class Dispatcher:
    """The events of one connection.

    Args:
        ws: The connection, whose handshake is over.
        events: What to call.
    """

    __slots__ = (
        "_awaitable",
        "_error",
        "_events",
        "_fragments",
        "_high",
        "_low",
        "_queue",
        "_reading_paused",
        "_ready",
        "_rejection",
        "_waiter",
        "_writing_paused",
        "_ws",
    )

    def __init__(self, ws: ServerConnection, events: Events) -> None:
        self._ws = ws
        self._events = events
        # Whether an event may be called at once, from the callback it comes in.
        self._ready = False
        self._queue: deque[tuple[Event, Frame]] = deque()
        self._fragments: list[Frame] = []
        # The same marks as those of the queue that recv() takes from.
        self._high, self._low = ws.recv_messages.high, ws.recv_messages.low or 0
        self._reading_paused = False
        self._writing_paused = False
        # What the task has to take care of: a coroutine event that was called, the
        # failure of a plain one, or what the peer did wrong.
        self._awaitable: Any = None
        self._error: Exception | None = None
        self._rejection: tuple[int, str] | None = None
        self._waiter: asyncio.Future[None] | None = None

    async def run(self) -> None:
        """Call the events until the connection has ended.

        ``on_close`` comes last and exactly once, also after a failure or a
        cancellation.

        Raises:
            Exception: What an event raised. The connection is closed by then: with
                the close code of an error of ours, with 1011 otherwise.
        """
        ws, events = self._ws, self._events
        self._attach()
        try:
            if events.open is not None:
                await _settle(events.open(ws))
            await self._work()
        except Exception as error:
            if isinstance(error, RoutesError):
                await self._close_in_time(error.close_code, close_reason(str(error)))
            else:
                await self._close_in_time(CloseCode.INTERNAL_ERROR)
            raise
        finally:
            if ws.state is not State.CLOSED:  # cancelled: there is no time to lose
                ws.transport.abort()
            self._detach()
            if events.close is not None:
                await _settle(events.close(ws, *_close_code(ws)))

    def _attach(self) -> None:
        ws = self._ws
        vars(ws).update(
            process_event=self._receive,
            pause_writing=self._pause_writing,
            resume_writing=self._resume_writing,
            close=self._close,
        )
        ws.connection_lost_waiter.add_done_callback(self._wake)
        self._writing_paused = ws.paused
        # A client may send before it has seen the end of the handshake.
        early = list(ws.recv_messages.frames.queue)
        ws.recv_messages.frames.queue.clear()
        ws.recv_messages.maybe_resume()
        for frame in early:
            self._receive(frame)

    def _detach(self) -> None:
        # Taking these away also ends the cycle between connection and dispatcher.
        for name in ("process_event", "pause_writing", "resume_writing", "close"):
            del vars(self._ws)[name]
        self._discard()
        if inspect.iscoroutine(self._awaitable):
            self._awaitable.close()

    async def _work(self) -> None:
        """Do what cannot be done in a callback, until the connection is lost."""
        lost = self._ws.connection_lost_waiter
        while True:
            self._ready = False
            if self._error is not None:
                raise self._error
            if self._awaitable is not None:
                awaitable, self._awaitable = self._awaitable, None
                await awaitable
            elif self._queue and (
                not self._writing_paused or self._rejection is not None or lost.done()
            ):
                self._deliver(*self._take())
            elif self._rejection is not None:
                code, reason = self._rejection
                await self._close_in_time(code, reason, fail=True)
                return
            elif lost.done():
                return
            else:
                self._ready = not self._writing_paused
                self._waiter = asyncio.get_running_loop().create_future()
                await self._waiter

    def _wake(self, _: object = None) -> None:
        self._ready = False
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    # What comes in

    def _receive(self, frame: Frame) -> None:
        """Take a frame: the connection's ``process_event``."""
        opcode = frame.opcode
        if opcode is _PONG:
            self._ws.acknowledge_pings(bytes(frame.data))
        if self._is_over():
            return
        events = self._events
        event: Event | None
        if opcode is _TEXT or opcode is _BINARY or opcode is _CONTINUATION:
            if not frame.fin or opcode is _CONTINUATION:
                whole = self._assemble(frame)
                if whole is None:
                    return
                frame, opcode = whole, whole.opcode
            if opcode is _TEXT:
                event, other = events.text, events.binary
            else:
                event, other = events.binary, events.text
            if event is None and other is not None:
                unheard = f"{opcode.name.lower()} message"
                self._reject(CloseCode.UNSUPPORTED_DATA, unheard)
        elif opcode is _PING:
            event = events.ping
        elif opcode is _PONG:
            event = events.pong
        else:
            event = None  # a close frame: the end comes with the connection's
        if event is None:
            return
        if self._ready:
            self._deliver(event, frame)
        else:
            self._enqueue(event, frame)

    def _assemble(self, frame: Frame) -> Frame | None:
        """Collect the frames of a fragmented message; return it when it is whole."""
        fragments = self._fragments
        fragments.append(frame)
        if frame.fin:
            opcode = fragments[0].opcode
            data = b"".join(fragment.data for fragment in fragments)
            fragments.clear()
            return Frame(opcode, data)
        if len(fragments) >= MAX_FRAGMENTS:
            self._reject(CloseCode.MESSAGE_TOO_BIG, "too many fragments")
        return None

    def _deliver(self, event: Event, frame: Frame) -> None:
        """Call an event; leave to the task what is not done with the call."""
        opcode = frame.opcode
        payload: str | bytes
        if opcode is _TEXT:
            kind = _ON_TEXT
            try:
                payload = str(frame.data, "utf-8")
            except UnicodeDecodeError as error:
                reason = f"{error.reason} at position {error.start}"
                self._queue.clear()
                self._reject(CloseCode.INVALID_DATA, reason)
                return
        else:
            payload = bytes(frame.data)
            if opcode is _BINARY:
                kind = _ON_BINARY
            else:
                kind = _ON_PING if opcode is _PING else _ON_PONG
        try:
            result = event(self._ws, payload, kind)
        except Exception as error:
            self._error = error
            self._wake()
            return
        if result is not None and inspect.isawaitable(result):
            self._awaitable = result
            self._wake()

    def _reject(self, code: int, reason: str) -> None:
        # What was received before is delivered first, what comes then is dropped.
        self._rejection = code, reason
        self._fragments.clear()
        self._wake()

    def _is_over(self) -> bool:
        """Tell whether this side has closed, or will: what comes now is too late."""
        protocol = self._ws.protocol
        return (
            self._error is not None
            or self._rejection is not None
            or (
                protocol.close_sent is not None
                and not protocol.close_rcvd_then_sent
                # The parser closes too, for what came after this.
                and protocol.parser_exc is None
            )
        )

    # The queue, and what holds it up

    def _enqueue(self, event: Event, frame: Frame) -> None:
        self._queue.append((event, frame))
        high = self._high
        if high is not None and len(self._queue) > high and not self._reading_paused:
            self._reading_paused = True
            self._ws.transport.pause_reading()

    def _take(self) -> tuple[Event, Frame]:
        taken = self._queue.popleft()
        if self._reading_paused and len(self._queue) <= self._low:
            self._resume_reading()
        return taken

    def _discard(self) -> None:
        """Drop what is queued; go on reading, or no close frame would be seen."""
        self._queue.clear()
        self._fragments.clear()
        if self._reading_paused:
            self._resume_reading()

    def _resume_reading(self) -> None:
        self._reading_paused = False
        self._ws.transport.resume_reading()

    def _pause_writing(self) -> None:
        type(self._ws).pause_writing(self._ws)
        # A peer that does not read what it is sent is not asked for more.
        self._writing_paused = True
        self._ready = False

    def _resume_writing(self) -> None:
        type(self._ws).resume_writing(self._ws)
        # What was held back may have paused it again.
        self._writing_paused = self._ws.paused
        if self._writing_paused:
            return
        if self._events.drain is not None:
            self._enqueue(self._events.drain, _DRAINED)
        self._wake()

    # The end

    async def _close(
        self, code: int = CloseCode.NORMAL_CLOSURE, reason: str = ""
    ) -> None:
        """Close: the connection's ``close``, whoever calls it."""
        self._discard()
        await type(self._ws).close(self._ws, code, reason)

    async def _close_in_time(
        self, code: int, reason: str = "", fail: bool = False
    ) -> None:
        self._ready = False
        self._discard()
        await close_in_time(self._ws, code, reason, fail=fail)


def _close_code(ws: ServerConnection) -> tuple[int, str]:
    """Tell how a connection was closed: by its peer, else by us, else not at all."""
    close = ws.protocol.close_rcvd or ws.protocol.close_sent
    if close is None:
        return CloseCode.ABNORMAL_CLOSURE, ""
    return close.code, close.reason


async def _settle(result: Any) -> None:
    if inspect.isawaitable(result):
        await result
