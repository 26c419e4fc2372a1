"""What every broker keeps: messages come, once, in order, as they were."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from ..brokers.base import Broker, Envelope, HistoryPolicy, Published
from ..pubsub.names import Filter
from .node import FILTERS, NAMES, Node, message

__all__ = ["DeliveryContract"]


class DeliveryContract:
    """What every broker keeps about messages on their way."""

    #: Whether all nodes see one order in a topic without history.
    one_order = True

    def make_broker(self) -> Broker:
        """Make a node; those of one test, and no others, hear each other."""
        raise NotImplementedError

    @asynccontextmanager
    async def node(self, *topics: str | Filter) -> AsyncIterator[Node]:
        """Start a node that is subscribed to topics and filters."""
        node = Node(self.make_broker())
        await node.broker.start(node.receive, node.gap)
        try:
            for topic in topics:
                await node.broker.subscribe(topic)
            yield node
        finally:
            await node.broker.close()

    # Delivery

    async def test_a_message_arrives_as_it_was_at_all_nodes_its_own_too(self) -> None:
        messages = [
            message("room", "text: é", "me"),
            message("room", b"\x00\xff\r\n", None),
            message("room", "", ""),
            message("room", b"x" * 300_000, "日本\n"),
            message("room", b"H1:2\nW1")._replace(id="🙂", timestamp=0.1),
        ]
        async with self.node("room") as one, self.node("room") as other:
            for envelope in messages:
                assert await one.broker.publish(envelope) == Published()
            assert await one.until(5) == messages
            assert await other.until(5) == messages

    async def test_who_is_not_subscribed_receives_nothing(self) -> None:
        async with self.node("room", "end") as node, self.node("end") as other:
            await node.publish("room", "end")
            await node.until(2)
            assert [each.topic for each in await other.until(1)] == ["end"]

    async def test_every_name_is_a_topic_of_its_own(self) -> None:
        async with self.node(*NAMES) as node:
            await node.publish(*NAMES)
            await node.until(len(NAMES))
            await node.publish(NAMES[0])
            received = await node.until(len(NAMES) + 1)
            assert sorted(each.topic for each in received[:-1]) == sorted(NAMES)

    async def test_a_filter_hears_what_it_matches_and_nothing_else(self) -> None:
        for each in FILTERS:
            async with self.node(Filter(each), "the end") as node:
                await node.publish(*NAMES)
                await node.publish("the end")
                expected = [name for name in NAMES if Filter(each).matches(name)]
                received = await node.until(len(expected) + 1)
                names = sorted(envelope.topic for envelope in received)
                extra = [] if Filter(each).matches("the end") else ["the end"]
                assert names == sorted([*expected, *(extra or ["the end"])])

    async def test_a_message_that_many_subscriptions_match_comes_once(self) -> None:
        filters = [Filter("room/#"), Filter("+/1"), Filter("#"), Filter("room/+")]
        async with self.node("room/1", *filters) as node:
            sent = await node.publish(*["room/1"] * 20, "room/2", "room")
            await node.broker.publish(message("room/1", "end"))
            received = await node.until(len(sent) + 1)
            await node.publish("room/1")
            await node.until(len(sent) + 2)
            assert sorted(each.id for each in received[: len(sent)]) == sorted(
                each.id for each in sent
            )

    async def test_overlaps_that_come_and_go_neither_lose_nor_double(self) -> None:
        async with self.node(Filter("room/+")) as node, self.node() as publisher:
            sent: list[Envelope] = []
            going = True

            async def publish() -> None:
                while going:
                    sent.extend(await publisher.publish(*["room/1"] * 5))
                    await asyncio.sleep(0)

            task = asyncio.create_task(publish())
            for _ in range(15):
                for topic in ("room/1", Filter("#"), Filter("+/1")):
                    await node.broker.subscribe(topic)
                await node.broker.unsubscribe(Filter("#"))
                await node.broker.subscribe(Filter("room/#"))
                await node.broker.unsubscribe("room/1")
                await node.broker.unsubscribe(Filter("room/+"))
                await node.broker.subscribe(Filter("room/+"))
                await node.broker.unsubscribe(Filter("+/1"))
                await node.broker.unsubscribe(Filter("room/#"))
            going = False
            await task
            await node.until(len(sent))
            sent.extend(await publisher.publish("room/1"))
            assert await node.until(len(sent)) == sent

    async def test_subscribing_resolves_when_messages_arrive(self) -> None:
        async with self.node() as node, self.node() as publisher:
            for number in range(20):
                topic: str | Filter = f"room/{number}"
                if number % 2:
                    topic = Filter(f"room/{number}/#")
                await asyncio.gather(*[node.broker.subscribe(topic)] * 1)
                await publisher.publish(f"room/{number}")
                await node.until(number + 1)

    async def test_two_first_subscribers_both_wait_for_the_engine(self) -> None:
        async with self.node() as node, self.node() as publisher:
            for number in range(10):
                topic = f"room/{number}"
                tasks = [
                    asyncio.create_task(node.broker.subscribe(topic)) for _ in "ab"
                ]
                for task in reversed(tasks):
                    await task
                    await publisher.publish(topic)
                await node.until(2 * (number + 1))

    async def test_what_is_unsubscribed_is_not_heard_and_can_be_again(self) -> None:
        async with self.node("room") as node, self.node() as publisher:
            await node.broker.subscribe("room")
            await node.broker.unsubscribe("room")
            await node.broker.unsubscribe("room")
            await node.broker.unsubscribe(Filter("never/+"))
            await node.broker.subscribe("other")
            sent = await publisher.publish("room", "other")
            assert await node.until(1) == sent[1:]
            for _ in range(5):
                await node.broker.unsubscribe("room")
                await node.broker.subscribe("room")
            sent += await publisher.publish("room")
            assert await node.until(2) == sent[1:]

    # Order

    async def test_publishes_in_flight_keep_their_order(self) -> None:
        async with self.node("a", "b") as node, self.node(Filter("+")) as other:
            sent = [message("ab"[number % 2]) for number in range(2000)]
            futures = [node.broker.publish(envelope) for envelope in sent]
            await asyncio.gather(*futures)
            for each in (node, other):
                received = await each.until(2000)
                for topic in "ab":
                    assert [e for e in received if e.topic == topic] == [
                        e for e in sent if e.topic == topic
                    ]

    async def test_all_nodes_see_one_order(self) -> None:
        policies = [HistoryPolicy(10)] + ([None] if self.one_order else [])
        for policy in policies:
            async with self.node("room") as one, self.node("room") as other:
                futures = []
                for _ in range(20):
                    for node in (one, other):
                        futures += [
                            node.broker.publish(message("room"), history=policy)
                            for _ in range(10)
                        ]
                    await asyncio.sleep(0)
                await asyncio.gather(*futures)
                assert await one.until(400) == await other.until(400)
