"""Negotiation: what a route agrees on with its clients, other than its server does.

What this module takes from ``websockets`` beyond its documentation, and
``tests/test_undocumented.py`` watches: before a handshake is accepted, the Sans-I/O
protocol can be given other ``available_subprotocols``, ``available_extensions``,
``max_message_size`` and ``max_fragment_size``; its ``select_subprotocol`` is an
attribute where the server was given one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from websockets import ServerProtocol, State, Subprotocol
from websockets.extensions.permessage_deflate import (
    ServerPerMessageDeflateFactory,
    enable_server_permessage_deflate,
)

from .deflate import offer
from .exceptions import InvalidLimit
from .tokens import TOKEN

__all__ = ["UNSET", "Negotiation"]

#: Stands for what a route leaves to its server.
UNSET: Any = object()


class Negotiation:
    """What one route wants.

    Args:
        subprotocols: Subprotocols, the preferred first; a client has to offer one of
            them.
        max_size: Bytes of an incoming message, as ``websockets.serve`` has it. What
            arrives before the handshake is over is bound by that of the server.
        compression: ``"shared"``, ``"deflate"`` or None.

    Raises:
        InvalidLimit: If one of them cannot work.
    """

    def __init__(
        self,
        subprotocols: Sequence[str] | None = None,
        max_size: Any = UNSET,
        compression: Any = UNSET,
    ) -> None:
        if subprotocols is not None and not (
            isinstance(subprotocols, list | tuple)
            and all(
                isinstance(each, str) and TOKEN.fullmatch(each) for each in subprotocols
            )
        ):
            raise InvalidLimit(
                f"subprotocols is a list of tokens, not {subprotocols!r}"
            )
        if compression not in (UNSET, None, "shared", "deflate"):
            raise InvalidLimit(
                f"compression is 'shared', 'deflate' or None, not {compression!r}"
            )
        sizes = max_size if isinstance(max_size, tuple) else (max_size, None)
        if len(sizes) != 2:
            raise InvalidLimit(f"max_size is one number, or two, not {max_size!r}")
        for size in sizes:
            if size is not UNSET and size is not None and not _is_size(size):
                raise InvalidLimit(f"max_size is a number or None, not {max_size!r}")
        self._subprotocols = subprotocols
        self._sizes = None if max_size is UNSET else sizes
        self._compression = compression

    def __bool__(self) -> bool:
        return (
            self._subprotocols is not None
            or self._sizes is not None
            or self._compression is not UNSET
        )

    def apply(self, protocol: ServerProtocol) -> None:
        """Have a protocol want the same; after the handshake, only sizes."""
        if self._sizes is not None:
            protocol.max_message_size, protocol.max_fragment_size = self._sizes
        if protocol.state is not State.CONNECTING:
            return
        if self._subprotocols is not None:
            protocol.available_subprotocols = [
                Subprotocol(each) for each in self._subprotocols
            ]
            vars(protocol).pop("select_subprotocol", None)
        if self._compression is not UNSET:
            others = [
                each
                for each in protocol.available_extensions or ()
                if each.name != ServerPerMessageDeflateFactory.name
            ]
            if self._compression == "shared":
                others = offer(others)
            elif self._compression == "deflate":
                others = list(enable_server_permessage_deflate(others))
            protocol.available_extensions = others


def _is_size(size: object) -> bool:
    return isinstance(size, int) and not isinstance(size, bool) and size > 0
