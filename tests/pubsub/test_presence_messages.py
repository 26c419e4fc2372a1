"""What nodes tell each other: what is read, and what is refused, at what cost."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from websockets_routes import InvalidPresence, PresenceTooLarge
from websockets_routes.pubsub import presence_messages
from websockets_routes.pubsub.presence_messages import (
    MAX_DEPTH,
    MAX_ID,
    MAX_INFO,
    MAX_LINES,
    MAX_MEMBER,
    MAX_MESSAGE,
    MAX_TOPIC,
    ChangeMessage,
    Heartbeat,
    Leave,
    Message,
    Request,
    StateMessage,
    decode,
    decode_line,
    decode_meta,
    encode,
    encode_join,
    encode_leave,
    pages,
)

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


@pytest.mark.parametrize(
    "message",
    [
        ChangeMessage("a", 1, [b"1", b"2"]),
        Heartbeat("a", 7, 2**64 - 1),
        StateMessage("ä", 7, 0, 1, 2, [b"1"]),
        StateMessage("a", 0, 0, 0, 1, []),
        Request("a", "b"),
        Request("a", None),
    ],
    ids=str,
)
def test_a_message_is_read_as_it_was_written(message: Message) -> None:
    assert decode(encode(message)) == message


@given(st.dictionaries(st.text(), JSON))
def test_an_info_is_read_as_it_was_written(
    info: dict[str, Any],
) -> None:
    line = encode_join("room", "1", "ann", 1.5, info, MAX_INFO)
    assert b"\n" not in line
    meta = decode_meta(line)
    assert meta.key == ("room", "1")
    assert (meta.member, meta.since, meta.info) == ("ann", 1.5, info)
    assert decode_line(line) == meta


def test_a_line_may_leave() -> None:
    assert decode_line(encode_leave("room", "1")) == Leave("room", "1")
    with pytest.raises(InvalidPresence, match="no connection that joins"):
        decode_meta(encode_leave("room", "1"))


@pytest.mark.parametrize(
    "info",
    [{1, 2}, {"a": object()}, {"a": float("nan")}, {"a": "\ud800"}, {(1, 2): 3}, b""],
    ids=["set", "object", "nan", "surrogate", "key", "bytes"],
)
def test_what_is_not_json_is_not_written(info: object) -> None:
    with pytest.raises(InvalidPresence, match="not JSON"):
        encode_join("room", "1", "ann", 0, info, MAX_INFO)


def test_an_info_that_contains_itself_is_not_written() -> None:
    info: dict[str, Any] = {}
    info["self"] = info
    with pytest.raises(InvalidPresence, match="not JSON"):
        encode_join("room", "1", "ann", 0, info, MAX_INFO)
    deep: list[Any] = []
    for _ in range(200_000):
        deep = [deep]
    with pytest.raises(InvalidPresence, match="not JSON"):
        encode_join("room", "1", "ann", 0, {"deep": deep}, MAX_INFO)
    while deep:  # or Python would take it apart by recursion
        deep = deep.pop()


def test_an_info_that_is_too_large_is_not_written() -> None:
    encode_join("room", "1", "ann", 0, {"a": "ä"}, 10)
    with pytest.raises(PresenceTooLarge, match="10 bytes, 9 are allowed") as caught:
        encode_join("room", "1", "ann", 0, {"a": "ä"}, 9)
    assert (caught.value.size, caught.value.limit) == (10, 9)


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({}, "a line"),
        ([], "a line"),
        (["room", "1", "ann"], "a line"),
        (["room", "1", "ann", 0, {}, 0], "a line"),
        ([1, "1", "ann", 0, {}], "a topic is a str, not int"),
        (["", "1", "ann", 0, {}], "a topic is empty"),
        (["room/#", "1", "ann", 0, {}], "wildcard"),
        (["a\nb", "1", "ann", 0, {}], "control character"),
        (["x" * (MAX_TOPIC + 1), "1", "ann", 0, {}], "a topic has more than"),
        (["room", None, "ann", 0, {}], "a connection is a str"),
        (["room", "x" * (MAX_ID + 1), "ann", 0, {}], "a connection has more than"),
        (["room", "1", ["ann"], 0, {}], "a member is a str, not list"),
        (["room", "1", "\ud800", 0, {}], "surrogate"),
        (["room", "1", "ä" * (MAX_MEMBER // 2 + 1), 0, {}], "a member has more than"),
        (["room", "1", "ann", None, {}], "no time"),
        (["room", "1", "ann", True, {}], "no time"),
        (["room", "1", "ann", 10**400, {}], "no time"),
        (["room", "1", "ann", -1e300, {}], "no time"),
        (["room", "1", "ann", 0, []], "an info is a dict"),
        (["room", "1", "ann", 0, None], "an info is a dict"),
        (["room", "1", "ann", 0, {"a": ["\udfff"]}], "surrogate"),
        (["room", "1", "ann", 0, {"\udfff": 1}], "surrogate"),
        (["room", "1", "ann", 0, {"a": "x" * 2 * MAX_INFO}], "a line"),
        (["room", 1], "a connection is a str"),
        ([[], "1"], "a topic is a str"),
        (["a/+", "1"], "wildcard"),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_a_line_that_is_none_is_refused(fields: object, why: str) -> None:
    with pytest.raises(InvalidPresence, match=why):
        decode_line(json.dumps(fields).encode())


@pytest.mark.parametrize("number", ["1e999", "-1e999"])
def test_a_number_beyond_all_numbers_is_refused(number: str) -> None:
    with pytest.raises(InvalidPresence, match="too large"):
        decode_line(f'["room","1","ann",0,{{"a":[{number}]}}]'.encode())


def test_an_info_is_not_nested_deeper_than_anyone_can_read() -> None:
    def line(depth: int) -> bytes:
        return b'["room","1","ann",0,%b%b]' % (b'{"a":' * depth, b"0" + b"}" * depth)

    decode_line(line(MAX_DEPTH))
    with pytest.raises(InvalidPresence, match="nested deeper"):
        decode_line(line(MAX_DEPTH + 1))


HEARTBEAT = {
    "presence": 1,
    "kind": "heartbeat",
    "node": "a",
    "sequence": 1,
    "digest": 2,
}
STATE = {**HEARTBEAT, "kind": "state", "part": 0, "parts": 1}


@pytest.mark.parametrize(
    ("message", "why"),
    [
        (b"", "not JSON"),
        (b"\xff", "not JSON"),
        (b"\xef\xbb\xbf{}", "not JSON"),
        (b'{"presence":NaN}', "not JSON"),
        (b'{"presence":1' + b"0" * 10_000, "not JSON"),
        (b'{"presence":' + b"9" * 10_000 + b"}", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b'{"a":' * 100_000, "not JSON"),
        (b" " * (MAX_MESSAGE + 1), "more than 524288 bytes"),
        (b"\n" * (MAX_LINES + 1), "more than 1000 lines"),
        (b"1", "version 1"),
        (b"[]", "version 1"),
        (b"{}", "version 1"),
        ({**HEARTBEAT, "presence": 2}, "version 1"),
        ({**HEARTBEAT, "kind": "gossip"}, "no known kind"),
        ({**HEARTBEAT, "kind": {}}, "no known kind"),
        ({**HEARTBEAT, "node": 1}, "a node is a str"),
        ({**HEARTBEAT, "node": "x" * (MAX_ID + 1)}, "a node has more than 256"),
        ({**HEARTBEAT, "node": ""}, "a node is empty"),
        ({"presence": 1, "kind": "heartbeat"}, "a node is a str"),
        ({**HEARTBEAT, "digest": None}, "the digest"),
        ({**HEARTBEAT, "digest": True}, "the digest"),
        ({**HEARTBEAT, "sequence": -1}, "the sequence"),
        ({**HEARTBEAT, "sequence": 2**64}, "the sequence"),
        ({**HEARTBEAT, "sequence": 1.0}, "the sequence"),
        ({**HEARTBEAT, "kind": "request", "of": 1}, "an? of is a str"),
        ({**STATE, "part": 1}, "beyond the last"),
        ({**STATE, "parts": 0}, "beyond the last"),
        (json.dumps(HEARTBEAT).encode() + b"\n1", "has no lines"),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_a_message_that_is_none_is_refused(
    message: bytes | dict[str, Any], why: str
) -> None:
    raw = message if isinstance(message, bytes) else json.dumps(message).encode()
    with pytest.raises(InvalidPresence, match=why) as caught:
        decode(raw)
    assert len(str(caught.value)) < 200


def test_fields_that_a_later_release_adds_are_passed_over() -> None:
    message = json.dumps({**HEARTBEAT, "colour": "red", "lines": 3}).encode()
    assert decode(message) == Heartbeat("a", 1, 2)


def test_pages_fit_into_messages_and_are_few() -> None:
    assert list(pages([])) == [[]]
    assert [len(page) for page in pages([b"1"] * 2500)] == [1000, 1000, 500]
    topic, member, connection = '"' * MAX_TOPIC, '"' * MAX_MEMBER, '"' * MAX_ID
    info = {"a": "x" * (MAX_INFO - 8)}
    longest = encode_join(topic, connection, member, -0.123456789e11, info, MAX_INFO)
    decode_meta(longest)
    lines = [longest] * 20
    parts = list(pages(lines))
    assert [line for page in parts for line in page] == lines
    assert len(parts) == 4
    node = '"' * MAX_ID
    for page in parts:
        message = StateMessage(node, 2**63, 2**63, 2**63, 2**64 - 1, page)
        raw = encode(message)
        assert len(raw) <= MAX_MESSAGE
        assert decode(raw) == message


def test_a_page_that_is_almost_full_takes_the_longest_line() -> None:
    longest = b"x" * presence_messages._MAX_LINE
    almost = [b"x" * 499] * (presence_messages._PAGE // 500)
    (page,) = pages([*almost, longest])
    assert len(encode(StateMessage("a" * MAX_ID, 1, 1, 1, 1, page))) <= MAX_MESSAGE


@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_any_bytes_are_a_message_or_refused(raw: bytes) -> None:
    for read in (decode, decode_line, decode_meta):
        with suppress(InvalidPresence):
            read(raw)
