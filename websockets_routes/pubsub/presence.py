"""Presence: which members a topic has, on all nodes, without any I/O.

Each node alone says which connections it has; the others keep a replica. What it
changes it sends with a sequence number, and again and again a heartbeat with that
number and a digest. Who finds that a replica is out of step asks for the full state,
which replaces it. So it does not matter what is lost on the way, as long as what
arrives of one node arrives in its order and heartbeats go on.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from ..exceptions import InvalidLimit
from ..limits import check_limit
from ..presence_errors import InvalidPresence
from .names import check_name
from .presence_messages import (
    MAX_ID,
    MAX_INFO,
    ChangeMessage,
    Heartbeat,
    Message,
    Request,
    StateMessage,
    check_text,
    decode,
    decode_meta,
    encode,
    encode_join,
    encode_leave,
    pages,
)
from .replicas import Replica, Replicas
from .roster import Change, Info, Roster

__all__ = ["MAX_PENDING", "Presence"]

#: Bytes of changes that wait to be taken at most; beyond, the full state does.
MAX_PENDING = 1024 * 1024


class Presence:
    """Who is present, as one node sees it.

    A member joins a topic with its first connection on any node and leaves with its
    last. What other nodes have to hear is taken with ``take`` after each call that
    changes something, and sent to all of them, in this order; what comes from them,
    this node's own messages or not, is given to ``receive``. Once at start
    ``announce``, then every ``interval`` seconds ``heartbeat`` and ``expire``. What
    cannot be sent may be thrown away. One process without others needs none of this.

    The infos that it returns are those that it holds: copy one before you change it.

    Args:
        node: The id of this node: new at each start, unlike that of any other node,
            256 bytes at most (``uuid4().hex``).
        ttl: Seconds after which a node that was not heard of is gone; the same on
            all nodes.
        max_info: Bytes of JSON that an info may have on this node, 64 KiB at most.
            All nodes take those of others up to 64 KiB.
        max_bytes: Bytes of memory that the connections of all other nodes may take,
            about: 1,000 each and those of its JSON. What is beyond is refused by
            ``receive``.
        clock: Tells seconds for ``ttl``; never goes back.
        wall_clock: Tells seconds since 1970, by which connections are ordered.

    Attributes:
        node: The id of this node.
        ttl: See above.
        interval: Seconds from one heartbeat to the next: a quarter of ``ttl``.

    Raises:
        InvalidLimit: If a limit is none.
        InvalidPresence: If the id is none.
    """

    def __init__(
        self,
        node: str,
        *,
        ttl: float = 30,
        max_info: int = 4096,
        max_bytes: int = 256 * 1024 * 1024,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        check_text("node", node, MAX_ID)
        check_limit("ttl", ttl, optional=False)
        check_limit("max_info", max_info, optional=False)
        check_limit("max_bytes", max_bytes, optional=False)
        if max_info > MAX_INFO:
            raise InvalidLimit(f"max_info is at most {MAX_INFO}, not {max_info}")
        self.node = node
        self.ttl = ttl
        self.interval = ttl / 4
        self._max_info = max_info
        self._clock = clock
        self._wall_clock = wall_clock
        self._roster = Roster()
        # This node's own: by topic and connection, the lines that tell of them; by
        # connection, its topics.
        self._own = Replica(node, self._roster)
        self._lines: dict[tuple[str, str], bytes] = {}
        self._connections: dict[str, dict[str, None]] = {}
        self._replicas = Replicas(self._roster, max_bytes, clock)
        # What is to be taken.
        self._pending: list[bytes] = []
        self._pending_size = 0
        self._request_due = False
        self._state_due = False
        self._state_after = clock()
        self._heartbeat_due = False

    # What happens on this node

    def join(
        self, topic: str, member: str, connection: str, info: Info | None = None
    ) -> Change | None:
        """Add a connection of a member to a topic; O(1).

        A connection is in a topic as one member: joining again replaces its info, or
        its member.

        Args:
            topic: The name of the topic; 4096 bytes at most.
            member: The member; 1024 bytes at most.
            connection: The id of the connection on this node; 256 bytes at most.
            info: What all nodes are told of the connection: a dict that is JSON,
                nested 32 deep at most. It is copied, as JSON copies it: a tuple
                becomes a list.

        Returns:
            Who came and who went by that; None if the same members are there.

        Raises:
            InvalidTopic: If the name of the topic is none.
            InvalidPresence: If the member, the connection or the info is none.
            PresenceTooLarge: If the info is larger than ``max_info``.
        """
        check_name(topic)
        check_text("connection", connection, MAX_ID)
        old = self._own.metas.get((topic, connection))
        same = old is not None and old.member == member
        since = old.since if old is not None and same else self._wall_clock()
        info = {} if info is None else info
        line = encode_join(topic, connection, member, since, info, self._max_info)
        # Read as any other node will read it: what is there is the same everywhere,
        # and what they would refuse is refused here.
        meta = decode_meta(line)
        if meta != old:
            self._own.put(meta)
            self._lines[meta.key] = line
            self._connections.setdefault(connection, {})[meta.topic] = None
            self._tell(line)
        return self._change()

    def check(
        self, topic: str, member: str, connection: str, info: Info | None = None
    ) -> None:
        """Check that a connection could join; see ``join``.

        Raises:
            InvalidTopic: If the name of the topic is none.
            InvalidPresence: If the member, the connection or the info is none.
            PresenceTooLarge: If the info is larger than ``max_info``.
        """
        check_name(topic)
        check_text("connection", connection, MAX_ID)
        info = {} if info is None else info
        decode_meta(encode_join(topic, connection, member, 0, info, self._max_info))

    def update(self, topic: str, connection: str, info: Info) -> None:
        """Replace the info of a connection; O(1). Nobody comes or goes by that.

        Raises:
            InvalidPresence: If the connection is not in the topic, or the info none.
            PresenceTooLarge: If the info is larger than ``max_info``.
        """
        meta = self._own.metas.get((topic, connection))
        if meta is None:
            raise InvalidPresence(
                f"connection {connection!r} is not in topic {topic!r}: it has to join"
            )
        self.join(topic, meta.member, connection, info)

    def leave(self, topic: str, connection: str) -> Change | None:
        """Remove a connection from a topic, if it is there; O(1).

        Returns:
            Who went by that; None if nobody did.
        """
        self._leave(topic, connection)
        return self._change()

    def leave_all(self, connection: str) -> list[Change]:
        """Remove a connection from all its topics, as many as there are."""
        for topic in list(self._connections.get(connection, ())):
            self._leave(topic, connection)
        return self._roster.changes()

    def _leave(self, topic: str, connection: str) -> None:
        if self._lines.pop((topic, connection), None) is None:
            return
        self._own.remove((topic, connection))
        topics = self._connections[connection]
        del topics[topic]
        if not topics:
            del self._connections[connection]
        self._tell(encode_leave(topic, connection))

    def _change(self) -> Change | None:
        changes = self._roster.changes()
        return changes[0] if changes else None

    def _tell(self, line: bytes) -> None:
        self._pending.append(line)
        self._pending_size += len(line)
        if self._pending_size > MAX_PENDING:
            # Nobody takes them. The others will find that a number is missing.
            self._pending.clear()
            self._pending_size = 0
            self._own.sequence += 1
            self._state_due = True

    # What the other nodes are to hear

    def announce(self) -> None:
        """Tell the others of this node and ask for what they have: once, at start."""
        self._request_due = True
        self._heartbeat_due = True

    def heartbeat(self) -> None:
        """Tell the others that this node is there, and where it stands.

        Every ``interval`` seconds, and whenever a broker is there again.
        """
        self._heartbeat_due = True

    def take(self) -> list[bytes]:
        """Take the messages that have to be sent to all other nodes, in this order.

        Each has at most 512 KiB. A heartbeat does not grow with the members. The full
        state is sent at most twice an ``interval``, however many ask for it; who has
        to wait gets it from a later call.
        """
        messages: list[Message] = []
        if self._pending:
            for page in pages(self._pending):
                self._own.sequence += 1
                messages.append(ChangeMessage(self.node, self._own.sequence, page))
            self._pending.clear()
            self._pending_size = 0
        asked = self._replicas.take_asked()
        if self._request_due:
            # Of all other nodes, those that were found out of step among them.
            self._request_due = False
            messages.append(Request(self.node, None))
        else:
            messages.extend(Request(self.node, of) for of in asked)
        sequence, digest = self._own.sequence, self._own.digest
        if self._state_due and self._clock() >= self._state_after:
            self._state_due = False
            self._state_after = self._clock() + self.interval / 2
            parts = list(pages(self._lines.values()))
            messages.extend(
                StateMessage(self.node, sequence, digest, part, len(parts), page)
                for part, page in enumerate(parts)
            )
        if self._heartbeat_due:
            self._heartbeat_due = False
            messages.append(Heartbeat(self.node, sequence, digest))
        return [encode(message) for message in messages]

    @property
    def owed(self) -> float | None:
        """Seconds until the full state can be taken that was asked for; else None."""
        if not self._state_due:
            return None
        return max(0.0, self._state_after - self._clock())

    # What the other nodes tell

    def receive(self, message: bytes) -> list[Change]:
        """Take in a message of any node; ``take`` what is to be answered.

        Returns:
            Who came and who went by that, a topic at a time.

        Raises:
            InvalidPresence: If it is no message of a node, or if there are too many
                nodes or members. It has changed nothing; log it and drop it.
        """
        received = decode(message)
        if received.node == self.node:
            return []
        if isinstance(received, Request):
            if received.of in (None, self.node):
                self._state_due = True
        elif isinstance(received, Heartbeat):
            self._replicas.receive_heartbeat(received)
        elif isinstance(received, ChangeMessage):
            self._replicas.receive_change(received)
        else:
            self._replicas.receive_state(received)
        return self._roster.changes()

    def expire(self) -> list[Change]:
        """Forget the nodes that were not heard of for ``ttl`` seconds.

        Every ``interval`` seconds, after what has arrived was received. A node that
        comes back is right again soon after its first message.

        Returns:
            Who went by that, a topic at a time.
        """
        self._replicas.expire(self.ttl)
        return self._roster.changes()

    # Who is there

    def members(self, topic: str) -> dict[str, list[Info]]:
        """List the members of a topic and the infos of their connections.

        Members are in the order in which this node heard that they came, infos in the
        order in which their connections joined, on all nodes the same. Costs what it
        returns, and the sorting of members that have many connections.
        """
        return self._roster.members(topic)

    def count(self, topic: str) -> int:
        """Count the members of a topic; O(1)."""
        return self._roster.count(topic)

    def topics(self) -> list[str]:
        """List the topics that have a member."""
        return self._roster.topics()

    def nodes(self) -> list[str]:
        """List the other nodes that are there."""
        return self._replicas.nodes()
