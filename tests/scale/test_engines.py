"""Topics over real engines: many nodes are as one, also when the engine goes away."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from websockets import Headers
from websockets.asyncio.client import ClientConnection

from tests.contract.engines import Engine
from tests.integration.servers import until
from tests.integration.test_topics import errors, heard
from websockets_routes import (
    BrokerUnavailable,
    Filter,
    MustAwait,
    Position,
    Router,
    Topics,
    WrongThread,
)
from websockets_routes.brokers import Broker
from websockets_routes.http import Request
from websockets_routes.testing import dispatch

from .nodes import broker_of, nodes


async def read(client: ClientConnection, number: int) -> list[str | bytes]:
    return [await client.recv() for _ in range(number)]


@pytest.fixture(params=["valkey", "nats"])
def engine(request: pytest.FixtureRequest) -> Engine:
    engine: Engine = request.getfixturevalue(request.param)
    return engine


@pytest.fixture(params=["mortal_valkey", "mortal_nats"])
def mortal(request: pytest.FixtureRequest) -> Engine:
    engine: Engine = request.getfixturevalue(request.param)
    return engine


async def test_all_nodes_hear_each_other_and_leave_out_who_published(
    engine: Engine, prefix: str
) -> None:
    async with nodes(3, lambda: broker_of(engine, prefix)) as halls:
        pairs = [await hall.join() for hall in halls]
        ann, ann_client = await halls[1].join("/hold?key=ann")
        again, again_client = await halls[2].join("/hold?key=ann")
        for ws, _ in [*pairs, (ann, 0), (again, 0)]:
            for topic in ("plain", "room/a", Filter("news/+")):
                assert (await ws.subscribe(topic)).new
        receipt = ann.publish("room/a", "1")
        assert repr(receipt).startswith("Receipt(matched=None")
        assert (await receipt).offset == 1
        await ann.publish("plain", b"2")
        await halls[0].router.publish("news/x", "3", compress=False)
        for _, client in pairs:
            assert sorted(map(str, await read(client, 3))) == ["1", "3", "b'2'"]
        for client in (ann_client, again_client):
            assert await read(client, 1) == ["3"]
        await until(lambda: receipt.matched is not None)
        assert (receipt.matched, receipt.queued) == (1, 1)


async def test_a_client_resumes_on_another_node(engine: Engine, prefix: str) -> None:
    async with nodes(2, lambda: broker_of(engine, prefix)) as halls:
        one, two = (hall.router for hall in halls)
        ws, client = await halls[0].join("/hold?key=ann")
        subscribed = await ws.subscribe("room/a")
        await one.publish("room/a", "1")
        assert await read(client, 1) == ["1"]
        await client.close()
        await ws.wait_closed()
        receipt = await two.publish("room/a", "2")
        ws, client = await halls[1].join("/hold?key=ann")
        await ws.publish("room/a", "own")
        publishing = [one.publish("room/a", str(number)) for number in range(3, 40)]
        found = await ws.subscribe(
            "room/a",
            since=Position(receipt.epoch or "", 1),
            reply=lambda subscribed: f"at {subscribed.offset}",
        )
        assert found.recovered
        assert found.epoch == receipt.epoch
        assert subscribed.offset == 0
        publishing += [two.publish("room/a", str(number)) for number in range(40, 60)]
        for each in publishing:
            await each
        heard = await read(client, 59)
        assert heard[0] == f"at {found.offset}"
        assert heard[1] == "2"
        assert sorted(map(int, heard[2:])) == list(range(3, 60))
        kept = await two.history("room/a", limit=3)
        assert [each.data for each in kept] == ["1", "2", "own"]
        assert [each.offset for each in kept] == [1, 2, 3]
        # To where nobody is.
        lost = await (await halls[0].join())[0].subscribe(
            "room/a", since=Position("other", 1)
        )
        assert not lost.recovered


async def test_whatever_a_client_asks_for_does_no_harm(
    engine: Engine, prefix: str
) -> None:
    async with nodes(1, lambda: broker_of(engine, prefix)) as [hall]:
        pairs = [await hall.join() for _ in range(6)]
        for message in ("1", "2"):
            await hall.router.publish("room/a", message)
        *strange, (one, client), (two, other) = pairs
        epochs = ("\ud800", "\0", "é\r\n", "x" * 100_000)
        for (ws, _), epoch in zip(strange, epochs, strict=True):
            position = Position(epoch, 1)
            # In flight on the same connection: what one client asks for is its own.
            receipt = hall.router.publish("plain", "x")
            assert not (await ws.subscribe("room/a", since=position)).recovered
            assert await hall.router.history("room/a", since=position) == []
            await receipt
        assert (await one.subscribe("room/a", last=10**30)).count == 2
        assert (await two.subscribe("room/a", last=10**5000)).count == 2
        assert await heard(one, client) == await heard(two, other) == ["1", "2"]
        for reverse in (True, False):
            for limit in (2**64, 10**5000):
                page = await hall.router.history("room/a", limit=limit, reverse=reverse)
                assert [each.data for each in page] == ["1", "2"][:: 1 - 2 * reverse]


async def test_a_key_that_no_engine_takes_harms_no_other_message(
    engine: Engine, prefix: str
) -> None:
    async with nodes(1, lambda: broker_of(engine, prefix)) as [hall]:
        for topic in ("room/a", "plain"):
            before = hall.router.publish(topic, "before")
            with pytest.raises(ValueError, match="surrogates not allowed"):
                hall.router.publish(topic, "x", idempotency_key="\ud800")
            await hall.router.publish(topic, "after")
            await before


async def test_what_an_engine_refuses_is_answered_and_not_logged(
    nats: Engine, prefix: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A body may be as large as all that NATS takes, its header included."""
    router = Router(topics=Topics(broker_of(nats, prefix)))
    router.publish_endpoint(token="token")
    async with router.topics:
        headers = Headers(Authorization="Bearer token")
        request = Request("POST", "/publish/plain", headers, b"x" * 2**20)
        answer = await dispatch(router, request)
        assert answer.status == 503
        assert "larger than its max_payload" in answer.text
    assert errors(caplog) == []


