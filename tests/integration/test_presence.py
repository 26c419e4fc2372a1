"""Presence within one process: who subscribes as a member, and how that ends."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from tests.integration.servers import until
from tests.integration.test_topics import Hall
from websockets_routes import (
    EndpointError,
    Filter,
    InvalidLimit,
    InvalidPresence,
    InvalidTopic,
    NotServing,
    PresenceTooLarge,
    Router,
    SubscriptionDenied,
    Topics,
)
from websockets_routes.pubsub.names import RESERVED


def make_hall() -> tuple[Hall, list[Any]]:
    hall = Hall()
    hall.router.topic("room/{name}", presence=True)
    events: list[Any] = []

    @hall.router.topics.on_presence
    def changed(topic: str, joins: Any, leaves: Any) -> None:
        events.append((topic, joins, leaves))

    return hall, events


async def test_a_member_joins_with_the_first_connection_and_leaves_with_the_last() -> (
    None
):
    hall, events = make_hall()
    async with hall.open():
        one, client = await hall.join()
        two, other = await hall.join()
        assert (await one.subscribe("room/a", as_="ann", info={"tab": 1})).new
        assert (await two.subscribe("room/a", as_="ann", info={"tab": 2})).new
        assert events == [("room/a", {"ann": [{"tab": 1}]}, {})]
        there = await hall.router.presence("room/a")
        assert there == {"ann": [{"tab": 1}, {"tab": 2}]}
        hall.router.publish("room/a", "hi")
        assert [await client.recv(), await other.recv()] == ["hi", "hi"]
        assert one.unsubscribe("room/a")
        assert await hall.router.presence("room/a") == {"ann": [{"tab": 2}]}
        assert len(events) == 1
        await other.close()
        await until(lambda: len(events) == 2)
        assert events[1] == ("room/a", {}, {"ann": [{"tab": 2}]})
        assert await hall.router.presence("room/a") == {}
        # Nobody is kept who has ended.
        assert not hall.router.topics._attendance._connections - {str(one.id)}


async def test_who_subscribes_as_nobody_is_not_there() -> None:
    hall, events = make_hall()
    async with hall.open():
        ws, _ = await hall.join()
        await ws.subscribe("room/a")
        assert await hall.router.presence("room/a") == {}
        # Later it is; then as another, with the same subscription.
        assert not (await hall.router.subscribe(ws, "room/a", as_="ann")).new
        await ws.subscribe("room/a", as_="bob", info={"x": [1]})
        await ws.subscribe("room/a")
        assert await hall.router.presence("room/a") == {"bob": [{"x": [1]}]}
        assert events == [
            ("room/a", {"ann": [{}]}, {}),
            ("room/a", {"bob": [{"x": [1]}]}, {"ann": [{}]}),
        ]


async def test_a_connection_leaves_all_its_topics_when_it_ends() -> None:
    hall, events = make_hall()
    async with hall.open():
        ws, client = await hall.join()
        for name in "abc":
            await ws.subscribe(f"room/{name}", as_="ann")
        await client.close()
        await until(lambda: len(events) == 6)
        left = [topic for topic, _, leaves in events if leaves]
        assert left == ["room/a", "room/b", "room/c"]


@pytest.mark.parametrize(
    ("topic", "options", "kind"),
    [
        pytest.param("plain", {"as_": "ann"}, InvalidTopic, id="undeclared"),
        pytest.param("board", {"as_": "ann"}, InvalidTopic, id="no-presence"),
        pytest.param(Filter("room/+"), {"as_": "ann"}, InvalidTopic, id="filter"),
        pytest.param("room/a", {"info": {}}, InvalidTopic, id="info-of-nobody"),
        pytest.param("room/a", {"as_": ""}, InvalidPresence, id="empty"),
        pytest.param("room/a", {"as_": 7}, InvalidPresence, id="no-str"),
        pytest.param(
            "room/a", {"as_": "a", "info": [1]}, InvalidPresence, id="no-dict"
        ),
        pytest.param(
            "room/a", {"as_": "a", "info": {"x": {1}}}, InvalidPresence, id="no-json"
        ),
        pytest.param(
            "room/a",
            {"as_": "a", "info": {"x": "y" * 5000}},
            PresenceTooLarge,
            id="too-large",
        ),
    ],
)
async def test_who_cannot_be_present_is_not_subscribed(
    topic: Any, options: Any, kind: type[Exception]
) -> None:
    hall, events = make_hall()
    hall.router.topic("board")
    async with hall.open():
        ws, _ = await hall.join()
        with pytest.raises(kind):
            await ws.subscribe(topic, **options)
        assert ws.topics == ()
        assert events == []


async def test_who_may_not_hear_a_topic_is_not_present() -> None:
    hall = Hall()
    hall.router.topic("room/{name}", presence=True, authorize=lambda *_: False)
    async with hall.open():
        ws, _ = await hall.join()
        with pytest.raises(SubscriptionDenied):
            await ws.subscribe("room/a", as_="ann")
        assert await hall.router.presence("room/a") == {}


async def test_who_unsubscribes_while_subscribing_is_not_present() -> None:
    hall, events = make_hall()
    async with hall.open():
        ws, _ = await hall.join()

        def reply(subscribed: object) -> str:
            ws.unsubscribe("room/a")
            return "here"

        await ws.subscribe("room/a", as_="ann", reply=reply)
        assert ws.topics == ()
        assert events == []


async def test_presence_is_asked_of_topics_that_have_it() -> None:
    router = Router()
    router.topic("board")
    for topic in ("board", "other", "+", Filter("board")):
        with pytest.raises(InvalidTopic):
            await router.presence(topic)  # type: ignore[arg-type]


async def test_what_happens_in_a_hook_is_told_after_what_made_it_happen() -> None:
    hall, events = make_hall()

    @hall.router.topics.on_presence
    def evict(topic: str, joins: Any, leaves: Any) -> None:
        if "bob" in joins:
            ann.unsubscribe(topic)

    @hall.router.topics.on_presence
    async def greet(topic: str, joins: Any, leaves: Any) -> None:
        await asyncio.sleep(0)
        for member in joins:
            hall.router.publish(topic, f"{member} came")

    seen: list[Any] = []
    hall.router.topics.on_presence(lambda *event: seen.append(event))
    async with hall.open():
        ann, _ = await hall.join()
        bob, client = await hall.join()
        await ann.subscribe("room/a", as_="ann")
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        await bob.subscribe("room/a", as_="bob")
        assert await client.recv() == "bob came"
        assert [sorted(joins) for _, joins, _ in seen] == [["ann"], ["bob"], []]
        assert seen == events


async def test_errors_of_hooks_go_to_error_handlers(
    caplog: pytest.LogCaptureFixture,
) -> None:
    hall, events = make_hall()
    errors: list[Any] = []

    @hall.router.topics.on_presence
    def fail(topic: str, joins: Any, leaves: Any) -> None:
        raise KeyError(topic)

    @hall.router.topics.on_presence
    async def fail_later(topic: str, joins: Any, leaves: Any) -> None:
        raise OSError(topic)

    @hall.router.on_error(KeyError)
    def heard(error: Exception, ws: Any, path: Any) -> None:
        errors.append((error.args, ws, path))

    with pytest.raises(EndpointError, match="topic, joins, leaves"):
        hall.router.topics.on_presence(lambda: None)
    with caplog.at_level(logging.ERROR):
        async with hall.open():
            ws, _ = await hall.join()
            await ws.subscribe("room/a", as_="ann")
            await until(lambda: errors and caplog.records)
            assert errors == [(("room/a",), None, None)]
            assert caplog.messages == ["on_presence failed"]
            assert len(events) == 1


async def test_a_mounted_router_brings_its_topics_and_hooks() -> None:
    hall = Hall()
    inner = Router()
    inner.topic("room/{name}", presence=True)
    events: list[Any] = []
    inner.topics.on_presence(lambda *event: events.append(event))
    hall.router.mount("/inner", inner)
    async with hall.open():
        ws, _ = await hall.join()
        await ws.subscribe("room/a", as_="ann")
        assert events == [("room/a", {"ann": [{}]}, {})]
        assert await inner.presence("room/a") == {"ann": [{}]}


@pytest.mark.parametrize("topic", [f"{RESERVED}presence", Filter(f"{RESERVED}#")])
async def test_nobody_else_is_where_nodes_talk(topic: Any) -> None:
    hall, _ = make_hall()
    async with hall.open():
        ws, _ = await hall.join()
        with pytest.raises(InvalidTopic, match="reserved"):
            await ws.subscribe(topic)
        with pytest.raises(InvalidTopic, match="reserved"):
            hall.router.publish(f"{RESERVED}presence", b"x")


async def test_a_broker_that_is_not_started_has_no_presence() -> None:
    topics = Topics("redis://127.0.0.1:1")
    topics.topic("room/{name}", presence=True)
    with pytest.raises(NotServing):
        await topics.presence("room/a")


@pytest.mark.parametrize(
    "options", [{"presence_ttl": 0}, {"max_info": 0}, {"max_info": 10**6}], ids=str
)
def test_limits_are_checked(options: Any) -> None:
    with pytest.raises(InvalidLimit):
        Topics(**options)


def test_members_of_a_loop_that_ended_are_forgotten() -> None:
    topics = Topics()
    topics.topic("room/{name}", presence=True)
    left: list[Any] = []
    topics.on_presence(lambda topic, joins, leaves: left.extend(leaves))

    async def leave_behind() -> None:
        hall = Hall(Router(topics=topics))
        async with hall.open():
            ws, _ = await hall.join()
            await ws.subscribe("room/a", as_="ann")
            # As if the loop had ended before the connection did.
            ws.outbox._listeners = ()

    async def come() -> None:
        hall = Hall(Router(topics=topics))
        async with hall.open():
            ws, _ = await hall.join()
            await ws.subscribe("room/a", as_="bob")
            assert await topics.presence("room/a") == {"bob": [{}]}

    asyncio.run(leave_behind())
    asyncio.run(come())
    assert left == ["ann", "bob"]
