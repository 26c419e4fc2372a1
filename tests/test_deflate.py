"""Shared compression, without a socket: both sides are protocols of websockets."""

from __future__ import annotations

import random
import zlib
from collections.abc import Sequence
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from websockets import ClientProtocol, Frame, Opcode, ServerProtocol, State
from websockets.extensions import (
    ClientExtensionFactory,
    Extension,
    ServerExtensionFactory,
)
from websockets.extensions.permessage_deflate import (
    ClientPerMessageDeflateFactory,
    PerMessageDeflate,
    ServerPerMessageDeflateFactory,
)
from websockets.http11 import Request
from websockets.typing import ExtensionName
from websockets.uri import parse_uri

from websockets_routes.deflate import (
    OWN,
    OWN_DEFLATE,
    PAYS_FROM,
    PLAIN,
    SharedDeflate,
    SharedDeflateFactory,
    encoding_of,
    offer,
)

TEXT, BINARY, CONT = Opcode.TEXT, Opcode.BINARY, Opcode.CONT
RSV1 = 0b01000000

same_every_time = settings(derandomize=True, database=None, deadline=None)


class Reverse(Extension):
    """An extension of somebody's own, which turns every payload round."""

    name = ExtensionName("x-reverse")

    def encode(self, frame: Frame) -> Frame:
        return Frame(frame.opcode, bytes(frame.data)[::-1], frame.fin)

    def decode(self, frame: Frame, *, max_size: int | None = None) -> Frame:
        return self.encode(frame)


class ReverseDeflate(PerMessageDeflate):
    """Another one, which is much like deflate, but under a name of its own."""

    name = ExtensionName("x-reverse-deflate")

    def encode(self, frame: Frame) -> Frame:
        encoded = super().encode(frame)
        encoded.data = bytes(encoded.data)[::-1]
        return encoded

    def decode(self, frame: Frame, *, max_size: int | None = None) -> Frame:
        frame.data = bytes(frame.data)[::-1]
        return super().decode(frame, max_size=max_size)


class Factory(ServerExtensionFactory, ClientExtensionFactory):
    """Negotiates an extension that has no parameters."""

    def __init__(self, extension: type[Extension], *args: Any) -> None:
        self.name = extension.name
        self.extension: Any = extension
        self.args = args

    def get_request_params(self) -> list[Any]:
        return []

    def process_request_params(self, *_: object) -> tuple[list[Any], Extension]:
        return [], self.extension(*self.args)

    def process_response_params(self, *_: object) -> Extension:
        return cast(Extension, self.extension(*self.args))


REVERSE = Factory(Reverse)
REVERSE_DEFLATE = Factory(ReverseDeflate, True, True, 12, 12)
DEFLATE = ClientPerMessageDeflateFactory


def negotiate(
    server_extensions: Sequence[Any], client_extensions: Sequence[Any] = (DEFLATE(),)
) -> tuple[ServerProtocol, ClientProtocol]:
    """Have a server and a client shake hands."""
    server = ServerProtocol(extensions=server_extensions, max_size=None)
    client = ClientProtocol(
        parse_uri("ws://host/"), extensions=client_extensions or None, max_size=None
    )
    client.send_request(client.connect())
    server.receive_data(b"".join(client.data_to_send()))
    [request] = server.events_received()
    assert isinstance(request, Request)
    server.send_response(server.accept(request))
    client.receive_data(b"".join(server.data_to_send()))
    client.events_received()
    assert client.state is State.OPEN
    return server, client


def received(client: ClientProtocol, data: bytes) -> list[str | bytes]:
    """Have a client read bytes; return the messages."""
    client.receive_data(data)
    messages: list[str | bytes] = []
    parts, text = b"", False
    for frame in client.events_received():
        assert isinstance(frame, Frame)
        assert frame.opcode in (TEXT, BINARY, CONT)
        if frame.opcode is not CONT:
            parts, text = b"", frame.opcode is TEXT
        parts += frame.data
        if frame.fin:
            messages.append(parts.decode() if text else parts)
    assert client.parser_exc is None
    assert client.state is State.OPEN
    return messages


def noise(size: int) -> bytes:
    return random.Random(size).randbytes(size)


# Which frames a connection understands


SERVER_DEFLATE = ServerPerMessageDeflateFactory
TAKEOVER = SERVER_DEFLATE()


