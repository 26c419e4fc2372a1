"""Topics over loopback, by every way in: who hears what, and who never does."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from websockets_routes import (
    Filter,
    NotServing,
    OpCode,
    Protocol,
    RoutedPath,
    Router,
    Subscribed,
    SubscriptionDenied,
    Topic,
)

from .servers import WAYS_IN, WayIn, answer, connecting, end, serving

END = "the end"


class Hall:
    """A router whose connections stay open: a test holds both of their ends.

    Args:
        router: A router to add ``/hold`` to; a new one by default.
    """

    def __init__(self, router: Router | None = None) -> None:
        self.router = Router() if router is None else router
        self.router.add_route("/hold", self.hold)
        self.url = ""
        self._arrivals: asyncio.Queue[Any] = asyncio.Queue()
        self._clients = AsyncExitStack()

    async def hold(self, ws: Any) -> None:
        """Handle a connection: hand it over, and wait until it is closed."""
        await self._arrivals.put(ws)
        await ws.wait_closed()

    @asynccontextmanager
    async def open(
        self, way: WayIn = WAYS_IN["serve"], **kwargs: Any
    ) -> AsyncIterator[str]:
        async with (
            serving(way.serve(self.router, **kwargs)) as self.url,
            self._clients,
        ):
            yield self.url

    async def join(
        self, path: str = "/hold", **kwargs: Any
    ) -> tuple[Any, ClientConnection]:
        """Connect; return the server's end and the client's."""
        client = await self._clients.enter_async_context(
            connecting(self.url + path, **kwargs)
        )
        return await self.arrival(), client

    async def arrival(self) -> Any:
        """Return the server's end of the next connection."""
        return await self._arrivals.get()


async def heard(ws: Any, client: ClientConnection) -> list[str | bytes]:
    """Return everything that a client received so far and did not read."""
    await ws.send(END)
    messages = []
    while (message := await client.recv()) != END:
        messages.append(message)
    return messages


