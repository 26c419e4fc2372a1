"""What an idle connection holds in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from statistics import median

try:
    import resource
except ImportError:  # Windows, which has no such limit
    resource = None  # type: ignore[assignment]

from websockets.asyncio.server import Server, serve

from websockets_routes import Protocol, RoutedPath, Router

from .handshake import EXTENSION, wait_closed
from .measurement import Ratio, Table, interleave
from .server_process import HOST, ServerProcess, close_connection, open_connection

__all__ = ["run"]

PLAIN = "`websockets.serve`"
TARGET = "/room/42"


def run(quick: bool) -> Iterator[Table]:
    rounds, number = (1, 200) if quick else (3, 2_000)
    raise_open_files(number + 100)
    for compression in ("deflate", None):
        measures = {
            name: partial(bytes_per_connection, partial(make, compression), number)
            for name, make in SERVERS.items()
        }
        measured = interleave(measures, rounds)
        table = Table(
            f"Resident bytes per idle connection, compression={compression!r}",
            ("", "bytes", ": plain"),
        )
        for name in SERVERS:
            ratio = Ratio.of(measured[name], measured[PLAIN])
            cells = (f"{median(measured[name]):,.0f}", f"{ratio} ({ratio.spread})")
            table.rows.append((name, *cells))
        for name in list(SERVERS)[1:]:
            ratio = Ratio.of(measured[name], measured[PLAIN])
            table.notes.append(f"{name} : {PLAIN} = {ratio.against(1.05)}")
        yield table


def bytes_per_connection(serve: Callable[[], Server], number: int) -> float:
    with ServerProcess({"": serve}) as process:
        port = process.ports[""]
        # What the first connections bring with them is not theirs alone.
        for _ in range(20):
            close_connection(open_connection(port, TARGET, EXTENSION))
        process.wait_idle()
        before = process.resident_bytes()
        connections = [open_connection(port, TARGET, EXTENSION) for _ in range(number)]
        after = process.resident_bytes()
        for connection in connections:
            close_connection(connection)
    return (after - before) / number


def raise_open_files(number: int) -> None:
    if resource is None:
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < number:
        resource.setrlimit(resource.RLIMIT_NOFILE, (number, hard))


async def handler(ws: Protocol, path: RoutedPath) -> None:
    await ws.wait_closed()


class Endpoint:
    async def handle(self, ws: Protocol, path: RoutedPath) -> None:
        await ws.wait_closed()


def serve_plain(compression: str | None) -> Server:
    return serve(wait_closed, HOST, 0, compression=compression)


def serve_router(endpoint: Callable[..., object], compression: str | None) -> Server:
    router = Router()
    router.add_route("/room/{name}", endpoint)
    return router.serve(HOST, 0, compression=compression)


SERVERS: dict[str, Callable[[str | None], Server]] = {
    PLAIN: serve_plain,
    "`router.serve`, a function": partial(serve_router, handler),
    "`router.serve`, a class": partial(serve_router, Endpoint),
}
