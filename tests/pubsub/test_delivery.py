"""Delivery: nothing is made for each subscriber, and none stops the others."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest
from websockets import State

from tests.integration.slow_clients import (
    Client,
    Recording,
    Stage,
    begin,
    each_security,
    held_back,
)
from websockets_routes import Filter, Receipt

LARGE = 2**20


def balanced(receipt: Receipt) -> bool:
    return receipt.matched == receipt.queued + receipt.dropped + receipt.closed


def errors(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [
        record.getMessage()
        for record in caplog.records
        if record.levelno >= logging.ERROR
    ]


async def get(client: Client, count: int) -> list[str | bytes]:
    await client.read_until(lambda: len(client.messages) >= count)
    return client.messages


def whole(data: Any) -> Any:
    """Return what a piece is a piece of."""
    return data.obj if isinstance(data, memoryview) else data


async def recording(stage: Stage, count: int, *topics: str) -> list[tuple[Any, Client]]:
    """Connect so many clients; forget what was written to them so far."""
    pairs = [await stage.join(*topics) for _ in range(count)]
    for ws, _ in pairs:
        ws.writes()
    return pairs


@each_security
async def test_a_large_payload_is_not_copied_for_each_subscriber(tls: bool) -> None:
    stage = Stage()
    async with stage.open(tls=tls, create_connection=Recording):
        pairs = await recording(stage, 100, "a")
        payload = bytes(LARGE)
        stage.router.publish("a", "small")
        receipt = stage.router.publish("a", payload)
        assert receipt.matched == receipt.queued == 100
        written = [ws.writes() for ws, _ in pairs]
        assert all(len(writes) >= 2 for writes in written)
        if tls:
            assert all(len(data) <= 2**16 for writes in written for data in writes)
        for index in (0, 1):
            assert len({id(whole(writes[index])) for writes in written}) == 1
        for _, client in (pairs[0], pairs[-1]):
            assert await get(client, 2) == ["small", payload]


@each_security
async def test_what_all_get_in_one_turn_is_put_together_once(tls: bool) -> None:
    stage = Stage()
    async with stage.open(tls=tls, create_connection=Recording):
        pairs = await recording(stage, 20, "a")
        for number in range(10):
            stage.router.publish("a", f"{number} " * 50)
        await asyncio.sleep(0)
        written = [ws.writes() for ws, _ in pairs]
        assert {len(writes) for writes in written} == {1}
        assert len({id(whole(writes[0])) for writes in written}) == 1
        for _, client in pairs:
            expected = [f"{number} " * 50 for number in range(10)]
            assert await get(client, 10) == expected


@pytest.mark.parametrize("compression", ["shared", "deflate", None], ids=str)
async def test_whoever_hears_different_topics_gets_what_is_theirs_in_order(
    compression: str | None,
) -> None:
    heard = {"a": ["a"], "b": ["b"], "both": ["a", "b"], "all": ["a", "b", "c"]}
    stage = Stage()
    async with stage.open(compression=compression, create_connection=Recording):
        pairs = {
            name: (await recording(stage, 1, *topics))[0]
            for name, topics in heard.items()
        }
        ws, client = (await recording(stage, 1))[0]
        await ws.subscribe(Filter("#"))
        pairs["filter"] = ws, client
        heard["filter"] = ["a", "b", "c"]
        published = [(topic, f"{topic} {i} " * 99) for i in range(9) for topic in "abc"]
        for topic, text in published:
            stage.router.publish(topic, text)
        await asyncio.sleep(0)
        for name, (ws, client) in pairs.items():
            assert len(ws.writes()) == 1
            expected = [text for topic, text in published if topic in heard[name]]
            assert await get(client, len(expected)) == expected


async def test_whoever_is_excluded_is_neither_counted_nor_reached() -> None:
    stage = Stage()
    async with stage.open(create_connection=Recording):
        pairs = await recording(stage, 3, "a")
        for number in range(6):
            receipt = stage.router.publish(
                "a", str(number), exclude=pairs[number % 3][0]
            )
            assert (receipt.matched, receipt.queued) == (2, 2)
        await asyncio.sleep(0)
        for index, (_, client) in enumerate(pairs):
            expected = [str(number) for number in range(6) if number % 3 != index]
            assert await get(client, 4) == expected


async def test_whoever_is_excluded_and_slow_is_neither_counted_nor_reached() -> None:
    stage = Stage()
    async with stage.open():
        ws, client = await stage.join("a")
        expected: list[str | bytes] = [*await held_back(ws)]
        receipt = ws.publish("a", "not to me")
        assert (receipt.matched, receipt.queued) == (0, 0)
        assert balanced(receipt)
        stage.router.publish("a", "to all")
        expected.append("to all")
        assert await get(client, len(expected)) == expected


async def test_a_slow_subscriber_holds_up_no_other() -> None:
    stage = Stage()
    async with stage.open(create_connection=Recording):
        (slow, slow_client), *others = await recording(stage, 4, "a")
        expected: list[str | bytes] = [*await held_back(slow)]
        slow.writes()
        for number in range(3):
            assert stage.router.publish("a", str(number)).queued == 4
        await asyncio.sleep(0)
        assert slow.writes() == []
        for ws, client in others:
            assert len(ws.writes()) == 1
            assert await get(client, 3) == ["0", "1", "2"]
        expected += ["0", "1", "2"]
        assert await get(slow_client, len(expected)) == expected


async def test_all_that_crosses_the_limit_in_one_turn_keeps_its_order() -> None:
    stage = Stage()
    async with stage.open(small=False, write_limit=1000, create_connection=Recording):
        pairs = await recording(stage, 3, "a")
        await pairs[1][0].subscribe("b")
        expected = [str(number) + "." * (number * 37 % 900) for number in range(300)]
        for number, text in enumerate(expected):
            topic = "b" if number % 5 == 0 else "a"
            stage.router.publish(topic, text)
        mine = [text for number, text in enumerate(expected) if number % 5]
        assert await get(pairs[1][1], 300) == expected
        assert await get(pairs[0][1], len(mine)) == mine
        assert await get(pairs[2][1], len(mine)) == mine


@pytest.mark.parametrize("place", [0, 1, 3], ids=["first", "middle", "last"])
@pytest.mark.parametrize("large", [False, True], ids=["at-the-end", "at-once"])
@pytest.mark.parametrize("compression", ["deflate", None], ids=str)
async def test_a_subscriber_that_cannot_be_written_to_stops_nobody(
    compression: str | None,
    large: bool,
    place: int,
    caplog: pytest.LogCaptureFixture,
) -> None:
    stage = Stage()
    async with stage.open(compression=compression):
        pairs = [await stage.join("a") for _ in range(4)]
        broken, broken_client = pairs.pop(place)

        def fail(data: object) -> None:
            raise OSError("no more")

        broken.outbox._write = fail
        texts = ["small", "large " * 10_000 if large else "small too", "last"]
        for text in texts:
            receipt = stage.router.publish("a", text)
            assert receipt.matched == 4
            assert balanced(receipt)
        await asyncio.sleep(0)
        receipt = stage.router.publish("a", "after")
        assert balanced(receipt)
        assert receipt.queued == 3
        for _, client in pairs:
            assert await get(client, 4) == [*texts, "after"]
        assert await broken_client.read_all() == []
        await broken.wait_closed()
        assert broken.state is State.CLOSED
        assert stage.router.num_subscribers("a") == 3
    assert errors(caplog) == ["a message could not be sent"]


async def test_a_subscriber_that_is_busy_with_fragments_gets_all_in_the_end() -> None:
    stage = Stage()
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def fragments() -> Any:
        yield "1"
        begun.set()
        await go_on.wait()
        yield "2"

    async with stage.open(create_connection=Recording):
        (busy, busy_client), (free, free_client) = await recording(stage, 2, "a")
        stage.router.publish("a", "in the batch")
        sending = await begin(busy.send(fragments()))
        await begun.wait()
        stage.router.publish("a", "small")
        stage.router.publish("a", b"." * 200_000)
        assert await get(free_client, 3) == ["in the batch", "small", b"." * 200_000]
        busy.writes()
        go_on.set()
        await sending
        wanted = ["in the batch", "12", "small", b"." * 200_000]
        assert await get(busy_client, 4) == wanted
        assert free.outbox.backlog is busy.outbox.backlog is None


async def test_nothing_of_a_batch_outlives_its_turn() -> None:
    stage = Stage()
    async with stage.open():
        pairs = [await stage.join("a") for _ in range(2)]
        for number in range(5):
            stage.router.publish("a", str(number))
        first = pairs[0][0].outbox.batch
        assert first is pairs[1][0].outbox.batch
        await asyncio.sleep(0)
        delivery = stage.router.topics._delivery
        assert not delivery._filled
        assert not delivery._followed
        assert first.following is None
        assert [ws.outbox.batch for ws, _ in pairs] == [None, None]
