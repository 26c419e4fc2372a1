"""Sending: peers that stall, closing in time, and what connections are left with."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import weakref
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from websockets import CloseCode, ConnectionClosed, State

from websockets_routes import BacklogFull, OpCode, Protocol, Router

from .integration.servers import HOST, connecting, serving
from .integration.slow_clients import (
    Client,
    Recording,
    Stage,
    begin,
    each_security,
    held_back,
)

# Seconds.
STALL = 0.2
# What a busy machine may take longer.
SLACK = 4.0


def problems(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [
        record.getMessage()
        for record in caplog.records
        if record.levelno >= logging.WARNING
    ]


async def get(client: Client, count: int) -> list[str | bytes]:
    await client.read_until(lambda: len(client.messages) >= count)
    return client.messages


class Clock:
    """Measures time, from now on."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._begun = self._loop.time()

    @property
    def time(self) -> float:
        return self._loop.time() - self._begun


# Peers that stall

WAITING: dict[str, Callable[[Stage, Any], Any]] = {}


def waiting(function: Callable[[Stage, Any], Any]) -> Callable[[Stage, Any], Any]:
    WAITING[function.__name__] = function
    return function


@waiting
async def send(stage: Stage, ws: Any) -> None:
    while True:
        await ws.send(b"." * 50_000)


@waiting
async def send_large(stage: Stage, ws: Any) -> None:
    await ws.send(bytes(2**26))


@waiting
async def send_fragments(stage: Stage, ws: Any) -> None:
    await ws.send([bytes(2**16)] * 64)


@waiting
async def recv(stage: Stage, ws: Any) -> None:
    await held_back(ws)
    await ws.recv()


@waiting
async def sleep(stage: Stage, ws: Any) -> None:
    await held_back(ws)
    await asyncio.sleep(3600)


@waiting
async def publish(stage: Stage, ws: Any) -> None:
    while True:
        stage.router.publish("a", b"." * 5000)
        await asyncio.sleep(0.01)


@waiting
async def close(stage: Stage, ws: Any) -> None:
    await held_back(ws)
    await ws.close()


@waiting
async def ping(stage: Stage, ws: Any) -> None:
    await held_back(ws)
    await (await ws.ping())


@each_security
async def test_a_peer_that_takes_nothing_is_aborted_whatever_its_handler_awaits(
    tls: bool, caplog: pytest.LogCaptureFixture
) -> None:
    stage = Stage()
    stage.router.topic("a", overflow="drop_oldest")
    async with stage.open(tls=tls, stall_timeout=STALL, close_timeout=60):
        pairs = {name: await stage.join("a") for name in WAITING}
        clock = Clock()
        aborted: dict[str, float] = {}
        tasks = []
        for name, act in WAITING.items():
            ws, _ = pairs[name]
            ws.connection_lost_waiter.add_done_callback(
                lambda _, name=name: aborted.setdefault(name, clock.time)
            )
            tasks.append(asyncio.create_task(act(stage, ws)))
        for ws, _ in pairs.values():
            await ws.wait_closed()
            assert ws.close_code == CloseCode.ABNORMAL_CLOSURE
            assert ws.topics == ()
        await asyncio.sleep(0)
        assert aborted.keys() == WAITING.keys()
        for name, time in aborted.items():
            assert STALL <= time < STALL * 1.25 + SLACK, name
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
    assert problems(caplog) == []


@each_security
async def test_a_peer_that_stops_after_it_has_read_a_part_is_aborted(
    tls: bool,
) -> None:
    stage = Stage()
    async with stage.open(tls=tls, stall_timeout=STALL):
        ws, client = await stage.join()
        task = await begin(ws.send(bytes(2**26)))
        await client.read_until(lambda: client.taken > 300_000)
        clock = Clock()
        async with asyncio.timeout(STALL * 1.25 + SLACK):
            await ws.wait_closed()
        assert clock.time < STALL * 1.25 + SLACK
        await asyncio.wait([task])


async def read_slowly(ws: Any, client: Client, portion: int, times: float) -> None:
    """Read a little ten times in each stall timeout; check that the peer has patience.

    Args:
        ws: The server's end.
        client: The client's.
        portion: How many bytes to read at once.
        times: For how many stall timeouts.
    """
    clock = Clock()
    while clock.time < STALL * times:
        await client.read(portion)
        assert not ws.transport.is_closing(), "it was aborted"
        await asyncio.sleep(STALL / 10)
    assert ws.state is State.OPEN


@each_security
async def test_a_peer_that_takes_bytes_slowly_is_not_aborted(tls: bool) -> None:
    stage = Stage()
    async with stage.open(tls=tls, stall_timeout=STALL):
        ws, client = await stage.join()
        task = await begin(ws.send(bytes(2**26)))
        await read_slowly(ws, client, 2**17, 4)
        ws.transport.abort()
        await asyncio.wait([task])


