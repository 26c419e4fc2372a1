"""Parsing one request, by h11, as strictly as RFC 9112 has it."""

from __future__ import annotations

import h11
from websockets import Headers

from ..exceptions import BadRequest
from .body import ReceivedBody
from .head import MAX_HEAD, ends_soundly

__all__ = ["MalformedRequest", "RequestParser"]


class MalformedRequest(Exception):
    """What was received is no request.

    Attributes:
        status: What to answer.
        problem: Why.
    """

    def __init__(self, status: int, problem: str) -> None:
        super().__init__(problem)
        self.status = status
        self.problem = problem


class RequestParser:
    """Parses a request whose head is there.

    Args:
        data: What was received, from its beginning on.
        end: Where the empty line behind its head begins.

    Attributes:
        method, target, protocol, headers: What stands in the head.

    Raises:
        MalformedRequest: If it is none.
    """

    def __init__(self, data: bytes, end: int) -> None:
        self._parser = parser = h11.Connection(h11.SERVER, MAX_HEAD)
        try:
            parser.receive_data(data)
            event = parser.next_event()
        except h11.RemoteProtocolError as error:
            status = error.error_status_hint
            raise MalformedRequest(status, "malformed HTTP request") from None
        assert isinstance(event, h11.Request), "its head is whole"
        if not event.http_version.startswith(b"1."):
            raise MalformedRequest(505, "this server speaks version 1.1 of HTTP")
        if event.target.startswith(b"*") and event.method != b"OPTIONS":
            raise MalformedRequest(400, "the request target must begin with a slash")
        self.method = event.method.decode("latin-1")
        self.target = event.target.decode("latin-1")
        # A later minor version has to be read like this one (RFC 9110 section 2.5).
        self.protocol = "HTTP/1.0" if event.http_version == b"1.0" else "HTTP/1.1"
        self.headers = Headers(
            [
                (name.decode("latin-1"), value.decode("latin-1"))
                for name, value in event.headers.raw_items()
            ]
        )
        # The end of what came of a chunked body, for its trailers.
        self._raw: bytes | None = None
        if "Transfer-Encoding" in self.headers:
            self._raw = data[end + 4 :]

    @property
    def keeps_alive(self) -> bool:
        """Whether another request may come behind this one."""
        return self._parser.their_state is h11.DONE

    def receive(self, data: bytes) -> None:
        """Take more of the body."""
        if self._raw is not None:
            self._raw = self._raw[-2 * MAX_HEAD :] + data
        self._parser.receive_data(data)

    def read(self, body: ReceivedBody) -> bytes:
        """Hand on what there is of the body; return what stands behind it."""
        while True:
            try:
                event = self._parser.next_event()
            except h11.RemoteProtocolError:
                body.fail(BadRequest("the body is malformed"))
                return b""
            if isinstance(event, h11.Data):
                body.add(bytes(event.data))
            elif isinstance(event, h11.EndOfMessage):
                behind: bytes = self._parser.trailing_data[0]
                if self._raw is None or ends_soundly(self._raw, behind):
                    body.end()
                    return behind
                body.fail(BadRequest("the trailers are malformed"))
                return b""
            else:
                return b""

    def go_on(self) -> bytes:
        """Return what to tell a client that waits before it sends its body."""
        if not self._parser.they_are_waiting_for_100_continue:
            return b""
        go_on = h11.InformationalResponse(status_code=100, headers=[])
        return self._parser.send(go_on) or b""
