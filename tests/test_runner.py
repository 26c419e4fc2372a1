"""The runner: it ends in time, whatever the peers do."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trustme
from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.server import Server
from websockets.exceptions import ConnectionClosed

from websockets_routes import Protocol, Router
from websockets_routes.runner import Runner

TIMEOUT = 20  # seconds until what hangs fails its test
MESSAGE = b"x" * 2**20

Running = tuple[Runner, Server, "asyncio.Task[None]", str]


@asynccontextmanager
async def running(
    handler: Callable[..., Any],
    close_timeout: float | None = 10,
    tls: ssl.SSLContext | None = None,
) -> AsyncIterator[Running]:
    router = Router()
    router.add_route("/", handler)
    runner = Runner(router.connection_class(), close_timeout)
    create: Any = runner.create_connection
    server = router.serve(
        "127.0.0.1",
        0,
        create_connection=create,
        close_timeout=close_timeout,
        compression=None,
        ssl=tls,
    )
    started = asyncio.Event()
    task = asyncio.create_task(runner.run(server, started.set))
    try:
        async with asyncio.timeout(TIMEOUT):
            await started.wait()
            port = server.sockets[0].getsockname()[1]
            yield runner, server, task, f"ws://127.0.0.1:{port}/"
            await asyncio.wait([task])
    finally:
        task.cancel()
        await asyncio.wait([task])


async def echo(ws: Protocol) -> None:
    async for message in ws:
        await ws.send(message)


class Flood:
    """A handler that sends for as long as it can."""

    def __init__(self) -> None:
        self.sending = asyncio.Event()
        self.ended = asyncio.Event()

    async def __call__(self, ws: Protocol) -> None:
        try:
            while True:
                await ws.send(MESSAGE)
                self.sending.set()
        finally:
            self.ended.set()


async def deaf_client(uri: str) -> ClientConnection:
    """Connect, and never read from the socket again."""
    client = await connect(uri, ping_interval=None)
    client.transport.pause_reading()
    return client


async def test_stop_closes_connections_with_1001() -> None:
    async with running(echo) as (runner, _, task, uri), connect(uri) as client:
        runner.stop()
        with pytest.raises(ConnectionClosed) as closed:
            await client.recv()
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1001
        await task


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_a_signal_stops(number: int) -> None:
    async with running(echo) as (_, _, task, uri), connect(uri) as client:
        os.kill(os.getpid(), number)
        await client.wait_closed()
        await task


async def test_signals_are_given_back() -> None:
    before = signal.getsignal(signal.SIGTERM)
    async with running(echo) as (runner, _, task, _):
        assert signal.getsignal(signal.SIGTERM) is not before
        runner.stop()
        await task
    assert signal.getsignal(signal.SIGTERM) is before


async def test_a_cancellation_closes_gracefully() -> None:
    async with running(echo) as (_, server, task, uri), connect(uri) as client:
        task.cancel()
        await client.wait_closed()
        assert client.close_code == 1001
        await asyncio.wait([task])
        assert task.cancelled()
        assert not server.is_serving()


async def test_a_peer_that_does_not_read_is_aborted_in_time(
    caplog: pytest.LogCaptureFixture,
) -> None:
    flood = Flood()
    loop = asyncio.get_running_loop()
    async with running(flood, close_timeout=1) as (runner, _, task, uri):
        client = await deaf_client(uri)
        await flood.sending.wait()
        began = loop.time()
        runner.stop()
        await task
        assert loop.time() - began < 2
        assert flood.ended.is_set()
        client.transport.abort()
        await client.wait_closed()
    assert "aborting what is left" in caplog.text
    assert "Traceback" not in caplog.text


async def test_a_peer_in_its_handshake_is_aborted_in_time() -> None:
    async with running(echo, close_timeout=1) as (runner, server, task, _):
        reader, writer = await asyncio.open_connection(
            *server.sockets[0].getsockname()[:2]
        )
        writer.write(b"GET / HTTP/1.1\r\n")
        async with connect(f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/"):
            pass  # the server has accepted the first one by now
        runner.stop()
        await task
        assert await reader.read() == b""
        writer.close()


async def test_a_peer_in_its_tls_handshake_does_not_hold_it_up() -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority = trustme.CA()
    authority.issue_cert("localhost").configure_cert(context)
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    async with running(echo, 0.5, context) as (runner, server, task, uri):
        port = server.sockets[0].getsockname()[1]
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        async with connect(
            uri.replace("ws:", "wss:"), ssl=trusting, server_hostname="localhost"
        ):
            pass  # the server has accepted the first one by now
        handler_done = asyncio.create_task(server.wait_closed())
        async with connect(
            uri.replace("ws:", "wss:"), ssl=trusting, server_hostname="localhost"
        ) as client:
            client.transport.pause_reading()
            runner.stop()
            await task
            client.transport.abort()
        writer.close()
        await handler_done


async def test_a_second_stop_aborts_at_once() -> None:
    flood = Flood()
    async with running(flood, close_timeout=None) as (runner, _, task, uri):
        client = await deaf_client(uri)
        await flood.sending.wait()
        runner.stop()
        runner.stop()
        await task
        assert flood.ended.is_set()
        client.transport.abort()
        await client.wait_closed()


async def test_a_handler_that_does_not_end_is_left_to_its_loop() -> None:
    release = asyncio.Event()

    async def stubborn(ws: Protocol) -> None:
        await release.wait()

    async with running(stubborn, close_timeout=0.2) as (runner, server, task, uri):
        async with connect(uri):
            runner.stop()
            await task
        release.set()
        await server.wait_closed()


async def test_what_fails_once_it_listens_stops_it() -> None:
    router = Router()
    runner = Runner(router.connection_class(), 1)
    server = router.serve("127.0.0.1", 0)

    def fail() -> None:
        raise RuntimeError("no")

    with pytest.raises(RuntimeError, match="no"):
        await runner.run(server, fail)
    assert not server.is_serving()


async def test_without_signals_it_runs_until_it_is_cancelled() -> None:
    """Signal handlers can only be set in the main thread."""

    def in_thread() -> None:
        async def serve_and_cancel() -> None:
            async with running(echo) as (_, _, task, uri), connect(uri) as client:
                await client.send("hi")
                assert await client.recv() == "hi"
                task.cancel()

        asyncio.run(serve_and_cancel())

    await asyncio.to_thread(in_thread)


async def test_a_port_in_use_raises_oserror() -> None:
    router = Router()
    with (
        socket.create_server(("127.0.0.1", 0)) as taken,
        pytest.raises(OSError, match="in use"),
    ):
        await router.run("127.0.0.1", taken.getsockname()[1])


async def test_router_run_logs_the_address_and_the_routes(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO", "websockets.server")
    router = Router()
    router.add_route("/b", echo)
    router.add_route("/a/{x}", echo)
    task = asyncio.create_task(router.run("127.0.0.1", 0))
    async with asyncio.timeout(TIMEOUT):
        while "route /a" not in caplog.text:  # noqa: ASYNC110 - it is only logged
            await asyncio.sleep(0)
    os.kill(os.getpid(), signal.SIGTERM)
    await task
    messages = [record.getMessage() for record in caplog.records]
    assert messages[0].startswith("server listening on 127.0.0.1:")
    assert messages[1] == f"route /b -> {__name__}:echo"
    assert messages[2] == f"route /a/{{x}} -> {__name__}:echo"
