"""Loading: from ``module:attribute``, as it is typed on a command line, to a router."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

from .exceptions import LoadError
from .router import Router

__all__ = ["load_router"]


def load_router(spec: str) -> Router:
    """Import a router.

    Args:
        spec: ``module:attribute``, the module searched from the current folder
            first; the attribute is a router or a function that makes one, and
            may be dotted.

    Raises:
        LoadError: If there is no such module or attribute, or if it is no router.
            What the module itself raises while it is imported passes through.
    """
    module_name, colon, attribute = spec.partition(":")
    if not (module_name and colon and attribute):
        raise LoadError(f"write module:attribute, as in chat:router, not {spec!r}")
    folder = str(Path.cwd())
    if folder not in sys.path:
        sys.path.insert(0, folder)
    try:
        found: Any = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        # Only the module asked for, not one that it imports itself.
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise
        raise LoadError(f"there is no module {module_name!r} in {folder}") from None
    for name in attribute.split("."):
        try:
            found = getattr(found, name)
        except AttributeError:
            raise LoadError(
                f"the module {module_name!r} has no attribute {attribute!r}"
            ) from None
    if callable(found) and not isinstance(found, Router):
        found = found()
    if not isinstance(found, Router):
        raise LoadError(
            f"{spec} is no router and makes none, but a {type(found).__name__}"
        )
    return found
