"""Servers behind proxies: what may be said of them, and what they are asked."""

from __future__ import annotations

import ssl
from typing import Any

import pytest
from websockets import Headers

from websockets_routes import (
    InvalidTrustedProxy,
    Protocol,
    ProxyError,
    Router,
    RoutesError,
)
from websockets_routes.http import Request
from websockets_routes.proxied import Proxied
from websockets_routes.proxying import Proxies

X = Headers([("X-Forwarded-For", "192.0.2.1"), ("Forwarded", "for=192.0.2.2")])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"proxy_protocol": True}, "needs trusted_proxies"),
        ({"proxy_protocol": True, "trusted_proxies": []}, "empty"),
        ({"trusted_proxies": []}, "empty"),
        ({"proxy_protocol": 1, "trusted_proxies": ["::1"]}, "not 1"),
        ({"proxy_protocol": "v2", "trusted_proxies": ["::1"]}, "'v2'"),
        ({"proxy_protocol": None}, "None"),
        ({"trusted_proxies": "10.0.0.0/8"}, "give a list"),
        ({"trusted_proxies": ["10.0.0.0/8", "example.com"]}, "'example.com'"),
        ({"trusted_proxies": [None]}, "None"),
        ({"trusted_proxies": 7}, "give a list"),
        ({"forwarded_header": "X-Real-IP"}, "'X-Real-IP'"),
        ({"forwarded_header": ["forwarded"]}, "['forwarded']"),
        ({"forwarded_header": False}, "False"),
    ],
    ids=str,
)
def test_rubbish_is_refused_at_once(arguments: dict[str, Any], said: str) -> None:
    with pytest.raises(ProxyError) as raised:
        Router().serve("127.0.0.1", 0, **arguments)
    assert said in str(raised.value)
    assert isinstance(raised.value, ValueError | RoutesError)


def test_which_proxy_is_rubbish_is_told() -> None:
    with pytest.raises(InvalidTrustedProxy) as raised:
        Router().serve("127.0.0.1", 0, trusted_proxies=["::1", "10.0.0.1/8"])
    assert raised.value.proxy == "10.0.0.1/8"


@pytest.mark.parametrize("context", [True, False, "cert.pem"])
def test_what_is_no_tls_context_is_refused_as_asyncio_does(context: object) -> None:
    with pytest.raises(TypeError, match="SSLContext"):
        Router().serve(
            "127.0.0.1",
            0,
            ssl=context,
            proxy_protocol=True,
            trusted_proxies=["127.0.0.1"],
        )


def make(
    proxy_protocol: bool = False,
    header: str | None = "x-forwarded-for",
    **options: Any,
) -> Proxies:
    proxies = Proxies.of(proxy_protocol, ["10.0.0.0/8", "unix"], header, options)
    assert proxies is not None
    return proxies


def test_nothing_said_makes_nothing() -> None:
    assert Proxies.of(False, None, "x-forwarded-for", {}) is None


def test_tls_stays_where_no_header_comes_before_it() -> None:
    options = {"ssl": ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)}
    proxies = Proxies.of(False, ["::1"], None, options)
    assert proxies is not None
    assert proxies.tls is None
    assert list(options) == ["ssl"]


@pytest.mark.parametrize(
    ("options", "timeouts"),
    [
        ({}, (10, 10)),
        ({"open_timeout": 1, "close_timeout": 2}, (1, 2)),
        ({"open_timeout": None, "close_timeout": None}, (None, None)),
        ({"open_timeout": 1, "ssl_handshake_timeout": 3}, (3, 10)),
        ({"ssl_shutdown_timeout": 4}, (10, 4)),
    ],
    ids=str,
)
def test_tls_has_the_timeouts_that_websockets_would_give_it(
    options: dict[str, Any], timeouts: tuple[float | None, float | None]
) -> None:
    options["ssl"] = context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    proxies = Proxies.of(True, ["::1"], None, options)
    assert proxies is not None
    assert proxies.tls == (context, *timeouts)
    assert not {each for each in options if each.startswith("ssl")}


@pytest.mark.parametrize(
    ("peername", "header", "address"),
    [
        (("10.0.0.1", 1), "x-forwarded-for", "192.0.2.1"),
        (("10.0.0.1", 1), "X-Forwarded-For", "192.0.2.1"),
        (("10.0.0.1", 1), "Forwarded", "192.0.2.2"),
        (("10.0.0.1", 1), None, None),
        (("::ffff:10.0.0.1", 1, 0, 0), "x-forwarded-for", "192.0.2.1"),
        ("", "x-forwarded-for", "192.0.2.1"),
        (("192.0.2.9", 1), "x-forwarded-for", None),
        (None, "x-forwarded-for", None),
    ],
)
def test_headers_are_believed_if_the_peer_is_trusted(
    peername: object, header: str | None, address: str | None
) -> None:
    assert make(header=header).find_client(peername, None, X).address == address