@pytest.mark.parametrize(
    ("server_extensions", "client_extensions", "encoding"),
    [
        ([], [DEFLATE()], PLAIN),
        ([SharedDeflateFactory()], [], PLAIN),
        ([TAKEOVER], [DEFLATE()], OWN_DEFLATE),
        (
            [SERVER_DEFLATE(server_max_window_bits=12, client_max_window_bits=12)],
            [DEFLATE()],
            OWN_DEFLATE,
        ),
        ([SERVER_DEFLATE(client_no_context_takeover=True)], [DEFLATE()], OWN_DEFLATE),
        ([TAKEOVER], [DEFLATE(server_no_context_takeover=True)], 15),
        ([SERVER_DEFLATE(server_no_context_takeover=True)], [DEFLATE()], 15),
        ([SharedDeflateFactory()], [DEFLATE()], 12),
        ([SharedDeflateFactory()], [DEFLATE(server_max_window_bits=9)], 9),
        ([SharedDeflateFactory()], [DEFLATE(server_max_window_bits=15)], 12),
        ([SharedDeflateFactory()], [DEFLATE(client_max_window_bits=None)], 12),
        ([SharedDeflateFactory()], [DEFLATE(server_max_window_bits=8)], PLAIN),
        ([REVERSE], [REVERSE], OWN),
        ([REVERSE], [DEFLATE()], PLAIN),
        ([SharedDeflateFactory(), REVERSE], [DEFLATE(), REVERSE], OWN),
        ([REVERSE, SharedDeflateFactory()], [REVERSE, DEFLATE()], OWN),
        ([REVERSE_DEFLATE], [REVERSE_DEFLATE], OWN),
    ],
    ids=[
        "not-served",
        "not-offered",
        "takeover",
        "websockets-default",
        "takeover-of-the-server",
        "client-asks-for-none",
        "server-has-none",
        "shared",
        "shared-9",
        "shared-15",
        "shared-no-client-bits",
        "shared-8",
        "another",
        "another-not-offered",
        "deflate-and-another",
        "another-and-deflate",
        "one-made-from-deflate",
    ],
)
def test_the_encoding_is_what_was_negotiated(
    server_extensions: list[Any], client_extensions: list[Any], encoding: int
) -> None:
    server, _ = negotiate(server_extensions, client_extensions)
    assert encoding_of(server) == encoding


def test_the_encodings_are_told_apart() -> None:
    assert PLAIN == 0
    assert OWN < 0
    assert OWN_DEFLATE < 0
    assert OWN != OWN_DEFLATE


# What is compressed


def frame_of(extension: Extension, data: bytes, **kwargs: Any) -> Frame:
    return extension.encode(Frame(kwargs.pop("opcode", TEXT), data, **kwargs))


@pytest.fixture
def shared() -> SharedDeflate:
    server, _ = negotiate([SharedDeflateFactory()])
    [extension] = server.extensions
    assert isinstance(extension, SharedDeflate)
    return extension


@pytest.mark.parametrize("size", [0, 1, PAYS_FROM - 1])
def test_a_short_message_goes_out_plain(shared: SharedDeflate, size: int) -> None:
    frame = frame_of(shared, b"a" * size)
    assert not frame.rsv1
    assert frame.data == b"a" * size


@pytest.mark.parametrize("size", [PAYS_FROM, 4096, 200_000])
def test_a_long_message_goes_out_compressed(shared: SharedDeflate, size: int) -> None:
    frame = frame_of(shared, b"a" * size)
    assert frame.rsv1
    assert len(frame.data) < size / 10


@pytest.mark.parametrize("size", [PAYS_FROM, 1000, 4096, 200_000])
def test_a_message_that_would_not_be_shorter_is_left_alone(
    shared: SharedDeflate, size: int
) -> None:
    frame = frame_of(shared, noise(size), opcode=BINARY)
    assert len(frame.data) <= size


@pytest.mark.parametrize("opcode", [Opcode.PING, Opcode.PONG, Opcode.CLOSE])
def test_control_frames_are_left_alone(shared: SharedDeflate, opcode: Opcode) -> None:
    frame = Frame(opcode, b"a" * 125)
    assert shared.encode(frame) is frame


