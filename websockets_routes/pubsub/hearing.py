"""Hearing: declared topics, who is subscribed to them, and how that ends."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable, Mapping
from typing import Any, TypeVar

from websockets import CloseCode, State
from websockets.asyncio.server import ServerConnection

from ..closing import close_all, closed_error
from ..exceptions import NotServing, TooManySubscriptions, WrongThread
from ..limits import check_limit
from .clients import client_key_of
from .delivery import Delivery
from .hooks import Hooks
from .local import Local
from .message import Enveloping
from .names import Filter, check_levels, check_name
from .outbox import Outbox, outbox_of
from .overflow import Overflow
from .relay import Relay
from .subscriptions import Subscriptions
from .topic import Authorize, Declarations, Topic

__all__ = ["Hearing"]

F = TypeVar("F", bound=Callable[..., Any])


class Hearing:
    """Declared topics and their subscribers: the ground of ``Topics``.

    See ``Topics`` for the arguments.
    """

    def __init__(
        self, max_subscriptions: int, max_length: int, max_levels: int, max_backlog: int
    ) -> None:
        check_limit("max_subscriptions", max_subscriptions, optional=False)
        check_limit("max_length", max_length, optional=False)
        check_limit("max_levels", max_levels, optional=False)
        check_limit("max_backlog", max_backlog, optional=False)
        self.max_subscriptions = max_subscriptions
        self.max_length = max_length
        self.max_levels = max_levels
        self.max_backlog = max_backlog
        self._declarations = Declarations()
        self._subscriptions: Subscriptions[Outbox] = Subscriptions()
        self._delivery = Delivery()
        self._local = Local()
        self._relay: Relay | None = None
        # Whether there is more to do than to deliver here and now: a broker, or a
        # topic whose messages are kept or enveloped.
        self._beyond = False
        # Connections by the keys of their clients, where these may be needed.
        self._clients: dict[str, dict[Outbox, None]] = {}
        self._subscribed = Hooks(
            "on_subscription", "ws", "topic", "new_count", "old_count"
        )

    # Declaring

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
        """Declare a topic; see ``Topic`` for the arguments.

        A topic that nobody declared has the defaults. Where several match a name,
        the most specific one holds, as with routes.

        Returns:
            The topic; called with params, it builds a name.

        Raises:
            TemplateError: If the template cannot work.
            InvalidTopic: If an argument cannot work, or if the same template was
                declared before.
        """
        topic = Topic(
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
        self._declarations.add(topic)
        self._look_beyond()
        return topic

    def _look_beyond(self) -> None:
        self._beyond = self._relay is not None or self._declarations.has_kept

    def on_subscription(self, function: F) -> F:
        """Decorate a function ``f(ws, topic, new_count, old_count)``.

        It is called after each subscription has begun or ended, with the number of
        subscribers of this very topic after and before. It may be a coroutine
        function. If it fails, that is logged.

        Raises:
            EndpointError: If it is no such function.
        """
        self._subscribed.add(function)
        return function

    # Subscribers

    def _check(self, ws: ServerConnection, topic: str | Filter) -> bool:
        """Check that a subscription may begin; tell whether it would be new."""
        if not isinstance(topic, Filter):
            check_name(topic)
        check_levels(topic, self.max_length, self.max_levels)
        if ws.protocol.state is State.CONNECTING:
            raise NotServing("the connection is not open yet: subscribe in its handler")
        if ws.protocol.state is not State.OPEN:
            raise closed_error(ws)
        self._bind()
        outbox = outbox_of(ws, self.max_backlog)
        topics = self._subscriptions.topics_of(outbox)
        if topic in topics:
            return False
        if len(topics) >= self.max_subscriptions:
            raise TooManySubscriptions(self.max_subscriptions)
        return True

    def _add(self, ws: ServerConnection, topic: str | Filter) -> bool:
        outbox = outbox_of(ws, self.max_backlog)
        outbox.when_lost(self._leave)
        client = client_key_of(ws)
        if self._relay is not None or client != str(ws.id):
            self._clients.setdefault(client, {})[outbox] = None
        added = self._subscriptions.add(outbox, topic)
        if added and self._subscribed:
            count = self._subscriptions.count(topic)
            self._subscribed.call(ws, topic, count, count - 1)
        return added

    def unsubscribe(self, ws: ServerConnection, topic: str | Filter) -> bool:
        """End a subscription; tell whether there was one."""
        outbox: Outbox | None = getattr(ws, "outbox", None)
        if outbox is None or not self._subscriptions.remove(outbox, topic):
            return False
        self._left(outbox, topic)
        return True

    def _leave(self, outbox: Outbox) -> None:
        client = client_key_of(outbox.ws)
        connections = self._clients.get(client)
        if connections is not None:
            connections.pop(outbox, None)
            if not connections:
                del self._clients[client]
        # One by one, so that a hook that subscribes another one counts right.
        for topic in list(self._subscriptions.topics_of(outbox)):
            self._subscriptions.remove(outbox, topic)
            self._left(outbox, topic)

    def _left(self, outbox: Outbox, topic: str | Filter) -> None:
        if self._relay is not None:
            self._relay.left(topic, outbox)
        if self._subscribed:
            count = self._subscriptions.count(topic)
            self._subscribed.call(outbox.ws, topic, count, count + 1)

    def topics_of(self, ws: ServerConnection) -> tuple[str | Filter, ...]:
        """Return what a connection hears, in the order in which it subscribed."""
        outbox: Outbox | None = getattr(ws, "outbox", None)
        return () if outbox is None else tuple(self._subscriptions.topics_of(outbox))

    def _bind(self) -> None:
        """Make sure that this is the event loop of all subscribers."""
        delivery = self._delivery
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            loop = None
        if loop is not None and loop is delivery.loop:
            return
        if delivery.loop is not None and delivery.loop.is_closed():
            # What is left of a loop that ended before its connections did.
            self._forget()
        if len(self._subscriptions):
            raise WrongThread(
                "the subscribers of these topics are on another event loop: "
                "use publish_threadsafe() to reach them"
            )
        delivery.bind(loop)

    def _forget(self) -> None:
        """Forget all subscribers."""
        self._subscriptions = Subscriptions()
        self._clients.clear()

    # Moderating

    def find(
        self, target: str | Filter | Callable[[Any], Any]
    ) -> list[ServerConnection]:
        """List the subscribers of a topic, or of topics.

        Args:
            target: The name of a topic, for who subscribed to this very name; a
                ``Filter``, for who subscribed to a name that it matches, or to this
                very filter; or a function of the connection.
        """
        subscriptions = self._subscriptions
        if callable(target):
            everyone = [outbox.ws for outbox in subscriptions.subscribers]
            return [ws for ws in everyone if target(ws)]
        found = dict.fromkeys(subscriptions.subscribers_of(target))
        if isinstance(target, Filter):
            for name, subscribers in subscriptions.names.items():
                if target.matches(name):
                    found |= dict.fromkeys(subscribers)
        else:
            check_name(target)
        return [outbox.ws for outbox in found]

    async def disconnect(
        self,
        target: str | Filter | Callable[[Any], Any],
        code: int = CloseCode.POLICY_VIOLATION,
        reason: str = "",
    ) -> int:
        """Close subscribers, and wait until they are closed.

        Args:
            target: See ``find``.
            code: The close code.
            reason: The close reason.

        Returns:
            How many were closed.
        """
        return await close_all(self.find(target), code, reason)
