"""Outbox: everything keeps its order, leaves in one write, and is bounded."""

from __future__ import annotations

import asyncio
import json
import logging
import random
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from websockets import ConnectionClosed, State

from tests.integration.servers import until
from tests.integration.slow_clients import (
    Client,
    Recording,
    Stage,
    begin,
    each_security,
    held_back,
    resident,
)
from websockets_routes import BacklogFull, Filter, Protocol, Router
from websockets_routes.pubsub.outbox import outbox_of

ROOM = 2**24  # for tests in which nothing is to be dropped


def errors(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [
        record.getMessage()
        for record in caplog.records
        if record.levelno >= logging.WARNING
    ]


class Fragments:
    """A message in fragments, the last of which is sent when a test says so."""

    def __init__(self) -> None:
        self.begun, self.go_on = asyncio.Event(), asyncio.Event()

    async def __aiter__(self) -> AsyncIterator[str]:
        yield "first "
        self.begun.set()
        await self.go_on.wait()
        yield "last"


WHOLE = "first last"


async def get(client: Client, count: int) -> list[str | bytes]:
    """Read so many messages."""
    await client.read_until(lambda: len(client.messages) >= count)
    return client.messages


# The order of the calls


class Mixture:
    """Calls of every kind, in any order, on one connection.

    Attributes:
        expected: What the client is to read.
        tasks: The calls that wait.
    """

    def __init__(self, stage: Stage, ws: Any, seed: int) -> None:
        self.expected: list[str | bytes] = []
        self.tasks: list[asyncio.Task[Any]] = []
        self._stage, self._ws = stage, ws
        self._random = random.Random(seed)

    async def call(self, rounds: int) -> None:
        kinds: list[Callable[[str], Any]] = [
            self.publish,
            self.publish,
            self.send,
            self.send_bytes,
            self.send_nowait,
            self.send_json,
            self.send_fragments,
            self.send_pieces,
            self.cancelled,
            self.ping,
        ]
        for number in range(rounds):
            text = f"{number} " + "." * self._random.choice([1, 200, 5000])
            kind = self._random.choice(kinds)
            if kind == self.cancelled:
                await self.cancelled(text)
            elif (call := kind(text)) is not None:
                self.tasks.append(await begin(call))

    def publish(self, text: str) -> None:
        topic = self._random.choice(["a", "b", "c/d"])
        assert self._stage.router.publish(topic, text).queued == 1
        self.expected.append(text)

    def send(self, text: str) -> Any:
        self.expected.append(text)
        return self._ws.send(text)

    def send_bytes(self, text: str) -> Any:
        self.expected.append(text.encode())
        return self._ws.send(text.encode())

    def send_nowait(self, text: str) -> None:
        self.expected.append(text)
        self._ws.send_nowait(text)

    def send_json(self, text: str) -> Any:
        self.expected.append(json.dumps([text]))
        return self._ws.send_json([text])

    def send_fragments(self, text: str) -> Any:
        async def fragments() -> AsyncIterator[str]:
            for character in text[:3]:
                yield character
                await asyncio.sleep(0)
            yield text[3:]

        self.expected.append(text)
        return self._ws.send(fragments())

    def send_pieces(self, text: str) -> Any:
        self.expected.append(text)
        return self._ws.send([text[:3], text[3:]])

    def ping(self, _: str) -> Any:
        return self._ws.ping()

    async def cancelled(self, text: str) -> None:
        """Send, and think better of it, where it still waits."""
        backlog = outbox_of(self._ws).backlog
        task = await begin(self._ws.send(text))
        if backlog is None or task.done():
            self.expected.append(text)
        else:
            task.cancel()
        await asyncio.wait([task])

    async def finish(self) -> None:
        await asyncio.gather(*self.tasks)


@each_security
@pytest.mark.parametrize("slow", [False, True], ids=["ready", "slow"])
@pytest.mark.parametrize("fragmented", [False, True], ids=["whole", "fragments"])
@pytest.mark.parametrize("seed", range(3))
async def test_everything_arrives_in_the_order_of_the_calls(
    seed: int, fragmented: bool, slow: bool, tls: bool
) -> None:
    stage = Stage()
    async with stage.open(tls=tls, max_backlog=ROOM):
        ws, client = await stage.join("a", "b")
        await ws.subscribe(Filter("c/#"))
        mixture = Mixture(stage, ws, seed)
        fragments = Fragments()
        if fragmented:
            mixture.tasks.append(await begin(ws.send(fragments)))
            mixture.expected.append(WHOLE)
            await fragments.begun.wait()
        if slow and not fragmented:
            mixture.expected += await held_back(ws)
        if not slow:
            client.start_reading()
        await mixture.call(100)
        fragments.go_on.set()
        assert await get(client, len(mixture.expected)) == mixture.expected
        await mixture.finish()


@each_security
async def test_a_call_finds_its_place_while_what_was_held_back_goes_out(
    tls: bool,
) -> None:
    stage = Stage()
    async with stage.open(tls=tls, max_backlog=ROOM):
        ws, client = await stage.join("a", "b", "c/d")
        mixture = Mixture(stage, ws, 4)
        for _ in range(10):
            mixture.expected += await held_back(ws)
            await mixture.call(30)
            await get(client, len(mixture.expected) // 2)
            await mixture.call(10)
        assert await get(client, len(mixture.expected)) == mixture.expected
        await mixture.finish()


async def test_a_whole_message_behind_fragments_keeps_its_place() -> None:
    stage = Stage()
    async with stage.open():
        ws, client = await stage.join()
        fragments = Fragments()
        sending = asyncio.gather(ws.send(fragments), ws.send("second"))
        await fragments.begun.wait()
        await asyncio.sleep(0)
        ws.send_nowait("third")
        fragments.go_on.set()
        await sending
        assert await get(client, 3) == [WHOLE, "second", "third"]


@each_security
async def test_pings_overtake_what_is_held_back(tls: bool) -> None:
    stage = Stage()
    async with stage.open(tls=tls):
        ws, client = await stage.join("a")
        fragments = Fragments()
        sending = await begin(ws.send(fragments))
        await fragments.begun.wait()
        stage.router.publish("a", "held back")
        pong = await ws.ping()
        client.start_reading()
        await pong
        fragments.go_on.set()
        await sending
        assert await get(client, 2) == [WHOLE, "held back"]


@each_security
async def test_hundreds_of_sends_wait_and_leave_in_order(tls: bool) -> None:
    stage = Stage()
    async with stage.open(tls=tls):
        ws, client = await stage.join("a")
        expected: list[str | bytes] = [*await held_back(ws)]
        texts = [f"{number} " + "." * 3000 for number in range(300)]
        tasks = [asyncio.create_task(ws.send(text)) for text in texts]
        await asyncio.sleep(0)
        stage.router.publish("a", "last")
        assert not any(task.done() for task in tasks)
        assert resident(ws) < 2**17  # what waits is with those who wait
        assert await get(client, len(expected) + 301) == [*expected, *texts, "last"]
        await asyncio.gather(*tasks)


@each_security
@pytest.mark.parametrize("fragmented", [False, True], ids=["slow", "fragments"])
async def test_a_waiting_send_that_is_cancelled_sends_nothing_and_blocks_nothing(
    fragmented: bool, tls: bool
) -> None:
    stage = Stage()
    async with stage.open(tls=tls):
        ws, client = await stage.join("a")
        fragments = Fragments()
        expected: list[str | bytes] = []
        if fragmented:
            sending = await begin(ws.send(fragments))
            await fragments.begun.wait()
            expected.append(WHOLE)
        else:
            expected += await held_back(ws)
        tasks = [await begin(ws.send(f"send {number}")) for number in range(6)]
        stage.router.publish("a", "published")
        tasks.append(await begin(ws.send(["fragments", "too"])))
        tasks.append(await begin(ws.send("last")))
        for number in (0, 2, 5, 6):
            tasks[number].cancel()
        await asyncio.sleep(0)
        fragments.go_on.set()
        expected += ["send 1", "send 3", "send 4", "published", "last"]
        assert await get(client, len(expected)) == expected
        await asyncio.wait(tasks)
        assert [task.cancelled() for task in tasks] == [
            number in (0, 2, 5, 6) for number in range(8)
        ]
        if fragmented:
            await sending
        stage.router.publish("a", "on it goes")
        assert (await get(client, len(expected) + 1))[-1] == "on it goes"


class Resuming(Protocol):
    """Tells when its peer has read enough, after it has done what it does then."""

    resumed: Callable[[], object] = staticmethod(lambda: None)

    def resume_writing(self) -> None:
        super().resume_writing()
        self.resumed()


@each_security
async def test_a_send_that_is_cancelled_just_when_its_turn_has_come_blocks_nothing(
    tls: bool,
) -> None:
    stage = Stage()
    async with stage.open(tls=tls, create_connection=Resuming):
        ws, client = await stage.join("a")
        expected: list[str | bytes] = [*await held_back(ws)]
        task = await begin(ws.send("cancelled"))
        stage.router.publish("a", "published")
        ws.resumed = task.cancel
        expected.append("published")
        assert await get(client, len(expected)) == expected
        assert task.cancelled()
        assert ws.outbox.backlog is None


async def test_a_send_with_a_timeout_can_be_tried_again() -> None:
    stage = Stage()
    async with stage.open():
        ws, client = await stage.join("a")
        expected: list[str | bytes] = [*await held_back(ws)]
        stage.router.publish("a", "published")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await ws.send("too late")
        again = await begin(ws.send("again"))
        expected += ["published", "again"]
        assert await get(client, len(expected)) == expected
        await again


@pytest.mark.parametrize("compression", ["shared", "deflate", None], ids=str)
async def test_a_fragmented_send_that_is_cancelled_is_no_error_of_the_package(
    compression: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    """It makes the connection unusable, as websockets has it."""
    stage = Stage()
    async with stage.open(compression=compression):
        ws, _ = await stage.join("a")
        fragments = Fragments()
        task = await begin(ws.send(fragments))
        await fragments.begun.wait()
        stage.router.publish("a", "held back")
        task.cancel()
        await asyncio.wait([task])
        stage.router.publish("a", "after it")
        ws.transport.abort()
    assert errors(caplog) == []


async def test_sends_that_wait_for_a_connection_that_is_lost_raise() -> None:
    stage = Stage()
    async with stage.open():
        ws, _ = await stage.join("a")
        await held_back(ws)
        tasks = [
            await begin(ws.send("a")),
            await begin(ws.send(["b", "c"])),
            await begin(ws.send("d")),
        ]
        ws.transport.abort()
        await ws.wait_closed()
        for task in tasks:
            with pytest.raises(ConnectionClosed):
                await task


async def test_sends_that_wait_for_a_connection_that_closes_raise() -> None:
    """Nor are they sent; what was published before goes out first."""
    stage = Stage()
    async with stage.open():
        ws, client = await stage.join("a")
        expected: list[str | bytes] = [*await held_back(ws)]
        stage.router.publish("a", "published")
        task = await begin(ws.send("waiting"))
        closing = await begin(ws.close(4000))
        assert await client.read_all() == [*expected, "published"]
        assert client.close_code == 4000
        with pytest.raises(ConnectionClosed):
            await task
        await closing


# One write a turn


@each_security
async def test_what_is_published_in_one_turn_leaves_in_one_write(tls: bool) -> None:
    stage = Stage()
    async with stage.open(tls=tls, create_connection=Recording):
        ws, client = await stage.join("a", "b")
        ws.writes()
        for number in range(10):
            stage.router.publish("ab"[number % 2], str(number))
        assert ws.writes() == []
        await asyncio.sleep(0)
        assert len(ws.writes()) == 1
        stage.router.publish("a", "10")
        await asyncio.sleep(0)
        assert len(ws.writes()) == 1
        assert await get(client, 11) == list(map(str, range(11)))


@pytest.mark.parametrize("compression", ["shared", "deflate", None], ids=str)
async def test_one_write_a_turn_is_the_same_with_any_compression(
    compression: str | None,
) -> None:
    stage = Stage()
    async with stage.open(compression=compression, create_connection=Recording):
        ws, client = await stage.join("a")
        ws.writes()
        for number in range(10):
            stage.router.publish("a", f"{number} " * 300)
        await asyncio.sleep(0)
        assert len(ws.writes()) == 1
        await get(client, 10)


async def test_what_callbacks_of_one_turn_publish_leaves_in_the_following() -> None:
    stage = Stage()
    loop = asyncio.get_running_loop()
    async with stage.open(create_connection=Recording):
        ws, client = await stage.join("a")
        ws.writes()
        seen = []
        for number in range(5):
            loop.call_soon(stage.router.publish, "a", str(number))
        loop.call_soon(lambda: seen.append(ws.writes()))
        await asyncio.sleep(0)
        assert seen == [[]]
        await asyncio.sleep(0)
        assert len(ws.writes()) == 1
        assert await get(client, 5) == list("01234")


@pytest.mark.parametrize("way", ["send", "send_nowait", "send_json", "fragments"])
async def test_a_direct_send_lets_out_what_was_published_before(way: str) -> None:
    stage = Stage()
    async with stage.open(create_connection=Recording):
        ws, client = await stage.join("a")
        ws.writes()
        stage.router.publish("a", "1")
        stage.router.publish("a", "2")
        if way == "send":
            await ws.send("3")
        elif way == "send_nowait":
            ws.send_nowait("3")
        elif way == "send_json":
            await ws.send_json(3)
        else:
            await ws.send(["", "3"])
        stage.router.publish("a", "4")
        writes = ws.writes()
        assert writes[0] == b"\x81\x011\x81\x012"
        assert len(writes) == (4 if way == "fragments" else 2)
        assert await get(client, 4) == ["1", "2", "3", "4"]


async def test_a_close_lets_out_what_was_published_before() -> None:
    stage = Stage()
    async with stage.open():
        ws, client = await stage.join("a")
        stage.router.publish("a", "1")
        closing = await begin(ws.close())
        assert await client.read_all() == ["1"]
        assert client.close_code == 1000
        await closing


@each_security
async def test_crossing_write_limit_flushes_at_once(tls: bool) -> None:
    stage = Stage()
    async with stage.open(
        tls=tls, small=False, create_connection=Recording, write_limit=10_000
    ):
        ws, client = await stage.join("a")
        ws.writes()
        for _ in range(10):
            stage.router.publish("a", b"." * 1000)
        assert ws.writes() == []
        stage.router.publish("a", b"." * 1000)
        (written,) = ws.writes()
        assert len(written) == 11 * 1004
        stage.router.publish("a", b"." * 20_000)
        (written,) = ws.writes()
        assert len(written) == 20_004
        await asyncio.sleep(0)
        assert ws.writes() == []
        await get(client, 12)


@each_security
@pytest.mark.parametrize("write_limit", [1, (20_000, 100), 2**22], ids=str)
async def test_any_write_limit_of_websockets_will_do(
    write_limit: Any, tls: bool
) -> None:
    stage = Stage()
    async with stage.open(tls=tls, write_limit=write_limit):
        ws, client = await stage.join("a")
        expected = []
        for number in range(600):
            expected.append(b"%d " % number + b"." * 500)
            assert stage.router.publish("a", expected[-1]).queued == 1
        assert await get(client, 600) == expected
        assert not ws.paused


@each_security
async def test_a_burst_that_a_healthy_client_takes_closes_nobody(tls: bool) -> None:
    stage = Stage()
    async with stage.open(tls=tls, small=False):
        _, client = await stage.join("a")
        expected = [b"%05d" % number + b"." * 295 for number in range(5000)]
        for message in expected:
            receipt = stage.router.publish("a", message)
            assert (receipt.matched, receipt.queued) == (1, 1)
        assert await get(client, 5000) == expected
        assert stage.lost == []


# Limits


@each_security
@pytest.mark.parametrize("where", ["router", "serve", "class"])
async def test_max_backlog_may_be_smaller_than_write_limit(
    where: str, tls: bool
) -> None:
    limit = 5000

    class Small(Protocol):
        max_backlog = limit

    stage = Stage(Router(max_backlog=limit) if where == "router" else None)
    stage.router.topic("a", overflow="drop_newest")
    options: dict[str, Any] = {}
    if where == "serve":
        options = {"max_backlog": limit}
    elif where == "class":
        options = {"create_connection": Small}
    async with stage.open(tls=tls, **options):
        ws, client = await stage.join("a")
        assert ws.max_backlog == limit
        published, dropped, most = 0, 0, 0
        while dropped < 100:
            receipt = stage.router.publish("a", b"%d " % published + b"." * 500)
            assert receipt.matched == receipt.queued + receipt.dropped == 1
            published += 1
            dropped += receipt.dropped
            most = max(most, resident(ws))
            await asyncio.sleep(0)
        assert most <= limit + 600
        await get(client, published - dropped)
        numbers = [int(message.split()[0]) for message in client.messages]
        assert numbers == sorted(set(numbers))
        await asyncio.sleep(0)
        assert len(stage.lost) == dropped
        # It may have as much as before.
        assert stage.router.publish("a", "again").queued == 1
        await client.read_until(lambda: client.messages[-1] == "again")


async def test_max_backlog_of_serve_goes_before_that_of_the_router() -> None:
    stage = Stage(Router(max_backlog=1000))
    async with stage.open(max_backlog=2000):
        ws, _ = await stage.join("a")
        assert ws.max_backlog == ws.outbox.max_backlog == 2000


@each_security
async def test_a_small_max_backlog_lets_a_healthy_client_have_a_burst(
    tls: bool,
) -> None:
    stage = Stage()
    async with stage.open(tls=tls, small=False, max_backlog=1000):
        _, client = await stage.join("a")
        expected = [b"%d " % number + b"." * 300 for number in range(200)]
        for message in expected:
            assert stage.router.publish("a", message).queued == 1
        assert await get(client, 200) == expected


@each_security
async def test_a_message_larger_than_max_backlog_reaches_whoever_reads(
    tls: bool,
) -> None:
    stage = Stage()
    async with stage.open(tls=tls, max_backlog=1000):
        ws, client = await stage.join("a")
        client.start_reading()
        for number in range(3):
            await until(lambda: not ws.paused)
            assert stage.router.publish("a", bytes([number]) * 200_000).queued
        got = await get(client, 3)
        assert got == [bytes([number]) * 200_000 for number in range(3)]


@each_security
async def test_send_nowait_behind_what_is_held_back_is_bounded(tls: bool) -> None:
    stage = Stage()
    async with stage.open(tls=tls, max_backlog=100_000):
        ws, client = await stage.join("a")
        expected: list[str | bytes] = [*await held_back(ws)]

        def flood() -> None:
            while True:
                ws.send_nowait(message := b"%d " % len(expected) + b"." * 1000)
                expected.append(message)

        with pytest.raises(BacklogFull) as full:
            flood()
        assert full.value.limit == 100_000
        assert 100_000 < full.value.backlog == resident(ws) < 102_000
        assert await get(client, len(expected)) == expected
        ws.send_nowait("again")
        assert (await get(client, len(expected) + 1))[-1] == "again"


@each_security
async def test_send_nowait_amid_fragments_of_a_slow_peer_raises_what_it_promises(
    tls: bool,
) -> None:
    """The connection is to be closed for being slow, and is not closing yet."""
    stage = Stage()
    async with stage.open(tls=tls, max_backlog=50_000, close_timeout=0.1):
        ws, _ = await stage.join("a")
        fragments = Fragments()
        sending = await begin(ws.send(fragments))
        await fragments.begun.wait()
        while not stage.router.publish("a", b"." * 1000).closed:
            pass
        with pytest.raises((ConnectionClosed, BacklogFull)):
            ws.send_nowait("too late")
        fragments.go_on.set()
        await asyncio.wait([sending])


# The end


async def test_what_waits_for_a_peer_that_closes_is_told_to_on_drop() -> None:
    stage = Stage()
    async with stage.open():
        ws, client = await stage.join("a")
        await held_back(ws)
        stage.router.publish("a", "one")
        ws.send_nowait("that nobody published")
        stage.router.publish("a", b"two")
        await client.say_goodbye()
        await client.read_all()
        assert client.close_code == 1000
        await ws.wait_closed()
        await asyncio.sleep(0)
    assert stage.lost == [("a", "one"), ("a", b"two")]
    assert stage.router.topics.statistics().lost == 2


async def test_no_message_follows_the_close_frame(
    caplog: pytest.LogCaptureFixture,
) -> None:
    stage = Stage()
    async with stage.open():
        ws, client = await stage.join("a")
        closing = await begin(ws.close(4000))
        receipt = stage.router.publish("a", "too late")
        assert (receipt.matched, receipt.queued, receipt.closed) == (1, 0, 1)
        await asyncio.sleep(0)
        assert await client.read_all() == []
        assert client.close_code == 4000
        await closing
    assert errors(caplog) == []


async def test_a_connection_that_cannot_be_written_to_is_aborted(
    caplog: pytest.LogCaptureFixture,
) -> None:
    stage = Stage()
    async with stage.open(create_connection=Recording):
        ws, client = await stage.join("a")
        outbox = ws.outbox

        def fail(data: object) -> None:
            raise OSError("no more")

        outbox._write = fail
        stage.router.publish("a", "one")
        await ws.wait_closed()
        assert ws.state is State.CLOSED
        assert await client.read_all() == []
        receipt = stage.router.publish("a", "two")
        assert receipt.matched == 0
    assert errors(caplog) == ["a message could not be sent"]


async def test_an_outbox_is_made_once_and_goes_with_the_connection() -> None:
    stage = Stage()
    async with stage.open():
        ws, client = await stage.join()
        assert ws.outbox is None
        outbox = outbox_of(ws)
        assert outbox_of(ws) is outbox is ws.outbox
        calls: list[object] = []
        outbox.when_lost(calls.append)
        outbox.when_lost(calls.append)
        await client.leave()
        await ws.wait_closed()
        await asyncio.sleep(0)
        assert calls == [outbox]
        assert ws.outbox is None


async def test_an_outbox_that_is_made_for_a_slow_peer_holds_back_at_once() -> None:
    stage = Stage()
    async with stage.open():
        ws, client = await stage.join()
        expected: list[str | bytes] = [*await held_back(ws)]
        assert ws.outbox is None
        await ws.subscribe("a")
        size = ws.transport.get_write_buffer_size()
        stage.router.publish("a", "published")
        await asyncio.sleep(0)
        assert ws.transport.get_write_buffer_size() == size
        expected.append("published")
        assert await get(client, len(expected)) == expected
