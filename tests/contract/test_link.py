"""A link comes back with pauses that grow; an inbox hands over in order."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

import pytest

from websockets_routes import BrokerError, BrokerUnavailable, Filter, InvalidLimit
from websockets_routes.brokers import Backoff, Envelope, State
from websockets_routes.brokers.futures import fail, settle
from websockets_routes.brokers.inbox import Inbox
from websockets_routes.brokers.link import Link

QUICK = Backoff(first=0.001, longest=0.002)


def test_pauses_grow_and_are_scattered_up_to_a_limit() -> None:
    backoff = Backoff(first=1, factor=3, longest=10)
    for attempt, limit in enumerate([1, 3, 9, 10, 10]):
        pauses = {backoff.pause(attempt) for _ in range(50)}
        assert limit / 2 <= min(pauses) < max(pauses) <= limit
    assert backoff.pause(10**9) <= 10


@pytest.mark.parametrize("arguments", [(0, 2, 1), (2, 2, 1), (1, 0.5, 2)], ids=str)
def test_a_backoff_that_is_none_is_refused(arguments: tuple[float, ...]) -> None:
    with pytest.raises(InvalidLimit):
        Backoff(*arguments)


def test_a_future_that_is_done_stays_as_it_is() -> None:
    loop = asyncio.new_event_loop()
    future: asyncio.Future[int] = loop.create_future()
    settle(future, 1)
    settle(future, 2)
    fail(future, ValueError())
    assert future.result() == 1
    loop.close()


@pytest.mark.parametrize(
    ("error", "kind", "text"),
    [
        (OSError("no route"), BrokerUnavailable, "broker x: no route"),
        (OSError(), BrokerUnavailable, "broker x: OSError"),
        (BrokerError("x", "refused"), BrokerError, "broker x: refused"),
        (None, BrokerUnavailable, "broker x: the connection was lost"),
    ],
    ids=["told", "untold", "refused", "ended"],
)
async def test_a_first_attempt_that_fails_is_told(
    error: Exception | None, kind: type[BrokerError], text: str
) -> None:
    async def run(ready: Callable[[], None]) -> None:
        if error is not None:
            raise error

    link = Link("x", run, QUICK, 5)
    with pytest.raises(BrokerError) as raised:
        await link.start()
    assert type(raised.value) is kind
    assert str(raised.value) == text
    assert link.state is State.CLOSED


async def test_an_attempt_that_takes_too_long_is_given_up() -> None:
    async def run(ready: Callable[[], None]) -> None:
        await asyncio.get_running_loop().create_future()

    with pytest.raises(BrokerUnavailable, match=r"not answer within 0\.01 s"):
        await Link("x", run, QUICK, 0.01).start()


async def test_what_is_lost_comes_back_and_the_log_is_short(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    attempts = 0
    lost, back = asyncio.Event(), asyncio.Event()

    async def run(ready: Callable[[], None]) -> None:
        nonlocal attempts
        attempts += 1
        if attempts == 1:
            ready()
            await lost.wait()
        elif attempts < 5:
            raise OSError("not yet")
        else:
            ready()
            back.set()
            await asyncio.get_running_loop().create_future()

    link = Link("x", run, QUICK, 5)
    await link.start()
    assert link.state is State.CONNECTED
    lost.set()
    await back.wait()
    assert link.state is State.CONNECTED
    await link.close()
    levels = [record.levelname for record in caplog.records]
    assert levels == ["WARNING", "INFO"]


async def test_an_error_of_our_own_is_logged_and_survived(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def run(ready: Callable[[], None]) -> None:
        raise LookupError("a mistake")

    with pytest.raises(BrokerUnavailable, match="a mistake"):
        await Link("x", run, QUICK, 5).start()
    assert "unexpected error" in caplog.text


async def test_gaps_are_told_before_what_came_meanwhile() -> None:
    events: list[object] = []
    inbox = Inbox("x", 5)
    inbox.open(lambda envelope: events.append(envelope.id), events.append)
    everything = Filter("#")
    for topic in ("old", everything, "gone", "lost"):
        assert inbox.add(topic)
        assert not inbox.add(topic)
        inbox.confirm(topic)
    inbox.add("new")
    inbox.hold()
    inbox.deliver(Envelope("old", b"", False, None, "1", 0))
    inbox.remove("gone")
    inbox.confirm("gone")
    inbox.release({"old", everything, "new", "gone"})
    inbox.deliver(Envelope("old", b"", False, None, "2", 0))
    assert events == ["old", everything, "1", "2"]
    await inbox.wait("new")


async def test_errors_of_the_node_are_logged_and_survived(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def mistake(anything: object) -> None:
        raise LookupError

    inbox = Inbox("x", 5)
    inbox.open(mistake, mistake)
    inbox.deliver(Envelope("old", b"", False, None, "1", 0))
    inbox.tell_gap("old")
    assert [record.message for record in caplog.records] == [
        "broker x: error in receive",
        "broker x: error in gap",
    ]
    inbox.close()
    inbox.deliver(Envelope("old", b"", False, None, "1", 0))
    inbox.tell_gap("old")
    assert len(caplog.records) == 2


async def test_a_confirmation_that_does_not_come_is_told_and_awaited_still() -> None:
    inbox = Inbox("x", 0.01)
    inbox.open(lambda envelope: None, lambda topic: None)
    inbox.add("room")
    with pytest.raises(BrokerUnavailable, match=r"not confirm within 0\.01 s"):
        await inbox.wait("room")
    inbox.confirm("room")
    await inbox.wait("room")
    inbox.add("other")
    waiting = asyncio.create_task(inbox.wait("other"))
    await asyncio.sleep(0)
    assert inbox.remove("other")
    assert not inbox.remove("other")
    with pytest.raises(BrokerUnavailable, match="unsubscribed before"):
        await waiting
