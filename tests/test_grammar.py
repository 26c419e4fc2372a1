"""The grammar: what a template's text means, and where it goes wrong."""

from __future__ import annotations

from typing import Any

import pytest

from websockets_routes.exceptions import TemplateError
from websockets_routes.grammar import Kind, Literal, Parameter, Part, parse_template

SEGMENT = Kind.SEGMENT


def parameter(
    name: str, kind: Kind = SEGMENT, regex: str | None = None, optional: bool = False
) -> Parameter:
    return Parameter(name, kind, regex, optional)


def lit(text: str) -> Literal:
    return Literal(text)


TEMPLATES: list[tuple[str, list[Part]]] = [
    ("/", [lit("/")]),
    ("/thing", [lit("/thing")]),
    ("/thing/", [lit("/thing/")]),
    ("//", [lit("//")]),
    # The four ways to write a parameter.
    ("/{id}", [lit("/"), parameter("id")]),
    ("/:id", [lit("/"), parameter("id")]),
    ("/:(id)", [lit("/"), parameter("id")]),
    ("/{id:x}", [lit("/"), parameter("id", regex="x")]),
    ("/:a-:b", [lit("/"), parameter("a"), lit("-"), parameter("b")]),
    ("/:(a)b:c", [lit("/"), parameter("a"), lit("b"), parameter("c")]),
    ("/x{a}{b}y", [lit("/x"), parameter("a"), parameter("b"), lit("y")]),
    ("/{a}/{b}", [lit("/"), parameter("a"), lit("/"), parameter("b")]),
    # Wildcards.
    ("/*rest", [lit("/"), parameter("rest", Kind.WILDCARD)]),
    ("/*(rest)", [lit("/"), parameter("rest", Kind.WILDCARD)]),
    ("/x*r/y", [lit("/x"), parameter("r", Kind.WILDCARD), lit("/y")]),
    ("/*(a)b", [lit("/"), parameter("a", Kind.WILDCARD), lit("b")]),
    ("/*", [lit("/"), parameter("", Kind.REST)]),
    ("/x/*", [lit("/x/"), parameter("", Kind.REST)]),
    # Formats.
    ("/x{.fmt}", [lit("/x"), parameter("fmt", Kind.FORMAT)]),
    ("/x{.fmt:a|b}", [lit("/x"), parameter("fmt", Kind.FORMAT, "a|b")]),
    # Modifiers.
    ("/:id?", [lit("/"), parameter("id", optional=True)]),
    ("/:id+", [lit("/"), parameter("id", Kind.COMPONENTS)]),
    ("/:id*", [lit("/"), parameter("id", Kind.COMPONENTS, optional=True)]),
    ("/:id?/x", [lit("/"), parameter("id", optional=True), lit("/x")]),
    (
        "/:a+/:b*",
        [
            lit("/"),
            parameter("a", Kind.COMPONENTS),
            lit("/"),
            parameter("b", Kind.COMPONENTS, optional=True),
        ],
    ),
    # A modifier needs a bare name: these are literals.
    ("/{id}+", [lit("/"), parameter("id"), lit("+")]),
    ("/:(id)+", [lit("/"), parameter("id"), lit("+")]),
    # Regexes with braces, colons and classes, read to their end.
    (r"/{id:\d{4}}", [lit("/"), parameter("id", regex=r"\d{4}")]),
    (
        r"/{id:\d{2}-\d{2}}x",
        [lit("/"), parameter("id", regex=r"\d{2}-\d{2}"), lit("x")],
    ),
    ("/{id:(?:a|b):c}", [lit("/"), parameter("id", regex="(?:a|b):c")]),
    ("/{id:[}]}", [lit("/"), parameter("id", regex="[}]")]),
    ("/{id:[{]}", [lit("/"), parameter("id", regex="[{]")]),
    ("/{id:[]}]}", [lit("/"), parameter("id", regex="[]}]")]),
    ("/{id:[^]}]}", [lit("/"), parameter("id", regex="[^]}]")]),
    ("/{id:[^}]}", [lit("/"), parameter("id", regex="[^}]")]),
    (r"/{id:[\]}]}", [lit("/"), parameter("id", regex=r"[\]}]")]),
    (r"/{id:\}}", [lit("/"), parameter("id", regex=r"\}")]),
    (r"/{id:\{}", [lit("/"), parameter("id", regex=r"\{")]),
    (r"/{id:\[}", [lit("/"), parameter("id", regex=r"\[")]),
    ("/{id:a/b}", [lit("/"), parameter("id", regex="a/b")]),
    ("/{id:a?}", [lit("/"), parameter("id", regex="a?")]),
    (r"/{id:\\}", [lit("/"), parameter("id", regex=r"\\")]),
    (r"/{id:(?:\\\\)1}", [lit("/"), parameter("id", regex=r"(?:\\\\)1")]),
    (r"/{id:(a)(b)}", [lit("/"), parameter("id", regex="(a)(b)")]),
    # Escapes: of the grammar's own characters; elsewhere the backslash stays.
    (r"/\{id\}", [lit("/{id}")]),
    (r"/\:id", [lit("/:id")]),
    (r"/\*id", [lit("/*id")]),
    (r"/\*", [lit("/*")]),
    (r"/a\\b", [lit(r"/a\b")]),
    (r"/a\b", [lit(r"/a\b")]),
    (r"/\:{id}", [lit("/:"), parameter("id")]),
    # Unicode, in literals and in names; what looks encoded is not.
    ("/café/{ñame}", [lit("/café/"), parameter("ñame")]),
    ("/:größe", [lit("/"), parameter("größe")]),
    ("/a%20b", [lit("/a%20b")]),
    ("/a b#c", [lit("/a b#c")]),
    # Names that Routes or Python give a meaning to are names like any other.
    (
        "/{controller}/{action}",
        [lit("/"), parameter("controller"), lit("/"), parameter("action")],
    ),
    ("/{class}/{self}", [lit("/"), parameter("class"), lit("/"), parameter("self")]),
]


