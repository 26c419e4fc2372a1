"""The broker on Redis: strangers, wrong addresses, an engine that hangs or forgets."""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import trustme
from redis.asyncio import Redis

from websockets_routes import BrokerError, BrokerUnavailable, Filter
from websockets_routes.brokers import HistoryPolicy, Position, State
from websockets_routes.brokers.redis import RedisBroker
from websockets_routes.contract import Node
from websockets_routes.contract.node import message

from .engines import Valkey
from .nodes import started_redis as started
from .nodes import until
from .proxy import Proxy

POLICY = HistoryPolicy(10)


async def failure(node: Node, policy: HistoryPolicy) -> BrokerUnavailable | None:
    try:
        await node.broker.publish(message("a"), history=policy)
    except BrokerUnavailable as error:
        return error
    return None


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("redis://127.0.0.1:nothing", "no URL"),
        ("redis://127.0.0.1?unknown=1", "no URL"),
        ("http://127.0.0.1", "no URL"),
    ],
)
def test_a_url_that_is_none_is_refused(url: str, problem: str) -> None:
    with pytest.raises(BrokerError, match=problem):
        RedisBroker(url)


async def test_no_engine_is_told_in_a_line_without_credentials(deserted: int) -> None:
    broker = RedisBroker(f"redis://user:secret@127.0.0.1:{deserted}")
    with pytest.raises(BrokerUnavailable) as raised:
        await broker.start(print, print)
    text = str(raised.value)
    assert text.startswith("broker redis://127.0.0.1:")
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
        broker = RedisBroker(f"redis://127.0.0.1:{port}", timeout=0.05)
        with pytest.raises(BrokerUnavailable, match=r"not answer within 0\.05 s"):
            await broker.start(print, print)


@pytest.mark.parametrize("user", [":wrong@", "nobody:wrong@", ""])
async def test_wrong_credentials_fail_at_start(user: str, tmp_path: Path) -> None:
    engine = Valkey(tmp_path, "--requirepass", "right")
    engine.start()
    try:
        url = f"redis://{user}127.0.0.1:{engine.port}"
        with pytest.raises(BrokerError, match=r"refused: .*(auth|Auth|WRONG|invalid)"):
            await RedisBroker(url).start(print, print)
        async with started(f"redis://:right@127.0.0.1:{engine.port}", "a") as node:
            await node.publish("a")
            await node.until(1)
    finally:
        engine.kill()


async def test_tls_is_spoken_and_certificates_are_checked(
    valkey: Valkey, tmp_path: Path
) -> None:
    authority = trustme.CA()
    trusted = str(tmp_path / "ca")
    authority.cert_pem.write_to_path(trusted)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(context)

    async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(65_536):
                writer.write(data)
        writer.close()

    async def proxy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # The engine from PyPI is built without TLS.
        inner = await asyncio.open_connection("127.0.0.1", valkey.port)
        await asyncio.gather(copy(reader, inner[1]), copy(inner[0], writer))

    async with await asyncio.start_server(proxy, "127.0.0.1", 0, ssl=context) as server:
        url = f"rediss://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        async with started(url, "a", ssl_ca_certs=trusted) as node:
            await node.publish("a")
            await node.until(1)
        with pytest.raises(BrokerUnavailable, match="certificate"):
            await RedisBroker(url).start(print, print)


async def test_what_strangers_publish_is_logged_and_dropped(
    valkey: Valkey, caplog: pytest.LogCaptureFixture, prefix: str
) -> None:
    async with (
        Redis.from_url(valkey.url) as stranger,
        started(valkey.url, "room", Filter("#"), prefix=prefix) as node,
    ):
        for payload in (b"", b"hello", b"H\n", b"He:1\nW1", b"W1" + b"\xff" * 100):
            await stranger.publish(f"{prefix}:0:room/", payload)
        for channel in (
            f"{prefix}:0:",
            f"{prefix}:0:a",
            f"{prefix}:0:+/",
            prefix.encode() + b":0:\xff/",
        ):
            await stranger.publish(channel, b"hello")
        await node.publish("room")
        assert len(await node.until(1)) == 1
    assert {record.levelno for record in caplog.records} == {logging.WARNING}
    assert len(caplog.records) >= 8
    assert all(len(record.message) < 300 for record in caplog.records)


