"""Trusted proxies: what may be declared, and who is believed."""

from __future__ import annotations

from contextlib import suppress
from ipaddress import IPv4Address, IPv6Address, ip_network
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from websockets_routes import InvalidTrustedProxy, RoutesError
from websockets_routes.proxy import (
    TrustedProxies,
    parse_address,
    peer_address,
)

same_every_time = settings(derandomize=True, database=None, deadline=None)


@pytest.mark.parametrize(
    ("networks", "address", "trusted"),
    [
        (["10.0.0.0/8"], "10.255.255.255", True),
        (["10.0.0.0/8"], "11.0.0.0", False),
        (["10.0.0.0/8"], "9.255.255.255", False),
        (["10.0.0.1"], "10.0.0.1", True),
        (["10.0.0.1"], "10.0.0.2", False),
        (["10.0.0.1/32"], "10.0.0.1", True),
        (["0.0.0.0/0"], "203.0.113.1", True),
        (["0.0.0.0/0"], "::1", False),
        (["0.0.0.0/0"], "unix", False),
        (["::/0"], "::1", True),
        (["::/0"], "10.0.0.1", False),
        (["::/0"], "::ffff:10.0.0.1", False),
        (["::1"], "::1", True),
        (["::1"], "0:0:0:0:0:0:0:1", True),
        (["::1"], "::2", False),
        (["2001:db8::/32"], "2001:DB8:ffff::1", True),
        (["2001:db8::/32"], "2001:db9::1", False),
        (["10.0.0.0/8"], "::ffff:10.0.0.1", True),
        (["10.0.0.0/8"], "::ffff:a00:1", True),
        (["10.0.0.0/8"], "::10.0.0.1", False),
        (["::ffff:10.0.0.0/104"], "10.1.2.3", True),
        (["::ffff:10.0.0.0/104"], "11.1.2.3", False),
        (["::ffff:10.0.0.1"], "10.0.0.1", True),
        (["::ffff:0:0/96"], "203.0.113.1", True),
        (["fe80::/10"], "fe80::1%2", True),
        (["fe80::/10"], "fe80::1", True),
        (["fe80::1%2"], "fe80::1%2", True),
        (["fe80::1%2"], "fe80::1%3", False),
        (["fe80::1%2"], "fe80::1", False),
        (["fe80::1%eth0"], "fe80::1%eth0", True),
        (["fe80::%2/10"], "fe80::1%2", True),
        (["fe80::%2/10"], "fe80::1%3", False),
        (["fe80::1%2", "fe80::1"], "fe80::1%3", True),
        (["10.0.0.0/8"], "::ffff:10.0.0.1%2", False),
        (["unix"], "unix", True),
        (["unix"], "10.0.0.1", False),
        (["unix"], "", False),
        (["unix"], "UNIX", False),
        (["0.0.0.0/0", "::/0", "unix"], None, False),
        (["0.0.0.0/0", "::/0", "unix"], "rubbish", False),
        (["0.0.0.0/0", "::/0"], "10.0.0.1 ", False),
        (["0.0.0.0/0", "::/0"], "010.0.0.1", False),
        (["0.0.0.0/0", "::/0"], "10.0.0.1:80", False),
        (["0.0.0.0/0", "::/0"], "[::1]", False),
        (["0.0.0.0/0", "::/0"], "::1%\n", False),
        (["0.0.0.0/0", "::/0"], "::1%" + "x" * 100, False),
        (["0.0.0.0/0", "::/0"], "\u0661.1.1.1", False),
        ([], "10.0.0.1", False),
        (["10.0.0.0/8", "192.168.0.0/16", "::1"], "192.168.3.4", True),
    ],
)
def test_a_peer_is_trusted_if_its_address_was_declared(
    networks: list[str], address: str | None, trusted: bool
) -> None:
    assert TrustedProxies(networks).trusts(address) is trusted


