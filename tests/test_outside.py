"""From outside: what scripts publish, hear and read, on real engines."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from websockets_routes.cli import main

from .contract.conftest import mortal_valkey, nats, prefix, valkey
from .contract.engines import Nats, Valkey
from .processes import TIMEOUT
from .supervised import connect_to, stopped, supervised

__all__ = ["mortal_valkey", "nats", "prefix", "valkey"]

COMMAND = [sys.executable, "-W", "error", "-m", "websockets_routes"]


@pytest.fixture(params=["valkey", "nats"])
def engine(request: pytest.FixtureRequest) -> Valkey | Nats:
    found: Valkey | Nats = request.getfixturevalue(request.param)
    return found


@contextmanager
def subscribing(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    """Run ``subscribe``; in the block it is subscribed."""
    process = subprocess.Popen(
        [*COMMAND, "subscribe", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stderr is not None
        assert "subscribed to" in process.stderr.readline()
        yield process
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
            assert process.wait(TIMEOUT) == 0
    finally:
        process.kill()
        process.communicate(timeout=TIMEOUT)


def line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline()


def publish(engine: Valkey | Nats, *arguments: str) -> None:
    assert main(["publish", "--broker", engine.url, *arguments]) == 0


def test_what_is_published_is_printed_as_it_comes(
    engine: Valkey | Nats, prefix: str
) -> None:
    with subscribing("--broker", engine.url, f"{prefix}/+") as process:
        for topic, message in (("a", "hello"), ("b", "tab\there"), ("c", "é ✓")):
            publish(engine, f"{prefix}/{topic}", message)
            assert line(process) == f"{prefix}/{topic}\t{message}\n"
        publish(engine, f"{prefix}/d", "two\nlines \x1b[2J\x9b")
        assert line(process) == f"{prefix}/d\ttwo\\nlines \\x1b[2J\\x9b\n"
        publish(engine, f"{prefix}/e", "--binary", os.fsdecode(b"\xff\x00"))
        assert line(process) == f"{prefix}/e\t\\xff\\x00\n"


def test_it_ends_after_so_many_messages(valkey: Valkey, prefix: str) -> None:
    with subscribing("--broker", valkey.url, prefix, "--count", "2") as process:
        # All three come at once.
        process.send_signal(signal.SIGSTOP)
        for _ in range(3):
            publish(valkey, prefix, "x")
        process.send_signal(signal.SIGCONT)
        assert process.wait(TIMEOUT) == 0
        assert process.stdout is not None
        assert process.stdout.read() == f"{prefix}\tx\n" * 2


def test_it_ends_when_nobody_reads_any_more(valkey: Valkey, prefix: str) -> None:
    with subscribing("--broker", valkey.url, prefix) as process:
        assert process.stdout is not None
        process.stdout.close()
        publish(valkey, prefix, "x")
        publish(valkey, prefix, "y")
        assert process.wait(TIMEOUT) == 0
        assert process.stderr is not None
        assert process.stderr.read() == ""
        process.stdout = None  # not to be read by communicate()


def test_it_tells_when_messages_may_be_missing(
    mortal_valkey: Valkey, prefix: str
) -> None:
    with subscribing("--broker", mortal_valkey.url, prefix) as process:
        mortal_valkey.kill()
        mortal_valkey.start()
        assert process.stderr is not None
        missing = f"messages of {prefix} may be missing here"
        assert any(missing in told for told in process.stderr)
        publish(mortal_valkey, prefix, "x")
        assert line(process) == f"{prefix}\tx\n"


def test_a_message_is_read_from_standard_input(
    engine: Valkey | Nats, prefix: str
) -> None:
    with subscribing("--broker", engine.url, prefix) as process:
        command = [*COMMAND, "publish", "--broker", engine.url, prefix, "-"]
        ended = subprocess.run(
            command, input=b"from stdin", timeout=TIMEOUT, check=True
        )
        assert ended.returncode == 0
        assert line(process) == f"{prefix}\tfrom stdin\n"


CHAT = """\
import os
from websockets_routes import Router

def router():
    router = Router()
    router.topic("room/{name}")

    @router.route("/")
    async def chat(ws):
        await ws.subscribe("room/7")
        await ws.send(str(os.getpid()))
        async for message in ws:
            ws.publish("room/7", message)

    return router
