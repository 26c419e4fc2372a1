"""Route: a template, an endpoint, and what else was declared with them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from websockets import Headers

from .arity import is_async, takes
from .builder import Builder
from .endpoint import AnyEndpoint, Endpoint
from .exceptions import BuildError, EndpointError, InvalidTopic
from .naming import endpoint_name
from .negotiation import Negotiation
from .path import RoutedPath
from .pubsub.topic import Topic
from .scope import Scope
from .target import parse_target
from .template import Template

__all__ = ["Condition", "Route", "Subscribe"]

Condition = Callable[[RoutedPath, Headers], bool]
#: Topics to hear from the beginning: templates, or declared topics.
Subscribe = str | Topic | Iterable[str | Topic]


class Route:
    """A declared route.

    Attributes:
        template: The URL template, parsed; ``str(route)`` is its text.
        endpoint: What it leads to; given as a function or class, it is made one.
        name: The name for ``url_for``, or None.
        condition: A plain function ``condition(path, headers)`` that may veto a
            match, or None.
        subscribe: The topics that its connections hear from the moment they open.
        methods: The methods of the requests that it answers, empty for all of them;
            None if it takes WebSocket connections.
        max_content_length: Bytes of a request's body, or None for any number.
        negotiation: What it agrees on with clients other than its server, or None.
        scopes: What the routers add that it is in, the outermost first.

    Raises:
        TemplateError: If the template cannot work, or that of a topic.
        EndpointError: If the endpoint or the condition cannot work.
    """

    def __init__(
        self,
        template: str,
        endpoint: Callable[..., Any] | AnyEndpoint,
        *,
        name: str | None = None,
        requirements: Mapping[str, str] | None = None,
        defaults: Mapping[str, Any] | None = None,
        condition: Condition | None = None,
        subscribe: Subscribe = (),
        negotiation: Negotiation | None = None,
        methods: frozenset[str] | None = None,
        max_content_length: int | None = None,
        scopes: tuple[Scope, ...] = (),
    ) -> None:
        self.template = Template(template, requirements, defaults)
        self._requirements = requirements
        self._defaults = defaults
        self.scopes = scopes
        self.negotiation = negotiation or None
        self._builder = Builder(self.template, self.template.build, parse_target)
        if not isinstance(endpoint, AnyEndpoint):
            endpoint = Endpoint(endpoint)
        self.endpoint: Any = endpoint
        self.methods = methods
        self.max_content_length = max_content_length
        self.name = name
        self.condition = condition
        if condition is not None:
            _check_condition(condition)
        if isinstance(subscribe, str | Topic):
            subscribe = [subscribe]
        self.subscribe = tuple(map(self._topic, subscribe))

    @property
    def is_guarded(self) -> bool:
        """Whether its handshakes are looked at before they reach its endpoint."""
        if self.endpoint.inputs or self.negotiation is not None:
            return True
        # any() would make a generator in each handshake.
        for scope in self.scopes:  # noqa: SIM110
            if scope.hooks or scope.origins is not None:
                return True
        return False

    def mounted(
        self, prefix: str, name: str | None, scopes: tuple[Scope, ...]
    ) -> Route:
        """Make the same route as it is in a router further out.

        Args:
            prefix: The template to put before its own.
            name: What to put before its name, with a colon; None for nothing.
            scopes: What that router adds, and those that it is in.

        Raises:
            TemplateError: If the templates do not fit together.
        """
        named = self.name
        if named is not None and name is not None:
            named = f"{name}:{named}"
        return Route(
            prefix + self.template.text,
            self.endpoint,
            name=named,
            requirements=self._requirements,
            defaults=self._defaults,
            condition=self.condition,
            subscribe=self.subscribe,
            negotiation=self.negotiation,
            methods=self.methods,
            max_content_length=self.max_content_length,
            scopes=(*scopes, *self.scopes),
        )

    def answers(self, method: str) -> int | None:
        """Tell whether it answers a method, and how well: the least is the best."""
        methods = self.methods
        if not methods:
            return 2
        if method in methods:
            return 0
        return 1 if method == "HEAD" and "GET" in methods else None

    def describe(self) -> list[str]:
        """Describe in a line each what its connections meet, in that order."""
        lines = [f"before the handshake: {each}" for each in self._names("hooks")]
        lines += [each.describe() for each in self.endpoint.inputs]
        lines += [f"middleware: {each}" for each in self._names("middleware")]
        lines += [f"subscribes to: {each.text}" for each in self.subscribe]
        return lines

    def _names(self, what: str) -> list[str]:
        found = [each for scope in self.scopes for each in getattr(scope, what)]
        return list(map(endpoint_name, found))

    def __str__(self) -> str:
        return self.template.text

    def __repr__(self) -> str:
        named = f", name={self.name!r}" if self.name is not None else ""
        return f"Route({self.template.text!r}, {self.endpoint.name}{named})"

    def _topic(self, topic: str | Topic) -> Topic:
        topic = topic if isinstance(topic, Topic) else Topic(topic)
        given = {*self.template.parameters, *self.template.defaults}
        for name in topic.parameters:
            if name not in given:
                problem = f"the route {self.template.text!r} has no param {name!r}"
                raise InvalidTopic(topic.text, problem)
        return topic

    def topics(self, params: Mapping[str, str]) -> list[tuple[Topic, str]]:
        """Name the topics that a connection hears from the beginning.

        Raises:
            InvalidTopic: If there is no such name.
        """
        try:
            return [
                (topic, topic(**{name: params[name] for name in topic.parameters}))
                for topic in self.subscribe
            ]
        except BuildError as error:
            raise InvalidTopic(error.template, error.problem) from None

    def url(self, params: Mapping[str, object]) -> str:
        """Build the path that leads here with these params, percent-encoded.

        Raises:
            BuildError: If there is no such path.
        """
        return self._builder.build(params)


def _check_condition(condition: Condition) -> None:
    name = endpoint_name(condition)
    if not callable(condition):
        raise EndpointError(name, "a condition must be a function")
    if is_async(condition):
        raise EndpointError(
            name, "a condition is a plain function; to await, use process_request"
        )
    if not takes(condition, 2):
        raise EndpointError(name, "a condition takes (path, headers)")
