"""Proxied: what knows its client, and what that asked for, behind whatever proxies."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from websockets import Headers

from .exceptions import NotServing
from .forwarded import ProxiedClient
from .proxy import parse_address

if TYPE_CHECKING:
    from .proxying import Proxies

__all__ = ["Proxied"]

_NOTHING_SAID = ProxiedClient()
_SECURE = frozenset({"https", "wss"})
_MAPPED = "::ffff:"


class Proxied:
    """A connection or a request; what follows is the same on both.

    What proxies say is not looked at before somebody asks.
    """

    router: Any
    #: For this package: the address in the PROXY header, or None.
    announced_address: str | None = None
    # What trusted proxies say, once the headers are there and somebody asked.
    _said: ProxiedClient | None = None

    if TYPE_CHECKING:

        @property
        def remote_address(self) -> Any: ...

        def _asked_by(self) -> tuple[Proxies | None, Headers | None, bool]:
            """Return the proxies, the headers once there, and whether TLS ends here."""

    def _proxied(self) -> ProxiedClient:
        if self._said is not None:
            return self._said
        proxies, headers, _ = self._asked_by()
        if proxies is None:
            return _NOTHING_SAID
        said = proxies.find_client(self.remote_address, self.announced_address, headers)
        if headers is not None:
            self._said = said
        return said

    def _asked_for(self) -> tuple[bool, str]:
        """Tell whether the client came by TLS, and which host it asked for."""
        said = self._proxied()
        _, headers, secure = self._asked_by()
        if said.scheme is not None:
            secure = said.scheme in _SECURE
        host = said.host
        if host is None:
            host = "" if headers is None else next(iter(headers.get_all("Host")), "")
        return secure, host

    @property
    def proxied_address(self) -> str | None:
        """The IP address of the client, as a trusted proxy told it; or None.

        See ``Router.serve`` for what makes a proxy trusted.
        """
        return self._proxied().address

    @property
    def client_address(self) -> str | None:
        """The IP address of the client; None on a Unix socket.

        That is the ``proxied_address`` if there is one, else the one of the peer. An
        IPv4 address in IPv6 (``::ffff:192.0.2.1``) is given as IPv4.
        """
        proxied = self.proxied_address
        if proxied is not None:
            return proxied
        peer = self.remote_address
        if not isinstance(peer, tuple):
            return None
        address: str = peer[0]
        if address.startswith(_MAPPED):
            address = str(parse_address(address) or address)
        return address

    def url_for(self, name: str, /, *, absolute: bool = False, **params: object) -> str:
        """Build the path of a named route, as ``Router.url_for`` does.

        Args:
            name: The name of the route.
            absolute: Build the whole URL, with the host that the client asked for, and
                with ``wss`` or ``https`` if it came by TLS; trusted proxies know both
                better.
            **params: See ``Router.url_for``.

        Raises:
            UnknownName: If no route has the name.
            BuildError: If the params do not fit, or no host is known.
            NotServing: If there is no router.
        """
        if self.router is None:
            raise NotServing("there is no router whose routes have names")
        if not absolute:
            path: str = self.router.url_for(name, **params)
            return path
        url: str = self.router.absolute_url(name, params, *self._asked_for())
        return url
