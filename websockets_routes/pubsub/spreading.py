"""Spreading: what comes from a broker or from history goes to who is here."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from typing import Any, TypeVar

from websockets.asyncio.server import ServerConnection

from ..brokers.base import Envelope, HistoryPolicy
from ..brokers.link import logger
from .clients import client_key_of
from .frames import Message, encode_payload
from .hearing import Hearing
from .hooks import Hooks
from .message import message_of
from .names import Filter
from .outbox import Outbox
from .overflow import Overflow
from .receipt import Receipt
from .topic import Topic
from .tracks import Track

__all__ = ["Spreading"]

F = TypeVar("F", bound=Callable[..., Any])


class Spreading(Hearing):
    """Topics whose messages may come from elsewhere; see ``Topics``."""

    def __init__(self, *limits: int) -> None:
        super().__init__(*limits)
        self._dropped = Hooks("on_drop", "ws", "topic", "message")
        self._gaps = Hooks("on_gap", "topic")
        self._counts = Receipt()
        self._lost = 0
        # Connections that are being brought up to date, by topic.
        self._joining: dict[tuple[Outbox, str], asyncio.Future[None]] = {}

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

    def on_gap(self, function: F) -> F:
        """Decorate a function ``f(topic)``: messages were missed, and are lost.

        It is called when the broker is there again after it was away, for each topic
        or filter that this node hears, unless the topic has history and all that was
        missed could be delivered. Without such a function, it is logged. It may be a
        coroutine function. If it fails, that is logged.

        Raises:
            EndpointError: If it is no such function.
        """
        self._gaps.add(function)
        return function

    def lost(self, ws: ServerConnection, message: Message) -> None:
        """Take note that a slow subscriber lost a message; called by outboxes."""
        self._lost += 1
        if self._dropped:
            # Later: a fan-out must not be changed while it goes on.
            original = message.original
            ws.loop.call_soon(self._dropped.call, ws, message.topic, original)

    def _declared(self, topic: str) -> Topic | None:
        found = self._declarations.match(topic) if self._declarations else None
        return None if found is None else found[0]

    def _wire(self, envelope: Envelope, declared: Topic | None) -> Message:
        """Make what goes to connections."""
        topic, payload, text = envelope.topic, envelope.data, envelope.text
        overflow, key = Overflow.CLOSE, None
        if declared is not None:
            overflow = declared.overflow
            if declared.key is not None:
                key = declared.key(payload.decode() if text else payload)
                hash(key)
            if declared.envelope is not None:
                wrapped = declared.envelope(message_of(envelope))
                payload, text = encode_payload(wrapped, None)
        return Message(payload, text, topic, envelope.compress, overflow, key, self)

    def _count(self, receipt: Receipt) -> None:
        counts = self._counts
        counts.queued += receipt.queued
        if receipt.queued == receipt.matched and not (
            receipt.conflated or receipt.displaced
        ):
            return  # as it goes where nobody is slow
        counts.conflated += receipt.conflated
        counts.dropped += receipt.dropped
        counts.displaced += receipt.displaced
        counts.closed += receipt.closed

    def _without(
        self, audience: Collection[Outbox], client: str
    ) -> tuple[Collection[Outbox], Outbox | None]:
        """Leave a client out of an audience: as one to exclude, or several at once."""
        outboxes = self._clients.get(client, {})
        if len(outboxes) > 1:
            return [each for each in audience if each not in outboxes], None
        return audience, next(iter(outboxes), None)

    def _without_connection(
        self, audience: Collection[Outbox], ws: ServerConnection
    ) -> tuple[Collection[Outbox], Outbox | None]:
        client = client_key_of(ws)
        if client in self._clients:
            return self._without(audience, client)
        return audience, getattr(ws, "outbox", None)

    @property
    def queue_bytes(self) -> int:
        """Bytes that wait for slow subscribers: held back, or in their transports."""
        waiting = 0
        for outbox in self._subscriptions.subscribers:
            backlog = outbox.backlog
            if backlog is not None:
                waiting += backlog.size + outbox.ws.transport.get_write_buffer_size()
        return waiting

    # What a relay wants

    def spread(self, envelope: Envelope, track: Track | None) -> Receipt:
        """Deliver a message of the broker to those here that lack it."""
        audience = self._subscriptions.audience(envelope.topic)
        if not audience:
            return Receipt()
        # Before anyone is left out: it may change who hears the topic.
        message = self._wire(envelope, self._declared(envelope.topic))
        audience = self._subscriptions.audience(envelope.topic)
        if track is not None:
            audience = track.lacking(audience, envelope)
        excluded = None
        if envelope.origin is not None:
            audience, excluded = self._without(audience, envelope.origin)
        receipt = self._delivery.deliver(message, audience, excluded)
        self._count(receipt)
        return receipt

    def policy_of(self, topic: str | Filter) -> HistoryPolicy | None:
        """Find the history of a topic."""
        return self._declarations.policy(topic)

    def is_heard(self, topic: str | Filter) -> bool:
        """Tell whether anybody is subscribed to this very topic or filter."""
        return bool(self._subscriptions.subscribers_of(topic))

    def heard(self) -> list[str | Filter]:
        """List the topics and filters that anybody is subscribed to."""
        if len(self._subscriptions):
            self._bind()  # not those of a loop that has ended
        return self._subscriptions.topics()

    def has_audience(self, topic: str) -> bool:
        """Tell whether anybody would hear a message."""
        return bool(self._subscriptions.audience(topic))

    @property
    def has_presence(self) -> bool:
        """Whether a topic has presence."""
        return self._declarations.has_presence

    def tell_gap(self, topic: str | Filter) -> None:
        """Tell that messages were missed, and are lost."""
        if not self._gaps:
            logger.warning("messages of %r were missed: the broker was away", topic)
        self._gaps.call_without(topic)
