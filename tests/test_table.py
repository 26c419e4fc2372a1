"""RouteTable: routes found by path and by name, from any thread, in time."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from websockets import Headers

from websockets_routes.exceptions import (
    BadRequest,
    BuildError,
    DuplicateName,
    TemplateError,
    UnknownName,
)
from websockets_routes.path import RoutedPath
from websockets_routes.route import Route
from websockets_routes.table import RouteTable
from websockets_routes.target import parse_target


async def handler(ws: Any, path: Any) -> None: ...


def table(*templates: str, **named: str) -> RouteTable:
    made = RouteTable()
    for template in templates:
        made.add(Route(template, handler))
    for name, template in named.items():
        made.add(Route(template, handler, name=name))
    return made


def matches(
    made: RouteTable, raw: str, headers: Headers | None = None
) -> list[RoutedPath]:
    return list(made.matches(raw, parse_target(raw), headers))


def test_the_best_match_has_its_route_and_its_params() -> None:
    made = table("/*rest", "/room/{name}", "/room/lobby")
    path = made.match("/room/a%2Fb?x=1")
    assert path == "/room/a%2Fb?x=1"
    assert str(path.route) == "/room/{name}"
    assert path.params == {"name": "a/b"}
    assert path.path == "/room/a/b"
    assert path.query == "x=1"
    assert str(made.match("/room/lobby").route) == "/room/lobby"


def test_a_path_that_matches_nothing_has_no_route() -> None:
    path = table("/room").match("/other?x")
    assert path == "/other?x"
    assert path.route is None
    assert path.params is None


@pytest.mark.parametrize("raw", ["/?room", "/other?/room", "/room%3Fx", "/roo?m"])
def test_the_query_takes_no_part_in_matching(raw: str) -> None:
    assert table("/room").match(raw).route is None
    assert table("/room").match(f"/room?{raw}").route is not None


def test_a_malformed_target_raises_even_where_everything_matches() -> None:
    with pytest.raises(BadRequest):
        table("/*").match("/%00")
    with pytest.raises(BadRequest):
        table().match("/../x")


def test_all_matches_come_the_best_first_and_share_one_context() -> None:
    paths = matches(table("/*a", "/{b}", "/x", "/y"), "/x?q")
    assert [str(path.route) for path in paths] == ["/x", "/{b}", "/*a"]
    assert [path.params for path in paths] == [{}, {"b": "x"}, {"a": "x"}]
    assert {id(path.context) for path in paths} == {id(paths[0].context)}
    assert all(path == "/x?q" for path in paths)


def test_two_matches_of_one_path_share_nothing() -> None:
    made = table("/{a}")
    first, second = made.match("/x"), made.match("/x")
    first.context["a"] = 1
    first.params["a"] = "changed"
    assert second.context == {}
    assert second.params == {"a": "x"}


def test_a_condition_that_says_no_passes_on_to_the_next_best() -> None:
    asked = []

    def condition(path: RoutedPath, headers: Headers) -> bool:
        asked.append((path.params, headers.get("X-Let"), str(path.route)))
        path.context["asked"] = True
        return headers.get("X-Let") == "in"

    made = table("/{b}")
    made.add(Route("/{a:.+}", handler, condition=condition))
    path = made.match("/x")
    assert str(path.route) == "/{b}"
    assert path.context == {"asked": True}
    assert asked == [({"a": "x"}, None, "/{a:.+}")]
    assert str(made.match("/x", Headers({"X-Let": "in"})).route) == "/{a:.+}"
    assert len(matches(made, "/x", Headers({"X-Let": "in"}))) == 2
    assert len(matches(made, "/x", Headers())) == 1


def test_a_condition_is_not_asked_where_a_better_route_matches() -> None:
    def condition(path: RoutedPath, headers: Headers) -> bool:
        raise AssertionError("a better route matches")

    made = table("/x")
    made.add(Route("/{a}", handler, condition=condition))
    assert str(made.match("/x").route) == "/x"


def test_a_condition_that_raises_says_of_which_route_it_is() -> None:
    def condition(path: RoutedPath, headers: Headers) -> bool:
        raise ZeroDivisionError

    made = RouteTable()
    made.add(Route("/{a}", handler, condition=condition))
    with pytest.raises(ZeroDivisionError) as raised:
        made.match("/x")
    assert any("/{a}" in note for note in raised.value.__notes__)


def test_where_every_condition_says_no_nothing_matches() -> None:
    made = RouteTable()
    made.add(Route("/x", handler, condition=lambda path, headers: False))
    path = made.match("/x")
    assert (path.route, path.params) == (None, None)


def test_routes_are_listed_in_the_order_in_which_they_are_tried() -> None:
    templates = ["/*a", "/{a}", "/x{a}", "/{b}", "/x*a", "/{a:x+}", "/x", "/", "/y*a"]
    assert [str(route) for route in table(*templates).routes] == [
        "/x",
        "/",
        "/x{a}",
        "/{a:x+}",
        "/{a}",
        "/{b}",
        "/x*a",
        "/y*a",
        "/*a",
    ]
    assert table().routes == ()


@pytest.mark.parametrize(
    ("templates", "path"),
    [
        (["/*a", "/*a/x", "/*a/{b}", "/{c}/x", "/{c}{.f}/{d}"], "/q/x"),
        ([r"/{a:.+}", r"/{a:\d+}/x", "/{a}/x", "/1/*b", "/*c"], "/1/x"),
        (["/{a}-x/foo", "/x-{a}/f{b}", "/{a}-x/{b}", "/*"], "/x-x/foo"),
        (["/:a+", "/:a+/y", "/{x}/{y}/*z", "/{x}/*z"], "/1/2/y"),
    ],
)
def test_the_list_agrees_with_the_matches(templates: list[str], path: str) -> None:
    for declared in (templates, templates[::-1]):
        made = table(*declared)
        assert [match.route for match in matches(made, path)] == list(made.routes)


def test_a_route_that_is_added_is_seen_by_the_next_match() -> None:
    made = table("/{a}")
    assert str(made.match("/x").route) == "/{a}"
    made.add(Route("/x", handler))
    assert str(made.match("/x").route) == "/x"
    assert len(made.routes) == 2


def test_a_name_that_is_taken_raises_and_leaves_the_table_as_it_was() -> None:
    made = table(room="/room/{id}")
    with pytest.raises(DuplicateName) as raised:
        made.add(Route("/other", handler, name="room"))
    assert raised.value.name == "room"
    assert raised.value.template == "/room/{id}"
    assert made.match("/other").route is None
    assert [str(route) for route in made.routes] == ["/room/{id}"]
    assert made.url_for("room", {"id": 1}) == "/room/1"


def test_a_route_that_cannot_be_added_leaves_the_table_as_it_was() -> None:
    made = RouteTable()
    with pytest.raises(TemplateError):
        made.add(Route("/{a:(?i)x}", handler, name="x"))
    assert made.routes == ()
    with pytest.raises(UnknownName):
        made.url_for("x", {"a": "x"})


def test_an_empty_name_is_a_name() -> None:
    made = table(**{"": "/x"})
    assert made.url_for("", {}) == "/x"
    with pytest.raises(DuplicateName):
        made.add(Route("/y", handler, name=""))


def test_a_url_is_built_by_name() -> None:
    made = table(room="/room/{id}", files="/files/*path")
    assert made.url_for("room", {"id": "a b"}) == "/room/a%20b"
    assert made.url_for("files", {"path": "a/b"}) == "/files/a/b"


def test_an_unknown_name_raises_and_suggests_the_nearest() -> None:
    made = table(room="/room/{id}", files="/files/*path")
    with pytest.raises(UnknownName, match="'rooms'; did you mean 'room'"):
        made.url_for("rooms", {})
    with pytest.raises(UnknownName) as raised:
        table("/x").url_for("x", {})
    assert raised.value.nearest is None


@pytest.mark.parametrize(
    ("params", "problem"),
    [
        ({}, "'id' is missing"),
        ({"id": 1, "other": 2}, "'other' is no parameter"),
        ({"id": "x"}, "does not match"),
    ],
)
def test_params_that_do_not_fit_raise(params: dict[str, object], problem: str) -> None:
    made = RouteTable()
    made.add(Route("/{id}", handler, name="a", requirements={"id": r"\d+"}))
    with pytest.raises(BuildError, match=problem):
        made.url_for("a", params)


def test_threads_match_while_another_adds() -> None:
    """A route that was there before is found at every moment."""
    made = table("/0/{a}", "/{a}-x/0", "/*rest")
    done = threading.Event()
    failures: list[object] = []
    rounds = [0] * 4

    def ask(index: int) -> None:
        while not done.is_set() or rounds[index] == 0:
            rounds[index] += 1
            try:
                routes = [str(path.route) for path in matches(made, "/0/1")]
                if routes[0] != "/0/{a}" or routes[-1] != "/*rest":
                    failures.append(routes)
                if str(made.match("/x-x/0").route) != "/{a}-x/0":
                    failures.append("/{a}-x/0")
                _ = made.routes
            except Exception as error:
                failures.append(error)

    threads = [threading.Thread(target=ask, args=(index,)) for index in range(4)]
    for thread in threads:
        thread.start()
    for number in range(150):
        made.add(Route(f"/{number}/x-{{a}}", handler))
        made.add(Route(f"/{{a}}/{{b:{number}+}}", handler))
        made.add(Route(f"/x{{a}}/{number}/:b?", handler))
        made.add(Route(f"/*a/{number}x", handler))
    done.set()
    for thread in threads:
        thread.join()
    assert failures == []
    assert all(rounds)
    assert len(made.routes) == 3 + 4 * 150


def test_threads_add_without_losing_a_route() -> None:
    made = RouteTable()
    start = threading.Barrier(4)

    def add(index: int) -> None:
        start.wait()
        for number in range(50):
            name = f"r{index}-{number}"
            made.add(Route(f"/{index}/{number}-{{a}}", handler, name=name))

    threads = [threading.Thread(target=add, args=(index,)) for index in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made.routes) == 200
    for index in range(4):
        for number in range(50):
            url = made.url_for(f"r{index}-{number}", {"a": "x"})
            assert made.match(url).params == {"a": "x"}


def best_time(function: Callable[[], object], rounds: int) -> float:
    """The least processor time of several measurements: noise only ever adds."""
    best = float("inf")
    for _ in range(rounds):
        start = time.thread_time()
        function()
        best = min(best, time.thread_time() - start)
    return best


KIB = 1024
UNITS = ["-", ".", "/a", "a-b/", ".-", "x/", "a.-"]
LINEAR: Mapping[str, list[str]] = {
    "/{a}-{b}-{c}-{d}": ["", "/"],
    "/{a}-{b}-end": ["-end", "-en"],
    "/*a/x/*b/{c}-{d}/*e/end": ["/end", "/en"],
    "/{a}{.f}-{b}{.g}": ["", "/"],
    "/:a+/x/:b+": ["", "/"],
}


@pytest.mark.parametrize("template", LINEAR)
def test_a_match_takes_time_linear_in_the_path(template: str) -> None:
    """Eight times the path takes about eight times the time, not sixty-four."""
    made = table(template)
    for unit in UNITS:
        for end in LINEAR[template]:
            short, long = (
                "/" + unit * (size // len(unit)) + end for size in (2 * KIB, 16 * KIB)
            )
            least = best_time(lambda raw=short: made.match(raw), 5)  # type: ignore[misc]
            most = best_time(lambda raw=long: made.match(raw), 2)  # type: ignore[misc]
            assert most < 24 * least + 0.001, (unit, end)


@pytest.mark.parametrize("unit", UNITS)
def test_an_8_kib_path_is_matched_in_milliseconds(unit: str) -> None:
    made = table("/{a}-{b}-{c}-{d}")
    raw = "/" + unit * (8 * KIB // len(unit)) + "/"
    assert best_time(lambda: made.match(raw), 5) < 0.02
