"""Responses: what a handler may return."""

from __future__ import annotations

import pickle
from http import HTTPStatus
from types import MappingProxyType
from typing import Any

import pytest
from websockets import Headers
from websockets import Response as HandshakeResponse

from websockets_routes.exceptions import InvalidResponse, RoutesError
from websockets_routes.http.files import File
from websockets_routes.http.response import ErrorResponse, Response

from .responses import each, sent


@pytest.mark.parametrize(
    ("status", "code", "reason"),
    [
        (200, 200, "OK"),
        (HTTPStatus.NOT_FOUND, 404, "Not Found"),
        ("404 Not Found", 404, "Not Found"),
        ("404 Nothing here", 404, "Nothing here"),
        ("404", 404, "Not Found"),
        ("299 ", 299, ""),
        (299, 299, ""),
    ],
)
def test_a_status_is_an_int_or_told_in_words(
    status: int | str, code: int, reason: str
) -> None:
    response = Response(None, status)
    assert (response.status, response.reason) == (code, reason)
    assert type(response.status) is int
    assert (sent(response).status, sent(response).reason) == (code, reason)


@pytest.mark.parametrize(
    "status",
    [
        *(True, 101, 199, 600, 2.0, None, b"200 OK"),
        *("", "OK", "99 X", "199 x", "404 a\r\nb", "404\n", "404 €"),
    ],
)
def test_another_status_raises(status: Any) -> None:
    with pytest.raises(InvalidResponse, match="the status must be"):
        Response(None, status)


def test_a_status_set_later_has_its_own_reason() -> None:
    response = Response("x", "200 Fine")
    response.status = 404
    assert response.reason == "Not Found"
    assert repr(response) == "<Response 404 Not Found>"
    assert repr(Response(None, 299)) == "<Response 299>"


# Headers


@pytest.mark.parametrize(
    "headers",
    [
        {"X-A": "1", "X-B": ["2", b"3"]},
        MappingProxyType({b"X-A": b"1", "X-B": ["2", "3"]}),
        [("X-A", "1"), (b"X-B", "2"), ("X-B", b"3")],
        iter([("X-A", "1"), ("X-B", "2"), ("X-B", "3")]),
        Headers([("X-A", "1"), ("X-B", "2"), ("X-B", "3")]),
    ],
)
def test_headers_are_a_mapping_or_pairs_of_str_or_bytes(headers: Any) -> None:
    response = Response(None, 200, headers)
    assert list(response.headers.raw_items()) == [
        ("X-A", "1"),
        ("X-B", "2"),
        ("X-B", "3"),
    ]


@pytest.mark.parametrize(
    "headers",
    [
        {"X-A": "1\r\nSet-Cookie: a=b"},
        {"X-A": b"1\n"},
        [("X-A", "\0")],
        {"X-A": ["ok", "a\rb"]},
        {"X A": "1"},
        {"": "1"},
        {b"X-A:": b"1"},
        {"X-A\r\nX-B": "1"},
        {"X-A": "€"},
        {"X-A": 1},
        {"X-A": None},
        [("X-A",)],
        ["X-A"],
        4,
    ],
)
def test_a_header_that_is_none_raises(headers: Any) -> None:
    with pytest.raises(InvalidResponse, match="header"):
        Response(None, 200, headers)


def test_a_content_type_cannot_inject_a_header() -> None:
    with pytest.raises(InvalidResponse):
        Response("x", content_type="text/plain\r\nX: y")


def test_a_header_that_is_set_later_is_checked_when_it_is_sent() -> None:
    response = Response("x")
    response.headers["X\r\nY"] = "1"
    with pytest.raises(InvalidResponse):
        sent(response)


def test_headers_may_be_replaced() -> None:
    response = Response({}, headers={"X-A": "1"})
    response.headers = {"X-B": [b"2", "3"]}
    assert sent(response).headers == Headers(
        [("X-B", "2"), ("X-B", "3"), ("Content-Length", "2")]
    )
    with pytest.raises(InvalidResponse):
        response.headers = {"X": "a\nb"}


def test_the_headers_that_are_asked_for_are_those_that_are_sent() -> None:
    response = Response("x")
    assert response.headers == Headers({"Content-Type": "text/plain; charset=utf-8"})
    assert response.headers is response.headers
    del response.headers["Content-Type"]
    assert sent(response).headers == Headers({"Content-Length": "1"})


def test_what_is_sent_is_a_copy() -> None:
    for response in (Response("x"), Response("x", headers={"X-A": "1"})):
        first = sent(response)
        first.headers["Content-Type"] = "text/y"
        first.headers["X-A"] = "2"
        second = sent(response).headers
        assert second["Content-Type"] == "text/plain; charset=utf-8"
        assert second.get_all("X-A") == response.headers.get_all("X-A")
        assert len(second.get_all("X-A")) < 2


