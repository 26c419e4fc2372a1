"""Files: conditions, ranges, and clean ends."""

from __future__ import annotations

import asyncio
import errno
import gc
import os
import re
import threading
import time
from email.utils import formatdate
from pathlib import Path

import pytest
from websockets import Headers

from websockets_routes.exceptions import FileChanged, InvalidResponse, NoSuchFile
from websockets_routes.http import files
from websockets_routes.http.encoding import encoded
from websockets_routes.http.files import File, FileStream, attachment
from websockets_routes.http.response import Response

from .responses import JSON

CONTENT = bytes(range(256)) * 1024
OLD = 784111777  # Sun, 06 Nov 1994 08:49:37 GMT


# attachment


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a b.txt", 'attachment; filename="a b.txt"'),
        (
            "naïve €.txt",
            (
                'attachment; filename="na_ve _.txt"; '
                "filename*=UTF-8''na%C3%AFve%20%E2%82%AC.txt"
            ),
        ),
        ('a".txt', "attachment; filename=\"a_.txt\"; filename*=UTF-8''a%22.txt"),
        ("5%41", "attachment; filename=\"5_41\"; filename*=UTF-8''5%2541"),
    ],
)
def test_a_file_name_is_told_as_rfc_6266_says(name: str, expected: str) -> None:
    assert attachment(name) == expected


@pytest.mark.parametrize("name", ["", "a\r\nb", "a\0", "a/b", "a\\b", "\ud800", "\x7f"])
def test_what_no_file_can_be_named_raises(name: str) -> None:
    with pytest.raises(InvalidResponse, match="no file can be named"):
        attachment(name)


# Files


@pytest.fixture
def page(tmp_path: Path) -> Path:
    path = tmp_path / "data.bin"
    path.write_bytes(CONTENT)
    os.utime(path, (OLD, OLD))
    return path


class Got:
    """A response as a client sees it."""

    def __init__(self, status: int, headers: Headers, body: bytes) -> None:
        self.status = status
        self.headers = headers
        self.body = body


async def get(
    response: Response,
    method: str = "GET",
    accept: str | None = None,
    **fields: str | list[str],
) -> Got:
    request = Headers()
    for name, values in fields.items():
        for value in [values] if isinstance(values, str) else values:
            request[name.replace("_", "-")] = value
    prepared = await response.prepare(method, request)
    message = encoded(prepared, JSON, accept, head=method == "HEAD")
    body = message.body
    if message.stream is not None:
        async for piece in message.stream:
            assert 0 < len(piece) <= 65536
            body += piece
        await message.stream.aclose()
        await message.stream.aclose()
    return Got(message.status, message.headers, body)


async def test_a_file_is_streamed_with_what_is_known_of_it(page: Path) -> None:
    got = await get(Response.file(page))
    assert got.status == 200
    assert got.body == CONTENT
    assert got.headers["Content-Length"] == str(len(CONTENT))
    assert got.headers["Content-Type"] == "application/octet-stream"
    assert got.headers["Last-Modified"] == "Sun, 06 Nov 1994 08:49:37 GMT"
    assert got.headers["Accept-Ranges"] == "bytes"
    assert re.fullmatch('"[0-9a-f]+-40000"', got.headers["ETag"])


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("page.html", "text/html; charset=utf-8"),
        ("logo.png", "image/png"),
        ("all.tar.gz", "application/gzip"),
        ("all.tar.bz2", "application/x-bzip2"),
        ("what", "application/octet-stream"),
        ("data:x.html", "text/html; charset=utf-8"),
    ],
)
async def test_the_type_is_told_by_the_name(
    tmp_path: Path, name: str, expected: str
) -> None:
    (tmp_path / name).write_text("x")
    got = await get(Response.file(tmp_path / name))
    assert got.headers["Content-Type"] == expected


async def test_what_the_response_says_already_counts(page: Path) -> None:
    response = Response.file(
        page,
        content_type="text/x",
        headers={"ETag": '"mine"', "Cache-Control": "no-cache"},
        filename="x.txt",
    )
    got = await get(response)
    assert got.headers.get_all("Content-Type") == ["text/x"]
    assert got.headers["ETag"] == '"mine"'
    assert got.headers["Content-Disposition"] == 'attachment; filename="x.txt"'
    again = await get(response, If_None_Match='"mine"')
    assert (again.status, again.body) == (304, b"")
    assert again.headers["Cache-Control"] == "no-cache"
    assert again.headers["ETag"] == '"mine"'
    assert "Content-Type" not in again.headers
    assert "Content-Length" not in again.headers
    assert response.headers["Content-Type"] == "text/x"


