"""From outside: commands that publish, hear and read topics, with no server in them."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

from .broker_errors import BrokerError
from .brokers import Broker, Envelope, HistoryPolicy, MemoryBroker, open_broker
from .exceptions import RoutesError
from .limits import check_limit
from .pubsub.attendance import Attendance
from .pubsub.names import ANY, REST, Filter, check_name
from .pubsub.presence_messages import MAX_INFO
from .pubsub.topics import BROKER_VARIABLE

__all__ = ["add_commands", "broker_url"]

# For how long a node counts that says no more, in seconds: longer than any wait.
_PRESENCE_TTL = 3600.0

# What would break a line, or tell a terminal to do something.
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f]")


class _Unreadable(RoutesError):
    """A message that is not what it was said to be."""


class _NoBroker(RoutesError):
    """There is no URL of a broker."""


def broker_url(options: argparse.Namespace) -> str | None:
    """Find the URL of the broker: the option, or else the environment."""
    return options.broker or os.environ.get(BROKER_VARIABLE) or None


def add_commands(commands: Any) -> None:
    """Add the commands to a parser's sub-commands."""
    publish = _add(commands, "publish", _publish, "publish a message to a topic")
    publish.add_argument("topic", help="the name of the topic")
    publish.add_argument("message", help="the message; - reads it from standard input")
    publish.add_argument(
        "--binary", action="store_true", help="it goes out as binary, not as text"
    )
    _add_policy(publish, required=False)

    subscribe = _add(commands, "subscribe", _subscribe, "print messages as they come")
    subscribe.add_argument(
        "filter", help="the name of a topic, or a filter with + and #"
    )
    subscribe.add_argument(
        "--count", type=_positive, metavar="N", help="end after N messages"
    )

    history = _add(commands, "history", _history, "print the history of a topic")
    history.add_argument("topic", help="the name of the topic")
    _add_policy(history, required=True)
    history.add_argument(
        "--last", type=_positive, metavar="N", help="only the newest N messages"
    )
    history.add_argument("--reverse", action="store_true", help="newest first")

    presence = _add(
        commands, "presence", _presence, "print the members of a topic, on all nodes"
    )
    presence.add_argument("topic", help="the name of the topic")
    presence.add_argument(
        "--wait",
        type=_seconds,
        default=4.0,
        metavar="SECONDS",
        help="how long to collect what nodes answer; they may take an eighth of their "
        "presence_ttl, if they were asked shortly before (default: 4)",
    )


def _add(
    commands: Any,
    name: str,
    function: Callable[[Broker, argparse.Namespace], Coroutine[Any, Any, None]],
    what: str,
) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(
        name, help=what, description=f"{what[0].upper()}{what[1:]}."
    )
    parser.set_defaults(function=_run, command=function)
    parser.add_argument(
        "--broker",
        metavar="URL",
        help=f"redis://…, nats://…; ${BROKER_VARIABLE} by default",
    )
    return parser


def _add_policy(parser: argparse.ArgumentParser, required: bool) -> None:
    what = "the topic's history=, as its router declares it"
    parser.add_argument(
        "--length", type=_positive, metavar="N", required=required, help=what
    )
    parser.add_argument(
        "--ttl", type=float, metavar="SECONDS", help="its ttl=, if there is one"
    )


def _positive(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and int(text) > 0):
        raise argparse.ArgumentTypeError(f"a number from 1 on, not {text!r}")
    return int(text)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
        check_limit("--wait", seconds, optional=False)
    except ValueError:
        problem = f"a positive number of seconds, not {text!r}"
        raise argparse.ArgumentTypeError(problem) from None
    return seconds


def _run(options: argparse.Namespace) -> int:
    url = broker_url(options)
    if url is None:
        problem = f"no broker: give --broker URL, or set {BROKER_VARIABLE}"
        raise _NoBroker(problem)
    broker = open_broker(url)
    if isinstance(broker, MemoryBroker):
        problem = "it is within one process; nobody outside hears it"
        raise BrokerError("memory://", problem)
    try:
        ended = asyncio.run(_until_signal(options.command(broker, options)))
    except BrokenPipeError:
        # Whoever read has had enough; nor is there anything left to flush.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    if ended or options.command is _subscribe:
        return 0
    _tell("interrupted")
    return 1


