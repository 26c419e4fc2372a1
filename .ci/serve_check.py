"""Run README's serve command in a fresh checkout; talk to what it serves.

Usage: python serve_check.py CHECKOUT COMMAND
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

INSTALLING = 600  # seconds
URI = "ws://localhost:8765"


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
            ws = connect(f"{URI}/hello/world")
            break
        except OSError:
            if process.poll() is not None or time.monotonic() > deadline:
                raise
            time.sleep(0.5)
    with ws:
        assert ws.recv(timeout=10) == "Hello world!"
    with connect(f"{URI}/echo") as ws:
        ws.send("hi")
        assert ws.recv(timeout=10) == "hi"
    try:
        connect(f"{URI}/nothing")
    except InvalidStatus as refused:
        assert refused.response.status_code == 404
    else:
        raise AssertionError("an unmatched path was not refused")


main(*sys.argv[1:])
