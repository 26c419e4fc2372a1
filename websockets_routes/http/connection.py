"""HTTP connections: requests in, responses out, one after the other.

It stands before ``websockets`` while a router answers requests: whatever asks for an
upgrade to WebSocket is handed over with all its bytes, before ``websockets`` is told
that there is a connection.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, TypeVar, cast

import h11
from websockets import Headers

from ..exceptions import BadRequest, ClientDisconnected
from .body import ReceivedBody
from .dispatching import answer
from .head import look_at
from .request import Request
from .response import Encoded
from .writing import Writer, response_head

if TYPE_CHECKING:
    from ..protocol import Protocol
    from ..servers import RoutedServer

__all__ = ["HTTPConnection"]

T = TypeVar("T")

# Bytes of a request line and its headers.
_MAX_HEAD = 2**14
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
        self._parser: h11.Connection
        self._body: ReceivedBody | None = None
        self._task: asyncio.Task[None] | None = None
        self._deadline = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._is_reading = True
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

    def data_received(self, data: bytes) -> None:
        if self._lingers:
            return
        if self._task is None:
            self._buffer += data
            self._begin()
        elif self._body is not None and not self._body.ended:
            self._parser.receive_data(data)
            self._take_events(self._body)
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
            buffer = self._buffer = buffer.lstrip(b"\r\n")
        end = buffer.find(b"\r\n\r\n", 0, _MAX_HEAD)
        if end < 0:
            if len(buffer) >= _MAX_HEAD:
                self._refuse(431, "the head of the request is too large")
            elif b"\n\n" in buffer:
                self._refuse(400, "lines end with CR and LF")
            return
        upgrade, problem = look_at(buffer[: end + 4])
        if upgrade:
            self._hand_over()
        elif problem is not None:
            self._refuse(400, problem)
        else:
            self._start(buffer)

    def _hand_over(self) -> None:
        """Leave the connection to websockets, with all bytes."""
        data, self._buffer = self._buffer, b""
        self._leave()
        self._transport.set_protocol(self._ws)
        self._ws.begin(self._transport)
        self._ws.data_received(data)

    def _has_room(self, request: Request) -> bool:
        if self._host is None:
            limits = self._server.limits
            if not limits.has_room(self._server.num_connections):
                return False
            self._host = limits.enter(request)
        return self._host is not None

    def _start(self, data: bytes) -> None:
        self._parser = h11.Connection(h11.SERVER, _MAX_HEAD)
        self._buffer = b""
        try:
            self._parser.receive_data(data)
            event = self._parser.next_event()
        except h11.RemoteProtocolError as error:
            self._refuse(error.error_status_hint, "malformed HTTP request")
            return
        assert isinstance(event, h11.Request), "its head is whole"
        if event.target.startswith(b"*") and event.method != b"OPTIONS":
            self._refuse(400, "the request target must begin with a slash")
            return
        body = ReceivedBody(self._go_on, self._pause_reading, self._expect_portion)
        request = self._router.request_class(
            event.method.decode("latin-1"),
            event.target.decode("latin-1"),
            Headers(
                [
                    (name.decode("latin-1"), value.decode("latin-1"))
                    for name, value in event.headers.raw_items()
                ]
            ),
            body,
            protocol=f"HTTP/{event.http_version.decode('latin-1')}",
            peer=self,
        )
        if not self._has_room(request):
            self._refuse(503, "too many connections")
            return
        self._body = body
        self._deadline = 0.0
        self._take_events(body)
        if not body.ended:
            self._expect(self._timeouts.body)
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
        if self._transport.can_write_eof():
            self._transport.write_eof()
            self._resume_reading()
            self._expect(_LINGER)
        else:
            self._transport.close()

    # Bodies

    def _take_events(self, body: ReceivedBody) -> None:
        """Take what the parser has of the body."""
        while True:
            try:
                event = self._parser.next_event()
            except h11.RemoteProtocolError:
                self._is_last = True
                body.fail(BadRequest("the body is malformed"))
                return
            if isinstance(event, h11.Data):
                body.add(bytes(event.data))
            elif isinstance(event, h11.EndOfMessage):
                body.end()
                self._deadline = 0.0
                self._buffer += self._parser.trailing_data[0]
                return
            else:
                return

    def _go_on(self) -> None:
        """Have more of the body sent: its reader waits."""
        if self._parser.they_are_waiting_for_100_continue:
            data = self._parser.send(
                h11.InformationalResponse(status_code=100, headers=[])
            )
            self._writer.write(data or b"")
        self._resume_reading()

    def _expect_portion(self) -> None:
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
            self._logger.error("response to %r failed", request, exc_info=error)
        else:
            self._task = self._body = None
            self._end_request(body)

    def _end_request(self, body: ReceivedBody) -> None:
        if self.proxies is not None and self.proxies.reads_headers:
            self._uncount()  # the next request may be another client's
        if self._transport.is_closing():
            return
        if not body.ended:
            self._linger()
        elif self._is_last:
            self._transport.close()
        else:
            self._resume_reading()
            if self._buffer:
                self._expect(self._timeouts.header)
                self._begin()
            else:
                self._expect(self._timeouts.idle)

    async def _send(
        self, request: Request, message: Encoded, body: ReceivedBody
    ) -> None:
        request.has_begun = True
        keeps = self._parser.their_state is h11.DONE
        if message.close or not keeps or not body.ended:
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
        self._writer.write(head + message.body)
        if stream is None:
            await self._writer.drain()
            return
        try:
            async for piece in stream:
                if chunked:
                    piece = b"%x\r\n%b\r\n" % (len(piece), piece)
                self._writer.write(piece)
                await self._writer.drain()
        finally:
            await stream.aclose()
        if chunked and request.method != "HEAD":
            self._writer.write(b"0\r\n\r\n")

    # What a request asks for, and the server

    def start_task(self, coroutine: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Start a task that ends with the server."""
        return self._server.tasks.start(coroutine)

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
