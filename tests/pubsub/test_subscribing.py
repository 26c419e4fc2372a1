"""Subscribing: who may hear what, what is told about it, and how it ends."""

from __future__ import annotations

import asyncio
import gc
import logging
from collections.abc import Mapping
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed

from tests.integration.servers import answer, connecting, serving
from tests.integration.test_topics import Hall, errors, heard, ways
from websockets_routes import (
    Filter,
    InvalidTopic,
    MustAwait,
    Protocol,
    Router,
    Subscribed,
    SubscriptionDenied,
    TooManySubscriptions,
    Topics,
)


class Recorder:
    """Notes what ``on_subscription`` is told."""

    def __init__(self, topics: Topics) -> None:
        self.events: list[tuple[Any, Any, int, int]] = []
        topics.on_subscription(self.note)

    def note(self, ws: Any, topic: Any, new_count: int, old_count: int) -> None:
        self.events.append((ws, topic, new_count, old_count))


# Names and filters


async def test_subscribing_twice_is_one_subscription() -> None:
    hall = Hall()
    recorder = Recorder(hall.router.topics)
    async with hall.open():
        ws, client = await hall.join()
        assert await ws.subscribe("a") == Subscribed("a", True)
        assert await ws.subscribe("a") == Subscribed("a", False)
        assert ws.subscribe_nowait("a") == Subscribed("a", False)
        assert ws.subscribe_nowait(Filter("+")).new
        assert not (await ws.subscribe(Filter("+"))).new
        assert hall.router.num_subscribers("a") == 1
        assert hall.router.publish("a", "once").matched == 1
        assert await heard(ws, client) == ["once"]
        assert recorder.events == [(ws, "a", 1, 0), (ws, Filter("+"), 1, 0)]
        assert ws.unsubscribe("a")
        assert hall.router.num_subscribers("a") == 0


@pytest.mark.parametrize(
    "name",
    ["", "+", "#", "room/#", "room/+/x", "a+", "b#", "a\x00", "\ud800"],
    ids=repr,
)
async def test_what_is_no_name_raises_with_the_reason(name: str) -> None:
    hall = Hall()
    async with hall.open():
        ws, _ = await hall.join()
        with pytest.raises(InvalidTopic) as caught:
            await ws.subscribe(name)
        assert caught.value.topic == name
        if "+" in name or "#" in name:
            assert "Filter" in str(caught.value)
        with pytest.raises(InvalidTopic):
            ws.subscribe_nowait(name)
        assert ws.topics == ()


@pytest.mark.parametrize("topic", [None, 7, b"a", ["a"], {}], ids=repr)
async def test_what_is_neither_a_name_nor_a_filter_raises(topic: Any) -> None:
    hall = Hall()
    async with hall.open():
        ws, _ = await hall.join()
        with pytest.raises(InvalidTopic, match="str or a Filter"):
            await ws.subscribe(topic)
        with pytest.raises(InvalidTopic, match="str or a Filter"):
            ws.subscribe_nowait(hall.router.topic("room/{name}"))


async def test_an_invalid_name_that_nobody_handles_closes_with_1008(
    caplog: pytest.LogCaptureFixture,
) -> None:
    router = Router()

    @router.route("/")
    async def handler(ws: Protocol) -> None:
        await ws.subscribe("room/#")

    async with serving(router.serve("127.0.0.1", 0)) as url:
        assert (await answer(url))[0] == 1008
    assert errors(caplog) == []


async def test_a_connection_has_so_many_subscriptions_and_no_more() -> None:
    router = Router(topics=Topics(max_subscriptions=2))
    hall = Hall(router)
    async with hall.open():
        ws, client = await hall.join()
        other, _ = await hall.join()
        await ws.subscribe("a")
        await ws.subscribe(Filter("#"))
        assert not (await ws.subscribe("a")).new
        with pytest.raises(TooManySubscriptions, match="2") as caught:
            await ws.subscribe("b")
        assert caught.value.limit == 2
        with pytest.raises(TooManySubscriptions):
            ws.subscribe_nowait(Filter("b"))
        assert ws.topics == ("a", Filter("#"))
        assert (await other.subscribe("b")).new
        assert ws.unsubscribe("a")
        assert (await ws.subscribe("b")).new
        router.publish("b", "heard")
        assert await heard(ws, client) == ["heard"]


