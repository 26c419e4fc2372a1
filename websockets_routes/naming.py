"""Names of functions, classes and values, for errors, logs and tables."""

from __future__ import annotations

import inspect

__all__ = ["endpoint_name", "shortened", "shown"]

_LONGEST_VALUE = 78  # characters; an error is read in one line


def endpoint_name(target: object) -> str:
    """Name a function or class as a person would look it up: ``module:name``."""
    unwrapped = inspect.unwrap(target) if callable(target) else target
    unwrapped = getattr(unwrapped, "func", unwrapped)  # a functools.partial
    name = getattr(unwrapped, "__qualname__", None)
    if name is None:
        unwrapped = type(unwrapped)
        name = unwrapped.__qualname__
    return f"{unwrapped.__module__}:{name}"


def shortened(text: str, length: int) -> str:
    """Cut a text that has more characters than it may."""
    return text if len(text) <= length else f"{text[: length - 1]}…"


def shown(value: object) -> str:
    """Show a value that was refused in 78 characters at most, whatever it is."""
    try:
        text = repr(value)
    except Exception:  # nested too deeply, an int too long, a repr of the user's own
        text = object.__repr__(value)
    return shortened(text, _LONGEST_VALUE)
