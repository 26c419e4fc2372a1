"""Errors of presence: who cannot be present, and what is no message between nodes."""

from __future__ import annotations

from http import HTTPStatus

from websockets import CloseCode

from .exceptions import RoutesError

__all__ = ["InvalidPresence", "PresenceTooLarge"]


class InvalidPresence(RoutesError, ValueError):
    """A member that cannot be present, or a message between nodes that is none.

    Attributes:
        problem: What is wrong with it, and what to do.
    """

    status = HTTPStatus.BAD_REQUEST
    close_code = CloseCode.POLICY_VIOLATION

    def __init__(self, problem: str) -> None:
        super().__init__(problem)
        self.problem = problem

    def __str__(self) -> str:
        return f"presence: {self.problem}"


class PresenceTooLarge(InvalidPresence):
    """An info of a member that is too large; unhandled, it closes with 1009.

    Attributes:
        size: Its size, in bytes of JSON.
        limit: The size that it may have.
    """

    status = HTTPStatus.REQUEST_ENTITY_TOO_LARGE
    close_code = CloseCode.MESSAGE_TOO_BIG

    def __init__(self, size: int, limit: int) -> None:
        problem = f"an info has {size} bytes, {limit} are allowed; keep less in it"
        super().__init__(problem)
        self.args = (size, limit)
        self.size = size
        self.limit = limit
