"""Reloading: a change of a file starts the worker again."""

from __future__ import annotations

import os
import signal
import socket
import sys
from pathlib import Path

import pytest
from websockets.sync.client import connect

from websockets_routes.reloading import Reloader

from .processes import TIMEOUT
from .supervised import connect_to, supervised

MODULE = """\
import time
from parts.words import WORD
from websockets_routes import Router

router = Router()

@router.route("/")
async def word(ws):
    await ws.send(WORD)
    await ws.wait_closed()

@router.route("/block")
async def block(ws):
    await ws.send(WORD)
    time.sleep(60)
"""

OPTIONS = ("--reload", "--host", "127.0.0.1", "--port", "0")


@pytest.fixture
def words(tmp_path: Path) -> Path:
    (tmp_path / "served.py").write_text(MODULE)
    path = tmp_path / "parts" / "words.py"
    path.parent.mkdir()
    path.write_text("WORD = 'one'")
    return path


def said(port: int) -> str | bytes:
    with connect_to(port) as ws:
        return ws.recv(timeout=TIMEOUT)


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_a_change_restarts_and_a_broken_one_waits_for_the_next(
    words: Path, loop: str
) -> None:
    folder = words.parent.parent
    with supervised(folder, *OPTIONS, "--loop", loop) as found:
        port = found.listening(1)
        assert said(port) == "one"
        (words.parent / "notes.txt").write_text("no Python")
        words.write_text("WORD = 'two'  # longer")
        found.listening(2)
        assert said(port) == "two"
        words.write_text("WORD = no_such_name")
        found.wait_for("exited with 1; waiting for a change")
        # Whoever connects now waits too.
        waiting = socket.create_connection(("127.0.0.1", port), TIMEOUT)
        words.write_text("WORD = 'three'")
        with connect(f"ws://127.0.0.1:{port}/", sock=waiting) as ws:
            assert ws.recv(timeout=TIMEOUT) == "three"
        found.send(signal.SIGHUP)
        found.listening(4)
        assert said(port) == "three"
        assert found.end(signal.SIGINT) == 0
    assert found.log.count("words.py changed; reloading") == 3
    assert found.log.count("NameError") == 1


def test_a_worker_that_hangs_is_killed_for_the_next_one(words: Path) -> None:
    with supervised(words.parent.parent, *OPTIONS) as found:
        port = found.listening(1)
        with connect_to(port, "/block") as ws:
            assert ws.recv(timeout=TIMEOUT) == "one"
            words.write_text("WORD = 'two'  # longer")
            found.listening(2)
            ws.socket.close()
        assert said(port) == "two"
        assert found.end() == 0
    assert "was ended by SIGKILL" in found.log


def test_a_worker_that_dies_waits_for_a_change_too(words: Path) -> None:
    with supervised(words.parent.parent, *OPTIONS) as found:
        port = found.listening(1)
        os.kill(found.workers[0], signal.SIGKILL)
        found.wait_for("was ended by SIGKILL; waiting for a change")
        words.write_text("WORD = 'two'  # longer")
        found.listening(2)
        assert said(port) == "two"
        assert found.end() == 0


async def test_a_folder_that_cannot_be_watched_ends_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    command = [sys.executable, "-c", "import time; time.sleep(60)"]
    assert await Reloader(command, [], tmp_path / "none").run() == 1
    assert caplog.messages[0].startswith("cannot watch ")
