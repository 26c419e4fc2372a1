"""Files: which of them a path may mean, and how one of them is sent."""

from __future__ import annotations

import asyncio
import errno
import mimetypes
import os
import re
import stat
import threading
import time
from collections.abc import Iterable
from datetime import UTC
from email.utils import formatdate, parsedate_to_datetime
from http import HTTPStatus
from pathlib import Path
from typing import IO, NamedTuple
from urllib.parse import quote

from websockets import Headers

from ..exceptions import InvalidResponse, RoutesError
from ..refusal import _shown

__all__ = [
    "Answer",
    "File",
    "FileChanged",
    "FileStream",
    "NoSuchFile",
    "UnsafePath",
    "attachment",
    "path_join_safe",
]

_PIECE = 64 * 1024
_LONGEST_NAME = 4096  # PATH_MAX of Linux; beyond it resolving costs, and finds nothing
_ENCODED = re.compile(r"%(?:2f|5c|00|2e%2e|2e\.)|\.%2e", re.IGNORECASE)
_DRIVE = re.compile(r"[A-Za-z]:")
_NOT_THERE = {
    *(errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EACCES, errno.EPERM),
    *(errno.ELOOP, errno.ENAMETOOLONG, errno.ENXIO),
}
_CONTROL = re.compile(r"[\0-\x1f\x7f]")

# RFC 9110 sections 8.8.3 and 14.1.1. More than 18 digits is no file's position.
_ENTITY_TAG = re.compile(r'(?:W/)?"[\x21\x23-\x7e\x80-\xff]*"')
_RANGE = re.compile(r"bytes=[ \t]*([0-9]{0,18})-([0-9]{0,18})[ \t]*", re.IGNORECASE)


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
        return f"the file name {_shown(self.filename)} is unsafe: {self.problem}"


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


def path_join_safe(root: str | os.PathLike[str], filename: str) -> str:
    """Join a directory with the name of a file below it, given by a stranger.

    It looks at the file system to resolve symbolic links, so it may block.

    Args:
        root: The directory; trusted.
        filename: The name relative to it, with ``/`` between its parts. It is not
            decoded; an encoded separator, ``..`` or NUL in it is refused, in case
            somebody after us decodes it again. ``""`` is the directory itself.

    Returns:
        The absolute path, its symbolic links resolved: root, or something below it.
        Nothing need exist there.

    Raises:
        UnsafePath: If the name is absolute, has a ``..``, NUL, backslash, drive
            (on every platform: a part that begins like ``c:``) or encoded separator,
            is longer than 4096 characters, or leads out of root by a symbolic link.
    """
    parts = filename.split("/")
    for unsafe, problem in (
        (len(filename) > _LONGEST_NAME, "it is too long"),
        ("\0" in filename, "it has a NUL"),
        ("\\" in filename, "it has a backslash"),
        (filename.startswith("/"), "it is absolute"),
        (".." in parts, "it has a '..'"),
        (any(map(_DRIVE.match, parts)), "it has a drive"),
        (_ENCODED.search(filename), "it has an encoded separator, '..' or NUL"),
    ):
        if unsafe:
            raise UnsafePath(filename, problem)
    try:
        os.fsencode(filename)
    except UnicodeEncodeError:
        raise UnsafePath(filename, "it is no valid Unicode") from None
    directory = os.path.realpath(root)
    joined = os.path.realpath(os.path.join(directory, filename))  # noqa: PTH118
    # With the separator at the end, /srv/www-x is not below /srv/www.
    if joined != directory and not joined.startswith(directory.rstrip(os.sep) + os.sep):
        raise UnsafePath(filename, "it leads out of its directory by a symbolic link")
    return joined


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
        raise InvalidResponse(f"no file can be named {_shown(filename)}")
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
        answer = headers.copy()
        for name, value in (
            ("ETag", f'"{found.st_mtime_ns:x}-{found.st_size:x}"'),
            ("Last-Modified", formatdate(modified, usegmt=True)),
            ("Accept-Ranges", "bytes"),
        ):
            if name not in answer:
                answer[name] = value
        etag = answer["ETag"]
        verdict = _precondition(request, etag, modified)
        size = found.st_size
        first, last = 0, size - 1
        if (
            verdict is None
            and method == "GET"
            and _range_counts(request, etag, modified)
        ):
            asked = _range(_only(request, "Range"), size)
            if asked == _UNSATISFIABLE:
                verdict = HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE
                answer["Content-Range"] = f"bytes */{size}"
            elif asked is not None:
                first, last = asked
                status = HTTPStatus.PARTIAL_CONTENT
                answer["Content-Range"] = f"bytes {first}-{last}/{size}"
        if verdict is not None:
            # The client has the file already, or gets none.
            for name in ("Content-Type", "Content-Disposition", "Last-Modified"):
                if name in answer:
                    del answer[name]
            return Answer(int(verdict), answer, None)
        if "Content-Type" not in answer:
            answer["Content-Type"] = _type_of(self._path)
        answer["Content-Length"] = str(last + 1 - first)
        if method != "HEAD":
            self._left = last + 1 - first
            self._file.seek(first)
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


