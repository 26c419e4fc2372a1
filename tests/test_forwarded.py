"""Forwarded and X-Forwarded-*: whom trusted proxies speak for."""

from __future__ import annotations

from time import process_time

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from websockets import Headers

from websockets_routes.forwarded import (
    FORWARDED,
    MAX_HOPS,
    X_FORWARDED_FOR,
    ProxiedClient,
    resolve_client,
)
from websockets_routes.proxy import TrustedProxies, parse_address

same_every_time = settings(derandomize=True, database=None, deadline=None)

PEER = "10.0.0.1"
TRUSTED = TrustedProxies(["10.0.0.0/8", "fd00::/8", "unix"])


def resolve(
    *lines: tuple[str, str],
    peer: str | None = PEER,
    family: str = X_FORWARDED_FOR,
) -> ProxiedClient:
    return resolve_client(peer, Headers(lines), TRUSTED, family)


def forwarded(*values: str) -> ProxiedClient:
    lines = (("Forwarded", value) for value in values)
    return resolve(*lines, family=FORWARDED)


def x_forwarded_for(*values: str) -> ProxiedClient:
    return resolve(*(("X-Forwarded-For", value) for value in values))


ALL = (
    ("Forwarded", "for=192.0.2.1;proto=https;host=example.com"),
    ("X-Forwarded-For", "192.0.2.2"),
    ("X-Forwarded-Proto", "https"),
    ("X-Forwarded-Host", "example.org"),
)


@pytest.mark.parametrize("peer", ["192.0.2.9", "::1", "", "rubbish", None])
def test_who_is_not_trusted_is_not_believed(peer: str | None) -> None:
    for family in (FORWARDED, X_FORWARDED_FOR):
        assert resolve(*ALL, peer=peer, family=family) == (None, None, None)


@pytest.mark.parametrize("peer", ["10.0.0.1", "::ffff:10.0.0.1", "fd00::1", "unix"])
def test_who_is_trusted_is_believed(peer: str) -> None:
    assert resolve(*ALL, peer=peer) == ("192.0.2.2", "https", "example.org")
    client = resolve(*ALL, peer=peer, family=FORWARDED)
    assert client == ("192.0.2.1", "https", "example.com")


def test_nothing_said_is_nothing_known() -> None:
    assert resolve() == ProxiedClient(None, None, None)


def test_only_the_family_that_the_proxies_set_is_looked_at() -> None:
    assert resolve(ALL[0]) == (None, None, None)
    assert resolve(*ALL[1:], family=FORWARDED) == (None, None, None)
    lines = (("Forwarded", "rubbish"), *ALL[1:])
    assert resolve(*lines, family=FORWARDED) == (None, None, None)
    lines = (("Forwarded", "proto=http"), *ALL[1:])
    assert resolve(*lines, family=FORWARDED) == (None, "http", None)


