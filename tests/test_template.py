"""Templates: their forms and ranks, the params they give, the paths they build."""

from __future__ import annotations

from typing import Any

import pytest

from websockets_routes.exceptions import BuildError, TemplateError
from websockets_routes.template import Rank, Template

L = Rank.LITERAL
LP = Rank.LITERAL_WITH_PARAMETER
C = Rank.CONSTRAINED
P = Rank.PARAMETER
LW = Rank.LITERAL_WITH_WILDCARD
W = Rank.WILDCARD


@pytest.mark.parametrize(
    ("text", "ranks", "tail"),
    [
        ("/", (L,), None),
        ("//", (L, L), None),
        ("/a/b/", (L, L, L), None),
        ("/{a}", (P,), None),
        ("/{a}{b}", (P,), None),
        ("/{a}{.f}", (P,), None),
        ("/x{a}", (LP,), None),
        ("/x{.f}", (LP,), None),
        ("/{a}-{b}", (LP,), None),
        ("/{a:x}-", (LP,), None),
        ("/{a:x}", (C,), None),
        ("/{a:x}{b}", (C,), None),
        ("/{a}{.f:x}", (C,), None),
        ("/{a:.*}", (C,), 0),
        ("/x{a:.*}", (LP,), 0),
        ("/a/{b}/{c:[^x]}/d", (L, P, C, L), 2),
        ("/*a", (W,), 0),
        ("/*", (W,), 0),
        ("/:a+", (W,), 0),
        ("/x*a", (LW,), 0),
        ("/*(a)x", (LW,), 0),
        ("/{a}*b", (W,), 0),
        ("/a/{b}/*c/d{e}", (L, P, W, LP), 2),
    ],
)
def test_each_segment_has_a_rank_and_the_tail_begins_where_segments_blur(
    text: str, ranks: tuple[Rank, ...], tail: int | None
) -> None:
    (form,) = Template(text).forms
    assert form.ranks == ranks
    assert form.tail == tail
    assert form.left_out == ()


@pytest.mark.parametrize("name", ["a*", "a+"])
def test_a_requirement_makes_a_wildcard_a_constrained_parameter(name: str) -> None:
    form = Template(f"/:{name}", {"a": "x"}).forms[0]
    assert form.ranks == (C,)
    assert form.tail == 0


def test_ranks_are_in_the_order_of_specificity() -> None:
    assert L < LP < C < P < LW < W


@pytest.mark.parametrize(
    ("text", "forms"),
    [
        ("/:a?", [((P,), ()), ((L,), ("a",))]),
        ("/x/:a?", [((L, P), ()), ((L,), ("a",)), ((L, L), ("a",))]),
        ("/:a*", [((W,), ()), ((L,), ("a",))]),
        (
            "/x/:a?/y",
            [((L, P, L), ()), ((L, L), ("a",)), ((L, L, L), ("a",))],
        ),
        (
            "/:a?/:b?",
            [
                ((P, P), ()),
                ((P,), ("b",)),
                ((P, L), ("b",)),
                ((P,), ("a",)),
                ((L,), ("a", "b")),
                ((L, P), ("a",)),
                ((L,), ("a", "b")),
                ((L, L), ("a", "b")),
            ],
        ),
    ],
)
def test_an_optional_component_may_be_missing_with_or_without_its_slash(
    text: str, forms: list[tuple[tuple[Rank, ...], tuple[str, ...]]]
) -> None:
    template = Template(text)
    assert [(form.ranks, form.left_out) for form in template.forms] == forms


@pytest.mark.parametrize(
    "text",
    [
        "/:a?/:b?/:c?/:d*/:e?",
        "/{.a}{.b}{.c}{.d}{.e}",
    ],
)
def test_more_optional_parts_than_can_be_told_apart_raise(text: str) -> None:
    with pytest.raises(TemplateError, match="more than 4 parts are optional"):
        Template(text)


@pytest.mark.parametrize("text", ["/:a?/:b?/:c?/:d*", "/{.a}{.b}{.c}{.d}"])
def test_four_optional_parts_are_allowed(text: str) -> None:
    assert list(Template(text).parameters) == ["a", "b", "c", "d"]


