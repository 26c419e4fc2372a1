"""Channels and subjects lose nothing; frames come back as they were."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from websockets_routes import Filter
from websockets_routes.brokers import Envelope, HistoryPolicy
from websockets_routes.brokers.nats_subjects import Subjects, policy_token
from websockets_routes.brokers.redis_names import Names
from websockets_routes.brokers.wire import decode, encode, split_position

same_every_time = settings(
    derandomize=True, database=None, deadline=None, max_examples=150
)
level = st.text(
    st.sampled_from("ab%~.*>?[]\\^-{}$ é日😀\u00a0")
    | st.characters(exclude_categories=["Cc", "Cs"], exclude_characters="+#/"),
    max_size=4,
)
names = st.lists(level, min_size=1, max_size=4).map("/".join).filter(bool)
filters = (
    st.tuples(st.lists(level | st.just("+"), max_size=3), level | st.sampled_from("+#"))
    .map(lambda parts: "/".join([*parts[0], parts[1]]))
    .filter(bool)
    .map(Filter)
)


@same_every_time
@given(names)
def test_a_channel_is_its_topic(topic: str) -> None:
    channels = Names("a*[b]:")
    assert channels.topic(channels.channel(topic)) == topic


@same_every_time
@given(filters)
def test_a_pattern_is_its_filter(topic: Filter) -> None:
    channels = Names("a*[b]:")
    assert channels.filter(channels.pattern(topic)) == topic


@pytest.mark.parametrize(
    "channel",
    [b"", b"p:a", b"q:a/", b"p:/", b"p:a+/", b"p:\xff/", b"p:\x00/"],
    ids=repr,
)
def test_a_channel_of_no_topic_is_refused(channel: bytes) -> None:
    with pytest.raises(ValueError, match=r"channel|topic|decode"):
        Names("p:").topic(channel)


@same_every_time
@given(names, names)
def test_a_subject_is_its_topic(topic: str, other: str) -> None:
    subjects = Subjects("a.b")
    subject = subjects.plain(topic)
    assert subjects.topic(subject) == (topic, None)
    assert subjects.topic(subject.replace(".-.", ".epoch.", 1)) == (topic, "epoch")
    assert subject.isascii()
    assert not set(subject) & set("*> \t")
    assert ".." not in subject
    assert (subject == subjects.plain(other)) == (topic == other)


def nats_matches(pattern: str, subject: str) -> bool:
    parts, tokens = pattern.split("."), subject.split(".")
    for index, part in enumerate(parts):
        if part == ">":
            return len(tokens) > index
        if index == len(tokens) or part not in ("*", tokens[index]):
            return False
    return len(parts) == len(tokens)


@same_every_time
@given(filters, names)
def test_wildcards_match_as_the_filter_does(topic: Filter, name: str) -> None:
    subjects = Subjects("p")
    matched = nats_matches(subjects.interest(topic), subjects.plain(name))
    if name.startswith("$"):
        assert matched >= topic.matches(name)
    else:
        assert matched == topic.matches(name)


@pytest.mark.parametrize(
    "subject",
    [
        "p.m.-.~",
        "p.m.-",
        "p.m",
        "p.m.-.a",
        "p.m.-.a b.~",
        "p.m.-.%zz.~",
        "p.m.-.%.~",
        "p.m.-.%FF.~",
        "p.m.-.a%2B.~",
        "p.m.-..~",
        "p.m.-.a%.~",
        "p.m.-.%00.~",
    ],
)
def test_a_subject_of_no_topic_is_refused(subject: str) -> None:
    with pytest.raises(ValueError, match=r"subject|topic|decode|unpack"):
        Subjects("p").topic(subject)


def test_policies_have_names_of_their_own() -> None:
    policies = [HistoryPolicy(1), HistoryPolicy(11), HistoryPolicy(1, 1)]
    policies += [HistoryPolicy(1, 0.1), HistoryPolicy(1, 10)]
    assert len({*map(policy_token, policies)}) == len(policies)


@same_every_time
@given(
    data=st.binary(max_size=20),
    text=st.text(max_size=20),
    is_text=st.booleans(),
    origin=st.none() | st.text(max_size=5),
    name=st.text(max_size=5),
    timestamp=st.floats(0, 1e10),
)
def test_a_frame_is_its_message(
    data: bytes,
    text: str,
    is_text: bool,
    origin: str | None,
    name: str,
    timestamp: float,
) -> None:
    payload = text.encode() if is_text else data
    envelope = Envelope("room", payload, is_text, origin, name, timestamp)
    frame = encode(envelope)
    assert decode("room", frame) == envelope
    assert split_position(frame) == (None, None, 0)
    placed = b"Hepoch:7\n" + frame
    offset, epoch, start = split_position(placed)
    expected = envelope._replace(offset=7, epoch="epoch")
    assert decode("room", placed, offset, epoch, start) == expected


FRAME = encode(Envelope("room", "é".encode(), True, "me", "id", 1.0))


@pytest.mark.parametrize(
    "frame",
    [
        b"",
        b"W1",
        b"x" * 40,
        FRAME[:17],
        b"W2" + FRAME[2:],
        FRAME[:-1],
        FRAME.replace(b"id", b"\xff\xff"),
        FRAME.replace(b"me", b"\xff\xff"),
    ],
    ids=repr,
)
def test_a_frame_of_no_message_is_refused(frame: bytes) -> None:
    with pytest.raises(ValueError, match=r"it is|it does|decode"):
        decode("room", frame)


@pytest.mark.parametrize(
    "frame",
    [
        b"H",
        b"He:1",
        b"H:1\n",
        b"He:\n",
        b"He:x\n",
        b"He:-1\n",
        b"H\xff:1\n",
        b"H1\n",
        b"H" + b"e" * 300 + b":1\n",
    ],
    ids=lambda frame: repr(frame)[:12],
)
def test_a_position_that_is_none_is_refused(frame: bytes) -> None:
    with pytest.raises(ValueError, match=r"position|decode"):
        split_position(frame)


def test_an_id_or_origin_that_is_too_long_is_refused() -> None:
    envelope = Envelope("room", b"", False, None, "x" * 65_536, 0.0)
    with pytest.raises(ValueError, match="65535"):
        encode(envelope)
    with pytest.raises(ValueError, match="65535"):
        encode(envelope._replace(id="", origin="x" * 65_536))
