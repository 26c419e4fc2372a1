"""Files: how one of them is sent."""

from __future__ import annotations

import asyncio
import errno
import mimetypes
import os
import re
import stat
import threading
import time
from email.utils import formatdate
from http import HTTPStatus
from pathlib import Path
from typing import IO, NamedTuple
from urllib.parse import quote

from websockets import Headers

from ..exceptions import FileChanged, InvalidResponse, NoSuchFile
from ..naming import shown
from .conditions import asked_range, precondition

__all__ = ["Answer", "File", "FileStream", "attachment"]

_PIECE = 64 * 1024
_NOT_THERE = {
    *(errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EACCES, errno.EPERM),
    *(errno.ELOOP, errno.ENAMETOOLONG, errno.ENXIO),
}
_CONTROL = re.compile(r"[\0-\x1f\x7f]")


def attachment(filename: str) -> str:
    """Make a Content-Disposition that has a browser save a file (RFC 6266).

    Args:
        filename: The name to suggest; beyond ASCII it is sent as RFC 8187 says, with
            a substitute for clients that know nothing of that.

    Raises:
        InvalidResponse: If it is no name of a file: it is empty, has a control
            character, a slash or a backslash, or is no valid Unicode.
    """
    try:
        encoded = quote(filename, safe="!#$&+-.^_`|~")
    except UnicodeEncodeError:
        encoded = ""
    if not encoded or _CONTROL.search(filename) or set(filename) & {"/", "\\"}:
        raise InvalidResponse(f"no file can be named {shown(filename)}")
    # Some clients decode a percent sign here (RFC 6266 appendix D).
    plain = re.sub(r'[^ -~]|["%]', "_", filename)
    disposition = f'attachment; filename="{plain}"'
    return (
        disposition
        if plain == filename
        else f"{disposition}; filename*=UTF-8''{encoded}"
    )


class Answer(NamedTuple):
    """What to say to a request for a file."""

    status: int
    headers: Headers
    stream: FileStream | None