class Text(str):
    __slots__ = ()


def test_a_subclass_has_the_type_of_its_kind() -> None:
    message = sent(Response(Text("x")))
    assert message.headers["Content-Type"] == "text/plain; charset=utf-8"
    assert message.body == b"x"


# Payloads


def test_what_a_handler_returns_becomes_a_response() -> None:
    response = Response("x")
    assert Response.of(response) is response
    assert Response.of(None).status == 204
    assert Response.of("x").payload == "x"
    with pytest.raises(InvalidResponse, match="return it as it is"):
        Response(response)


def test_what_a_hook_returns_becomes_a_response() -> None:
    headers = Headers({"Connection": "close", "Content-Length": "9", "X-A": "1"})
    response = Response.of(HandshakeResponse(403, "No", headers, b"no"))
    message = sent(response)
    assert (message.status, message.reason, message.body) == (403, "No", b"no")
    assert message.headers["X-A"] == "1"
    assert message.headers["Content-Length"] == "2"
    assert "Connection" not in message.headers


def test_there_are_shortcuts() -> None:
    assert sent(Response.text("x", 201, {"X-A": "1"})).status == 201
    page = Response.html("<p>")
    assert page.headers["Content-Type"] == "text/html; charset=utf-8"
    for obj, body in (("x", b'"x"'), (None, b"null"), ({}, b"{}")):
        message = sent(Response.json(obj, 202))
        assert (message.status, message.body) == (202, body)
        assert message.headers["Content-Type"] == "application/json"
    with pytest.raises(InvalidResponse, match="no JSON"):
        sent(Response.json(each("x")))


async def test_only_a_file_is_prepared() -> None:
    response = Response("x")
    assert await response.prepare("GET", Headers()) is response


async def test_the_reason_of_a_file_is_kept(tmp_path: Any) -> None:
    (tmp_path / "x").touch()
    response = Response(File(tmp_path / "x"), "404 Nothing", close=True)
    prepared = await response.prepare("HEAD", Headers())
    assert (prepared.reason, prepared.close) == ("Nothing", True)


# Redirects


@pytest.mark.parametrize(
    ("location", "expected"),
    [
        ("/a?b=c&d#e", "/a?b=c&d#e"),
        ("https://[::1]:80/a%20b", "https://[::1]:80/a%20b"),
        ("/é b", "/%C3%A9%20b"),
        ("/100%", "/100%25"),
        ("/%zz%41", "/%25zz%41"),
        ("/\\host", "/%5Chost"),
        ('/"<>', "/%22%3C%3E"),
    ],
)
def test_a_redirect_has_a_location_that_is_a_url(location: str, expected: str) -> None:
    response = Response.redirect(location)
    assert (response.status, response.headers["Location"]) == (302, expected)


@pytest.mark.parametrize(
    "location", ["/\r\nSet-Cookie: a=b", "/\n", "/\0", "/\t", "\ud800", b"/", None]
)
def test_a_location_that_is_no_url_raises(location: Any) -> None:
    with pytest.raises(InvalidResponse):
        Response.redirect(location)


@pytest.mark.parametrize("status", [200, 300, 304, 305, 400])
def test_a_redirect_has_a_status_of_one(status: int) -> None:
    assert Response.redirect("/", "308 There").reason == "There"
    with pytest.raises(InvalidResponse, match="no status of a redirect"):
        Response.redirect("/", status)


# Errors


def test_an_error_can_be_raised_and_sent() -> None:
    with pytest.raises(RoutesError) as raised:
        raise Response.error({"problem": "x"}, 422, {"X-A": "1"})
    error = raised.value
    assert isinstance(error, ErrorResponse)
    assert sent(error).body == b'{"problem": "x"}'
    assert sent(error).headers["X-A"] == "1"
    assert (error.status, error.close_code) == (422, 1008)
    assert str(error).startswith("422 Unprocessable ")
    assert str(error).endswith(": {'problem': 'x'}")
    restored = pickle.loads(pickle.dumps(error.with_traceback(None)))
    assert (restored.status, str(restored)) == (422, str(error))


def test_an_error_of_the_server_closes_with_1011() -> None:
    assert Response.error("x").status == 400
    assert Response.error("x", 503).close_code == 1011
    with pytest.raises(InvalidResponse, match="no status of an error"):
        Response.error("x", 302)


# Cookies


def test_each_cookie_has_a_line_of_its_own() -> None:
    response = Response()
    response.set_cookie("a", "1")
    response.delete_cookie("b", path="/x")
    response.delete_cookie("__Host-c")
    past = "Expires=Thu, 01 Jan 1970 00:00:00 GMT"
    assert response.headers.get_all("Set-Cookie") == [
        "a=1; Path=/",
        f"b=; {past}; Path=/x",
        f"__Host-c=; {past}; Path=/; Secure",
    ]
