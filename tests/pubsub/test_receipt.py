"""Receipts: counts that add up, and an await that never waits."""

from __future__ import annotations

import asyncio

import pytest

from websockets_routes import Filter, Subscribed
from websockets_routes.pubsub import Receipt


def test_a_receipt_begins_with_all_that_matched_queued() -> None:
    receipt = Receipt(3)
    assert (receipt.matched, receipt.queued) == (3, 3)
    assert (receipt.dropped, receipt.closed) == (0, 0)
    assert (receipt.conflated, receipt.displaced) == (0, 0)
    assert Receipt().matched == Receipt().queued == 0


async def test_awaiting_a_receipt_gives_itself_as_often_as_wanted() -> None:
    receipt = Receipt(1)
    assert await receipt is receipt
    assert await receipt is receipt


async def test_awaiting_a_receipt_does_not_let_the_loop_turn() -> None:
    turned: list[bool] = []
    asyncio.get_running_loop().call_soon(turned.append, True)
    await Receipt()
    assert not turned


async def test_a_receipt_can_be_awaited_as_a_task() -> None:
    receipt = Receipt(2)
    assert await asyncio.wait_for(receipt, 1) is receipt


def test_a_receipt_shows_every_count() -> None:
    receipt = Receipt(6)
    receipt.queued, receipt.dropped, receipt.closed = 3, 2, 1
    receipt.conflated, receipt.displaced = 4, 5
    assert repr(receipt) == (
        "Receipt(matched=6, queued=3, dropped=2, closed=1, conflated=4, displaced=5)"
    )


def test_a_receipt_has_no_other_attributes() -> None:
    with pytest.raises(AttributeError):
        Receipt().offset = 1  # type: ignore[misc]


def test_subscribed_is_a_tuple_of_the_topic_and_whether_it_is_new() -> None:
    topic, new, *rest = Subscribed(Filter("a/#"), True)
    assert rest == [None, None, True, 0]
    assert topic == Filter("a/#")
    assert new
    assert Subscribed("a", False)[:2] == ("a", False)
