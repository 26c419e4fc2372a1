"""The PROXY protocol: what is a header, what is none, and when it can be told."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from websockets_routes import InvalidProxyHeader, RoutesError
from websockets_routes.proxy_protocol import (
    MAX_LENGTH,
    ProxyCommand,
    ProxyHeader,
    parse_proxy_header,
)

same_every_time = settings(derandomize=True, database=None, deadline=None)

Address = tuple[str, int] | str | None

SIGNATURE = bytes.fromhex("0D0A0D0A000D0A515549540A")
INET = bytes([192, 0, 2, 1, 198, 51, 100, 2, 0x12, 0x34, 1, 187])
SIX = bytes.fromhex("20010db8" + 11 * "00" + "01")
INET6 = SIX + SIX + bytes([0x12, 0x34, 1, 187])
# Sent by a network load balancer of AWS, with a CRC32C of its own making.
WITH_CHECKSUM = (
    SIGNATURE
    + bytes.fromhex("21110054 ac1f0771 ac1f0a1f c8f2 0050 030004 e8d6892d ea0017 01")
    + b"vpce-08d2bf15fac5001c9"
    + bytes.fromhex("040024")
    + bytes(36)
)


def binary(
    block: bytes, family: int = 0x11, command: int = 0x21, length: int | None = None
) -> bytes:
    length = len(block) if length is None else length
    return SIGNATURE + bytes([command, family]) + length.to_bytes(2) + block


def vector(kind: int, value: bytes = b"") -> bytes:
    return bytes([kind]) + len(value).to_bytes(2) + value


def unix(source: bytes, destination: bytes) -> bytes:
    return source.ljust(108, b"\0") + destination.ljust(108, b"\0")


def outcome(data: bytes) -> ProxyHeader | str | None:
    try:
        return parse_proxy_header(data)
    except InvalidProxyHeader as error:
        return str(error)


FFFF = ":".join(["ffff"] * 8)
LONGEST = ":".join(["0000"] * 5 + ["ffff", "255.255.255.255"])


@pytest.mark.parametrize(
    ("line", "source", "destination"),
    [
        (
            "PROXY TCP4 192.168.0.1 192.168.0.11 56324 443",
            ("192.168.0.1", 56324),
            ("192.168.0.11", 443),
        ),
        (
            "PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535",
            ("255.255.255.255", 65535),
            ("255.255.255.255", 65535),
        ),
        ("PROXY TCP4 0.0.0.0 0.0.0.0 0 0", ("0.0.0.0", 0), ("0.0.0.0", 0)),
        (f"PROXY TCP6 {FFFF} {FFFF} 65535 65535", (FFFF, 65535), (FFFF, 65535)),
        ("PROXY TCP6 ::1 2001:DB8::1 1 2", ("::1", 1), ("2001:db8::1", 2)),
        (
            "PROXY TCP6 ::ffff:192.0.2.1 ::FFFF:c000:202 1 2",
            ("192.0.2.1", 1),
            ("192.0.2.2", 2),
        ),
        ("PROXY UNKNOWN", None, None),
        (f"PROXY UNKNOWN {FFFF} {FFFF} 65535 65535", None, None),
        ("PROXY UNKNOWN ", None, None),
        ("PROXY UNKNOWN what\0ever  ", None, None),
    ],
)
def test_a_line_of_version_1(line: str, source: Address, destination: Address) -> None:
    data = line.encode() + b"\r\n"
    header = ProxyHeader(1, ProxyCommand.PROXY, source, destination, len(data))
    assert parse_proxy_header(data) == header
    assert parse_proxy_header(data + b"GET / HTTP/1.1\r\n\r\n") == header
    assert parse_proxy_header(bytearray(data)) == header


@pytest.mark.parametrize(
    ("line", "position"),
    [
        ("GET / HTTP/1.1\r\n", 0),
        ("proxy TCP4 192.0.2.1 192.0.2.2 1 2\r\n", 0),
        ("PROXY\tTCP4 192.0.2.1 192.0.2.2 1 2\r\n", 0),
        (" PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n", 0),
        ("\x16\x03\x01", 0),
        ("PROXY \r\n", 6),
        ("PROXY  TCP4 192.0.2.1 192.0.2.2 1 2\r\n", 6),
        ("PROXY TCP5", 6),
        ("PROXY UDP4", 6),
        ("PROXY tcp4", 6),
        ("PROXY UNKNOWNS\r\n", 13),
        ("PROXY UNKNOWN\n", 13),
        ("PROXY UNKNOWN a\nb\r\n", 15),
        ("PROXY UNKNOWN a\rb\r\n", 16),
        ("PROXY UNKNOWN\r\r\n", 14),
        ("PROXY UNKNOWN " + "x" * 93, 107),
        ("PROXY UNKNOWN " + "x" * 92 + "\r\n", 107),
        ("PROXY TCP4\r\n", 10),
        ("PROXY TCP4 \r\n", 10),
        ("PROXY TCP4\t192.0.2.1", 10),
        ("PROXY TCP46 192.0.2.1", 10),
        ("PROXY TCP4 192.0.2.1 192.0.2.2 1\r\n", 10),
        ("PROXY TCP4 192.0.2.1 192.0.2.2 1 2 3\r\n", 10),
        ("PROXY TCP4 192.0.2.1 192.0.2.2 1 2 \r\n", 10),
        ("PROXY TCP4  192.0.2.1 192.0.2.2 1\r\n", 11),
        ("PROXY TCP4 192.0.2.1 192.0.2.2 1 2\n", 34),
        ("PROXY TCP4 192.0.2.1 192.0.2.2 1 2\rG", 35),
        ("PROXY TCP4 192.0.2.01 192.0.2.2 1 2\r\n", 11),
        ("PROXY TCP4 192.0.2.256 192.0.2.2 1 2\r\n", 11),
        ("PROXY TCP4 192.0.2 192.0.2.2 1 2\r\n", 11),
        ("PROXY TCP4 192.0.2.1 ::1 1 2\r\n", 21),
        ("PROXY TCP6 192.0.2.1 ::1 1 2\r\n", 11),
        ("PROXY TCP6 ::1 1::2::3 1 2\r\n", 15),
        ("PROXY TCP6 ::1 00000::1 1 2\r\n", 15),
        ("PROXY TCP6 fe80::1%2", 18),
        ("PROXY TCP4 192.0.2.1 192.0.2.2 01 2\r\n", 31),
        ("PROXY TCP4 192.0.2.1 192.0.2.2 1 02\r\n", 33),
        ("PROXY TCP4 192.0.2.1 192.0.2.2 00 2\r\n", 31),
        ("PROXY TCP4 192.0.2.1 192.0.2.2 65536 2\r\n", 31),
        ("PROXY TCP4 192.0.2.1 192.0.2.2 1 99999\r\n", 33),
        ("PROXY TCP4 192.0.2.1 192.0.2.2 1 1000000\r\n", 33),
        ("PROXY TCP4 192.0.2.1 192.0.2.2 a 2\r\n", 31),
        ("PROXY TCP4 192.0.2.1 192.0.2.2 -", 31),
        ("PROXY TCP4 192.0.2.1 192.0.2.2 +", 31),
        ("PROXY TCP4 " + "1" * 45, 56),
        ("PROXY TCP6 " + "1" * 96, 107),
        (f"PROXY TCP6 {LONGEST} {LONGEST} 65535 65535\r\n", 107),
    ],
)
def test_what_is_not_exactly_a_line_is_refused(line: str, position: int) -> None:
    with pytest.raises(InvalidProxyHeader) as raised:
        parse_proxy_header(line.encode())
    assert raised.value.position == position
    assert str(raised.value).startswith(f"PROXY header, byte {position}: ")
    assert isinstance(raised.value, RoutesError)
    assert (raised.value.status, raised.value.close_code) == (400, 1008)


@pytest.mark.parametrize(
    ("data", "command", "source", "destination"),
    [
        (
            binary(INET),
            "PROXY",
            ("192.0.2.1", 0x1234),
            ("198.51.100.2", 443),
        ),
        (
            binary(INET6, 0x21),
            "PROXY",
            ("2001:db8::1", 0x1234),
            ("2001:db8::1", 443),
        ),
        (
            binary(bytes(10) + b"\xff\xff\xc0\0\2\1" + INET6[16:], 0x21),
            "PROXY",
            ("192.0.2.1", 0x1234),
            ("2001:db8::1", 443),
        ),
        (
            binary(unix(b"/run/a.sock", b"/run/b.sock"), 0x31),
            "PROXY",
            "/run/a.sock",
            "/run/b.sock",
        ),
        (binary(unix(b"", b"\0name"), 0x31), "PROXY", "", "\0name"),
        (binary(unix(b"a\0rest", b"\xff"), 0x31), "PROXY", "a", "\\xff"),
        (binary(unix(b"a" * 108, b"b" * 108), 0x31), "PROXY", "a" * 108, "b" * 108),
        (binary(b"", 0x00, 0x20), "LOCAL", None, None),
        (binary(INET, 0x11, 0x20), "LOCAL", None, None),
        (binary(b"\1", 0xFF, 0x20), "LOCAL", None, None),
        (binary(b"", 0x12, 0x20), "LOCAL", None, None),
        (binary(b"", 0x00), "PROXY", None, None),
        (binary(b"rubbish", 0x00), "PROXY", None, None),
        (binary(b"", 0x01), "PROXY", None, None),
        (binary(INET, 0x10), "PROXY", None, None),
        (
            binary(INET + vector(4) + vector(0xE0, b"abc")),
            "PROXY",
            ("192.0.2.1", 0x1234),
            ("198.51.100.2", 443),
        ),
        (
            binary(INET + vector(4, bytes(MAX_LENGTH - 16 - 12 - 3))),
            "PROXY",
            ("192.0.2.1", 0x1234),
            ("198.51.100.2", 443),
        ),
        (WITH_CHECKSUM, "PROXY", ("172.31.7.113", 51442), ("172.31.10.31", 80)),
    ],
    ids=[
        "tcp4",
        "tcp6",
        "mapped",
        "unix",
        "unnamed-and-abstract",
        "unix-with-rest",
        "unix-full",
        "local",
        "local-with-addresses",
        "local-of-unknown-family",
        "local-datagram",
        "unspecified",
        "unspecified-with-rest",
        "unspecified-family",
        "unspecified-transport",
        "vectors",
        "longest",
        "checksum",
    ],
)
def test_a_header_of_version_2(
    data: bytes, command: str, source: Address, destination: Address
) -> None:
    header = ProxyHeader(2, ProxyCommand[command], source, destination, len(data))
    assert parse_proxy_header(data) == header
    assert parse_proxy_header(data + b"\0more") == header
    assert parse_proxy_header(bytearray(data)) == header


OFFSET = 16 + len(INET)


@pytest.mark.parametrize(
    ("data", "position"),
    [
        (SIGNATURE[:11] + b"\r", 0),
        (SIGNATURE + b"\x11", 12),
        (SIGNATURE + b"\x01", 12),
        (SIGNATURE + b"\x31", 12),
        (SIGNATURE + b"\x22", 12),
        (SIGNATURE + b"\x2f", 12),
        (SIGNATURE + b"\x21\x41", 13),
        (SIGNATURE + b"\x21\x13", 13),
        (SIGNATURE + b"\x21\x12", 13),
        (SIGNATURE + b"\x21\x22", 13),
        (SIGNATURE + b"\x21\x32", 13),
        (SIGNATURE + b"\x21\x02", 13),
        (binary(b"", 0x11, length=11), 14),
        (binary(b"", 0x21, length=35), 14),
        (binary(b"", 0x31, length=215), 14),
        (binary(b"", 0x11, length=MAX_LENGTH - 15), 14),
        (binary(b"", 0x00, 0x20, length=0xFFFF), 14),
        (binary(INET + b"\4"), OFFSET),
        (binary(INET + b"\4\0"), OFFSET),
        (binary(INET + b"\4\0\1"), OFFSET),
        (binary(INET + vector(4) + b"\4\xff\xff"), OFFSET + 3),
        (binary(INET + vector(3, bytes(4))), OFFSET + 3),
        (binary(INET + vector(3, bytes(3))), OFFSET),
        (binary(INET + vector(3, bytes(5))), OFFSET),
        (WITH_CHECKSUM[:-1] + b"\1", OFFSET + 3),
        (WITH_CHECKSUM[:27] + b"\0" + WITH_CHECKSUM[28:], OFFSET + 3),
        (binary(INET + 2 * vector(3, bytes(4))), OFFSET + 7),
    ],
    ids=[
        "signature",
        "version-1",
        "version-0",
        "version-3",
        "command-2",
        "command-15",
        "family-4",
        "transport-3",
        "udp4",
        "udp6",
        "unix-datagram",
        "datagram",
        "short-tcp4",
        "short-tcp6",
        "short-unix",
        "too-long",
        "local-too-long",
        "vector-of-1",
        "vector-of-2",
        "vector-overruns",
        "second-overruns",
        "checksum-of-zero",
        "checksum-short",
        "checksum-long",
        "checksum-of-other-vectors",
        "checksum-of-other-port",
        "checksum-twice",
    ],
)
def test_a_malformed_header_of_version_2_is_refused(data: bytes, position: int) -> None:
    with pytest.raises(InvalidProxyHeader) as raised:
        parse_proxy_header(data)
    assert raised.value.position == position


addresses = st.tuples(st.ip_addresses(v=4), st.ip_addresses(v=4)) | st.tuples(
    st.ip_addresses(v=6), st.ip_addresses(v=6)
)
ports = st.integers(0, 0xFFFF)


def plain(address: Any) -> str:
    return str(getattr(address, "ipv4_mapped", None) or address)


@same_every_time
@given(addresses, ports, ports, st.binary(max_size=40), st.booleans())
def test_what_a_sender_makes_is_read_back(
    pair: tuple[Any, Any], port: int, other: int, more: bytes, text: bool
) -> None:
    source, destination = pair
    version = source.version
    if text:
        line = f"PROXY TCP{version} {source} {destination} {port} {other}\r\n"
        data = line.encode()
    else:
        block = (
            source.packed + destination.packed + port.to_bytes(2) + other.to_bytes(2)
        )
        data = binary(block + vector(4, more), 0x11 if version == 4 else 0x21)
    header = parse_proxy_header(data + more)
    assert header is not None
    assert header.source == (plain(source), port)
    assert header.destination == (plain(destination), other)
    assert header.length == len(data)


VALID = [
    b"PROXY TCP4 192.168.0.1 192.168.0.11 56324 443\r\n",
    b"PROXY TCP6 2001:db8::1 ::1 1 2\r\n",
    b"PROXY UNKNOWN whatever\r\n",
    binary(INET + vector(4, b"abc")),
    binary(INET6, 0x21),
    binary(unix(b"/run/a.sock", b""), 0x31),
    binary(b"", 0x00, 0x20),
    WITH_CHECKSUM,
]


@st.composite
def spoiled(draw: st.DrawFn) -> bytes:
    data = bytearray(draw(st.sampled_from(VALID)) + draw(st.binary(max_size=5)))
    for _ in range(draw(st.integers(0, 2))):
        position = draw(st.integers(0, len(data) - 1))
        data[position : position + draw(st.integers(0, 1))] = draw(
            st.binary(max_size=2) | st.sampled_from([b" ", b"0", b"\r", b"\n", b":"])
        )
    return bytes(data)


@same_every_time
@given(spoiled() | st.binary(max_size=40).map(lambda tail: SIGNATURE + tail))
@example(b"")
@example(binary(INET + vector(4, bytes(300))))
def test_byte_by_byte_comes_to_the_same_as_whole(data: bytes) -> None:
    whole = outcome(data)
    outcomes = [outcome(data[:length]) for length in range(len(data) + 1)]
    assert outcomes[0] is None
    assert outcomes[-1] == whole
    for before, after in pairwise(outcomes):
        assert before is None or before == after, "what was told stays true"
    if isinstance(whole, ProxyHeader):
        assert outcomes.index(whole) == whole.length, "not a byte more was needed"


@same_every_time
@given(st.binary())
def test_what_begins_otherwise_is_refused_with_its_first_byte_that_differs(
    data: bytes,
) -> None:
    fits = [text.startswith(data[: len(text)]) for text in (b"PROXY ", SIGNATURE)]
    result = outcome(data)
    if not any(fits):
        assert result == "PROXY header, byte 0: there is none"
    elif len(data) < 6:
        assert result is None


def test_a_header_that_is_not_complete_is_not_looked_at_again_and_again() -> None:
    """What lies between the first bytes and the last is never touched before."""

    class Counting(bytearray):
        touched = 0

        def __getitem__(self, index: Any) -> Any:
            found = super().__getitem__(index)
            self.touched += len(found) if isinstance(index, slice) else 1
            return found

    data = binary(INET + vector(4, bytes(4000)))
    growing = Counting()
    for byte in data:
        growing.append(byte)
        header = parse_proxy_header(growing)
    assert header is not None
    assert growing.touched < 25 * len(data) + 2 * MAX_LENGTH
