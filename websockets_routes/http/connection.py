"""HTTP connections: requests in, responses out, one after the other.

It stands before ``websockets`` while a router answers requests: whatever asks for an
upgrade to WebSocket is handed over with all its bytes, before ``websockets`` is told
that there is a connection.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar, cast

from ..exceptions import ClientDisconnected
from .body import ReceivedBody
from .dispatching import answer, report_failure
from .encoding import Encoded
from .head import MAX_HEAD, look_at, without_empty_lines
from .parsing import MalformedRequest, RequestParser
from .request import Request
from .writing import Writer, response_head

if TYPE_CHECKING:
    from ..protocol import Protocol
    from ..servers import RoutedServer

__all__ = ["HTTPConnection", "hand_over"]

T = TypeVar("T")

# Bytes of a request line, where the head is too large.
_MAX_LINE = 2**13
# Bytes of requests behind the one that is being answered.
_MAX_PIPELINED = 2**16
# Seconds that a client gets to read why the rest of its body is not wanted.
_LINGER = 2.0


class HTTPConnection(asyncio.Protocol):
    """A connection that asks for no WebSocket, or not yet.

    Args:
        ws: The connection that the server made, which nobody has told so yet.
    """

    def __init__(self, ws: Protocol) -> None:
        self._ws = ws
        self._router: Any = ws.router
        self._server = cast("RoutedServer", ws.server)
        self._timeouts = self._server.http
        self._loop = ws.loop
        self._logger = ws.logger
        # What was not looked at: a head that is not whole, or the requests behind the
        # one that is being answered.
        self._buffer = b""
        self._parser: RequestParser
        self._body: ReceivedBody | None = None
        self._task: asyncio.Task[None] | None = None
        self._deadline = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._is_reading = True
        # Whether the head of a request has begun, and its time.
        self._in_head = True
        self._streams = False
        # Nothing more is answered: the client is to read the last response and go.
        self._is_last = False
        self._lingers = False
        # What limits count it by, once they do.
        self._host: str | None = None
        # What a request knows of its peer.
        self.disconnected = asyncio.Event()
        self.announced_address = ws.announced_address
        self.proxies = self._server.proxies

    def stand_before(self, transport: asyncio.Transport) -> None:
        """Take the place of the connection, until a request asks for an upgrade."""
        transport.set_protocol(self)
        self.connection_made(transport)

    # What the event loop calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._writer = Writer(self._transport, self._ws.stall_timeout)
        secure = transport.get_extra_info("sslcontext") is not None
        self.scheme = "https" if secure else "http"
        self.remote_address = transport.get_extra_info("peername")
        self._server.requests.add(self)
        self._expect(self._timeouts.header)

    def connection_lost(self, exc: Exception | None) -> None:
        self._leave()
        self._go_away()

    def _leave(self) -> None:
        self._forget()
        self._server.requests.discard(self)
        self._uncount()

    def _uncount(self) -> None:
        if self._host:
            self._server.limits.leave(self._host)
        self._host = None

    def _go_away(self) -> None:
        self.disconnected.set()
        if self._body is not None:
            self._body.fail(ClientDisconnected("the client went away"))
        if self._streams and self._task is not None:
            # It may wait for its next piece for ever.
            self._task.cancel()

    def data_received(self, data: bytes) -> None:
        if self._lingers:
            return
        if self._task is None:
            self._buffer += data
            self._begin()
        elif self._body is not None and not self._body.ended:
            self._parser.receive(data)
            self._take_body(self._body)
        else:
            self._buffer += data
            if len(self._buffer) > _MAX_PIPELINED:
                self._pause_reading()

    def eof_received(self) -> bool:
        if self._task is None or self.scheme == "https":
            return False  # the transport closes
        # It may be half of the connection: a response can still be read.
        self._is_last = True
        self._go_away()
        return True

    def pause_writing(self) -> None:
        self._writer.pause()

    def resume_writing(self) -> None:
        self._writer.resume()

    # Time

    def _expect(self, seconds: float | None) -> None:
        """End the connection if what comes next does not come in time."""
        self._deadline = 0.0 if seconds is None else self._loop.time() + seconds
        # One that fires too early looks again: cheaper than one for each request.
        timer, deadline = self._timer, self._deadline
        if deadline and (timer is None or timer.when() > deadline):
            if timer is not None:
                timer.cancel()
            self._timer = self._loop.call_at(deadline, self._look)

    def _look(self) -> None:
        self._timer = None
        if not self._deadline:
            return
        if self._loop.time() < self._deadline:
            self._timer = self._loop.call_at(self._deadline, self._look)
        elif self._task is not None and self._body is not None:
            self._is_last = True
            self._body.fail(ClientDisconnected("the body took too long"))
        elif self._buffer and not self._lingers:
            self._refuse(408, "the request took too long")
        elif self._transport.get_write_buffer_size():
            # close() would wait for a client that reads nothing.
            self._transport.abort()
        else:
            self._transport.close()

    def _forget(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._deadline = 0.0
        self._writer.stop()

    # Requests

    def _begin(self) -> None:
        """Begin with the next request, if its head is there."""
        buffer = self._buffer
        if buffer.startswith(b"\r\n"):  # RFC 9112 section 2.2
            buffer = self._buffer = without_empty_lines(buffer)
        end = buffer.find(b"\r\n\r\n", 0, MAX_HEAD)
        if end < 0:
            if len(buffer) >= MAX_HEAD:
                long = buffer.find(b"\r\n", 0, _MAX_LINE) < 0
                what = "request line is too long" if long else "head is too large"
                self._refuse(414 if long else 431, f"the {what}")
            elif b"\n\n" in buffer:
                self._refuse(400, "lines end with CR and LF")
            elif buffer and not self._in_head:
                self._in_head = True
                self._expect(self._timeouts.header)
            return
        upgrade, problem = look_at(buffer[: end + 4])
        if upgrade:
            self._hand_over()
        elif problem is not None:
            self._refuse(400, problem)
        else:
            self._start(buffer, end)

    def _hand_over(self) -> None:
        data, self._buffer = self._buffer, b""
        self._leave()
        hand_over(self._ws, self._transport, data)

    def _has_room(self, request: Request) -> bool:
        if self._host is None:
            limits = self._server.limits
            if not limits.has_room(self._server.num_connections):
                return False
            self._host = limits.enter(request)
        return self._host is not None

    def _start(self, data: bytes, end: int) -> None:
        self._buffer = b""
        try:
            parser = self._parser = RequestParser(data, end)
        except MalformedRequest as error:
            self._refuse(error.status, error.problem)
            return
        body = ReceivedBody(self._go_on, self._pause_body, self._expect_portion)
        request = self._router.request_class(
            parser.method,
            parser.target,
            parser.headers,
            body,
            protocol=parser.protocol,
            peer=self,
        )
        if not self._has_room(request):
            self._refuse(503, "too many connections")
            return
        self._body = body
        self._deadline = 0.0
        self._in_head = False
        self._take_body(body)
        if not body.ended:
            self._expect_portion()
        self._task = self._loop.create_task(self._respond(request, body))

    def _refuse(self, status: int, problem: str) -> None:
        """Answer what is no request, and end the connection."""
        self._logger.info("refusing a request: %s", problem)
        body = f"{problem}\n".encode()
        headers = [
            ("Content-Type", "text/plain; charset=utf-8"),
            ("Content-Length", str(len(body))),
            ("Connection", "close"),
        ]
        self._writer.write(response_head(status, "", headers) + body)
        self._linger()

    def _linger(self) -> None:
        """Close as soon as the client has read the response.

        With bytes unread, closing would reset the connection, and the response would
        be gone (RFC 9112 section 9.6).
        """
        self._lingers = True
        self._buffer = b""
        if self.disconnected.is_set() or self._transport.is_closing():
            self._transport.close()
        elif self._transport.can_write_eof():
            with suppress(OSError):  # the client was faster
                self._transport.write_eof()
            self._resume_reading()
            self._expect(_LINGER)
        else:
            self._transport.close()

    # Bodies

    def _take_body(self, body: ReceivedBody) -> None:
        """Take what has come of the body."""
        behind = self._parser.read(body)
        if body.ended:
            self._deadline = 0.0
            self._buffer += behind
            if not body.is_whole:
                self._is_last = True

    def _go_on(self) -> None:
        """Have more of the body sent: its reader waits."""
        go_on = self._parser.go_on()
        if go_on:
            self._writer.write(go_on)
        if not self._is_reading:
            self._expect(self._timeouts.body)
        self._resume_reading()

    def _pause_body(self) -> None:
        # The client cannot go on: it has any time.
        self._deadline = 0.0
        self._pause_reading()

    def _expect_portion(self) -> None:
        if self._is_reading:
            self._expect(self._timeouts.body)

    def _pause_reading(self) -> None:
        if self._is_reading:
            self._is_reading = False
            self._transport.pause_reading()

    def _resume_reading(self) -> None:
        if not self._is_reading:
            self._is_reading = True
            self._transport.resume_reading()

    # Responses

    async def _respond(self, request: Request, body: ReceivedBody) -> None:
        try:
            message = await answer(self._router, request, self._logger)
            await self._send(request, message, body)
        except ClientDisconnected:
            self._transport.abort()
        except BaseException as error:
            # The client must not take half of a response for the whole.
            self._transport.abort()
            if isinstance(error, asyncio.CancelledError):
                raise
            await report_failure(self._router.scope, request, error, self._logger)
        else:
            self._task = self._body = None
            self._end_request(body)

    def _end_request(self, body: ReceivedBody) -> None:
        if self.proxies is not None and self.proxies.reads_headers:
            self._uncount()  # the next request may be another client's
        if not body.is_whole:
            self._linger()
        elif self._is_last or self._transport.is_closing():
            self._transport.close()
        else:
            self._resume_reading()
            self._expect(self._timeouts.idle)
            if self._buffer:
                self._begin()

    async def _send(
        self, request: Request, message: Encoded, body: ReceivedBody
    ) -> None:
        if message.close or not (self._parser.keeps_alive and body.ended):
            self._is_last = True
        headers = list(message.headers.raw_items())
        stream = message.stream
        chunked = False
        if stream is not None and "Content-Length" not in message.headers:
            chunked = request.protocol == "HTTP/1.1"
            if chunked:
                headers.append(("Transfer-Encoding", "chunked"))
            elif request.method != "HEAD":
                self._is_last = True
        if self._is_last:
            headers.append(("Connection", "close"))
        self._logger.debug("%r -> %d", request, message.status)
        head = response_head(message.status, message.reason, headers)
        if stream is None:
            self._writer.write(head + message.body)
            await self._writer.drain()
            return
        length = None
        if not chunked and request.method != "HEAD":
            length = next(iter(message.headers.get_all("Content-Length")), None)
        self._streams = True
        try:
            self._writer.write(head)
            await self._writer.write_stream(stream, chunked, length)
        finally:
            self._streams = False
            await stream.aclose()
        if chunked and request.method != "HEAD":
            self._writer.write(b"0\r\n\r\n")

    # What a request asks for, and the server

    def start_task(self, coroutine: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Start a task that ends with the server."""
        return self._server.tasks.start(coroutine)

    def end_slow(self, received: bytes) -> None:
        """End the connection: its first head has not come in time."""
        self._buffer = received
        self._deadline = self._loop.time()
        self._look()

    def shutdown(self) -> None:
        """End the connection once its response, if any, has been sent."""
        self._is_last = True
        if self._task is None:
            self._transport.close()

    def abort(self) -> None:
        """End the connection at once."""
        if self._task is not None:
            self._task.cancel()
        self._transport.abort()

    @property
    def task(self) -> asyncio.Task[None] | None:
        """What answers a request now."""
        return self._task


def hand_over(ws: Protocol, transport: asyncio.Transport, data: bytes) -> None:
    """Leave a connection to ``websockets``, with what was received.

    Args:
        ws: The connection, which nobody has told so yet.
        transport: Its transport.
        data: All bytes from the request that asks for an upgrade on.
    """
    transport.set_protocol(ws)
    ws.begin(transport)
    ws.data_received(data)