@pytest.mark.parametrize(
    ("value", "client"),
    [
        # RFC 7239, sections 4, 6 and 7; the addresses with names are as there.
        ('for="_gazonk"', (None, None, None)),
        ('For="[2001:db8:cafe::17]:4711"', ("2001:db8:cafe::17", None, None)),
        (
            "for=192.0.2.60;proto=http;by=203.0.113.43",
            ("192.0.2.60", "http", None),
        ),
        ("for=192.0.2.43, for=198.51.100.17", ("198.51.100.17", None, None)),
        ('for="192.0.2.43:47011"', ("192.0.2.43", None, None)),
        ('for="192.0.2.43:_obf.1"', ("192.0.2.43", None, None)),
        ('for="[2001:db8:cafe::17]"', ("2001:db8:cafe::17", None, None)),
        ("for=unknown", (None, None, None)),
        ("for=_hidden, for=_SEVKISEK", (None, None, None)),
        (
            'for=192.0.2.43,for="[2001:db8:cafe::17]",for=unknown',
            (None, None, None),
        ),
        (
            "for=192.0.2.43, for=10.0.0.2;by=203.0.113.60;proto=http;host=example.com",
            ("192.0.2.43", "http", "example.com"),
        ),
        # Who is the client
        ("for=192.0.2.1, for=10.0.0.3, for=10.0.0.2", ("192.0.2.1", None, None)),
        ("for=192.0.2.1, for=192.0.2.2, for=10.0.0.2", ("192.0.2.2", None, None)),
        ("for=10.0.0.3, for=10.0.0.2", ("10.0.0.3", None, None)),
        ("for=192.0.2.1, for=unknown, for=10.0.0.2", ("10.0.0.2", None, None)),
        ("for=192.0.2.1, for=_x, for=10.0.0.2", ("10.0.0.2", None, None)),
        ("for=192.0.2.1, by=_x, for=10.0.0.2", ("10.0.0.2", None, None)),
        ("for=192.0.2.1, for=, for=10.0.0.2", ("10.0.0.2", None, None)),
        ("for=192.0.2.1,, ,for=10.0.0.2,", ("192.0.2.1", None, None)),
        ('for="[fd00::2]", for="[::ffff:10.0.0.2]"', ("fd00::2", None, None)),
        ('for="[::ffff:192.0.2.1]"', ("192.0.2.1", None, None)),
        ("for=unix", (None, None, None)),
        # Which scheme and host
        (
            "for=192.0.2.1;proto=https;host=a.com, for=10.0.0.2;proto=http;host=b.com",
            ("192.0.2.1", "https", "a.com"),
        ),
        ("proto=https;host=evil, for=192.0.2.1", ("192.0.2.1", None, None)),
        (
            "for=192.0.2.1, for=10.0.0.2;proto=https;host=b.com",
            ("192.0.2.1", "https", "b.com"),
        ),
        ("for=_x;proto=wss, for=10.0.0.2", ("10.0.0.2", "wss", None)),
        ("proto=https;host=a.com", (None, "https", "a.com")),
        ("for=192.0.2.1;proto=ftp, for=10.0.0.2;proto=http", ("192.0.2.1", None, None)),
        ("for=192.0.2.1;host=a;proto=ws", ("192.0.2.1", "ws", "a")),
        # How it may be written
        ("FOR=192.0.2.1;PROTO=HTTPS;Host=A.com", ("192.0.2.1", "https", "a.com")),
        (" for=192.0.2.1\t; proto=https ;", ("192.0.2.1", "https", None)),
        (";;for=192.0.2.1;;", ("192.0.2.1", None, None)),
        ('for="192\\.0.2.1"', ("192.0.2.1", None, None)),
        ('x="a,b;\\"c\\\\";for=192.0.2.1', ("192.0.2.1", None, None)),
        ('for=192.0.2.1, x="a,b\\",c";for=10.0.0.2', ("192.0.2.1", None, None)),
        ('host="a.com:8080";for=192.0.2.1', ("192.0.2.1", None, "a.com:8080")),
    ],
)
def test_forwarded_is_read_from_the_right(
    value: str, client: tuple[str | None, str | None, str | None]
) -> None:
    assert forwarded(value) == client


@pytest.mark.parametrize(
    "element",
    [
        "for",
        "for=192.0.2.1;for=192.0.2.1",
        "for=192.0.2.1;For=192.0.2.2",
        "for = 192.0.2.1",
        "for=192.0.2.1 proto=https",
        "for=192.0.2.1:80",
        "for=[2001:db8::1]",
        'for="2001:db8::1"',
        'for="[2001:db8::1"',
        'for="[192.0.2.1]"',
        'for="[fe80::1%2]"',
        'for="[2001:db8::1]:"',
        'for="192.0.2.1:65536"',
        'for="192.0.2.1:123456"',
        'for="192.0.2.1:-1"',
        'for="192.0.2.1:_"',
        'for=" 192.0.2.1"',
        'for="192.0.2.1',
        'for=192.0.2.1"',
        'for="192.0.2.1\\"',
        'for=""',
        "for=192.0.2.01",
        "for=192.0.2",
        "for=192.0.2.256",
        "for=0x7f000001",
        "for=2130706433",
        "for=example.com",
        "=192.0.2.1",
        '"',
        '""',
        "\\",
    ],
)
def test_what_is_left_of_a_malformed_element_is_not_believed(element: str) -> None:
    left = "for=192.0.2.7;proto=https;host=evil.com"
    assert forwarded(element).address is None
    assert forwarded(f"{left}, {element}") == (None, None, None)
    assert forwarded(left, element) == (None, None, None)
    assert forwarded(f"{left}, {element}, for=10.0.0.2") == ("10.0.0.2", None, None)
    assert forwarded(left, element, "for=10.0.0.2") == ("10.0.0.2", None, None)


def test_lines_are_one_list_in_their_order() -> None:
    assert forwarded("for=192.0.2.1", "for=192.0.2.2").address == "192.0.2.2"
    assert forwarded("for=192.0.2.1", "for=10.0.0.2").address == "192.0.2.1"
    assert x_forwarded_for("192.0.2.1", "192.0.2.2").address == "192.0.2.2"
    assert x_forwarded_for("192.0.2.1", "10.0.0.2").address == "192.0.2.1"


