"""Things: all that release 0.2 could do, on today's websockets.

    python examples/thing.py

A path that matches nothing is refused with 404, and so is a thing that is not in
the catalogue: ``/thing/1`` is there, ``/thing/9`` is not.
"""

import asyncio
import http
import logging

from websockets import Headers

from websockets_routes import Protocol, RoutedPath, Router

THINGS = {"1": "a bell", "2": "a book", "3": "a candle"}

router = Router()


@router.route("/thing/")
async def thing_list(ws: Protocol, path: RoutedPath) -> None:
    await ws.send(path)  # the path as it was requested
    for number in THINGS:
        await ws.send(number)


@router.route("/thing/{id}", name="thing")
class ThingDetail:
    async def process_request(
        self, path: RoutedPath, headers: Headers
    ) -> tuple[int, dict[str, str], str] | None:
        number = path.params["id"]
        if number not in THINGS:
            text = f"thing {number!r} not found\n"
            return (http.HTTPStatus.NOT_FOUND, {}, text)
        # What is found here waits in the context for the handler.
        path.context["thing"] = THINGS[number]
        return None

    async def handle(self, ws: Protocol, path: RoutedPath) -> None:
        await ws.send(path)
        await ws.send(path.params["id"])
        await ws.send(path.context["thing"])


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    asyncio.run(router.run("localhost", 8765))
