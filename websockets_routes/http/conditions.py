"""Conditions: whether a client wants something, and which part (RFC 9110, 13, 14)."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable
from datetime import UTC
from email.utils import parsedate_to_datetime
from http import HTTPStatus

from websockets import Headers

__all__ = ["asked_range", "parsed_date", "precondition"]

# RFC 9110 sections 8.8.3 and 14.1.1. More than 18 digits is no file's position.
_ENTITY_TAG = re.compile(r'(?:W/)?"[\x21\x23-\x7e\x80-\xff]*"')
_RANGE = re.compile(r"bytes=[ \t]*([0-9]{0,18})-([0-9]{0,18})[ \t]*", re.IGNORECASE)


def precondition(request: Headers, etag: str, modified: int) -> HTTPStatus | None:
    """Go through the preconditions of a GET or HEAD in the order of section 13.2.2.

    Args:
        request: The headers of the request.
        etag: The entity tag of what there is now.
        modified: Its time of modification, in seconds since 1970.

    Returns:
        412, 304, or None if the request is to be answered as it would be without.
    """
    since = parsed_date(_only(request, "If-Modified-Since"))
    until = parsed_date(_only(request, "If-Unmodified-Since"))
    if "If-Match" in request:
        if not _listed(request.get_all("If-Match"), etag, weakly=False):
            return HTTPStatus.PRECONDITION_FAILED
    elif until is not None and modified > until:
        return HTTPStatus.PRECONDITION_FAILED
    if "If-None-Match" in request:
        if _listed(request.get_all("If-None-Match"), etag, weakly=True):
            return HTTPStatus.NOT_MODIFIED
    elif since is not None and modified <= since:
        return HTTPStatus.NOT_MODIFIED
    return None


def asked_range(request: Headers, etag: str, modified: int, size: int) -> range | None:
    """Find the bytes that a GET asks for (sections 13.1.5 and 14.1.2).

    Args:
        request: The headers of the request.
        etag: The entity tag of what there is now.
        modified: Its time of modification, in seconds since 1970.
        size: Its bytes.

    Returns:
        Their positions, an empty range if there are none such (416), or None for all:
        several ranges, other units and nonsense are ignored, and so is a range of
        what there was before.
    """
    match = _RANGE.fullmatch(_only(request, "Range") or "")
    if match is None or match.group(1, 2) == ("", ""):
        return None
    if not _unchanged(request, etag, modified):
        return None
    first, last = match.groups()
    if not first:
        if not int(last):
            return range(0)
        return range(max(0, size - int(last)), size) if size else None
    if last and int(last) < int(first):
        return None
    return range(int(first), min(int(last) + 1, size) if last else size)


def parsed_date(text: str | None) -> int | None:
    """Read a date in one of the three forms of section 5.6.7.

    Returns:
        Seconds since 1970, or None if it is no date.
    """
    try:
        date = parsedate_to_datetime(text or "")
        return int((date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp())
    except (ValueError, OverflowError):
        return None


def _only(headers: Headers, name: str) -> str | None:
    values = headers.get_all(name)
    return values[0] if len(values) == 1 else None


def _listed(values: Iterable[str], etag: str, *, weakly: bool) -> bool:
    text = ", ".join(values).strip(" \t")
    if text == "*":
        return True
    tags = _ENTITY_TAG.findall(text)
    if weakly:  # section 8.8.3.2
        return etag.removeprefix("W/") in {tag.removeprefix("W/") for tag in tags}
    return not etag.startswith("W/") and etag in tags


def _unchanged(request: Headers, etag: str, modified: int) -> bool:
    """Tell whether what there is is still what If-Range is about (13.1.5)."""
    if "If-Range" not in request:
        return True
    validator = _only(request, "If-Range") or ""
    if '"' in validator:
        return validator == etag and not etag.startswith("W/")
    # A date says little about a file that may have changed twice in its second.
    return parsed_date(validator) == modified and time.time() - modified > 1
