"""The request target (RFC 9112 section 3.2): what a client asks for, taken apart."""

from __future__ import annotations

import re
from typing import NamedTuple
from urllib.parse import unquote_to_bytes

from .exceptions import BadRequest

__all__ = [
    "ENCODED_SLASH",
    "UNFIT",
    "Target",
    "join_segments",
    "parse_target",
    "target_host",
]

# Stands for a slash that came percent-encoded, so that it never separates
# segments. No decoded path contains it: control characters are refused.
ENCODED_SLASH = "\0"

#: Control characters and lone surrogates: what no path may contain.
UNFIT = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_PERCENT = re.compile(r"%(?![0-9A-Fa-f]{2})")
_ABSOLUTE = re.compile(r"(?:http|ws)s?://([^/?]+)", re.IGNORECASE)


class Target(NamedTuple):
    """A request target, split and decoded once.

    Attributes:
        path: The decoded path, without the query; begins with ``/``.
        query: The raw query string, without ``?``.
        segments: What stands between the slashes of the path, decoded;
            a slash that was percent-encoded is ``ENCODED_SLASH`` here.
    """

    path: str
    query: str
    segments: list[str]

    @property
    def matchable(self) -> str:
        """The path with every encoded slash still told apart from a separator."""
        return "/" + "/".join(self.segments)


def join_segments(text: str) -> str:
    """Turn text from ``Target.segments`` into what a user may see."""
    return text.replace(ENCODED_SLASH, "/")


def target_host(raw: str) -> str | None:
    """Return the host, and the port if any, of a target in absolute form.

    A server has to take it for the ``Host`` header (RFC 9112 section 3.2.2).
    """
    if raw.startswith("/"):
        return None
    found = _ABSOLUTE.match(raw)
    return None if found is None else found.group(1)


def parse_target(raw: str) -> Target:
    """Split and decode a request target.

    The origin form (``/path?query``) and the absolute form
    (``http://host/path?query``) are accepted, in time linear in the length.

    Args:
        raw: The target as it stands in the request line.

    Raises:
        BadRequest: For any other form; for a fragment; for control characters,
            percent signs without two hexadecimal digits or invalid UTF-8 in the
            path; for ``.`` and ``..`` segments, encoded or not, which clients
            resolve before they send (RFC 3986 section 5.2.4).
    """
    path, _, query = raw.partition("?")
    if not path.startswith("/"):
        authority = _ABSOLUTE.match(path)
        if authority is None:
            raise BadRequest("the request target must begin with a slash")
        path = path[authority.end() :] or "/"
    if "#" in raw:
        raise BadRequest("the request target must not contain a fragment")
    # isprintable() is far cheaper than a regex, and nearly always enough.
    if not raw.isprintable() and UNFIT.search(raw):
        raise BadRequest("the request target contains a control character")
    if "%" not in path:
        segments = path[1:].split("/")
        decoded = path
    else:
        if _PERCENT.search(path):
            raise BadRequest("the path contains a malformed percent-encoding")
        segments = [_decode(segment) for segment in path[1:].split("/")]
        decoded = join_segments("/" + "/".join(segments))
    # The cheap test first: nearly no path has a segment that begins with a dot.
    if "/." in decoded and not {".", ".."}.isdisjoint(segments):
        raise BadRequest("the path contains a dot segment")
    return Target(decoded, query, segments)


def _decode(segment: str) -> str:
    if "%" not in segment:
        return segment
    try:
        text = unquote_to_bytes(segment).decode()
    except UnicodeDecodeError:
        raise BadRequest("the path is not valid UTF-8") from None
    if UNFIT.search(text):
        raise BadRequest("the path contains a control character")
    return text.replace("/", ENCODED_SLASH)
