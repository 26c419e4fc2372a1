"""The PROXY protocol, versions 1 and 2: whom a connection was made for.

A proxy that passes bytes on without a look at them says it in a header before the
first of them. The sections below are of "The PROXY protocol", by haproxy's authors
(``proxy-protocol.txt``).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from functools import cache
from ipaddress import IPv4Address, IPv6Address
from typing import Any

from .exceptions import InvalidProxyHeader

__all__ = [
    "MAX_LENGTH",
    "ProxyCommand",
    "ProxyHeader",
    "parse_proxy_header",
]

#: The most bytes that a header may have, in version 2. Its lengths would allow for
#: 65,551; senders stay below 536, but for the certificates that some add.
MAX_LENGTH = 4096

_PROXY = b"PROXY "
# Section 2.1: a line ends with CRLF, and with nothing else; of UNKNOWN the rest is to
# be ignored. These match as much of it as came, with group 1 when it is complete.
_LINE = re.compile(rb"(?: [0-9A-Fa-f:. ]*)?(?:\r(\n)?)?")
_ANY_LINE = re.compile(rb"(?: [^\r\n]*)?(?:\r(\n)?)?")
# How many bytes a line has at most. With TCP6 it is 104 there; but inet_ntop(), which
# senders use, ends addresses that stand for IPv4 ones with dots, and these are longer.
_KINDS = {b"TCP4": (56, _LINE), b"TCP6": (107, _LINE), b"UNKNOWN": (107, _ANY_LINE)}
_MAX_LINE = 107

# Section 2.2.
_SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
_FIXED = 16
_VERSION = 0x2
_UNSPEC, _INET, _INET6, _UNIX = range(4)
_STREAM, _DGRAM = 1, 2
_SIZES = {_INET: 12, _INET6: 36, _UNIX: 216}
_UNIX_SIZE = 108
_CRC32C = 0x03
_CRC32C_SIZE = 4


class ProxyCommand(Enum):
    """What a header is about."""

    #: The proxy made the connection for itself, to see whether the server is well.
    LOCAL = 0
    #: The proxy made it for a client.
    PROXY = 1


@dataclass(frozen=True, slots=True)
class ProxyHeader:
    r"""A PROXY header.

    Attributes:
        version: 1 or 2.
        command: LOCAL or PROXY; version 1 knows PROXY only.
        source: The client: address and port, or the path of its Unix socket (``""`` if
            it has none, beginning with NUL if abstract, bytes that are no UTF-8 as
            ``\xff``). None if the peer itself counts: LOCAL, or a client unknown. An
            IPv4 address in IPv6 (``::ffff:192.0.2.1``) is given as IPv4.
        destination: Where the client connected to, likewise.
        length: How many bytes it has; what comes behind is the client's.
    """

    version: int
    command: ProxyCommand
    source: tuple[str, int] | str | None
    destination: tuple[str, int] | str | None
    length: int


def parse_proxy_header(data: bytes | bytearray) -> ProxyHeader | None:
    """Parse the header at the beginning of a connection, of either version.

    Call it with all that came so far until it returns one. Until a header is complete
    a call looks at 107 bytes at most, and ``MAX_LENGTH`` bytes suffice to tell.

    Of LOCAL headers and those of an unspecified family or transport what follows the
    fixed part is skipped unseen. Of others, TLVs are skipped, but each must end where
    the header does or before; a CRC32C among them must be right.

    Args:
        data: What came, from the first byte on; more may follow the header.

    Returns:
        The header, or None as long as more bytes are needed.

    Raises:
        InvalidProxyHeader: As soon as it can be told that there is none, that it is
            malformed, too long or not of a stream.
    """
    head = bytes(data[:_FIXED])
    if _starts(head, _PROXY):
        return _parse_text(bytes(data[:_MAX_LINE]))
    if _starts(head, _SIGNATURE):
        return _parse_binary(data)
    raise InvalidProxyHeader(0, "there is none")


def _starts(data: bytes, text: bytes) -> bool:
    """Tell whether data begins with a text, as far as it came."""
    return data.startswith(text) or text.startswith(data)


# Version 1


def _parse_text(data: bytes) -> ProxyHeader | None:
    begin = len(_PROXY)
    kind = next((kind for kind in _KINDS if _starts(data[begin:], kind)), None)
    if kind is None:
        raise InvalidProxyHeader(begin, "TCP4, TCP6 or UNKNOWN must follow")
    limit, pattern = _KINDS[kind]
    start = begin + len(kind)
    match = pattern.match(data, start, limit)
    assert match is not None, "it matches nothing at least"
    if not match[1]:
        if match.end() < min(len(data), limit):
            raise InvalidProxyHeader(match.end(), "no such line has this byte here")
        if len(data) >= limit:
            raise InvalidProxyHeader(limit, "the line ought to have ended")
        return None
    length = match.end()
    if kind == b"UNKNOWN":
        return ProxyHeader(1, ProxyCommand.PROXY, None, None, length)
    fields = data[start + 1 : length - 2].decode("ascii").split(" ")
    if len(fields) != 4:
        raise InvalidProxyHeader(start, "two addresses and two ports must follow")
    position = start + 1
    values: list[Any] = []
    for read, field in zip(_FIELDS[kind], fields, strict=True):
        try:
            values.append(read(field))
        except ValueError as error:
            raise InvalidProxyHeader(position, str(error)) from None
        position += len(field) + 1
    source, destination, *ports = values
    return ProxyHeader(
        1, ProxyCommand.PROXY, (source, ports[0]), (destination, ports[1]), length
    )


def _read_ipv4(text: str) -> str:
    return str(IPv4Address(text))


def _read_ipv6(text: str) -> str:
    return _name(IPv6Address(text))


def _read_port(text: str) -> int:
    # Section 2.1: no zero before other digits. Nothing but digits gets here as it was.
    if not text.isdigit() or str(int(text[:6])) != text or int(text) > 0xFFFF:
        raise ValueError(f"{text!r} is no port")
    return int(text)


_FIELDS: dict[bytes, tuple[Callable[[str], Any], ...]] = {
    b"TCP4": (_read_ipv4, _read_ipv4, _read_port, _read_port),
    b"TCP6": (_read_ipv6, _read_ipv6, _read_port, _read_port),
}


def _name(address: IPv6Address) -> str:
    return str(address.ipv4_mapped or address)


# Version 2


def _parse_binary(data: bytes | bytearray) -> ProxyHeader | None:
    if len(data) > 12:
        _check_command(data[12])
    if len(data) > 13:
        _check_family(data[12], data[13])
    if len(data) < _FIXED:
        return None
    command = ProxyCommand(data[12] & 0xF)
    family, transport = divmod(data[13], 16)
    length = _FIXED + int.from_bytes(data[14:16])
    if length > MAX_LENGTH:
        raise InvalidProxyHeader(14, f"{length} bytes are more than {MAX_LENGTH}")
    known = command is ProxyCommand.PROXY and transport == _STREAM and family != _UNSPEC
    size = _SIZES[family] if known else 0
    if length < _FIXED + size:
        raise InvalidProxyHeader(14, f"addresses take {size} bytes")
    if len(data) < length:
        return None
    if not known:
        return ProxyHeader(2, command, None, None, length)
    header = bytes(data[:length])
    _check_vectors(header, _FIXED + size)
    source, destination = _read_addresses(header[_FIXED : _FIXED + size], family)
    return ProxyHeader(2, command, source, destination, length)


def _check_command(byte: int) -> None:
    version, command = divmod(byte, 16)
    if version != _VERSION:
        raise InvalidProxyHeader(12, f"the version is {version} instead of 2")
    if command > ProxyCommand.PROXY.value:
        raise InvalidProxyHeader(12, f"command {command} is neither LOCAL nor PROXY")


def _check_family(command: int, byte: int) -> None:
    # Section 2.2: with LOCAL the family is ignored.
    if command & 0xF == ProxyCommand.LOCAL.value:
        return
    family, transport = divmod(byte, 16)
    if family > _UNIX:
        raise InvalidProxyHeader(13, f"there is no address family {family}")
    if transport > _DGRAM:
        raise InvalidProxyHeader(13, f"there is no transport {transport}")
    if transport == _DGRAM:
        raise InvalidProxyHeader(13, "datagrams come no way to this server")


def _read_addresses(
    block: bytes, family: int
) -> tuple[tuple[str, int] | str, tuple[str, int] | str]:
    if family == _UNIX:
        return _read_path(block[:_UNIX_SIZE]), _read_path(block[_UNIX_SIZE:])
    size = (len(block) - 4) // 2
    texts = [
        str(IPv4Address(packed)) if family == _INET else _name(IPv6Address(packed))
        for packed in (block[:size], block[size : 2 * size])
    ]
    ports = int.from_bytes(block[-4:-2]), int.from_bytes(block[-2:])
    return (texts[0], ports[0]), (texts[1], ports[1])


def _read_path(field: bytes) -> str:
    # An abstract name begins with a NUL, and may have more: its end is not told.
    path = field.rstrip(b"\0") if field[:1] == b"\0" else field.partition(b"\0")[0]
    return path.decode(errors="backslashreplace")


def _check_vectors(header: bytes, position: int) -> None:
    """Check that type-length-value vectors fill the rest of a header."""
    checksum: int | None = None
    while position < len(header):
        value = position + 3
        end = value + int.from_bytes(header[position + 1 : value])
        if value > len(header) or end > len(header):
            raise InvalidProxyHeader(position, "a TLV overruns the header")
        if header[position] == _CRC32C:
            if end - value != _CRC32C_SIZE or checksum is not None:
                raise InvalidProxyHeader(
                    position, "a header has one CRC32C, of 4 bytes"
                )
            checksum = value
        position = end
    if checksum is not None:
        end = checksum + _CRC32C_SIZE
        blank = header[:checksum] + bytes(_CRC32C_SIZE) + header[end:]
        if _crc32c(blank) != int.from_bytes(header[checksum:end]):
            raise InvalidProxyHeader(checksum, "the CRC32C is wrong")


def _crc32c(data: bytes) -> int:
    """Compute the checksum of RFC 9260 appendix A, in the order of network bytes."""
    table = _crc32c_table()
    value = 0xFFFFFFFF
    for byte in data:
        value = table[(value ^ byte) & 0xFF] ^ (value >> 8)
    return value ^ 0xFFFFFFFF


@cache
def _crc32c_table() -> tuple[int, ...]:
    table = []
    for checksum in range(256):
        for _ in range(8):
            checksum = (checksum >> 1) ^ (0x82F63B78 if checksum & 1 else 0)
        table.append(checksum)
    return tuple(table)
