"""One connection to NATS: what is to be done goes out in order, and is confirmed."""

from __future__ import annotations

import asyncio
import functools
import json
import re
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from ..broker_errors import BrokerError, BrokerUnavailable
from ..pubsub.names import Filter
from .base import HistoryPolicy, Published
from .futures import fail, settle
from .inbox import Inbox
from .link import logger
from .nats_streams import KEYS, Streams, message_id
from .nats_subjects import Subjects, policy_token
from .wire import decode

__all__ = ["Publish", "Session", "Subscribe", "Unsubscribe"]

# What the engine says, before it confirms anything that was sent later.
_REFUSED = re.compile(r'permissions violation for \w+ to "([^"]*)"')

# How many publishes one round trip confirms at most.
_BATCH = 1000

# How many messages are remembered that may come once more by another subscription.
_REMEMBERED = 16_384


class Publish(NamedTuple):
    """A message to be published."""

    topic: str
    frame: bytes
    history: HistoryPolicy | None
    key: str | None
    window: float
    future: asyncio.Future[Published]


class Subscribe(NamedTuple):
    """A topic or filter to be heard."""

    topic: str | Filter


class Unsubscribe(NamedTuple):
    """A topic or filter that is no longer wanted."""

    topic: str | Filter


class _Client(Client):
    """nats-py's, which always tells that it is closed.

    When it loses a connection while something waits to be written, it tries to write
    that, fails, and leaves it there: nobody is told, and its tasks go on for ever.
    """

    async def _close(self, status: int, do_cbs: bool = True) -> None:
        try:
            await super()._close(status, do_cbs)
        except (OSError, RuntimeError):  # the second one is uvloop's
            self._pending.clear()
            self._pending_data_size = 0
            self._status = Client.DISCONNECTED
            await super()._close(status, do_cbs)


