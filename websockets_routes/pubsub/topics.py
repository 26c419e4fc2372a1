"""Topics: publish and subscribe, in one process or over many."""

from __future__ import annotations

import concurrent.futures
import json as json_module
import os
import time
from collections.abc import Callable, Collection
from typing import Any, Self

from websockets.asyncio.server import ServerConnection
from websockets.typing import DataLike

from ..broker_errors import BrokerError
from ..brokers.base import Broker, Envelope, Published
from ..brokers.opening import open_broker
from ..exceptions import NotServing
from ..opcodes import OpCode
from ..serializer import Serializer
from .clients import client_key_of
from .frames import Message, encode_payload
from .latency import Latencies
from .names import Filter, check_levels, check_name
from .outbox import MAX_BACKLOG, Outbox
from .overflow import Overflow
from .receipt import HistoryReceipt, Receipt, Statistics
from .relay import Relay
from .subscribing import Subscribing
from .topic import Topic

__all__ = ["BROKER_VARIABLE", "Topics"]

#: The environment variable that names the broker of topics that have none.
BROKER_VARIABLE = "WEBSOCKETS_ROUTES_BROKER"


class Topics(Subscribing):
    """Publish and subscribe.

    All subscribers of a topic see its messages in the same order, and a connection
    sees what is published and sent to it in the order of the calls. Everything has
    to be called on the event loop of the subscribers, but ``publish_threadsafe``.

    Without a broker, or with ``memory://``, messages stay in this process and are
    delivered at once. With one, they go to all nodes that share its engine; order and
    everything else is as with one process, but that a publish has to come back from
    the broker before it is delivered here.

    Args:
        broker: What carries messages between processes: ``memory://``, ``redis://…``,
            ``rediss://…``, ``nats://…`` or a ``Broker``. By default, what the
            environment says in ``WEBSOCKETS_ROUTES_BROKER``.
        json: What ``publish_json`` uses; has ``dumps`` and ``loads``.
        max_subscriptions: How many topics and filters a connection may hear.
        max_length: The greatest length of a name or filter, in bytes of UTF-8.
        max_levels: The greatest number of levels of a name or filter.
        max_backlog: Bytes that may wait for a slow subscriber of websockets' own
            class; those of this package have a limit of their own.
        presence_ttl: Seconds within which the members of a node that died are gone; the
            same on all nodes.
        max_info: Bytes of JSON that the info of a member's connection may have; 64 KiB
            at most.
    """

    def __init__(
        self,
        broker: Broker | str | None = None,
        *,
        json: Any = json_module,
        max_subscriptions: int = 1000,
        max_length: int = 512,
        max_levels: int = 32,
        max_backlog: int = MAX_BACKLOG,
        presence_ttl: float = 30,
        max_info: int = 4096,
    ) -> None:
        super().__init__(
            max_subscriptions,
            max_length,
            max_levels,
            max_backlog,
            presence_ttl=presence_ttl,
            max_info=max_info,
        )
        self._serializer = Serializer(json)
        self._published = 0
        if broker is None:
            broker = os.environ.get(BROKER_VARIABLE) or None
        if broker is not None:
            self.set_broker(broker)

    @property
    def is_used(self) -> bool:
        """Whether anything was published, or anyone ever subscribed."""
        return self._published > 0 or self._delivery.loop is not None

    def hear_of_errors(self, function: Callable[[Exception, Any, str], None]) -> None:
        """Have a function told of errors of hooks, in place of the log."""
        if self._subscribed.failed is None:
            for hooks in (self._subscribed, self._dropped, self._gaps, self._attended):
                hooks.failed = function

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
            self._gaps.adopt(other._gaps)
            self._attended.adopt(other._attended)
            self._look_beyond()

    # The broker

    def set_broker(self, broker: Broker | str) -> None:
        """Choose the broker, before it is started and anybody subscribes.

        Args:
            broker: See ``Topics``.

        Raises:
            BrokerError: If there is no such broker, or what it needs is not installed.
            NotServing: If it is too late.
        """
        if self.is_used or (self._relay is not None and self._relay.is_started):
            raise NotServing("the topics are in use: choose their broker before")
        if isinstance(broker, str) and broker.partition(":")[0] == "memory":
            open_broker(broker)
            self._relay = None
        elif not isinstance(broker, Broker | str):
            kind = type(broker).__name__
            raise BrokerError(kind, "a broker is a URL, or a Broker")
        else:
            self._relay = Relay(self, broker, self._attendance)
        self._look_beyond()

    @property
    def broker(self) -> Broker | None:
        """The broker; None where messages stay in this process."""
        return None if self._relay is None else self._relay.broker

    async def start(self) -> None:
        """Connect to the broker, if there is one.

        A server that ``Router.serve`` made does this before it listens, and closes
        at its end: this is for scripts without one. What was started twice has to be
        closed twice.

        Raises:
            BrokerError: If it cannot.
        """
        if self._relay is not None:
            await self._relay.start()

    async def close(self) -> None:
        """Disconnect from the broker.

        It waits for what was published before, a second at most.
        """
        if self._relay is not None:
            await self._relay.close()

    async def settle(self) -> None:
        """Wait until what was published here was delivered here, a second at most.

        A server does so at its end: what it publishes then is the last that is heard.
        """
        if self._relay is not None:
            await self._relay.settle()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.close()

    # Publishing

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
        """Publish a message to all subscribers of a topic.

        It is encoded once, and compressed once for all that negotiated the same. It
        leaves at the end of this turn of the event loop; nothing waits for a slow
        subscriber: see ``topic``.

        Args:
            topic: The name of the topic.
            message: A str goes out as text, bytes as binary.
            opcode: ``OpCode.TEXT`` or ``OpCode.BINARY``, whatever its type.
            exclude: A connection that does not get it, and nor does any other one of
                the same ``client_key``, on whatever node.
            compress: True or False to insist; None lets its size decide. Nothing is
                compressed for a client that cannot read it. With
                ``compression="deflate"`` each connection decides for itself.
            idempotency_key: Within two minutes a second message to the topic with the
                same key is not published; the receipt says so, with the offset of the
                first.

        Returns:
            What became of it on this server. With a broker that is not known at once:
            see ``Receipt``.

        Raises:
            InvalidTopic: If it is no name.
            TypeError: If the message is neither str nor bytes-like.
            ValueError: If the opcode is that of no message, or if text has to go out
                that is no valid Unicode, or a key.
            WrongThread: Outside of the event loop of the subscribers.
            NotServing: Outside of event loops, before a broker is started.
        """
        if len(self._subscriptions):
            self._bind()
        subscriptions = self._subscriptions
        if not isinstance(topic, str) or topic not in subscriptions.names:
            check_name(topic)
            check_levels(topic, self.max_length, self.max_levels)
        payload, text = encode_payload(message, opcode)
        found = self._declarations.match(topic) if self._declarations else None
        declared = None if found is None else found[0]
        if self._relay is not None:
            if declared is not None and declared.key is not None:
                hash(declared.key(message))  # so that it fails here, not on all nodes
            origin = None if exclude is None else client_key_of(exclude)
            name = self._relay.next_id()
            envelope = Envelope(
                topic, payload, text, origin, name, time.time(), compress=compress
            )
            policy = None if declared is None else declared.history
            sent = self._relay.publish(envelope, policy, idempotency_key)
            self._published += 1
            return sent
        if idempotency_key is not None or (declared is not None and declared.is_kept):
            return self._publish_kept(
                declared, topic, payload, text, exclude, compress, idempotency_key
            )
        if not subscriptions.audience(topic):
            self._published += 1
            return Receipt()
        overflow, key = Overflow.CLOSE, None
        if declared is not None:
            overflow = declared.overflow
            if declared.key is not None:
                # It may change who hears the topic.
                key = declared.key(message)
                hash(key)
        self._published += 1
        wire = Message(payload, text, topic, compress, overflow, key, self)
        return self._deliver(wire, subscriptions.audience(topic), exclude)

    def _publish_kept(
        self,
        declared: Topic | None,
        topic: str,
        payload: bytes,
        text: bool,
        exclude: ServerConnection | None,
        compress: bool | None,
        idempotency_key: str | None,
    ) -> Receipt:
        """Publish here what is kept, enveloped, or has a key."""
        if idempotency_key is not None:
            known = self._local.known(topic, idempotency_key)
            if known is not None:
                return HistoryReceipt(0, *known)
        policy = None if declared is None else declared.history
        history = None if policy is None else self._local.history(topic, policy)
        origin = None if exclude is None else client_key_of(exclude)
        while True:
            offset = epoch = None
            if history is not None:
                offset, epoch = history.offset + 1, history.epoch
            envelope = Envelope(
                topic, payload, text, origin, "", time.time(), offset, epoch, compress
            )
            # Whatever fails, fails before anything is kept or delivered.
            wire = None
            if self._subscriptions.audience(topic):
                wire = self._wire(envelope, declared)
            if history is None or policy is None:
                break
            if history.offset + 1 == offset:
                history.keep(envelope, policy)
                break
            # What made the message has published to the topic itself.
        if idempotency_key is not None:
            self._local.remember(topic, idempotency_key, Published(offset, epoch))
        self._published += 1
        if wire is None:
            return HistoryReceipt(0, offset, epoch)
        # Only now: what made the message may have changed who hears it.
        audience = self._subscriptions.audience(topic)
        receipt = HistoryReceipt(len(audience), offset, epoch)
        return self._deliver(wire, audience, exclude, receipt)

    def _deliver(
        self,
        message: Message,
        audience: Collection[Outbox],
        exclude: ServerConnection | None,
        receipt: Receipt | None = None,
    ) -> Receipt:
        excluded = getattr(exclude, "outbox", None)
        if self._clients and exclude is not None:
            audience, excluded = self._without_connection(audience, exclude)
            if receipt is not None:
                receipt.matched = receipt.queued = len(audience)
        receipt = self._delivery.deliver(message, audience, excluded, receipt)
        self._count(receipt)
        return receipt

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
        """Publish a value as JSON, as text unless the opcode says otherwise.

        See ``publish`` for the arguments and errors.
        """
        return self.publish(
            topic,
            self._serializer.dumps(value),
            opcode,
            exclude=exclude,
            compress=compress,
            idempotency_key=idempotency_key,
        )

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

        loop = self._delivery.loop if self._relay is None else self._relay.loop
        if loop is None or loop.is_closed():
            publish()  # to nobody
        else:
            loop.call_soon_threadsafe(publish)
        return future

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
        """Count what there is, and what became of the messages so far.

        From the first call on latencies are measured, of the last minute; they are
        None where there was nothing to measure.
        """
        counts = self._counts
        delivery, relay = self._delivery, self._relay
        delivery.latencies = delivery.latencies or Latencies()
        confirmation = None
        if relay is not None:
            relay.latencies = relay.latencies or Latencies()
            confirmation = relay.latencies.last_minute()
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
            delivery=delivery.latencies.last_minute(),
            confirmation=confirmation,
        )