"""


def test_topics_are_the_same_in_all_workers_and_outside(
    engine: Valkey | Nats, tmp_path: Path
) -> None:
    (tmp_path / "served.py").write_text(CHAT)
    options = ("--workers", "2", "--host", "127.0.0.1", "--port", "0")
    with (
        supervised(tmp_path, *options, "--broker", engine.url) as found,
        ExitStack() as stack,
    ):
        port = found.listening(2)
        clients = []
        for worker in found.workers:
            with stopped(*{*found.workers} - {worker}):
                ws = stack.enter_context(connect_to(port))
                assert ws.recv(timeout=TIMEOUT) == str(worker)
                clients.append(ws)
        process = stack.enter_context(
            subscribing("--broker", engine.url, "room/#", "--count", "2")
        )
        clients[0].send("from a client")
        assert clients[1].recv(timeout=TIMEOUT) == "from a client"
        publish(engine, "room/7", "from outside")
        assert [ws.recv(timeout=TIMEOUT) for ws in clients] == ["from outside"] * 2
        assert line(process) == "room/7\tfrom a client\n"
        assert line(process) == "room/7\tfrom outside\n"
        assert found.end() == 0


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ([], [1, 2, 3, 4]),
        (["--last", "2"], [3, 4]),
        (["--last", "2", "--reverse"], [4, 3]),
        (["--reverse"], [4, 3, 2, 1]),
    ],
    ids=["all", "last", "last-reverse", "reverse"],
)
def test_history_is_printed_with_its_offsets(
    engine: Valkey | Nats,
    prefix: str,
    capsys: pytest.CaptureFixture[str],
    options: Sequence[str],
    expected: Sequence[int],
) -> None:
    policy = ["--length", "10", "--ttl", "60"]
    for number in range(1, 5):
        publish(engine, prefix, f"message {number}", *policy)
    arguments = ["history", "--broker", engine.url, prefix, *policy, *options]
    assert main(arguments) == 0
    printed = [each.split("\t") for each in capsys.readouterr().out.splitlines()]
    assert [text for _, text in printed] == [f"message {each}" for each in expected]
    offsets = [int(offset) for offset, _ in printed]
    assert offsets == sorted(offsets, reverse="--reverse" in options)


LOBBY = """\
from websockets_routes import Router, Topics

def router():
    router = Router(topics=Topics(presence_ttl=4))
    router.topic("lobby/{name}", presence=True)

    @router.route("/{user}")
    async def enter(ws):
        user = ws.params["user"]
        await ws.subscribe("lobby/7", as_=user, info={"name": f"{user} \\u2713"})
        await ws.send("entered")
        await ws.wait_closed()

    return router
"""


def test_members_of_all_workers_are_printed(
    engine: Valkey | Nats, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "served.py").write_text(LOBBY)
    options = ("--workers", "2", "--host", "127.0.0.1", "--port", "0")
    arguments = ["presence", "--broker", engine.url, "lobby/7"]
    with (
        supervised(tmp_path, *options, "--broker", engine.url) as found,
        ExitStack() as stack,
    ):
        port = found.listening(2)
        for worker, user in zip(found.workers, ("/ann", "/bob"), strict=True):
            with stopped(*{*found.workers} - {worker}):
                ws = stack.enter_context(connect_to(port, user))
                assert ws.recv(timeout=TIMEOUT) == "entered"
        assert main([*arguments, "--wait", "1.5"]) == 0
        printed = sorted(capsys.readouterr().out.splitlines())
        assert printed == [
            'ann\t[{"name": "ann ✓"}]',
            'bob\t[{"name": "bob ✓"}]',
        ]
        assert found.end() == 0
    assert main([*arguments, "--wait", "0.1"]) == 0
    assert capsys.readouterr().out == ""


def test_the_environment_names_the_broker(
    valkey: Valkey, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WEBSOCKETS_ROUTES_BROKER", valkey.url)
    assert main(["publish", prefix, "x"]) == 0


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (
            ["publish", "t", "x"],
            "no broker: give --broker URL, or set WEBSOCKETS_ROUTES_BROKER",
        ),
        (["publish", "--broker", "memory://", "t", "x"], "nobody outside hears it"),
        (["publish", "--broker", "kafka://", "t", "x"], "a URL begins with"),
        (["publish", "--broker", "redis://h", "a/+", "x"], "a name has no wildcard"),
        (["publish", "--broker", "redis://h", "t", "\udcff"], "no UTF-8"),
        (["subscribe", "--broker", "redis://h", "a+"], "a wildcard stands alone"),
        (["subscribe", "--broker", "redis://h", ""], "it is empty"),
        (["history", "--broker", "redis://h", "#", "--length", "1"], "no wildcard"),
        (
            ["history", "--broker", "redis://h", "t", "--length", "1", "--ttl", "0"],
            "ttl is a number of seconds",
        ),
        (["publish", "--broker", "redis://127.0.0.1:1", "t", "x"], "broker redis://"),
        (["presence", "--broker", "redis://h", "t/#"], "a name has no wildcard"),
        (["presence", "--broker", "redis://127.0.0.1:1", "t"], "broker redis://"),
    ],
)
def test_what_goes_wrong_is_told_in_one_line(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    problem: str,
) -> None:
    monkeypatch.setenv("WEBSOCKETS_ROUTES_BROKER", "")
    assert main(arguments) == 1
    captured = capsys.readouterr()
    assert captured.err.startswith("websockets-routes: ")
    assert captured.err.count("\n") == 1
    assert problem in captured.err


@pytest.mark.parametrize(
    "arguments",
    [
        ["subscribe", "t", "--count", "0"],
        ["history", "t"],
        ["publish", "t"],
        ["presence", "t", "--wait", "0"],
        ["presence", "t", "--wait", "soon"],
    ],
    ids=["count", "length", "message", "wait", "number"],
)
def test_wrong_usage_exits_with_2(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as exited:
        main([*arguments, "--broker", "redis://h"])
    assert exited.value.code == 2


def test_a_publish_that_a_signal_ends_is_a_failure() -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        url = f"redis://127.0.0.1:{mute.getsockname()[1]}"
        command = [*COMMAND, "publish", "--broker", url, "t", "x"]
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
            connection, _ = mute.accept()
            with connection:
                process.send_signal(signal.SIGINT)
                _, told = process.communicate(timeout=TIMEOUT)
    assert (process.returncode, told) == (1, "websockets-routes: interrupted\n")
