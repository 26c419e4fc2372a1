"""Workers: many processes on one port, restarted, drained, and never orphaned."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import ssl
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import trustme
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect, unix_connect

from websockets_routes.cli import main
from websockets_routes.sockets import (
    SharedServer,
    listen_together,
    listening,
    open_sockets,
)
from websockets_routes.worker import logger
from websockets_routes.workers import Supervisor, worker_command

from .processes import TIMEOUT
from .supervised import Supervised, connect_to, stopped, supervised

MODULE = """\
import asyncio, os, pathlib, time
from websockets_routes import Router

def router():
    router = Router()

    @router.route("/")
    async def who(ws):
        await ws.send(str(os.getpid()))
        async for message in ws:
            await ws.send(message)

    @router.route("/block")
    async def block(ws):
        await ws.send(str(os.getpid()))
        time.sleep(60)

    @router.on_start
    async def start():
        # A worker may have servers of its own.
        async with await asyncio.start_server(print, "127.0.0.1", 0):
            pass
        if pathlib.Path("broken").exists():
            raise OSError("no database")

    @router.on_shutdown
    async def shutdown():
        await asyncio.sleep(0.2)

    return router
"""

SLEEPING = [sys.executable, "-c", "import time; time.sleep(60)"]
ISLANDS = ("--broker", "memory://")
TCP = ("--host", "127.0.0.1", "--port", "0")


UPGRADE = (
    b"Connection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    b"Sec-WebSocket-Version: 13\r\n\r\n"
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "served.py").write_text(MODULE)
    return tmp_path


def two(*more: str) -> tuple[str, ...]:
    return ("--workers", "2", *ISLANDS, *TCP, *more)


def worker_of(ws: ClientConnection) -> int:
    return int(ws.recv(timeout=TIMEOUT))


def close_code(ws: ClientConnection) -> int:
    try:
        while True:
            ws.recv(timeout=TIMEOUT)
    except ConnectionClosed:
        assert ws.close_code is not None
        return ws.close_code


def wait_for_both(found: Supervised) -> tuple[int, int, int]:
    port = found.listening(2)
    first, second = found.workers
    return port, first, second


# A worker that dies


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_what_a_killed_worker_has_not_accepted_another_one_does(
    folder: Path, loop: str
) -> None:
    with supervised(folder, *two("--loop", loop)) as found, ExitStack() as stack:
        port, victim, other = wait_for_both(found)
        with stopped(other):
            on_victim = stack.enter_context(connect_to(port))
            assert worker_of(on_victim) == victim
        with stopped(victim):
            on_other = stack.enter_context(connect_to(port))
            assert worker_of(on_other) == other
        with stopped(victim, other):
            waiting = [
                socket.create_connection(("127.0.0.1", port), TIMEOUT)
                for _ in range(20)
            ]
            os.kill(victim, signal.SIGKILL)
            found.wait_for(f"worker {victim} was ended by SIGKILL")
        for sock in waiting:
            ws = stack.enter_context(connect(f"ws://127.0.0.1:{port}/", sock=sock))
            assert worker_of(ws) != victim
        assert close_code(on_victim) == 1006
        on_other.send("still there")
        assert on_other.recv(timeout=TIMEOUT) == "still there"
        # Another one takes its place.
        found.listening(3)
        with stopped(other):
            ws = stack.enter_context(connect_to(port))
            assert worker_of(ws) == found.workers[2]
        assert found.end() == 0


def test_when_no_worker_can_be_started_any_more_the_supervisor_gives_up(
    folder: Path,
) -> None:
    with supervised(folder, *two()) as found:
        _, first, second = wait_for_both(found)
        (folder / "broken").touch()
        os.kill(first, signal.SIGKILL)
        os.kill(second, signal.SIGKILL)
        assert found.wait() == 1
    assert "exited with 1 before it listened; starting another one in" in found.log
    assert found.log.count("giving up: no worker can start") == 1
    # One at a time, so that the cause is told once each time.
    assert len(found.workers) == 5


@pytest.mark.parametrize(
    ("module", "cause"),
    [
        ("import no_such_module", "No module named 'no_such_module'"),
        ("router = 1", "served:router is no router"),
        (MODULE.replace('"broken").exists()', '".").exists()'), "no database"),
    ],
    ids=["import", "router", "start"],
)
def test_what_keeps_workers_from_starting_is_told_once(
    tmp_path: Path, module: str, cause: str
) -> None:
    (tmp_path / "served.py").write_text(module)
    with supervised(tmp_path, "--workers", "4", *ISLANDS, *TCP) as found:
        assert found.wait() == 1
    causes = [line for line in found.log.splitlines() if line.endswith(cause)]
    assert len([each for each in causes if "raise" not in each]) <= 1
    assert cause in found.log
    assert found.log.count("giving up") == len(found.workers) == 1


# The end


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("everyone", [False, True], ids=["supervisor", "everyone"])
def test_a_signal_ends_all_gracefully_whoever_else_gets_it(
    folder: Path, number: int, everyone: bool
) -> None:
    options = two("--drain", "2", "--shutdown-code", "1012")
    with supervised(folder, *options) as found, ExitStack() as stack:
        port, first, second = wait_for_both(found)
        clients = []
        for pid in (first, second):
            with stopped(pid):
                clients.append(stack.enter_context(connect_to(port)))
        if everyone:
            os.kill(first, number)
            os.kill(second, number)
        assert found.end(number) == 0
        assert [close_code(each) for each in clients] == [1012, 1012]
    assert "Traceback" not in found.log


def hold(port: int) -> socket.socket:
    """Open a connection that never answers a close frame."""
    sock = socket.create_connection(("127.0.0.1", port), TIMEOUT)
    sock.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n" + UPGRADE)
    assert sock.recv(1024).startswith(b"HTTP/1.1 101 ")
    return sock


def test_a_second_signal_ends_at_once(folder: Path) -> None:
    options = two("--close-timeout", "none", "--ping-interval", "none")
    with supervised(folder, *options) as found:
        port, *_ = wait_for_both(found)
        with hold(port):
            found.send(signal.SIGTERM)
            found.wait_for("server closing", 2)
            assert found.end() == 0
    assert "aborting what is left" in found.log


def test_a_third_signal_kills(folder: Path) -> None:
    with supervised(folder, *two()) as found:
        port, *_ = wait_for_both(found)
        with connect_to(port, "/block") as ws:
            blocked = worker_of(ws)
            found.send(signal.SIGTERM)
            found.wait_for("server closed")  # the one that is not blocked
            found.send(signal.SIGTERM)
            found.wait_for("ending at once")
            assert found.end() == 1
            ws.socket.close()
    assert f"worker {blocked} was ended by SIGKILL" in found.log


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_a_killed_supervisor_leaves_no_worker(folder: Path, loop: str) -> None:
    with supervised(folder, *two("--loop", loop)) as found:
        port, *_ = wait_for_both(found)
        with connect_to(port) as ws:
            assert found.end(signal.SIGKILL) == -signal.SIGKILL
            assert close_code(ws) == 1001


def test_a_killed_supervisor_leaves_no_worker_that_hangs(folder: Path) -> None:
    module = MODULE + "\nimport atexit; atexit.register(time.sleep, 60)\n"
    (folder / "served.py").write_text(module)
    with supervised(folder, *two("--close-timeout", "1")) as found:
        wait_for_both(found)
        assert found.end(signal.SIGKILL) == -signal.SIGKILL
    assert found.log.count("server closed") == 2, found.log


def test_a_worker_that_starts_for_long_does_not_outlive_its_supervisor(
    folder: Path,
) -> None:
    module = "import sys, time\nprint('importing', file=sys.stderr)\ntime.sleep(60)"
    (folder / "served.py").write_text(module)
    with supervised(folder, *two()) as found:
        found.wait_for("importing")
        assert found.end(signal.SIGKILL) == -signal.SIGKILL
    with supervised(folder, *two()) as found:
        found.wait_for("importing")
        assert found.end() == 0


# SIGHUP


def keep_connecting(port: int, until: threading.Event) -> set[int]:
    """Connect again and again; return whom it met. All attempts must succeed."""
    met: set[int] = set()
    while not until.is_set():
        with connect_to(port) as ws:
            try:
                met.add(worker_of(ws))
            except ConnectionClosed:
                assert ws.close_code == 1012
    return met


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_sighup_replaces_all_workers_and_loses_no_attempt(
    folder: Path, loop: str
) -> None:
    options = two("--loop", loop, "--shutdown-code", "1012")
    with (
        supervised(folder, *options) as found,
        ThreadPoolExecutor(4) as pool,
        ExitStack() as stack,
    ):
        port, *_ = wait_for_both(found)
        over = threading.Event()
        stack.callback(over.set)
        held = stack.enter_context(connect_to(port))
        clients = [pool.submit(keep_connecting, port, over) for _ in range(4)]
        found.send(signal.SIGHUP)
        found.wait_for("server closed", 2)
        found.listening(4)
        assert close_code(held) == 1012
        over.set()
        met = set.union(*(each.result(TIMEOUT) for each in clients))
        with connect_to(port) as ws:
            assert worker_of(ws) in found.workers[2:]
        assert found.end() == 0
    assert met <= {*found.workers}
    assert len(found.workers) == 4


def test_a_worker_answers_the_handshakes_that_it_accepted_before_it_hands_over(
    folder: Path,
) -> None:
    with supervised(folder, *two()) as found:
        port, first, second = wait_for_both(found)
        here = ("127.0.0.1", port)
        with ExitStack() as stack:
            with stopped(second):
                slow = stack.enter_context(socket.create_connection(here, TIMEOUT))
                slow.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n")
                with connect_to(port) as ws:
                    # It has accepted the other one, too.
                    assert worker_of(ws) == first
            found.send(signal.SIGHUP)
            found.wait_for("handing over")
            for _ in range(10):
                with connect_to(port) as ws:
                    assert worker_of(ws) != first
            slow.sendall(UPGRADE)
            assert slow.recv(1024).startswith(b"HTTP/1.1 101 ")
        found.wait_for("server closed", 2)
        assert found.end() == 0


def test_when_the_new_code_cannot_start_the_old_workers_go_on(folder: Path) -> None:
    with supervised(folder, *two()) as found:
        port, first, second = wait_for_both(found)
        (folder / "broken").touch()
        found.send(signal.SIGHUP)
        found.wait_for("before it listened; keeping the old workers")
        with connect_to(port) as ws:
            assert worker_of(ws) in {first, second}
        assert found.end() == 0
    assert len(found.workers) == 3


# Where they listen


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_workers_share_a_unix_socket_that_goes_with_the_last_one(
    folder: Path, loop: str
) -> None:
    options = ("--workers", "2", *ISLANDS, "--unix", "served.sock", "--loop", loop)
    path = folder / "served.sock"
    with supervised(folder, *options) as found:
        found.wait_for("server listening on served.sock", 2)
        first, second = found.workers
        for one, other in ((first, second), (second, first)):
            with stopped(one), unix_connect(str(path)) as ws:
                assert worker_of(ws) == other
        found.send(signal.SIGHUP)
        found.wait_for("server closed", 2)
        with unix_connect(str(path)) as ws:
            assert worker_of(ws) in found.workers[2:]
        assert found.end() == 0
    assert not path.exists()


def test_workers_speak_tls(folder: Path) -> None:
    authority = trustme.CA()
    certificate = authority.issue_cert("127.0.0.1")
    pem = folder / "both.pem"
    certificate.private_key_and_cert_chain_pem.write_to_path(str(pem))
    context = ssl.create_default_context()
    authority.configure_trust(context)
    with supervised(folder, *two("--ssl-certfile", "both.pem")) as found:
        port, first, second = wait_for_both(found)
        with connect(f"wss://127.0.0.1:{port}/", ssl=context) as ws:
            assert worker_of(ws) in {first, second}
        assert found.end() == 0


def test_a_socket_that_somebody_else_put_in_its_place_is_left_alone(
    tmp_path: Path,
) -> None:
    path = tmp_path / "x.sock"
    with listening(None, 0, str(path)):
        with listening(None, 0, str(path)):
            pass
        assert not path.exists()
        with socket.socket(socket.AF_UNIX) as other:
            other.bind(str(path))
    assert path.exists()


def test_a_socket_that_somebody_removed_is_no_problem(tmp_path: Path) -> None:
    path = tmp_path / "x.sock"
    with listening(None, 0, str(path)):
        path.unlink()


def test_a_socket_that_cannot_be_had_is_an_error(tmp_path: Path) -> None:
    with (
        pytest.raises(FileNotFoundError),
        listening(None, 0, str(tmp_path / "none" / "x")),
    ):
        pass


def test_each_address_of_a_host_has_a_socket_if_this_machine_has_the_address(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    absent = ("192.0.2.1", 0)  # for documentation, RFC 5737
    here = ("127.0.0.1", 0)
    addresses = [absent, here, here]

    def resolve(*_: object, **__: object) -> list[tuple[object, ...]]:
        stream = (socket.AF_INET, socket.SOCK_STREAM, 6, "")
        return [(*stream, address) for address in addresses]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    (made,) = open_sockets("both", 0)
    taken = made.getsockname()
    with made:
        addresses[:] = [here, taken]
        with pytest.raises(OSError, match="in use"):
            open_sockets("both", 0)
    addresses[:] = [absent]
    with pytest.raises(OSError, match="assign"):
        open_sockets("both", 0)


# What is refused


@pytest.fixture
def no_broker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WEBSOCKETS_ROUTES_BROKER", "")


@pytest.mark.usefixtures("no_broker")
@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (["--workers", "2", "--broker", "kafka://"], "a URL begins with"),
        (["--workers", "2", "--reload", *ISLANDS], "it has one worker"),
        (["--workers", "2", *ISLANDS, "--unix", "none/x"], "cannot listen on none/x"),
    ],
)
def test_what_cannot_work_is_told_in_one_line(
    capsys: pytest.CaptureFixture[str], options: list[str], problem: str
) -> None:
    assert main(["run", "served:router", *options]) == 1
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("websockets-routes: ")
    assert problem in error


@pytest.mark.usefixtures("no_broker")
def test_workers_whose_router_has_no_broker_are_refused(folder: Path) -> None:
    with supervised(folder, "--workers", "2", *TCP) as found:
        assert found.wait() == 1
    assert found.log.count("--workers needs --broker URL") == 1
    assert "Traceback" not in found.log
    assert len(found.workers) == 1


@pytest.mark.usefixtures("no_broker")
def test_workers_take_the_broker_that_the_router_names_itself(tmp_path: Path) -> None:
    (tmp_path / "served.py").write_text(
        "from websockets_routes import Router, Topics\n"
        "from websockets_routes.brokers import MemoryBroker\n"
        "router = Router(topics=Topics(MemoryBroker()))\n"
    )
    with supervised(tmp_path, "--workers", "2", *TCP) as found:
        wait_for_both(found)
        assert found.end() == 0


@pytest.mark.parametrize("count", ["0", "x", "1025"])
def test_a_number_of_workers_is_a_number(
    capsys: pytest.CaptureFixture[str], count: str
) -> None:
    with pytest.raises(SystemExit):
        main(["run", "served:router", "--workers", count])
    assert "a number from 1 to 1024" in capsys.readouterr().err


@pytest.mark.usefixtures("no_broker")
def test_other_systems_are_told(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(signal, "SIGHUP")
    assert main(["run", "served:router", "--reload"]) == 1
    assert "need a POSIX system" in capsys.readouterr().err


def test_a_missing_extra_is_told(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # How Python is told that a module cannot be imported, installed or not.
    monkeypatch.setitem(sys.modules, "watchfiles", None)
    assert main(["run", "served:router", "--reload"]) == 1
    assert "pip install 'websockets-routes[reload]'" in capsys.readouterr().err


# Inside


async def test_a_supervisor_that_can_start_no_process_gives_up(
    caplog: pytest.LogCaptureFixture,
) -> None:
    supervisor = Supervisor(["/no/such/command"], [], 3)
    assert await supervisor.run() == 1
    assert caplog.messages[0].startswith("a worker cannot be started: ")


async def test_a_signal_while_a_worker_is_started_ends_it() -> None:
    code = "import socket, sys; socket.socket(fileno=int(sys.argv[-1])).recv(1)"
    supervisor = Supervisor([sys.executable, "-c", code], [], 3)
    asyncio.get_running_loop().call_soon(supervisor.stop)
    async with asyncio.timeout(TIMEOUT):
        assert await supervisor.run() == 0


class Greeter(asyncio.Protocol):
    def connection_made(self, transport: Any) -> None:
        transport.write(b"hello")
        transport.close()


async def test_what_is_accepted_in_the_last_turn_of_the_loop_is_served() -> None:
    loop = asyncio.get_running_loop()
    opened = open_sockets("127.0.0.1", 0)
    made: list[SharedServer] = []
    listen_together(loop, opened, made.append)
    options: Any = {"sock": opened}
    await loop.create_server(Greeter, **options)
    (server,) = made
    with (
        opened[0].dup() as successor,
        socket.create_connection(opened[0].getsockname(), TIMEOUT) as client,
    ):
        client.setblocking(False)
        # asyncio accepts in the second turn and makes the transport in the third.
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        server.stop_accepting()
        assert server.is_serving()
        async with await loop.create_server(Greeter, sock=successor):
            async with asyncio.timeout(TIMEOUT):
                assert await loop.sock_recv(client, 10) == b"hello"
    server.close()
    await server.wait_closed()
    assert not server.is_serving()


class Started(logging.Handler):
    """Tells when a worker was started."""

    def __init__(self) -> None:
        super().__init__()
        self.event = asyncio.Event()

    def emit(self, record: logging.LogRecord) -> None:
        if record.getMessage().endswith("started"):
            self.event.set()


async def test_a_supervisor_that_is_cancelled_takes_its_workers_along(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, logger.name)
    started = Started()
    logger.addHandler(started)
    task = asyncio.create_task(Supervisor(SLEEPING, [], 1).run())
    try:
        async with asyncio.timeout(TIMEOUT):
            await started.event.wait()
            task.cancel()
            await asyncio.wait([task])
    finally:
        logger.removeHandler(started)
    pid = int(caplog.messages[0].split()[1])
    # It has been waited for, too.
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


@pytest.mark.parametrize("unread", ["", "theirs.send(b'r')"], ids=["closed", "reset"])
def test_a_worker_without_a_loop_ends_with_its_supervisor_too(unread: str) -> None:
    code = f"""\
import signal, socket, time
from websockets_routes.worker import Worker

signal.signal(signal.SIGTERM, lambda *_: print("asked to end", flush=True))
ours, theirs = socket.socketpair()
{unread}
Worker(theirs.detach(), [], 0.1).start()
ours.close()
time.sleep(60)
"""
    ended = subprocess.run(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )
    assert (ended.returncode, ended.stdout) == (1, "asked to end\n")


def test_workers_run_with_the_options_of_the_interpreter(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "warnoptions", ["error"])
    monkeypatch.setattr(sys, "_xoptions", {"dev": True, "utf8": "1"})
    flags = ["-Werror", "-X", "dev", "-X", "utf8=1"]
    command = worker_command(["run", "a:b"])
    assert command[:-4] == [sys.executable, *flags, *["-O"] * sys.flags.optimize]
    assert command[-4:] == ["-m", "websockets_routes", "run", "a:b"]
