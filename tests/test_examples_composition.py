"""The examples of composed routers, started and talked to as their readers would."""

from __future__ import annotations

import http.client
import signal
import socket
import subprocess
import sys
from contextlib import closing

import pytest
import websocket
from websockets.exceptions import ConnectionClosed, ConnectionClosedOK, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from tests.processes import ROOT, TIMEOUT, ServerProcess
from tests.test_examples import example

BEARER = {"Authorization": "Bearer secret"}


def notes(server: ServerProcess) -> list[str]:
    """Read all notes that the server lists."""
    found = []
    with connect(f"ws://127.0.0.1:{server.port}/api/notes", proxy=None) as ws:
        while True:
            try:
                found.append(str(ws.recv(timeout=TIMEOUT)))
            except ConnectionClosedOK:
                return found


def add(server: ServerProcess) -> ClientConnection:
    return connect(
        f"ws://127.0.0.1:{server.port}/admin/notes",
        additional_headers=BEARER,
        proxy=None,
    )


def test_private_api_adds_a_note_and_lists_it_to_everybody() -> None:
    with example("private_api") as server:
        assert notes(server) == ["the bell rang"]
        with add(server) as ws:
            ws.send("it is late")
            ws.send("sleep — well")
        assert notes(server) == ["the bell rang", "it is late", "sleep — well"]
        assert server.stop(signal.SIGTERM) == 0
    assert "somebody visits /api/notes" in server.log
    assert "ada visits /admin/notes" in server.log
    assert "Traceback" not in server.log


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": "Bearer guess"},
        {"Authorization": "Bearer secretx"},
        {"Cookie": "Authorization=Bearer secret"},
    ],
    ids=["none", "wrong", "longer", "cookie"],
)
def test_private_api_refuses_who_does_not_know_the_token(
    headers: dict[str, str],
) -> None:
    with example("private_api") as server:
        base = f"ws://127.0.0.1:{server.port}"
        with pytest.raises(InvalidStatus) as refused:
            connect(f"{base}/admin/notes", additional_headers=headers, proxy=None)
        assert refused.value.response.status_code == 401
        assert refused.value.response.body == b"who are you?\n"
        assert notes(server) == ["the bell rang"]
        assert server.stop(signal.SIGINT) == 0
    assert "visits /admin/notes" not in server.log
    assert "Traceback" not in server.log


def test_private_api_answers_a_client_of_another_library() -> None:
    with example("private_api") as server:
        base = f"ws://127.0.0.1:{server.port}"
        with pytest.raises(websocket.WebSocketBadStatusException) as refused:
            websocket.create_connection(f"{base}/admin/notes", timeout=TIMEOUT)
        assert refused.value.status_code == 401
        for path in ("/notes", "/api", "/api/", "/admin", "/api/notes/1", "/"):
            with pytest.raises(websocket.WebSocketBadStatusException) as refused:
                websocket.create_connection(f"{base}{path}", timeout=TIMEOUT)
            assert (path, refused.value.status_code) == (path, 404)
        ws = websocket.create_connection(
            f"{base}/admin/notes", timeout=TIMEOUT, header=BEARER
        )
        ws.send("from afar")
        ws.close()
        assert notes(server)[-1] == "from afar"


def test_private_api_closes_on_what_is_not_a_note_and_goes_on() -> None:
    with example("private_api") as server:
        with add(server) as ws:
            ws.send("one")
            ws.send("")
            ws.send("two")
            with pytest.raises(ConnectionClosed) as closed:
                ws.recv(timeout=TIMEOUT)
        assert closed.value.rcvd is not None
        assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (
            4000,
            "not a note",
        )
        # What was accepted stays; the others are served as before.
        assert notes(server) == ["the bell rang", "one"]
        with add(server) as ws:
            ws.send("three")
        assert notes(server) == ["the bell rang", "one", "three"]
        assert server.stop(signal.SIGTERM) == 0
    assert "/admin/notes: CHECK constraint failed" in server.log
    assert "Traceback" not in server.log


