"""Hosts over loopback: routes by the ``Host`` header, certificates by server name."""

from __future__ import annotations

import asyncio
import json
import logging
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
import trustme
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed, InvalidMessage, InvalidStatus

from websockets_routes import InvalidTopic, NextRoute, Protocol, RoutedPath, Router
from websockets_routes.tls import server_names

from ..test_tls import Certificates
from .servers import (
    HOST,
    WAYS_IN,
    WayIn,
    connecting,
    port,
    receive,
    serving,
)

each_way = pytest.mark.parametrize("way", WAYS_IN.values(), ids=WAYS_IN.keys())
refusing_ways = pytest.mark.parametrize(
    "way",
    [way for way in WAYS_IN.values() if way.refuses],
    ids=[name for name, way in WAYS_IN.items() if way.refuses],
)
# One that routes in the handshake, one with connections of websockets' own, and one
# that routes once the connection is open.
FEW = ("serve", "process-request", "unbound")
few_ways = pytest.mark.parametrize("way", [WAYS_IN[name] for name in FEW], ids=FEW)


def errors(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [
        record.getMessage()
        for record in caplog.records
        if record.levelno >= logging.ERROR
    ]


def answering(router: Router, template: str, name: str, **options: Any) -> None:
    """Add a route that tells its name and the params of the path."""

    async def handler(ws: Any, path: RoutedPath) -> None:
        await ws.send(json.dumps([name, path.params]))

    router.add_route(template, handler, **options)


def asking(host: str, target: str | None = None) -> type[ClientConnection]:
    """Make a connection class that asks for a host, spelled as it is here."""

    class Asking(ClientConnection):
        async def handshake(self, *args: Any, **kwargs: Any) -> None:
            connect = self.protocol.connect

            def changed() -> Any:
                request = connect()
                del request.headers["Host"]
                request.headers["Host"] = host
                if target is not None:
                    request.path = target
                return request

            vars(self.protocol)["connect"] = changed
            await super().handshake(*args, **kwargs)

    return Asking


async def asked(uri: str, host: str, target: str | None = None, **kwargs: Any) -> Any:
    """Ask for a host; return the answer, a status, or a close code."""
    kwargs["create_connection"] = asking(host, target)
    try:
        async with connecting(uri, **kwargs) as ws:
            return json.loads(await ws.recv())
    except InvalidStatus as error:
        return error.response.status_code
    except ConnectionClosed as error:
        return error.rcvd and error.rcvd.code


# Which host


HOSTS = [
    "www.example.com",
    "*.example.com",
    "www.*.com",
    "*.google.*",
    "{tenant}.example.org",
    "{tenant}.{zone}.example.org",
    "*",
    "[::1]",
    HOST,
]
FOUND = {
    "www.example.com": ["www.example.com", {}],
    "api.example.com": ["*.example.com", {}],
    "www.other.com": ["www.*.com", {}],
    "www.google.com": ["www.*.com", {}],
    "www.google.de": ["*.google.*", {}],
    "me.example.org": ["{tenant}.example.org", {"tenant": "me"}],
    "me.eu.example.org": [
        "{tenant}.{zone}.example.org",
        {"tenant": "me", "zone": "eu"},
    ],
    "localhost": ["*", {}],
    "[::2]": ["*", {}],
    "[::1]": ["[::1]", {}],
    HOST: [HOST, {}],
    "127.0.0.2": ["", {}],
    "example.com": ["", {}],
    "a.b.example.com": ["", {}],
    "www.google.co.uk": ["", {}],
    "xexample.com": ["", {}],
    "www.example.com.evil.net": ["", {}],
}


@each_way
@pytest.mark.parametrize("backwards", [False, True], ids=["", "backwards"])
async def test_the_most_specific_host_wins_and_no_host_comes_last(
    way: WayIn, backwards: bool
) -> None:
    router = Router()
    if not backwards:
        answering(router, "/", "")
    for template in reversed(HOSTS) if backwards else HOSTS:
        answering(router.host(template), "/", template)
    if backwards:
        answering(router, "/", "")
    async with serving(way.serve(router)) as uri:
        found = {host: await asked(f"{uri}/", host) for host in FOUND}
    assert found == FOUND


@each_way
async def test_a_host_without_such_a_route_is_a_404_wherever_else_there_is_one(
    way: WayIn,
) -> None:
    router = Router()
    answering(router, "/{any:.*}", "none")
    answering(router.host("*.com"), "/{any:.*}", "any")
    answering(router.host("a.com"), "/a", "a")
    router.host("empty.com")
    async with serving(way.serve(router)) as uri:
        missing = way.refusal(404, 4040)
        assert await asked(f"{uri}/a", "a.com") == ["a", {}]
        assert await asked(f"{uri}/b", "a.com") == missing
        assert await asked(f"{uri}/", "empty.com") == missing
        assert await asked(f"{uri}/b", "b.com") == ["any", {"any": "b"}]
        assert await asked(f"{uri}/b", "b.org") == ["none", {"any": "b"}]


@few_ways
@pytest.mark.parametrize("last", [False, True], ids=["router", "last"])
async def test_one_not_found_answers_for_every_host(way: WayIn, last: bool) -> None:
    router = Router()
    answering(router.host("a.com"), "/a", "a")
    seen: list[str] = []

    @router.not_found
    def not_found(ws: Any, path: RoutedPath) -> Any:
        seen.append(str(path))
        return (410, [], b"gone\n")

    async with serving(way.serve(router)) as uri:
        host = "b.com" if last else "a.com"
        assert await asked(f"{uri}/b", host) == way.refusal(410, 4040)
    assert seen == ["/b"]


@few_ways
@pytest.mark.parametrize(
    ("header", "found"),
    [
        ("www.example.com:80", "www"),
        ("WWW.Example.COM", "www"),
        ("www.example.com.", "www"),
        ("WWW.example.com.:65535", "www"),
        ("www.example.com:", "www"),
        ("[2001:DB8::1]", "six"),
        ("[2001:db8::1]:8080", "six"),
        ("[2001:db8::1]:", "six"),
        ("www.example.com..", ""),
        ("", ""),
    ],
)
async def test_port_case_and_last_dot_of_the_header_do_not_matter(
    way: WayIn, header: str, found: str
) -> None:
    router = Router()
    answering(router, "/", "")
    answering(router.host("www.EXAMPLE.com."), "/", "www")
    answering(router.host("[2001:db8::1]"), "/", "six")
    async with serving(way.serve(router)) as uri:
        assert await asked(f"{uri}/", header) == [found, {}]


@pytest.mark.parametrize(
    "header",
    [
        "a b.example.com",
        "user@www.example.com",
        "a/b.example.com",
        "a\\b.example.com",
        'a".example.com',
        "<a>.example.com",
        "www.example.com:port",
        "www.example.com:80:80",
        "[::1",
        "[::1]x",
        "[::1]x:80",
        "[www.example.com]",
        "é.example.com".encode().decode("latin-1"),
    ],
)
async def test_a_host_header_that_is_none_is_refused(header: str) -> None:
    # RFC 9112 section 3.2: a server MUST respond with 400 to a Host header field
    # with an invalid field value; RFC 9110 section 7.2 and RFC 3986 section 3.2.2
    # say what a valid one is.
    router = Router()
    answering(router, "/", "none")
    answering(router.host("{tenant}.example.com"), "/", "tenant")
    answering(router.host("[::1]"), "/", "six")
    for name in ("serve", "process-request", "unbound"):
        way = WAYS_IN[name]
        async with serving(way.serve(router)) as uri:
            assert await asked(f"{uri}/", header) == way.refusal(400, 1008), name


@few_ways
async def test_the_absolute_form_says_which_host_is_asked_for(way: WayIn) -> None:
    # RFC 9112 section 3.2.2: a server MUST ignore the Host header field then.
    router = Router()
    answering(router, "/x", "none")
    answering(router.host("a.com"), "/x", "a")
    answering(router.host("b.com"), "/x", "b")
    async with serving(way.serve(router)) as uri:
        for target, found in [
            ("http://a.com/x", "a"),
            ("ws://B.com:80/x", "b"),
            ("http://c.com/x", "none"),
        ]:
            assert await asked(uri, "a.com", target) == [found, {}], target


async def test_another_library_asks_for_a_host() -> None:
    router = Router()
    answering(router.host("{tenant}.example.com"), "/", "tenant")
    async with serving(router.serve(HOST, 0)) as uri, aiohttp.ClientSession() as client:
        headers = {"Host": "Me.example.com:1"}
        async with client.ws_connect(f"{uri}/", headers=headers) as ws:
            assert await ws.receive_json() == ["tenant", {"tenant": "me"}]
        with pytest.raises(aiohttp.WSServerHandshakeError) as raised:
            await client.ws_connect(f"{uri}/")
        assert raised.value.status == 404


# Params


@each_way
@pytest.mark.parametrize("guarded", [False, True], ids=["", "hook"])
async def test_params_of_host_and_path_are_together(way: WayIn, guarded: bool) -> None:
    router = Router()
    seen: list[dict[str, str]] = []
    tenants = router.host("{tenant}.{zone}.example.com")
    if guarded:

        @tenants.before_handshake
        async def hook(ws: Any, path: RoutedPath) -> None:
            seen.append(dict(path.params))

    @tenants.middleware
    async def middleware(ws: Any, path: Any, call_next: Any) -> None:
        seen.append(dict(path.params))
        await call_next(ws, path)

    answering(tenants.mount("/in/{room}", Router()), "/x/{id}", "x")
    async with serving(way.serve(router)) as uri:
        name, params = await asked(f"{uri}/in/7/x/8?y=9", "Me.eu.example.com")
    assert name == "x"
    assert params == {"tenant": "me", "zone": "eu", "room": "7", "id": "8"}
    assert seen == [params] * (1 + guarded)


@each_way
async def test_the_next_route_has_the_params_of_the_host_too(way: WayIn) -> None:
    router = Router()
    answering(router, "/{any}", "none")
    tenants = router.host("{tenant}.example.com")
    first = tenants.mount("/x", Router())
    seen: list[dict[str, str]] = []

    @first.before_handshake
    def pass_on(ws: Any, path: RoutedPath) -> None:
        seen.append(dict(path.params))
        raise NextRoute

    answering(first, "/{id}", "first")

    @tenants.route("/{any}/{id}")
    class Passing:
        def process_request(self, path: RoutedPath, headers: Any) -> None:
            seen.append(dict(path.params))
            raise NextRoute

        async def handle(self, ws: Any) -> None:
            raise AssertionError("it passed on")

    answering(tenants, "/{one}/{two}", "last")
    async with serving(way.serve(router)) as uri:
        found = await asked(f"{uri}/x/1", "me.example.com")
        assert found == ["last", {"tenant": "me", "one": "x", "two": "1"}]
    assert seen == [
        {"tenant": "me", "id": "1"},
        {"tenant": "me", "any": "x", "id": "1"},
    ]


@few_ways
async def test_where_no_route_of_a_host_is_left_it_is_a_404(way: WayIn) -> None:
    router = Router()
    answering(router, "/x", "none")
    host = router.host("*.example.com")

    @host.before_handshake
    def pass_on(ws: Any, path: RoutedPath) -> None:
        raise NextRoute

    answering(host, "/x", "host")
    async with serving(way.serve(router)) as uri:
        found = await asked(f"{uri}/x", "www.example.com")
        assert found == way.refusal(404, 4040)


@few_ways
async def test_a_condition_sees_the_params_of_the_host(way: WayIn) -> None:
    router = Router()
    tenants = router.host("{tenant}.example.com")

    def is_mine(path: RoutedPath, headers: Any) -> bool:
        return path.params.get("tenant") == "me"

    answering(tenants, "/x", "mine", condition=is_mine)
    answering(tenants, "/{any}", "others")
    async with serving(way.serve(router)) as uri:
        found = await asked(f"{uri}/x", "me.example.com")
        assert found == ["mine", {"tenant": "me"}]
        found = await asked(f"{uri}/x", "you.example.com")
        assert found == ["others", {"tenant": "you", "any": "x"}]


async def test_hooks_of_server_and_connection_class_see_the_params_of_the_host() -> (
    None
):
    seen: list[Any] = []

    class Seeing(Protocol):
        def process_request(self, path: RoutedPath, headers: Any) -> None:
            seen.append(("class", path.params))

    def process_request(connection: Any, request: Any) -> None:
        seen.append(("server", connection.path.params))

    router = Router()
    answering(router.host("{tenant}.example.com"), "/{id}", "x")
    server = router.serve(
        HOST, 0, create_connection=Seeing, process_request=process_request
    )
    async with serving(server) as uri:
        await asked(f"{uri}/1", "me.example.com")
        assert await asked(f"{uri}/1/2", "me.example.com") == 404
    params = {"tenant": "me", "id": "1"}
    assert seen == [
        ("server", params),
        ("class", params),
        ("server", None),
        ("class", None),
    ]


# What routers of hosts have


@each_way
async def test_a_host_has_hooks_middleware_and_mounted_routers_of_its_own(
    way: WayIn,
) -> None:
    trace: list[str] = []

    def watched(router: Router, name: str) -> Router:
        @router.before_handshake
        def hook(ws: Any, path: RoutedPath) -> None:
            trace.append(name)

        @router.middleware
        async def middleware(ws: Any, path: Any, call_next: Any) -> None:
            trace.append(f"+{name}")
            await call_next(ws, path)
            trace.append(f"-{name}")

        return router

    router = watched(Router(), "root")
    one = watched(router.host("one.com"), "one")
    watched(router.host("two.com"), "two")
    inner = watched(one.mount("/m", Router()), "inner")
    answering(router, "/m/x", "none")
    async with serving(way.serve(router)) as uri:
        # Later than the server.
        answering(inner, "/x", "x")
        assert await asked(f"{uri}/m/x", "one.com") == ["x", {}]
        names = ["root", "one", "inner"]
        expected = [*names, *(f"+{each}" for each in names), "-inner", "-one", "-root"]
        assert trace == expected
        trace.clear()
        assert await asked(f"{uri}/m/x", "two.com") == way.refusal(404, 4040)
        assert await asked(f"{uri}/m/y", "one.com") == way.refusal(404, 4040)
        assert trace == []
        assert await asked(f"{uri}/m/x", "three.com") == ["none", {}]
        assert trace == ["root", "+root", "-root"]


@each_way
async def test_the_error_handler_of_the_host_is_nearer_than_that_of_the_root(
    way: WayIn, caplog: pytest.LogCaptureFixture
) -> None:
    heard: list[tuple[str, str]] = []
    router = Router()
    host = router.host("{tenant}.example.com")
    other = router.host("other.org")

    @router.on_error
    def of_root(error: BaseException, ws: Any, path: Any) -> Any:
        heard.append(("root", str(error)))
        return (502, [], b"")

    @host.on_error(ValueError)
    def of_host(error: BaseException, ws: Any, path: Any) -> Any:
        heard.append((path.params["tenant"], str(error)))
        return (418, [], b"")

    def failing(ws: Any, path: RoutedPath) -> None:
        raise ValueError("hook")

    async def handler(ws: Any) -> None:
        raise ValueError("handler")

    for each in (host, other):
        each.add_route("/handler", handler)
        inner = each.mount("/in", Router(before_handshake=[failing]))
        inner.add_route("/hook", handler)
    async with serving(way.serve(router)) as uri:
        found = await asked(f"{uri}/in/hook", "me.example.com")
        assert found == way.refusal(418, 1011)
        assert await asked(f"{uri}/in/hook", "other.org") == way.refusal(502, 1011)
        assert await asked(f"{uri}/handler", "me.example.com") == 1011
        assert await asked(f"{uri}/handler", "other.org") == 1011
    assert heard == [
        ("me", "hook"),
        ("root", "hook"),
        ("me", "handler"),
        ("root", "handler"),
    ]
    assert errors(caplog) == []


@few_ways
async def test_origins_are_those_of_the_host(way: WayIn) -> None:
    router = Router()
    guarded = router.host("a.com", origins=["https://a.com"])
    answering(guarded, "/", "a")
    answering(router.host("b.com"), "/", "b")
    async with serving(way.serve(router)) as uri:
        for host, origin, found in [
            ("a.com", "https://a.com", ["a", {}]),
            ("a.com", "https://b.com", way.refusal(403, 1008)),
            ("b.com", "https://b.com", ["b", {}]),
        ]:
            assert await asked(f"{uri}/", host, origin=origin) == found


async def test_topics_of_all_hosts_are_those_of_the_root() -> None:
    router = Router()
    arrived: asyncio.Queue[Any] = asyncio.Queue()

    async def hold(ws: Any) -> None:
        arrived.put_nowait(ws)
        await ws.wait_closed()

    hosts = [router, router.host("a.com"), router.host("b.com")]
    for each in hosts:
        each.add_route("/", hold, subscribe="news")
    async with (
        serving(router.serve(HOST, 0)) as uri,
        connecting(f"{uri}/", create_connection=asking("a.com")) as a,
        connecting(f"{uri}/", create_connection=asking("b.com")) as b,
        connecting(f"{uri}/") as none,
    ):
        for _ in hosts:
            await arrived.get()
        for index, each in enumerate(hosts):
            assert each.publish("news", str(index)).queued == 3
        for client in (a, b, none):
            assert [await client.recv() for _ in hosts] == ["0", "1", "2"]


async def test_the_lifespan_of_a_host_ends_though_the_host_was_removed() -> None:
    trace: list[str] = []
    router = Router()

    @asynccontextmanager
    async def lifespan() -> AsyncIterator[str]:
        trace.append("enter")
        yield "state"
        trace.append("leave")

    host = router.host("a.com", lifespan=lifespan)
    host.on_start(lambda: trace.append("start"))
    host.on_shutdown(lambda: trace.append("shutdown"))
    answering(host, "/", "a")
    async with serving(router.serve(HOST, 0)) as uri:
        assert trace == ["enter", "start"]
        assert host.state == "state"
        assert router.remove_host("a.com")
        assert await asked(f"{uri}/", "a.com") == 404
        assert trace == ["enter", "start"]
    assert trace == ["enter", "start", "shutdown", "leave"]


@few_ways
async def test_a_host_that_cannot_be_added_is_not_there(way: WayIn) -> None:
    router = Router()
    router.topic("room/{name}")
    answering(router, "/", "none")
    other = Router()
    other.topic("room/{name}")
    answering(other, "/", "other")
    async with serving(way.serve(router)) as uri:
        with pytest.raises(InvalidTopic):
            router.host("a.com", other)
        assert router.hosts == ()
        assert await asked(f"{uri}/", "a.com") == ["none", {}]
        assert not router.remove_host("a.com")


# Hosts that come and go


@each_way
async def test_hosts_are_added_and_removed_while_the_server_runs(way: WayIn) -> None:
    router = Router()
    answering(router, "/", "none")

    async def hold(ws: Any, path: RoutedPath) -> None:
        async for message in ws:
            await ws.send(f"{message} {path.params}")

    async with serving(way.serve(router)) as uri:
        url = f"{uri}/"

        async def found() -> Any:
            return (await asked(url, "A.example.com:1"))[0]

        assert await found() == "none"
        answering(router.host("{x}.example.com"), "/", "any")
        assert await found() == "any"
        exact = router.host("a.EXAMPLE.com")
        answering(exact, "/", "exact")
        exact.add_route("/hold", hold)
        assert await found() == "exact"
        connection = asking("a.example.com")
        async with connecting(f"{uri}/hold", create_connection=connection) as ws:
            await ws.send("one")
            assert await ws.recv() == "one {}"
            assert router.remove_host("A.example.com.")
            assert not router.remove_host("a.example.com")
            assert await found() == "any"
            # Who is there stays.
            await ws.send("two")
            assert await ws.recv() == "two {}"
        assert router.remove_host("*.example.com"), "the same hosts"
        assert await found() == "none"
        answering(router.host("a.example.com"), "/", "again")
        assert await found() == "again"


@each_way
async def test_a_host_that_is_removed_during_a_handshake_still_serves_it(
    way: WayIn, caplog: pytest.LogCaptureFixture
) -> None:
    router = Router()
    answering(router, "/", "none")
    host = router.host("{tenant}.example.com")
    asked_hook, go_on = asyncio.Event(), asyncio.Event()

    @host.before_handshake
    async def hook(ws: Any, path: RoutedPath) -> None:
        asked_hook.set()
        await go_on.wait()

    answering(host, "/", "host")
    async with serving(way.serve(router)) as uri:
        first = asyncio.ensure_future(asked(f"{uri}/", "me.example.com"))
        await asked_hook.wait()
        assert router.remove_host("{tenant}.example.com")
        assert await asked(f"{uri}/", "me.example.com") == ["none", {}]
        go_on.set()
        assert await first == ["host", {"tenant": "me"}]
    assert errors(caplog) == []


async def test_clients_that_come_while_hosts_change_have_one_or_the_other() -> None:
    router = Router()
    answering(router, "/", "none")

    async def clients(uri: str) -> set[str]:
        return {(await asked(uri, "a.com"))[0] for _ in range(10)}

    async with serving(router.serve(HOST, 0)) as uri:
        coming = asyncio.gather(*(clients(f"{uri}/") for _ in range(4)))
        while not coming.done():
            answering(router.host("a.com"), "/", "host")
            await asyncio.sleep(0)
            assert router.remove_host("a.com")
            await asyncio.sleep(0)
        found = set[str]().union(*await coming)
        # Between host() and route() nobody comes in.
        assert found <= {"none", "host"}


# TLS


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("hosts"))


