"""Reporting: who hears of an error, and what is logged if that fails as well."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import pytest

from websockets_routes.reporting import report, report_later
from websockets_routes.scope import Scope

LOGGER = logging.getLogger("test")
WS, PATH = object(), object()


def scope(function: Callable[..., Any]) -> Scope:
    made = Scope()
    made.add_error(KeyError, function)
    return made


async def test_without_a_handler_nobody_heard() -> None:
    assert await report([Scope()], KeyError(), WS, PATH, LOGGER) == (False, None)


@pytest.mark.parametrize("plain", [True, False], ids=["plain", "coroutine"])
async def test_the_handler_gets_all_three_and_its_result_comes_back(
    plain: bool,
) -> None:
    error = KeyError("x")

    def hear(*given: Any) -> Any:
        assert given == (error, WS, PATH)
        return "answer"

    async def hear_async(error: Any, ws: Any, path: Any) -> Any:
        await asyncio.sleep(0)
        return hear(error, ws, path)

    def hear_plain(error: Any, ws: Any, path: Any) -> Any:
        return hear(error, ws, path)

    scopes = [scope(hear_plain if plain else hear_async)]
    assert await report(scopes, error, WS, PATH, LOGGER) == (True, "answer")


@pytest.mark.parametrize("plain", [True, False], ids=["plain", "coroutine"])
async def test_a_handler_that_fails_is_logged_with_both_errors(
    plain: bool, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(error: Any, ws: Any, path: Any) -> None:
        raise ValueError("second")

    async def fail_async(error: Any, ws: Any, path: Any) -> None:
        await asyncio.sleep(0)
        raise ValueError("second")

    scopes = [scope(fail if plain else fail_async)]
    heard, result = await report(scopes, KeyError("first"), WS, PATH, LOGGER)
    assert (heard, result) == (True, None)
    (record,) = caplog.records
    assert record.levelno == logging.ERROR
    assert "fail" in record.getMessage()
    assert "KeyError: 'first'" in caplog.text
    assert "ValueError: second" in caplog.text


async def test_a_handler_that_raises_the_error_again_does_not_want_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def again(error: Exception, ws: Any, path: Any) -> None:
        raise error

    assert await report([scope(again)], KeyError(), WS, PATH, LOGGER) == (False, None)
    assert not caplog.records


async def test_a_cancellation_is_no_failure_of_the_handler() -> None:
    async def hang(error: Any, ws: Any, path: Any) -> None:
        waiting.set()
        await asyncio.get_running_loop().create_future()

    waiting = asyncio.Event()
    task = asyncio.create_task(report([scope(hang)], KeyError(), WS, PATH, LOGGER))
    await waiting.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_later_an_error_is_heard_of_or_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    heard: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    async def hear(error: Any, ws: Any, path: Any) -> None:
        heard.set_result((error, ws, path))

    error = KeyError("x")
    report_later([scope(hear)], error, None, None, LOGGER, "work failed", None)
    assert await heard == (error, None, None)
    assert not caplog.records
    report_later([], error, None, None, LOGGER, "work failed", None)
    (record,) = caplog.records
    assert record.getMessage() == "work failed"
    assert record.exc_info is not None
    assert record.exc_info[1] is error


async def test_later_an_error_that_is_raised_again_is_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    asked = asyncio.Event()

    def again(error: Exception, ws: Any, path: Any) -> None:
        asked.set()
        raise error

    report_later([scope(again)], KeyError("x"), None, None, LOGGER, "work failed", None)
    await asked.wait()
    (record,) = caplog.records
    assert record.getMessage() == "work failed"
