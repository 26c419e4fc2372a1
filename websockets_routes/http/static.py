"""Static files: a directory whose files are answered with."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from pathlib import Path

from .paths import path_join_safe
from .request import Request
from .response import Response

__all__ = ["StaticFiles"]


class StaticFiles:
    """Answers with the file that the param ``filename`` names, below a directory.

    Args:
        directory: The directory.
        headers: What to add to each response.

    Raises:
        NotADirectoryError: If there is no such directory.
    """

    def __init__(
        self,
        directory: str | os.PathLike[str],
        headers: Mapping[str, str] | None = None,
    ) -> None:
        if not Path(directory).is_dir():
            raise NotADirectoryError(f"there is no directory {os.fspath(directory)!r}")
        self._directory = os.path.realpath(directory)
        self._headers = headers

    async def __call__(self, request: Request) -> Response:
        filename = request.params["filename"]
        # It looks at links, on a disk.
        path = await asyncio.to_thread(path_join_safe, self._directory, filename)
        return Response.file(path, headers=self._headers)
