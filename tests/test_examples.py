"""Each example is started as its reader would start it, and talked to."""

from __future__ import annotations

import hmac
import http.client
import json
import signal
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager

import pytest
import websocket
from websockets.exceptions import (
    ConnectionClosed,
    ConnectionClosedOK,
    InvalidStatus,
)
from websockets.sync.client import connect

from tests.processes import ROOT, TIMEOUT, ServerProcess, serving

# An example listens on the port that it names; here it has to take a free one.
ON_A_FREE_PORT = (
    "import runpy, sys, websockets.asyncio.server as server; serve = server.serve; "
    "server.serve = lambda handler, host, port, **rest: "
    "serve(handler, '127.0.0.1', 0, **rest); "
    "runpy.run_path(sys.argv[1], run_name='__main__')"
)


@contextmanager
def example(name: str) -> Iterator[ServerProcess]:
    with serving(["-c", ON_A_FREE_PORT, f"examples/{name}.py"]) as server:
        yield server


def test_every_example_is_tested() -> None:
    names = {path.stem for path in (ROOT / "examples").glob("*.py")}
    assert names == {
        "chat",
        "custom_protocol",
        "echo",
        "events",
        "extension",
        "hosts",
        "private_api",
        "resource",
        "thing",
        "ticker",
        "webhook",
    }


def test_chat_between_clients_of_two_libraries() -> None:
    with example("chat") as server:
        base = f"ws://127.0.0.1:{server.port}/room"
        with connect(f"{base}/a%2Fb?user=ada") as ada:
            assert json.loads(ada.recv(timeout=TIMEOUT)) == {"here": 1}
            ben = websocket.create_connection(f"{base}/a%2Fb", timeout=TIMEOUT)
            assert json.loads(ben.recv()) == {"here": 2}
            assert json.loads(ada.recv(timeout=TIMEOUT)) == {"here": 2}
            ada.send("is it late?")
            said = {"user": "ada", "text": "is it late?"}
            assert json.loads(ben.recv()) == said
            assert json.loads(ada.recv(timeout=TIMEOUT)) == said
            ben.send("no")
            said = {"user": "somebody", "text": "no"}
            assert json.loads(ben.recv()) == said
            assert json.loads(ada.recv(timeout=TIMEOUT)) == said
            ben.close()
            assert json.loads(ada.recv(timeout=TIMEOUT)) == {"here": 1}


def test_in_the_chat_no_path_reaches_another_room() -> None:
    rooms = ["a%2Fb", "a", "b", "%23", "%2B", "%24SYS", "%2523", "a%252Fb"]
    with example("chat") as server, ExitStack() as stack:
        base = f"ws://127.0.0.1:{server.port}/room"
        clients = {
            room: stack.enter_context(connect(f"{base}/{room}")) for room in rooms
        }
        for room, ws in clients.items():
            assert json.loads(ws.recv(timeout=TIMEOUT)) == {"here": 1}
            ws.send(room)
        for room, ws in clients.items():
            said = {"user": "somebody", "text": room}
            assert json.loads(ws.recv(timeout=TIMEOUT)) == said
        for room, ws in clients.items():
            ws.send(f"again {room}")
            said = {"user": "somebody", "text": f"again {room}"}
            assert json.loads(ws.recv(timeout=TIMEOUT)) == said


def test_ticker() -> None:
    with example("ticker") as server:
        base = f"ws://127.0.0.1:{server.port}"
        # With a queue that is full, this client would not see the end for 10 seconds.
        with (
            connect(f"{base}/price/S7", max_queue=None) as one,
            connect(f"{base}/prices", max_queue=None) as every,
        ):
            for _ in range(3):
                assert json.loads(one.recv(timeout=TIMEOUT))["symbol"] == "S7"
            heard = {
                json.loads(every.recv(timeout=TIMEOUT))["symbol"] for _ in range(100)
            }
        assert len(heard) > 50


def test_echo() -> None:
    with example("echo") as server:
        with connect(f"ws://127.0.0.1:{server.port}/echo") as ws:
            ws.send("hi")
            assert ws.recv(timeout=TIMEOUT) == "hi"
        with connect(f"ws://127.0.0.1:{server.port}/hello/K%C3%A4the") as ws:
            assert ws.recv(timeout=TIMEOUT) == "Hello Käthe!"


def test_thing_answers_a_client_of_another_library() -> None:
    with example("thing") as server:
        base = f"ws://127.0.0.1:{server.port}"
        ws = websocket.create_connection(f"{base}/thing/2", timeout=TIMEOUT)
        assert [ws.recv(), ws.recv(), ws.recv()] == ["/thing/2", "2", "a book"]
        ws.close()
        ws = websocket.create_connection(f"{base}/thing/", timeout=TIMEOUT)
        assert [ws.recv() for _ in range(4)] == ["/thing/", "1", "2", "3"]
        ws.close()
        with pytest.raises(websocket.WebSocketBadStatusException) as refused:
            websocket.create_connection(f"{base}/thing/9", timeout=TIMEOUT)
        assert refused.value.status_code == 404
        assert refused.value.resp_body == b"thing '9' not found\n"
        with pytest.raises(websocket.WebSocketBadStatusException, match="404"):
            websocket.create_connection(f"{base}/things", timeout=TIMEOUT)