async def test_head_tells_the_same_without_the_body(page: Path) -> None:
    for accept in (None, "gzip"):
        response = Response.file(page, compress=True)
        whole, head = [await get(response, each, accept) for each in ("GET", "HEAD")]
        assert head.headers == whole.headers
        assert (head.status, head.body) == (200, b"")


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_preconditions_are_met(page: Path, method: str) -> None:
    etag = (await get(Response.file(page))).headers["ETag"]
    for status, fields in (
        (304, {"If_None_Match": etag}),
        (304, {"If_None_Match": etag, "Range": "bytes=0-0"}),
        (304, {"If_Modified_Since": "Sun, 06 Nov 1994 08:49:37 GMT"}),
        (412, {"If_Match": '"a"'}),
        (412, {"If_Unmodified_Since": "Sun, 06 Nov 1994 08:49:36 GMT"}),
    ):
        got = await get(Response.file(page), method, None, **fields)
        assert (got.status, got.body) == (status, b"")
        assert got.headers["ETag"] == etag
        assert "Last-Modified" not in got.headers


@pytest.mark.parametrize(("method", "status"), [("POST", 200), ("GET", 404)])
async def test_other_methods_and_statuses_get_the_whole_file(
    page: Path, method: str, status: int
) -> None:
    response = Response.file(page)
    response.status = status
    got = await get(response, method, None, If_None_Match="*", Range="bytes=0-0")
    assert (got.status, got.body) == (status, CONTENT)


async def test_a_range_is_a_206(page: Path) -> None:
    size = len(CONTENT)
    for asked, first, last in (
        ("bytes=1-300", 1, 300),
        ("bytes=70000-", 70000, size - 1),
        ("bytes=-5", size - 5, size - 1),
    ):
        got = await get(Response.file(page), Range=asked)
        assert got.status == 206
        assert got.body == CONTENT[first : last + 1]
        assert got.headers["Content-Length"] == str(last + 1 - first)
        assert got.headers["Content-Range"] == f"bytes {first}-{last}/{size}"
        assert got.headers["Content-Type"] == "application/octet-stream"


async def test_a_range_that_is_not_there_is_a_416(page: Path) -> None:
    asked = f"bytes={len(CONTENT)}-"
    got = await get(Response.file(page, filename="x"), Range=asked)
    assert (got.status, got.body) == (416, b"")
    assert got.headers["Content-Range"] == f"bytes */{len(CONTENT)}"
    assert got.headers["Content-Length"] == "0"
    assert "Content-Disposition" not in got.headers


async def test_a_range_of_something_else_gets_the_whole_file(page: Path) -> None:
    for fields in ({"Range": "lines=0-1"}, {"Range": "bytes=0-0", "If_Range": '"a"'}):
        got = await get(Response.file(page), **fields)
        assert (got.status, got.body) == (200, CONTENT)


async def test_the_length_is_the_files_own(page: Path) -> None:
    told = {"Content-Length": "5", "Content-Range": "bytes 0-4/5"}
    response = Response.file(page, headers=told)
    for _ in range(2):
        got = await get(response, Range="bytes=0-9")
        assert got.headers.get_all("Content-Length") == ["10"]
        assert got.headers.get_all("Content-Range") == [f"bytes 0-9/{len(CONTENT)}"]
    assert response.headers.get_all("Content-Length") == ["5"]


async def test_a_file_of_this_second_is_not_told_by_its_date(page: Path) -> None:
    ahead = time.time() + 3600
    os.utime(page, (ahead, ahead))
    before = int(time.time())
    got = await get(Response.file(page))
    told = got.headers["Last-Modified"]
    assert told in {formatdate(before + each, usegmt=True) for each in range(60)}


