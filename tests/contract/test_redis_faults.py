"""The broker on Redis when something goes wrong at the worst moment."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import Any

import pytest

from websockets_routes import BrokerError, BrokerUnavailable, Filter
from websockets_routes.brokers import HistoryPolicy, redis_hearing
from websockets_routes.brokers.redis import RedisBroker
from websockets_routes.contract.node import message, refused

from .engines import Valkey
from .nodes import started_redis as started
from .nodes import until
from .proxy import Proxy

POLICY = HistoryPolicy(10)


def through(proxy: Proxy) -> str:
    return f"redis://127.0.0.1:{proxy.port}"


@pytest.mark.parametrize("found_out", [True, False], ids=["found out", "closed first"])
async def test_an_engine_that_hangs_with_much_in_flight_blocks_nobody(
    mortal_valkey: Valkey, found_out: bool
) -> None:
    heartbeat = 0.1 if found_out else 100
    async with started(mortal_valkey.url, "a", heartbeat=heartbeat) as node:
        large = message("a", b"x" * 900_000)
        with mortal_valkey.suspended():
            # More than sockets take.
            futures = [node.broker.publish(large) for _ in range(30)]
            if found_out:
                await until(lambda: not node.broker.healthy)
            else:
                async with asyncio.timeout(5):
                    await asyncio.sleep(0)
                    await node.broker.close()
            for each in await asyncio.gather(*futures, return_exceptions=True):
                assert isinstance(each, BrokerUnavailable)
        if found_out:
            await until(lambda: node.broker.healthy)


async def test_an_engine_that_is_lost_while_it_is_asked_is_not_there(
    valkey: Valkey,
) -> None:
    async with Proxy.before(valkey.port) as proxy:

        def cut_later(data: bytes) -> bytes:
            if b"SCRIPT" in proxy.sent:
                proxy.cut()
            return data

        proxy.edit = cut_later
        with pytest.raises(BrokerUnavailable, match=r"[Cc]onnection"):
            await RedisBroker(through(proxy)).start(print, print)


async def test_a_connection_that_is_lost_in_the_moment_of_a_write_is_seen(
    valkey: Valkey, prefix: str
) -> None:
    async with started(valkey.url, "a", prefix=prefix) as node:
        pipe: Any = vars(node.broker)["_pipe"]
        pipe._connection._writer.transport.abort()
        # uvloop says that its transport cannot be written to; asyncio says nothing.
        with pytest.raises(BrokerUnavailable):
            await node.broker.publish(message("a"))
        await until(lambda: node.broker.healthy)
        await node.broker.publish(message("a", b"again"))


async def test_what_the_broker_needs_and_is_not_allowed_is_told(
    tmp_path: Path,
) -> None:
    file = tmp_path / "acl"
    file.write_text("user default on nopass ~* &* +@all -script\n")
    with Valkey(tmp_path, "--aclfile", str(file)).running() as engine:
        with pytest.raises(BrokerError, match=r"refused: .*script") as raised:
            await RedisBroker(engine.url).start(print, print)
        assert not isinstance(raised.value, BrokerUnavailable)


@pytest.mark.parametrize(
    "garbage",
    [b"garbage\r\n", b"+OK\r\n" * 9, b"*1\r\n$7\r\nmessage\r\n" * 9, b"*0\r\n" * 9],
    ids=repr,
)
async def test_an_engine_that_talks_nonsense_is_left_and_found_again(
    valkey: Valkey, prefix: str, garbage: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    async with (
        Proxy.before(valkey.port) as proxy,
        started(through(proxy), "a", prefix=prefix) as node,
    ):
        proxy.edit = lambda data: garbage
        futures = [
            node.broker.publish(message("a"), history=POLICY),
            node.broker.publish(message("a")),
        ]
        await asyncio.wait(futures)
        assert isinstance(futures[0].exception(), BrokerError)
        _ = futures[1].exception()
        await until(lambda: len(caplog.records) == 2)  # both connections
        proxy.edit = bytes
        await node.until_gaps(1)
        await node.publish("a")
    assert {record.levelno for record in caplog.records} == {logging.WARNING}
    assert all(record.exc_info is None for record in caplog.records)


async def test_a_confirmation_of_something_else_is_none(
    valkey: Valkey, prefix: str
) -> None:
    async with (
        Proxy.before(valkey.port) as proxy,
        started(through(proxy), "a", prefix=prefix) as node,
    ):

        def garble_once(data: bytes) -> bytes:
            proxy.edit = bytes
            return data.replace(b":b/", b":c/")

        proxy.edit = garble_once
        await node.broker.subscribe("b")
        assert await node.until_gaps(1) == ["a"]
        await node.publish("b")
        await node.until(1)


async def test_whoever_does_not_wait_any_more_disturbs_nobody(
    valkey: Valkey, prefix: str
) -> None:
    async with started(valkey.url, "a", prefix=prefix) as node:
        for policy in (None, POLICY):
            node.broker.publish(message("a"), history=policy).cancel()
            await node.publish("a")
        assert len(await node.until(4)) == 4


async def test_what_is_given_up_and_asked_for_again_is_heard(
    valkey: Valkey, prefix: str
) -> None:
    async with started(valkey.url, prefix=prefix) as node:
        for topic in ("a", Filter("b/#")):
            first = asyncio.create_task(node.broker.subscribe(topic))
            await asyncio.sleep(0)
            await node.broker.unsubscribe(topic)
            second = asyncio.create_task(node.broker.subscribe(topic))
            await refused(first)
            await second
        await node.publish("a", "b")
        assert len(await node.until(2)) == 2


async def test_which_filter_brings_a_topic_is_remembered_for_a_while(
    valkey: Valkey, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_hearing, "_REMEMBERED", 2)
    async with started(valkey.url, Filter("#"), Filter("+"), prefix=prefix) as node:
        topics = [*"abcdeabcde"]
        await node.publish(*topics)
        await node.publish("end")
        received = await node.until(len(topics) + 1)
        assert [each.topic for each in received] == [*topics, "end"]


@pytest.mark.parametrize(
    "url",
    ["redis://user:pa/ss@127.0.0.1", "redis://:pa?ss@127.0.0.1", "redis://:pa?s@s@h"],
)
def test_a_password_that_breaks_the_url_is_not_shown(url: str) -> None:
    with pytest.raises(BrokerError, match="its port is no number") as raised:
        RedisBroker(url)
    assert "pa" not in str(raised.value).replace("password", "")
