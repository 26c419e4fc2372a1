"""Responses: what a handler may return, and what of it goes on the wire."""

from __future__ import annotations

import gzip
import pickle
import random
import re
import zlib
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta, timezone
from http import HTTPStatus
from types import MappingProxyType
from typing import Any

import pytest
from websockets import Headers
from websockets import Response as HandshakeResponse

from websockets_routes.exceptions import InvalidResponse, RoutesError
from websockets_routes.http import File
from websockets_routes.http.response import (
    Encoded,
    ErrorResponse,
    Event,
    Response,
    encoded,
)
from websockets_routes.serializer import Serializer

JSON = Serializer()


def sent(response: Response, accept: str | None = None, head: bool = False) -> Encoded:
    return encoded(response, JSON, accept, head=head)


async def streamed(response: Response, accept: str | None = None) -> list[bytes]:
    stream = sent(response, accept).stream
    assert stream is not None
    try:
        return [piece async for piece in stream]
    finally:
        await stream.aclose()


async def each(*items: Any) -> AsyncIterator[Any]:
    for item in items:
        yield item


# Status


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


def test_the_framing_is_not_the_handlers() -> None:
    with pytest.raises(InvalidResponse, match="Transfer-Encoding"):
        sent(Response("x", headers={"transfer-encoding": "chunked"}))
    message = sent(Response("four", headers={"Content-Length": "100"}))
    assert message.headers.get_all("Content-Length") == ["4"]


# Payloads


@pytest.mark.parametrize(
    ("payload", "body", "kind"),
    [
        ("é", "é".encode(), "text/plain; charset=utf-8"),
        ("", b"", "text/plain; charset=utf-8"),
        (b"\xff", b"\xff", "application/octet-stream"),
        (bytearray(b"a"), b"a", "application/octet-stream"),
        (memoryview(b"a"), b"a", "application/octet-stream"),
        ({"a": [1]}, b'{"a": [1]}', "application/json"),
        ([1, None], b"[1, null]", "application/json"),
        (True, b"true", "application/json"),
        (0, b"0", "application/json"),
    ],
)
def test_a_payload_has_a_type_and_a_length(
    payload: Any, body: bytes, kind: str
) -> None:
    response = Response(payload)
    message = sent(response)
    assert message.body == body
    assert message.stream is None
    assert message.headers["Content-Type"] == kind
    assert message.headers["Content-Length"] == str(len(body))
    assert "Content-Length" not in response.headers
    head = sent(response, head=True)
    assert (head.body, head.headers) == (b"", message.headers)
    other = Response(payload, content_type="text/x", headers={"content-type": "a/b"})
    assert other.headers.get_all("Content-Type") == ["text/x"]
    assert Response(payload, headers={"content-type": "a/b"}).headers == Headers(
        {"Content-Type": "a/b"}
    )


def test_no_payload_is_an_empty_body() -> None:
    message = sent(Response(close=True))
    assert message.close
    assert message.headers == Headers({"Content-Length": "0"})
    told = Response(None, headers={"Content-Length": "7"})
    assert sent(told).headers["Content-Length"] == "0"
    assert sent(told, head=True).headers["Content-Length"] == "7"
    for status in (204, 304):
        told.status = status
        assert "Content-Length" not in sent(told).headers


@pytest.mark.parametrize("status", [204, 205, 304])
@pytest.mark.parametrize("payload", ["", {}, each("x")], ids=["str", "dict", "stream"])
def test_a_status_without_a_body_takes_no_payload(status: int, payload: Any) -> None:
    with pytest.raises(InvalidResponse, match="has no body"):
        sent(Response(payload, status))


@pytest.mark.parametrize("payload", [{1, 2}, object(), "\ud800"])
def test_what_cannot_be_sent_raises(payload: Any) -> None:
    with pytest.raises(InvalidResponse):
        sent(Response(payload))


def test_json_of_the_users_own_module_may_be_bytes() -> None:
    import orjson

    message = encoded(Response({"a": 1}), Serializer(orjson))
    assert message.body == b'{"a":1}'


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


