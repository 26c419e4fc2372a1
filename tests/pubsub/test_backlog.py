"""Backlog: what waits for a slow peer, against a naive list."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Hashable
from typing import Any, NamedTuple

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from tests.pubsub.test_subscriptions import held
from websockets_routes import Overflow
from websockets_routes.pubsub.backlog import Backlog, Outcome, Turn
from websockets_routes.pubsub.frames import Message

CLOSE, CONFLATE = Overflow.CLOSE, Overflow.CONFLATE
DROP_OLDEST, DROP_NEWEST = Overflow.DROP_OLDEST, Overflow.DROP_NEWEST
QUEUED, CONFLATED = Outcome.QUEUED, Outcome.CONFLATED
DROPPED, CLOSED = Outcome.DROPPED, Outcome.CLOSED

POLICIES = {
    "close": CLOSE,
    "oldest": DROP_OLDEST,
    "oldest/2": DROP_OLDEST,
    "newest": DROP_NEWEST,
    "conflate": CONFLATE,
    "conflate/2": CONFLATE,
}


def make(topic: str | None, key: Hashable = None, text: bytes = b"") -> Message:
    overflow = None if topic is None else POLICIES[topic]
    return Message(text, True, topic, None, overflow, key)


class Waiting(NamedTuple):
    entry: Message | Turn[None]
    size: int


class Holding(RuleBasedStateMachine):
    """A backlog and a list do the same, whatever comes in whatever order."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.backlog = Backlog()
        self.model: list[Waiting] = []
        self.turns: list[Turn[None]] = []

    @property
    def size(self) -> int:
        return sum(each.size for each in self.model)

    # Room or not: what was sent, and what left the batch

    @rule(size=st.integers(0, 9))
    def send(self, size: int) -> None:
        self.append(make(None), size)

    @rule(
        topic=st.sampled_from(list(POLICIES)),
        key=st.sampled_from([None, 1, "1", (1,)]),
        size=st.integers(0, 9),
    )
    def move_from_the_batch(self, topic: str, key: Hashable, size: int) -> None:
        self.append(make(topic, key), size)

    @rule()
    def take_a_turn(self) -> None:
        turn: Turn[None] = self.loop.create_future()
        self.turns.append(turn)
        self.append(turn, 0)

    def append(self, entry: Message | Turn[None], size: int) -> None:
        if isinstance(entry, Message):
            self.backlog.append(entry, size)
        else:
            self.backlog.append(entry)
        self.model.append(Waiting(entry, size))

    # Publishing

    @rule(
        topic=st.sampled_from(list(POLICIES)),
        key=st.sampled_from([None, 1, "1", (1,)]),
        size=st.integers(0, 12),
        room=st.integers(-3, 40),
    )
    def put(self, topic: str, key: Hashable, size: int, room: int) -> None:
        message = make(topic, key)
        before = self.size
        outcome, displaced = self.backlog.put(message, size, room)
        self.check_put(message, size, room, outcome, displaced)
        if before <= room:
            assert self.backlog.size <= room
        else:
            assert self.backlog.size <= before
        if outcome is QUEUED:
            assert self.backlog.size <= room
        if outcome is CLOSED or outcome is DROPPED:
            assert not displaced
            assert self.backlog.size == before

    def check_put(
        self,
        message: Message,
        size: int,
        room: int,
        outcome: Outcome,
        displaced: list[Message],
    ) -> None:
        own = [each for each in self.model if is_of(each.entry, message.topic)]
        others = self.size - sum(each.size for each in own)
        added = Waiting(message, size)
        if message.overflow is CONFLATE:
            same = [
                index
                for index, each in enumerate(self.model)
                if is_of(each.entry, message.topic)
                and isinstance(each.entry, Message)
                and each.entry.key == message.key
            ]
            if same:
                growth = size - self.model[same[-1]].size
                if growth <= 0 or self.size + growth <= room:
                    assert (outcome, displaced) == (CONFLATED, [])
                    self.model[same[-1]] = added
                    return
                # Others of its topic make room, if that is enough.
                place = self.model[same[-1]]
                rest = [each for each in own if each is not place]
                if self.size - sum(each.size for each in rest) + growth > room:
                    assert (outcome, displaced) == (DROPPED, [])
                    return
                gone: list[Any] = []
                left = self.size
                while left + growth > room:
                    left -= rest[len(gone)].size
                    gone.append(rest[len(gone)].entry)
                assert (outcome, displaced) == (CONFLATED, gone)
                self.forget(displaced)
                self.model[self.model.index(place)] = added
                return
        if self.size + size <= room:
            assert (outcome, displaced) == (QUEUED, [])
            self.model.append(added)
        elif message.overflow is CLOSE:
            assert (outcome, displaced) == (CLOSED, [])
        elif message.overflow is DROP_NEWEST or not own or others + size > room:
            assert (outcome, displaced) == (DROPPED, [])
        else:
            expected: list[Any] = []
            left = self.size
            while left + size > room:
                expected.append(own[len(expected)].entry)
                left -= own[len(expected) - 1].size
            assert (outcome, displaced) == (QUEUED, expected)
            self.forget(displaced)
            self.model.append(added)

    def forget(self, displaced: list[Message]) -> None:
        gone = {id(each) for each in displaced}
        assert len(gone) == len(displaced)
        self.model = [each for each in self.model if id(each.entry) not in gone]

    # Letting go

    @precondition(lambda self: self.model)
    @rule(count=st.integers(1, 4))
    def pop(self, count: int) -> None:
        for _ in range(min(count, len(self.model))):
            expected = self.model.pop(0).entry
            assert self.backlog.first() is expected
            assert self.backlog.pop() is expected

    @rule()
    def clear(self) -> None:
        cleared = self.backlog.clear()
        assert [id(each) for each in cleared] == [id(each.entry) for each in self.model]
        self.model = []

    @invariant()
    def holds_what_the_model_holds(self) -> None:
        assert len(self.backlog) == len(self.model)
        assert bool(self.backlog) == bool(self.model)
        assert self.backlog.size == self.size
        if self.model:
            assert self.backlog.first() is self.model[0].entry
        assert not any(turn.done() for turn in self.turns)

    def teardown(self) -> None:
        try:
            while self.model:
                assert self.backlog.pop() is self.model.pop(0).entry
            assert self.backlog.size == len(self.backlog) == 0
            assert held(self.backlog) == held(Backlog())
        finally:
            self.loop.close()


