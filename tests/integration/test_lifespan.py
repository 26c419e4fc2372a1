"""Lifespan over loopback: the order of start and end, and failures on the way."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import logging
import re
import socket
from collections.abc import AsyncIterator
from typing import Any

import pytest
from websockets.asyncio.server import ServerConnection

from websockets_routes import NotServing, Router
from websockets_routes.naming import endpoint_name

from .servers import HOST, connecting, end, port, serving

TIMEOUT = 10
Trace = list[str]
STARTED = ["+root", "s root", "+middle", "s middle", "+inner", "s inner"]
SHUT_DOWN = ["d inner", "d middle", "d root"]
LEFT = ["-inner", "-middle", "-root"]


class Trouble(Exception): ...


def traced(trace: Trace, name: str, fails: str = "") -> Router:
    """Make a router that tells when it starts and ends; it may fail somewhere."""

    @contextlib.asynccontextmanager
    async def lifespan(router: Router) -> AsyncIterator[str]:
        tell(f"+{name}")
        await asyncio.sleep(0)
        try:
            yield f"state of {name}"
        finally:
            await asyncio.sleep(0)
            tell(f"-{name}")

    def tell(what: str) -> None:
        trace.append(what)
        if what == fails:
            raise Trouble(what)

    router = Router(lifespan=lifespan)

    @router.on_start
    async def start() -> None:
        await asyncio.sleep(0)
        tell(f"s {name}")

    @router.on_shutdown
    def shutdown() -> None:
        tell(f"d {name}")

    return router


def tree(trace: Trace, fails: str = "") -> Router:
    root, middle, inner = (
        traced(trace, name, fails) for name in ("root", "middle", "inner")
    )
    root.mount("/m", middle).mount("/i", inner)
    return root


def errors_of(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [
        record.getMessage()
        for record in caplog.records
        if record.levelno >= logging.ERROR
    ]


@pytest.mark.parametrize("way", ["async with", "await", "run"])
async def test_routers_start_outer_before_inner_and_end_the_other_way_round(
    way: str,
) -> None:
    trace: Trace = []
    root = tree(trace)
    for _ in range(2):
        trace.clear()
        if way == "async with":
            async with serving(root.serve(HOST, 0)):
                assert trace == STARTED
        elif way == "await":
            server = await root.serve(HOST, 0)
            assert trace == STARTED
            server.close()
            await server.wait_closed()
        else:
            await run_until_started(root)
        assert trace == STARTED + SHUT_DOWN + LEFT
    assert [router.state for router in root.routers] == [
        "state of root",
        "state of middle",
        "state of inner",
    ]


class Listening(logging.Handler):
    """Waits for the log to say that a server listens, and where."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.port: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self.logger = logging.Logger("running", logging.INFO)
        self.logger.addHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        found = re.search(r"server listening on .*:(\d+)$", record.getMessage())
        if found is not None:
            self.port.set_result(int(found.group(1)))


@contextlib.asynccontextmanager
async def running(
    router: Router, **kwargs: Any
) -> AsyncIterator[tuple[asyncio.Task[None], str]]:
    """Run a router; yield the task and its address; end with the task."""
    listening = Listening()
    task = asyncio.create_task(router.run(HOST, 0, logger=listening.logger, **kwargs))
    try:
        async with asyncio.timeout(TIMEOUT):
            yield task, f"ws://{HOST}:{await listening.port}/"
            await asyncio.wait({task})
    finally:
        task.cancel()
        await asyncio.wait({task})


async def run_until_started(root: Router) -> None:
    async with running(root) as (task, _):
        task.cancel()


async def start(root: Router, number: int, way: str) -> None:
    if way == "async with":
        async with root.serve(HOST, number):
            raise AssertionError("it started")
    elif way == "await":
        await root.serve(HOST, number)
    else:
        await root.run(HOST, number)


async def test_nothing_listens_before_everything_has_started() -> None:
    root = Router()
    with socket.create_server((HOST, 0)) as free:
        number = free.getsockname()[1]

    @root.on_start
    async def start() -> None:
        with pytest.raises(OSError, match=r"."):
            await asyncio.open_connection(HOST, number)

    async with serving(root.serve(HOST, number)):
        pass


FAILURES = {
    "+root": (["+root"], []),
    "s root": (STARTED[:2], ["-root"]),
    "+middle": (STARTED[:3], ["d root", "-root"]),
    "s middle": (STARTED[:4], ["-middle", "-root"]),
    "+inner": (STARTED[:5], ["d middle", "d root", "-middle", "-root"]),
    "s inner": (STARTED, ["-inner", "-middle", "-root"]),
}


