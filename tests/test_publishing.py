"""Publishing: a router's topics, shared or its own, and its connections."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from websockets_routes import (
    BuildError,
    Filter,
    InvalidLimit,
    InvalidTopic,
    OpCode,
    Overflow,
    Router,
    Statistics,
    SubscriptionDenied,
    Topic,
    Topics,
)

from .integration.servers import HOST, connecting, end, serving
from .integration.test_topics import Hall, heard


class Shouting:
    """A JSON module that tells itself from others."""

    @staticmethod
    def dumps(value: object) -> str:
        return f"shouting {value}"

    @staticmethod
    def loads(text: object) -> object:
        raise AssertionError("nothing is read here")


def test_a_router_has_topics_of_its_own() -> None:
    one, other = Router(), Router()
    assert isinstance(one.topics, Topics)
    assert one.topics is not other.topics
    assert one.topics.statistics() == Statistics(0, 0, 0, 0, 0, 0, 0, 0, 0, 0)


def test_a_router_takes_topics() -> None:
    topics = Topics()
    assert Router(topics=topics).topics is topics
    # Topics without anything in them are topics all the same.
    assert Router(topics=topics, max_backlog=7).topics is topics


def test_a_router_declares_topics_as_they_do() -> None:
    router = Router()
    room = router.topic(
        "room/{name}",
        overflow="conflate",
        key=len,
        authorize=lambda ws, topic, params: True,
        filters=True,
        requirements={"name": "[a-z]+"},
    )
    assert isinstance(room, Topic)
    assert str(room) == "room/{name}"
    assert room(name="ab") == "room/ab"
    with pytest.raises(BuildError):
        room(name="AB")
    assert room.overflow is Overflow.CONFLATE
    assert room.key is len
    assert room.filters is True
    with pytest.raises(InvalidTopic, match="declared already"):
        router.topics.topic("room/{name}")


@pytest.mark.parametrize("value", [0, -1, True, "1", float("nan"), [1]], ids=repr)
async def test_a_backlog_that_is_no_number_raises(value: Any) -> None:
    with pytest.raises(InvalidLimit, match="max_backlog"):
        Router(max_backlog=value)
    with pytest.raises(InvalidLimit, match="max_backlog"):
        Router().serve(HOST, 0, max_backlog=value)


async def test_two_routers_share_topics() -> None:
    topics = Topics()
    one, other = Hall(Router(topics=topics)), Hall(Router(topics=topics))
    room = one.router.topic("room/{name}", authorize=lambda ws, topic, params: False)
    async with one.open(), other.open():
        (first, first_client), (second, second_client) = (
            await one.join(),
            await other.join(),
        )
        for ws in (first, second):
            await ws.subscribe("a")
        assert one.router.num_subscribers("a") == 2
        assert other.router.publish("a", "from the other").matched == 2
        assert first.publish("a", "from the first").matched == 1
        assert topics.publish("a", "from nowhere").matched == 2
        with pytest.raises(SubscriptionDenied):
            await second.subscribe(room(name="x"))
        assert await heard(first, first_client) == ["from the other", "from nowhere"]
        assert await heard(second, second_client) == [
            "from the other",
            "from the first",
            "from nowhere",
        ]
        assert await other.router.disconnect("a", 4000) == 2
        for client in (first_client, second_client):
            assert await end(client) == (4000, "")


async def test_two_routers_have_nothing_in_common_otherwise() -> None:
    one, other = Hall(), Hall()
    async with one.open():
        first, first_client = await one.join()
        await first.subscribe("a")
        async with other.open():
            second, second_client = await other.join()
            await second.subscribe("a")
            assert one.router.publish("a", "one").matched == 1
            assert second.publish("a", "not me").matched == 0
            assert await heard(first, first_client) == ["one"]
            assert await heard(second, second_client) == []


async def test_publish_json_uses_the_json_of_the_router() -> None:
    hall = Hall(Router(json=Shouting))
    async with hall.open():
        ws, client = await hall.join()
        await ws.subscribe("a")
        ws_receipt = ws.publish_json("a", 0)
        assert ws_receipt.matched == 0
        hall.router.publish_json("a", 1)
        hall.router.publish_json("a", 2, OpCode.BINARY)
        assert await heard(ws, client) == ["shouting 1", b"shouting 2"]


async def test_publish_json_uses_the_json_of_the_router_beside_shared_topics() -> None:
    # ``Router(json=…)`` says: what send_json, recv_json and publish_json use.
    hall = Hall(Router(json=Shouting, topics=Topics()))
    async with hall.open():
        ws, client = await hall.join()
        await ws.subscribe("a")
        hall.router.publish_json("a", 1)
        assert await heard(ws, client) == ["shouting 1"]


async def test_publish_json_of_topics_uses_their_json() -> None:
    hall = Hall(Router(topics=Topics(json=Shouting)))
    async with hall.open():
        ws, client = await hall.join()
        await ws.subscribe("a")
        hall.router.topics.publish_json("a", 1, compress=True)
        hall.router.topics.publish_json("a", 2, exclude=ws)
        assert await heard(ws, client) == ["shouting 1"]


# Disconnecting


async def test_a_predicate_is_asked_about_every_connection_of_every_server() -> None:
    router = Router()
    hall = Hall(router)
    asked: list[Any] = []

    def suspicious(ws: Any) -> bool:
        asked.append(ws)
        return ws is victim or ws is subscriber

    async with hall.open():
        subscriber, subscriber_client = await hall.join()
        innocent, innocent_client = await hall.join()
        await subscriber.subscribe("a")
        async with (
            serving(router.serve(HOST, 0)) as url,
            connecting(f"{url}/hold") as client,
        ):
            victim = await hall.arrival()
            assert await router.disconnect(suspicious, 4001, "out") == 2
            assert set(asked) == {victim, subscriber, innocent}
            assert await end(client) == (4001, "out")
            assert await end(subscriber_client) == (4001, "out")
            assert await heard(innocent, innocent_client) == []
            assert await router.disconnect(lambda ws: False) == 0


async def test_disconnecting_waits_until_all_are_closed() -> None:
    router = Router()
    closed: list[int] = []
    ready: asyncio.Queue[None] = asyncio.Queue()

    @router.route("/")
    class Member:
        async def on_open(self, ws: Any) -> None:
            await ws.subscribe("a")
            ready.put_nowait(None)

        def on_close(self, ws: Any, code: int, reason: str) -> None:
            closed.append(code)
            assert ws.publish("a", "bye").queued == 0

    async with (
        serving(router.serve(HOST, 0)) as url,
        connecting(url) as one,
        connecting(url) as other,
    ):
        await ready.get()
        await ready.get()
        assert await router.disconnect(Filter("#"), 4001) == 2
        assert router.topics.statistics().subscribers == 0
        await asyncio.gather(one.wait_closed(), other.wait_closed())
    assert closed == [4001, 4001]


@pytest.mark.parametrize("target", ["", "#", "a/+", None, 1, b"a"], ids=repr)
async def test_only_names_filters_and_functions_can_be_disconnected(
    target: Any,
) -> None:
    with pytest.raises(InvalidTopic):
        await Router().disconnect(target)
