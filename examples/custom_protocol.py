"""A Protocol of one's own: a token for every path, and a method for all handlers.

    python examples/custom_protocol.py

Connect to ``ws://localhost:8765/news?token=secret``. Without the token the answer
is 401, on every path; ``/healthz`` answers a plain HTTP client.
"""

import asyncio
import hmac
import json
import logging
from typing import Any

from websockets import Headers

import websockets_routes
from websockets_routes import RoutedPath, Router

router = Router()


class MyProtocol(websockets_routes.Protocol):
    def process_request(
        self, path: RoutedPath, headers: Headers
    ) -> tuple[int, dict[str, str], str] | None:
        if path.path == "/healthz":
            return (200, {}, "ok\n")
        token = path.query_params.get("token", "")
        if not hmac.compare_digest(token.encode(), b"secret"):
            return (401, {"WWW-Authenticate": "Bearer"}, "a token, please\n")
        return None

    async def send_event(self, name: str, **values: Any) -> None:
        await self.send(json.dumps({"event": name, **values}))


@router.route("/news")
async def news(ws: MyProtocol) -> None:
    await ws.send_event("headline", text="the bell rang", path=ws.path.path)


async def main() -> None:
    # With websockets' own function, that is websockets.serve(router, …,
    # create_connection=router.connection_class(MyProtocol)).
    await router.run("localhost", 8765, create_connection=MyProtocol)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    asyncio.run(main())