@pytest.mark.parametrize(
    ("networks", "named", "advice"),
    [
        (["10.0.0.1/8"], "10.0.0.1/8", "'10.0.0.0/8'"),
        (["::1/64"], "::1/64", "'::/64'"),
        (["fe80::1%2/10"], "fe80::1%2/10", "'fe80::/10'"),
        (["*"], "*", "'0.0.0.0/0' and '::/0'"),
        (["/run/proxy.sock"], "/run/proxy.sock", "'unix'"),
        (["[::1]"], "[::1]", "brackets"),
        (["localhost"], "localhost", "names are not looked up"),
        ([""], "", "no address"),
        (["10.0.0.0/33"], "10.0.0.0/33", "no address"),
        (["10.0.0.0/"], "10.0.0.0/", "length of the prefix"),
        (["10.0.0.0/255.0.0.0"], "10.0.0.0/255.0.0.0", "length of the prefix"),
        (["10.0.0.0/0.255.255.255"], "10.0.0.0/0.255.255.255", "length"),
        (["10.0.0.0/\u0668"], "10.0.0.0/\u0668", "length of the prefix"),
        (["10.0.0.0/-8"], "10.0.0.0/-8", "length of the prefix"),
        (["10.0.0.0/8/8"], "10.0.0.0/8/8", "length of the prefix"),
        (["10.0.0.1:80"], "10.0.0.1:80", "no address"),
        (["10.0.0"], "10.0.0", "no address"),
        (["010.0.0.0/8"], "010.0.0.0/8", "no address"),
        ([" 10.0.0.0/8"], " 10.0.0.0/8", "no address"),
        (["::1%"], "::1%", "no scope"),
        (["::1%a%b"], "::1%a%b", "no scope"),
        (["::1%a b"], "::1%a b", "no scope"),
        (["10.0.0.1%2"], "10.0.0.1%2", "no scope"),
        (["::ffff:10.0.0.1%2"], "::ffff:10.0.0.1%2", "no scope"),
        (["::1", 1], 1, "a str"),
        ([None], None, "a str"),
        ([b"::1"], b"::1", "a str"),
        ("10.0.0.0/8", "10.0.0.0/8", "a list"),
        (b"::1", b"::1", "a list"),
        (None, None, "a list"),
        (7, 7, "a list"),
    ],
)
def test_rubbish_is_refused_when_it_is_declared(
    networks: Any, named: object, advice: str
) -> None:
    with pytest.raises(InvalidTrustedProxy) as raised:
        TrustedProxies(networks)
    assert raised.value.proxy == named
    assert advice in raised.value.problem
    assert str(raised.value) == f"trusted proxy {named!r}: {raised.value.problem}"
    assert isinstance(raised.value, RoutesError)


def test_what_was_declared_can_be_seen() -> None:
    trusted = TrustedProxies(each for each in ("10.0.0.0/8", "unix"))
    assert trusted.networks == ("10.0.0.0/8", "unix")
    assert repr(trusted) == "TrustedProxies(['10.0.0.0/8', 'unix'])"


@pytest.mark.parametrize(
    ("peername", "address"),
    [
        (("10.0.0.1", 80), "10.0.0.1"),
        (("::1", 80, 0, 0), "::1"),
        (("fe80::1", 80, 0, 2), "fe80::1%2"),
        (("fe80::1%eth0", 80, 0, 2), "fe80::1%eth0"),
        ("", "unix"),
        ("/run/proxy.sock", "unix"),
        (b"\0abstract", "unix"),
        (None, None),
        ((), None),
        (7, None),
    ],
    ids=repr,
)
def test_a_peer_is_named_by_what_its_transport_says(
    peername: object, address: str | None
) -> None:
    assert peer_address(peername) == address


addresses = st.ip_addresses() | st.builds(
    lambda address: IPv6Address(0xFFFF << 32 | int(address)), st.ip_addresses(v=4)
)


def prefix_of(address: IPv4Address | IPv6Address, length: int) -> str:
    return str(ip_network(f"{address}/{length}", strict=False))


@same_every_time
@given(st.data(), st.lists(addresses, min_size=1, max_size=5))
def test_a_network_holds_what_ipaddress_says(
    data: st.DataObject, bases: list[IPv4Address | IPv6Address]
) -> None:
    networks = [
        prefix_of(base, data.draw(st.integers(0, base.max_prefixlen))) for base in bases
    ]
    trusted = TrustedProxies(networks)
    address = data.draw(st.sampled_from(bases) | addresses)
    plain = parse_address(str(address))
    assert plain is not None
    expected = False
    for text in networks:
        network = ip_network(text)
        mapped = getattr(network.network_address, "ipv4_mapped", None)
        if mapped is not None and network.prefixlen >= 96:
            network = ip_network(f"{mapped}/{ip_network(text).prefixlen - 96}")
        expected |= plain in network
    assert trusted.trusts(str(address)) is expected


@same_every_time
@given(st.text() | st.text("0123456789abcdef:.%/[]"))
def test_any_text_is_an_address_or_none(text: str) -> None:
    everyone = TrustedProxies(["0.0.0.0/0", "::/0"])
    assert everyone.trusts(text) is (parse_address(text) is not None)
    with suppress(InvalidTrustedProxy):
        TrustedProxies([text])
