"""Routes: what is declared, what is checked then, and the URLs that lead there."""

from __future__ import annotations

import functools
from typing import Any

import pytest

from websockets_routes.exceptions import (
    BuildError,
    EndpointError,
    TemplateError,
)
from websockets_routes.route import Route
from websockets_routes.table import RouteTable


async def handler(ws: Any, path: Any) -> None: ...


def allow(path: Any, headers: Any) -> bool:
    return True


def test_a_route_shows_its_template_its_endpoint_and_its_name() -> None:
    route = Route("/{id}", handler, name="thing", condition=allow)
    assert str(route) == "/{id}"
    assert repr(route) == f"Route('/{{id}}', {__name__}:handler, name='thing')"
    assert repr(Route("/", handler)) == f"Route('/', {__name__}:handler)"
    assert route.template.text == "/{id}"
    assert route.endpoint.target is handler
    assert route.name == "thing"
    assert route.condition is allow


def test_a_template_that_cannot_work_raises_when_it_is_declared() -> None:
    with pytest.raises(TemplateError, match="position 1"):
        Route("/{id", handler)
    with pytest.raises(TemplateError, match="no parameter here"):
        Route("/{id}", handler, requirements={"di": "x"})


def test_an_endpoint_that_cannot_work_raises_when_it_is_declared() -> None:
    with pytest.raises(EndpointError, match=f"{__name__}:allow: it must be an async"):
        Route("/{id}", allow)


class Checks:
    def __call__(self, path: Any, headers: Any) -> bool:
        return True

    def method(self, path: Any, headers: Any) -> bool:
        return True


class ChecksLater:
    async def __call__(self, path: Any, headers: Any) -> bool:
        return False


async def condition_later(path: Any, headers: Any) -> bool:
    return False


async def condition_generator(path: Any, headers: Any) -> Any:
    yield False


@pytest.mark.parametrize(
    "condition",
    [
        allow,
        lambda path, headers: True,
        lambda *args: True,
        lambda path, headers, more=1: True,
        functools.partial(lambda more, path, headers: True, 1),
        Checks(),
        Checks().method,
        max,  # it does not tell what it takes
    ],
)
def test_a_condition_is_any_plain_callable_of_path_and_headers(condition: Any) -> None:
    assert Route("/", handler, condition=condition).condition is condition


@pytest.mark.parametrize(
    ("condition", "problem"),
    [
        (4, "a condition must be a function"),
        ("allow", "a condition must be a function"),
        (condition_later, "a condition is a plain function"),
        (functools.partial(condition_later), "a condition is a plain function"),
        (ChecksLater(), "a condition is a plain function"),
        (ChecksLater().__call__, "a condition is a plain function"),
        (condition_generator, "a condition is a plain function"),
        (lambda: True, "a condition takes (path, headers)"),
        (lambda path: True, "a condition takes (path, headers)"),
        (lambda path, headers, more: True, "a condition takes (path, headers)"),
        (lambda path, *, headers: True, "a condition takes (path, headers)"),
    ],
)
def test_a_condition_that_cannot_work_raises(condition: Any, problem: str) -> None:
    """One that returns a coroutine would let everybody in."""
    with pytest.raises(EndpointError) as raised:
        Route("/", handler, condition=condition)
    assert raised.value.problem.startswith(problem)


@pytest.mark.parametrize(
    ("template", "params", "url"),
    [
        ("/", {}, "/"),
        ("/{a}", {"a": "x"}, "/x"),
        ("/{a}", {"a": 1}, "/1"),
        ("/{a}", {"a": "x/y z"}, "/x%2Fy%20z"),
        ("/{a}-{b}", {"a": "1", "b": "2-3"}, "/1-2-3"),
        ("/{a}/*b", {"a": "1", "b": "2/3"}, "/1/2/3"),
        ("/*a/x", {"a": "1/x/2"}, "/1/x/2/x"),
        ("/x{.f}", {}, "/x"),
        ("/x{.f}", {"f": None}, "/x"),
        ("/x{.f}", {"f": "a/b"}, "/x.a%2Fb"),
        ("/x/:a?", {"a": None}, "/x"),
        ("/x/:a*", {"a": "1/2"}, "/x/1/2"),
        ("/:a?/:b?", {"a": "1"}, "/1"),
        (r"/{a:\d{4}}", {"a": 2024}, "/2024"),
        ("/{a:.*}", {"a": "x/y"}, "/x/y"),
        ("/{a:x*}", {"a": ""}, "/"),
        ("/x/*", {}, "/x/"),
        ("/{class}/{self}", {"class": 1, "self": 2}, "/1/2"),
    ],
)
def test_a_url_leads_back_to_its_params(
    template: str, params: dict[str, object], url: str
) -> None:
    route = Route(template, handler)
    assert route.url(params) == url
    table = RouteTable()
    table.add(route)
    found = table.match(url).params
    given = {name: str(value) for name, value in params.items() if value is not None}
    assert found == {**dict.fromkeys(route.template.parameters, ""), **given}


def test_a_url_needs_no_value_where_there_is_a_default() -> None:
    route = Route("/{a}/:b?", handler, defaults={"a": 1, "b": "x", "kind": "k"})
    assert route.url({}) == "/1/x"
    assert route.url({"a": 2, "b": 3, "kind": "k"}) == "/2/3"


@pytest.mark.parametrize(
    ("template", "params"),
    [
        # Built, but read back as something else.
        ("/{a}-{b}", {"a": "1-2", "b": "3"}),
        ("/*a/x/*b", {"a": "1/x/2", "b": "3"}),
        ("/{a}{.f}", {"a": "x.y"}),
        ("/{a}{b}", {"a": "xy", "b": "z"}),
        ("/x{.f}", {"f": "tar.gz"}),
        ("/:a?/:b?", {"b": "2"}),
        ("/:a+", {"a": "1//2"}),
        ("/:a+", {"a": "/1"}),
        ("/:a+", {"a": "1/"}),
        # Not built at all.
        ("/{a}", {}),
        ("/{a}", {"a": ""}),
        ("/{a}", {"a": "x", "b": "y"}),
        ("/{a}", {"a": ".."}),
        ("/{a}", {"a": b"x"}),
        ("/{a}", {"a": "\n"}),
        (r"/{a:\d+}", {"a": "x"}),
    ],
)
def test_a_url_that_would_not_lead_back_raises(
    template: str, params: dict[str, object]
) -> None:
    route = Route(template, handler)
    with pytest.raises(BuildError) as raised:
        route.url(params)
    assert raised.value.template == template
    assert raised.value.problem
