"""Checks of a handshake that look at no route: its room, its host, its origin."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from http import HTTPStatus
from typing import Any

from websockets import (
    InvalidHandshake,
    InvalidOrigin,
    Request,
    Response,
    ServerProtocol,
    State,
)
from websockets.asyncio.server import ServerConnection

from .exceptions import BadRequest
from .host import host_name
from .limits import ConnectionLimits
from .refusal import text_response
from .target import target_host

__all__ = ["check_host", "check_origin", "has_room", "host_of"]

# RFC 3986 section 3.2.2, but without percent-encoding, and a port.
_HOST = re.compile(
    r"(?:[-\w.~!$&'()*+,;=]*|\[[0-9a-f:.]+\])(?::[0-9]*)?", re.ASCII | re.IGNORECASE
)


def has_room(connection: ServerConnection) -> bool:
    """Tell whether the server of a connection takes one more."""
    limits: ConnectionLimits | None = getattr(connection.server, "limits", None)
    return (
        limits is None
        # One that is open already was let in before.
        or connection.state is not State.CONNECTING
        or limits.admit(connection)
    )


def check_host(request: Any) -> None:
    """Check that a request names one host.

    Raises:
        BadRequest: If it does not.
    """
    # RFC 9112 section 3.2; websockets does not look at the Host header.
    hosts = request.headers.get_all("Host")
    if len(hosts) > 1 or (not hosts and request.protocol != "HTTP/1.0"):
        raise BadRequest("the request must have one Host header")
    if hosts and not _is_host(hosts[0]):
        raise BadRequest("the Host header is no host")


# Nearly all requests are for one of a few hosts.
@lru_cache(64)
def _is_host(text: str) -> bool:
    return _HOST.fullmatch(text) is not None


def host_of(request: Any) -> str:
    """Return the name of the host that a request is for, as ``host_name`` does."""
    host = target_host(request.path)
    return host_name(request.headers.get("Host", "") if host is None else host)


def check_origin(
    connection: ServerConnection,
    request: Request,
    origins: Sequence[Any] | None = None,
) -> Response | None:
    """Check the origin as ``websockets`` will, but before the hooks of routes run.

    Args:
        connection: The connection.
        request: Its request.
        origins: What it may be; by default, what the server was given.
    """
    protocol = connection.protocol
    if origins is not None:
        protocol = ServerProtocol(origins=origins)
    try:
        protocol.process_origin(request.headers)
    except InvalidOrigin as error:
        return text_response(HTTPStatus.FORBIDDEN, str(error))
    except InvalidHandshake as error:
        return text_response(HTTPStatus.BAD_REQUEST, str(error))
    return None
