"""Text made a value: what a client may write for a type, and nothing else."""

from __future__ import annotations

import enum
import functools
from datetime import date
from typing import Any
from uuid import UUID

import pytest

from websockets_routes.converting import converter


class Color(enum.Enum):
    RED = "red"
    DARK = "red"  # noqa: PIE796
    GREEN = "GREENISH"
    swapped = "RED"


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


class Twins(enum.Enum):
    FIRST = 1
    SECOND = "1"


def month(text: str) -> int:
    if text not in {"1", "2"}:
        raise ValueError(text)
    return int(text)


class Callable:
    def __call__(self, text: str) -> str:
        return text * 2

    __hash__ = None  # type: ignore[assignment]


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        (str, "", ""),
        (str, " é ", " é "),
        (int, "0", 0),
        (int, "-0", 0),
        (int, "+7", 7),
        (int, "007", 7),
        (int, "9" * 32, int("9" * 32)),
        (int, "-" + "9" * 31, -int("9" * 31)),
        (float, "1", 1.0),
        (float, "-1.5e3", -1500.0),
        (float, ".5", 0.5),
        (float, "5.", 5.0),
        (float, "1e-999", 0.0),
        (float, "1" * 300, float("1" * 300)),
        *[(bool, text, True) for text in ("1", "true", "Yes", "oN", "TRUE")],
        *[(bool, text, False) for text in ("0", "false", "No", "oFF", "FALSE")],
        (Color, "red", Color.RED),
        (Color, "GREENISH", Color.GREEN),
        (Color, "GREEN", Color.GREEN),
        (Color, "DARK", Color.RED),
        (Color, "RED", Color.swapped),
        (Level, "1", Level.LOW),
        (Level, "HIGH", Level.HIGH),
        (Twins, "1", Twins.FIRST),
        (Twins, "SECOND", Twins.SECOND),
        (month, "2", 2),
        (Callable(), "a", "aa"),
        (functools.partial(int, base=16), "ff", 255),
        (date.fromisoformat, "2024-02-29", date(2024, 2, 29)),
        (UUID, "0" * 32, UUID(int=0)),
    ],
)
def test_text_is_converted(kind: Any, text: str, value: Any) -> None:
    convert, _ = converter(kind)
    converted = convert(text)
    assert converted == value
    assert type(converted) is type(value)


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        *[
            (kind, text)
            for kind in (int, float)
            for text in ("", "-", "+-1", "x", " 1", "1 ", "1\n", "1_0", "\u0661", "0x1")
        ],
        *[(int, text) for text in ("1.0", "1e3", "--1", "9" * 33, "-" + "9" * 32)],
        *[
            (float, text)
            for text in (".", "e1", "1,5", "nan", "-NaN", "inf", "-Infinity", "1e999")
        ],
        *[
            (bool, text)
            for text in ("", "2", "01", "y", "t", "tru", " true", "true ", "fal\u017fe")
        ],
        *[(Color, text) for text in ("", "Red", "green", "Color.RED")],
        *[(Level, text) for text in ("3", "low", "01")],
        (month, "3"),
        (UUID, "0"),
    ],
)
def test_other_text_is_refused(kind: Any, text: str) -> None:
    convert, _ = converter(kind)
    with pytest.raises(ValueError):  # noqa: PT011
        convert(text)


@pytest.mark.parametrize("kind", [int, float], ids=["int", "float"])
@pytest.mark.parametrize("text", ["9" * 1_000_000 + "x", "9" * 1_000_000])
def test_a_huge_number_is_refused(kind: Any, text: str) -> None:
    convert, _ = converter(kind)
    with pytest.raises(ValueError):  # noqa: PT011
        convert(text)


Long = enum.Enum("Long", {f"M{n}": f"member-{n}" for n in range(50)})  # type: ignore[misc]


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        (str, "str"),
        (int, "int"),
        (float, "float"),
        (bool, "bool"),
        (UUID, "UUID"),
        (month, "month"),
        (functools.partial(month), "month"),
        (functools.partial(Callable()), "Callable"),
        (Callable(), "Callable"),
        (Color, "red | GREENISH | RED"),
        (Level, "LOW | HIGH"),
    ],
)
def test_a_type_has_a_name_that_a_client_can_read(kind: Any, name: str) -> None:
    assert converter(kind)[1] == name


def test_the_name_of_an_enum_with_many_members_is_cut() -> None:
    name = converter(Long)[1]
    assert name.startswith("member-0 | member-1 | ")
    assert name.endswith("…")
    assert len(name) == 80


async def coroutine(text: str) -> str:
    return text


@pytest.mark.parametrize(
    "kind",
    [None, "int", 1, coroutine, functools.partial(coroutine), lambda: 1, enum.Enum],
    ids=["None", "str", "number", "coroutine", "partial", "no-argument", "no-members"],
)
def test_what_converts_nothing_is_refused(kind: Any) -> None:
    with pytest.raises(ValueError, match=r"^its type must be "):
        converter(kind)