def test_private_api_ends_with_connections_open() -> None:
    with example("private_api") as server, add(server) as ws:
        ws.send("last words")
        assert ws.ping().wait(TIMEOUT)
        server.process.send_signal(signal.SIGTERM)
        with pytest.raises(ConnectionClosed) as closed:
            ws.recv(timeout=TIMEOUT)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1001
        assert server.stop() == 0
    assert "Traceback" not in server.log


def test_private_api_answers_plain_requests() -> None:
    with example("private_api") as server:
        for path, headers, status in (
            ("/api/notes", {}, 426),
            ("/admin/notes", {}, 401),
            ("/admin/notes", BEARER, 426),
            ("/nothing", BEARER, 404),
        ):
            address = http.client.HTTPConnection(
                "127.0.0.1", server.port, timeout=TIMEOUT
            )
            with closing(address):
                address.request("GET", path, headers=headers)
                assert (path, address.getresponse().status) == (path, status)


def test_private_api_has_routes_that_read_as_a_tree() -> None:
    found = subprocess.run(
        [
            sys.executable,
            "-W",
            "error",
            "-m",
            "websockets_routes",
            "routes",
            "private_api:router",
        ],
        cwd=ROOT / "examples",
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )
    assert (found.returncode, found.stderr) == (0, "")
    lines = {line.split()[0]: line for line in found.stdout.splitlines() if line}
    assert "/api/notes" in found.stdout
    assert "/admin/notes" in found.stdout
    assert "list_notes" in lines["/api/notes"]
    assert "add_notes" in lines["/admin/notes"]
    assert "admin:add" in lines["/admin/notes"]


# Hosts


def hosted(server: ServerProcess, host: str, path: str = "/") -> str:
    """Connect with a Host header; return the first message, or the status."""
    sock = socket.create_connection(("127.0.0.1", server.port), timeout=TIMEOUT)
    try:
        ws = websocket.create_connection(
            f"ws://127.0.0.1:{server.port}{path}",
            timeout=TIMEOUT,
            socket=sock,
            host=host,
        )
    except websocket.WebSocketBadStatusException as refused:
        sock.close()
        return str(refused.status_code)
    try:
        return str(ws.recv())
    finally:
        ws.close()


EVERYBODY = "welcome, whoever you are"


def test_hosts_welcome_by_name() -> None:
    table = {
        ("127.0.0.1", "/"): EVERYBODY,
        ("localhost:8765", "/"): EVERYBODY,
        ("[::1]:8765", "/"): EVERYBODY,
        ("example.com", "/"): EVERYBODY,
        ("ada.example.com", "/"): "welcome, ada",
        ("ADA.Example.COM", "/"): "welcome, ada",
        ("ada.example.com:8765", "/"): "welcome, ada",
        ("ada.example.com.", "/"): "welcome, ada",
        ("ada.example.com.:443", "/"): "welcome, ada",
        ("a.b.example.com", "/"): EVERYBODY,
        ("ada.example.com.evil.org", "/"): EVERYBODY,
        ("adaexample.com", "/"): EVERYBODY,
        (".example.com", "/"): EVERYBODY,
        ("admin.example.com", "/status"): "all is well",
        ("Admin.example.com:1", "/status"): "all is well",
        # A host that has no such route does not fall through.
        ("admin.example.com", "/"): "404",
        ("ada.example.com", "/status"): "404",
        ("localhost", "/status"): "404",
        ("administrator.example.com", "/status"): "404",
    }
    with example("hosts") as server:
        found = {(host, path): hosted(server, host, path) for host, path in table}
        assert server.stop(signal.SIGTERM) == 0
    assert found == table
    assert "Traceback" not in server.log


def test_hosts_are_told_apart_by_a_client_that_resolves_them() -> None:
    with example("hosts") as server:
        for host, message in (("ben.example.com", "welcome, ben"), ("x", EVERYBODY)):
            sock = socket.create_connection(("127.0.0.1", server.port))
            with connect(f"ws://{host}:{server.port}/", sock=sock, proxy=None) as ws:
                assert ws.recv(timeout=TIMEOUT) == message