def is_of(entry: Message | Turn[None], topic: str | None) -> bool:
    return isinstance(entry, Message) and entry.topic == topic


TestHolding = Holding.TestCase
TestHolding.settings = settings(
    derandomize=True,
    database=None,
    deadline=None,
    max_examples=120,
    stateful_step_count=40,
)


# One by one


def put(backlog: Backlog, text: bytes, topic: str, room: int, key: Any = None) -> Any:
    message = make(topic, key, text)
    outcome, displaced = backlog.put(message, len(text), room)
    return outcome, [each.payload for each in displaced]


def texts(backlog: Backlog) -> list[bytes]:
    return [each.payload for each in backlog.clear() if isinstance(each, Message)]


@pytest.mark.parametrize("topic", POLICIES)
def test_what_has_room_is_queued_in_order_up_to_the_last_byte(topic: str) -> None:
    backlog = Backlog()
    assert put(backlog, b"12", topic, 5, 1) == (QUEUED, [])
    assert put(backlog, b"345", topic, 5, 2) == (QUEUED, [])
    assert backlog.size == 5
    assert len(backlog) == 2
    assert texts(backlog) == [b"12", b"345"]


def test_close_changes_nothing() -> None:
    backlog = Backlog()
    put(backlog, b"12", "close", 3)
    assert put(backlog, b"34", "close", 3) == (CLOSED, [])
    assert texts(backlog) == [b"12"]


def test_drop_newest_drops_the_new_one() -> None:
    backlog = Backlog()
    put(backlog, b"12", "newest", 3)
    assert put(backlog, b"34", "newest", 3) == (DROPPED, [])
    assert put(backlog, b"5", "newest", 3) == (QUEUED, [])
    assert texts(backlog) == [b"12", b"5"]


def test_drop_oldest_drops_as_many_as_it_must() -> None:
    backlog = Backlog()
    for text in (b"1", b"2", b"3"):
        put(backlog, text, "oldest", 3)
    assert put(backlog, b"45", "oldest", 3) == (QUEUED, [b"1", b"2"])
    assert texts(backlog) == [b"3", b"45"]


@pytest.mark.parametrize("topic", ["oldest", "conflate"])
def test_only_its_own_topic_makes_room(topic: str) -> None:
    backlog = Backlog()
    for number, other in enumerate(POLICIES):
        put(backlog, b"other", other + "/2" if other == topic else other, 100, number)
    if topic + "/2" in POLICIES:
        assert put(backlog, b"12", topic, backlog.size + 1, "x") == (DROPPED, [])
    size = backlog.size
    assert put(backlog, b"1", topic, size + 1, "y") == (QUEUED, [])
    assert put(backlog, b"2", topic, size + 1, "z") == (QUEUED, [b"1"])
    assert put(backlog, b"34", topic, size + 1, "x") == (DROPPED, [])
    assert texts(backlog) == [b"other"] * 6 + [b"2"]


@pytest.mark.parametrize("topic", ["oldest", "newest", "conflate"])
@pytest.mark.parametrize("room", [3, 0, -1])
def test_what_is_larger_than_all_the_room_drops_nothing_else(
    topic: str, room: int
) -> None:
    backlog = Backlog()
    put(backlog, b"1", topic, 10, 1)
    put(backlog, b"2", topic, 10, 2)
    assert put(backlog, b"3456", topic, room, 3) == (DROPPED, [])
    assert texts(backlog) == [b"1", b"2"]


def test_nothing_that_was_sent_makes_room() -> None:
    backlog = Backlog()
    backlog.append(make(None, text=b"sent"), 4)
    assert put(backlog, b"1", "oldest", 4) == (DROPPED, [])
    assert put(backlog, b"1", "oldest", 5) == (QUEUED, [])
    assert put(backlog, b"2", "oldest", 5) == (QUEUED, [b"1"])
    assert texts(backlog) == [b"sent", b"2"]