@pytest.mark.parametrize(
    ("announced", "header", "address"),
    [
        # It is another proxy's, of layer 7, that stands in front of this one.
        ("10.0.0.2", "x-forwarded-for", "192.0.2.1"),
        ("10.0.0.2", "forwarded", "192.0.2.2"),
        ("10.0.0.2", None, "10.0.0.2"),
        # It is the client's: the proxy never saw its headers.
        ("192.0.2.9", "x-forwarded-for", "192.0.2.9"),
        ("192.0.2.9", "forwarded", "192.0.2.9"),
        (None, "x-forwarded-for", None),
    ],
)
def test_behind_a_proxy_header_headers_are_believed_of_whom_it_names(
    announced: str | None, header: str | None, address: str | None
) -> None:
    proxies = make(True, header)
    assert proxies.find_client(("10.0.0.1", 1), announced, X).address == address
    assert proxies.find_client(("10.0.0.1", 1), announced, None).address == announced


@pytest.mark.parametrize(
    ("peername", "address"),
    [
        (("192.0.2.1", 1), "192.0.2.1"),
        (("::ffff:192.0.2.1", 1, 0, 0), "192.0.2.1"),
        (("2001:db8::1", 1, 0, 0), "2001:db8::1"),
        (("fe80::1", 1, 0, 2), "fe80::1"),
        ("", None),
        (None, None),
    ],
)
def test_the_client_is_the_peer_where_no_proxy_says_otherwise(
    peername: object, address: str | None
) -> None:
    class Known(Proxied):
        remote_address = property(lambda self: peername)

        def _asked_by(self) -> tuple[Proxies | None, Headers | None, bool]:
            return None, None, True

    known = Known()
    assert known.proxied_address is None
    assert known.client_address == address
    known.router = named()
    url = known.url_for("on api.example.com", absolute=True)
    assert url == "https://api.example.com/only"


# url_for


def named() -> Router:
    router = Router()

    @router.route("/chat/{room}", name="chat")
    async def chat(ws: Protocol) -> None: ...

    @router.get("/page/{room}", name="page")
    async def page(request: Request) -> None: ...

    for host in ("api.example.com", "*.example.net", "[::1]"):
        other = router.host(host)
        other.add_route("/only", page, name=f"on {host}", methods=("GET",))
    return router


def request(host: str | None, router: Router | None) -> Request:
    made = Request("GET", "/", {} if host is None else {"Host": host})
    made.router = router
    return made


def test_a_path_is_built_as_by_the_router() -> None:
    router = named()
    made = request("example.com", router)
    assert made.url_for("chat", room="a b") == "/chat/a%20b"
    assert made.url_for("page", room=1) == router.url_for("page", room=1)


@pytest.mark.parametrize(
    ("name", "host", "url"),
    [
        ("chat", "example.com", "ws://example.com/chat/1"),
        ("page", "example.com:8000", "http://example.com:8000/page/1"),
        ("page", "[::1]:8000", "http://[::1]:8000/page/1"),
        ("on api.example.com", "API.example.com:80", "http://API.example.com:80/only"),
        ("on api.example.com", "other:81", "http://api.example.com:81/only"),
        ("on api.example.com", "other", "http://api.example.com/only"),
        ("on api.example.com", "[::2]", "http://api.example.com/only"),
        ("on api.example.com", "", "http://api.example.com/only"),
        ("on *.example.net", "a.example.net", "http://a.example.net/only"),
        ("on [::1]", "[::1]:1", "http://[::1]:1/only"),
    ],
)
def test_a_whole_url_has_the_scheme_of_the_route_and_a_host_that_has_it(
    name: str, host: str, url: str
) -> None:
    params = {} if name.startswith("on ") else {"room": 1}
    assert request(host, named()).url_for(name, absolute=True, **params) == url


@pytest.mark.parametrize(
    ("name", "host"),
    [("page", None), ("page", ""), ("on *.example.net", "example.com")],
)
def test_where_the_host_is_not_known_there_is_no_whole_url(
    name: str, host: str | None
) -> None:
    params = {"room": 1} if name == "page" else {}
    with pytest.raises(RoutesError, match="not known on which host"):
        request(host, named()).url_for(name, absolute=True, **params)


@pytest.mark.parametrize("absolute", [True, False])
def test_without_a_router_or_a_name_there_is_no_url(absolute: bool) -> None:
    with pytest.raises(RoutesError, match="no router"):
        request("a", None).url_for("page", absolute=absolute)
    with pytest.raises(RoutesError, match="did you mean 'page'"):
        request("a", named()).url_for("pag", absolute=absolute)
    with pytest.raises(RoutesError, match="room"):
        request("a", named()).url_for("page", absolute=absolute)