def test_between_messages_nothing_is_held() -> None:
    server, client = negotiate([SharedDeflateFactory()])
    [extension] = server.extensions
    for side in (server, client):
        side.send_text(b"a" * 10)
        side.send_text(b"a" * 10_000)
        side.send_text(b"a" * 400, fin=False)
        side.send_continuation(b"a" * 400, fin=True)
    server.receive_data(b"".join(client.data_to_send()))
    assert len(server.events_received()) == 4
    assert not hasattr(extension, "encoder")
    assert not hasattr(extension, "decoder")


@same_every_time
@given(
    st.lists(
        st.tuples(
            st.booleans(),
            st.lists(st.sampled_from([0, 1, 100, 511, 512, 3000]), min_size=1),
        ),
        max_size=6,
    ),
    st.sampled_from([None, 9, 10, 15]),
    st.booleans(),
)
def test_a_client_reads_what_was_sent_in_however_many_fragments(
    messages: list[tuple[bool, list[int]]], bits: int | None, noisy: bool
) -> None:
    server, client = negotiate(
        [SharedDeflateFactory()], [DEFLATE(server_max_window_bits=bits)]
    )
    expected: list[bytes] = []
    for text, sizes in messages:
        parts = [noise(size) if noisy and not text else b"ab" * size for size in sizes]
        send = server.send_text if text else server.send_binary
        send(parts[0], fin=len(parts) == 1)
        for index, part in enumerate(parts[1:], 2):
            server.send_continuation(part, fin=index == len(parts))
        expected.append(b"".join(parts))
    assert received(client, b"".join(server.data_to_send())) == [
        part.decode() if text else part
        for (text, _), part in zip(messages, expected, strict=True)
    ]


@pytest.mark.parametrize("size", [0, 10, 511, 512, 5000])
def test_the_server_reads_what_a_client_compressed(size: int) -> None:
    server, client = negotiate([SharedDeflateFactory()])
    for _ in range(2):
        client.send_text(b"x" * size)
    server.receive_data(b"".join(client.data_to_send()))
    frames = server.events_received()
    assert [frame.data for frame in frames if isinstance(frame, Frame)] == [
        b"x" * size
    ] * 2
    assert server.state is State.OPEN


def test_each_message_can_be_read_on_its_own(shared: SharedDeflate) -> None:
    first = frame_of(shared, b"message " * 100)
    second = frame_of(shared, b"message " * 100)
    assert bytes(first.data) == bytes(second.data)
    for frame in (second, first):
        decoder = zlib.decompressobj(wbits=-12)
        plain = decoder.decompress(bytes(frame.data) + b"\0\0\xff\xff")
        assert plain == b"message " * 100


# What is offered


def test_the_factory_imposes_no_takeover_on_either_side() -> None:
    server, client = negotiate([SharedDeflateFactory()])
    for protocol in (server, client):
        [extension] = protocol.extensions
        assert isinstance(extension, PerMessageDeflate)
        assert extension.local_no_context_takeover
        assert extension.remote_no_context_takeover
        assert extension.local_max_window_bits == 12
        assert extension.remote_max_window_bits == 12


def test_a_second_compression_is_not_accepted() -> None:
    server, _ = negotiate(
        [SharedDeflateFactory(), SharedDeflateFactory()],
        [DEFLATE(server_max_window_bits=10), DEFLATE()],
    )
    assert len(server.extensions) == 1


@pytest.mark.parametrize("none", [None, [], ()], ids=repr)
def test_compression_is_offered_where_there_are_no_extensions(none: Any) -> None:
    [factory] = offer(none)
    assert isinstance(factory, SharedDeflateFactory)


@pytest.mark.parametrize("kind", [list, tuple])
def test_compression_is_added_after_the_extensions_that_there_are(kind: Any) -> None:
    extensions = kind([REVERSE])
    offered = offer(extensions)
    assert offered[0] is REVERSE
    assert isinstance(offered[1], SharedDeflateFactory)
    assert len(offered) == 2
    assert list(extensions) == [REVERSE]


@pytest.mark.parametrize(
    "factory", [TAKEOVER, SharedDeflateFactory()], ids=["deflate", "shared"]
)
def test_compression_of_the_users_own_is_kept(factory: Any) -> None:
    assert offer([factory]) == [factory]
    assert offer((REVERSE, factory)) == [REVERSE, factory]