# Streams


async def test_a_stream_has_text_bytes_and_lines_of_json() -> None:
    response = Response(each("é", b"\xff", "", {"a": 1}, [2], None, memoryview(b"x")))
    message = sent(response)
    assert message.body == b""
    assert message.headers == Headers({"Content-Type": "application/octet-stream"})
    assert await streamed(response) == [
        "é".encode(),
        b"\xff",
        b'{"a": 1}\n',
        b"[2]\n",
        b"null\n",
        b"x",
    ]


async def test_a_stream_that_is_closed_ends_its_source() -> None:
    ended = []

    async def source() -> AsyncIterator[str]:
        try:
            yield "a"
            yield "b"
        finally:
            ended.append(True)

    stream = sent(Response(source())).stream
    assert stream is not None
    assert await anext(stream) == b"a"
    await stream.aclose()
    assert ended == [True]
    assert [piece async for piece in stream] == []


async def test_a_source_need_not_be_a_generator() -> None:
    class Countdown:
        left = 2

        def __aiter__(self) -> Countdown:
            return self

        async def __anext__(self) -> str:
            self.left -= 1
            if self.left < 0:
                raise StopAsyncIteration
            return str(self.left)

    assert await streamed(Response(Countdown())) == [b"1", b"0"]


async def test_a_head_reads_nothing_of_a_stream() -> None:
    source = each("a")
    stream = sent(Response(source), head=True).stream
    assert stream is not None
    assert [piece async for piece in stream] == []
    await stream.aclose()


async def test_a_stream_is_gzipped_piece_by_piece() -> None:
    response = Response(each("a", "", "b"), compress=True, headers={"ETag": '"x"'})
    message = sent(response, "gzip")
    assert message.headers["Content-Encoding"] == "gzip"
    assert message.headers["ETag"] == 'W/"x"'
    assert message.stream is not None
    unzip = zlib.decompressobj(wbits=31)
    assert unzip.decompress(await anext(message.stream)) == b"a"
    assert unzip.decompress(await anext(message.stream)) == b"b"
    rest = [piece async for piece in message.stream]
    assert unzip.decompress(b"".join(rest)) == b""
    assert unzip.eof


# Server-sent events


async def test_events_are_streamed() -> None:
    response = Response.events(
        each(
            "one\ntwo\r\nthree\rfour\u2028",
            {"a": 1},
            b"raw",
            Event("x", event="news", id="7", retry=0),
            Event([], id=""),
            "",
        )
    )
    assert response.headers["Content-Type"] == "text/event-stream"
    assert response.headers["Cache-Control"] == "no-store"
    assert await streamed(response) == [
        "data: one\ndata: two\ndata: three\ndata: four\u2028\n\n".encode(),
        b'data: {"a": 1}\n\n',
        b"data: raw\n\n",
        b"event: news\nid: 7\nretry: 0\ndata: x\n\n",
        b"id: \ndata: []\n\n",
        b"data: \n\n",
    ]


def test_a_handler_may_have_its_events_cached() -> None:
    response = Response.events(each(), {"cache-control": "no-cache"})
    assert response.headers.get_all("Cache-Control") == ["no-cache"]


@pytest.mark.parametrize("item", [b"\xff", "\ud800", Event("x", id="\udc80"), {1}])
async def test_an_event_that_cannot_be_sent_raises(item: Any) -> None:
    with pytest.raises(InvalidResponse):
        await streamed(Response.events(each(item)))


@pytest.mark.parametrize(
    "fields",
    [
        {"event": "a\nb"},
        {"event": "a\r"},
        {"id": "a\n\ndata: b"},
        {"id": "a\0"},
        {"id": 7},
        {"retry": -1},
        {"retry": True},
        {"retry": 1.5},
    ],
)
def test_an_event_that_cannot_be_raises(fields: dict[str, Any]) -> None:
    with pytest.raises(InvalidResponse):
        Event("x", **fields)


# Compression


LONG = "all work and no play " * 100


