"""Responses: what a handler returns, and what of it goes on the wire."""

from __future__ import annotations

import os
import re
import zlib
from collections.abc import AsyncIterable, Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import format_datetime
from http import HTTPStatus
from typing import Any, Literal, Self, TypeAlias
from urllib.parse import quote

from websockets import CloseCode, Headers
from websockets import Response as HandshakeResponse

from ..exceptions import InvalidResponse, RoutesError
from ..refusal import _body, _headers, _shown, _status
from ..serializer import Serializer
from .files import File, FileStream, attachment

__all__ = ["Encoded", "ErrorResponse", "Event", "Response", "Stream", "encoded"]

Name: TypeAlias = str | bytes
HeadersLike: TypeAlias = (
    Headers | Mapping[Any, Any] | Iterable[tuple[Name, Name]] | None
)
SameSite: TypeAlias = Literal["Strict", "Lax", "None"] | None

_PHRASES = {each.value: each.phrase for each in HTTPStatus}
_NO_BODY = {HTTPStatus.NO_CONTENT, HTTPStatus.RESET_CONTENT, HTTPStatus.NOT_MODIFIED}
_WORTH_COMPRESSING = 500  # bytes; less becomes more, or saves no packet
_COMPRESSED = re.compile(
    r"image/(?!svg|bmp)|audio/|video/|font/woff|application/(pdf|(java-archive|zip"
    r"|gzip|zstd|x-(7z-compressed|br|bzip2|compress|gzip|rar-compressed|xz))\b"
    r"|vnd\.(openxmlformats|oasis)|[^;]*\+zip)",
    re.IGNORECASE,
)
_CODING = re.compile(  # RFC 9110 sections 12.4.2 and 12.5.3
    r"([!#$%&'*+.^_`|~0-9a-z-]+)[ \t]*"
    r"(?:;[ \t]*q=(0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?))?"
)
_REDIRECTS = {301, 302, 303, 307, 308}
_REASON = re.compile(r"([0-9]{3})(?: ([\t\x20-\x7e\x80-\xff]*))?")
_CONTROL = re.compile(r"[\0-\x1f\x7f]")
_NEWLINE = re.compile(r"\r\n|\r|\n")  # those of an event stream, and no others

# RFC 6265 section 4.1.1, and RFC 1123 section 2.1 for the domain.
_TOKEN = re.compile(r"[-!#$%&'*+.^_`|~0-9A-Za-z]+")
_COOKIE_VALUE = re.compile(r'("?)[\x21\x23-\x2b\x2d-\x3a\x3c-\x5b\x5d-\x7e]*\1')
_COOKIE_PATH = re.compile(r"/[ -:<-~]*")
_DOMAIN = re.compile(
    r"(?=.{1,253}\Z)[0-9A-Za-z]([-0-9A-Za-z]{0,61}[0-9A-Za-z])?"
    r"(\.[0-9A-Za-z]([-0-9A-Za-z]{0,61}[0-9A-Za-z])?)*"
)
_LARGEST_COOKIE = 4096  # browsers drop what is larger, without a word
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Event:
    """A server-sent event (HTML standard, section 9.2).

    Args:
        data: Text, one line or several, or anything else, sent as JSON.
        event: Its type; ``message`` to a browser if it has none.
        id: What the client says in ``Last-Event-ID`` when it comes back.
        retry: Milliseconds after which it shall come back.

    Raises:
        InvalidResponse: If a type or an id has a CR, LF or NUL, or retry is no
            number of milliseconds.
    """

    data: Any
    event: str | None = None
    id: str | None = None
    retry: int | None = None

    def __post_init__(self) -> None:
        for text in (self.event, self.id):
            if text is not None and (
                not isinstance(text, str) or set(text) & {"\r", "\n", "\0"}
            ):
                raise InvalidResponse(f"an event is told in one line: {_shown(text)}")
        retry = self.retry
        if retry is not None and (type(retry) is not int or retry < 0):
            raise InvalidResponse(f"retry= takes milliseconds, not {_shown(retry)}")


