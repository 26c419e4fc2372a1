"""The broker on NATS when something goes wrong at the worst moment."""

from __future__ import annotations

import asyncio
import logging
import signal
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import trustme

from websockets_routes import BrokerError, BrokerUnavailable, Filter
from websockets_routes.brokers import HistoryPolicy, nats_session
from websockets_routes.brokers.nats import NatsBroker
from websockets_routes.contract.node import message, refused

from .engines import Nats
from .nodes import started_nats as started
from .nodes import until
from .proxy import Proxy

POLICY = HistoryPolicy(10)


def through(proxy: Proxy) -> str:
    return f"nats://127.0.0.1:{proxy.port}"


def only_warnings(caplog: pytest.LogCaptureFixture) -> bool:
    return {record.levelno for record in caplog.records} == {logging.WARNING}


# What hangs, and what is cut


@pytest.mark.parametrize("found_out", [True, False], ids=["found out", "closed first"])
async def test_an_engine_that_hangs_with_much_in_flight_blocks_nobody(
    mortal_nats: Nats, found_out: bool
) -> None:
    heartbeat = 0.1 if found_out else 100
    async with started(mortal_nats.url, "a", heartbeat=heartbeat) as node:
        large = message("a", b"x" * 900_000)
        with mortal_nats.suspended():
            # More than sockets take, and nats-py's own buffer.
            waiting: list[Any] = [node.broker.publish(large) for _ in range(30)]
            if found_out:
                await until(lambda: not node.broker.healthy)
            else:
                async with asyncio.timeout(5):
                    await asyncio.sleep(0)
                    # It waits behind them.
                    waiting.append(asyncio.ensure_future(node.broker.subscribe("b")))
                    await asyncio.sleep(0)
                    await node.broker.close()
            for each in await asyncio.gather(*waiting, return_exceptions=True):
                assert isinstance(each, BrokerUnavailable)
        if found_out:
            await node.until_gaps(1)


async def test_what_was_sent_just_before_the_end_is_not_forgotten(
    nats: Nats, prefix: str
) -> None:
    async with (
        Proxy.before(nats.port) as proxy,
        started(through(proxy), "a", prefix=prefix) as node,
    ):
        proxy.hold()
        # The stream has to be looked up, so what was sent is not yet confirmed.
        futures = [
            node.broker.publish(message("a")),
            node.broker.publish(message("a"), history=POLICY),
            node.broker.publish(message("a")),
        ]
        await proxy.until_sent(b"STREAM.INFO")
        proxy.cut()
        errors = await asyncio.gather(*futures, return_exceptions=True)
        assert [
            each.sent for each in errors if isinstance(each, BrokerUnavailable)
        ] == [
            True,
            True,
            False,
        ]