@each_security
async def test_a_peer_that_takes_what_was_published_slowly_is_not_aborted(
    tls: bool,
) -> None:
    """A small message behind which writing pauses, and a large one right after it."""
    stage = Stage()
    async with stage.open(tls=tls, stall_timeout=STALL):
        ws, client = await stage.join("a")
        while ws.transport.get_write_buffer_size() < 20_000:
            ws.send_nowait(b"." * 1000)
        stage.router.publish("a", bytes(20_000))
        stage.router.publish("a", bytes(2**20))
        await asyncio.sleep(0)
        assert ws.paused
        await read_slowly(ws, client, 2**17, 4)
        ws.transport.abort()


@each_security
async def test_without_stall_timeout_a_peer_may_take_its_time(tls: bool) -> None:
    stage = Stage()
    async with stage.open(tls=tls, stall_timeout=None):
        ws, client = await stage.join("a")
        await held_back(ws)
        for _ in range(2):
            hasty, _ = await stage.join()
            hasty.stall_timeout = STALL
            await held_back(hasty)
            await hasty.wait_closed()
        assert ws.state is State.OPEN
        stage.router.publish("a", "at last")
        await client.read_until(lambda: "at last" in client.messages)


async def test_stall_timeout_is_that_of_serve_or_of_the_class() -> None:
    class Hasty(Protocol):
        stall_timeout = 7.0

    for options, expected in (
        ({}, 20),
        ({"stall_timeout": 3}, 3),
        ({"stall_timeout": None}, None),
        ({"create_connection": Hasty}, 7),
        ({"create_connection": Hasty, "stall_timeout": None}, None),
    ):
        stage = Stage()
        async with stage.open(**options):
            ws, _ = await stage.join()
            assert ws.stall_timeout == expected


@each_security
async def test_a_peer_that_reads_again_in_time_loses_nothing(tls: bool) -> None:
    stage = Stage()
    async with stage.open(tls=tls, stall_timeout=STALL):
        ws, client = await stage.join("a")
        expected: list[str | bytes] = []
        for number in range(3):
            expected += await held_back(ws)
            await asyncio.sleep(STALL / 2)
            stage.router.publish("a", str(number))
            expected.append(str(number))
            assert await get(client, len(expected)) == expected
        assert not ws.paused
        assert ws.state is State.OPEN


# Closing in time


@each_security
@pytest.mark.parametrize("subscribed", [False, True], ids=["direct", "subscribed"])
async def test_close_returns_in_time_where_the_peer_takes_nothing(
    subscribed: bool, tls: bool
) -> None:
    stage = Stage()
    async with stage.open(tls=tls, close_timeout=STALL, stall_timeout=None):
        ws, _ = await stage.join(*["a"] * subscribed)
        await held_back(ws)
        for _ in range(10):
            stage.router.publish("a", bytes(50_000))
        clock = Clock()
        await ws.close()
        assert clock.time < STALL + SLACK
        assert ws.state is State.CLOSED


@each_security
async def test_close_returns_in_time_while_sends_wait(tls: bool) -> None:
    stage = Stage()
    async with stage.open(tls=tls, close_timeout=STALL, stall_timeout=None):
        ws, _ = await stage.join("a")
        tasks = [await begin(ws.send(bytes(2**20))) for _ in range(3)]
        clock = Clock()
        await asyncio.gather(ws.close(), ws.close(4000))
        assert clock.time < STALL + SLACK
        done, pending = await asyncio.wait(tasks, timeout=SLACK)
        assert not pending
        assert all(
            task.exception() is None or isinstance(task.exception(), ConnectionClosed)
            for task in done
        )


@each_security
async def test_the_server_closes_in_time_with_stalled_peers(
    tls: bool, caplog: pytest.LogCaptureFixture
) -> None:
    stage = Stage()
    stage.router.topic("a", overflow="drop_oldest")
    async with stage.open(tls=tls, close_timeout=STALL, stall_timeout=None):
        tasks = []
        for act in (send, send_large, send_fragments, recv, sleep, publish):
            ws, _ = await stage.join("a")
            tasks.append(await begin(act(stage, ws)))
        healthy, client = await stage.join("a")
        client.start_reading()
        clock = Clock()
        stage.server.close()
        await stage.server.wait_closed()
        assert clock.time < STALL + SLACK
        assert healthy.close_code == CloseCode.GOING_AWAY
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
    assert problems(caplog) == []


async def test_close_without_a_timeout_waits_for_a_slow_peer() -> None:
    stage = Stage()
    async with stage.open(close_timeout=None):
        ws, client = await stage.join("a")
        expected: list[str | bytes] = [*await held_back(ws)]
        stage.router.publish("a", "last")
        closing = await begin(ws.close())
        assert await client.read_all() == [*expected, "last"]
        assert client.close_code == 1000
        await closing


