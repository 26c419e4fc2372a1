"""Naming: what is told of functions and values in one line, whatever they are."""

from __future__ import annotations

import functools
from typing import Any

import pytest

from websockets_routes.naming import endpoint_name, shortened, shown


class Room:
    def __call__(self) -> None: ...

    def talk(self) -> None: ...


def test_a_name_is_one_that_a_person_would_look_up() -> None:
    for target in (Room, Room(), functools.partial(Room)):
        assert endpoint_name(target) == f"{__name__}:Room"
    assert endpoint_name(Room().talk) == f"{__name__}:Room.talk"


@pytest.mark.parametrize(
    ("text", "short"), [("", ""), ("abcd", "abcd"), ("abcde", "abc…")]
)
def test_a_text_is_shortened(text: str, short: str) -> None:
    assert shortened(text, 4) == short


class Unspeakable:
    def __repr__(self) -> str:
        raise ZeroDivisionError


def nested() -> list[Any]:
    value: list[Any] = []
    for _ in range(100_000):
        value = [value]
    return value


@pytest.mark.parametrize(
    "value",
    [nested(), 10**5000, Unspeakable(), "x" * 1000],
    ids=["deep", "large", "raises", "long"],
)
def test_every_value_can_be_shown(value: object) -> None:
    assert 0 < len(shown(value)) <= 78
    assert shown("a\n") == "'a\\n'"