class Response:
    """An answer to an HTTP request.

    Args:
        payload: str, bytes, None for no body, an async iterator to be streamed (of
            str, bytes and other values, each of which becomes a line of JSON), a
            :class:`File`, or anything else, which is sent as JSON.
        status: An int from 200 to 599, or a str such as ``"404 Not Found"``.
        headers: A mapping or pairs, of str or bytes; names may be repeated in pairs,
            a mapping may have a list of values.
        content_type: Instead of ``text/plain; charset=utf-8`` for str,
            ``application/json`` for JSON, ``application/octet-stream`` for others.
        compress: Send it gzipped to clients that accept it, if it is worth it.
        close: Close the connection after it.

    Attributes:
        status: An int; set it to anything that ``status=`` takes.
        reason: What stands behind the status on the wire; empty if unknown.
        headers: The headers, to be changed at will.
        payload, compress, close: As they were given.

    Raises:
        InvalidResponse: If a status or header is none: CR, LF or NUL are in no header.
    """

    def __init__(
        self,
        payload: Any = None,
        status: int | str = 200,
        headers: HeadersLike = None,
        content_type: str | None = None,
        compress: bool = False,
        close: bool = False,
    ) -> None:
        if isinstance(payload, Response):
            raise InvalidResponse("a Response is no payload: return it as it is")
        self.payload = payload
        self.status = status
        self.headers = _pairs_checked(headers)
        if content_type is None and "Content-Type" not in self.headers:
            content_type = _default_type(payload)
        if content_type is not None:
            if "Content-Type" in self.headers:
                del self.headers["Content-Type"]
            self.headers.update(_headers([("Content-Type", content_type)]))
        self.compress = compress
        self.close = close
        self._convert: Callable[[Any, Serializer], bytes] = _plain

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.status} {self.reason}>".replace(" >", ">")

    @property
    def status(self) -> int:
        return self._status

    @status.setter
    def status(self, status: int | str) -> None:
        match = _REASON.fullmatch(status) if isinstance(status, str) else None
        self._status = int(_status(status if match is None else int(match[1])))
        if match is not None and match[2] is not None:
            self.reason = match[2]
        else:
            self.reason = _PHRASES.get(self._status, "")

    @classmethod
    def of(cls, result: Any) -> Response:
        """Make a response of what a handler or a hook returned.

        None is a 204, a response is passed through, one of ``websockets`` is
        converted, anything else is a payload.
        """
        if isinstance(result, Response):
            return result
        if isinstance(result, HandshakeResponse):
            status = f"{result.status_code} {result.reason_phrase}"
            response = Response(bytes(result.body), status, result.headers)
            for name in ("Connection", "Content-Length", "Date"):
                if name in response.headers:
                    del response.headers[name]
            return response
        return Response(result, 204 if result is None else 200)

    @classmethod
    def text(
        cls, text: str, status: int | str = 200, headers: HeadersLike = None
    ) -> Self:
        """Answer with plain text."""
        return cls(text, status, headers, "text/plain; charset=utf-8")

    @classmethod
    def html(
        cls, html: str | bytes, status: int | str = 200, headers: HeadersLike = None
    ) -> Self:
        """Answer with a page, in UTF-8."""
        return cls(html, status, headers, "text/html; charset=utf-8")

    @classmethod
    def json(
        cls, obj: Any, status: int | str = 200, headers: HeadersLike = None
    ) -> Self:
        """Answer with JSON, also where the object is a str or None."""
        response = cls(obj, status, headers, "application/json")
        response._convert = _json
        return response

    @classmethod
    def redirect(
        cls, location: str, status: int | str = 302, headers: HeadersLike = None
    ) -> Self:
        """Send the client elsewhere.

        Args:
            location: A URL; what no URL may have is percent-encoded.
            status: 301, 302, 303, 307 or 308.

        Raises:
            InvalidResponse: If the location has a control character, or the status
                is another.
        """
        response = cls(None, status, headers)
        if response.status not in _REDIRECTS:
            raise InvalidResponse(f"{response.status} is no status of a redirect")
        if not isinstance(location, str) or _CONTROL.search(location):
            raise InvalidResponse(f"no URL can be {_shown(location)}")
        # A backslash is encoded too: browsers take "/\host" for "//host".
        url = quote(_body(location), safe="%/:?#[]@!$&'()*+,;=~")
        response.headers["Location"] = re.sub("%(?![0-9A-Fa-f]{2})", "%25", url)
        return response

    @classmethod
    def error(
        cls, obj: Any, status: int | str = 400, headers: HeadersLike = None
    ) -> ErrorResponse:
        """Make a response of an error, to be returned or raised."""
        return ErrorResponse(obj, status, headers)

    @classmethod
    def file(
        cls,
        path: str | os.PathLike[str],
        *,
        content_type: str | None = None,
        headers: HeadersLike = None,
        filename: str | None = None,
        compress: bool = False,
    ) -> Self:
        """Answer with a file: its type, ETag, conditions and ranges are seen to.

        Args:
            path: Where it is; trusted. See :func:`path_join_safe` if it is not.
            content_type: Instead of the one that its name tells.
            filename: The name under which a browser shall save it.
        """
        response = cls(File(path), 200, headers, content_type, compress)
        if filename is not None:
            response.headers["Content-Disposition"] = attachment(filename)
        return response

    @classmethod
    def events(cls, events: AsyncIterable[Any], headers: HeadersLike = None) -> Self:
        """Stream server-sent events: each an :class:`Event`, or the data of one."""
        response = cls(events, 200, headers, "text/event-stream")
        if "Cache-Control" not in response.headers:
            response.headers["Cache-Control"] = "no-store"
        response._convert = _event
        return response

    async def prepare(self, method: str, headers: Headers) -> Response:
        """Make what is sent to one client; do this before :func:`encoded`.

        Args:
            method: Of the request.
            headers: Of the request.

        Returns:
            The response itself, or for a :class:`File` another whose payload is None
            or an open file: it is closed by ``encoded(…).stream.aclose()``, or by
            ``aclose()`` of the payload if it never comes to that.

        Raises:
            NoSuchFile: If there is no file.
        """
        if not isinstance(self.payload, File):
            return self
        answer = await self.payload.answer(method, headers, self.headers, self.status)
        same = answer.status == self.status
        status = f"{self.status} {self.reason}" if same else answer.status
        return Response(
            answer.stream, status, answer.headers, None, self.compress, self.close
        )

    def set_cookie(
        self,
        name: str,
        value: str,
        *,
        max_age: int | None = None,
        expires: datetime | None = None,
        path: str | None = "/",
        domain: str | None = None,
        secure: bool = False,
        http_only: bool = False,
        same_site: SameSite = None,
        partitioned: bool = False,
    ) -> None:
        """Have the client keep a cookie (RFC 6265).

        Args:
            value: As it is sent; encode what is not plain ASCII yourself.
            max_age: Seconds, more than 0.
            expires: A time with a time zone.
            path: None for that of the request.

        Raises:
            InvalidResponse: If one of them cannot be, if ``SameSite=None`` or
                ``Partitioned`` come without ``secure``, if the name promises
                (``__Host-``, ``__Secure-``) what does not hold, or if name and value
                have more than 4096 bytes, which browsers drop.
        """
        prefix = name.lower() if isinstance(name, str) else ""
        host = prefix.startswith("__host-")
        for good, problem in (
            (_matches(_TOKEN, name), f"no cookie is named {_shown(name)}"),
            (_matches(_COOKIE_VALUE, value), "the value has what no cookie may have"),
            (path is None or _matches(_COOKIE_PATH, path), "the path is none"),
            (domain is None or _matches(_DOMAIN, domain), "the domain is none"),
            (same_site in (None, "Strict", "Lax", "None"), "same_site is unknown"),
            (secure or same_site != "None", "SameSite=None takes secure=True"),
            (secure or not partitioned, "partitioned= takes secure=True"),
            (
                max_age is None or (type(max_age) is int and max_age > 0),
                "max_age takes seconds; there is delete_cookie",
            ),
            (
                expires is None or _storable(expires),
                "expires takes a datetime with a time zone, from the year 1601",
            ),
            (
                secure or not (host or prefix.startswith("__secure-")),
                "its prefix takes secure=True",
            ),
            (not host or (path == "/" and not domain), '__Host- takes path="/" only'),
        ):
            if not good:
                raise InvalidResponse(f"cookie {_shown(name)}: {problem}")
        if len(name) + len(value) > _LARGEST_COOKIE:
            raise InvalidResponse(
                f"cookie {_shown(name)}: browsers drop one this large"
            )
        date = expires and format_datetime(expires.astimezone(UTC), usegmt=True)
        attributes: list[tuple[str, Any]] = [
            ("Max-Age=", max_age),
            ("Expires=", date),
            ("Path=", path),
            ("Domain=", domain),
            ("SameSite=", same_site),
        ]
        flags = (
            ("Secure", secure),
            ("HttpOnly", http_only),
            ("Partitioned", partitioned),
        )
        line = [f"{name}={value}"]
        line += [
            f"{key}{setting}" for key, setting in attributes if setting is not None
        ]
        line += [flag for flag, on in flags if on]
        self.headers["Set-Cookie"] = "; ".join(line)

    def delete_cookie(self, name: str, *, secure: bool = False, **scope: Any) -> None:
        """Have the client forget a cookie; path and domain must be those it has.

        Args:
            secure: Whether it is; a ``__Host-`` or ``__Secure-`` cookie always is.
            scope: ``path``, ``domain``, ``http_only``, ``same_site``, ``partitioned``.
        """
        secure = secure or name.lower().startswith(("__host-", "__secure-"))
        self.set_cookie(name, "", expires=_EPOCH, secure=secure, **scope)