VERSIONS = [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]
each_version = pytest.mark.parametrize("version", VERSIONS, ids=lambda each: each.name)


def trusting(
    made: Certificates,
    version: ssl.TLSVersion | None = None,
    identity: trustme.LeafCert | None = None,
) -> ssl.SSLContext:
    """Make the context of a client."""
    context = ssl.create_default_context()
    made.ca.configure_trust(context)
    if version is not None:
        context.minimum_version = context.maximum_version = version
    if identity is not None:
        identity.configure_cert(context)
    return context


async def over_tls(
    uri: str, name: str, context: ssl.SSLContext
) -> tuple[str, Any, ClientConnection]:
    """Connect by name; return the certificate's name, the answer, the connection."""
    number = uri.rpartition(":")[2]
    connection = connecting(f"wss://{name}:{number}/", host=HOST, ssl=context)
    async with connection as ws:
        text = await ws.recv()
        certificate = ws.transport.get_extra_info("peercert")
        ((_, shown),) = certificate["subjectAltName"]
        return shown, json.loads(text), ws


def named() -> Router:
    router = Router()
    answering(router, "/", "none")
    answering(router.host("{tenant}.example.com"), "/", "tenant")
    answering(router.host("api.example.com"), "/", "api")
    return router


@each_way
@each_version
async def test_certificate_and_routes_are_those_of_the_name(
    made: Certificates, way: WayIn, version: ssl.TLSVersion
) -> None:
    context = server_names(
        {
            "*.example.com": made.pair("*.example.com"),
            "api.example.com": made.pair("api.example.com"),
        },
        default=made.pair("example.net"),
    )
    client = trusting(made, version)
    async with serving(way.serve(named(), ssl=context)) as uri:
        for name, shown, answer in [
            ("me.example.com", "*.example.com", ["tenant", {"tenant": "me"}]),
            ("api.example.com", "api.example.com", ["api", {}]),
            ("example.net", "example.net", ["none", {}]),
        ]:
            found = await over_tls(uri, name, client)
            assert found[:2] == (shown, answer)
            used = found[2].transport.get_extra_info("ssl_object").version()
            assert used == version.name.replace("_", ".")


