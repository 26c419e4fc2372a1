"""Engines for the tests: one that stays, and for whoever kills it one of his own."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from nats import connect
from nats.aio.client import Client

from .engines import Nats, Valkey, reserve


@pytest.fixture(scope="session")
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Valkey]:
    with Valkey(tmp_path_factory.mktemp("valkey")).running() as engine:
        yield engine


@pytest.fixture(scope="session")
def nats(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nats]:
    with Nats(tmp_path_factory.mktemp("nats")).running() as engine:
        yield engine


@pytest.fixture
async def stranger(nats: Nats) -> AsyncIterator[Client]:
    """Connect somebody to NATS who knows nothing of brokers."""
    async with await connect(nats.url) as client:
        yield client


@pytest.fixture
def mortal_valkey(tmp_path: Path) -> Iterator[Valkey]:
    # By default it may confirm what it writes up to two seconds later.
    options = ("--appendonly", "yes", "--appendfsync", "always")
    with Valkey(tmp_path, *options).running() as engine:
        yield engine


@pytest.fixture
def mortal_nats(tmp_path: Path) -> Iterator[Nats]:
    with Nats(tmp_path).running() as engine:
        yield engine


@pytest.fixture
def deserted() -> Iterator[int]:
    """Name a port where nobody listens."""
    with reserve() as place:
        yield place.getsockname()[1]


@pytest.fixture
def prefix() -> str:
    """Name what no other test uses."""
    return f"t{uuid4().hex[:8]}"
