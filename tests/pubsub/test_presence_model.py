"""Presence against a model: whatever is lost, all nodes agree once messages arrive.

A machine of hypothesis lets members come and go on three nodes, delivers what the nodes
send in the order of each sender and any order of the senders, loses some of it, cuts
nodes off, kills and restarts them. At the end, after heartbeats, every node says what
the model says. At any time what a node told of joins and leaves is what it has.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Collection
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from tests.pubsub.presences import INTERVAL, TTL, Clock, make
from websockets_routes.pubsub import presence, presence_messages
from websockets_routes.pubsub.presence import Presence
from websockets_routes.pubsub.roster import Change

TOPICS = ["room", "hall"]
slots = st.integers(0, 2)
topics = st.sampled_from(TOPICS)
members = st.sampled_from(["ann", "bob"])
connections = st.sampled_from("123")
infos = st.sampled_from([{}, {"a": 1}, {"a": [True]}])


class Node:
    """A node, the messages on their way to it, and what it has told."""

    def __init__(self, name: str, clock: Clock) -> None:
        self.presence: Presence = make(name, clock)
        self.connected = True
        # By sender: order is kept for each.
        self.inbox: defaultdict[str, deque[bytes]] = defaultdict(deque)
        self.told: defaultdict[str, set[str]] = defaultdict(set)
        # What the model knows: (topic, connection) -> (member, info).
        self.here: dict[tuple[str, str], tuple[str, dict[str, Any]]] = {}
        self.presence.announce()

    def tell(self, changes: list[Change]) -> None:
        assert len({change.topic for change in changes}) == len(changes)
        for change in changes:
            told = self.told[change.topic]
            assert change.joins or change.leaves
            assert not change.joins.keys() & told
            assert change.leaves.keys() <= told
            assert all([*change.joins.values(), *change.leaves.values()])
            told.update(change.joins)
            told.difference_update(change.leaves)

    def deliver(self, sender: str) -> None:
        self.tell(self.presence.receive(self.inbox[sender].popleft()))


class PresenceMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.started = 0
        self.nodes = [self.start() for _ in range(3)]
        # Or their first questions, answered late, would mend what goes wrong.
        self.deliver_everything()
        self.clock.now += INTERVAL

    def start(self) -> Node:
        self.started += 1
        return Node(f"node{self.started}", self.clock)

    # On a node

    @rule(slot=slots, topic=topics, member=members, connection=connections, info=infos)
    def join(
        self, slot: int, topic: str, member: str, connection: str, info: dict[str, Any]
    ) -> None:
        node = self.nodes[slot]
        change = node.presence.join(topic, member, connection, info)
        node.tell([change] if change else [])
        node.here[topic, connection] = member, info

    @rule(slot=slots, topic=topics, connection=connections, info=infos)
    def update(
        self, slot: int, topic: str, connection: str, info: dict[str, Any]
    ) -> None:
        node = self.nodes[slot]
        if (topic, connection) in node.here:
            node.presence.update(topic, connection, info)
            node.here[topic, connection] = node.here[topic, connection][0], info

    @rule(slot=slots, topic=topics, connection=connections)
    def leave(self, slot: int, topic: str, connection: str) -> None:
        node = self.nodes[slot]
        change = node.presence.leave(topic, connection)
        node.tell([change] if change else [])
        node.here.pop((topic, connection), None)

    @rule(slot=slots, connection=connections)
    def leave_all(self, slot: int, connection: str) -> None:
        node = self.nodes[slot]
        node.tell(node.presence.leave_all(connection))
        for topic in TOPICS:
            node.here.pop((topic, connection), None)

    # Between nodes

    @rule(
        slot=slots,
        lost=st.sampled_from([(), (0,), (1,), (2,), (0, 1, 2)]),
    )
    def send(self, slot: int, lost: Collection[int]) -> None:
        """Send what waits to all nodes but some."""
        sender = self.nodes[slot]
        for message in sender.presence.take():
            for number, node in enumerate(self.nodes):
                if number not in lost and sender.connected and node.connected:
                    node.inbox[sender.presence.node].append(message)

    @rule(slot=slots, data=st.data(), count=st.integers(1, 4))
    def deliver(self, slot: int, data: st.DataObject, count: int) -> None:
        node = self.nodes[slot]
        for _ in range(count):
            if senders := [each for each, queue in node.inbox.items() if queue]:
                node.deliver(data.draw(st.sampled_from(senders)))

    @rule(slot=slots, data=st.data())
    def lose(self, slot: int, data: st.DataObject) -> None:
        """Lose one message among those on their way."""
        queues = [queue for queue in self.nodes[slot].inbox.values() if queue]
        if queues:
            queue = data.draw(st.sampled_from(queues))
            del queue[data.draw(st.integers(0, len(queue) - 1))]

    @rule()
    def deliver_all(self) -> None:
        self.deliver_everything()

    @rule(slot=slots)
    def heartbeat(self, slot: int) -> None:
        self.nodes[slot].presence.heartbeat()

    @rule(slot=slots)
    def cut_off_or_reconnect(self, slot: int) -> None:
        self.nodes[slot].connected = not self.nodes[slot].connected

    @precondition(lambda self: self.started < 5)
    @rule(slot=slots)
    def kill_and_restart(self, slot: int) -> None:
        self.nodes[slot] = self.start()

    @rule(seconds=st.sampled_from([1, INTERVAL, TTL]))
    def wait(self, seconds: float) -> None:
        self.clock.now += seconds

    @rule(slot=slots)
    def expire(self, slot: int) -> None:
        node = self.nodes[slot]
        node.tell(node.presence.expire())

    @invariant()
    def what_was_told_is_what_is_there(self) -> None:
        for node in self.nodes:
            for topic in TOPICS:
                there = node.presence.members(topic)
                assert there.keys() == node.told[topic]
                assert node.presence.count(topic) == len(there)
            assert set(node.presence.topics()) == {
                topic for topic, told in node.told.items() if told
            }

    # In the end

    def deliver_everything(self) -> None:
        while True:
            for slot in range(3):
                self.send(slot, ())
            if not any(any(node.inbox.values()) for node in self.nodes):
                return
            for node in self.nodes:
                for sender, queue in node.inbox.items():
                    while queue:
                        node.deliver(sender)

    def teardown(self) -> None:
        for node in self.nodes:
            node.connected = True
        # Until those that died are gone, and the one after their last message.
        for _ in range(5):
            self.clock.now += INTERVAL
            for node in self.nodes:
                node.presence.heartbeat()
            self.deliver_everything()
            for node in self.nodes:
                node.tell(node.presence.expire())
        self.what_was_told_is_what_is_there()
        expected: dict[str, dict[str, list[str]]] = {topic: {} for topic in TOPICS}
        for node in self.nodes:
            for (topic, _), (member, info) in node.here.items():
                expected[topic].setdefault(member, []).append(repr(info))
        first, *others = (
            {topic: node.presence.members(topic) for topic in TOPICS}
            for node in self.nodes
        )
        # Infos are in the same order everywhere, and True is not 1.
        assert all(repr(sort(other)) == repr(sort(first)) for other in others)
        assert {
            topic: {member: sorted(map(repr, metas)) for member, metas in there.items()}
            for topic, there in first.items()
        } == {
            topic: {member: sorted(metas) for member, metas in there.items()}
            for topic, there in expected.items()
        }
        for node in self.nodes:
            assert len(node.presence.nodes()) == 2
            assert node.presence.take() == []


def sort(there: dict[str, dict[str, Any]]) -> list[Any]:
    return sorted((topic, sorted(each.items())) for topic, each in there.items())


class SmallMessages(PresenceMachine):
    """The same where a state has many parts and few changes may wait."""

    def __init__(self) -> None:
        self._max_lines = presence_messages.MAX_LINES
        self._max_pending = presence.MAX_PENDING
        presence_messages.MAX_LINES = 1
        presence.MAX_PENDING = 200
        super().__init__()

    def teardown(self) -> None:
        try:
            super().teardown()
        finally:
            presence_messages.MAX_LINES = self._max_lines
            presence.MAX_PENDING = self._max_pending


BRIEF = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestPresence = PresenceMachine.TestCase
TestPresence.settings = BRIEF
TestSmallMessages = SmallMessages.TestCase
TestSmallMessages.settings = BRIEF
