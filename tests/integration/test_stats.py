"""Numbers: what a router tells of itself, as a snapshot and for Prometheus."""

from __future__ import annotations

import asyncio
import importlib.util
from typing import Any

import pytest
import websockets.asyncio.server
from prometheus_client import CollectorRegistry, Counter
from prometheus_client.parser import text_string_to_metric_families
from websockets.exceptions import ConnectionClosed, InvalidStatus

from tests.integration.servers import connecting, serving, until
from tests.integration.test_topics import Hall, errors
from websockets_routes import EndpointError, Protocol, Router, RouteStats, Topics
from websockets_routes.brokers import MemoryBroker, State


async def read(url: str, accept: str = "") -> tuple[str, str]:
    """Ask for a path; return the type of the answer, and its text."""
    address, _, path = url.removeprefix("ws://").partition("/")
    host, _, port = address.partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    head = f"GET /{path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n"
    head += f"Accept: {accept}\r\n" if accept else ""
    writer.write(f"{head}\r\n".encode())
    answer = (await reader.read()).decode()
    writer.close()
    await writer.wait_closed()
    fields, _, body = answer.partition("\r\n\r\n")
    assert fields.startswith("HTTP/1.1 200")
    kind = fields.lower().partition("content-type: ")[2].partition("\r\n")[0]
    return kind, body