async def test_one_too_many_that_nobody_handles_closes_with_1008(
    caplog: pytest.LogCaptureFixture,
) -> None:
    router = Router(topics=Topics(max_subscriptions=1))

    @router.route("/")
    class Greedy:
        async def on_open(self, ws: Protocol) -> None:
            await ws.subscribe("a")
            await ws.subscribe("b")

    async with serving(router.serve("127.0.0.1", 0)) as url:
        assert (await answer(url))[0] == 1008
    assert errors(caplog) == []


# Authorisation


def by_name(ws: Any, topic: Any, params: Mapping[str, str]) -> bool:
    return params["name"] == "a/b"


async def by_name_later(ws: Any, topic: Any, params: Mapping[str, str]) -> bool:
    await asyncio.sleep(0)
    return by_name(ws, topic, params)


class ByName:
    async def __call__(self, ws: Any, topic: Any, params: Mapping[str, str]) -> bool:
        return by_name(ws, topic, params)


@pytest.mark.parametrize("authorize", [by_name, by_name_later, ByName()])
async def test_authorize_is_asked_with_the_params_decoded(authorize: Any) -> None:
    router = Router()
    room = router.topic("room/{name}", authorize=authorize)
    hall = Hall(router)
    recorder = Recorder(router.topics)
    async with hall.open():
        ws, _ = await hall.join()
        assert (await ws.subscribe(room(name="a/b"))).new
        for name in (room(name="c"), "room/a", "room/a%252Fb"):
            with pytest.raises(SubscriptionDenied) as caught:
                await ws.subscribe(name)
            assert caught.value.topic == name
            assert caught.value.status == 403
        # What the template does not match is none of its business.
        assert (await ws.subscribe("room/a/b")).new
        assert (await ws.subscribe("room")).new
        assert ws.topics == ("room/a%2Fb", "room/a/b", "room")
        assert [event[1] for event in recorder.events] == list(ws.topics)


async def test_the_best_matching_declaration_decides() -> None:
    router = Router()
    asked: list[tuple[str, Any]] = []

    def asking(name: str, answer: bool) -> Any:
        def authorize(ws: Any, topic: Any, params: Mapping[str, str]) -> bool:
            asked.append((name, dict(params)))
            return answer

        return authorize

    router.topic("*path", authorize=asking("path", False))
    router.topic("room/{name}", authorize=asking("room", True))
    router.topic("room/lobby")
    router.topic("room/staff", authorize=asking("staff", False))
    hall = Hall(router)
    async with hall.open():
        ws, _ = await hall.join()
        assert (await ws.subscribe("room/x")).new
        assert (await ws.subscribe("room/lobby")).new
        with pytest.raises(SubscriptionDenied):
            await ws.subscribe("room/staff")
        with pytest.raises(SubscriptionDenied):
            await ws.subscribe("else/where")
    assert asked == [
        ("room", {"name": "x"}),
        ("staff", {}),
        ("path", {"path": "else/where"}),
    ]


async def test_a_topic_already_heard_is_not_authorized_again() -> None:
    router = Router()
    answers = [True]
    router.topic("a", authorize=lambda ws, topic, params: answers.pop())
    hall = Hall(router)
    async with hall.open():
        ws, _ = await hall.join()
        assert (await ws.subscribe("a")).new
        assert not (await ws.subscribe("a")).new
    assert answers == []


@pytest.mark.parametrize("answer", [False, None, 0, "", []], ids=repr)
async def test_only_a_true_answer_allows(answer: Any) -> None:
    router = Router()
    router.topic("a", authorize=lambda ws, topic, params: answer)
    hall = Hall(router)
    async with hall.open():
        ws, _ = await hall.join()
        with pytest.raises(SubscriptionDenied):
            await ws.subscribe("a")
        with pytest.raises(SubscriptionDenied):
            ws.subscribe_nowait("a")


