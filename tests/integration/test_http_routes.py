"""HTTP routes over loopback: what a client of the real server meets."""

from __future__ import annotations

import asyncio
import logging
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from websockets_routes import Router
from websockets_routes.http import Request, Response
from websockets_routes.testing import Client, client, dispatch

from .servers import HOST, exchange, status_line

PAGE = bytes(range(256)) * 1024


def asked(
    method: str, target: str, *headers: str, body: bytes = b"", close: bool = True
) -> bytes:
    lines = [f"{method} {target} HTTP/1.1", "Host: localhost", *headers]
    if close:
        lines.append("Connection: close")
    if body:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode() + body


def parsed(response: bytes) -> tuple[int, dict[str, str], bytes]:
    head, _, body = response.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    pairs = (line.split(": ", 1) for line in lines)
    headers = {name.lower(): value for name, value in pairs}
    return int(first.split()[1]), headers, body


async def get(
    c: Client, target: str, *headers: str, method: str = "GET", body: bytes = b""
) -> tuple[int, dict[str, str], bytes]:
    async with asyncio.timeout(10):
        request = asked(method, target, *headers, body=body)
        return parsed(await exchange(c.port, request))


def dechunked(body: bytes) -> bytes:
    found = b""
    while True:
        size, _, body = body.partition(b"\r\n")
        length = int(size, 16)
        if not length:
            assert body == b"\r\n"
            return found
        found += body[:length]
        assert body[length : length + 2] == b"\r\n"
        body = body[length + 2 :]


@pytest.fixture
def router() -> Router:
    router = Router()

    @router.route("/{name}")
    async def socket(ws: Any) -> None:
        await ws.send(ws.params["name"])

    @router.get("/{name}")
    async def page(request: Request) -> Any:
        return {"name": request.params["name"], "client": request.client_address}

    @router.post("/echo", max_content_length=2**20)
    async def echo(request: Request) -> bytes:
        return await request.body()

    return router


async def test_one_port_answers_requests_and_takes_connections(router: Router) -> None:
    async with client(router) as c:
        ws = await c.connect("/x")
        assert await ws.recv() == "x"
        status, headers, body = await get(c, "/x")
        assert (status, body) == (200, b'{"name": "x", "client": "127.0.0.1"}')
        assert headers["content-length"] == str(len(body))
        assert headers["content-type"] == "application/json"
        assert "date" in headers
        status, headers, body = await get(c, "/x", method="HEAD")
        assert (status, body, headers["content-length"]) == (200, b"", "36")
        status, headers, _ = await get(c, "/x", method="PUT")
        assert (status, headers["allow"]) == (405, "GET, HEAD, OPTIONS")
        status, headers, body = await get(c, "/x", method="OPTIONS")
        assert (status, body) == (204, b"")
        assert "content-length" not in headers  # RFC 9110 section 8.6
        assert (await get(c, "/no/thing"))[0] == 404
        status, _, body = await get(c, "/echo", method="POST", body=PAGE)
        assert (status, body) == (200, PAGE)


async def test_what_takes_only_connections_requires_an_upgrade() -> None:
    router = Router()
    router.get("/page")(lambda request: "page")

    @router.route("/ws")
    async def socket(ws: Any) -> None: ...

    async with client(router) as c:
        status, headers, _ = await get(c, "/ws")
        assert (status, headers["upgrade"]) == (426, "websocket")
        assert (await c.refusal("/page")).status == 404


