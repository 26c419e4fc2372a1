"""RoutedPath: the path of a connection, with what routing found in it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from copy import deepcopy
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import parse_qsl

from .exceptions import BadRequest
from .target import Target, parse_target

if TYPE_CHECKING:
    from .route import Route

__all__ = ["QueryParams", "RoutedPath"]


class QueryParams(Mapping[str, str]):
    """The parameters of a query string: a read-only mapping to their first values.

    A parameter without a value maps to ``""``. What is no valid UTF-8 is
    replaced by U+FFFD.

    Args:
        query: The raw query string, without ``?``.
    """

    __slots__ = ("_values",)

    def __init__(self, query: str = "") -> None:
        self._values: dict[str, list[str]] = {}
        for name, value in parse_qsl(query, keep_blank_values=True):
            self._values.setdefault(name, []).append(value)

    def __getitem__(self, name: str) -> str:
        return self._values[name][0]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._values})"

    def get_all(self, name: str) -> list[str]:
        """Return all values of a parameter, in order; none if it is missing."""
        return list(self._values.get(name, ()))


class RoutedPath(str):
    """The request target of a connection, exactly as ``websockets`` gives it.

    It equals that str, query included; slicing it, joining it and every other
    str operation give plain strings. A copy is whole; a pickle keeps the text
    and the params.

    Args:
        raw: The request target.
        target: The same, parsed, if it has been parsed before.
        route: The route that it matches, if any.
        params: What the route found in it.
        context: The context to share with another path of the same connection.

    Attributes:
        route: The declared route; None when nothing matched.
        params: Values by parameter name, in the template's order; None when
            nothing matched, which a handler never sees.
        context: A dict for whatever hooks want to hand on to the handler.
        path: The path, decoded, without the query.
        query: The raw query string, without ``?``.
    """

    __slots__ = (
        "_inputs",
        "_query_params",
        "context",
        "outcome",
        "params",
        "path",
        "query",
        "route",
    )

    route: Route | None
    params: dict[str, str] | Any
    context: dict[Any, Any]
    path: str
    query: str
    # For the handshake: what serves the connection once its hooks have let it in,
    # or the code to close it with if they have not.
    outcome: Any
    _query_params: QueryParams | None
    _inputs: dict[str, Any] | None

    def __new__(
        cls,
        raw: str,
        target: Target | None = None,
        route: Route | None = None,
        params: dict[str, str] | None = None,
        context: dict[Any, Any] | None = None,
    ) -> Self:
        self = super().__new__(cls, raw)
        if target is None:
            try:
                target = parse_target(raw)
            except BadRequest:
                path, _, query = raw.partition("?")
                target = Target(path, query, [])
        self.path = target.path
        self.query = target.query
        self.route = route
        self.params = params
        self.context = {} if context is None else context
        self._inputs = None
        self.outcome = None
        self._query_params = None
        return self

    @property
    def query_params(self) -> QueryParams:
        """The parameters of the query string, parsed when first asked for."""
        if self._query_params is None:
            self._query_params = QueryParams(self.query)
        return self._query_params

    @property
    def inputs(self) -> dict[str, Any]:
        """The declared headers and query parameters, converted, by name."""
        if self._inputs is None:
            self._inputs = {}
        return self._inputs

    @inputs.setter
    def inputs(self, inputs: dict[str, Any]) -> None:
        self._inputs = inputs

    def __copy__(self) -> Self:
        target = Target(self.path, self.query, [])
        copied = type(self)(self, target, self.route, self.params, self.context)
        copied.outcome = self.outcome
        copied._inputs = self._inputs
        return copied

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        copied = self.__copy__()  # the route is one and the same, however often
        memo[id(self)] = copied
        copied.params = deepcopy(self.params, memo)
        copied.context = deepcopy(self.context, memo)
        return copied

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        # Routes and contexts hold functions and connections, which pickle cannot.
        return type(self), (str(self), None, None, self.params)


def _on_plain_text(name: str) -> Any:
    def method(self: RoutedPath, *args: Any, **kwargs: Any) -> Any:
        return getattr(str(self), name)(*args, **kwargs)

    method.__name__ = name
    method.__doc__ = getattr(str, name).__doc__
    return method


# These return the very object that they are called on when nothing changes.
for _name in (
    "__format__",
    "__mod__",
    "format",
    "format_map",
    "partition",
    "rpartition",
    "rsplit",
    "split",
):
    setattr(RoutedPath, _name, _on_plain_text(_name))
