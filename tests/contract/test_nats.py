"""The broker on NATS: strangers, wrong addresses, JetStream that is not there."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

import pytest
from nats.aio.client import Client

from websockets_routes import BrokerError, BrokerUnavailable, Filter
from websockets_routes.brokers import HistoryPolicy, Position, State
from websockets_routes.brokers.nats import NatsBroker
from websockets_routes.contract.node import message

from .engines import Nats
from .nodes import settled
from .nodes import started_nats as started

POLICY = HistoryPolicy(10)


@pytest.mark.parametrize("prefix", ["", ".", "a..b", "a b", "*", "a.>", "é"])
def test_a_prefix_that_is_none_is_refused(prefix: str) -> None:
    with pytest.raises(BrokerError, match="prefix"):
        NatsBroker("nats://127.0.0.1", prefix=prefix)


async def test_no_engine_is_told_in_a_line_without_credentials(deserted: int) -> None:
    broker = NatsBroker(f"nats://user:secret@127.0.0.1:{deserted}")
    with pytest.raises(BrokerUnavailable) as raised:
        await broker.start(print, print)
    text = str(raised.value)
    assert text.startswith("broker nats://127.0.0.1:")
    assert "secret" not in text + repr(broker)
    assert "\n" not in text
    assert broker.state is State.CLOSED


async def test_an_engine_that_never_answers_is_given_up() -> None:
    async def silence(
        reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        await reader.read()
        writer.close()

    async with await asyncio.start_server(silence, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        broker = NatsBroker(f"127.0.0.1:{port}", timeout=0.05)
        with pytest.raises(BrokerUnavailable, match=r"not answer within 0\.05 s"):
            await broker.start(print, print)


async def test_wrong_credentials_fail_at_start(tmp_path: Path) -> None:
    engine = Nats(tmp_path, "--user", "app", "--pass", "right")
    engine.start()
    try:
        for user in ("app:wrong@", ""):
            with pytest.raises(BrokerError, match=r"refused: .*Authorization"):
                await NatsBroker(f"nats://{user}127.0.0.1:{engine.port}").start(
                    print, print
                )
        async with started(f"nats://app:right@127.0.0.1:{engine.port}", "a") as node:
            await node.publish("a")
            await node.until(1)
    finally:
        engine.kill()


async def test_what_strangers_publish_is_logged_and_dropped(
    nats: Nats, stranger: Client, caplog: pytest.LogCaptureFixture, prefix: str
) -> None:
    async with started(nats.url, "room", Filter("#"), prefix=prefix) as node:
        for payload in (b"", b"hello", b"W1" + b"\xff" * 100):
            await stranger.publish(f"{prefix}.m.-.room.~", payload)
        frame = b"W1" + bytes(13)
        await stranger.publish(f"{prefix}.m.epoch.room.~", frame)
        number = {"Nats-Sequence": "many"}
        await stranger.publish(f"{prefix}.m.epoch.room.~", frame, headers=number)
        for subject in (f"{prefix}.m.-.a", f"{prefix}.m.-.%zz.~"):
            await stranger.publish(subject, frame)
        await stranger.publish(f"{prefix}.m.-.$SYS.~", frame)
        await settled(stranger)
        await node.publish("room")
        assert len(await node.until(1)) == 1
    assert {record.levelno for record in caplog.records} == {logging.WARNING}
    assert len(caplog.records) >= 7
    assert all(len(record.message) < 300 for record in caplog.records)


async def test_history_without_jetstream_is_told_and_the_rest_works(
    tmp_path: Path,
) -> None:
    engine = Nats(tmp_path)
    engine.jetstream = False
    engine.start()
    try:
        async with started(engine.url, "a") as node:
            with pytest.raises(BrokerUnavailable, match="need nats-server -js"):
                await node.broker.publish(message("a"), history=POLICY)
            with pytest.raises(BrokerUnavailable, match="need nats-server -js"):
                await node.broker.history("a", POLICY)
            await node.publish("a")
            await node.until(1)
    finally:
        engine.kill()


async def test_a_message_that_is_too_large_is_refused(nats: Nats, prefix: str) -> None:
    async with started(nats.url, "a", prefix=prefix) as node:
        large = message("a", b"x" * 1_100_000)
        for policy in (None, POLICY):
            with pytest.raises(BrokerError, match="max_payload, 1048576 bytes"):
                await node.broker.publish(large, history=policy)
        await node.publish("a")
        await node.until(1)


async def test_a_stream_that_is_deleted_is_made_again_with_another_epoch(
    nats: Nats, stranger: Client, prefix: str
) -> None:
    async with started(nats.url, "a", prefix=prefix) as node:
        first = await node.broker.publish(message("a"), history=POLICY)
        await stranger.jetstream().delete_stream(f"{prefix}_10")
        with pytest.raises(BrokerUnavailable) as raised:
            await node.broker.publish(message("a"), history=POLICY)
        assert not raised.value.sent
        second = await node.broker.publish(message("a"), history=POLICY)
        assert second.epoch != first.epoch
        page = await node.broker.history(
            "a", POLICY, since=Position(first.epoch or "", 1)
        )
        assert not page.recovered
        received = await node.until(2)
        assert [each.epoch for each in received] == [first.epoch, second.epoch]
        await stranger.jetstream().delete_stream(f"{prefix}_10")
        with pytest.raises(BrokerError):
            await node.broker.history("a", POLICY)
        assert (await node.broker.history("a", POLICY)).messages == ()


async def test_a_stream_of_somebody_else_is_not_used(
    nats: Nats, stranger: Client, prefix: str
) -> None:
    await stranger.jetstream().add_stream(name=f"{prefix}_10", subjects=[f"{prefix}.x"])
    async with started(nats.url, "a", prefix=prefix) as node:
        with pytest.raises(BrokerError, match="is not ours"):
            await node.broker.publish(message("a"), history=POLICY)
        await stranger.jetstream().add_stream(
            name=f"{prefix}_11", subjects=[f"{prefix}.h.12.>"]
        )
        with pytest.raises(BrokerError, match="refused"):
            await node.broker.publish(message("a"), history=HistoryPolicy(12))
        await node.broker.publish(message("b"), history=HistoryPolicy(13))
        await stranger.jetstream().publish(f"{prefix}.h.13.b.~", b"hello")
        with pytest.raises(BrokerError, match="something else is on our subjects"):
            await node.broker.history("b", HistoryPolicy(13))


async def test_a_longer_window_is_made_so(
    nats: Nats, stranger: Client, prefix: str
) -> None:
    async with started(nats.url, prefix=prefix) as node:
        for policy, stream in ((POLICY, f"{prefix}_10"), (None, f"{prefix}_keys")):
            for window, expected in ((60, 60), (200, 200), (100, 200)):
                await node.broker.publish(
                    message("a"), history=policy, idempotency_key="k", window=window
                )
                info = await stranger.jetstream().stream_info(stream)
                assert info.config.duplicate_window == expected


async def test_an_engine_that_hangs_is_found_out(mortal_nats: Nats) -> None:
    async with started(
        mortal_nats.url, "a", heartbeat=0.1, timeout=0.5, max_pending=1000
    ) as node:
        await node.broker.publish(message("a"), history=POLICY)
        with mortal_nats.suspended():
            waiting = [
                node.broker.publish(message("a")),
                node.broker.publish(message("a"), history=POLICY),
            ]
            subscribing = asyncio.create_task(node.broker.subscribe("b"))
            error = None
            while error is None:
                future = node.broker.publish(message("a"))
                if future.done():
                    error = future.exception()
                else:
                    waiting.append(future)
            assert isinstance(error, BrokerUnavailable)
            assert "slow" in str(error)
            assert not error.sent
            for each in await asyncio.gather(*waiting, return_exceptions=True):
                assert isinstance(each, BrokerUnavailable)
                assert each.sent
            with pytest.raises(BrokerUnavailable, match="not confirm"):
                await subscribing
        assert await node.until_gaps(1) == ["a"]
        await node.broker.subscribe("b")
        await node.publish("b")
        assert (await node.until(1))[-1].topic == "b"


async def test_what_is_not_allowed_is_told(tmp_path: Path) -> None:
    file = tmp_path / "config"
    no = '{ deny: ["*.m.*.no.>", "*.h.*.no.>"] }'
    deny = f"{{ publish: {no}, subscribe: {no} }}"
    user = f'{{ user: "app", password: "pw", permissions: {deny} }}'
    file.write_text(f"authorization: {{ users: [{user}] }}")
    engine = Nats(tmp_path, "-c", str(file))
    engine.start()
    try:
        async with started(f"nats://app:pw@127.0.0.1:{engine.port}", "yes") as node:
            for _ in range(2):
                with pytest.raises(BrokerError, match="refused: permissions"):
                    await node.broker.publish(message("no"))
                with pytest.raises(BrokerError, match="refused: permissions"):
                    await node.broker.publish(message("no"), history=POLICY)
                with pytest.raises(BrokerError, match="refused: permissions"):
                    await node.broker.subscribe("no")
            await node.publish("yes")
            assert len(await node.until(1)) == 1
    finally:
        engine.kill()
