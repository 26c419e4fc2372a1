"""Events over the wire: each comes once, in order, and ``on_close`` comes last."""

from __future__ import annotations

import asyncio
import gc
import logging
import socket
import weakref
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
from websockets import ConnectionClosed, Frame, Headers, Opcode
from websockets.asyncio.client import ClientConnection
from websockets.asyncio.server import Server, ServerConnection
from websockets.frames import Close

from websockets_routes import OpCode, Protocol, RoutedPath, Router
from websockets_routes.events import EVENTS

from .servers import (
    HOST,
    TIMEOUT,
    WAYS_IN,
    WayIn,
    answer,
    connecting,
    port,
    receive,
    refusal,
    serving,
)

REQUEST = (
    b"GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n"
    b"Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    b"Sec-WebSocket-Version: 13\r\n\r\n"
)

#: All events but those that stand in for ``on_message``.
ALL = tuple(event for event in EVENTS if event not in ("on_text", "on_binary"))

Act = Callable[..., Any]


class Seen:
    """What a test sees of its connections: their events, in order."""

    def __init__(self) -> None:
        self.log: list[tuple[Any, ...]] = []
        self.sockets: list[ServerConnection] = []
        self.tasks: list[asyncio.Task[Any] | None] = []
        self.instances: weakref.WeakSet[object] = weakref.WeakSet()
        self.made = 0
        self.closed = asyncio.Event()
        self.changed = asyncio.Event()

    def add(self, event: str, ws: ServerConnection, *arguments: object) -> None:
        self.log.append((event, *arguments))
        if event == "on_open":
            self.sockets.append(ws)
            self.tasks.append(asyncio.current_task())
        if event == "on_close":
            self.closed.set()
        self.changed.set()

    async def until(self, condition: Callable[[], object]) -> None:
        while not condition():
            self.changed.clear()
            await self.changed.wait()

    @property
    def events(self) -> list[str]:
        return [entry[0] for entry in self.log]

    @property
    def messages(self) -> list[Any]:
        return [
            entry[1]
            for entry in self.log
            if entry[0] in ("on_message", "on_text", "on_binary")
        ]

    @property
    def ends(self) -> list[tuple[int, str]]:
        return [entry[1:] for entry in self.log if entry[0] == "on_close"]

    def make(
        self,
        *events: str,
        coroutine: bool = False,
        act: Act | None = None,
    ) -> type:
        """Make an event class that writes down its events.

        Args:
            events: The events that it has; all of them if none is named.
            coroutine: Whether they are coroutines.
            act: What else they do: ``f(event, ws, *arguments)``.
        """
        seen = self

        def method(event: str) -> Callable[..., Any]:
            def plain(self: object, ws: ServerConnection, *arguments: object) -> None:
                seen.add(event, ws, *arguments)
                if act is not None:
                    act(event, ws, *arguments)

            async def slow(
                self: object, ws: ServerConnection, *arguments: object
            ) -> None:
                seen.add(event, ws, *arguments)
                await asyncio.sleep(0)
                result = None if act is None else act(event, ws, *arguments)
                if result is not None:
                    await result

            return slow if coroutine else plain

        def init(self: object) -> None:
            seen.instances.add(self)
            seen.made += 1

        body: dict[str, Any] = {event: method(event) for event in events or ALL}
        return type("Endpoint", (), {"__init__": init, **body})


@pytest.fixture
def seen(caplog: pytest.LogCaptureFixture) -> Iterator[Seen]:
    """Write down events; when the test is over, no instance may be left."""
    seen = Seen()
    yield seen
    caplog.get_records("call").clear()  # they hold tracebacks
    seen.sockets.clear()
    seen.tasks.clear()
    gc.collect()
    assert list(seen.instances) == []


both_kinds = pytest.mark.parametrize(
    "coroutine", [False, True], ids=["plain", "coroutine"]
)


def route(endpoint: type) -> Router:
    router = Router()
    router.route("/")(endpoint)
    return router


@asynccontextmanager
async def meeting(
    endpoint: type | Router, **kwargs: Any
) -> AsyncIterator[tuple[Server, ClientConnection]]:
    """Serve an endpoint without compression and connect to it."""
    router = endpoint if isinstance(endpoint, Router) else route(endpoint)
    kwargs = {"compression": None, "ping_interval": None, **kwargs}
    server = router.serve(HOST, 0, **kwargs)
    async with (
        serving(server) as url,
        connecting(f"{url}/", compression=None, max_size=None) as ws,
    ):
        yield server, ws


def frame(opcode: Opcode, data: bytes = b"", fin: bool = True) -> bytes:
    return Frame(opcode, data, fin).serialize(mask=True)


def text(message: str) -> bytes:
    return frame(Opcode.TEXT, message.encode())


def write(client: ClientConnection, *frames: bytes) -> None:
    """Send frames as they are, in one segment."""
    client.transport.write(b"".join(frames))


async def arrived(client: ClientConnection) -> None:
    """Wait until the server has taken everything that was sent before."""
    await (await client.ping(b"arrived"))


