"""The pytest plugin: in sessions of its own, under several plugins and loops."""

from __future__ import annotations

import pytest

pytest_plugins = ["pytester"]

PLUGIN = "websockets_routes.pytest_plugin"

ROUTER = """
    import asyncio, pytest
    from websockets_routes import Router

    def make_router():
        router = Router()

        @router.route("/")
        async def echo(ws):
            async for message in ws:
                await ws.send(message)

        return router

    async def talk(c):
        ws = await c.connect("/")
        await ws.send("hello")
        assert await ws.recv() == "hello"
        return ws
"""


@pytest.fixture
def run(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    # Whether this package is installed or not, its plugin is loaded once, by name.
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    monkeypatch.setenv("PYTEST_ADDOPTS", f"-p {PLUGIN} -W error")
    pytester.makepyfile(routers=ROUTER)
    return pytester


ASYNCIO = (
    "-p",
    "pytest_asyncio.plugin",
    "-oasyncio_default_fixture_loop_scope=function",
)


@pytest.mark.parametrize("mode", ["auto", "strict"])
def test_clients_are_closed_in_reverse_order_on_the_loop_of_the_test(
    run: pytest.Pytester, mode: str
) -> None:
    code = """
        from routers import *

        pytestmark = pytest.mark.asyncio(loop_scope="{scope}")
        log = []

        def logged(name):
            router = make_router()

            @router.on_shutdown
            async def shutdown():
                log.append((name, asyncio.get_running_loop()))

            return router

        async def test_it(routed_client):
            for name in "abc":
                c = await routed_client(logged(name), timeout=3)
                await talk(c)
            assert log == []
            log.append(asyncio.get_running_loop())

        async def test_after():
            loop, *rest = log
            assert rest == [(name, loop) for name in "cba"]
            assert loop.is_closed() is ("{scope}" == "function")
        """
    for scope in ("function", "module", "session"):
        run.makepyfile(**{f"test_{scope}": code.format(scope=scope)})
    result = run.runpytest_subprocess(*ASYNCIO, f"--asyncio-mode={mode}")
    result.assert_outcomes(passed=6)


def test_a_client_lives_as_long_as_the_fixture_that_made_it(
    run: pytest.Pytester,
) -> None:
    run.makepyfile(
        """
        from routers import *
        import pytest_asyncio

        @pytest_asyncio.fixture
        async def c(routed_client):
            c = await routed_client(make_router())
            yield c
            await talk(c)
            c.server.logger.info("farewell")

        async def test_it(c, routed_client):
            other = await routed_client(make_router())
            assert other.port != c.port
            await talk(other)
            await talk(c)
        """
    )
    result = run.runpytest_subprocess(*ASYNCIO, "--asyncio-mode=auto")
    result.assert_outcomes(passed=1)


@pytest.mark.parametrize("mode", ["auto", "strict"])
def test_a_client_can_be_had_under_anyio(run: pytest.Pytester, mode: str) -> None:
    pytest.importorskip("anyio")
    run.makepyfile(
        f"""
        from routers import *

        {"pytestmark = pytest.mark.anyio" if mode == "strict" else ""}

        @pytest.fixture
        def anyio_backend():
            return "asyncio"

        @pytest.fixture
        async def c(routed_client):
            c = await routed_client(make_router())
            await talk(c)
            yield c
            await talk(c)

        async def test_without_a_fixture(routed_client):
            await talk(await routed_client(make_router()))

        async def test_with_a_fixture(routed_client, c):
            await talk(c)
            await talk(await routed_client(make_router()))
        """
    )
    options = ("-oanyio_mode=auto",) if mode == "auto" else ()
    result = run.runpytest_subprocess("-p", "anyio.pytest_plugin", *options)
    result.assert_outcomes(passed=2)


def test_what_is_left_running_is_an_error_of_the_test(run: pytest.Pytester) -> None:
    run.makepyfile(
        """
        from routers import *

        tasks = set()
        routers = []

        async def test_it(routed_client):
            router = make_router()

            @router.route("/leak")
            async def leak(ws):
                tasks.add(asyncio.create_task(asyncio.Event().wait()))
                await ws.send("done")

            c = await routed_client(make_router())
            routers.append(c)
            c = await routed_client(router, timeout=0.1)
            routers.append(c)
            ws = await c.connect("/leak")
            await ws.recv()

        def test_after():
            assert [c.server.is_serving() for c in routers] == [False, False]
        """
    )
    result = run.runpytest_subprocess(*ASYNCIO, "--asyncio-mode=auto")
    result.assert_outcomes(passed=2, errors=1)
    result.stdout.fnmatch_lines(
        ["E * AssertionError: tasks outlive the server:", "E * Event.wait"]
    )


def test_a_test_that_fails_fails_with_its_own_error(run: pytest.Pytester) -> None:
    run.makepyfile(
        """
        from routers import *

        async def test_it(routed_client):
            c = await routed_client(make_router())
            await talk(c)
            assert (await c.refusal("/none")).status == 403
        """
    )
    result = run.runpytest_subprocess(*ASYNCIO, "--asyncio-mode=auto")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["E * assert 404 == 403"])


def test_a_server_that_does_not_start_leaves_nothing_to_close(
    run: pytest.Pytester,
) -> None:
    run.makepyfile(
        """
        from routers import *

        async def test_it(routed_client):
            router = make_router()

            @router.on_start
            def fail():
                raise LookupError

            with pytest.raises(LookupError):
                await routed_client(router)
        """
    )
    result = run.runpytest_subprocess(*ASYNCIO, "--asyncio-mode=auto")
    result.assert_outcomes(passed=1)


def test_a_loop_that_ends_before_the_test_is_told(run: pytest.Pytester) -> None:
    run.makepyfile(
        """
        from routers import *

        def test_it(routed_client):
            async def main():
                await routed_client(make_router())

            asyncio.run(main())
        """
    )
    result = run.runpytest_subprocess("-W", "default")
    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines(
        ["E * RuntimeError: the event loop was closed before its routed_client*"]
    )


def test_a_project_that_does_not_use_it_pays_nothing(run: pytest.Pytester) -> None:
    run.makepyfile(
        test_it="""
        import sys

        def test_it():
            assert "websockets_routes.testing" not in sys.modules
            assert "pytest_asyncio" not in sys.modules
        """
    )
    result = run.runpytest_subprocess()
    result.assert_outcomes(passed=1)


def test_the_fixture_is_listed_with_its_documentation(run: pytest.Pytester) -> None:
    result = run.runpytest_subprocess("--fixtures")
    result.stdout.fnmatch_lines(
        ["routed_client -- *", "*Serve routers for the time of a test."]
    )
