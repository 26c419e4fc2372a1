"""Replicas: what the other nodes have said of themselves, and whether it is all.

Only a replica that took in every change of its node is right. Whatever else comes,
a number that is not the next or a digest that differs, has the node asked for its full
state, and that replaces the replica. A stranger that speaks in the name of a node so
does harm until the next heartbeat and no longer.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from ..presence_errors import InvalidPresence
from .presence_messages import (
    ChangeMessage,
    Heartbeat,
    Leave,
    StateMessage,
    decode_line,
    decode_meta,
)
from .roster import Meta, Roster

__all__ = ["MAX_NODES", "Replica", "Replicas"]

#: Nodes that one node knows of at most.
MAX_NODES = 1000

_CHECKSUMS = 1 << 64


class Replica:
    """What is known of one node: its connections, as of one of its changes.

    Args:
        node: The id of the node.
        roster: Where its members are listed too.

    Attributes:
        node: The id of the node.
        metas: Its connections in topics, by topic and connection.
        sequence: The number of its last change that is in them.
        digest: The sum of their checksums; of what is the same on two nodes it is
            the same, in whatever order it came.
        size: Bytes that they take in memory, about.
        heard: When the node was last heard of.
        asked: Whether it was asked for its full state and has not answered.
    """

    __slots__ = (
        "_roster",
        "asked",
        "digest",
        "heard",
        "metas",
        "node",
        "sequence",
        "size",
    )

    def __init__(self, node: str, roster: Roster) -> None:
        self.node = node
        self.metas: dict[tuple[str, str], Meta] = {}
        self.sequence = 0
        self.digest = 0
        self.size = 0
        self.heard = 0.0
        self.asked = False
        self._roster = roster

    def put(self, meta: Meta) -> None:
        """Add a connection, or replace it."""
        self.remove(meta.key)
        self.metas[meta.key] = meta
        self.digest = (self.digest + meta.checksum) % _CHECKSUMS
        self.size += meta.size
        self._roster.put(self.node, meta)

    def remove(self, key: tuple[str, str]) -> None:
        """Remove a connection, if it is there."""
        meta = self.metas.pop(key, None)
        if meta is not None:
            self.digest = (self.digest - meta.checksum) % _CHECKSUMS
            self.size -= meta.size
            self._roster.remove(self.node, meta)

    def replace(self, metas: dict[tuple[str, str], Meta]) -> None:
        """Have these connections and no others; what stays the same is not touched."""
        for key in self.metas.keys() - metas.keys():
            self.remove(key)
        for key, meta in metas.items():
            if self.metas.get(key) != meta:
                self.put(meta)


@dataclass(slots=True)
class _Staged:
    """The full state of a node, of which some parts came."""

    state: StateMessage
    since: float
    part: int = 0
    size: int = 0
    metas: dict[tuple[str, str], Meta] = field(default_factory=dict)


class Replicas:
    """The replicas of all other nodes.

    Args:
        roster: Where their members are listed.
        max_bytes: Bytes of memory that their connections may take, about.
        clock: Tells seconds; never goes back.
    """

    def __init__(
        self, roster: Roster, max_bytes: int, clock: Callable[[], float]
    ) -> None:
        self._roster = roster
        self._max_bytes = max_bytes
        self._clock = clock
        self._nodes: dict[str, Replica] = {}
        # What came of full states that are not complete.
        self._staged: dict[str, _Staged] = {}
        # Nodes that have to be asked for their full state.
        self._asked: dict[str, None] = {}

    def receive_heartbeat(self, heartbeat: Heartbeat) -> None:
        """See whether the replica of a node is what the node has."""
        replica = self._heard(heartbeat.node)
        # Parts of a state that still miss were lost.
        self._staged.pop(heartbeat.node, None)
        if _stands_at(replica, heartbeat):
            replica.asked = False
        else:
            self._ask(replica)

    def receive_change(self, change: ChangeMessage) -> None:
        """Change the replica of a node, if this is its next change."""
        entries = [decode_line(line) for line in change.lines]
        self._check_room(sum(each.size for each in entries if isinstance(each, Meta)))
        replica = self._heard(change.node)
        self._staged.pop(change.node, None)
        if change.sequence != replica.sequence + 1:
            # Asked once; the next heartbeat asks again.
            if not replica.asked:
                self._ask(replica)
            return
        replica.sequence = change.sequence
        for entry in entries:
            if isinstance(entry, Leave):
                replica.remove(entry)
            else:
                replica.put(entry)

    def receive_state(self, state: StateMessage) -> None:
        """Replace the replica of a node, once all parts of its state are there."""
        known = self._nodes.get(state.node)
        if known is not None and _stands_at(known, state):
            # Another node asked.
            self._staged.pop(state.node, None)
            known.asked = False
            known.heard = self._clock()
            return
        metas = [decode_meta(line) for line in state.lines]
        size = sum(meta.size for meta in metas)
        if state.part == 0:
            self._staged.pop(state.node, None)  # it begins again
        self._check_room(size)
        self._check_number_of_nodes(state.node)
        if known is not None:
            known.heard = self._clock()
        staged = self._staged.pop(state.node, None)
        if state.part == 0:
            staged = _Staged(state._replace(lines=[]), self._clock())
        if (
            staged is None
            or staged.part != state.part
            or not _same(staged.state, state)
        ):
            return  # the parts between were lost
        staged.part += 1
        staged.size += size
        staged.metas.update((meta.key, meta) for meta in metas)
        if staged.part < state.parts:
            self._staged[state.node] = staged
        else:
            self._replace(state, staged.metas)

    def _replace(self, state: StateMessage, metas: dict[tuple[str, str], Meta]) -> None:
        if sum(meta.checksum for meta in metas.values()) % _CHECKSUMS != state.digest:
            raise InvalidPresence("the full state of a node is not what it says")
        replica = self._heard(state.node)
        replica.replace(metas)
        replica.sequence = state.sequence
        replica.asked = False

    def _heard(self, node: str) -> Replica:
        self._check_number_of_nodes(node)
        replica = self._nodes.get(node)
        if replica is None:
            replica = self._nodes[node] = Replica(node, self._roster)
        replica.heard = self._clock()
        return replica

    def _ask(self, replica: Replica) -> None:
        replica.asked = True
        self._asked[replica.node] = None

    def _check_number_of_nodes(self, node: str) -> None:
        known = node in self._nodes or node in self._staged
        if not known and len(self._nodes) + len(self._staged) >= MAX_NODES:
            raise InvalidPresence(f"there are more than {MAX_NODES} nodes")

    def _check_room(self, size: int) -> None:
        held = sum(replica.size for replica in self._nodes.values())
        held += sum(staged.size for staged in self._staged.values())
        if size and held + size > self._max_bytes:
            raise InvalidPresence(
                f"the members of other nodes have more than {self._max_bytes} bytes; "
                "raise max_bytes"
            )

    def expire(self, ttl: float) -> None:
        """Forget the nodes that were not heard of for so many seconds."""
        end = self._clock() - ttl
        for node in [node for node, each in self._staged.items() if each.since <= end]:
            del self._staged[node]
        for node in [node for node, each in self._nodes.items() if each.heard <= end]:
            self._nodes.pop(node).replace({})
            self._staged.pop(node, None)
            self._asked.pop(node, None)

    def take_asked(self) -> list[str]:
        """Take the nodes that have to be asked for their full state."""
        asked, self._asked = self._asked, {}
        return list(asked)

    def nodes(self) -> list[str]:
        """List the nodes that are there."""
        return list(self._nodes)


def _stands_at(replica: Replica, message: Heartbeat | StateMessage) -> bool:
    return (replica.sequence, replica.digest) == (message.sequence, message.digest)


def _same(first: StateMessage, second: StateMessage) -> bool:
    """Tell whether two parts are of the same state."""
    return (first.sequence, first.digest, first.parts) == (
        second.sequence,
        second.digest,
        second.parts,
    )