@pytest.mark.parametrize(
    "text", ["#", "+/+", "room/+", "room/#", "room/7", "+/7", "room/7/#"]
)
async def test_a_filter_that_overlaps_a_guarded_topic_is_refused(text: str) -> None:
    router = Router()
    router.topic("room/{name}", authorize=lambda ws, topic, params: True)
    hall = Hall(router)
    async with hall.open():
        ws, _ = await hall.join()
        with pytest.raises(SubscriptionDenied, match="filters=True"):
            await ws.subscribe(Filter(text))
        with pytest.raises(SubscriptionDenied, match="filters=True"):
            ws.subscribe_nowait(Filter(text))
        assert ws.topics == ()


@pytest.mark.parametrize("text", ["+", "room", "room/+/x", "rooms/#", "$x/#", "+/7/8"])
async def test_a_filter_that_overlaps_no_guarded_topic_is_heard(text: str) -> None:
    router = Router()
    router.topic("room/{name}", authorize=lambda ws, topic, params: False)
    hall = Hall(router)
    async with hall.open():
        ws, _ = await hall.join()
        assert (await ws.subscribe(Filter(text))).new
        assert router.publish("room/7", "secret").matched == 0


async def test_a_topic_with_filters_is_asked_about_the_filter() -> None:
    router = Router()
    asked: list[tuple[Any, Any]] = []

    def authorize(ws: Any, topic: Any, params: Mapping[str, str]) -> bool:
        asked.append((topic, dict(params)))
        return bool(topic == Filter("room/+"))

    router.topic("room/{name}", authorize=authorize, filters=True)
    hall = Hall(router)
    async with hall.open():
        ws, _ = await hall.join()
        assert (await ws.subscribe(Filter("room/+"))).new
        with pytest.raises(SubscriptionDenied):
            await ws.subscribe(Filter("room/#"))
        router.topic("{kind}/lobby", authorize=lambda ws, topic, params: True)
        ws.unsubscribe(Filter("room/+"))
        with pytest.raises(SubscriptionDenied, match="filters=True"):
            await ws.subscribe(Filter("room/+"))
    assert asked == [(Filter("room/+"), {}), (Filter("room/#"), {})]


@pytest.mark.filterwarnings("error")
async def test_subscribe_nowait_raises_where_authorize_has_to_be_awaited() -> None:
    router = Router()
    router.topic("a", authorize=by_name_later)
    hall = Hall(router)
    async with hall.open():
        ws, _ = await hall.join()
        with pytest.raises(MustAwait, match=r"subscribe\(\)"):
            ws.subscribe_nowait("a")
        gc.collect()  # a coroutine that was never awaited would warn now
        assert ws.topics == ()
        assert (await ws.subscribe("b")).new


async def test_subscribe_does_not_suspend_where_nothing_has_to_be_awaited() -> None:
    router = Router()
    router.topic("a", authorize=lambda ws, topic, params: True)
    hall = Hall(router)
    async with hall.open():
        ws, _ = await hall.join()
        for topic in ("a", "b", Filter("c/#")):
            coroutine = ws.subscribe(topic)
            with pytest.raises(StopIteration) as caught:
                coroutine.send(None)
            assert caught.value.value == Subscribed(topic, True)


@pytest.mark.parametrize("way", ["ws", "router", "event"])
async def test_a_denial_that_nobody_handles_closes_and_logs_no_error(
    way: str, caplog: pytest.LogCaptureFixture
) -> None:
    router = Router()
    router.topic("a", authorize=by_name_denied)
    ended = asyncio.Event()
    if way == "event":

        @router.route("/")
        class Events:
            async def on_text(self, ws: Protocol, text: str) -> None:
                await ws.subscribe(text)

            def on_close(self, ws: Protocol, code: int, reason: str) -> None:
                assert code == 1008
                ended.set()

    else:

        @router.route("/")
        async def handler(ws: Protocol) -> None:
            try:
                topic = await ws.recv(decode=True)
                if way == "ws":
                    await ws.subscribe(topic)
                await router.subscribe(ws, topic)
            finally:
                ended.set()

    caplog.set_level(logging.DEBUG, "websockets.server")
    async with serving(router.serve("127.0.0.1", 0)) as url:
        async with connecting(url) as client:
            await client.send("a")
            await client.wait_closed()
        assert client.close_code == 1008
        assert client.close_reason == "subscription to 'a' denied: it is not authorized"
        await ended.wait()
    assert errors(caplog) == []
    assert not any(record.exc_info for record in caplog.records)


