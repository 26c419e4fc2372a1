"""Topic: a declaration that holds for every topic whose name matches a template."""

from __future__ import annotations

import functools
import urllib.parse
from collections.abc import (
    Awaitable,
    Callable,
    Hashable,
    Iterator,
    Mapping,
    Sequence,
)
from typing import Any

from ..arity import is_async, takes
from ..brokers.base import HistoryPolicy
from ..builder import Builder
from ..exceptions import BuildError, InvalidTopic, SubscriptionDenied, TemplateError
from ..grammar import Literal, parse_template
from ..target import ENCODED_SLASH, UNFIT, Target
from ..template import Form, Template
from ..tree import Tree
from .message import Enveloping
from .names import ANY, REST, Filter
from .overflow import Overflow

__all__ = ["Authorize", "Declarations", "Topic"]

#: ``authorize(ws, topic, params)``, plain or a coroutine function.
Authorize = Callable[[Any, str | Filter, Mapping[str, str]], Awaitable[bool] | bool]

# How many names the declarations remember the best match of.
_REMEMBERED = 4096


class Topic:
    """A declared topic; called with params, it builds a name.

    In a value, what would mean something else in a name is percent-encoded:
    ``room(name="a/b") == "room/a%2Fb"``.

    Args:
        template: A template, with the grammar of routes and no slash before it.
        overflow: What happens where a subscriber is too slow; an ``Overflow`` or its
            value. ``close`` by default.
        key: For ``conflate``: a plain function ``key(message)``. A message takes
            the place of a waiting one of the same topic and key. It is called once
            for each message that somebody hears.
        authorize: ``authorize(ws, topic, params)``, plain or a coroutine function;
            unless it returns a true value, the subscription is denied.
        filters: Whether a ``Filter`` that may match it can be subscribed though it
            has an ``authorize``, which is then asked about the filter, with no
            params.
        requirements: Regexes by parameter name.
        history: How many messages are kept; None for none. A client that was away
            gets what it missed; each message has an offset. It goes with
            ``overflow="close"`` only: positions would lie where one is dropped.
        ttl: How long a message is kept, in seconds; None for no end.
        envelope: ``envelope(message)``, a plain function that turns a ``Message``
            into what goes on the wire; called once for each message that somebody
            hears. See ``json_envelope``.
        presence: Whether who subscribes may do so as a member, whom all nodes see.

    Raises:
        TemplateError: If the template cannot work.
        InvalidTopic: If an argument cannot work.
        InvalidLimit: If ``history`` or ``ttl`` is no positive number.
    """

    def __init__(
        self,
        template: str,
        *,
        overflow: Overflow | str = Overflow.CLOSE,
        key: Callable[[Any], Hashable] | None = None,
        authorize: Authorize | None = None,
        filters: bool = False,
        requirements: Mapping[str, str] | None = None,
        history: int | None = None,
        ttl: float | None = None,
        envelope: Enveloping | None = None,
        presence: bool = False,
    ) -> None:
        self.template = _parse(template, requirements)
        self.text = template
        try:
            self.overflow = Overflow(overflow)
        except ValueError:
            choices = ", ".join(repr(each.value) for each in Overflow)
            problem = f"overflow is one of {choices}, not {overflow!r}"
            raise InvalidTopic(template, problem) from None
        if key is not None:
            if self.overflow is not Overflow.CONFLATE:
                raise InvalidTopic(template, "a key is for overflow='conflate'")
            if not callable(key) or is_async(key) or not takes(key, 1):
                raise InvalidTopic(template, "key is a plain function f(message)")
        if authorize is not None and not (callable(authorize) and takes(authorize, 3)):
            problem = "authorize is a function f(ws, topic, params)"
            raise InvalidTopic(template, problem)
        if history is None and ttl is not None:
            raise InvalidTopic(template, "ttl is for a topic with history")
        if history is not None and self.overflow is not Overflow.CLOSE:
            problem = (
                "history goes with overflow='close': where messages are dropped, "
                "positions would lie"
            )
            raise InvalidTopic(template, problem)
        if envelope is not None and (
            not callable(envelope) or is_async(envelope) or not takes(envelope, 1)
        ):
            raise InvalidTopic(template, "envelope is a plain function f(message)")
        self.history = None if history is None else HistoryPolicy(history, ttl)
        self.envelope = envelope
        self.presence = presence
        self.key = key
        self.authorize = authorize
        self.filters = filters
        self._builder = Builder(self.template, self._fill, _parse_name)

    def __str__(self) -> str:
        return self.text

    def __repr__(self) -> str:
        return f"Topic({self.text!r})"

    @property
    def is_kept(self) -> bool:
        """Whether its messages are kept, or enveloped."""
        return self.history is not None or self.envelope is not None

    @property
    def parameters(self) -> Sequence[str]:
        """The names of its parameters."""
        return tuple(self.template.parameters)

    def __call__(self, **params: object) -> str:
        """Build the name of a topic.

        Raises:
            BuildError: If a parameter is missing or unknown, or if a value would
                not come back as it is.
        """
        try:
            return self._builder.build(params)
        except BuildError as error:
            raise BuildError(self.text, error.problem) from None

    def _fill(self, params: Mapping[str, object]) -> str:
        name = self.template.fill(params, _escape)[1:]
        if name.startswith("$") and not self.text.startswith("$"):
            # A user who calls himself "$x" hides from no filter.
            name = "%24" + name[1:]
        if not name:
            raise BuildError(self.text, "the name would be empty")
        return name

    def overlaps(self, topic: Filter) -> bool:
        """Tell whether a filter may match a name of this topic."""
        return any(_overlap(form, topic.levels) for form in self.template.forms)


