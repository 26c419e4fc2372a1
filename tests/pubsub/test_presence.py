"""Presence on one node: who comes, who goes, what is refused."""

from __future__ import annotations

import json
import pickle
from typing import Any

import pytest

from tests.pubsub.presences import Clock, exchange, make
from websockets_routes import (
    Filter,
    InvalidLimit,
    InvalidPresence,
    InvalidTopic,
    PresenceTooLarge,
)
from websockets_routes.pubsub.presence import MAX_PENDING, Presence
from websockets_routes.pubsub.presence_messages import (
    MAX_INFO,
    MAX_MESSAGE,
    ChangeMessage,
    Request,
    decode,
)
from websockets_routes.pubsub.roster import Change


def test_a_member_joins_with_its_first_connection_and_leaves_with_its_last() -> None:
    node = Presence("a")
    info = {"name": "Ann"}
    assert node.join("room", "ann", "1", info) == Change("room", {"ann": [info]}, {})
    assert node.join("room", "ann", "2") is None
    assert node.members("room") == {"ann": [info, {}]}
    assert node.count("room") == 1
    assert node.leave("room", "1") is None
    assert node.leave("room", "2") == Change("room", {}, {"ann": [{}]})
    assert node.members("room") == {}
    assert node.count("room") == 0
    assert node.topics() == []
    assert node.nodes() == []


def test_members_are_in_the_order_in_which_they_came() -> None:
    node = Presence("a")
    for member in ("bob", "ann", "cleo"):
        node.join("room", member, member)
    node.join("hall", "ann", "ann")
    node.join("room", "bob", "another")
    assert list(node.members("room")) == ["bob", "ann", "cleo"]
    assert node.topics() == ["room", "hall"]


def test_joining_again_replaces_the_info_and_keeps_the_place() -> None:
    clock = Clock()
    node = Presence("a", wall_clock=clock)
    for number in range(3):
        clock.now += 1
        node.join("room", "ann", str(number), {"number": number})
    clock.now += 1
    assert node.join("room", "ann", "0", {"number": 9}) is None
    assert node.members("room") == {
        "ann": [{"number": 9}, {"number": 1}, {"number": 2}]
    }


def test_joining_again_as_another_is_a_leave_and_a_join() -> None:
    node = Presence("a")
    node.join("room", "ann", "1", {"old": 1})
    change = node.join("room", "bob", "1")
    assert change == Change("room", {"bob": [{}]}, {"ann": [{"old": 1}]})
    assert node.members("room") == {"bob": [{}]}


def test_joining_again_as_before_tells_nobody() -> None:
    node = Presence("a")
    node.join("room", "ann", "1", {"a": 1})
    assert len(node.take()) == 1
    assert node.join("room", "ann", "1", {"a": 1}) is None
    assert node.take() == []


def test_an_update_replaces_the_info_and_nobody_comes_by_it() -> None:
    node, other = make("a", Clock()), make("b", Clock())
    node.join("room", "ann", "1", {"a": 1})
    exchange(node, other)
    node.update("room", "1", {"a": True})
    assert exchange(node, other) == {"a": [], "b": []}
    for each in (node, other):
        assert each.members("room")["ann"][0]["a"] is True
    with pytest.raises(InvalidPresence, match="'2' is not in topic 'room'"):
        node.update("room", "2", {})


def test_a_connection_leaves_all_its_topics() -> None:
    node = Presence("a")
    node.join("room", "ann", "1")
    node.join("hall", "ann", "1")
    node.join("hall", "ann", "2")
    assert node.leave_all("1") == [Change("room", {}, {"ann": [{}]})]
    assert node.topics() == ["hall"]
    assert node.leave_all("1") == node.leave_all("unknown") == []


def test_leaving_where_one_is_not_changes_nothing() -> None:
    node = Presence("a")
    node.join("room", "ann", "1")
    node.take()
    assert node.leave("room", "2") is None
    assert node.leave("hall", "1") is None
    assert node.take() == []