class File:
    """The payload of a response: a file, opened when the request is known.

    Args:
        path: Where it is; trusted. See :func:`path_join_safe` if it is not.

    Attributes:
        path: The same, as str.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = os.fspath(path)

    def __repr__(self) -> str:
        return f"File({self.path!r})"

    async def answer(
        self, method: str, request: Headers, headers: Headers, status: int
    ) -> Answer:
        """Open the file and decide what of it the client gets (RFC 9110, 13 and 14).

        Args:
            method: Of the request. All but GET and HEAD get the file unconditionally.
            request: The headers of the request.
            headers: What the response says already; an ETag or a type that is there
                counts instead of the file's own. They are left as they are.
            status: Of the response; all but 200 get the file unconditionally.

        Returns:
            Status, all headers, and the file open for reading, to be closed by the
            caller; None if nothing of it is sent. With HEAD it has no pieces.

        Raises:
            NoSuchFile: If there is no regular file, or it cannot be read.
            OSError: If the system cannot open it for another reason.
        """
        stream = FileStream(self.path)
        if method not in {"GET", "HEAD"} or status != HTTPStatus.OK:
            request = Headers()
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(
                None, stream.open, method, request, headers, status
            )
        except asyncio.CancelledError:
            stream.abandon()
            raise


class FileStream:
    """The pieces of an open file: async iterator of bytes, 64 KiB at most each.

    The thread that opens or reads holds the lock, and so does what closes: no read
    ever meets the descriptor of another file.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._file: IO[bytes] | None = None
        self._left = 0
        self._closed = False
        self._lock = threading.Lock()

    def __aiter__(self) -> FileStream:
        return self

    async def __anext__(self) -> bytes:
        """Read the next piece in a thread.

        Raises:
            FileChanged: If the file has become shorter, or was closed before its end,
                as it is when a call is cancelled.
        """
        if not self._left:
            raise StopAsyncIteration
        try:
            return await asyncio.to_thread(self._read)
        except asyncio.CancelledError:
            self.abandon()  # what the thread has read is lost
            raise

    async def aclose(self) -> None:
        """Close the file, also when this is cancelled; twice is as good as once."""
        if not self._closed:
            await asyncio.shield(self.abandon())

    def abandon(self) -> asyncio.Future[None]:
        """Have a thread close the file as soon as nobody reads it."""
        # Not by to_thread: its task, unlike this, ends with the loop's tasks.
        return asyncio.get_running_loop().run_in_executor(None, self._locked_close)

    def open(
        self, method: str, request: Headers, headers: Headers, status: int
    ) -> Answer:
        """Open the file and see what is asked for, in a thread."""
        with self._lock:
            if self._closed:  # the request was cancelled before its turn came
                raise FileChanged(f"nobody waits for {self._path!r} any more")
            self._file = _open(self._path)
            try:
                answer = self._answer(method, request, headers, status)
            except BaseException:
                self._close()
                raise
            if answer.stream is None or not self._left:
                self._close()
            return answer

    def _answer(
        self, method: str, request: Headers, headers: Headers, status: int
    ) -> Answer:
        assert self._file is not None
        found = os.fstat(self._file.fileno())
        if not stat.S_ISREG(found.st_mode):
            raise NoSuchFile(self._path, "it is no regular file")
        # RFC 9110 section 8.8.2.1: never a time to come.
        modified = max(0, min(int(found.st_mtime), int(time.time())))
        # Not copy(): what it makes shares the lists of values.
        answer = Headers(headers.raw_items())
        for name, value in (
            ("ETag", f'"{found.st_mtime_ns:x}-{found.st_size:x}"'),
            ("Last-Modified", formatdate(modified, usegmt=True)),
            ("Accept-Ranges", "bytes"),
        ):
            if name not in answer:
                answer[name] = value
        etag, size = answer["ETag"], found.st_size
        verdict = precondition(request, etag, modified)
        span = range(size)
        if verdict is None and method == "GET":
            asked = asked_range(request, etag, modified, size)
            if asked is not None and not asked:
                verdict = HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE
                _replace(answer, "Content-Range", f"bytes */{size}")
            elif asked is not None:
                span, status = asked, HTTPStatus.PARTIAL_CONTENT
                told = f"bytes {span.start}-{span.stop - 1}/{size}"
                _replace(answer, "Content-Range", told)
        if verdict is not None:
            # The client has the file already, or gets none.
            for name in ("Content-Type", "Content-Disposition", "Last-Modified"):
                if name in answer:
                    del answer[name]
            return Answer(int(verdict), answer, None)
        if "Content-Type" not in answer:
            answer["Content-Type"] = _type_of(self._path)
        _replace(answer, "Content-Length", str(len(span)))
        if method != "HEAD":
            self._left = len(span)
            self._file.seek(span.start)
        return Answer(int(status), answer, self)

    def _read(self) -> bytes:
        with self._lock:
            if self._file is None:
                raise FileChanged(f"{self._path!r} was closed before its end")
            try:
                piece = self._file.read(min(_PIECE, self._left))
                if not piece:
                    raise FileChanged(
                        f"{self._path!r} became shorter while it was sent: "
                        f"{self._left} bytes are missing"
                    )
            except BaseException:
                self._close()
                raise
            self._left -= len(piece)
            if not self._left:
                self._close()
            return piece

    def _locked_close(self) -> None:
        with self._lock:
            self._close()

    def _close(self) -> None:
        self._closed = True
        if self._file is not None:
            self._file.close()
            self._file = None


def _open(path: str) -> IO[bytes]:
    try:
        # A plain open() of a named pipe would wait for somebody to write to it.
        return open(path, "rb", buffering=0, opener=_without_waiting)
    except OSError as error:
        if error.errno not in _NOT_THERE:  # no descriptors left, say: not a 404
            raise
        raise NoSuchFile(path, str(error.strerror)) from error


def _without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def _type_of(path: str) -> str:
    # The slash keeps a name like "data:x" from being taken for a URL.
    kind, encoding = mimetypes.guess_type(f"/{Path(path).name}")
    if encoding is not None:  # sent as it is, a .tar.gz stays one
        return "application/gzip" if encoding == "gzip" else f"application/x-{encoding}"
    if kind is None:
        return "application/octet-stream"
    return f"{kind}; charset=utf-8" if kind.startswith("text/") else kind


def _replace(headers: Headers, name: str, value: str) -> None:
    if name in headers:
        del headers[name]
    headers[name] = value