@each_version
@pytest.mark.parametrize("name", ["API.Example.COM", "api.example.com."])
async def test_case_and_last_dot_of_the_name_asked_for_do_not_matter(
    made: Certificates, version: ssl.TLSVersion, name: str
) -> None:
    context = server_names(
        {"api.example.com": made.pair("api.example.com")},
        default=made.pair("example.net"),
    )
    client = trusting(made, version)
    # OpenSSL's client would compare the dot as well.
    client.check_hostname = not name.endswith(".")
    server = named().serve(HOST, 0, ssl=context)
    async with serving(server):
        uri = f"wss://{HOST}:{port(server)}/"
        async with connecting(uri, ssl=client, server_hostname=name) as ws:
            certificate = ws.transport.get_extra_info("peercert")
            assert certificate["subjectAltName"] == (("DNS", "api.example.com"),)


async def test_another_library_is_shown_the_certificate_of_the_name(
    made: Certificates,
) -> None:
    context = server_names({"api.example.com": made.pair("api.example.com")})
    server = named().serve(HOST, 0, ssl=context)
    async with (
        serving(server),
        aiohttp.ClientSession() as client,
        client.ws_connect(
            f"wss://{HOST}:{port(server)}/",
            ssl=trusting(made),
            server_hostname="api.example.com",
            headers={"Host": "api.example.com"},
        ) as ws,
    ):
        assert await ws.receive_json() == ["api", {}]
        certificate = ws.get_extra_info("peercert")
        assert certificate["subjectAltName"] == (("DNS", "api.example.com"),)


