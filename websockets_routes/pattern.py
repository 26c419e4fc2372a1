"""Patterns: a run of template parts that matches text, in linear time.

Where no parameter has a regex of the user's own, the text is matched by hand:
the result is the one that the regex of Routes would give, in time linear in the
length of the text. Where one has, Routes itself compiles the regex; this is the
only module that imports it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import cached_property
from itertools import product

from routes.route import Route as RoutesRoute

from .grammar import Kind, Literal, Parameter, Part
from .target import join_segments

__all__ = ["Pattern", "Values", "may_span_segments"]

# One value per named parameter, in the order of the template.
Values = tuple[str, ...]

_ROUTES_SPECIAL = re.compile(r"[:*{}\\]")
# What an atom of a regex may be so that it cannot match a slash and does not
# look beyond the text that it matches.
_CONFINED_ESCAPES = frozenset("dwsbB")
_FORMAT_END = re.compile(r"[./]")
_CHARACTER_CLASS = re.compile(r"\[\^?\]?(?:[^\]\\]|\\.)*\]", re.DOTALL)


class Pattern:
    """Parts that match the whole of a text.

    Args:
        parts: Literals and parameters. Literals may contain slashes.

    Attributes:
        parts: The same.
        prefix: The literal text with which every match begins.
    """

    def __init__(self, parts: Sequence[Part]) -> None:
        self.parts = tuple(parts)
        first = self.parts[0]
        self.prefix = first.text if isinstance(first, Literal) else ""
        if any(isinstance(part, Parameter) and part.regex for part in self.parts):
            self.regex: re.Pattern[str] | None = _compile_with_routes(self.parts)
            self.groups = [
                _group_name(index)
                for index, part in enumerate(self.parts)
                if isinstance(part, Parameter) and part.name
            ]
            self.variants: tuple[_Variant, ...] = ()
        else:
            self.regex = None
            self.variants = tuple(_variants(self.parts))

    @cached_property
    def key(self) -> tuple[object, ...]:
        """What the pattern matches, whatever the names of its parameters."""
        return tuple(
            part.text if isinstance(part, Literal) else (part.kind, part.regex)
            for part in self.parts
        )

    def match(self, text: str) -> Values | None:
        """Match the whole text, as it comes from ``Target``.

        Returns:
            A value for each named parameter, empty for what is missing; None
            if the text does not match.
        """
        if self.regex is not None:
            found = self.regex.match(text)
            if found is None:
                return None
            return tuple(join_segments(found[group] or "") for group in self.groups)
        matches = [
            spans
            for variant in self.variants
            if (spans := variant.match(text)) is not None
        ]
        if not matches:
            return None
        # Non-greedy and from left to right: the first parameter as short as can
        # be, then the next. An optional format that is skipped counts as least.
        spans = min(matches, key=_lengths) if len(matches) > 1 else matches[0]
        return tuple(join_segments(text[start:end]) for start, end in spans)


_Spans = list[tuple[int, int]]


def _lengths(spans: _Spans) -> list[int]:
    return [end - start for start, end in spans]


class _Variant:
    """A pattern with each optional format either there or left out.

    ``literals[0] parameter literals[1] parameter … literals[-1]``
    """

    def __init__(self, literals: list[str], parameters: list[Parameter | None]) -> None:
        # A parameter that is None was left out: it has an empty span.
        self.literals = literals
        self.kinds = [part.kind for part in parameters if part is not None]
        self.left_out = [index for index, part in enumerate(parameters) if part is None]
        self.unnamed_end = bool(self.kinds) and self.kinds[-1] is Kind.REST

    def match(self, text: str) -> _Spans | None:
        spans = self.find_spans(text)
        if spans is None:
            return None
        if self.unnamed_end:
            spans.pop()
        for index in self.left_out:
            spans.insert(index, (0, 0))
        return spans

    def find_spans(self, text: str) -> _Spans | None:
        """Find the spans that a non-greedy regex finds.

        Each parameter ends at the leftmost place where the literal after it
        stands and from where the rest matches; the last literal is anchored at
        the end. Whether the rest matches depends only on that place, so a place
        that failed once is never tried again: no parameter's end ever moves to
        the left, which bounds the work by the length of the text.
        """
        literals, kinds = self.literals, self.kinds
        end_of_last = len(text) - len(literals[-1])
        if not text.startswith(literals[0]) or not text.endswith(literals[-1]):
            return None
        count = len(kinds)
        if count == 0:
            return [] if len(text) == len(literals[0]) else None
        starts = [len(literals[0])] + [0] * (count - 1)
        ends = [0] * count
        failed = [-1] * count  # no end up to here leads to a match
        stops = [-1] * count  # where the parameter must end at the latest
        index = 0
        while True:
            start, kind = starts[index], kinds[index]
            if stops[index] < start:
                stops[index] = _stop(kind, text, start)
            stop = stops[index]
            end = max(start if kind is Kind.REST else start + 1, failed[index] + 1)
            if index == count - 1:
                if end <= end_of_last <= stop and not (
                    kind is Kind.COMPONENTS and text[end_of_last - 1] == "/"
                ):
                    ends[index] = end_of_last
                    return list(zip(starts, ends, strict=True))
            else:
                literal = literals[index + 1]
                limit = min(stop + len(literal), len(text))
                end = text.find(literal, end, limit)
                if end != -1:
                    ends[index] = end
                    index += 1
                    starts[index] = end + len(literal)
                    continue
                failed[index] = max(failed[index], stop)
            if index == 0:
                return None
            index -= 1
            failed[index] = ends[index]


def _stop(kind: Kind, text: str, start: int) -> int:
    """Find the last place where a parameter of ``kind`` from ``start`` may end."""
    if kind is Kind.WILDCARD or kind is Kind.REST:
        return len(text)
    if kind is Kind.FORMAT:
        found = _FORMAT_END.search(text, start)
        return len(text) if found is None else found.start()
    # Two slashes in a row, one of them maybe just before, enclose an empty component.
    components = kind is Kind.COMPONENTS
    stop = text.find("//", start - 1) if components else text.find("/", start)
    return len(text) if stop == -1 else stop


def _variants(parts: Sequence[Part]) -> Iterator[_Variant]:
    choices = [
        (False, True)
        if isinstance(part, Parameter) and part.kind is Kind.FORMAT
        else (True,)
        for part in parts
    ]
    for taken in product(*choices):
        literals = [""]
        parameters: list[Parameter | None] = []
        for part, take in zip(parts, taken, strict=True):
            if isinstance(part, Literal):
                literals[-1] += part.text
            elif not take:
                parameters.append(None)
            else:
                if part.kind is Kind.FORMAT:
                    literals[-1] += "."
                parameters.append(part)
                literals.append("")
        yield _Variant(literals, parameters)


def _compile_with_routes(parts: Sequence[Part]) -> re.Pattern[str]:
    """Let Routes compile the regex of a template of which some parts are regexes."""
    template = ""
    requirements: dict[str, str] = {}
    for index, part in enumerate(parts):
        if isinstance(part, Literal):
            template += _ROUTES_SPECIAL.sub(r"\\\g<0>", part.text)
            continue
        name = _group_name(index)
        if part.kind is Kind.COMPONENTS:
            component = f"(?:{part.regex})" if part.regex else "[^/]+"
            requirements[name] = f"{component}(?:/{component})*?"
        elif part.kind is Kind.REST:
            requirements[name] = ".*"
        elif part.regex is not None:
            requirements[name] = part.regex
        if part.kind is Kind.WILDCARD:
            template += f"*({name})"
        elif part.kind is Kind.FORMAT:
            template += f"{{.{name}}}"
        else:
            template += f"{{{name}}}"
    route = RoutesRoute(None, template, _explicit=True, requirements=requirements)
    route.makeregexp([])
    compiled: re.Pattern[str] = route.regmatch
    return compiled


def _group_name(index: int) -> str:
    # Routes gives a meaning to some names ("controller", say), but not to these.
    return f"p{index}"


def may_span_segments(regex: str) -> bool:
    """Tell whether a requirement may match a slash or look at what is around it.

    Such a regex has to see the path whole. The answer errs on the safe side:
    "yes" costs speed, a wrong "no" would lose matches.
    """
    position = 0
    while position < len(regex):
        character = regex[position]
        if character == "\\":
            escaped = regex[position + 1]
            if escaped.isalnum() and escaped not in _CONFINED_ESCAPES:
                return True
            if escaped == "/":
                return True
            position += 2
        elif character == "[":
            found = _CHARACTER_CLASS.match(regex, position)
            # A class that this module cannot read counts as one that may.
            if found is None or re.match(found.group(), "/"):
                return True
            position = found.end()
        elif character in "./^$":
            return True
        elif character == "(" and regex.startswith("?", position + 1):
            if not regex.startswith("(?:", position):
                return True
            position += 3
        else:
            position += 1
    return False
