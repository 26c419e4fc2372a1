"""Protocol: one connection of a routed server.

What this module takes from ``websockets`` beyond its documentation, and
``tests/test_undocumented.py`` watches:

- ``ServerConnection.handshake(process_request, …)``, called once a connection by
  its server, so that the route is known before any other hook runs;
- ``ServerConnection.send_data()`` and ``protocol.handshake_exc``, to answer a
  request that its parser drops without a word.
"""

from __future__ import annotations

from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from websockets import Headers, ServerProtocol
from websockets.asyncio.server import Server, ServerConnection

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

    def send_data(self) -> None:
        if self.request is None and self.protocol.handshake_exc is not None:
            self._answer_malformed_request()
        super().send_data()

    def _answer_malformed_request(self) -> None:
        """Answer a request that the parser gave up, before it closes the stream.

        RFC 9112 section 2.2 wants a 400; a request with a body, which the parser
        cannot read, is a 413. Where ``websockets`` has an answer of its own (414
        and 431) it has a response, and where the peer just went away there is
        nobody to answer.
        """
        assert self.protocol.handshake_exc is not None
        problem = self.protocol.handshake_exc.__cause__
        if (
            self.response is not None
            or problem is None
            or isinstance(problem, EOFError)
        ):
            return
        if isinstance(problem, NotImplementedError) or "body" in str(problem):
            response = text_response(
                HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "a handshake has no body"
            )
        else:
            response = text_response(HTTPStatus.BAD_REQUEST, "malformed HTTP request")
        self.response = response
        self.transport.write(response.serialize())
