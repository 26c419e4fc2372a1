"""What every broker keeps: history, and keys that publish once."""

from __future__ import annotations

import asyncio

from ..brokers.base import HistoryPolicy, Position
from ..pubsub.names import Filter
from .delivery import DeliveryContract
from .node import Node, message

__all__ = ["HistoryContract"]


class HistoryContract(DeliveryContract):
    """What every broker keeps about history and idempotency."""

    async def test_offsets_increase_and_live_messages_have_them(self) -> None:
        policy = HistoryPolicy(100)
        async with self.node("room") as node, self.node("room") as other:
            results = await asyncio.gather(
                *(
                    each.broker.publish(message("room"), history=policy)
                    for each in (node, other) * 20
                )
            )
            received = await node.until(40)
            offsets = [each.offset for each in received]
            assert offsets == sorted({result.offset or 0 for result in results})
            assert {each.epoch for each in received} == {results[0].epoch}
            page = await other.broker.history("room", policy)
            assert list(page.messages) == received
            assert page.recovered
            assert Position(page.epoch, page.offset) >= Position(
                received[-1].epoch or "", received[-1].offset or 0
            )

    async def _filled(
        self, node: Node, count: int, policy: HistoryPolicy
    ) -> list[Position]:
        """Publish, on two topics in turns; return the positions of the first."""
        futures = []
        for _ in range(count):
            futures.append(node.broker.publish(message("room"), history=policy))
            node.broker.publish(message("other"), history=policy)
        results = await asyncio.gather(*futures)
        return [Position(each.epoch or "", each.offset or 0) for each in results]

    async def test_a_position_recovers_what_came_behind_it(self) -> None:
        policy = HistoryPolicy(100)
        async with self.node() as node:
            first = await node.broker.history("room", policy)
            assert first.messages == ()
            assert first.recovered
            start = Position(first.epoch, first.offset)
            places = await self._filled(node, 30, policy)
            assert {place.epoch for place in places} == {start.epoch}
            offsets = [place.offset for place in places]
            for index, since in enumerate([start, *places]):
                page = await node.broker.history("room", policy, since=since)
                assert page.recovered
                assert [each.offset for each in page.messages] == offsets[index:]
                assert page.offset >= offsets[-1]

    async def test_history_is_read_in_pages_forward_and_back(self) -> None:
        policy = HistoryPolicy(20)
        async with self.node() as node:
            places = await self._filled(node, 30, policy)
            kept = [place.offset for place in places[10:]]
            for reverse, expected in ((False, kept), (True, kept[::-1])):
                read: list[int] = []
                since = None
                while True:
                    page = await node.broker.history(
                        "room", policy, since=since, limit=7, reverse=reverse
                    )
                    assert page.recovered
                    if not page.messages:
                        break
                    assert len(page.messages) <= 7
                    read += [each.offset or 0 for each in page.messages]
                    since = Position(page.epoch, read[-1])
                assert read == expected

    async def test_a_position_that_cannot_be_right_is_not_recovered(self) -> None:
        policy = HistoryPolicy(5)
        async with self.node() as node:
            places = await self._filled(node, 20, policy)
            epoch, last = places[-1]
            page = await node.broker.history("room", policy)
            wrong = [
                Position(epoch, page.offset + 1),
                Position(epoch, 10**30),
                Position(epoch, -1),
                Position("another", last),
                Position("", 0),
                Position(f"{epoch}\0", last),
                *places[:13],
            ]
            for since in wrong:
                page = await node.broker.history("room", policy, since=since)
                assert (page.messages, page.recovered) == ((), False), since
                assert page.epoch == epoch
            for since in wrong[:6]:
                page = await node.broker.history(
                    "room", policy, since=since, reverse=True
                )
                assert (page.messages, page.recovered) == ((), False), since
            for index, since in enumerate(places[14:], 14):
                page = await node.broker.history("room", policy, since=since)
                assert page.recovered
                assert [each.offset for each in page.messages] == [
                    place.offset for place in places[index + 1 :]
                ]

    async def test_history_ends_by_time(self) -> None:
        policy = HistoryPolicy(100, ttl=0.3)
        async with self.node() as node:
            places = await self._filled(node, 3, policy)
            async with asyncio.timeout(10):
                while (await node.broker.history("room", policy)).messages:  # noqa: ASYNC110
                    await asyncio.sleep(0.05)
            page = await node.broker.history("room", policy, since=places[0])
            assert (page.messages, page.recovered) == ((), False)
            later = await self._filled(node, 1, policy)
            assert later[0].offset > places[-1].offset
            page = await node.broker.history("room", policy)
            assert [each.offset for each in page.messages] == [later[0].offset]

    async def test_history_outlives_the_nodes(self) -> None:
        policy = HistoryPolicy(10)
        async with self.node() as keeper:
            async with self.node("room") as node:
                place, *_ = await self._filled(node, 5, policy)
            page = await keeper.broker.history("room", policy, since=place)
            assert page.recovered
            assert len(page.messages) == 4

    async def test_subscribe_then_history_leaves_no_gap(self) -> None:
        policy = HistoryPolicy(10_000)
        async with self.node() as publisher:
            sent: list[int] = []
            going = True

            async def publish() -> None:
                while going:
                    futures = [
                        publisher.broker.publish(message("room"), history=policy)
                        for _ in range(5)
                    ]
                    sent.extend([(await each).offset or 0 for each in futures])
                    await asyncio.sleep(0)

            task = asyncio.create_task(publish())
            for _ in range(5):
                async with self.node("room") as node:
                    page = await node.broker.history("room", policy)
                    await node.until(20)
                    read = [each.offset or 0 for each in page.messages]
                    live = [each.offset or 0 for each in node.received]
                    later = [offset for offset in live if offset > page.offset]
                    upto = live[-1]
                # The publishes in flight, which it may have heard, come back together.
                count = len(sent) + 5
                async with asyncio.timeout(20):
                    while len(sent) < count:  # noqa: ASYNC110
                        await asyncio.sleep(0)
                assert read + later == [offset for offset in sent if offset <= upto]
            going = False
            await task

    # Idempotency

    async def test_a_key_publishes_once_and_answers_alike(self) -> None:
        for room, policy in (("room", HistoryPolicy(10)), ("plain", None)):
            async with self.node(Filter("#")) as node, self.node() as other:
                results = await asyncio.gather(
                    *(
                        each.broker.publish(
                            message(room), history=policy, idempotency_key="k"
                        )
                        for each in (node, other, node)
                    )
                )
                assert sorted(each.duplicate for each in results) == [0, 1, 1]
                assert len({each[:2] for each in results}) == 1
                assert (results[0].offset is None) == (policy is None)
                fresh = [
                    await node.broker.publish(
                        message(topic), history=policy, idempotency_key=key
                    )
                    for topic, key in ((room, "k2"), (f"{room}2", "k"), (room, ""))
                ]
                assert not any(each.duplicate for each in fresh)
                received = await node.until(4)
                assert [each.topic for each in received] == [
                    room,
                    room,
                    f"{room}2",
                    room,
                ]
