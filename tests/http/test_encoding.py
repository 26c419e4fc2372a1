"""Encoding: what of a response goes on the wire, gzipped where it is wanted."""

from __future__ import annotations

import gzip
import random
import zlib
from collections.abc import AsyncIterator
from typing import Any

import pytest
from websockets import Headers

from websockets_routes.exceptions import InvalidResponse
from websockets_routes.http.encoding import encoded
from websockets_routes.http.response import Response
from websockets_routes.serializer import Serializer

from .responses import each, sent, streamed


def test_the_framing_is_not_the_handlers() -> None:
    with pytest.raises(InvalidResponse, match="Transfer-Encoding"):
        sent(Response("x", headers={"transfer-encoding": "chunked"}))
    message = sent(Response("four", headers={"Content-Length": "100"}))
    assert message.headers.get_all("Content-Length") == ["4"]


@pytest.mark.parametrize("lengths", [["1", "2"], ["x"], [""], ["-1"], ["1, 1"]])
def test_a_length_of_a_stream_is_one_number(lengths: list[str]) -> None:
    response = Response(each(), headers={"Content-Length": lengths})
    with pytest.raises(InvalidResponse, match="one number"):
        sent(response)
    with pytest.raises(InvalidResponse, match="one number"):
        sent(Response(None, headers={"Content-Length": lengths}), head=True)
    # What is known is told as it is.
    told = Response("four", headers={"Content-Length": lengths})
    assert sent(told).headers.get_all("Content-Length") == ["4"]


def test_a_stream_may_have_a_length() -> None:
    response = Response(each(), headers={"Content-Length": "7"}, compress=True)
    assert sent(response).headers["Content-Length"] == "7"
    assert "Content-Length" not in sent(response, "gzip").headers


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
