"""Templates: the paths that a route stands for, to be matched and to be built."""

from __future__ import annotations

import re
import urllib.parse
from collections.abc import Callable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from enum import IntEnum
from itertools import product
from typing import Any, NamedTuple

from .exceptions import BuildError, TemplateError
from .grammar import Kind, Literal, Parameter, Part, parse_template
from .pattern import may_span_segments
from .target import ENCODED_SLASH, UNFIT

__all__ = ["Form", "Rank", "Template"]

# Each optional component triples the forms of a template.
_MAX_OPTIONAL = 4

# RFC 3986 section 3.3: what may stand in a segment of a path as it is.
_SAFE = "~!$&'()*+,;=:@-._"
_DOT_SEGMENTS = ((Literal("."),), (Literal(".."),))
_SPANNING = frozenset({Kind.WILDCARD, Kind.COMPONENTS, Kind.REST})


class Rank(IntEnum):
    """How specific one segment of a template is; the least wins."""

    LITERAL = 0
    LITERAL_WITH_PARAMETER = 1
    CONSTRAINED = 2
    PARAMETER = 3
    LITERAL_WITH_WILDCARD = 4
    WILDCARD = 5


class Form(NamedTuple):
    """A template with each optional component either there or left out.

    Attributes:
        segments: The parts of each segment; those of a literal are empty or one.
        tail: Index of the first segment that may span several segments of a
            path, so that it has to be matched together with those after it.
        ranks: How specific each segment is.
        left_out: The names of the optional components that are missing.
    """

    segments: tuple[tuple[Part, ...], ...]
    tail: int | None
    ranks: tuple[Rank, ...]
    left_out: tuple[str, ...]

    @property
    def specificity(self) -> tuple[int, ...]:
        """The ranks, to be compared with those of another form: the least wins.

        Where a segment may span several, a form that goes on says more about a
        path than one that ends there.
        """
        return (*self.ranks, -1 if self.tail is None else len(Rank))


