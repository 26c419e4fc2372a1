"""Events: which classes and functions declare them, and what they are bound to."""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

from websockets_routes import EndpointError, OpCode, Router
from websockets_routes.endpoint import Endpoint
from websockets_routes.events import (
    EVENTS,
    Events,
    callback_events,
    check_event_class,
    instance_events,
)

WS = object()


def plain(self: object, *arguments: object) -> None: ...


async def coroutine(self: object, *arguments: object) -> None: ...


def no_arguments(self: object) -> None: ...


def five(self: object, ws: Any, one: Any, two: Any, three: Any) -> None: ...


def keyword_needed(self: object, *arguments: Any, flag: bool) -> None: ...


def generator(self: object, *arguments: object) -> Iterator[int]:
    yield 1


async def async_generator(self: object, *arguments: object) -> AsyncIterator[int]:
    yield 1


def make(**attributes: object) -> type:
    return type("Thing", (), attributes)


# Declaring


@pytest.mark.parametrize("event", EVENTS)
@pytest.mark.parametrize("method", [plain, coroutine])
def test_a_class_with_an_event_is_an_event_class(
    event: str, method: Callable[..., Any]
) -> None:
    assert check_event_class(make(**{event: method}), "here:Thing")
    Endpoint(make(**{event: method}))


def test_a_class_without_an_event_is_none() -> None:
    assert not check_event_class(make(handle=coroutine, only=plain), "here:Thing")


def test_events_may_be_inherited_static_or_callables() -> None:
    class Base:
        def on_open(self, ws: Any) -> None: ...

    class Child(Base):
        @staticmethod
        def on_text(ws: Any, text: str) -> None: ...

        @classmethod
        def on_binary(cls, ws: Any, data: bytes) -> None: ...

        on_close = functools.partial(lambda ws, code, reason: None)

    Endpoint(Child)


def test_text_and_binary_may_be_heard_together_or_alone() -> None:
    for events in (["on_text"], ["on_binary"], ["on_text", "on_binary"]):
        Endpoint(make(**dict.fromkeys(events, plain)))


@pytest.mark.parametrize(
    "attribute", ["on_the_air", "on_duty", "onset", "mesage", "message"]
)
def test_a_name_that_is_like_no_event_is_left_alone(attribute: str) -> None:
    Endpoint(make(**{"on_open": plain, attribute: None}))


@pytest.mark.parametrize(
    ("attribute", "event"),
    [
        ("on_mesage", "on_message"),
        ("on_messages", "on_message"),
        ("on_opened", "on_open"),
        ("on_closed", "on_close"),
        ("on_txt", "on_text"),
    ],
)
@pytest.mark.parametrize("others", [{}, {"on_open": plain}, {"handle": coroutine}])
def test_a_misspelt_event_is_refused(
    attribute: str, event: str, others: dict[str, Any]
) -> None:
    with pytest.raises(EndpointError, match=rf"{attribute} is no event.*{event}\?"):
        Endpoint(make(**{attribute: plain}, **others))


@pytest.mark.parametrize("other", ["on_text", "on_binary"])
def test_on_message_stands_alone(other: str) -> None:
    with pytest.raises(EndpointError, match="on_message hears text and binary"):
        Endpoint(make(**{"on_message": plain, other: plain}))


@pytest.mark.parametrize("event", EVENTS)
def test_handle_and_events_exclude_each_other(event: str) -> None:
    with pytest.raises(EndpointError, match=f"both handle and {event}"):
        Endpoint(make(**{"handle": coroutine, event: plain}))


@pytest.mark.parametrize("event", EVENTS)
@pytest.mark.parametrize("method", [no_arguments, five, keyword_needed, None, "text"])
def test_an_event_with_other_arguments_is_refused(event: str, method: object) -> None:
    with pytest.raises(EndpointError) as raised:
        Endpoint(make(**{event: method}))
    assert raised.value.problem == (
        f"{event} must be a method that takes ({', '.join(EVENTS[event])})"
    )