def test_conflation_takes_the_place_of_the_older_one() -> None:
    backlog = Backlog()
    put(backlog, b"a1", "conflate", 100, "a")
    put(backlog, b"other", "close", 100)
    put(backlog, b"b1", "conflate", 100, "b")
    assert put(backlog, b"a2", "conflate", 100, "a") == (CONFLATED, [])
    assert put(backlog, b"a3!", "conflate", 100, "a") == (CONFLATED, [])
    assert put(backlog, b"b2", "conflate/2", 100, "b") == (QUEUED, [])
    assert backlog.size == 12
    assert texts(backlog) == [b"a3!", b"other", b"b1", b"b2"]


def test_without_a_key_a_topic_keeps_its_newest() -> None:
    backlog = Backlog()
    for number in range(10):
        put(backlog, b"%d" % number, "conflate", 100)
        put(backlog, b"%d" % (9 - number), "conflate/2", 100)
    assert texts(backlog) == [b"9", b"0"]


def test_conflation_does_not_need_room_for_what_is_no_longer() -> None:
    backlog = Backlog()
    put(backlog, b"123456", "conflate", 6, "a")
    assert put(backlog, b"654321", "conflate", 6, "a") == (CONFLATED, [])
    assert put(backlog, b"1", "conflate", -1, "a") == (CONFLATED, [])
    assert backlog.size == 1


def test_what_was_taken_is_not_replaced_any_more() -> None:
    backlog = Backlog()
    put(backlog, b"a1", "conflate", 100, "a")
    backlog.pop()
    assert put(backlog, b"a2", "conflate", 100, "a") == (QUEUED, [])
    backlog.clear()
    assert put(backlog, b"a3", "conflate", 100, "a") == (QUEUED, [])
    assert texts(backlog) == [b"a3"]


def test_of_a_key_that_outgrew_its_place_one_message_waits() -> None:
    # "A new message takes the place of the waiting one that has the same key."
    backlog = Backlog()
    put(backlog, b"x" * 60, "conflate", 100, "x")
    put(backlog, b"old", "conflate", 100, "y")
    outcome, _ = put(backlog, b"new" * 20, "conflate", 100, "y")
    assert outcome in (QUEUED, CONFLATED)
    waiting = texts(backlog)
    assert b"new" * 20 in waiting
    assert b"old" not in waiting


def test_a_message_that_outgrew_its_place_drops_no_more_than_it_must() -> None:
    backlog = Backlog()
    put(backlog, b"a" * 10, "conflate", 100, "a")
    put(backlog, b"b" * 60, "conflate", 100, "b")
    put(backlog, b"c" * 30, "conflate", 100, "c")
    _, displaced = put(backlog, b"C" * 35, "conflate", 100, "c")
    # In the place of the older one it needs 5 bytes more, and the oldest has 10.
    assert displaced == [b"a" * 10]
    assert texts(backlog) == [b"b" * 60, b"C" * 35]


def test_a_message_that_outgrew_its_place_may_be_the_oldest_itself() -> None:
    backlog = Backlog()
    put(backlog, b"a" * 10, "conflate", 100, "a")
    put(backlog, b"b" * 60, "conflate", 100, "b")
    put(backlog, b"c" * 30, "conflate", 100, "c")
    _, displaced = put(backlog, b"A" * 45, "conflate", 100, "a")
    assert displaced == [b"b" * 60]
    assert texts(backlog) == [b"A" * 45, b"c" * 30]


async def test_turns_keep_their_place_and_are_never_dropped() -> None:
    loop = asyncio.get_running_loop()
    backlog = Backlog()
    turns: list[Turn[None]] = [loop.create_future() for _ in range(3)]
    for turn in turns:
        backlog.append(turn)
        put(backlog, b"1", "oldest", 2)
        put(backlog, b"2", "conflate", 100)
    put(backlog, b"12", "oldest", backlog.size)
    entries = backlog.clear()
    assert [each for each in entries if isinstance(each, Turn)] == turns
    assert entries[0] is turns[0]
    assert not any(turn.done() for turn in turns)


# Cost


def spent(start: float) -> float:
    return time.process_time() - start


@pytest.mark.parametrize("topic", ["oldest", "newest", "conflate"])
def test_many_messages_cost_what_each_of_them_costs(topic: str) -> None:
    start = time.process_time()
    backlog = Backlog()
    messages = [make(topic, number % 30_000) for number in range(100_000)]
    lost = 0
    for message in messages:
        outcome, displaced = backlog.put(message, 1, 50_000)
        lost += len(displaced) + (outcome in (DROPPED, CONFLATED))
    assert lost == 100_000 - len(backlog)
    # What makes room for one goes at once, behind as much of another topic.
    for _ in range(50_000):
        backlog.append(make(None), 1)
    size = backlog.size
    if topic != "newest":
        outcome, displaced = backlog.put(make(topic, "key"), size - 50_000, size)
        assert (outcome, len(displaced)) == (QUEUED, size - 50_000)
    while backlog:
        backlog.pop()
    # Anything quadratic takes many minutes.
    assert spent(start) < 20