def test_an_info_is_copied_as_json_copies_it() -> None:
    node = Presence("a")
    info: dict[str, Any] = {"pair": (1, 2), "list": [1]}
    node.join("room", "ann", "1", info)
    info["list"].append(2)
    assert node.members("room") == {"ann": [{"pair": [1, 2], "list": [1]}]}


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (("room/+", "ann", "1"), InvalidTopic),
        ((Filter("room"), "ann", "1"), InvalidTopic),
        (("", "ann", "1"), InvalidTopic),
        (("x" * 5000, "ann", "1"), InvalidPresence),
        (("room", 7, "1"), InvalidPresence),
        (("room", ..., "1"), InvalidPresence),
        (("room", "", "1"), InvalidPresence),
        (("room", "ann", []), InvalidPresence),
        (("room", "ann", ""), InvalidPresence),
        (("room", "ann", "1", [1]), InvalidPresence),
        (("room", "ann", "1", {"a": {1}}), InvalidPresence),
        (("room", "ann", "1", {"a": float("inf")}), InvalidPresence),
        (("room", "ann", "1", {"a": "x" * 4096}), PresenceTooLarge),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_what_cannot_be_present_is_refused_and_changes_nothing(
    arguments: Any, error: type[Exception]
) -> None:
    node = Presence("a")
    with pytest.raises(error):
        node.join(*arguments)
    assert node.topics() == []
    assert node.take() == []
    node.join("room", "ann", "1", {"a": 1})
    node.take()
    if arguments[0] == "room" and arguments[2] == "1":
        with pytest.raises(error):
            node.join(*arguments)
        assert node.members("room") == {"ann": [{"a": 1}]}
        assert node.take() == []


def test_an_info_may_be_as_large_as_it_is_said() -> None:
    node = Presence("a", max_info=MAX_INFO)
    info = {"a": "x" * (MAX_INFO - 8)}
    node.join("room", "ann", "1", info)
    with pytest.raises(PresenceTooLarge, match="65537 bytes, 65536 are allowed"):
        node.update("room", "1", {"a": info["a"] + "x"})
    other = Presence("b", max_info=10)
    exchange(node, other)
    assert other.members("room") == {"ann": [info]}


@pytest.mark.parametrize(
    "limits",
    [{"ttl": 0}, {"max_info": 0}, {"max_info": MAX_INFO + 1}, {"max_bytes": -1}],
    ids=str,
)
def test_a_limit_that_is_none_is_refused(limits: Any) -> None:
    with pytest.raises(InvalidLimit):
        Presence("a", **limits)


@pytest.mark.parametrize("node", ["", "x" * 257, "a\n", 7], ids=repr)
def test_the_id_of_a_node_that_is_none_is_refused(node: Any) -> None:
    with pytest.raises(InvalidPresence, match="a node"):
        Presence(node)


@pytest.mark.parametrize(
    ("error", "status", "close_code"),
    [(InvalidPresence("bad"), 400, 1008), (PresenceTooLarge(10, 9), 413, 1009)],
    ids=["invalid", "too-large"],
)
def test_an_error_knows_what_it_means_to_a_client_and_survives_a_pickle(
    error: InvalidPresence, status: int, close_code: int
) -> None:
    assert (error.status, error.close_code) == (status, close_code)
    restored = pickle.loads(pickle.dumps(error))
    assert type(restored) is type(error)
    assert str(restored) == str(error)
    assert vars(restored) == vars(error)


# What is sent


def test_a_heartbeat_does_not_grow_with_the_members() -> None:
    node = Presence("a")
    sizes = []
    for number in range(2000):
        node.join("room", str(number), str(number))
        if number in (0, 1999):
            node.take()
            node.heartbeat()
            (heartbeat,) = node.take()
            sizes.append(len(heartbeat))
    assert max(sizes) < 150
    assert sizes[1] - sizes[0] < 30


def test_changes_that_wait_are_sent_together_and_in_their_order() -> None:
    node, other = make("a", Clock()), make("b", Clock())
    for number in range(2500):
        node.join("room", str(number), str(number))
        node.join("hall", "ann", str(number))
    node.leave("room", "7")
    messages = node.take()
    assert len(messages) == 6
    assert all(len(message) <= MAX_MESSAGE for message in messages)
    for message in messages:
        other.receive(message)
    assert other.members("room") == node.members("room")
    assert len(other.members("hall")["ann"]) == 2500
    assert other.take() == []


def test_changes_that_nobody_takes_do_not_pile_up() -> None:
    clock = Clock()
    node, other = make("a", clock), make("b", clock)
    exchange(node, other)
    info = {"a": "x" * 4000}
    for number in range(2 * MAX_PENDING // 4000):
        node.join("room", "ann", str(number % 2), {"number": number, **info})
    messages = node.take()
    assert sum(map(len, messages)) < 1.1 * MAX_PENDING
    changes = [
        message for message in messages if isinstance(decode(message), ChangeMessage)
    ]
    for message in changes:
        other.receive(message)
    assert [decode(message) for message in other.take()] == [Request("b", "a")]
    for message in messages:
        other.receive(message)
    assert other.members("room") == node.members("room") != {}


def test_the_first_line_alone_says_what_a_message_is() -> None:
    node = Presence("a")
    node.join("room", "ann", "1", {"a": "ä"})
    (message,) = node.take()
    header, line = message.split(b"\n")
    assert json.loads(header) == {
        "presence": 1,
        "kind": "change",
        "node": "a",
        "sequence": 1,
    }
    assert json.loads(line)[:3] == ["room", "1", "ann"]
    assert node.receive(message) == []