@pytest.mark.parametrize(
    ("value", "address"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("192.0.2.1, 10.0.0.2", "192.0.2.1"),
        ("192.0.2.1,192.0.2.2 ,\t10.0.0.2", "192.0.2.2"),
        ("10.0.0.3, 10.0.0.2", "10.0.0.3"),
        ("192.0.2.1,, ,10.0.0.2,", "192.0.2.1"),
        ("192.0.2.1:1234", "192.0.2.1"),
        ("2001:DB8::1", "2001:db8::1"),
        ("[2001:db8::1]", "2001:db8::1"),
        ("[2001:db8::1]:1234", "2001:db8::1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("192.0.2.1, ::ffff:10.0.0.2", "192.0.2.1"),
        ("", None),
        (",", None),
        ("unknown", None),
        ("unix", None),
        ("_hidden", None),
        ("192.0.2.1:_x", None),
        ('"192.0.2.1"', None),
        ("192.0.2.1:65536", None),
        ("[192.0.2.1]", None),
        ("[::1", None),
        ("::1]", None),
        ("fe80::1%2", None),
        ("[fe80::1%2]", None),
        ("1:2:3", None),
        ("010.0.0.1", None),
        ("localhost", None),
        ("192.0.2.1, unknown, 10.0.0.2", "10.0.0.2"),
        ("192.0.2.1, rubbish, 10.0.0.2", "10.0.0.2"),
        ("192.0.2.1, rubbish", None),
    ],
)
def test_x_forwarded_for_is_read_from_the_right(
    value: str, address: str | None
) -> None:
    assert x_forwarded_for(value) == (address, None, None)


@pytest.mark.parametrize(
    ("addresses", "schemes", "scheme"),
    [
        ("192.0.2.1", "https", "https"),
        ("192.0.2.1", "HTTPS", "https"),
        ("192.0.2.1", "https, http", "http"),
        ("192.0.2.1, 10.0.0.2", "https", "https"),
        ("192.0.2.1, 10.0.0.2", "https, http", "https"),
        ("192.0.2.1, 10.0.0.2", "wss, https, http", "https"),
        ("192.0.2.9, 192.0.2.1, 10.0.0.2", "wss, https, http", "https"),
        ("192.0.2.1", "https, ftp", None),
        ("192.0.2.1", "https,", "https"),
        ("192.0.2.1", "", None),
        ("rubbish", "wss, https", "https"),
        ("rubbish, 10.0.0.2", "wss, https", "https"),
        ("", "wss, https", "https"),
        ("192.0.2.1", "javascript", None),
        ("192.0.2.1", "https://", None),
    ],
)
def test_x_forwarded_proto_is_read_at_the_place_of_the_client(
    addresses: str, schemes: str, scheme: str | None
) -> None:
    client = resolve(("X-Forwarded-For", addresses), ("X-Forwarded-Proto", schemes))
    assert client.scheme == scheme


@pytest.mark.parametrize(
    ("addresses", "hosts", "host"),
    [
        ("192.0.2.1", "a.com, b.com", "b.com"),
        ("192.0.2.1, 10.0.0.2", "a.com, b.com", "a.com"),
        ("192.0.2.1, 10.0.0.2", "a.com", "a.com"),
        ("192.0.2.9, 192.0.2.1, 10.0.0.2", "a.com, b.com, c.com", "b.com"),
        ("192.0.2.1", "a.com, /", None),
        ("", "a.com, b.com", "b.com"),
    ],
)
def test_x_forwarded_host_is_read_at_the_place_of_the_client(
    addresses: str, hosts: str, host: str | None
) -> None:
    client = resolve(("X-Forwarded-For", addresses), ("X-Forwarded-Host", hosts))
    assert client.host == host


@pytest.mark.parametrize(
    ("value", "host"),
    [
        ("example.com", "example.com"),
        ("Example.COM:8080", "example.com:8080"),
        ("example.com.", "example.com."),
        ("localhost", "localhost"),
        ("my_host", "my_host"),
        ("192.0.2.1:80", "192.0.2.1:80"),
        ("[2001:DB8::1]", "[2001:db8::1]"),
        ("[::1]:8080", "[::1]:8080"),
        ("a" * 253, "a" * 253),
        ("a" * 253 + ".:65535", "a" * 253 + ".:65535"),
        ("a" * 254, None),
        ("", None),
        (":80", None),
        (".", None),
        (".com", None),
        ("a..com", None),
        ("example.com:", None),
        ("example.com:65536", None),
        ("example.com:123456", None),
        ("example.com:http", None),
        ("user@example.com", None),
        ("user:secret@example.com", None),
        ("example.com/path", None),
        ("example.com?query", None),
        ("example.com#", None),
        ("example.com\\@evil.com", None),
        ("exam ple.com", None),
        ("b\u00fccher.example", None),
        ("%65xample.com", None),
        ("::1", None),
        ("[::1", None),
        ("[1.2.3.4]", None),
        ("[]", None),
        ("[:::]", None),
        ("[fe80::1%2]", None),
        ("<script>", None),
    ],
)
def test_a_host_is_as_one_in_a_host_header(value: str, host: str | None) -> None:
    quoted = value.replace("\\", "\\\\")
    assert forwarded(f'for=192.0.2.1;host="{quoted}"') == ("192.0.2.1", None, host)
    assert resolve(("X-Forwarded-Host", value)) == (None, None, host)


def test_a_number_of_hops_is_looked_at_and_no_more() -> None:
    hops = [f"10.0.1.{number}" for number in range(MAX_HOPS)]
    for count, address in (MAX_HOPS - 1, "192.0.2.1"), (MAX_HOPS, "10.0.1.0"):
        walk = hops[:count]
        assert x_forwarded_for(", ".join(["192.0.2.1", *walk])).address == address
        assert x_forwarded_for("192.0.2.1", *walk).address == address
        elements = [f"for={each}" for each in ["192.0.2.1", *walk]]
        assert forwarded(", ".join(elements)).address == address
        assert forwarded(*elements).address == address
    empty = "," * MAX_HOPS
    assert x_forwarded_for(f"192.0.2.1{empty}").address is None
    assert forwarded(f"for=192.0.2.1{empty}").address is None


@pytest.mark.parametrize(
    "garbage",
    ['for="', '"', 'x="\\', '\\"', "for=10.0.0.9", '",', "for=\"10.0.0.9'", ";", "\\"],
)
def test_what_the_client_sent_does_not_touch_what_the_proxies_added(
    garbage: str,
) -> None:
    own = 'for=192.0.2.1;proto=http;host="a.com:80", x="\\",";for=10.0.0.2'
    for values in (f"{garbage},{own}",), (garbage, own):
        assert forwarded(*values) == ("192.0.2.1", "http", "a.com:80")


# What a header of websockets can hold: that of a host with CR or LF never gets here.
texts = st.text([*"\t", *map(chr, [*range(0x20, 0x7F), *range(0x80, 0x100)])])
pieces = st.lists(
    st.sampled_from(
        [
            *('"', "\\", ",", ";", "=", " ", ":", "[", "]"),
            *("for=", "proto=", "host=", "http", "192.0.2.1", "10.0.0.2", "::1", "_x"),
        ]
    )
).map("".join)
quoted_texts = texts.map(
    lambda text: '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
)


@same_every_time
@given(texts | pieces, quoted_texts)
@example('for="', '"\\\\"')
def test_no_prefix_changes_what_the_proxy_itself_said(left: str, value: str) -> None:
    own = f"x={value};for=192.0.2.1;proto=wss"
    assert forwarded(f"{left},{own}") == ("192.0.2.1", "wss", None)
    assert forwarded(left, own) == ("192.0.2.1", "wss", None)


@same_every_time
@given(
    st.lists(
        st.tuples(
            st.sampled_from([name for name, _ in ALL]),
            texts | pieces,
        ),
        max_size=4,
    ),
    st.sampled_from([FORWARDED, X_FORWARDED_FOR]),
)
def test_nothing_raises_and_what_is_told_is_valid(
    lines: list[tuple[str, str]], family: str
) -> None:
    address, scheme, host = resolve(*lines, family=family)
    if address is not None:
        assert str(parse_address(address)) == address
    assert scheme in {None, "http", "https", "ws", "wss"}
    if host is not None:
        assert host == host.lower()
        assert host.isascii()
        assert not {*host} & {*"\r\n\t @/?#\\,;\"'<>%"}


@same_every_time
@given(st.lists(st.ip_addresses(), min_size=1, max_size=6))
def test_both_headers_agree_on_the_client(addresses: list[object]) -> None:
    plain = [str(parse_address(str(address))) for address in addresses]
    elements = [f'for="[{each}]"' if ":" in each else f"for={each}" for each in plain]
    expected = plain[0]
    for each in reversed(plain):
        if not TRUSTED.trusts(each):
            expected = each
            break
    assert forwarded(", ".join(elements)).address == expected
    assert x_forwarded_for(", ".join(plain)).address == expected


@pytest.mark.parametrize(
    "unit",
    [
        '"',
        '\\"',
        "\\",
        '""',
        ",",
        " ",
        "\t;",
        ";",
        "a",
        "a=",
        "for=",
        'a="',
        "a.",
        "a:",
    ],
    ids=repr,
)
def test_a_long_header_costs_linear_time(unit: str) -> None:
    """Quadratic work on so much would take minutes."""
    value = unit * (2**18 // len(unit))
    begin = process_time()
    for text in (value, f"{value}\\", f'"{value}', f'{value}"', f"host={value}"):
        forwarded(text)
        x_forwarded_for(text)
        resolve(("X-Forwarded-Host", text), ("X-Forwarded-Proto", text))
    assert process_time() - begin < 5
