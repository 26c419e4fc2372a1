"""Frames: encoded once, and read by a client of websockets whatever it negotiated."""

from __future__ import annotations

import array
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from websockets import ClientProtocol, ServerProtocol
from websockets.extensions.permessage_deflate import ServerPerMessageDeflateFactory

from tests.test_deflate import (
    DEFLATE,
    REVERSE,
    RSV1,
    negotiate,
    noise,
    received,
)
from websockets_routes import OpCode, Overflow
from websockets_routes.deflate import (
    OWN,
    OWN_DEFLATE,
    PAYS_FROM,
    PLAIN,
    SharedDeflateFactory,
    encoding_of,
)
from websockets_routes.pubsub.frames import Batch, Message, encode_payload, join_frames

same_every_time = settings(derandomize=True, database=None, deadline=None)

LARGE = 2**16
COMPRESSES = [None, True, False]
BITS = list(range(9, 16))
each_compress = pytest.mark.parametrize("compress", COMPRESSES)


def peers(bits: int) -> tuple[ServerProtocol, ClientProtocol]:
    """Negotiate the encoding of so many window bits; none for plain frames."""
    server, client = negotiate(
        [ServerPerMessageDeflateFactory(True, True, bits or None)],
        [DEFLATE()] if bits else [],
    )
    assert encoding_of(server) == bits
    return server, client


PAYLOADS = {
    "empty": ("", b""),
    "short": ("é日😀", b"\0\xff\x80"),
    "125": ("a" * 125, b"a" * 125),
    "126": ("a" * 126, b"a" * 126),
    "almost": ("a" * (PAYS_FROM - 1), b"a" * (PAYS_FROM - 1)),
    "enough": ("a" * PAYS_FROM, b"a" * PAYS_FROM),
    "varied": ("".join(map(chr, range(32, 2000))), noise(3000) + b"a" * 9000),
    "65535": ("ab" * 32767 + "a", b"a" * 65535),
    "65536": ("ab" * 32768, b"a" * 65536),
    "large": ("日本語" * 50_000, noise(300_000)),
}


# Frames


@pytest.mark.parametrize("bits", [PLAIN, *BITS])
@each_compress
def test_a_client_reads_the_message(bits: int, compress: bool | None) -> None:
    _, client = peers(bits)
    for pair in PAYLOADS.values():
        for original in pair:
            payload, text = encode_payload(original, None)
            message = Message(payload, text, compress=compress)
            assert received(client, message.frame(bits)) == [original]
            # Nothing is taken over from one message to the next.
            assert received(client, message.frame(bits)) == [original]
            assert message.original == original


@same_every_time
@given(
    st.one_of(st.text(), st.binary(), st.binary(max_size=9).map(lambda b: b * 200)),
    st.sampled_from([PLAIN, *BITS]),
    st.sampled_from(COMPRESSES),
)
def test_a_client_reads_any_message(
    original: str | bytes, bits: int, compress: bool | None
) -> None:
    _, client = peers(bits)
    payload, text = encode_payload(original, None)
    assert received(client, Message(payload, text, None, compress).frame(bits)) == [
        original
    ]


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize(
    ("payload", "compress", "compressed"),
    [
        (b"a" * PAYS_FROM, None, True),
        (b"a" * (PAYS_FROM - 1), None, False),
        (b"", None, False),
        (noise(PAYS_FROM), None, False),
        (noise(100_000), None, False),
        (b"a" * 10, True, True),
        (b"", True, True),
        (noise(PAYS_FROM), True, True),
        (b"a" * 100_000, False, False),
        (b"a" * 10, False, False),
    ],
    ids=[
        "pays",
        "almost-pays",
        "empty",
        "noise",
        "much-noise",
        "short-asked-for",
        "empty-asked-for",
        "noise-asked-for",
        "long-refused",
        "short-refused",
    ],
)
def test_compress_says_what_is_compressed(
    payload: bytes, compress: bool | None, compressed: bool, bits: int
) -> None:
    message = Message(payload, False, compress=compress)
    frame = message.frame(bits)
    assert bool(frame[0] & RSV1) is compressed
    if not compressed:
        assert frame is message.frame(PLAIN)
    if compress is None:
        assert len(frame) <= len(message.frame(PLAIN))


def test_where_compression_cannot_pay_a_message_goes_out_plain() -> None:
    # Of the payloads with ever more noise, one is as long compressed as it is plain.
    rest = noise(PAYS_FROM)
    for repeated in range(60):
        message = Message(b"a" * repeated + rest, False)
        frame, plain = message.frame(12), message.frame(PLAIN)
        assert bool(frame[0] & RSV1) is (len(frame) < len(plain)), repeated


@each_compress
def test_nothing_is_compressed_for_a_client_that_cannot_read_it(
    compress: bool | None,
) -> None:
    message = Message(b"a" * 10_000, False, compress=compress)
    frame = message.frame(PLAIN)
    assert not frame[0] & RSV1
    assert len(frame) == 10_004


