"""Cookies: what RFC 6265 lets a server say, and nothing else."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from websockets_routes.exceptions import InvalidResponse
from websockets_routes.http.cookies import Scope, expired_cookie, new_cookie


def cookie(name: str = "a", value: str = "b", **attributes: Any) -> str:
    return new_cookie(name, value, **attributes)


@pytest.mark.parametrize(
    ("attributes", "expected"),
    [
        ({}, "a=b; Path=/"),
        ({"value": ""}, "a=; Path=/"),
        ({"value": '"q"'}, 'a="q"; Path=/'),
        ({"path": None}, "a=b"),
        ({"path": "/x y"}, "a=b; Path=/x y"),
        ({"domain": "example.com"}, "a=b; Path=/; Domain=example.com"),
        ({"max_age": 1}, "a=b; Max-Age=1; Path=/"),
        (
            {"expires": datetime(1994, 11, 6, 8, 49, 37, tzinfo=UTC)},
            "a=b; Expires=Sun, 06 Nov 1994 08:49:37 GMT; Path=/",
        ),
        (
            {
                "expires": datetime(
                    1994, 11, 6, 9, 49, 37, tzinfo=timezone(timedelta(hours=1))
                )
            },
            "a=b; Expires=Sun, 06 Nov 1994 08:49:37 GMT; Path=/",
        ),
        ({"same_site": "Lax"}, "a=b; Path=/; SameSite=Lax"),
        (
            {"same_site": "None", "secure": True, "http_only": True},
            "a=b; Path=/; SameSite=None; Secure; HttpOnly",
        ),
        ({"partitioned": True, "secure": True}, "a=b; Path=/; Secure; Partitioned"),
        ({"name": "__Host-a", "secure": True}, "__Host-a=b; Path=/; Secure"),
        (
            {"name": "__Secure-a", "secure": True, "domain": "x.y", "path": "/z"},
            "__Secure-a=b; Path=/z; Domain=x.y; Secure",
        ),
    ],
)
def test_a_cookie_is_what_rfc_6265_says(
    attributes: dict[str, Any], expected: str
) -> None:
    assert cookie(**attributes) == expected


@pytest.mark.parametrize(
    ("attributes", "problem"),
    [
        ({"name": ""}, "named"),
        ({"name": "a b"}, "named"),
        ({"name": "a=b"}, "named"),
        ({"name": "a\r\n"}, "named"),
        ({"name": None}, "named"),
        ({"value": "a b"}, "value"),
        ({"value": "a;b"}, "value"),
        ({"value": "a,b"}, "value"),
        ({"value": "a\\b"}, "value"),
        ({"value": 'a"b'}, "value"),
        ({"value": '"a'}, "value"),
        ({"value": "é"}, "value"),
        ({"value": "a\n"}, "value"),
        ({"value": 1}, "value"),
        ({"path": "x"}, "path"),
        ({"path": "/;Domain=x"}, "path"),
        ({"path": "/\r\n"}, "path"),
        ({"path": "/é"}, "path"),
        ({"domain": ""}, "domain"),
        ({"domain": ".example.com"}, "domain"),
        ({"domain": "a..b"}, "domain"),
        ({"domain": "-a"}, "domain"),
        ({"domain": "a;b"}, "domain"),
        ({"domain": "a\n"}, "domain"),
        ({"domain": "a." * 150 + "b"}, "domain"),
        ({"max_age": 0}, "delete_cookie"),
        ({"max_age": True}, "max_age"),
        ({"max_age": 1.5}, "max_age"),
        ({"max_age": "1"}, "max_age"),
        ({"expires": datetime(2030, 1, 1)}, "time zone"),
        ({"expires": datetime.min.replace(tzinfo=UTC)}, "1601"),
        ({"expires": datetime.max.replace(tzinfo=UTC)}, "1601"),
        ({"expires": 7}, "datetime"),
        ({"same_site": "lax"}, "same_site"),
        ({"same_site": []}, "same_site"),
        ({"same_site": "None"}, "secure=True"),
        ({"partitioned": True}, "secure=True"),
        ({"name": "__Secure-a"}, "secure=True"),
        ({"name": "__host-a"}, "secure=True"),
        ({"name": "__Host-a", "secure": True, "path": "/x"}, "__Host-"),
        ({"name": "__Host-a", "secure": True, "domain": "x.y"}, "__Host-"),
        ({"value": "x" * 4096}, "large"),
    ],
)
def test_a_cookie_that_cannot_be_raises(
    attributes: dict[str, Any], problem: str
) -> None:
    with pytest.raises(InvalidResponse, match=re.escape(problem)) as raised:
        cookie(**attributes)
    assert len(str(raised.value)) < 250


@pytest.mark.parametrize("name", ["", "a b", "__Host-\r\n", None])
def test_a_cookie_that_cannot_be_cannot_be_forgotten(name: Any) -> None:
    with pytest.raises(InvalidResponse, match="named"):
        expired_cookie(name)


def test_a_cookie_is_forgotten_where_it_was_kept() -> None:
    scope: Scope = {"path": "/x", "domain": "a.b", "same_site": "Lax"}
    past = "Expires=Thu, 01 Jan 1970 00:00:00 GMT"
    assert expired_cookie("a", **scope) == (
        f"a=; {past}; Path=/x; Domain=a.b; SameSite=Lax"
    )
    assert scope == {"path": "/x", "domain": "a.b", "same_site": "Lax"}
    assert expired_cookie("__Secure-a").endswith("; Secure")


def test_a_cookie_has_no_other_attributes() -> None:
    with pytest.raises(TypeError, match="no priority"):
        cookie(priority="high")