class ErrorResponse(Response, RoutesError):  # type: ignore[misc]
    """A response that can be raised as well as returned.

    Raises:
        InvalidResponse: If its status is none of an error, 400 to 599.
    """

    def __init__(
        self,
        payload: Any = None,
        status: int | str = 400,
        headers: HeadersLike = None,
        content_type: str | None = None,
        compress: bool = False,
        close: bool = False,
    ) -> None:
        super().__init__(payload, status, headers, content_type, compress, close)
        if self.status < 400:
            raise InvalidResponse(f"{self.status} is no status of an error")
        if self.status < 500:
            self.close_code = CloseCode.POLICY_VIOLATION

    def __str__(self) -> str:
        return f"{self.status} {self.reason}: {_shown(self.payload)}"


@dataclass(frozen=True, slots=True)
class Encoded:
    """What of a response goes on the wire.

    Date, Connection and the framing of a stream are left to the connection: a stream
    without Content-Length is chunked, or ended by closing to an HTTP/1.0 client.

    Attributes:
        status, reason, headers: Of the head; Content-Length is there for a body.
        body: All of it, if it is known.
        stream: The body if it is streamed, else None. Iterate it once, and call its
            ``aclose()`` whatever happens.
        close: Whether to close the connection afterwards.
    """

    status: int
    reason: str
    headers: Headers
    body: bytes
    stream: Stream | None
    close: bool


