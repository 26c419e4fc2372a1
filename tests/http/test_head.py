"""Heads of requests: who they are for, and what of them is refused."""

from __future__ import annotations

import time

import pytest

from websockets_routes.http.head import Head, look_at

SOUND = Head(False, None)


def head(*fields: str | bytes, version: str = "1.1") -> bytes:
    lines: list[bytes] = [f"POST / HTTP/{version}".encode(), b"Host: x"]
    lines += [x.encode("latin-1") if isinstance(x, str) else x for x in fields]
    return b"\r\n".join([*lines, b"", b""])


@pytest.mark.parametrize(
    "fields",
    [
        [],
        ["Content-Length: 5"],
        ["content-length:5"],
        ["Content-Length: \t005 \t"],
        ["Content-Length: " + "9" * 18],
        ["Transfer-Encoding: chunked"],
        ["transfer-ENCODING:\tCHUNKED "],
        ["X-Content-Length: 5", "Content-Length: 5"],
        ["X: Content-Length: 6", "Content-Length: 5"],
        ["Content-Lengths: 6", "Content-Length: 5"],
        ["Upgrade: h2c"],
        ["X-Upgrade: websocket"],
        ["Upgrades: websocket"],
        ["Upgrade: xwebsocket"],
        ["Upgrade: websockets"],
        ["Upgrade: web socket"],
        ["Upgrade:"],
        ["X: \xff\x80"],
    ],
    ids=repr,
)
def test_a_sound_head_is_a_request(fields: list[str]) -> None:
    assert look_at(head(*fields)) == SOUND


@pytest.mark.parametrize(
    "value",
    ["websocket", "WebSocket", " \twebsocket\t ", "h2c, websocket", "websocket,h2c"],
)
@pytest.mark.parametrize("name", ["Upgrade", "upgrade", "UPGRADE"])
def test_an_upgrade_to_websocket_is_one(name: str, value: str) -> None:
    assert look_at(head(f"{name}:{value}")).upgrade
    assert look_at(head("Content-Length: 5", f"{name}: {value}", "X: y")).upgrade
    assert look_at(head("Upgrade: h2c", f"{name}: {value}")).upgrade


@pytest.mark.parametrize("value", ["websocket", "h2c, websocket"])
def test_http_1_0_has_no_upgrade(value: str) -> None:
    # RFC 9110 section 7.8: a server MUST ignore it.
    assert look_at(head(f"Upgrade: {value}", version="1.0")) == SOUND


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        (["Content-Length: 5", "Content-Length: 5"], "more than once"),
        (["Content-Length: 5", "content-length: 0"], "more than once"),
        (["Content-Length: 5", "Transfer-Encoding: chunked"], "more than once"),
        (["Transfer-Encoding: chunked", "Content-Length: 5"], "more than once"),
        (["Transfer-Encoding: chunked"] * 2, "more than once"),
        (["Content-Length : 5", "Content-Length: 5"], "more than once"),
        (["Content-Length: 5, 5"], "no number"),
        (["Content-Length: +5"], "no number"),
        (["Content-Length: -5"], "no number"),
        (["Content-Length: 0x5"], "no number"),
        (["Content-Length: 1_0"], "no number"),
        (["Content-Length: ²"], "no number"),
        (["Content-Length: \v5"], "no number"),
        (["Content-Length:"], "no number"),
        (["Content-Length: " + "9" * 19], "no number"),
        (["Transfer-Encoding: gzip"], "transfer coding"),
        (["Transfer-Encoding: gzip, chunked"], "transfer coding"),
        (["Transfer-Encoding: chunked, gzip"], "transfer coding"),
        (["Transfer-Encoding: chunked,"], "transfer coding"),
        (["Transfer-Encoding: \vchunked"], "transfer coding"),
        (["Transfer-Encoding: identity"], "transfer coding"),
        (["Transfer-Encoding:"], "transfer coding"),
        (["X: 1", " 2"], "one line"),
        (["X: 1", "\t2"], "one line"),
        (["Content-Length:", " 5"], "one line"),
        (["X: 1\n2"], "CR and LF"),
        (["X: 1\nContent-Length: 5"], "CR and LF"),
        (["X: 1\r2"], "CR and LF"),
        (["X: 1\r"], "CR and LF"),
        (["X: 1\r\r"], "CR and LF"),
        (["X: 1\n"], "CR and LF"),
    ],
    ids=repr,
)
def test_what_somebody_may_understand_otherwise_is_refused(
    fields: list[str], problem: str
) -> None:
    upgrade, found = look_at(head(*fields))
    assert not upgrade
    assert found is not None
    assert problem in found


def test_http_1_0_has_no_transfer_coding() -> None:
    upgrade, problem = look_at(head("Transfer-Encoding: chunked", version="1.0"))
    assert not upgrade
    assert problem is not None
    assert "HTTP/1.0" in problem


def test_a_header_may_speak_of_another_version() -> None:
    assert look_at(head("Transfer-Encoding: chunked", "Via: HTTP/1.0")) == SOUND
    assert look_at(head("Transfer-Encoding: chunked", "X: a HTTP/1.0")) == SOUND


@pytest.mark.parametrize(
    "value",
    [b",\t" * 2**19, b"\t" * 2**20, b", websocke" * 2**17, b"1" * 2**20, b"," * 2**20],
    ids=["commas", "tabs", "nearly", "digits", "bare commas"],
)
@pytest.mark.parametrize("name", [b"Upgrade", b"Content-Length", b"Transfer-Encoding"])
def test_a_mebibyte_takes_linear_time(name: bytes, value: bytes) -> None:
    began = time.process_time()
    look_at(head(name + b":" + value))
    look_at(head(name + value))
    assert time.process_time() - began < 1
