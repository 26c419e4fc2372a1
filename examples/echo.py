"""Echo: the smallest routed server.

python examples/echo.py
websockets-routes run examples.echo:router
"""

import asyncio
import logging

from websockets_routes import Protocol, RoutedPath, Router

router = Router()


@router.route("/echo")
async def echo(ws: Protocol) -> None:
    async for message in ws:
        await ws.send(message)


@router.route("/hello/{name}", name="hello")
async def hello(ws: Protocol, path: RoutedPath) -> None:
    await ws.send(f"Hello {path.params['name']}!")


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    asyncio.run(router.run("localhost", 8765))
