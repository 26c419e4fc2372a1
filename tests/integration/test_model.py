"""Topics under fire: whatever happens, nothing is lost in silence, or comes twice.

A machine of hypothesis connects clients of its own to a real server, has them read,
or not, and publishes and sends to them. Each call has a number that goes with its
message. A model, which knows nothing of queues, says who has to get what:

- what arrives is what was sent, in the order of the calls; a message that took the
  place of older ones of its topic and key comes where the oldest of them would have;
- what does not arrive was told to ``on_drop``, or was replaced by a newer message, or
  was counted as closed, and never two of these;
- the counts of all receipts and statistics agree with that;
- where a client ends its connection, what was on its way may be lost.

That a message arrived proves that everything before it has: nothing waits for time to
pass.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import random
from collections import defaultdict
from collections.abc import AsyncGenerator, Callable, Coroutine
from dataclasses import dataclass
from typing import Any, ClassVar, cast

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)
from websockets import ConnectionClosed, State
from websockets.asyncio.server import Server, ServerConnection, broadcast, serve
from websockets.extensions.permessage_deflate import ServerPerMessageDeflateFactory

from websockets_routes import (
    BacklogFull,
    Filter,
    OpCode,
    Protocol,
    Receipt,
    RoutedPath,
    Router,
)

from .model_clients import (
    EXTENSIONS,
    Client,
    Gate,
    Interrupted,
    Offer,
    Peer,
    ServerFlipFactory,
    small_socket,
)
from .servers import HOST, TIMEOUT, until

NAMES = [
    "close/1",
    "oldest/1",
    "oldest/2",
    "newest/1",
    "latest/1",
    "latest/2",
    "keyed/1",
    "undeclared",
    "$own/1",
]
FILTER_TEXTS = ["#", "+/1", "oldest/#", "keyed/+", "undeclared/#", "$own/+"]
FILTERS = [Filter(text) for text in FILTER_TEXTS]
TOPICS: list[str | Filter] = [*NAMES, *FILTERS]
POLICIES = {
    "oldest": "drop_oldest",
    "newest": "drop_newest",
    "latest": "conflate",
    "keyed": "conflate",
}
KEYS = ["a", "b", "c"]
SIZES = [0, 60, 600, 3_000, 12_000, 70_000]
ENDS = ["client closes", "client aborts", "server closes", "server disconnects"]
FORMS = ["text", "binary", "text from bytes", "binary from str"]


def policy_of(name: str) -> str:
    return POLICIES.get(name.partition("/")[0], "close")


def key_of(message: str | bytes) -> str:
    text = message if isinstance(message, str) else message.decode()
    return text.split("|")[1]


def number_of(message: str | bytes) -> int:
    text = message if isinstance(message, str) else message.decode()
    return int(text.split("|")[0])


class Served(ServerConnection):
    """A connection of any class that tells the model when it is closed, and lost."""

    peer: Peer

    async def close(self, code: int = 1000, reason: str = "") -> None:
        peer = self.peer
        if self.state is State.OPEN and peer.told_when_closed is None:
            if peer.close_code is None:
                peer.close_code = code
            if peer.fragmenting:
                peer.failed = True

            def closed() -> None:
                peer.told_when_closed = len(peer.told)

            # By then, on_drop was told what was lost until now, and nothing more.
            self.loop.call_soon(closed)
        await super().close(code, reason)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self.peer.cancels:
            self.peer.cancels = False
            self.peer.cancel_sends()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if hasattr(self, "peer"):
            self.peer.gone = True
            if self.peer.ours:
                self.peer.topics.clear()
            else:
                # Nobody overrides this for us: we hear of it a moment later.
                self.loop.call_soon(self.peer.topics.clear)


class OurServed(Served, Protocol):
    """A connection of a routed server."""


class Log(logging.Handler):
    """Knows which connections overflowed, and that nothing failed."""

    def __init__(self) -> None:
        super().__init__()
        self.overflowed: list[Peer] = []
        self.failures: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.levelno >= logging.WARNING:
            error = record.exc_info[1] if record.exc_info else None
            if not is_late_abort(error):
                self.failures.append(logging.Formatter().format(record))
        elif record.getMessage() == "closing a connection that reads too slowly":
            peer = cast(Any, record).websocket.peer
            peer.overflowed = True
            peer.close_code = peer.close_code or 1013
            self.overflowed.append(peer)


def is_late_abort(error: BaseException | None) -> bool:
    """Tell whether a transport was aborted that is closed already.

    ``websockets`` does so, and asyncio fails where it had bytes left when it closed.
    """
    return isinstance(error, AttributeError) and error.name == "call_soon"


@dataclass(frozen=True)
class Publish:
    name: str
    by: int | None
    size: int
    form: str
    compress: bool | None


@dataclass(frozen=True)
class Send:
    to: int
    size: int
    form: str
    wait: bool


@dataclass(frozen=True)
class Ping:
    to: int
    count: int


some = st.integers(0, 11)
sizes = st.sampled_from(SIZES)
forms = st.sampled_from(FORMS)
names = st.sampled_from(NAMES)
topics = st.sampled_from(TOPICS)
publishing = st.builds(
    Publish,
    names,
    st.none() | some,
    sizes,
    forms,
    st.sampled_from([None, None, True, False]),
)
sending = st.builds(Send, some, sizes, forms, st.booleans())
pinging = st.builds(Ping, some, st.integers(1, 5))
turns = st.integers(0, 3)


class Topics(RuleBasedStateMachine):
    """The machine; a subclass says on which event loop."""

    new_loop: ClassVar[Callable[[], asyncio.AbstractEventLoop]]

    def __init__(self) -> None:
        super().__init__()
        self.loop = type(self).new_loop()
        self.loop.set_exception_handler(self.on_error)
        self.peers: list[Peer] = []
        self.arriving: dict[int, Peer] = {}
        self.tasks: list[asyncio.Task[None]] = []
        self.errors: list[BaseException] = []
        self.number = 0
        self.turn = 0
        self.sent: dict[int, tuple[bool, bytes]] = {}
        self.totals = Receipt()
        self.published = 0
        self.log = Log()
        self.steps = 0
        self.sound = True
        self.hook_counts: dict[str | Filter, int] = defaultdict(int)

    def run(self, coroutine: Coroutine[Any, Any, None]) -> None:
        async def bounded() -> None:
            async with asyncio.timeout(TIMEOUT):
                await coroutine

        self.steps += 1
        self.sound = False
        self.loop.run_until_complete(bounded())
        self.check_errors()
        self.sound = True

    def on_error(
        self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]
    ) -> None:
        error = context.get("exception") or AssertionError(context["message"])
        if not is_late_abort(error):
            self.errors.append(error)

    def check_errors(self) -> None:
        if self.errors:
            raise self.errors[0]
        assert not self.log.failures, self.log.failures

    # The server

    @initialize(
        ours=st.sampled_from([True, True, True, False]),
        compression=st.sampled_from(["shared", "deflate", None, "reset"]),
        limits=st.sampled_from([(2_048, 16_384), (16_384, 4_096), (32_768, 65_536)]),
        clients=st.lists(
            st.tuples(
                st.sampled_from(sorted(EXTENSIONS)),
                st.lists(topics, min_size=2, unique=True),
            ),
            min_size=1,
            max_size=4,
        ),
    )
    def begin(
        self,
        ours: bool,
        compression: str | None,
        limits: tuple[int, int],
        clients: list[tuple[str, list[str | Filter]]],
    ) -> None:
        self.ours = ours
        self.limits = limits
        self.run(self._serve(compression))
        for kind, topics in clients:
            self.run(self._connect(kind))
            for topic in topics:
                self.subscribe(-1, topic)

    async def _serve(self, compression: str | None) -> None:
        write_limit, max_backlog = self.limits
        self.router = router = Router(max_backlog=max_backlog)
        for level, policy in POLICIES.items():
            key = key_of if level == "keyed" else None
            router.topic(level + "/{rest}", overflow=policy, key=key)
        router.topic("close/{rest}")
        router.topics.on_drop(self.on_drop)
        router.topics.on_subscription(self.on_subscription)

        @router.route(r"/{index:\d+}")
        async def handler(ws: Served, path: RoutedPath) -> None:
            peer = self.arriving.pop(int(path.params["index"]))
            ws.peer, peer.ws = peer, ws
            peer.served.set()
            await ws.wait_closed()

        logger = logging.Logger("model", logging.INFO)
        logger.addHandler(self.log)
        extensions: list[Any] = [ServerFlipFactory()]
        if compression == "reset":
            compression = None
            extensions.append(
                ServerPerMessageDeflateFactory(server_no_context_takeover=True)
            )

        sock = small_socket()
        sock.bind((HOST, 0))
        self.address = sock.getsockname()
        arguments: dict[str, Any] = {
            "sock": sock,
            "extensions": extensions,
            "write_limit": write_limit,
            "close_timeout": TIMEOUT,
            "ping_interval": None,
            "logger": logger,
        }
        if self.ours:
            self.server: Server = await router.serve(
                create_connection=OurServed,
                compression=compression,
                stall_timeout=None,
                **arguments,
            )
        else:
            self.server = await serve(
                router.handle,
                process_request=router.process_request,
                create_connection=Served,
                compression="deflate" if compression else None,
                **arguments,
            )

    def on_drop(self, ws: Served, topic: str, message: str | bytes) -> None:
        number = number_of(message)
        payload = message.encode() if isinstance(message, str) else message
        try:
            assert self.sent[number] == (isinstance(message, str), payload)
            assert ws.peer.offers[number].topic == topic
        except Exception as error:
            self.errors.append(error)
        ws.peer.told.append(number)

    def on_subscription(
        self, ws: Served, topic: str | Filter, new: int, old: int
    ) -> None:
        if old != self.hook_counts[topic] or abs(new - old) != 1:
            self.errors.append(AssertionError(f"{topic}: {old} -> {new}"))
        self.hook_counts[topic] = new

    # Clients

    def peer(self, index: int) -> Peer:
        return self.peers[index % len(self.peers)]

    @precondition(lambda self: len(self.peers) < 12)
    @rule(kind=st.sampled_from(sorted(EXTENSIONS)), paused=st.booleans())
    def connect(self, kind: str, paused: bool) -> None:
        self.run(self._connect(kind))
        if paused:
            self.peers[-1].client.pause()

    async def _connect(self, kind: str) -> None:
        peer = self.arriving[len(self.peers)] = Peer(len(self.peers), self.ours)

        def received(text: bool, payload: bytes) -> None:
            number = number_of(payload)
            assert self.sent[number] == (text, payload), f"wrong bytes of {number}"
            peer.received.append(number)
            peer.arrivals.set()

        peer.client = await Client.connect(
            self.address, f"/{peer.index}", EXTENSIONS[kind], received
        )
        lost = peer.client.connection_lost

        def connection_lost(exc: Exception | None) -> None:
            lost(exc)
            peer.arrivals.set()

        peer.client.connection_lost = connection_lost  # type: ignore[method-assign]
        assert not peer.client.broken, peer.client.broken
        await peer.served.wait()
        self.peers.append(peer)
        if not self.ours:
            await self._subscribe(peer, peer.own_topic)

    @rule(index=some)
    def pause(self, index: int) -> None:
        self.peer(index).client.pause()

    @rule(
        index=some, size=st.sampled_from([500, 3_000]), spare=st.sampled_from([0, 600])
    )
    def fill(self, index: int, size: int, spare: int) -> None:
        """Have a client read nothing, until something waits for it, or nearly so."""
        peer = self.peer(index)
        peer.client.pause()

        async def fill() -> None:
            for _ in range(400):
                held = peer.ws.transport.get_write_buffer_size()
                if held + spare > min(self.limits):
                    break
                if not self.send_nowait(peer, size, "binary"):
                    break

        self.run(fill())

    @rule(index=some, turns=turns)
    def resume(self, index: int, turns: int) -> None:
        self.peer(index).client.resume()
        self.run(pass_turns(turns))

    @rule(index=some, turns=st.integers(1, 8))
    def read_a_little(self, index: int, turns: int) -> None:
        client = self.peer(index).client
        client.resume()
        self.run(pass_turns(turns))
        client.pause()

    # Subscriptions

    @rule(index=some, topic=topics)
    def subscribe(self, index: int, topic: str | Filter) -> None:
        self.run(self._subscribe(self.peer(index), topic))

    async def _subscribe(self, peer: Peer, topic: str | Filter) -> None:
        if peer.ws.state is not State.OPEN:
            with pytest.raises(ConnectionClosed):
                await self.router.subscribe(peer.ws, topic)
            return
        subscribe = peer.ws.subscribe(topic) if self.ours else None
        subscribed = await (subscribe or self.router.subscribe(peer.ws, topic))
        assert subscribed[:2] == (topic, topic not in peer.topics)
        if subscribed.new:
            peer.topics.append(topic)

    @rule(index=some, which=some)
    def unsubscribe(self, index: int, which: int) -> None:
        peer = self.peer(index)
        choice = [each for each in peer.topics if each != peer.own_topic] or TOPICS
        topic = choice[which % len(choice)]

        async def unsubscribe() -> None:
            expected = topic in peer.topics
            assert self.router.unsubscribe(peer.ws, topic) == expected
            if topic in peer.topics:
                peer.topics.remove(topic)

        self.run(unsubscribe())

    # Messages

    def message(self, size: int, form: str) -> tuple[int, str | bytes]:
        """Make the next message; even sizes of it are nothing that deflate shortens."""
        number = self.number
        self.number += 1
        noise = random.Random(number)
        if size and number % 2:
            padding = noise.randbytes(size // 2).hex()
        else:
            padding = "é…" * (size // 5)
        text = f"{number}|{KEYS[number % 3]}|{padding}"
        self.sent[number] = form.startswith("text"), text.encode()
        return number, text if form in ("text", "binary from str") else text.encode()

    def publish(self, action: Publish) -> int:
        name = action.name
        policy = policy_of(name)
        number, message = self.message(action.size, action.form)
        by = None if action.by is None else self.peer(action.by)
        audience = [peer for peer in self.peers if peer is not by and peer.hears(name)]
        opcode = OpCode.TEXT if action.form.startswith("text") else OpCode.BINARY
        closed = [peer for peer in audience if not peer.is_open]
        # The model does not know when a server notices that its peer is gone.
        unclear = [
            peer
            for peer in audience
            if peer.is_open and (peer.left or peer.ws.transport.is_closing())
        ]
        for peer in audience:
            peer.begin_turn(self.turn, *self.limits)
        del self.log.overflowed[:]
        if by is not None and self.ours:
            receipt = by.ws.publish(name, message, opcode, compress=action.compress)
        else:
            receipt = self.router.publish(
                name,
                message,
                opcode,
                exclude=None if by is None else by.ws,
                compress=action.compress,
            )
        overflowed = self.log.overflowed
        assert set(overflowed) <= set(audience) - set(closed)
        assert not overflowed or policy == "close"
        self.check_receipt(receipt, policy)
        assert receipt.matched == len(audience)
        closed += overflowed
        assert 0 <= receipt.closed - len(closed) <= len(set(unclear) - {*closed})
        key = None
        if policy == "conflate":
            key = key_of(message) if name.startswith("keyed") else ""
        for peer in audience:
            fate = "never" if peer in closed else "queued"
            size = len(self.sent[number][1])
            size += 2 if size < 126 else 4 if size < 2**16 else 10
            turn = self.turn if self.turn in peer.rooms else None
            peer.offers[number] = Offer(number, name, key, fate, size, turn)
        self.published += 1
        return number

    def check_receipt(self, receipt: Receipt, policy: str) -> None:
        assert receipt.matched == receipt.queued + receipt.dropped + receipt.closed
        assert min(getattr(receipt, each) for each in Receipt.__slots__) >= 0
        assert not receipt.conflated or policy == "conflate"
        assert not receipt.displaced or policy in ("drop_oldest", "conflate")
        assert not receipt.dropped or policy != "close"
        assert receipt.conflated <= receipt.queued
        for each in Receipt.__slots__:
            total = getattr(self.totals, each) + getattr(receipt, each)
            setattr(self.totals, each, total)

    def send_nowait(self, peer: Peer, size: int, form: str) -> bool:
        number, message = self.message(size, form)
        offer = peer.offers[number] = Offer(number, None, None, "never")
        if not self.ours:
            # websockets has no send_nowait, but its broadcast is like it.
            if peer.fragmenting:
                return False
            offer.fate = "waits"
            broadcast([peer.ws], message, text=form.startswith("text"))
            return peer.ws.state is State.OPEN
        try:
            peer.ws.send_nowait(message, text=form.startswith("text"))
        except (BacklogFull, ConnectionClosed):
            return False
        # What waits for a peer that then overflows is discarded.
        offer.fate = "waits"
        return True

    def start(self, coroutine: Coroutine[Any, Any, object]) -> asyncio.Task[None]:
        async def run() -> None:
            try:
                await coroutine
            except (ConnectionClosed, Interrupted):
                pass
            except Exception as error:
                if not is_late_abort(error):
                    self.errors.append(error)

        task = self.loop.create_task(run())
        # It may be cancelled before it begins.
        task.add_done_callback(lambda _: coroutine.close())
        self.tasks.append(task)
        return task

    def start_send(self, peer: Peer, size: int, form: str) -> None:
        peer.sends.append(self.start(self._send(peer, size, form)))

    async def _send(self, peer: Peer, size: int, form: str) -> int:
        number, message = self.message(size, form)
        offer = peer.offers[number] = Offer(number, None, None, "maybe")
        await peer.ws.send(message, text=form.startswith("text"))
        offer.fate = "sure"
        return number

    def act(self, action: Publish | Send) -> None:
        if isinstance(action, Publish):
            self.publish(action)
        elif action.wait:
            self.start_send(self.peer(action.to), action.size, action.form)
        else:
            self.send_nowait(self.peer(action.to), action.size, action.form)

    @rule(action=publishing, turns=turns)
    def publish_one(self, action: Publish, turns: int) -> None:
        self.within_a_turn([action], turns)

    @rule(action=sending, turns=turns)
    def send_one(self, action: Send, turns: int) -> None:
        self.within_a_turn([action], turns)

    @rule(actions=st.lists(publishing | sending, min_size=2, max_size=12), turns=turns)
    def within_a_turn(self, actions: list[Publish | Send], turns: int) -> None:
        async def act() -> None:
            self.turn += 1
            for action in actions:
                self.act(action)
            await pass_turns(turns)

        self.run(act())

    @rule(
        actions=st.lists(publishing | sending | pinging, min_size=2, max_size=8),
        index=some,
        closes=st.sampled_from([False, False, False, True]),
        turns=turns,
    )
    def handle(
        self,
        actions: list[Publish | Send | Ping],
        index: int,
        closes: bool,
        turns: int,
    ) -> None:
        """Do what a handler does: one thing after the other, each one awaited."""

        async def handle() -> None:
            self.turn += 1
            for action in actions:
                with contextlib.suppress(ConnectionClosed):
                    if isinstance(action, Ping):
                        for _ in range(action.count):
                            await self.peer(action.to).ws.ping(os.urandom(125))
                    elif isinstance(action, Send) and action.wait:
                        peer = self.peer(action.to)
                        await self._send(peer, action.size, action.form)
                    else:
                        self.act(action)
                        continue
                self.turn += 1
            if closes:
                await self.peer(index).ws.close(4002)

        self.start(handle())
        self.run(pass_turns(turns))

    @rule(
        index=some,
        which=st.lists(some, min_size=1, max_size=3),
        rounds=st.integers(4, 16),
        size=st.sampled_from([600, 3_000, 12_000]),
        closes=st.booleans(),
        turns=turns,
    )
    def flood(
        self,
        index: int,
        which: list[int],
        rounds: int,
        size: int,
        closes: bool,
        turns: int,
    ) -> None:
        """Publish more than a slow client takes, to what a client hears."""
        candidates = [name for name in NAMES if closes or policy_of(name) != "close"]
        heard = list(filter(self.peer(index).hears, candidates)) or candidates
        chosen = [heard[each % len(heard)] for each in which]

        async def flood() -> None:
            self.turn += 1
            for number in range(rounds):
                for name in chosen:
                    # Sizes that vary, so that not all take the place of all.
                    vary = size * (1 + number * 7 % 5) // 3
                    self.publish(Publish(name, None, vary, "text", None))
                if turns:
                    await pass_turns(turns)
                    self.turn += 1

        self.run(flood())

    # Fragmented messages

    @rule(
        index=some,
        parts=st.integers(2, 4),
        gate_at=st.integers(0, 3) | st.none(),
        size=sizes,
        form=forms,
        turns=turns,
    )
    def send_fragments(
        self,
        index: int,
        parts: int,
        gate_at: int | None,
        size: int,
        form: str,
        turns: int,
    ) -> None:
        peer = self.peer(index)
        if peer.fragmenting and not self.ours:
            return  # websockets itself cannot do this
        gate = Gate()
        if gate_at is None:
            gate.opened.set()
        peer.gates.append(gate)
        peer.fragmenting += 1

        async def send() -> None:
            number, message = self.message(size, form)
            offer = peer.offers[number] = Offer(number, None, None, "maybe")
            step = len(message) // parts + 1
            pieces = [message[at : at + step] for at in range(0, len(message), step)]
            fragments = gated(pieces, gate, gate_at)
            is_text = form.startswith("text")
            given: Any = iter(pieces) if gate_at is None else fragments
            try:
                await peer.ws.send(given, text=is_text)
            except (Interrupted, asyncio.CancelledError):
                peer.failed = True
                raise
            finally:
                gate.opened.set()
                await fragments.aclose()
            offer.fate = "sure"

        def sent(_: object) -> None:
            peer.fragmenting -= 1

        peer.sends.append(self.start(send()))
        peer.sends[-1].add_done_callback(sent)
        self.run(pass_turns(turns))

    @rule(index=some, fail=st.sampled_from([False, False, False, True]), turns=turns)
    def let_fragments_go(self, index: int, fail: bool, turns: int) -> None:
        for gate in self.peer(index).gates:
            if not gate.opened.is_set():
                gate.fail = fail
                gate.opened.set()
                break
        self.run(pass_turns(turns))

    @rule(index=some, turns=turns)
    def cancel_sends(self, index: int, turns: int) -> None:
        self.peer(index).cancel_sends()
        self.run(pass_turns(turns))

    @rule(index=some, turns=turns)
    def cancel_sends_in_their_turn(self, index: int, turns: int) -> None:
        """Cancel what waits in the very moment in which it may go on."""
        self.peer(index).cancels = True
        self.peer(index).client.resume()
        self.run(pass_turns(turns))

    # The end

    @precondition(lambda self: self.steps > 12)
    @rule(index=some, how=st.sampled_from(ENDS), name=names, turns=turns)
    def end(self, index: int, how: str, name: str, turns: int) -> None:
        peer = self.peer(index)
        if how == "client closes":
            peer.left = True
            peer.client.close()
        elif how == "client aborts":
            peer.left = True
            peer.client.abort()
        elif how == "server closes":
            self.start(peer.ws.close(4000))
        else:
            self.start(self._disconnect(name))
        self.run(pass_turns(turns))

    async def _disconnect(self, name: str) -> None:
        expected = sum(
            name in peer.topics and peer.ws.state is State.OPEN for peer in self.peers
        )
        assert await self.router.disconnect(name, 4001) == expected

    # What has to be true

    @invariant()
    def subscriptions_are_those_of_the_model(self) -> None:
        if not self.peers:
            return
        heard = [topic for peer in self.peers for topic in peer.topics]
        for peer in self.peers:
            assert self.router.topics.topics_of(peer.ws) == tuple(peer.topics)
        for topic in TOPICS:
            count = heard.count(topic)
            assert self.router.num_subscribers(topic) == count
            assert self.hook_counts[topic] == count
        statistics = self.router.topics.statistics()
        assert statistics.subscriptions == len(heard)
        assert statistics.names == len(
            {each for each in heard if isinstance(each, str)}
        )
        assert statistics.subscribers == sum(bool(peer.topics) for peer in self.peers)
        assert statistics.published == self.published
        for each in ("queued", "conflated", "dropped", "displaced", "closed"):
            assert getattr(statistics, each) == getattr(self.totals, each), each

    @rule()
    def settle(self) -> None:
        """Check everyone who reads, once everything has arrived."""
        settled = [
            peer
            for peer in self.peers
            if not (peer.client.paused or peer.in_fragments or peer.left)
        ]
        self.run(self._settle(settled))

    async def _settle(self, peers: list[Peer]) -> None:
        last = await asyncio.gather(*map(self._drain, peers))
        await until(self.on_drop_was_told)
        complete = dict(zip(peers, last, strict=True))
        for peer in self.peers:
            peer.check(complete.get(peer, -1))

    def on_drop_was_told(self) -> bool:
        """Tell whether the hook knows of all that is counted; it is called later."""
        told = sum(len(peer.told) for peer in self.peers)
        return told == self.router.topics.statistics().lost

    async def _drain(self, peer: Peer) -> int:
        """Wait until a last message has arrived, or the connection is closed.

        Returns:
            The number of the last message that has to have arrived.
        """
        try:
            number = await self._send(peer, 0, "text")
            if not self.ours:
                # A send overtakes what is held back.
                await until(lambda: not peer.ws.transport.get_write_buffer_size())
                number = self.publish(Publish(peer.own_topic, None, 0, "text", None))
        except ConnectionClosed:
            await peer.client.lost.wait()
            return self.number
        await peer.arrived(number)
        return number

    def teardown(self) -> None:
        try:
            if self.sound:
                self.run(self._finish())
                self.subscriptions_are_those_of_the_model()
        finally:
            self.run_to_the_end()
            self.loop.close()

    async def _finish(self) -> None:
        for peer in self.peers:
            for gate in peer.gates:
                gate.opened.set()
            peer.client.resume()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        await self._settle(self.peers)
        # Everyone who is still there has got everything.
        self.server.close()
        await self.server.wait_closed()
        for peer in self.peers:
            await peer.client.lost.wait()
        await pass_turns(2)
        self.check_totals()
        assert not any(peer.topics for peer in self.peers)
        assert all(peer.gone for peer in self.peers)

    def check_totals(self) -> None:
        least, most = 0, 0
        for peer in self.peers:
            replaced = peer.check(self.number)
            least += replaced[0]
            most += replaced[1]
            peer.check_close_code()
        totals = self.totals
        assert least <= totals.conflated <= most
        assert self.on_drop_was_told()
        lost = self.router.topics.statistics().lost
        given_up = lost - totals.dropped - totals.displaced
        assert given_up >= 0
        if self.ours and not any(peer.broke for peer in self.peers):
            assert given_up == 0

    def run_to_the_end(self) -> None:
        """Leave nothing on the event loop, whatever failed."""

        async def clean() -> None:
            for peer in self.peers:
                peer.client.abort()
                peer.ws.transport.abort()
            if hasattr(self, "server"):
                self.server.close(close_connections=False)
                await self.server.wait_closed()
            left = asyncio.all_tasks() - {cast(Any, asyncio.current_task())}
            for task in left:
                task.cancel()
            await asyncio.gather(*left, return_exceptions=True)
            await pass_turns(3)

        self.loop.run_until_complete(clean())
        self.loop.run_until_complete(self.loop.shutdown_asyncgens())


async def gated(
    pieces: list[Any], gate: Gate, gate_at: int | None
) -> AsyncGenerator[Any, None]:
    for index, piece in enumerate(pieces):
        if index == gate_at:
            await gate.opened.wait()
            if gate.fail:
                raise Interrupted
        yield piece
    await gate.opened.wait()
    if gate.fail:
        raise Interrupted


async def pass_turns(count: int) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


def uvloop_loop() -> asyncio.AbstractEventLoop:
    import uvloop

    return cast(asyncio.AbstractEventLoop, uvloop.new_event_loop())


class OnAsyncio(Topics):
    new_loop = staticmethod(asyncio.new_event_loop)


class OnUvloop(Topics):
    new_loop = staticmethod(uvloop_loop)


if os.environ.get("MODEL_EXAMPLES"):
    chosen = settings(
        max_examples=int(os.environ["MODEL_EXAMPLES"]),
        stateful_step_count=int(os.environ.get("MODEL_STEPS", "40")),
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
else:
    chosen = settings(
        max_examples=40,
        stateful_step_count=30,
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )

TestTopicsOnAsyncio = OnAsyncio.TestCase
TestTopicsOnAsyncio.settings = chosen
TestTopicsOnUvloop = OnUvloop.TestCase
TestTopicsOnUvloop.settings = chosen
