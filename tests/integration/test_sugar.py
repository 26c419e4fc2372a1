"""What a connection tells of its request, and when it ends by itself."""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import socket
import time
import weakref
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from websockets import ConnectionClosed, Headers
from websockets.asyncio.client import unix_connect

from websockets_routes import OpCode, Protocol, RoutedPath, Router

from .servers import (
    HOST,
    WAYS_IN,
    WayIn,
    answer,
    connecting,
    exchange,
    port,
    receive,
    refusal,
    serving,
    status_line,
    until,
)

each_way = pytest.mark.parametrize("way", WAYS_IN.values(), ids=WAYS_IN.keys())
routed_ways = pytest.mark.parametrize(
    "way",
    [way for way in WAYS_IN.values() if way.routed],
    ids=[name for name, way in WAYS_IN.items() if way.routed],
)
HOUR = 3600.0


def errors_of(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [
        record.getMessage()
        for record in caplog.records
        if record.levelno >= logging.ERROR
    ]


def request(*headers: bytes, path: bytes = b"/") -> bytes:
    """Make a handshake request, with headers as they stand on the wire."""
    lines = [
        b"GET " + path + b" HTTP/1.1",
        b"Host: x",
        b"Upgrade: websocket",
        b"Connection: Upgrade",
        b"Sec-WebSocket-Version: 13",
        b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
        *headers,
    ]
    return b"".join(line + b"\r\n" for line in lines) + b"\r\n"


async def cookies_of(*headers: bytes) -> dict[str, str]:
    """Ask a server what the cookies of a request are."""
    router = Router()

    @router.before_handshake
    def tell(ws: Protocol, path: RoutedPath) -> Any:
        return (200, [], json.dumps(ws.cookies))

    @router.route("/")
    async def handler(ws: Protocol) -> None: ...

    server = router.serve(HOST, 0)
    async with serving(server):
        response = await exchange(port(server), request(*headers))
    assert status_line(response) == "HTTP/1.1 200 OK"
    found: dict[str, str] = json.loads(response.partition(b"\r\n\r\n")[2])
    return found


# Headers and cookies


@routed_ways
async def test_headers_are_those_of_the_request_in_hooks_and_handlers(
    way: WayIn,
) -> None:
    router = Router()
    seen: list[list[str]] = []

    @router.before_handshake
    def hook(ws: Protocol, path: RoutedPath) -> None:
        seen.append(ws.headers.get_all("x-TOKEN"))

    @router.route("/")
    async def handler(ws: Protocol) -> None:
        seen.append(ws.headers.get_all("X-Token"))
        await ws.send(str("X-Missing" in ws.headers))

    async with serving(way.serve(router)) as uri:
        headers = Headers([("X-Token", "a"), ("x-token", "b")])
        assert await receive(uri + "/", additional_headers=headers) == "False"
    assert seen == [["a", "b"], ["a", "b"]]


@pytest.mark.parametrize(
    ("headers", "cookies"),
    [
        ([], {}),
        ([b"Cookie:"], {}),
        ([b"Cookie: a=1"], {"a": "1"}),
        ([b"cOOKIE: a=1; b=2"], {"a": "1", "b": "2"}),
        ([b"Cookie: a=1;b=2;"], {"a": "1", "b": "2"}),
        ([b"Cookie: \ta = 1 ;\t b\t=\t2"], {"a": "1", "b": "2"}),
        ([b"Cookie: a=1; a=2"], {"a": "1"}),
        ([b"Cookie: a=; a=2"], {"a": ""}),
        ([b"Cookie: a=1; b=2", b"Cookie: b=3; c=4"], {"a": "1", "b": "2", "c": "4"}),
        ([b"Cookie: a=1; A=2"], {"a": "1", "A": "2"}),
        ([b"Cookie: a=b=c=="], {"a": "b=c=="}),
        ([b"Cookie: a=?b=c&d"], {"a": "?b=c&d"}),
        ([b'Cookie: a="b"; c=""'], {"a": "b", "c": ""}),
        ([b'Cookie: a="; b=c"; d="e'], {"a": '"', "b": 'c"', "d": '"e'}),
        ([b'Cookie: a="b;c=d"'], {"a": '"b', "c": 'd"'}),
        ([b"Cookie: a=%20b%3B"], {"a": "%20b%3B"}),
        ([b"Cookie: a=1, b=2"], {"a": "1, b=2"}),
        ([b"Cookie: =x; nothing; ; ;; a=1; ="], {"a": "1"}),
        (
            [b"Cookie: $Version=1; a=1; $Path=/"],
            {"$Version": "1", "a": "1", "$Path": "/"},
        ),
        (
            [b"Cookie: __Host-id=1; a[b]=2; c.d=3"],
            {"__Host-id": "1", "a[b]": "2", "c.d": "3"},
        ),
        ([b"Cookie: a=\\073; b=\\"], {"a": "\\073", "b": "\\"}),
        ([b"Cookie: expires=1; path=/; secure"], {"expires": "1", "path": "/"}),
        ([b"Set-Cookie: a=1", b"Cookie2: b=1"], {}),
    ],
    ids=lambda value: repr(value) if isinstance(value, list) else "",
)
async def test_cookies_are_read_as_user_agents_send_them(
    headers: list[bytes], cookies: dict[str, str]
) -> None:
    assert await cookies_of(*headers) == cookies


# RFC 6265 section 5.2 strips spaces and tabs; bytes of UTF-8 that are spaces in
# another encoding (A0, 85) belong to the value.
@pytest.mark.parametrize("text", ["é", "à", "Ņ", "naïve à", "àb"])
async def test_cookies_keep_all_bytes_of_text_that_is_not_ascii(text: str) -> None:
    cookies = await cookies_of(b"Cookie: a=" + text.encode() + b"; b=1")
    assert cookies["a"].encode("latin-1") == text.encode()
    assert cookies["b"] == "1"


async def test_cookies_are_the_same_in_the_handler() -> None:
    router = Router()

    @router.route("/")
    async def handler(ws: Protocol) -> None:
        await ws.send(json.dumps(ws.cookies))

    async with serving(router.serve(HOST, 0)) as uri:
        headers = {"Cookie": 'id="7"; theme=dark'}
        found = await receive(uri + "/", additional_headers=headers)
    assert json.loads(found) == {"id": "7", "theme": "dark"}


# Query parameters


@each_way
async def test_query_params_are_decoded_and_none_is_lost(way: WayIn) -> None:
    router = Router()
    seen: list[Any] = []

    @router.before_handshake
    def hook(ws: Any, path: RoutedPath) -> None:
        seen.append(path.query_params)

    @router.route("/x/{id}")
    async def handler(ws: Any, path: RoutedPath) -> None:
        query = path.query_params
        assert query is seen[0]
        await ws.send(json.dumps({name: query.get_all(name) for name in query}))

    query = "a=1&a=2&b=&c&%C3%A9=%E2%82%AC&d=x+y%2B&e=%zz&f=1=2?3&g=%ff&&=no&h=1;i=2"
    async with serving(way.serve(router)) as uri:
        found = json.loads(await receive(f"{uri}/x/7?{query}"))
        assert found == {
            "a": ["1", "2"],
            "b": [""],
            "c": [""],
            "é": ["€"],
            "d": ["x y+"],
            "e": ["%zz"],
            "f": ["1=2?3"],
            "g": ["\ufffd"],
            "": ["no"],
            "h": ["1;i=2"],
        }
    assert seen[0]["a"] == "1"
    assert "z" not in seen[0]


@pytest.mark.parametrize("path", ["/", "/?", "/?&&"])
async def test_without_a_query_there_are_no_query_params(path: str) -> None:
    router = Router()

    @router.route("/")
    async def handler(ws: Protocol, path: RoutedPath) -> None:
        assert path.query_params.get("a") is None
        assert path.query_params.get_all("a") == []
        await ws.send(str(len(path.query_params)))

    async with serving(router.serve(HOST, 0)) as uri:
        assert await receive(uri + path) == "0"


@each_way
async def test_an_unmatched_path_has_its_query_params_too(way: WayIn) -> None:
    router = Router()
    seen: list[str] = []

    @router.not_found
    def tell(ws: Any, path: RoutedPath) -> None:
        seen.append(path.query_params["a"])

    async with serving(way.serve(router)) as uri:
        assert await refusal(uri + "/?a=%41") == way.refusal(404, 4040)
    assert seen == ["A"]


async def test_the_absolute_form_has_its_query_params_too() -> None:
    router = Router()

    @router.before_handshake
    def tell(ws: Protocol, path: RoutedPath) -> Any:
        return (200, [], path.query_params["a"])

    @router.route("/x")
    async def handler(ws: Protocol) -> None: ...

    server = router.serve(HOST, 0)
    async with serving(server):
        given = request(path=b"http://x/x?a=b")
        response = await exchange(port(server), given)
    assert response.endswith(b"\r\n\r\nb")


# The address of the client


def addressed() -> tuple[Router, list[str | None]]:
    """Make a router that tells of the address in all phases of a connection."""
    router = Router()
    seen: list[str | None] = []

    @router.before_handshake
    def hook(ws: Protocol, path: RoutedPath) -> None:
        seen.append(ws.client_address)

    @router.route("/")
    class Handler:
        def on_open(self, ws: Protocol) -> None:
            seen.append(ws.client_address)

        def on_message(self, ws: Protocol, message: Any, opcode: Any) -> None:
            seen.append(ws.client_address)

        def on_close(self, ws: Protocol, code: int, reason: str) -> None:
            seen.append("closed")

    return router, seen


@routed_ways
async def test_the_address_of_a_client_is_its_ip_address(way: WayIn) -> None:
    router, seen = addressed()
    async with serving(way.serve(router)) as uri:
        async with connecting(uri + "/") as ws:
            await ws.send("x")
        await until(lambda: "closed" in seen)
    assert seen == [HOST, HOST, HOST, "closed"]


async def test_the_address_of_a_client_may_be_of_ipv6() -> None:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        pytest.skip("no IPv6 here")
    router, seen = addressed()
    server = router.serve("::1", 0)
    async with serving(server):
        async with connecting(f"ws://[::1]:{port(server)}/") as ws:
            await ws.send("x")
        await until(lambda: "closed" in seen)
    assert seen == ["::1", "::1", "::1", "closed"]


async def test_a_client_of_a_unix_socket_has_no_address(tmp_path: Path) -> None:
    router, seen = addressed()
    path = str(tmp_path / "socket")
    async with router.unix_serve(path):
        async with unix_connect(path, "ws://localhost/") as ws:
            await ws.send("x")
        await until(lambda: "closed" in seen)
    assert seen == [None, None, None, "closed"]


# A time to end


def in_a_moment() -> float:
    return time.time() + 0.02


TIMES: dict[str, Callable[[], Any]] = {
    "float": in_a_moment,
    "datetime": lambda: datetime.now(UTC) + timedelta(seconds=0.02),
    "datetime-elsewhere": lambda: (
        datetime.now(timezone(timedelta(hours=-11))) + timedelta(seconds=0.02)
    ),
    "int-past": lambda: int(time.time()) - 1,
    "float-past": lambda: time.time() - HOUR,
    "datetime-past": lambda: datetime.now(UTC) - timedelta(days=1),
    "epoch": lambda: 0,
    "before-the-epoch": lambda: -1.0,
}
PHASES = ["hook", "coroutine hook", "middleware", "handler", "event", "callback"]


def expiring(phase: str, expire: Callable[[Protocol], None]) -> Router:
    """Make a router whose connections are told their end in one of their phases."""
    router = Router()

    async def wait(ws: Protocol) -> None:
        if phase == "handler":
            expire(ws)
        await ws.wait_closed()

    if phase == "hook":

        @router.before_handshake
        def hook(ws: Protocol, path: RoutedPath) -> None:
            expire(ws)

    if phase == "coroutine hook":

        @router.before_handshake
        async def coroutine_hook(ws: Protocol, path: RoutedPath) -> None:
            expire(ws)

    if phase == "middleware":

        @router.middleware
        async def middleware(ws: Protocol, path: RoutedPath, call_next: Any) -> None:
            expire(ws)
            await call_next(ws, path)

    if phase == "event":

        @router.route("/")
        class Events:
            def on_open(self, ws: Protocol) -> None:
                expire(ws)

            def on_message(self, ws: Protocol, message: Any, opcode: Any) -> None: ...

    elif phase == "callback":

        @router.websocket("/")
        def callback(ws: Protocol, opcode: Any, payload: Any) -> None:
            if opcode is OpCode.OPEN:
                expire(ws)

    else:
        router.add_route("/", wait)
    return router


@pytest.mark.parametrize(
    ("phase", "when"),
    [
        *((phase, TIMES[time]) for phase in PHASES for time in ("float", "float-past")),
        *(("hook", when) for when in TIMES.values()),
    ],
    ids=[
        *(f"{phase}-{time}" for phase in PHASES for time in ("float", "float-past")),
        *TIMES,
    ],
)
async def test_a_connection_is_closed_when_its_time_is_over(
    phase: str, when: Callable[[], Any], caplog: pytest.LogCaptureFixture
) -> None:
    router = expiring(phase, lambda ws: ws.expire_at(when()))
    async with serving(router.serve(HOST, 0)) as uri:
        assert await answer(uri + "/") == (4001, "expired")
    assert errors_of(caplog) == []


@routed_ways
@pytest.mark.parametrize("phase", ["hook", "handler"])
async def test_the_client_sees_the_code_and_the_reason(way: WayIn, phase: str) -> None:
    router = expiring(phase, lambda ws: ws.expire_at(0, 4003, "the token ended"))
    async with serving(way.serve(router)) as uri:
        assert await answer(uri + "/") == (4003, "the token ended")


async def test_a_connection_is_not_closed_before_its_time() -> None:
    ends: list[float] = []

    def expire(ws: Protocol) -> None:
        ends.append(time.time() + 0.1)
        ws.expire_at(ends[0])

    async with serving(expiring("hook", expire).serve(HOST, 0)) as uri:
        assert await answer(uri + "/") == (4001, "expired")
    # Clocks differ by less than a hundredth of a second in so short a time.
    assert -0.01 < time.time() - ends[0] < 1


async def test_the_handshake_ends_before_the_connection_does() -> None:
    router = Router()
    opened: list[str] = []

    @router.before_handshake
    async def hook(ws: Protocol, path: RoutedPath) -> None:
        ws.expire_at(0)
        await asyncio.sleep(0.15)  # the time is over, the hook is not
        opened.append(ws.state.name)

    @router.route("/")
    async def handler(ws: Protocol) -> None:
        opened.append(ws.state.name)
        await ws.wait_closed()

    async with serving(router.serve(HOST, 0)) as uri:
        async with connecting(uri + "/") as ws:
            with pytest.raises(ConnectionClosed):
                await ws.recv()
        assert (ws.close_code, ws.close_reason) == (4001, "expired")
    assert opened == ["CONNECTING", "OPEN"]


async def test_a_refusal_is_whole_though_the_time_is_over(
    caplog: pytest.LogCaptureFixture,
) -> None:
    router = Router()

    @router.before_handshake
    async def hook(ws: Protocol, path: RoutedPath) -> Any:
        ws.expire_at(0)
        await asyncio.sleep(0.12)
        return (403, [], b"no")

    @router.route("/")
    async def handler(ws: Protocol) -> None: ...

    async with serving(router.serve(HOST, 0)) as uri:
        assert await answer(uri + "/") == (403, "no")
    assert errors_of(caplog) == []


@pytest.mark.parametrize("phase", ["hook", "handler"])
@pytest.mark.parametrize(
    "later", [None, HOUR, float("inf")], ids=["none", "later", "never"]
)
async def test_only_the_last_time_counts(phase: str, later: float | None) -> None:
    router = Router()

    def expire(ws: Protocol) -> None:
        ws.expire_at(in_a_moment())
        ws.expire_at(0)
        ws.expire_at(later if later is None else time.time() + later)

    @router.before_handshake
    def hook(ws: Protocol, path: RoutedPath) -> None:
        if phase == "hook":
            expire(ws)

    @router.route("/")
    async def handler(ws: Protocol) -> None:
        if phase == "handler":
            expire(ws)
        await asyncio.sleep(0.15)  # longer than the time that counts no more
        await ws.send("here")

    async with serving(router.serve(HOST, 0)) as uri:
        assert await receive(uri + "/") == "here"


async def test_the_last_code_and_reason_count() -> None:
    def expire(ws: Protocol) -> None:
        ws.expire_at(time.time() + HOUR, 4002, "late")
        ws.expire_at(None, 4008, "never")
        ws.expire_at(in_a_moment(), 4003, "soon")

    async with serving(expiring("handler", expire).serve(HOST, 0)) as uri:
        assert await answer(uri + "/") == (4003, "soon")


async def test_a_time_may_be_given_anew_after_the_handshake() -> None:
    router = Router()

    @router.before_handshake
    def hook(ws: Protocol, path: RoutedPath) -> None:
        ws.expire_at(time.time() + HOUR, 4002)

    @router.route("/")
    async def handler(ws: Protocol) -> None:
        async for token in ws:
            ws.expire_at(float(token), 4003, "")

    async with serving(router.serve(HOST, 0)) as uri, connecting(uri + "/") as ws:
        await ws.send("0")
        await ws.wait_closed()
        assert (ws.close_code, ws.close_reason) == (4003, "")


async def test_a_datetime_needs_a_time_zone_and_changes_nothing_without() -> None:
    def expire(ws: Protocol) -> None:
        ws.expire_at(in_a_moment(), 4003)
        with pytest.raises(ValueError, match="time zone"):
            ws.expire_at(datetime.now())

    async with serving(expiring("handler", expire).serve(HOST, 0)) as uri:
        assert await answer(uri + "/") == (4003, "expired")


@pytest.mark.parametrize("end", [datetime.max.replace(tzinfo=UTC), 1e18, 10**18])
async def test_a_time_may_be_far_away(end: Any) -> None:
    router = Router()

    @router.route("/")
    async def handler(ws: Protocol) -> None:
        ws.expire_at(end)
        await asyncio.sleep(0)
        await ws.send("here")
        await ws.send("still here")

    async with serving(router.serve(HOST, 0)) as uri, connecting(uri + "/") as ws:
        assert await ws.recv() == "here"
        assert await ws.recv() == "still here"


async def test_the_handler_hears_why_its_connection_ended() -> None:
    router = Router()
    told: list[Any] = []
    done = asyncio.Event()

    @router.route("/handler")
    async def handler(ws: Protocol) -> None:
        ws.expire_at(0)
        with pytest.raises(ConnectionClosed) as closed:
            await ws.recv()
        assert closed.value.sent is not None
        told.append((closed.value.sent.code, closed.value.sent.reason))
        done.set()

    @router.route("/events")
    class Events:
        async def on_open(self, ws: Protocol) -> None:
            ws.expire_at(0)

        def on_message(self, ws: Protocol, message: Any, opcode: Any) -> None: ...

        def on_close(self, ws: Protocol, code: int, reason: str) -> None:
            told.append((code, reason))
            done.set()

    async with serving(router.serve(HOST, 0)) as uri:
        for kind in ("handler", "events"):
            done.clear()
            assert await answer(f"{uri}/{kind}") == (4001, "expired")
            await done.wait()
    assert told == [(4001, "expired"), (4001, "expired")]


async def test_a_busy_handler_keeps_no_connection_open() -> None:
    router = Router()
    closed = asyncio.Event()

    @router.route("/")
    async def handler(ws: Protocol) -> None:
        ws.expire_at(in_a_moment())
        await closed.wait()

    async with serving(router.serve(HOST, 0)) as uri:
        assert await answer(uri + "/") == (4001, "expired")
        closed.set()


async def test_a_peer_that_does_not_answer_keeps_no_connection_open() -> None:
    router = Router()
    ended = asyncio.Event()

    @router.route("/")
    async def handler(ws: Protocol) -> None:
        ws.expire_at(0)
        await ws.wait_closed()
        ended.set()

    server = router.serve(HOST, 0, close_timeout=0.1)
    async with serving(server):
        _, writer = await asyncio.open_connection(HOST, port(server))
        writer.write(request())
        async with asyncio.timeout(2):
            await ended.wait()
        writer.transport.abort()


@pytest.mark.parametrize("code", [4001, 1008])
async def test_a_reason_too_long_for_a_frame_keeps_no_connection_open(
    code: int,
) -> None:
    refused: list[ValueError] = []

    def expire(ws: Protocol) -> None:
        try:
            ws.expire_at(0, code, "é" * 100)
        except ValueError as error:  # as good, and said in time
            refused.append(error)
            ws.expire_at(0, code, "é")

    async with serving(expiring("handler", expire).serve(HOST, 0)) as uri:
        async with connecting(uri + "/") as ws, asyncio.timeout(0.5):
            await ws.wait_closed()
        assert ws.close_code == code
        assert (ws.close_reason or "").startswith("é")


@pytest.mark.parametrize("code", [0, 1005, 5000])
async def test_a_code_that_no_frame_may_have_keeps_no_connection_open(
    code: int,
) -> None:
    refused: list[Exception] = []

    def expire(ws: Protocol) -> None:
        try:
            ws.expire_at(0, code)
        except Exception as error:
            refused.append(error)
            ws.expire_at(0)

    async with (
        serving(expiring("handler", expire).serve(HOST, 0)) as uri,
        connecting(uri + "/") as ws,
        asyncio.timeout(0.5),
    ):
        await ws.wait_closed()


# Nothing is left of it


@pytest.mark.parametrize("way", ["handler", "client", "abort", "refused", "server"])
@pytest.mark.parametrize("phase", ["hook", "handler", "after"])
async def test_no_timer_outlives_the_connection(
    way: str, phase: str, caplog: pytest.LogCaptureFixture
) -> None:
    router = Router()
    made: list[weakref.ref[Protocol]] = []
    opened = asyncio.Event()

    @router.before_handshake
    def hook(ws: Protocol, path: RoutedPath) -> Any:
        made.append(weakref.ref(ws))
        if phase == "hook":
            ws.expire_at(time.time() + HOUR)
        return (403, [], b"") if way == "refused" else None

    @router.route("/")
    async def handler(ws: Protocol) -> None:
        if phase == "handler":
            ws.expire_at(time.time() + HOUR)
        opened.set()
        if way != "handler":
            await ws.wait_closed()
        if phase == "after":
            ws.expire_at(time.time() + HOUR)

    async with serving(router.serve(HOST, 0)) as uri:
        if way == "refused":
            assert await refusal(uri + "/") == 403
        else:
            client = await connecting(uri + "/")
            await opened.wait()
            if way == "handler":
                await client.wait_closed()
                assert client.close_code == 1000
            elif way == "client":
                await client.close()
            elif way == "abort":
                client.transport.abort()
    await asyncio.sleep(0)
    gc.collect()
    assert [ref() for ref in made] == [None]
    assert errors_of(caplog) == []


async def test_a_client_that_leaves_in_the_handshake_leaves_no_timer() -> None:
    router = Router()
    made: list[weakref.ref[Protocol]] = []
    entered, leave = asyncio.Event(), asyncio.Event()

    @router.before_handshake
    async def hook(ws: Protocol, path: RoutedPath) -> None:
        made.append(weakref.ref(ws))
        ws.expire_at(0)
        entered.set()
        await leave.wait()
        ws.expire_at(0)

    @router.route("/")
    async def handler(ws: Protocol) -> None: ...

    server = router.serve(HOST, 0)
    async with serving(server):
        _, writer = await asyncio.open_connection(HOST, port(server))
        writer.write(request())
        await entered.wait()
        writer.transport.abort()
        leave.set()
    await asyncio.sleep(0)
    gc.collect()
    assert [ref() for ref in made] == [None]


async def test_a_time_that_is_over_when_the_handler_ends_is_no_error(
    caplog: pytest.LogCaptureFixture,
) -> None:
    router = Router()
    failures: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(
        lambda loop, context: failures.append(context)
    )

    async def linger() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0.1)  # to clean up takes longer than there is time

    @router.route("/")
    async def handler(ws: Protocol) -> None:
        ws.start_task(linger())
        await asyncio.sleep(0)
        ws.expire_at(in_a_moment())

    async with serving(router.serve(HOST, 0)) as uri:
        code = await refusal(uri + "/")
    assert failures == []
    assert code in {1000, 4001}
    assert errors_of(caplog) == []


async def test_a_time_that_is_over_while_the_connection_closes_changes_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    router = expiring("handler", lambda ws: ws.expire_at(in_a_moment()))
    server = router.serve(HOST, 0)
    async with serving(server):
        reader, writer = await asyncio.open_connection(HOST, port(server))
        writer.write(request())
        await reader.readuntil(b"\r\n\r\n")
        found = await reader.readexactly(2)
        assert found[0] == 0x88
        reason = await reader.readexactly(found[1])
        assert reason == (4001).to_bytes(2) + b"expired"
        writer.write(b"\x88\x80\0\0\0\0")
        assert await reader.read() == b""
        writer.close()
        await writer.wait_closed()
    assert errors_of(caplog) == []


async def test_a_time_that_is_no_number_is_refused() -> None:
    router = Router()

    @router.route("/")
    async def handler(ws: Any) -> None:
        with pytest.raises(ValueError, match="no number"):
            ws.expire_at(float("nan"))
        await ws.send("refused")

    async with serving(router.serve(HOST, 0)) as uri, connecting(uri + "/") as ws:
        assert await ws.recv() == "refused"
