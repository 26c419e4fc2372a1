r"""A webhook: what another service posts, those who listen hear at once.

    SECRET=secret python examples/webhook.py

Listen at ``ws://localhost:8765/events/orders``, and post to it, signed as GitHub signs
its webhooks::

    body='{"order": 7}'
    signature=$(printf %s "$body" | openssl dgst -sha256 -hmac secret | sed 's/.* //')
    curl -d "$body" -H "X-Hub-Signature-256: sha256=$signature" \
        localhost:8765/hooks/orders

Who knows the token, here the secret too, may publish to any topic without a signature::

    curl -d hello -H "Authorization: Bearer secret" \
        localhost:8765/publish/events/orders
"""

import asyncio
import hmac
import logging
import os

from websockets_routes import Protocol, Router, header
from websockets_routes.http import Request, Response

SECRET = os.environ.get("SECRET", "secret")

router = Router()
events = router.topic("events/{name}")


@router.route("/events/{name}", subscribe=events)
class Listener:
    def on_text(self, ws: Protocol, text: str) -> None:
        """Have nothing to say."""


@router.post("/hooks/{name}", max_content_length=100_000)
@header("x-hub-signature-256", required=True, description="sha256=…, of the body")
async def hook(request: Request) -> dict[str, int]:
    body = await request.body()
    expected = "sha256=" + hmac.digest(SECRET.encode(), body, "sha256").hex()
    signature = request.path.inputs["x-hub-signature-256"]
    if not hmac.compare_digest(signature.encode(), expected.encode()):
        raise Response.error("the signature is wrong\n", 403)
    event = await request.json()
    receipt = router.publish_json(events(name=request.params["name"]), event)
    return {"listeners": receipt.queued}


router.publish_endpoint(token=SECRET)

if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    asyncio.run(router.run("localhost", 8765))
