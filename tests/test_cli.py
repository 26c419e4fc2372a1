"""The command: what it prints, what it serves, how it ends."""

from __future__ import annotations

import json
import logging
import queue
import signal
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import trustme
from websockets import Origin
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect, unix_connect

from tests.processes import TIMEOUT, serving
from websockets_routes.cli import main

MODULE = """\
from websockets_routes import Router

router = Router()
loops = []

@router.route("/{rest:.*}", name="rest")
async def rest(ws, path):
    import asyncio
    loops.append(type(asyncio.get_running_loop()).__module__)
    await ws.send(path.params["rest"])

@router.route("/echo")
async def echo(ws):
    async for message in ws:
        await ws.send(message)
"""


@pytest.fixture(autouse=True)
def served_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    Path("served.py").write_text(MODULE)
    yield
    sys.modules.pop("served", None)


@pytest.fixture(autouse=True)
def log_levels() -> Iterator[None]:
    root = logging.getLogger()
    level = root.level
    yield
    root.setLevel(level)


class Listening(logging.Handler):
    """Tells where the server under test listens, once it does."""

    def __init__(self) -> None:
        super().__init__()
        self.where: queue.Queue[str] = queue.Queue()

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        if text.startswith("server listening on "):
            self.where.put(text.removeprefix("server listening on "))


@pytest.fixture
def listening() -> Iterator[Listening]:
    logger = logging.getLogger("websockets.server")
    handler = Listening()
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    yield handler
    logger.removeHandler(handler)
    logger.setLevel(level)


def run_while(
    listening: Listening, arguments: list[str], client: Callable[[str], None]
) -> int:
    """Run the command here while a client runs in a thread, which then ends it."""
    failures: list[BaseException] = []

    def use() -> None:
        try:
            client(listening.where.get(timeout=TIMEOUT))
        except BaseException as error:  # it is raised in the test
            failures.append(error)
        finally:
            signal.raise_signal(signal.SIGTERM)

    thread = threading.Thread(target=use)
    thread.start()
    code = main(["run", "served:router", *arguments])
    thread.join(TIMEOUT)
    if failures:
        raise failures[0]
    return code


@pytest.mark.parametrize(
    ("loop", "expected"),
    [("asyncio", "asyncio.unix_events"), ("uvloop", "uvloop"), ("auto", "uvloop")],
)
def test_run_serves_on_the_chosen_loop(
    listening: Listening, loop: str, expected: str
) -> None:
    def client(where: str) -> None:
        with connect(f"ws://{where}/some/thing") as ws:
            assert ws.recv(timeout=TIMEOUT) == "some/thing"

    assert run_while(listening, ["--port", "0", "--loop", loop], client) == 0
    assert sys.modules["served"].loops == [expected]


def test_run_passes_its_options_to_websockets(listening: Listening) -> None:
    options = ["--max-size", "10", "--compression", "none", "--origin", "http://here"]
    options += ["--ping-interval", "none", "--host", "127.0.0.1", "--port", "0"]

    def client(where: str) -> None:
        with pytest.raises(InvalidStatus):
            connect(f"ws://{where}/echo")
        with connect(f"ws://{where}/echo", origin=Origin("http://here")) as ws:
            assert ws.response is not None
            assert "Sec-WebSocket-Extensions" not in ws.response.headers
            ws.send("x" * 11)
            ws.close()
            assert ws.protocol.close_rcvd is not None
            assert ws.protocol.close_rcvd.code == 1009

    assert run_while(listening, options, client) == 0


def test_run_serves_on_a_unix_socket(listening: Listening) -> None:
    def client(where: str) -> None:
        with unix_connect(where, "ws://localhost/echo") as ws:
            ws.send("hi")
            assert ws.recv(timeout=TIMEOUT) == "hi"

    assert run_while(listening, ["--unix", "served.sock"], client) == 0


def test_run_serves_tls(listening: Listening) -> None:
    authority = trustme.CA()
    certificate = authority.issue_cert("localhost")
    certificate.private_key_and_cert_chain_pem.write_to_path("both.pem")
    context = ssl.create_default_context()
    authority.configure_trust(context)

    def client(where: str) -> None:
        port = where.rpartition(":")[2]
        with connect(f"wss://localhost:{port}/echo", ssl=context) as ws:
            ws.send("hi")
            assert ws.recv(timeout=TIMEOUT) == "hi"

    options = ["--ssl-certfile", "both.pem", "--host", "127.0.0.1", "--port", "0"]
    assert run_while(listening, options, client) == 0