def _only(headers: Headers, name: str) -> str | None:
    values = headers.get_all(name)
    return values[0] if len(values) == 1 else None


def _date(text: str | None) -> int | None:
    """Read a date in one of the three forms of RFC 9110 section 5.6.7."""
    try:
        date = parsedate_to_datetime(text or "")
        return int((date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp())
    except (ValueError, OverflowError):
        return None


def _listed(values: Iterable[str], etag: str, *, weakly: bool) -> bool:
    text = ", ".join(values).strip(" \t")
    if text == "*":
        return True
    tags = _ENTITY_TAG.findall(text)
    if weakly:  # RFC 9110 section 8.8.3.2
        return etag.removeprefix("W/") in {tag.removeprefix("W/") for tag in tags}
    return not etag.startswith("W/") and etag in tags


def _precondition(request: Headers, etag: str, modified: int) -> HTTPStatus | None:
    """Go through the preconditions in the order of RFC 9110 section 13.2.2."""
    since = _date(_only(request, "If-Modified-Since"))
    until = _date(_only(request, "If-Unmodified-Since"))
    if "If-Match" in request:
        if not _listed(request.get_all("If-Match"), etag, weakly=False):
            return HTTPStatus.PRECONDITION_FAILED
    elif until is not None and modified > until:
        return HTTPStatus.PRECONDITION_FAILED
    if "If-None-Match" in request:
        if _listed(request.get_all("If-None-Match"), etag, weakly=True):
            return HTTPStatus.NOT_MODIFIED
    elif since is not None and modified <= since:
        return HTTPStatus.NOT_MODIFIED
    return None


def _range_counts(request: Headers, etag: str, modified: int) -> bool:
    """Tell whether the file is still the one that If-Range is about (13.1.5)."""
    if "If-Range" not in request:
        return True
    validator = _only(request, "If-Range") or ""
    if '"' in validator:
        return validator == etag and not etag.startswith("W/")
    # A date says little about a file that may have changed twice in its second.
    return _date(validator) == modified and time.time() - modified > 1


_UNSATISFIABLE = (0, -1)


def _range(text: str | None, size: int) -> tuple[int, int] | None:
    """Find the first and the last byte asked for (RFC 9110 section 14.1.2).

    None is the whole file: several ranges, other units and nonsense are ignored.
    """
    match = _RANGE.fullmatch(text or "")
    if match is None or match.group(1, 2) == ("", ""):
        return None
    first, last = match.groups()
    if not first:
        if not int(last):
            return _UNSATISFIABLE
        return (max(0, size - int(last)), size - 1) if size else None
    if last and int(last) < int(first):
        return None
    if int(first) >= size:
        return _UNSATISFIABLE
    return int(first), min(int(last), size - 1) if last else size - 1