@pytest.mark.parametrize("fails", FAILURES)
@pytest.mark.parametrize("way", ["async with", "await", "run"])
async def test_if_a_start_fails_nothing_listens_and_what_had_started_is_shut_down(
    way: str, fails: str
) -> None:
    trace: Trace = []
    root = tree(trace, fails)
    started, ended = FAILURES[fails]
    before = asyncio.all_tasks()
    with socket.create_server((HOST, 0)) as free:
        number = free.getsockname()[1]
    with pytest.raises(Trouble, match=fails.replace("+", r"\+")):
        await start(root, number, way)
    assert trace[: len(started)] == started
    # Whether the shutdown of the router whose start failed is called is its own
    # matter; the others are, in the reverse order.
    failed = fails[2:] if fails.startswith("s") else fails[1:]
    rest = [each for each in trace[len(started) :] if each != f"d {failed}"]
    outer = {"root": [], "middle": ["d root"], "inner": ["d middle", "d root"]}[failed]
    left = [each for each in ended if each.startswith("-")]
    assert rest == outer + left
    with pytest.raises(OSError, match=r"."):
        await asyncio.open_connection(HOST, number)
    assert asyncio.all_tasks() == before


@pytest.mark.parametrize("way", ["await", "run"])
async def test_a_start_that_fails_is_raised_whatever_an_outer_lifespan_suppresses(
    way: str,
) -> None:
    @contextlib.asynccontextmanager
    async def suppressing() -> AsyncIterator[None]:
        with contextlib.suppress(Trouble):
            yield

    root, inner = Router(lifespan=suppressing), Router()
    root.mount("/i", inner)

    @inner.on_start
    def fail() -> None:
        raise Trouble

    with pytest.raises(Trouble):
        async with asyncio.timeout(1):
            await (root.serve(HOST, 0) if way == "await" else root.run(HOST, 0))


@pytest.mark.parametrize("way", ["async with", "await", "run"])
async def test_a_port_in_use_ends_what_had_started(way: str) -> None:
    trace: Trace = []
    root = tree(trace)
    before = asyncio.all_tasks()
    with socket.create_server((HOST, 0)) as taken:
        number = taken.getsockname()[1]
        with pytest.raises(OSError, match=r"."):
            await start(root, number, way)
    assert trace == STARTED + SHUT_DOWN + LEFT
    assert asyncio.all_tasks() == before


async def test_shutdown_comes_after_the_listener_and_before_the_connections(
    caplog: pytest.LogCaptureFixture,
) -> None:
    root, trace = Router(), []
    opened = asyncio.Event()
    connections: set[ServerConnection] = set()
    listening = 0

    @contextlib.asynccontextmanager
    async def lifespan() -> AsyncIterator[None]:
        yield
        trace.append("left")

    root = Router(lifespan=lifespan)

    @root.route("/")
    async def handler(ws: ServerConnection) -> None:
        connections.add(ws)
        opened.set()
        await ws.wait_closed()
        await asyncio.sleep(0)
        trace.append("handler")

    @root.on_shutdown
    async def shutdown() -> None:
        with pytest.raises(OSError, match=r"."):
            await asyncio.open_connection(HOST, listening)
        for ws in connections:
            await ws.send("farewell")
        trace.append("shutdown")

    server = root.serve(HOST, 0)
    async with serving(server) as uri:
        listening = port(server)
        ws = await connecting(uri)
        await opened.wait()
    assert await ws.recv() == "farewell"
    assert await end(ws) == (1001, "")
    assert trace == ["shutdown", "handler", "left"]
    assert errors_of(caplog) == []


async def test_a_shutdown_that_hangs_is_bound_by_close_timeout(
    caplog: pytest.LogCaptureFixture,
) -> None:
    trace: Trace = []
    root = traced(trace, "root")
    opened = asyncio.Event()

    @root.route("/")
    async def handler(ws: ServerConnection) -> None:
        opened.set()
        await ws.wait_closed()
        trace.append("handler")

    @root.on_shutdown
    async def hang() -> None:
        await asyncio.get_running_loop().create_future()

    async with serving(root.serve(HOST, 0, close_timeout=0.2)) as uri:
        ws = await connecting(uri)
        await opened.wait()
    assert await end(ws) == (1001, "")
    assert trace[-2:] == ["handler", "-root"]
    assert errors_of(caplog) == [
        f"on_shutdown {endpoint_name(hang)} took longer than 0.1 seconds; going on"
    ]