async def test_what_strangers_put_under_our_keys_is_told(
    valkey: Valkey, prefix: str
) -> None:
    async with (
        Redis.from_url(valkey.url) as stranger,
        started(valkey.url, prefix=prefix) as node,
    ):
        await stranger.set(f"{prefix}:0:{{a}}:stream", "hello")
        with pytest.raises(BrokerError, match="refused"):
            await node.broker.publish(message("a"), history=POLICY)
        await stranger.xadd(f"{prefix}:0:{{b}}:stream", {"x": "hello"}, id="1-1")
        with pytest.raises(BrokerError, match="something else is under our keys"):
            await node.broker.history("b", POLICY)
        await node.publish("a")


async def test_prefixes_and_databases_do_not_hear_each_other(
    valkey: Valkey, prefix: str
) -> None:
    async with (
        started(valkey.url, "a", prefix=prefix + "-one") as one,
        started(valkey.url, "a", prefix=prefix + "-two") as two,
        started(f"{valkey.url}/1", "a", prefix=prefix + "-one") as three,
    ):
        for node in (three, two, one):
            await node.publish("a")
        for node in (one, two, three):
            await node.until(1)
            await node.publish("a")
            assert len(await node.until(2)) == 2


async def test_a_key_is_forgotten_after_its_window(valkey: Valkey, prefix: str) -> None:
    async with started(valkey.url, prefix=prefix) as node:
        async with asyncio.timeout(5):
            published = 0
            while published < 2:
                result = await node.broker.publish(
                    message("a"), idempotency_key="k", window=0.05
                )
                published += not result.duplicate


async def test_keys_of_a_topic_with_a_ttl_do_not_stay(
    valkey: Valkey, prefix: str
) -> None:
    policy = HistoryPolicy(5, ttl=30)
    async with (
        Redis.from_url(valkey.url) as stranger,
        started(valkey.url, prefix=prefix) as node,
    ):
        await node.broker.publish(message("a}{b%"), history=policy, idempotency_key="k")
        await node.broker.history("empty", POLICY)
        found = await stranger.keys(f"{prefix}:*")
        keys = [each if isinstance(each, str) else each.decode() for each in found]
        assert sorted(keys) == [
            f"{prefix}:0:{{a%7D%7Bb%25}}:key:k",
            f"{prefix}:0:{{a%7D%7Bb%25}}:position",
            f"{prefix}:0:{{a%7D%7Bb%25}}:stream",
            f"{prefix}:0:{{empty}}:position",
        ]
        for key in keys:
            assert 0 < await stranger.ttl(key) <= 86_430
        await node.broker.publish(message("a}{b%"), history=POLICY)
        assert await stranger.ttl(f"{prefix}:0:{{a%7D%7Bb%25}}:stream") == -1


async def test_what_is_evicted_is_not_guessed(valkey: Valkey, prefix: str) -> None:
    async with (
        Redis.from_url(valkey.url) as stranger,
        started(valkey.url, prefix=prefix) as node,
    ):
        places = [
            Position(result.epoch or "", result.offset or 0)
            for result in [
                await node.broker.publish(message("a"), history=POLICY)
                for _ in range(5)
            ]
        ]
        await stranger.delete(f"{prefix}:0:{{a}}:stream")
        page = await node.broker.history("a", POLICY, since=places[2])
        assert not page.recovered
        assert (await node.broker.history("a", POLICY, since=places[4])).recovered
        await node.broker.publish(message("a"), history=POLICY)
        await stranger.delete(f"{prefix}:0:{{a}}:position")
        page = await node.broker.history("a", POLICY)
        assert page.epoch != places[0].epoch
        assert [each.offset for each in page.messages] == [6]
        result = await node.broker.publish(message("a"), history=POLICY)
        assert (result.offset, result.epoch) == (7, page.epoch)


async def test_scripts_that_are_flushed_come_back(valkey: Valkey, prefix: str) -> None:
    async with (
        Redis.from_url(valkey.url) as stranger,
        started(valkey.url, "a", prefix=prefix) as node,
    ):
        await stranger.script_flush()
        with pytest.raises(BrokerUnavailable) as raised:
            await node.broker.publish(message("a"), history=POLICY)
        assert not raised.value.sent
        async with asyncio.timeout(5):
            while error := await failure(node, POLICY):
                assert not error.sent
                await asyncio.sleep(0.005)
        await node.until(1)
        assert node.gaps == []