def test_a_template_shows_its_text() -> None:
    template = Template("/{a}/*b")
    assert template.text == "/{a}/*b"
    assert repr(template) == "Template('/{a}/*b')"


def test_a_template_that_cannot_work_raises() -> None:
    with pytest.raises(TemplateError):
        Template("/{a")


def test_params_come_in_the_order_of_the_template_and_then_the_defaults() -> None:
    template = Template("/{b}/:a?", defaults={"z": 1, "a": "x", "y": None})
    assert list(template.params({"a": "1", "b": "2"}).items()) == [
        ("b", "2"),
        ("a", "1"),
        ("z", "1"),
        ("y", "None"),
    ]
    assert template.params({"b": "2"}) == {"b": "2", "a": "x", "z": "1", "y": "None"}


def test_params_of_what_is_missing_are_empty() -> None:
    assert Template("/x{.f}/:a?").params({"f": ""}) == {"f": "", "a": ""}


@pytest.mark.parametrize(
    ("text", "params", "path"),
    [
        ("/", {}, "/"),
        ("/a/b/", {}, "/a/b/"),
        ("/{a}", {"a": "x"}, "/x"),
        ("/{a}", {"a": 7}, "/7"),
        ("/{a}-{b}", {"b": 2, "a": 1.5}, "/1.5-2"),
        # Escapes.
        ("/{a}", {"a": "x/y"}, "/x%2Fy"),
        ("/{a}", {"a": "a b?c#d%e"}, "/a%20b%3Fc%23d%25e"),
        ("/{a}", {"a": "é"}, "/%C3%A9"),
        ("/{a}", {"a": "%41"}, "/%2541"),
        ("/{a}", {"a": "~!$&'()*+,;=:@-._"}, "/~!$&'()*+,;=:@-._"),
        ("/{a}", {"a": '"<>[]\\^`{|}'}, "/%22%3C%3E%5B%5D%5C%5E%60%7B%7C%7D"),
        ("/café/{a}", {"a": "1"}, "/caf%C3%A9/1"),
        (r"/\{x\} #%41/{a}", {"a": "1"}, "/%7Bx%7D%20%23%2541/1"),
        # What spans segments keeps its slashes.
        ("/*a", {"a": "x/y z"}, "/x/y%20z"),
        ("/*(a)/x", {"a": "/y/"}, "//y//x"),
        ("/:a+", {"a": "x/y"}, "/x/y"),
        ("/:a*", {"a": "x/y"}, "/x/y"),
        # What is optional may be missing, None or empty.
        ("/:a?", {}, "/"),
        ("/:a?", {"a": None}, "/"),
        ("/:a*", {"a": ""}, "/"),
        ("/x/:a?", {}, "/x"),
        ("/x/:a*", {}, "/x"),
        ("/x/:a?/y", {}, "/x/y"),
        ("/x/:a?/y", {"a": "z"}, "/x/z/y"),
        ("/:a?/:b?", {"b": "2"}, "/2"),
        ("/x{.f}", {}, "/x"),
        ("/x{.f}", {"f": ""}, "/x"),
        ("/x{.f}", {"f": "json"}, "/x.json"),
        ("/x/*", {}, "/x/"),
    ],
)
def test_a_path_is_built_from_params(
    text: str, params: dict[str, object], path: str
) -> None:
    assert Template(text).build(params) == path


@pytest.mark.parametrize(
    ("text", "requirements", "params", "path"),
    [
        ("/{a}", {"a": r"\d+"}, {"a": 12}, "/12"),
        ("/{a}", {"a": "a|b/c"}, {"a": "b/c"}, "/b/c"),
        ("/{a}", {"a": "x*"}, {"a": ""}, "/"),
        ("/{a}", {"a": "x*"}, {}, "/"),
        ("/:a+", {"a": r"\d"}, {"a": "1/2"}, "/1/2"),
        ("/x{.f}", {"f": "a|b"}, {"f": "b"}, "/x.b"),
        ("/x{.f}", {"f": "a|b"}, {}, "/x"),
        ("/x/:a?", {"a": "x"}, {}, "/x"),
    ],
)
def test_a_path_is_built_from_params_that_meet_their_requirements(
    text: str, requirements: dict[str, str], params: dict[str, object], path: str
) -> None:
    assert Template(text, requirements).build(params) == path


