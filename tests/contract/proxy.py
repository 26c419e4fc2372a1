"""A TCP proxy between a broker and its engine, which holds back, changes and cuts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Self


class Proxy:
    """What stands between clients and an engine.

    Args:
        target: The port of the engine.

    Attributes:
        port: The port of the proxy.
        sent: What clients have sent to the engine.
        edit: Changes what the engine sends.
    """

    def __init__(self, target: int) -> None:
        self._target = target
        self.port = 0
        self.sent = b""
        self.edit: Callable[[bytes], bytes] = bytes
        self._news = asyncio.Event()
        self._open = asyncio.Event()
        self._open.set()
        self._writers: set[asyncio.StreamWriter] = set()

    @classmethod
    @asynccontextmanager
    async def before(cls, target: int) -> AsyncIterator[Self]:
        """Stand before an engine."""
        proxy = cls(target)
        async with await asyncio.start_server(proxy._serve, "127.0.0.1", 0) as server:
            proxy.port = server.sockets[0].getsockname()[1]
            try:
                yield proxy
            finally:
                proxy.cut()

    def hold(self) -> None:
        """Keep back what the engine sends from now on."""
        self._open.clear()

    def release(self) -> None:
        """Let it through."""
        self._open.set()

    def cut(self) -> None:
        """Break all connections."""
        for writer in self._writers:
            writer.transport.abort()

    async def until_sent(self, part: bytes, count: int = 1) -> None:
        """Wait until clients have sent something so often."""
        async with asyncio.timeout(20):
            while self.sent.count(part) < count:
                self._news.clear()
                await self._news.wait()

    async def _serve(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        inner = await asyncio.open_connection("127.0.0.1", self._target)
        pair = {writer, inner[1]}
        self._writers |= pair
        try:
            await asyncio.gather(
                self._up(reader, inner[1]), self._down(inner[0], writer)
            )
        finally:
            self._writers -= pair
            for each in pair:
                each.transport.abort()

    async def _up(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        with suppress(OSError):
            while data := await reader.read(65_536):
                writer.write(data)
                await writer.drain()
                self.sent += data
                self._news.set()
        writer.close()

    async def _down(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        held = bytearray()

        async def write() -> None:
            while True:
                await self._open.wait()
                await news.wait()
                news.clear()
                if self._open.is_set():
                    data = bytes(held)
                    held.clear()
                    writer.write(self.edit(data))
                else:
                    news.set()

        news = asyncio.Event()
        writing = asyncio.create_task(write())
        with suppress(OSError):
            while data := await reader.read(65_536):
                held += data
                news.set()
        writing.cancel()
        writer.close()
