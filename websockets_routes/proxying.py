"""Proxying: servers behind proxies, and how connections arrive that begin with PROXY.

The PROXY header stands before the TLS handshake. So a server that expects one gets its
connections without TLS, and has the event loop start TLS once the header is there.

What this module takes from asyncio beyond its documentation, and
``tests/test_undocumented.py`` watches: the protocol that ``loop.start_tls`` gives the
transport has the methods of a ``BufferedProtocol``, and what it gets before its
``connection_made`` counts as the first bytes of its peer. That is how it gets what came
together with the header.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from websockets import Headers

from .exceptions import InvalidProxyHeader, ProxyError
from .forwarded import FORWARDED, X_FORWARDED_FOR, ProxiedClient, resolve_client
from .proxy import TrustedProxies, peer_address
from .proxy_protocol import ProxyHeader, parse_proxy_header

if TYPE_CHECKING:
    from .servers import RoutedServer

__all__ = ["TLS", "Arrival", "Proxies"]

_OPEN_TIMEOUT = _CLOSE_TIMEOUT = 10  # the defaults of websockets.serve, in seconds


class TLS(NamedTuple):
    """How TLS begins, once the PROXY header is there.

    Attributes:
        context: The context.
        handshake_timeout: Seconds for the handshake; None for what asyncio has.
        shutdown_timeout: Seconds for the end; None for what asyncio has.
    """

    context: ssl.SSLContext
    handshake_timeout: float | None
    shutdown_timeout: float | None


class Proxies:
    """The proxies that a server believes, and what they tell it.

    Args:
        proxy_protocol: Whether each connection begins with a PROXY header.
        trusted: Their addresses and networks.
        header: Which headers they set: ``"x-forwarded-for"`` (with ``-proto`` and
            ``-host``), ``"forwarded"``, or None for none.

    Attributes:
        proxy_protocol: The same.
        trusted: The same.
        tls: What to do behind the PROXY header; None for nothing.

    Raises:
        ProxyError: If that cannot work.
    """

    def __init__(
        self, proxy_protocol: bool, trusted: Iterable[str], header: str | None
    ) -> None:
        self.proxy_protocol = proxy_protocol
        self.trusted = TrustedProxies(trusted)
        self.tls: TLS | None = None
        self._header = header
        if not self.trusted.networks:
            raise ProxyError("trusted_proxies is empty: leave it out to trust nobody")

    @classmethod
    def of(
        cls,
        proxy_protocol: bool,
        trusted: Iterable[str] | None,
        header: str | None,
        options: dict[str, Any],
    ) -> Proxies | None:
        """Make what the arguments of ``Router.serve`` say; None if they say nothing.

        Args:
            proxy_protocol: See ``Router.serve``.
            trusted: See ``Router.serve``.
            header: See ``Router.serve``.
            options: The arguments for ``websockets.serve``. Those that are about TLS
                are taken out if it has to wait for a PROXY header.
        """
        if not isinstance(proxy_protocol, bool):
            raise ProxyError(f"proxy_protocol is True or False, not {proxy_protocol!r}")
        lower = header.lower() if isinstance(header, str) else header
        if lower not in (X_FORWARDED_FOR, FORWARDED, None):
            raise ProxyError(
                f"forwarded_header is {X_FORWARDED_FOR!r}, {FORWARDED!r} or None, "
                f"not {header!r}"
            )
        if trusted is None:
            if proxy_protocol:
                raise ProxyError(
                    "proxy_protocol=True needs trusted_proxies, such as "
                    "['10.0.0.0/8']: anybody else could name any address"
                )
            return None
        proxies = cls(proxy_protocol, trusted, lower)
        if proxy_protocol:
            proxies.tls = _take_tls(options)
        return proxies

    @property
    def reads_headers(self) -> bool:
        """Whether requests of one connection may be of several clients."""
        return self._header is not None

    def find_client(
        self, peername: object, announced: str | None, headers: Headers | None
    ) -> ProxiedClient:
        """Find out what trusted proxies say of a client.

        Where there is a PROXY header, other headers come from whom it names, and are
        believed only if that is a trusted proxy itself.

        Args:
            peername: What the transport says of the peer.
            announced: The address in the PROXY header, if it has one.
            headers: The headers of the request, if they are there.
        """
        client = ProxiedClient()
        if headers is not None and self._header is not None:
            peer = announced if self.proxy_protocol else peer_address(peername)
            client = resolve_client(peer, headers, self.trusted, self._header)
        if client.address is None and announced is not None:
            client = client._replace(address=announced)
        return client


def _take_tls(options: dict[str, Any]) -> TLS | None:
    context = options.get("ssl")
    if context is None:
        return None
    if not isinstance(context, ssl.SSLContext):
        raise TypeError("ssl argument must be an SSLContext or None")
    del options["ssl"]
    open_timeout = options.get("open_timeout", _OPEN_TIMEOUT)
    close_timeout = options.get("close_timeout", _CLOSE_TIMEOUT)
    return TLS(
        context,
        options.pop("ssl_handshake_timeout", open_timeout),
        options.pop("ssl_shutdown_timeout", close_timeout),
    )


class Arrival(asyncio.Protocol):
    """A connection whose PROXY header is not there yet.

    It is closed without an answer if its peer is not trusted, or sends anything else.

    Args:
        server: Its server.
        ws: The connection that the server made, which nobody has told so yet.
        transport: Its transport.
    """

    def __init__(
        self, server: RoutedServer, ws: Any, transport: asyncio.Transport
    ) -> None:
        assert server.proxies is not None, "the server has proxies"
        self._server = server
        self._proxies = server.proxies
        self._ws = ws
        self._transport = transport
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None
        # What came and was not passed on: of the header; then, with TLS, behind the
        # handshake.
        self._data = bytearray()
        self._address: str | None = None
        transport.set_protocol(self)
        server.arriving.add(self)
        self._peer = peer_address(transport.get_extra_info("peername"))
        if server.is_ending:
            self.abort()
        elif not self._proxies.trusted.trusts(self._peer):
            self._refuse("it is no trusted proxy")
        elif (seconds := server.http.header) is not None:
            problem = f"no PROXY header came in {seconds:g} seconds"
            self._timer = self._loop.call_later(seconds, self._refuse, problem)

    # The PROXY header

    def data_received(self, data: bytes) -> None:
        self._data += data
        if self._task is not None:
            return
        try:
            header = parse_proxy_header(self._data)
        except InvalidProxyHeader as error:
            self._refuse(str(error))
            return
        if header is not None:
            self._take(header)

    def _take(self, header: ProxyHeader) -> None:
        self._stop()
        # Whoever comes by a Unix socket has no address.
        if isinstance(header.source, tuple):
            self._address = header.source[0]
        del self._data[: header.length]
        tls = self._proxies.tls
        if tls is None:
            self._hand_over(self._transport)
        else:
            # It is resumed by start_tls().
            self._transport.pause_reading()
            data, self._data = self._data, bytearray()
            self._task = self._server.tasks.start(self._start_tls(tls, data))

    # TLS

    async def _start_tls(self, tls: TLS, data: bytearray) -> None:
        # Called behind what start_tls() does at once, that is set its protocol, and
        # before what it has called soon: connection_made(), then resume_reading().
        feeding = self._loop.call_soon(self._feed, memoryview(data))
        try:
            transport = await self._loop.start_tls(
                self._transport,
                self,
                tls.context,
                server_side=True,
                ssl_handshake_timeout=tls.handshake_timeout,
                ssl_shutdown_timeout=tls.shutdown_timeout,
            )
        except OSError as error:
            self._ws.logger.debug("TLS handshake of %s failed: %s", self._peer, error)
            self.abort()
        except BaseException:
            feeding.cancel()
            self.abort()
            raise
        else:
            # Aborted, the handshake seems to succeed.
            if transport is None or transport.is_closing():
                self.abort()
            else:
                self._hand_over(transport)

    def _feed(self, data: memoryview) -> None:
        # Not by its class, but by what it has, on every event loop.
        protocol = cast(Any, self._transport.get_protocol())
        while data:
            buffer = protocol.get_buffer(len(data))
            size = min(len(buffer), len(data))
            buffer[:size] = data[:size]
            protocol.buffer_updated(size)
            data = data[size:]

    # The end

    def _hand_over(self, transport: asyncio.Transport) -> None:
        self._server.arriving.discard(self)
        transport.set_protocol(self._ws)
        self._ws.begin_proxied(transport, self._address)
        if self._data:
            protocol = transport.get_protocol()
            assert isinstance(protocol, asyncio.Protocol), "it has begun"
            protocol.data_received(bytes(self._data))

    def eof_received(self) -> None:
        if self._task is None:
            self._end_early()

    def connection_lost(self, exc: Exception | None) -> None:
        if self in self._server.arriving:
            self._end_early()

    def _end_early(self) -> None:
        if self._data and self._task is None:
            self._refuse("it ended before its PROXY header did")
        else:
            # A look at the port; some do that every other second.
            self._ws.logger.debug("connection of %s ended unused", self._peer)
            self.abort()

    def _refuse(self, problem: str) -> None:
        peer = self._peer or "an unknown peer"
        self._ws.logger.info("closing a connection of %s: %s", peer, problem)
        self.abort()

    def abort(self) -> None:
        """End the connection at once."""
        self._stop()
        self._server.arriving.discard(self)
        self._transport.abort()
        if self._task is not None and self._task is not asyncio.current_task():
            self._task.cancel()

    def _stop(self) -> None:
        """Wait for the header no longer."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