def errors(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [
        record.getMessage()
        for record in caplog.records
        if record.levelno >= logging.ERROR
    ]


# What the events are called with


@both_kinds
async def test_each_event_is_called_with_its_arguments(
    seen: Seen, coroutine: bool
) -> None:
    events = [event for event in ALL if event != "on_drain"]
    async with meeting(seen.make(*events, coroutine=coroutine)) as (_, client):
        write(
            client,
            text("é"),
            frame(Opcode.BINARY, b"\xff"),
            frame(Opcode.PING, b"in"),
            frame(Opcode.PONG, b"out"),
        )
        await client.close(4001, "bye")
        await seen.closed.wait()
    assert seen.log == [
        ("on_open",),
        ("on_message", "é", OpCode.TEXT),
        ("on_message", b"\xff", OpCode.BINARY),
        ("on_ping", b"in"),
        ("on_pong", b"out"),
        ("on_close", 4001, "bye"),
    ]
    assert [type(entry[2]) for entry in seen.log[1:3]] == [OpCode, OpCode]
    assert {type(entry[1]) for entry in seen.log[2:5]} == {bytes}


@both_kinds
async def test_text_and_binary_messages_have_events_of_their_own(
    seen: Seen, coroutine: bool
) -> None:
    endpoint = seen.make("on_text", "on_binary", coroutine=coroutine)
    async with meeting(endpoint) as (_, client):
        write(client, text("é"), frame(Opcode.BINARY, b"\xff"), text(""))
        await client.close()
    assert seen.log == [("on_text", "é"), ("on_binary", b"\xff"), ("on_text", "")]


@both_kinds
async def test_an_opcode_callback_is_called_with_opcode_and_payload(
    coroutine: bool,
) -> None:
    router, log = Router(), list[tuple[OpCode, Any]]()
    closed = asyncio.Event()

    def plain(ws: ServerConnection, opcode: OpCode, payload: Any) -> None:
        assert type(opcode) is OpCode
        log.append((opcode, payload))
        if opcode == OpCode.CLOSE:
            closed.set()

    async def slow(ws: ServerConnection, opcode: OpCode, payload: Any) -> None:
        await asyncio.sleep(0)
        plain(ws, opcode, payload)

    router.websocket("/")(slow if coroutine else plain)
    async with meeting(router) as (_, client):
        write(
            client,
            text("é"),
            frame(Opcode.BINARY, b"\xff"),
            frame(Opcode.PING, b"in"),
            frame(Opcode.PONG, b"out"),
        )
        await client.close(4001, "bye")
        await closed.wait()
    assert log == [
        (OpCode.OPEN, b""),
        (OpCode.TEXT, "é"),
        (OpCode.BINARY, b"\xff"),
        (OpCode.PING, b"in"),
        (OpCode.PONG, b"out"),
        (OpCode.CLOSE, b""),
    ]


async def test_a_plain_function_may_return_an_awaitable(seen: Seen) -> None:
    """What is awaited need not be a coroutine, and the next event waits for it."""
    done: list[asyncio.Future[None]] = []

    class Endpoint:
        def on_message(
            self, ws: ServerConnection, message: str, opcode: OpCode
        ) -> asyncio.Future[None]:
            seen.add("on_message", ws, message)
            done.append(asyncio.get_running_loop().create_future())
            return done[-1]

    async with meeting(Endpoint) as (_, client):
        write(client, text("one"), text("two"))
        await seen.until(lambda: seen.log)
        await arrived(client)
        assert seen.messages == ["one"]
        done[0].set_result(None)
        await seen.until(lambda: len(seen.log) == 2)
        done[1].set_result(None)


async def test_each_connection_has_an_instance(seen: Seen) -> None:
    router = route(seen.make())
    async with (
        serving(router.serve(HOST, 0)) as url,
        connecting(f"{url}/"),
        connecting(f"{url}/"),
    ):
        await seen.until(lambda: len(seen.log) == 2)
        assert len(seen.instances) == seen.made == 2


async def test_process_request_stands_next_to_the_events(seen: Seen) -> None:
    class Endpoint(seen.make("on_close")):  # type: ignore[misc]
        async def process_request(self, path: RoutedPath, headers: Headers) -> Any:
            self.who = headers.get("X-Who")
            return (403, {}, "who?\n") if self.who is None else None

        def on_open(self, ws: Protocol) -> None:
            seen.add("on_open", ws)
            ws.send_nowait(f"hello {self.who}")

    async with serving(route(Endpoint).serve(HOST, 0)) as url:
        assert await answer(f"{url}/") == (403, "who?\n")
        assert seen.log == []
        async with connecting(f"{url}/", additional_headers={"X-Who": "Ann"}) as ws:
            assert await ws.recv() == "hello Ann"
        await seen.closed.wait()
    assert seen.log == [("on_open",), ("on_close", 1000, "")]
    assert seen.made == 2


async def test_params_and_context_are_there_for_events(seen: Seen) -> None:
    router = Router()

    @router.route("/room/{name}")
    class Room:
        def process_request(self, path: RoutedPath, headers: Headers) -> None:
            path.context["from"] = "the hook"

        def on_open(self, ws: Protocol) -> None:
            ws.send_nowait(f"{ws.params} {ws.context}")

    async with serving(router.serve(HOST, 0)) as url:
        assert await receive(f"{url}/room/7") == "{'name': '7'} {'from': 'the hook'}"


# One at a time, in order

MIXED = [
    ("on_message", "one", OpCode.TEXT),
    ("on_ping", b"two"),
    ("on_pong", b"three"),
    ("on_message", b"four", OpCode.BINARY),
    ("on_message", "five", OpCode.TEXT),
    ("on_ping", b"six"),
]
MIXED_FRAMES = [
    text("one"),
    frame(Opcode.PING, b"two"),
    frame(Opcode.PONG, b"three"),
    frame(Opcode.BINARY, b"four"),
    text("five"),
    frame(Opcode.PING, b"six"),
]


@both_kinds
async def test_what_arrives_while_on_open_runs_waits_its_turn(
    seen: Seen, coroutine: bool
) -> None:
    gate = asyncio.Event()

    class Endpoint(seen.make(*ALL[1:], coroutine=coroutine)):  # type: ignore[misc]
        async def on_open(self, ws: ServerConnection) -> None:
            seen.add("on_open", ws)
            await gate.wait()
            seen.add("opened", ws)

    async with meeting(Endpoint) as (_, client):
        for each in MIXED_FRAMES:
            write(client, each)
            await arrived(client)
        assert seen.events == ["on_open"]
        gate.set()
        await seen.until(lambda: len(seen.log) == 14)
    mixed = [entry for entry in seen.log if entry != ("on_ping", b"arrived")]
    assert mixed[:-1] == [("on_open",), ("opened",), *MIXED]
    assert seen.events[-1] == "on_close"


async def test_what_arrives_while_a_coroutine_runs_waits_its_turn(seen: Seen) -> None:
    running = 0
    gate = asyncio.Event()

    async def act(event: str, ws: ServerConnection, *arguments: object) -> None:
        nonlocal running
        running += 1
        assert running == 1
        if event == "on_message":
            await gate.wait()
        await asyncio.sleep(0)
        running -= 1

    async with meeting(seen.make(coroutine=True, act=act)) as (_, client):
        write(client, *MIXED_FRAMES[:3])
        await seen.until(lambda: len(seen.log) == 2)
        write(client, *MIXED_FRAMES[3:])
        await arrived(client)
        assert seen.log == [("on_open",), MIXED[0]]
        gate.set()
        await client.close()
        await seen.closed.wait()
    mixed = [entry for entry in seen.log if entry != ("on_ping", b"arrived")]
    assert mixed == [("on_open",), *MIXED, ("on_close", 1000, "")]


@both_kinds
async def test_messages_in_the_same_segment_as_the_request_come_after_on_open(
    seen: Seen, coroutine: bool
) -> None:
    early = [
        text("one"),
        frame(Opcode.TEXT, b"t", fin=False),
        frame(Opcode.CONT, b"wo"),
        *(text(str(number)) for number in range(100)),
    ]
    server = route(seen.make(coroutine=coroutine)).serve(HOST, 0, max_queue=4)
    async with serving(server):
        reader, writer = await asyncio.open_connection(HOST, port(server))
        writer.write(REQUEST + b"".join(early))
        await reader.readuntil(b"\r\n\r\n")
        writer.write(frame(Opcode.CLOSE, Close(4001, "bye").serialize()))
        await reader.read()
        writer.close()
        await seen.closed.wait()
        await writer.wait_closed()
    assert seen.events[0] == "on_open"
    assert seen.messages == ["one", "two", *map(str, range(100))]
    assert seen.ends == [(4001, "bye")]


@both_kinds
async def test_a_fragmented_message_is_one_event_with_pings_between(
    seen: Seen, coroutine: bool
) -> None:
    async with meeting(seen.make(coroutine=coroutine)) as (_, client):
        write(
            client,
            frame(Opcode.TEXT, b"\xc3", fin=False),
            frame(Opcode.PING, b"one"),
            frame(Opcode.CONT, b"\xa9", fin=False),
            frame(Opcode.PONG, b"two"),
            frame(Opcode.CONT),
        )
        await client.close()
        await seen.closed.wait()
    assert seen.log == [
        ("on_open",),
        ("on_ping", b"one"),
        ("on_pong", b"two"),
        ("on_message", "é", OpCode.TEXT),
        ("on_close", 1000, ""),
    ]


# The end


async def peer_closes(server: Server, client: ClientConnection, seen: Seen) -> None:
    await client.close(4001, "bye")


async def peer_aborts(server: Server, client: ClientConnection, seen: Seen) -> None:
    client.transport.abort()


async def peer_ends_the_stream(
    server: Server, client: ClientConnection, seen: Seen
) -> None:
    client.transport.write_eof()


async def server_closes(server: Server, client: ClientConnection, seen: Seen) -> None:
    server.close()


async def server_closes_connection(
    server: Server, client: ClientConnection, seen: Seen
) -> None:
    await seen.sockets[0].close(4002, "enough")


async def server_aborts(server: Server, client: ClientConnection, seen: Seen) -> None:
    seen.sockets[0].transport.abort()


async def task_is_cancelled(
    server: Server, client: ClientConnection, seen: Seen
) -> None:
    task = seen.tasks[0]
    assert task is not None
    task.cancel()


ENDS = {
    peer_closes: (4001, "bye"),
    peer_aborts: (1006, ""),
    peer_ends_the_stream: (1006, ""),
    server_closes: (1001, ""),
    server_closes_connection: (4002, "enough"),
    server_aborts: (1006, ""),
    task_is_cancelled: (1006, ""),
}
each_end = pytest.mark.parametrize(
    ("finish", "code"), ENDS.items(), ids=[end.__name__ for end in ENDS]
)


@both_kinds
@each_end
async def test_on_close_comes_once_and_last_whatever_ends_the_connection(
    seen: Seen, coroutine: bool, finish: Callable[..., Any], code: tuple[int, str]
) -> None:
    async with meeting(seen.make(coroutine=coroutine)) as (server, client):
        write(client, text("one"))
        await seen.until(lambda: seen.messages)
        await finish(server, client, seen)
        await seen.closed.wait()
    assert seen.events == ["on_open", "on_message", "on_close"]
    assert seen.ends == [code]


@each_end
async def test_on_close_comes_when_the_connection_ends_during_a_full_queue(
    seen: Seen, finish: Callable[..., Any], code: tuple[int, str]
) -> None:
    """Reading is paused then; only a lost peer has to be let in to be noticed."""
    gate = asyncio.Event()

    async def act(event: str, ws: ServerConnection, *arguments: object) -> None:
        if event == "on_message":
            await gate.wait()

    endpoint = seen.make(coroutine=True, act=act)
    async with meeting(endpoint, max_queue=2) as (server, client):
        write(client, *(text(str(number)) for number in range(9)))
        await seen.until(lambda: seen.messages)
        assert not is_reading(seen.sockets[0])
        ending = asyncio.ensure_future(finish(server, client, seen))
        await asyncio.sleep(0)
        gate.set()
        await seen.closed.wait()
        await ending
    assert seen.ends == [code]
    assert seen.events[-1] == "on_close"


def is_reading(ws: ServerConnection) -> bool:
    return ws.transport.is_reading()


@both_kinds
@pytest.mark.parametrize("failing", ["on_open", "on_message", "on_ping", "on_pong"])
async def test_an_event_that_fails_closes_with_1011(
    seen: Seen, coroutine: bool, failing: str, caplog: pytest.LogCaptureFixture
) -> None:
    def act(event: str, ws: ServerConnection, *arguments: object) -> None:
        if event == failing:
            raise ValueError(event)

    async with meeting(seen.make(coroutine=coroutine, act=act)) as (_, client):
        with suppress(OSError):
            write(client, frame(Opcode.PONG), frame(Opcode.PING), text("one"))
            write(client, text("two"))
        await client.wait_closed()
        assert client.close_code == 1011
        await seen.closed.wait()
    assert seen.events.count(failing) == 1
    assert seen.events[-2:] == [failing, "on_close"]
    assert seen.ends == [(1011, "")]
    assert errors(caplog) == ["connection handler failed"]


@both_kinds
@pytest.mark.parametrize("failing", ["on_text", "on_binary"])
async def test_an_event_for_one_kind_of_message_that_fails_closes_with_1011(
    seen: Seen, coroutine: bool, failing: str
) -> None:
    def act(event: str, ws: ServerConnection, *arguments: object) -> None:
        if event == failing:
            raise ValueError(event)

    endpoint = seen.make(
        "on_text", "on_binary", "on_close", coroutine=coroutine, act=act
    )
    async with meeting(endpoint) as (_, client):
        await client.send("one" if failing == "on_text" else b"one")
        await client.wait_closed()
        assert client.close_code == 1011
        await seen.closed.wait()
    assert seen.events == [failing, "on_close"]


@both_kinds
async def test_an_on_drain_that_fails_closes_with_1011(
    seen: Seen, coroutine: bool
) -> None:
    def act(event: str, ws: Protocol, *arguments: object) -> None:
        if event == "on_message":
            ws.send_nowait(bytes(2**23))
        if event == "on_drain":
            raise ValueError(event)

    endpoint = seen.make(coroutine=coroutine, act=act)
    async with meeting(endpoint, write_limit=1024) as (_, client):
        await client.send("one")
        with suppress(ConnectionClosed):
            while True:
                await client.recv()
        assert client.close_code == 1011
        await seen.closed.wait()
    assert seen.events == ["on_open", "on_message", "on_drain", "on_close"]


@both_kinds
async def test_an_on_close_that_fails_is_logged_and_comes_once(
    seen: Seen, coroutine: bool, caplog: pytest.LogCaptureFixture
) -> None:
    def act(event: str, ws: ServerConnection, *arguments: object) -> None:
        if event == "on_close":
            raise ValueError(event)

    async with meeting(seen.make(coroutine=coroutine, act=act)) as (_, client):
        await client.close(4001)
        await seen.closed.wait()
    assert seen.events == ["on_open", "on_close"]
    assert errors(caplog) == ["connection handler failed"]


@both_kinds
async def test_an_error_of_ours_closes_with_its_code(
    seen: Seen, coroutine: bool, caplog: pytest.LogCaptureFixture
) -> None:
    def act(event: str, ws: Protocol, *arguments: Any) -> None:
        if event == "on_message":
            ws.serializer.loads(arguments[0])

    async with meeting(seen.make(coroutine=coroutine, act=act)) as (_, client):
        await client.send("{")
        await client.wait_closed()
        assert client.close_code == 1007
        await seen.closed.wait()
    ((code, reason),) = seen.ends
    assert code == 1007
    assert reason == client.close_reason
    assert errors(caplog) == []


@both_kinds
async def test_sending_to_a_peer_that_has_closed_is_no_failure(
    seen: Seen, coroutine: bool, caplog: pytest.LogCaptureFixture
) -> None:
    def act(event: str, ws: Protocol, *arguments: Any) -> None:
        if event == "on_message":
            ws.send_nowait(arguments[0])

    async with meeting(seen.make(coroutine=coroutine, act=act)) as (_, client):
        close = frame(Opcode.CLOSE, Close(4001, "bye").serialize())
        write(client, text("one"), close)
        await seen.closed.wait()
    assert seen.events == ["on_open", "on_message", "on_close"]
    assert seen.ends == [(4001, "bye")]
    assert errors(caplog) == []


@pytest.mark.parametrize("closing", ["on_open", "on_message", "on_ping", "on_pong"])
async def test_nothing_is_delivered_after_an_event_has_closed(
    seen: Seen, closing: str
) -> None:
    async def act(event: str, ws: ServerConnection, *arguments: object) -> None:
        if event == closing:
            await ws.close(4002, "enough")

    endpoint = seen.make(coroutine=True, act=act)
    async with meeting(endpoint, max_queue=2, close_timeout=TIMEOUT) as (_, client):
        frames = [frame(Opcode.PONG), frame(Opcode.PING), text("one")] * 9
        write(client, *frames)
        async with asyncio.timeout(TIMEOUT / 4):  # far less than close_timeout
            await client.wait_closed()
            await seen.closed.wait()
        assert (client.close_code, client.close_reason) == (4002, "enough")
    assert seen.events.count(closing) == 1
    assert seen.events[-2:] == [closing, "on_close"]
    assert seen.ends == [(4002, "enough")]


async def test_a_plain_event_closes_in_a_task(seen: Seen) -> None:
    def act(event: str, ws: Protocol, *arguments: object) -> None:
        if event == "on_message":
            ws.start_task(ws.close(4002, "enough"))

    async with meeting(seen.make(act=act)) as (_, client):
        await client.send("one")
        await client.wait_closed()
        assert client.close_code == 4002
        await seen.closed.wait()
    assert seen.events == ["on_open", "on_message", "on_close"]
    assert seen.ends == [(4002, "enough")]


async def test_on_close_may_close_and_finds_the_connection_closed(seen: Seen) -> None:
    found = []

    async def act(event: str, ws: ServerConnection, *arguments: object) -> None:
        if event == "on_close":
            await ws.close()
            found.append(ws.close_code)

    async with meeting(seen.make(coroutine=True, act=act)) as (_, client):
        await client.close(4001)
    assert found == [4001]


async def test_no_event_comes_when_the_handshake_is_refused(seen: Seen) -> None:
    class Endpoint(seen.make()):  # type: ignore[misc]
        def process_request(self, path: RoutedPath, headers: Headers) -> Any:
            return (403, {}, "no\n")

    async with serving(route(Endpoint).serve(HOST, 0)) as url:
        assert await refusal(f"{url}/") == 403
    assert seen.made == 1
    assert seen.log == []


# Bad input: what the client sends, the close code, and which messages came before

BAD_TEXT = b"ab\xff"
BAD: dict[str, tuple[list[bytes], int]] = {
    "invalid UTF-8": ([frame(Opcode.TEXT, BAD_TEXT)], 1007),
    "UTF-8 cut short": ([frame(Opcode.TEXT, "é".encode()[:1])], 1007),
    "a surrogate": ([frame(Opcode.TEXT, b"\xed\xa0\x80")], 1007),
    "invalid across fragments": (
        [frame(Opcode.TEXT, b"\xc3", fin=False), frame(Opcode.CONT, b"\xc3")],
        1007,
    ),
    "too long": ([frame(Opcode.BINARY, bytes(1025))], 1009),
    "too long in fragments": (
        [frame(Opcode.BINARY, bytes(1000), False), frame(Opcode.CONT, bytes(25))],
        1009,
    ),
    "too many fragments": (
        [frame(Opcode.TEXT, b"", False), frame(Opcode.CONT, b"", False) * 4096],
        1009,
    ),
    "opcode 3": ([b"\x83\x80\0\0\0\0"], 1002),
    "opcode 11": ([b"\x8b\x80\0\0\0\0"], 1002),
    "close of one byte": ([b"\x88\x81\0\0\0\0\x03"], 1002),
    "close with a reserved code": ([b"\x88\x82\0\0\0\0\x03\xec"], 1002),
    "close with invalid UTF-8": ([b"\x88\x83\0\0\0\0\x03\xe8\xff"], 1007),
    "not masked": ([b"\x81\x01a"], 1002),
    "RSV1": ([b"\xc1\x80\0\0\0\0"], 1002),
    "a fragmented ping": ([b"\x09\x80\0\0\0\0"], 1002),
    "a long ping": (
        [frame(Opcode.BINARY, bytes(126)).replace(b"\x82", b"\x89", 1)],
        1002,
    ),
    "a continuation of nothing": ([frame(Opcode.CONT)], 1002),
    "two messages at once": ([frame(Opcode.TEXT, fin=False), text("a")], 1002),
    "a close between fragments": (
        [frame(Opcode.TEXT, fin=False), frame(Opcode.CLOSE, b"\x03\xe8")],
        1002,
    ),
}
each_bad = pytest.mark.parametrize(("frames", "code"), BAD.values(), ids=BAD)


@both_kinds
@each_bad
async def test_bad_input_closes_with_its_code_and_on_close_comes_once(
    seen: Seen, coroutine: bool, frames: list[bytes], code: int
) -> None:
    endpoint = seen.make(coroutine=coroutine)
    async with meeting(endpoint, max_size=1024) as (_, client):
        write(client, *frames)
        await client.wait_closed()
        assert client.close_code == code
        await seen.closed.wait()
    assert seen.events == ["on_open", "on_close"]
    # A close frame came first there, and is answered; on_close has the peer's code.
    received_first = frames[-1] == frame_of_close(frames)
    assert seen.ends[0][0] == (1000 if received_first else code)


def frame_of_close(frames: list[bytes]) -> bytes | None:
    """Find the close frame that came between fragments."""
    return frames[-1] if frames[0][0] == 0x01 and frames[-1][0] == 0x88 else None


@both_kinds
async def test_as_many_fragments_as_recv_takes_are_taken(
    seen: Seen, coroutine: bool
) -> None:
    async with meeting(seen.make(coroutine=coroutine)) as (_, client):
        write(
            client,
            frame(Opcode.TEXT, b"a", False),
            frame(Opcode.CONT, b"a", False) * 4094,
            frame(Opcode.CONT, b"z"),
        )
        await seen.until(lambda: seen.messages)
    assert seen.messages == ["a" * 4095 + "z"]


@both_kinds
@pytest.mark.parametrize(
    ("heard", "frames", "reason"),
    [
        ("on_text", [frame(Opcode.BINARY, b"a")], "binary message"),
        (
            "on_text",
            [frame(Opcode.BINARY, b"a", False), frame(Opcode.CONT)],
            "binary message",
        ),
        ("on_binary", [text("a")], "text message"),
    ],
    ids=["binary", "fragmented binary", "text"],
)
async def test_a_message_of_the_other_kind_closes_with_1003(
    seen: Seen, coroutine: bool, heard: str, frames: list[bytes], reason: str
) -> None:
    endpoint = seen.make(heard, "on_close", coroutine=coroutine)
    async with meeting(endpoint) as (_, client):
        write(client, *frames)
        await client.wait_closed()
        assert (client.close_code, client.close_reason) == (1003, reason)
        await seen.closed.wait()
    assert seen.log == [("on_close", 1003, reason)]


@both_kinds
@pytest.mark.parametrize(
    ("bad", "code"),
    [
        ([frame(Opcode.BINARY)], 1003),
        ([frame(Opcode.TEXT, BAD_TEXT)], 1007),
        ([frame(Opcode.TEXT, b"", False), frame(Opcode.CONT, b"", False) * 4096], 1009),
    ],
    ids=["binary", "UTF-8", "fragments"],
)
async def test_what_came_before_the_bad_message_is_delivered(
    seen: Seen, coroutine: bool, bad: list[bytes], code: int
) -> None:
    """As ``recv()`` would: messages wait their turn, and so does their end."""
    endpoint = seen.make("on_text", "on_close", coroutine=coroutine)
    async with meeting(endpoint) as (_, client):
        write(client, text("one"), text("two"), *bad)
        await client.wait_closed()
        assert client.close_code == code
        await seen.closed.wait()
    assert seen.messages == ["one", "two"]
    assert seen.ends[0][0] == code


@both_kinds
async def test_messages_that_no_event_hears_are_dropped(
    seen: Seen, coroutine: bool
) -> None:
    endpoint = seen.make("on_ping", "on_close", coroutine=coroutine)
    async with meeting(endpoint, max_queue=2) as (_, client):
        write(client, *[text("a"), frame(Opcode.BINARY, b"b")] * 20)
        write(client, frame(Opcode.TEXT, b"a", False), frame(Opcode.CONT))
        await arrived(client)
        await client.close(4001)
        await seen.closed.wait()
    assert seen.log == [("on_ping", b"arrived"), ("on_close", 4001, "")]


@both_kinds
async def test_pings_that_no_event_hears_are_answered(
    seen: Seen, coroutine: bool
) -> None:
    async with meeting(seen.make("on_message", coroutine=coroutine)) as (_, client):
        write(client, frame(Opcode.PONG, b"unasked"))
        await arrived(client)
        await client.send("one")
        await seen.until(lambda: seen.log)
    assert seen.messages == ["one"]


@both_kinds
async def test_a_pong_acknowledges_a_ping_of_the_server(
    seen: Seen, coroutine: bool
) -> None:
    async with meeting(seen.make(coroutine=coroutine)) as _:
        await seen.until(lambda: seen.sockets)
        await (await seen.sockets[0].ping(b"server"))
        await seen.until(lambda: len(seen.log) == 2)
    assert seen.log[1] == ("on_pong", b"server")


@both_kinds
async def test_a_flood_of_pings_is_answered_and_heard(
    seen: Seen, coroutine: bool
) -> None:
    count = 5000
    endpoint = seen.make("on_ping", "on_close", coroutine=coroutine)
    async with meeting(endpoint, max_queue=4) as (_, client):
        write(client, frame(Opcode.PING, bytes(125)) * count)
        await arrived(client)
        await client.close(4001)
        await seen.closed.wait()
    assert seen.events == ["on_ping"] * (count + 1) + ["on_close"]
    assert seen.ends == [(4001, "")]


# Backpressure


class Deaf:
    """A client of its own socket, which reads only what it is told to read."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.loop = asyncio.get_running_loop()

    @classmethod
    async def connect(cls, server: Server) -> Deaf:
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2**16)
        sock.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(sock, (HOST, port(server)))
        await loop.sock_sendall(sock, REQUEST)
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += await loop.sock_recv(sock, 1)
        return cls(sock)

    async def send(self, data: bytes) -> None:
        await self.loop.sock_sendall(self.sock, data)

    async def read(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            more = await self.loop.sock_recv(self.sock, 2**16)
            if not more:
                break
            data += more
        return data


@asynccontextmanager
async def deaf(endpoint: type, **kwargs: Any) -> AsyncIterator[Deaf]:
    kwargs = {"compression": None, "ping_interval": None, **kwargs}
    server = route(endpoint).serve(HOST, 0, **kwargs)
    async with serving(server):
        client = await Deaf.connect(server)
        with client.sock:
            yield client


async def polled(condition: Callable[[], object]) -> None:
    """Wait for a change of a transport, which has no event."""
    while not condition():  # noqa: ASYNC110
        await asyncio.sleep(0)


def echo(event: str, ws: Protocol, *arguments: Any) -> None:
    if event == "on_message":
        ws.send_nowait(arguments[0])


async def test_a_slow_coroutine_stops_reading_from_its_own_client_only(
    seen: Seen,
) -> None:
    gates: list[asyncio.Event] = []

    class Endpoint:
        async def on_open(self, ws: ServerConnection) -> None:
            seen.add("on_open", ws)
            self.gate = asyncio.Event()
            gates.append(self.gate)

        async def on_message(
            self, ws: ServerConnection, message: bytes, opcode: OpCode
        ) -> None:
            seen.add("on_message", ws, message)
            await self.gate.wait()

    server = route(Endpoint).serve(HOST, 0, max_queue=4, ping_interval=None)
    async with serving(server) as url:
        slow = await Deaf.connect(server)
        with slow.sock:
            message = bytes(2**16)
            flood = asyncio.ensure_future(
                slow.send(frame(Opcode.BINARY, message) * 1000)
            )
            await seen.until(lambda: len(seen.log) == 2)
            await polled(lambda: not is_reading(seen.sockets[0]))
            queue = vars(seen.sockets[0])["process_event"].__self__._queue
            async with connecting(f"{url}/") as other:
                await seen.until(lambda: len(gates) == 2)
                gates[1].set()
                for number in range(20):
                    await other.send(str(number))
                await seen.until(lambda: len(seen.log) == 23)
            # One segment may bring some more than max_queue.
            assert 4 < len(queue) <= 4 + 256 * 1024 // len(message) + 1
            assert not flood.done()
            gates[0].set()
            await flood
            await seen.until(lambda: len(seen.messages) == 1020)


@pytest.mark.parametrize("max_queue", [4, (4, 0), (4, 4), (None, 1)])
async def test_the_marks_of_the_queue_are_those_of_recv(
    seen: Seen, max_queue: Any
) -> None:
    """A low mark alone makes the high one four times as high."""
    gate = asyncio.Event()

    async def act(event: str, ws: ServerConnection, *arguments: object) -> None:
        if event == "on_message":
            await gate.wait()

    endpoint = seen.make(coroutine=True, act=act)
    async with meeting(endpoint, max_queue=max_queue) as (_, client):
        write(client, *(text(str(number)) for number in range(5)))
        await seen.until(lambda: seen.messages)
        await arrived(client)
        # The first is being handled, and four wait beside the ping, one too many.
        assert not is_reading(seen.sockets[0])
        gate.set()
        await seen.until(lambda: len(seen.messages) == 5)
        await arrived(client)
        assert is_reading(seen.sockets[0])


async def test_a_queue_without_marks_never_stops_reading(seen: Seen) -> None:
    gate = asyncio.Event()

    async def act(event: str, ws: ServerConnection, *arguments: object) -> None:
        if event == "on_open":
            await gate.wait()

    endpoint = seen.make(coroutine=True, act=act)
    async with meeting(endpoint, max_queue=None) as (_, client):
        write(client, *(text(str(number)) for number in range(1000)))
        await arrived(client)
        assert is_reading(seen.sockets[0])
        gate.set()
        await seen.until(lambda: len(seen.messages) == 1000)


async def test_fragments_without_end_do_not_pile_up_while_a_coroutine_runs(
    seen: Seen,
) -> None:
    gate = asyncio.Event()

    async def act(event: str, ws: ServerConnection, *arguments: object) -> None:
        if event == "on_message":
            await gate.wait()

    endpoint = seen.make(coroutine=True, act=act)
    async with meeting(endpoint) as (_, client):
        write(client, text("one"))
        await seen.until(lambda: seen.messages)
        dispatcher = vars(seen.sockets[0])["process_event"].__self__
        write(client, frame(Opcode.TEXT, b"", False))
        pings = []
        for _ in range(4):
            write(client, frame(Opcode.CONT, b"", False) * 4000)
            pings.append(await client.ping())
        await asyncio.wait(map(asyncio.ensure_future, pings), timeout=0.5)
        assert len(dispatcher._fragments) <= 4096
        gate.set()
        await client.wait_closed()
        assert client.close_code == 1009
        await seen.closed.wait()
    assert seen.ends == [(1009, "too many fragments")]


async def test_a_plain_event_stops_being_called_while_its_peer_does_not_read(
    seen: Seen,
) -> None:
    """Nothing is lost: all comes back when it reads, and ``on_drain`` is called."""
    count, size = 200, 60_000
    endpoint = seen.make(act=echo)
    async with deaf(endpoint, max_queue=4, write_limit=2**16) as client:
        frames = b"".join(
            frame(Opcode.BINARY, number.to_bytes(2, "big") * (size // 2))
            for number in range(count)
        )
        flood = asyncio.ensure_future(client.send(frames))
        await seen.until(lambda: seen.sockets)
        ws = seen.sockets[0]
        await polled(lambda: not is_reading(ws))
        called = len(seen.messages)
        assert called < count
        assert "on_drain" not in seen.events
        assert ws.transport.get_write_buffer_size() < 2**16 + 2 * size
        await asyncio.sleep(0)
        assert len(seen.messages) == called
        received = await client.read(count * (size + 4))
        await flood
        assert seen.messages == [
            number.to_bytes(2, "big") * (size // 2) for number in range(count)
        ]
        assert received == b"".join(
            Frame(Opcode.BINARY, message).serialize(mask=False)
            for message in seen.messages
        )
        await seen.until(lambda: "on_drain" in seen.events)


@both_kinds
async def test_what_waits_for_a_peer_that_vanishes_is_delivered_before_on_close(
    seen: Seen, coroutine: bool
) -> None:
    def act(event: str, ws: Protocol, *arguments: object) -> None:
        if event == "on_message" and len(seen.messages) == 1:
            ws.send_nowait(bytes(2**23))

    endpoint = seen.make(coroutine=coroutine, act=act)
    async with deaf(endpoint, max_queue=64, write_limit=1024) as client:
        await client.send(text("one") + text("two") + text("three"))
        await seen.until(lambda: seen.messages)
        await polled(seen.sockets[0].transport.get_write_buffer_size)
        assert seen.messages == ["one"]
        client.sock.close()
        await seen.closed.wait()
    assert seen.messages == ["one", "two", "three"]
    assert seen.ends == [(1006, "")]


@both_kinds
async def test_on_drain_comes_in_its_turn_when_the_peer_reads_again(
    seen: Seen, coroutine: bool
) -> None:
    def act(event: str, ws: Protocol, *arguments: object) -> None:
        if event == "on_open":
            ws.send_nowait(bytes(2**23))

    endpoint = seen.make(coroutine=coroutine, act=act)
    async with meeting(endpoint, write_limit=1024) as (_, client):
        await client.recv()
        await seen.until(lambda: "on_drain" in seen.events)
        await client.close()
        await seen.closed.wait()
    assert seen.events == ["on_open", "on_drain", "on_close"]


# The same frames on the wire as with a coroutine


class PlainEcho:
    def on_message(self, ws: Protocol, message: str | bytes, opcode: OpCode) -> None:
        ws.send_nowait(message)


class CoroutineEcho:
    async def on_message(
        self, ws: ServerConnection, message: str | bytes, opcode: OpCode
    ) -> None:
        await ws.send(message)


async def handler_echo(ws: ServerConnection) -> None:
    async for message in ws:
        await ws.send(message)


def callback_echo(ws: Protocol, opcode: OpCode, payload: Any) -> None:
    if opcode in (OpCode.TEXT, OpCode.BINARY):
        ws.send_nowait(payload)


GOODBYE = frame(Opcode.CLOSE, Close(1000, "").serialize())
CONFORMANCE: dict[str, list[bytes]] = {
    **{name: frames for name, (frames, _) in BAD.items()},
    "empty text": [text(""), GOODBYE],
    "empty binary": [frame(Opcode.BINARY), GOODBYE],
    "126 bytes": [frame(Opcode.BINARY, bytes(126)), GOODBYE],
    "longest": [frame(Opcode.BINARY, bytes(1024)), GOODBYE],
    "beyond the BMP": [text("\U0001f642\U0010ffff"), GOODBYE],
    "a BOM": [text("\ufeffa\0"), GOODBYE],
    "fragments": [
        frame(Opcode.TEXT, b"a", False),
        frame(Opcode.CONT, b"b", False),
        frame(Opcode.CONT, b"c"),
        GOODBYE,
    ],
    "a character in fragments": [
        frame(Opcode.TEXT, b"\xf0\x9f", False),
        frame(Opcode.CONT, b"\x99\x82"),
        GOODBYE,
    ],
    "empty fragments": [
        frame(Opcode.TEXT, b"", False),
        frame(Opcode.CONT, b"", False),
        frame(Opcode.CONT),
        GOODBYE,
    ],
    "pings between fragments": [
        frame(Opcode.BINARY, b"a", False),
        frame(Opcode.PING, b"1"),
        frame(Opcode.CONT, b"b", False),
        frame(Opcode.PING, b"2"),
        frame(Opcode.CONT, b"c"),
        GOODBYE,
    ],
    "ping of 125 bytes": [frame(Opcode.PING, bytes(125)), GOODBYE],
    "pong": [frame(Opcode.PONG, b"unasked"), text("a"), GOODBYE],
    "close without a code": [frame(Opcode.CLOSE)],
    "close 1000": [GOODBYE],
    "close 3000": [frame(Opcode.CLOSE, Close(3000, "é").serialize())],
    "close 4999": [frame(Opcode.CLOSE, Close(4999, "x" * 123).serialize())],
    "close 999": [frame(Opcode.CLOSE, b"\x03\xe7")],
    "close 1006": [frame(Opcode.CLOSE, b"\x03\xee")],
    "close 5000": [frame(Opcode.CLOSE, b"\x13\x88")],
    "after the close": [text("a"), GOODBYE, text("b")],
}


@pytest.mark.parametrize("frames", CONFORMANCE.values(), ids=CONFORMANCE)
async def test_the_frames_are_those_of_a_coroutine_handler(frames: list[bytes]) -> None:
    router = Router()
    router.route("/handler")(handler_echo)
    router.route("/plain")(PlainEcho)
    router.route("/coroutine")(CoroutineEcho)
    router.websocket("/callback")(callback_echo)
    server = router.serve(
        HOST, 0, compression=None, max_size=1024, server_header=None, ping_interval=None
    )
    answers = {}
    async with serving(server):
        for path in ("handler", "plain", "coroutine", "callback"):
            answers[path] = await talk(port(server), path, frames)
    assert answers["handler"] != b""
    for path, received in answers.items():
        assert received == answers["handler"], path


async def talk(port: int, path: str, frames: Iterable[bytes]) -> bytes:
    """Send frames, each once the one before was taken; return what came back."""
    reader, writer = await asyncio.open_connection(HOST, port)
    writer.write(REQUEST.replace(b"GET / ", f"GET /{path} ".encode()))
    await reader.readuntil(b"\r\n\r\n")
    received = b""
    for each in frames:
        writer.write(each)
        if each[0] in (0x81, 0x82):  # a whole message, which is echoed or refused
            head = await reader.read(2)
            received += head
            if len(head) == 2 and head[1]:
                received += await reader.read(1)
    with suppress(ConnectionResetError):
        received += await reader.read()
    writer.close()
    with suppress(ConnectionResetError):
        await writer.wait_closed()
    return received


# On websockets' own class


@both_kinds
@pytest.mark.parametrize("way", WAYS_IN.values(), ids=WAYS_IN)
async def test_events_work_with_each_way_in(
    seen: Seen, way: WayIn, coroutine: bool
) -> None:
    router = route(seen.make(*ALL, coroutine=coroutine))
    async with serving(way.serve(router)) as url, connecting(f"{url}/") as client:
        await seen.until(lambda: seen.sockets)
        await client.send("one")
        write(client, frame(Opcode.PING, b"two"), frame(Opcode.PONG, b"three"))
        await client.send([b"fo", b"ur"])
        await client.close(4001, "bye")
        await seen.closed.wait()
        assert isinstance(seen.sockets[0], Protocol) is way.routed
    assert seen.log == [("on_open",), *MIXED[:4], ("on_close", 4001, "bye")]


@pytest.mark.parametrize("way", WAYS_IN.values(), ids=WAYS_IN)
async def test_opcode_callbacks_work_with_each_way_in(way: WayIn) -> None:
    router = Router()

    @router.websocket("/")
    async def callback(ws: ServerConnection, opcode: OpCode, payload: Any) -> None:
        if opcode not in (OpCode.CLOSE, OpCode.PING, OpCode.PONG):
            await ws.send(f"{opcode.name} {payload!r}")

    async with serving(way.serve(router)) as url, connecting(f"{url}/") as client:
        assert await client.recv() == "OPEN b''"
        await client.send("one")
        assert await client.recv() == "TEXT 'one'"
        await client.send(b"two")
        assert await client.recv() == "BINARY b'two'"


@pytest.mark.parametrize("way", WAYS_IN.values(), ids=WAYS_IN)
async def test_what_arrives_while_a_hook_runs_waits_with_each_way_in(
    seen: Seen, way: WayIn
) -> None:
    hooked, gate = asyncio.Event(), asyncio.Event()

    class Endpoint(seen.make()):  # type: ignore[misc]
        async def process_request(self, path: RoutedPath, headers: Headers) -> None:
            hooked.set()
            await gate.wait()

    server = way.serve(route(Endpoint))
    async with serving(server):
        reader, writer = await asyncio.open_connection(HOST, port(server))
        writer.write(REQUEST + text("one") + frame(Opcode.BINARY, b"two"))
        await hooked.wait()
        gate.set()
        await reader.readuntil(b"\r\n\r\n")
        writer.write(frame(Opcode.CLOSE, Close(4001, "").serialize()))
        await reader.read()
        writer.close()
        await seen.closed.wait()
        await writer.wait_closed()
    assert seen.events[0] == "on_open"
    assert seen.messages == ["one", b"two"]
    assert seen.ends == [(4001, "")]
