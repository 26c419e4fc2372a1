"""Cookies of a request."""

from __future__ import annotations

from websockets import Headers

__all__ = ["parse_cookies"]


def parse_cookies(headers: Headers) -> dict[str, str]:
    """Return the cookies of a request, by name; the first of a name counts.

    What is no ``name=value`` is passed over (RFC 6265 section 5.4 has user agents
    send the more specific one first).
    """
    found: dict[str, str] = {}
    for header in headers.get_all("Cookie"):
        for pair in header.split(";"):
            name, equals, value = pair.partition("=")
            name, value = name.strip(" \t"), value.strip(" \t")
            if len(value) > 1 and value[0] == value[-1] == '"':
                value = value[1:-1]
            if equals and name:
                found.setdefault(name, value)
    return found
