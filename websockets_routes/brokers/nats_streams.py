"""History on NATS: a JetStream stream for each policy, which publishes what it keeps.

A stream stores what is published to its subjects and then publishes it where
subscribers hear it, in one order and with its sequence number, which is the offset.
Its epoch is in the subject, given by whoever made the stream.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js import JetStreamContext
from nats.js.api import RePublish, StorageType, StreamConfig, StreamInfo
from nats.js.errors import APIError, NotFoundError, ServiceUnavailableError

from ..broker_errors import BrokerError, BrokerUnavailable
from ..pubsub.history import new_epoch
from .base import Envelope, HistoryPage, HistoryPolicy, Position
from .futures import settle
from .nats_subjects import Subjects, policy_token
from .wire import decode

__all__ = ["KEYS", "Streams", "message_id", "sequence"]

#: The token of the stream for keys on topics without history.
KEYS = "keys"

_NAME_IN_USE = 10058

# How many bytes are read at once. The engine cuts off who is sent more than its
# max_pending, 64 MiB: it does not wait until it is taken.
_PART = 1024 * 1024


def message_id(topic: str, key: str) -> str:
    """Make the id by which a stream knows a message again."""
    return hashlib.sha256(f"{topic}\0{key}".encode()).hexdigest()


def sequence(message: Msg) -> int:
    """Read the number that a stream gave to a message.

    Raises:
        ValueError: If there is none.
    """
    number = (message.headers or {}).get("Nats-Sequence", "")
    if not (number.isascii() and number.isdigit()):
        raise ValueError("it has no number of a stream")
    return int(number)


class Streams:
    """The streams of one connection.

    Args:
        name: Which engine, for errors.
        client: The connection.
        subjects: Names subjects.
        memory: Whether streams are kept in memory rather than in files.
        timeout: How long to wait for an answer, in seconds.
    """

    def __init__(
        self,
        name: str,
        client: Client,
        subjects: Subjects,
        memory: bool,
        timeout: float,
    ) -> None:
        self._name = name
        self._client = client
        self._subjects = subjects
        self._storage = StorageType.MEMORY if memory else StorageType.FILE
        self._timeout = timeout
        self._jetstream: JetStreamContext = client.jetstream(timeout=timeout)
        # By token: the epoch, and how long it knows a message again.
        self._known: dict[str, tuple[str | None, float]] = {}

    def stream(self, token: str) -> str:
        """Name the stream of a policy."""
        return f"{self._subjects.prefix.replace('.', '_')}_{token}"

    def forget(self, token: str) -> None:
        """Look the stream up again next time."""
        self._known.pop(token, None)

    async def ensure(
        self, policy: HistoryPolicy | None, window: float
    ) -> tuple[str, str | None]:
        """Find the stream of a policy, or make it.

        Args:
            policy: The policy; None for keys on topics without history.
            window: How long it has to know a message again, in seconds.

        Returns:
            The token of the policy, and the epoch.

        Raises:
            BrokerUnavailable: If JetStream does not answer.
            BrokerError: If it refuses.
        """
        token = KEYS if policy is None else policy_token(policy)
        ttl = window if policy is None else policy.ttl
        if ttl is not None:
            window = min(window, ttl)
        epoch, known = self._known.get(token, (None, -1.0))
        if known < window:
            info = await self._find(token, policy, ttl, window)
            epoch = self._epoch(info)
            self._known[token] = epoch, max(window, info.config.duplicate_window)
        return token, epoch

    async def _find(
        self,
        token: str,
        policy: HistoryPolicy | None,
        ttl: float | None,
        window: float,
    ) -> StreamInfo:
        jetstream = self._jetstream
        config = StreamConfig(
            name=self.stream(token),
            subjects=[f"{self._subjects.prefix}.h.{token}.>"],
            # One more than promised shows whether a position is behind all of them.
            max_msgs_per_subject=1 if policy is None else policy.length + 1,
            max_age=ttl,
            duplicate_window=window,
            storage=self._storage,
            allow_direct=True,
            republish=RePublish(
                src=f"{self._subjects.prefix}.h.{token}.>",
                dest=self._republished("-" if policy is None else new_epoch()),
            ),
        )
        try:
            try:
                info = await jetstream.stream_info(self.stream(token))
            except NotFoundError:
                try:
                    return await jetstream.add_stream(config)
                except APIError as error:
                    if error.err_code != _NAME_IN_USE:
                        raise
                info = await jetstream.stream_info(self.stream(token))
            if info.config.duplicate_window < window:
                info.config.duplicate_window = window
                if policy is None:
                    info.config.max_age = window
                info = await jetstream.update_stream(info.config)
        except Exception as error:
            raise self._error(error) from None
        return info

    def _republished(self, epoch: str) -> str:
        return f"{self._subjects.prefix}.m.{epoch}.>"

    def _epoch(self, info: StreamInfo) -> str | None:
        republish = info.config.republish
        where = "" if republish is None else republish.dest or ""
        token = where.removeprefix(f"{self._subjects.prefix}.m.").removesuffix(".>")
        if where != self._republished(token) or "." in token:
            problem = f"the stream {info.config.name} is not ours, or was changed"
            raise BrokerError(self._name, problem)
        return None if token == "-" else token  # noqa: S105 (no password)

    async def page(
        self,
        topic: str,
        policy: HistoryPolicy,
        since: Position | None,
        limit: int | None,
        reverse: bool,
    ) -> HistoryPage:
        """Read the history of a topic; see ``Broker.history``."""
        token, _ = await self.ensure(policy, 0)
        subject = self._subjects.stored(topic, token)
        try:
            info = await self._jetstream.stream_info(self.stream(token), subject)
        except Exception as error:
            self.forget(token)
            raise self._error(error) from None
        epoch = self._epoch(info) or ""
        last = info.state.last_seq
        kept = (info.state.subjects or {}).get(subject, 0)
        if since is not None:
            recovered = since.epoch == epoch and 0 <= since.offset <= last
            if recovered and not reverse and since.offset < last:
                complete = kept <= policy.length and (
                    policy.ttl is None or info.state.first_seq <= since.offset + 1
                )
                recovered = complete or await self._keeps(token, subject, since.offset)
            if not recovered:
                return HistoryPage((), epoch, last, False)
        if since is None or reverse:
            # One message too many may be kept.
            extra = max(0, kept - policy.length)
            count = None if limit is None or reverse else limit + extra
            found = (await self._read(token, subject, 1, count))[extra:]
        else:
            found = await self._read(token, subject, since.offset + 1, limit)
        if reverse:
            if since is not None:
                found = [each for each in found if each[0] < since.offset]
            found = found[::-1][:limit]
        try:
            messages: tuple[Envelope, ...] = tuple(
                decode(topic, data, offset, epoch) for offset, data in found
            )
        except ValueError as error:
            problem = f"something else is on our subjects: {error}"
            raise BrokerError(self._name, problem) from None
        newest = max((each[0] for each in found), default=0)
        return HistoryPage(messages, epoch, max(last, newest), True)

    async def _keeps(self, token: str, subject: str, offset: int) -> bool:
        """Tell whether a message of this topic with this offset or before is kept.

        What is forgotten is the oldest: so then nothing later is.
        """
        found = await self._read(token, subject, 1, 1)
        return bool(found) and found[0][0] <= offset

    async def _read(
        self, token: str, subject: str, first: int, limit: int | None
    ) -> list[tuple[int, bytes]]:
        """Read the messages of a topic from an offset on."""
        found: list[tuple[int, bytes]] = []
        while True:
            batch = 1_000_000 if limit is None else limit - len(found)
            request = {
                "seq": first,
                "next_by_subj": subject,
                "batch": batch,
                "max_bytes": _PART,
            }
            headers = await self._read_batch(token, request, found)
            if headers["Status"] not in ("204", "404"):
                problem = f"the stream cannot be read, status {headers['Status']}"
                raise BrokerError(self._name, problem)
            pending = int(headers.get("Nats-Num-Pending", "0"))
            if not pending or not found or (limit is not None and len(found) >= limit):
                return found
            first = found[-1][0] + 1

    async def _read_batch(
        self,
        token: str,
        request: Mapping[str, Any],
        found: list[tuple[int, bytes]],
    ) -> Mapping[str, str]:
        """Read messages; return the headers of what ends them."""
        end = asyncio.get_running_loop().create_future()

        async def collect(message: Msg) -> None:
            if "Status" in (message.headers or {}):
                settle(end, message.headers)
            else:
                found.append((sequence(message), message.data))

        inbox = self._client.new_inbox()
        try:
            subscription = await self._client.subscribe(inbox, cb=collect)
            try:
                api = f"$JS.API.DIRECT.GET.{self.stream(token)}"
                body = json.dumps(request).encode()
                await self._client.publish(api, body, reply=inbox)
                async with asyncio.timeout(self._timeout):
                    headers: Mapping[str, str] = await end
            finally:
                with suppress(nats.errors.Error):  # closed
                    await subscription.unsubscribe()
        except Exception as error:
            raise self._error(error) from None
        return headers

    def _error(self, error: Exception) -> BrokerError:
        if isinstance(error, ServiceUnavailableError):
            problem = "JetStream does not answer; history and keys need nats-server -js"
            return BrokerUnavailable(self._name, problem, sent=False)
        if isinstance(error, APIError):
            return BrokerError(self._name, f"refused: {error.description}")
        # RuntimeError is what uvloop says of a connection that was just lost.
        lost = TimeoutError | nats.errors.Error | OSError | RuntimeError
        if isinstance(error, lost):
            problem = f"JetStream did not answer: {str(error) or 'timeout'}"
            return BrokerUnavailable(self._name, problem, sent=False)
        problem = f"JetStream answered something else: {error!r:.200}"
        return BrokerError(self._name, problem)
