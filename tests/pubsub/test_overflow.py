"""Overflow: the words that a topic's declaration takes."""

from __future__ import annotations

import pytest

from websockets_routes import Overflow


@pytest.mark.parametrize("value", ["close", "drop_oldest", "drop_newest", "conflate"])
def test_a_policy_is_known_by_its_word(value: str) -> None:
    overflow = Overflow(value)
    assert overflow.value == value
    assert overflow is Overflow[value.upper()]
    assert Overflow(overflow) is overflow


def test_there_are_no_other_policies() -> None:
    assert len(Overflow) == 4
    for other in ("CLOSE", "drop", "", None, 0):
        with pytest.raises(ValueError, match="is not a valid Overflow"):
            Overflow(other)
