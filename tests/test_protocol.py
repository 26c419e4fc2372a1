"""Protocol: a connection that knows its route."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
from websockets import Headers
from websockets.asyncio.server import ServerConnection

from websockets_routes import Protocol, RoutedPath, Router

from .integration.servers import HOST, refusal, serve_plain, serving


class Hooked(Protocol):
    def process_request(self, path: RoutedPath, headers: Headers) -> Any:
        return (403, {}, "not you\n") if headers.get("X-Refuse") else None


class Child(Hooked):
    pass


class Unhooked(Hooked):
    process_request = Protocol.process_request


@pytest.fixture
def router() -> Router:
    router = Router()

    @router.route("/{id}")
    async def handler(ws: ServerConnection) -> None:
        pass

    return router


@pytest.mark.parametrize(
    ("kind", "expected"),
    [(Protocol, False), (Hooked, True), (Child, True), (Unhooked, False)],
)
def test_a_class_knows_whether_it_has_a_hook(
    kind: type[Protocol], expected: bool
) -> None:
    assert kind.has_hook is expected
    assert Router().connection_class(kind).has_hook is expected


@pytest.mark.parametrize(
    ("kind", "status"), [(Hooked, 403), (Child, 403), (Unhooked, 1000)]
)
async def test_the_nearest_hook_is_asked(
    router: Router, kind: type[Protocol], status: int
) -> None:
    async with serving(router.serve(HOST, 0, create_connection=kind)) as url:
        assert await refusal(f"{url}/7") == 1000
        headers = {"X-Refuse": "1"}
        assert await refusal(f"{url}/7", additional_headers=headers) == status


async def test_a_hook_may_call_its_base(router: Router) -> None:
    class Polite(Protocol):
        def process_request(self, path: RoutedPath, headers: Headers) -> Any:
            return super().process_request(path, headers)

    async with serving(router.serve(HOST, 0, create_connection=Polite)) as url:
        assert await refusal(f"{url}/7") == 1000


async def test_a_class_may_have_arguments_and_attributes_of_its_own(
    router: Router,
) -> None:
    seen = []

    class Greeting(Protocol):
        def __init__(self, *args: Any, greeting: str, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            self.greeting = greeting

    @router.route("/greet/{name}")
    async def greet(ws: Greeting) -> None:
        seen.append((ws.greeting, ws.params))

    create: Any = partial(Greeting, greeting="hello")
    async with serving(router.serve(HOST, 0, create_connection=create)) as url:
        assert await refusal(f"{url}/greet/Ann") == 1000
    assert seen == [("hello", {"name": "Ann"})]


async def test_the_router_of_the_argument_wins_over_the_router_of_the_class(
    router: Router,
) -> None:
    bound: type[Protocol] = Router().connection_class()
    made: Any = partial(bound, router=router)
    async with serving(serve_plain(router, create_connection=made)) as url:
        assert await refusal(f"{url}/7") == 1000


async def test_the_router_may_be_an_attribute_of_the_class(router: Router) -> None:
    class Bound(Protocol):
        pass

    Bound.router = router
    async with serving(serve_plain(router, create_connection=Bound)) as url:
        assert await refusal(f"{url}/7") == 1000
        assert await refusal(f"{url}/a/b") == 404


async def test_a_connection_that_is_not_routed_yet_has_no_path() -> None:
    seen = []

    async def handler(ws: Protocol) -> None:
        seen.append(hasattr(ws, "path"))
        with pytest.raises(AttributeError, match="path"):
            ws.params  # noqa: B018
        with pytest.raises(AttributeError, match="path"):
            ws.context  # noqa: B018

    server = serve_plain(handler, create_connection=Protocol)
    async with serving(server) as url:
        assert await refusal(url) == 1000
    assert seen == [False]


async def test_an_unmatched_connection_has_a_path_without_params() -> None:
    seen: list[Any] = []
    router = Router()

    @router.not_found
    def not_found(ws: Protocol, path: RoutedPath) -> None:
        ws.context["note"] = 1
        seen.append((ws.path is path, ws.params, path.context))

    async with serving(router.serve(HOST, 0)) as url:
        assert await refusal(f"{url}/nowhere") == 404
    assert seen == [(True, None, {"note": 1})]
