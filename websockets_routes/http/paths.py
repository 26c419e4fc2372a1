"""Paths: the file that a stranger's name means, if it is below its directory."""

from __future__ import annotations

import os
import re

from ..exceptions import UnsafePath

__all__ = ["path_join_safe"]

_LONGEST_NAME = 4096  # PATH_MAX of Linux; beyond it resolving costs, and finds nothing
_ENCODED = re.compile(r"%(?:2f|5c|00|2e%2e|2e\.)|\.%2e", re.IGNORECASE)
_DRIVE = re.compile(r"[A-Za-z]:")


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
