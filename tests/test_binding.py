"""Binding: connection classes and factories whose connections know a router."""

from __future__ import annotations

import asyncio
import logging
from functools import partial
from types import SimpleNamespace
from typing import Any

import orjson
import pytest
from websockets.asyncio.client import unix_connect
from websockets.asyncio.server import ServerConnection

from websockets_routes import EndpointError, Protocol, Router
from websockets_routes.binding import bind_class, bind_factory
from websockets_routes.extensions import Extensions

from .integration.servers import HOST, receive, serve_plain, serving


class Named(Protocol):
    """What it is."""


def make(*args: Any, **kwargs: Any) -> Named:
    return Named(*args, **kwargs)


def extensions() -> Extensions:
    found = Extensions(Protocol)
    found.add(lambda ws: ws.property("user", "nobody"))
    return found


def test_a_bound_class_looks_like_its_base() -> None:
    bound = bind_class(Named, extensions(), {"router": "it", "more": 1})
    assert bound.__bases__ == (Named,)
    for name in ("__name__", "__qualname__", "__module__", "__doc__"):
        assert getattr(bound, name) == getattr(Named, name)
    assert vars(bound)["router"] == "it"
    assert vars(bound)["more"] == 1
    assert "user" in vars(bound)
    assert not hasattr(Named, "user")


@pytest.mark.parametrize(
    "base", [None, "Named", 1, ServerConnection, Named.__init__, partial(Named)]
)
def test_what_is_no_protocol_is_not_bound(base: Any) -> None:
    with pytest.raises(EndpointError, match="must be a subclass"):
        bind_class(base, extensions(), {})


def test_a_factory_passes_its_arguments_on_and_what_it_makes_is_bound() -> None:
    class Made:
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            self.given = args, kwargs

    class Bound(Made):
        pass

    create = bind_factory(Made, lambda kind: Bound)  # type: ignore[arg-type, return-value]
    made: Any = create(1, a=2)
    assert type(made) is Bound
    assert made.given == ((1,), {"a": 2})


def test_a_class_is_bound_once_to_a_router() -> None:
    router = Router()
    assert router.connection_class(Named) is router.connection_class(Named)
    assert router.connection_class() is router.connection_class(Protocol)
    assert router.connection_class(Named) is not Router().connection_class(Named)


@pytest.mark.parametrize("extended", [False, True], ids=["plain", "extended"])
def test_a_bound_class_may_be_bound_again(extended: bool) -> None:
    router = Router()
    if extended:
        router.extend(lambda ws: ws.property("user"))
    bound = router.connection_class(Named)
    assert issubclass(router.connection_class(bound), Named)


CREATE: dict[str, Any] = {
    "nothing": lambda router: None,
    "class": lambda router: Named,
    "function": lambda router: make,
    "partial": lambda router: partial(Named),
    "bound class": lambda router: router.connection_class(Named),
    "bound partial": lambda router: partial(Named, router=router),
}
BOUND = [name for name in CREATE if name.startswith("bound")]


def speaking() -> Router:
    """Make a router with an extension and a JSON module, which a handler shows."""
    shown = SimpleNamespace(dumps=lambda v: f"mine {v}", loads=orjson.loads)
    router = Router(json=shown)
    router.extend(lambda ws: ws.property("user", "nobody"))

    @router.route("/")
    async def handler(ws: Any) -> None:
        assert ws.router is router
        await ws.send_json(ws.user)

    return router


@pytest.mark.parametrize("name", CREATE)
async def test_serve_gives_its_connections_the_extensions_and_the_json_module(
    name: str,
) -> None:
    router = speaking()
    server = router.serve(HOST, 0, create_connection=CREATE[name](router))
    async with serving(server) as url:
        assert await receive(url) == "mine nobody"


@pytest.mark.parametrize("name", BOUND)
async def test_a_bound_class_has_them_on_a_plain_server(name: str) -> None:
    router = speaking()
    server = serve_plain(router, create_connection=CREATE[name](router))
    async with serving(server) as url:
        assert await receive(url) == "mine nobody"


@pytest.mark.parametrize("name", CREATE)
async def test_run_gives_its_connections_the_extensions_and_the_json_module(
    name: str, tmp_path: Any
) -> None:
    router, started = speaking(), asyncio.Event()

    class Started(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            started.set()

    path = str(tmp_path / "socket")
    log = logging.Logger("of its own", logging.INFO)
    log.addHandler(Started())
    create = CREATE[name](router)
    running = asyncio.create_task(
        router.run(
            create_connection=create, unix=True, path=path, logger=log, close_timeout=1
        )
    )
    try:
        async with asyncio.timeout(2):
            await started.wait()
            async with unix_connect(path, "ws://localhost/") as ws:
                assert await ws.recv() == "mine nobody"
    finally:
        running.cancel()
        await asyncio.wait({running})
