"""A connection that comes back: supervised, with growing and scattered pauses."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from urllib.parse import urlsplit

from ..broker_errors import BrokerError, BrokerUnavailable
from ..exceptions import InvalidLimit
from .base import State

__all__ = [
    "Backoff",
    "Link",
    "check_port",
    "logger",
    "name_of",
    "not_connected",
    "too_slow",
]

logger = logging.getLogger("websockets_routes.brokers")


def name_of(url: str) -> str:
    """Tell an engine without credentials, however they are written."""
    scheme, _, rest = url.partition("://")
    head = rest.partition("?")[0]
    # A question mark may be one of the password.
    host = "" if "@" in rest and "@" not in head else head.rpartition("@")[2]
    return f"{scheme}://{host}"


def check_port(url: str) -> None:
    """Check the port of a URL.

    Raises:
        ValueError: If it is none; does not show what may be a password.
    """
    try:
        _ = urlsplit(url).port
    except ValueError:
        problem = "its port is no number; a password has %2F for / and so on"
        raise ValueError(problem) from None


def not_connected(name: str, state: State) -> BrokerUnavailable:
    """Make the error of what cannot be sent: there is no connection."""
    return BrokerUnavailable(name, f"it is not connected ({state.value})", sent=False)


def too_slow(name: str, pending: int) -> BrokerUnavailable:
    """Make the error of what is not sent: so many bytes wait for the engine."""
    problem = f"it is slow: {pending} bytes wait to be confirmed"
    return BrokerUnavailable(name, problem, sent=False)


@dataclass(frozen=True, slots=True)
class Backoff:
    """How long to wait between two attempts to connect.

    The pause is drawn evenly between half and all of a limit that grows, so that
    the nodes which lost an engine together do not come back together.

    Args:
        first: The limit of the first pause, in seconds.
        factor: By how much the limit grows with each attempt.
        longest: The greatest limit, in seconds.

    Raises:
        InvalidLimit: If one of them is none.
    """

    first: float = 0.1
    factor: float = 2
    longest: float = 10

    def __post_init__(self) -> None:
        if not (0 < self.first <= self.longest and self.factor >= 1):
            raise InvalidLimit(f"0 < first <= longest and factor >= 1, not {self}")

    def pause(self, attempt: int) -> float:
        """Draw the pause after an attempt, the first one being 0."""
        limit = self.first
        for _ in range(attempt):
            limit *= self.factor
            if limit >= self.longest:
                limit = self.longest
                break
        return limit * random.uniform(0.5, 1)  # noqa: S311 (no secret)


class Link:
    """Keeps up one connection to an engine.

    Args:
        name: Which engine and what for, for errors and the log; no credentials.
        run: ``run(ready)`` connects, calls ``ready()``, and returns or raises when
            the connection is lost. It cleans up after itself.
        backoff: How long to wait between two attempts.
        timeout: How long an attempt may take until ``ready`` is called, in seconds.
    """

    def __init__(
        self,
        name: str,
        run: Callable[[Callable[[], None]], Awaitable[None]],
        backoff: Backoff,
        timeout: float,
    ) -> None:
        self.name = name
        self.state = State.NEW
        self._run = run
        self._backoff = backoff
        self._timeout = timeout
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Connect.

        Raises:
            BrokerError: If that fails; nothing is tried again then.
        """
        started = asyncio.get_running_loop().create_future()
        self._task = asyncio.create_task(self._supervise(started))
        try:
            await started
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """Disconnect."""
        self.state = State.CLOSED
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait([task])

    async def _supervise(self, started: asyncio.Future[None]) -> None:
        attempt = 0
        while True:
            problem = await self._attempt(started)
            if not started.done():
                started.set_exception(problem)
                return
            # A connection that held begins anew, one that never came goes on.
            attempt = 0 if self.state is State.CONNECTED else attempt
            level = logging.WARNING if attempt == 0 else logging.DEBUG
            self.state = State.RECONNECTING
            pause = self._backoff.pause(attempt)
            logger.log(level, "%s; trying again in %.1f s", problem, pause)
            await asyncio.sleep(pause)
            attempt += 1

    async def _attempt(self, started: asyncio.Future[None]) -> BrokerError:
        try:
            async with asyncio.timeout(self._timeout) as deadline:

                def ready() -> None:
                    deadline.reschedule(None)
                    if self.state is State.RECONNECTING:
                        logger.info("broker %s: connected again", self.name)
                    self.state = State.CONNECTED
                    if not started.done():
                        started.set_result(None)

                await self._run(ready)
        except BrokerError as error:
            return error
        except TimeoutError:
            problem = f"it did not answer within {self._timeout:g} s"
            return BrokerUnavailable(self.name, problem)
        except OSError as error:
            return BrokerUnavailable(self.name, str(error) or type(error).__name__)
        except Exception as error:
            logger.exception("broker %s: unexpected error", self.name)
            return BrokerUnavailable(self.name, repr(error))
        return BrokerUnavailable(self.name, "the connection was lost")
