"""The broker on Redis (6.2 or later) or Valkey; the extra ``redis``."""

from __future__ import annotations

import asyncio
import functools
import re
from collections import deque
from collections.abc import Callable
from typing import Any

from redis.asyncio.connection import ConnectionPool
from redis.exceptions import NoScriptError, ReadOnlyError, ResponseError

from ..broker_errors import BrokerError, BrokerUnavailable
from ..pubsub.names import Filter
from .base import (
    Broker,
    Envelope,
    Gap,
    HistoryPage,
    HistoryPolicy,
    Position,
    Published,
    Receive,
    State,
)
from .futures import fail
from .inbox import Inbox
from .link import Backoff, Link, check_port, name_of, not_connected, too_slow
from .redis_hearing import Hearing
from .redis_history import (
    PUBLISH,
    READ,
    history_keys,
    publish_arguments,
    read_arguments,
    read_page,
)
from .redis_names import Names
from .redis_pipe import Pipe
from .wire import encode

__all__ = ["RedisBroker"]

_Convert = Callable[[Any], Any]


class RedisBroker(Broker):
    """A broker on Redis or Valkey.

    Order: one for each topic, on all nodes. A topic with history is kept in a
    stream, written in one step with the publish. Two connections are used: one to
    publish, one to hear.

    A subscriber's connection that does not take what it is sent is closed by the
    engine (``client-output-buffer-limit pubsub``); that is a gap like any other.

    Args:
        url: ``redis://[[user:]password@]host[:port][/database]``, ``rediss://…`` for
            TLS, ``unix://path``, with what redis-py knows behind a question mark.
        prefix: What keys and channels begin with. Applications that do not share it
            do not hear each other; nor do those on different databases.
        durable: Whether the engine keeps all that it has confirmed when it is
            restarted or replaced by a replica. Where it may not, a position of
            before is not recovered: it could be wrong without showing.
        backoff: How long to wait between two attempts to connect.
        timeout: How long to wait for the engine, in seconds: to connect, and to
            confirm a subscription.
        heartbeat: How long the engine may be silent before it is asked for a sign
            of life, in seconds; and for how long again before it counts as gone.
        max_pending: How many bytes of publishes may wait for the engine; beyond it
            publishing raises ``BrokerUnavailable``.
        options: More arguments for redis-py's connections, ``ssl_ca_certs=`` for
            example.

    Raises:
        BrokerError: If the URL is none.
    """

    def __init__(
        self,
        url: str,
        *,
        prefix: str = "websockets-routes",
        durable: bool = False,
        backoff: Backoff | None = None,
        timeout: float = 5,
        heartbeat: float = 10,
        max_pending: int = 64 * 1024 * 1024,
        **options: Any,
    ) -> None:
        self.name = name_of(url)
        try:
            check_port(url)
            self._pool = ConnectionPool.from_url(
                url, protocol=2, socket_timeout=None, **options
            )
            Pipe(self.name, self._pool, heartbeat)  # whether all of it is known
        except (ValueError, TypeError) as error:
            raise BrokerError(self.name, f"no URL of Redis: {error}") from None
        database = self._pool.connection_kwargs.get("db", 0)
        self._prefix = f"{prefix}:{database}"
        self._names = Names(f"{prefix}:{database}:")
        self._durable = durable
        self._heartbeat = heartbeat
        self._max_pending = max_pending
        backoff = backoff or Backoff()
        self._commands = Link(self.name, self._run_commands, backoff, timeout)
        self._publishing = asyncio.Event()
        self._inbox = Inbox(self.name, timeout)
        self._hearing = Hearing(
            self.name,
            self._pool,
            self._names,
            self._inbox,
            heartbeat,
            self._publishing,
        )
        self._ears = Link(self.name, self._hearing.run, backoff, timeout)
        # Publishing
        self._pipe: Pipe | None = None
        self._pending = 0
        self._replies: deque[tuple[asyncio.Future[Any] | None, _Convert, int]] = deque()
        self._scripts: dict[str, bytes] = {}
        self._incarnation = ""

    def __repr__(self) -> str:
        return f"<RedisBroker {self.name} {self.state.value}>"

    @property
    def state(self) -> State:
        """What the broker is doing."""
        if self._commands.state is State.CONNECTED:
            return self._ears.state
        return self._commands.state

    async def start(self, receive: Receive, gap: Gap) -> None:
        """Connect; see ``Broker.start``."""
        self._inbox.open(receive, gap)
        try:
            await self._commands.start()
            await self._ears.start()
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """Disconnect; see ``Broker.close``."""
        self._inbox.close()
        await self._commands.close()
        await self._ears.close()

    # Publishing

    def publish(
        self,
        envelope: Envelope,
        *,
        history: HistoryPolicy | None = None,
        idempotency_key: str | None = None,
        window: float = 120,
    ) -> asyncio.Future[Published]:
        """Publish a message; see ``Broker.publish``."""
        frame = encode(envelope)
        topic = envelope.topic
        channel = self._names.channel(topic)
        if history is None and idempotency_key is None:
            return self._send(_plain, len(frame), "PUBLISH", channel, frame)
        stream, position, key = history_keys(self._prefix, topic)
        arguments = publish_arguments(
            history,
            self._incarnation,
            channel,
            frame,
            0 if idempotency_key is None else window,
        )
        keys = (stream, position, key + (idempotency_key or ""))
        return self._run_script(_published, len(frame), PUBLISH, keys, arguments)

    async def history(
        self,
        topic: str,
        policy: HistoryPolicy,
        *,
        since: Position | None = None,
        limit: int | None = None,
        reverse: bool = False,
    ) -> HistoryPage:
        """Read the history of a topic; see ``Broker.history``."""
        stream, position, _ = history_keys(self._prefix, topic)
        page: HistoryPage = await self._run_script(
            functools.partial(read_page, topic),
            0,
            READ,
            (stream, position),
            read_arguments(policy, self._incarnation, since, limit, reverse),
        )
        return page

    def _run_script(
        self,
        convert: _Convert,
        size: int,
        script: str,
        keys: tuple[Any, ...],
        arguments: tuple[Any, ...],
    ) -> asyncio.Future[Any]:
        digest = self._scripts.get(script, b"")
        return self._send(
            convert, size, "EVALSHA", digest, len(keys), *keys, *arguments
        )

    def _send(self, convert: _Convert, size: int, *command: Any) -> asyncio.Future[Any]:
        future = asyncio.get_running_loop().create_future()
        if self._pipe is None:
            future.set_exception(not_connected(self.name, self.state))
        elif self._pending + size > self._max_pending:
            future.set_exception(too_slow(self.name, self._pending))
        else:
            self._pending += size
            self._replies.append((future, convert, size))
            self._pipe.send(*command)
        return future

    async def _run_commands(self, ready: Callable[[], None]) -> None:
        pipe = Pipe(self.name, self._pool, self._heartbeat)
        try:
            await pipe.connect()
            # They stay there until the engine is restarted, or told to flush them.
            for script in (PUBLISH, READ):
                self._scripts[script] = await pipe.call("SCRIPT", "LOAD", script)
            self._incarnation = "" if self._durable else await _run_id(pipe)
            self._pipe = pipe
            ready()
            self._publishing.set()
            await pipe.run(self._replied, functools.partial(self._ping, pipe))
        finally:
            self._pipe = None
            self._publishing.clear()
            replies, self._replies = self._replies, deque()
            self._pending = 0
            for future, _, _ in replies:
                if future is not None:
                    problem = "the connection was lost before it was confirmed"
                    fail(future, BrokerUnavailable(self.name, problem))
            await pipe.close()

    def _ping(self, pipe: Pipe) -> None:
        self._replies.append((None, _plain, 0))
        pipe.send("PING")

    def _replied(self, reply: Any) -> None:
        future, convert, size = self._replies.popleft()
        self._pending -= size
        if future is None:
            return
        if isinstance(reply, NoScriptError | ReadOnlyError):
            # Nothing was done. Sent once more by itself, it would come behind later
            # ones; with a new connection scripts are there, and maybe a primary.
            error = BrokerUnavailable(self.name, f"refused: {reply}", sent=False)
            self._pipe = None
            fail(future, error)
            raise error
        if future.done():
            return
        if isinstance(reply, ResponseError):
            future.set_exception(BrokerError(self.name, f"refused: {reply}"))
            return
        try:
            result = convert(reply)
        except (ValueError, TypeError, IndexError, AttributeError) as error:
            problem = f"something else is under our keys: {error}"
            future.set_exception(BrokerError(self.name, problem))
        else:
            future.set_result(result)

    # Hearing

    async def subscribe(self, topic: str | Filter) -> None:
        """Begin to hear a topic or filter; see ``Broker.subscribe``."""
        if self._inbox.add(topic):
            self._hearing.ask([topic])
        await self._inbox.wait(topic)

    async def unsubscribe(self, topic: str | Filter) -> None:
        """Stop to hear a topic or filter; see ``Broker.unsubscribe``."""
        if self._inbox.remove(topic):
            self._hearing.leave(topic)


def _plain(reply: Any) -> Published:
    return Published()


def _published(reply: Any) -> Published:
    known, epoch, offset = reply
    return Published(
        int(offset) if offset else None, epoch.decode() or None, bool(known)
    )


async def _run_id(pipe: Pipe) -> str:
    """Ask for what changes when the engine is restarted, or replaced by a replica."""
    found = re.search(rb"run_id:(\w+)", await pipe.call("INFO", "server"))
    return found[1].decode() if found else ""
