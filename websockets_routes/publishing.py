"""Publishing: the topics of a router, and shortcuts to what one does with them."""

from __future__ import annotations

import concurrent.futures
from collections.abc import Callable, Hashable, Mapping
from typing import Any

from websockets.asyncio.server import ServerConnection
from websockets.typing import DataLike

from .opcodes import OpCode
from .pubsub import (
    Filter,
    Message,
    Overflow,
    Position,
    Receipt,
    Subscribed,
    Topic,
    Topics,
)
from .pubsub.message import Enveloping
from .pubsub.roster import Info
from .pubsub.subscribing import Reply
from .pubsub.topic import Authorize
from .serializer import Serializer

__all__ = ["Publishing"]


class Publishing:
    """Topics, at hand.

    Attributes:
        topics: The topics: their hooks, counts and limits.
        serializer: What makes JSON, and reads it.
    """

    def __init__(self, topics: Topics, serializer: Serializer) -> None:
        self.topics = topics
        self.serializer = serializer

    def topic(
        self,
        template: str,
        *,
        overflow: Overflow | str = Overflow.CLOSE,
        key: Callable[[Any], Hashable] | None = None,
        authorize: Authorize | None = None,
        filters: bool = False,
        requirements: Mapping[str, str] | None = None,
        history: int | None = None,
        ttl: float | None = None,
        envelope: Enveloping | None = None,
        presence: bool = False,
    ) -> Topic:
        """Declare a topic; see ``Topics.topic``."""
        return self.topics.topic(
            template,
            overflow=overflow,
            key=key,
            authorize=authorize,
            filters=filters,
            requirements=requirements,
            history=history,
            ttl=ttl,
            envelope=envelope,
            presence=presence,
        )

    async def subscribe(
        self,
        ws: ServerConnection,
        topic: str | Filter,
        *,
        since: Position | None = None,
        last: int | None = None,
        reply: Reply | None = None,
        as_: str | None = None,
        info: Info | None = None,
    ) -> Subscribed:
        """Subscribe a connection, of whatever class; see ``Topics.subscribe``."""
        return await self.topics.subscribe(
            ws, topic, since=since, last=last, reply=reply, as_=as_, info=info
        )

    def unsubscribe(self, ws: ServerConnection, topic: str | Filter) -> bool:
        """End a subscription; tell whether there was one."""
        return self.topics.unsubscribe(ws, topic)

    def publish(
        self,
        topic: str,
        message: DataLike,
        opcode: int | None = None,
        *,
        exclude: ServerConnection | None = None,
        compress: bool | None = None,
        idempotency_key: str | None = None,
    ) -> Receipt:
        """Publish a message to all subscribers; see ``Topics.publish``."""
        return self.topics.publish(
            topic,
            message,
            opcode,
            exclude=exclude,
            compress=compress,
            idempotency_key=idempotency_key,
        )

    def publish_json(
        self,
        topic: str,
        value: Any,
        opcode: int | None = OpCode.TEXT,
        *,
        exclude: ServerConnection | None = None,
        compress: bool | None = None,
        idempotency_key: str | None = None,
    ) -> Receipt:
        """Publish a value as JSON to all subscribers."""
        return self.publish(
            topic,
            self.serializer.dumps(value),
            opcode,
            exclude=exclude,
            compress=compress,
            idempotency_key=idempotency_key,
        )

    def publish_threadsafe(
        self, topic: str, message: DataLike, opcode: int | None = None, **options: Any
    ) -> concurrent.futures.Future[Receipt]:
        """Publish a message from any thread; see ``Topics.publish_threadsafe``."""
        return self.topics.publish_threadsafe(topic, message, opcode, **options)

    async def history(
        self,
        topic: str,
        *,
        since: Position | None = None,
        limit: int | None = None,
        reverse: bool = False,
    ) -> list[Message]:
        """Read the history of a topic; see ``Topics.history``."""
        return await self.topics.history(
            topic, since=since, limit=limit, reverse=reverse
        )

    async def presence(self, topic: str) -> dict[str, list[Info]]:
        """List the members of a topic, on all nodes; see ``Topics.presence``."""
        return await self.topics.presence(topic)

    def num_subscribers(self, topic: str | Filter) -> int:
        """Count the subscribers of this very topic, or of this very filter."""
        return self.topics.num_subscribers(topic)
