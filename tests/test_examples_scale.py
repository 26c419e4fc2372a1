"""What examples/scale is checked with, its chat, and what its README says."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import os
import re
import shlex
import signal
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from tests.contract.engines import VALKEY, Valkey
from tests.processes import ROOT, TIMEOUT, ServerProcess, serving
from tests.test_browser import CHROMIUM, browser, opened

FOLDER = ROOT / "examples" / "scale"


def load_kill() -> ModuleType:
    spec = importlib.util.spec_from_file_location("kill", FOLDER / "kill.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


KILL: Any = load_kill()

JOINED = {"epoch": "A", "offset": 0, "recovered": True}


def message(number: int, offset: int, epoch: str = "A") -> dict[str, Any]:
    return {"epoch": epoch, "offset": offset, "data": str(number)}


def heard(*events: dict[str, Any]) -> Any:
    room = KILL.Heard()
    for event in (JOINED, *events):
        if "data" in event:
            room.take(event)
        else:
            room.join(event)
    return room


def test_every_message_once_and_in_order_is_right() -> None:
    room = heard(message(0, 1), message(1, 2), JOINED, message(2, 7))
    assert room.problems(3) == []
    assert room.is_complete(3, ("A", 7))
    assert not room.is_complete(4, ("A", 8))


@pytest.mark.parametrize(
    ("events", "problem"),
    [
        pytest.param([message(1, 2)], "1 in place of 0", id="first missing"),
        pytest.param(
            [message(0, 1), message(2, 3)], "2 in place of 1", id="one missing"
        ),
        pytest.param([message(0, 1)], "2 missing at the end", id="last missing"),
        pytest.param(
            [message(0, 1), message(0, 2)], "0 in place of 1", id="said twice"
        ),
        pytest.param(
            [message(0, 1), message(0, 1)], "offset 1 at ('A', 1)", id="came twice"
        ),
        pytest.param(
            [message(0, 2), message(1, 1)], "offset 1 at ('A', 2)", id="out of order"
        ),
        pytest.param(
            [{**JOINED, "epoch": "B"}],
            "recovered from ('A', 0) in another epoch ('B', 0)",
            id="recovered from nothing",
        ),
        pytest.param(
            [
                {**JOINED, "recovered": False},
                message(5, 8),
                message(7, 9),
            ],
            "7 in place of 6",
            id="missing after it was told",
        ),
        pytest.param(
            [
                message(0, 1),
                message(1, 2),
                {**JOINED, "recovered": False},
                message(0, 3),
            ],
            "0 again, 2 comes next",
            id="all again after it was told",
        ),
    ],
)
def test_what_is_wrong_is_found(events: list[dict[str, Any]], problem: str) -> None:
    assert problem in heard(*events).problems(3)


def test_a_message_before_the_answer_is_wrong() -> None:
    room = KILL.Heard()
    assert not room.take(message(0, 1))
    assert "a message before the answer" in room.problems(1)


def test_who_was_told_may_lack_what_was_before() -> None:
    told = {"epoch": "B", "offset": 4, "recovered": False}
    room = heard(message(0, 1), told)
    assert room.told == 1
    # Nothing comes any more if it joined behind the last one.
    assert room.is_complete(9, ("B", 4))
    assert not room.is_complete(9, ("B", 5))
    assert not room.is_complete(9, ("A", 4))
    room.take(message(7, 5, "B"))
    assert not room.is_complete(9, ("B", 5))
    room.take(message(8, 6, "B"))
    assert room.is_complete(9, ("B", 6))
    assert room.problems(9) == []


def test_what_was_not_confirmed_may_come_again_to_who_was_told() -> None:
    told = {"epoch": "B", "offset": 0, "recovered": False}
    room = heard(message(0, 1), message(1, 2), told, message(1, 1, "B"))
    assert room.problems(2) == []


def test_another_epoch_is_asked_about() -> None:
    room = heard(message(0, 1))
    assert not room.take(message(1, 1, "B"))
    assert room.position == ("A", 1)
    assert room.count == 1


async def test_news_wait_for_what_is_to_be() -> None:
    news, seen = KILL.News(), list[int]()
    waiting = asyncio.create_task(news.until(lambda: len(seen) == 2, "two"))
    for number in range(2):
        await asyncio.sleep(0)
        assert not waiting.done()
        seen.append(number)
        news.tell()
    await waiting
    with pytest.raises(TimeoutError, match="three: not within 0 s"):
        await news.until(lambda: len(seen) == 3, "three", 0)


class ComposedValkey(Valkey):
    """What compose.yaml starts, with another port and folder."""

    def command(self) -> Sequence[str]:
        compose = (FOLDER / "compose.yaml").read_text()
        [arguments] = re.findall(r"    command: valkey-server (.*)\n", compose)
        place = ["--port", str(self.port), "--dir", str(self.folder)]
        return [str(VALKEY), *shlex.split(arguments), *place]


@pytest.fixture
def chat(
    tmp_path: Path,
) -> Iterator[tuple[ComposedValkey, ServerProcess]]:
    """Start the chat as README says, with two workers."""
    engine = ComposedValkey(tmp_path)
    engine.start()
    command = ["-m", "websockets_routes", "run", "chat:router", "--workers", "2"]
    command += ["--broker", f"{engine.url}?durable=true"]
    try:
        with serving(
            [*command, "--host", "127.0.0.1", "--port", "0"], FOLDER
        ) as server:
            yield engine, server
            assert server.stop(signal.SIGTERM) == 0
    finally:
        engine.kill()


def say(ws: ClientConnection, **message: object) -> Any:
    ws.send(json.dumps(message))
    return json.loads(ws.recv(timeout=TIMEOUT))


def test_the_chat_answers_as_it_says(
    chat: tuple[ComposedValkey, ServerProcess],
) -> None:
    engine, server = chat
    url = f"ws://127.0.0.1:{server.port}/chat"
    with connect(url) as one, connect(url) as two:
        for ws in (one, two):
            assert json.loads(ws.recv(timeout=TIMEOUT))["worker"] > 0
        joined = say(one, join="kitchen")
        assert (joined["joined"], joined["offset"]) == ("kitchen", 0)
        assert joined["recovered"]
        said = say(two, say="hello", room="kitchen", id="a1")
        assert said == {"said": "a1", "epoch": joined["epoch"], "offset": 1}
        # Once more, and it is the same.
        assert say(two, say="hello", room="kitchen", id="a1") == said
        heard = json.loads(one.recv(timeout=TIMEOUT))
        assert heard["topic"] == "room/kitchen"
        assert (heard["epoch"], heard["offset"]) == (joined["epoch"], 1)
        assert heard["data"] == "hello"
        one.send("no JSON")
        with pytest.raises(ConnectionClosed, match="neither join nor say"):
            one.recv(timeout=TIMEOUT)
        engine.kill()
        assert say(two, say="bye", room="kitchen", id="a2") == {"failed": "a2"}
        engine.start()
        while (said := say(two, say="bye", room="kitchen", id="a2")) == {
            "failed": "a2"
        }:
            pass
        assert said == {"said": "a2", "epoch": joined["epoch"], "offset": 2}
    with connect(url) as one:
        one.recv(timeout=TIMEOUT)
        joined = say(one, join="kitchen", since=[heard["epoch"], 1])
        assert (joined["recovered"], joined["count"]) == (True, 1)
        assert json.loads(one.recv(timeout=TIMEOUT))["data"] == "bye"
        other = say(one, join="garden", since=["elsewhere", 1])
        assert not other["recovered"]


@pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium")
def test_the_page_loses_nothing_when_its_worker_is_killed(
    chat: tuple[ComposedValkey, ServerProcess], tmp_path: Path
) -> None:
    _, server = chat
    with (
        browser(tmp_path / "profile") as number,
        opened(number, f"http://127.0.0.1:{server.port}/") as page,
    ):
        page.wait("state.textContent.startsWith('worker')")
        page.run("say.text.value = 'one'; say.requestSubmit()")
        page.wait("log.textContent === 'one\\n'")
        worker = page.run("state.textContent")
        os.kill(int(worker.split()[1]), signal.SIGKILL)
        page.wait(f"![{worker!r}, 'disconnected'].includes(state.textContent)")
        page.run("say.text.value = 'two'; say.requestSubmit()")
        page.wait("log.textContent === 'one\\ntwo\\n'")


def test_readme_gives_commands_that_there_are() -> None:
    readme = (FOLDER / "README.md").read_text()
    blocks = re.findall(r"```console\n(.*?)```", readme, re.DOTALL)
    commands = [shlex.split(line) for block in blocks for line in block.splitlines()]
    kills = [each[2:] for each in commands if each[:2] == ["python", "kill.py"]]
    assert len(kills) >= 4
    for arguments in kills:
        KILL.parse(arguments)
    assert ["docker", "compose", "up", "-d"] in commands
    run = "websockets-routes run chat:router --workers 4"
    run += " --broker redis://localhost?durable=true"
    assert shlex.split(run) in commands
