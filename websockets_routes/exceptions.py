"""Errors: one root; each says what was wrong, where, and what to do about it."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches
from http import HTTPStatus

from websockets import CloseCode

from .naming import shown

__all__ = [
    "BacklogFull",
    "BadRequest",
    "BodyTooLarge",
    "BuildError",
    "CertificateError",
    "ClientDisconnected",
    "DuplicateName",
    "EndpointError",
    "ExtensionError",
    "FileChanged",
    "InvalidCloseCode",
    "InvalidJSON",
    "InvalidLimit",
    "InvalidProxyHeader",
    "InvalidResponse",
    "InvalidTopic",
    "InvalidTrustedProxy",
    "LoadError",
    "MountError",
    "MustAwait",
    "NextRoute",
    "NoSuchFile",
    "NotServing",
    "ProxyError",
    "RoutesError",
    "SubscriptionDenied",
    "TemplateError",
    "TooManySubscriptions",
    "UnknownName",
    "UnsafePath",
    "WrongThread",
]


class RoutesError(Exception):
    """Root of every error that this package raises.

    Attributes:
        status: What the error means to a client whose handshake it ends.
        close_code: What it means to a client whose connection is already open
            (RFC 6455 section 7.4).
    """

    status: HTTPStatus = HTTPStatus.INTERNAL_SERVER_ERROR
    close_code: int = CloseCode.INTERNAL_ERROR


class TemplateError(RoutesError, ValueError):
    """A URL template that cannot work, found when it is declared.

    Attributes:
        template: The template as it was written.
        position: Index of the character where the trouble begins.
        problem: What is wrong there, and what to write instead.
    """

    def __init__(self, template: str, position: int, problem: str) -> None:
        super().__init__(template, position, problem)
        self.template = template
        self.position = position
        self.problem = problem

    def __str__(self) -> str:
        return f"template {self.template!r}, position {self.position}: {self.problem}"


class EndpointError(RoutesError, TypeError):
    """Something that cannot be an endpoint, found when it is declared.

    Attributes:
        endpoint: The name of what was given.
        problem: What is wrong with it, and what to write instead.
    """

    def __init__(self, endpoint: str, problem: str) -> None:
        super().__init__(endpoint, problem)
        self.endpoint = endpoint
        self.problem = problem

    def __str__(self) -> str:
        return f"endpoint {self.endpoint}: {self.problem}"


class DuplicateName(RoutesError, ValueError):
    """A second route under a name that another route has.

    Attributes:
        name: The name.
        template: The template of the route that has it.
    """

    def __init__(self, name: str, template: str) -> None:
        super().__init__(name, template)
        self.name = name
        self.template = template

    def __str__(self) -> str:
        return f"the name {self.name!r} is taken by the route {self.template!r}"


class UnknownName(RoutesError, LookupError):
    """``url_for`` was asked for a name that no route has.

    Attributes:
        name: The name asked for.
        nearest: The declared name most like it, or None.
    """

    def __init__(self, name: str, known: Sequence[str] = ()) -> None:
        super().__init__(name, known)
        self.name = name
        near = get_close_matches(name, known, n=1)
        self.nearest: str | None = near[0] if near else None

    def __str__(self) -> str:
        if self.nearest is None:
            return f"no route is named {self.name!r}"
        return f"no route is named {self.name!r}; did you mean {self.nearest!r}?"


class BuildError(RoutesError, ValueError):
    """``url_for`` was given parameters from which no URL can be built.

    Attributes:
        template: The template of the route.
        problem: What is missing, too much or unfit.
    """

    def __init__(self, template: str, problem: str) -> None:
        super().__init__(template, problem)
        self.template = template
        self.problem = problem

    def __str__(self) -> str:
        return f"cannot build a URL from {self.template!r}: {self.problem}"


class BadRequest(RoutesError):
    """A handshake request that is malformed, whatever routes there are.

    Attributes:
        problem: What is wrong with it, fit to be sent to the client.
    """

    status = HTTPStatus.BAD_REQUEST
    close_code = CloseCode.POLICY_VIOLATION

    def __init__(self, problem: str) -> None:
        super().__init__(problem)
        self.problem = problem

    def __str__(self) -> str:
        return self.problem


class InvalidResponse(RoutesError, TypeError):
    """What was returned or asked for is no response that can be sent."""


class InvalidJSON(RoutesError, ValueError):
    """A message that should be JSON and is not; unhandled, it closes with 1007."""

    status = HTTPStatus.BAD_REQUEST
    close_code = CloseCode.INVALID_DATA


class BodyTooLarge(RoutesError):
    """The body of a request is longer than it may be.

    Attributes:
        limit: Bytes that it may have.
    """

    status = HTTPStatus.REQUEST_ENTITY_TOO_LARGE
    close_code = CloseCode.MESSAGE_TOO_BIG

    def __init__(self, limit: int) -> None:
        super().__init__(limit)
        self.limit = limit

    def __str__(self) -> str:
        return f"the body has more than {self.limit} bytes; see max_content_length"


class ClientDisconnected(RoutesError):
    """A client went away, or took too long, before the end of its request."""

    status = HTTPStatus.REQUEST_TIMEOUT
    close_code = CloseCode.GOING_AWAY


class BacklogFull(RoutesError):
    """A peer does not take what is sent to it; unhandled, it closes with 1013.

    Attributes:
        backlog: Bytes that wait to be sent.
        limit: Bytes that may wait.
    """

    status = HTTPStatus.SERVICE_UNAVAILABLE
    close_code = CloseCode.TRY_AGAIN_LATER

    def __init__(self, backlog: int, limit: int) -> None:
        super().__init__(backlog, limit)
        self.backlog = backlog
        self.limit = limit

    def __str__(self) -> str:
        return f"the peer is slow: {self.backlog} bytes wait, {self.limit} may"


class ExtensionError(RoutesError, ValueError):
    """An extension that cannot be added: its names clash, or it comes too late."""


class NotServing(RoutesError, RuntimeError):
    """Something was started on a connection or server that does not run (any more)."""


class LoadError(RoutesError):
    """The command cannot load the router that it was told to serve."""


class InvalidTopic(RoutesError, ValueError):
    """The name of a topic, a filter or a declaration that cannot work.

    Attributes:
        topic: What was given.
        problem: What is wrong with it, and what to write instead.
    """

    status = HTTPStatus.BAD_REQUEST
    close_code = CloseCode.POLICY_VIOLATION

    def __init__(self, topic: object, problem: str) -> None:
        super().__init__(topic, problem)
        self.topic = topic
        self.problem = problem

    def __str__(self) -> str:
        return f"topic {self.topic!r}: {self.problem}"


class SubscriptionDenied(RoutesError):
    """A connection may not hear a topic; unhandled, it closes with 1008.

    Attributes:
        topic: The topic or filter.
        problem: Why it was denied.
    """

    status = HTTPStatus.FORBIDDEN
    close_code = CloseCode.POLICY_VIOLATION

    def __init__(self, topic: object, problem: str = "it is not authorized") -> None:
        super().__init__(topic, problem)
        self.topic = topic
        self.problem = problem

    def __str__(self) -> str:
        return f"subscription to {str(self.topic)!r} denied: {self.problem}"


class TooManySubscriptions(RoutesError):
    """A connection has as many as it may; unhandled, it closes with 1008.

    Attributes:
        limit: How many it may have.
    """

    status = HTTPStatus.TOO_MANY_REQUESTS
    close_code = CloseCode.POLICY_VIOLATION

    def __init__(self, limit: int) -> None:
        super().__init__(limit)
        self.limit = limit

    def __str__(self) -> str:
        return f"a connection may have {self.limit} subscriptions, and has them"


class MustAwait(RoutesError, RuntimeError):
    """A plain call of something that has to wait: use the coroutine instead."""


class WrongThread(RoutesError, RuntimeError):
    """Topics were used outside of the event loop that their subscribers run on."""


class InvalidLimit(RoutesError, ValueError):
    """A limit that is none, found when a router is made or begins to serve."""


class InvalidCloseCode(RoutesError, ValueError):
    """A close code that no close frame may have (RFC 6455 section 7.4)."""


class NextRoute(RoutesError):
    """Raise it in a hook of the handshake to pass on to the next best route.

    Where none is left, the path is answered as one that matches nothing.
    """

    status = HTTPStatus.NOT_FOUND
    close_code = 4040


class MountError(RoutesError, ValueError):
    """A router that cannot be mounted, or not be used where it is mounted."""


class CertificateError(RoutesError, ValueError):
    """A certificate that cannot be used, found when it is loaded.

    Attributes:
        name: The server name that it was for.
        problem: What is wrong with it.
    """

    def __init__(self, name: str, problem: str) -> None:
        super().__init__(name, problem)
        self.name = name
        self.problem = problem

    def __str__(self) -> str:
        return f"certificate of {self.name!r}: {self.problem}"


class UnsafePath(RoutesError, ValueError):
    """A file name that may lead out of its directory; to a client it is a 404.

    Attributes:
        filename: The name.
        problem: What is wrong with it.
    """

    status = HTTPStatus.NOT_FOUND
    close_code = 4040

    def __init__(self, filename: str, problem: str) -> None:
        super().__init__(filename, problem)
        self.filename = filename
        self.problem = problem

    def __str__(self) -> str:
        return f"the file name {shown(self.filename)} is unsafe: {self.problem}"


class NoSuchFile(RoutesError, LookupError):
    """A file to be sent that is not there, no file, or not for us to read: a 404.

    Attributes:
        path: Where it should be.
        problem: What is wrong with it.
    """

    status = HTTPStatus.NOT_FOUND
    close_code = 4040

    def __init__(self, path: str, problem: str) -> None:
        super().__init__(path, problem)
        self.path = path
        self.problem = problem

    def __str__(self) -> str:
        return f"the file {self.path!r} cannot be sent: {self.problem}"


class FileChanged(RoutesError):
    """A file became shorter while it was sent: its response cannot be completed."""


class ProxyError(RoutesError, ValueError):
    """What a server was told of its proxies cannot work; found before it listens."""


class InvalidTrustedProxy(ProxyError):
    """Something that is no address and no network, found when it is declared.

    Attributes:
        proxy: What was given.
        problem: What is wrong with it, and what to write instead.
    """

    def __init__(self, proxy: object, problem: str) -> None:
        super().__init__(proxy, problem)
        self.proxy = proxy
        self.problem = problem

    def __str__(self) -> str:
        return f"trusted proxy {self.proxy!r}: {self.problem}"


class InvalidProxyHeader(RoutesError, ValueError):
    """What a proxy sent first is no PROXY header; the connection is of no use.

    Attributes:
        position: Index of the byte where the trouble begins.
        problem: What is wrong there.
    """

    status = HTTPStatus.BAD_REQUEST
    close_code = CloseCode.POLICY_VIOLATION

    def __init__(self, position: int, problem: str) -> None:
        super().__init__(position, problem)
        self.position = position
        self.problem = problem

    def __str__(self) -> str:
        return f"PROXY header, byte {self.position}: {self.problem}"
