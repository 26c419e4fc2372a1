"""Tasks: a set of tasks that are cancelled together, and lose no failure."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest
from websockets import ConnectionClosedError, ConnectionClosedOK

from websockets_routes import NotServing, RoutesError
from websockets_routes.tasks import Tasks


@pytest.fixture
def failures() -> list[BaseException]:
    return []


@pytest.fixture
def tasks(failures: list[BaseException]) -> Tasks:
    return Tasks("the test", failures.append)


async def forever() -> None:
    await asyncio.get_running_loop().create_future()


async def test_a_task_gives_its_result(tasks: Tasks, failures: list[Any]) -> None:
    async def work() -> int:
        return 7

    assert await tasks.start(work()) == 7
    await tasks.end()
    assert failures == []


async def test_end_cancels_all_and_waits_for_each(
    tasks: Tasks, failures: list[Any]
) -> None:
    ended = []

    async def slow(number: int) -> None:
        try:
            await forever()
        finally:
            await asyncio.sleep(0)
            ended.append(number)

    started = [tasks.start(slow(i)) for i in range(3)]
    await asyncio.sleep(0)
    await tasks.end()
    assert sorted(ended) == [0, 1, 2]
    assert all(task.cancelled() for task in started)
    assert failures == []


async def test_a_task_that_has_not_begun_is_cancelled(tasks: Tasks) -> None:
    task = tasks.start(forever())
    await tasks.end()
    assert task.cancelled()


async def test_end_waits_for_a_task_that_takes_its_time(tasks: Tasks) -> None:
    begun = asyncio.Event()

    async def stubborn() -> str:
        try:
            begun.set()
            await forever()
        except asyncio.CancelledError:
            await asyncio.sleep(0)
        return "done"

    task = tasks.start(stubborn())
    await begun.wait()
    await tasks.end()
    assert task.result() == "done"


async def test_end_may_be_called_with_nothing_to_end_and_again(tasks: Tasks) -> None:
    await tasks.end()
    await tasks.end()


async def test_a_task_may_end_the_others(tasks: Tasks) -> None:
    other = tasks.start(forever())
    ended = []

    async def ending() -> None:
        with pytest.raises(asyncio.CancelledError):
            await tasks.end()
        ended.append(True)

    task = tasks.start(ending())
    await asyncio.wait({task, other})
    assert ended == [True]
    assert other.cancelled()


async def test_end_spares_the_task_that_calls_it(tasks: Tasks) -> None:
    """It is cancelled like all, but does not wait for itself."""

    ended = []

    async def ending() -> None:
        await tasks.end()
        ended.append(True)

    await asyncio.wait({tasks.start(ending())})
    assert ended == [True]


async def test_a_failure_is_reported(tasks: Tasks, failures: list[Any]) -> None:
    async def fail(error: Exception) -> None:
        raise error

    first, second = ValueError("first"), KeyError("second")
    await asyncio.wait({tasks.start(fail(first)), tasks.start(fail(second))})
    await asyncio.sleep(0)
    assert sorted(map(str, failures)) == ["'second'", "first"]
    await tasks.end()


async def test_a_failure_while_it_is_cancelled_is_reported(
    tasks: Tasks, failures: list[Any]
) -> None:
    error = ValueError("no luck")

    async def fail() -> None:
        try:
            await forever()
        finally:
            raise error

    tasks.start(fail())
    await asyncio.sleep(0)
    await tasks.end()
    assert failures == [error]


@pytest.mark.parametrize("kind", [ConnectionClosedError, ConnectionClosedOK])
async def test_a_closed_connection_is_a_failure_too_for_the_owner_to_judge(
    kind: type[Exception], tasks: Tasks, failures: list[Any]
) -> None:
    error = kind(None, None)

    async def fail() -> None:
        raise error

    await asyncio.wait({tasks.start(fail())})
    await tasks.end()
    assert failures == [error]


@pytest.mark.parametrize("how", ["cancel", "end"])
async def test_none_is_started_after_the_end_and_its_coroutine_is_closed(
    how: str, tasks: Tasks
) -> None:
    if how == "cancel":
        tasks.cancel()
    else:
        await tasks.end()
    late = forever()
    with pytest.raises(NotServing, match="the test has ended") as raised:
        tasks.start(late)
    assert isinstance(raised.value, RuntimeError)
    assert isinstance(raised.value, RoutesError)
    with pytest.raises(RuntimeError, match="cannot reuse"):
        await late


async def test_a_task_that_starts_another_while_ending_is_told_so(
    tasks: Tasks, failures: list[Any]
) -> None:
    refused: list[Coroutine[Any, Any, None]] = []

    async def clean_up() -> None:
        try:
            await forever()
        finally:
            late = forever()
            refused.append(late)
            tasks.start(late)

    tasks.start(clean_up())
    await asyncio.sleep(0)
    await tasks.end()
    assert len(refused) == 1
    assert [type(failure) for failure in failures] == [NotServing]
