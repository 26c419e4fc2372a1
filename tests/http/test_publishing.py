"""Publishing by HTTP: what is posted, by whom, and to whom it goes."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from websockets import Headers

from websockets_routes import EndpointError, Router, TemplateError, Topics
from websockets_routes.brokers import MemoryBroker
from websockets_routes.http import Request
from websockets_routes.testing import Answer, client, dispatch

TOKEN = "s3cret-tökén"
# What a client sends is bytes, which headers hold as latin-1.
SENT = TOKEN.encode().decode("latin-1")
NOBODY = {
    "matched": 0,
    "queued": 0,
    "dropped": 0,
    "closed": 0,
    "conflated": 0,
    "displaced": 0,
    "offset": None,
    "epoch": None,
    "duplicate": False,
}


def publishing(**options: Any) -> Router:
    router = Router()
    router.publish_endpoint(token=TOKEN, **options)
    return router


async def post(
    router: Router,
    path: str = "/publish/news",
    body: bytes = b"hello",
    headers: Any = (),
    authorization: str | None = f"Bearer {SENT}",
    method: str = "POST",
) -> Answer:
    fields = [*headers]
    if authorization is not None:
        fields.append(("Authorization", authorization))
    return await dispatch(router, Request(method, path, Headers(fields), body))


async def test_a_receipt_tells_what_became_of_a_message() -> None:
    answer = await post(publishing())
    assert (answer.status, answer.json()) == (200, NOBODY)
    assert answer.headers["Content-Type"] == "application/json"


async def test_what_is_posted_twice_with_a_key_is_published_once() -> None:
    router = publishing()
    router.topic("news", history=10)
    headers = [("Idempotency-Key", "a-1")]
    first = (await post(router, headers=headers)).json()
    assert (first["offset"], first["duplicate"]) == (1, False)
    second = (await post(router, headers=headers)).json()
    assert (second["offset"], second["duplicate"]) == (1, True)
    assert first["epoch"] == second["epoch"]
    assert (await post(router)).json()["offset"] == 2
    assert len(await router.history("news")) == 2
    answer = await post(router, headers=headers * 2)
    assert (answer.status, answer.text) == (
        400,
        "there is one Idempotency-Key, or none\n",
    )


async def test_without_its_broker_it_answers_503() -> None:
    router = Router(topics=Topics(MemoryBroker()))
    router.publish_endpoint(token=TOKEN)
    answer = await post(router)
    assert answer.status == 503
    assert "start it first" in answer.text


@pytest.mark.parametrize(
    "authorization",
    [f"bearer {SENT}", f"BEARER {SENT}", f"Bearer  {SENT}", f"Bearer {SENT} "],
)
async def test_the_scheme_is_written_as_one_likes(authorization: str) -> None:
    assert (await post(publishing(), authorization=authorization)).status == 200


@pytest.mark.parametrize(
    "authorization",
    [
        None,
        "",
        " ",
        "Bearer",
        "Bearer ",
        SENT,
        f"Bearer{SENT}",
        f"Bearer {SENT[:-1]}",
        f"Bearer {SENT}x",
        f"Bearer {SENT} {SENT}",
        f"Bearer {SENT.upper()}",
        f"Bearer {SENT}, Bearer {SENT}",
        f"Basic {SENT}",
        f"Token {SENT}",
        "Bearer \xff\xfe",
        "Bearer s3cret-tökén",
        "Bearer s3cret-t?k?n",
    ],
    ids=ascii,
)
async def test_without_the_token_nothing_is_published(
    authorization: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    router, bodies = publishing(), []

    class Body:
        async def read(self) -> bytes:
            bodies.append(b"")
            return b""

    headers = {} if authorization is None else {"Authorization": authorization}
    answer = await dispatch(router, Request("POST", "/publish/a", headers, Body()))
    assert answer.status == 401
    assert answer.headers["WWW-Authenticate"] == "Bearer"  # RFC 9110 section 11.6.1
    assert SENT not in answer.text
    assert TOKEN not in answer.text
    assert bodies == []
    assert caplog.text == ""


async def test_two_tokens_are_none() -> None:
    answer = await post(publishing(), headers=[("Authorization", f"Bearer {SENT}")])
    assert answer.status == 401


@pytest.mark.parametrize(
    ("kind", "body", "expected"),
    [
        (None, "é".encode(), "é"),
        ("text/plain", b"a", "a"),
        ("TEXT/HTML; charset=utf-8", b"a", "a"),
        ("application/json", b"{}", "{}"),
        ("application/json;charset=utf-8", b"{}", "{}"),
        ("application/ld+json", b"{}", "{}"),
        ("application/x-www-form-urlencoded", b"a=b", "a=b"),
        ("application/octet-stream", b"a", b"a"),
        ("application/octet-stream", b"\xff", b"\xff"),
        ("image/png", b"\x89PNG", b"\x89PNG"),
        (None, b"", ""),
        ("application/octet-stream", b"", b""),
    ],
)
async def test_subscribers_hear_what_is_posted(
    kind: str | None, body: bytes, expected: str | bytes
) -> None:
    router = publishing()

    @router.route("/hear", subscribe="news")
    async def hear(ws: Any) -> None:
        await ws.wait_closed()

    async with client(router) as c:
        peers = [await c.connect("/hear") for _ in range(2)]
        await c.subscribed("news", 2)
        headers = [] if kind is None else [("Content-Type", kind)]
        answer = await post(router, body=body, headers=headers)
        assert answer.json() == {**NOBODY, "matched": 2, "queued": 2}
        for ws in peers:
            async with asyncio.timeout(5):
                assert await ws.recv() == expected


async def test_a_receipt_tells_only_of_those_who_hear_the_topic() -> None:
    router = publishing()

    @router.route("/hear/*topic")
    async def hear(ws: Any) -> None:
        await ws.subscribe(ws.params["topic"])
        await ws.wait_closed()

    async with client(router) as c:
        ws = await c.connect("/hear/a/b")
        await c.connect("/hear/a")
        await c.subscribed("a/b")
        await c.subscribed("a")
        assert (await post(router, "/publish/a/b")).json()["matched"] == 1
        assert (await post(router, "/publish/a%2Fb")).json()["matched"] == 1
        assert (await post(router, "/publish/b")).json()["matched"] == 0
        assert await ws.recv() == "hello"


async def test_text_that_is_no_utf_8_is_a_bad_request() -> None:
    answer = await post(publishing(), body=b"\xff")
    assert answer.status == 400
    assert "UTF-8" in answer.text


@pytest.mark.parametrize(
    "path",
    [
        "/publish/a/+",
        "/publish/%23",
        "/publish/a/%2B/b",
        "/publish/" + "a" * 70_000,
        "/publish/" + "a/" * 1000 + "a",
    ],
    ids=lambda path: path[:20],
)
async def test_what_is_no_name_of_a_topic_is_a_bad_request(
    path: str, caplog: pytest.LogCaptureFixture
) -> None:
    answer = await post(publishing(), path)
    assert answer.status == 400
    assert "topic" in answer.text
    assert len(answer.text) < 1000 or len(path) > 1000
    assert caplog.text == ""


@pytest.mark.parametrize("path", ["/publish", "/publish/"])
async def test_without_a_topic_nothing_is_published(path: str) -> None:
    assert (await post(publishing(), path)).status in (400, 404)


@pytest.mark.parametrize("method", ["GET", "PUT", "post"])
async def test_only_post_publishes(method: str) -> None:
    answer = await post(publishing(), method=method)
    assert (answer.status, answer.headers["Allow"]) == (405, "OPTIONS, POST")


async def test_a_body_over_its_limit_is_refused() -> None:
    router = publishing(max_content_length=4)
    assert (await post(router, body=b"1234")).status == 200
    assert (await post(router, body=b"12345")).status == 413


async def test_options_and_templates_are_those_of_routes() -> None:
    router, api = Router(), Router()
    api.publish_endpoint("/p/{topic}/now", token="t", name="publish")
    router.mount("/api", api, name="api")
    assert router.url_for("api:publish", topic="x") == "/api/p/x/now"
    answer = await post(router, "/api/p/x/now", authorization="Bearer t")
    assert answer.json() == NOBODY


async def test_what_a_mounted_router_publishes_the_root_hears() -> None:
    router, api = Router(), Router()
    api.publish_endpoint(token=TOKEN)
    router.mount("/api", api)

    @router.route("/hear", subscribe="news")
    async def hear(ws: Any) -> None:
        await ws.wait_closed()

    async with client(router) as c:
        ws = await c.connect("/hear")
        await c.subscribed("news")
        assert (await post(router, "/api/publish/news")).json()["queued"] == 1
        assert await ws.recv() == "hello"


async def test_it_is_off_unless_it_is_asked_for() -> None:
    assert (await post(Router())).status == 404


@pytest.mark.parametrize("token", ["", None, b"bytes", 1])
def test_a_token_is_a_str_and_not_empty(token: Any) -> None:
    router = Router()
    with pytest.raises(EndpointError, match="token"):
        router.publish_endpoint(token=token)
    assert router.routes == ()


def test_a_template_has_a_topic() -> None:
    router = Router()
    with pytest.raises(EndpointError, match="topic"):
        router.publish_endpoint("/publish/{name}", token=TOKEN)
    with pytest.raises(TemplateError):
        router.publish_endpoint("/publish/{", token=TOKEN)
    assert router.routes == ()


def test_a_token_has_to_be_given() -> None:
    with pytest.raises(TypeError):
        Router().publish_endpoint()  # type: ignore[call-arg]
