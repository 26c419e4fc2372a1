"""Protocol: one connection of a routed server.

What this module takes from ``websockets`` beyond its documentation, and
``tests/test_undocumented.py`` watches:

- ``ServerConnection.handshake(process_request, …)``, called once a connection by
  its server, so that the route is known before any other hook runs;
- ``connection_lost_waiter``, to end the tasks of a connection with it.
"""

from __future__ import annotations

import asyncio
import math
import time as clock
from collections.abc import AsyncIterator, Coroutine
from contextlib import suppress
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar, cast

from websockets import ConnectionClosed, Headers, ServerProtocol, State
from websockets.asyncio.server import Server
from websockets.typing import Data, DataLike

from .answering import answer_malformed_requests
from .closing import check_close_code, close_in_time, close_reason
from .cookies import parse_cookies
from .exceptions import NotServing
from .opcodes import OpCode
from .path import RoutedPath
from .proxied import Proxied
from .proxying import Arrival, Proxies
from .pubsub import Filter, Position, Receipt, Subscribed, Topics
from .pubsub.clients import check_client_key
from .pubsub.roster import Info
from .pubsub.subscribing import Reply
from .reporting import report_later
from .sending import SendingConnection
from .serializer import Serializer
from .tasks import Tasks

if TYPE_CHECKING:
    from .router import Router
    from .servers import RoutedServer

__all__ = ["Protocol"]

T = TypeVar("T")


