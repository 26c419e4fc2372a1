"""Errors of what carries messages between processes."""

from __future__ import annotations

from http import HTTPStatus

from websockets import CloseCode

from .exceptions import RoutesError

__all__ = ["BrokerError", "BrokerUnavailable"]


class BrokerError(RoutesError):
    """What carries messages between processes cannot do what it was asked for.

    Attributes:
        broker: Which engine, without credentials.
        problem: What is wrong, and what to do about it.
    """

    status = HTTPStatus.SERVICE_UNAVAILABLE
    close_code = CloseCode.TRY_AGAIN_LATER

    def __init__(self, broker: str, problem: str) -> None:
        super().__init__(broker, problem)
        self.broker = broker
        self.problem = problem

    def __str__(self) -> str:
        return f"broker {self.broker}: {self.problem}"


class BrokerUnavailable(BrokerError):
    """The engine is not there (any more); trying again later may help.

    Attributes:
        broker: Which engine, without credentials.
        problem: What is wrong.
        sent: False if nothing was sent to it. True if what was sent may have been
            done or not: to publish once more wants an idempotency key.
    """

    def __init__(self, broker: str, problem: str, sent: bool = True) -> None:
        super().__init__(broker, problem)
        self.args = (broker, problem, sent)
        self.sent = sent
