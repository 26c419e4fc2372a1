"""What every broker keeps: it says when it cannot, and comes back by itself."""

from __future__ import annotations

import asyncio

from ..broker_errors import BrokerUnavailable
from ..brokers.base import Broker, Envelope, HistoryPolicy, Position, State
from ..pubsub.names import Filter
from .history import HistoryContract
from .node import Node, message, refused

__all__ = ["BrokerContract", "EngineContract"]


class BrokerContract(HistoryContract):
    """What every broker keeps."""

    async def test_what_is_not_connected_says_so(self) -> None:
        node = Node(self.make_broker())
        assert node.broker.state is State.NEW
        assert not node.broker.healthy
        await self._refuses(node)
        await node.broker.start(node.receive, node.gap)
        assert node.broker.healthy
        for _ in range(2):
            await node.broker.close()
            assert not node.broker.healthy
            await self._refuses(node)

    async def _refuses(self, node: Node) -> None:
        error = await refused(node.broker.publish(message("room")))
        assert not error.sent
        await refused(node.broker.subscribe("room"))
        await refused(node.broker.history("room", HistoryPolicy(1)))
        await node.broker.unsubscribe("room")

    async def test_a_closed_node_receives_nothing(self) -> None:
        async with self.node("room") as node, self.node("room") as other:
            await other.broker.close()
            await node.publish("room")
            await node.until(1)
            assert other.received == []


class EngineContract(BrokerContract):
    """What a broker with an engine keeps when the engine goes away."""

    #: Whether the engine that comes back knows the history of before.
    keeps_history = False

    async def kill_engine(self) -> None:
        """Kill the engine, without notice."""
        raise NotImplementedError

    async def start_engine(self) -> None:
        """Start the engine again, at the same address."""
        raise NotImplementedError

    async def _state(self, node: Node, state: State) -> None:
        async with asyncio.timeout(20):
            while node.broker.state is not state:  # noqa: ASYNC110
                await asyncio.sleep(0.005)

    async def test_interest_is_restored_and_gaps_come_first(self) -> None:
        topics: list[str | Filter] = ["room", "quiet", Filter("room/+"), Filter("#")]
        async with self.node(*topics) as node, self.node() as other:
            await other.publish("room")
            await node.until(1)
            await self.kill_engine()
            await self._state(node, State.RECONNECTING)
            await self._state(other, State.RECONNECTING)
            await node.broker.unsubscribe("quiet")
            await self.start_engine()
            await self._state(other, State.CONNECTED)
            await self._state(node, State.CONNECTED)
            assert await node.until_gaps(3) == ["room", "room/+", "#"]
            await other.publish("room", "room/1", "quiet")
            await node.until(4)
            assert node.events[:4] == [
                ("message", "room"),
                ("gap", "room"),
                ("gap", "room/+"),
                ("gap", "#"),
            ]
            assert other.gaps == []

    async def test_publishing_fails_and_says_whether_it_was_sent(self) -> None:
        async with self.node("room") as node:
            await self.kill_engine()
            futures = [node.broker.publish(message("room")) for _ in range(3)]
            results = await asyncio.gather(*futures, return_exceptions=True)
            assert all(isinstance(each, BrokerUnavailable) for each in results)
            await self._state(node, State.RECONNECTING)
            error = await refused(node.broker.publish(message("room")))
            assert not error.sent
            await self.start_engine()
            await self._state(node, State.CONNECTED)
            await node.publish("room")
            await node.until_gaps(1)
            assert await node.until(1)

    async def test_a_subscription_made_meanwhile_waits_for_the_engine(self) -> None:
        async with self.node() as node:
            await self.kill_engine()
            await self._state(node, State.RECONNECTING)
            task = asyncio.create_task(node.broker.subscribe("room"))
            await asyncio.sleep(0)
            await self.start_engine()
            await task
            await node.publish("room")
            await node.until(1)
            assert node.gaps == []

    async def test_a_position_of_before_is_right_or_not_recovered(self) -> None:
        policy = HistoryPolicy(100)
        async with self.node("room") as node:
            places = await self._filled(node, 10, policy)
            await node.until(10)
            await self.kill_engine()
            await self._state(node, State.RECONNECTING)
            await self.start_engine()
            await self._state(node, State.CONNECTED)
            await node.until_gaps(1)
            page = await node.broker.history("room", policy, since=places[4])
            assert page.recovered is self.keeps_history
            if page.recovered:
                assert [each.offset for each in page.messages] == [
                    place.offset for place in places[5:]
                ]
            else:
                assert page.messages == ()
                assert page.epoch != places[4].epoch
            later = await self._filled(node, 1, policy)
            assert later[0].epoch == page.epoch

    async def test_what_comes_back_and_goes_again_is_found_again(self) -> None:
        async with self.node("room") as node:
            for number in range(2):
                await self.kill_engine()
                await self._state(node, State.RECONNECTING)
                await self.start_engine()
                await node.until_gaps(number + 1)
                await self._state(node, State.CONNECTED)
                await node.publish("room")
                await node.until(number + 1)

    async def test_it_can_be_closed_while_there_is_no_engine(self) -> None:
        async with self.node("room") as node:
            await self.kill_engine()
            await self._state(node, State.RECONNECTING)
            waiting = asyncio.create_task(node.broker.subscribe("later"))
            await asyncio.sleep(0)
            await node.broker.close()
            assert node.broker.state is State.CLOSED
            await refused(waiting)

    async def test_whoever_recovers_gets_everything_once_and_in_order(self) -> None:
        policy = HistoryPolicy(10_000)
        got: list[Envelope] = []
        whole = True

        async def recover(broker: Broker) -> None:
            nonlocal whole
            since = Position(got[-1].epoch or "", got[-1].offset or 0)
            # Whoever is told of a gap asks for history, and nobody asks twice.
            page = await broker.history("room", policy, since=since)
            whole = whole and page.recovered
            got.extend(page.messages)
            take()

        def take() -> None:
            received, node.received = node.received, []
            for envelope in received:
                last = got[-1] if got else envelope._replace(epoch=None)
                if last.epoch != envelope.epoch or (last.offset or 0) < (
                    envelope.offset or 0
                ):
                    got.append(envelope)

        async def publish(envelope: Envelope) -> None:
            while True:
                try:
                    await publisher.broker.publish(
                        envelope, history=policy, idempotency_key=envelope.id
                    )
                except BrokerUnavailable:
                    await asyncio.sleep(0.01)
                else:
                    return

        async with self.node("room") as node, self.node() as publisher:
            sent = [message("room") for _ in range(300)]
            for index, envelope in enumerate(sent):
                if index in (100, 200):
                    await node.until(1)
                    take()
                    publishing = asyncio.create_task(publish(envelope))
                    await asyncio.sleep(0)
                    await self.kill_engine()
                    await self._state(node, State.RECONNECTING)
                    await self.start_engine()
                    await publishing
                    await node.until_gaps(index // 100)
                    await recover(node.broker)
                else:
                    await publish(envelope)
            take()
            await publisher.broker.publish(message("room", "end"), history=policy)
            await node.until_payload(b"end")
            take()
            assert whole is self.keeps_history
            identities = [each.id for each in got[:-1]]
            assert len(set(identities)) == len(identities)
            assert not whole or identities == [each.id for each in sent]
