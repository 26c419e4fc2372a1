"""Answers to requests that the parser of ``websockets`` drops without a word.

What this module takes from ``websockets`` beyond its documentation, and
``tests/test_undocumented.py`` watches: it takes the place of ``send_eof()`` of one
Sans-I/O protocol, with which the parser ends whatever it gives up, and looks at
``handshake_exc``, ``reader.eof``, ``writes`` and ``eof_sent``, and at
``close_deadline`` of the connection. A subclass would do
the same, but setting it as the class of a protocol costs each message 4 %.
"""

from __future__ import annotations

from collections.abc import Callable
from http import HTTPStatus

from websockets import ServerProtocol, State
from websockets.asyncio.server import ServerConnection

from .refusal import text_response

__all__ = ["answer_malformed_requests", "failed_early", "when_ended"]


def answer_malformed_requests(protocol: ServerProtocol) -> None:
    """Have a protocol answer what its parser would drop; call it once, at first."""
    object.__setattr__(protocol, "send_eof", _EndOfStream(protocol))


def failed_early(connection: ServerConnection) -> bool:
    """Tell whether what came behind the request, before the response, was no frame.

    The parser has given up then, and hears nothing any more. The response, or a
    close frame, can be sent once this was called.
    """
    end = connection.protocol.send_eof
    if not isinstance(end, _EndOfStream) or not end.failed_early:
        return False
    connection.protocol.eof_sent = False
    connection.close_deadline = None
    return True


def when_ended(connection: ServerConnection, call: Callable[[], None]) -> None:
    """Have a function called as soon as a connection must not send messages any more.

    That is when its peer closes, or breaks a rule; its own ``close`` is left aside.
    """
    end = connection.protocol.send_eof
    assert isinstance(end, _EndOfStream), "the connection is open"
    end.ended = call


class _EndOfStream:
    """The ``send_eof`` of one protocol, until it is needed for the first time."""

    __slots__ = ("ended", "failed_early", "protocol")

    def __init__(self, protocol: ServerProtocol) -> None:
        self.protocol = protocol
        self.failed_early = False
        self.ended: Callable[[], None] | None = None

    def __call__(self) -> None:
        if self.ended is not None:
            self.ended()
        protocol = self.protocol
        if protocol.state is State.CONNECTING and not protocol.writes:
            if protocol.handshake_exc is None:
                # The stream would end before the response. Only seemingly does it.
                protocol.eof_sent = True
                self.failed_early = True
                return
            self.answer(protocol.handshake_exc.__cause__)
        del protocol.send_eof
        protocol.send_eof()

    def answer(self, problem: BaseException | None) -> None:
        """Answer a request that is malformed.

        RFC 9112 section 2.2 wants a 400; a request with a body, which the parser
        cannot read, is a 413. Where the peer went away in the middle of its
        request, nobody is there to be answered.
        """
        if isinstance(problem, EOFError) and self.protocol.reader.eof:
            return
        if (
            isinstance(problem, NotImplementedError)
            or str(problem) == "unsupported request body"
        ):
            status = HTTPStatus.REQUEST_ENTITY_TOO_LARGE
            response = text_response(status, "a handshake has no body")
        else:
            response = text_response(HTTPStatus.BAD_REQUEST, "malformed HTTP request")
        self.protocol.writes.append(response.serialize())