@pytest.mark.parametrize(("template", "parts"), TEMPLATES)
def test_a_template_has_these_parts(template: str, parts: list[Part]) -> None:
    assert parse_template(template) == tuple(parts)


@pytest.mark.parametrize(
    ("template", "kind"),
    [
        ("/{id}", Kind.SEGMENT),
        ("/:id", Kind.SEGMENT),
        ("/:(id)", Kind.SEGMENT),
        ("/:id?", Kind.SEGMENT),
        ("/:id+", Kind.COMPONENTS),
        ("/:id*", Kind.COMPONENTS),
        ("/*id", Kind.WILDCARD),
        ("/x{.id}", Kind.FORMAT),
    ],
)
def test_a_requirement_goes_to_the_parameter_that_it_names(
    template: str, kind: Kind
) -> None:
    requirements = {"id": r"\d+"}
    found = parse_template(template, requirements)[1]
    assert isinstance(found, Parameter)
    assert (found.name, found.kind, found.regex) == ("id", kind, r"\d+")
    assert requirements == {"id": r"\d+"}, "what was passed in stays as it was"


def test_requirements_reach_each_of_several_parameters() -> None:
    assert parse_template("/{a}-{b}", {"b": "y", "a": "x"}) == (
        lit("/"),
        parameter("a", regex="x"),
        lit("-"),
        parameter("b", regex="y"),
    )


