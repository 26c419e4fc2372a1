"""Origins of routers: whose pages may open a connection (RFC 6455 section 10.2)."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from typing import Any

import pytest
from websockets.typing import Origin

from websockets_routes import (
    NextRoute,
    OpCode,
    Resource,
    RoutedPath,
    Router,
    websocket,
)
from websockets_routes.inputs import param

from .servers import (
    HOST,
    WAYS_IN,
    WayIn,
    answer,
    exchange,
    port,
    receive,
    refusal,
    serving,
    status_line,
)

each_way = pytest.mark.parametrize("way", WAYS_IN.values(), ids=WAYS_IN.keys())
few_ways = pytest.mark.parametrize(
    "way",
    [WAYS_IN[name] for name in ("serve", "process-request", "unbound")],
    ids=["serve", "process-request", "unbound"],
)
A, B, C = (f"https://{name}.com" for name in "abc")
ANY_SUBDOMAIN = re.compile(r"https://[a-z]+\.a\.com")


def errors_of(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [
        record.getMessage()
        for record in caplog.records
        if record.levelno >= logging.ERROR
    ]


async def hello(ws: Any) -> None:
    await ws.send("hello")


def given(origin: str | None) -> Origin | None:
    return None if origin is None else Origin(origin)


async def status_of(uri: str, way: WayIn, origin: str | None) -> str:
    """Connect from an origin; tell whether that is allowed."""
    try:
        found = await refusal(uri, origin=given(origin))
    except AssertionError as error:
        assert "hello" in str(error)  # noqa: PT017
        return "hello"
    assert found == way.refusal(403, 1008)
    return "refused"


def request(
    *headers: bytes, path: bytes = b"/x", host: bytes = b"x", method: bytes = b"GET"
) -> bytes:
    lines = [
        method + b" " + path + b" HTTP/1.1",
        b"Host: " + host,
        b"Upgrade: websocket",
        b"Connection: Upgrade",
        b"Sec-WebSocket-Version: 13",
        b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
        *headers,
    ]
    return b"".join(line + b"\r\n" for line in lines) + b"\r\n"


@few_ways
@pytest.mark.parametrize(
    ("origins", "allowed", "refused"),
    [
        ([A, B], [A, B], [C, None, "null", "https://A.com", A + "/", A + ":443"]),
        ([ANY_SUBDOMAIN], ["https://x.a.com"], [A, "https://x.a.com.b.com", None]),
        ([ANY_SUBDOMAIN, None, B], ["https://xy.a.com", None, B], [A, "null"]),
        ([None], [None], [A, "null", "None"]),
        (["null"], ["null"], [None, A]),
        ([re.compile(".*")], [A, "null", "anything"], [None]),
        ([], [], [A, None]),
        (None, [A, None, "null", "no origin at all"], []),
    ],
    ids=["str", "regex", "mixed", "none", "null", "any", "empty", "unset"],
)
async def test_an_origin_is_allowed_by_its_text_a_regex_or_its_absence(
    way: WayIn,
    origins: Sequence[Any] | None,
    allowed: list[str | None],
    refused: list[str | None],
) -> None:
    root = Router()
    root.mount("/m", Router(origins=origins)).add_route("/x", hello)
    async with serving(way.serve(root)) as uri:
        for origin in allowed:
            assert (origin, await status_of(uri + "/m/x", way, origin)) == (
                origin,
                "hello",
            )
        for origin in refused:
            assert (origin, await status_of(uri + "/m/x", way, origin)) == (
                origin,
                "refused",
            )


@each_way
async def test_each_mount_has_origins_of_its_own_within_those_around_it(
    way: WayIn,
) -> None:
    root = Router(origins=[A, B, C])
    middle = root.mount("/m", Router())
    inner = middle.mount("/i", Router(origins=[A, B]))
    innermost = inner.mount("/j/{id}", Router(origins=[re.compile("https://[bc].com")]))
    sibling = root.mount("/s", Router(origins=[C]))
    for router in (root, middle, inner, innermost, sibling):
        router.add_route("/x", hello)
    table = {
        "/x": [A, B, C],
        "/m/x": [A, B, C],
        "/m/i/x": [A, B],
        "/m/i/j/1/x": [B],
        "/s/x": [C],
    }
    async with serving(way.serve(root)) as uri:
        for path, allowed in table.items():
            for origin in (A, B, C, "https://d.com", None):
                expected = "hello" if origin in allowed else "refused"
                found = await status_of(uri + path, way, origin)
                assert (path, origin, found) == (path, origin, expected)


@few_ways
@pytest.mark.parametrize("kind", ["function", "class", "events", "callback", "group"])
async def test_origins_hold_for_every_kind_of_endpoint(way: WayIn, kind: str) -> None:
    root = Router()
    inner = root.mount("/m", Router(origins=[A]))
    reached: list[str] = []

    @inner.route("/function")
    async def function(ws: Any) -> None:
        reached.append("function")
        await ws.send("hello")

    @inner.route("/class")
    class Handler:
        def process_request(self, path: Any, headers: Any) -> None:
            reached.append("process_request")

        async def handle(self, ws: Any) -> None:
            await ws.send("hello")

    @inner.route("/events")
    class Events:
        def process_request(self, path: Any, headers: Any) -> None:
            reached.append("process_request")

        async def on_open(self, ws: Any) -> None:
            await ws.send("hello")

        def on_message(self, ws: Any, message: Any, opcode: Any) -> None: ...

    @inner.websocket("/callback")
    async def callback(ws: Any, opcode: OpCode, payload: Any) -> None:
        reached.append("callback")
        if opcode is OpCode.OPEN:
            await ws.send("hello")

    class Group(Resource):
        @websocket("/group")
        async def method(self, ws: Any, opcode: OpCode, payload: Any) -> None:
            await callback(ws, opcode, payload)

    inner.register(Group())
    async with serving(way.serve(root)) as uri:
        assert await status_of(f"{uri}/m/{kind}", way, B) == "refused"
        assert reached == []
        assert await status_of(f"{uri}/m/{kind}", way, A) == "hello"
        assert reached != []


@each_way
async def test_origins_come_before_every_hook_of_routers_and_endpoints(
    way: WayIn, caplog: pytest.LogCaptureFixture
) -> None:
    trace: list[str] = []
    root = Router(before_handshake=[lambda ws, path: trace.append("root")])
    middle = root.mount("/m", Router())
    middle.before_handshake(lambda ws, path: trace.append("middle"))
    inner = middle.mount("/i", Router(origins=[A]))
    inner.before_handshake(lambda ws, path: trace.append("inner"))
    root.on_error(lambda error, ws, path: trace.append(f"{error!r}"))

    @root.middleware
    async def around(ws: Any, path: Any, call_next: Any) -> None:
        trace.append("middleware")
        await call_next(ws, path)

    @inner.route("/x")
    @param("since", required=True)
    class Handler:
        def process_request(self, path: Any, headers: Any) -> None:
            trace.append("class")

        async def handle(self, ws: Any) -> None:
            await ws.send("hello")

    async with serving(way.serve(root)) as uri:
        assert await status_of(uri + "/m/i/x", way, B) == "refused"
        assert await status_of(uri + "/m/i/x?since=1", way, None) == "refused"
        assert trace == []
        assert await status_of(uri + "/m/i/x?since=1", way, A) == "hello"
    assert trace == ["root", "middle", "inner", "class", "middleware"]
    assert errors_of(caplog) == []


@few_ways
async def test_a_refusal_tells_of_the_origin(way: WayIn) -> None:
    root = Router(origins=[A])
    root.add_route("/x", hello)
    async with serving(way.serve(root)) as uri:
        code, text = await answer(uri + "/x", origin=Origin(B))
        assert code == way.refusal(403, 1008)
        if way.refuses:
            assert B in text
            assert A not in text  # it is nobody's business who is let in
            assert "origin" in (await answer(uri + "/x"))[1].lower()


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ([b"Origin: https://a.com", b"Origin: https://a.com"], 400),
        ([b"Origin: https://a.com", b"origin: https://b.com"], 400),
        ([b"Origin: https://b.com https://a.com"], 403),
        ([b"Origin: https://a.com, https://b.com"], 403),
        ([b"Origin:"], 403),
        ([b"Origin: \xff\xe9"], 403),
        ([b"Origin: " + b"https://" + b"a" * 7000], 403),
        ([b"Referer: https://a.com", b"Sec-WebSocket-Origin: https://a.com"], 403),
    ],
    ids=["twice", "two", "list", "commas", "empty", "bytes", "long", "others"],
)
@pytest.mark.parametrize("method", [b"GET", b"HEAD"])
async def test_an_odd_origin_is_refused_and_no_error(
    headers: list[bytes], status: int, method: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    root = Router()
    root.mount("/m", Router(origins=[A])).add_route("/x", hello)
    server = root.serve(HOST, 0)
    async with serving(server):
        sent = request(*headers, path=b"/m/x", method=method)
        response = await exchange(port(server), sent)
    found = int(status_line(response).split()[1])
    head, _, body = response.partition(b"\r\n\r\n")
    if method == b"HEAD":
        assert found in {status, 405}
        assert body == b""
    else:
        assert found == status
        assert f"\r\ncontent-length: {len(body)}".encode() in head.lower()
        body.decode()
    assert errors_of(caplog) == []


@few_ways
async def test_an_unmatched_path_is_told_to_any_origin(way: WayIn) -> None:
    root = Router(origins=[A])
    root.mount("/m", Router(origins=[A])).add_route("/x", hello)
    async with serving(way.serve(root)) as uri:
        found = await refusal(uri + "/m/y", origin=Origin(B))
        assert found == way.refusal(404, 4040)


async def test_origins_of_the_server_hold_for_all_routers() -> None:
    root = Router()
    root.mount("/m", Router(origins=[A, B])).add_route("/x", hello)
    root.add_route("/x", hello)
    async with serving(root.serve(HOST, 0, origins=[Origin(B), Origin(C)])) as uri:
        for path, origin, expected in (
            ("/m/x", A, 403),
            ("/m/x", C, 403),
            ("/x", A, 403),
        ):
            assert await refusal(uri + path, origin=Origin(origin)) == expected
        assert await receive(uri + "/m/x", origin=Origin(B)) == "hello"
        assert await receive(uri + "/x", origin=Origin(C)) == "hello"


@few_ways
@pytest.mark.parametrize("where", ["router hook", "endpoint hook"])
async def test_a_route_that_passes_on_passes_on_to_the_origins_of_the_next(
    way: WayIn, where: str
) -> None:
    root = Router()
    first = root.mount("", Router())
    strict = root.mount("/m", Router(origins=[A]))

    class Passing:
        def process_request(self, path: RoutedPath, headers: Any) -> None:
            if where == "endpoint hook":
                raise NextRoute

        async def handle(self, ws: Any) -> None: ...

    if where == "router hook":

        @first.before_handshake
        def hook(ws: Any, path: Any) -> None:
            raise NextRoute

    first.add_route("/m/x", Passing)
    strict.add_route("/{any}", hello)
    async with serving(way.serve(root)) as uri:
        assert await status_of(uri + "/m/x", way, B) == "refused"
        assert await status_of(uri + "/m/x", way, None) == "refused"
        assert await status_of(uri + "/m/x", way, A) == "hello"


@few_ways
async def test_a_wrong_origin_is_refused_and_passes_on_to_no_other_route(
    way: WayIn,
) -> None:
    root = Router()
    root.mount("/m", Router(origins=[A])).add_route("/x", hello)
    root.add_route("/m/{any}", hello)
    async with serving(way.serve(root)) as uri:
        assert await status_of(uri + "/m/x", way, B) == "refused"
        assert await status_of(uri + "/m/y", way, B) == "hello"


@pytest.mark.parametrize("origin", [A, B])
async def test_a_host_may_have_origins_of_its_own(origin: str) -> None:
    root = Router()
    root.host("{tenant}.example.com", origins=[A]).add_route("/x", hello)
    root.add_route("/x", hello)
    server = root.serve(HOST, 0)
    async with serving(server) as uri:
        assert await receive(uri + "/x", origin=Origin(origin)) == "hello"
        sent = request(b"Origin: " + origin.encode(), host=b"ada.example.com")
        if origin == B:
            response = await exchange(port(server), sent)
            assert status_line(response) == "HTTP/1.1 403 Forbidden"


@few_ways
async def test_a_router_with_a_prefix_has_origins_like_a_mounted_one(
    way: WayIn,
) -> None:
    root = Router(prefix="/api", origins=[A, None])
    root.add_route("/x", hello)
    root.mount("/late", Router(prefix="/v1", origins=[A])).add_route("/x", hello)
    async with serving(way.serve(root)) as uri:
        assert await status_of(uri + "/api/x", way, None) == "hello"
        assert await status_of(uri + "/api/late/v1/x", way, None) == "refused"
        assert await status_of(uri + "/api/late/v1/x", way, A) == "hello"
