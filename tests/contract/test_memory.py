"""The broker of one process: plain calls, and memory that does not grow for ever."""

from __future__ import annotations

import pytest

from websockets_routes import BrokerUnavailable
from websockets_routes.brokers import (
    Envelope,
    HistoryPolicy,
    MemoryBroker,
    MemoryHub,
    Position,
)
from websockets_routes.contract.node import message


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def started(hub: MemoryHub, received: list[Envelope] | None = None) -> MemoryBroker:
    broker = MemoryBroker(hub)
    broker.start_nowait((received if received is not None else []).append)
    return broker


def test_plain_calls_need_no_event_loop() -> None:
    broker = started(MemoryHub())
    policy = HistoryPolicy(2)
    first = broker.publish_nowait(message("a"), history=policy)
    page = broker.history_nowait("a", policy)
    assert (first.offset, first.epoch) == (1, page.epoch)
    with pytest.raises(BrokerUnavailable, match="start it first"):
        MemoryBroker().publish_nowait(message("a"))


async def test_a_node_that_closes_while_it_receives_is_left_in_peace() -> None:
    hub = MemoryHub()
    nodes = [started(hub) for _ in range(2)]

    def leave(envelope: Envelope) -> None:
        hub.nodes.clear()

    nodes[0].start_nowait(leave)
    for node in nodes:
        await node.subscribe("a")
    nodes[1].publish_nowait(message("a"))
    assert hub.nodes == []


def test_topics_that_are_long_over_are_forgotten_with_their_epoch() -> None:
    clock = Clock()
    hub = MemoryHub(clock=clock)
    broker = started(hub)
    policy = HistoryPolicy(10, ttl=60)
    for number in range(100):
        broker.publish_nowait(message(f"old/{number}"), history=policy)
    epoch = broker.history_nowait("old/0", policy).epoch
    clock.now += 86_000
    page = broker.history_nowait("old/0", policy, since=Position(epoch, 1))
    assert (page.messages, page.recovered) == ((), True)
    clock.now += 86_461
    for number in range(100):
        broker.publish_nowait(message(f"new/{number}"), history=policy)
    assert len(hub) == 100
    page = broker.history_nowait("old/0", policy, since=Position(epoch, 1))
    assert not page.recovered
    assert page.epoch != epoch


def test_topics_beyond_the_greatest_number_are_forgotten() -> None:
    hub = MemoryHub(max_topics=10)
    broker = started(hub)
    policy = HistoryPolicy(10)
    for number in range(30):
        broker.publish_nowait(message(f"room/{number}"), history=policy)
        broker.history_nowait("room/0", policy)
    assert len(hub) == 10
    assert len(broker.history_nowait("room/0", policy).messages) == 1
    assert broker.history_nowait("room/1", policy).messages == ()


def test_what_is_kept_of_a_topic_is_bounded_in_bytes() -> None:
    broker = started(MemoryHub(max_bytes=100))
    policy = HistoryPolicy(1000)
    for _ in range(20):
        broker.publish_nowait(message("a", b"x" * 30), history=policy)
    assert len(broker.history_nowait("a", policy).messages) == 3