@pytest.mark.parametrize(
    "target", ["/%", "/%ff", "/a/../b", "/a#b", "*", "http://", "localhost:80"]
)
@pytest.mark.parametrize("method", ["GET", "CONNECT"])
async def test_bad_targets_are_refused_without_noise(
    router: Router, target: str, method: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with client(router) as c:
        assert (await get(c, target, method=method))[0] == 400
    assert not [each for each in caplog.records if each.levelno >= logging.ERROR]


async def test_repeated_origins_are_refused_without_noise(
    caplog: pytest.LogCaptureFixture,
) -> None:
    router = Router(origins=["https://a.example"])
    router.get("/")(lambda request: "it")
    origin = "Origin: https://a.example"
    async with client(router) as c:
        assert (await get(c, "/", origin))[0] == 200
        assert (await get(c, "/", origin, origin))[0] == 400
    assert not [each for each in caplog.records if each.levelno >= logging.ERROR]


async def test_a_route_that_is_declared_while_serving_is_seen(router: Router) -> None:
    async with client(router) as c:
        router.get("/a/b")(lambda request: "late")
        assert (await get(c, "/a/b"))[2] == b"late"


async def test_the_first_route_of_requests_may_come_while_serving() -> None:
    router = Router()

    @router.route("/ws")
    async def socket(ws: Any) -> None: ...

    async with client(router) as c:
        await c.connect("/ws")
        router.get("/late")(lambda request: "late")
        assert (await get(c, "/late"))[2] == b"late"
        await c.connect("/ws")


# Streams


async def test_a_stream_is_chunked_and_comes_as_it_is_made() -> None:
    router, go = Router(), asyncio.Event()

    @router.get("/")
    async def stream(request: Request) -> AsyncIterator[Any]:
        yield "one"
        await go.wait()
        yield {"two": 2}

    async with client(router) as c, asyncio.timeout(10):
        reader, writer = await asyncio.open_connection(HOST, c.port)
        writer.write(asked("GET", "/"))
        head = await reader.readuntil(b"\r\n\r\n")
        assert b"transfer-encoding: chunked" in head.lower()
        assert await reader.readuntil(b"one\r\n") == b"3\r\none\r\n"
        go.set()
        assert dechunked(await reader.read()) == b'{"two": 2}\n'
        writer.close()
        await writer.wait_closed()


@pytest.mark.parametrize("when", ["first", "later"])
async def test_a_response_that_fails_after_it_began_never_looks_whole(
    when: str, caplog: pytest.LogCaptureFixture
) -> None:
    router, closed = Router(), asyncio.Event()

    @router.get("/")
    async def stream(request: Request) -> AsyncIterator[str]:
        try:
            if when == "later":
                yield "one"
            raise ValueError("after the beginning")
            yield "never"
        finally:
            closed.set()

    async with client(router) as c, asyncio.timeout(10):
        try:
            response = await exchange(c.port, asked("GET", "/", close=False))
        except ConnectionResetError:
            response = b""
        assert not response.endswith(b"0\r\n\r\n")
        await closed.wait()
    assert "after the beginning" in caplog.text


async def test_a_client_that_leaves_ends_a_stream() -> None:
    router, closed = Router(), asyncio.Event()

    @router.get("/")
    async def stream(request: Request) -> AsyncIterator[bytes]:
        try:
            while True:
                yield bytes(2**16)
        finally:
            closed.set()

    async with client(router) as c, asyncio.timeout(10):
        reader, writer = await asyncio.open_connection(HOST, c.port)
        writer.write(asked("GET", "/"))
        await reader.readexactly(2**17)
        writer.transport.abort()
        await closed.wait()


async def test_a_handler_that_asks_for_it_is_cancelled_with_its_client() -> None:
    router, waits, cancelled = Router(), asyncio.Event(), asyncio.Event()

    @router.get("/")
    async def handler(request: Request) -> None:
        request.cancel_on_disconnect()
        waits.set()
        try:
            await asyncio.Event().wait()
        finally:
            assert request.disconnected
            cancelled.set()

    async with client(router) as c, asyncio.timeout(10):
        _, writer = await asyncio.open_connection(HOST, c.port)
        writer.write(asked("GET", "/"))
        await waits.wait()
        writer.transport.abort()
        await cancelled.wait()


async def test_a_body_may_be_answered_while_it_comes() -> None:
    router = Router()

    @router.post("/")
    async def upper(request: Request) -> AsyncIterator[bytes]:
        async for piece in request.stream():
            yield piece.upper()

    async with client(router) as c, asyncio.timeout(10):
        reader, writer = await asyncio.open_connection(HOST, c.port)
        writer.write(asked("POST", "/", "Content-Length: 6"))
        await reader.readuntil(b"\r\n\r\n")
        for part in (b"abc", b"def"):
            writer.write(part)
            assert await reader.readuntil(part.upper() + b"\r\n")
        assert await reader.read() == b"0\r\n\r\n"
        writer.close()
        await writer.wait_closed()


# Tasks and errors


async def test_tasks_of_a_request_end_with_the_server() -> None:
    router, heard = Router(), asyncio.Event()
    go, ended = asyncio.Event(), asyncio.Event()

    @router.on_error
    def hear(error: BaseException, request: Any, path: Any) -> None:
        assert (str(error), request, path) == ("task", None, None)
        heard.set()

    async def fails() -> None:
        await go.wait()
        raise ValueError("task")

    async def hangs() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    @router.get("/")
    async def handler(request: Request) -> str:
        request.start_task(fails())
        request.start_task(hangs())
        return "started"

    async with client(router) as c, asyncio.timeout(10):
        assert (await get(c, "/"))[2] == b"started"
        go.set()
        await heard.wait()
        assert not ended.is_set()
    assert ended.is_set()


async def test_an_error_handler_answers_over_the_wire() -> None:
    router = Router()

    @router.on_error(ValueError)
    def hear(error: BaseException, request: Any, path: Any) -> Any:
        return Response({"error": str(error)}, "422 Not Like This")

    @router.get("/{what}")
    async def handler(request: Request) -> None:
        raise ValueError(request.params["what"])

    async with client(router) as c, asyncio.timeout(10):
        response = await exchange(c.port, asked("GET", "/x"))
        assert status_line(response) == "HTTP/1.1 422 Not Like This"
        assert parsed(response)[2] == b'{"error": "x"}'


async def test_an_error_handler_that_cannot_be_sent_is_answered_for() -> None:
    router = Router()
    router.on_error(lambda error, request, path: Response({1}))

    @router.get("/")
    async def handler(request: Request) -> None:
        raise ValueError

    async with client(router) as c, asyncio.timeout(10):
        response = await exchange(c.port, asked("GET", "/"))
        assert status_line(response).startswith("HTTP/1.1 500")


# Static files


@pytest.fixture
def www(tmp_path: Path) -> Path:
    root = tmp_path / "www"
    (root / "sub").mkdir(parents=True)
    (root / "data").write_bytes(PAGE)
    (root / "empty").touch()
    (tmp_path / "secret").write_text("CONFIDENTIAL")
    (root / "link").symlink_to(tmp_path / "secret")
    return root


TRAVERSALS = [
    "/a/../secret",
    "/a/../../secret",
    "/a/./../secret",
    "/a/sub/../../secret",
    "/../secret",
    "/a/%2e%2e/secret",
    "/a/%2E%2E%2Fsecret",
    "/a/.%2e/secret",
    "/a/..%2fsecret",
    "/a/..%5csecret",
    "/a/..\\secret",
    "/a/..%c0%afsecret",
    "/a/..%252fsecret",
    "/a/%252e%252e%252fsecret",
    "/a/%u002e%u002e/secret",
    "/a//etc/passwd",
    "/a/%2fetc%2fpasswd",
    "/a/link",
    "/a/link%00",
    "/a/data%00.txt",
    "/a/file:///etc/passwd",
    "/a/C:%5cboot.ini",
    "/a/..;/secret",
    "/a/....//secret",
]


@pytest.mark.parametrize("target", TRAVERSALS)
async def test_no_path_leads_out_of_the_directory(
    www: Path, target: str, caplog: pytest.LogCaptureFixture
) -> None:
    router = Router()
    router.static("/a", www)
    async with client(router) as c:
        for each in (target, f"http://localhost{target}"):
            status, _, body = await get(c, each)
            assert status in (400, 404)
            assert b"CONFIDENTIAL" not in body
            assert b"root:" not in body
    assert not [each for each in caplog.records if each.levelno >= logging.ERROR]


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
async def test_curl_gets_files_and_nothing_else(www: Path) -> None:
    router = Router()
    router.static("/a", www)

    async def curl(*arguments: str) -> bytes:
        process = await asyncio.create_subprocess_exec(
            *("curl", "--silent", "--noproxy", "*", "--path-as-is", *arguments),
            stdout=asyncio.subprocess.PIPE,
        )
        out, _ = await process.communicate()
        assert process.returncode == 0
        return out

    async with client(router) as c, asyncio.timeout(20):
        url = f"http://{HOST}:{c.port}"
        assert await curl(f"{url}/a/data") == PAGE
        urls = [f"{url}{each}" for each in TRAVERSALS if "\\" not in each]
        out = await curl("--globoff", "--write-out", "<%{http_code}>", *urls)
        codes = [out.count(b"<%d>" % code) for code in (400, 404)]
        assert sum(codes) == len(urls)
        assert b"CONFIDENTIAL" not in out


async def test_files_are_sent_as_asked_for(www: Path) -> None:
    router = Router()
    router.static("/a", www)
    async with client(router) as c:
        status, headers, body = await get(c, "/a/data")
        assert (status, body) == (200, PAGE)
        assert headers["content-length"] == str(len(PAGE))
        assert "transfer-encoding" not in headers
        etag = headers["etag"]
        assert (await get(c, "/a/data", f"If-None-Match: {etag}"))[::2] == (304, b"")
        status, headers, body = await get(c, "/a/data", "Range: bytes=-300")
        assert (status, body) == (206, PAGE[-300:])
        status, headers, body = await get(
            c, "/a/data", "Range: bytes=0-9", f"If-Range: {etag}"
        )
        assert (status, body) == (206, PAGE[:10])
        assert (await get(c, "/a/data", "Range: bytes=999999-"))[0] == 416
        status, headers, body = await get(c, "/a/data", method="HEAD")
        assert (status, body) == (200, b"")
        assert headers["content-length"] == str(len(PAGE))
        assert "transfer-encoding" not in headers
        status, headers, body = await get(c, "/a/empty")
        assert (status, headers["content-length"], body) == (200, "0", b"")
        for missing in ("/a/sub", "/a/", "/a", "/a/none"):
            status, _, body = await get(c, missing)
            assert status == 404
            assert str(www).encode() not in body


async def test_a_client_that_leaves_in_the_middle_of_a_file_closes_it(
    www: Path,
) -> None:
    with (www / "large").open("wb") as file:
        file.truncate(2**28)
    router = Router()
    router.static("/a", www)
    async with client(router) as c, asyncio.timeout(10):
        reader, writer = await asyncio.open_connection(HOST, c.port)
        writer.write(asked("GET", "/a/large"))
        await reader.readexactly(2**16)
        writer.transport.abort()
        while c.server.requests:  # noqa: ASYNC110
            await asyncio.sleep(0)


# Publishing


async def test_a_webhook_reaches_those_who_listen() -> None:
    router = Router()
    router.publish_endpoint(token="tökén")

    @router.route("/hear/*topic")
    async def hear(ws: Any) -> None:
        await ws.subscribe(ws.params["topic"])
        await ws.wait_closed()

    async with client(router) as c, asyncio.timeout(10):
        peers = [await c.connect("/hear/a/b") for _ in range(3)]
        await c.subscribed("a/b", 3)
        for token, expected in {"tökén": 200, "token": 401, "": 401}.items():
            request = asked(
                *("POST", "/publish/a/b"),
                *(f"Authorization: Bearer {token}", "Content-Type: image/png"),
                body=b"\x89PNG",
            )
            status, headers, body = parsed(await exchange(c.port, request))
            assert status == expected
            if status == 200:
                assert b'"matched": 3, "queued": 3, "dropped": 0' in body
            else:
                assert headers["www-authenticate"] == "Bearer"
        for ws in peers:
            assert await ws.recv() == b"\x89PNG"
            await ws.close()
        assert (await get(c, "/publish/a/b"))[0] == 405


# Extensions


async def test_requests_of_a_server_have_what_extensions_add() -> None:
    router = Router()

    def extension(request: Any, response: Any, ws: Any) -> None:
        request.property("seen", [])
        response.method(shout)

    def shout(response: Any) -> Any:
        response.payload = f"{response.payload}!"
        return response

    @router.get("/{name}")
    async def handler(request: Any) -> Any:
        request.seen.append(request.params["name"])
        return request.response(",".join(request.seen)).shout()

    router.extend(extension)
    async with client(router) as c:
        assert (await get(c, "/a"))[2] == b"a!"
        assert (await get(c, "/b"))[2] == b"b!"
        plain = router.request_class("GET", "/c")
        assert (await dispatch(router, plain)).text == "c!"