async def by_name_denied(ws: Any, topic: Any, params: Mapping[str, str]) -> bool:
    return False


async def test_a_failing_authorize_fails_its_own_subscription_only(
    caplog: pytest.LogCaptureFixture,
) -> None:
    router = Router()

    def authorize(ws: Any, topic: Any, params: Mapping[str, str]) -> bool:
        raise ZeroDivisionError("no such table")

    router.topic("broken", authorize=authorize)
    router.route("/broken", subscribe="broken")(Hall().hold)
    hall = Hall(router)
    async with hall.open() as url:
        ws, client = await hall.join()
        await ws.subscribe("a")
        with pytest.raises(ZeroDivisionError):
            await ws.subscribe("broken")
        assert (await answer(f"{url}/broken"))[0] == 1011
        router.publish("a", "on it goes")
        router.publish("broken", "nobody")
        assert await heard(ws, client) == ["on it goes"]
    assert len(errors(caplog)) == 1


# At the same time


async def test_two_subscribes_at_once_are_one_subscription() -> None:
    router = Router()
    gate = asyncio.Event()

    async def authorize(ws: Any, topic: Any, params: Mapping[str, str]) -> bool:
        await gate.wait()
        return True

    router.topic("room/{name}", authorize=authorize)
    hall = Hall(router)
    recorder = Recorder(router.topics)
    async with hall.open():
        ws, client = await hall.join()
        both = asyncio.gather(ws.subscribe("room/a"), ws.subscribe("room/a"))
        await asyncio.sleep(0)
        assert ws.topics == ()
        assert router.publish("room/a", "too early").matched == 0
        gate.set()
        assert sorted(subscribed.new for subscribed in await both) == [False, True]
        assert router.publish("room/a", "once").matched == 1
        assert await heard(ws, client) == ["once"]
        assert recorder.events == [(ws, "room/a", 1, 0)]


async def test_a_limit_holds_for_subscribes_at_once() -> None:
    router = Router(topics=Topics(max_subscriptions=2))
    gate = asyncio.Event()

    async def authorize(ws: Any, topic: Any, params: Mapping[str, str]) -> bool:
        await gate.wait()
        return True

    router.topic("room/{name}", authorize=authorize)
    hall = Hall(router)
    async with hall.open():
        ws, _ = await hall.join()
        all_of_them = asyncio.gather(
            *(ws.subscribe(f"room/{name}") for name in "abcd"), return_exceptions=True
        )
        await asyncio.sleep(0)
        gate.set()
        results = await all_of_them
        assert [type(result) for result in results] == [Subscribed] * 2 + [
            TooManySubscriptions
        ] * 2
        assert ws.topics == ("room/a", "room/b")


@ways()
async def test_a_connection_that_closes_while_it_is_authorized_hears_nothing(
    way: Any,
) -> None:
    router = Router()
    asked, gate = asyncio.Event(), asyncio.Event()

    async def authorize(ws: Any, topic: Any, params: Mapping[str, str]) -> bool:
        asked.set()
        await gate.wait()
        return True

    router.topic("room/{name}", authorize=authorize)
    hall = Hall(router)
    recorder = Recorder(router.topics)
    async with hall.open(way):
        ws, client = await hall.join()
        subscribing = asyncio.ensure_future(router.subscribe(ws, "room/a"))
        await asked.wait()
        await client.close()
        await ws.wait_closed()
        gate.set()
        with pytest.raises(ConnectionClosed):
            await subscribing
        assert router.num_subscribers("room/a") == 0
        assert router.topics.topics_of(ws) == ()
        assert recorder.events == []


