"""Presence over nodes: loss, silence, restarts, and strangers."""

from __future__ import annotations

import pytest

from tests.pubsub.presences import INTERVAL, TTL, Clock, beat, exchange, make
from websockets_routes import InvalidPresence
from websockets_routes.pubsub import replicas
from websockets_routes.pubsub.presence import Presence
from websockets_routes.pubsub.presence_messages import (
    ChangeMessage,
    Heartbeat,
    Request,
    StateMessage,
    decode,
    encode,
    encode_join,
    encode_leave,
)
from websockets_routes.pubsub.roster import Change


def kinds(messages: list[bytes]) -> list[str]:
    return [type(decode(message)).__name__ for message in messages]


def joining(connection: str, topic: str = "room", size: int = 0) -> bytes:
    return encode_join(topic, connection, "eve", 0, {"a": "x" * size}, 10_000)


def filled(node: Presence, members: int) -> Presence:
    for number in range(members):
        node.join("room", str(number), str(number))
    return node


def test_a_node_that_starts_learns_who_is_there_and_is_known() -> None:
    clock = Clock()
    first, second = make("a", clock), make("b", clock)
    first.join("room", "ann", "1", {"on": "a"})
    first.take()
    second.join("room", "ann", "1", {"on": "b"})
    second.announce()
    changes = exchange(first, second)
    assert changes["a"] == []
    assert changes["b"] == []
    infos = {"ann": [{"on": "a"}, {"on": "b"}]}
    assert first.members("room") == second.members("room") == infos
    assert (first.nodes(), second.nodes()) == (["b"], ["a"])


def test_all_nodes_hear_who_comes_and_goes() -> None:
    clock = Clock()
    first, second = make("a", clock), make("b", clock)
    joined = first.join("room", "ann", "1")
    assert exchange(first, second)["b"] == [joined]
    assert second.join("room", "ann", "1") is None
    assert exchange(first, second)["a"] == []
    assert first.leave("room", "1") is None
    assert exchange(first, second)["b"] == []
    left = second.leave("room", "1")
    assert left == Change("room", {}, {"ann": [{}]})
    assert exchange(first, second)["a"] == [left]


def test_what_was_lost_comes_with_the_next_change() -> None:
    clock = Clock()
    first, second = make("a", clock), make("b", clock)
    first.join("lobby", "stays", "0")
    first.join("room", "ann", "1")
    exchange(first, second)
    first.leave("room", "1")
    first.join("hall", "bob", "2")
    first.take()  # lost
    first.join("hall", "cleo", "3")
    (change,) = first.take()
    assert second.receive(change) == []
    assert kinds(second.take()) == ["Request"]
    first.join("hall", "dora", "4")
    (change,) = first.take()
    assert second.receive(change) == []
    assert second.take() == []  # it has asked
    # The request was lost as well: a heartbeat has it ask again.
    changes = beat(first, second)["b"]
    assert sorted(changes) == [
        Change("hall", {"bob": [{}], "cleo": [{}], "dora": [{}]}, {}),
        Change("room", {}, {"ann": [{}]}),
    ]
    assert second.members("hall") == first.members("hall")


def test_what_was_lost_last_comes_after_a_heartbeat() -> None:
    clock = Clock()
    first, second = make("a", clock), make("b", clock)
    filled(first, 3).take()
    assert second.topics() == []
    beat(first, second)
    assert second.members("room") == first.members("room")


def test_a_state_of_many_parts_counts_when_all_are_there() -> None:
    clock = Clock()
    first, second = make("a", clock), make("b", clock)
    filled(first, 2500).take()
    second.announce()
    for message in second.take():
        first.receive(message)
    parts = first.take()
    assert kinds(parts) == ["StateMessage"] * 3
    for part in (parts[0], parts[2]):
        assert second.receive(part) == []
    assert second.topics() == []
    for part in parts[:2]:
        assert second.receive(part) == []
    assert second.topics() == []
    (change,) = second.receive(parts[2])
    assert len(change.joins) == second.count("room") == 2500
    assert second.receive(parts[0]) == []


@pytest.mark.parametrize("other", [0, 1], ids=["sequence", "digest"])
def test_parts_of_two_states_make_none(other: int) -> None:
    node = make("a", Clock())
    line = joining("1")
    node.receive(encode(StateMessage("z", 1, 5, 0, 2, [line])))
    second = StateMessage("z", 1 + (other == 0), 5 + (other == 1), 1, 2, [])
    assert node.receive(encode(second)) == []
    assert node.topics() == []


