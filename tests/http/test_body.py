"""Bodies of requests: they come in pieces, and wait for their reader."""

from __future__ import annotations

import asyncio

import pytest

from websockets_routes.exceptions import BadRequest, ClientDisconnected
from websockets_routes.http.body import ReceivedBody


class Told:
    """What a body told."""

    def __init__(self) -> None:
        self.wanted = self.enough = self.portions = 0
        self.body = ReceivedBody(self._want, self._stop, self._count)

    def _want(self) -> None:
        self.wanted += 1

    def _stop(self) -> None:
        self.enough += 1

    def _count(self) -> None:
        self.portions += 1


async def waiting(told: Told) -> asyncio.Task[bytes]:
    """Begin to read what is not there yet."""
    task = asyncio.create_task(told.body.read())
    while not told.wanted:  # noqa: ASYNC110
        await asyncio.sleep(0)
    return task


async def test_what_came_before_is_read_at_once() -> None:
    told = Told()
    told.body.add(b"one")
    told.body.add(b"two")
    assert await told.body.read() == b"onetwo"
    assert told.wanted == 0


async def test_a_reader_waits_for_what_comes() -> None:
    told = Told()
    task = await waiting(told)
    told.body.add(b"one")
    told.body.add(b"two")
    assert await task == b"onetwo"
    assert told.wanted == 1
    assert not told.body.ended


async def test_the_end_is_read_again_and_again() -> None:
    told = Told()
    told.body.add(b"one")
    told.body.end()
    assert told.body.ended
    assert [await told.body.read() for _ in range(3)] == [b"one", b"", b""]
    assert told.wanted == 0


async def test_a_reader_that_waits_hears_of_the_end() -> None:
    told = Told()
    task = await waiting(told)
    told.body.end()
    assert await task == b""


@pytest.mark.parametrize("error", [ClientDisconnected("gone"), BadRequest("malformed")])
async def test_a_failure_comes_behind_what_came_before(error: Exception) -> None:
    told = Told()
    told.body.add(b"one")
    told.body.fail(error)
    assert told.body.ended
    assert await told.body.read() == b"one"
    for _ in range(2):
        with pytest.raises(type(error)):
            await told.body.read()


async def test_a_reader_that_waits_hears_of_a_failure() -> None:
    told = Told()
    task = await waiting(told)
    told.body.fail(ClientDisconnected("gone"))
    with pytest.raises(ClientDisconnected):
        await task


async def test_nothing_fails_after_the_end() -> None:
    told = Told()
    told.body.end()
    told.body.fail(ClientDisconnected("gone"))
    assert await told.body.read() == b""


async def test_the_first_failure_counts() -> None:
    told = Told()
    told.body.fail(BadRequest("malformed"))
    told.body.fail(ClientDisconnected("gone"))
    with pytest.raises(BadRequest):
        await told.body.read()


async def test_a_reader_may_be_cancelled_and_another_reads_on() -> None:
    told = Told()
    task = await waiting(told)
    task.cancel()
    await asyncio.wait([task])
    told.body.add(b"one")
    assert await told.body.read() == b"one"


async def test_it_says_when_enough_waits() -> None:
    told = Told()
    told.body.add(b"x" * 2**16)
    assert told.enough == 0
    told.body.add(b"x")
    assert told.enough == 1
    assert len(await told.body.read()) == 2**16 + 1
    told.body.add(b"x" * 2**16)
    assert told.enough == 1
    told.body.add(b"x")
    assert told.enough == 2


async def test_it_says_when_more_is_wanted() -> None:
    told = Told()
    told.body.add(b"x" * 100_000)
    await told.body.read()
    assert told.wanted == 0
    task = await waiting(told)
    assert told.wanted == 1
    told.body.end()
    await task


@pytest.mark.parametrize("size", [1024, 2**16])
async def test_each_portion_is_told(size: int) -> None:
    told = Told()
    for _ in range(10 * 2**16 // size):
        told.body.add(b"x" * size)
        await told.body.read()
    assert told.portions in (5, 9, 10)


async def test_little_is_no_portion() -> None:
    told = Told()
    for _ in range(1000):
        told.body.add(b"x")
    assert told.portions == 0
