"""Topics: publish and subscribe, for the connections of one process."""

from __future__ import annotations

import concurrent.futures
import json as json_module
from collections.abc import Callable
from typing import Any, TypeVar

from websockets.asyncio.server import ServerConnection
from websockets.typing import DataLike

from ..opcodes import OpCode
from ..serializer import Serializer
from .frames import Message, encode_payload
from .hooks import Hooks
from .names import Filter, check_levels, check_name
from .outbox import MAX_BACKLOG
from .overflow import Overflow
from .receipt import Receipt, Statistics
from .subscribing import Subscribing

__all__ = ["Topics"]

F = TypeVar("F", bound=Callable[..., Any])


class Topics(Subscribing):
    """Publish and subscribe.

    All subscribers of a topic see its messages in the same order, and a connection
    sees what is published and sent to it in the order of the calls. Everything has
    to be called on the event loop of the subscribers, but ``publish_threadsafe``.

    Args:
        json: What ``publish_json`` uses; has ``dumps`` and ``loads``.
        max_subscriptions: How many topics and filters a connection may hear.
        max_length: The greatest length of a name or filter, in bytes of UTF-8.
        max_levels: The greatest number of levels of a name or filter.
        max_backlog: Bytes that may wait for a slow subscriber of websockets' own
            class; those of this package have a limit of their own.
    """

    def __init__(
        self,
        *,
        json: Any = json_module,
        max_subscriptions: int = 1000,
        max_length: int = 512,
        max_levels: int = 32,
        max_backlog: int = MAX_BACKLOG,
    ) -> None:
        super().__init__(max_subscriptions, max_length, max_levels, max_backlog)
        self._serializer = Serializer(json)
        self._dropped = Hooks("on_drop", "ws", "topic", "message")
        self._counts = Receipt()
        self._published = 0
        self._lost = 0

    @property
    def is_used(self) -> bool:
        """Whether anything was published, or anyone ever subscribed."""
        return self._published > 0 or self._delivery.loop is not None

    def hear_of_errors(self, function: Callable[[Exception, Any, str], None]) -> None:
        """Have a function told of errors of hooks, in place of the log."""
        if self._subscribed.failed is None:
            self._subscribed.failed = self._dropped.failed = function

    def check_adoption(self, other: Topics) -> None:
        """Check whether ``adopt`` can be done.

        Raises:
            InvalidTopic: If a topic is declared here already.
        """
        if other is not self:
            self._declarations.check_adoption(other._declarations)

    def adopt(self, other: Topics) -> None:
        """Take over the declared topics and hooks of topics that are not used."""
        if other is not self:
            self._declarations.adopt(other._declarations)
            self._subscribed.adopt(other._subscribed)
            self._dropped.adopt(other._dropped)

    def on_drop(self, function: F) -> F:
        """Decorate a function ``f(ws, topic, message)``: what a slow subscriber lost.

        It is called for each message that a policy dropped, and for each one that
        waited for a slow subscriber when its connection ended. It may be a
        coroutine function. If it fails, that is logged.

        Raises:
            EndpointError: If it is no such function.
        """
        self._dropped.add(function)
        return function

    # Publishing

    def publish(
        self,
        topic: str,
        message: DataLike,
        opcode: int | None = None,
        *,
        exclude: ServerConnection | None = None,
        compress: bool | None = None,
    ) -> Receipt:
        """Publish a message to all subscribers of a topic.

        It is encoded once, and compressed once for all that negotiated the same. It
        leaves at the end of this turn of the event loop; nothing waits for a slow
        subscriber: see ``topic``.

        Args:
            topic: The name of the topic.
            message: A str goes out as text, bytes as binary.
            opcode: ``OpCode.TEXT`` or ``OpCode.BINARY``, whatever its type.
            exclude: A connection that does not get it.
            compress: True or False to insist; None lets its size decide. Nothing is
                compressed for a client that cannot read it. With
                ``compression="deflate"`` each connection decides for itself.

        Returns:
            What became of it on this server.

        Raises:
            InvalidTopic: If it is no name.
            TypeError: If the message is neither str nor bytes-like.
            ValueError: If the opcode is that of no message, or if text has to go out
                that is no valid Unicode.
            WrongThread: Outside of the event loop of the subscribers.
        """
        if len(self._subscriptions):
            self._bind()
        subscriptions = self._subscriptions
        if not isinstance(topic, str) or topic not in subscriptions.names:
            check_name(topic)
            check_levels(topic, self.max_length, self.max_levels)
        payload, text = encode_payload(message, opcode)
        if not subscriptions.audience(topic):
            self._published += 1
            return Receipt()
        overflow, key = Overflow.CLOSE, None
        found = self._declarations.match(topic) if self._declarations else None
        if found is not None:
            overflow = found[0].overflow
            if found[0].key is not None:
                # It may change who hears the topic.
                key = found[0].key(message)
                hash(key)
        self._published += 1
        receipt = self._delivery.deliver(
            Message(payload, text, topic, compress, overflow, key, self),
            subscriptions.audience(topic),
            getattr(exclude, "outbox", None),
        )
        counts = self._counts
        counts.queued += receipt.queued
        if receipt.queued != receipt.matched or receipt.conflated or receipt.displaced:
            counts.conflated += receipt.conflated
            counts.dropped += receipt.dropped
            counts.displaced += receipt.displaced
            counts.closed += receipt.closed
        return receipt

    def publish_json(
        self,
        topic: str,
        value: Any,
        opcode: int | None = OpCode.TEXT,
        *,
        exclude: ServerConnection | None = None,
        compress: bool | None = None,
    ) -> Receipt:
        """Publish a value as JSON, as text unless the opcode says otherwise.

        See ``publish`` for the arguments and errors.
        """
        text = self._serializer.dumps(value)
        return self.publish(topic, text, opcode, exclude=exclude, compress=compress)

    def publish_threadsafe(
        self, topic: str, message: DataLike, opcode: int | None = None, **options: Any
    ) -> concurrent.futures.Future[Receipt]:
        """Publish a message from any thread.

        See ``publish`` for the arguments.

        Returns:
            A future of the receipt, or of what ``publish`` raises. Cancelled before
            its turn comes, nothing is published.
        """
        future: concurrent.futures.Future[Receipt] = concurrent.futures.Future()

        def publish() -> None:
            if not future.set_running_or_notify_cancel():
                return
            try:
                future.set_result(self.publish(topic, message, opcode, **options))
            except Exception as error:
                future.set_exception(error)

        loop = self._delivery.loop
        if loop is None or loop.is_closed():
            publish()  # to nobody
        else:
            loop.call_soon_threadsafe(publish)
        return future

    def lost(self, ws: ServerConnection, message: Message) -> None:
        """Take note that a slow subscriber lost a message; called by outboxes."""
        self._lost += 1
        if self._dropped:
            # Later: a fan-out must not be changed while it goes on.
            original = message.original
            ws.loop.call_soon(self._dropped.call, ws, message.topic, original)

    # Asking

    def num_subscribers(self, topic: str | Filter) -> int:
        """Count the subscribers of this very topic, or of this very filter."""
        return self._subscriptions.count(topic)

    def counts(self, topic: Filter | None = None) -> dict[str, int]:
        """Count the subscribers of each topic, or of those that a filter matches.

        Whoever hears a topic only by a filter does not count.
        """
        return {
            name: len(subscribers)
            for name, subscribers in self._subscriptions.names.items()
            if topic is None or topic.matches(name)
        }

    def statistics(self) -> Statistics:
        """Count what there is, and what became of the messages so far."""
        counts = self._counts
        return Statistics(
            names=len(self._subscriptions.names),
            subscribers=len(self._subscriptions.subscribers),
            subscriptions=len(self._subscriptions),
            published=self._published,
            queued=counts.queued,
            conflated=counts.conflated,
            dropped=counts.dropped,
            displaced=counts.displaced,
            closed=counts.closed,
            lost=self._lost,
        )