@pytest.mark.parametrize(
    ("accept", "gzipped"),
    [
        (None, False),
        ("", False),
        ("gzip", True),
        ("GZip", True),
        ("x-gzip", True),
        ("br, gzip;q=0.5", True),
        ("gzip ; q=0.001", True),
        ("gzip;q=1.000", True),
        ("gzip;q=0", False),
        ("gzip;q=0.000", False),
        ("gzip;q=2", False),
        ("gzip;q=x", False),
        ("gzip;level=1", False),
        ("*", True),
        ("*;q=0", False),
        ("*;q=0, gzip", True),
        ("*, gzip;q=0", False),
        ("br", False),
        ("identity, gzip;q=0.5", False),
        ("identity;q=0.5, gzip", True),
        ("gzip, gzip;q=0", True),
        (",, ,gzip,", True),
        ("gzip" * 20000, False),
    ],
    ids=str,
)
def test_a_body_is_gzipped_if_the_client_accepts_it(
    accept: str | None, gzipped: bool
) -> None:
    response = Response(LONG, headers={"ETag": '"x"'}, compress=True)
    message = sent(response, accept)
    assert message.headers["Vary"] == "Accept-Encoding"
    assert message.headers["Content-Length"] == str(len(message.body))
    if gzipped:
        assert gzip.decompress(message.body).decode() == LONG
        assert message.headers["Content-Encoding"] == "gzip"
        assert message.headers["ETag"] == 'W/"x"'
    else:
        assert message.body.decode() == LONG
        assert "Content-Encoding" not in message.headers
        assert message.headers["ETag"] == '"x"'
    head = sent(response, accept, head=True)
    assert (head.body, head.headers) == (b"", message.headers)


def test_a_body_is_gzipped_only_where_asked_for() -> None:
    assert "Vary" not in sent(Response(LONG), "gzip").headers


@pytest.mark.parametrize(
    "response",
    [
        Response("x" * 499, compress=True),
        Response(random.Random(0).randbytes(600), compress=True),
        Response(LONG, content_type="image/png", compress=True),
        Response(LONG, content_type="Application/ZIP", compress=True),
        Response(LONG, content_type="application/epub+zip", compress=True),
        Response(LONG, headers={"Content-Encoding": "br"}, compress=True),
        Response(None, compress=True),
    ],
)
def test_what_is_not_worth_it_is_not_gzipped(response: Response) -> None:
    message = sent(response, "gzip")
    assert message.headers.get("Content-Encoding") != "gzip"
    assert message.headers["Vary"] == "Accept-Encoding"


@pytest.mark.parametrize(
    "kind", ["text/html", "image/svg+xml", "application/json", "application/zipper"]
)
def test_what_is_text_is_gzipped(kind: str) -> None:
    message = sent(Response(LONG, content_type=kind, compress=True), "gzip")
    assert message.headers["Content-Encoding"] == "gzip"


@pytest.mark.parametrize(
    ("vary", "expected"),
    [
        (["Origin"], ["Origin, Accept-Encoding"]),
        (["Origin", "Cookie"], ["Origin, Cookie, Accept-Encoding"]),
        (["*"], ["*"]),
        (["Origin, accept-encoding"], ["Origin, accept-encoding"]),
    ],
)
def test_vary_keeps_what_it_says(vary: list[str], expected: list[str]) -> None:
    response = Response("x", headers={"Vary": vary}, compress=True)
    assert sent(response).headers.get_all("Vary") == expected


def test_an_etag_that_is_weak_or_missing_stays_so() -> None:
    weak = Response(LONG, headers={"ETag": 'W/"x"'}, compress=True)
    assert sent(weak, "gzip").headers["ETag"] == 'W/"x"'
    assert "ETag" not in sent(Response(LONG, compress=True), "gzip").headers
    same = Response(None, 304, {"ETag": '"x"'}, compress=True)
    assert sent(same).headers["ETag"] == 'W/"x"'


# Cookies


def cookie(name: str = "a", value: str = "b", **attributes: Any) -> str:
    response = Response()
    response.set_cookie(name, value, **attributes)
    return response.headers["Set-Cookie"]


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
