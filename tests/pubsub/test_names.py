"""Names and filters: the rules of MQTT 5, section 4.7, against paho's matcher.

No difference between paho and the specification has to be left out: what paho's
matcher does with a wildcard in a name, or with an empty name, is never asked.
"""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from paho.mqtt.client import topic_matches_sub

from websockets_routes import Filter, InvalidTopic, RoutesError
from websockets_routes.pubsub.names import check_levels, check_name

same_every_time = settings(
    derandomize=True, database=None, deadline=None, max_examples=200
)

levels = st.sampled_from(["", "a", "b", "$a", "$"])
names = st.lists(levels, min_size=1, max_size=5).map("/".join).filter(bool)
parents = st.lists(st.one_of(levels, st.just("+")), min_size=0, max_size=4)
filters = (
    st.tuples(parents, st.one_of(levels, st.sampled_from(["+", "#"])))
    .map(lambda parts: "/".join([*parts[0], parts[1]]))
    .filter(bool)
)


# What a filter matches


@pytest.mark.parametrize(
    ("text", "name", "matches"),
    [
        # section 4.7.1.2
        ("sport/tennis/player1/#", "sport/tennis/player1", True),
        ("sport/tennis/player1/#", "sport/tennis/player1/ranking", True),
        ("sport/tennis/player1/#", "sport/tennis/player1/score/wimbledon", True),
        ("sport/tennis/player1/#", "sport/tennis", False),
        ("sport/tennis/player1/#", "sport/tennis/player12", False),
        ("sport/#", "sport", True),
        ("sport/#", "sport/", True),
        ("sport/#", "sports", False),
        ("#", "sport", True),
        ("#", "/", True),
        ("#", "a/b/c", True),
        # section 4.7.1.3
        ("sport/tennis/+", "sport/tennis/player1", True),
        ("sport/tennis/+", "sport/tennis/player2", True),
        ("sport/tennis/+", "sport/tennis/player1/ranking", False),
        ("sport/+", "sport", False),
        ("sport/+", "sport/", True),
        ("+", "finance", True),
        ("+", "/finance", False),
        ("+/+", "/finance", True),
        ("/+", "/finance", True),
        ("+/tennis/#", "sport/tennis", True),
        ("+/tennis/#", "/tennis/x/y", True),
        ("+/tennis/#", "sport/football", False),
        ("sport/+/player1", "sport/tennis/player1", True),
        ("sport/+/player1", "sport//player1", True),
        ("sport/+/player1", "sport/player1", False),
        ("+/#", "a", True),
        ("+/+/#", "a", False),
        # section 4.7.2
        ("#", "$SYS/monitor/Clients", False),
        ("#", "$SYS", False),
        ("#", "$", False),
        ("+", "$SYS", False),
        ("+/#", "$SYS", False),
        ("+/monitor/Clients", "$SYS/monitor/Clients", False),
        ("$SYS/#", "$SYS/monitor/Clients", True),
        ("$SYS/#", "$SYS", True),
        ("$SYS/monitor/+", "$SYS/monitor/Clients", True),
        ("$SYS/+/Clients", "$SYS/monitor/Clients", True),
        ("#", "a/$SYS", True),
        ("a/+", "a/$SYS", True),
        ("a/#", "a/$SYS/b", True),
        ("+/b", "/b", True),
        ("#", "/$SYS", True),
        # section 4.7.3: case, spaces, and every slash tell names apart
        ("ACCOUNTS", "accounts", False),
        ("Accounts payable", "Accounts payable", True),
        ("/finance", "finance", False),
        ("a/b", "a/b", True),
        ("a/b", "a/b/", False),
        ("a/b/", "a/b", False),
        ("a//b", "a/b", False),
        ("a//b", "a//b", True),
        ("/", "/", True),
        ("/", "//", False),
        ("/#", "/", True),
        ("/#", "a", False),
        # Names are compared as they are: nothing is decoded or normalised.
        ("a/%23", "a/#", False),
        ("é", "e\u0301", False),
    ],
)
def test_a_filter_matches_as_the_specification_has_it(
    text: str, name: str, matches: bool
) -> None:
    assert Filter(text).matches(name) is matches


