"""Limits: numbers that are limits, and what is none."""

from __future__ import annotations

import math
from decimal import Decimal
from typing import Any

import pytest

from websockets_routes import InvalidLimit, RoutesError
from websockets_routes.limits import MAX_CONNECTIONS, ConnectionLimits, check_limit


@pytest.mark.parametrize("limit", [1, 2**64, 0.5, 1e300, math.inf, MAX_CONNECTIONS])
@pytest.mark.parametrize("optional", [True, False])
def test_a_positive_number_is_a_limit(limit: float, optional: bool) -> None:
    check_limit("max_things", limit, optional=optional)


@pytest.mark.parametrize(
    "limit",
    [
        0,
        -1,
        0.0,
        -0.5,
        -math.inf,
        math.nan,
        True,
        False,
        "1",
        b"1",
        [1],
        1j,
        Decimal(1),
    ],
    ids=repr,
)
@pytest.mark.parametrize("optional", [True, False])
def test_anything_else_raises_with_the_name_and_the_value(
    limit: Any, optional: bool
) -> None:
    with pytest.raises(InvalidLimit) as caught:
        check_limit("max_things", limit, optional=optional)
    assert "max_things" in str(caught.value)
    assert repr(limit) in str(caught.value)
    assert ("None" in str(caught.value)) is optional
    assert isinstance(caught.value, RoutesError)
    assert isinstance(caught.value, ValueError)


def test_none_is_no_limit_where_there_may_be_none() -> None:
    check_limit("max_things", None)
    with pytest.raises(InvalidLimit, match="max_things is a positive number, not None"):
        check_limit("max_things", None, optional=False)


@pytest.mark.parametrize("limit", [0, -1, math.nan, "1", True])
def test_the_limits_of_a_server_are_checked_when_they_are_made(limit: Any) -> None:
    with pytest.raises(InvalidLimit, match="max_connections is"):
        ConnectionLimits(limit, None)
    with pytest.raises(InvalidLimit, match="max_connections_per_address is"):
        ConnectionLimits(None, limit)


def test_a_server_may_have_either_limit_or_none() -> None:
    ConnectionLimits(None, None)
    ConnectionLimits(1, None)
    ConnectionLimits(None, 1)
    ConnectionLimits(MAX_CONNECTIONS, 10)
