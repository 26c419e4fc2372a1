"""nats-py's client, where a broker needs more than it promises.

What is overridden is nats-py's own affair. Where a later nats-py has no such method,
nothing breaks: it is as if this class were not there, and the tests tell.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import nats.errors
from nats.aio.client import Client

__all__ = ["SteadyClient"]


class SteadyClient(Client):
    """A client that reads on, whatever comes, and is closed at once.

    Args:
        secure: Whether the connection has to be encrypted.
        drop: Called with the subject of a message that cannot be read, and why.
    """

    def __init__(self, secure: bool, drop: Callable[[str, Exception], None]) -> None:
        super().__init__()
        self._secure = secure
        self._drop = drop

    async def _process_info(
        self, info: Mapping[str, Any], initial_connection: bool = False
    ) -> None:
        # nats-py encrypts if the server asks for it, whatever the URL says, and
        # sends credentials next.
        if self._secure and initial_connection and not info.get("tls_required"):
            raise nats.errors.SecureConnWantedError
        await super()._process_info(dict(info), initial_connection)

    async def _process_msg(
        self, sid: int, subject: bytes, reply: bytes, data: bytes, headers: bytes
    ) -> None:
        try:
            await super()._process_msg(sid, subject, reply, data, headers)
        except (ValueError, LookupError) as error:
            # nats-py would stop to read: one message of a stranger, and the node
            # is deaf until somebody misses a pong.
            self._drop(subject.decode(errors="replace"), error)

    async def _close(self, status: int, do_cbs: bool = True) -> None:
        if self._flush_queue is None:
            return  # it did not even begin to connect
        # nats-py would write what is pending, wait until the engine has taken it,
        # and only then tell that the connection is closed: an engine that hangs
        # never takes it.
        self._pending = []
        self._pending_data_size = 0
        writer = getattr(self._transport, "_io_writer", None)
        if writer is not None:
            writer.transport.abort()
        if self.is_connecting:
            # It would wait for the end of a connection whose TLS handshake failed,
            # and that has been taken from it.
            self._transport = None
        await super()._close(status, do_cbs)
