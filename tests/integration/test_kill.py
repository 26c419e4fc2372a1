"""Workers and brokers are killed while messages are counted."""

from __future__ import annotations

import asyncio
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.contract.engines import Nats
from tests.integration.servers import until
from tests.processes import ROOT
from websockets_routes import BrokerUnavailable
from websockets_routes.brokers import Envelope, State
from websockets_routes.brokers.nats import NatsBroker

KILL = ROOT / "examples" / "scale" / "kill.py"


def kill(tmp_path: Path, *arguments: str) -> dict[str, int]:
    """Run the script; return the whole numbers of its report."""
    log = tmp_path / "log"
    run = subprocess.run(
        [sys.executable, KILL, *arguments, "--log", log],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=120,
        check=False,
    )
    said = f"{run.stdout}\n{log.read_text() if log.exists() else ''}"
    assert run.returncode == 0, said
    report = {
        name: int(value)
        for name, value in re.findall(r"^([a-z= ]+): (\d+)$", run.stdout, re.MULTILINE)
    }
    assert re.search(r"killing worker \d+, [1-9]\d* listeners", run.stdout), said
    assert "killing the broker" in run.stdout, said
    assert report["tracebacks in the log"] == 0, said
    assert report["messages said"] == 1500, said
    return report


@pytest.mark.parametrize("broker", ["valkey", "nats"])
def test_with_a_durable_broker_nothing_is_lost(broker: str, tmp_path: Path) -> None:
    report = kill(tmp_path, "--broker", broker)
    assert report["deliveries"] == report["deliveries expected"] == 9000
    assert report["told recovered=false"] == 0


@pytest.mark.parametrize("broker", ["valkey", "nats"])
def test_with_a_broker_that_forgets_everybody_is_told(
    broker: str, tmp_path: Path
) -> None:
    report = kill(tmp_path, "--broker", broker, "--forget")
    # 30 listeners in two rooms each.
    assert report["told recovered=false"] >= 60


async def test_nats_comes_back_that_was_lost_while_something_was_to_be_written(
    tmp_path: Path,
) -> None:
    engine = Nats(tmp_path)
    engine.start()
    broker = NatsBroker(engine.url)
    await broker.start(lambda envelope: None, lambda topic: None)
    try:
        async with asyncio.timeout(30):
            assert engine.process is not None
            engine.process.send_signal(signal.SIGSTOP)
            # Until the kernel takes no more, and some waits in nats-py.
            assert broker._session is not None
            client = broker._session._client
            waiting = 0
            while waiting < 10:
                message = Envelope("news", b"x" * 100_000, True, None, "1", 0)
                broker.publish(message).add_done_callback(asyncio.Future.exception)
                for _ in range(10):
                    await asyncio.sleep(0)
                waiting = waiting + 1 if client.pending_data_size else 0
            engine.kill()
            # Nothing is published any more: it has to see it by itself.
            await until(lambda: broker.state is State.RECONNECTING)
            engine.start()
            await until(lambda: broker.state is State.CONNECTED)
    finally:
        await broker.close()
        engine.kill()


async def test_nats_that_is_lost_while_history_is_read_is_unavailable(
    tmp_path: Path,
) -> None:
    engine = Nats(tmp_path)
    engine.start()
    broker = NatsBroker(engine.url)
    await broker.start(lambda envelope: None, lambda topic: None)
    try:
        assert broker._session is not None
        streams = broker._session.streams
        engine.kill()
        await until(lambda: broker.state is State.RECONNECTING)
        # What it does once it has asked for the state of the stream.
        with pytest.raises(BrokerUnavailable, match="connection closed"):
            await streams._read("token", "subject", 1, None)
    finally:
        await broker.close()
        engine.kill()
