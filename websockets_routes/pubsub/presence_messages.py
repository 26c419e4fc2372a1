"""What nodes tell each other about presence: lines of JSON, a header first.

The header says what the message is and which node sent it; each further line is one
connection. So a node that needs nothing of a message, its own or the answer to the
question of another, reads the first line only. The headers::

    {"presence":1,"kind":"change","node":"a","sequence":7}
    {"presence":1,"kind":"heartbeat","node":"a","sequence":7,"digest":123}
    {"presence":1,"kind":"state","node":"a","sequence":7,"digest":123,"part":0,"parts":1}
    {"presence":1,"kind":"request","node":"b","of":"a"}

A line ``["room/7","connection","member",1700000000.0,{"info":1}]`` joins or replaces, a
line ``["room/7","connection"]`` leaves. Whatever comes in is a stranger's until it
was checked: reading it is linear in its size, and everything is limited.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from hashlib import blake2b
from typing import Any, NamedTuple, NoReturn

from ..exceptions import InvalidTopic
from ..presence_errors import InvalidPresence, PresenceTooLarge
from ..target import UNFIT
from .names import check_name
from .roster import Meta

__all__ = [
    "MAX_DEPTH",
    "MAX_ID",
    "MAX_INFO",
    "MAX_LINES",
    "MAX_MEMBER",
    "MAX_MESSAGE",
    "MAX_TOPIC",
    "ChangeMessage",
    "Heartbeat",
    "Leave",
    "Message",
    "Request",
    "StateMessage",
    "check_text",
    "decode",
    "decode_line",
    "decode_meta",
    "encode",
    "encode_join",
    "encode_leave",
    "pages",
]

#: Bytes of one message; less than what NATS takes by default.
MAX_MESSAGE = 512 * 1024
#: Lines of one message, besides its header.
MAX_LINES = 1000
#: Bytes of UTF-8 of the name of a topic, of a member, of a node or connection.
MAX_TOPIC = 4096
MAX_MEMBER = 1024
MAX_ID = 256
#: Bytes of JSON of an info, whatever a node allows its own members.
MAX_INFO = 64 * 1024
#: How deep lists and objects are nested in an info, itself included.
MAX_DEPTH = 32

_VERSION = 1
# Bytes that a connection takes in memory besides those of its line, about.
_OVERHEAD = 1000
_MAX_NUMBER = (1 << 64) - 1
# The longest line that the limits above let through, names full of quotes included.
_MAX_LINE = MAX_INFO + 2 * (MAX_TOPIC + MAX_MEMBER + MAX_ID) + 64
# A page is full before one more line could make the message too long.
_PAGE = MAX_MESSAGE - _MAX_LINE - 1024
# Seconds since 1970, before or after: more than any clock shows.
_MAX_SINCE = 1e12


class ChangeMessage(NamedTuple):
    """Connections that joined or left, in this order."""

    node: str
    sequence: int
    lines: list[bytes]


class Heartbeat(NamedTuple):
    """A sign of life, and what the node stands at."""

    node: str
    sequence: int
    digest: int


class StateMessage(NamedTuple):
    """A part of everything that a node has; the parts follow each other."""

    node: str
    sequence: int
    digest: int
    part: int
    parts: int
    lines: list[bytes]


class Request(NamedTuple):
    """A question for the full state of a node, or of every other one."""

    node: str
    of: str | None


Message = ChangeMessage | Heartbeat | StateMessage | Request


class Leave(NamedTuple):
    """A connection that left a topic: the key of its meta."""

    topic: str
    connection: str


_KINDS: dict[str, type[Message]] = {
    "change": ChangeMessage,
    "heartbeat": Heartbeat,
    "state": StateMessage,
    "request": Request,
}
_NAMES = {kind: name for name, kind in _KINDS.items()}


def encode(message: Message) -> bytes:
    """Make the bytes of a message."""
    fields = message._asdict()
    lines: list[bytes] = fields.pop("lines", [])
    header = {"presence": _VERSION, "kind": _NAMES[type(message)], **fields}
    return b"\n".join([_dump(header).encode(), *lines])


def decode(message: bytes) -> Message:
    """Read the header of a message; its lines are not looked at.

    Raises:
        InvalidPresence: If it is none, or too large; says why.
    """
    if len(message) > MAX_MESSAGE:
        raise InvalidPresence(f"a message has more than {MAX_MESSAGE} bytes")
    if message.count(b"\n") > MAX_LINES:
        raise InvalidPresence(f"a message has more than {MAX_LINES} lines")
    first, *lines = message.split(b"\n")
    header = _load(first)
    if not isinstance(header, dict) or header.get("presence") != _VERSION:
        raise InvalidPresence(f"a message is not of version {_VERSION}")
    fields: dict[str, Any] = {**header, "lines": lines}
    name = fields.get("kind")
    kind = _KINDS.get(name) if isinstance(name, str) else None
    if kind is None:
        raise InvalidPresence("a message is of no known kind")
    for field in kind._fields:
        value = fields.get(field)
        if field == "node" or (field == "of" and value is not None):
            check_text(field, value, MAX_ID)
        elif field not in ("of", "lines"):
            _check_number(field, value)
    if lines and "lines" not in kind._fields:
        raise InvalidPresence(f"a {name} has no lines")
    if kind is StateMessage and fields["part"] >= fields["parts"]:
        raise InvalidPresence("a part of a state is beyond the last")
    return kind._make(fields.get(field) for field in kind._fields)


def encode_join(
    topic: str, connection: str, member: str, since: float, info: object, limit: int
) -> bytes:
    """Make the line of a connection that joins; ``decode_meta`` checks it.

    Args:
        limit: Bytes that the info may have.

    Raises:
        InvalidPresence: If the info is not JSON.
        PresenceTooLarge: If the info is too large.
    """
    try:
        text = _dump(info).encode()
        rest = _dump([topic, connection, member, since]).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidPresence(f"what is not JSON cannot be present: {error}") from None
    if len(text) > limit:
        raise PresenceTooLarge(len(text), limit)
    return b"%b,%b]" % (rest[:-1], text)


def encode_leave(topic: str, connection: str) -> bytes:
    """Make the line of a connection that leaves."""
    return _dump([topic, connection]).encode()


def decode_line(line: bytes) -> Meta | Leave:
    """Read a line of a change.

    Raises:
        InvalidPresence: If it neither joins nor leaves; says why.
    """
    fields = _load(line)
    if isinstance(fields, list) and len(fields) == 2:
        leave = Leave(*fields)
        _check_key(*leave)
        return leave
    return _meta(line, fields)


def decode_meta(line: bytes) -> Meta:
    """Read a line that joins.

    Raises:
        InvalidPresence: If it is none; says why.
    """
    return _meta(line, _load(line))


def _meta(line: bytes, fields: Any) -> Meta:
    if not isinstance(fields, list) or len(fields) != 5 or len(line) > _MAX_LINE:
        raise InvalidPresence("a line is no connection that joins or leaves")
    topic, connection, member, since, info = fields
    _check_key(topic, connection)
    check_text("member", member, MAX_MEMBER)
    if type(since) not in (int, float) or not -_MAX_SINCE < since < _MAX_SINCE:
        raise InvalidPresence("the time of a connection is no time")
    if not isinstance(info, dict):
        raise InvalidPresence("an info is a dict (a JSON object)")
    _check_json(info, MAX_DEPTH)
    checksum = int.from_bytes(blake2b(line, digest_size=8).digest())
    size = len(line) + _OVERHEAD
    return Meta(topic, connection, member, since, info, size, checksum)


def pages(lines: Iterable[bytes]) -> Iterator[list[bytes]]:
    """Divide lines into as few lists as fit into messages, at least one."""
    page: list[bytes] = []
    size = 0
    for line in lines:
        if len(page) == MAX_LINES or size > _PAGE:
            yield page
            page, size = [], 0
        page.append(line)
        size += len(line) + 1
    yield page


def check_text(what: str, text: object, limit: int) -> None:
    """Check a name that nodes tell each other.

    Args:
        what: What it is the name of.
        text: The name.
        limit: Bytes of UTF-8 that it may have.

    Raises:
        InvalidPresence: If it is no str, empty, too long or contains a control
            character or a lone surrogate.
    """
    if not isinstance(text, str):
        raise InvalidPresence(f"a {what} is a str, not {type(text).__name__}")
    if not text or UNFIT.search(text):
        raise InvalidPresence(
            f"a {what} is empty, or has a control character or a lone surrogate"
        )
    if len(text.encode()) > limit:
        raise InvalidPresence(f"a {what} has more than {limit} bytes")


def _check_key(topic: object, connection: object) -> None:
    check_text("topic", topic, MAX_TOPIC)
    try:
        check_name(topic)
    except InvalidTopic:
        raise InvalidPresence("a topic has no wildcard") from None
    check_text("connection", connection, MAX_ID)


def _check_number(what: str, number: object) -> None:
    if type(number) is not int or not 0 <= number <= _MAX_NUMBER:
        raise InvalidPresence(f"the {what} of a message is no number of 64 bits")


def _check_json(value: object, depth: int) -> None:
    """Check what JSON lets through and a peer that is sent it may not take."""
    if isinstance(value, str):
        if not value.isascii() and _SURROGATE.search(value):
            raise InvalidPresence("an info has a lone surrogate")
    elif isinstance(value, float):
        if value in _INFINITE:
            raise InvalidPresence("an info has a number that is too large")
    elif isinstance(value, dict | list):
        if not depth:
            raise InvalidPresence(f"an info is nested deeper than {MAX_DEPTH}")
        for inner in value:
            _check_json(inner, depth - 1)
        if isinstance(value, dict):
            for inner in value.values():
                _check_json(inner, depth - 1)


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


_SURROGATE = re.compile(r"[\ud800-\udfff]")
_INFINITE = (float("inf"), float("-inf"))
_dump = json.JSONEncoder(
    ensure_ascii=False, allow_nan=False, separators=(",", ":")
).encode
_parse = json.JSONDecoder(parse_constant=_refuse_constant).decode


def _load(line: bytes) -> Any:
    try:
        return _parse(line.decode())
    except (ValueError, RecursionError):
        # What a stranger wrote is not repeated: it may be long.
        raise InvalidPresence("a line of a message is not JSON") from None
