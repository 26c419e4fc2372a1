"""Listing: the routes of a router, as the command prints them."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING

from .loading import load_router
from .path import RoutedPath
from .resource import WEBSOCKET
from .route import Route

if TYPE_CHECKING:
    from .router import Router

__all__ = ["list_routes"]


def list_routes(options: argparse.Namespace) -> int:
    """Print the routes of a router, or what a path matches; return the exit code."""
    router = load_router(options.router)
    if options.match is not None:
        return _print_matches(router, options.match)
    _print_routes(router.routes, options.verbose)
    for host, routes in router.hosts:
        print(f"\n{host}")
        _print_routes(routes, options.verbose)
    return 0


def _print_routes(routes: Sequence[Route], verbose: bool) -> None:
    rows: list[tuple[str, ...]]
    rows = [("TEMPLATE", "NAME", "ENDPOINT")]
    rows += [(str(each), each.name or "", each.endpoint.name) for each in routes]
    if any(each.methods is not None for each in routes):
        methods = ["METHOD", *map(_method, routes)]
        rows = [(method, *row) for method, row in zip(methods, rows, strict=True)]
    for line, route in zip(_align(rows), [None, *routes], strict=True):
        print(line)
        if verbose and route is not None:
            for text in route.describe():
                print(f"    {text}")


def _method(route: Route) -> str:
    if route.methods is None:
        return WEBSOCKET
    return ", ".join(sorted(route.methods)) or "any"


def _print_matches(router: Router, target: str) -> int:
    path = router.match(target)
    found = [] if path.route is None else [path]
    declared = {each for route in router.routes for each in route.methods or ()}
    # What answers any method answers one that nobody has heard of.
    for method in (*sorted(declared), "*"):
        path = router.match(target, method=method)
        if path.route is not None and path.route not in {each.route for each in found}:
            found.append(path)
    if not found:
        print(f"{target} matches nothing")
        return 1
    for index, path in enumerate(found):
        if index:
            print()
        _print_match(path)
    return 0


def _print_match(path: RoutedPath) -> None:
    route = path.route
    assert route is not None, "it matches"
    rows = [("template", str(route)), ("endpoint", route.endpoint.name)]
    if route.methods is not None:
        rows.insert(0, ("method", _method(route)))
    if route.name is not None:
        rows.insert(-1, ("name", route.name))
    rows += [(f"params[{name!r}]", repr(value)) for name, value in path.params.items()]
    _print_rows(rows)


def _print_rows(rows: Sequence[tuple[str, ...]]) -> None:
    for line in _align(rows):
        print(line)


def _align(rows: Sequence[tuple[str, ...]]) -> list[str]:
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)
        ).rstrip()
        for row in rows
    ]