async def test_an_engine_that_hangs_is_found_out(mortal_valkey: Valkey) -> None:
    async with started(
        mortal_valkey.url, "a", heartbeat=0.1, timeout=0.5, max_pending=1000
    ) as node:
        with mortal_valkey.suspended():
            waiting = [node.broker.publish(message("a"))]
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
                await node.broker.subscribe("b")
        assert await node.until_gaps(1) == ["a"]
        await node.broker.subscribe("b")
        await node.publish("b")
        await node.until(1)


async def test_an_engine_that_is_silent_and_answers_is_left_in_peace(
    valkey: Valkey,
) -> None:
    async with Proxy.before(valkey.port) as proxy:
        url = f"redis://127.0.0.1:{proxy.port}"
        async with (
            started(url, "a", heartbeat=0.03) as node,
            started(url, heartbeat=0.03) as deaf,
        ):
            await proxy.until_sent(b"PING", 12)
            assert node.broker.healthy
            assert deaf.broker.healthy
            assert node.gaps == []


@contextmanager
def with_rules(folder: Path, rules: str) -> Iterator[Valkey]:
    engine = Valkey(folder)
    file = folder / "acl"
    file.write_text(
        f"user app on >pw ~* +@all {rules}\nuser default on nopass ~* &* +@all"
    )
    engine.options = ("--aclfile", str(file))
    with engine.running():
        yield engine


async def test_a_subscription_that_is_not_allowed_is_told(tmp_path: Path) -> None:
    rules = "resetchannels &websockets-routes:0:yes/ &websockets-routes:0:yes/*"
    with with_rules(tmp_path, rules) as engine:
        url = f"redis://app:pw@127.0.0.1:{engine.port}"
        async with started(url, "yes") as node:
            with pytest.raises(BrokerError, match="refused"):
                await node.broker.publish(message("no"))
            for topic in ("no", Filter("no/#"), "no"):
                with pytest.raises(
                    BrokerError, match=r"refused: .*permissions"
                ) as raised:
                    await node.broker.subscribe(topic)
                assert not isinstance(raised.value, BrokerUnavailable)
                await node.broker.unsubscribe(topic)
            await node.broker.subscribe(Filter("yes/#"))
            again = []
            for _ in range(3):
                again.append(asyncio.create_task(node.broker.subscribe("no")))
                await asyncio.sleep(0)
                await node.broker.unsubscribe("no")
            await asyncio.gather(*again, return_exceptions=True)
            await node.publish("yes")
            await node.until(1)
            assert node.gaps == []
            engine.kill()
            await until(lambda: not node.broker.healthy)
            tasks = [
                asyncio.create_task(node.broker.subscribe(each))
                for each in ("no", Filter("no/#"))
            ]
            await asyncio.sleep(0)
            engine.start()
            for task in tasks:
                with pytest.raises(BrokerError, match=r"refused: .*permissions"):
                    await task
            assert await node.until_gaps(2) == ["yes", "yes/#"]
            await node.publish("yes")
            await node.until(2)


async def test_what_was_allowed_and_is_not_any_more_is_not_lost_in_silence(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "websockets_routes")
    rules: Any = {"enabled": True, "reset_channels": True}
    with with_rules(tmp_path, "&*") as engine:
        url = f"redis://app:pw@127.0.0.1:{engine.port}"
        async with (
            Redis.from_url(engine.url) as admin,
            started(url, "a", "b", Filter("c/#")) as node,
        ):
            await admin.acl_setuser("app", channels=["websockets-routes:0:b/"], **rules)
            await until(lambda: "', which was heard before: refused" in caplog.text)
            assert not node.broker.healthy
            assert node.gaps == []
            await admin.acl_setuser("app", channels=["*"], **rules)
            assert await node.until_gaps(3) == ["a", "b", "c/#"]
            await node.publish("a")
            await node.until(1)
    assert max(record.levelno for record in caplog.records) == logging.WARNING