@each_security
async def test_close_brings_all_to_a_slow_peer_that_reads_on(tls: bool) -> None:
    stage = Stage()
    async with stage.open(tls=tls):
        ws, client = await stage.join("a")
        expected: list[str | bytes] = [*await held_back(ws)]
        for number in range(100):
            expected.append(f"{number} " + "." * 3000)
            if number % 2:
                ws.send_nowait(expected[-1])
            else:
                stage.router.publish("a", expected[-1])
        closing = await begin(ws.close(4000, "enough"))
        assert await client.read_all() == expected
        assert client.close_code == 4000
        await closing


async def test_what_waits_is_not_lost_if_the_handler_returns() -> None:
    router = Router()
    sent: list[str] = []

    @router.route("/hold")
    async def handler(ws: Protocol) -> None:
        await ws.subscribe("a")
        assert ws.outbox is not None
        while not ws.outbox.backlog:  # nobody can read in the meantime
            sent.append("." * 5000)
            router.publish("a", sent[-1])
        sent.append("last")
        router.publish("a", sent[-1])

    async with serving(router.serve(HOST, 0, compression=None)) as url:
        client = await Client.connect(int(url.rpartition(":")[2]))
        assert await client.read_all() == sent
        assert client.close_code == 1000


# Keepalive


@each_security
async def test_keepalive_goes_on_beside_what_is_published(
    tls: bool, caplog: pytest.LogCaptureFixture
) -> None:
    stage = Stage()
    async with stage.open(tls=tls, ping_interval=0.02, ping_timeout=5):
        ws, client = await stage.join("a")
        client.start_reading()
        clock = Clock()
        count = 0
        while clock.time < 0.2 or not ws.latency:
            stage.router.publish("a", str(count))
            count += 1
            await asyncio.sleep(0.001)
        await client.read_until(lambda: len(client.messages) == count)
        assert ws.state is State.OPEN
    assert problems(caplog) == []


async def test_keepalive_of_a_stalled_peer_is_no_error(
    caplog: pytest.LogCaptureFixture,
) -> None:
    stage = Stage()
    async with stage.open(ping_interval=0.02, ping_timeout=5, stall_timeout=STALL):
        ws, _ = await stage.join("a")
        await held_back(ws)
        await ws.wait_closed()
    assert problems(caplog) == []


# Policies and direct sends


@each_security
async def test_nothing_is_sent_after_what_a_slow_subscriber_lost(tls: bool) -> None:
    """It is closed with 1013, and what it has read is all there was until then."""
    stage = Stage()
    async with stage.open(tls=tls, max_backlog=100_000):
        ws, client = await stage.join("a")
        calls: list[str | bytes] = [*await held_back(ws)]
        for number in range(20):
            calls.append(f"{number} " + "." * 1000)
            stage.router.publish("a", calls[-1])
        tasks = [await begin(ws.send("waiting")), await begin(ws.send(["wait", "ing"]))]
        calls += ["waiting", "waiting"]
        while not stage.router.publish("a", bytes(1000)).closed:
            calls.append(bytes(1000))
        await client.read_all()
        assert client.close_code == 1013
        assert client.messages == calls[: len(client.messages)]
        for task in tasks:
            with pytest.raises(ConnectionClosed):
                await task


async def test_send_nowait_after_the_overflow_of_a_topic_is_not_sent() -> None:
    stage = Stage()
    async with stage.open(max_backlog=50_000):
        ws, client = await stage.join("a")
        calls: list[str | bytes] = [*await held_back(ws)]
        while not stage.router.publish("a", bytes(1000)).closed:
            calls.append(bytes(1000))
        with pytest.raises((ConnectionClosed, BacklogFull)):
            ws.send_nowait("after a gap")
        await client.read_all()
        assert client.close_code == 1013
        assert client.messages == calls[: len(client.messages)]


# Classes of the user's own


class Loud(Recording):
    async def send(self, message: Any, *, text: bool | None = None) -> None:
        if isinstance(message, str):
            message += "!"
        await super().send(message, text=text)


async def test_a_class_of_the_users_own_may_override_send() -> None:
    stage = Stage()
    async with stage.open(create_connection=Loud):
        ws, client = await stage.join("a")
        stage.router.publish("a", "published")
        await ws.send("a")
        await ws.send_json(1)
        await ws.send_message("b", OpCode.TEXT)
        expected: list[str | bytes] = ["published", "a!", "1!", "b!"]
        assert await get(client, 4) == expected
        expected += await held_back(ws)
        stage.router.publish("a", "again")
        task = await begin(ws.send("c"))
        ws.send_nowait("d")
        expected += ["again", "c!", "d"]
        assert await get(client, len(expected)) == expected
        await task


