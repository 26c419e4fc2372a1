"""Run README's serve command in a fresh checkout; talk to what it serves.

Usage: python serve_check.py CHECKOUT COMMAND
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from urllib.request import urlopen

from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

INSTALLING = 600  # seconds
HOST = "localhost:8765"


def main(checkout: str, command: str) -> None:
    process = subprocess.Popen(
        ["/bin/bash", "-euc", command], cwd=checkout, start_new_session=True
    )
    try:
        talk(process)
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        code = process.wait(30)
    print(f"served, refused and ended with exit code {code}")


def talk(process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + INSTALLING
    while True:
        try:
            health = urlopen(f"http://{HOST}/healthz")
            break
        except OSError:
            if process.poll() is not None or time.monotonic() > deadline:
                raise
            time.sleep(0.5)
    assert health.read() == b"ok\n"
    assert b"<h1>Rooms</h1>" in urlopen(f"http://{HOST}/").read()
    room = f"ws://{HOST}/room/kitchen"
    with connect(f"{room}?user=ada") as ada, connect(room) as ben:
        ada.send("hi")
        while (said := json.loads(ben.recv(timeout=10))).get("text") is None:
            pass
        assert said == {"user": "ada", "text": "hi"}
    try:
        connect(f"ws://{HOST}/nothing")
    except InvalidStatus as refused:
        assert refused.response.status_code == 404
    else:
        raise AssertionError("an unmatched path was not refused")


main(*sys.argv[1:])
