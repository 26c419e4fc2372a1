"""Request targets: split once, decoded once, or refused."""

from __future__ import annotations

import pytest

from websockets_routes.exceptions import BadRequest
from websockets_routes.target import ENCODED_SLASH, join_segments, parse_target

S = ENCODED_SLASH


@pytest.mark.parametrize(
    ("raw", "path", "query", "segments"),
    [
        ("/", "/", "", [""]),
        ("/a/b", "/a/b", "", ["a", "b"]),
        ("/a/", "/a/", "", ["a", ""]),
        ("/a//b", "/a//b", "", ["a", "", "b"]),
        # Two slashes begin a path, not a host.
        ("//x/echo", "//x/echo", "", ["", "x", "echo"]),
        # The query is split off and left raw.
        ("/a?x=1&y", "/a", "x=1&y", ["a"]),
        ("/a?", "/a", "", ["a"]),
        ("/a??b?c", "/a", "?b?c", ["a"]),
        ("/a?x=%zz/..", "/a", "x=%zz/..", ["a"]),
        ("/?x", "/", "x", [""]),
        # Decoded once.
        ("/a%20b", "/a b", "", ["a b"]),
        ("/%41%3f", "/A?", "", ["A?"]),
        ("/%2541", "/%41", "", ["%41"]),
        ("/%25", "/%", "", ["%"]),
        ("/%23", "/#", "", ["#"]),
        ("/caf%C3%A9/x", "/café/x", "", ["café", "x"]),
        ("/café", "/café", "", ["café"]),
        ("/a+b", "/a+b", "", ["a+b"]),
        # An encoded slash stays inside its segment.
        ("/a%2Fb/c", "/a/b/c", "", [f"a{S}b", "c"]),
        ("/%2f", "//", "", [S]),
        # Segments that only begin with a dot, or that are dots and a slash.
        ("/.a/..b/...", "/.a/..b/...", "", [".a", "..b", "..."]),
        ("/..%2Fa", "/../a", "", [f"..{S}a"]),
        # The absolute form.
        ("http://host/a?b", "/a", "b", ["a"]),
        ("http://host", "/", "", [""]),
        ("https://host?x", "/", "x", [""]),
        ("WS://host:80/a", "/a", "", ["a"]),
        ("wss://[::1]:1/a/", "/a/", "", ["a", ""]),
        ("http://host//a", "//a", "", ["", "a"]),
        ("http://host/%2F", "//", "", [S]),
    ],
)
def test_a_target_has_this_path_query_and_segments(
    raw: str, path: str, query: str, segments: list[str]
) -> None:
    target = parse_target(raw)
    assert target == (path, query, segments)
    assert join_segments(target.matchable) == path


@pytest.mark.parametrize(
    ("raw", "problem"),
    [
        ("", "must begin with a slash"),
        ("a", "must begin with a slash"),
        ("*", "must begin with a slash"),
        ("host:443", "must begin with a slash"),
        ("?x", "must begin with a slash"),
        ("http:///a", "must begin with a slash"),
        ("http://", "must begin with a slash"),
        ("http://?x", "must begin with a slash"),
        ("ftp://host/a", "must begin with a slash"),
        (" /a", "must begin with a slash"),
        ("/a#b", "fragment"),
        ("/a?b#c", "fragment"),
        ("http://host#f", "fragment"),
        ("/a\n", "control character"),
        ("/a\x00b", "control character"),
        ("/a\x7f", "control character"),
        ("/a\x9f", "control character"),
        ("/a?\r\nX: y", "control character"),
        ("/a%00", "control character"),
        ("/a%0A", "control character"),
        ("/a%7f", "control character"),
        ("/a%C2%85", "control character"),
        ("/%ZZ", "malformed percent-encoding"),
        ("/%", "malformed percent-encoding"),
        ("/%4", "malformed percent-encoding"),
        ("/%%41", "malformed percent-encoding"),
        ("/%4/1", "malformed percent-encoding"),
        ("/%C3", "not valid UTF-8"),
        ("/%C3/%A9", "not valid UTF-8"),
        ("/%ED%A0%80", "not valid UTF-8"),
        ("/%C0%AF", "not valid UTF-8"),
        ("/.", "dot segment"),
        ("/..", "dot segment"),
        ("/a/../b", "dot segment"),
        ("/a/./b", "dot segment"),
        ("/a/..?x", "dot segment"),
        ("/%2e%2E/a", "dot segment"),
        ("/.%2e", "dot segment"),
        ("http://host/../a", "dot segment"),
    ],
)
def test_a_malformed_target_is_a_bad_request_that_says_why(
    raw: str, problem: str
) -> None:
    with pytest.raises(BadRequest, match=problem):
        parse_target(raw)


@pytest.mark.parametrize("raw", ["/\udce9", "/%41\udce9", "/a/\ud800%2F"])
def test_text_that_is_no_unicode_is_a_bad_request(raw: str) -> None:
    with pytest.raises(BadRequest):
        parse_target(raw)
