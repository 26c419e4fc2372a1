"""One port, several hosts: each tenant's own name, and one for everybody else.

    python examples/hosts.py

``ws://localhost:8765/`` is for everybody; with ``Host: ada.example.com``, ada is
welcomed; ``admin.example.com`` is more specific, and has routes of its own. For TLS,
``websockets_routes.tls.server_names`` chooses a certificate by the same names.
"""

import asyncio
import logging

from websockets_routes import Protocol, RoutedPath, Router

router = Router()
tenants = router.host("{tenant}.example.com")
admin = router.host("admin.example.com")


@router.route("/")
async def everybody(ws: Protocol) -> None:
    await ws.send("welcome, whoever you are")


@tenants.route("/")
async def tenant(ws: Protocol, path: RoutedPath) -> None:
    await ws.send(f"welcome, {path.params['tenant']}")


@admin.route("/status")
async def status(ws: Protocol) -> None:
    await ws.send("all is well")


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    asyncio.run(router.run("localhost", 8765))
