"""Request: its head, its body, and what is known of who sent it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Coroutine
from typing import Any

import pytest
from websockets import Headers

from websockets_routes import (
    BodyTooLarge,
    ClientDisconnected,
    InvalidJSON,
    NotServing,
    Router,
)
from websockets_routes.http import Request, Response
from websockets_routes.proxying import Proxies
from websockets_routes.testing import dispatch


class Pieces:
    """A body that comes in pieces, and may end in an error."""

    def __init__(self, *pieces: bytes, error: Exception | None = None) -> None:
        self._pieces = list(pieces)
        self._error = error
        self.reads = 0

    async def read(self) -> bytes:
        self.reads += 1
        await asyncio.sleep(0)
        if self._pieces:
            return self._pieces.pop(0)
        if self._error is not None:
            raise self._error
        return b""


class Somebody:
    """Who sent a request."""

    scheme = "https"
    announced_address: str | None = None
    proxies: Proxies | None = None

    def __init__(self, remote_address: Any = ("192.0.2.1", 1)) -> None:
        self.remote_address = remote_address
        self.disconnected = asyncio.Event()
        self.started: list[asyncio.Task[Any]] = []

    def start_task(self, coroutine: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        self.started.append(asyncio.get_running_loop().create_task(coroutine))
        return self.started[-1]


# The head


def test_a_request_has_what_it_was_made_of() -> None:
    headers = {"Host": "a.example:8080", "Cookie": "x=1; x=2", "Content-Length": "3"}
    request = Request("PUT", "/a%20b?c=d&c=e", headers, b"abc", protocol="HTTP/1.0")
    assert request.method == "PUT"
    assert request.path == "/a%20b?c=d&c=e"
    assert request.path.path == "/a b"
    assert request.query_params.get_all("c") == ["d", "e"]
    assert request.headers["cookie"] == "x=1; x=2"
    assert request.cookies == {"x": "1"}
    assert request.content_length == 3
    assert request.host == "a.example:8080"
    assert request.url == "http://a.example:8080/a%20b?c=d&c=e"
    assert request.protocol == "HTTP/1.0"
    assert repr(request) == "<Request PUT /a%20b?c=d&c=e>"
    assert request.max_content_length is None
    assert request.router is None
    assert request.response is Response


def test_a_request_made_of_little_has_defaults() -> None:
    request = Request("GET", "/")
    assert request.headers == Headers()
    assert request.protocol == "HTTP/1.1"
    assert request.cookies == {}
    assert request.content_length is None
    assert request.host == ""
    assert request.scheme == "http"
    assert request.remote_address is None
    assert request.proxied_address is None
    assert request.client_address is None
    assert not request.disconnected
    assert request.context == {}


def test_headers_are_taken_as_they_are() -> None:
    headers = Headers([("A", "1"), ("A", "2")])
    assert Request("GET", "/", headers).headers is headers
    assert Request("GET", "/", [("A", "1"), ("A", "2")]).headers == headers


@pytest.mark.parametrize("length", ["", "-1", "1.0", "0x1", "²", "1 2", "one"])
def test_a_content_length_that_is_no_number_is_none(length: str) -> None:
    assert Request("POST", "/", {"Content-Length": length}).content_length is None


def test_of_an_absolute_target_the_host_counts() -> None:
    # RFC 9112 section 3.2.2: the Host header must be ignored.
    request = Request("GET", "http://a.example/x?y", {"Host": "b.example"})
    assert request.url == "http://a.example/x?y"
    assert request.path.path == "/x"
    assert request.host == "a.example"


@pytest.mark.parametrize(
    ("remote", "proxied", "expected"),
    [
        (("192.0.2.1", 1), None, "192.0.2.1"),
        (("2001:db8::1", 1, 0, 0), None, "2001:db8::1"),
        (("192.0.2.1", 1), "198.51.100.7", "198.51.100.7"),
        ("", None, None),
        (None, None, None),
    ],
)
async def test_the_address_of_the_client_is_the_proxied_one_if_there_is_one(
    remote: Any, proxied: str | None, expected: str | None
) -> None:
    peer = Somebody(remote)
    peer.announced_address = proxied
    peer.proxies = Proxies(True, ["192.0.2.1"], None)
    request = Request("GET", "/", {"Host": "a"}, peer=peer)
    assert request.remote_address == remote
    assert request.proxied_address == proxied
    assert request.client_address == expected
    assert request.scheme == "https"
    assert request.url == "https://a/"


# The body


def one(*pieces: bytes, limit: int | None = None, **options: Any) -> Request:
    request = Request("POST", "/", None, Pieces(*pieces, **options))
    request.max_content_length = limit
    return request


async def collected(stream: AsyncIterator[bytes]) -> list[bytes]:
    return [piece async for piece in stream]


async def test_a_body_is_the_same_however_often_it_is_asked_for() -> None:
    body = Pieces(b"[1,", b" 2]")
    request = Request("POST", "/", None, body)
    assert await request.body() == b"[1, 2]"
    reads = body.reads
    assert await request.body() == b"[1, 2]"
    assert await request.text() == "[1, 2]"
    assert await request.json() == [1, 2]
    assert await collected(request.stream()) == [b"[1, 2]"]
    assert body.reads == reads


async def test_no_body_is_empty() -> None:
    request = Request("GET", "/")
    assert await request.body() == b""
    assert await request.text() == ""
    assert await collected(request.stream()) == []
    with pytest.raises(InvalidJSON):
        await request.json()


async def test_a_stream_gives_the_pieces_as_they_come() -> None:
    assert await collected(one(b"a", b"bc").stream()) == [b"a", b"bc"]
    assert await collected(Request("POST", "/", None, b"abc").stream()) == [b"abc"]


async def test_what_a_stream_has_taken_is_not_told_to_be_the_whole_body() -> None:
    request = one(b"a", b"b")
    assert await collected(request.stream()) == [b"a", b"b"]
    try:
        body = await request.body()
    except Exception:
        return
    assert body == b"ab"


async def test_text_that_is_no_utf_8_is_replaced() -> None:
    assert await one(b"\xc3\xa9", b"\xff").text() == "é\ufffd"


@pytest.mark.parametrize("limit", [3, None])
async def test_a_body_may_be_as_long_as_its_limit(limit: int | None) -> None:
    assert await one(b"ab", b"c", limit=limit).body() == b"abc"


@pytest.mark.parametrize("pieces", [[b"abcd"], [b"ab", b"cd"], [b"abcd", b"e"]])
async def test_a_body_over_its_limit_is_never_given(pieces: list[bytes]) -> None:
    request = one(*pieces, limit=3)
    with pytest.raises(BodyTooLarge, match="3 bytes"):
        await request.body()
    with pytest.raises(BodyTooLarge):
        await request.body()


async def test_a_stream_over_its_limit_gives_what_was_below_it() -> None:
    stream = one(b"abc", b"d", b"e", limit=3).stream()
    assert await anext(stream) == b"abc"
    with pytest.raises(BodyTooLarge):
        await anext(stream)


async def test_a_body_that_ends_too_early_is_none() -> None:
    request = one(b"abc", error=ClientDisconnected("away"))
    with pytest.raises(ClientDisconnected):
        await request.body()
    with pytest.raises(ClientDisconnected):
        await request.body()


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"\xff", "é".encode("utf-16"), b"[" * 100_000],
    ids=["empty", "broken", "no-utf-8", "utf-16", "deep"],
)
async def test_what_is_no_json_is_an_error(body: bytes) -> None:
    with pytest.raises(InvalidJSON):
        await Request("POST", "/", None, body).json()


async def test_json_is_read_by_the_module_of_the_router() -> None:
    class Upper:
        dumps = staticmethod(json.dumps)

        @staticmethod
        def loads(text: str) -> Any:
            return text.upper()

    router = Router(json=Upper)

    @router.post("/")
    async def handler(request: Request) -> Any:
        assert request.router is router
        return await request.json()

    assert (await dispatch(router, Request("POST", "/", None, b"abc"))).text == "ABC"


# The peer


async def test_who_goes_away_is_gone() -> None:
    peer = Somebody()
    request = Request("GET", "/", peer=peer)
    assert not request.disconnected
    waiting = asyncio.create_task(request.wait_disconnected())
    await asyncio.sleep(0)
    assert not waiting.done()
    peer.disconnected.set()
    await waiting
    assert request.disconnected


async def test_a_request_of_nobody_is_never_left() -> None:
    waiting = asyncio.create_task(Request("GET", "/").wait_disconnected())
    await asyncio.sleep(0)
    assert not waiting.done()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting


async def test_a_handler_is_cancelled_when_its_client_leaves_if_it_asks_for_it() -> (
    None
):
    peer = Somebody()
    waits = asyncio.Event()

    async def handler() -> None:
        Request("GET", "/", peer=peer).cancel_on_disconnect()
        waits.set()
        await asyncio.Event().wait()

    task = asyncio.create_task(handler())
    await waits.wait()
    peer.disconnected.set()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_handler_that_has_ended_leaves_nothing_waiting() -> None:
    before = asyncio.all_tasks()

    async def handler() -> str:
        Request("GET", "/", peer=Somebody()).cancel_on_disconnect()
        await asyncio.sleep(0)
        return "done"

    assert await asyncio.create_task(handler()) == "done"
    left = asyncio.all_tasks() - before
    if left:
        await asyncio.wait(left, timeout=5)
    assert asyncio.all_tasks() == before


async def test_tasks_are_those_of_the_server() -> None:
    peer = Somebody()

    async def work() -> str:
        return "done"

    task = Request("GET", "/", peer=peer).start_task(work())
    assert peer.started == [task]
    assert await task == "done"


async def test_without_a_server_there_are_no_tasks() -> None:
    async def work() -> None:
        raise NotImplementedError

    coroutine = work()
    with pytest.raises(NotServing):
        Request("GET", "/").start_task(coroutine)
    with pytest.raises(RuntimeError, match="cannot reuse"):
        coroutine.send(None)