@pytest.mark.parametrize("event", EVENTS)
@pytest.mark.parametrize("method", [generator, async_generator])
def test_an_event_that_yields_is_refused(
    event: str, method: Callable[..., Any]
) -> None:
    with pytest.raises(EndpointError, match=f"{event} must not yield"):
        Endpoint(make(**{event: method}))


def test_an_error_names_the_class() -> None:
    class Room:
        def on_mesage(self) -> None: ...

    with pytest.raises(EndpointError, match=r"endpoint tests\.test_events:.*Room: "):
        Router().route("/")(Room)


# Opcode callbacks


async def callback(ws: Any, opcode: Any, payload: Any) -> None: ...


@pytest.mark.parametrize(
    "function",
    [
        callback,
        lambda ws, opcode, payload: None,
        lambda *arguments: None,
        functools.partial(lambda one, ws, opcode, payload: None, 1),
    ],
)
def test_a_function_of_three_arguments_is_an_opcode_callback(
    function: Callable[..., Any],
) -> None:
    assert Router().websocket("/")(function) is function


@pytest.mark.parametrize(
    ("target", "problem"),
    [
        (lambda ws: None, "must be a function that takes"),
        (lambda ws, path: None, "must be a function that takes"),
        (lambda ws, opcode, payload, more: None, "must be a function that takes"),
        (make(on_open=plain), "must be a function that takes"),
        (generator, "must not yield"),
        (async_generator, "must not yield"),
        ("text", "must be a function or a class"),
    ],
)
def test_anything_else_is_no_opcode_callback(target: Any, problem: str) -> None:
    with pytest.raises(EndpointError, match=problem):
        Router().websocket("/")(target)


# Binding


def test_what_is_not_declared_is_not_heard() -> None:
    assert instance_events(make()()) == Events()


def test_the_events_of_an_instance_get_what_they_are_declared_with() -> None:
    calls: list[tuple[Any, ...]] = []

    def method(event: str) -> Callable[..., None]:
        return lambda self, *arguments: calls.append((event, *arguments))

    split = [event for event in EVENTS if event != "on_message"]
    events = instance_events(make(**{event: method(event) for event in split})())
    bound: list[tuple[Any, ...]] = [
        (events.open, WS),
        (events.text, WS, "a", OpCode.TEXT),
        (events.binary, WS, b"b", OpCode.BINARY),
        (events.ping, WS, b"c", OpCode.PING),
        (events.pong, WS, b"d", OpCode.PONG),
        (events.drain, WS, b"", OpCode.PONG),
        (events.close, WS, 1000, ""),
    ]
    for heard, *arguments in bound:
        heard(*arguments)
    assert calls == [
        ("on_open", WS),
        ("on_text", WS, "a"),
        ("on_binary", WS, b"b"),
        ("on_ping", WS, b"c"),
        ("on_pong", WS, b"d"),
        ("on_drain", WS),
        ("on_close", WS, 1000, ""),
    ]


def test_on_message_hears_both_kinds_without_a_call_between() -> None:
    instance = make(on_message=plain)()
    events = instance_events(instance)
    assert events.text == events.binary == instance.on_message


def test_an_opcode_callback_hears_all_but_drain() -> None:
    calls: list[tuple[Any, ...]] = []
    events = callback_events(lambda *arguments: calls.append(arguments))
    assert events.drain is None
    bound: list[tuple[Any, ...]] = [
        (events.open, WS),
        (events.text, WS, "a", OpCode.TEXT),
        (events.binary, WS, b"b", OpCode.BINARY),
        (events.ping, WS, b"c", OpCode.PING),
        (events.pong, WS, b"d", OpCode.PONG),
        (events.close, WS, 1000, "bye"),
    ]
    for heard, *arguments in bound:
        heard(*arguments)
    assert calls == [
        (WS, OpCode.OPEN, b""),
        (WS, OpCode.TEXT, "a"),
        (WS, OpCode.BINARY, b"b"),
        (WS, OpCode.PING, b"c"),
        (WS, OpCode.PONG, b"d"),
        (WS, OpCode.CLOSE, b""),
    ]
