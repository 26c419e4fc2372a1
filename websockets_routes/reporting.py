"""Reporting: tells error handlers what went wrong, wherever it did."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Sequence
from typing import Any

from websockets.typing import LoggerLike

from .naming import endpoint_name
from .scope import Scope, find_error_handler

__all__ = ["report", "report_later"]

# Reports of servers that are none of ours; the event loop itself does not hold on
# to a task.
_reports: set[asyncio.Task[Any]] = set()


async def report(
    scopes: Sequence[Scope],
    error: BaseException,
    ws: Any,
    path: Any,
    logger: LoggerLike,
) -> tuple[bool, Any]:
    """Call the error handler that is the nearest to an error.

    What it raises itself is logged, with the error that it was called for.

    Returns:
        Whether there is one, and what it returned.
    """
    function = find_error_handler(scopes, error)
    if function is None:
        return False, None
    try:
        try:
            raise error
        except BaseException:
            # In its context, so that the log has both.
            result = function(error, ws, path)
            if inspect.isawaitable(result):
                result = await result
    except Exception as failure:
        if hasattr(failure, "headers_to_send"):  # a response, raised
            return True, failure
        if failure is error:  # raised again: it does not want it
            return False, None
        name = endpoint_name(function)
        logger.error("error handler %s failed", name, exc_info=failure)
        return True, None
    return True, result


def report_later(
    scopes: Sequence[Scope],
    error: BaseException,
    ws: Any,
    path: Any,
    logger: LoggerLike,
    what: str,
    server: Any,
) -> None:
    """Do the same from a plain function; log the error if nobody hears of it.

    A server that has a set of ``reports`` waits for them before its lifespan ends.
    """
    if find_error_handler(scopes, error) is None:
        logger.error(what, exc_info=error)
        return

    async def run() -> None:
        heard, _ = await report(scopes, error, ws, path, logger)
        if not heard:
            logger.error(what, exc_info=error)

    task = asyncio.get_running_loop().create_task(run())
    reports = getattr(server, "reports", _reports)
    reports.add(task)
    task.add_done_callback(reports.discard)