def test_custom_protocol() -> None:
    with example("custom_protocol") as server:
        base = f"ws://127.0.0.1:{server.port}"
        with connect(f"{base}/news?token=secret") as ws:
            assert json.loads(ws.recv(timeout=TIMEOUT)) == {
                "event": "headline",
                "text": "the bell rang",
                "path": "/news",
            }
            with pytest.raises(ConnectionClosedOK):
                ws.recv(timeout=TIMEOUT)
        for path in ("/news", "/news?token=guess", "/nothing"):
            with pytest.raises(InvalidStatus) as refused:
                connect(f"{base}{path}")
            assert refused.value.response.status_code == 401
        with pytest.raises(InvalidStatus) as refused:
            connect(f"{base}/nothing?token=secret")
        assert refused.value.response.status_code == 404
        plain = http.client.HTTPConnection("127.0.0.1", server.port, timeout=TIMEOUT)
        plain.request("GET", "/healthz")
        assert plain.getresponse().read() == b"ok\n"
        plain.close()


def test_events() -> None:
    with example("events") as server:
        base = f"ws://127.0.0.1:{server.port}"
        echo = websocket.create_connection(f"{base}/echo", timeout=TIMEOUT)
        echo.send("hi")
        assert echo.recv() == "hi"
        echo.send_binary(b"hi")
        assert echo.recv() == b"hi"
        echo.close()
        with connect(f"{base}/count") as ws:
            assert json.loads(ws.recv(timeout=TIMEOUT)) == {"say": "something"}
            ws.send("one two")
            ws.send(["three ", "four"])
            ws.ping()
            assert json.loads(ws.recv(timeout=TIMEOUT)) == {"words": 4}
        with connect(f"{base}/count") as ws:
            ws.recv(timeout=TIMEOUT)
            ws.send(b"bytes")
            with pytest.raises(ConnectionClosed) as closed:
                ws.recv(timeout=TIMEOUT)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1011
        assert server.stop(signal.SIGTERM) == 0
    assert "4 words until 1000" in server.log
    assert "only words can be counted" in server.log


def test_resource() -> None:
    with example("resource") as server:
        base = f"ws://127.0.0.1:{server.port}/chat"
        with connect(f"{base}/room/tea") as one, connect(f"{base}/room/tea") as two:
            one.send("milk?")
            assert one.recv(timeout=TIMEOUT) == "milk?"
            assert two.recv(timeout=TIMEOUT) == "milk?"
            with connect(f"{base}/rooms") as count:
                counts = {"here": {"room/tea": 2}, "said": 1}
                assert json.loads(count.recv(timeout=TIMEOUT)) == counts


def test_extension() -> None:
    with example("extension") as server:
        base = f"ws://127.0.0.1:{server.port}/as"
        with connect(f"{base}/ada") as ada, connect(f"{base}/ben") as ben:
            ada.send("ben: hello")
            told = json.loads(ben.recv(timeout=TIMEOUT))
            assert told == {"from": "ada", "text": "hello"}
            ben.send("cleo: hello")
            told = json.loads(ben.recv(timeout=TIMEOUT))
            assert told == {"offline": "cleo", "contacts": ["cleo"]}
            with connect(f"{base}/ada") as other, pytest.raises(ConnectionClosed):
                other.recv(timeout=TIMEOUT)


def ask(server: ServerProcess) -> http.client.HTTPConnection:
    return http.client.HTTPConnection("127.0.0.1", server.port, timeout=TIMEOUT)


def get(server: ServerProcess, path: str) -> tuple[int, str, str]:
    with closing(
        http.client.HTTPConnection("127.0.0.1", server.port, timeout=TIMEOUT)
    ) as it:
        it.request("GET", path)
        response = it.getresponse()
        kind = response.headers["Content-Type"]
        return response.status, kind, response.read().decode()


def post(
    server: ServerProcess, path: str, body: str, headers: dict[str, str]
) -> tuple[int, str]:
    with closing(
        http.client.HTTPConnection("127.0.0.1", server.port, timeout=TIMEOUT)
    ) as it:
        it.request("POST", path, body, headers)
        response = it.getresponse()
        return response.status, response.read().decode()


def test_chat_serves_its_page_and_says_that_it_is_well() -> None:
    with example("chat") as server:
        status, kind, page = get(server, "/")
        assert (status, kind) == (200, "text/html; charset=utf-8")
        assert page == (ROOT / "examples/chat.html").read_text()
        assert get(server, "/healthz")[::2] == (200, "ok\n")
        assert get(server, "/nothing")[0] == 404


def test_webhook_publishes_what_is_signed() -> None:
    body = '{"order": 7}'
    signature = "sha256=" + hmac.digest(b"secret", body.encode(), "sha256").hex()
    signed = {"X-Hub-Signature-256": signature}
    with example("webhook") as server:
        url = f"ws://127.0.0.1:{server.port}/events/orders"
        with connect(url) as listener:
            assert post(server, "/hooks/orders", body, signed) == (
                200,
                '{"listeners": 1}',
            )
            assert json.loads(listener.recv(timeout=TIMEOUT)) == {"order": 7}
            assert post(server, "/hooks/orders", body + " ", signed)[0] == 403
            assert post(server, "/hooks/orders", body, {})[0] == 400
            assert post(server, "/hooks/orders", " " * 100_001, signed)[0] == 413
            token = {"Authorization": "Bearer secret"}
            status, answer = post(server, "/publish/events/orders", "hi", token)
            assert (status, json.loads(answer)["queued"]) == (200, 1)
            assert listener.recv(timeout=TIMEOUT) == "hi"
            assert post(server, "/publish/events/orders", "hi", {})[0] == 401