class Stream:
    """A body in pieces, never an empty one. With HEAD it has none."""

    def __init__(
        self,
        items: AsyncIterable[Any],
        convert: Callable[[Any], bytes],
        gzip: bool,
        head: bool,
    ) -> None:
        self._items = aiter(items)
        self._convert = convert
        self._gzip = zlib.compressobj(6, wbits=31) if gzip else None
        self._ended = head

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        while not self._ended:
            try:
                piece = self._convert(await anext(self._items))
            except StopAsyncIteration:
                self._ended = True
                piece = b"" if self._gzip is None else self._gzip.flush()
            else:
                if self._gzip is not None and piece:
                    # What is there arrives now, not when a window is full.
                    piece = self._gzip.compress(piece)
                    piece += self._gzip.flush(zlib.Z_SYNC_FLUSH)
            if piece:
                return piece
        raise StopAsyncIteration

    async def aclose(self) -> None:
        """End what makes the pieces; not while another task waits for the next."""
        self._ended = True
        close = getattr(self._items, "aclose", None)
        if close is not None:
            await close()


def encoded(
    response: Response,
    serializer: Serializer,
    accept_encoding: str | None = None,
    *,
    head: bool = False,
) -> Encoded:
    """Turn a prepared response into what goes on the wire; leave it as it is.

    Args:
        response: What ``await response.prepare(method, headers)`` returned.
        serializer: Makes JSON.
        accept_encoding: The request's header, several joined by commas, or None.
        head: Whether the request is a HEAD: the headers are those of a GET, the body
            is empty. A handler of HEAD may tell a Content-Length itself.

    Raises:
        InvalidResponse: If the payload cannot be sent: it makes no JSON, is no valid
            Unicode, or belongs to a status that has no body; or if a header that was
            set later is none.
    """
    payload, status = response.payload, response.status
    assert not isinstance(payload, File), "prepare() comes first"
    headers = _headers(response.headers)
    if "Transfer-Encoding" in headers:
        raise InvalidResponse("Transfer-Encoding is set by the connection")
    wanted = response.compress and _accepts_gzip(accept_encoding)
    if response.compress:
        _vary(headers)
        wanted = wanted and _compressible(headers)
    if payload is None and response._convert is _plain:
        length = headers.get_all("Content-Length")[:1] if head else []
        if "Content-Length" in headers:
            del headers["Content-Length"]
        if status not in {HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED}:
            headers["Content-Length"] = length[0] if length else "0"
        if response.compress and status == HTTPStatus.NOT_MODIFIED:
            _weaken(headers)  # the response that it stands for may have been gzipped
        return Encoded(status, response.reason, headers, b"", None, response.close)
    if status in _NO_BODY:
        raise InvalidResponse(f"a response with status {status} has no body")

    make = response._convert
    if isinstance(payload, AsyncIterable) and make is not _json:
        if wanted:
            _gzipped(headers)
        make = _item if make is _plain else make
        stream = Stream(payload, lambda item: make(item, serializer), wanted, head)
        return Encoded(status, response.reason, headers, b"", stream, response.close)
    body = make(payload, serializer)
    if wanted and len(body) >= _WORTH_COMPRESSING:
        smaller = zlib.compress(body, 6, wbits=31)
        if len(smaller) < len(body):
            body = smaller
            _gzipped(headers)
    if "Content-Length" in headers:
        del headers["Content-Length"]
    headers["Content-Length"] = str(len(body))
    body = b"" if head else body
    return Encoded(status, response.reason, headers, body, None, response.close)


