"""A public and a private part, one database, and one place that hears of errors.

    python examples/private_api.py

``ws://localhost:8765/api/notes`` lists the notes of the database. With the header
``Authorization: Bearer secret``, ``ws://localhost:8765/admin/notes`` adds what it is
sent; without it, the handshake is refused with 401.
"""

import asyncio
import logging
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from websockets import Response

from websockets_routes import Protocol, RoutedPath, Router

logger = logging.getLogger("private_api")


@asynccontextmanager
async def database(router: Router) -> AsyncIterator[sqlite3.Connection]:
    connection = sqlite3.connect(":memory:")
    connection.execute("CREATE TABLE note (text TEXT NOT NULL CHECK (text != ''))")
    connection.execute("INSERT INTO note VALUES ('the bell rang')")
    yield connection
    connection.close()


router = Router(lifespan=database)
api = Router()
admin = Router()


@admin.before_handshake
def check_token(ws: Protocol, path: RoutedPath) -> Response | None:
    if ws.headers.get("Authorization") != "Bearer secret":
        return ws.respond(401, "who are you?\n")
    path.context["user"] = "ada"
    return None


@router.middleware
async def log_visits(
    ws: Protocol, path: RoutedPath, call_next: Callable[..., Awaitable[None]]
) -> None:
    logger.info("%s visits %s", path.context.get("user", "somebody"), path.route)
    await call_next(ws, path, db=router.state)


@router.on_error(sqlite3.IntegrityError)
async def refuse(error: sqlite3.IntegrityError, ws: Protocol, path: Any) -> None:
    logger.info("%s: %s", path.route, error)
    await ws.close(4000, "not a note")


@api.route("/notes")
async def list_notes(ws: Protocol, *, db: sqlite3.Connection) -> None:
    for (text,) in db.execute("SELECT text FROM note").fetchall():
        await ws.send(text)


@admin.route("/notes", name="add")
async def add_notes(ws: Protocol, *, db: sqlite3.Connection) -> None:
    async for text in ws:
        with db:
            db.execute("INSERT INTO note VALUES (?)", [text])


router.mount("/api", api, name="api")
router.mount("/admin", admin, name="admin")

if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    asyncio.run(router.run("localhost", 8765))
