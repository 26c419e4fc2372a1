"""The contract as shipped: what a broker's author has to fill in, and its failures."""

from __future__ import annotations

import asyncio

import pytest

from websockets_routes.brokers import Envelope, MemoryBroker
from websockets_routes.contract.node import refused
from websockets_routes.testing import BrokerContract, EngineContract


async def test_what_is_not_filled_in_says_so() -> None:
    with pytest.raises(NotImplementedError):
        BrokerContract().make_broker()
    for call in (EngineContract().kill_engine(), EngineContract().start_engine()):
        with pytest.raises(NotImplementedError):
            await call


async def test_what_is_done_without_an_engine_fails_the_contract() -> None:
    with pytest.raises(AssertionError, match="without an engine"):
        await refused(asyncio.sleep(0))


class Doubling(MemoryBroker):
    def deliver(self, envelope: Envelope) -> None:
        super().deliver(envelope)
        super().deliver(envelope)


class Losing(MemoryBroker):
    count = 0

    def deliver(self, envelope: Envelope) -> None:
        self.count += 1
        if self.count % 7:
            super().deliver(envelope)


@pytest.mark.parametrize("kind", [Doubling, Losing])
async def test_a_broker_that_does_not_keep_it_fails(kind: type[MemoryBroker]) -> None:
    class Contract(BrokerContract):
        def make_broker(self) -> MemoryBroker:
            return kind()

    with pytest.raises((AssertionError, TimeoutError)):
        async with asyncio.timeout(0.1):
            await Contract().test_a_message_that_many_subscriptions_match_comes_once()
