"""Negotiation, without a socket: what one route has a protocol want."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from websockets import Headers, Request, ServerProtocol, State, Subprotocol
from websockets.extensions import ServerExtensionFactory
from websockets.extensions.permessage_deflate import (
    ServerPerMessageDeflateFactory,
    enable_server_permessage_deflate,
)

from websockets_routes import InvalidLimit, Router
from websockets_routes.deflate import SharedDeflate, offer
from websockets_routes.negotiation import UNSET, Negotiation

DEFLATE = "permessage-deflate"


class OtherFactory(ServerPerMessageDeflateFactory):
    """Another extension; its name is all that matters here."""

    name = "x-other"  # type: ignore[assignment]


def request(
    subprotocols: str | None = None, extensions: str | None = f"{DEFLATE}"
) -> Request:
    headers = Headers(
        {
            "Host": "localhost",
            "Upgrade": "websocket",
            "Connection": "Upgrade",
            "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
            "Sec-WebSocket-Version": "13",
        }
    )
    if subprotocols is not None:
        headers["Sec-WebSocket-Protocol"] = subprotocols
    if extensions is not None:
        headers["Sec-WebSocket-Extensions"] = extensions
    return Request("/", headers)


SERVERS: dict[str, Any] = {
    "shared": lambda: offer([]),
    "deflate": lambda: enable_server_permessage_deflate([]),
    "None": lambda: None,
}


@pytest.mark.parametrize("server", SERVERS.values(), ids=SERVERS.keys())
@pytest.mark.parametrize("compression", ["shared", "deflate", None], ids=str)
def test_the_compression_of_a_route_replaces_any_of_the_server(
    server: Any, compression: str | None
) -> None:
    protocol = ServerProtocol(extensions=server())
    Negotiation(compression=compression).apply(protocol)
    response = protocol.accept(request())
    assert response.status_code == 101
    kinds = {"shared": [True], "deflate": [False], None: []}
    found = [isinstance(each, SharedDeflate) for each in protocol.extensions]
    assert found == kinds[compression]
    if compression is None:
        assert "Sec-WebSocket-Extensions" not in response.headers


@pytest.mark.parametrize("compression", ["shared", "deflate", None], ids=str)
def test_other_extensions_of_the_server_stay_and_its_list_is_not_changed(
    compression: str | None,
) -> None:
    other = OtherFactory()
    extensions: list[ServerExtensionFactory] = [
        other,
        ServerPerMessageDeflateFactory(),
    ]
    before = list(extensions)
    protocol = ServerProtocol(extensions=extensions)
    Negotiation(compression=compression).apply(protocol)
    assert extensions == before
    names = [each.name for each in protocol.available_extensions or ()]
    assert names == ["x-other", *([DEFLATE] if compression else [])]
    fresh = ServerProtocol(extensions=extensions)
    assert list(fresh.available_extensions or ()) == before


@pytest.mark.parametrize(
    ("wanted", "offered", "chosen"),
    [
        (["a", "b"], "b, a", "a"),
        (["b", "a"], "a, b", "b"),
        (("a", "b"), "b", "b"),
        (["a"], "x, a, y", "a"),
        (["a"], None, None),
        (["a"], "A", None),
        (["a"], "b, c", None),
    ],
)
@pytest.mark.parametrize(
    "kind", ["none", "server-list", "server-function"], ids=lambda kind: kind
)
def test_the_order_of_the_route_decides_which_subprotocol_is_chosen(
    wanted: Sequence[str], offered: str | None, chosen: str | None, kind: str
) -> None:
    def never(
        protocol: ServerProtocol, subprotocols: Sequence[Subprotocol]
    ) -> Subprotocol | None:
        raise AssertionError("the route has subprotocols of its own")

    servers: dict[str, dict[str, Any]] = {
        "none": {},
        "server-list": {"subprotocols": [Subprotocol("c"), Subprotocol("b")]},
        "server-function": {"select_subprotocol": never},
    }
    protocol = ServerProtocol(**servers[kind])
    Negotiation(subprotocols=wanted).apply(protocol)
    response = protocol.accept(request(offered))
    assert protocol.subprotocol == chosen
    assert response.status_code == (400 if chosen is None else 101)
    assert response.headers.get("Sec-WebSocket-Protocol") == chosen


def test_subprotocols_and_compression_do_not_disturb_each_other() -> None:
    def select(
        protocol: ServerProtocol, subprotocols: Sequence[Subprotocol]
    ) -> Subprotocol | None:
        return Subprotocol("b")

    protocol = ServerProtocol(
        select_subprotocol=select, extensions=offer([]), max_size=7
    )
    Negotiation(compression=None).apply(protocol)
    protocol.accept(request("a, b"))
    assert protocol.subprotocol == "b"
    assert protocol.extensions == []
    assert (protocol.max_message_size, protocol.max_fragment_size) == (7, None)


@pytest.mark.parametrize(
    ("max_size", "message", "fragment"),
    [
        (10, 10, None),
        (None, None, None),
        ((20, 10), 20, 10),
        ((None, 10), None, 10),
        ((20, None), 20, None),
        ((None, None), None, None),
    ],
)
@pytest.mark.parametrize("state", [State.CONNECTING, State.OPEN])
@pytest.mark.parametrize("server", [2**20, None, (3, 4)])
def test_a_size_means_what_it_does_for_websockets(
    max_size: Any, message: int | None, fragment: int | None, state: State, server: Any
) -> None:
    protocol = ServerProtocol(max_size=server, state=state)
    Negotiation(max_size=max_size).apply(protocol)
    like = ServerProtocol(max_size=max_size)
    assert protocol.max_message_size == like.max_message_size == message
    assert protocol.max_fragment_size == like.max_fragment_size == fragment


def test_after_the_handshake_only_sizes_change() -> None:
    protocol = ServerProtocol(
        extensions=offer([]), subprotocols=[Subprotocol("a")], state=State.OPEN
    )
    extensions = protocol.available_extensions
    Negotiation(["b"], 10, None).apply(protocol)
    assert protocol.max_message_size == 10
    assert protocol.available_subprotocols == ["a"]
    assert protocol.available_extensions is extensions


def test_what_wants_nothing_changes_nothing() -> None:
    nothing = Negotiation()
    assert not nothing
    extensions = offer([])
    protocol = ServerProtocol(
        subprotocols=[Subprotocol("a")], extensions=extensions, max_size=(3, 4)
    )
    before = dict(vars(protocol))
    nothing.apply(protocol)
    assert vars(protocol) == before
    assert not Negotiation(None, UNSET, UNSET)


@pytest.mark.parametrize(
    "options",
    [
        {"subprotocols": ["a"]},
        {"max_size": 1},
        {"max_size": None},
        {"max_size": (None, None)},
        {"compression": None},
        {"compression": "shared"},
        {"compression": "deflate"},
    ],
    ids=str,
)
def test_each_alone_is_something_to_negotiate(options: dict[str, Any]) -> None:
    assert Negotiation(**options)


INVALID: list[dict[str, Any]] = [
    {"compression": "gzip"},
    {"compression": ""},
    {"compression": True},
    {"compression": ["shared"]},
    {"max_size": 0},
    {"max_size": -1},
    {"max_size": 1.5},
    {"max_size": True},
    {"max_size": "10"},
    {"max_size": [10, 10]},
    {"max_size": (10, 0)},
    {"max_size": (-1, None)},
    {"max_size": (10, "10")},
    # websockets takes a pair; anything else could not be unpacked in a handshake.
    {"max_size": ()},
    {"max_size": (10,)},
    {"max_size": (10, 10, 10)},
    {"subprotocols": "chat"},
    {"subprotocols": [""]},
    {"subprotocols": [None]},
    {"subprotocols": [b"chat"]},
    {"subprotocols": 5},
    # RFC 6455 section 4.1, item 10: tokens, without separators (RFC 9110, 5.6.2).
    # No client can offer these.
    {"subprotocols": ["a, b"]},
    {"subprotocols": ["a b"]},
    {"subprotocols": ["a/b"]},
    {"subprotocols": ["é"]},
    {"subprotocols": ["a\r\nX: y"]},
]


@pytest.mark.parametrize("options", INVALID, ids=str)
def test_what_cannot_work_raises_when_the_route_is_declared(
    options: dict[str, Any],
) -> None:
    router = Router()

    async def handler(ws: Any) -> None:
        pass

    with pytest.raises(InvalidLimit) as raised:
        router.route("/", **options)(handler)
    [name] = options
    assert name in str(raised.value)
    assert router.routes == ()
