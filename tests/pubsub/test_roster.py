"""Roster: who is in a topic, who came and who went."""

from __future__ import annotations

import pytest

from websockets_routes.pubsub.roster import Change, Meta, Roster


def meta(member: str, connection: str, since: float = 0, topic: str = "room") -> Meta:
    info = {"from": connection}
    return Meta(topic, connection, member, since, info, 10, hash(connection))


def test_a_member_comes_with_its_first_connection_and_goes_with_its_last() -> None:
    roster = Roster()
    first, second = meta("ann", "1"), meta("ann", "2")
    roster.put("a", first)
    assert roster.changes() == [Change("room", {"ann": [{"from": "1"}]}, {})]
    roster.put("b", second)
    assert roster.changes() == []
    roster.remove("a", first)
    assert roster.changes() == []
    roster.remove("b", second)
    assert roster.changes() == [Change("room", {}, {"ann": [{"from": "2"}]})]
    assert roster.topics() == []
    assert roster.members("room") == {}


def test_whoever_goes_and_comes_between_is_no_change() -> None:
    roster = Roster()
    first, second = meta("ann", "1"), meta("ann", "2")
    roster.put("a", first)
    roster.remove("a", first)
    assert roster.changes() == []
    roster.put("a", first)
    roster.changes()
    roster.remove("a", first)
    roster.put("b", second)
    assert roster.changes() == []
    assert roster.members("room") == {"ann": [{"from": "2"}]}


def test_changes_come_a_topic_at_a_time() -> None:
    roster = Roster()
    roster.put("a", meta("ann", "1"))
    roster.changes()
    roster.remove("a", meta("ann", "1"))
    roster.put("a", meta("bob", "1"))
    roster.put("a", meta("bob", "1", topic="hall"))
    assert roster.changes() == [
        Change("room", {"bob": [{"from": "1"}]}, {"ann": [{"from": "1"}]}),
        Change("hall", {"bob": [{"from": "1"}]}, {}),
    ]
    assert roster.topics() == ["room", "hall"]


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (3, 1, 0, 2), (2, 3, 1, 0)], ids=str)
def test_connections_are_in_the_order_in_which_they_joined(
    order: tuple[int, ...],
) -> None:
    joined = [
        ("b", meta("ann", "9", since=1)),
        ("a", meta("ann", "3", since=2)),
        ("a", meta("ann", "4", since=2)),
        ("b", meta("ann", "1", since=2)),
    ]
    roster = Roster()
    for index in order:
        roster.put(*joined[index])
    infos = [{"from": connection} for connection in ("9", "3", "4", "1")]
    assert roster.members("room") == {"ann": infos}
    assert roster.count("room") == 1