def values(text: str) -> dict[str, float]:
    return {
        sample.name + "".join(sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


async def refuse(url: str) -> None:
    with pytest.raises(InvalidStatus):
        await connecting(url)


async def test_a_snapshot_counts_what_there_is_and_what_was() -> None:
    hall = Hall()
    router = hall.router
    before = router.stats()
    assert before[:3] == (0, 0, {})
    assert before.routes == {}
    assert (before.stalls, before.queue_bytes, before.broker) == (0, 0, None)

    @router.before_handshake
    def look(ws: Any, path: Any) -> Any:
        return (403, {}, b"") if path.query else None

    inner = Router()
    router.mount("/inner", inner)
    async with hall.open():
        ws, client = await hall.join()
        await hall.join()
        await ws.subscribe("room/a")
        router.publish("room/a", "x")
        for path in ("/nowhere", "/hold?refused", "/elsewhere"):
            await refuse(hall.url + path)
        await until(lambda: router.stats().connections == 2)
        stats = inner.stats()
        assert stats.connections == 2
        assert stats.accepted == 2
        assert stats.refused == {403: 1, 404: 2}
        assert stats.routes == {
            "": RouteStats(0, {404: 2}),
            "/hold": RouteStats(2, {403: 1}),
        }
        assert stats.topics[:10] == router.topics.statistics()[:10]
        assert (stats.topics.subscribers, stats.topics.queued) == (1, 1)
        assert stats.broker is None
        # What was taken stays as it is.
        with pytest.raises(TypeError):
            stats.refused[404] = 7  # type: ignore[index]
        with pytest.raises(TypeError):
            stats.routes["/hold"] = stats.routes[""]  # type: ignore[index]
        await client.close()
        await until(lambda: router.stats().connections == 1)
        await refuse(f"{hall.url}/nowhere")
        assert stats.refused[404] == 2
    assert router.stats().connections == 0


async def test_handshakes_count_that_find_no_room() -> None:
    hall = Hall()
    async with hall.open(max_connections=1):
        await hall.join()
        await refuse(f"{hall.url}/hold")
        assert hall.router.stats().refused == {503: 1}
        assert hall.router.stats().routes[""].refused == {503: 1}


async def test_bytes_count_that_wait_for_who_reads_slowly() -> None:
    hall = Hall()
    async with hall.open(max_backlog=2**22, compression=None):
        ws, client = await hall.join(max_queue=1)
        await ws.subscribe("room/a")
        assert hall.router.stats().queue_bytes == 0
        ws.transport.pause_reading()
        client.transport.pause_reading()
        sent = 0
        while ws.outbox.backlog is None:
            hall.router.publish("room/a", b"x" * 65_536)
            sent += 1
            await asyncio.sleep(0)
        hall.router.publish("room/a", b"x" * 65_536)
        assert 65_536 < hall.router.stats().queue_bytes <= (sent + 1) * 65_600
        client.transport.resume_reading()
        ws.transport.resume_reading()
        for _ in range(sent + 1):
            await client.recv()
        await until(lambda: hall.router.stats().queue_bytes == 0)


async def test_connections_count_whose_peer_takes_nothing() -> None:
    hall = Hall()
    async with hall.open(stall_timeout=0.2, max_backlog=2**30, compression=None):
        ws, client = await hall.join(max_queue=1)
        await ws.subscribe("room/a")
        client.transport.pause_reading()
        while not ws.paused:
            hall.router.publish("room/a", b"x" * 65_536)
            await asyncio.sleep(0)
        await ws.wait_closed()
        client.transport.abort()
        assert hall.router.stats().stalls == 1


async def test_a_stalled_peer_of_no_router_counts_nowhere() -> None:
    router = Router()
    stalled: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    @router.route("/")
    async def flood(ws: Protocol) -> None:
        ws.stall_timeout = 0.2
        try:
            while True:
                await ws.send(b"x" * 65_536)
        except ConnectionClosed:
            stalled.set_result(None)

    server = websockets.asyncio.server.serve(
        router.handle, "127.0.0.1", 0, create_connection=Protocol, compression=None
    )
    async with serving(server) as url, connecting(f"{url}/", max_queue=1) as client:
        client.transport.pause_reading()
        await stalled
        client.transport.abort()
    assert router.stats().stalls == 0


async def test_latencies_are_measured_from_the_first_snapshot_on() -> None:
    hall = Hall(Router(topics=Topics(MemoryBroker())))
    async with hall.open():
        ws, client = await hall.join()
        await ws.subscribe("room/a")
        await hall.router.publish("room/a", "one")
        await client.recv()
        topics = hall.router.stats().topics
        assert (topics.delivery, topics.confirmation) == (None, None)
        for _ in range(3):
            await hall.router.publish("room/a", "two")
            await client.recv()
        hall.router.publish("nobody/hears", "three")
        topics = hall.router.stats().topics
        assert topics.delivery is not None
        assert topics.confirmation is not None
        assert (topics.delivery.count, topics.confirmation.count) == (3, 4)
        assert 0 < topics.delivery.p50 <= topics.delivery.p99 <= topics.delivery.highest


async def test_the_state_of_the_broker_is_told() -> None:
    router = Router(topics=Topics(MemoryBroker()))
    assert router.stats().broker is State.NEW
    async with serving(router.serve("127.0.0.1", 0)):
        assert router.stats().broker is State.CONNECTED
    assert router.stats().broker is State.CLOSED


async def test_prometheus_reads_the_numbers() -> None:
    hall = Hall(Router(topics=Topics(MemoryBroker())))
    hall.router.metrics(name="metrics")

    @hall.router.before_handshake
    def look(ws: Any, path: Any) -> Any:
        return (403, {}, b"") if path.query == "refused" else None

    assert hall.router.url_for("metrics") == "/metrics"
    async with hall.open():
        ws, _ = await hall.join()
        await ws.subscribe("room/a")
        hall.router.stats()  # from now on it measures
        await hall.router.publish("room/a", "x")
        await refuse(f"{hall.url}/nowhere")
        await refuse(f"{hall.url}/hold?refused")
        kind, text = await read(f"{hall.url}/metrics")
        assert kind.startswith("text/plain; version=")
        found = values(text)
        await until(lambda: hall.router.stats().connections == 1)
        kind, text = await read(f"{hall.url}/metrics", "application/openmetrics-text")
        assert kind.startswith("application/openmetrics-text")
        assert text.endswith("# EOF\n")
    prefix = "websockets_routes_"
    latencies = [
        f"{prefix}latency_seconds{of}{quantile}"
        for of in ("delivery", "confirmation")
        for quantile in ("0.5", "0.99", "1")
    ]
    assert {key.removeprefix(prefix): value for key, value in found.items()} == {
        "connections": found[f"{prefix}connections"],
        "handshakes_accepted_total/hold": 1,
        "handshakes_accepted_total": 0,
        "handshakes_refused_total404": 1,
        "handshakes_refused_total/hold403": 1,
        "stalls_total": 0,
        "topics": 1,
        "subscribers": 1,
        "subscriptions": 1,
        "messages_published_total": 1,
        "messages_deliveries_total": 1,
        "messages_conflated_total": 0,
        "messages_dropped_total": 0,
        "messages_displaced_total": 0,
        "messages_closed_total": 0,
        "messages_lost_total": 0,
        "queue_bytes": 0,
        "broker_statenew": 0,
        "broker_stateconnected": 1,
        "broker_statereconnecting": 0,
        "broker_stateclosed": 0,
    } | {key.removeprefix(prefix): found[key] for key in latencies}


@pytest.mark.parametrize(
    "accept",
    [
        "application/openmetrics-text;version=x",
        "text/plain;version=1.x.0",
        "text/plain;version=1." + "9" * 5000,
    ],
    ids=["word", "part", "digits"],
)
async def test_no_accept_header_is_an_error(
    accept: str, caplog: pytest.LogCaptureFixture
) -> None:
    router = Router()
    router.metrics()
    async with serving(router.serve("127.0.0.1", 0)) as url:
        assert "stalls_total" in (await read(f"{url}/metrics", accept))[1]
    assert errors(caplog) == []


async def test_metrics_of_ones_own_can_be_added() -> None:
    registry = CollectorRegistry()
    Counter("cups", "Cups of tea.", registry=registry).inc(3)
    router = Router()
    router.metrics("/numbers", registry=registry)
    async with serving(router.serve("127.0.0.1", 0)) as url:
        found = values((await read(f"{url}/numbers"))[1])
    assert found["cups_total"] == 3
    assert found["websockets_routes_connections"] == 0
    assert "websockets_routes_broker_stateconnected" not in found


def test_metrics_say_what_they_need(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(EndpointError, match=r"websockets-routes\[metrics\]"):
        Router().metrics()
