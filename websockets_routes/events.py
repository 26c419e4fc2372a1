"""Events: what a class or a function declares to be called with.

Whatever its shape, each event becomes one callable ``f(ws, payload, opcode)``, or
``f(ws)`` and ``f(ws, code, reason)`` for the first and the last.
"""

from __future__ import annotations

from collections.abc import Callable
from difflib import get_close_matches
from typing import Any, NamedTuple

from .arity import implicit_arguments, takes, yields
from .exceptions import EndpointError
from .opcodes import OpCode

__all__ = [
    "EVENTS",
    "Events",
    "callback_events",
    "check_event_class",
    "instance_events",
]

#: The methods of an event class, and what they are called with.
EVENTS = {
    "on_open": ("ws",),
    "on_message": ("ws", "message", "opcode"),
    "on_text": ("ws", "text"),
    "on_binary": ("ws", "data"),
    "on_ping": ("ws", "data"),
    "on_pong": ("ws", "data"),
    "on_drain": ("ws",),
    "on_close": ("ws", "code", "reason"),
}

#: Called with the connection, a payload and an opcode.
Event = Callable[[Any, Any, OpCode], Any]


class Events(NamedTuple):
    """What to call when, for one connection; None for what is not heard."""

    open: Callable[[Any], Any] | None = None
    text: Event | None = None
    binary: Event | None = None
    ping: Event | None = None
    pong: Event | None = None
    drain: Event | None = None
    close: Callable[[Any, int, str], Any] | None = None


def check_event_class(target: type, name: str) -> bool:
    """Tell whether a class is an event class; check it if it is.

    Raises:
        EndpointError: If an event cannot be called, or seems misspelt.
    """
    declared = [event for event in EVENTS if hasattr(target, event)]
    for attribute in dir(target):
        if attribute.startswith("on_") and attribute not in EVENTS:
            near = get_close_matches(attribute, EVENTS, n=1, cutoff=0.8)
            if near:
                raise EndpointError(
                    name, f"{attribute} is no event; did you mean {near[0]}?"
                )
    if not declared:
        return False
    if hasattr(target, "handle"):
        raise EndpointError(
            name, f"the class has both handle and {declared[0]}; choose one"
        )
    if "on_message" in declared and {"on_text", "on_binary"} & set(declared):
        raise EndpointError(
            name, "on_message hears text and binary messages; drop it or the others"
        )
    for event in declared:
        arguments = EVENTS[event]
        method = getattr(target, event)
        implicit = implicit_arguments(target, event)
        if not callable(method) or not takes(method, len(arguments), implicit):
            raise EndpointError(
                name, f"{event} must be a method that takes ({', '.join(arguments)})"
            )
        if yields(method):
            raise EndpointError(name, f"{event} must not yield")
    return True


def instance_events(instance: Any) -> Events:
    """Bind the events of an instance of an event class."""
    message = getattr(instance, "on_message", None)
    return Events(
        getattr(instance, "on_open", None),
        message or _without_opcode(getattr(instance, "on_text", None)),
        message or _without_opcode(getattr(instance, "on_binary", None)),
        _without_opcode(getattr(instance, "on_ping", None)),
        _without_opcode(getattr(instance, "on_pong", None)),
        _without_payload(getattr(instance, "on_drain", None)),
        getattr(instance, "on_close", None),
    )


def _without_opcode(event: Callable[[Any, Any], Any] | None) -> Event | None:
    if event is None:
        return None
    return lambda ws, payload, opcode: event(ws, payload)


def _without_payload(event: Callable[[Any], Any] | None) -> Event | None:
    if event is None:
        return None
    return lambda ws, payload, opcode: event(ws)


def callback_events(callback: Callable[[Any, OpCode, Any], Any]) -> Events:
    """Bind the events of an opcode callback ``f(ws, opcode, payload)``."""

    def message(ws: Any, payload: Any, opcode: OpCode) -> Any:
        return callback(ws, opcode, payload)

    return Events(
        open=lambda ws: callback(ws, OpCode.OPEN, b""),
        text=message,
        binary=message,
        ping=message,
        pong=message,
        close=lambda ws, code, reason: callback(ws, OpCode.CLOSE, b""),
    )