@same_every_time
@given(filters, names)
@example("+/+", "$a/b")
@example("#", "$a")
@example("$a/#", "$a")
@example("a/#", "a/")
@example("+/#", "/")
def test_a_filter_matches_as_paho_does(text: str, name: str) -> None:
    assert Filter(text).matches(name) is topic_matches_sub(text, name)


@same_every_time
@given(names)
def test_a_filter_without_wildcards_matches_its_own_name(name: str) -> None:
    assert Filter(name).matches(name)


# What is a filter


@pytest.mark.parametrize(
    "text",
    [
        "#",
        "+",
        "+/+",
        "/",
        "//",
        "/+",
        "+/",
        "a/#",
        "/#",
        "a//#",
        "+/tennis/#",
        "$SYS/#",
        "é/日本/😀",
        " ",
        "a b/+",
        "%23/#",
        "*",
        "{x}",
        "?",
    ],
)
def test_a_filter_keeps_its_text_and_levels(text: str) -> None:
    made = Filter(text)
    assert str(made) == made.text == text
    assert made.levels == tuple(text.split("/"))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "empty"),
        ("sport/tennis#", "'tennis#'"),
        ("sport/#tennis", "'#tennis'"),
        ("##", "'##'"),
        ("sport/tennis/#/ranking", "follow #"),
        ("#/", "follow #"),
        ("#/#", "follow #"),
        ("#/a", "follow #"),
        ("sport+", "'sport+'"),
        ("+sport", "'+sport'"),
        ("++", "'++'"),
        ("a/+b/c", "'+b'"),
        ("+#", "'+#'"),
        ("a/b+/#", "'b+'"),
        ("a\0", "control"),
        ("a/\n/b", "control"),
        ("\x7f", "control"),
        ("\x80", "control"),
        ("\x9f/#", "control"),
        ("\ud800", "surrogate"),
        ("a/\udfff/#", "surrogate"),
    ],
)
def test_what_is_no_filter_raises_with_the_reason(text: str, reason: str) -> None:
    with pytest.raises(InvalidTopic) as caught:
        Filter(text)
    assert caught.value.topic == text
    assert reason in caught.value.problem
    assert reason in str(caught.value)
    assert isinstance(caught.value, RoutesError)
    assert isinstance(caught.value, ValueError)


@pytest.mark.parametrize("text", [None, 7, b"a", ["a"], Filter("a")], ids=repr)
def test_a_filter_is_made_from_a_str_only(text: Any) -> None:
    with pytest.raises(InvalidTopic, match=type(text).__name__) as caught:
        Filter(text)
    assert caught.value.topic is text


def test_equal_filters_are_one_key_and_no_str_is_one_of_them() -> None:
    assert Filter("a/+") == Filter("a/+")
    assert hash(Filter("a/+")) == hash(Filter("a/+"))
    assert Filter("a/+") != Filter("a/#")
    assert Filter("a") != "a"
    assert "a" != Filter("a")  # noqa: SIM300
    assert len({Filter("a"), Filter("a"), "a", Filter("b")}) == 3
    assert Filter("a/+") in {Filter("a/+"): None}


def test_a_filter_shows_how_to_make_it() -> None:
    made = Filter("room/+/news")
    assert repr(made) == "Filter('room/+/news')"
    assert f"{made}" == "room/+/news"


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy], ids=["copy", "deepcopy"])
def test_a_copy_of_a_filter_is_equal(copied: Any) -> None:
    made = copied(Filter("a/+"))
    assert made == Filter("a/+")
    assert made.matches("a/b")


