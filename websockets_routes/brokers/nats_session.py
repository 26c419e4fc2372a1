"""One connection to NATS: what is to be done goes out in order, and is confirmed."""

from __future__ import annotations

import asyncio
import functools
import json
import re
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple, cast

import nats.errors
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from ..broker_errors import BrokerError, BrokerUnavailable
from ..pubsub.names import Filter
from .base import HistoryPolicy, Published
from .futures import fail, settle
from .inbox import Inbox
from .link import logger
from .nats_client import SteadyClient
from .nats_streams import KEYS, Streams, message_id, sequence
from .nats_subjects import Subjects, policy_token
from .wire import decode

__all__ = ["Publish", "Session", "Subscribe", "Unsubscribe"]

# What the engine says, before it confirms anything that was sent later. It names the
# number of a subscription if it allowed it before.
_REFUSED = re.compile(r'permissions violation for \w+ to "([^"]*)"( \(sid)?')

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


# What was sent, and the subject of a message or what became of a subscription.
_Sent = tuple[Publish, str] | tuple[Subscribe, Subscription]


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
        secure: Whether the connection has to be encrypted.
    """

    def __init__(
        self,
        name: str,
        subjects: Subjects,
        inbox: Inbox,
        memory: bool,
        timeout: float,
        secure: bool,
    ) -> None:
        self._name = name
        self._subjects = subjects
        self._inbox = inbox
        self._timeout = timeout
        self._client = SteadyClient(secure, inbox.drop)
        self.streams = Streams(name, self._client, subjects, memory, timeout)
        self._queue: deque[Publish | Subscribe | Unsubscribe] = deque()
        self._wake = asyncio.Event()
        self._lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        # Who waits for an answer, by number.
        self._answers: dict[str, Callable[[Msg | None], None]] = {}
        self._number = 0
        self._address = ""
        self._subscriptions: dict[str | Filter, Subscription] = {}
        # What was sent since a confirmation was asked for.
        self._sent: list[_Sent] = []
        # How often the engine refused a subject, in lower case, until that is told.
        self._refused: Counter[str] = Counter()
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
        except nats.errors.SecureConnWantedError:
            raise BrokerError(self._name, "it does not offer TLS") from None
        except nats.errors.Error as error:
            problem = str(error).removeprefix("nats: ")
            if not problem.startswith("'"):  # not its own words
                raise BrokerUnavailable(self._name, problem, sent=False) from None
            raise BrokerError(self._name, f"refused: {problem}") from None
        except OSError as error:
            problem = str(error) or type(error).__name__
            raise BrokerUnavailable(self._name, problem, sent=False) from None
        except (ImportError, ValueError) as error:
            raise BrokerError(self._name, f"cannot log in: {error}") from None

    async def run(self, ready: Callable[[], None]) -> None:
        """Restore what is heard, then do what is put, until the connection is lost.

        Raises:
            BrokerUnavailable: When it is lost.
        """
        wanted = dict(self._inbox.wanted)
        if wanted:
            self._inbox.hold()
        work = asyncio.create_task(self._work(wanted, ready))
        try:
            await asyncio.wait([work, self._lost], return_when="FIRST_COMPLETED")
        finally:
            work.cancel()
            # nats-py swallows that where it waits until it can write; not if closed.
            await self._client.close()
            await asyncio.wait([work])
            error = None if work.cancelled() else work.exception()
        # RuntimeError is what uvloop says of a connection that was just lost.
        if error and not isinstance(error, nats.errors.Error | OSError | RuntimeError):
            raise error
        problem = error or self._client.last_error or "the connection was lost"
        raise BrokerUnavailable(self._name, str(problem))

    async def close(self) -> None:
        """Disconnect; what is in flight fails."""
        self._inbox.held = None
        await self._client.close()
        for answer in tuple(self._answers.values()):
            answer(None)
        self._confirmed(self._sent, None)
        for task in self._queue:
            if isinstance(task, Publish):
                fail(task.future, self._unknown(sent=False))

    def put(self, task: Publish | Subscribe | Unsubscribe) -> None:
        """Do something after all that was put before."""
        self._queue.append(task)
        self._wake.set()

    # Sending

    async def _work(
        self,
        wanted: Mapping[str | Filter, asyncio.Future[None]],
        ready: Callable[[], None],
    ) -> None:
        for topic in wanted:
            await self._subscribe(topic)
        restored: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        await self._confirm(lambda answer: settle(restored, None))
        await restored
        heard = set()
        for topic, future in wanted.items():
            # It may have been given up since, and asked for again.
            if self._inbox.wanted.get(topic) is future:
                if self._subjects.interest(topic).lower() in self._refused:
                    self._refuse(topic)
                else:
                    heard.add(topic)
        self._refused.clear()
        ready()
        if wanted:
            self._inbox.release(heard)
        queue = self._queue
        while True:
            while queue and len(self._sent) < _BATCH:
                task = queue.popleft()
                if isinstance(task, Unsubscribe):
                    await self._unsubscribe(task.topic)
                elif isinstance(task, Subscribe):
                    self._sent.append((task, await self._subscribe(task.topic)))
                else:
                    await self._publish(task)
            if self._sent:
                sent, self._sent = self._sent, []
                await self._confirm(functools.partial(self._confirmed, sent))
            if not queue:
                self._wake.clear()
                await self._wake.wait()

    async def _publish(self, task: Publish) -> None:
        future = task.future
        try:
            if task.history is None and task.key is None:
                subject = self._subjects.plain(task.topic)
                await self._client.publish(subject, task.frame)
            else:
                subject = await self._store(task)
            self._sent.append((task, subject))
        except BrokerError as error:
            fail(future, error)
        except nats.errors.MaxPayloadError:
            limit = self._client.max_payload
            problem = f"the message is larger than its max_payload, {limit} bytes"
            fail(future, BrokerError(self._name, problem))
        except BaseException:
            # It is not in the queue any more, and not among what was sent.
            fail(future, self._unknown())
            raise

    async def _store(self, task: Publish) -> str:
        token, epoch = await self.streams.ensure(
            task.history, task.window if task.key is not None else 0
        )
        headers = {}
        if task.key is not None:
            headers["Nats-Msg-Id"] = message_id(task.topic, task.key)
        loop = asyncio.get_running_loop()
        timer = loop.call_later(self._timeout, self._expire, str(self._number + 1))
        address = self._expect(functools.partial(self._stored, task, epoch, timer))
        subject = self._subjects.stored(task.topic, token)
        await self._client.publish(
            subject, task.frame, reply=address, headers=headers or None
        )
        return subject

    def _expect(self, answer: Callable[[Msg | None], None]) -> str:
        self._number += 1
        self._answers[str(self._number)] = answer
        return f"{self._address}.{self._number}"

    def _expire(self, number: str) -> None:
        self._answers.pop(number)(None)

    async def _confirm(self, answer: Callable[[Msg | None], Any]) -> None:
        await self._client.publish(self._expect(answer))

    async def _answered(self, message: Msg) -> None:
        answer = self._answers.pop(message.subject.rpartition(".")[2], None)
        if answer is not None:  # and not too late
            answer(message)

    def _confirmed(self, sent: Iterable[_Sent], answer: Msg | None) -> None:
        refused: set[str] = set()
        for task, what in sent:
            if isinstance(task, Subscribe):
                not_allowed = self._is_refused(
                    self._subjects.interest(task.topic), refused
                )
                # It may have been given up since, and asked for again.
                if answer is None or self._subscriptions.get(task.topic) is not what:
                    continue
                if not_allowed:
                    self._refuse(task.topic)
                else:
                    self._inbox.confirm(task.topic)
            elif self._is_refused(cast(str, what), refused):
                fail(task.future, self._not_allowed())
            elif answer is None:
                fail(task.future, self._unknown())
            elif task.history is None and task.key is None:
                settle(task.future, Published())

    def _is_refused(self, subject: str, before: set[str]) -> bool:
        """Tell whether the engine refused what was sent.

        It may have refused more of what was sent later: that is left for then.

        Args:
            subject: The subject.
            before: What was refused of what was sent together, in lower case.
        """
        if not self._refused and not before:
            return False
        subject = subject.lower()
        if subject in self._refused:
            self._refused[subject] -= 1
            if not self._refused[subject]:
                del self._refused[subject]
            before.add(subject)
        return subject in before

    def _refuse(self, topic: str | Filter) -> None:
        self._inbox.refuse(topic, self._not_allowed())
        self.put(Unsubscribe(topic))

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

    def _unknown(self, sent: bool = True) -> BrokerUnavailable:
        problem = "it did not confirm the message"
        return BrokerUnavailable(self._name, problem, sent)

    # Hearing

    async def _subscribe(self, topic: str | Filter) -> Subscription:
        subscription = await self._client.subscribe(
            self._subjects.interest(topic),
            cb=functools.partial(self._heard, topic),
            # Beyond these nats-py drops. What hears never waits, so all that was
            # read is handed over before more is read.
            pending_msgs_limit=0,
            pending_bytes_limit=0,
        )
        self._subscriptions[topic] = subscription
        self._overlaps = self._overlaps or (
            len(self._subscriptions) > 1
            and any(isinstance(each, Filter) for each in self._subscriptions)
        )
        return subscription

    async def _unsubscribe(self, topic: str | Filter) -> None:
        subscription = self._subscriptions.pop(topic, None)
        if subscription is not None:
            await subscription.unsubscribe()

    async def _heard(self, interest: str | Filter, message: Msg) -> None:
        try:
            topic, epoch = self._subjects.topic(message.subject)
            offset = None
            if epoch is not None:
                offset = sequence(message)
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
            self._refused[refused[1]] += 1
            if refused[2]:
                # Begin anew: then it is found out what is heard and what is not.
                settle(self._lost, None)
        # Whoever waits is told, and so is the end of the connection.
        logger.debug("broker %s: %s", self._name, error)

    async def _closed(self) -> None:
        settle(self._lost, None)