async def test_a_cancelled_subscribe_subscribes_nothing() -> None:
    router = Router()
    asked = asyncio.Event()

    async def authorize(ws: Any, topic: Any, params: Mapping[str, str]) -> bool:
        asked.set()
        await asyncio.Event().wait()
        return True

    router.topic("room/{name}", authorize=authorize)
    hall = Hall(router)
    async with hall.open():
        ws, _ = await hall.join()
        subscribing = asyncio.ensure_future(ws.subscribe("room/a"))
        await asked.wait()
        subscribing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await subscribing
        assert ws.topics == ()
        assert (await ws.subscribe("b")).new


async def test_a_closed_connection_cannot_subscribe() -> None:
    hall = Hall()
    async with hall.open():
        ws, client = await hall.join()
        await client.close(4000, "bye")
        await ws.wait_closed()
        for topic in ("a", Filter("#")):
            with pytest.raises(ConnectionClosed, match="4000"):
                await ws.subscribe(topic)
            with pytest.raises(ConnectionClosed, match="4000"):
                ws.subscribe_nowait(topic)
        assert hall.router.topics.statistics().subscribers == 0


async def test_a_closing_connection_cannot_subscribe() -> None:
    hall = Hall()
    async with hall.open():
        ws, _ = await hall.join()
        await ws.subscribe("a")
        closing = asyncio.ensure_future(ws.close(4000))
        await asyncio.sleep(0)
        with pytest.raises(ConnectionClosed):
            await ws.subscribe("b")
        await closing
        assert ws.topics == ()


# Hooks


@pytest.mark.parametrize("kind", ["sync", "async"])
async def test_subscriptions_are_told_with_their_counts(kind: str) -> None:
    hall = Hall()
    events: asyncio.Queue[tuple[Any, Any, int, int]] = asyncio.Queue()
    if kind == "sync":

        @hall.router.topics.on_subscription
        def note(ws: Any, topic: Any, new_count: int, old_count: int) -> None:
            events.put_nowait((ws, topic, new_count, old_count))

    else:

        @hall.router.topics.on_subscription
        async def note_later(ws: Any, topic: Any, new: int, old: int) -> None:
            await asyncio.sleep(0)
            events.put_nowait((ws, topic, new, old))

    async with hall.open():
        (one, one_client), (other, _) = await hall.join(), await hall.join()
        await one.subscribe("a")
        await other.subscribe("a")
        other.subscribe_nowait(Filter("a/#"))
        assert [await events.get() for _ in range(3)] == [
            (one, "a", 1, 0),
            (other, "a", 2, 1),
            (other, Filter("a/#"), 1, 0),
        ]
        other.unsubscribe("a")
        other.unsubscribe("a")
        assert await events.get() == (other, "a", 1, 2)
        await one_client.close()
        assert await events.get() == (one, "a", 0, 1)
        assert hall.router.num_subscribers("a") == 0
        await other.subscribe("b")
        assert await events.get() == (other, "b", 1, 0)
        other.transport.abort()
        assert [await events.get() for _ in range(2)] == [
            (other, Filter("a/#"), 0, 1),
            (other, "b", 0, 1),
        ]
    assert events.empty()


async def test_a_failing_hook_is_logged_and_stops_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    hall = Hall()

    @hall.router.topics.on_subscription
    def fails(ws: Any, topic: Any, new_count: int, old_count: int) -> None:
        raise ZeroDivisionError

    failed = asyncio.Event()

    @hall.router.topics.on_subscription
    async def fails_later(ws: Any, topic: Any, new: int, old: int) -> None:
        failed.set()
        raise ZeroDivisionError

    recorder = Recorder(hall.router.topics)
    async with hall.open():
        pairs = [await hall.join() for _ in range(3)]
        for ws, _ in pairs:
            await ws.subscribe("a")
            await ws.subscribe("b")
        await failed.wait()
        await pairs[1][1].close()
        await pairs[1][0].wait_closed()
        assert hall.router.publish("a", "on").queued == 2
        for pair in (pairs[0], pairs[2]):
            assert await heard(*pair) == ["on"]
        assert len(recorder.events) == 8
    assert "on_subscription failed" in errors(caplog)


