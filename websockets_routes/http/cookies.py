"""Cookies: what a server may ask a client to keep (RFC 6265)."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Any, Literal, TypeAlias, TypedDict, Unpack

from ..exceptions import InvalidResponse
from ..naming import shown
from ..tokens import TOKEN

__all__ = ["Lifetime", "SameSite", "Scope", "expired_cookie", "new_cookie"]

SameSite: TypeAlias = Literal["Strict", "Lax", "None"] | None

# RFC 6265 section 4.1.1, and RFC 1123 section 2.1 for the domain.
_VALUE = re.compile(r'("?)[\x21\x23-\x2b\x2d-\x3a\x3c-\x5b\x5d-\x7e]*\1')
_PATH = re.compile(r"/[ -:<-~]*")
_DOMAIN = re.compile(
    r"(?=.{1,253}\Z)[0-9A-Za-z]([-0-9A-Za-z]{0,61}[0-9A-Za-z])?"
    r"(\.[0-9A-Za-z]([-0-9A-Za-z]{0,61}[0-9A-Za-z])?)*"
)
_LARGEST = 4096  # browsers drop what is larger, without a word
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Scope(TypedDict, total=False):
    """Where a client sends a cookie, and who may see it there."""

    path: str | None
    domain: str | None
    secure: bool
    http_only: bool
    same_site: SameSite
    partitioned: bool


class Lifetime(Scope, total=False):
    """How long a client keeps a cookie, and for whom."""

    max_age: int | None
    expires: datetime | None


def new_cookie(name: str, value: str, **attributes: Unpack[Lifetime]) -> str:
    """Make the value of a Set-Cookie header.

    Args:
        value: As it is sent; encode what is not plain ASCII yourself.
        max_age: Seconds, more than 0.
        expires: A time with a time zone.
        path: ``/`` by default; None for that of the request.
        domain: None for the host of the request alone.
        secure: Send it by TLS only.
        http_only: Hide it from scripts.
        same_site: ``"Strict"``, ``"Lax"`` or ``"None"``; None leaves it to the client.
        partitioned: Keep one for each site that embeds this one.

    Raises:
        InvalidResponse: If one of them cannot be, if ``SameSite=None`` or
            ``Partitioned`` come without ``secure``, if the name promises
            (``__Host-``, ``__Secure-``) what does not hold, or if name and value
            have more than 4096 bytes, which browsers drop.
    """
    unknown = attributes.keys() - Lifetime.__annotations__.keys()
    if unknown:
        raise TypeError(f"a cookie has no {', '.join(sorted(unknown))}")
    max_age, expires = attributes.get("max_age"), attributes.get("expires")
    path, domain = attributes.get("path", "/"), attributes.get("domain")
    secure, partitioned = attributes.get("secure"), attributes.get("partitioned")
    same_site = attributes.get("same_site")
    for_host = _begins(name, "__host-")
    for good, problem in (
        (_matches(TOKEN, name), "no cookie can be named so"),
        (_matches(_VALUE, value), "the value has what no cookie may have"),
        (path is None or _matches(_PATH, path), "the path is none"),
        (domain is None or _matches(_DOMAIN, domain), "the domain is none"),
        (same_site in (None, "Strict", "Lax", "None"), "same_site is unknown"),
        (secure or same_site != "None", "SameSite=None takes secure=True"),
        (secure or not partitioned, "partitioned= takes secure=True"),
        (
            max_age is None or (type(max_age) is int and max_age > 0),
            "max_age takes seconds; there is delete_cookie",
        ),
        (
            expires is None or _storable(expires),
            "expires takes a datetime with a time zone, from the year 1601",
        ),
        (secure or not _promises_secure(name), "its prefix takes secure=True"),
        (
            not for_host or (path == "/" and not domain),
            '__Host- takes path="/" and no domain',
        ),
    ):
        if not good:
            raise InvalidResponse(f"cookie {shown(name)}: {problem}")
    if len(name) + len(value) > _LARGEST:
        raise InvalidResponse(f"cookie {shown(name)}: browsers drop one this large")
    date = expires and format_datetime(expires.astimezone(UTC), usegmt=True)
    settings: tuple[tuple[str, Any], ...] = (
        ("Max-Age", max_age),
        ("Expires", date),
        ("Path", path),
        ("Domain", domain),
        ("SameSite", same_site),
    )
    flags = (
        ("Secure", secure),
        ("HttpOnly", attributes.get("http_only")),
        ("Partitioned", partitioned),
    )
    line = [f"{name}={value}"]
    line += [f"{key}={setting}" for key, setting in settings if setting is not None]
    line += [flag for flag, on in flags if on]
    return "; ".join(line)


def expired_cookie(name: str, **scope: Unpack[Scope]) -> str:
    """Make the value of a Set-Cookie header that has a client forget a cookie.

    Args:
        scope: That of the cookie; ``__Host-`` and ``__Secure-`` are secure always.

    Raises:
        InvalidResponse: If there can be no such cookie.
    """
    if _promises_secure(name):
        scope["secure"] = True
    return new_cookie(name, "", expires=_EPOCH, **scope)


def _promises_secure(name: object) -> bool:
    return _begins(name, "__host-") or _begins(name, "__secure-")


def _begins(name: object, prefix: str) -> bool:
    return isinstance(name, str) and name.lower().startswith(prefix)


def _matches(pattern: re.Pattern[str], value: object) -> bool:
    return isinstance(value, str) and pattern.fullmatch(value) is not None


def _storable(date: object) -> bool:
    # Earlier years are none to a client; a time zone leads out of the last one.
    return isinstance(date, datetime) and bool(
        date.utcoffset() is not None and 1601 <= date.year <= 9998
    )