async def test_nothing_is_missed_or_doubled_while_clients_join(
    engine: Engine, prefix: str
) -> None:
    async with nodes(2, lambda: broker_of(engine, prefix)) as halls:
        first = await halls[0].router.publish("room/a", "0")
        start = Position(first.epoch or "", 1)

        async def publish() -> None:
            for number in range(1, 301):
                halls[0].router.publish("room/a", str(number))
                if number % 10 == 0:
                    await asyncio.sleep(0)

        pairs = [await halls[number % 2].join() for number in range(8)]
        publishing = asyncio.ensure_future(publish())
        subscribing = [ws.subscribe("room/a", since=start) for ws, _ in pairs]
        assert all(each.recovered for each in await asyncio.gather(*subscribing))
        await publishing
        for _, client in pairs:
            assert await read(client, 300) == [str(each) for each in range(1, 301)]
        await halls[1].router.publish("room/a", "end")
        for _, client in pairs:
            assert await read(client, 1) == ["end"]


async def test_interest_begins_and_ends_with_subscribers(
    engine: Engine, prefix: str
) -> None:
    async with nodes(1, lambda: broker_of(engine, prefix)) as [hall]:
        relay: Any = hall.router.topics._relay
        pairs = [await hall.join() for _ in range(2)]
        ws, other = pairs[0][0], pairs[1][0]
        with pytest.raises(MustAwait, match="broker"):
            ws.subscribe_nowait("plain")
        await asyncio.gather(*(each.subscribe("plain") for each in (ws, other)))
        third, _ = await hall.join()
        assert third.subscribe_nowait("plain").new
        with pytest.raises(MustAwait):
            third.subscribe_nowait("room/a")
        await ws.subscribe("room/a")
        for each in (ws, other, third):
            each.unsubscribe("plain")
        assert set(relay._interests) == {"room/a"}
        # Again at once.
        await ws.subscribe("plain")
        await hall.router.publish("plain", "x")
        assert await read(pairs[0][1], 1) == ["x"]
        await pairs[0][1].close()
        await until(lambda: not relay._interests)
        assert not relay._tracks
        receipt = await hall.router.publish("plain", "nobody")
        assert receipt.matched == 0


async def test_an_engine_that_is_not_there_lets_nothing_listen(
    mortal: Engine, prefix: str
) -> None:
    mortal.kill()
    with pytest.raises(BrokerUnavailable):
        async with nodes(1, lambda: broker_of(mortal, prefix)):
            raise AssertionError("it listens")


