"""Topics: what publishing does, counts and refuses, with or without a server."""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
from typing import Any

import pytest
import websockets.asyncio.server
from websockets.asyncio.client import ClientConnection
from websockets.asyncio.server import ServerConnection

from tests.integration.servers import HOST, address, connecting, serving
from tests.integration.test_topics import Hall, heard
from websockets_routes import (
    EndpointError,
    Filter,
    InvalidLimit,
    InvalidTopic,
    OpCode,
    Overflow,
    Receipt,
    Router,
    Statistics,
    Topics,
    WrongThread,
)

# Without subscribers


def test_publishing_to_nobody_needs_no_event_loop() -> None:
    topics = Topics()
    receipt = topics.publish("a", "b")
    counts = (receipt.matched, receipt.queued, receipt.dropped, receipt.closed)
    assert counts == (0, 0, 0, 0)
    assert (receipt.conflated, receipt.displaced) == (0, 0)
    assert topics.publish_threadsafe("a", "b").result(0).matched == 0
    assert topics.num_subscribers("a") == 0
    assert topics.find("a") == topics.find(Filter("#")) == []
    assert topics.find(lambda ws: True) == []
    assert topics.statistics() == Statistics(0, 0, 0, 2, 0, 0, 0, 0, 0, 0)


async def test_a_receipt_can_be_awaited_again_and_again() -> None:
    receipt = Topics().publish("a", "b")
    assert await receipt is receipt
    assert await receipt is receipt
    assert repr(receipt).startswith("Receipt(matched=0, queued=0")


@pytest.mark.parametrize(
    "message", [None, 1, 1.5, ["a"], {"a": 1}, object(), iter("a")]
)
async def test_what_is_no_message_raises_before_anyone_gets_anything(
    message: Any,
) -> None:
    hall = Hall()
    async with hall.open():
        pairs = [await hall.join() for _ in range(2)]
        for ws, _ in pairs:
            await ws.subscribe("a")
        with pytest.raises(TypeError, match="str or bytes-like"):
            hall.router.publish("a", message)
        with pytest.raises(TypeError, match="str or bytes-like"):
            pairs[0][0].publish("a", message, OpCode.BINARY)
        with pytest.raises(TypeError, match="str or bytes-like"):
            hall.router.publish("nobody", message)
        assert [await heard(*pair) for pair in pairs] == [[], []]
        assert hall.router.topics.statistics().queued == 0


@pytest.mark.parametrize(
    ("message", "opcode"),
    [
        ("a", OpCode.PING),
        ("a", OpCode.CLOSE),
        ("a", 0),
        ("a", -1),
        ("a", "TEXT"),
        (b"\xff", OpCode.TEXT),
        ("\ud800", None),
        ("\ud800", OpCode.BINARY),
    ],
)
async def test_what_cannot_go_out_as_asked_raises_before_anyone_gets_anything(
    message: Any, opcode: Any
) -> None:
    hall = Hall()
    async with hall.open():
        ws, client = await hall.join()
        await ws.subscribe("a")
        with pytest.raises(ValueError, match=r"."):
            hall.router.publish("a", message, opcode)
        assert await heard(ws, client) == []


async def test_what_is_no_json_raises_before_anyone_gets_anything() -> None:
    hall = Hall()
    async with hall.open():
        ws, client = await hall.join()
        await ws.subscribe("a")
        with pytest.raises(TypeError, match="not JSON serializable"):
            hall.router.publish_json("a", object())
        assert await heard(ws, client) == []


NO_NAMES = [
    "",
    "+",
    "#",
    "a/#",
    "a/+/b",
    "a+",
    "a\x00",
    "a\nb",
    "\ud800",
    None,
    7,
    b"a",
]


@pytest.mark.parametrize(
    "name", [*NO_NAMES, Filter("a"), Filter("a/#"), ["a"]], ids=repr
)
def test_publishing_takes_nothing_but_a_name(name: Any) -> None:
    topics = Topics()
    with pytest.raises(InvalidTopic) as caught:
        topics.publish(name, "a")
    assert caught.value.topic == name
    assert caught.value.problem in str(caught.value)


@pytest.mark.parametrize(
    ("name", "fits"),
    [
        ("abcdefgh", True),
        ("abcdefghi", False),
        ("éééé", True),
        ("ééééé", False),
        ("a/b/c", True),
        ("//", True),
        ("a/b/c/", False),
    ],
)
async def test_names_have_a_length_and_levels(name: str, fits: bool) -> None:
    router = Router(topics=Topics(max_length=8, max_levels=3))
    hall = Hall(router)
    async with hall.open():
        ws, _ = await hall.join()
        if fits:
            router.publish(name, "a")
            assert (await ws.subscribe(name)).new
            assert (await ws.subscribe(Filter(name))).new
            return
        with pytest.raises(InvalidTopic, match="more than"):
            router.publish(name, "a")
        with pytest.raises(InvalidTopic, match="more than"):
            await ws.subscribe(name)
        with pytest.raises(InvalidTopic, match="more than"):
            ws.subscribe_nowait(Filter(name))
        assert ws.topics == ()


