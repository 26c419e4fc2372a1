"""What all tests share: every asynchronous test runs on asyncio and on uvloop."""

from __future__ import annotations

import asyncio
import gc
import sys
from collections.abc import Callable, Mapping

import pytest

LoopFactory = Callable[[], asyncio.AbstractEventLoop]


LOOP_FACTORIES: dict[str, LoopFactory] = {"asyncio": asyncio.new_event_loop}
if sys.platform != "win32":
    import uvloop

    LOOP_FACTORIES["uvloop"] = uvloop.new_event_loop


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, LoopFactory]:
    return LOOP_FACTORIES


def pytest_collection_finish(session: pytest.Session) -> None:
    # What was collected stays to the end: no need to look at it in each of the many
    # tests that find out whether something is garbage.
    gc.collect()
    gc.freeze()
