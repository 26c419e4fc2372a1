"""Attending: who is present in topics, on all nodes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from websockets.asyncio.server import ServerConnection

from ..exceptions import InvalidTopic
from ..limits import check_limit
from .attendance import Attendance
from .hooks import Hooks
from .names import Filter, check_levels, check_name
from .outbox import Outbox
from .roster import Change, Info
from .spreading import Spreading

__all__ = ["Attending"]

F = TypeVar("F", bound=Callable[..., Any])


class Attending(Spreading):
    """Topics that know who is present; see ``Topics``."""

    def __init__(
        self, *limits: int, presence_ttl: float = 30, max_info: int = 4096
    ) -> None:
        super().__init__(*limits)
        check_limit("presence_ttl", presence_ttl, optional=False)
        self._attended = Hooks("on_presence", "topic", "joins", "leaves")
        self._attendance = Attendance(presence_ttl, max_info, self._tell_presence)

    def on_presence(self, function: F) -> F:
        """Decorate a function ``f(topic, joins, leaves)``: who came, and who went.

        Both are dicts of members with lists of the infos of their connections. A
        member comes with its first connection on any node and goes with its last.
        Each node calls its own functions; one that has just begun tells who was there
        before as having come. It may be a coroutine function. If it fails, error
        handlers hear of it, with no connection, or else it is logged.

        Raises:
            EndpointError: If it is no such function.
        """
        self._attended.add(function)
        return function

    def _tell_presence(self, change: Change) -> None:
        self._attended.call_without(*change)

    async def presence(self, topic: str) -> dict[str, list[Info]]:
        """List the members of a topic, and the infos of their connections.

        They are those of all nodes, as this node knows them: one that has just begun
        takes a moment to hear of the others. Copy an info before you change it.

        Args:
            topic: The name of a topic that is declared with ``presence=True``.

        Raises:
            InvalidTopic: If it is no name, or the topic has no presence.
            NotServing: If there is a broker, and it is not started.
            BrokerError: If the broker does not let this node take part.
        """
        self._check_presence(topic)
        await self._attend()
        return self._attendance.presence.members(topic)

    async def _attend(self) -> None:
        if self._relay is not None:
            await self._relay.attend()

    def _check_presence(self, topic: str | Filter) -> None:
        if isinstance(topic, Filter):
            raise InvalidTopic(topic, "a filter has no presence: name a topic")
        check_name(topic)
        check_levels(topic, self.max_length, self.max_levels)
        found = self._declarations.match(topic)
        if found is None or not found[0].presence:
            problem = "it has no presence: declare it with presence=True"
            raise InvalidTopic(topic, problem)

    def _check_member(
        self,
        ws: ServerConnection,
        topic: str | Filter,
        member: str | None,
        info: Info | None,
    ) -> None:
        """Check that a connection could be present, before anything is done."""
        if member is None:
            raise InvalidTopic(topic, "an info is for a member: subscribe with as_")
        self._check_presence(topic)
        self._attendance.presence.check(str(topic), member, str(ws.id), info)

    def _join_as(
        self,
        ws: ServerConnection,
        topic: str | Filter,
        member: str,
        info: Info | None,
    ) -> None:
        # Somebody may have unsubscribed it in the meantime.
        if topic in self.topics_of(ws):
            self._attendance.join(str(topic), member, str(ws.id), info)

    def _leave(self, outbox: Outbox) -> None:
        super()._leave(outbox)
        if self._attendance.is_used:
            self._attendance.gone(str(outbox.ws.id))

    def _left(self, outbox: Outbox, topic: str | Filter) -> None:
        super()._left(outbox, topic)
        if self._attendance.is_used and not isinstance(topic, Filter):
            self._attendance.leave(topic, str(outbox.ws.id))

    def _forget(self) -> None:
        super()._forget()
        self._attendance.forget()
