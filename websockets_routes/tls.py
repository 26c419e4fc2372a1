"""TLS contexts that choose a certificate by the name that a client asks for (SNI)."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterable, Mapping
from os import PathLike
from typing import Any, Self

from .exceptions import CertificateError
from .host import HostTable, HostTemplate, host_name

__all__ = ["Certificate", "ServerNames", "server_names"]

_Path = str | PathLike[str]
_Password = str | bytes | Callable[[], str | bytes]

#: The files of a certificate and its key, and the password of the key if it has one;
#: one file may hold both.
Certificate = _Path | tuple[_Path, _Path | None] | tuple[_Path, _Path | None, _Password]


class ServerNames(ssl.SSLContext):
    """A context for servers with several names; made by ``server_names``.

    Names can be added and removed while it is in use; connections that are open keep
    what they have.
    """

    _names: HostTable[ssl.SSLContext]
    _has_default: bool
    # What OpenSSL looks for in the context that is chosen, not in the first one.
    _settings: list[Callable[[ssl.SSLContext], None]]

    def __new__(cls, default: Certificate | None = None) -> Self:
        """Make a context.

        Args:
            default: The certificate for clients that ask for no name, or for one
                that is not here; by default, they are refused.
        """
        self = super().__new__(cls, ssl.PROTOCOL_TLS_SERVER)
        self._names = HostTable()
        self._settings = []
        self._has_default = default is not None
        if default is not None:
            _load(self, "default", default)
        # Bound to nothing that refers back: a context is not seen by the collector.
        self.sni_callback = _choose
        return self

    def add_name(self, name: str, certificate: Certificate) -> None:
        """Add a name, or replace its certificate.

        Args:
            name: A name such as ``api.example.com`` or ``*.example.com``; the most
                specific one is chosen.
            certificate: Files of certificate and key, and maybe a password.

        Raises:
            TemplateError: If it is no name.
            CertificateError: If a file is missing, or the key does not fit.
        """
        template = HostTemplate(name)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        _load(context, name, certificate)
        for setting in self._settings:
            setting(context)
        self._names.remove(template)
        self._names.add(template, context)

    def remove_name(self, name: str) -> bool:
        """Remove a name; tell whether it was there."""
        return self._names.remove(HostTemplate(name))

    # Whom clients' certificates are checked against.

    def load_verify_locations(self, *args: Any, **kwargs: Any) -> None:
        super().load_verify_locations(*args, **kwargs)
        self._set(lambda context: context.load_verify_locations(*args, **kwargs))

    def load_default_certs(self, *args: Any, **kwargs: Any) -> None:
        super().load_default_certs(*args, **kwargs)
        self._set(lambda context: context.load_default_certs(*args, **kwargs))

    def set_default_verify_paths(self) -> None:
        super().set_default_verify_paths()
        self._set(lambda context: context.set_default_verify_paths())

    # What was set on a context before it is chosen does not hold for the chosen one.

    def set_ciphers(self, ciphers: str, /) -> None:
        super().set_ciphers(ciphers)
        self._set(lambda context: context.set_ciphers(ciphers))

    def set_alpn_protocols(self, alpn_protocols: Iterable[str]) -> None:
        protocols = list(alpn_protocols)
        super().set_alpn_protocols(protocols)
        self._set(lambda context: context.set_alpn_protocols(protocols))

    def _set(self, setting: Callable[[ssl.SSLContext], None]) -> None:
        self._settings.append(setting)
        for _, context in self._names:
            setting(context)

    def _find(self, name: str | None) -> ssl.SSLContext | None:
        found = self._names.match(host_name(name)) if name else None
        if found is not None:
            return found[0]
        return self if self._has_default else None


def server_names(
    names: Mapping[str, Certificate], *, default: Certificate | None = None
) -> ServerNames:
    """Make a TLS context that chooses by the server name that a client asks for.

    Args:
        names: Certificates by name: ``{"*.example.com": ("cert.pem", "key.pem")}``;
            a third item is the password of the key.
        default: The certificate for clients that ask for no name, or for one that is
            not among them; by default, they are refused.

    Returns:
        A context for ``serve(ssl=…)``, with ``add_name`` and ``remove_name``.

    Raises:
        TemplateError: If a name is none.
        CertificateError: If a file is missing, or a key does not fit.
    """
    context = ServerNames(default)
    for name, certificate in names.items():
        context.add_name(name, certificate)
    return context


def _choose(
    connection: ssl.SSLSocket | ssl.SSLObject,
    name: str | None,
    context: ssl.SSLContext,
) -> int | None:
    assert isinstance(context, ServerNames)
    chosen = context._find(name)
    if chosen is None:
        return ssl.ALERT_DESCRIPTION_UNRECOGNIZED_NAME
    if chosen is not context:
        # OpenSSL keeps that of the first one, but Python looks here before it shows
        # the certificate of a client.
        chosen.verify_mode = context.verify_mode
        connection.context = chosen
    return None


def _load(context: ssl.SSLContext, name: str, certificate: Certificate) -> None:
    files = certificate if isinstance(certificate, tuple | list) else (certificate,)
    if not 1 <= len(files) <= 3:
        problem = "a certificate is (chain, key) or (chain, key, password)"
        raise CertificateError(name, problem)
    chain, key, password = (*files, None, None, None)[:3]
    # Else OpenSSL would ask on the terminal, and a server would wait for it.
    password = "" if password is None else password
    try:
        context.load_cert_chain(chain, key, password)
    except (OSError, ssl.SSLError, TypeError, ValueError) as error:
        files_named = " and ".join(str(each) for each in (chain, key) if each)
        raise CertificateError(name, f"cannot use {files_named}: {error}") from error
