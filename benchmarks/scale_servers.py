"""The workers that share an engine: ours, those of peers, and one made by hand.

Each has two kinds of paths. Who connects to ``/subscribe/ROOM`` hears the room, and
whatever it sends is answered with ``READY`` once it does. What is sent to
``/publish/ROOM`` is published there, by all workers alike from the coroutine that
receives it. A message carries the times of its publish, and, by hand, of its arrival.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import Any

import nats
import uvicorn
from broadcaster import Broadcast
from channels_redis.core import RedisChannelLayer
from channels_redis.pubsub import RedisPubSubChannelLayer
from redis.asyncio import Redis
from websockets.asyncio.server import ServerConnection, broadcast, serve

import websockets_routes
from websockets_routes import Router, Topics

from .fanout_servers import FanoutServer, run_on, serve_forever
from .server_process import HOST

__all__ = [
    "BROADCASTER",
    "BY_HAND",
    "CONSUMER",
    "DIGITS",
    "LAYER",
    "NATS_SERVERS",
    "OURS",
    "PUBSUB_LAYER",
    "READY",
    "REDIS_SERVERS",
    "WorkerKind",
    "start_worker",
]

READY = "ready"

#: Digits of a time in nanoseconds. A message begins with two of them, the publish and
#: the arrival, with a space behind each.
DIGITS = 19

#: Serves until the process is killed: the engine's URL, the event loop, whom to tell
#: the port.
WorkerKind = Callable[[str, str, Callable[[int], None]], None]

Ready = Callable[[int], None]
Handler = Callable[[ServerConnection], Awaitable[None]]

_OPTIONS: dict[str, Any] = {"compression": None, "ping_interval": None}

# redis-py 8 gives up a read after 5 seconds by default, and with it the peers that wait
# for a message that long: their users have to know that.
_PATIENT = "socket_timeout=3600"


def start_worker(kind: WorkerKind, url: str, loop: str) -> FanoutServer:
    """Start a worker in a process of its own, on the core of the workers."""
    return FanoutServer(partial(_run, kind, url), loop, False)


def _run(kind: WorkerKind, url: str, loop: str, deflate: bool, ready: Ready) -> None:
    kind(url, loop, ready)


def published(message: str | bytes) -> str:
    """Put the time of the publish into a message."""
    assert isinstance(message, str)
    return f"{time.monotonic_ns():0{DIGITS}d}{message[DIGITS:]}"


def arrived(message: bytes) -> str:
    """Put the time of its arrival from the engine into a message."""
    now = time.monotonic_ns()
    text = message.decode()
    return f"{text[: DIGITS + 1]}{now:0{DIGITS}d}{text[2 * DIGITS + 1 :]}"


def parse(path: str) -> tuple[str, str]:
    """Split a path into what to do and the room."""
    _, what, room = path.split("/")
    return what, room


def room_of(ws: ServerConnection) -> tuple[str, str]:
    assert ws.request is not None
    return parse(ws.request.path)


async def answer(ws: ServerConnection) -> None:
    async for _ in ws:
        await ws.send(READY)


@asynccontextmanager
async def background(coroutine: Any) -> AsyncIterator[None]:
    task = asyncio.create_task(coroutine)
    try:
        yield
    finally:
        task.cancel()


# Ours


def serve_ours(url: str, loop: str, ready: Ready) -> None:
    router = Router(topics=Topics(url))

    @router.route("/subscribe/{room}", subscribe="{room}")
    async def subscribe(ws: websockets_routes.Protocol) -> None:
        await answer(ws)

    @router.route("/publish/{room}")
    async def publish(ws: websockets_routes.Protocol) -> None:
        room = ws.path.params["room"]
        async for message in ws:
            router.publish(room, published(message))

    async def main() -> None:
        await serve_forever(router.serve(HOST, 0, **_OPTIONS), ready)

    run_on(loop, main)


# By hand


def serve_plain(
    loop: str, ready: Ready, connect: Callable[[], Awaitable[Handler]]
) -> None:
    """Serve with ``websockets``; the engine is connected to on its event loop."""

    async def main() -> None:
        await serve_forever(serve(await connect(), HOST, 0, **_OPTIONS), ready)

    run_on(loop, main)


def serve_by_hand(
    loop: str,
    ready: Ready,
    connect: Callable[
        [Callable[[str, bytes], None]], Awaitable[Callable[[str, str], Awaitable[Any]]]
    ],
) -> None:
    """Serve what one writes oneself: a client of the engine, and ``broadcast()``."""
    rooms: dict[str, set[ServerConnection]] = defaultdict(set)

    def hear(room: str, message: bytes) -> None:
        broadcast(rooms[room], arrived(message))

    async def connected() -> Handler:
        publish = await connect(hear)

        async def handler(ws: ServerConnection) -> None:
            what, room = room_of(ws)
            if what == "publish":
                async for message in ws:
                    await publish(room, published(message))
                return
            rooms[room].add(ws)
            try:
                await answer(ws)
            finally:
                rooms[room].discard(ws)

        return handler

    serve_plain(loop, ready, connected)


def serve_redis_by_hand(url: str, loop: str, ready: Ready) -> None:
    tasks: set[asyncio.Task[None]] = set()

    async def connect(
        hear: Callable[[str, bytes], None],
    ) -> Callable[[str, str], Awaitable[Any]]:
        redis = Redis.from_url(url, socket_timeout=None)
        pubsub = redis.pubsub()
        await pubsub.psubscribe("hand:*")

        async def listen() -> None:
            async for message in pubsub.listen():
                if message["type"] == "pmessage":
                    hear(message["channel"].decode().partition(":")[2], message["data"])

        tasks.add(asyncio.create_task(listen()))

        async def publish(room: str, message: str) -> None:
            await redis.publish(f"hand:{room}", message)

        return publish

    serve_by_hand(loop, ready, connect)


def serve_nats_by_hand(url: str, loop: str, ready: Ready) -> None:
    async def connect(
        hear: Callable[[str, bytes], None],
    ) -> Callable[[str, str], Awaitable[Any]]:
        client = await nats.connect(url)

        async def heard(message: Any) -> None:
            hear(message.subject.partition(".")[2], message.data)

        await client.subscribe("hand.*", cb=heard)
        await client.flush()

        async def publish(room: str, message: str) -> None:
            await client.publish(f"hand.{room}", message.encode())

        return publish

    serve_by_hand(loop, ready, connect)


# Peers


def serve_layer(kind: str, url: str, loop: str, ready: Ready) -> None:
    """Serve with a channel layer and nothing else of ``channels``."""

    async def connect() -> Handler:
        layer = LAYERS[kind](hosts=[f"{url}?{_PATIENT}"])

        async def forward(ws: ServerConnection, channel: str) -> None:
            while True:
                message = await layer.receive(channel)
                await ws.send(message["text"])

        async def handler(ws: ServerConnection) -> None:
            what, room = room_of(ws)
            if what == "publish":
                async for message in ws:
                    text = published(message)
                    await layer.group_send(room, {"type": "message", "text": text})
                return
            channel = await layer.new_channel()
            await layer.group_add(room, channel)
            async with background(forward(ws, channel)):
                await answer(ws)
            await layer.group_discard(room, channel)

        return handler

    serve_plain(loop, ready, connect)


def serve_consumer(url: str, loop: str, ready: Ready) -> None:
    """Serve as the tutorial of ``channels`` does: a consumer, on uvicorn."""
    from django.conf import settings

    backend = {"BACKEND": "channels_redis.core.RedisChannelLayer"}
    hosts = [f"{url}?{_PATIENT}"]
    config = {"CONFIG": {"hosts": hosts, "prefix": "consumer"}}
    settings.configure(CHANNEL_LAYERS={"default": backend | config})
    from channels.generic.websocket import AsyncWebsocketConsumer

    class Chat(AsyncWebsocketConsumer):  # type: ignore[misc]
        async def connect(self) -> None:
            self.what, self.room = parse(self.scope["path"])
            if self.what == "subscribe":
                await self.channel_layer.group_add(self.room, self.channel_name)
            await self.accept()

        async def disconnect(self, code: int) -> None:
            if self.what == "subscribe":
                await self.channel_layer.group_discard(self.room, self.channel_name)

        async def receive(
            self, text_data: str | None = None, bytes_data: bytes | None = None
        ) -> None:
            if self.what == "subscribe":
                await self.send(text_data=READY)
                return
            assert text_data is not None
            text = published(text_data)
            event = {"type": "chat.message", "text": text}
            await self.channel_layer.group_send(self.room, event)

        async def chat_message(self, event: dict[str, str]) -> None:
            await self.send(text_data=event["text"])

    server = uvicorn.Config(
        Chat.as_asgi(),
        log_level="warning",
        lifespan="off",
        ws_ping_interval=None,
        ws_per_message_deflate=False,
    )

    async def main() -> None:
        with socket.create_server((HOST, 0), backlog=server.backlog) as listener:
            ready(listener.getsockname()[1])
            await uvicorn.Server(server).serve(sockets=[listener])

    run_on(loop, main)


def serve_broadcaster(url: str, loop: str, ready: Ready) -> None:
    stack = AsyncExitStack()

    async def connect() -> Handler:
        shared = Broadcast(f"{url}?{_PATIENT}")
        await shared.connect()
        # With redis-py 8, broadcaster 0.3.1 begins to listen before its first
        # subscription is there, and stops at once. The next one wakes it up.
        await stack.enter_async_context(shared.subscribe("first"))

        async def forward(ws: ServerConnection, subscriber: Any) -> None:
            async for event in subscriber:
                await ws.send(event.message)

        async def handler(ws: ServerConnection) -> None:
            what, room = room_of(ws)
            if what == "publish":
                async for message in ws:
                    await shared.publish(f"broadcaster:{room}", published(message))
                return
            async with (
                shared.subscribe(f"broadcaster:{room}") as subscriber,
                background(forward(ws, subscriber)),
            ):
                await answer(ws)

        return handler

    serve_plain(loop, ready, connect)


OURS, BY_HAND = "ours", "by hand"
LAYER, PUBSUB_LAYER = "channels_redis", "channels_redis, pubsub"
CONSUMER, BROADCASTER = "channels_redis, a consumer", "broadcaster"

LAYERS: dict[str, Callable[..., Any]] = {
    LAYER: RedisChannelLayer,
    PUBSUB_LAYER: RedisPubSubChannelLayer,
}

REDIS_SERVERS: dict[str, WorkerKind] = {
    OURS: serve_ours,
    BY_HAND: serve_redis_by_hand,
    LAYER: partial(serve_layer, LAYER),
    PUBSUB_LAYER: partial(serve_layer, PUBSUB_LAYER),
    CONSUMER: serve_consumer,
    BROADCASTER: serve_broadcaster,
}

NATS_SERVERS: dict[str, WorkerKind] = {OURS: serve_ours, BY_HAND: serve_nats_by_hand}
