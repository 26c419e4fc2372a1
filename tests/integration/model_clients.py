"""What the model-based test has on its side: clients, and what they have to get.

The clients read when they are told to. The model of a connection knows every message
that is for it, and what may become of that.
"""

from __future__ import annotations

import asyncio
import re
import socket
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, cast

from websockets import ClientProtocol, Frame, Opcode, Response, State
from websockets.datastructures import Headers
from websockets.exceptions import NegotiationError
from websockets.extensions import (
    ClientExtensionFactory,
    Extension,
    ServerExtensionFactory,
)
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory
from websockets.typing import ExtensionName, ExtensionParameter
from websockets.uri import parse_uri

from websockets_routes import Filter

__all__ = [
    "EXTENSIONS",
    "Client",
    "Gate",
    "Interrupted",
    "Offer",
    "Peer",
    "ServerFlipFactory",
    "small_socket",
]

# Small segments: with large ones, small buffers make the kernel wait for timers.
_SEGMENT = 1200
_BUFFER = 8192

_FLIP = ExtensionName("x-flip")
_FLIPPED = bytes(byte ^ 0xFF for byte in range(256))


def small_socket() -> socket.socket:
    """Make a socket of which the kernel holds little."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, _SEGMENT)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BUFFER)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER)
    sock.setblocking(False)
    return sock


class _Flip(Extension):
    """An extension of somebody else: every bit of every message is the other."""

    name = _FLIP

    def decode(self, frame: Frame, *, max_size: int | None = None) -> Frame:
        return self.encode(frame)

    def encode(self, frame: Frame) -> Frame:
        if frame.opcode in (Opcode.TEXT, Opcode.BINARY, Opcode.CONT):
            return replace(frame, data=bytes(frame.data).translate(_FLIPPED))
        return frame


class _ClientFlipFactory(ClientExtensionFactory):
    name = _FLIP

    def get_request_params(self) -> Sequence[ExtensionParameter]:
        return []

    def process_response_params(
        self,
        params: Sequence[ExtensionParameter],
        accepted_extensions: Sequence[Extension],
    ) -> Extension:
        if params:
            raise NegotiationError("x-flip has no parameters")
        return _Flip()


class ServerFlipFactory(ServerExtensionFactory):
    name = _FLIP

    def process_request_params(
        self,
        params: Sequence[ExtensionParameter],
        accepted_extensions: Sequence[Extension],
    ) -> tuple[list[ExtensionParameter], Extension]:
        return [], _Flip()


_deflate = ClientPerMessageDeflateFactory

#: What clients offer.
EXTENSIONS: dict[str, Sequence[ClientExtensionFactory]] = {
    "plain": (),
    "deflate": (_deflate(),),
    "deflate-9": (_deflate(server_max_window_bits=9, client_max_window_bits=9),),
    "deflate-10": (_deflate(server_max_window_bits=10),),
    "deflate-reset": (_deflate(server_no_context_takeover=True),),
    "flip": (_ClientFlipFactory(),),
    "flip-deflate": (_ClientFlipFactory(), _deflate(server_max_window_bits=11)),
}


class Client(asyncio.Protocol):
    """A client that reads at once, or not at all while it is paused.

    Args:
        uri: Where to connect.
        extensions: What to offer.
        received: Called with each message: whether it is text, and its bytes.

    Attributes:
        sans_io: The protocol.
        opened: Set when the handshake is over.
        lost: Set when the connection is.
        paused: Whether it reads nothing.
        broken: Rules that the server broke.
        fragments: Frames that a message in the making has so far.
    """

    transport: asyncio.Transport

    def __init__(
        self,
        uri: str,
        extensions: Sequence[ClientExtensionFactory],
        received: Callable[[bool, bytes], None],
    ) -> None:
        self.sans_io = ClientProtocol(
            parse_uri(uri), extensions=extensions or None, max_size=None
        )
        self.opened = asyncio.Event()
        self.lost = asyncio.Event()
        self.paused = False
        self.broken: list[BaseException] = []
        self.fragments: list[Frame] = []
        self._received = received

    @classmethod
    async def connect(
        cls,
        address: tuple[str, int],
        path: str,
        extensions: Sequence[ClientExtensionFactory],
        received: Callable[[bool, bytes], None],
    ) -> Client:
        loop = asyncio.get_running_loop()
        sock = small_socket()
        try:
            await loop.sock_connect(sock, address)
        except BaseException:
            sock.close()
            raise
        host, port = address
        client = cls(f"ws://{host}:{port}{path}", extensions, received)
        await loop.create_connection(lambda: client, sock=sock)
        await client.opened.wait()
        return client

    # What the test tells it

    def pause(self) -> None:
        if not self.paused and not self.transport.is_closing():
            self.transport.pause_reading()
        self.paused = True

    def resume(self) -> None:
        if self.paused and not self.transport.is_closing():
            self.transport.resume_reading()
        self.paused = False

    def close(self) -> None:
        if self.sans_io.close_expected() or self.transport.is_closing():
            return
        self.sans_io.send_close(1000)
        self._flush()

    def abort(self) -> None:
        self.transport.abort()

    # What the event loop tells it

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.sans_io.send_request(self.sans_io.connect())
        self._flush()

    def data_received(self, data: bytes) -> None:
        self.sans_io.receive_data(data)
        try:
            self._take()
        except Exception as error:
            self.broken.append(error)
        self._flush()

    def eof_received(self) -> None:
        self.sans_io.receive_eof()
        self._flush()

    def connection_lost(self, exc: Exception | None) -> None:
        self.sans_io.receive_eof()
        self.opened.set()
        self.lost.set()

    def _take(self) -> None:
        for event in self.sans_io.events_received():
            if isinstance(event, Response):
                assert isinstance(event.headers, Headers)
                assert self.sans_io.handshake_exc is None, event
                self.opened.set()
                continue
            assert isinstance(event, Frame)
            if event.opcode not in (Opcode.TEXT, Opcode.BINARY, Opcode.CONT):
                continue
            self.fragments.append(event)
            if event.fin:
                text = self.fragments[0].opcode is Opcode.TEXT
                whole = b"".join(bytes(frame.data) for frame in self.fragments)
                self.fragments = []
                self._received(text, whole)
        error = self.sans_io.parser_exc
        # A close frame may stand between fragments (RFC 6455 section 5.4).
        gone = isinstance(error, EOFError)
        if error is not None and not gone and self.close_code is None:
            self.broken.append(error)

    @property
    def close_code(self) -> int | None:
        """The code in the close frame that came, if one did."""
        close = self.sans_io.close_rcvd
        return None if close is None else close.code

    def _flush(self) -> None:
        for data in self.sans_io.data_to_send():
            if self.transport.is_closing():
                continue
            if data:
                self.transport.write(data)
            elif self.transport.can_write_eof():
                self.transport.write_eof()


def matches(topic: str, name: str) -> bool:
    """Tell whether a filter matches, by a regex (MQTT 5, section 4.7)."""
    if topic[0] in "+#" and name[0] == "$":
        return False
    pattern = re.escape(topic).replace(r"\+", "[^/]*").replace(r"/\#", "(/.*)?")
    return re.fullmatch(pattern.replace(r"\#", ".*"), name) is not None


@dataclass
class Offer:
    """One message that is for one connection.

    Attributes:
        number: Its place among all calls.
        topic: The topic, or None if it was sent.
        key: What it may be replaced by, or None.
        fate: What has to become of it: ``queued`` (it arrives, or is accounted for),
            ``never``, ``sure`` (it arrives), ``waits`` (it arrives unless the
            connection breaks), or ``maybe``.
        size: The bytes of its frame if it is not compressed.
        turn: The turn of the event loop, if its peer was slow when that began.
    """

    number: int
    topic: str | None
    key: str | None
    fate: str
    size: int = 0
    turn: int | None = None


@dataclass(eq=False)
class Gate:
    """A fragmented message that waits in its middle."""

    opened: asyncio.Event = field(default_factory=asyncio.Event)
    fail: bool = False


class Interrupted(Exception):
    """What is raised between the fragments of a message."""


@dataclass(eq=False)
class Peer:
    """One connection, and what the model knows of it.

    Attributes:
        ours: Whether the connection is of a class of this package; on others, sends
            overtake what is held back, and a close discards it.
        topics: What it hears, in order.
        offers: What is for it, by number.
        received: What arrived.
        told: What ``on_drop`` was told about.
        close_code: With what the server closes it first, if it does.
        overflowed: Whether it was too slow for a topic that closes.
        fragmenting: How many fragmented messages are on their way.
        failed: Whether it may end in the middle of one of them.
        left: Whether its client ended it.
        gone: Whether the server knows that it is lost.
        told_when_closed: How much it had lost when the server closed it.
        turn: The last turn of the event loop in which something was published to it.
        gates: Its fragmented messages that wait in their middle.
        sends: What sends to it, and can be cancelled.
        cancels: Whether these are cancelled as soon as it has read enough.
        arrivals: Set when something arrives, or when its client has lost it.
        rooms: Bytes that may wait in addition, by turns that found it slow.
    """

    index: int
    ours: bool
    client: Client = field(init=False)
    ws: Any = field(init=False)
    served: asyncio.Event = field(default_factory=asyncio.Event)
    topics: list[str | Filter] = field(default_factory=list)
    offers: dict[int, Offer] = field(default_factory=dict)
    received: list[int] = field(default_factory=list)
    told: list[int] = field(default_factory=list)
    close_code: int | None = None
    overflowed: bool = False
    fragmenting: int = 0
    failed: bool = False
    left: bool = False
    gone: bool = False
    told_when_closed: int | None = None
    turn: int = -1
    rooms: dict[int, int] = field(default_factory=dict)
    gates: list[Gate] = field(default_factory=list)
    sends: list[asyncio.Task[None]] = field(default_factory=list)
    cancels: bool = False
    arrivals: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def who(self) -> str:
        return f"connection {self.index}"

    @property
    def own_topic(self) -> str:
        """A topic that nobody else hears."""
        return f"own/{self.index}"

    def hears(self, name: str) -> bool:
        return any(
            matches(topic.text, name) if isinstance(topic, Filter) else topic == name
            for topic in self.topics
        )

    @property
    def is_open(self) -> bool:
        return self.ws.state is State.OPEN and not self.overflowed

    @property
    def broke(self) -> bool:
        """Whether what waits for it may be discarded."""
        return self.left or self.overflowed or self.failed

    @property
    def in_fragments(self) -> bool:
        return any(not gate.opened.is_set() for gate in self.gates)

    def begin_turn(self, turn: int, write_limit: int, max_backlog: int) -> None:
        """Look what the transport holds, before anything is published in this turn."""
        if self.turn == turn:
            return
        self.turn = turn
        held = self.ws.transport.get_write_buffer_size()
        if held > min(write_limit, max_backlog):
            # Until the end of the turn, all that is published to it has to wait.
            self.rooms[turn] = max(0, max_backlog - held)

    async def arrived(self, number: int) -> None:
        """Wait until a message has arrived, or the connection has ended."""
        while number not in self.received and not self.client.lost.is_set():
            self.arrivals.clear()
            await self.arrivals.wait()

    def cancel_sends(self) -> None:
        if self.ours:  # websockets itself discourages it
            for task in self.sends:
                task.cancel()

    # What has to be true

    def check(self, until: int) -> tuple[int, int]:
        """Check what arrived.

        Args:
            until: The number of the last message that has to have arrived; after it
                some may have.

        Returns:
            How many messages were replaced by newer ones: at least, at most.
        """
        who = self.who
        assert not self.client.broken, (who, self.client.broken)
        received, told = set(self.received), set(self.told)
        assert len(received) == len(self.received), f"{who} got a message twice"
        assert len(told) == len(self.told), f"{who}: on_drop was told twice"
        assert received <= self.offers.keys(), f"{who} got what is not for it"
        assert told <= self.offers.keys(), f"{who}: on_drop was told of others'"
        assert not received & told, f"{who} got what on_drop was told it lost"
        for number in told:
            assert self.offers[number].fate == "queued", (who, self.offers[number])
        for number in received:
            assert self.offers[number].fate != "never", (who, self.offers[number])
        if self.ours and self.told_when_closed is not None and not self.broke:
            lost = self.told[self.told_when_closed :]
            assert not lost, f"{who} lost {lost} when it was closed"
        self._check_order(received, told)
        self._check_limits()
        return self._check_missing(received, told, until)

    def _check_order(self, received: set[int], told: set[int]) -> None:
        place = -1
        for number in self.received:
            if not self.ours and self.offers[number].topic is None:
                continue
            places = self._places(number, received, told)
            later = [each for each in places if each > place]
            assert later, f"{self.who}: {number} at {places} < {place}"
            place = min(later)

    def _places(self, number: int, received: set[int], told: set[int]) -> list[int]:
        """List where a message may come: its own place, or that of an older one."""
        offer = self.offers[number]
        places = [number]
        if offer.key is None:
            return places
        for older in reversed(self._alike(offer, before=True)):
            if older.number in received:
                break
            if older.number in told:
                # It was dropped for what came later, or it has never had a place.
                places.append(places[-1])
            elif older.fate == "queued":
                places[-1] = older.number
        return places

    def _alike(self, offer: Offer, before: bool) -> list[Offer]:
        return [
            each
            for each in self.offers.values()
            if (each.topic, each.key) == (offer.topic, offer.key)
            and (each.number < offer.number if before else each.number > offer.number)
        ]

    def _check_limits(self) -> None:
        """Check what was queued while nothing could be written."""
        if not self.ours:
            return
        sizes: Counter[int] = Counter()
        newest: Counter[tuple[int, str | None, str]] = Counter()
        for number in self.received:
            offer = self.offers[number]
            if offer.turn is None:
                continue
            if offer.key is not None:
                newest[offer.turn, offer.topic, offer.key] += 1
            else:
                sizes[offer.turn] += offer.size
        twice = [each for each, count in newest.items() if count > 1]
        assert not twice, f"{self.who}: not conflated: {twice}"
        if self.client.sans_io.extensions:
            return
        for turn, size in sizes.items():
            assert size <= self.rooms[turn], f"{self.who}: too much waited"

    def _check_missing(
        self, received: set[int], told: set[int], until: int
    ) -> tuple[int, int]:
        replaced = [0, 0]
        for offer in self.offers.values():
            if offer.number in received or offer.number in told:
                continue
            if offer.number > until:
                continue
            if offer.fate == "waits":
                # Discarded with what is published, but told to nobody.
                assert self.broke or not self.ours, f"{self.who} lost {offer}"
            if offer.fate == "sure":
                assert self.left, f"{self.who} lost {offer}"
            if offer.fate != "queued":
                continue
            later = offer.key is not None and any(
                each.fate == "queued" for each in self._alike(offer, before=False)
            )
            assert later or self.left, f"{self.who} lost {offer}"
            replaced[0] += not self.left
            replaced[1] += later
        return replaced[0], replaced[1]

    def check_close_code(self) -> None:
        if not self.left and self.close_code is not None:
            expected = [self.close_code]
            if self.failed:
                # websockets itself closes so in the middle of a message.
                expected.append(1011)
            code = self.client.close_code
            assert code in expected, (self.index, code, self)
