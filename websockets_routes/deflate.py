"""Shared compression: deflate without context takeover (RFC 7692, section 7.1.1).

No connection has a context of its own, neither to send nor to receive, so that a
message which is compressed once is right for all of them, and an idle connection
holds no compressor.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from websockets import Frame, Opcode, ServerProtocol
from websockets.extensions import Extension
from websockets.extensions.permessage_deflate import (
    PerMessageDeflate,
    ServerPerMessageDeflateFactory,
)
from websockets.typing import ExtensionParameter

__all__ = [
    "OWN",
    "OWN_DEFLATE",
    "PAYS_FROM",
    "PLAIN",
    "SharedDeflate",
    "SharedDeflateFactory",
    "encoding_of",
    "offer",
]

#: Bytes from which compressing a message on its own is worth the time.
PAYS_FROM = 512

# Encodings: what a frame has to be like for a connection to understand it. A
# positive number means compressed, with a window of so many bits.
#: Not compressed.
PLAIN = 0
#: What only the connection itself can make.
OWN = -1
#: The same, but it understands what is not compressed as well.
OWN_DEFLATE = -2

# What websockets has for servers: 4 KiB to look back, for either side.
_WINDOW_BITS = 12
_SETTINGS = {"memLevel": 5}


def encoding_of(protocol: ServerProtocol) -> int:
    """Tell what frames a connection understands, from the extensions it negotiated."""
    extensions = protocol.extensions
    if not extensions:
        return PLAIN
    first = extensions[0]
    if (
        len(extensions) > 1
        or not isinstance(first, PerMessageDeflate)
        or first.name != PerMessageDeflate.name
    ):
        return OWN
    if not first.local_no_context_takeover:
        return OWN_DEFLATE
    return first.local_max_window_bits


class SharedDeflate(PerMessageDeflate):
    """Deflate that leaves messages alone which it would not make shorter."""

    def encode(self, frame: Frame) -> Frame:
        if not frame.fin or frame.opcode is Opcode.CONT:
            # Nobody knows how long the message is going to be.
            return super().encode(frame)
        if len(frame.data) < PAYS_FROM:
            return frame
        encoded = super().encode(frame)
        return encoded if len(encoded.data) < len(frame.data) else frame


class SharedDeflateFactory(ServerPerMessageDeflateFactory):
    """Negotiates ``SharedDeflate``; an extension for ``websockets.serve``, too."""

    def __init__(self) -> None:
        super().__init__(
            server_no_context_takeover=True,
            client_no_context_takeover=True,
            server_max_window_bits=_WINDOW_BITS,
            client_max_window_bits=_WINDOW_BITS,
            compress_settings=_SETTINGS,
        )

    def process_request_params(
        self,
        params: Sequence[ExtensionParameter],
        accepted_extensions: Sequence[Extension],
    ) -> tuple[list[ExtensionParameter], SharedDeflate]:
        response, extension = super().process_request_params(
            params, accepted_extensions
        )
        shared = SharedDeflate(
            extension.remote_no_context_takeover,
            extension.local_no_context_takeover,
            extension.remote_max_window_bits,
            extension.local_max_window_bits,
            extension.compress_settings,
        )
        return response, shared


def offer(extensions: Sequence[Any] | None) -> list[Any]:
    """Add shared compression to extensions, unless they have compression already."""
    offered = list(extensions or ())
    if all(each.name != SharedDeflateFactory.name for each in offered):
        offered.append(SharedDeflateFactory())
    return offered
