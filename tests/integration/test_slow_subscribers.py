"""Slow subscribers: each policy, with clients that read slowly or stop to read.

Whatever was published is accounted for: it was read, or the receipts and ``on_drop``
tell what became of it.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import pytest
from websockets import State

from websockets_routes import Filter, Receipt, Router

from .servers import until
from .slow_clients import Client, Stage, begin, each_security, held_back, resident

LIMIT = 100_000
SIZE = 1000
COUNT = 400
# What a TLS layer holds and does not show, and what the kernel holds of a small socket.
HIDDEN = 200_000
KEYS = 7

POLICIES = ["close", "drop_oldest", "drop_newest", "conflate", "conflate-key"]
LASTING = POLICIES[1:]
each_policy = pytest.mark.parametrize("policy", POLICIES)
each_lasting_policy = pytest.mark.parametrize("policy", LASTING)
each_kind = pytest.mark.parametrize("own", [True, False], ids=["ours", "websockets"])
each_pace = pytest.mark.parametrize("reads", [True, False], ids=["slow", "stopped"])


def number_of(message: Any) -> int:
    return int(message.split()[0])


def key_of(message: Any) -> int:
    return number_of(message) % KEYS


def errors(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [
        record.getMessage()
        for record in caplog.records
        if record.levelno >= logging.WARNING
    ]


def make(policy: str, **limits: Any) -> Stage:
    """Declare the topics ``p/+`` with a policy."""
    stage = Stage(Router(max_backlog=LIMIT, **limits))
    overflow, _, key = policy.partition("-")
    stage.router.topic("p/{x}", overflow=overflow, key=key_of if key else None)
    return stage


class Account:
    """Everything that is published to one slow subscriber, and what came of it."""

    def __init__(self, stage: Stage, ws: Any, others: int = 0) -> None:
        self.stage, self.ws, self.others = stage, ws, others
        self.published: list[int] = []
        self.counts: Counter[str] = Counter()
        self.most = 0

    def publish(self, topic: str = "p/1", size: int = SIZE) -> Receipt:
        number = len(self.published)
        message = b"%d " % number + b"." * size
        receipt = self.stage.router.publish(topic, message)
        assert receipt.matched == receipt.queued + receipt.dropped + receipt.closed
        if receipt.matched > self.others:
            self.published.append(number)
            self.counts["queued"] += receipt.queued - self.others
            for name in ("dropped", "closed", "conflated", "displaced"):
                self.counts[name] += getattr(receipt, name)
        self.most = max(self.most, resident(self.ws))
        return receipt

    def check_bound(self, tls: bool) -> None:
        assert self.most <= LIMIT + SIZE + 50 + (HIDDEN if tls else 0)


def numbers(messages: list[Any]) -> list[int]:
    return [number_of(message) for message in messages]


# Accounting


@each_security
@each_kind
@each_pace
@each_policy
async def test_all_that_is_published_is_read_or_accounted_for(
    policy: str, reads: bool, own: bool, tls: bool, caplog: pytest.LogCaptureFixture
) -> None:
    stage = make(policy)
    async with stage.open(tls=tls, own=own):
        ws, client = await stage.join("p/1")
        healthy, healthy_client = await stage.join("p/1")
        healthy_client.start_reading()
        account = Account(stage, ws, others=1)
        everything: list[int] = []
        while len(everything) < COUNT:
            receipt = account.publish()
            everything.append(len(everything))
            if receipt.matched == 1:  # the slow one is gone
                account.published.append(len(account.published))
            await until(lambda: healthy.outbox.backlog is None)
            if reads and ws.state is State.OPEN and everything[-1] % 4 == 0:
                await client.read(SIZE)
        account.check_bound(tls)
        # The others get everything, in order.
        await healthy_client.read_until(lambda: len(healthy_client.messages) == COUNT)
        assert numbers(healthy_client.messages) == everything
        counts = account.counts
        if policy == "close":
            await check_closed(client, account)
        else:
            assert not counts["closed"]
            if not own:  # its close does not wait for what is held back
                await client.read_until(lambda: not resident(ws))
            closing = await begin(ws.close())
            await client.read_all()
            await closing
            assert client.close_code == 1000
            check_lasting(policy, client, account)
        statistics = stage.router.topics.statistics()
        assert statistics.published == COUNT
        assert statistics.dropped == counts["dropped"]
        assert statistics.displaced == counts["displaced"]
        assert statistics.conflated == counts["conflated"]
    assert errors(caplog) == []


async def check_closed(client: Client, account: Account) -> None:
    """The client reads what came before it was too slow, and then 1013."""
    read = numbers(await client.read_all())
    assert client.close_code == 1013
    lost = numbers([message for _, message in account.stage.lost])
    assert read == list(range(len(read)))
    assert lost == list(range(len(read), len(read) + len(lost)))
    counts = account.counts
    assert len(read) + len(lost) == counts["queued"]
    assert counts["closed"] >= 1
    assert not counts["dropped"]
    assert not counts["displaced"]


def check_lasting(policy: str, client: Client, account: Account) -> None:
    """What was read and what was lost is all there was; the order is kept."""
    counts, published = account.counts, account.published
    read = numbers(client.messages)
    lost = numbers([message for _, message in account.stage.lost])
    assert len(lost) == counts["dropped"] + counts["displaced"]
    assert len(set(read)) == len(read)
    assert not set(read) & set(lost)
    gone = set(published) - set(read) - set(lost)
    assert len(gone) == counts["conflated"]
    assert counts["queued"] + counts["dropped"] == len(published)
    if policy == "drop_newest":
        assert counts["dropped"]
        assert not gone
        assert not counts["displaced"]
        assert read == sorted(read)
    elif policy == "drop_oldest":
        assert counts["displaced"]
        assert not gone
        assert not counts["dropped"]
        assert read == sorted(read)
        assert read[-1] == published[-1]
    else:
        assert counts["conflated"]
        keys = KEYS if policy == "conflate-key" else 1
        for key in range(keys):
            mine = [number for number in read if number % keys == key]
            assert mine == sorted(mine)
            # The newest is never lost.
            assert mine[-1] == max(n for n in published if n % keys == key)


@each_security
@each_kind
async def test_a_subscriber_that_never_reads_again_is_aborted_after_close_timeout(
    own: bool, tls: bool, caplog: pytest.LogCaptureFixture
) -> None:
    stage = make("close")
    options: dict[str, Any] = {"stall_timeout": None} if own else {}
    async with stage.open(tls=tls, own=own, close_timeout=0.2, **options):
        ws, _ = await stage.join("p/1")
        account = Account(stage, ws)
        while not account.publish().closed:
            pass
        loop = asyncio.get_running_loop()
        begun = loop.time()
        assert stage.router.publish("p/1", "too late").closed == 1
        await ws.wait_closed()
        assert 0.15 < loop.time() - begun < 1.2
        await asyncio.sleep(0)
        assert stage.router.num_subscribers("p/1") == 0
        assert stage.router.publish("p/1", "nobody").matched == 0
    assert errors(caplog) == []


@each_kind
async def test_the_queue_is_discarded_at_once_when_the_policy_closes(
    own: bool,
) -> None:
    stage = make("close")
    async with stage.open(own=own, close_timeout=0.1):
        ws, _ = await stage.join("p/1")
        account = Account(stage, ws)
        while not account.publish().closed:
            pass
        assert resident(ws) < 2**16
        await asyncio.sleep(0)
        lost = numbers([message for _, message in stage.lost])
        assert lost
        assert lost == list(range(lost[0], lost[0] + len(lost)))
        assert stage.router.topics.statistics().lost == len(lost)


# Whose messages


@each_security
@each_policy
async def test_only_messages_of_the_topic_itself_are_touched(
    policy: str, tls: bool
) -> None:
    stage = make(policy)
    stage.router.topic("other", overflow="drop_oldest")
    async with stage.open(tls=tls):
        ws, client = await stage.join("p/1", "p/2", "other")
        await held_back(ws)
        await ws.subscribe("undeclared")
        others = []
        for number in range(20):
            others += [f"other {number}", f"p/2 {number} ", f"undeclared {number}"]
            stage.router.publish("other", others[-3])
            ws.send_nowait(others[-2])
            stage.router.publish("undeclared", others[-1])
        account = Account(stage, ws)
        for _ in range(300):
            receipt = account.publish()
            if receipt.closed:
                break
        assert all(topic == "p/1" for topic, _ in stage.lost)
        closing = await begin(ws.close())
        await client.read_all()
        await closing
        if policy == "close":
            assert client.close_code == 1013
        else:
            read = [message for message in client.messages if message in others]
            assert read == others


@each_lasting_policy
async def test_a_full_backlog_of_one_topic_leaves_no_room_to_another(
    policy: str,
) -> None:
    stage = make(policy)
    stage.router.topic("quiet", overflow="drop_newest")
    async with stage.open():
        ws, client = await stage.join("p/1", "p/2", "quiet")
        await held_back(ws)
        while (receipt := stage.router.publish("quiet", b"." * SIZE)).queued:
            pass
        assert receipt.dropped == 1
        receipts = [stage.router.publish("p/1", b"0 " + b"." * SIZE) for _ in range(3)]
        assert [receipt.dropped for receipt in receipts] == [1, 1, 1]
        await asyncio.sleep(0)
        assert {topic for topic, _ in stage.lost} == {"quiet", "p/1"}
        await client.read_until(lambda: not resident(ws))
        assert stage.router.publish("p/1", b"0 again").queued == 1


@each_security
async def test_conflation_keeps_the_place_of_the_older_message(tls: bool) -> None:
    stage = make("conflate-key")
    async with stage.open(tls=tls):
        ws, client = await stage.join("p/1", "p/2")
        sent = await held_back(ws)
        for number in (0, 1, 2):
            assert stage.router.publish("p/1", f"{number} first").conflated == 0
        ws.send_nowait("between")
        assert stage.router.publish("p/2", "1 of another topic").conflated == 0
        assert stage.router.publish("p/1", "8 second").conflated == 1
        assert stage.router.publish("p/1", "15 third").conflated == 1
        assert stage.router.publish("p/1", "3 new").conflated == 0
        wanted = ["0 first", "15 third", "2 first", "between", "1 of another topic"]
        wanted.append("3 new")
        await client.read_until(lambda: len(client.messages) >= len(sent) + 6)
        assert client.messages == [*sent, *wanted]
        assert stage.lost == []


async def test_nothing_is_conflated_for_a_subscriber_that_is_ready() -> None:
    stage = make("conflate")
    async with stage.open():
        _, client = await stage.join("p/1")
        for number in range(20):
            receipt = stage.router.publish("p/1", f"{number} x")
            assert (receipt.queued, receipt.conflated) == (1, 0)
        await client.read_until(lambda: len(client.messages) == 20)
        assert numbers(client.messages) == list(range(20))


@each_security
async def test_filters_bring_topics_of_all_policies_to_one_slow_subscriber(
    tls: bool,
) -> None:
    stage = Stage(Router(max_backlog=LIMIT))
    for policy in ("drop_oldest", "drop_newest", "conflate"):
        stage.router.topic(f"p/{policy}", overflow=policy)
    async with stage.open(tls=tls):
        ws, client = await stage.join()
        await ws.subscribe(Filter("p/#"))
        await ws.subscribe(Filter("+/+"))
        account = Account(stage, ws)
        policies = ["drop_oldest", "drop_newest", "conflate"]
        for number in range(COUNT):
            account.publish(f"p/{policies[number % 3]}")
            await asyncio.sleep(0)
        account.check_bound(tls)
        closing = await begin(ws.close())
        await client.read_all()
        await closing
        read = set(numbers(client.messages))
        lost = set(numbers([message for _, message in stage.lost]))
        assert len(read) + len(lost) + account.counts["conflated"] == COUNT
        for index in (0, 1):
            mine = [n for n in numbers(client.messages) if n % 3 == index]
            assert mine == sorted(mine)
            assert {*mine, *(n for n in lost if n % 3 == index)} == set(
                range(index, COUNT, 3)
            )


# Memory


@each_security
@each_kind
async def test_memory_is_bounded_whatever_is_published(own: bool, tls: bool) -> None:
    """What was taken from us, less what the client has read, is what somebody holds."""
    stage = make("drop_newest")
    async with stage.open(tls=tls, own=own):
        _, client = await stage.join("p/1")
        taken = most = 0
        largest = 70_000
        for number in range(3000):
            size = (100, 3000, largest)[number % 3]
            receipt = stage.router.publish("p/1", b"." * size)
            taken += size * receipt.queued
            most = max(most, taken - client.taken)
            if number % 5 == 0:
                await client.read(4000)
        # Both kernels hold something, too.
        assert most <= LIMIT + largest + HIDDEN


@each_security
async def test_memory_is_bounded_with_large_messages(tls: bool) -> None:
    stage = make("drop_oldest")
    size = 2**20
    async with stage.open(tls=tls):
        ws, client = await stage.join("p/1")
        account = Account(stage, ws)
        for _ in range(30):
            account.publish(size=size)
            await client.read(5000)
        assert account.most <= LIMIT + size + HIDDEN
        taken = account.counts["queued"] - account.counts["displaced"]
        assert taken * size - client.taken <= LIMIT + 2 * size + HIDDEN
        assert account.counts["dropped"] + account.counts["queued"] == 30


# The last ways in: connections of websockets' own class


async def test_on_a_connection_of_websockets_messages_are_written_at_once() -> None:
    stage = Stage()
    async with stage.open(own=False):
        ws, client = await stage.join("a")
        await asyncio.sleep(0)
        stage.router.publish("a", "1")
        await ws.send("2")
        stage.router.publish("a", "3")
        await ws.send(["4", ""])
        stage.router.publish("a", "5")
        await client.read_until(lambda: len(client.messages) == 5)
        assert client.messages == list("12345")


@each_security
@pytest.mark.parametrize("compression", ["deflate", None], ids=str)
async def test_a_fragmented_send_of_websockets_is_not_broken_into(
    compression: str | None, tls: bool
) -> None:
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def fragments() -> AsyncIterator[str]:
        yield "1"
        begun.set()
        await go_on.wait()
        yield "2"

    stage = Stage()
    async with stage.open(own=False, tls=tls, compression=compression):
        ws, client = await stage.join("a")
        for count in (4, 8):
            begun.clear()
            go_on.clear()
            sending = await begin(ws.send(fragments()))
            await begun.wait()
            for number in range(3):
                receipt = stage.router.publish("a", f"{number}")
                assert receipt.queued == 1
            go_on.set()
            await sending
            while len(client.messages) < count:
                assert await client.read()
        assert client.messages == ["12", "0", "1", "2"] * 2
        assert ws.outbox.backlog is None


async def test_a_slow_connection_of_websockets_amid_fragments_loses_no_order() -> None:
    """Both what is slow and what is fragmented hold it up, in any order."""
    stage = Stage(Router(max_backlog=2**20))
    async with stage.open(own=False):
        ws, client = await stage.join("a")
        sending = await begin(ws.send([b"." * 20_000] * 10))
        assert ws.paused
        texts = [f"{number} " + "." * 2000 for number in range(100)]
        for text in texts:
            assert stage.router.publish("a", text).queued == 1
        await client.read_until(lambda: len(client.messages) == 101)
        assert client.messages == [b"." * 200_000, *texts]
        await sending
        stage.router.publish("a", "on it goes")
        await client.read_until(lambda: client.messages[-1] == "on it goes")


@pytest.mark.parametrize("how", ["abort", "close", "leave"])
async def test_a_slow_connection_of_websockets_that_ends_tells_what_was_lost(
    how: str, caplog: pytest.LogCaptureFixture
) -> None:
    stage = Stage()
    async with stage.open(own=False, close_timeout=0.1):
        ws, client = await stage.join("a")
        sending = await begin(ws.send(b"." * 200_000))
        stage.router.publish("a", "small")
        for number in range(3):
            stage.router.publish("a", f"{number}")
        if how == "abort":
            ws.transport.abort()
        elif how == "leave":
            await client.leave()
        else:
            closing = await begin(ws.close())
            await client.read_all()
            await closing
        await ws.wait_closed()
        await asyncio.wait([sending])
        sending.exception()
        await until(lambda: stage.router.num_subscribers("a") == 0)
        await asyncio.sleep(0)
        read = [message for message in client.messages if isinstance(message, str)]
        if how != "close":
            assert not read
        lost = [message for _, message in stage.lost]
        if lost:
            assert lost == ["small", "0", "1", "2"][-len(lost) :]
    assert errors(caplog) == []
