"""History in one process: offsets, replays, and what a client is told of them."""

from __future__ import annotations

import asyncio
import base64
import json
from contextlib import suppress
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed

from tests.integration.servers import until
from tests.integration.test_topics import Hall, errors, heard
from websockets_routes import (
    EndpointError,
    Filter,
    InvalidLimit,
    InvalidTopic,
    Message,
    MustAwait,
    NotServing,
    OpCode,
    Position,
    Router,
    Subscribed,
    Topics,
    json_envelope,
)
from websockets_routes.brokers import MemoryBroker


def make(**options: Any) -> Hall:
    hall = Hall()
    hall.router.topic("room/{name}", **{"history": 10, **options})
    return hall


def tell(subscribed: Subscribed) -> str:
    return f"{subscribed.offset} {subscribed.recovered} {subscribed.count}"


# Declaring


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"history": 0}, InvalidLimit),
        ({"history": 1.5}, InvalidLimit),
        ({"history": 1, "ttl": 0}, InvalidLimit),
        ({"ttl": 10}, InvalidTopic),
        ({"history": 1, "overflow": "drop_oldest"}, InvalidTopic),
        ({"history": 1, "overflow": "conflate"}, InvalidTopic),
        ({"envelope": 7}, InvalidTopic),
        ({"envelope": json.dump}, InvalidTopic),
    ],
    ids=["none", "float", "ttl", "ttl-alone", "drop", "conflate", "int", "arity"],
)
def test_what_cannot_work_is_refused(options: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        Topics("memory://").topic("a", **options)


# Publishing


async def test_messages_have_offsets_with_or_without_subscribers() -> None:
    topics = Topics()
    topics.topic("a", history=3)
    receipts = [await topics.publish("a", str(number)) for number in range(5)]
    assert [receipt.offset for receipt in receipts] == [1, 2, 3, 4, 5]
    assert len({receipt.epoch for receipt in receipts}) == 1
    assert receipts[0].matched == 0
    assert repr(receipts[0]).endswith(f"offset=1, epoch={receipts[0].epoch!r})")
    plain = topics.publish("b", "x")
    assert (plain.offset, plain.epoch, plain.duplicate) == (None, None, False)
    assert topics.statistics().published == 6
    kept = await topics.history("a")
    assert [(each.offset, each.data) for each in kept] == [(3, "2"), (4, "3"), (5, "4")]


async def test_history_is_read_from_a_place_both_ways_and_in_parts() -> None:
    topics = Topics()
    topics.topic("a", history=10)
    epoch = ""
    for number in range(1, 6):
        receipt = topics.publish("a", b"%d" % number, exclude=None)
        epoch = receipt.epoch or ""

    async def offsets(**options: Any) -> list[int | None]:
        return [each.offset for each in await topics.history("a", **options)]

    assert await offsets(since=Position(epoch, 2)) == [3, 4, 5]
    assert await offsets(since=Position(epoch, 2), limit=2) == [3, 4]
    assert await offsets(reverse=True, limit=2) == [5, 4]
    assert await offsets(since=Position(epoch, 3), reverse=True) == [2, 1]
    assert await offsets(since=Position(epoch, 9)) == []
    message = (await topics.history("a"))[0]
    assert message[:5] == ("a", 1, epoch, b"1", OpCode.BINARY)
    with pytest.raises(InvalidTopic, match="no history"):
        await topics.history("b")
    with pytest.raises(InvalidTopic):
        await topics.history("a/+")
    with pytest.raises(InvalidLimit):
        await topics.history("a", limit=0)
    with pytest.raises(InvalidLimit, match="limit is a number of messages"):
        await topics.history("a", limit=1.5)  # type: ignore[arg-type]


async def test_an_idempotency_key_publishes_once() -> None:
    hall = make()
    async with hall.open():
        ws, client = await hall.join()
        for topic in ("room/a", "plain"):
            await ws.subscribe(topic)
            first = hall.router.publish(topic, "1", idempotency_key="k")
            again = hall.router.publish(topic, "2", idempotency_key="k")
            assert (first.duplicate, again.duplicate) == (False, True)
            assert (again.offset, again.epoch) == (first.offset, first.epoch)
            assert (first.matched, again.matched) == (1, 0)
            assert "duplicate=True" in repr(again)
            assert await heard(ws, client) == ["1"]


# Replaying


async def test_a_client_that_was_away_gets_what_it_missed_and_goes_on() -> None:
    hall = make()
    router = hall.router
    async with hall.open():
        ws, client = await hall.join()
        subscribed = await ws.subscribe("room/a")
        assert (subscribed.new, subscribed.offset, subscribed.count) == (True, 0, 0)
        router.publish("room/a", "1")
        await client.close()
        await ws.wait_closed()
        router.publish("room/a", "2")
        router.publish("room/a", "3")
        ws, client = await hall.join()
        position = Position(subscribed.epoch, 1)
        subscribing = ws.subscribe("room/a", since=position, reply=tell)
        # Not one turn of the loop goes by.
        with pytest.raises(StopIteration) as stop:
            subscribing.send(None)
        router.publish("room/a", "4")
        assert stop.value.value == Subscribed(
            "room/a", True, subscribed.epoch, 3, True, 2
        )
        assert await heard(ws, client) == ["3 True 2", "2", "3", "4"]


@pytest.mark.parametrize(
    "position",
    [
        lambda epoch: Position(epoch, 99),
        lambda epoch: Position(epoch, -1),
        lambda epoch: Position(epoch, 2**70),
        lambda epoch: Position(epoch, "1"),  # type: ignore[arg-type]
        lambda epoch: Position(epoch, True),
        lambda epoch: Position(7, 1),  # type: ignore[arg-type]
        lambda epoch: Position("other", 1),
        lambda epoch: Position("\ud800", 1),
        lambda epoch: 7,
        lambda epoch: "position",
        lambda epoch: (epoch, 3, 3),
        lambda epoch: Position(epoch, 0),
    ],
    ids=[
        *("future", "negative", "huge", "str", "bool", "epoch-int", "epoch"),
        *("surrogate", "int", "no-position", "three", "gone"),
    ],
)
async def test_a_position_that_cannot_be_recovered_is_told(position: Any) -> None:
    hall = make(history=2)
    async with hall.open():
        ws, client = await hall.join()
        for number in range(1, 4):
            receipt = hall.router.publish("room/a", str(number))
        since = position(receipt.epoch)
        subscribed = await ws.subscribe("room/a", since=since, reply=tell)
        assert subscribed == Subscribed("room/a", True, receipt.epoch, 3, False, 0)
        hall.router.publish("room/a", "live")
        assert await heard(ws, client) == ["3 False 0", "live"]


async def test_the_last_messages_are_replayed() -> None:
    hall = make()
    async with hall.open():
        ws, client = await hall.join()
        for number in range(5):
            hall.router.publish("room/a", str(number))
        subscribed = await ws.subscribe("room/a", last=2, reply=tell)
        assert (subscribed.offset, subscribed.count) == (5, 2)
        assert await heard(ws, client) == ["5 True 2", "3", "4"]


async def test_what_a_client_published_itself_is_not_replayed() -> None:
    hall = make()

    @hall.router.before_handshake
    async def know(ws: Any, path: Any) -> None:
        ws.client_key = "ann"

    async with hall.open():
        ws, client = await hall.join()
        other, other_client = await hall.join()
        await other.subscribe("room/a")
        hall.router.publish("room/a", "1")
        receipt = ws.publish("room/a", "own")
        # Of the same key: whoever is there twice does not hear itself.
        assert receipt.matched == 0
        hall.router.publish("room/a", "2")
        assert (await ws.subscribe("room/a", last=5)).count == 2
        assert await heard(ws, client) == ["1", "2"]
        assert await heard(other, other_client) == ["1", "2"]
        assert ws.publish("room/a", "both").matched == 0
        await client.close()
        await ws.wait_closed()
        await other_client.close()
        await other.wait_closed()
        await until(lambda: not hall.router.topics._clients)


async def test_a_client_key_is_set_before_anything_is_subscribed() -> None:
    hall = make()
    async with hall.open():
        ws, _ = await hall.join()
        assert ws.client_key == str(ws.id)
        for wrong in ("", 7, "x" * 513):
            with pytest.raises(ValueError, match="client_key is a str"):
                ws.client_key = wrong
        await ws.subscribe("room/a")
        with pytest.raises(NotServing, match="in the handshake"):
            ws.client_key = "ann"


async def test_subscribing_again_replays_nothing() -> None:
    hall = make()
    async with hall.open():
        ws, client = await hall.join()
        receipt = hall.router.publish("room/a", "1")
        await ws.subscribe("room/a", last=1)
        again = await ws.subscribe("room/a", last=1, reply=tell)
        assert again == Subscribed("room/a", False, receipt.epoch, 1, False, 0)
        assert (await ws.subscribe("room/a")).recovered
        now = ws.subscribe_nowait("room/a")
        assert not now.new
        assert await heard(ws, client) == ["1", "1 False 0"]


async def test_a_plain_function_learns_where_it_stands() -> None:
    hall = make()
    async with hall.open():
        ws, _ = await hall.join()
        receipt = hall.router.publish("room/a", "1")
        assert ws.subscribe_nowait("room/a") == Subscribed(
            "room/a", True, receipt.epoch, 1
        )
        assert ws.subscribe_nowait("plain") == Subscribed("plain", True)


async def test_what_has_no_history_cannot_be_replayed() -> None:
    hall = make()
    async with hall.open():
        ws, client = await hall.join()
        with pytest.raises(InvalidTopic, match="for names"):
            await ws.subscribe(Filter("room/#"), last=1)
        with pytest.raises(InvalidTopic, match="no history"):
            await ws.subscribe("plain", last=1)
        for last in (0, True, "1"):
            with pytest.raises(InvalidLimit):
                await ws.subscribe("room/a", last=last)
        with pytest.raises(InvalidLimit, match="not both"):
            await ws.subscribe("room/a", last=1, since=Position("", 0))
        assert ws.topics == ()
        # A reply needs none.
        assert (await ws.subscribe("plain", reply=tell)).new
        assert await ws.subscribe(Filter("x/#"), reply=lambda _: b"hi")
        assert await heard(ws, client) == ["None True 0", b"hi"]


@pytest.mark.parametrize("broker", [None, MemoryBroker], ids=["none", "memory"])
async def test_what_a_reply_publishes_is_heard_too(broker: Any) -> None:
    hall = Hall(Router(topics=Topics(broker and broker())))
    hall.router.topic("room/{name}", history=10)

    def welcome(subscribed: Subscribed) -> str:
        hall.router.publish("room/a", "joined")
        return f"at {subscribed.offset}"

    async with hall.open():
        ws, client = await hall.join()
        await hall.router.publish("room/a", "1")
        await ws.subscribe("room/a", last=5, reply=welcome)
        await hall.router.publish("room/a", "2")
        assert await heard(ws, client) == ["at 1", "1", "joined", "2"]


async def test_a_reply_that_fails_subscribes_nothing() -> None:
    hall = make()
    async with hall.open():
        ws, client = await hall.join()
        with pytest.raises(ZeroDivisionError):
            await ws.subscribe("room/a", reply=lambda _: 1 / 0)
        assert ws.topics == ()
        assert (await ws.subscribe("room/a")).new
        assert await heard(ws, client) == []


async def test_a_long_replay_waits_for_its_reader_and_misses_nothing() -> None:
    hall = make(history=1000)
    router = hall.router
    async with hall.open(max_backlog=100_000, compression=None):
        ws, client = await hall.join(max_queue=1)
        first = router.publish("room/a", "first")
        for number in range(100):
            router.publish("room/a", f"{number:03}" + "x" * 100_000)
        since = Position(first.epoch or "", 1)
        subscribing = asyncio.ensure_future(ws.subscribe("room/a", since=since))
        again = asyncio.ensure_future(ws.subscribe("room/a", since=since))
        await asyncio.sleep(0)
        with pytest.raises(MustAwait, match="being replayed"):
            ws.subscribe_nowait("room/a")
        router.publish("room/a", "while it reads")
        messages = [await client.recv() for _ in range(101)]
        assert not (await again).new
        assert (await subscribing).count == 100
        assert messages[-1] == "while it reads"
        assert [int(each[:3]) for each in messages[:-1]] == list(range(100))


async def test_a_reader_that_falls_out_of_history_is_closed() -> None:
    hall = make(history=100)
    router = hall.router
    async with hall.open(max_backlog=100_000, compression=None):
        ws, client = await hall.join(max_queue=1)
        for _ in range(100):
            router.publish("room/a", "x" * 100_000)
        subscribing = asyncio.ensure_future(ws.subscribe("room/a", last=100))
        await until(lambda: ws.outbox is not None and ws.outbox.backlog is not None)
        for _ in range(200):
            router.publish("room/a", "y")
        with suppress(ConnectionClosed):
            while True:
                await client.recv()
        assert client.close_code == 1013
        with pytest.raises(ConnectionClosed):
            await subscribing
        assert not hall.router.topics._joining


async def test_a_reader_that_goes_away_in_a_replay_is_forgotten() -> None:
    hall = make(history=100)
    async with hall.open(max_backlog=100_000, compression=None):
        ws, client = await hall.join(max_queue=1)
        for _ in range(100):
            hall.router.publish("room/a", "x" * 100_000)
        subscribing = asyncio.ensure_future(ws.subscribe("room/a", last=100))
        await until(lambda: ws.outbox is not None and ws.outbox.backlog is not None)
        client.transport.abort()
        with pytest.raises(ConnectionClosed):
            await subscribing
        assert hall.router.num_subscribers("room/a") == 0
        assert not hall.router.topics._joining


# On the wire


async def test_an_envelope_tells_clients_the_offset_live_and_replayed() -> None:
    hall = make(envelope=json_envelope)
    async with hall.open():
        ws, client = await hall.join()
        hall.router.publish("room/a", "é")
        await ws.subscribe("room/a", last=1)
        hall.router.publish("room/a", b"\xff")
        texts = [json.loads(each) for each in await heard(ws, client)]
        assert [each["offset"] for each in texts] == [1, 2]
        assert texts[0]["data"] == "é"
        assert texts[0]["topic"] == "room/a"
        assert "base64" not in texts[0]
        assert base64.b64decode(texts[1]["data"]) == b"\xff"
        assert texts[1]["base64"]
        kept = await hall.router.history("room/a")
        assert [each.data for each in kept] == ["é", b"\xff"]


async def test_an_envelope_is_made_once_and_needs_no_history() -> None:
    hall = Hall()
    made: list[Message] = []

    def envelope(message: Message) -> bytes:
        made.append(message)
        return b"<" + str(message.data).encode() + b">"

    hall.router.topic("a", envelope=envelope)
    async with hall.open():
        pairs = [await hall.join() for _ in range(3)]
        hall.router.publish("a", "nobody")
        for ws, _ in pairs:
            await ws.subscribe("a")
        assert hall.router.publish("a", "x").queued == 3
        assert [await heard(*pair) for pair in pairs] == [[b"<x>"]] * 3
        assert [each.data for each in made] == ["x"]
        assert hall.router.topics.statistics().queued == 3


async def test_an_envelope_that_fails_publishes_nothing() -> None:
    hall = make(envelope=lambda message: 1 / 0)
    async with hall.open():
        ws, client = await hall.join()
        await ws.subscribe("room/a")
        with pytest.raises(ZeroDivisionError):
            hall.router.publish("room/a", "x")
        assert await hall.router.history("room/a") == []
        assert await heard(ws, client) == []


async def test_an_envelope_may_publish_to_its_own_topic() -> None:
    hall = Hall()
    router = hall.router
    once: list[str] = ["0"]

    def envelope(message: Message) -> str:
        if once:
            router.publish("echo", once.pop())
        return f"{message.offset}:" + str(message.data)

    router.topic("echo", history=10, envelope=envelope)
    async with hall.open():
        ws, client = await hall.join()
        await ws.subscribe("echo")
        assert router.publish("echo", "1").offset == 2
        assert await heard(ws, client) == ["1:0", "2:1"]
        kept = await router.history("echo")
        assert [(each.offset, each.data) for each in kept] == [(1, "0"), (2, "1")]


async def test_a_client_key_leaves_out_no_other_client() -> None:
    hall = make()

    @hall.router.before_handshake
    async def know(ws: Any, path: Any) -> None:
        if path.query:
            ws.client_key = path.query

    async with hall.open():
        pairs = [await hall.join(path) for path in ("/hold?ann", "/hold?ann", "/hold")]
        for ws, _ in pairs:
            await ws.subscribe("plain")
        assert pairs[2][0].publish("plain", "1").matched == 2
        assert pairs[0][0].publish("plain", "2").matched == 1
        assert hall.router.publish("plain", "3").matched == 3
        expected = [["1", "3"], ["1", "3"], ["2", "3"]]
        assert [await heard(*pair) for pair in pairs] == expected


# Gaps


async def test_whoever_asked_hears_of_a_gap(caplog: pytest.LogCaptureFixture) -> None:
    topics = Topics()
    topics.tell_gap("a")
    assert "messages of 'a' were missed" in caplog.text
    with pytest.raises(EndpointError):
        topics.on_gap(lambda: None)
    gaps: list[Any] = []
    topics.on_gap(gaps.append)
    later = asyncio.Event()

    @topics.on_gap
    async def fail(topic: str) -> None:
        later.set()
        raise ZeroDivisionError

    other = Topics()
    other.adopt(topics)
    other.tell_gap(Filter("a/#"))
    await later.wait()
    await until(lambda: errors(caplog))
    assert gaps == [Filter("a/#")]
    assert errors(caplog) == ["on_gap failed"]


def test_it_is_too_late_for_a_broker_once_topics_are_used() -> None:
    topics = Topics()
    assert topics.broker is None
    topics.set_broker(MemoryBroker())
    assert isinstance(topics.broker, MemoryBroker)
    topics.set_broker("memory://")
    assert topics.broker is None
    topics.publish("a", "b")
    with pytest.raises(NotServing, match="in use"):
        topics.set_broker("memory://")