def errors(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [
        record.getMessage()
        for record in caplog.records
        if record.levelno >= logging.ERROR
    ]


def ways(**wanted: bool) -> pytest.MarkDecorator:
    chosen = {
        name: way
        for name, way in WAYS_IN.items()
        if all(getattr(way, key) is value for key, value in wanted.items())
    }
    return pytest.mark.parametrize("way", chosen.values(), ids=chosen.keys())


each_way = ways()
each_bound_way = ways(refuses=True, routed=True)


# By every way in


@each_way
async def test_all_subscribers_hear_all_messages_in_order(way: WayIn) -> None:
    hall = Hall()
    router = hall.router
    async with hall.open(way):
        pairs = [await hall.join() for _ in range(3)]
        for ws, _ in pairs:
            assert await router.subscribe(ws, "room/7") == Subscribed("room/7", True)
        assert router.num_subscribers("room/7") == 3
        receipts = [
            router.publish("room/7", "é"),
            router.publish("room/7", b"\xff"),
            router.publish("room/7", bytearray(b"a"), OpCode.TEXT),
            router.publish("room/7", memoryview(b"b")),
            router.publish("room/7", "c", OpCode.BINARY),
            router.publish("room/7", ""),
            router.publish_json("room/7", {"a": [1]}),
            router.publish_json("room/7", 1, OpCode.BINARY),
            router.publish("room/8", "elsewhere"),
            router.publish("room", "above"),
            router.publish("room/7/", "below"),
        ]
        await asyncio.sleep(0)
        receipts.append(router.publish("room/7", "next turn"))
        for ws, client in pairs:
            messages = await heard(ws, client)
            assert messages[:6] == ["é", b"\xff", "a", b"b", b"c", ""]
            assert messages[6] in ('{"a": [1]}', '{"a":[1]}')
            assert messages[7:] == [b"1", "next turn"]
    assert [receipt.matched for receipt in receipts] == [3] * 8 + [0] * 3 + [3]
    assert all(receipt.queued == receipt.matched for receipt in receipts)


@each_way
async def test_the_excluded_connection_hears_nothing(way: WayIn) -> None:
    hall = Hall()
    router = hall.router
    async with hall.open(way):
        (one, one_client), (other, other_client) = await hall.join(), await hall.join()
        for ws in (one, other):
            await router.subscribe(ws, "a")
            await router.subscribe(ws, Filter("#"))
        receipt = router.publish("a", "not for one", exclude=one)
        assert (receipt.matched, receipt.queued) == (1, 1)
        router.publish_json("a", "nor this", exclude=one)
        assert await heard(one, one_client) == []
        assert await heard(other, other_client) == ["not for one", '"nor this"']


@each_way
async def test_an_unsubscribed_connection_hears_no_more(way: WayIn) -> None:
    hall = Hall()
    router = hall.router
    async with hall.open(way):
        ws, client = await hall.join()
        await router.subscribe(ws, "a")
        await router.subscribe(ws, Filter("+"))
        router.publish("a", "both")
        assert router.unsubscribe(ws, "a") is True
        assert router.unsubscribe(ws, "a") is False
        router.publish("a", "by the filter")
        assert router.topics.unsubscribe(ws, Filter("+")) is True
        assert router.unsubscribe(ws, Filter("#")) is False
        assert router.publish("a", "nobody").matched == 0
        assert await heard(ws, client) == ["both", "by the filter"]


@each_way
async def test_overlapping_filters_deliver_once(way: WayIn) -> None:
    hall = Hall()
    router = hall.router
    async with hall.open(way):
        ws, client = await hall.join()
        for topic in ("a/b", Filter("a/+"), Filter("a/#"), Filter("#"), Filter("a/b")):
            assert (await router.subscribe(ws, topic)).new
        assert router.publish("a/b", "once").matched == 1
        assert router.publish("a", "parent").matched == 1
        assert router.publish("$a/b", "hidden").matched == 0
        assert await heard(ws, client) == ["once", "parent"]


@each_way
@pytest.mark.parametrize("how", ["close", "abort", "server"])
async def test_a_closed_connection_leaves_all_its_topics(way: WayIn, how: str) -> None:
    hall = Hall()
    router = hall.router
    left: asyncio.Queue[Any] = asyncio.Queue()

    @router.topics.on_subscription
    def note(ws: Any, topic: object, new_count: int, old_count: int) -> None:
        if new_count < old_count:
            left.put_nowait((ws, topic, new_count, old_count))

    async with hall.open(way):
        (ws, client), (other, _) = await hall.join(), await hall.join()
        topics: list[str | Filter] = ["a", Filter("b/#"), "c"]
        for topic in topics:
            await router.subscribe(ws, topic)
        await router.subscribe(other, "a")
        if how == "close":
            await client.close()
        elif how == "abort":
            client.transport.abort()
        else:
            await ws.close()
        events = [await left.get() for _ in range(3)]
        assert events == [
            (ws, "a", 1, 2),
            (ws, Filter("b/#"), 0, 1),
            (ws, "c", 0, 1),
        ]
        assert router.topics.topics_of(ws) == ()
        assert router.num_subscribers("a") == 1
        assert router.num_subscribers(Filter("b/#")) == 0
        assert router.topics.statistics()[:3] == (1, 1, 1)
        assert router.publish("c", "nobody").matched == 0
        with pytest.raises(ConnectionClosed):
            await router.subscribe(ws, "c")
        assert router.unsubscribe(ws, "a") is False
    assert router.topics.statistics()[:3] == (0, 0, 0)


@each_way
async def test_a_refusal_that_nobody_handles_closes_with_1008(
    way: WayIn, caplog: pytest.LogCaptureFixture
) -> None:
    router = Router()
    router.topic("secret/{name}", authorize=lambda ws, topic, params: False)

    @router.route("/")
    async def handler(ws: Any) -> None:
        await router.subscribe(ws, "secret/x")

    async with serving(way.serve(router)) as url:
        code, reason = await answer(url)
    assert code == 1008
    assert "secret/x" in reason
    assert errors(caplog) == []
    assert router.topics.statistics()[:3] == (0, 0, 0)


@each_way
async def test_a_refusal_can_be_handled(way: WayIn) -> None:
    router = Router()
    asked = []

    async def authorize(ws: Any, topic: object, params: object) -> bool:
        asked.append((topic, params))
        return False

    router.topic("secret/{name}", authorize=authorize)

    @router.route("/")
    async def handler(ws: Any) -> None:
        with pytest.raises(SubscriptionDenied) as caught:
            await router.subscribe(ws, "secret/a%2Fb")
        await ws.send(str(caught.value.topic))

    async with serving(way.serve(router)) as url, connecting(url) as client:
        assert await client.recv() == "secret/a%2Fb"
    assert asked == [("secret/a%2Fb", {"name": "a/b"})]


@each_way
async def test_the_server_disconnects_subscribers(way: WayIn) -> None:
    hall = Hall()
    router = hall.router
    async with hall.open(way):
        pairs = [await hall.join() for _ in range(5)]
        topics: list[str | Filter] = ["a/1", "a/2", "b/1", Filter("a/+"), "c"]
        for (ws, _), topic in zip(pairs, topics, strict=True):
            await router.subscribe(ws, topic)
        clients = [client for _, client in pairs]
        router.publish("a/1", "last words")
        assert await router.disconnect("a/1", 4001, "moderated") == 1
        assert await clients[0].recv() == "last words"
        assert await end(clients[0]) == (4001, "moderated")
        assert await router.disconnect(Filter("a/+")) == 2
        assert await end(clients[1]) == (1008, "")
        assert await clients[3].recv() == "last words"
        assert await end(clients[3]) == (1008, "")
        assert await router.disconnect("a/1") == 0
        last = pairs[4][0]
        assert await router.disconnect(lambda ws: ws is last, 4002) == 1
        assert await end(clients[4]) == (4002, "")
        assert await heard(*pairs[2]) == []
        assert router.topics.statistics().subscribers == 1


@each_way
async def test_a_send_keeps_its_place_among_what_is_published(way: WayIn) -> None:
    hall = Hall()
    router = hall.router
    async with hall.open(way):
        ws, client = await hall.join()
        await router.subscribe(ws, "a")
        for number in range(0, 30, 3):
            router.publish("a", str(number))
            await ws.send(str(number + 1))
            router.publish("a", str(number + 2))
        assert await heard(ws, client) == [str(number) for number in range(30)]


# On connections of this package


@each_bound_way
async def test_a_connection_subscribes_and_publishes_by_itself(way: WayIn) -> None:
    hall = Hall()
    router = hall.router
    async with hall.open(way):
        (one, one_client), (other, other_client) = await hall.join(), await hall.join()
        assert one.topics == ()
        assert await one.subscribe("b") == Subscribed("b", True)
        assert one.subscribe_nowait(Filter("a/#")) == Subscribed(Filter("a/#"), True)
        assert one.subscribe_nowait(Filter("a/#")) == Subscribed(Filter("a/#"), False)
        assert await one.subscribe("a") == Subscribed("a", True)
        assert one.topics == ("b", Filter("a/#"), "a")
        assert one.unsubscribe("b") is True
        assert one.unsubscribe("b") is False
        assert one.topics == (Filter("a/#"), "a")
        await other.subscribe("a")
        assert one.publish("a", "from one").matched == 1
        assert other.publish_json("a", {}, OpCode.BINARY).matched == 1
        assert one.publish("a", b"t", OpCode.TEXT, compress=True).matched == 1
        assert router.publish("a", "to all").matched == 2
        assert await heard(one, one_client) == [b"{}", "to all"]
        assert await heard(other, other_client) == ["from one", "t", "to all"]
        await one_client.close()
        await one.wait_closed()
        assert one.topics == ()
        assert one.publish("a", "posthumous").queued == 1
        assert await heard(other, other_client) == ["posthumous"]


@ways(refuses=False, routed=True)
async def test_a_connection_that_is_bound_to_no_router_says_so(way: WayIn) -> None:
    hall = Hall()
    async with hall.open(way):
        ws, _ = await hall.join()
        with pytest.raises(NotServing, match="no router"):
            await ws.subscribe("a")
        with pytest.raises(NotServing, match="no router"):
            ws.publish("a", "b")


async def test_a_connection_subscribes_in_on_open_and_publishes_in_on_close() -> None:
    router = Router()
    opened: asyncio.Queue[Any] = asyncio.Queue()

    @router.route("/")
    class Member:
        async def on_open(self, ws: Protocol) -> None:
            await ws.subscribe("members")
            ws.publish("members", "joined")
            opened.put_nowait(ws)

        def on_text(self, ws: Protocol, text: str) -> None:
            ws.publish("members", text)

        def on_close(self, ws: Protocol, code: int, reason: str) -> None:
            receipt = ws.publish("members", f"left with {code}")
            assert (receipt.matched, receipt.queued) == (1, 1)

    async with serving(router.serve("127.0.0.1", 0)) as url, connecting(url) as one:
        await opened.get()
        async with connecting(url) as other:
            await opened.get()
            assert await one.recv() == "joined"
            await other.send("hello")
            assert await one.recv() == "hello"
            await other.close(4000)
        assert await one.recv() == "left with 4000"


# Subscribed from the moment it opens


@each_way
async def test_a_route_subscribes_before_its_handler_runs(way: WayIn) -> None:
    router = Router()
    hall = Hall(router)
    seen = []

    @router.route("/room/{name}", subscribe="room/{name}")
    async def room(ws: Any) -> None:
        seen.append(router.topics.topics_of(ws))
        await hall.hold(ws)

    async with hall.open(way):
        ws, client = await hall.join("/room/a%2Fb")
        assert seen == [("room/a%2Fb",)]
        assert router.publish("room/a%2Fb", "at once").queued == 1
        assert await heard(ws, client) == ["at once"]


async def test_what_is_published_as_soon_as_a_client_is_connected_is_heard() -> None:
    router = Router()
    router.route("/room/{name}", subscribe="room/{name}")(Hall(router).hold)
    async with (
        serving(router.serve("127.0.0.1", 0)) as url,
        connecting(f"{url}/room/7") as client,
    ):
        assert router.publish("room/7", "welcome").queued == 1
        assert await client.recv() == "welcome"


async def test_a_route_subscribes_to_several_topics_and_declared_ones() -> None:
    router = Router()
    hall = Hall(router)
    room = router.topic("room/{name}", authorize=lambda ws, topic, params: True)
    wanted: list[str | Topic] = [room, "users/{user}/news", "all"]
    router.route("/{user}/{name}", subscribe=wanted)(hall.hold)
    router.route("/{name}", subscribe=room)(hall.hold)
    async with hall.open():
        ws, _ = await hall.join("/eve/7")
        assert ws.topics == ("room/7", "users/eve/news", "all")
        ws, _ = await hall.join("/%2B")
        assert ws.topics == ("room/%2B",)


@each_way
async def test_a_route_whose_topic_is_denied_closes_with_1008(
    way: WayIn, caplog: pytest.LogCaptureFixture
) -> None:
    router = Router()
    asked = []

    async def authorize(ws: Any, topic: object, params: object) -> bool:
        asked.append((topic, params))
        return False

    router.topic("room/{name}", authorize=authorize)

    @router.route("/room/{name}", subscribe="room/{name}")
    async def handler(ws: Any) -> None:
        raise AssertionError("it was let in")

    async with serving(way.serve(router)) as url:
        assert (await answer(f"{url}/room/%23"))[0] == 1008
    assert asked == [("room/%23", {"name": "#"})]
    assert errors(caplog) == []


async def test_the_authorize_of_a_topic_is_asked_though_no_router_declared_it() -> None:
    # Refused when the route is declared, or asked later: never passed over.
    router = Router()
    topic = Topic("room/{name}", authorize=lambda ws, topic, params: False)
    try:
        router.route("/room/{name}", subscribe=topic)(Hall(router).hold)
    except ValueError:
        return
    async with serving(router.serve("127.0.0.1", 0)) as url:
        async with connecting(f"{url}/room/7") as client:
            assert router.num_subscribers("room/7") == 0
            await client.wait_closed()
        assert client.close_code == 1008


@each_way
async def test_a_name_that_is_too_long_closes_with_1008(
    way: WayIn, caplog: pytest.LogCaptureFixture
) -> None:
    router = Router()
    router.topics.max_length = 64
    router.topics.max_levels = 2

    @router.route("/room/{name}", subscribe="room/{name}")
    @router.route("/deep/{name}", subscribe="deep/{name}/down")
    async def handler(ws: Any) -> None:
        await ws.send("in")

    async with serving(way.serve(router)) as url:
        async with connecting(f"{url}/room/{'x' * 59}") as client:
            assert await client.recv() == "in"
        assert (await answer(f"{url}/room/{'x' * 60}"))[0] == 1008
        # 20 characters, 40 bytes in UTF-8; 40 are too many though their number is not.
        assert (await answer(f"{url}/room/{'%C3%A9' * 40}"))[0] == 1008
        assert (await answer(f"{url}/room/{'%23' * 30}"))[0] == 1008
        assert (await answer(f"{url}/deep/x"))[0] == 1008
    assert errors(caplog) == []


async def test_too_long_a_name_closes_with_1008_at_the_default_limits(
    caplog: pytest.LogCaptureFixture,
) -> None:
    router = Router()
    router.route("/room/{name}", subscribe="room/{name}")(Hall(router).hold)
    async with serving(router.serve("127.0.0.1", 0)) as url:
        code, reason = await answer(f"{url}/room/{'x' * 4000}")
    assert code == 1008
    assert len(reason.encode()) <= 123
    assert errors(caplog) == []


async def test_a_missing_optional_param_closes_with_1008_and_no_traceback(
    caplog: pytest.LogCaptureFixture,
) -> None:
    router = Router()
    hall = Hall(router)
    router.route("/feed/{name}{.format}", subscribe="feed/{name}/{format}")(hall.hold)
    async with hall.open() as url:
        ws, _ = await hall.join("/feed/news.json")
        assert ws.topics == ("feed/news/json",)
        assert (await answer(f"{url}/feed/news"))[0] == 1008
    assert errors(caplog) == []


# Paths that would be somebody else's topic

#: Each of them is another room.
PATHS = [
    "a",
    "b",
    "A",
    "%23",
    "%2B",
    "%2523",
    "a%2Fb",
    "a%252Fb",
    "a%25252Fb",
    "%2B%2F%23",
    "a%2F%23",
    "$SYS",
    "%2524SYS",
    "$SYS%2F%23",
    "%2E%2E%2Fa",
    "%25",
    "%20",
    "a%20",
    "%C3%A9",
    "e%CC%81",
    "%EF%BC%8Ba",
    "%25u0023",
]


@pytest.mark.parametrize("declared", [True, False], ids=["handler", "subscribe"])
@pytest.mark.parametrize("way", ["serve", "connection-class"])
async def test_no_path_hears_or_reaches_the_topic_of_another(
    way: str, declared: bool
) -> None:
    router = Router()
    hall = Hall(router)
    room = router.topic("room/{name}")
    ready: asyncio.Queue[str] = asyncio.Queue()

    async def chat(ws: Any, path: RoutedPath) -> None:
        topic = room(name=path.params["name"])
        if declared:
            await ws.subscribe(topic)
        ready.put_nowait(topic)
        async for message in ws:
            ws.publish(topic, message)
            await ws.send(END)

    router.route("/room/{name}", subscribe=() if declared else room)(chat)
    async with hall.open(WAYS_IN[way]) as url, AsyncExitStack() as stack:
        topics = []
        clients = {}
        for path in PATHS:
            client = connecting(f"{url}/room/{path}")
            clients[path] = await stack.enter_async_context(client)
            topics.append(await ready.get())
        assert len(set(topics)) == len(topics)
        spy, spy_client = await hall.join()
        own = {"room/a", "room/b", "room/A", "room/$SYS"} & set(topics)
        for name in ("room", "room/a/b", "room/", "$SYS", "$SYS/x", "a", "/room/a"):
            await spy.subscribe(name)
            assert name not in own
        for path in PATHS:
            await clients[path].send(path)
        for path in PATHS:
            assert await clients[path].recv() == END, path
        for name in spy.topics:
            assert router.publish(name, name, exclude=spy).matched == 0
        assert await heard(spy, spy_client) == []
        # Now that everyone has said something, nobody heard anything.
        for topic, path in zip(topics, PATHS, strict=True):
            assert router.publish(topic, path).matched == 1
            assert await clients[path].recv() == path


@pytest.mark.parametrize("way", ["serve", "process-request", "handle"])
@pytest.mark.parametrize("path", ["$SYS", "%24SYS", "%23", "%2B", "%2B%2F%23", "$"])
async def test_a_param_at_the_beginning_of_a_name_is_no_hidden_topic(
    way: str, path: str
) -> None:
    router = Router()
    hall = Hall(router)
    router.route("/user/{name}", subscribe="{name}")(hall.hold)
    async with hall.open(WAYS_IN[way]):
        ws, client = await hall.join(f"/user/{path}")
        [name] = router.topics.topics_of(ws)
        for other in ("$SYS", "$", "a", "a/b", "SYS"):
            assert router.publish(other, "not for you").matched == 0
        everything, everything_client = await hall.join()
        await router.subscribe(everything, Filter("#"))
        assert router.publish(str(name), "mine").matched == 2
        assert await heard(ws, client) == ["mine"]
        assert await heard(everything, everything_client) == ["mine"]


@pytest.mark.parametrize("path", ["%61", "a", "%61?x=%23"])
async def test_a_room_is_the_same_however_its_path_is_written(path: str) -> None:
    router = Router()
    hall = Hall(router)
    router.route("/room/{name}", subscribe="room/{name}")(hall.hold)
    async with hall.open():
        ws, client = await hall.join(f"/room/{path}")
        assert router.publish("room/a", "hello").matched == 1
        assert await heard(ws, client) == ["hello"]


async def test_a_path_with_a_raw_hash_names_one_room() -> None:
    router = Router()
    ready: asyncio.Queue[Any] = asyncio.Queue()

    @router.route("/room/{name}", subscribe="room/{name}")
    async def handler(ws: Any) -> None:
        ready.put_nowait(ws.topics)
        await ws.wait_closed()

    async with serving(router.serve("127.0.0.1", 0)) as url:
        host, _, port = url.removeprefix("ws://").partition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        for raw in ("#", "+", "a#", "+/#"):
            writer.write(
                f"GET /room/{raw} HTTP/1.1\r\nHost: localhost\r\n"
                "Upgrade: websocket\r\nConnection: Upgrade\r\n"
                "Sec-WebSocket-Version: 13\r\n"
                "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n".encode()
            )
            status = await reader.readline()
            if b" 101 " in status:
                [topic] = await ready.get()
                assert isinstance(topic, str)
                assert not {"+", "#"} & set(topic)
                assert router.publish("room/other", "not for you").matched == 0
            else:
                assert b" 40" in status
            writer.close()
            reader, writer = await asyncio.open_connection(host, int(port))
        writer.close()


@pytest.mark.parametrize("path", ["%00", "%0A", "a%0Db", "%FF", "%7F"])
async def test_a_path_that_no_topic_may_contain_is_refused(
    path: str, caplog: pytest.LogCaptureFixture
) -> None:
    router = Router()
    router.route("/room/{name}", subscribe="room/{name}")(Hall(router).hold)
    async with serving(router.serve("127.0.0.1", 0)) as url:
        assert (await answer(f"{url}/room/{path}"))[0] == 400
    assert errors(caplog) == []