@pytest.mark.parametrize("name", ["root", "middle", "inner"])
async def test_a_shutdown_that_fails_is_logged_and_the_others_run(
    name: str, caplog: pytest.LogCaptureFixture
) -> None:
    trace: Trace = []
    async with serving(tree(trace, f"d {name}").serve(HOST, 0)):
        pass
    assert trace == STARTED + SHUT_DOWN + LEFT
    (message,) = errors_of(caplog)
    assert "on_shutdown" in message
    assert f"d {name}" in caplog.text


@pytest.mark.parametrize("name", ["root", "middle", "inner"])
async def test_a_lifespan_that_fails_at_its_end_is_logged_and_the_others_end(
    name: str, caplog: pytest.LogCaptureFixture
) -> None:
    trace: Trace = []
    async with serving(tree(trace, f"-{name}").serve(HOST, 0)):
        pass
    assert trace == STARTED + SHUT_DOWN + LEFT
    assert len(errors_of(caplog)) == 1
    assert f"Trouble: -{name}" in caplog.text


async def test_a_shutdown_that_awaits_a_cancelled_task_harms_nobody() -> None:
    trace: Trace = []
    root = traced(trace, "root")
    inner = root.mount("/i", Router())
    opened = asyncio.Event()

    @root.route("/")
    async def handler(ws: ServerConnection) -> None:
        opened.set()
        await ws.wait_closed()
        trace.append("handler")

    @inner.on_shutdown
    async def shutdown() -> None:
        work = asyncio.create_task(asyncio.sleep(TIMEOUT))
        work.cancel()
        await work

    async with serving(root.serve(HOST, 0)) as uri:
        ws = await connecting(uri)
        await opened.wait()
    assert await end(ws) == (1001, "")
    assert trace == ["+root", "s root", "d root", "handler", "-root"]


async def test_shutdown_is_called_even_if_a_task_group_of_the_lifespan_failed(
    caplog: pytest.LogCaptureFixture,
) -> None:
    trace: Trace = []
    fail = asyncio.Event()
    failed: list[asyncio.Task[None]] = []

    async def work() -> None:
        await fail.wait()
        raise Trouble

    @contextlib.asynccontextmanager
    async def lifespan() -> AsyncIterator[None]:
        async with asyncio.TaskGroup() as group:
            failed.append(group.create_task(work()))
            yield

    root = Router(lifespan=lifespan)
    root.on_shutdown(lambda: trace.append("shutdown"))
    async with serving(root.serve(HOST, 0)):
        fail.set()
        await asyncio.wait(failed)
    assert trace == ["shutdown"]
    assert "Trouble" in caplog.text


NUMBER = contextvars.ContextVar("NUMBER", default=0)


@pytest.mark.parametrize("way", ["async with", "await", "run"])
async def test_the_lifespan_is_entered_and_left_in_one_task(way: str) -> None:
    tasks: list[Any] = []

    @contextlib.asynccontextmanager
    async def lifespan() -> AsyncIterator[None]:
        tasks.append(asyncio.current_task())
        token = NUMBER.set(1)
        # A timeout, like a task group of anyio, refuses to be left in another task.
        async with asyncio.timeout(TIMEOUT), asyncio.TaskGroup() as group:
            background = group.create_task(asyncio.sleep(TIMEOUT))
            yield
            background.cancel()
        assert NUMBER.get() == 1
        NUMBER.reset(token)
        tasks.append(asyncio.current_task())

    root, inner = Router(lifespan=lifespan), Router(lifespan=lifespan)
    root.mount("/i", inner)
    if way == "async with":
        async with serving(root.serve(HOST, 0)):
            assert NUMBER.get() == 0
    elif way == "await":
        server = await root.serve(HOST, 0)
        server.close()
        await asyncio.create_task(server.wait_closed())
    else:
        await run_until_started(root)
    assert len(tasks) == 4
    assert len(set(tasks)) == 1
    assert tasks[0] is not asyncio.current_task()