def test_run_serves_behind_proxies(listening: Listening) -> None:
    Path("served.py").write_text(
        MODULE
        + """
@router.route("/client")
async def client(ws):
    await ws.send_json([ws.client_address, ws.url_for("rest", rest="x", absolute=True)])
"""
    )

    def client(where: str) -> None:
        host, _, port = where.rpartition(":")
        with socket.create_connection((host, int(port))) as sock:
            sock.sendall(b"PROXY TCP4 127.0.0.1 127.0.0.1 1 2\r\n")
            headers = {"Forwarded": "for=192.0.2.1;proto=https;host=example.com"}
            uri = "ws://localhost/client"
            with connect(uri, sock=sock, additional_headers=headers) as ws:
                expected = ["192.0.2.1", "wss://example.com/x"]
                assert json.loads(ws.recv(timeout=TIMEOUT)) == expected

    options = ["--host", "127.0.0.1", "--port", "0", "--proxy-protocol"]
    options += ["--trusted-proxy", "127.0.0.1", "--trusted-proxy", "10.0.0.0/8"]
    options += ["--forwarded-header", "forwarded"]
    assert run_while(listening, options, client) == 0


def one_line(capsys: pytest.CaptureFixture[str]) -> str:
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("websockets-routes: ")
    assert captured.err.count("\n") == 1
    return captured.err


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["run", "nowhere:router"], "no module 'nowhere'"),
        (["run", "served:nothing"], "no attribute 'nothing'"),
        (["routes", "served:loops"], "is no router"),
        (["run", "served:router", "--ssl-certfile", "none.pem"], "none.pem"),
        (["run", "served:router", "--ssl-certfile", "served.py"], "served.py"),
        (["run", "served:router", "--ssl-keyfile", "key.pem"], "--ssl-certfile"),
        (["run", "served:router", "--proxy-protocol"], "needs trusted_proxies"),
        (["run", "served:router", "--trusted-proxy", "x"], "trusted proxy 'x'"),
        (["run", "served:router", "--unix", "none/x.sock"], "cannot listen on"),
        (["routes", "served:router", "--match", "echo"], "begin with a slash"),
    ],
)
def test_what_goes_wrong_is_told_in_one_line(
    capsys: pytest.CaptureFixture[str], arguments: list[str], problem: str
) -> None:
    assert main(arguments) == 1
    assert problem in one_line(capsys)


def test_a_port_in_use_is_told_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        arguments = ["run", "served:router", "--host", "127.0.0.1", "--port", str(port)]
        assert main(arguments) == 1
    assert f"cannot listen on 127.0.0.1:{port}" in one_line(capsys)


def test_a_missing_uvloop_is_told_in_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # How Python is told that a module cannot be imported, installed or not.
    monkeypatch.setitem(sys.modules, "uvloop", None)
    assert main(["run", "served:router", "--loop", "uvloop"]) == 1
    assert "pip install 'websockets-routes[uvloop]'" in one_line(capsys)


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["run"], "required: MODULE:ROUTER"),
        (["run", "served:router", "--max-size", "much"], "invalid int value: 'much'"),
        (["run", "served:router", "--port", "99999"], "a port is a number"),
        (["run", "served:router", "--port", "x"], "a port is a number"),
    ],
)
def test_wrong_usage_exits_with_2(
    capsys: pytest.CaptureFixture[str], arguments: list[str], problem: str
) -> None:
    with pytest.raises(SystemExit) as exited:
        main(arguments)
    assert exited.value.code == 2
    assert problem in capsys.readouterr().err


