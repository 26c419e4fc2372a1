"""Converting: the text of a declared input made a value, strictly.

Python's own int and float take more than a client should be able to send:
underscores, spaces, digits of other scripts, "nan".
"""

from __future__ import annotations

import functools
import inspect
import math
import re
from collections.abc import Callable
from enum import Enum
from typing import Any

from .arity import is_async, takes
from .naming import shortened

__all__ = ["Convert", "converter"]

Convert = Callable[[str], Any]

_INTEGER = re.compile(r"[+-]?[0-9]+")
_MAX_INTEGER = 32  # characters: the time that int() takes is quadratic in them
_BOOLEANS = dict.fromkeys(("1", "true", "yes", "on"), True) | dict.fromkeys(
    ("0", "false", "no", "off"), False
)


def converter(kind: Any) -> tuple[Convert, str]:
    """Find what converts text to a type, and what to call the type.

    Args:
        kind: str, int, float, bool, an Enum, or a callable that makes a value of a
            str and raises ValueError if it cannot.

    Raises:
        ValueError: If it is none of them, or an Enum without members.
    """
    if inspect.isclass(kind) and issubclass(kind, Enum):
        return _member_of(kind)
    if not callable(kind) or is_async(kind) or not takes(kind, 1):
        raise ValueError("its type must be a plain callable that takes a str")
    for known, convert in ((int, _integer), (float, _number), (bool, _boolean)):
        if kind is known:
            return convert, known.__name__
    called = kind.func if isinstance(kind, functools.partial) else kind
    return kind, getattr(called, "__name__", type(called).__name__)


def _integer(text: str) -> int:
    if len(text) > _MAX_INTEGER or not _INTEGER.fullmatch(text):
        raise ValueError
    return int(text)


def _number(text: str) -> float:
    if "_" in text or not text.isascii() or text != text.strip():
        raise ValueError
    number = float(text)
    if not math.isfinite(number):  # "inf", "nan" and "1e999"
        raise ValueError
    return number


def _boolean(text: str) -> bool:
    value = _BOOLEANS.get(text.lower())
    if value is None:
        raise ValueError
    return value


def _member_of(kind: type[Enum]) -> tuple[Convert, str]:
    members: dict[str, Enum] = {}
    for each in kind:
        members.setdefault(str(each.value), each)
    for name, each in kind.__members__.items():  # with its aliases
        members.setdefault(name, each)
    if not members:
        raise ValueError("its type must be an Enum that has members")

    def convert(text: str) -> Enum:
        if text not in members:
            raise ValueError
        return members[text]

    words = (m.value if isinstance(m.value, str) else m.name for m in kind)
    return convert, shortened(" | ".join(words), 80)
