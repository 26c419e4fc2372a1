"""The broker on NATS and JetStream, which is slow, refuses, or is somebody else."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from nats import connect
from nats.aio.client import Client
from nats.aio.msg import Msg

from websockets_routes import BrokerError
from websockets_routes.brokers import HistoryPolicy
from websockets_routes.contract.node import message, refused

from .engines import Nats
from .nodes import settled, until
from .nodes import started_nats as started
from .proxy import Proxy

POLICY = HistoryPolicy(10)


def through(proxy: Proxy) -> str:
    return f"nats://127.0.0.1:{proxy.port}"


async def test_a_stream_that_does_not_answer_in_time_is_told(
    nats: Nats, stranger: Client, prefix: str
) -> None:
    asked: list[Msg] = []

    async def ask(question: Msg) -> None:
        asked.append(question)

    async with started(nats.url, "a", prefix=prefix, timeout=0.5) as node:
        await node.broker.publish(message("a"), history=POLICY)
        await stranger.jetstream().delete_stream(f"{prefix}_10")
        await stranger.subscribe(f"{prefix}.h.>", cb=ask)
        await settled(stranger)
        error = await refused(node.broker.publish(message("a"), history=POLICY))
        assert error.sent
        # An answer that is too late, and what is none.
        await asked[0].respond(b'{"seq": 1}')
        for answer in (b"hello", b"[]", b"{}", b'{"seq": "x"}', b'{"error": 1}'):
            future = node.broker.publish(message("a"), history=POLICY)
            asked.clear()
            await until(lambda: bool(asked))
            await asked[0].respond(answer)
            with pytest.raises(BrokerError, match="answered something else"):
                await future


async def test_what_a_stream_refuses_is_told(
    nats: Nats, stranger: Client, prefix: str
) -> None:
    jetstream = stranger.jetstream()
    async with started(nats.url, "a", prefix=prefix) as node:
        await node.broker.publish(message("a"), history=POLICY)
        config = (await jetstream.stream_info(f"{prefix}_10")).config
        await jetstream.update_stream(config.evolve(max_msg_size=1, allow_direct=False))
        with pytest.raises(BrokerError, match="refused: message size exceeds"):
            await node.broker.publish(message("a"), history=POLICY)
        with pytest.raises(BrokerError, match="cannot be read, status 503"):
            await node.broker.history("a", POLICY)


@pytest.mark.parametrize("place", ["x.>", "{prefix}.m.a.b.>", None], ids=str)
async def test_a_stream_that_publishes_elsewhere_is_not_used(
    nats: Nats, stranger: Client, prefix: str, place: str | None
) -> None:
    config: dict[str, Any] = {
        "name": f"{prefix}_10",
        "subjects": [f"{prefix}.h.10.>"],
        "storage": "memory",
    }
    if place is not None:
        where = place.format(prefix=prefix)
        config["republish"] = {"src": f"{prefix}.h.10.>", "dest": where}
    answer = await stranger.request(
        f"$JS.API.STREAM.CREATE.{prefix}_10", json.dumps(config).encode()
    )
    assert b'"error"' not in answer.data
    async with started(nats.url, "a", prefix=prefix) as node:
        with pytest.raises(BrokerError, match="is not ours"):
            await node.broker.publish(message("a"), history=POLICY)
        await node.publish("a")


@pytest.mark.parametrize("answer", [b"hello", b"[]", b"{}"], ids=repr)
async def test_what_is_no_answer_of_jetstream_is_told(
    tmp_path: Path, answer: bytes
) -> None:
    engine = Nats(tmp_path)
    engine.jetstream = False
    with engine.running():

        async def reply(question: Msg) -> None:
            await question.respond(answer)

        async with (
            await connect(engine.url) as stranger,
            started(engine.url, "a") as node,
        ):
            await stranger.subscribe("$JS.API.>", cb=reply)
            await settled(stranger)
            with pytest.raises(BrokerError, match="answered something else"):
                await node.broker.publish(message("a"), history=POLICY)
            with pytest.raises(BrokerError, match="answered something else"):
                await node.broker.history("a", POLICY)
            await node.publish("a")
            await node.until(1)


@pytest.mark.parametrize("cut", [False, True], ids=["silent", "cut"])
async def test_history_that_does_not_come_is_told(
    nats: Nats, prefix: str, cut: bool
) -> None:
    async with (
        Proxy.before(nats.port) as proxy,
        started(through(proxy), prefix=prefix, timeout=0.5) as node,
    ):
        await node.broker.publish(message("a"), history=POLICY)

        def hold_later(data: bytes) -> bytes:
            if b"stream_info_response" in data:
                proxy.hold()
            return data

        proxy.edit = hold_later
        task = asyncio.create_task(node.broker.history("a", POLICY))
        await proxy.until_sent(b"DIRECT.GET")
        if cut:
            proxy.cut()
        error = await refused(task)
        assert not error.sent
        proxy.edit = bytes
        proxy.release()
        await until(lambda: node.broker.healthy)
        assert len((await node.broker.history("a", POLICY)).messages) == 1


async def test_history_that_comes_in_parts_is_whole(nats: Nats, prefix: str) -> None:
    async with started(nats.url, prefix=prefix) as node:
        futures = [
            node.broker.publish(message("a", b"x" * 300_000), history=POLICY)
            for _ in range(10)
        ]
        offsets = [each.offset for each in await asyncio.gather(*futures)]
        for limit in (None, 9):
            page = await node.broker.history("a", POLICY, limit=limit)
            assert [each.offset for each in page.messages] == offsets[:limit]