async def _until_signal(command: Coroutine[Any, Any, None]) -> bool:
    """Run a command; tell whether it ended, rather than being ended by a signal."""
    task = asyncio.create_task(command)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, task.cancel)
    await asyncio.wait([task])
    if task.cancelled():
        return False
    task.result()
    return True


@asynccontextmanager
async def _started(
    broker: Broker,
    receive: Callable[[Envelope], None],
    gap: Callable[[Any], None],
) -> AsyncIterator[None]:
    async with broker:
        await broker.start(receive, gap)
        yield


def _ignore(_: object) -> None:
    """Nothing is subscribed to."""


def _tell_gap(topic: object) -> None:
    _tell(f"messages of {topic} may be missing here: the broker was away")


def _policy(options: argparse.Namespace) -> HistoryPolicy | None:
    if options.length is None:
        return None
    return HistoryPolicy(options.length, options.ttl)


async def _publish(broker: Broker, options: argparse.Namespace) -> None:
    check_name(options.topic)
    if options.message == "-":
        data = sys.stdin.buffer.read()
    else:
        data = os.fsencode(options.message)
    if not options.binary:
        try:
            data.decode()
        except UnicodeDecodeError as error:
            raise _Unreadable(f"the message is no UTF-8: {error}; --binary?") from None
    envelope = Envelope(
        options.topic, data, not options.binary, None, uuid4().hex, time.time()
    )
    policy = _policy(options)
    async with _started(broker, _ignore, _ignore):
        await broker.publish(envelope, history=policy)


async def _subscribe(broker: Broker, options: argparse.Namespace) -> None:
    topic: str | Filter = options.filter
    if {ANY, REST} & {*options.filter}:
        topic = Filter(options.filter)
    else:
        check_name(topic)
    left = options.count
    ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def receive(envelope: Envelope) -> None:
        nonlocal left
        if ended.done():
            return
        try:
            _print(envelope.topic, envelope)
        except OSError as error:
            ended.set_exception(error)
            return
        if left is not None:
            left -= 1
            if not left:
                ended.set_result(None)

    async with _started(broker, receive, _tell_gap):
        await broker.subscribe(topic)
        _tell(f"subscribed to {topic}")
        await ended


async def _history(broker: Broker, options: argparse.Namespace) -> None:
    check_name(options.topic)
    policy = _policy(options)
    assert policy is not None
    newest_first = options.reverse or options.last is not None
    async with _started(broker, _ignore, _ignore):
        page = await broker.history(
            options.topic, policy, limit=options.last, reverse=newest_first
        )
    messages = page.messages
    for envelope in messages if newest_first == options.reverse else messages[::-1]:
        _print(str(envelope.offset), envelope)


async def _presence(broker: Broker, options: argparse.Namespace) -> None:
    check_name(options.topic)
    attendance = Attendance(_PRESENCE_TTL, MAX_INFO, _ignore)

    def receive(envelope: Envelope) -> None:
        attendance.receive(envelope.data)

    async with _started(broker, receive, _tell_gap):
        await attendance.start(broker)
        try:
            await asyncio.sleep(options.wait)
            members = attendance.presence.members(options.topic)
        finally:
            await attendance.stop()
    for member, infos in members.items():
        _print_line(member, json.dumps(infos, ensure_ascii=False))


def _print(label: str, envelope: Envelope) -> None:
    _print_line(label, envelope.data.decode(errors="backslashreplace"))


def _print_line(label: str, text: str) -> None:
    """Print one line, and see to it that it is one."""
    text = _CONTROL.sub(lambda found: repr(found[0])[1:-1], text)
    line = f"{label}\t{text}\n"
    sys.stdout.buffer.write(line.encode())
    sys.stdout.buffer.flush()


def _tell(what: str) -> None:
    sys.stderr.write(f"websockets-routes: {what}\n")
    sys.stderr.flush()