class Declarations:
    """Declared topics; the most specific one holds for a name."""

    def __init__(self) -> None:
        self._topics: dict[str, Topic] = {}
        self._tree: Tree[Topic] = Tree()
        self._remember()

    def _remember(self) -> None:
        #: Finds the topic that holds for a name, and the params, or None.
        self.match = functools.lru_cache(_REMEMBERED)(self._match)

    def add(self, topic: Topic) -> None:
        """Add a topic.

        Raises:
            InvalidTopic: If one with the same template is declared already.
        """
        if topic.text in self._topics:
            raise InvalidTopic(topic.text, "this topic is declared already")
        self._topics[topic.text] = topic
        self._tree.add(topic.template, topic)
        self._remember()

    def check_adoption(self, other: Declarations) -> None:
        """Check whether the topics of others can be added.

        Raises:
            InvalidTopic: If one with the same template is declared already.
        """
        for text in other._topics:
            if text in self._topics:
                raise InvalidTopic(text, "this topic is declared already")

    def adopt(self, other: Declarations) -> None:
        """Add the topics of others."""
        for topic in other._topics.values():
            self.add(topic)

    def __bool__(self) -> bool:
        return bool(self._topics)

    @property
    def has_kept(self) -> bool:
        """Whether messages of a topic are kept, or enveloped."""
        return any(topic.is_kept for topic in self._topics.values())

    @property
    def has_presence(self) -> bool:
        """Whether a topic has presence."""
        return any(topic.presence for topic in self._topics.values())

    def policy(self, topic: str | Filter) -> HistoryPolicy | None:
        """Find the history of a name; a filter has none."""
        if not self._topics or isinstance(topic, Filter):
            return None
        found = self.match(topic)
        return None if found is None else found[0].history

    def _match(self, name: str) -> tuple[Topic, Mapping[str, str]] | None:
        return self._tree.first(_parse_name(name))

    def guards(
        self, topic: str | Filter, declared: Topic | None = None
    ) -> Iterator[tuple[Authorize, Mapping[str, str]]]:
        """Find whoever has to allow a subscription, and the params to ask about.

        Args:
            topic: The name or filter.
            declared: What built the name, if it may be declared elsewhere.

        Raises:
            SubscriptionDenied: For a filter that may match a topic with an
                ``authorize`` which is not declared with ``filters=True``.
        """
        if declared is not None and self._topics.get(declared.text) is not declared:
            elsewhere = Declarations()
            elsewhere.add(declared)
            yield from elsewhere.guards(topic)
        if not self._topics:
            return
        if not isinstance(topic, Filter):
            found = self.match(topic)
            if found is not None and found[0].authorize is not None:
                yield found[0].authorize, dict(found[1])
            return
        guarded = [
            each
            for each in self._topics.values()
            if each.authorize is not None and each.overlaps(topic)
        ]
        for each in guarded:
            if not each.filters:
                problem = (
                    f"it may match the topic {each.text!r}, which has an authorize "
                    "and is not declared with filters=True"
                )
                raise SubscriptionDenied(topic, problem)
        for each in guarded:
            assert each.authorize is not None
            yield each.authorize, {}


def _parse(template: str, requirements: Mapping[str, str] | None) -> Template:
    if not isinstance(template, str) or not template:
        raise InvalidTopic(template, "a topic is declared by a template")
    try:
        parsed = Template("/" + template, requirements)
    except TemplateError as error:
        position = max(error.position - 1, 0)
        raise TemplateError(template, position, error.problem) from None
    for part in parsed.parts:
        for wildcard in (ANY, REST):
            if isinstance(part, Literal) and wildcard in part.text:
                problem = f"{wildcard} is a wildcard; subscribe with a Filter instead"
                position = _literal_position(template, wildcard)
                raise TemplateError(template, position, problem)
    return parsed


def _literal_position(template: str, character: str) -> int:
    """Find the first place of a character that stands for itself in a template."""
    position = -1
    while True:
        position = template.index(character, position + 1)
        try:
            parts = parse_template("/" + template[: position + 1])
        except TemplateError:
            continue  # inside a regex
        last = parts[-1]
        if isinstance(last, Literal) and last.text.endswith(character):
            return position


def _escape(text: str) -> str:
    for character in "%/+#":
        if character in text:
            text = text.replace(character, f"%{ord(character):02X}")
    return text


def _parse_name(name: str) -> Target:
    """Take a name apart as if it were the path of a request."""
    return Target("/" + name, "", [_decode(level) for level in name.split("/")])


def _decode(level: str) -> str:
    if "%" not in level:
        return level
    try:
        text = urllib.parse.unquote_to_bytes(level).decode()
    except UnicodeDecodeError:
        return level
    return level if UNFIT.search(text) else text.replace("/", ENCODED_SLASH)


def _overlap(form: Form, levels: Sequence[str]) -> bool:
    """Tell whether a filter may match a name that has this form.

    A parameter is taken to stand for anything, and a filter that begins with a
    wildcard to hear names that begin with ``$``: refusing too much is safe.
    """
    for index, level in enumerate(levels):
        if level == REST or (form.tail is not None and index >= form.tail):
            return True
        if index == len(form.segments):
            return False
        segment = form.segments[index]
        if level != ANY and _is_literal(segment) and _text(segment) != _decode(level):
            return False
    return form.tail is None and len(levels) == len(form.segments)


def _is_literal(segment: Sequence[object]) -> bool:
    return all(isinstance(part, Literal) for part in segment)


def _text(segment: Sequence[object]) -> str:
    return "".join(part.text for part in segment if isinstance(part, Literal))
