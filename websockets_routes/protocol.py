"""Protocol: one connection of a routed server.

What this module takes from ``websockets`` beyond its documentation, and
``tests/test_undocumented.py`` watches:

- ``ServerConnection.handshake(process_request, …)``, called once a connection by
  its server, so that the route is known before any other hook runs;
- ``ServerConnection.send_data()``, ``protocol.handshake_exc``,
  ``protocol.reader``, ``protocol.writes`` and ``protocol.eof_sent``, to answer a
  request that its parser drops without a word, and one that is followed by
  anything else than frames.
"""

from __future__ import annotations

from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from websockets import CloseCode, Headers, ServerProtocol, State
from websockets.asyncio.server import Server, ServerConnection

from .closing import close_in_time
from .path import RoutedPath
from .refusal import text_response

if TYPE_CHECKING:
    from .router import Router

__all__ = ["Protocol"]


class Protocol(ServerConnection):
    """A server connection that knows its route; subclass it to make it your own.

    Args:
        protocol: Given by ``websockets``.
        server: Given by ``websockets``.
        router: The router to bind to. ``Router.serve`` and
            ``Router.connection_class`` bind without it. A connection that is
            bound to no router opens whatever its path; the router that then
            handles it closes it with 4040 if nothing matches.

    Attributes:
        path: The routed path; known once the request is read.
    """

    #: The router that this connection is bound to, or None.
    router: Router | None = None
    #: Whether a subclass overrides ``process_request``.
    has_hook = False
    path: RoutedPath
    # Whether what came behind the request, before the response, was no frame.
    _failed_early = False

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls.has_hook = cls.process_request is not Protocol.process_request

    def __init__(
        self,
        protocol: ServerProtocol,
        server: Server,
        *,
        router: Router | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(protocol, server, **kwargs)
        if router is not None:
            self.router = router

    @property
    def params(self) -> dict[str, str] | Any:
        """What the route found in the path; None if nothing matched."""
        return self.path.params

    @property
    def context(self) -> dict[Any, Any]:
        """The context of the path, shared by hooks and handler."""
        return self.path.context

    def process_request(self, path: RoutedPath, headers: Headers) -> Any:
        """Override this to look at every handshake, matched or not.

        It may be a coroutine, and runs before the hook of the route.

        Returns:
            None to go on, or a response to refuse: a ``websockets`` Response or
            a tuple ``(status, headers, body)``.
        """
        return None

    async def handshake(
        self, process_request: Any = None, *args: Any, **kwargs: Any
    ) -> None:
        if self.router is not None:
            process_request = partial(
                self.router.handshake.process_request, hook=process_request
            )
        await super().handshake(process_request, *args, **kwargs)
        if self._failed_early and self.protocol.state is State.OPEN:
            code = CloseCode.PROTOCOL_ERROR
            await close_in_time(self, code, "no frame behind the request", fail=True)

    def send_data(self) -> None:
        if self.protocol.state is State.CONNECTING:
            self._check_before_response()
        super().send_data()

    def _check_before_response(self) -> None:
        """See to it that the response is the first thing that is sent.

        The parser goes on behind the request, where a client must not send yet. It
        answers pings, and fails what is no frame by closing the stream: what it
        wants to send then would end up before the response, or instead of it.
        """
        protocol = self.protocol
        if protocol.handshake_exc is not None:
            self._answer_malformed_request(protocol.handshake_exc.__cause__)
        elif protocol.writes and not protocol.writes[0].startswith(b"HTTP/"):
            protocol.writes.clear()
            if protocol.eof_sent:
                protocol.eof_sent = False
                self._failed_early = True

    def _answer_malformed_request(self, problem: BaseException | None) -> None:
        """Answer a request that the parser gave up, before it closes the stream.

        RFC 9112 section 2.2 wants a 400; a request with a body, which the parser
        cannot read, is a 413. Where ``websockets`` answers itself, with 414 or
        431, nothing caused the error; where the peer went away in the middle of its
        request, nobody is there to be answered.
        """
        gone = isinstance(problem, EOFError) and self.protocol.reader.eof
        if problem is None or gone or self.response is not None:
            return
        if (
            isinstance(problem, NotImplementedError)
            or str(problem) == "unsupported request body"
        ):
            response = text_response(
                HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "a handshake has no body"
            )
        else:
            response = text_response(HTTPStatus.BAD_REQUEST, "malformed HTTP request")
        self.response = response
        self.transport.write(response.serialize())
