"""Roster: which members each topic has, by which connections of which nodes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

__all__ = ["Change", "Info", "Meta", "Roster"]

#: What a member tells about itself: a JSON object.
Info = dict[str, Any]


class Change(NamedTuple):
    """Who came to a topic and who went.

    Attributes:
        topic: The topic.
        joins: The members that came, with the infos of their connections.
        leaves: The members that went, with the infos that their last connections had.
    """

    topic: str
    joins: dict[str, list[Info]]
    leaves: dict[str, list[Info]]


@dataclass(frozen=True, slots=True)
class Meta:
    """One connection of a member in a topic.

    Attributes:
        topic: The topic.
        connection: The id of the connection, unique in its node.
        member: The member.
        since: When it joined, in seconds since 1970 by the clock of its node.
        info: What it tells.
        size: Bytes that it takes in memory, about.
        checksum: A number of 64 bits, made of all the above.
    """

    topic: str
    connection: str
    member: str
    since: float
    info: Info
    size: int
    checksum: int

    @property
    def key(self) -> tuple[str, str]:
        """What no other meta of its node has: topic and connection."""
        return self.topic, self.connection


@dataclass(slots=True)
class _Touched:
    """A member that changes: whether it was there, and what was taken away."""

    present: bool
    removed: dict[tuple[str, str], Info] = field(default_factory=dict)


class Roster:
    """The members of all topics; it notes who comes and goes until asked for it."""

    def __init__(self) -> None:
        # topic -> member -> (node, connection) -> meta
        self._topics: dict[str, dict[str, dict[tuple[str, str], Meta]]] = {}
        self._touched: dict[str, dict[str, _Touched]] = {}

    def put(self, node: str, meta: Meta) -> None:
        """Add a connection that is not there; O(1)."""
        members = self._topics.setdefault(meta.topic, {})
        self._touch(meta, present=meta.member in members)
        members.setdefault(meta.member, {})[node, meta.connection] = meta

    def remove(self, node: str, meta: Meta) -> None:
        """Remove a connection that is there; O(1)."""
        members = self._topics[meta.topic]
        metas = members[meta.member]
        self._touch(meta, present=True).removed[node, meta.connection] = meta.info
        del metas[node, meta.connection]
        if not metas:
            del members[meta.member]
            if not members:
                del self._topics[meta.topic]

    def _touch(self, meta: Meta, *, present: bool) -> _Touched:
        touched = self._touched.setdefault(meta.topic, {})
        return touched.setdefault(meta.member, _Touched(present))

    def changes(self) -> list[Change]:
        """Tell who came and went, all in all, since this was called last.

        A member that went and came again, or came and went, is not in it.
        """
        touched, self._touched = self._touched, {}
        changes = []
        for topic, members in touched.items():
            joins, leaves = {}, {}
            for member, before in members.items():
                present = member in self._topics.get(topic, ())
                if present and not before.present:
                    joins[member] = self._infos(topic, member)
                elif before.present and not present:
                    leaves[member] = list(before.removed.values())
            if joins or leaves:
                changes.append(Change(topic, joins, leaves))
        return changes

    def members(self, topic: str) -> dict[str, list[Info]]:
        """List the members of a topic, in the order in which they came here."""
        members = self._topics.get(topic, ())
        return {member: self._infos(topic, member) for member in members}

    def _infos(self, topic: str, member: str) -> list[Info]:
        metas = self._topics[topic][member]
        if len(metas) == 1:
            return [meta.info for meta in metas.values()]
        # The same order on all nodes, whatever they heard first.
        order = sorted(metas, key=lambda key: (metas[key].since, key))
        return [metas[key].info for key in order]

    def count(self, topic: str) -> int:
        """Count the members of a topic."""
        return len(self._topics.get(topic, ()))

    def topics(self) -> list[str]:
        """List the topics that have a member, in the order in which they got one."""
        return list(self._topics)