def test_a_frame_is_made_once_for_each_encoding() -> None:
    message = Message(b"a" * 10_000, True)
    frames = {bits: message.frame(bits) for bits in (PLAIN, 9, 12)}
    for bits, frame in frames.items():
        assert message.frame(bits) is frame
    assert len({id(frame) for frame in frames.values()}) == 3


def test_a_frame_of_a_server_is_final_and_not_masked() -> None:
    for text, first in ((True, 0x81), (False, 0x82)):
        frame = Message(b"hi", text).frame(PLAIN)
        assert frame == bytes([first, 2]) + b"hi"


@pytest.mark.parametrize("encoding", [PLAIN, 9, 12, 15])
@each_compress
def test_the_size_is_that_of_the_frame(encoding: int, compress: bool | None) -> None:
    message = Message(b"a" * 1000, True, compress=compress)
    assert message.size(encoding) == len(message.frame(encoding))


@pytest.mark.parametrize("encoding", [OWN, OWN_DEFLATE])
def test_the_size_is_that_of_the_payload_where_the_connection_makes_the_frame(
    encoding: int,
) -> None:
    assert Message(b"a" * 1000, True).size(encoding) == 1000


@pytest.mark.parametrize(
    ("encoding", "compress", "shared"),
    [
        (PLAIN, None, True),
        (PLAIN, True, True),
        (9, None, True),
        (15, False, True),
        (OWN, None, False),
        (OWN, True, False),
        (OWN, False, False),
        (OWN_DEFLATE, None, False),
        (OWN_DEFLATE, True, False),
        (OWN_DEFLATE, False, True),
    ],
)
def test_a_frame_is_shared_where_it_can_be(
    encoding: int, compress: bool | None, shared: bool
) -> None:
    assert Message(b"", True, compress=compress).is_shared(encoding) is shared


def test_a_plain_frame_stands_between_those_of_a_context_that_is_taken_over() -> None:
    server, client = negotiate([ServerPerMessageDeflateFactory()])
    assert encoding_of(server) == OWN_DEFLATE
    plain = Message("plain é".encode(), True, compress=False)
    assert plain.is_shared(encoding_of(server))
    expected: list[str | bytes] = []
    data = b""
    for number in range(4):
        server.send_text(b"compressed " * number)
        data += b"".join(server.data_to_send()) + plain.frame(PLAIN)
        expected += ["compressed " * number, "plain é"]
    assert received(client, data) == expected


def test_a_client_with_another_extension_shares_nothing() -> None:
    for extensions in ([REVERSE], [REVERSE, SharedDeflateFactory()]):
        server, _ = negotiate(extensions, [REVERSE, DEFLATE()])
        for compress in COMPRESSES:
            message = Message(b"a", True, compress=compress)
            assert not message.is_shared(encoding_of(server))


def test_a_message_shows_itself_as_websockets_shows_frames() -> None:
    assert str(Message(b"hi", True)) == "TEXT 'hi' [2 bytes]"
    assert str(Message(b"\x00\xff", False)) == "BINARY 00 ff [2 bytes]"


def test_a_message_knows_where_it_belongs() -> None:
    message = Message(b"", True, "a/b", None, Overflow.CONFLATE, "key")
    assert (message.topic, message.overflow, message.key) == (
        "a/b",
        Overflow.CONFLATE,
        "key",
    )
    assert message.publisher is None


# Batches


def batch_of(messages: list[Message]) -> Batch:
    batch: Batch | None = None
    for message in messages:
        batch = Batch(batch, message)
    assert batch is not None
    return batch


sizes = st.sampled_from([0, 1, 600, LARGE - 5, LARGE - 4, LARGE - 3, LARGE, LARGE * 2])
messages = st.lists(
    st.builds(
        lambda size, noisy, text, compress: Message(
            noise(size) if noisy and not text else b"a" * size, text, None, compress
        ),
        sizes,
        st.booleans(),
        st.booleans(),
        st.sampled_from(COMPRESSES),
    ),
    min_size=1,
    max_size=8,
)


@same_every_time
@given(messages, st.sampled_from([PLAIN, 9, 12, 15]))
def test_the_pieces_of_a_batch_are_its_frames(
    messages: list[Message], encoding: int
) -> None:
    batch = batch_of(messages)
    frames = [message.frame(encoding) for message in messages]
    pieces = batch.pieces(encoding)
    assert b"".join(pieces) == b"".join(frames)
    assert all(pieces)
    large = [frame for frame in frames if len(frame) >= LARGE]
    # A large one is never copied, and small ones never left alone.
    assert [piece for piece in pieces if any(piece is each for each in large)] == large
    assert len(pieces) <= 2 * len(large) + 1
    assert join_frames(messages, encoding) == pieces
    assert batch.messages == messages
    assert batch.size == sum(len(message.payload) for message in messages)