async def test_clients_that_come_while_names_change_see_no_other_failure(
    made: Certificates,
) -> None:
    context = server_names(
        {"*.example.com": made.pair("*.example.com")},
        default=made.pair("default.example.net"),
    )
    pair = made.pair("api.example.com")
    client = trusting(made)

    async def clients(uri: str, name: str) -> set[str]:
        return {(await over_tls(uri, name, client))[0] for _ in range(4)}

    async with serving(named().serve(HOST, 0, ssl=context)) as uri:
        coming = asyncio.gather(
            clients(uri, "api.example.com"),
            clients(uri, "api.example.com"),
            clients(uri, "www.example.com"),
        )
        while not coming.done():
            context.add_name("api.example.com", pair)
            await asyncio.sleep(0)
            assert context.remove_name("api.example.com")
            await asyncio.sleep(0)
        changing, same, other = await coming
        assert changing | same <= {"api.example.com", "*.example.com"}
        assert other == {"*.example.com"}


async def test_one_context_serves_two_servers(made: Certificates) -> None:
    context = server_names({"api.example.com": made.pair("api.example.com")})
    client = trusting(made)
    async with (
        serving(named().serve(HOST, 0, ssl=context)) as one,
        serving(named().serve(HOST, 0, ssl=context)) as other,
    ):
        for uri in (one, other):
            found = await over_tls(uri, "api.example.com", client)
            assert found[:2] == ("api.example.com", ["api", {}])