# With a server of websockets' own


async def test_topics_work_beside_any_server() -> None:
    topics = Topics()
    seen: asyncio.Queue[ServerConnection] = asyncio.Queue()

    async def handler(ws: ServerConnection) -> None:
        assert (await topics.subscribe(ws, "a")).new
        seen.put_nowait(ws)
        async for message in ws:
            topics.publish("a", message, exclude=ws)

    server = websockets.asyncio.server.serve(handler, HOST, 0)
    async with serving(server):
        url = address(server)
        async with connecting(url) as one, connecting(url) as other:
            first, second = await seen.get(), await seen.get()
            await one.send("hello")
            assert await other.recv() == "hello"
            assert topics.find("a") == [first, second]
            topics.publish("a", b"both")
            assert await one.recv() == await other.recv() == b"both"
            assert topics.topics_of(first) == ("a",)
            assert await topics.disconnect("a", 4000) == 2
            await one.wait_closed()
            assert one.close_code == 4000
            assert topics.topics_of(first) == ()
    assert topics.statistics()[:3] == (0, 0, 0)


async def test_a_connection_hears_two_topics_objects_in_the_order_of_publishing() -> (
    None
):
    hall = Hall()
    one, other = hall.router.topics, Topics()
    async with hall.open():
        pairs = [await hall.join() for _ in range(2)]
        for ws, _ in pairs:
            assert (await one.subscribe(ws, "a")).new
            assert (await other.subscribe(ws, "a")).new
        assert pairs[0][0].topics == ("a",)
        for number in range(0, 20, 2):
            one.publish("a", str(number))
            other.publish("a", str(number + 1))
        for pair in pairs:
            assert await heard(*pair) == [str(number) for number in range(20)]
        assert other.unsubscribe(pairs[0][0], "a")
        assert (one.num_subscribers("a"), other.num_subscribers("a")) == (2, 1)
        for ws, client in pairs:
            await client.close()
            await ws.wait_closed()
        assert (one.num_subscribers("a"), other.num_subscribers("a")) == (0, 0)


# Counts


async def test_a_receipt_counts_subscribers_that_are_closing() -> None:
    hall = Hall()
    router = hall.router
    async with hall.open():
        pairs = [await hall.join() for _ in range(3)]
        for ws, _ in pairs:
            await ws.subscribe("a")
        closing = asyncio.ensure_future(pairs[1][0].close())
        await asyncio.sleep(0)  # it has sent its close frame, and has no answer
        receipt = router.publish("a", "too late for one")
        assert (receipt.matched, receipt.queued, receipt.closed) == (3, 2, 1)
        assert receipt.dropped == receipt.conflated == receipt.displaced == 0
        await closing
        assert router.publish("a", "again").matched == 2
        assert router.topics.statistics() == Statistics(1, 2, 2, 2, 4, 0, 0, 0, 1, 0)
        for pair in (pairs[0], pairs[2]):
            assert await heard(*pair) == ["too late for one", "again"]


async def test_statistics_count_what_there_is() -> None:
    hall = Hall()
    router = hall.router
    async with hall.open():
        (one, _), (other, _) = await hall.join(), await hall.join()
        for topic in ("a", "b", Filter("a"), Filter("#")):
            await one.subscribe(topic)
        await other.subscribe("a")
        assert router.num_subscribers("a") == 2
        assert router.num_subscribers(Filter("a")) == 1
        assert router.num_subscribers(Filter("#")) == 1
        assert router.num_subscribers("#") == 0
        assert router.num_subscribers("c") == 0
        statistics = router.topics.statistics()
        assert (statistics.names, statistics.subscribers) == (2, 2)
        assert statistics.subscriptions == 5
        router.publish("a", "x")
        assert statistics.published == 0
        assert router.topics.statistics().published == 1
        assert router.topics.statistics().queued == 2


# Slow subscribers


async def stop_reading(hall: Hall) -> tuple[Any, ClientConnection]:
    """Connect a client that reads nothing beyond its first message."""
    ws, client = await hall.join(max_queue=1, max_size=None)
    return ws, client


