"""Every broker keeps the contract, on a real engine."""

from __future__ import annotations

from typing import ClassVar
from uuid import uuid4

import pytest

from websockets_routes.brokers import Backoff, Broker, MemoryBroker, MemoryHub
from websockets_routes.brokers.nats import NatsBroker
from websockets_routes.brokers.redis import RedisBroker
from websockets_routes.contract import BrokerContract, EngineContract

from .engines import Engine, Nats, Valkey

QUICK = Backoff(first=0.02, longest=0.05)


class TestMemory(BrokerContract):
    @pytest.fixture(autouse=True)
    def prepare(self) -> None:
        self.hub = MemoryHub()

    def make_broker(self) -> Broker:
        return MemoryBroker(self.hub)


class TestRedis(BrokerContract):
    @pytest.fixture(autouse=True)
    def prepare(self, valkey: Valkey) -> None:
        self.url = valkey.url
        self.prefix = f"a*[b]{{{uuid4().hex}}}"

    def make_broker(self) -> Broker:
        return RedisBroker(self.url, prefix=self.prefix)


class TestNats(BrokerContract):
    one_order = False

    @pytest.fixture(autouse=True)
    def prepare(self, nats: Nats) -> None:
        self.url = nats.url
        self.prefix = f"a.{uuid4().hex}"

    def make_broker(self) -> Broker:
        return NatsBroker(self.url, prefix=self.prefix, memory=True)


class Mortal:
    engine: Engine

    async def kill_engine(self) -> None:
        self.engine.kill()

    async def start_engine(self) -> None:
        self.engine.start()


# What the others have tested is not tested once more.
def only_the_engine(contract: type) -> type:
    for name in dir(BrokerContract):
        if name.startswith("test_"):
            setattr(contract, name, None)
    return contract


@only_the_engine
class TestRedisEngine(Mortal, EngineContract):
    durable: ClassVar[bool] = False

    @pytest.fixture(autouse=True)
    def prepare(self, mortal_valkey: Valkey) -> None:
        self.engine = self.valkey = mortal_valkey

    def make_broker(self) -> Broker:
        return RedisBroker(self.valkey.url, backoff=QUICK, durable=self.durable)


@only_the_engine
class TestDurableRedisEngine(TestRedisEngine):
    durable = True
    keeps_history = True


@only_the_engine
class TestNatsEngine(Mortal, EngineContract):
    one_order = False
    keeps_history = True

    @pytest.fixture(autouse=True)
    def prepare(self, mortal_nats: Nats) -> None:
        self.engine = self.nats = mortal_nats

    def make_broker(self) -> Broker:
        return NatsBroker(self.nats.url, backoff=QUICK)
