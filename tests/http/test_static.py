"""Static files: those below a directory, and nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from websockets_routes import Router, TemplateError, UnknownName
from websockets_routes.http import Request
from websockets_routes.http.static import StaticFiles
from websockets_routes.testing import Answer, dispatch

PAGE = b"<p>page</p>"


@pytest.fixture
def www(tmp_path: Path) -> Path:
    root = tmp_path / "www"
    (root / "sub").mkdir(parents=True)
    (root / "page.html").write_bytes(PAGE)
    (root / "sub" / "a b.txt").write_text("sub")
    (root / "é.txt").write_text("é")
    (root / "inner").symlink_to(root / "sub")
    (tmp_path / "secret").write_text("CONFIDENTIAL")
    (tmp_path / "www-x").mkdir()
    (tmp_path / "www-x" / "secret").write_text("CONFIDENTIAL")
    (root / "outer").symlink_to(tmp_path / "www-x")
    (root / "link").symlink_to(tmp_path / "secret")
    return root


async def get(
    router: Router, path: str, method: str = "GET", headers: Any = None
) -> Answer:
    return await dispatch(router, Request(method, path, headers))


async def test_files_below_the_directory_are_answered_with(www: Path) -> None:
    router = Router()
    router.static("/assets", www)
    answer = await get(router, "/assets/page.html")
    assert (answer.status, answer.body) == (200, PAGE)
    assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
    assert answer.headers["Content-Length"] == str(len(PAGE))
    assert (await get(router, "/assets/sub/a%20b.txt?v=1")).text == "sub"
    assert (await get(router, "/assets/inner/a%20b.txt")).text == "sub"
    assert (await get(router, "/assets/%C3%A9.txt")).text == "é"


async def test_head_tells_what_get_would(www: Path) -> None:
    router = Router()
    router.static("/assets", www)
    head = await get(router, "/assets/page.html", "HEAD")
    assert (head.status, head.body) == (200, b"")
    assert head.headers == (await get(router, "/assets/page.html")).headers


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "get"])
async def test_nothing_but_get_is_answered(www: Path, method: str) -> None:
    router = Router()
    router.static("/assets", www)
    answer = await get(router, "/assets/page.html", method)
    assert (answer.status, answer.headers["Allow"]) == (405, "GET, HEAD, OPTIONS")


@pytest.mark.parametrize(
    "path",
    [
        "/assets",
        "/assets/",
        "/assets/sub",
        "/assets/sub/",
        "/assets/nothing",
        "/assets/page.html/x",
        "/assets/outer/secret",
        "/assets/link",
        "/assets/outer",
        "/assets/..%2Fsecret",
        "/assets/..%2fwww-x%2fsecret",
        "/assets/%2e%2e%2fsecret",
        "/assets/sub%2F..%2F..%2Fsecret",
        "/assets/%252e%252e/secret",
        "/assets/..%252fsecret",
        "/assets/..%5Csecret",
        "/assets/..\\secret",
        "/assets/%5c%5chost%5cshare",
        "/assets//etc/passwd",
        "/assets/%2Fetc%2Fpasswd",
        "/assets/C:/boot.ini",
        "/assets/c:page.html",
        "/assets/page.html%2500",
        "/assets/" + "a" * 5000,
        "/assets/" + "a/" * 3000,
        "/assets/%F0%9F%92%A9",
    ],
    ids=lambda path: path[:40],
)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_everything_else_is_not_found(
    www: Path, path: str, method: str, caplog: pytest.LogCaptureFixture
) -> None:
    router = Router()
    router.static("/assets", www)
    answer = await get(router, path, method)
    assert answer.status == 404
    assert "CONFIDENTIAL" not in answer.text
    assert "Traceback" not in caplog.text


@pytest.mark.parametrize(
    "path",
    [
        "/assets/../secret",
        "/assets/%2e%2e/secret",
        "/assets/./page.html",
        "/assets/%00",
    ],
)
async def test_what_no_client_sends_is_a_bad_request(www: Path, path: str) -> None:
    router = Router()
    router.static("/assets", www)
    assert (await get(router, path)).status == 400


async def test_an_answer_tells_nobody_where_the_files_are(www: Path) -> None:
    router = Router()
    router.static("/assets", www)
    for path in ("nothing", "sub", "link"):
        assert str(www.parent) not in (await get(router, f"/assets/{path}")).text


async def test_ranges_and_conditions_hold(www: Path) -> None:
    router = Router()
    router.static("/assets", www)
    path = "/assets/page.html"
    etag = (await get(router, path)).headers["ETag"]
    answer = await get(router, path, headers={"Range": "bytes=3-6"})
    assert (answer.status, answer.body) == (206, b"page")
    assert answer.headers["Content-Range"] == "bytes 3-6/11"
    answer = await get(router, path, headers={"Range": "bytes=99-"})
    assert (answer.status, answer.headers["Content-Range"]) == (416, "bytes */11")
    answer = await get(router, path, headers={"If-None-Match": etag})
    assert (answer.status, answer.body) == (304, b"")
    answer = await get(router, path, "HEAD", {"If-None-Match": etag})
    assert answer.status == 304
    answer = await get(router, path, headers={"If-Match": '"other"'})
    assert answer.status == 412


async def test_headers_of_ones_own_are_on_each_file(www: Path) -> None:
    router = Router()
    headers = {"Cache-Control": "max-age=60", "Content-Type": "text/x-own"}
    router.static("/assets", www, headers=headers)
    answer = await get(router, "/assets/page.html")
    assert answer.headers["Cache-Control"] == "max-age=60"
    assert answer.headers.get_all("Content-Type") == ["text/x-own"]


async def test_a_name_builds_urls(www: Path) -> None:
    router, api = Router(), Router(prefix="/v1")
    router.mount("/api", api, name="api")
    api.static("/assets", www, name="assets")
    url = router.url_for("api:assets", filename="sub/a b.txt")
    assert url == "/api/v1/assets/sub/a%20b.txt"
    assert (await get(router, url)).text == "sub"
    with pytest.raises(UnknownName):
        router.url_for("assets", filename="x")


@pytest.mark.parametrize("prefix", ["", "/"])
async def test_the_root_may_be_the_prefix(www: Path, prefix: str) -> None:
    router = Router()
    router.static(prefix, www)
    assert (await get(router, "/page.html")).body == PAGE


async def test_a_prefix_that_ends_with_a_slash_works_or_is_refused(www: Path) -> None:
    router = Router()
    try:
        router.static("/assets/", www)
    except TemplateError:
        return
    assert (await get(router, "/assets/page.html")).body == PAGE


async def test_a_prefix_may_have_params(www: Path) -> None:
    router = Router()
    router.static("/{version}/assets", www)
    assert (await get(router, "/7/assets/page.html")).body == PAGE


async def test_routes_of_ones_own_are_more_specific(www: Path) -> None:
    router = Router()
    router.static("/assets", www)
    router.get("/assets/page.html")(lambda request: "mine")
    assert (await get(router, "/assets/page.html")).text == "mine"


async def test_hooks_stand_before_files(www: Path) -> None:
    router = Router(before_handshake=[lambda request, path: (403, {}, "no")])
    router.static("/assets", www)
    assert (await get(router, "/assets/page.html")).status == 403


async def test_files_may_come_and_go(www: Path) -> None:
    router = Router()
    router.static("/assets", www)
    assert (await get(router, "/assets/new")).status == 404
    (www / "new").write_text("new")
    assert (await get(router, "/assets/new")).text == "new"
    (www / "new").unlink()
    assert (await get(router, "/assets/new")).status == 404


async def test_a_relative_directory_is_that_of_the_beginning(
    www: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    router = Router()
    monkeypatch.chdir(www.parent)
    router.static("/assets", "www")
    monkeypatch.chdir(tmp_path / "www-x")
    assert (await get(router, "/assets/page.html")).body == PAGE


@pytest.mark.parametrize("name", ["nothing", "page.html"])
def test_what_is_no_directory_is_refused(www: Path, name: str) -> None:
    router = Router()
    with pytest.raises(NotADirectoryError, match=name):
        router.static("/assets", www / name)
    assert router.routes == ()
    with pytest.raises(NotADirectoryError):
        StaticFiles(www / name)
