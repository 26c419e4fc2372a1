"""Protocol: one connection of a routed server.

What this module takes from ``websockets`` beyond its documentation, and
``tests/test_undocumented.py`` watches:

- ``ServerConnection.handshake(process_request, …)``, called once a connection by
  its server, so that the route is known before any other hook runs;
- ``transport``, ``send_in_progress`` and ``protocol.data_to_send()``, to send
  without awaiting;
- ``connection_lost_waiter``, to end the tasks of a connection with it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from websockets import (
    ConnectionClosed,
    ConnectionClosedError,
    Headers,
    ServerProtocol,
    State,
)
from websockets.asyncio.server import Server, ServerConnection
from websockets.typing import Data, DataLike

from .answering import answer_malformed_requests
from .exceptions import BacklogFull, NotServing
from .fragments import BehindFragments
from .opcodes import OpCode
from .path import RoutedPath
from .serializer import Serializer
from .tasks import Tasks

if TYPE_CHECKING:
    from .router import Router

__all__ = ["Protocol"]

T = TypeVar("T")

# The heads of whole frames, not masked, that are shorter than 126 bytes.
_TEXT = [bytes((0x80 | OpCode.TEXT, size)) for size in range(126)]
_BINARY = [bytes((0x80 | OpCode.BINARY, size)) for size in range(126)]


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
    #: What reads and writes JSON; ``Router(json=…)`` chooses.
    serializer = Serializer()
    #: Bytes that may wait to be sent before ``send_nowait`` raises.
    max_backlog = 2**20
    path: RoutedPath
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

    # Sending

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
            raise self._closed()
        backlog = transport.get_write_buffer_size()
        sent = self.send_in_progress
        if isinstance(sent, BehindFragments):
            backlog += sent.size
        if backlog > self.max_backlog:
            raise BacklogFull(backlog, self.max_backlog)
        if sent is not None:
            # Frames of another message must not stand between fragments.
            if not isinstance(sent, BehindFragments):
                sent = self.send_in_progress = BehindFragments(self, sent)
            sent.add(bytes(message), is_text)
            return
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

    def _closed(self) -> ConnectionClosed:
        protocol = self.protocol
        if protocol.state is State.CLOSED:
            return self.close_exc
        return ConnectionClosedError(
            protocol.close_rcvd, protocol.close_sent, protocol.close_rcvd_then_sent
        )

    async def send_json(self, value: Any) -> None:
        """Send a value as JSON, in a text frame.

        Raises:
            ConnectionClosed: If the connection is closed.
            TypeError: Or whatever else the JSON module raises for the value.
        """
        await self.send(self.serializer.dumps(value), text=True)

    # Receiving

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
        route = getattr(getattr(self, "path", None), "route", None)
        self.logger.error("task of route %s failed", route, exc_info=error)

    # What websockets calls

    def handshake(
        self, process_request: Any = None, *args: Any, **kwargs: Any
    ) -> Coroutine[Any, Any, None]:
        if self.router is not None:
            hook = process_request
            process_request = self.router.handshake.process_request
            if hook is not None:
                process_request = partial(process_request, hook=hook)
        return super().handshake(process_request, *args, **kwargs)
