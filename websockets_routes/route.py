"""Route: a template, an endpoint, and what else was declared with them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any

from websockets import Headers

from .arity import is_async, takes
from .endpoint import Endpoint, endpoint_name
from .exceptions import BuildError, EndpointError
from .path import RoutedPath
from .target import parse_target
from .template import Template
from .tree import Tree

__all__ = ["Condition", "Route"]

Condition = Callable[[RoutedPath, Headers], bool]


class Route:
    """A declared route.

    Attributes:
        template: The URL template, parsed; ``str(route)`` is its text.
        endpoint: What it leads to; given as a function or class, it is made one.
        name: The name for ``url_for``, or None.
        condition: A plain function ``condition(path, headers)`` that may veto a
            match, or None.

    Raises:
        TemplateError: If the template cannot work.
        EndpointError: If the endpoint or the condition cannot work.
    """

    def __init__(
        self,
        template: str,
        endpoint: Callable[..., Any] | Endpoint,
        *,
        name: str | None = None,
        requirements: Mapping[str, str] | None = None,
        defaults: Mapping[str, Any] | None = None,
        condition: Condition | None = None,
    ) -> None:
        self.template = Template(template, requirements, defaults)
        if not isinstance(endpoint, Endpoint):
            endpoint = Endpoint(endpoint)
        self.endpoint = endpoint
        self.name = name
        self.condition = condition
        if condition is not None:
            _check_condition(condition)

    def __str__(self) -> str:
        return self.template.text

    def __repr__(self) -> str:
        named = f", name={self.name!r}" if self.name is not None else ""
        return f"Route({self.template.text!r}, {self.endpoint.name}{named})"

    @cached_property
    def _tree(self) -> Tree[None]:
        """A tree of this one template, to read back what ``url`` builds."""
        tree: Tree[None] = Tree()
        tree.add(self.template, None)
        return tree

    def url(self, params: Mapping[str, object]) -> str:
        """Build the path that leads here with these params, percent-encoded.

        Raises:
            BuildError: If there is no such path.
        """
        url = self.template.build(params)
        wanted = self.template.params(
            {
                name: str(value)
                for name, value in params.items()
                if name in self.template.parameters and value is not None
            }
        )
        read = next((found for _, found in self._tree.matches(parse_target(url))), None)
        if read != wanted:
            raise BuildError(
                self.template.text, f"{url!r} would not be read back as {wanted}"
            )
        return url


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