def test_routes_prints_the_table_in_the_order_tried(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["routes", "served:router"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "TEMPLATE    NAME  ENDPOINT",
        "/echo             served:echo",
        "/{rest:.*}  rest  served:rest",
    ]


COMPOSED = """\
from websockets_routes import Router, header, param

router, api = Router(), Router()
router.mount("/api", api, name="api")
admin = router.host("admin.example.com")

@api.before_handshake
def authenticate(ws, path): ...

@router.middleware
async def log(ws, path, call_next): ...

@api.route("/feed/{name}", name="feed", subscribe="feed/{name}")
@header("authorization", required=True, description="a bearer token")
@param("since", type=int, default=0)
@param("note")
async def feed(ws): ...

@router.route("/")
async def home(ws): ...

@admin.route("/status")
async def status(ws): ...
"""


def test_routes_prints_the_whole_tree(capsys: pytest.CaptureFixture[str]) -> None:
    Path("served.py").write_text(COMPOSED)
    assert main(["routes", "served:router"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "TEMPLATE          NAME      ENDPOINT",
        "/                           served:home",
        "/api/feed/{name}  api:feed  served:feed",
        "",
        "admin.example.com",
        "TEMPLATE  NAME  ENDPOINT",
        "/status         served:status",
    ]


def test_routes_tells_what_connections_meet(capsys: pytest.CaptureFixture[str]) -> None:
    Path("served.py").write_text(COMPOSED)
    assert main(["routes", "served:router", "--verbose"]) == 0
    assert capsys.readouterr().out.splitlines()[:10] == [
        "TEMPLATE          NAME      ENDPOINT",
        "/                           served:home",
        "    middleware: served:log",
        "/api/feed/{name}  api:feed  served:feed",
        "    before the handshake: served:authenticate",
        "    header 'authorization': str, required; a bearer token",
        "    query parameter 'since': int, 0 by default",
        "    query parameter 'note': str",
        "    middleware: served:log",
        "    subscribes to: feed/{name}",
    ]


ANSWERING = """\
from websockets_routes import Router

router, api = Router(), Router()
router.mount("/api", api, name="api")
admin = router.host("admin.example.com")

@router.route("/")
async def socket(ws): ...

@router.get("/")
async def page(request): ...

@api.route("/thing/{id}", name="thing", methods=["PUT", "DELETE"])
async def change(request): ...

@api.any("/*rest")
async def rest(request): ...

@admin.route("/status")
async def status(ws): ...
"""


def test_routes_prints_the_methods_where_requests_are_answered(
    capsys: pytest.CaptureFixture[str],
) -> None:
    Path("served.py").write_text(ANSWERING)
    assert main(["routes", "served:router"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "METHOD       TEMPLATE         NAME       ENDPOINT",
        "WEBSOCKET    /                           served:socket",
        "GET          /                           served:page",
        "DELETE, PUT  /api/thing/{id}  api:thing  served:change",
        "any          /api/*rest                  served:rest",
        "",
        "admin.example.com",
        "TEMPLATE  NAME  ENDPOINT",
        "/status         served:status",
    ]


def test_routes_prints_what_answers_requests_at_a_path(
    capsys: pytest.CaptureFixture[str],
) -> None:
    Path("served.py").write_text(ANSWERING)
    assert main(["routes", "served:router", "--match", "/api/thing/1"]) == 0
    assert "served:change" in capsys.readouterr().out


def test_routes_prints_what_a_path_meets(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["routes", "served:router", "--match", "/a/b?c"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "template        /{rest:.*}",
        "name            rest",
        "endpoint        served:rest",
        "params['rest']  'a/b'",
    ]
    assert main(["routes", "served:router", "--match", "/echo"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "template  /echo",
        "endpoint  served:echo",
    ]


def test_routes_exits_with_1_when_a_path_meets_nothing(
    capsys: pytest.CaptureFixture[str],
) -> None:
    Path("served.py").write_text("from websockets_routes import Router\nr = Router()")
    assert main(["routes", "served:r", "--match", "/a"]) == 1
    assert capsys.readouterr().out == "/a matches nothing\n"


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_process_of_its_own_ends_gracefully(
    tmp_path: Path, loop: str, number: int
) -> None:
    arguments = ["-m", "websockets_routes", "run", "served:router", "--port", "0"]
    with (
        serving([*arguments, "--loop", loop], tmp_path) as server,
        connect(f"ws://localhost:{server.port}/echo") as ws,
    ):
        ws.send("hi")
        assert ws.recv(timeout=TIMEOUT) == "hi"
        server.process.send_signal(number)
        with pytest.raises(Exception, match="1001"):
            ws.recv(timeout=TIMEOUT)
        assert server.stop() == 0
    assert "route /echo -> served:echo" in server.log
    assert "Traceback" not in server.log


def test_a_process_drains_with_the_code_that_it_is_told(tmp_path: Path) -> None:
    arguments = ["-m", "websockets_routes", "run", "served:router", "--port", "0"]
    arguments += ["--drain", "2", "--shutdown-code", "1012"]
    with (
        serving(arguments, tmp_path) as server,
        connect(f"ws://localhost:{server.port}/echo") as ws,
    ):
        server.process.send_signal(signal.SIGTERM)
        with pytest.raises(Exception, match="1012"):
            ws.recv(timeout=TIMEOUT)
        assert server.stop() == 0


def test_a_process_whose_start_fails_exits_with_1_and_its_cause(
    tmp_path: Path,
) -> None:
    code = MODULE + "\n@router.on_start\ndef start(): raise OSError('no database')\n"
    (tmp_path / "served.py").write_text(code)
    arguments = ["-m", "websockets_routes", "run", "served:router", "--port", "0"]
    ended = subprocess.run(
        [sys.executable, *arguments],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )
    assert ended.returncode == 1
    assert "no database" in ended.stderr
    assert "listening" not in ended.stderr


def test_a_broker_that_is_not_there_is_told_in_one_line(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    url = f"redis://127.0.0.1:{port}"
    assert main(["run", "served:router", "--port", "0", "--broker", url]) == 1
    error = capsys.readouterr().err
    assert error.startswith(f"websockets-routes: broker redis://127.0.0.1:{port}")
    assert len(error.splitlines()) == 1


def test_a_broker_that_is_unknown_is_told_in_one_line(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["run", "served:router", "--broker", "zzz://localhost"]) == 1
    assert "unknown; a URL begins with" in capsys.readouterr().err