# What is set on the context that server_names returns


Setting = Callable[[ssl.SSLContext], object]


def configured(made: Certificates, when: str, *settings: Setting) -> ssl.SSLContext:
    """Make a context with a name and a default; change it before or after."""
    context = server_names({}, default=made.pair("default.example.net"))
    pair = made.pair("api.example.com")
    if when == "after":
        context.add_name("api.example.com", pair)
    for setting in settings:
        setting(context)
    if when == "before":
        context.add_name("api.example.com", pair)
    return context


each_name = pytest.mark.parametrize("name", ["default.example.net", "api.example.com"])
each_moment = pytest.mark.parametrize("when", ["before", "after"])


async def refused_by_tls(uri: str, name: str, context: ssl.SSLContext) -> None:
    # With TLS 1.3 the client hears of it only once it believes to be connected.
    with pytest.raises((ssl.SSLError, ConnectionError, EOFError, InvalidMessage)):
        await over_tls(uri, name, context)


@each_name
@each_moment
@each_version
async def test_a_client_needs_a_certificate_where_the_server_says_so(
    made: Certificates, name: str, when: str, version: ssl.TLSVersion
) -> None:
    def require(context: ssl.SSLContext) -> None:
        context.verify_mode = ssl.CERT_REQUIRED

    context = configured(made, when, require, made.ca.configure_trust)
    router = Router()

    @router.route("/")
    async def who(ws: Any) -> None:
        certificate = ws.transport.get_extra_info("peercert")
        await ws.send(json.dumps(certificate["subjectAltName"]))

    identity = made.ca.issue_cert("client@example.com")
    unknown = trustme.CA().issue_cert("client@example.com")
    async with serving(router.serve(HOST, 0, ssl=context)) as uri:
        await refused_by_tls(uri, name, trusting(made, version))
        await refused_by_tls(uri, name, trusting(made, version, unknown))
        found = await over_tls(uri, name, trusting(made, version, identity))
        assert found[:2] == (name, [["email", "client@example.com"]])


