"""A tree of path segments, in which templates are found by what they match.

The cost of a match grows with the depth of the path, not with the number of
templates. Matches come in the order of specificity, lazily: segment by segment,
by ``Rank``; between equals, a template with fewer parts left out comes first,
then the one that was added first.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import Generic, NamedTuple, TypeVar

from .grammar import Kind, Literal, Parameter, Part
from .pattern import Pattern, Values
from .target import Target, join_segments
from .template import Form, Rank, Template

__all__ = ["Tree"]

T = TypeVar("T")

_AFTER_LITERALS = tuple(rank for rank in Rank if rank is not Rank.LITERAL)


class _Leaf(NamedTuple, Generic[T]):
    """The end of one form of a template."""

    order: tuple[tuple[int, ...], int, int, int]
    names: tuple[str, ...]
    template: Template
    payload: T
    # What the last segments have to match together; None if they are in the tree.
    tail: Pattern | None

    def params(self, values: Sequence[str]) -> dict[str, str]:
        params = dict(zip(self.names, values, strict=True))
        return params if self.template.is_plain else self.template.params(params)


_Found = tuple[_Leaf[T], Values]


def _order(found: _Found[T]) -> tuple[tuple[int, ...], int, int, int]:
    return found[0].order


class _Branch(NamedTuple, Generic[T]):
    """A segment that is neither a literal nor one bare parameter."""

    pattern: Pattern
    node: _Node[T]


class _Uncommon(Generic[T]):
    """What a node has of one rank beside literals and bare parameters."""

    __slots__ = ("branches", "tails")

    def __init__(self) -> None:
        # By length of the literal prefix, then by the prefix: of ten thousand
        # segments like "v1-{id}", a path meets one.
        self.branches: dict[int, dict[str, tuple[_Branch[T], ...]]] = {}
        self.tails: tuple[_Leaf[T], ...] = ()


class _Node(Generic[T]):
    __slots__ = ("leaves", "literals", "parameter", "uncommon")

    def __init__(self) -> None:
        self.literals: dict[str, _Node[T]] = {}
        self.parameter: _Node[T] | None = None
        self.uncommon: dict[Rank, _Uncommon[T]] = {}
        self.leaves: tuple[_Leaf[T], ...] = ()


class Tree(Generic[T]):
    """Templates, each with a payload.

    ``matches`` takes no lock and may run in any number of threads, also while
    one thread adds: whatever is iterated is replaced by ``add``, never changed.
    """

    def __init__(self) -> None:
        self._root: _Node[T] = _Node()
        self._count = 0

    def add(self, template: Template, payload: T) -> None:
        """Add a template. Not to be called from two threads at once."""
        for index, form in enumerate(template.forms):
            tail = len(form.segments) if form.tail is None else form.tail
            node = self._root
            for segment, rank in zip(form.segments[:tail], form.ranks, strict=False):
                node = _descend(node, segment, rank)
            leaf = _Leaf(
                (form.specificity, len(form.left_out), self._count, index),
                tuple(
                    name for name in template.parameters if name not in form.left_out
                ),
                template,
                payload,
                _tail_pattern(form),
            )
            if form.tail is None:
                node.leaves = _inserted(node.leaves, leaf)
            else:
                uncommon = node.uncommon.setdefault(form.ranks[tail], _Uncommon())
                uncommon.tails = _inserted(uncommon.tails, leaf)
        self._count += 1

    def first(self, target: Target) -> tuple[T, dict[str, str]] | None:
        """Find the most specific match, as ``matches`` does, only faster."""
        node = self._root
        values: list[str] = []
        for segment in target.segments:
            literal = node.literals.get(segment)
            if literal is not None:
                node = literal
            elif node.parameter is not None and segment and not node.uncommon:
                node = node.parameter
                values.append(join_segments(segment))
            else:
                break
        else:
            # Literals wherever there was one, parameters elsewhere: if this way
            # ends at a template, none is more specific.
            if node.leaves:
                leaf = node.leaves[0]
                return leaf.payload, leaf.params(values)
        return next(self.matches(target), None)

    def matches(self, target: Target) -> Iterator[tuple[T, dict[str, str]]]:
        """Find what a target matches, the most specific first.

        Yields:
            The payload and the params, in the template's order.
        """
        seen: list[Template] = []
        for leaf, values in _walk(self._root, target.segments, 0, ()):
            template = leaf.template
            if len(template.forms) > 1:
                # Several forms of one template may match, but it counts once.
                if template in seen:
                    continue
                seen.append(template)
            yield leaf.payload, leaf.params(values)


def _descend(node: _Node[T], segment: tuple[Part, ...], rank: Rank) -> _Node[T]:
    """Find the node that a segment of a template leads to, or make it."""
    if rank is Rank.LITERAL:
        text = "".join(part.text for part in segment if isinstance(part, Literal))
        return node.literals.setdefault(text, _Node())
    if rank is Rank.PARAMETER and _is_bare(segment):
        node.parameter = node.parameter or _Node()
        return node.parameter
    pattern = Pattern(segment)
    prefix = pattern.prefix
    uncommon = node.uncommon.setdefault(rank, _Uncommon())
    by_prefix = uncommon.branches.get(len(prefix), {})
    branches = by_prefix.get(prefix, ())
    for branch in branches:
        if branch.pattern.key == pattern.key:
            return branch.node
    added: _Node[T] = _Node()
    by_prefix[prefix] = (*branches, _Branch(pattern, added))
    uncommon.branches = {**uncommon.branches, len(prefix): by_prefix}
    return added


def _is_bare(segment: tuple[Part, ...]) -> bool:
    first = segment[0]
    return (
        len(segment) == 1
        and isinstance(first, Parameter)
        and first.kind is Kind.SEGMENT
    )


def _tail_pattern(form: Form) -> Pattern | None:
    if form.tail is None:
        return None
    parts: list[Part] = []
    for segment in form.segments[form.tail :]:
        parts += [Literal("/"), *segment]
    return Pattern(parts)


def _inserted(leaves: tuple[_Leaf[T], ...], leaf: _Leaf[T]) -> tuple[_Leaf[T], ...]:
    return tuple(sorted((*leaves, leaf), key=lambda each: each.order))


def _walk(
    node: _Node[T], segments: list[str], depth: int, values: Values
) -> Iterator[_Found[T]]:
    if depth == len(segments):
        for leaf in node.leaves:
            yield leaf, values
        return
    segment = segments[depth]
    literal = node.literals.get(segment)
    if literal is not None:
        yield from _walk(literal, segments, depth + 1, values)
    if node.uncommon:
        for rank in _AFTER_LITERALS:
            found = list(_walk_rank(node, rank, segments, depth, values))
            if len(found) == 1:
                yield from found[0]
            elif found:
                yield from sorted(chain.from_iterable(found), key=_order)
    elif node.parameter is not None and segment:
        value = join_segments(segment)
        yield from _walk(node.parameter, segments, depth + 1, (*values, value))


def _walk_rank(
    node: _Node[T], rank: Rank, segments: list[str], depth: int, values: Values
) -> Iterator[Iterable[_Found[T]]]:
    """Find the ways to go on that are equally specific."""
    segment = segments[depth]
    if rank is Rank.PARAMETER and node.parameter is not None and segment:
        value = join_segments(segment)
        yield _walk(node.parameter, segments, depth + 1, (*values, value))
    uncommon = node.uncommon.get(rank)
    if uncommon is None:
        return
    for length, by_prefix in uncommon.branches.items():
        for branch in by_prefix.get(segment[:length], ()):
            matched = branch.pattern.match(segment)
            if matched is not None:
                yield _walk(branch.node, segments, depth + 1, values + matched)
    if uncommon.tails:
        yield _match_tails(uncommon.tails, segments, depth, values)


def _match_tails(
    tails: tuple[_Leaf[T], ...], segments: list[str], depth: int, values: Values
) -> Iterator[_Found[T]]:
    text = "/" + "/".join(segments[depth:])
    for leaf in tails:
        assert leaf.tail is not None
        matched = leaf.tail.match(text)
        if matched is not None:
            yield leaf, values + matched
