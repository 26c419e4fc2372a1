"""Hooks: each one is called, whatever the others do."""

from __future__ import annotations

import asyncio
import functools
import gc
import logging
from typing import Any, cast

import pytest
from websockets import ServerProtocol
from websockets.asyncio.server import ServerConnection

from websockets_routes import EndpointError
from websockets_routes.pubsub.hooks import Hooks


def unconnected() -> ServerConnection:
    """A connection as it is before there is a transport."""
    return ServerConnection(ServerProtocol(), cast(Any, None))


def hooks_for(*functions: Any) -> Hooks:
    hooks = Hooks("on_event", "ws", "topic")
    for function in functions:
        hooks.add(function)
    return hooks


async def finish() -> None:
    """Wait for every task that a hook started."""
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 5)


def failures(caplog: pytest.LogCaptureFixture) -> list[str]:
    """List what the logged exceptions say."""
    found = []
    for record in caplog.records:
        assert record.name.startswith("websockets")
        assert record.levelno == logging.ERROR
        assert record.getMessage() == "on_event failed"
        assert record.exc_info is not None
        found.append(str(record.exc_info[1]))
    return found


async def test_functions_are_called_in_the_order_in_which_they_were_declared() -> None:
    calls: list[Any] = []
    ws = unconnected()
    hooks = hooks_for(
        lambda *arguments: calls.append(("first", *arguments)),
        lambda ws, topic: calls.append(("second", ws, topic)),
    )
    hooks.call(ws, "a/b")
    assert calls == [("first", ws, "a/b"), ("second", ws, "a/b")]


async def test_a_function_that_is_declared_twice_is_called_twice() -> None:
    calls: list[Any] = []

    def note(ws: Any, topic: str) -> None:
        calls.append(topic)

    hooks_for(note, note).call(unconnected(), "a")
    assert calls == ["a", "a"]


async def test_hooks_know_whether_there_are_any() -> None:
    hooks = hooks_for()
    assert not hooks
    hooks.call(unconnected(), "a")
    hooks.add(print)
    assert hooks


async def test_coroutine_functions_run_on_and_hold_up_nobody() -> None:
    going, calls = asyncio.Event(), []

    async def slow(ws: Any, topic: str) -> None:
        await going.wait()
        calls.append(f"slow {topic}")

    def plain(ws: Any, topic: str) -> None:
        calls.append(f"plain {topic}")

    hooks = hooks_for(slow, plain)
    hooks.call(unconnected(), "a")
    hooks.call(unconnected(), "b")
    assert calls == ["plain a", "plain b"]
    gc.collect()  # the event loop itself does not hold on to tasks
    going.set()
    await finish()
    assert calls == ["plain a", "plain b", "slow a", "slow b"]


async def test_anything_awaitable_that_is_returned_is_awaited() -> None:
    loop = asyncio.get_running_loop()
    waited: asyncio.Future[None] = loop.create_future()
    calls: list[str] = []

    async def late(topic: str) -> None:
        calls.append(topic)

    class Asked:
        async def __call__(self, ws: Any, topic: str) -> None:
            await late(f"object {topic}")

    hooks_for(
        lambda ws, topic: waited,
        lambda ws, topic: late(f"lambda {topic}"),
        functools.partial(lambda more, ws, topic: late(f"{more} {topic}"), "partial"),
        Asked(),
    ).call(unconnected(), "a")
    waited.set_result(None)
    await finish()
    assert sorted(calls) == ["lambda a", "object a", "partial a"]


async def test_what_a_function_raises_is_logged_and_the_others_are_called(
    caplog: pytest.LogCaptureFixture,
) -> None:
    calls: list[str] = []

    def fail(ws: Any, topic: str) -> None:
        raise RuntimeError("plain")

    async def fail_at_once(ws: Any, topic: str) -> None:
        raise RuntimeError("at once")

    async def fail_later(ws: Any, topic: str) -> None:
        await asyncio.sleep(0)
        raise RuntimeError("later")

    async def work(ws: Any, topic: str) -> None:
        await asyncio.sleep(0)
        calls.append("coroutine")

    hooks = hooks_for(
        fail, fail_at_once, fail_later, lambda *_: calls.append("plain"), work
    )
    hooks.call(unconnected(), "a")
    assert calls == ["plain"]
    await finish()
    assert calls == ["plain", "coroutine"]
    assert failures(caplog) == ["plain", "at once", "later"]


async def test_what_an_awaited_future_raises_is_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def fail(ws: ServerConnection, topic: str) -> asyncio.Future[None]:
        future: asyncio.Future[None] = ws.loop.create_future()
        future.set_exception(RuntimeError("from the future"))
        return future

    hooks_for(fail).call(unconnected(), "a")
    await finish()
    gc.collect()
    assert failures(caplog) == ["from the future"]


async def test_the_log_tells_which_connection_it_was(
    caplog: pytest.LogCaptureFixture,
) -> None:
    ws = unconnected()

    def fail(ws: Any, topic: str) -> None:
        raise RuntimeError

    hooks_for(fail).call(ws, "a")
    [record] = caplog.records
    assert cast(Any, record).websocket.id == ws.id


async def test_a_hook_that_is_cancelled_is_no_failure(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def cancelled(ws: Any, topic: str) -> None:
        raise asyncio.CancelledError

    hooks_for(cancelled).call(unconnected(), "a")
    await finish()
    assert caplog.records == []


async def test_a_task_that_is_done_is_let_go() -> None:
    async def work(ws: Any, topic: str) -> None:
        await asyncio.sleep(0)

    hooks = hooks_for(work)
    for _ in range(100):
        hooks.call(unconnected(), "a")
    await finish()
    assert not hooks._tasks


async def test_a_hook_may_declare_another_one() -> None:
    calls: list[str] = []

    def another(ws: Any, topic: str) -> None:
        calls.append("another")

    def first(ws: Any, topic: str) -> None:
        calls.append("first")
        if len(calls) == 1:
            hooks.add(another)

    hooks = hooks_for(first)
    hooks.call(unconnected(), "a")
    calls.append("again")
    hooks.call(unconnected(), "a")
    assert calls[calls.index("again") :] == ["again", "first", "another"]


@pytest.mark.parametrize(
    "function",
    [
        lambda: None,
        lambda ws: None,
        lambda ws, topic, more: None,
        lambda ws, topic, *, more: None,
        lambda **options: None,
        functools.partial(lambda ws, topic: None, None),
        None,
        7,
        "on_event",
        object(),
    ],
)
def test_what_does_not_take_the_arguments_is_refused(function: Any) -> None:
    hooks = Hooks("on_event", "ws", "topic")
    with pytest.raises(EndpointError, match=r"on_event decorates .*f\(ws, topic\)"):
        hooks.add(function)
    assert not hooks


@pytest.mark.parametrize(
    "function",
    [
        lambda ws, topic: None,
        lambda *arguments: None,
        lambda ws, topic=None, more=None, *rest, option=None, **options: None,
        functools.partial(lambda more, ws, topic: None, None),
        [].append,
    ],
)
def test_what_takes_the_arguments_is_taken(function: Any) -> None:
    if getattr(function, "__name__", "") == "append":
        hooks = Hooks("on_event", "ws")
    else:
        hooks = Hooks("on_event", "ws", "topic")
    hooks.add(function)
    assert hooks
