"""A relay, with a broker that does what the test tells it to."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed

from tests.integration.servers import until
from tests.integration.test_topics import Hall, errors, heard
from websockets_routes import (
    BrokerError,
    BrokerUnavailable,
    Filter,
    InvalidTopic,
    Message,
    MountError,
    NotServing,
    Position,
    Router,
    Topics,
    WrongThread,
)
from websockets_routes.brokers import MemoryBroker, MemoryHub, Published
from websockets_routes.brokers.base import Envelope, Gap, HistoryPage, Receive
from websockets_routes.pubsub.tracks import Joiner, Track

from .nodes import make_hall, nodes


class Scripted(MemoryBroker):
    """A broker whose answers can be stopped, failed and lost."""

    def __init__(self, hub: MemoryHub | None = None) -> None:
        super().__init__(hub)
        self.open = asyncio.Event()
        self.open.set()
        self.failures: list[Exception] = []
        self.asked = 0
        self.deaf = False
        self.late: list[Envelope] | None = None
        self.calls: list[Any] = []
        self.publishing: asyncio.Future[Published] | None = None

    async def start(self, receive: Receive, gap: Gap) -> None:
        self.gap = gap
        if self.failures:
            raise self.failures.pop()
        await super().start(receive, gap)

    async def _answer(self) -> None:
        self.asked += 1
        await self.open.wait()
        if self.failures:
            raise self.failures.pop()

    async def subscribe(self, topic: Any) -> None:
        self.calls.append(topic)
        await self._answer()
        await super().subscribe(topic)

    async def unsubscribe(self, topic: Any) -> None:
        self.calls.append(("not", topic))
        await super().unsubscribe(topic)

    async def history(self, *args: Any, **kwargs: Any) -> HistoryPage:
        page = await super().history(*args, **kwargs)
        await self._answer()
        return page

    def publish(self, *args: Any, **kwargs: Any) -> asyncio.Future[Published]:
        future = super().publish(*args, **kwargs)
        return self.publishing or future

    def deliver(self, envelope: Envelope) -> None:
        if self.late is not None:
            self.late.append(envelope)
        elif not self.deaf:
            super().deliver(envelope)

    def catch_up(self) -> None:
        late, self.late = self.late, None
        for envelope in late or ():
            self.deliver(envelope)


Run = Callable[[Scripted, Hall], Awaitable[None]]


def relay_of(hall: Hall) -> Any:
    return hall.router.topics._relay


async def on_one_node(run: Run, **declared: Any) -> None:
    broker = Scripted()
    async with nodes(1, lambda: broker, **declared) as [hall]:
        await run(broker, hall)


# Interest


async def test_two_that_come_first_both_hear_everything() -> None:
    async def run(broker: Scripted, hall: Hall) -> None:
        pairs = [await hall.join() for _ in range(2)]
        broker.open.clear()
        waiting = [asyncio.ensure_future(ws.subscribe("a")) for ws, _ in pairs]
        await until(lambda: broker.asked)
        assert not any(each.done() for each in waiting)
        broker.open.set()
        assert all([(await each).new for each in waiting])
        assert broker.calls == ["a"]
        assert hall.router.publish("a", "x").queued == 2
        assert [await heard(*pair) for pair in pairs] == [["x"], ["x"]]

    await on_one_node(run)


@pytest.mark.parametrize("topic", ["a", "room/a", Filter("a/#")], ids=str)
async def test_a_subscription_that_is_refused_leaves_nothing_behind(topic: Any) -> None:
    async def run(broker: Scripted, hall: Hall) -> None:
        ws, _ = await hall.join()
        broker.failures = [BrokerError("x", "no")]
        with pytest.raises(BrokerError, match="no"):
            await ws.subscribe(topic)
        assert ws.topics == ()
        await until(lambda: broker.calls == [topic, ("not", topic)])
        assert (await ws.subscribe(topic)).new

    await on_one_node(run)


@pytest.mark.parametrize("topic", ["a", "room/a"])
@pytest.mark.parametrize("how", ["close", "cancel"])
async def test_a_subscriber_that_gives_up_leaves_nothing_behind(
    topic: str, how: str
) -> None:
    async def run(broker: Scripted, hall: Hall) -> None:
        ws, client = await hall.join()
        broker.open.clear()
        subscribing = asyncio.ensure_future(ws.subscribe(topic))
        await until(lambda: broker.asked)
        if how == "close":
            await client.close()
            await ws.wait_closed()
        else:
            subscribing.cancel()
            await asyncio.wait([subscribing])
            assert ws.topics == ()
        broker.open.set()
        if how == "close":
            with pytest.raises(ConnectionClosed):
                await subscribing
        await until(lambda: ("not", topic) in broker.calls)
        relay: Any = hall.router.topics._relay
        assert not relay._interests
        assert not relay._joiners

    await on_one_node(run)


async def test_whoever_gives_up_takes_nothing_from_another_task() -> None:
    async def run(broker: Scripted, hall: Hall) -> None:
        ws, client = await hall.join()
        broker.open.clear()
        first, second = (asyncio.ensure_future(ws.subscribe("a")) for _ in range(2))
        await until(lambda: broker.asked)
        first.cancel()
        await asyncio.wait([first])
        broker.open.set()
        assert (await second).new
        assert ws.topics == ("a",)
        await hall.router.publish("a", "x")
        assert await heard(ws, client) == ["x"]
        ws.unsubscribe("a")
        assert not relay_of(hall)._interests

    await on_one_node(run)


async def test_what_is_unsubscribed_before_it_is_confirmed_is_not_heard() -> None:
    async def run(broker: Scripted, hall: Hall) -> None:
        ws, _ = await hall.join()
        broker.open.clear()
        subscribing = asyncio.ensure_future(ws.subscribe("a"))
        await until(lambda: broker.asked)
        assert ws.unsubscribe("a")
        broker.open.set()
        await subscribing
        await until(lambda: broker.calls == ["a", ("not", "a")])
        assert not relay_of(hall)._interests

    await on_one_node(run)


async def test_who_waits_while_the_broker_is_closed_hears_of_it() -> None:
    hall = make_hall(broker := Scripted())
    async with hall.open():
        ws, _ = await hall.join()
        broker.open.clear()
        subscribing = asyncio.ensure_future(ws.subscribe("a"))
        await until(lambda: broker.asked)
        await hall.router.topics.close()
        with pytest.raises(NotServing, match="closed"):
            await subscribing


async def test_of_two_subscriptions_in_one_the_first_counts() -> None:
    async def run(broker: Scripted, hall: Hall) -> None:
        ws, client = await hall.join()
        broker.open.clear()
        broker.failures = [BrokerError("x", "no")]
        both = [asyncio.ensure_future(ws.subscribe("a")) for _ in range(2)]
        await until(lambda: broker.asked)
        broker.open.set()
        failed = await asyncio.gather(*both, return_exceptions=True)
        assert [type(each) for each in failed] == [BrokerError, BrokerError]
        assert ws.topics == ()
        await hall.router.publish("room/a", "1")
        joined = await asyncio.gather(
            *(ws.subscribe("room/a", last=1) for _ in range(2))
        )
        assert [each.new for each in joined] == [True, False]
        assert await heard(ws, client) == ["1"]

    await on_one_node(run)


# Publishing


async def test_a_receipt_tells_what_the_broker_says_and_what_came_back() -> None:
    async def run(broker: Scripted, hall: Hall) -> None:
        ws, client = await hall.join()
        await ws.subscribe("a")
        broker.publishing = asyncio.get_running_loop().create_future()
        broker.late = []
        receipt = hall.router.publish("a", "x")
        assert (receipt.matched, receipt.offset) == (None, None)
        waiting = asyncio.ensure_future(_wait(receipt))
        given_up = asyncio.ensure_future(_wait(receipt))
        await asyncio.sleep(0)
        given_up.cancel()
        broker.publishing.set_result(Published(7, "e"))
        assert await waiting is receipt
        assert (receipt.matched, receipt.offset, receipt.epoch) == (None, 7, "e")
        broker.catch_up()
        assert receipt.matched == 1
        assert await receipt is receipt
        assert await heard(ws, client) == ["x"]
        again = hall.router.publish_json("a", 1, idempotency_key="k")
        assert not again.duplicate

    await on_one_node(run)


async def _wait(receipt: Any) -> Any:
    return await receipt


async def test_a_key_that_is_known_publishes_nothing() -> None:
    async def run(broker: Scripted, hall: Hall) -> None:
        ws, client = await hall.join()
        await ws.subscribe("room/a")
        first = await ws.router.publish("room/a", "1", idempotency_key="k")
        again = await ws.router.publish_json("room/a", 2, idempotency_key="k")
        assert again.duplicate
        assert (again.offset, again.matched) == (first.offset, 0)
        assert await heard(ws, client) == ["1"]
        own = await ws.publish_json("room/a", 2, idempotency_key="k")
        assert own.duplicate

    await on_one_node(run)


async def test_a_failure_is_raised_or_logged_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    topics = Topics(MemoryBroker())
    receipt = topics.publish("a", "x")
    with pytest.raises(BrokerUnavailable):
        await receipt
    with pytest.raises(BrokerUnavailable):
        await receipt
    del receipt
    gc.collect()
    assert not errors(caplog)
    topics.publish("a", "x")
    gc.collect()
    assert len(errors(caplog)) == 1
    assert "'a' was not published, or may not be" in errors(caplog)[0]


async def test_a_failure_that_comes_too_late_for_who_waited_is_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def run(broker: Scripted, hall: Hall) -> None:
        failing = asyncio.get_running_loop().create_future()
        broker.publishing = failing
        receipt = hall.router.publish("a", "x")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0):
                await receipt
        failing.set_exception(BrokerUnavailable("x", "gone"))
        del receipt
        await until(lambda: gc.collect() >= 0 and errors(caplog))
        assert "a message to 'a' was not published" in caplog.text

    await on_one_node(run)


async def test_a_broker_is_on_one_loop() -> None:
    topics = Topics(MemoryBroker())

    def publish() -> None:
        with pytest.raises(WrongThread, match="publish_threadsafe"):
            topics.publish("a", "x")

    async with topics:
        await asyncio.to_thread(publish)
        future = await asyncio.to_thread(topics.publish_threadsafe, "a", "x")
        assert (await asyncio.wrap_future(future)).matched == 0


def test_before_its_broker_is_started_nothing_is_published_from_outside() -> None:
    topics = Topics(MemoryBroker())
    with pytest.raises(NotServing, match="not started: serve"):
        topics.publish("a", "x")
    with pytest.raises(NotServing, match="not started: serve"):
        topics.publish_threadsafe("a", "x").result(5)


async def test_a_key_function_that_fails_is_the_publishers_business() -> None:
    def unhashable(message: str) -> Any:
        return [message]

    topics = Topics(MemoryBroker())
    topics.topic("a", overflow="conflate", key=unhashable)
    async with topics:
        with pytest.raises(TypeError, match="unhashable"):
            topics.publish("a", "x")
        assert topics.statistics().published == 0


def wrap(message: Message) -> str:
    assert isinstance(message.data, str)
    return "<" + message.data + ">"


async def test_an_overflow_and_an_envelope_hold_on_every_node() -> None:
    async def run(broker: Scripted, hall: Hall) -> None:
        router = hall.router
        router.topic("a", overflow="conflate", key=len, envelope=wrap)
        ws, client = await hall.join()
        await ws.subscribe("a")
        assert router.publish("a", "x").queued == 1
        assert router.publish("a", "y", exclude=ws).queued == 0
        assert await heard(ws, client) == ["<x>"]

    await on_one_node(run)


async def test_an_interest_that_was_given_up_and_then_refused_is_forgotten() -> None:
    async def run(broker: Scripted, hall: Hall) -> None:
        ws, client = await hall.join()
        broker.open.clear()
        broker.failures = [BrokerError("x", "no")]
        subscribing = asyncio.ensure_future(ws.subscribe("a"))
        await until(lambda: broker.asked)
        subscribing.cancel()
        await asyncio.wait([subscribing])
        again = asyncio.ensure_future(ws.subscribe("a"))
        await until(lambda: broker.asked == 2)
        broker.open.set()
        assert (await again).new
        assert hall.router.publish("a", "x").queued == 1
        assert await heard(ws, client) == ["x"]

    await on_one_node(run)


# The beginning and the end


async def test_what_is_started_twice_is_closed_twice() -> None:
    topics = Topics(broker := MemoryBroker())
    async with topics:
        async with topics:
            assert broker.healthy
        assert broker.healthy
        with pytest.raises(NotServing):
            topics.set_broker("memory://")
    assert not broker.healthy
    await topics.close()
    local = Topics("memory://")
    async with local:
        assert local.broker is None


def test_servers_that_start_at_once_do_so_on_one_loop_after_another() -> None:
    async def main() -> None:
        await asyncio.gather(topics.start(), topics.start())
        await asyncio.gather(topics.close(), topics.close())

    class Slow(MemoryBroker):
        async def start(self, receive: Receive, gap: Gap) -> None:
            await asyncio.sleep(0)
            await super().start(receive, gap)

    topics = Topics(Slow())
    for _ in range(2):
        asyncio.run(main())


async def test_who_stays_while_the_broker_is_closed_hears_again() -> None:
    gaps: list[Any] = []

    async def run(broker: Scripted, hall: Hall) -> None:
        topics = hall.router.topics
        topics.on_gap(lambda topic: gaps.append(str(topic)))
        ws, client = await hall.join()
        await ws.subscribe("room/a")
        await ws.subscribe(Filter("plain/+"))
        await topics.close()
        with pytest.raises(BrokerUnavailable):
            await hall.router.publish("plain/a", "lost")
        await topics.start()
        assert sorted(gaps) == ["plain/+", "room/a"]
        await hall.router.publish("room/a", "one")
        await hall.router.publish("plain/a", "two")
        assert await heard(ws, client) == ["one", "two"]
        assert ws.unsubscribe("room/a")
        await until(lambda: broker.calls[-1] == ("not", "room/a"))

    await on_one_node(run)


async def test_nobody_waits_long_for_what_does_not_come_back() -> None:
    async def run(broker: Scripted, hall: Hall) -> None:
        broker.deaf = True
        loop = asyncio.get_running_loop()
        began = loop.time()
        await hall.router.topics.settle()
        assert 0.9 < loop.time() - began < 5
        broker.deaf = False
        assert isinstance(broker.calls[-1], tuple)

    await on_one_node(run)
    await Topics(MemoryBroker()).settle()  # nor where nothing was started
    await Topics().settle()


def test_a_broker_begins_anew_where_its_event_loop_ended_before_it() -> None:
    topics = Topics(broker := MemoryBroker())
    loop = asyncio.new_event_loop()
    loop.run_until_complete(topics.start())
    loop.close()

    async def begin_anew() -> None:
        async with topics:
            assert topics.broker is broker
            await topics.publish("room/a", "x")

    asyncio.run(begin_anew())
    assert not broker.healthy


async def test_a_broker_that_does_not_start_is_closed_again() -> None:
    topics = Topics(broker := Scripted())
    broker.failures = [BrokerError("x", "wrong password")]
    with pytest.raises(BrokerError, match="wrong password"):
        await topics.start()
    await topics.start()
    await topics.close()


async def test_the_broker_is_there_from_before_the_start_to_after_the_end() -> None:
    broker = Scripted()
    states: list[bool] = []
    router = Router(topics=Topics(broker))
    router.on_start(lambda: states.append(broker.healthy))
    router.on_shutdown(lambda: states.append(broker.healthy))
    async with router.serve("127.0.0.1", 0):
        pass
    assert states == [True, True]
    assert not broker.healthy


async def test_a_start_that_fails_closes_the_broker() -> None:
    broker = Scripted()
    router = Router(topics=Topics(broker))

    @router.on_start
    async def fail() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await router.serve("127.0.0.1", 0)
    assert not broker.healthy


@pytest.mark.parametrize("topics", [7, b"redis://host", MemoryBroker], ids=repr)
def test_what_is_no_broker_is_refused(topics: Any) -> None:
    with pytest.raises(BrokerError, match="a broker is a URL, or a Broker"):
        Router(topics=topics)


def test_a_router_takes_a_broker_as_well() -> None:
    broker = MemoryBroker()
    assert Router(topics=broker).topics.broker is broker


def test_the_environment_names_the_broker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WEBSOCKETS_ROUTES_BROKER", "redis://localhost")
    assert "Redis" in type(Router().topics.broker).__name__
    assert Router(topics="memory://").topics.broker is None
    monkeypatch.setenv("WEBSOCKETS_ROUTES_BROKER", "zzz://localhost")
    with pytest.raises(BrokerError, match="unknown"):
        Router()
    monkeypatch.setenv("WEBSOCKETS_ROUTES_BROKER", "")
    assert Router().topics.broker is None


def test_a_router_with_a_broker_of_its_own_is_not_mounted() -> None:
    with pytest.raises(MountError):
        Router().mount("/a", Router(topics="redis://localhost"))


# Positions


async def test_what_comes_live_while_history_is_read_waits() -> None:
    async def run(broker: Scripted, hall: Hall) -> None:
        ws, client = await hall.join()
        await hall.router.publish("room/a", "1")
        broker.open.clear()
        subscribing = asyncio.ensure_future(ws.subscribe("room/a", last=10))
        await until(lambda: broker.asked == 1)
        broker.open.set()
        await asyncio.sleep(0)
        broker.open.clear()
        await until(lambda: broker.asked == 2)
        await hall.router.publish("room/a", "2")
        await ws.publish("room/a", "own")
        await hall.router.publish("room/a", "3")
        broker.open.set()
        assert (await subscribing).offset == 1
        await hall.router.publish("room/a", "4")
        assert await heard(ws, client) == ["1", "2", "3", "4"]

    await on_one_node(run)


async def test_more_than_may_wait_is_read_again() -> None:
    async def run(broker: Scripted, hall: Hall) -> None:
        ws, client = await hall.join()
        ws.max_backlog = 1000
        await hall.router.publish("room/a", "0")
        broker.open.clear()
        subscribing = asyncio.ensure_future(ws.subscribe("room/a", last=10))
        await until(lambda: broker.asked == 1)
        broker.open.set()
        await asyncio.sleep(0)
        broker.open.clear()
        await until(lambda: broker.asked == 2)
        for number in range(1, 6):
            await hall.router.publish("room/a", str(number))
        broker.open.set()
        await subscribing
        assert await heard(ws, client) == ["0", "1", "2", "3", "4", "5"]

    await on_one_node(run)


async def test_a_message_that_comes_after_its_replay_is_not_doubled() -> None:
    async def run(broker: Scripted, hall: Hall) -> None:
        (one, client), (two, other) = await hall.join(), await hall.join()
        await one.subscribe("room/a")
        await one.subscribe("plain")
        await hall.router.publish("room/a", "1")
        broker.late = []
        await hall.router.publish("room/a", "2")
        await hall.router.publish("room/a", "3")
        await two.subscribe("room/a", last=2)
        three, third = await hall.join()
        await three.subscribe("room/a")
        three.unsubscribe("room/a")
        broker.catch_up()
        await hall.router.publish("room/a", "4")
        assert await heard(one, client) == ["1", "2", "3", "4"]
        assert await heard(two, other) == ["2", "3", "4"]
        assert await heard(three, third) == []
        relay: Any = hall.router.topics._relay
        assert not relay._tracks["room/a"]._floors

    await on_one_node(run)


async def test_what_was_missed_is_recovered_before_what_comes_live() -> None:
    async def run(broker: Scripted, hall: Hall) -> None:
        gaps: list[Any] = []
        hall.router.topics.on_gap(gaps.append)
        ws, client = await hall.join()
        for topic in ("room/a", "plain", Filter("room/#")):
            await ws.subscribe(topic)
        await hall.router.publish("room/a", "1")
        broker.deaf = True
        await hall.router.publish("room/a", "2")
        broker.deaf = False
        broker.open.clear()
        asked = broker.asked
        for topic in ("room/a", "room/a", "plain", Filter("room/#"), "room/zzz"):
            broker.gap(topic)
        assert gaps == ["plain", Filter("room/#")]
        await until(lambda: broker.asked > asked)
        await hall.router.publish("room/a", "3")
        broker.failures = [BrokerUnavailable("x", "gone again")]
        broker.open.set()
        await until(lambda: broker.asked >= asked + 2)
        await until(lambda: relay_of(hall)._tracks["room/a"].held is None)
        await hall.router.publish("room/a", "4")
        assert await heard(ws, client) == ["1", "2", "3", "4"]
        assert gaps == ["plain", Filter("room/#")]

    await on_one_node(run)


async def test_what_cannot_be_recovered_is_told(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def run(broker: Scripted, hall: Hall) -> None:
        ws, client = await hall.join()
        await ws.subscribe("room/a")
        await hall.router.publish("room/a", "1")
        broker.deaf = True
        for number in range(2, 6):
            await hall.router.publish("room/a", str(number))
        broker.deaf = False
        broker.gap("room/a")
        await until(lambda: "of 'room/a' were missed" in caplog.text)
        caplog.clear()
        await hall.router.publish("room/a", "6")
        broker.failures = [BrokerError("x", "no history")]
        broker.gap("room/a")
        await until(lambda: "of 'room/a' were missed" in caplog.text)
        assert errors(caplog) == [
            "the history of 'room/a' cannot be read: broker x: no history"
        ]
        await hall.router.publish("room/a", "7")
        assert await heard(ws, client) == ["1", "6", "7"]

    await on_one_node(run, history=2)


async def test_a_topic_that_nobody_hears_any_more_is_not_recovered() -> None:
    async def run(broker: Scripted, hall: Hall) -> None:
        ws, client = await hall.join()
        await ws.subscribe("room/a")
        broker.open.clear()
        broker.failures = [BrokerUnavailable("x", "gone")]
        asked = broker.asked
        broker.gap("room/a")
        await until(lambda: broker.asked > asked)
        ws.unsubscribe("room/a")
        broker.open.set()
        await until(lambda: not relay_of(hall)._tasks)
        assert broker.asked == asked + 1
        assert await heard(ws, client) == []

    await on_one_node(run)


async def test_a_gap_while_another_is_recovered_is_read_again() -> None:
    async def run(broker: Scripted, hall: Hall) -> None:
        ws, client = await hall.join()
        await ws.subscribe("room/a")
        broker.deaf = True
        broker.open.clear()
        asked = broker.asked
        await hall.router.publish("room/a", "1")
        broker.gap("room/a")
        await until(lambda: broker.asked > asked)
        broker.deaf = False
        await hall.router.publish("room/a", "2")
        broker.deaf = True
        await hall.router.publish("room/a", "3")
        broker.deaf = False
        broker.gap("room/a")
        await hall.router.publish("room/a", "4")
        broker.open.set()
        await until(lambda: relay_of(hall)._tracks["room/a"].held is None)
        assert await heard(ws, client) == ["1", "2", "3", "4"]

    await on_one_node(run)


async def test_what_comes_live_while_a_topic_is_recovered_comes_once() -> None:
    async def run(broker: Scripted, hall: Hall) -> None:
        ws, client = await hall.join()
        await ws.subscribe("room/a")
        await hall.router.publish("room/a", "1")
        broker.open.clear()
        asked = broker.asked
        broker.gap("room/a")
        hall.router.publish("room/a", "2")  # before the history is read
        await until(lambda: broker.asked > asked)
        hall.router.publish("room/a", "3")
        broker.open.set()
        await until(lambda: relay_of(hall)._tracks["room/a"].held is None)
        hall.router.publish("room/a", "4")
        assert await heard(ws, client) == ["1", "2", "3", "4"]

    await on_one_node(run)


def wrap_all_but_the_bad(message: Message) -> str | bytes:
    if message.data == "bad":
        raise ValueError("no envelope")
    return message.data


async def test_a_message_that_no_envelope_can_be_made_of_stops_no_other(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def run(broker: Scripted, hall: Hall) -> None:
        ws, client = await hall.join()
        await ws.subscribe("room/a")
        await hall.router.publish("room/a", "bad")
        broker.deaf = True
        for message in ("1", "bad", "2"):
            await hall.router.publish("room/a", message)
        broker.deaf = False
        broker.open.clear()
        asked = broker.asked
        broker.gap("room/a")
        await until(lambda: broker.asked > asked)
        for message in ("bad", "3"):
            await hall.router.publish("room/a", message)
        broker.open.set()
        await until(lambda: not relay_of(hall)._tasks)
        await hall.router.publish("room/a", "4")
        assert await heard(ws, client) == ["1", "2", "3", "4"]
        assert errors(caplog) == ["a message of 'room/a' was not delivered"] * 3

    await on_one_node(run, envelope=wrap_all_but_the_bad)


async def test_who_joins_while_a_topic_is_recovered_gets_nothing_twice() -> None:
    async def run(broker: Scripted, hall: Hall) -> None:
        (one, client), (two, other) = await hall.join(), await hall.join()
        await one.subscribe("room/a")
        await hall.router.publish("room/a", "1")
        broker.deaf = True
        for number in range(2, 6):
            await hall.router.publish("room/a", str(number))
        broker.deaf = False
        first, broker.open = broker.open, asyncio.Event()
        slow, asked = broker.open, broker.asked
        broker.gap("room/a")
        await until(lambda: broker.asked > asked)
        broker.open = first
        await hall.router.publish("room/a", "6")
        await two.subscribe("room/a", last=1)
        slow.set()
        await until(lambda: relay_of(hall)._tracks["room/a"].held is None)
        await hall.router.publish("room/a", "7")
        assert await heard(one, client) == ["1", "6", "7"]
        assert await heard(two, other) == ["6", "7"]

    await on_one_node(run, history=2)


async def test_nothing_is_missed_by_who_joined_behind_one_that_read_further() -> None:
    async def run(broker: Scripted, hall: Hall) -> None:
        (one, client), (two, other) = await hall.join(), await hall.join()
        await hall.router.publish("room/a", "1")
        first, broker.open = broker.open, asyncio.Event()
        slow, asked = broker.open, broker.asked
        subscribing = asyncio.ensure_future(one.subscribe("room/a", last=1))
        await until(lambda: broker.asked > asked)
        broker.open = first
        slow.set()
        await until(lambda: relay_of(hall).is_confirmed("room/a"))
        slow = broker.open = asyncio.Event()
        await until(lambda: broker.asked > asked + 1)
        broker.open = first
        broker.deaf = True
        await hall.router.publish("room/a", "2")
        await two.subscribe("room/a", last=1)
        slow.set()
        await subscribing
        broker.deaf = False
        broker.gap("room/a")
        await until(lambda: relay_of(hall)._tracks["room/a"].held is None)
        await hall.router.publish("room/a", "3")
        assert await heard(one, client) == ["1", "2", "3"]
        assert await heard(two, other) == ["2", "3"]

    await on_one_node(run)


async def test_a_message_that_no_envelope_can_be_made_of_keeps_nobody_out(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def run(broker: Scripted, hall: Hall) -> None:
        ws, client = await hall.join()
        for message in ("1", "bad", "2"):
            await hall.router.publish("room/a", message)
        subscribed = await ws.subscribe("room/a", last=3)
        assert subscribed.offset == 3
        assert await heard(ws, client) == ["1", "2"]
        assert errors(caplog) == ["a message of 'room/a' was not delivered"]

    await on_one_node(run, envelope=wrap_all_but_the_bad)


async def test_a_gap_while_somebody_joins_is_read_over() -> None:
    async def run(broker: Scripted, hall: Hall) -> None:
        ws, client = await hall.join()
        await hall.router.publish("room/a", "1")
        broker.open.clear()
        subscribing = asyncio.ensure_future(ws.subscribe("room/a", last=10))
        await until(lambda: broker.asked == 1)
        broker.open.set()
        await asyncio.sleep(0)
        broker.open.clear()
        await until(lambda: broker.asked == 2)
        broker.deaf = True
        await hall.router.publish("room/a", "2")
        broker.deaf = False
        broker.gap("room/a")
        broker.open.set()
        await subscribing
        await hall.router.publish("room/a", "3")
        assert await heard(ws, client) == ["1", "2", "3"]

    await on_one_node(run)


async def test_a_filter_and_a_name_hear_a_message_once() -> None:
    async def run(broker: Scripted, hall: Hall) -> None:
        ws, client = await hall.join()
        await ws.subscribe(Filter("room/#"))
        await hall.router.publish("room/a", "1")
        await ws.subscribe("room/a", last=1)
        await hall.router.publish("room/a", "2")
        assert await heard(ws, client) == ["1", "1", "2"]
        with pytest.raises(InvalidTopic):
            await ws.subscribe(Filter("room/#"), since=Position("", 0))

    await on_one_node(run)


def envelope(offset: int | None, epoch: str | None = "e") -> Envelope:
    return Envelope("a", b"x", False, None, "", 0.0, offset, epoch)


def test_what_has_no_offset_is_always_news() -> None:
    track = Track(Position("e", 3), 1000)
    assert track.since == Position("e", 3)
    assert track.advance(envelope(None, None))
    assert track.position is None
    assert track.advance(envelope(4))
    assert not track.advance(envelope(4))
    assert track.advance(envelope(1, "f"))
    assert track.since == Position("f", 1)


async def test_a_message_without_an_offset_moves_no_position() -> None:
    """Somebody else may publish to a topic with history and not know that."""

    async def run(broker: Scripted, hall: Hall) -> None:
        (one, client), (two, other) = await hall.join(), await hall.join()
        await one.subscribe("room/a")
        await hall.router.publish("room/a", "1")
        broker.open.clear()
        asked = broker.asked
        subscribing = asyncio.ensure_future(two.subscribe("room/a", last=10))
        await until(lambda: broker.asked > asked)
        stray = Envelope("room/a", b"stray", True, None, "stray", 0.0)
        await broker.publish(stray)
        broker.open.set()
        await subscribing
        for _ in range(2):
            broker.gap("room/a")
            await until(lambda: relay_of(hall)._tracks["room/a"].held is None)
        await hall.router.publish("room/a", "2")
        assert await heard(one, client) == ["1", "stray", "2"]
        assert await heard(two, other) == ["1", "stray", "2"]

    await on_one_node(run)


def test_what_has_no_offset_lets_no_earlier_message_through() -> None:
    track: Any = Track(Position("e", 3), 1000)
    track.join("subscriber", Position("e", 3))
    assert track.lacking(["subscriber"], envelope(None, None)) == ["subscriber"]
    assert track.lacking(["subscriber"], envelope(2)) == []


def test_too_much_to_hold_is_let_go() -> None:
    joiner = Joiner(1200)
    joiner.position = Position("e", 1)
    joiner.held.add(envelope(1))
    joiner.held.add(envelope(2))
    assert [each.offset for each in joiner.take()] == [2]
    for offset in range(3, 8):
        joiner.held.add(envelope(offset))
    assert joiner.held.missed
    assert joiner.take() == []