def test_the_pieces_are_put_together_once_for_each_encoding() -> None:
    batch = batch_of([Message(b"a" * 1000, True), Message(b"b", True)])
    assert batch.pieces(PLAIN) is batch.pieces(PLAIN)
    assert batch.pieces(12) is batch.pieces(12)
    assert batch.pieces(12) != batch.pieces(PLAIN)


def test_batches_that_go_on_differently_share_what_came_before() -> None:
    one, two, three = (Message(text, True) for text in (b"1", b"2", b"3"))
    first = Batch(None, one)
    assert Batch(first, two).messages == [one, two]
    assert Batch(first, three).messages == [one, three]
    assert first.messages == [one]
    assert first.size == 1
    assert Batch(first, three).pieces(PLAIN) == [one.frame(PLAIN) + three.frame(PLAIN)]
    assert first.following is None


def test_a_batch_of_many_messages_is_put_together_in_order() -> None:
    batch = batch_of([Message(b"%d" % number, True) for number in range(20_000)])
    _, client = peers(PLAIN)
    [piece] = batch.pieces(PLAIN)
    assert received(client, piece) == [str(number) for number in range(20_000)]


def test_joining_nothing_gives_nothing() -> None:
    assert join_frames([], PLAIN) == []


# Payloads


class Text(str):
    __slots__ = ()


class Bytes(bytes):
    __slots__ = ()


@pytest.mark.parametrize(
    ("message", "opcode", "expected"),
    [
        ("é", None, ("é".encode(), True)),
        ("", None, (b"", True)),
        (Text("a"), None, (b"a", True)),
        (b"\xff", None, (b"\xff", False)),
        (Bytes(b"a"), None, (b"a", False)),
        (bytearray(b"\xff"), None, (b"\xff", False)),
        (memoryview(b"\xff"), None, (b"\xff", False)),
        (memoryview(b"abcdef")[::2], None, (b"ace", False)),
        (memoryview(b"abc")[::-1], None, (b"cba", False)),
        (memoryview(array.array("H", [1, 1])), None, (b"\1\0\1\0", False)),
        (memoryview(b"abcd").cast("B", (2, 2)), None, (b"abcd", False)),
        ("é", OpCode.TEXT, ("é".encode(), True)),
        ("é", OpCode.BINARY, ("é".encode(), False)),
        ("é".encode(), OpCode.TEXT, ("é".encode(), True)),
        (bytearray(b"a"), OpCode.TEXT, (b"a", True)),
        (memoryview(b"abc")[::2], OpCode.TEXT, (b"ac", True)),
        (b"\xff", OpCode.BINARY, (b"\xff", False)),
        ("a", 1, (b"a", True)),
        ("a", 2, (b"a", False)),
    ],
)
def test_a_message_is_text_or_binary_by_its_type_or_by_its_opcode(
    message: Any, opcode: int | None, expected: tuple[bytes, bool]
) -> None:
    payload, text = encode_payload(message, opcode)
    assert (payload, text) == expected
    assert isinstance(payload, bytes)


def test_a_buffer_that_changes_later_does_not_change_the_message() -> None:
    buffer = bytearray(b"before")
    payloads = [
        encode_payload(each, opcode)[0]
        for each in (buffer, memoryview(buffer), memoryview(buffer)[:])
        for opcode in (None, OpCode.TEXT, OpCode.BINARY)
    ]
    buffer[:] = b"after!"
    assert payloads == [b"before"] * 9


def test_bytes_are_not_copied() -> None:
    message = b"a" * 1000
    assert encode_payload(message, None)[0] is message


@pytest.mark.parametrize(
    "message",
    [None, 7, 1.5, ["a"], ("a",), {"a": 1}, iter("a"), object(), array.array("B")],
    ids=lambda each: type(each).__name__,
)
@pytest.mark.parametrize("opcode", [None, OpCode.TEXT, OpCode.BINARY])
def test_anything_else_raises_with_its_type(message: Any, opcode: int | None) -> None:
    with pytest.raises(TypeError, match=type(message).__name__):
        encode_payload(message, opcode)


@pytest.mark.parametrize("opcode", [None, OpCode.TEXT, OpCode.BINARY])
def test_text_with_a_lone_surrogate_raises(opcode: int | None) -> None:
    with pytest.raises(ValueError, match="surrogate"):
        encode_payload("a\ud800", opcode)


@pytest.mark.parametrize("message", [b"\xff", b"\xed\xa0\x80", b"a\xc3", b"\xc0\x80"])
def test_bytes_that_are_no_text_do_not_go_out_as_text(message: bytes) -> None:
    with pytest.raises(ValueError, match="utf-8"):
        encode_payload(message, OpCode.TEXT)


@pytest.mark.parametrize("opcode", [0, 8, 9, 10, 255, 3, -1, "TEXT"])
def test_an_opcode_that_is_that_of_no_message_raises(opcode: Any) -> None:
    with pytest.raises(ValueError, match="TEXT or BINARY"):
        encode_payload("a", opcode)