@each_name
@each_moment
async def test_the_lowest_version_of_tls_is_kept(
    made: Certificates, name: str, when: str
) -> None:
    def newest(context: ssl.SSLContext) -> None:
        context.minimum_version = ssl.TLSVersion.TLSv1_3

    context = configured(made, when, newest)
    async with serving(named().serve(HOST, 0, ssl=context)) as uri:
        old, new = (trusting(made, version) for version in VERSIONS)
        await refused_by_tls(uri, name, old)
        assert (await over_tls(uri, name, new))[0] == name


@each_name
@each_moment
async def test_the_ciphers_are_kept(made: Certificates, name: str, when: str) -> None:
    cipher = "ECDHE-ECDSA-AES128-GCM-SHA256"
    context = configured(made, when, lambda each: each.set_ciphers(cipher))
    async with serving(named().serve(HOST, 0, ssl=context)) as uri:
        client = trusting(made, ssl.TLSVersion.TLSv1_2)
        found = await over_tls(uri, name, client)
        used = found[2].transport.get_extra_info("cipher")
        assert used[0] == cipher


@each_name
@each_moment
@each_version
async def test_the_protocols_of_alpn_are_kept(
    made: Certificates, name: str, when: str, version: ssl.TLSVersion
) -> None:
    context = configured(made, when, lambda each: each.set_alpn_protocols(["http/1.1"]))
    client = trusting(made, version)
    client.set_alpn_protocols(["h2", "http/1.1"])
    async with serving(named().serve(HOST, 0, ssl=context)) as uri:
        found = await over_tls(uri, name, client)
        chosen = found[2].transport.get_extra_info("ssl_object")
        assert chosen.selected_alpn_protocol() == "http/1.1"


async def test_a_client_without_tls_harms_nobody(made: Certificates) -> None:
    context = server_names({"api.example.com": made.pair("api.example.com")})
    server = named().serve(HOST, 0, ssl=context)
    async with serving(server) as uri:
        with pytest.raises((InvalidMessage, ConnectionError)):
            await receive(f"{uri}/")
        found = await over_tls(uri, "api.example.com", trusting(made))
        assert found[0] == "api.example.com"
