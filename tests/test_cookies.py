"""Cookies: what user agents send, by name."""

from __future__ import annotations

import time

import pytest
from websockets import Headers

from websockets_routes.cookies import parse_cookies


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("", {}),
        ("a=1", {"a": "1"}),
        ("a=1; b=2", {"a": "1", "b": "2"}),
        ("a=1;b=2", {"a": "1", "b": "2"}),
        (" \ta = 1 ;\tb=2\t", {"a": "1", "b": "2"}),
        ("a=1; a=2", {"a": "1"}),
        ("a=; a=2", {"a": ""}),
        ("a=b=c", {"a": "b=c"}),
        ('a="1"; b="', {"a": "1", "b": '"'}),
        ('a=""', {"a": ""}),
        ('a="1', {"a": '"1'}),
        ("a; =1; ; b=2;", {"b": "2"}),
        ("A=1; a=2", {"A": "1", "a": "2"}),
        ("a=%20é", {"a": "%20é"}),
    ],
)
def test_cookies_are_found_by_name(header: str, expected: dict[str, str]) -> None:
    assert parse_cookies(Headers(Cookie=header)) == expected


def test_cookies_of_several_headers_are_one_set() -> None:
    headers = Headers([("Cookie", "a=1; b=2"), ("cookie", "b=3; c=4")])
    assert parse_cookies(headers) == {"a": "1", "b": "2", "c": "4"}


def test_without_the_header_there_are_none() -> None:
    assert parse_cookies(Headers()) == {}


@pytest.mark.parametrize("piece", [";", "=", "a=1;", '"', " "])
def test_long_headers_cost_linear_time(piece: str) -> None:
    text = piece * (2**18 // len(piece))
    started = time.process_time()
    parse_cookies(Headers(Cookie=text))
    assert time.process_time() - started < 2
