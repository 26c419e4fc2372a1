"""Proxies: which peers are believed when they say whom they speak for."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network

from .exceptions import InvalidTrustedProxy

__all__ = [
    "UNIX",
    "TrustedProxies",
    "parse_address",
    "peer_address",
]

#: Stands for every peer on a Unix socket: these have no address.
UNIX = "unix"

# The longest IPv6 address has 45 characters, the name of an interface 15.
_MAX_ADDRESS = 64
# The length of ::ffff:0:0/96, where IPv6 keeps the IPv4 addresses.
_MAPPED = 96


class TrustedProxies:
    """The peers whose word on a client's address counts.

    To ask costs as many look-ups as there are different lengths of prefixes, however
    many networks there are.

    An IPv6 address that stands for an IPv4 one (``::ffff:10.0.0.1``, what a socket for
    both reports) counts as the IPv4 one, in a network as well: ``::/0`` holds IPv6
    addresses only, beside ``0.0.0.0/0``. With a scope (``fe80::1%2``, its number, as
    sockets report it) an address or network counts in that scope only, without one in
    all of them.

    Args:
        networks: Addresses (``"::1"``), networks (``"10.0.0.0/8"``), and ``"unix"``
            for every peer on a Unix socket. Names are not looked up.

    Raises:
        InvalidTrustedProxy: If one of them is none of these, says which and why.
    """

    def __init__(self, networks: Iterable[str]) -> None:
        if isinstance(networks, str | bytes) or not isinstance(networks, Iterable):
            problem = "give a list of addresses and networks"
            raise InvalidTrustedProxy(networks, problem)
        self.networks = tuple(networks)
        self._unix = False
        # By version, and by the bits behind the prefix: prefixes, with their scope.
        self._prefixes: dict[tuple[int, int], set[tuple[int, str]]] = {}
        for network in self.networks:
            if network == UNIX:
                self._unix = True
            else:
                self._add(network)

    def _add(self, text: object) -> None:
        if not isinstance(text, str):
            raise InvalidTrustedProxy(text, "it must be a str, such as '10.0.0.0/8'")
        address, slash, length = text.partition("/")
        plain, percent, scope = address.partition("%")
        if percent and not _is_scope(scope):
            raise InvalidTrustedProxy(text, f"{scope!r} is no scope, as 2 is in ::1%2")
        # ip_network() takes a netmask and its inverse for a length, too.
        if address and slash and not (length.isascii() and length.isdigit()):
            problem = (
                "behind the slash stands the length of the prefix, as in 10.0.0.0/8"
            )
            raise InvalidTrustedProxy(text, problem)
        try:
            network = ip_network(plain + slash + length, strict=False)
        except ValueError:
            raise InvalidTrustedProxy(text, _advice(text)) from None
        if network.network_address != ip_address(plain):
            problem = f"bits are set behind the prefix; did you mean '{network}'?"
            raise InvalidTrustedProxy(text, problem)
        if isinstance(network, IPv6Network):
            mapped = network.network_address.ipv4_mapped
            if mapped is not None and network.prefixlen >= _MAPPED:
                network = ip_network((mapped, network.prefixlen - _MAPPED))
        if percent and network.version == 4:
            raise InvalidTrustedProxy(text, "an IPv4 address has no scope")
        shift = network.max_prefixlen - network.prefixlen
        prefix = int(network.network_address) >> shift
        self._prefixes.setdefault((network.version, shift), set()).add((prefix, scope))

    def __repr__(self) -> str:
        return f"TrustedProxies({list(self.networks)!r})"

    def trusts(self, address: str | None) -> bool:
        """Tell whether a peer is believed.

        Args:
            address: Its address, as ``peer_address`` gives it. What is none, and None,
                is never believed.
        """
        if address is None:
            return False
        if address == UNIX:
            return self._unix
        parsed = parse_address(address)
        if parsed is None:
            return False
        value = int(parsed)
        scope = (isinstance(parsed, IPv6Address) and parsed.scope_id) or ""
        for (version, shift), prefixes in self._prefixes.items():
            if version == parsed.version:
                prefix = value >> shift
                if (prefix, "") in prefixes or (prefix, scope) in prefixes:
                    return True
        return False


def parse_address(text: str) -> IPv4Address | IPv6Address | None:
    """Parse an address, and have an IPv4 one in IPv6 as what it is.

    Returns:
        The address, with its scope where it has one; None if it is no address.
    """
    if len(text) > _MAX_ADDRESS:
        return None
    try:
        address = ip_address(text)
    except ValueError:
        return None
    if isinstance(address, IPv6Address):
        scope = address.scope_id
        if scope is not None and not _is_scope(scope):
            return None
        if address.ipv4_mapped is not None:
            return address.ipv4_mapped if scope is None else None
    return address


def peer_address(peername: object) -> str | None:
    """Name a peer as ``TrustedProxies`` and ``resolve_client`` know it.

    Args:
        peername: What a transport says by ``get_extra_info("peername")``, or the source
            of a ``ProxyHeader``.

    Returns:
        The address, with its scope (``fe80::1%2``) where it has one; ``"unix"`` for a
        Unix socket, whose peers have a path or nothing; None where nothing is known.
    """
    if isinstance(peername, str | bytes):
        return UNIX
    if not isinstance(peername, tuple) or not peername:
        return None
    address = str(peername[0])
    if len(peername) == 4 and peername[3] and "%" not in address:
        return f"{address}%{peername[3]}"
    return address


def _is_scope(text: str) -> bool:
    # The name or number of an interface; what it must never be is a way into a log.
    return (
        bool(text) and text.isascii() and text.isprintable() and not {*"%/ "} & {*text}
    )


def _advice(text: str) -> str:
    if text == "*":
        return "to trust everyone, and so nobody's address, say '0.0.0.0/0' and '::/0'"
    if text.startswith("/"):
        return "say 'unix' for the peers on Unix sockets, which have no address"
    if text.startswith("["):
        return "an address has no brackets and no port here"
    return (
        "it is no address and no network, such as '10.0.0.0/8' or '::1'; "
        "names are not looked up"
    )
