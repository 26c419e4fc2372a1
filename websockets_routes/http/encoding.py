"""Encoding: a response as it goes on the wire to one client, gzipped or not."""

from __future__ import annotations

import re
import zlib
from collections.abc import AsyncIterable, Callable
from http import HTTPStatus
from typing import Any, NamedTuple, Self

from websockets import Headers
from websockets import Response as HandshakeResponse

from ..exceptions import InvalidResponse
from ..naming import shown
from ..refusal import to_response
from ..serializer import Serializer
from .files import File
from .payloads import as_body, as_json, as_piece
from .response import Response

__all__ = ["Encoded", "Stream", "encoded", "for_handshake"]

_NO_BODY = {204, 205, 304}
_NO_LENGTH = {204, 304}
_WHOLE = {str, bytes, dict, list}  # no streams, and in no need of asking an ABC
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
_LENGTH = re.compile(r"[0-9]{1,18}")


class Encoded(NamedTuple):
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


def for_handshake(response: Response) -> HandshakeResponse:
    """Make the response to a handshake that hooks shared with requests return.

    Raises:
        InvalidResponse: If its body is a stream or a file, or if it cannot be sent.
    """
    if isinstance(response.payload, File):
        raise InvalidResponse("a handshake is not answered with a file")
    message = encoded(response, Serializer())
    if message.stream is not None:
        raise InvalidResponse("a handshake is not answered with a stream")
    refusal = to_response((message.status, message.headers, message.body))
    assert refusal is not None, "it is a tuple"
    return refusal


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
            set later is none, or tells of another framing.
    """
    payload, status, make = response.payload, response.status, response.convert
    assert not isinstance(payload, File), "prepare() comes first"
    headers = response.headers_to_send()
    # The framing is none of the handler's headers.
    lengths = _lengths_taken(headers) if response.has_headers else []
    gzip = response.compress and _gzip_counts(headers, accept_encoding)
    body, stream = b"", None
    if payload is None and make is as_body:
        if status not in _NO_LENGTH:
            headers["Content-Length"] = _told(lengths) if head and lengths else "0"
        if response.compress and status == HTTPStatus.NOT_MODIFIED:
            _weaken(headers)  # the response that it stands for may have been gzipped
    elif status in _NO_BODY:
        raise InvalidResponse(f"a response with status {status} has no body")
    elif make is not as_json and _is_stream(payload):
        if gzip:
            _mark_gzipped(headers)
        elif lengths:
            headers["Content-Length"] = _told(lengths)
        convert = as_piece if make is as_body else make
        stream = Stream(payload, lambda item: convert(item, serializer), gzip, head)
    else:
        body = make(payload, serializer)
        if gzip and len(body) >= _WORTH_COMPRESSING:
            smaller = zlib.compress(body, 6, wbits=31)
            if len(smaller) < len(body):
                body = smaller
                _mark_gzipped(headers)
        headers["Content-Length"] = str(len(body))
        if head:
            body = b""
    return Encoded(status, response.reason, headers, body, stream, response.close)


def _is_stream(payload: object) -> bool:
    return type(payload) not in _WHOLE and isinstance(payload, AsyncIterable)


def _lengths_taken(headers: Headers) -> list[str]:
    if "Transfer-Encoding" in headers:
        raise InvalidResponse("Transfer-Encoding is set by the connection")
    lengths = headers.get_all("Content-Length")
    if lengths:
        del headers["Content-Length"]
    return lengths


def _told(lengths: list[str]) -> str:
    if len(lengths) > 1 or not _LENGTH.fullmatch(lengths[0]):
        raise InvalidResponse(f"Content-Length is one number, not {shown(lengths)}")
    return lengths[0]


def _gzip_counts(headers: Headers, accept: str | None) -> bool:
    """Tell whether this client gets gzip, and caches that others may not."""
    _vary(headers)
    return _accepts_gzip(accept) and _compressible(headers)


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


def _mark_gzipped(headers: Headers) -> None:
    headers["Content-Encoding"] = "gzip"
    if "Accept-Ranges" in headers:  # those of the other bytes
        del headers["Accept-Ranges"]
    _weaken(headers)


def _weaken(headers: Headers) -> None:
    etag = next(iter(headers.get_all("ETag")), "")
    if etag.startswith('"'):
        del headers["ETag"]
        headers["ETag"] = f"W/{etag}"