class Template:
    """A URL template, parsed and checked.

    Args:
        text: The template.
        requirements: Regexes by parameter name.
        defaults: Params that the template adds: for a name that is no parameter
            always, for an optional one that is missing in its place.

    Raises:
        TemplateError: If the template cannot work; says what is wrong, and where.
    """

    def __init__(
        self,
        text: str,
        requirements: Mapping[str, str] | None = None,
        defaults: Mapping[str, Any] | None = None,
    ) -> None:
        self.text = text
        self.parts = parse_template(text, requirements)
        self.parameters = {
            part.name: part
            for part in self.parts
            if isinstance(part, Parameter) and part.name
        }
        # As in Routes: what params hold is text.
        self.defaults = {name: str(value) for name, value in (defaults or {}).items()}
        self.forms = tuple(self._forms())
        #: Whether the values of its parameters are its params, as they are.
        self.is_plain = len(self.forms) == 1 and not self.defaults

    def __repr__(self) -> str:
        return f"Template({self.text!r})"

    def params(self, values: Mapping[str, str]) -> dict[str, str]:
        """Complete matched values: in the template's order, then the defaults."""
        defaults = self.defaults
        params = {
            name: values.get(name) or defaults.get(name, "") for name in self.parameters
        }
        for name, value in defaults.items():
            params.setdefault(name, value)
        return params

    def _forms(self) -> Iterator[Form]:
        choices = [
            ("taken", "left out", "slash only")
            if isinstance(part, Parameter) and part.optional
            else ("taken",)
            for part in self.parts
        ]
        optional = sum(len(choice) > 1 for choice in choices)
        formats = sum(part.kind is Kind.FORMAT for part in self.parameters.values())
        if max(optional, formats) > _MAX_OPTIONAL:
            raise TemplateError(
                self.text, 0, f"more than {_MAX_OPTIONAL} parts are optional"
            )
        for choice in product(*choices):
            form = self._form(choice)
            if form is not None:
                yield form

    def _form(self, choice: Sequence[str]) -> Form | None:
        parts: list[Part] = []
        left_out: list[str] = []
        for part, chosen in zip(self.parts, choice, strict=True):
            if chosen == "taken":
                parts.append(part)
                continue
            assert isinstance(part, Parameter)
            left_out.append(part.name)
            if chosen == "left out":
                # A modifier stands for a component of its own: before it there
                # is always a literal that ends with a slash.
                before = parts.pop()
                assert isinstance(before, Literal)
                if before.text != "/":
                    parts.append(Literal(before.text[:-1]))
        segments = _split(parts)
        for segment in segments:
            if segment in _DOT_SEGMENTS:
                raise TemplateError(
                    self.text, 0, "no path has a dot segment: clients resolve them"
                )
        if not segments:  # "/:id?" without its slash: there is no such path
            return None
        ranks = tuple(_rank(segment) for segment in segments)
        tail = next(
            (index for index, segment in enumerate(segments) if _spans(segment)), None
        )
        return Form(segments, tail, ranks, tuple(left_out))

    def build(self, params: Mapping[str, object]) -> str:
        """Build a path from params, percent-encoded.

        Args:
            params: A value for each parameter that is not optional and has no
                default; str, int or anything else with a str of its own.

        Raises:
            BuildError: If a parameter is missing or unknown, or if its value
                cannot stand in its place.
        """
        path = self.fill(params, _quote)
        if not {".", ".."}.isdisjoint(path.split("/")):
            raise BuildError(self.text, f"clients resolve the dot segments of {path!r}")
        return path

    def fill(self, params: Mapping[str, object], quote: Callable[[str], str]) -> str:
        """Put params into their places.

        Args:
            params: See ``build``.
            quote: Escapes a text without slashes, so that it means itself only.

        Raises:
            BuildError: See ``build``.
        """
        for name, value in params.items():
            if name not in self.parameters and str(value) != self.defaults.get(name):
                near = get_close_matches(name, self.parameters, n=1)
                hint = f"; did you mean {near[0]!r}?" if near else ""
                raise BuildError(self.text, f"{name!r} is no parameter of it{hint}")
        path = ""
        for part in self.parts:
            if isinstance(part, Literal):
                path += "/".join(map(quote, part.text.split("/")))
            elif part.name:
                path = self._append(path, part, params.get(part.name), quote)
        return path or "/"

    def _append(
        self, path: str, part: Parameter, value: object, quote: Callable[[str], str]
    ) -> str:
        name = part.name
        if value is None:
            value = self.defaults.get(name, "")
        elif isinstance(value, bytes | bytearray | memoryview):
            raise BuildError(self.text, f"{name!r} must be a str, not bytes")
        text = str(value)
        if not text:
            if part.optional:
                return path.removesuffix("/")
            if part.kind is Kind.FORMAT:
                return path
            if part.regex is None or not re.fullmatch(part.regex, ""):
                raise BuildError(self.text, f"{name!r} is missing")
        if UNFIT.search(text):
            raise BuildError(
                self.text, f"{name!r} contains a control character or a lone surrogate"
            )
        spanning = _spans((part,))
        if part.regex is not None and not _meets(part, text, spanning):
            raise BuildError(
                self.text, f"{name}={text!r} does not match {part.regex!r}"
            )
        encoded = "/".join(map(quote, text.split("/"))) if spanning else quote(text)
        return path + ("." if part.kind is Kind.FORMAT else "") + encoded


def _quote(text: str) -> str:
    return urllib.parse.quote(text, safe=_SAFE)


def _meets(part: Parameter, text: str, spanning: bool) -> bool:
    assert part.regex is not None
    if not spanning:
        text = text.replace("/", ENCODED_SLASH)
    values = text.split("/") if part.kind is Kind.COMPONENTS else [text]
    return all(re.fullmatch(part.regex, value) for value in values)


def _split(parts: Sequence[Part]) -> tuple[tuple[Part, ...], ...]:
    """Split parts, which begin with a slash, at the slashes of their literals."""
    segments: list[list[Part]] = []
    # Two literals can follow each other where a component was left out.
    text = ""
    for part in [*parts, None]:
        if isinstance(part, Literal):
            text += part.text
            continue
        if text:
            first, *others = text.split("/")
            if first:
                segments[-1].append(Literal(first))
            segments += [[Literal(other)] if other else [] for other in others]
            text = ""
        if part is not None:
            segments[-1].append(part)
    return tuple(tuple(segment) for segment in segments)


def _rank(segment: Sequence[Part]) -> Rank:
    parameters = [part for part in segment if isinstance(part, Parameter)]
    literal = len(parameters) < len(segment)
    if not parameters:
        return Rank.LITERAL
    if any(part.kind in _SPANNING and not part.regex for part in parameters):
        return Rank.LITERAL_WITH_WILDCARD if literal else Rank.WILDCARD
    if literal:
        return Rank.LITERAL_WITH_PARAMETER
    if any(part.regex for part in parameters):
        return Rank.CONSTRAINED
    return Rank.PARAMETER


def _spans(segment: Sequence[Part]) -> bool:
    return any(
        part.kind in _SPANNING
        or (part.regex is not None and may_span_segments(part.regex))
        for part in segment
        if isinstance(part, Parameter)
    )
