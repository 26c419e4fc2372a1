"""Subscribing: who may hear what, who does, and how it ends."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Hashable, Mapping
from typing import Any, TypeVar

from websockets import CloseCode, State
from websockets.asyncio.server import ServerConnection

from ..closing import close_all, closed_error
from ..exceptions import (
    MustAwait,
    NotServing,
    SubscriptionDenied,
    TooManySubscriptions,
    WrongThread,
)
from ..limits import check_limit
from .delivery import Delivery
from .hooks import Hooks
from .names import Filter, check_levels, check_name
from .outbox import Outbox, outbox_of
from .overflow import Overflow
from .receipt import Subscribed
from .subscriptions import Subscriptions
from .topic import Authorize, Declarations, Topic

__all__ = ["Subscribing"]

F = TypeVar("F", bound=Callable[..., Any])


class Subscribing:
    """Declared topics and their subscribers: one half of ``Topics``.

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
        )
        self._declarations.add(topic)
        return topic

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

    # Subscribing

    async def subscribe(
        self,
        ws: ServerConnection,
        topic: str | Filter,
        *,
        declared: Topic | None = None,
    ) -> Subscribed:
        """Subscribe a connection. Subscribing twice is one subscription.

        A connection whose filters overlap gets a message once. It leaves its topics
        when it is closed.

        Args:
            ws: The connection; one of websockets' own class will do.
            topic: The name of a topic, or a ``Filter``.
            declared: A declaration whose ``authorize`` is asked even if it is not
                one of these topics.

        Raises:
            InvalidTopic: If it is no name; a wildcard needs a ``Filter``.
            SubscriptionDenied: If ``authorize`` says so; unhandled, it closes with
                1008.
            TooManySubscriptions: If it has as many as it may.
            ConnectionClosed: If the connection is closed or closing.
        """
        if not self._check(ws, topic):
            return Subscribed(topic, False)
        for authorized, params in self._declarations.guards(topic, declared):
            allowed = authorized(ws, topic, params)
            if inspect.isawaitable(allowed):
                allowed = await allowed
            if not allowed:
                raise SubscriptionDenied(topic)
        # The connection may have closed in the meantime.
        return Subscribed(topic, self._check(ws, topic) and self._add(ws, topic))

    def subscribe_nowait(self, ws: ServerConnection, topic: str | Filter) -> Subscribed:
        """Subscribe a connection from a plain function.

        Raises:
            MustAwait: If ``authorize`` has to be awaited.
            Exception: What ``subscribe`` raises.
        """
        if not self._check(ws, topic):
            return Subscribed(topic, False)
        for authorized, params in self._declarations.guards(topic):
            allowed = authorized(ws, topic, params)
            if inspect.isawaitable(allowed):
                if inspect.iscoroutine(allowed):
                    allowed.close()
                raise MustAwait(
                    f"the authorize of {str(topic)!r} has to be awaited: "
                    "use subscribe() rather than subscribe_nowait()"
                )
            if not allowed:
                raise SubscriptionDenied(topic)
        return Subscribed(topic, self._check(ws, topic) and self._add(ws, topic))

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
        self._left(ws, topic)
        return True

    def _leave(self, outbox: Outbox) -> None:
        # One by one, so that a hook that subscribes another one counts right.
        for topic in list(self._subscriptions.topics_of(outbox)):
            self._subscriptions.remove(outbox, topic)
            self._left(outbox.ws, topic)

    def _left(self, ws: ServerConnection, topic: str | Filter) -> None:
        if self._subscribed:
            count = self._subscriptions.count(topic)
            self._subscribed.call(ws, topic, count, count + 1)

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
            self._subscriptions = Subscriptions()
        if len(self._subscriptions):
            raise WrongThread(
                "the subscribers of these topics are on another event loop: "
                "use publish_threadsafe() to reach them"
            )
        delivery.bind(loop)

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