async def test_an_empty_file_has_an_empty_body(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    response = Response.file(tmp_path / "empty")
    for asked in ("bytes=-5", "rubbish"):
        got = await get(response, Range=asked)
        assert (got.status, got.body) == (200, b"")
        assert got.headers["Content-Length"] == "0"
    assert (await get(response, Range="bytes=0-")).status == 416


async def test_a_file_is_gzipped_whole_and_never_in_part(tmp_path: Path) -> None:
    import gzip

    path = tmp_path / "page.html"
    path.write_bytes(b"page" * 50_000)
    response = Response.file(path, compress=True)
    got = await get(response, "GET", "gzip")
    assert gzip.decompress(got.body) == b"page" * 50_000
    assert got.headers["ETag"].startswith("W/")
    assert "Content-Length" not in got.headers
    assert "Accept-Ranges" not in got.headers
    part = await get(response, "GET", "gzip", Range="bytes=0-999")
    assert (part.status, part.body) == (206, b"page" * 250)
    assert part.headers["Vary"] == "Accept-Encoding"
    same = await get(response, "GET", "gzip", If_None_Match=got.headers["ETag"])
    assert same.status == 304
    assert same.headers["ETag"] == got.headers["ETag"]


@pytest.mark.parametrize("kind", ["missing", "directory", "below", "pipe", "long"])
async def test_what_is_no_file_is_a_404(tmp_path: Path, kind: str) -> None:
    (tmp_path / "directory").mkdir()
    (tmp_path / "file").touch()
    os.mkfifo(tmp_path / "pipe")
    name = {"below": "file/x", "long": "x" * 300}.get(kind, kind)
    descriptors = open_files()
    with pytest.raises(NoSuchFile, match="cannot be sent") as raised:
        await get(Response.file(tmp_path / name))
    assert raised.value.status == 404
    assert raised.value.path == str(tmp_path / name)
    assert open_files() == descriptors


async def test_a_system_that_cannot_open_is_no_404(
    page: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> int:
        raise OSError(errno.EMFILE, "too many open files")

    with monkeypatch.context() as patched:
        patched.setattr(files, "_without_waiting", fail)
        with pytest.raises(OSError, match="too many"):
            await get(Response.file(page))


def open_files() -> set[str]:
    found = set()
    for each in Path("/proc/self/fd").iterdir():
        try:
            target = str(each.readlink())
        except FileNotFoundError:
            continue
        if target.startswith("/tmp") or "pytest" in target:
            found.add(target)
    return found


async def stream_of(path: Path) -> FileStream:
    prepared = await Response.file(path).prepare("GET", Headers())
    assert isinstance(prepared.payload, FileStream)
    return prepared.payload


async def test_a_file_that_shrinks_ends_with_an_error_and_is_closed(
    page: Path,
) -> None:
    stream = await stream_of(page)
    assert await anext(stream) == CONTENT[:65536]
    os.truncate(page, 70_000)
    assert len(await anext(stream)) == 70_000 - 65536
    with pytest.raises(FileChanged, match="192144 bytes are missing"):
        await anext(stream)
    assert str(page) not in open_files()


async def test_a_file_that_grows_is_sent_as_long_as_it_was(page: Path) -> None:
    stream = await stream_of(page)
    with page.open("ab") as file:
        file.write(b"more")
    assert b"".join([piece async for piece in stream]) == CONTENT
    assert str(page) not in open_files()


async def test_a_file_that_is_closed_early_has_no_end(page: Path) -> None:
    stream = await stream_of(page)
    assert str(page) in open_files()
    await stream.aclose()
    assert str(page) not in open_files()
    with pytest.raises(FileChanged, match="closed before its end"):
        await anext(stream)


async def test_a_cancelled_read_closes_the_file(page: Path) -> None:
    stream = await stream_of(page)
    with stream._lock:  # the thread that reads is held up
        reading = asyncio.ensure_future(anext(stream))
        await asyncio.sleep(0)
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
    await stream.aclose()
    assert str(page) not in open_files()


async def test_a_cancelled_close_closes_the_file(page: Path) -> None:
    stream = await stream_of(page)
    with stream._lock:
        closing = asyncio.ensure_future(stream.aclose())
        await asyncio.sleep(0)
        closing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await closing
    await asyncio.get_running_loop().shutdown_default_executor()
    assert str(page) not in open_files()


@pytest.mark.parametrize("when", ["before", "while"])
async def test_a_cancelled_request_leaves_no_file_open(
    page: Path, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    opening, go_on = threading.Event(), threading.Event()
    real = files._without_waiting

    def slowly(path: str, flags: int) -> int:
        opening.set()
        go_on.wait()
        return real(path, flags)

    monkeypatch.setattr(files, "_without_waiting", slowly)
    loop = asyncio.get_running_loop()
    answering = asyncio.ensure_future(
        File(page).answer("GET", Headers(), Headers(), 200)
    )
    if when == "while":
        await loop.run_in_executor(None, opening.wait)
    else:
        await asyncio.sleep(0)
    answering.cancel()
    with pytest.raises(asyncio.CancelledError):
        await answering
    go_on.set()
    await loop.shutdown_default_executor()
    assert str(page) not in open_files()
    gc.collect()


def test_a_file_that_nobody_waits_for_is_not_opened(page: Path) -> None:
    stream = FileStream(str(page))
    stream._locked_close()
    with pytest.raises(FileChanged, match="nobody waits"):
        stream.open("GET", Headers(), Headers(), 200)


def test_a_file_shows_its_path(page: Path) -> None:
    assert repr(File(page)) == f"File({str(page)!r})"