@pytest.mark.parametrize(
    "hangs", ["+root", "s root", "+inner", "s inner"], ids=lambda hangs: hangs
)
@pytest.mark.parametrize("way", ["async with", "await", "run"])
async def test_a_start_may_be_cancelled_wherever_it_waits(way: str, hangs: str) -> None:
    trace: Trace = []
    waiting = asyncio.Event()

    def make(name: str) -> Router:
        async def reach(what: str) -> None:
            trace.append(what)
            if what == hangs:
                waiting.set()
                await asyncio.get_running_loop().create_future()

        @contextlib.asynccontextmanager
        async def lifespan() -> AsyncIterator[None]:
            trace.append(f"enter {name}")
            try:
                await reach(f"+{name}")
                yield
            finally:
                await asyncio.sleep(0)
                trace.append(f"-{name}")

        router = Router(lifespan=lifespan)

        @router.on_start
        async def start() -> None:
            await reach(f"s {name}")

        return router

    root, inner = make("root"), make("inner")
    root.mount("/i", inner)

    async def start() -> None:
        if way == "async with":
            async with root.serve(HOST, 0):
                pass
        elif way == "await":
            await root.serve(HOST, 0)
        else:
            await root.run(HOST, 0)

    before = asyncio.all_tasks()
    task = asyncio.create_task(start())
    await waiting.wait()
    task.cancel()
    async with asyncio.timeout(TIMEOUT):
        await asyncio.wait({task})
    assert task.cancelled()
    entered = [each[6:] for each in trace if each.startswith("enter")]
    left = [each[1:] for each in trace if each.startswith("-")]
    assert left == entered[::-1]
    assert asyncio.all_tasks() == before


@pytest.mark.parametrize("when", ["shutdown", "lifespan"])
async def test_a_cancellation_at_the_end_leaves_nothing_undone(when: str) -> None:
    trace: Trace = []
    waiting, leave = asyncio.Event(), asyncio.Event()

    async def reach(what: str) -> None:
        if what == when:
            waiting.set()
            await leave.wait()
        trace.append(what)

    @contextlib.asynccontextmanager
    async def lifespan() -> AsyncIterator[None]:
        yield
        await reach("lifespan")

    root = Router(lifespan=lifespan)

    @root.on_shutdown
    async def shutdown() -> None:
        await reach("shutdown")

    server = await root.serve(HOST, 0)
    server.close()
    task = asyncio.create_task(server.wait_closed())
    await waiting.wait()
    task.cancel()
    await asyncio.wait({task})
    leave.set()
    await server.wait_closed()
    assert trace == ["shutdown", "lifespan"]


async def test_run_leaves_the_lifespan_after_a_shutdown_that_hangs() -> None:
    trace: Trace = []
    root = traced(trace, "root")
    opened = asyncio.Event()

    @root.route("/")
    async def handler(ws: ServerConnection) -> None:
        opened.set()
        await ws.wait_closed()
        trace.append("handler")

    @root.on_shutdown
    async def hang() -> None:
        await asyncio.get_running_loop().create_future()

    before = asyncio.all_tasks()
    async with running(root, close_timeout=0.5) as (task, uri):
        ws = await connecting(uri)
        await opened.wait()
        task.cancel()
    assert trace[-2:] == ["handler", "-root"]
    await ws.wait_closed()
    assert asyncio.all_tasks() == before


async def test_state_is_there_for_hooks_and_handlers_to_the_end() -> None:
    class Database:
        is_open = True

    seen: list[bool] = []
    opened = asyncio.Event()

    @contextlib.asynccontextmanager
    async def lifespan(router: Router) -> AsyncIterator[Database]:
        assert isinstance(router, Router)
        database = Database()
        yield database
        database.is_open = False

    root, inner = Router(), Router(lifespan=lifespan)
    root.mount("/i", inner)
    inner.before_handshake(lambda ws, path: seen.append(inner.state.is_open))

    @inner.route("/")
    async def handler(ws: ServerConnection) -> None:
        opened.set()
        try:
            await ws.wait_closed()
        finally:
            await asyncio.sleep(0)
            seen.append(inner.state.is_open)

    async with serving(root.serve(HOST, 0)) as uri:
        await connecting(uri + "/i/")
        await opened.wait()
    assert seen == [True, True]


async def test_two_servers_of_one_router_each_have_a_lifespan() -> None:
    trace: Trace = []
    root = traced(trace, "root")
    async with root.serve(HOST, 0), root.serve(HOST, 0):
        assert trace == STARTED[:2] * 2
    assert trace[4:] == ["d root", "-root"] * 2


# A lifespan that ends before its server


def breaking(trace: Trace) -> tuple[Router, asyncio.Event]:
    """Make a router whose lifespan fails when the event is set."""
    fail = asyncio.Event()

    async def work() -> None:
        await fail.wait()
        raise Trouble

    @contextlib.asynccontextmanager
    async def lifespan() -> AsyncIterator[None]:
        async with asyncio.TaskGroup() as group:
            group.create_task(work())
            yield
        trace.append("not reached")

    root = Router(lifespan=lifespan)
    root.on_shutdown(lambda: trace.append("shutdown"))

    @root.route("/")
    async def handler(ws: ServerConnection) -> None:
        await ws.wait_closed()
        trace.append("handler")

    return root, fail


