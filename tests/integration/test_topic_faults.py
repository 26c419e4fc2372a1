"""Faults among subscribers: whatever happens to one, the others get everything."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from typing import Any

import pytest
from websockets import ConnectionClosed, State
from websockets.asyncio.server import broadcast

from tests.conftest import LOOP_FACTORIES
from tests.processes import ROOT, TIMEOUT
from websockets_routes import (
    Filter,
    OpCode,
    Protocol,
    Receipt,
    Router,
    WrongThread,
)

from .servers import HOST, WayIn, connecting, serving
from .test_topics import Hall, errors, heard, ways

each_way = ways()
each_bound_way = ways(refuses=True, routed=True)


def balanced(receipt: Receipt) -> bool:
    return receipt.matched == receipt.queued + receipt.dropped + receipt.closed


# Subscribers that die


@each_way
@pytest.mark.parametrize("place", range(4))
@pytest.mark.parametrize("how", ["server", "client"])
async def test_a_subscriber_that_dies_in_a_fan_out_stops_nobody(
    way: WayIn, place: int, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    hall = Hall()
    router = hall.router
    left = asyncio.Event()
    router.topics.on_subscription(
        lambda ws, topic, new, old: left.set() if new < old else None
    )
    async with hall.open(way):
        pairs = [await hall.join() for _ in range(4)]
        for ws, _ in pairs:
            await router.subscribe(ws, "a")
        ws, client = pairs.pop(place)
        receipts = [router.publish("a", "before")]
        (ws if how == "server" else client).transport.abort()
        receipts.append(router.publish("a", "in the same turn"))
        receipts.append(router.publish("a", "large " * 20_000))
        await asyncio.sleep(0)
        receipts.append(router.publish("a", "in the next turn"))
        await left.wait()
        receipts.append(router.publish("a", "after"))
        assert all(map(balanced, receipts))
        assert receipts[-1].matched == receipts[-1].queued == 3
        assert router.num_subscribers("a") == 3
        expected = [
            "before",
            "in the same turn",
            "large " * 20_000,
            "in the next turn",
            "after",
        ]
        for pair in pairs:
            assert await heard(*pair) == expected
    assert errors(caplog) == []


@each_way
async def test_all_but_one_subscriber_die_at_once(
    way: WayIn, caplog: pytest.LogCaptureFixture
) -> None:
    hall = Hall()
    router = hall.router
    async with hall.open(way):
        pairs = [await hall.join() for _ in range(9)]
        for ws, _ in pairs:
            await router.subscribe(ws, "a")
        survivor = pairs.pop(4)
        for number, (ws, client) in enumerate(pairs):
            router.publish("a", str(number))
            (ws if number % 2 else client).transport.abort()
        for ws, _ in pairs:
            await ws.wait_closed()
        router.publish("a", "8")
        assert await heard(*survivor) == [str(number) for number in range(9)]
    assert errors(caplog) == []
    assert router.topics.statistics()[:3] == (0, 0, 0)


@each_bound_way
async def test_a_peer_that_breaks_a_rule_hears_nothing_more(
    way: WayIn, caplog: pytest.LogCaptureFixture
) -> None:
    hall = Hall()
    router = hall.router
    async with hall.open(way):
        (bad, bad_client), (good, good_client) = await hall.join(), await hall.join()
        for ws in (bad, good):
            await ws.subscribe("a")
        bad_client.transport.write(b"\xff\xff\xff\xff")  # reserved bits, no extension
        async with asyncio.timeout(5):
            while bad.state is State.OPEN:
                assert balanced(router.publish("a", "on and on"))
                await asyncio.sleep(0)
        receipt = router.publish("a", "end")
        assert balanced(receipt)
        assert receipt.queued == 1
        # It fails its connection itself, should anything follow the close frame.
        await bad_client.wait_closed()
        assert bad_client.close_code == 1002
        assert bad_client.protocol.parser_exc is None
        assert (await heard(good, good_client))[-1] == "end"
    assert errors(caplog) == []


@each_bound_way
async def test_what_is_published_before_a_close_goes_out_before_it(way: WayIn) -> None:
    hall = Hall()
    async with hall.open(way):
        ws, client = await hall.join()
        await ws.subscribe("a")
        hall.router.publish("a", "one")
        hall.router.publish("a", "two")
        await ws.close(4000)
        assert [message async for message in iterate(client)] == ["one", "two"]
        assert client.close_code == 4000


async def iterate(client: Any) -> AsyncIterator[str | bytes]:
    try:
        while True:
            yield await client.recv()
    except ConnectionClosed:
        return


# Fragments


class Fragments:
    """A message in fragments, the next of which is sent when a test says so."""

    def __init__(self) -> None:
        self.begun = asyncio.Event()
        self.go_on = asyncio.Event()

    async def __aiter__(self) -> AsyncIterator[str]:
        yield "one " * 200
        self.begun.set()
        await self.go_on.wait()
        yield "two"


WHOLE = "one " * 200 + "two"


@each_way
@pytest.mark.parametrize("compression", ["deflate", None], ids=str)
async def test_what_is_published_during_a_fragmented_send_comes_after_it(
    way: WayIn, compression: str | None
) -> None:
    hall = Hall()
    router = hall.router
    async with hall.open(way, compression=compression):
        (busy, busy_client), (free, free_client) = await hall.join(), await hall.join()
        for ws in (busy, free):
            await router.subscribe(ws, "a")
        fragments = Fragments()
        router.publish("a", "before")
        sending = asyncio.ensure_future(busy.send(fragments))
        await fragments.begun.wait()
        texts = ["small", "large " * 500, "last"]
        receipts = [router.publish("a", text) for text in texts]
        receipts.append(router.publish("a", b"\xff", compress=True))
        assert [receipt.queued for receipt in receipts] == [2] * 4
        # The others do not wait for it.
        expected = ["before", *texts, b"\xff"]
        assert await heard(free, free_client) == expected
        fragments.go_on.set()
        await sending
        assert await heard(busy, busy_client) == ["before", WHOLE, *texts, b"\xff"]
        router.publish("a", "on it goes")
        assert await heard(busy, busy_client) == ["on it goes"]


@ways(refuses=True, routed=True)
async def test_sends_during_a_fragmented_send_keep_their_places(way: WayIn) -> None:
    hall = Hall()
    router = hall.router
    async with hall.open(way):
        ws, client = await hall.join()
        await ws.subscribe("a")
        fragments = Fragments()
        sends = [asyncio.ensure_future(ws.send(fragments))]
        await fragments.begun.wait()
        for number in range(0, 9, 3):
            router.publish("a", str(number))
            sends.append(asyncio.ensure_future(ws.send(str(number + 1))))
            await asyncio.sleep(0)  # so that it takes its place
            ws.send_nowait(str(number + 2))
        fragments.go_on.set()
        await asyncio.gather(*sends)
        assert await heard(ws, client) == [WHOLE, *map(str, range(9))]


@each_way
async def test_a_connection_that_dies_amid_its_fragments_disturbs_nobody(
    way: WayIn, caplog: pytest.LogCaptureFixture
) -> None:
    hall = Hall()
    router = hall.router
    left = asyncio.Event()
    router.topics.on_subscription(
        lambda ws, topic, new, old: left.set() if new < old else None
    )
    async with hall.open(way):
        (busy, busy_client), (free, free_client) = await hall.join(), await hall.join()
        for ws in (busy, free):
            await router.subscribe(ws, "a")
        fragments = Fragments()
        sending = asyncio.ensure_future(busy.send(fragments))
        await fragments.begun.wait()
        router.publish("a", "one")
        busy_client.transport.abort()
        router.publish("a", "two")
        await left.wait()
        assert router.publish("a", "three").matched == 1
        fragments.go_on.set()
        with pytest.raises(ConnectionClosed):
            await sending
        assert await heard(free, free_client) == ["one", "two", "three"]
    assert errors(caplog) == []


@each_way
async def test_a_fragmented_send_that_is_cancelled_stops_nobody_else(
    way: WayIn,
) -> None:
    hall = Hall()
    router = hall.router
    async with hall.open(way):
        (busy, busy_client), (free, free_client) = await hall.join(), await hall.join()
        for ws in (busy, free):
            await router.subscribe(ws, "a")
        fragments = Fragments()
        sending = asyncio.ensure_future(busy.send(fragments))
        await fragments.begun.wait()
        router.publish("a", "one")
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending
        assert balanced(router.publish("a", "two"))
        assert await heard(free, free_client) == ["one", "two"]
        with suppress(ConnectionClosed):
            await (await busy.ping())
        # The message stays without its end: no other may follow (RFC 6455, 5.4).
        assert "continuation" not in str(busy_client.protocol.parser_exc)


@each_way
async def test_a_fragmented_send_that_fails_closes_nobody_else(
    way: WayIn, caplog: pytest.LogCaptureFixture
) -> None:
    hall = Hall()
    router = hall.router

    async def fragments() -> AsyncIterator[str]:
        yield "one"
        router.publish("a", "published meanwhile")
        await asyncio.sleep(0)
        raise ZeroDivisionError

    async with hall.open(way):
        (busy, busy_client), (free, free_client) = await hall.join(), await hall.join()
        for ws in (busy, free):
            await router.subscribe(ws, "a")
        with pytest.raises(ZeroDivisionError):
            await busy.send(fragments())
        await busy_client.wait_closed()
        assert busy_client.close_code == 1011
        assert "continuation" not in str(busy_client.protocol.parser_exc)
        assert balanced(router.publish("a", "and after"))
        assert await heard(free, free_client) == ["published meanwhile", "and after"]
    assert errors(caplog) == []


# Beside websockets' own broadcast()


@each_way
async def test_websockets_broadcast_works_beside_topics(way: WayIn) -> None:
    hall = Hall()
    router = hall.router
    async with hall.open(way):
        pairs = [await hall.join() for _ in range(3)]
        for ws, _ in pairs:
            await router.subscribe(ws, "a")
        connections = [ws for ws, _ in pairs]
        expected = []
        for number in range(5):
            router.publish("a", f"published {number} " * 100)
            await asyncio.sleep(0)  # broadcast() writes at once, whatever waits
            broadcast(connections, f"broadcast {number} " * 100)
            expected += [f"{how} {number} " * 100 for how in ("published", "broadcast")]
        for pair in pairs:
            assert await heard(*pair) == expected


@each_bound_way
@pytest.mark.parametrize(
    "options",
    [{}, {"compression": "deflate"}, {"compression": None}],
    ids=["default", "deflate", "plain"],
)
async def test_frames_stay_whole_when_broadcast_overtakes_a_turn(
    way: WayIn, options: dict[str, Any]
) -> None:
    hall = Hall()
    router = hall.router
    async with hall.open(way, **options):
        ws, client = await hall.join()
        await ws.subscribe("a")
        texts = []
        for number in range(8):
            texts += [f"published {number} " * 100, f"broadcast {number} " * 100]
            router.publish("a", texts[-2])
            broadcast([ws], texts[-1])
        assert sorted(map(str, await heard(ws, client))) == sorted(texts)


@each_way
async def test_broadcast_passes_by_whoever_sends_fragments(way: WayIn) -> None:
    hall = Hall()
    router = hall.router
    async with hall.open(way):
        (busy, busy_client), (free, free_client) = await hall.join(), await hall.join()
        for ws in (busy, free):
            await router.subscribe(ws, "a")
        fragments = Fragments()
        sending = asyncio.ensure_future(busy.send(fragments))
        await fragments.begun.wait()
        router.publish("a", "published")
        await asyncio.sleep(0)
        broadcast([busy, free], "broadcast")
        fragments.go_on.set()
        await sending
        assert await heard(busy, busy_client) == [WHOLE, "published"]
        assert await heard(free, free_client) == ["published", "broadcast"]


# Publishing from anywhere


@pytest.mark.parametrize("how", ["close", "abort", "server"])
async def test_the_last_words_of_one_reach_the_others(how: str) -> None:
    router = Router()
    members: asyncio.Queue[Protocol] = asyncio.Queue()
    receipts = []

    @router.route("/", subscribe="a")
    class Member:
        def on_open(self, ws: Protocol) -> None:
            members.put_nowait(ws)

        def on_close(self, ws: Protocol, code: int, reason: str) -> None:
            receipts.append(router.publish("a", "gone"))
            receipts.append(ws.publish("a", "really"))

    async with serving(router.serve(HOST, 0)) as url, connecting(url) as stays:
        await members.get()
        async with connecting(url) as goes:
            ws = await members.get()
            if how == "close":
                await goes.close()
            elif how == "abort":
                goes.transport.abort()
            else:
                await ws.close()
            assert await stays.recv() == "gone"
            assert await stays.recv() == "really"
        assert [(receipt.matched, receipt.queued) for receipt in receipts] == [
            (1, 1)
        ] * 2


async def test_a_handler_publishes_in_its_finally() -> None:
    router = Router()
    ready: asyncio.Queue[None] = asyncio.Queue()

    @router.route("/", subscribe="a")
    async def member(ws: Protocol) -> None:
        ready.put_nowait(None)
        try:
            async for message in ws:
                ws.publish("a", message)
        finally:
            ws.publish("a", "left")

    async with serving(router.serve(HOST, 0)) as url, connecting(url) as stays:
        await ready.get()
        async with connecting(url) as goes:
            await ready.get()
            await goes.send("hello")
        assert [await stays.recv(), await stays.recv()] == ["hello", "left"]


async def test_a_thread_learns_that_it_is_the_wrong_one() -> None:
    router = Router()
    hall = Hall(router)

    @router.route("/", subscribe="a")
    class Member:
        async def on_text(self, ws: Protocol, text: str) -> None:
            with pytest.raises(WrongThread, match="publish_threadsafe"):
                await asyncio.to_thread(ws.publish, "a", text)
            receipt = await asyncio.to_thread(
                lambda: router.publish_threadsafe("a", text, exclude=ws).result(5)
            )
            await ws.send(str(receipt.queued))

    async with hall.open() as url, connecting(url) as speaker:
        ws, client = await hall.join()
        await ws.subscribe(Filter("#"))
        await speaker.send("from a thread")
        assert await speaker.recv() == "1"
        assert await heard(ws, client) == ["from a thread"]


# The user's own functions


async def test_a_failing_key_fails_its_publish_only() -> None:
    router = Router()

    def key(message: Any) -> object:
        if message == "fail":
            raise ZeroDivisionError
        return [] if message == "unhashable" else message

    router.topic("a", overflow="conflate", key=key)
    hall = Hall(router)
    async with hall.open():
        pairs = [await hall.join() for _ in range(3)]
        for ws, _ in pairs:
            await ws.subscribe("a")
            await ws.subscribe("b")
        router.publish("a", "one")
        with pytest.raises(ZeroDivisionError):
            router.publish("a", "fail")
        with pytest.raises(TypeError, match="unhashable"):
            router.publish("a", "unhashable")
        router.publish("b", "fail")
        router.publish("a", "two")
        for pair in pairs:
            assert await heard(*pair) == ["one", "fail", "two"]
        assert router.topics.statistics().published == 3


async def test_a_failing_key_fails_a_publish_threadsafe_only() -> None:
    router = Router()
    router.topic("a", overflow="conflate", key=lambda message: 1 / 0)
    hall = Hall(router)
    async with hall.open():
        ws, client = await hall.join()
        await ws.subscribe("a")
        with pytest.raises(ZeroDivisionError):
            await asyncio.wrap_future(router.publish_threadsafe("a", "x"))
        assert await heard(ws, client) == []


@each_way
async def test_failing_hooks_do_not_keep_a_connection_in_its_topics(
    way: WayIn, caplog: pytest.LogCaptureFixture
) -> None:
    hall = Hall()
    router = hall.router
    left: asyncio.Queue[object] = asyncio.Queue()

    @router.topics.on_subscription
    def fails(ws: Any, topic: Any, new_count: int, old_count: int) -> None:
        if new_count < old_count:
            left.put_nowait(topic)
        raise ZeroDivisionError

    async with hall.open(way):
        (one, one_client), (other, other_client) = await hall.join(), await hall.join()
        for ws in (one, other):
            for topic in ("a", "b", Filter("c/#")):
                await router.subscribe(ws, topic)
        one_client.transport.abort()
        assert [await left.get() for _ in range(3)] == ["a", "b", Filter("c/#")]
        assert router.publish("a", "x").matched == 1
        assert router.publish("c/d", "y").matched == 1
        assert await heard(other, other_client) == ["x", "y"]
    assert set(errors(caplog)) == {"on_subscription failed"}


async def test_an_authorize_that_fails_while_others_publish_stops_nobody() -> None:
    router = Router()
    gate = asyncio.Event()

    async def authorize(ws: Any, topic: Any, params: Any) -> bool:
        await gate.wait()
        raise ZeroDivisionError

    router.topic("guarded", authorize=authorize)
    hall = Hall(router)
    async with hall.open():
        ws, client = await hall.join()
        await ws.subscribe("a")
        subscribing = asyncio.ensure_future(ws.subscribe("guarded"))
        await asyncio.sleep(0)
        router.publish("a", "one")
        gate.set()
        with pytest.raises(ZeroDivisionError):
            await subscribing
        router.publish("a", "two")
        assert await heard(ws, client) == ["one", "two"]


# One event loop after another


@pytest.mark.parametrize(
    "factory",
    LOOP_FACTORIES.values(),
    ids=LOOP_FACTORIES.keys(),
)
def test_a_router_serves_in_one_event_loop_after_another(
    factory: Callable[[], asyncio.AbstractEventLoop],
) -> None:
    router = Router()

    async def main(number: int) -> None:
        arrivals: asyncio.Queue[Any] = asyncio.Queue()

        async def hold(ws: Any) -> None:
            await arrivals.put(ws)
            await ws.wait_closed()

        router.add_route(f"/{number}", hold, subscribe="a")
        assert router.num_subscribers("a") == 0
        async with serving(router.serve(HOST, 0)) as url:
            assert router.publish("a", "nobody").matched == 0
            async with connecting(f"{url}/{number}") as client:
                ws = await arrivals.get()
                assert router.publish("a", f"run {number}", OpCode.TEXT).queued == 1
                threadsafe = router.publish_threadsafe("a", "thread")
                assert (await asyncio.wrap_future(threadsafe)).queued == 1
                assert await heard(ws, client) == [f"run {number}", "thread"]
        assert router.num_subscribers("a") == 0

    for number in range(3):
        with asyncio.Runner(loop_factory=factory) as runner:
            runner.run(main(number))
        assert router.publish("a", "between").matched == 0
        assert router.publish_threadsafe("a", "between").result(0).matched == 0


# The first event loop ends, and leaves a subscriber behind that nothing closed.
ABANDONED = """
import asyncio, os
from websockets.asyncio.client import connect
from websockets_routes import Router

router = Router()

@router.route("/", subscribe="a")
async def handler(ws):
    await ws.wait_closed()

async def first():
    server = await router.serve("127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    client = await connect(f"ws://127.0.0.1:{port}/", proxy=None)
    assert router.publish("a", "heard").queued == 1
    return server, client

async def second():
    return repr(router.publish("a", "nobody hears this"))

loop = asyncio.new_event_loop()
left = loop.run_until_complete(first())
loop.close()
WHAT
os._exit(0)  # without a word about what was left open
"""


def run_abandoned(what: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", ABANDONED.replace("WHAT", what)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_subscribers_of_an_event_loop_that_has_ended_get_nothing_in_the_next() -> None:
    out = run_abandoned("print(asyncio.run(second()), flush=True)")
    assert out.startswith("Receipt(matched=0, queued=0,")


def test_publish_threadsafe_does_not_mind_subscribers_of_a_loop_that_has_ended() -> (
    None
):
    # It says "to nobody" itself; its error would say to use publish_threadsafe().
    what = "print(router.publish_threadsafe('a', 'b').result(1), flush=True)"
    assert run_abandoned(what).startswith("Receipt(matched=0, queued=0,")