async def flood(router: Router, topic: str) -> list[Receipt]:
    """Publish until a receipt counts a loss; return the receipts."""
    receipts = []
    for number in range(2000):
        message = number.to_bytes(4, "big") + bytes(2**16)
        receipts.append(router.publish(topic, message, compress=False))
        if receipts[-1].queued < receipts[-1].matched or receipts[-1].displaced:
            return receipts
        await asyncio.sleep(0)
    raise AssertionError("the subscriber lost nothing")


@pytest.mark.parametrize("overflow", [Overflow.DROP_NEWEST, "drop_oldest"])
@pytest.mark.parametrize("kind", ["sync", "async", "failing", "failing-async"])
async def test_what_a_slow_subscriber_lost_is_told(
    overflow: Overflow | str, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    router = Router()
    router.topic("feed", overflow=overflow)
    hall = Hall(router)
    lost: asyncio.Queue[tuple[Any, str, Any]] = asyncio.Queue()
    if kind == "sync":

        @router.topics.on_drop
        def told(ws: Any, topic: str, message: Any) -> None:
            lost.put_nowait((ws, topic, message))

    elif kind == "async":

        @router.topics.on_drop
        async def told_later(ws: Any, topic: str, message: Any) -> None:
            await asyncio.sleep(0)
            lost.put_nowait((ws, topic, message))

    else:

        @router.topics.on_drop
        def fails(ws: Any, topic: str, message: Any) -> None:
            raise ZeroDivisionError

        @router.topics.on_drop
        async def fails_later(ws: Any, topic: str, message: Any) -> None:
            raise ZeroDivisionError

        @router.topics.on_drop
        def told_after(ws: Any, topic: str, message: Any) -> None:
            lost.put_nowait((ws, topic, message))

    async with hall.open(max_backlog=2**18, compression=None):
        slow, client = await stop_reading(hall)
        await slow.subscribe("feed")
        receipts = await flood(router, "feed")
        ws, topic, message = await lost.get()
        assert (ws, topic) == (slow, "feed")
        number = int.from_bytes(message[:4], "big")
        last = receipts[-1]
        if overflow == "drop_oldest":
            assert (last.queued, last.dropped, last.displaced) == (1, 0, 1)
            assert number < len(receipts) - 1
        else:
            assert (last.queued, last.dropped, last.displaced) == (0, 1, 0)
            assert number == len(receipts) - 1
        statistics = router.topics.statistics()
        assert statistics.lost == 1
        assert (statistics.dropped, statistics.displaced) == (
            last.dropped,
            last.displaced,
        )
        waiting = statistics.lost
        client.transport.abort()
        await slow.wait_closed()
        while not lost.empty() or waiting < router.topics.statistics().lost:
            await lost.get()  # what waited when the connection ended
            waiting += 1
    failed = [record for record in caplog.records if "on_drop failed" in record.message]
    assert bool(failed) is ("failing" in kind)


async def test_a_slow_subscriber_is_closed_unless_something_else_is_said() -> None:
    hall = Hall()
    router = hall.router
    async with hall.open(max_backlog=2**18, compression=None, close_timeout=0.2):
        slow, stopped = await stop_reading(hall)
        ws, client = await hall.join()
        messages = asyncio.ensure_future(drain(client))
        await slow.subscribe("feed")
        await ws.subscribe("feed")
        receipts = await flood(router, "feed")
        last = receipts[-1]
        assert (last.matched, last.queued, last.closed) == (2, 1, 1)
        await slow.wait_closed()
        assert slow.close_code in (1013, 1006)
        assert router.publish("feed", "end").matched == 1
        numbers = await messages
        assert numbers == list(range(len(receipts)))
        stopped.transport.abort()  # it would not hear of the end


async def drain(client: ClientConnection) -> list[int]:
    numbers = []
    while (message := await client.recv()) != "end":
        assert isinstance(message, bytes)
        numbers.append(int.from_bytes(message[:4], "big"))
    return numbers


@pytest.mark.parametrize("hook", ["on_drop", "on_subscription"])
@pytest.mark.parametrize("function", [None, 1, lambda: None, lambda ws: None])
def test_a_hook_that_cannot_be_called_raises_when_it_is_declared(
    hook: str, function: Any
) -> None:
    with pytest.raises(EndpointError, match=hook):
        getattr(Topics(), hook)(function)


def test_a_hook_stays_what_it_is() -> None:
    def hook(ws: object, topic: object, message: object) -> None: ...

    assert Topics().on_drop(hook) is hook


# Limits


@pytest.mark.parametrize(
    "limit", ["max_subscriptions", "max_length", "max_levels", "max_backlog"]
)
@pytest.mark.parametrize("value", [0, -1, True, "1", float("nan"), None, [1]], ids=repr)
def test_a_limit_that_is_none_raises(limit: str, value: Any) -> None:
    # None is no int either: without a limit of this kind, subscribing would fail.
    with pytest.raises(InvalidLimit, match=limit):
        Topics(**{limit: value})


# Threads and loops


async def test_publishing_from_another_thread_raises() -> None:
    hall = Hall()
    router = hall.router
    async with hall.open():
        ws, client = await hall.join()
        await ws.subscribe("a")
        for call in (router.publish, router.publish_json, ws.publish, ws.publish_json):
            with pytest.raises(WrongThread, match="publish_threadsafe"):
                await asyncio.to_thread(call, "a", "b")
        with pytest.raises(WrongThread):
            await asyncio.to_thread(ws.subscribe_nowait, "b")
        with pytest.raises(WrongThread):
            await asyncio.to_thread(asyncio.run, ws.subscribe("b"))
        assert ws.topics == ("a",)
        assert await heard(ws, client) == []


async def test_publishing_from_the_event_loop_of_another_thread_raises() -> None:
    hall = Hall()
    async with hall.open():
        ws, client = await hall.join()
        await ws.subscribe("a")

        async def publish() -> None:
            with pytest.raises(WrongThread):
                hall.router.publish("a", "b")

        await asyncio.to_thread(asyncio.run, publish())
        assert hall.router.publish("a", "c").queued == 1
        assert await heard(ws, client) == ["c"]


async def test_publish_threadsafe_publishes_in_order_and_gives_a_receipt() -> None:
    hall = Hall()
    router = hall.router
    async with hall.open():
        (one, one_client), (other, other_client) = await hall.join(), await hall.join()
        for ws in (one, other):
            await ws.subscribe("a")

        def publish() -> list[Receipt]:
            futures = [
                router.publish_threadsafe("a", str(number)) for number in range(50)
            ]
            futures.append(
                router.topics.publish_threadsafe(
                    "a", b"x", OpCode.TEXT, exclude=one, compress=False
                )
            )
            return [future.result(5) for future in futures]

        receipts = await asyncio.to_thread(publish)
        assert [receipt.queued for receipt in receipts] == [2] * 50 + [1]
        numbers = [str(number) for number in range(50)]
        assert await heard(one, one_client) == numbers
        assert await heard(other, other_client) == [*numbers, "x"]


@pytest.mark.parametrize(
    ("topic", "message", "error"),
    [("#", "a", InvalidTopic), ("a", 1, TypeError), ("a", "\ud800", ValueError)],
)
async def test_publish_threadsafe_raises_what_publish_does(
    topic: str, message: Any, error: type[Exception]
) -> None:
    hall = Hall()
    async with hall.open():
        ws, _ = await hall.join()
        await ws.subscribe("a")
        future = hall.router.publish_threadsafe(topic, message)
        with pytest.raises(error):
            await asyncio.to_thread(future.result, 5)


async def test_many_threads_publish_at_once() -> None:
    hall = Hall()
    router = hall.router
    async with hall.open():
        ws, client = await hall.join()
        await ws.subscribe("a")
        barrier = threading.Barrier(4)

        def publish(thread: int) -> int:
            barrier.wait(5)
            futures = [
                router.publish_threadsafe("a", f"{thread} {number}")
                for number in range(25)
            ]
            return sum(future.result(5).queued for future in futures)

        counts = await asyncio.gather(
            *(asyncio.to_thread(publish, thread) for thread in range(4))
        )
        assert counts == [25] * 4
        messages = await heard(ws, client)
        for thread in range(4):
            own = [m for m in messages if str(m).startswith(f"{thread} ")]
            assert own == [f"{thread} {number}" for number in range(25)]


async def test_a_cancelled_publish_threadsafe_disturbs_nobody() -> None:
    hall = Hall()
    router = hall.router
    problems: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(
        lambda _, why: problems.append(why)
    )
    async with hall.open():
        ws, client = await hall.join()
        await ws.subscribe("a")
        future = router.publish_threadsafe("a", "never mind")
        assert future.cancel()
        after = router.publish_threadsafe("a", "go on")
        assert (await asyncio.wrap_future(after)).queued == 1
        assert "go on" in await heard(ws, client)
    assert problems == []
    assert future.cancelled()


def test_publish_threadsafe_to_a_loop_that_is_closed_reaches_nobody() -> None:
    topics = Topics()

    async def subscribe() -> None:
        hall = Hall(Router(topics=topics))
        async with hall.open():
            ws, _ = await hall.join()
            await ws.subscribe("a")
            assert topics.num_subscribers("a") == 1

    asyncio.run(subscribe())
    future = topics.publish_threadsafe("a", "b")
    assert isinstance(future, concurrent.futures.Future)
    assert future.result(0).matched == 0
