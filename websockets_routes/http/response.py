"""Responses: what a handler returns."""

from __future__ import annotations

import os
import re
from collections.abc import AsyncIterable, Iterable, Mapping
from http import HTTPStatus
from typing import Any, Self, TypeAlias, Unpack
from urllib.parse import quote

from websockets import CloseCode, Headers
from websockets import Response as HandshakeResponse

from ..exceptions import InvalidResponse, RoutesError
from ..naming import shown
from ..refusal import checked_body, checked_headers, checked_status
from .cookies import Lifetime, Scope, expired_cookie, new_cookie
from .events import as_event
from .files import File, FileStream, attachment
from .payloads import Convert, as_body, as_json

__all__ = ["ErrorResponse", "Response"]

Name: TypeAlias = str | bytes
HeadersLike: TypeAlias = (
    Headers | Mapping[Any, Any] | Iterable[tuple[Name, Name]] | None
)

_TEXT = "text/plain; charset=utf-8"
_HTML = "text/html; charset=utf-8"
_JSON = "application/json"
_BYTES = "application/octet-stream"
_EVENTS = "text/event-stream"
_TYPES = (_TEXT, _HTML, _JSON, _BYTES, _EVENTS)  # need no check
_TYPE_OF = {str: _TEXT, dict: _JSON, list: _JSON, bytes: _BYTES, type(None): None}
_PHRASES = {each.value: each.phrase for each in HTTPStatus if each >= HTTPStatus.OK}
_REASON = re.compile(r"([0-9]{3})(?: ([\t\x20-\x7e\x80-\xff]*))?")
_REDIRECTS = {301, 302, 303, 307, 308}
_CONTROL = re.compile(r"[\0-\x1f\x7f]")


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
        convert: What makes bytes of the payload, or of its items.

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
        self.compress = compress
        self.close = close
        self.convert: Convert = as_body
        # Most responses have a type and no other header: these are made when they
        # are asked for.
        self._headers: Headers | None = None
        self._type = _type_of(payload) if content_type is None else content_type
        if headers is None and (content_type is None or content_type in _TYPES):
            return
        self.headers = headers
        if content_type is not None and "Content-Type" in self.headers:
            del self.headers["Content-Type"]
        if self._type is not None and "Content-Type" not in self.headers:
            if self._type in _TYPES:
                self.headers["Content-Type"] = self._type
            else:
                self.headers.update(checked_headers([("Content-Type", self._type)]))

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.status} {self.reason}>".replace(" >", ">")

    @property
    def status(self) -> int:
        return self._status

    @status.setter
    def status(self, status: int | str) -> None:
        if type(status) is int and status in _PHRASES:
            self._status, self.reason = status, _PHRASES[status]
            return
        match = _REASON.fullmatch(status) if isinstance(status, str) else None
        code = checked_status(status if match is None else int(match[1]))
        self._status = int(code)
        told = None if match is None else match[2]
        self.reason = _PHRASES.get(self._status, "") if told is None else told

    @property
    def headers(self) -> Headers:
        if self._headers is None:
            self._headers = self.headers_to_send()
        return self._headers

    @headers.setter
    def headers(self, headers: HeadersLike) -> None:
        self._headers = _checked_pairs(headers)

    @property
    def has_headers(self) -> bool:
        """Whether there may be headers other than the Content-Type."""
        return self._headers is not None

    def headers_to_send(self) -> Headers:
        """Copy the headers.

        Raises:
            InvalidResponse: If one that was set later is none.
        """
        if self._headers is not None:
            return checked_headers(self._headers)
        headers = Headers()
        if self._type is not None:
            headers["Content-Type"] = self._type
        return headers

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
        return cls(text, status, headers, _TEXT)

    @classmethod
    def html(
        cls, html: str | bytes, status: int | str = 200, headers: HeadersLike = None
    ) -> Self:
        """Answer with a page, in UTF-8."""
        return cls(html, status, headers, _HTML)

    @classmethod
    def json(
        cls, obj: Any, status: int | str = 200, headers: HeadersLike = None
    ) -> Self:
        """Answer with JSON, also where the object is a str or None."""
        response = cls(obj, status, headers, _JSON)
        response.convert = as_json
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
            raise InvalidResponse(f"no URL can be {shown(location)}")
        # A backslash is encoded too: browsers take "/\host" for "//host".
        url = quote(checked_body(location), safe="%/:?#[]@!$&'()*+,;=~")
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
        response = cls(events, 200, headers, _EVENTS)
        if "Cache-Control" not in response.headers:
            response.headers["Cache-Control"] = "no-store"
        response.convert = as_event
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

    def set_cookie(self, name: str, value: str, **attributes: Unpack[Lifetime]) -> None:
        """Have the client keep a cookie (RFC 6265).

        Args:
            value: As it is sent; encode what is not plain ASCII yourself.
            max_age: Seconds, more than 0.
            expires: A datetime with a time zone.
            path: ``/`` by default; None for that of the request.
            domain, secure, http_only, same_site, partitioned: None or False by default.

        Raises:
            InvalidResponse: If one of them cannot be, if ``SameSite=None`` or
                ``Partitioned`` come without ``secure``, if the name promises
                (``__Host-``, ``__Secure-``) what does not hold, or if name and value
                have more than 4096 bytes, which browsers drop.
        """
        self.headers["Set-Cookie"] = new_cookie(name, value, **attributes)

    def delete_cookie(self, name: str, **scope: Unpack[Scope]) -> None:
        """Have the client forget a cookie.

        Args:
            scope: ``path`` and ``domain`` must be those that it has. ``secure`` need
                not be told of a ``__Host-`` or ``__Secure-`` cookie.
        """
        self.headers["Set-Cookie"] = expired_cookie(name, **scope)


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
        return f"{self.status} {self.reason}: {shown(self.payload)}"


def _type_of(payload: Any) -> str | None:
    if type(payload) in _TYPE_OF:
        return _TYPE_OF[type(payload)]
    if isinstance(payload, File | FileStream):
        return None
    if isinstance(payload, str):
        return _TEXT
    if isinstance(payload, bytes | bytearray | memoryview | AsyncIterable):
        return _BYTES
    return _JSON


def _checked_pairs(headers: HeadersLike) -> Headers:
    if isinstance(headers, Headers):
        return checked_headers(headers)
    fields: Any = headers.items() if isinstance(headers, Mapping) else headers or ()
    try:
        pairs = [
            (_text(name), _text(value))
            for name, values in fields
            for value in (values if isinstance(values, list) else [values])
        ]
    except (TypeError, ValueError):
        pairs = fields  # not even pairs; what is said about it is the same
    return checked_headers(pairs)


def _text(value: Any) -> Any:
    return value.decode("latin-1") if isinstance(value, bytes) else value