async def test_what_was_missed_while_the_engine_was_away_is_delivered(
    mortal: Engine, prefix: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with nodes(2, lambda: broker_of(mortal, prefix)) as halls:
        gaps: list[Any] = []
        halls[0].router.topics.on_gap(gaps.append)
        pairs = [await hall.join() for hall in halls]
        for ws, _ in pairs:
            for topic in ("room/a", "plain"):
                await ws.subscribe(topic)
        published = 0

        async def publish(number: int) -> None:
            nonlocal published
            for _ in range(number):
                published += 1
                # With a key a retry doubles nothing.
                key = str(published)
                while True:
                    try:
                        await halls[1].router.publish(
                            "room/a", key, idempotency_key=key
                        )
                    except BrokerUnavailable:
                        await asyncio.sleep(0.01)
                    else:
                        break

        await publish(20)
        publishing = asyncio.ensure_future(publish(40))
        mortal.kill()
        halls[1].router.publish("plain", "lost in silence?")
        await asyncio.to_thread(mortal.start)
        await publishing
        await publish(20)
        for _, client in pairs:
            expected = [str(number) for number in range(1, 81)]
            assert await read(client, 80) == expected
        await until(lambda: "plain" in gaps)
        assert gaps == ["plain"]
        assert any("'plain' was not published" in each for each in caplog.messages)
        await halls[0].router.publish("plain", "end")
        assert await read(pairs[0][1], 1) == ["end"]


async def test_what_an_engine_has_forgotten_is_told(
    mortal_valkey: Engine, prefix: str
) -> None:
    def make() -> Broker:
        return broker_of(mortal_valkey, prefix, durable=False)

    async with nodes(1, make) as [hall]:
        gaps: list[Any] = []
        hall.router.topics.on_gap(gaps.append)
        ws, client = await hall.join()
        subscribed = await ws.subscribe("room/a")
        await hall.router.publish("room/a", "1")
        assert await read(client, 1) == ["1"]
        mortal_valkey.kill()
        await asyncio.to_thread(mortal_valkey.start)
        await until(lambda: gaps)
        assert gaps == ["room/a"]
        receipt = await hall.router.publish("room/a", "2")
        assert receipt.epoch != subscribed.epoch
        assert await read(client, 1) == ["2"]


async def test_the_farewell_of_a_server_is_the_last_that_clients_hear(
    engine: Engine, prefix: str
) -> None:
    for _ in range(5):
        async with nodes(2, lambda: broker_of(engine, prefix)) as halls:
            router = halls[0].router

            @router.on_shutdown
            async def say_goodbye(router: Router = router) -> None:
                router.publish("room/a", "goodbye")

            ws, client = await halls[0].join()
            await ws.subscribe("room/a")
            [server] = router._servers._servers
            server.close()
            assert [message async for message in client] == ["goodbye"]
            assert client.close_code == 1001


async def test_what_a_script_publishes_last_is_published(
    engine: Engine, prefix: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with nodes(1, lambda: broker_of(engine, prefix)) as [hall]:
        ws, client = await hall.join()
        await ws.subscribe("plain")
        for number in range(10):
            async with Topics(broker_of(engine, prefix)) as topics:
                topics.publish("plain", str(number))
        assert await heard(ws, client) == [str(number) for number in range(10)]
    assert errors(caplog) == []


async def test_a_script_without_a_server_publishes_and_reads(
    engine: Engine, prefix: str
) -> None:
    url: str = engine.url
    topics = Topics(url)
    topics.topic("script/{name}", history=10)
    name = f"script/{prefix}"
    for number in (1, 2):
        # What was closed begins again.
        async with topics:
            await topics.publish(name, str(number))
            assert len(await topics.history(name)) == number


# Two event loops, the first of which ends and leaves everything open.
ABANDONED = """
import asyncio, os, sys
from websockets.asyncio.client import connect
from websockets_routes import Router, Topics

router = Router(topics=Topics(sys.argv[1]))
router.topic("room/{name}", presence=True)

@router.route("/", subscribe="plain")
async def handler(ws):
    await ws.subscribe("room/a", as_="me")
    await ws.send("ready")
    await ws.wait_closed()

async def main():
    server = await router.serve("127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    client = await connect(f"ws://127.0.0.1:{port}/", proxy=None)
    assert await client.recv() == "ready"
    await router.publish("plain", "x")
    assert await client.recv() == "x"
    print(router.topics.counts(), await router.presence("room/a"), flush=True)
    return server, client

left = []
for _ in range(2):
    loop = asyncio.new_event_loop()
    left.append(loop.run_until_complete(main()))
    loop.close()
os._exit(0)  # without a word about what was left open
"""


def test_topics_begin_anew_where_an_event_loop_ended_before_them(
    engine: Engine,
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", ABANDONED, engine.url],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=20,
    )
    assert done.returncode == 0, done.stderr
    expected = "{'plain': 1, 'room/a': 1} {'me': [{}]}\n"
    assert done.stdout == expected * 2


async def test_topics_are_served_on_one_event_loop(engine: Engine) -> None:
    async with Topics(engine.url) as topics:
        with pytest.raises(WrongThread, match="another event loop"):
            await asyncio.to_thread(asyncio.run, topics.start())
