"""Serializer: JSON by whatever module the user trusts with it."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from .exceptions import EndpointError, InvalidJSON

__all__ = ["Serializer"]


class Serializer:
    """Turns objects into JSON and back.

    Args:
        module: An object with ``dumps`` and ``loads``, like ``json``, ``orjson``
            and ``ujson``, or with ``encode`` and ``decode``, like ``msgspec.json``.
            ``dumps`` may return str or bytes.

    Raises:
        EndpointError: If it has neither pair.
    """

    def __init__(self, module: Any = json) -> None:
        pairs = (("dumps", "loads"), ("encode", "decode"))
        for dumps, loads in pairs:
            if callable(getattr(module, dumps, None)) and callable(
                getattr(module, loads, None)
            ):
                self.dumps: Callable[[Any], str | bytes] = getattr(module, dumps)
                self._loads: Callable[[str | bytes], Any] = getattr(module, loads)
                return
        raise EndpointError(repr(module), "json= takes an object with dumps and loads")

    def loads(self, text: str | bytes) -> Any:
        """Parse JSON that somebody else wrote.

        Raises:
            InvalidJSON: If it cannot be parsed, or is nested too deeply to be.
        """
        try:
            if isinstance(text, bytes):  # "json" would guess at UTF-16 and UTF-32
                text = text.decode()
            return self._loads(text)
        except RecursionError:
            raise InvalidJSON("the JSON is nested too deeply") from None
        except Exception as error:
            raise InvalidJSON(f"the message is no JSON: {error}") from error