class Events:
    """An event class that notes what it is called for."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, bool]] = []

    async def on_open(self, ws: Any) -> None:
        await ws.subscribe("a")
        ws.arrived.put_nowait((ws, self))

    def on_message(self, ws: Any, message: str | bytes, opcode: OpCode) -> None:
        self.calls.append(("message", ws.paused))

    def on_drain(self, ws: Any) -> None:
        self.calls.append(("drain", ws.paused))
        ws.send_nowait("drained")


@each_security
async def test_events_wait_until_the_peer_has_read_what_was_published(
    tls: bool,
) -> None:
    """A peer that does not read what it is sent is not asked for more."""
    stage = Stage(Router())
    arrivals: asyncio.Queue[Any] = asyncio.Queue()

    class Arriving(Protocol):
        arrived = arrivals

    async with stage.open(tls=tls, create_connection=Arriving):
        stage.router.add_route("/events", Events)
        client = await Client.connect(
            stage.server.sockets[0].getsockname()[1], tls=tls, path="/events"
        )
        ws, events = await arrivals.get()
        expected: list[str | bytes] = [*await held_back(ws)]
        for number in range(200):
            expected.append(f"{number} " + "." * 1000)
            stage.router.publish("a", expected[-1])
        await client.send(b"a question")
        assert events.calls == []
        await client.read_until(lambda: "drained" in client.messages)
        drained = client.messages.index("drained")
        assert not any(paused for _, paused in events.calls)
        assert client.messages[:drained] + client.messages[drained + 1 :] == expected
        await client.send(b"another one")
        ws.send_nowait("last")
        await client.read_until(lambda: "last" in client.messages)
        assert ("message", False) in events.calls
        await client.leave()


# What a connection is left with


async def test_whole_messages_alone_need_no_outbox() -> None:
    stage = Stage()
    async with stage.open():
        ws, client = await stage.join()
        client.start_reading()
        await ws.send("a")
        await ws.send(b"b")
        await ws.send(bytearray(b"c"))
        await ws.send(memoryview(b"d"))
        await ws.send_json(1)
        await ws.send_message("e", OpCode.BINARY)
        ws.send_nowait("f")
        await ws.send(bytes(2**20))
        await held_back(ws)
        assert ws.outbox is None
        assert ws.topics == ()
        await ws.close()
        assert ws.outbox is None


@each_security
@pytest.mark.parametrize("ending", ["close", "peer", "abort", "leave", "stall"])
async def test_a_connection_is_garbage_once_it_has_ended(
    ending: str, tls: bool
) -> None:
    stage = Stage()
    async with stage.open(tls=tls, stall_timeout=STALL):
        ws, client = await stage.join("a", "b")
        await ws.send(["frag", "ments"])
        stage.router.publish("a", "one")
        await held_back(ws)
        stage.router.publish("a", "two")
        task = await begin(ws.send("three"))
        if ending == "close":
            closing = await begin(ws.close())
            await client.read_all()
            await closing
        elif ending == "peer":
            await client.say_goodbye()
            await client.read_all()
        elif ending == "abort":
            ws.transport.abort()
        elif ending == "leave":
            await client.leave()
        await ws.wait_closed()
        with contextlib.suppress(ConnectionClosed):
            await task
        alive = [weakref.ref(ws), weakref.ref(ws.protocol)]
        del ws, task
        if ending == "close":
            del closing
        # Its handler's task ends in its own time.
        async with asyncio.timeout(5):
            while any(each() is not None for each in alive):
                await asyncio.sleep(0.01)
                gc.collect()
    assert gc.garbage == []


async def test_an_open_connection_that_waits_is_not_garbage() -> None:
    """Nobody but the transport holds it, while its handler waits."""
    router = Router()

    @router.route("/")
    async def handler(ws: Protocol) -> None:
        await ws.subscribe("a")
        await ws.send("ready")
        await ws.wait_closed()

    async with serving(router.serve(HOST, 0)) as url, connecting(url) as client:
        assert await client.recv() == "ready"
        gc.collect()
        router.publish("a", "still here")
        assert await client.recv() == "still here"


async def test_a_send_on_a_closed_connection_raises_and_leaves_nothing() -> None:
    async def fragments() -> AsyncIterator[str]:
        yield "never sent"

    stage = Stage()
    async with stage.open():
        ws, _ = await stage.join("a")
        ws.transport.abort()
        await ws.wait_closed()
        for message in ("a", ["b", "c"], fragments()):
            with pytest.raises(ConnectionClosed):
                await ws.send(message)
        with pytest.raises(ConnectionClosed):
            ws.send_nowait("a")