def test_parts_whose_rest_was_lost_are_let_go() -> None:
    clock = Clock()
    node = make("a", clock, max_bytes=5000)
    part = encode(StateMessage("z", 3, 5, 0, 2, [joining("1", size=2000)]))
    for after in (
        encode(Heartbeat("z", 3, 5)),
        encode(ChangeMessage("z", 4, [])),
        part,  # the state begins again
    ):
        node.receive(part)
        node.receive(after)
    with pytest.raises(InvalidPresence, match="raise max_bytes"):
        node.receive(part.replace(b'"z"', b'"y"'))
    clock.now += TTL
    node.expire()
    assert node.nodes() == []
    node.receive(part.replace(b'"z"', b'"y"'))
    clock.now += TTL
    node.expire()
    node.receive(part)


def test_a_full_state_is_sent_once_to_many_who_ask_and_not_too_often() -> None:
    clock = Clock()
    node = filled(make("a", clock), 3)
    node.take()
    for asking in "bcd":
        node.receive(encode(Request(asking, "a")))
    node.receive(encode(Request("b", "another")))
    assert kinds(node.take()) == ["StateMessage"]
    assert node.take() == []
    node.receive(encode(Request("e", None)))
    assert node.take() == []
    clock.now += INTERVAL / 2
    assert kinds(node.take()) == ["StateMessage"]
    assert node.take() == []


def test_a_node_is_not_asked_twice_in_one_breath() -> None:
    clock = Clock()
    node = make("b", clock)
    node.receive(encode(Heartbeat("a", 3, 3)))
    node.receive(encode(Heartbeat("a", 3, 3)))
    assert kinds(node.take()) == ["Request"]
    node.receive(encode(Heartbeat("a", 3, 3)))
    node.announce()
    assert kinds(node.take()) == ["Request", "Heartbeat"]


def test_a_node_that_is_in_step_passes_the_answer_to_another_by() -> None:
    clock = Clock()
    first, second = filled(make("a", clock), 3), make("b", clock)
    exchange(first, second)
    first.receive(encode(Request("c", "a")))
    (state,) = first.take()
    header = state.split(b"\n")[0]
    clock.now += TTL - 1
    # Not a line of it is read.
    assert second.receive(header + b"\nnot read") == []
    clock.now += TTL - 1
    assert second.expire() == []


# Silence


def test_a_node_that_dies_is_gone_with_its_members() -> None:
    clock = Clock()
    first, second = make("a", clock), make("b", clock)
    first.join("room", "ann", "1", {"on": "a"})
    first.join("room", "bob", "2")
    second.join("room", "bob", "1")
    exchange(first, second)
    clock.now += TTL - 1
    assert second.expire() == []
    clock.now += 1
    assert second.expire() == [Change("room", {}, {"ann": [{"on": "a"}]})]
    assert second.members("room") == {"bob": [{}]}
    assert second.nodes() == []
    assert second.expire() == []


def test_a_node_that_is_heard_of_is_not_gone() -> None:
    clock = Clock()
    first, second = make("a", clock), make("b", clock)
    first.join("room", "ann", "1")
    exchange(first, second)
    for _ in range(10):
        clock.now += INTERVAL
        beat(first, second)
        assert second.expire() == []
    assert second.count("room") == 1


@pytest.mark.parametrize("word", ["heartbeat", "change", "announce"])
def test_a_node_that_comes_back_is_right_again(word: str) -> None:
    clock = Clock()
    first, second = make("a", clock), make("b", clock)
    first.join("room", "ann", "1")
    first.join("hall", "ann", "1")
    exchange(first, second)
    clock.now += TTL
    assert len(second.expire()) == 2
    first.leave("hall", "1")
    first.take()  # lost
    if word == "heartbeat":
        first.heartbeat()
    elif word == "announce":
        first.announce()
    else:
        first.join("room", "bob", "1")
    exchange(first, second)
    assert second.members("room") == first.members("room")
    assert second.topics() == ["room"]


def test_a_node_that_expires_is_not_asked_any_more() -> None:
    clock = Clock()
    node = make("b", clock)
    node.receive(encode(Heartbeat("a", 3, 3)))
    clock.now += TTL
    node.expire()
    assert node.take() == []


