"""The pytest plugin: the fixture ``routed_client``.

It imports what it needs when it is used: projects that do not use it pay nothing, and
coverage of this package begins before the package is imported.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from websockets_routes.router import Router
    from websockets_routes.testing import Client

__all__ = ["routed_client"]


@pytest.fixture
def routed_client(
    request: pytest.FixtureRequest,
) -> Callable[..., Awaitable[Client]]:
    """Serve routers for the time of a test.

    ``c = await routed_client(router)`` makes a client, and takes the arguments of
    ``websockets_routes.testing.client``; it may be called many times. The clients end
    with the test, the last one first, on the event loop that they were made on,
    whatever plugin runs the test there.
    """
    from websockets_routes.testing import client

    if "anyio_backend" in request.fixturenames:
        request.getfixturevalue("_anyio_loop")

    async def make(router: Router, **options: Any) -> Client:
        context = client(router, **options)
        made = await context.__aenter__()
        loop = asyncio.get_running_loop()

        def leave() -> None:
            if loop.is_closed():
                raise RuntimeError(
                    "the event loop was closed before its routed_client: "
                    "use websockets_routes.testing.client on a loop of your own"
                )
            loop.run_until_complete(context.__aexit__(None, None, None))

        # Added now, it comes before the end of what was there before: the fixtures
        # that the test has, and the event loop of its plugin.
        request.node.addfinalizer(leave)
        return made

    return make


@pytest.fixture
async def _anyio_loop() -> AsyncIterator[None]:
    """Keep the event loop of anyio until the fixtures of a test have ended."""
    yield  # noqa: PT022 (it is kept for fixtures that have an end)
