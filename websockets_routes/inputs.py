"""Declared inputs: the headers and query parameters that a handler asks for."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar
from weakref import WeakSet

from websockets import Headers

from .converting import Convert, converter
from .exceptions import BadRequest, EndpointError
from .naming import endpoint_name, shortened
from .path import QueryParams
from .tokens import TOKEN

__all__ = ["Input", "header", "inputs_of", "param", "read_inputs", "settle_inputs"]

# Handlers that have routes.
_settled: WeakSet[Any] = WeakSet()

H = TypeVar("H", bound=Callable[..., Any])
Source = Literal["header", "query"]


@dataclass(frozen=True, slots=True)
class Input:
    """A header or query parameter that a handler asks for; its str names it.

    Attributes:
        source: Where it is looked for.
        name: Its name as it was declared, and its key among the values.
        convert: Makes a value of its text; raises ValueError if it cannot.
        type_name: What the value must be, in words for a client to read.
        required: Whether a handshake without it is refused.
        default: Its value where it is missing; None if there is none.
        has_default: Whether a default was declared.
    """

    source: Source
    name: str
    convert: Convert
    type_name: str
    required: bool
    default: Any
    has_default: bool
    description: str

    def __str__(self) -> str:
        return _label(self.source, self.name)

    def describe(self) -> str:
        """Describe it as a table of inputs would."""
        text = f"{self}: {self.type_name}"
        if self.required:
            text += ", required"
        elif self.has_default:
            text += f", {self.default!r} by default"
        return f"{text}; {self.description}" if self.description else text


def header(
    name: str,
    *,
    type: Convert = str,  # noqa: A002
    default: Any = ...,
    required: bool = False,
    description: str = "",
) -> Callable[[H], H]:
    """Declare a header that a handler, function or class, asks for.

    What a class declares, its subclasses have too; they may declare it anew.

    Args:
        name: Its name; upper and lower case are the same.
        type: str, int, float, bool (1/0, true/false, yes/no, on/off), an Enum (by
            value, else by name), or a callable that makes a value of a str and
            raises ValueError if it cannot.
        default: The value where it is missing, one object for all connections;
            without a default it is None.
        required: Whether a handshake without it is refused.

    Raises:
        EndpointError: If it cannot be declared so, or is declared already.
    """
    return _declaring("header", name, type, default, required, description)


def param(
    name: str,
    *,
    type: Convert = str,  # noqa: A002
    default: Any = ...,
    required: bool = False,
    description: str = "",
) -> Callable[[H], H]:
    """Declare a query parameter that a handler asks for, like :func:`header`.

    Upper and lower case are not the same; of a repeated one, the first counts.
    """
    return _declaring("query", name, type, default, required, description)


def settle_inputs(target: object) -> None:
    """Have what is declared on a handler from now on refused.

    Decorators are applied from the bottom to the top: what stands above that of the
    route would be passed over in silence.
    """
    if inspect.isfunction(target) or inspect.isclass(target):
        _settled.add(target)


def inputs_of(target: object, methods: Iterable[str] = ()) -> tuple[Input, ...]:
    """List what a handler asks for: inherited first, in the order of the source.

    Args:
        target: The handler.
        methods: Methods that may declare inputs too, if it is a class.

    Raises:
        EndpointError: If it has a header and a query parameter of one name.
    """
    layers = list(_layers(target))
    if inspect.isclass(target):
        layers[:0] = [getattr(target, name, None) for name in methods]
    return _merged(target, map(_own, layers))


def read_inputs(
    inputs: Sequence[Input], headers: Headers, query: QueryParams
) -> dict[str, Any]:
    """Read the values of declared inputs, by their names, in their order.

    Raises:
        BadRequest: If any is missing, repeated or wrong; it tells of all of them.
    """
    values: dict[str, Any] = {}
    problems = []
    for each in inputs:
        if each.source == "header":
            found = headers.get_all(each.name)
        else:
            found = query.get_all(each.name)[:1]
        if len(found) > 1:
            problems.append(f"{each} must not be repeated")
        elif found:
            try:
                values[each.name] = each.convert(found[0])
            except ValueError:
                shown = shortened(repr(found[0]), 40)
                problems.append(f"{each} must be {each.type_name}, not {shown}")
        elif each.required:
            problems.append(f"{each} is required")
        else:
            values[each.name] = each.default
    if problems:
        raise BadRequest("; ".join(problems))
    return values


def _declaring(
    source: Source, name: str, kind: Convert, default: Any, required: bool, about: str
) -> Callable[[H], H]:
    label = _label(source, name)
    if not isinstance(name, str) or not name:
        raise EndpointError(label, "its name must be a str, and not empty")
    if source == "header" and not TOKEN.fullmatch(name):
        raise EndpointError(label, "no header may have this name")
    has_default = default is not ...
    if required and has_default:
        raise EndpointError(label, "what is required has no use for a default")
    try:
        convert, kind_name = converter(kind)
    except ValueError as error:
        raise EndpointError(label, str(error)) from None
    value = default if has_default else None
    new = Input(source, name, convert, kind_name, required, value, has_default, about)

    def declare(target: H) -> H:
        if target in _settled:
            problem = f"{new} comes too late; declare inputs below the route"
            raise EndpointError(endpoint_name(target), problem)
        own, *inherited = map(_own, _layers(target))
        if _key(new) in map(_key, own):
            raise EndpointError(endpoint_name(target), f"{new} is declared twice")
        own = (new, *own)  # decorators are applied from the bottom to the top
        _merged(target, [own, *inherited])
        try:
            target.__inputs__ = own  # type: ignore[attr-defined]
        except (AttributeError, TypeError):
            problem = "inputs are declared on a function or class"
            raise EndpointError(endpoint_name(target), problem) from None
        return target

    return declare


def _label(source: Source, name: object) -> str:
    return f"{'header' if source == 'header' else 'query parameter'} {name!r}"


def _key(each: Input) -> tuple[Source, str]:
    return each.source, each.name.lower() if each.source == "header" else each.name


def _layers(target: Any) -> Sequence[object]:
    """List what may declare inputs of a handler, the nearest first."""
    if inspect.isclass(target):
        return target.__mro__
    if isinstance(target, functools.partial):
        return [target, *_layers(target.func)]
    return [target, *type(target).__mro__]


def _own(layer: object) -> tuple[Input, ...]:
    own: tuple[Input, ...] = getattr(layer, "__dict__", {}).get("__inputs__", ())
    return own


def _merged(target: object, layers: Iterable[tuple[Input, ...]]) -> tuple[Input, ...]:
    # What is declared anew keeps its place, as a field of a dataclass does.
    merged = {_key(each): each for own in reversed(list(layers)) for each in own}
    if len({each.name for each in merged.values()}) < len(merged):
        problem = "a header and a query parameter of one name would be one value"
        raise EndpointError(endpoint_name(target), problem)
    return tuple(merged.values())
