"""Publishing by HTTP: what is posted goes to a topic."""

from __future__ import annotations

import hmac
from typing import TYPE_CHECKING, Any

from ..broker_errors import BrokerError
from ..exceptions import EndpointError, InvalidTopic
from .request import Request
from .response import Response

if TYPE_CHECKING:
    from ..publishing import Publishing

__all__ = ["PublishEndpoint"]

_FIELDS = (
    *("matched", "queued", "dropped", "closed", "conflated", "displaced"),
    *("offset", "epoch", "duplicate"),
)


class PublishEndpoint:
    """Publishes the bodies of requests that have a token.

    Args:
        publishing: Where to.
        token: The token.

    Raises:
        EndpointError: If it is empty.
    """

    def __init__(self, publishing: Publishing, token: str) -> None:
        if not isinstance(token, str) or not token:
            raise EndpointError("publish_endpoint", "its token is a str, and not empty")
        self._publishing = publishing
        self._token = token.encode()

    async def __call__(self, request: Request) -> Response:
        given = request.headers.get_all("Authorization")
        scheme, _, token = (given[0] if len(given) == 1 else "").partition(" ")
        # Headers are read as latin-1; the token is what was sent.
        sent = token.strip().encode("latin-1", "replace")
        if not hmac.compare_digest(sent, self._token) or scheme.lower() != "bearer":
            headers = {"WWW-Authenticate": "Bearer"}
            return Response("publishing needs the token\n", 401, headers)
        body = await request.body()
        message: Any = body
        if _is_text(request):
            try:
                message = body.decode()
            except UnicodeDecodeError:
                return Response("the text is no UTF-8\n", 400)
        keys = request.headers.get_all("Idempotency-Key")
        if len(keys) > 1:
            return Response("there is one Idempotency-Key, or none\n", 400)
        try:
            receipt = await self._publishing.publish(
                request.params["topic"],
                message,
                idempotency_key=keys[0] if keys else None,
            )
        except InvalidTopic as error:
            return Response(f"{error}\n", 400)
        except BrokerError as error:
            return Response(f"{error}\n", error.status)
        return Response.json({name: getattr(receipt, name) for name in _FIELDS})


def _is_text(request: Request) -> bool:
    """Tell whether the type of the body is that of text; text is the default."""
    kind = next(iter(request.headers.get_all("Content-Type")), "text/plain").lower()
    kind = kind.partition(";")[0].strip()
    return (
        kind.startswith("text/")
        or kind in ("application/json", "application/x-www-form-urlencoded")
        or kind.endswith("+json")
    )