async def test_an_engine_that_hangs_up_at_once_is_not_there() -> None:
    def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    async with await asyncio.start_server(hang_up, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        broker = NatsBroker(f"127.0.0.1:{port}")
        with pytest.raises(BrokerUnavailable, match="empty response"):
            await broker.start(print, print)


@pytest.mark.parametrize("garbage", [b"garbage\r\n", b"MSG a 1 x\r\n"], ids=repr)
async def test_an_engine_that_talks_nonsense_is_left_and_found_again(
    nats: Nats, prefix: str, garbage: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    async with (
        Proxy.before(nats.port) as proxy,
        started(through(proxy), "a", prefix=prefix) as node,
    ):
        proxy.edit = lambda data: garbage
        error = await refused(node.broker.publish(message("a")))
        assert error.sent
        proxy.edit = bytes
        await node.until_gaps(1)
        await node.publish("a")
    assert only_warnings(caplog)


async def test_whoever_does_not_wait_any_more_disturbs_nobody(
    nats: Nats, prefix: str
) -> None:
    async with started(nats.url, "a", prefix=prefix) as node:
        for policy in (None, POLICY):
            node.broker.publish(message("a"), history=policy).cancel()
            await node.broker.publish(message("a"), history=policy)
        assert len(await node.until(4)) == 4


# Interest that changes while the engine is slow


async def test_what_is_given_up_and_asked_for_again_is_heard(
    nats: Nats, prefix: str
) -> None:
    async with (
        Proxy.before(nats.port) as proxy,
        started(through(proxy), prefix=prefix) as node,
    ):
        proxy.hold()
        first = asyncio.create_task(node.broker.subscribe("a"))
        await proxy.until_sent(b".a.~")
        await node.broker.unsubscribe("a")
        second = asyncio.create_task(node.broker.subscribe("a"))
        await proxy.until_sent(b".a.~", 2)
        await refused(first)
        assert not second.done()
        proxy.release()
        await second
        await node.publish("a")
        assert len(await node.until(1)) == 1


async def test_what_is_asked_for_again_while_all_is_restored_has_no_gap(
    nats: Nats, prefix: str
) -> None:
    async with (
        Proxy.before(nats.port) as proxy,
        started(through(proxy), "a", "b", prefix=prefix) as node,
    ):

        def hold_later(data: bytes) -> bytes:
            if b"PONG" in data:
                proxy.hold()
            return data

        proxy.edit = hold_later
        proxy.cut()
        await proxy.until_sent(b".b.~", 2)
        await node.broker.unsubscribe("a")
        task = asyncio.create_task(node.broker.subscribe("a"))
        await asyncio.sleep(0)
        proxy.release()
        await task
        await node.publish("a", "b")
        await node.until(2)
        assert node.gaps == ["b"]


@contextmanager
def with_rules(folder: Path, *denied: str, publish: bool = False) -> Iterator[Nats]:
    file = folder / "config"
    engine = Nats(folder, "-c", str(file))
    write_rules(file, *denied, publish=publish)
    with engine.running():
        yield engine


def user_url(engine: Nats) -> str:
    return f"nats://app:pw@127.0.0.1:{engine.port}"


def write_rules(file: Path, *denied: str, publish: bool = False) -> None:
    subjects = ", ".join(f'"*.m.*.{each}.>"' for each in denied)
    kind = "publish" if publish else "subscribe"
    rules = f"permissions: {{ {kind}: {{ deny: [{subjects}] }} }}"
    user = f'{{ user: "app", password: "pw", {rules if denied else ""} }}'
    file.write_text(f"authorization: {{ users: [{user}] }}")


async def test_what_is_refused_after_it_was_given_up_does_no_harm(
    tmp_path: Path,
) -> None:
    with with_rules(tmp_path, "no") as engine:
        async with Proxy.before(engine.port) as proxy:
            url = f"nats://app:pw@127.0.0.1:{proxy.port}"
            async with started(url, "a") as node:
                proxy.hold()
                task = asyncio.create_task(node.broker.subscribe("no"))
                await proxy.until_sent(b".no.~")
                # What is asked for later waits until the stream is found.
                future = node.broker.publish(message("a"), history=POLICY)
                await proxy.until_sent(b"STREAM.INFO")
                await node.broker.unsubscribe("no")
                await refused(task)
                proxy.release()
                assert (await future).offset == 1
                await node.publish("a")
                await node.until(2)


async def test_what_is_refused_is_told_however_answers_come(tmp_path: Path) -> None:
    with with_rules(tmp_path, "no", publish=True) as engine:
        async with Proxy.before(engine.port) as proxy:
            url = f"nats://app:pw@127.0.0.1:{proxy.port}"
            async with started(url, "a") as node:
                proxy.hold()
                futures = []
                for count, topic in enumerate(("a", "no", "no", "a"), 1):
                    futures.append(node.broker.publish(message(topic)))
                    # Each is confirmed by itself, yet all answers come at once.
                    await proxy.until_sent(b"PUB _INBOX", count + 2)
                proxy.release()
                await asyncio.wait(futures)
                assert [each.exception() is None for each in futures] == [
                    True,
                    False,
                    False,
                    True,
                ]


async def test_what_is_refused_while_all_is_restored_is_told(tmp_path: Path) -> None:
    with with_rules(tmp_path, "no") as engine:
        async with started(user_url(engine), "a") as node:
            engine.kill()
            await until(lambda: not node.broker.healthy)
            task = asyncio.create_task(node.broker.subscribe("no"))
            await asyncio.sleep(0)
            engine.start()
            with pytest.raises(BrokerError, match="refused: permissions"):
                await task
            assert await node.until_gaps(1) == ["a"]
            await node.publish("a")
            await node.until(1)


async def test_what_was_allowed_and_is_not_any_more_is_not_lost_in_silence(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "websockets_routes")
    with with_rules(tmp_path) as engine:
        async with started(user_url(engine), "a", "b") as node:
            assert engine.process is not None
            write_rules(tmp_path / "config", "a")
            engine.process.send_signal(signal.SIGHUP)
            await until(lambda: "'a', which was heard before" in caplog.text)
            assert not node.broker.healthy
            assert node.gaps == []
            write_rules(tmp_path / "config")
            engine.process.send_signal(signal.SIGHUP)
            assert await node.until_gaps(2) == ["a", "b"]
            await node.publish("a", "b")
            await node.until(2)
    assert max(record.levelno for record in caplog.records) == logging.WARNING


async def test_messages_that_two_subscriptions_bring_are_remembered_for_a_while(
    nats: Nats, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nats_session, "_REMEMBERED", 3)
    async with started(nats.url, "a", Filter("#"), prefix=prefix) as node:
        for count in range(1, 9):
            await node.publish("a")
            assert len(await node.until(count)) == count


# Strangers


def raw(subject: bytes, header: bytes = b"") -> bytes:
    if not header:
        return b"PUB %b 1\r\nx\r\n" % subject
    size = len(header)
    return b"HPUB %b %d %d\r\n%bx\r\n" % (subject, size, size + 1, header)


async def test_what_strangers_say_that_is_no_text_is_logged_and_dropped(
    nats: Nats, caplog: pytest.LogCaptureFixture, prefix: str
) -> None:
    subject = f"{prefix}.m.-.a.~".encode()
    async with started(nats.url, Filter("#"), prefix=prefix) as node:
        reader, writer = await asyncio.open_connection("127.0.0.1", nats.port)
        writer.writelines(
            [
                b'CONNECT {"headers":true,"verbose":false,"pedantic":false}\r\n',
                raw(subject.replace(b".a.", b".\xff.")),
                raw(subject, b"NATS/1.0 \xff\xff\xff\r\n\r\n"),
                raw(subject, b"NATS/1.0\r\n"),
                raw(subject, b"NATS/1.0\r\n\xff: \xff\r\n\r\n"),
                b"PING\r\n",
            ]
        )
        await reader.readuntil(b"PONG\r\n")
        writer.close()
        await node.publish("room")
        assert len(await node.until(1)) == 1
        assert node.gaps == []
    assert only_warnings(caplog)
    assert len(caplog.records) == 4
    assert all(len(record.message) < 400 for record in caplog.records)
    assert all(record.exc_info is None for record in caplog.records)


# Beginning


@pytest.mark.parametrize(
    "option",
    [{"token": "wrong"}, {}, {"user": "app", "password": "right"}],
    ids=["wrong", "none", "user"],
)
async def test_a_wrong_token_fails_at_start(tmp_path: Path, option: Any) -> None:
    with Nats(tmp_path, "--auth", "right").running() as engine:
        with pytest.raises(BrokerError, match=r"refused: .*Authorization") as raised:
            await NatsBroker(engine.url, **option).start(print, print)
        assert "\n" not in str(raised.value)
        for url, options in (
            (f"nats://right@127.0.0.1:{engine.port}", {}),
            (engine.url, {"token": "right"}),
        ):
            async with started(url, "a", **options) as node:
                assert "right" not in repr(node.broker)
                await node.publish("a")
                await node.until(1)


async def test_credentials_that_are_none_are_told() -> None:
    broker = NatsBroker("nats://127.0.0.1", nkeys_seed_str="none")
    with pytest.raises(BrokerError, match="cannot log in: "):
        await broker.start(print, print)


@pytest.mark.parametrize(
    ("url", "options"),
    [
        ("nats://127.0.0.1:nothing", {}),
        ("127.0.0.1:4222,user:pa/ss@127.0.0.1", {}),
        ("nats://127.0.0.1", {"unknown": 1}),
    ],
    ids=["port", "password", "option"],
)
def test_what_cannot_be_used_is_told_at_once(url: str, options: Any) -> None:
    with pytest.raises(BrokerError, match="cannot be used") as raised:
        NatsBroker(url, **options)
    assert "pa" not in str(raised.value).replace("password", "")


async def test_tls_is_spoken_and_never_left_out(nats: Nats, tmp_path: Path) -> None:
    authority = trustme.CA()
    files = [str(tmp_path / name) for name in ("cert", "key")]
    issued = authority.issue_cert("127.0.0.1")
    issued.cert_chain_pems[0].write_to_path(files[0])
    issued.private_key_pem.write_to_path(files[1])
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    options = ("--tls", "--tlscert", files[0], "--tlskey", files[1])
    with Nats(tmp_path, *options).running() as engine:
        for scheme in ("tls", "nats"):
            url = f"{scheme}://127.0.0.1:{engine.port}"
            async with started(url, "a", tls=trusting) as node:
                await node.publish("a")
                await node.until(1)
        with pytest.raises(BrokerUnavailable, match="certificate"):
            await NatsBroker(f"tls://127.0.0.1:{engine.port}").start(print, print)
    plain: list[tuple[str, dict[str, Any]]] = [
        (f"tls://user:secret@127.0.0.1:{nats.port}", {}),
        (f"nats://user:secret@127.0.0.1:{nats.port}", {"tls": trusting}),
    ]
    for url, more in plain:
        with pytest.raises(BrokerError, match="does not offer TLS"):
            await NatsBroker(url, **more).start(print, print)
