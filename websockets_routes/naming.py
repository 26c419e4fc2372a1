"""Names of functions and classes, for errors, logs and tables."""

from __future__ import annotations

import inspect

__all__ = ["endpoint_name"]


def endpoint_name(target: object) -> str:
    """Name a function or class as a person would look it up: ``module:name``."""
    unwrapped = inspect.unwrap(target) if callable(target) else target
    unwrapped = getattr(unwrapped, "func", unwrapped)  # a functools.partial
    name = getattr(unwrapped, "__qualname__", None)
    if name is None:
        unwrapped = type(unwrapped)
        name = unwrapped.__qualname__
    return f"{unwrapped.__module__}:{name}"
