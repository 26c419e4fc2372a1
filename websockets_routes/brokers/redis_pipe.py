"""One connection to Redis: commands go out in order, replies come back in order."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable
from typing import Any

from redis.asyncio.connection import AbstractConnection, ConnectionPool
from redis.exceptions import AuthenticationError, RedisError, ResponseError

from ..broker_errors import BrokerError, BrokerUnavailable

__all__ = ["Pipe"]

# How many replies are handled in a row before others have their turn.
_TURN = 256


class Pipe:
    """A connection that is written to without waiting for it.

    redis-py's own client waits for each reply before the next command, or collects
    commands first; with its connections alone many publishes are in flight.

    Args:
        name: Which engine, for errors.
        pool: Makes the connection.
        heartbeat: How long the engine may be silent before it is asked for a sign
            of life, in seconds; and for how long again before it counts as gone.
    """

    def __init__(self, name: str, pool: ConnectionPool, heartbeat: float) -> None:
        self._name = name
        maker: Callable[[], AbstractConnection] = pool.make_connection
        self._connection = maker()
        self._heartbeat = heartbeat
        self._heard = False
        self._queue: list[tuple[Any, ...]] = []
        self._wake = asyncio.Event()

    async def connect(self) -> None:
        """Connect and authenticate.

        Raises:
            BrokerUnavailable: If there is no engine.
            BrokerError: If it refuses.
        """
        try:
            connect: Callable[[], Awaitable[None]] = self._connection.connect
            await connect()
        except (AuthenticationError, ResponseError) as error:
            raise BrokerError(self._name, f"refused: {_text(error)}") from None
        except RedisError as error:
            raise BrokerUnavailable(self._name, _text(error), sent=False) from None

    async def call(self, *command: Any) -> Any:
        """Send a command and wait for its reply; only before ``run``.

        Raises:
            BrokerUnavailable: If the connection is lost.
            BrokerError: If the engine refuses.
        """
        try:
            await self._connection.send_command(*command)
            return await self._connection.read_response(
                disable_decoding=True, timeout=math.inf
            )
        except ResponseError as error:
            raise BrokerError(self._name, f"refused: {_text(error)}") from None
        except (RedisError, RuntimeError) as error:  # see _write
            raise BrokerUnavailable(self._name, _text(error)) from None

    def send(self, *command: Any) -> None:
        """Send a command behind all earlier ones."""
        self._queue.append(command)
        self._wake.set()

    async def run(
        self, received: Callable[[Any], None], ping: Callable[[], None]
    ) -> None:
        """Write and read until the connection is lost.

        Args:
            received: Called with each reply; a refusal is an exception.
            ping: Sends a command that has a reply.

        Raises:
            BrokerUnavailable: When it is lost.
        """
        tasks = [
            asyncio.create_task(self._write()),
            asyncio.create_task(self._read(received)),
            asyncio.create_task(self._watch(ping)),
        ]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            done.pop().result()  # none of them returns
        except (RedisError, OSError) as error:
            raise BrokerUnavailable(self._name, _text(error)) from None
        finally:
            # redis-py would close it only when all that waits was written: never, if
            # the engine hangs.
            writer = getattr(self._connection, "_writer", None)
            if writer is not None:
                writer.transport.abort()
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
            for task in tasks:
                # What a second one has to say about the same loss is of no use.
                _ = task.cancelled() or task.exception()

    async def close(self) -> None:
        """Disconnect at once."""
        await self._connection.disconnect(nowait=True)

    async def _write(self) -> None:
        connection = self._connection
        while True:
            await self._wake.wait()
            self._wake.clear()
            queue, self._queue = self._queue, []
            packed = connection.pack_commands(queue)
            try:
                await connection.send_packed_command(packed, check_health=False)
            except RuntimeError as error:
                # So says uvloop of a connection that was lost a moment ago.
                raise BrokerUnavailable(self._name, _text(error)) from None

    async def _read(self, received: Callable[[Any], None]) -> None:
        read = self._connection.read_response
        turn = 0
        while True:
            try:
                reply = await read(disable_decoding=True, timeout=math.inf)
            except ResponseError as error:
                reply = error
            self._heard = True
            try:
                received(reply)
            except (LookupError, TypeError, ValueError, AttributeError) as error:
                problem = f"it answered what was not asked: {error!r:.100}"
                raise BrokerUnavailable(self._name, problem) from None
            turn += 1
            if turn == _TURN:
                turn = 0
                await asyncio.sleep(0)

    async def _watch(self, ping: Callable[[], None]) -> None:
        while True:
            self._heard = False
            await asyncio.sleep(self._heartbeat)
            if not self._heard:
                ping()
                await asyncio.sleep(self._heartbeat)
                if not self._heard:
                    problem = f"it was silent for {2 * self._heartbeat:g} s"
                    raise BrokerUnavailable(self._name, problem)


def _text(error: Exception) -> str:
    return str(error).rstrip(".") or type(error).__name__