async def test_a_server_ends_with_its_lifespan(
    caplog: pytest.LogCaptureFixture,
) -> None:
    trace: Trace = []
    root, fail = breaking(trace)
    async with serving(root.serve(HOST, 0)) as uri:
        ws = await connecting(uri)
        fail.set()
        assert await end(ws) == (1011, "lifespan failed")
    assert trace == ["shutdown", "handler"]
    assert errors_of(caplog) == ["lifespan failed"]


async def test_run_raises_what_a_lifespan_raises_while_it_serves() -> None:
    trace: Trace = []
    root, fail = breaking(trace)
    async with running(root) as (task, uri):
        ws = await connecting(uri)
        fail.set()
        assert await end(ws) == (1011, "lifespan failed")
        with pytest.raises(ExceptionGroup) as raised:
            await task
    assert raised.group_contains(Trouble)
    assert trace == ["shutdown", "handler"]


async def test_run_raises_what_a_lifespan_raises_at_its_end() -> None:
    @contextlib.asynccontextmanager
    async def lifespan() -> AsyncIterator[None]:
        yield
        raise Trouble

    root = Router(lifespan=lifespan)

    @root.route("/")
    async def handler(ws: ServerConnection) -> None:
        ws.server.close()
        await ws.wait_closed()

    async with running(root) as (task, uri):
        assert (await end(await connecting(uri)))[0] == 1001
        with pytest.raises(Trouble):
            await task


async def test_run_ends_when_its_server_is_closed_by_somebody_else() -> None:
    root = Router()

    @root.route("/")
    async def handler(ws: ServerConnection) -> None:
        ws.server.close()
        await ws.wait_closed()

    async with running(root) as (task, uri):
        assert (await end(await connecting(uri)))[0] == 1001
        await task


async def test_a_lifespan_that_breaks_before_the_server_listens_is_a_failed_start() -> (
    None
):
    trace: Trace = []
    root, fail = breaking(trace)

    @root.on_start
    def start() -> None:
        fail.set()

    with pytest.raises(NotServing, match="ended before the server could listen"):
        # To resolve a name takes longer than to fail.
        await root.serve("localhost", 0)
    assert trace == ["shutdown"]


async def test_a_start_that_is_cancelled_by_itself_is_a_failure() -> None:
    root = Router()

    @root.on_start
    async def start() -> None:
        raise asyncio.CancelledError

    with pytest.raises(RuntimeError, match="the start of the lifespan was cancelled"):
        await root.serve(HOST, 0)


async def test_shutdown_functions_behind_one_that_hangs_are_called(
    caplog: pytest.LogCaptureFixture,
) -> None:
    root, trace = Router(), []

    @root.on_shutdown
    async def last() -> None:
        await asyncio.sleep(0)
        trace.append("last")

    @root.on_shutdown
    async def hang() -> None:
        await asyncio.get_running_loop().create_future()

    async with serving(root.serve(HOST, 0, close_timeout=0.1)):
        pass
    assert trace == ["last"]
    assert "took longer than" in caplog.text


async def test_shutdown_has_any_time_where_closing_has() -> None:
    root, trace = Router(), []

    @root.on_shutdown
    async def shutdown() -> None:
        await asyncio.sleep(0)
        trace.append("shutdown")

    async with serving(root.serve(HOST, 0, close_timeout=None)):
        pass
    assert trace == ["shutdown"]


# Reports of errors, and the end of a server


async def test_error_handlers_end_before_the_lifespan_does() -> None:
    trace: Trace = []

    @contextlib.asynccontextmanager
    async def lifespan() -> AsyncIterator[None]:
        yield
        trace.append("left")

    root = Router(lifespan=lifespan)
    asked = asyncio.Event()

    @root.on_error
    async def note(error: Exception, ws: Any, path: Any) -> None:
        asked.set()
        await asyncio.sleep(0.05)
        trace.append(repr(error))

    async def fail() -> None:
        raise Trouble

    async with serving(root.serve(HOST, 0)):
        root.start_task(fail())
        await asked.wait()
    assert trace == ["Trouble()", "left"]


async def test_an_error_handler_that_hangs_ends_with_its_server(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("websockets_routes.servers._LAST_REPORTS", 0.05)
    root = Router()
    asked, ended = asyncio.Event(), asyncio.Event()

    @root.on_error
    async def hang(error: Exception, ws: Any, path: Any) -> None:
        asked.set()
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            ended.set()

    async def fail() -> None:
        raise Trouble

    async with serving(root.serve(HOST, 0)):
        root.start_task(fail())
        await asked.wait()
    await ended.wait()
