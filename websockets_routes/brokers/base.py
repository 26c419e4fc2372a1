"""The contract of a broker: what carries messages from one process to the others."""

from __future__ import annotations

import asyncio
import enum
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import NamedTuple, Self

from ..exceptions import InvalidLimit
from ..pubsub.names import Filter

__all__ = [
    "Broker",
    "Envelope",
    "Gap",
    "HistoryPage",
    "HistoryPolicy",
    "Position",
    "Published",
    "Receive",
    "State",
]


class Envelope(NamedTuple):
    """One message on its way, and what all nodes know about it.

    Attributes:
        topic: The name of its topic.
        data: The payload; UTF-8 if it is text.
        text: Whether it goes out as text rather than as binary.
        origin: Who published it, or None: so that all nodes can leave him out.
        id: What tells it from every other message; its publisher makes it.
        timestamp: When it was published, in seconds since the epoch (1970), by the
            clock of its publisher.
        offset: Its number in its topic, increasing; None without history.
        epoch: What its offset counts in; None without history.
        compress: Whether its publisher insists on compression, or on none; None to
            let its size decide.
    """

    topic: str
    data: bytes
    text: bool
    origin: str | None
    id: str
    timestamp: float
    offset: int | None = None
    epoch: str | None = None
    compress: bool | None = None


@dataclass(frozen=True, slots=True)
class HistoryPolicy:
    """How much of a topic is kept.

    Args:
        length: The greatest number of messages.
        ttl: How long a message is kept, in seconds; None for no end.

    Raises:
        InvalidLimit: If one of them is none.
    """

    length: int
    ttl: float | None = None

    def __post_init__(self) -> None:
        if type(self.length) is not int or self.length < 1:
            raise InvalidLimit(f"history is at least 1 message, not {self.length!r}")
        if self.ttl is not None and not 0.001 <= self.ttl <= 1e9:
            raise InvalidLimit(
                f"ttl is a number of seconds, at least 0.001, or None; not {self.ttl!r}"
            )


class Position(NamedTuple):
    """A place in the history of a topic: behind the message with this offset.

    Attributes:
        epoch: What the offset counts in. Another epoch means that the engine has
            lost what was there, or may have.
        offset: The offset.
    """

    epoch: str
    offset: int


class Published(NamedTuple):
    """What an engine answers to a publish.

    Attributes:
        offset: The offset that the message got; None without history.
        epoch: What the offset counts in; None without history.
        duplicate: Whether the idempotency key was known, and nothing was published
            this time. Offset and epoch are those of the first time.
    """

    offset: int | None = None
    epoch: str | None = None
    duplicate: bool = False


class HistoryPage(NamedTuple):
    """A part of the history of a topic.

    Attributes:
        messages: The messages, oldest first; newest first if asked in reverse.
        epoch: The topic's epoch now.
        offset: A message has an offset up to this one if and only if it had been
            published when the page was read. Whoever was subscribed before has
            received all later ones, or will.
        recovered: Whether nothing is missing between the position asked about and
            the messages. Where it is False there are no messages. True if no
            position was asked about.
    """

    messages: tuple[Envelope, ...]
    epoch: str
    offset: int
    recovered: bool


class State(enum.Enum):
    """What a broker is doing."""

    NEW = "new"
    CONNECTED = "connected"
    RECONNECTING = "reconnecting"
    CLOSED = "closed"


#: Takes a message; a plain function that neither waits nor raises.
Receive = Callable[[Envelope], None]

#: Hears that messages of a topic or filter may have been missed.
Gap = Callable[[str | Filter], None]


class Broker(ABC):
    """What carries messages between the nodes that share an engine.

    All methods are called on the event loop that ``start`` was called on.

    What each broker promises:

    - A message comes to every node that is subscribed, its own publisher's too, and
      once to each, however many of the node's subscriptions match it.
    - All nodes receive the messages of a topic in one order. (Core NATS: those of
      one publisher; see there.) The publishes of one node keep their order.
    - What is published after ``subscribe`` has returned is received.
    - When the engine goes away, nothing that was asked for is forgotten: the broker
      connects again by itself, restores what the node is subscribed to, and then
      calls ``gap`` for each topic and filter, before it delivers anything of what
      came since.
    """

    @abstractmethod
    async def start(self, receive: Receive, gap: Gap) -> None:
        """Connect.

        Args:
            receive: Called on the event loop with each message.
            gap: Called with a topic or filter of this node where messages may have
                been missed. A topic with history then delivers what was missed:
                ask for ``history(topic, policy, since=…)``. At that moment the
                subscription is there again, so that there is no second gap.

        Raises:
            BrokerUnavailable: If there is no engine, within a bounded time.
            BrokerError: If it refuses, for wrong credentials for example.
        """

    @abstractmethod
    async def close(self) -> None:
        """Disconnect. Publishes in flight fail; nothing is received any more."""

    @abstractmethod
    def publish(
        self,
        envelope: Envelope,
        *,
        history: HistoryPolicy | None = None,
        idempotency_key: str | None = None,
        window: float = 120,
    ) -> asyncio.Future[Published]:
        """Publish a message; an ordinary call, and many may be in flight.

        Messages keep the order of these calls.

        Args:
            envelope: The message, without offset and epoch.
            history: The policy of the topic, if it has history.
            idempotency_key: Within the window, a second publish to the topic with
                the same key is not delivered.
            window: How long the key is remembered, in seconds.

        Returns:
            A future, done when the engine has the message. Its exceptions:

            - BrokerUnavailable: The engine is not there; ``error.sent`` tells
              whether the message may have been published all the same. A retry
              that must not double it wants an idempotency key.
            - BrokerError: The engine refused the message.
        """

    @abstractmethod
    async def subscribe(self, topic: str | Filter) -> None:
        """Begin to hear a topic or filter; returns when the engine confirmed it.

        Subscribing again to what is subscribed already does no harm: whoever counts
        subscribers calls this for the first and ``unsubscribe`` for the last one.

        Raises:
            BrokerUnavailable: If the engine did not confirm in time. It stays
                subscribed then, and is restored once the engine is there again:
                call ``unsubscribe`` to give up.
            BrokerError: If the engine refused.
        """

    @abstractmethod
    async def unsubscribe(self, topic: str | Filter) -> None:
        """Stop to hear a topic or filter; returns at once, whatever the engine does."""

    @abstractmethod
    async def history(
        self,
        topic: str,
        policy: HistoryPolicy,
        *,
        since: Position | None = None,
        limit: int | None = None,
        reverse: bool = False,
    ) -> HistoryPage:
        """Read the history of a topic.

        To read page by page, go on from the offset of the last message of a page.

        Args:
            topic: The name of the topic.
            policy: Its policy, the same as in ``publish``.
            since: A position: messages behind it, or before it if in reverse.
            limit: The greatest number of messages, at least 1, counted from ``since``.
            reverse: Newest first.

        Returns:
            The page. ``recovered`` is False for a position that is in the future,
            of another epoch, negative, or older than what is kept (in reverse the
            latter makes no difference): never a guess.

        Raises:
            BrokerUnavailable: If the engine is not there.
            BrokerError: If it has no history.
        """

    @property
    @abstractmethod
    def state(self) -> State:
        """What the broker is doing."""

    @property
    def healthy(self) -> bool:
        """Whether the engine is there."""
        return self.state is State.CONNECTED

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()