class Protocol(SendingConnection, Proxied):
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
    #: What reads and writes JSON; ``Router(json=…)`` chooses.
    serializer = Serializer()
    path: RoutedPath
    _client_key: str | None = None
    _expiry: asyncio.TimerHandle | None = None
    # Made with the first of them.
    _tasks: Tasks | None = None

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
        answer_malformed_requests(protocol)
        if router is not None:
            self.__class__ = router.connection_class(type(self))

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

    # The request

    @property
    def headers(self) -> Headers:
        """The headers of the handshake request."""
        assert self.request is not None, "the request is read"
        return self.request.headers

    @property
    def cookies(self) -> dict[str, str]:
        """The cookies of the request, by name; the first of a name counts."""
        return parse_cookies(self.headers)

    def expire_at(
        self, time: float | datetime | None, code: int = 4001, reason: str = "expired"
    ) -> None:
        """Close the connection at a time: a token may end before its connection.

        Called again, only the last time counts.

        Args:
            time: Seconds since the epoch, as in the ``exp`` of a JWT, or a datetime
                with a time zone; None for no end.
            code: The close code.
            reason: The close reason; what does not fit into a close frame is cut.

        Raises:
            ValueError: If the datetime has no time zone, or if the time is no number.
            InvalidCloseCode: If a close frame may not have the code.
        """
        check_close_code(code)
        if isinstance(time, datetime):
            if time.tzinfo is None:
                raise ValueError("the datetime has no time zone: it could be any time")
            time = time.timestamp()
        if time is not None and math.isnan(time):
            raise ValueError("the time is no number")
        if self._expiry is not None:
            self._expiry.cancel()
            self._expiry = None
        if time is None or self.connection_lost_waiter.done():
            return
        delay = max(0.0, time - clock.time())
        self._expiry = self.loop.call_later(
            delay, self._expire, code, close_reason(reason)
        )

    def _expire(self, code: int, reason: str) -> None:
        self._expiry = None
        if self.state is State.CONNECTING:
            # Once it is open.
            self._expiry = self.loop.call_later(0.1, self._expire, code, reason)
        elif self.state is State.OPEN:
            # Where its tasks have ended, websockets is closing it already.
            with suppress(NotServing):
                self.start_task(close_in_time(self, code, reason))

    # JSON and opcodes

    async def send_json(self, value: Any) -> None:
        """Send a value as JSON, in a text frame.

        Raises:
            ConnectionClosed: If the connection is closed.
            TypeError: Or whatever else the JSON module raises for the value.
        """
        await self.send(self.serializer.dumps(value), text=True)

    async def recv_json(self) -> Any:
        """Receive a message that is JSON, text or binary.

        Raises:
            InvalidJSON: If it is not; unhandled, it closes with 1007.
            ConnectionClosed: If the connection is closed.
        """
        return self.serializer.loads(await self.recv())

    async def messages(self) -> AsyncIterator[tuple[OpCode, Data]]:
        """Iterate over messages with their opcodes, ``TEXT`` or ``BINARY``."""
        async for message in self:
            yield OpCode.TEXT if isinstance(message, str) else OpCode.BINARY, message

    # Topics

    @property
    def client_key(self) -> str:
        """Who the client is, so that it does not get what it published itself.

        By default the id of the connection. Set in a hook of the handshake to what
        the client keeps, it holds for its next connection too, on whatever node.
        """
        return str(self.id) if self._client_key is None else self._client_key

    @client_key.setter
    def client_key(self, key: str) -> None:
        key = check_client_key(key)
        if self.outbox is not None:
            raise NotServing("set client_key in the handshake, before it subscribes")
        self._client_key = key

    @property
    def _router_topics(self) -> Topics:
        if self.router is None:
            raise NotServing("the connection is bound to no router: it has no topics")
        return self.router.topics

    @property
    def topics(self) -> tuple[str | Filter, ...]:
        """The topics that the connection hears; none once it is closed."""
        return self._router_topics.topics_of(self)

    async def subscribe(
        self,
        topic: str | Filter,
        *,
        since: Position | None = None,
        last: int | None = None,
        reply: Reply | None = None,
        as_: str | None = None,
        info: Info | None = None,
    ) -> Subscribed:
        """Hear a topic, or all that a ``Filter`` matches, until the connection ends.

        It suspends only where ``authorize`` or a broker does, or a replay that is
        more than the client can take at once. Subscribing twice is one subscription.
        See ``Topics.subscribe`` for the arguments.

        Raises:
            InvalidTopic: If it is no name; a wildcard needs a ``Filter``.
            SubscriptionDenied: If ``authorize`` says so; unhandled, it closes with
                1008.
            TooManySubscriptions: If the connection has as many as it may.
            InvalidPresence: If the member or the info is none.
            ConnectionClosed: If the connection is closed or closing.
        """
        return await self._router_topics.subscribe(
            self, topic, since=since, last=last, reply=reply, as_=as_, info=info
        )

    def subscribe_nowait(self, topic: str | Filter) -> Subscribed:
        """Subscribe from a plain function, which cannot await.

        Raises:
            MustAwait: If ``authorize`` or a broker has to be awaited.
            Exception: What ``subscribe`` raises.
        """
        return self._router_topics.subscribe_nowait(self, topic)

    def unsubscribe(self, topic: str | Filter) -> bool:
        """Hear a topic no longer; tell whether it was heard."""
        return self._router_topics.unsubscribe(self, topic)

    def publish(
        self,
        topic: str,
        message: DataLike,
        opcode: int | None = None,
        *,
        compress: bool | None = None,
        idempotency_key: str | None = None,
    ) -> Receipt:
        """Publish a message to everyone who hears a topic but this connection.

        It need not be subscribed, nor open. See ``Topics.publish`` for the arguments
        and errors.
        """
        topics = self._router_topics
        return topics.publish(
            topic,
            message,
            opcode,
            exclude=self,
            compress=compress,
            idempotency_key=idempotency_key,
        )

    def publish_json(
        self,
        topic: str,
        value: Any,
        opcode: int | None = OpCode.TEXT,
        *,
        compress: bool | None = None,
        idempotency_key: str | None = None,
    ) -> Receipt:
        """Publish a value as JSON to everyone but this connection."""
        return self.publish(
            topic,
            self.serializer.dumps(value),
            opcode,
            compress=compress,
            idempotency_key=idempotency_key,
        )

    # Tasks

    def start_task(self, coroutine: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Start a task that ends with the connection.

        It is cancelled when the connection is lost or its handler has ended,
        whichever comes first. If it fails, that is logged with the route; the
        connection goes on.

        Raises:
            NotServing: If the connection has ended.
        """
        if self._tasks is None:
            if self.connection_lost_waiter.done():
                coroutine.close()
                raise NotServing("the connection has ended; no task can be started")
            tasks = self._tasks = Tasks("the connection", self._task_failed)
            self.connection_lost_waiter.add_done_callback(lambda _: tasks.cancel())
        return self._tasks.start(coroutine)

    @property
    def has_tasks(self) -> bool:
        """Whether a task was started on the connection, ended or not."""
        return self._tasks is not None

    async def end_tasks(self) -> None:
        """Cancel the tasks of the connection, and wait until they are done."""
        if self._tasks is not None:
            await self._tasks.end()

    def _task_failed(self, error: BaseException) -> None:
        if isinstance(error, ConnectionClosed) and self.state is not State.OPEN:
            return
        path = getattr(self, "path", None)
        route = getattr(path, "route", None)
        scopes = () if route is None else route.scopes
        what = f"task of route {route} failed"
        report_later(scopes, error, self, path, self.logger, what, self.server)

    def _asked_by(self) -> tuple[Proxies | None, Headers | None, bool]:
        proxies: Proxies | None = getattr(self.server, "proxies", None)
        headers = None if self.request is None else self.request.headers
        secure = self.transport.get_extra_info("sslcontext") is not None
        return proxies, headers, secure

    # What websockets calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        proxies = getattr(self.server, "proxies", None)
        if proxies is not None and proxies.proxy_protocol:
            server = cast("RoutedServer", self.server)
            Arrival(server, self, cast(asyncio.Transport, transport))
        else:
            self.begin_proxied(transport)

    def begin_proxied(
        self, transport: asyncio.BaseTransport, announced: str | None = None
    ) -> None:
        """Begin, behind the PROXY header if there is one; for this package."""
        if announced is not None:
            self.announced_address = announced
        router = self.router
        if (
            router is not None
            and router.answers_requests
            and hasattr(self.server, "requests")
        ):
            router.stand_before(self, transport)  # type: ignore[arg-type]
        else:
            super().connection_made(transport)

    def begin(self, transport: asyncio.Transport) -> None:
        """Begin with a connection that asked for an upgrade; for this package."""
        super().connection_made(transport)

    def _abort_stalled(self) -> None:
        if self.router is not None:
            self.router.root.stalls += 1
        super()._abort_stalled()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._expiry is not None:
            self._expiry.cancel()
        super().connection_lost(exc)

    def handshake(
        self, process_request: Any = None, *args: Any, **kwargs: Any
    ) -> Coroutine[Any, Any, None]:
        if self.router is not None:
            hook = process_request
            process_request = self.router.handshake.process_request
            if hook is not None:
                process_request = partial(process_request, hook=hook)
        return super().handshake(process_request, *args, **kwargs)
