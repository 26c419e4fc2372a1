"""RouteTable: the declared routes, found by path and by name."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from itertools import dropwhile, groupby
from operator import itemgetter
from typing import Any

from websockets import Headers

from .exceptions import DuplicateName, UnknownName
from .path import RoutedPath
from .route import Condition, Route
from .target import Target, parse_target
from .tree import Tree

__all__ = ["RouteTable"]

_NO_PARAMS: Mapping[str, str] = {}


class RouteTable:
    """Routes, matched by specificity whatever the order in which they were added.

    Every method may be called from any thread; a match takes no lock and sees
    each route either whole or not at all.
    """

    def __init__(self) -> None:
        self._routes: list[Route] = []
        self._by_name: dict[str, Route] = {}
        self._tree: Tree[Route] = Tree()
        # Those of requests; a path may lead to both.
        self._requests: Tree[Route] | None = None
        self._lock = threading.Lock()

    def add(self, *routes: Route) -> None:
        """Add routes; the next match sees them.

        Raises:
            DuplicateName: If another route has the name of one; none is added then.
        """
        with self._lock:
            named = dict(self._by_name)
            for route in routes:
                if route.name is not None:
                    taken = named.setdefault(route.name, route)
                    if taken is not route:
                        raise DuplicateName(route.name, str(taken))
            self._by_name = named
            for route in routes:
                self._routes.append(route)
                if route.methods is None:
                    self._tree.add(route.template, route)
                else:
                    if self._requests is None:
                        self._requests = Tree()
                    self._requests.add(route.template, route)

    @property
    def declared(self) -> tuple[Route, ...]:
        """The routes in the order in which they were added."""
        with self._lock:
            return tuple(self._routes)

    @property
    def routes(self) -> tuple[Route, ...]:
        """The routes in the order in which they are tried."""
        with self._lock:
            return tuple(sorted(self._routes, key=_specificity))

    def match(
        self,
        raw: str,
        headers: Headers | None = None,
        host: Mapping[str, str] = _NO_PARAMS,
    ) -> RoutedPath:
        """Find the best match of a request target.

        Args:
            raw: The request target.
            headers: For conditions that look at them.
            host: The params of the host; those of the path come before them.

        Returns:
            The path; its ``route`` and ``params`` are None if nothing matches.

        Raises:
            BadRequest: If the target is malformed.
        """
        target = parse_target(raw)
        found = self._tree.first(target)
        if found is None:
            return RoutedPath(raw, target)
        route, params = found
        if route.condition is None:
            return RoutedPath(
                raw, target, route, {**host, **params} if host else params
            )
        matches = self.matches(raw, target, headers, host)
        return next(matches, None) or RoutedPath(raw, target)

    def matches(
        self,
        raw: str,
        target: Target,
        headers: Headers | None = None,
        host: Mapping[str, str] = _NO_PARAMS,
        after: RoutedPath | None = None,
    ) -> Iterator[RoutedPath]:
        """Find all matches, the best first; conditions are asked on the way.

        Args:
            raw: The request target.
            target: The same, parsed.
            headers: For conditions that look at them.
            host: The params of the host; those of the path come before them.
            after: A match of the same target: what is better is left out, the
                conditions are not asked again, and the context is shared.
        """
        context = {} if after is None else after.context
        matches = self._tree.matches(target)
        if after is not None:
            matches = dropwhile(lambda match: match[0] is not after.route, matches)
            next(matches, None)
        for route, params in matches:
            params = {**host, **params} if host else params
            path = RoutedPath(raw, target, route, params, context)
            if route.condition is None or _met(route.condition, path, headers):
                yield path

    def requests(
        self,
        raw: str,
        target: Target,
        method: str,
        headers: Headers | None = None,
        host: Mapping[str, str] = _NO_PARAMS,
    ) -> Iterator[RoutedPath]:
        """Find what answers a request, the best first.

        Of equally specific ones, a route of this very method comes before one that
        answers HEAD because it answers GET, and that before one for any method.

        Args:
            raw: The request target.
            target: The same, parsed.
            method: The method.
            headers: For conditions that look at them.
            host: The params of the host; those of the path come before them.
        """
        if self._requests is None:
            return
        context: dict[Any, Any] = {}
        for _, group in groupby(self._requests.matches(target), _specificity_of):
            ranked = [
                (rank, route, params)
                for route, params in group
                if (rank := route.answers(method)) is not None
            ]
            for _, route, params in sorted(ranked, key=itemgetter(0)):
                params = {**host, **params} if host else params
                path = RoutedPath(raw, target, route, params, context)
                if route.condition is None or _met(route.condition, path, headers):
                    yield path

    def methods(self, target: Target) -> set[str]:
        """List the methods that are answered at a target."""
        found: set[str] = set()
        if self._requests is not None:
            for route, _ in self._requests.matches(target):
                found |= route.methods or frozenset()
        return found

    def has(self, name: str) -> bool:
        """Tell whether a route has a name."""
        return name in self._by_name

    def url_for(self, name: str, params: dict[str, object]) -> str:
        """Build the path of a named route.

        Raises:
            UnknownName: If no route has the name.
            BuildError: If the params do not fit.
        """
        return self.named(name).url(params)

    def named(self, name: str) -> Route:
        """Find a route by its name.

        Raises:
            UnknownName: If no route has it.
        """
        route = self._by_name.get(name)
        if route is None:
            raise UnknownName(name, tuple(self._by_name))
        return route


def _specificity_of(match: tuple[Route, Any]) -> tuple[int, ...]:
    return _specificity(match[0])


def _specificity(route: Route) -> tuple[int, ...]:
    return route.template.forms[0].specificity


def _met(condition: Condition, path: RoutedPath, headers: Headers | None) -> bool:
    try:
        return bool(condition(path, Headers() if headers is None else headers))
    except Exception as error:
        error.add_note(f"raised by the condition of route {path.route}")
        raise
