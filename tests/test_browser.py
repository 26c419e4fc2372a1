"""The page of examples/chat.py, as two people see it in Chromium."""

from __future__ import annotations

import http.client
import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from websockets.sync.client import ClientConnection, connect

from tests.processes import TIMEOUT
from tests.test_examples import example

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))),
    None,
)

STARTING = 30  # seconds

pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="there is no Chromium: .ci/run installs one"
)


class Page:
    """A page in a browser, driven by the DevTools protocol."""

    def __init__(self, ws: ClientConnection) -> None:
        self._ws = ws
        self._id = 0

    def open(self, url: str) -> None:
        """Go to a page, and wait until it is loaded."""
        self._ask("Page.enable")
        self._ask("Page.navigate", url=url)
        while self._receive().get("method") != "Page.loadEventFired":
            pass

    def run(self, script: str) -> Any:
        """Run a script; wait for its promise if it makes one."""
        result = self._ask(
            "Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True
        )
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    def wait(self, condition: str) -> None:
        """Wait until a condition is true, at each change of the page."""
        self.run(
            "new Promise((resolve) => {"
            f"  const look = () => {{ if ({condition}) resolve(true); }};"
            "  new MutationObserver(look).observe(document,"
            "    {subtree: true, childList: true, attributes: true});"
            "  look();"
            "})"
        )

    def _ask(self, method: str, **params: Any) -> dict[str, Any]:
        self._id += 1
        command = {"id": self._id, "method": method, "params": params}
        self._ws.send(json.dumps(command))
        while (answer := self._receive()).get("id") != self._id:
            pass
        result: dict[str, Any] = answer["result"]
        return result

    def _receive(self) -> dict[str, Any]:
        answer: dict[str, Any] = json.loads(self._ws.recv(timeout=TIMEOUT))
        return answer


@contextmanager
def browser(folder: Path) -> Iterator[int]:
    """Start a browser; yield the port by which it is driven."""
    assert CHROMIUM is not None
    arguments = [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-quic",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        "--disable-dev-shm-usage",
        "--remote-debugging-port=0",
        f"--user-data-dir={folder}",
    ]
    process = subprocess.Popen(
        [CHROMIUM, *arguments, "about:blank"], stderr=subprocess.DEVNULL
    )
    try:
        told = folder / "DevToolsActivePort"
        deadline = time.monotonic() + STARTING
        while not (told.exists() and told.read_text().count("\n")):
            assert process.poll() is None, "the browser ended"
            assert time.monotonic() < deadline, "the browser does not start"
            time.sleep(0.05)
        yield int(told.read_text().splitlines()[0])
    finally:
        process.terminate()
        process.wait(STARTING)


@contextmanager
def opened(number: int, url: str) -> Iterator[Page]:
    """Open a page in a window of its own."""
    with closing(
        http.client.HTTPConnection("127.0.0.1", number, timeout=TIMEOUT)
    ) as connection:
        connection.request("PUT", "/json/new?about:blank")
        target = json.loads(connection.getresponse().read())
    with connect(target["webSocketDebuggerUrl"], compression=None, max_size=None) as ws:
        page = Page(ws)
        page.open(url)
        yield page


def enter(page: Page, user: str) -> None:
    page.run(
        f"enter.room.value = 'a/b #1'; enter.user.value = {user!r}; "
        "enter.requestSubmit()"
    )
    page.wait("!say.text.disabled")


def test_two_people_chat_on_the_page(tmp_path: Path) -> None:
    with example("chat") as server, browser(tmp_path) as number:
        url = f"http://127.0.0.1:{server.port}/"
        with opened(number, url) as ada, opened(number, url) as ben:
            enter(ada, "ada")
            ada.wait("here.textContent === '1 here'")
            enter(ben, "ben")
            ada.wait("here.textContent === '2 here'")
            ada.run("say.text.value = 'is <b>it</b> late?'; say.requestSubmit()")
            for page in (ada, ben):
                page.wait("log.textContent === 'adais <b>it</b> late?'")
            ben.run("say.text.value = 'never'; say.requestSubmit()")
            ada.wait("log.textContent.endsWith('bennever')")