FAULTS: list[tuple[str, int, str]] = [
    ("", 0, "begins with a slash"),
    ("thing", 0, "begins with a slash"),
    ("{id}/", 0, "begins with a slash"),
    ("http://host/x", 0, "begins with a slash"),
    # Braces.
    ("/a/{id", 3, "never closed"),
    ("/a/{", 3, "never closed"),
    (r"/a/{id:\}", 3, "never closed"),
    ("/a/{id:a{2}", 3, "never closed"),
    ("/a/{id:[}", 3, "never closed"),
    ("/a/{id:[]}", 3, "never closed"),
    ("/a/{id:[^]}", 3, "never closed"),
    ("/a/{id:\\", 3, "never closed"),
    ("/a}", 2, "no brace is open"),
    ("/{id}}", 5, "no brace is open"),
    ("/{id:a}b}", 8, "no brace is open"),
    # Names.
    ("/a/{}", 3, "needs a name"),
    ("/a/{:x}", 3, "needs a name"),
    ("/a/{.}", 3, "needs a name"),
    ("/a/:()", 3, "needs a name"),
    ("/a/*()", 3, "needs a name"),
    ("/a/:", 3, "a name must follow ':'"),
    ("/a/:/b", 3, "a name must follow ':'"),
    ("/a/:-", 3, "a name must follow ':'"),
    ("/a/*/b", 3, "a name must follow '*'"),
    ("/a*", 2, "a name must follow '*'"),
    ("/a/**", 3, "a name must follow '*'"),
    ("/:(id", 2, "parenthesis is never closed"),
    ("/x/*(id/", 4, "parenthesis is never closed"),
    ("/{i d}", 2, "'i d' is no identifier"),
    ("/{ id}", 2, "' id' is no identifier"),
    ("/{1}", 2, "'1' is no identifier"),
    ("/:1", 2, "'1' is no identifier"),
    ("/:(1a)", 3, "'1a' is no identifier"),
    ("/x{.a-b}", 4, "'a-b' is no identifier"),
    ("/{id}/{id}", 7, "'id' is used twice"),
    ("/:id/*id", 6, "'id' is used twice"),
    ("/:(id)x:(id)", 9, "'id' is used twice"),
    ("/{id}{.id}", 7, "'id' is used twice"),
    # Regexes.
    ("/{id:}", 5, "the regex is empty"),
    ("/{.id:}", 6, "the regex is empty"),
    ("/a/{id:(x}", 7, "the regex of 'id' is broken"),
    ("/a/{id:ab[c]**}", 13, "the regex of 'id' is broken"),
    ("/{id:*}", 5, "the regex of 'id' is broken"),
    ("/{id:a{9999999999999}}", 5, "the regex of 'id' is broken"),
    ("/{id:" + "(" * 9999 + ")" * 9999 + "}", 5, "the regex of 'id' is broken"),
    ("/a/{id:(?P<x>a)}", 3, "names a group"),
    (r"/{id:(a)\1}", 1, "refers back to a group"),
    (r"/{id:\\(a)\1}", 1, "refers back to a group"),
    ("/{id:(a)?(?(1)b)}", 1, "refers back to a group"),
    # Modifiers.
    ("/a:id?", 5, "the modifier ? is for a component of its own"),
    ("/:id?x", 4, "the modifier ? is for a component of its own"),
    ("/:id+{x}", 4, "the modifier + is for a component of its own"),
    ("/a-:id*", 6, "the modifier * is for a component of its own"),
    ("/:id*rest", 4, "the modifier * is for a component of its own"),
    ("/:id?*", 4, "the modifier ? is for a component of its own"),
    # What no path contains.
    ("/a?b=c", 2, "the query takes no part"),
    ("/{id}?", 5, "/:name?"),
    ("/:(id)?", 6, "/:name?"),
    ("/a\nb", 2, "control character"),
    ("/a\x00", 2, "control character"),
    ("/a\x85", 2, "control character"),
    ("/a\\", 2, "nothing to escape"),
]


@pytest.mark.parametrize(
    ("template", "position", "problem"), FAULTS, ids=lambda value: str(value)[:30]
)
def test_a_template_that_cannot_work_raises_with_what_and_where(
    template: str, position: int, problem: str
) -> None:
    with pytest.raises(TemplateError) as raised:
        parse_template(template)
    assert problem in raised.value.problem
    assert raised.value.position == position
    assert raised.value.template == template
    assert str(raised.value) == (
        f"template {template!r}, position {position}: {raised.value.problem}"
    )


@pytest.mark.parametrize(
    ("template", "requirements", "position", "problem"),
    [
        ("/{id}", {"di": "x"}, 0, "a requirement names 'di', no parameter here"),
        ("/x/*", {"": "x"}, 0, "no parameter here"),
        ("/a/{id:x}", {"id": "x"}, 3, "has a regex here and a requirement"),
        ("/a/:id", {"id": "("}, 3, "the regex of 'id' is broken"),
        ("/a/{id}", {"id": "("}, 3, "the regex of 'id' is broken"),
        ("/a/{id}", {"id": 4}, 3, "must be a str, not int"),
        ("/a/{id}", {"id": b"x"}, 3, "must be a str, not bytes"),
        ("/a/{id}", {"id": "(?P<y>x)"}, 3, "names a group"),
        ("/a/{id}", {"id": r"(x)\1"}, 3, "refers back to a group"),
        ("/a/{id}", {"id": ""}, 3, "empty"),
    ],
)
def test_a_requirement_that_cannot_work_raises_with_what_and_where(
    template: str, requirements: dict[str, Any], position: int, problem: str
) -> None:
    with pytest.raises(TemplateError) as raised:
        parse_template(template, requirements)
    assert problem in raised.value.problem
    assert raised.value.position == position


@pytest.mark.parametrize("regex", ["(?i)x", "(?s).", "(?i)x|y", "(?a)\\w"])
def test_a_regex_with_global_flags_raises_where_it_is_declared(regex: str) -> None:
    """Flags for a whole regex cannot stand in the middle of one."""
    with pytest.raises(TemplateError, match="'id'"):
        parse_template(f"/{{id:{regex}}}")
    with pytest.raises(TemplateError, match="'id'"):
        parse_template("/{id}", {"id": regex})


def test_a_literal_that_no_path_can_hold_raises() -> None:
    """A lone surrogate has no UTF-8, so neither a match nor a URL has it."""
    with pytest.raises(TemplateError):
        parse_template("/a\ud800")