def test_a_node_that_restarts_is_another() -> None:
    clock = Clock()
    first, second = make("a", clock), make("b", clock)
    first.join("room", "ann", "1")
    exchange(first, second)
    again = make("c", clock)
    again.join("room", "ann", "1")
    again.announce()
    assert exchange(again, second)["b"] == []
    clock.now += TTL - 1
    beat(again, second)
    clock.now += 1
    assert second.expire() == []
    assert second.members("room") == {"ann": [{}]}
    assert second.nodes() == ["c"]


def test_a_node_that_restarts_under_its_old_id_is_right_in_the_end() -> None:
    clock = Clock()
    first, second = make("a", clock), make("b", clock)
    first.join("room", "ann", "1")
    exchange(first, second)
    again = make("a", clock)
    again.join("room", "bob", "1")
    beat(again, second)
    assert second.members("room") == {"bob": [{}]}


# Strangers


def test_a_stranger_that_speaks_for_a_node_is_found_out_by_its_next_heartbeat() -> None:
    clock = Clock()
    first, second = make("a", clock), make("b", clock)
    first.join("room", "ann", "1")
    exchange(first, second)
    for forged in (
        ChangeMessage("a", 2, [joining("9"), encode_leave("room", "1")]),
        Heartbeat("a", 2**63, 5),
        StateMessage("a", 2**63, 0, 0, 1, []),
    ):
        second.receive(encode(forged))
        assert second.members("room") != first.members("room") or isinstance(
            forged, Heartbeat
        )
        clock.now += INTERVAL
        beat(first, second)
        assert second.members("room") == first.members("room") == {"ann": [{}]}


@pytest.mark.parametrize(
    "message",
    [
        ChangeMessage("z", 1, [joining("1"), b"{}"]),
        ChangeMessage("z", 1, [joining("1"), b""]),
        StateMessage("z", 1, 5, 0, 1, [joining("1"), encode_leave("room", "1")]),
        StateMessage("z", 1, 5, 0, 1, [joining("1")]),
        StateMessage("z", 1, 0, 0, 1, [joining("1"), joining("1")]),
    ],
    ids=["line", "empty-line", "state-leaves", "digest", "twice"],
)
def test_a_message_that_is_bad_in_part_changes_nothing(
    message: ChangeMessage | StateMessage,
) -> None:
    node = make("a", Clock())
    with pytest.raises(InvalidPresence):
        node.receive(encode(message))
    assert node.topics() == node.nodes() == []
    assert node.take() == []


def test_a_leave_of_who_is_not_there_changes_nothing() -> None:
    node = make("a", Clock())
    change = ChangeMessage("z", 1, [encode_leave("room", "1")])
    assert node.receive(encode(change)) == []
    assert node.topics() == []


def test_strangers_fill_no_more_memory_than_they_may() -> None:
    node = make("a", Clock(), max_bytes=20_000)
    node.receive(encode(ChangeMessage("y", 1, [joining("1", size=5000)])))
    node.receive(encode(StateMessage("z", 1, 0, 0, 2, [joining("1", size=5000)])))
    for full in (
        ChangeMessage("y", 2, [joining("2", size=8000)]),
        StateMessage("z", 1, 0, 1, 2, [joining("2", size=8000)]),
    ):
        with pytest.raises(InvalidPresence, match="more than 20000 bytes"):
            node.receive(encode(full))
    # What takes nothing is taken in.
    node.receive(encode(ChangeMessage("y", 2, [encode_leave("room", "1")])))
    assert node.topics() == []
    node.receive(encode(ChangeMessage("y", 3, [joining("2", size=8000)])))
    assert node.count("room") == 1


def test_there_are_no_more_nodes_than_can_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replicas, "MAX_NODES", 2)
    node = make("a", Clock())
    node.receive(encode(Heartbeat("b", 0, 0)))
    node.receive(encode(StateMessage("c", 1, 0, 0, 2, [])))
    for message in (
        Heartbeat("d", 0, 0),
        ChangeMessage("d", 1, []),
        StateMessage("d", 1, 0, 0, 1, []),
    ):
        with pytest.raises(InvalidPresence, match="more than 2 nodes"):
            node.receive(encode(message))
    node.receive(encode(Heartbeat("c", 0, 0)))
    assert node.nodes() == ["b", "c"]
