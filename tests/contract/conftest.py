"""Engines for the tests: one that stays, and for whoever kills it one of his own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from .engines import Nats, Valkey


@pytest.fixture(scope="session")
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Valkey]:
    engine = Valkey(tmp_path_factory.mktemp("valkey"))
    engine.start()
    yield engine
    engine.kill()


@pytest.fixture(scope="session")
def nats(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nats]:
    engine = Nats(tmp_path_factory.mktemp("nats"))
    engine.start()
    yield engine
    engine.kill()


@pytest.fixture
def mortal_valkey(tmp_path: Path) -> Iterator[Valkey]:
    engine = Valkey(tmp_path, "--appendonly", "yes")
    engine.start()
    yield engine
    engine.kill()


@pytest.fixture
def mortal_nats(tmp_path: Path) -> Iterator[Nats]:
    engine = Nats(tmp_path)
    engine.start()
    yield engine
    engine.kill()


@pytest.fixture
def prefix() -> str:
    """Name what no other test uses."""
    return f"t{uuid4().hex[:8]}"