class Session:
    """A connection, from its beginning to its end.

    NATS confirms nothing by itself. But it works off what a connection sends in
    order, so a message that the connection sends to itself confirms, when it is
    back, all that was sent before. (nats-py's ``flush`` does not: its ping overtakes
    what waits to be written.)

    Args:
        name: Which engine, for errors and the log.
        subjects: Names subjects.
        inbox: What is wanted, and where messages go.
        memory: See ``Streams``.
        timeout: See ``Streams``.
    """

    def __init__(
        self, name: str, subjects: Subjects, inbox: Inbox, memory: bool, timeout: float
    ) -> None:
        self._name = name
        self._subjects = subjects
        self._inbox = inbox
        self._timeout = timeout
        self._client = _Client()
        self.streams = Streams(name, self._client, subjects, memory, timeout)
        self._queue: deque[Publish | Subscribe | Unsubscribe] = deque()
        self._wake = asyncio.Event()
        self._lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        # Who waits for an answer, by number.
        self._answers: dict[int, Callable[[Msg | None], None]] = {}
        self._number = 0
        self._address = ""
        self._subscriptions: dict[str | Filter, Subscription] = {}
        # Subjects that the engine refused, in lower case, until they are confirmed.
        self._refused: set[str] = set()
        # Whether a message may come more than once, and which ones came lately.
        self._overlaps = False
        self._recent: dict[tuple[str, str, int | None], None] = {}

    async def connect(self, options: Mapping[str, Any]) -> None:
        """Connect and authenticate.

        Raises:
            BrokerUnavailable: If there is no engine.
            BrokerError: If it refuses.
        """
        client = self._client
        try:
            await client.connect(
                **options, error_cb=self._failed, closed_cb=self._closed
            )
            self._address = client.new_inbox()
            await client.subscribe(f"{self._address}.*", cb=self._answered)
        except nats.errors.NoServersError:
            problem = str(client.last_error or "there is no server")
            raise BrokerUnavailable(self._name, problem, sent=False) from None
        except nats.errors.Error as error:
            problem = str(error).removeprefix("nats: ")
            raise BrokerError(self._name, f"refused: {problem}") from None

    async def run(self, ready: Callable[[], None]) -> None:
        """Restore what is heard, then do what is put, until the connection is lost.

        Raises:
            BrokerUnavailable: When it is lost.
        """
        wanted = tuple(self._inbox.wanted)
        if wanted:
            self._inbox.hold()
        work = asyncio.create_task(self._work(wanted, ready))
        try:
            await asyncio.wait([work, self._lost], return_when="FIRST_COMPLETED")
            if not self._lost.done():
                await work
        except (nats.errors.Error, OSError, RuntimeError) as error:
            # RuntimeError is what uvloop says of a connection that was just lost.
            raise BrokerUnavailable(self._name, str(error)) from None
        finally:
            work.cancel()
            await asyncio.wait([work])
            _ = work.cancelled() or work.exception()
        raise BrokerUnavailable(
            self._name, str(self._client.last_error or "the connection was lost")
        )

    async def close(self) -> None:
        """Disconnect; what is in flight fails."""
        self._inbox.held = None
        await self._client.close()
        for answer in tuple(self._answers.values()):
            answer(None)
        for task in self._queue:
            if isinstance(task, Publish):
                fail(task.future, self._unknown(sent=False))

    def put(self, task: Publish | Subscribe | Unsubscribe) -> None:
        """Do something after all that was put before."""
        self._queue.append(task)
        self._wake.set()

    # Sending

    async def _work(
        self, wanted: tuple[str | Filter, ...], ready: Callable[[], None]
    ) -> None:
        for topic in wanted:
            await self._subscribe(topic)
        restored: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        await self._confirm(lambda answer: settle(restored, None))
        await restored
        ready()
        if wanted:
            self._inbox.release(set(wanted))
        queue = self._queue
        sent: list[Publish | tuple[Subscribe, Subscription]] = []
        while True:
            while queue and len(sent) < _BATCH:
                task = queue.popleft()
                if isinstance(task, Unsubscribe):
                    await self._unsubscribe(task.topic)
                elif isinstance(task, Subscribe):
                    sent.append((task, await self._subscribe(task.topic)))
                elif task.history is not None or task.key is not None:
                    await self._store(task)
                elif await self._publish(task):
                    sent.append(task)
            if sent:
                await self._confirm(functools.partial(self._confirmed, sent))
                sent = []
            if not queue:
                self._wake.clear()
                await self._wake.wait()

    async def _publish(self, task: Publish) -> bool:
        subject = self._subjects.plain(task.topic)
        try:
            await self._client.publish(subject, task.frame)
        except nats.errors.MaxPayloadError:
            fail(task.future, self._too_large())
            return False
        except BaseException:
            # It is not in the queue any more, and not among the answers yet.
            fail(task.future, self._unknown())
            raise
        return True

    async def _store(self, task: Publish) -> None:
        future = task.future
        try:
            token, epoch = await self.streams.ensure(
                task.history, task.window if task.key is not None else 0
            )
            headers = {}
            if task.key is not None:
                headers["Nats-Msg-Id"] = message_id(task.topic, task.key)
            loop = asyncio.get_running_loop()
            timer = loop.call_later(self._timeout, self._expire, self._number + 1)
            number = self._expect(functools.partial(self._stored, task, epoch, timer))
            await self._client.publish(
                self._subjects.stored(task.topic, token),
                task.frame,
                reply=f"{self._address}.{number}",
                headers=headers or None,
            )
        except BrokerError as error:
            fail(future, error)
        except nats.errors.MaxPayloadError:
            fail(future, self._too_large())
        except BaseException:
            fail(future, self._unknown())
            raise

    def _expect(self, answer: Callable[[Msg | None], None]) -> int:
        self._number += 1
        self._answers[self._number] = answer
        return self._number

    def _expire(self, number: int) -> None:
        answer = self._answers.pop(number, None)
        if answer is not None:
            answer(None)

    async def _confirm(self, answer: Callable[[Msg | None], Any]) -> None:
        await self._client.publish(f"{self._address}.{self._expect(answer)}")

    async def _answered(self, message: Msg) -> None:
        number = message.subject.rpartition(".")[2]
        answer = self._answers.pop(int(number), None) if number.isdigit() else None
        if answer is not None:
            answer(message)

    def _confirmed(
        self, sent: list[Publish | tuple[Subscribe, Subscription]], answer: Msg | None
    ) -> None:
        refused, self._refused = self._refused, set()
        for task in sent:
            if isinstance(task, Publish):
                if answer is None:
                    fail(task.future, self._unknown())
                elif refused and self._subjects.plain(task.topic).lower() in refused:
                    fail(task.future, self._not_allowed())
                else:
                    settle(task.future, Published())
            elif answer is not None:
                topic = task[0].topic
                # It may have been given up since, and asked for again.
                if self._subscriptions.get(topic) is not task[1]:
                    continue
                if refused and self._subjects.interest(topic).lower() in refused:
                    self._inbox.refuse(topic, self._not_allowed())
                    self.put(Unsubscribe(topic))
                else:
                    self._inbox.confirm(topic)

    def _stored(
        self,
        task: Publish,
        epoch: str | None,
        timer: asyncio.TimerHandle,
        answer: Msg | None,
    ) -> None:
        timer.cancel()
        future = task.future
        if future.done():
            return
        if answer is None:
            future.set_exception(self._unknown())
            return
        if (answer.headers or {}).get("Status") == "503":
            # There is no such stream any more.
            token = KEYS if task.history is None else policy_token(task.history)
            self.streams.forget(token)
            problem = "JetStream does not answer, or the stream was deleted"
            future.set_exception(BrokerUnavailable(self._name, problem, sent=False))
            return
        try:
            reply = json.loads(answer.data)
            if "error" in reply:
                problem = f"refused: {reply['error'].get('description')}"
                future.set_exception(BrokerError(self._name, problem))
                return
            duplicate = bool(reply.get("duplicate"))
            offset = None if task.history is None else int(reply["seq"])
        except (ValueError, TypeError, LookupError, AttributeError) as error:
            problem = f"JetStream answered something else: {error!r}"
            future.set_exception(BrokerError(self._name, problem))
            return
        future.set_result(Published(offset, epoch, duplicate))

    def _not_allowed(self) -> BrokerError:
        return BrokerError(self._name, "refused: permissions violation")

    def _too_large(self) -> BrokerError:
        limit = self._client.max_payload
        problem = f"the message is larger than its max_payload, {limit} bytes"
        return BrokerError(self._name, problem)

    def _unknown(self, sent: bool = True) -> BrokerUnavailable:
        problem = "it did not confirm the message"
        return BrokerUnavailable(self._name, problem, sent)

    # Hearing

    async def _subscribe(self, topic: str | Filter) -> Subscription:
        if topic not in self._subscriptions:
            self._subscriptions[topic] = await self._client.subscribe(
                self._subjects.interest(topic),
                cb=functools.partial(self._heard, topic),
                # Beyond these nats-py drops. What hears never waits, so all that
                # was read is handed over before more is read.
                pending_msgs_limit=0,
                pending_bytes_limit=0,
            )
            self._overlaps = self._overlaps or (
                len(self._subscriptions) > 1
                and any(isinstance(each, Filter) for each in self._subscriptions)
            )
        return self._subscriptions[topic]

    async def _unsubscribe(self, topic: str | Filter) -> None:
        subscription = self._subscriptions.pop(topic, None)
        if subscription is not None:
            await subscription.unsubscribe()

    async def _heard(self, interest: str | Filter, message: Msg) -> None:
        try:
            topic, epoch = self._subjects.topic(message.subject)
            offset = None
            if epoch is not None:
                offset = int((message.headers or {}).get("Nats-Sequence", ""))
            envelope = decode(topic, message.data, offset, epoch)
        except ValueError as error:
            self._inbox.drop(message.subject, error)
            return
        if isinstance(interest, Filter) and not interest.matches(topic):
            return  # what begins with a $
        if self._overlaps and self._repeats(topic, envelope.id, offset):
            return
        self._inbox.deliver(envelope)

    def _repeats(self, *name: Any) -> bool:
        """Tell whether a message came already, by another subscription."""
        recent = self._recent
        if name in recent:
            return True
        recent[name] = None
        if len(recent) > _REMEMBERED:
            del recent[next(iter(recent))]
        return False

    async def _failed(self, error: Exception) -> None:
        refused = _REFUSED.search(str(error).lower())
        if refused:
            self._refused.add(refused[1])
        # Whoever waits is told, and so is the end of the connection.
        logger.debug("broker %s: %s", self._name, error)

    async def _closed(self) -> None:
        settle(self._lost, None)