@pytest.mark.parametrize(
    ("text", "requirements", "params", "problem"),
    [
        ("/{a}", {}, {}, "'a' is missing"),
        ("/{a}", {}, {"a": None}, "'a' is missing"),
        ("/{a}", {}, {"a": ""}, "'a' is missing"),
        ("/*a", {}, {}, "'a' is missing"),
        ("/:a+", {}, {"a": ""}, "'a' is missing"),
        ("/{a}", {"a": "x+"}, {}, "'a' is missing"),
        ("/{a}", {}, {"a": 1, "b": 2}, "'b' is no parameter of it"),
        ("/", {}, {"b": None}, "'b' is no parameter of it"),
        ("/x/*", {}, {"": "y"}, "'' is no parameter of it"),
        ("/{a}", {"a": r"\d+"}, {"a": "x"}, r"a='x' does not match '\\d+'"),
        ("/{a}", {"a": r"\d+"}, {"a": "1x"}, "does not match"),
        ("/:a+", {"a": r"\d"}, {"a": "1/x"}, "does not match"),
        ("/:a+", {"a": r"\d"}, {"a": "1/"}, "does not match"),
        ("/x{.f}", {"f": "a|b"}, {"f": "c"}, "does not match"),
        ("/{a}", {}, {"a": b"x"}, "'a' must be a str, not bytes"),
        ("/{a}", {}, {"a": bytearray(b"x")}, "'a' must be a str, not bytes"),
        ("/{a}", {}, {"a": memoryview(b"x")}, "'a' must be a str, not bytes"),
        ("/{a}", {}, {"a": "x\n"}, "'a' contains a control character"),
        ("/{a}", {}, {"a": "\x00"}, "'a' contains a control character"),
        ("/{a}", {}, {"a": "\x85"}, "'a' contains a control character"),
        ("/{a}", {}, {"a": "\ud800"}, "'a' contains a control character or a lone"),
        ("/{a}", {}, {"a": ".."}, "dot segments of '/..'"),
        ("/x/{a}/y", {}, {"a": "."}, "dot segments of '/x/./y'"),
        ("/*a", {}, {"a": "x/../y"}, "dot segments"),
        ("/.{a}", {}, {"a": "."}, "dot segments"),
    ],
)
def test_params_that_fit_no_path_raise(
    text: str, requirements: dict[str, str], params: dict[str, object], problem: str
) -> None:
    with pytest.raises(BuildError) as raised:
        Template(text, requirements).build(params)
    assert problem in raised.value.problem
    assert raised.value.template == text


def test_defaults_take_the_place_of_what_is_missing() -> None:
    template = Template("/{a}/:b?", defaults={"a": 1, "b": "x"})
    assert template.build({}) == "/1/x"
    assert template.build({"a": 2}) == "/2/x"


def test_a_param_that_a_default_adds_may_be_given_back() -> None:
    template = Template("/{a}", defaults={"kind": 1})
    assert template.build({"a": "x", "kind": "1"}) == "/x"
    assert template.build({"a": "x", "kind": 1}) == "/x"
    with pytest.raises(BuildError, match="'kind' is no parameter of it"):
        template.build({"a": "x", "kind": "2"})


def test_what_was_passed_in_is_neither_kept_nor_changed() -> None:
    requirements, defaults = {"a": "x"}, dict[str, Any](b=1)
    template = Template("/{a}", requirements, defaults)
    assert (requirements, defaults) == ({"a": "x"}, {"b": 1})
    requirements["a"], defaults["b"] = "y", 2
    assert template.params({"a": "x"}) == {"a": "x", "b": "1"}