def test_a_filter_goes_through_a_pickle() -> None:
    assert pickle.loads(pickle.dumps(Filter("a/#"))) == Filter("a/#")


# What is a name


@pytest.mark.parametrize(
    "name",
    [
        "a",
        "/",
        "//",
        "a//b",
        "/a",
        "a/",
        "$SYS/x",
        "$",
        " ",
        "é/日本/😀",
        "%23",
        "a*b",
        "{x}",
        "a?b",
        "\xa0",
        "\u2028",
        "\uffff",
    ],
    ids=ascii,
)
def test_a_name_may_contain_anything_printable(name: str) -> None:
    check_name(name)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("", "empty"),
        ("+", "Filter('+')"),
        ("#", "Filter('#')"),
        ("room/#", "Filter('room/#')"),
        ("a+b", "Filter('a+b')"),
        ("a#", "Filter('a#')"),
        ("\0", "control"),
        ("a\n", "control"),
        ("a\r\nb", "control"),
        ("\x1f", "control"),
        ("\x7f", "control"),
        ("\x85", "control"),
        ("\ud800", "surrogate"),
        ("a/\udc80", "surrogate"),
        ("#\0", "control"),
    ],
    ids=ascii,
)
def test_what_is_no_name_raises_with_the_reason(name: str, reason: str) -> None:
    with pytest.raises(InvalidTopic) as caught:
        check_name(name)
    assert caught.value.topic == name
    assert reason in caught.value.problem


@pytest.mark.parametrize(
    "name", [None, 7, b"a", bytearray(b"a"), ["a"], Filter("a")], ids=repr
)
def test_a_name_is_a_str(name: object) -> None:
    with pytest.raises(InvalidTopic, match=type(name).__name__):
        check_name(name)


@same_every_time
@given(st.text(max_size=8))
def test_a_name_is_what_can_be_sent_and_has_no_wildcard(name: str) -> None:
    fit = (
        bool(name)
        and all(ord(each) > 31 and not 127 <= ord(each) <= 159 for each in name)
        and not any("\ud800" <= each <= "\udfff" for each in name)
        and not set(name) & {"+", "#"}
    )
    try:
        check_name(name)
    except InvalidTopic:
        assert not fit
    else:
        assert fit


# Limits


@pytest.mark.parametrize("make", [str, Filter], ids=["name", "filter"])
@pytest.mark.parametrize(
    ("text", "length"), [("a" * 8, 8), ("é" * 4, 8), ("😀😀", 8), ("a/b/c/de", 8)]
)
def test_the_length_is_counted_in_bytes(make: Any, text: str, length: int) -> None:
    check_levels(make(text), length, 100)
    with pytest.raises(InvalidTopic, match=f"more than {length - 1} bytes"):
        check_levels(make(text), length - 1, 100)


@pytest.mark.parametrize("make", [str, Filter], ids=["name", "filter"])
@pytest.mark.parametrize(
    ("text", "levels"), [("a", 1), ("a/b", 2), ("/", 2), ("//", 3), ("a/b/c/", 4)]
)
def test_levels_are_counted_the_empty_ones_too(
    make: Any, text: str, levels: int
) -> None:
    check_levels(make(text), 100, levels)
    with pytest.raises(InvalidTopic, match=f"more than {levels - 1} levels"):
        check_levels(make(text), 100, levels - 1)


def test_wildcards_are_levels_too() -> None:
    check_levels(Filter("a/+/#"), 5, 3)
    with pytest.raises(InvalidTopic, match="more than 2 levels"):
        check_levels(Filter("a/+/#"), 5, 2)


def test_the_error_does_not_repeat_what_is_far_too_long() -> None:
    with pytest.raises(InvalidTopic) as caught:
        check_levels("x" * 1_000_000, 512, 32)
    assert len(str(caught.value)) < 200
    with pytest.raises(InvalidTopic) as caught:
        check_levels("x" * 40, 30, 32)
    assert caught.value.topic == "x" * 40