async def test_a_hook_may_publish_and_subscribe() -> None:
    hall = Hall()
    router = hall.router

    @router.topics.on_subscription
    def announce(ws: Any, topic: Any, new_count: int, old_count: int) -> None:
        if topic == "room":
            router.publish("room", f"{old_count} -> {new_count}")
            if new_count > old_count:
                ws.subscribe_nowait("log")

    async with hall.open():
        (one, one_client), (other, other_client) = await hall.join(), await hall.join()
        await one.subscribe("room")
        await other.subscribe("room")
        assert other.topics == ("room", "log")
        assert await one_client.recv() == "0 -> 1"
        assert await one_client.recv() == await other_client.recv() == "1 -> 2"
        await other_client.close()
        assert await one_client.recv() == "2 -> 1"


async def test_the_counts_are_right_though_a_hook_subscribes_another_connection() -> (
    None
):
    hall = Hall()
    recorder = Recorder(hall.router.topics)
    async with hall.open():
        (one, _), (deputy, _) = await hall.join(), await hall.join()
        await one.subscribe("leader")
        await one.subscribe("members")

        @hall.router.topics.on_subscription
        def replace(ws: Any, topic: Any, new_count: int, old_count: int) -> None:
            if topic == "leader" and new_count == 0:
                deputy.subscribe_nowait("members")

        del recorder.events[:]
        one.transport.abort()
        await one.wait_closed()
        assert hall.router.num_subscribers("members") == 1
        members = [event for event in recorder.events if event[1] == "members"]
        # The one left it and the other joined, in either order: it had never two
        # members after the first was told to have left, nor two of one moment.
        assert members in (
            [(one, "members", 0, 1), (deputy, "members", 1, 0)],
            [(deputy, "members", 2, 1), (one, "members", 1, 2)],
        )


async def test_a_hook_may_unsubscribe_whoever_has_just_come() -> None:
    hall = Hall()
    recorder = Recorder(hall.router.topics)

    @hall.router.topics.on_subscription
    def kick(ws: Any, topic: Any, new_count: int, old_count: int) -> None:
        if new_count > old_count:
            ws.unsubscribe(topic)

    async with hall.open():
        ws, client = await hall.join()
        await ws.subscribe("a")
        assert ws.topics == ()
        assert hall.router.publish("a", "nobody").matched == 0
        assert recorder.events == [(ws, "a", 1, 0), (ws, "a", 0, 1)]
        assert await heard(ws, client) == []


# Moderating


async def test_find_lists_each_subscriber_once() -> None:
    hall = Hall()
    topics = hall.router.topics
    async with hall.open():
        one, two, three = [(await hall.join())[0] for _ in range(3)]
        for ws, names in (
            (one, ["a/1", "a/2", Filter("a/+")]),
            (two, ["a/2", "$a/1"]),
            (three, ["b"]),
        ):
            for name in names:
                await ws.subscribe(name)
        assert topics.find("a/1") == [one]
        assert topics.find("a/2") == [one, two]
        assert topics.find("a") == []
        assert set(topics.find(Filter("a/+"))) == {one, two}
        assert len(topics.find(Filter("a/+"))) == 2
        assert set(topics.find(Filter("#"))) == {one, two, three}
        assert topics.find(Filter("$a/#")) == [two]
        assert topics.find(lambda ws: ws is not one) == [two, three]
        with pytest.raises(InvalidTopic, match="Filter"):
            topics.find("a/+")
        with pytest.raises(InvalidTopic, match="Filter"):
            await topics.disconnect("#")
        with pytest.raises(ZeroDivisionError):
            await topics.disconnect(lambda ws: 1 / 0)
        assert topics.statistics().subscribers == 3


async def test_a_handler_may_disconnect_a_topic_that_it_hears_itself() -> None:
    router = Router()
    closed: list[int] = []

    @router.route("/")
    async def handler(ws: Protocol) -> None:
        await ws.subscribe("a")
        await ws.recv()
        closed.append(await router.disconnect("a", 4003, "all of you"))

    async with serving(router.serve("127.0.0.1", 0)) as url:
        async with connecting(url) as one, connecting(url) as other:
            await other.send("go")
            await one.wait_closed()
            await other.wait_closed()
        assert one.close_code == other.close_code == 4003
    assert closed == [2] or closed == [1]
