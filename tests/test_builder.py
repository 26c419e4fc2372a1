"""Builder: what is built is read back as it was, or it is not built."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from websockets_routes import BuildError
from websockets_routes.builder import Builder
from websockets_routes.exceptions import BadRequest
from websockets_routes.target import Target, parse_target
from websockets_routes.template import Template

same_every_time = settings(derandomize=True, database=None, deadline=None)


def builder(text: str, defaults: Mapping[str, Any] | None = None) -> Builder:
    template = Template(text, None, defaults)
    return Builder(template, template.build, parse_target)


@pytest.mark.parametrize(
    ("template", "params", "path"),
    [
        ("/", {}, "/"),
        ("/a", {}, "/a"),
        ("/{a}", {"a": "x y"}, "/x%20y"),
        ("/{a}", {"a": "x/y"}, "/x%2Fy"),
        ("/{a}", {"a": 7}, "/7"),
        ("/{a}", {"a": True}, "/True"),
        ("/{a}-{b}", {"a": "1", "b": "2-3"}, "/1-2-3"),
        ("/*a/{b}", {"a": "x/y", "b": "z"}, "/x/y/z"),
        ("/a/:b?", {}, "/a"),
        ("/a/:b?", {"b": ""}, "/a"),
        ("/a/:b?", {"b": None}, "/a"),
        ("/a/:b?", {"b": "x"}, "/a/x"),
        ("/log{.kind}", {"kind": "txt"}, "/log.txt"),
        ("/log{.kind}", {"kind": None}, "/log"),
        ("/{a:\\d+}", {"a": 12}, "/12"),
    ],
)
def test_what_is_read_back_as_it_was_is_built(
    template: str, params: dict[str, object], path: str
) -> None:
    assert builder(template).build(params) == path


@pytest.mark.parametrize(
    ("template", "params"),
    [
        ("/{a}-{b}", {"a": "1-2", "b": "3"}),
        ("/{a}{b}", {"a": "12", "b": "3"}),
        ("/{a}/*b", {"a": "x", "b": ""}),
        ("/*a/*b", {"a": "x/y", "b": "z"}),
        ("/log{.kind}", {"kind": "a.b"}),
        ("/{a}{.b}", {"a": "x.y"}),
        ("/:a+", {"a": "x//y"}),
        ("/{a}", {}),
        ("/{a}", {"a": "x", "b": "y"}),
    ],
)
def test_what_would_be_read_back_differently_is_not_built(
    template: str, params: dict[str, object]
) -> None:
    with pytest.raises(BuildError) as caught:
        builder(template).build(params)
    assert caught.value.template == template


def test_the_error_shows_what_would_be_read_back() -> None:
    with pytest.raises(BuildError, match=r"/1-2-3.*would not be read back") as caught:
        builder("/{a}-{b}").build({"a": "1-2", "b": "3"})
    assert "'1-2'" in caught.value.problem


def test_defaults_are_read_back_too() -> None:
    made = builder("/a/:b?", {"b": "x", "kind": "k"})
    assert made.build({}) == "/a/x"
    assert made.build({"b": "y"}) == "/a/y"
    assert made.build({"b": "y", "kind": "k"}) == "/a/y"
    with pytest.raises(BuildError):
        made.build({"kind": "other"})


@pytest.mark.parametrize("text", ["/elsewhere", "/x/other", "/x/", "/"])
def test_a_text_that_the_template_does_not_match_is_not_given(text: str) -> None:
    made = Builder(Template("/x/{a}"), lambda params: text, parse_target)
    with pytest.raises(BuildError, match="read back"):
        made.build({"a": "y"})


def test_what_is_read_is_what_was_parsed() -> None:
    parsed: list[str] = []

    def parse(text: str) -> Target:
        parsed.append(text)
        return Target("/y", "", ["y"])

    template = Template("/{a}")
    assert Builder(template, lambda params: "anything", parse).build({"a": "y"})
    assert parsed == ["anything"]


def test_the_error_of_the_one_who_builds_goes_through() -> None:
    def build(params: Mapping[str, object]) -> str:
        raise BuildError("/x", "on purpose")

    with pytest.raises(BuildError, match="on purpose"):
        Builder(Template("/x"), build, parse_target).build({})


def test_a_builder_does_not_change_the_params() -> None:
    params = {"a": "x", "b": None}
    assert builder("/{a}/:b?").build(params) == "/x"
    assert params == {"a": "x", "b": None}


values = st.text("ab-./%", max_size=4)


@same_every_time
@given(values, values)
@pytest.mark.parametrize(
    "text", ["/{a}-{b}", "/*a/{b}", "/{a}/*b", "/{a}{.b}", "/:a?/x/:b*", "/{a:.*}-{b}"]
)
def test_whatever_is_built_is_read_back(text: str, a: str, b: str) -> None:
    template = Template(text)
    made = Builder(template, template.build, parse_target)
    try:
        path = made.build({"a": a, "b": b})
    except BuildError:
        return
    try:
        target = parse_target(path)
    except BadRequest:  # pragma: no cover
        pytest.fail(f"no client can ask for {path!r}")
    found = next(made._tree.matches(target))[1]
    assert found == {"a": a, "b": b}
