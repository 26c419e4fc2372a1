"""What trusted proxies say of a client: ``Forwarded`` (RFC 7239), ``X-Forwarded-*``."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from ipaddress import IPv6Address
from itertools import islice
from typing import NamedTuple

from websockets import Headers

from .proxy import TrustedProxies, parse_address

__all__ = [
    "FORWARDED",
    "MAX_HOPS",
    "X_FORWARDED_FOR",
    "ProxiedClient",
    "resolve_client",
]

#: The header of RFC 7239.
FORWARDED = "forwarded"
#: What most proxies set instead, with ``X-Forwarded-Proto`` and ``X-Forwarded-Host``.
X_FORWARDED_FOR = "x-forwarded-for"

#: How many elements of a header are looked at, from the right.
MAX_HOPS = 32

_WHITESPACE = " \t"
_CHARACTER = r"[!#$%&'*+.^_`|~0-9A-Za-z-]"  # of a token, RFC 9110 section 5.6.2
# RFC 7239 section 4; some senders put white space around the semicolons.
_PAIR = re.compile(
    rf'[ \t]*+(?:({_CHARACTER}++)=(?:({_CHARACTER}++)|"((?:[^"\\]|\\.)*+)")[ \t]*+)?+'
    r"(?:;|\Z)"
)
_ESCAPED = re.compile(r"\\(.)")
# An element up to its comma, in a line written backwards: there, a mark that an odd
# number of backslashes follows is escaped, and any other ends a quoted string.
_BACKWARDS = re.compile(r'(?:[^",]++|"(?:[^"]++|"(?=\\(?:\\\\)*+(?!\\)))*+")*+')
# An address, in brackets if it is IPv6, and a port; that of RFC 7239 section 6 may be
# obfuscated.
_NODE = re.compile(
    r"(?:\[([0-9A-Fa-f:.]++)\]|([0-9.]++))(?::(?:([0-9]{1,5})|_[0-9A-Za-z._-]++))?"
)
_ADDRESS = re.compile(r"[0-9A-Fa-f:.]++")
_SCHEMES = frozenset({"http", "https", "ws", "wss"})
_MAX_NAME = 253  # RFC 1035 section 2.3.4, as text
_HOST = re.compile(
    r"((?:[0-9A-Za-z_-]++\.)*+(?:[0-9A-Za-z_-]++)?+|\[([0-9A-Fa-f:.]++)\])(?::([0-9]{1,5}))?"
)


class ProxiedClient(NamedTuple):
    """What trusted proxies said of a client; None where they said nothing.

    Attributes:
        address: Its address, as ``ipaddress`` writes it; IPv4 in IPv6 as IPv4.
        scheme: ``http``, ``https``, ``ws`` or ``wss``: what the client asked for.
        host: The ``Host`` that it asked for, in lower case, with its port if told.
    """

    address: str | None = None
    scheme: str | None = None
    host: str | None = None


def resolve_client(
    peer: str | None,
    headers: Headers,
    trusted: TrustedProxies,
    family: str = X_FORWARDED_FOR,
) -> ProxiedClient:
    """Find out which client a request comes from.

    Each proxy adds the peer that it had on the right of what it got. So the addresses
    are read from the right, and the first that is no trusted proxy is the client. What
    stands left of it may be the client's invention and is not looked at.

    The walk ends as well where an element is malformed, where it tells no address
    (``unknown``, ``_hidden``, no ``for``), and after ``MAX_HOPS`` elements. Then, as
    when all are trusted, the address is the last that was reached: of a trusted proxy,
    or None if there was none.

    Scheme and host are those that the leftmost of the elements read names; with
    ``X-Forwarded-*``, which have lists of their own, those at the same place from the
    right, or the leftmost if the list is shorter. One that is not valid is None.

    Only one family of headers is looked at, that which the proxies set: what they do
    not set they pass on as the client sent it.

    Args:
        peer: The address of the peer, as ``peer_address`` gives it.
        headers: The headers of the request; lines of the same name are one list.
        trusted: The proxies that are believed.
        family: ``X_FORWARDED_FOR``, with ``-Proto`` and ``-Host``, or ``FORWARDED``.

    Returns:
        What is known; nothing at all if the peer is not trusted. No header makes it
        raise.
    """
    if not trusted.trusts(peer):
        return ProxiedClient()
    if family == FORWARDED:
        return _read_forwarded(headers.get_all("Forwarded"), trusted)
    address, hops = None, 0
    for element in _from_right(headers.get_all("X-Forwarded-For")):
        found = _read_address(element)
        if found is None:
            break
        address = found
        hops += 1
        if not trusted.trusts(found):
            break
    scheme = _at(headers.get_all("X-Forwarded-Proto"), hops)
    host = _at(headers.get_all("X-Forwarded-Host"), hops)
    return ProxiedClient(address, _check_scheme(scheme), _check_host(host))


# Forwarded


def _read_forwarded(lines: Sequence[str], trusted: TrustedProxies) -> ProxiedClient:
    address = scheme = host = None
    for element in _elements_from_right(lines):
        pairs = _parse_element(element)
        if pairs is None:
            break
        if "proto" in pairs:
            scheme = _check_scheme(pairs["proto"])
        if "host" in pairs:
            host = _check_host(pairs["host"])
        found = _read_node(pairs.get("for", ""))
        if found is None:
            break
        address = found
        if not trusted.trusts(found):
            break
    return ProxiedClient(address, scheme, host)


def _elements_from_right(lines: Sequence[str]) -> Iterator[str]:
    elements = (each for line in reversed(lines) for each in _split_from_right(line))
    return _not_empty(elements)


def _split_from_right(line: str) -> Iterator[str]:
    """Split at the commas that are not quoted, from the right.

    From the left, a quotation mark that the client left open would swallow what the
    proxies added behind it.
    """
    backwards = line[::-1]
    start = 0
    while start <= len(backwards):
        match = _BACKWARDS.match(backwards, start)
        assert match is not None, "it matches nothing at least"
        end = match.end()
        if backwards[end : end + 1] == '"':  # no other opens it: the rest is malformed
            end = len(backwards)
        yield backwards[start:end][::-1].strip(_WHITESPACE)
        start = end + 1


def _parse_element(element: str) -> dict[str, str] | None:
    """Return the pairs of an element, names in lower case; None if it is malformed."""
    pairs: dict[str, str] = {}
    position = 0
    while position < len(element):
        match = _PAIR.match(element, position)
        if match is None:
            return None
        name, token, quoted = match.groups()
        if name is not None:
            name = name.lower()
            if name in pairs:  # RFC 7239 section 4
                return None
            pairs[name] = _ESCAPED.sub(r"\1", quoted) if token is None else token
        position = match.end()
    return pairs


# X-Forwarded-*


def _from_right(lines: Sequence[str]) -> Iterator[str]:
    return _not_empty(
        element.strip(_WHITESPACE)
        for line in reversed(lines)
        for element in reversed(line.split(","))
    )


def _at(lines: Sequence[str], hops: int) -> str | None:
    """Return the element that as many proxies wrote as addresses were believed."""
    elements = list(islice(_from_right(lines), max(hops, 1)))
    return elements[-1] if elements else None


# Both


def _not_empty(elements: Iterator[str]) -> Iterator[str]:
    # RFC 9110 section 5.6.1: empty elements of a list count for nothing; a reasonable
    # number of them, that is.
    return filter(None, islice(elements, MAX_HOPS))


def _read_address(text: str) -> str | None:
    """Return an address of ``X-Forwarded-For``; port and brackets are optional."""
    if _ADDRESS.fullmatch(text):
        address = parse_address(text)
        if address is not None:
            return str(address)
    match = _NODE.fullmatch(text)
    # No obfuscated port: that is known to Forwarded only.
    return None if match is None or "_" in text else _read_node(text)


def _read_node(text: str) -> str | None:
    """Return the address of a node (RFC 7239 section 6), if it tells one."""
    match = _NODE.fullmatch(text)
    if match is None:
        return None
    ipv6, ipv4, port = match.groups()
    if (ipv6 is not None and ":" not in ipv6) or (port and int(port) > 0xFFFF):
        return None
    address = parse_address(ipv6 or ipv4)
    return None if address is None else str(address)


def _check_scheme(text: str | None) -> str | None:
    scheme = None if text is None else text.lower()
    return scheme if scheme in _SCHEMES else None


def _check_host(text: str | None) -> str | None:
    """Return a host if it is one (RFC 9110 section 7.2), of the characters in use.

    RFC 3986 would allow for percent-encoding and punctuation in names as well, which
    no name has that DNS knows, and for a colon without a port.
    """
    match = None if text is None else _HOST.fullmatch(text)
    if text is None or match is None:
        return None
    name, ipv6, port = match.groups()
    if (
        not name
        or len(name) > _MAX_NAME + name.endswith(".")
        or int(port or 0) > 0xFFFF
    ):
        return None
    if ipv6 is not None:
        try:
            IPv6Address(ipv6)
        except ValueError:
            return None
    return text.lower()