def _plain(payload: Any, serializer: Serializer) -> bytes:
    if isinstance(payload, str | bytes | bytearray | memoryview):
        return _body(payload)
    return _json(payload, serializer)


def _item(item: Any, serializer: Serializer) -> bytes:
    if isinstance(item, str | bytes | bytearray | memoryview):
        return _body(item)
    return _json(item, serializer) + b"\n"


def _json(payload: Any, serializer: Serializer) -> bytes:
    try:
        return _body(serializer.dumps(payload))
    except Exception as error:
        raise InvalidResponse(f"no JSON can be made of {_shown(payload)}") from error


def _event(item: Any, serializer: Serializer) -> bytes:
    event = item if isinstance(item, Event) else Event(item)
    data = event.data
    if not isinstance(data, str):  # bytes that are no UTF-8 fail below
        data = _plain(data, serializer).decode(errors="surrogateescape")
    fields = [
        (name, value)
        for name, value in (
            ("event", event.event),
            ("id", event.id),
            ("retry", event.retry),
        )
        if value is not None
    ]
    fields += [("data", line) for line in _NEWLINE.split(data)]
    return _body("".join(f"{name}: {value}\n" for name, value in fields) + "\n")


def _default_type(payload: Any) -> str | None:
    if payload is None or isinstance(payload, File | FileStream):
        return None
    if isinstance(payload, str):
        return "text/plain; charset=utf-8"
    if isinstance(payload, bytes | bytearray | memoryview | AsyncIterable):
        return "application/octet-stream"
    return "application/json"


def _pairs_checked(headers: HeadersLike) -> Headers:
    if isinstance(headers, Headers):
        return _headers(headers)
    fields: Any = headers.items() if isinstance(headers, Mapping) else headers or ()
    try:
        pairs = [
            (_text(name), _text(value))
            for name, values in fields
            for value in (values if isinstance(values, list) else [values])
        ]
    except (TypeError, ValueError):
        pairs = fields  # not even pairs; what is said about it is the same
    return _headers(pairs)


def _text(value: Any) -> Any:
    return value.decode("latin-1") if isinstance(value, bytes) else value


def _matches(pattern: re.Pattern[str], value: object) -> bool:
    return isinstance(value, str) and pattern.fullmatch(value) is not None


def _storable(date: object) -> bool:
    # Earlier years are none to a client; a time zone leads out of the last one.
    return isinstance(date, datetime) and bool(
        date.utcoffset() is not None and 1601 <= date.year <= 9998
    )


def _accepts_gzip(accept: str | None) -> bool:
    """Tell whether a client wants gzip no less than nothing (RFC 9110, 12.5.3)."""
    weights: dict[str, float] = {}
    for element in (accept or "").lower().split(","):
        match = _CODING.fullmatch(element.strip(" \t"))
        if match is not None:
            weights.setdefault(match[1].removeprefix("x-"), float(match[2] or 1))
    gzip = weights.get("gzip", weights.get("*", 0))
    return gzip > 0 and gzip >= weights.get("identity", 0)


def _compressible(headers: Headers) -> bool:
    # A part of a file is one of its bytes as they are, not of their gzip.
    if "Content-Encoding" in headers or "Content-Range" in headers:
        return False
    return not _COMPRESSED.match(next(iter(headers.get_all("Content-Type")), ""))


def _vary(headers: Headers) -> None:
    vary = ", ".join(headers.get_all("Vary"))
    if not {"*", "accept-encoding"} & set(re.split("[ \t,]+", vary.lower())):
        if vary:
            del headers["Vary"]
        headers["Vary"] = f"{vary}, Accept-Encoding" if vary else "Accept-Encoding"


def _gzipped(headers: Headers) -> None:
    headers["Content-Encoding"] = "gzip"
    for name in ("Content-Length", "Accept-Ranges"):  # those of the other bytes
        if name in headers:
            del headers[name]
    _weaken(headers)


def _weaken(headers: Headers) -> None:
    etag = next(iter(headers.get_all("ETag")), "")
    if etag.startswith('"'):
        del headers["ETag"]
        headers["ETag"] = f"W/{etag}"
