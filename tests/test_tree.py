"""The tree: all matches of a path, the most specific first."""

from __future__ import annotations

from itertools import permutations

import pytest

from websockets_routes.target import parse_target
from websockets_routes.template import Template
from websockets_routes.tree import Tree


def tree(*templates: str) -> Tree[str]:
    made: Tree[str] = Tree()
    for template in templates:
        made.add(Template(template), template)
    return made


def matches(made: Tree[str], path: str) -> list[str]:
    return [template for template, _ in made.matches(parse_target(path))]


def params(template: str, path: str) -> dict[str, str] | None:
    for _, found in tree(template).matches(parse_target(path)):
        return found
    return None


# Path, all the templates that match it in the order of decision 2, and some that
# do not match.
ORDERS: list[tuple[str, list[str], list[str]]] = [
    # Each rank against the next.
    (
        "/thing/new",
        ["/thing/new", "/thing/n{a}", "/thing/{a:[a-z]+}", "/thing/{a}"],
        ["/thing/old", "/thing/o{a}"],
    ),
    ("/thing/new", ["/thing/{a}", "/thing/n*a", "/thing/*a"], ["/thing", "/thing/"]),
    ("/thing/new", ["/thing/new", "/thing/*"], ["/thing/new/*"]),
    ("/new", ["/{a:new|old}", "/{a}", "/*(a)w", "/*a"], ["/{a:old}"]),
    ("/ab", ["/{a:x?}ab", "/{a}{b:b}", "/{a}{b}"], ["/{a:x}ab"]),
    # The first segment decides before the second is looked at.
    ("/a/b", ["/a/{b}", "/{a}/b"], ["/a", "/b"]),
    ("/a/b", ["/a/*b", "/{a}/b"], []),
    ("/a/b/c", ["/a/b/{c}", "/a/{b}/c", "/{a}/b/c"], ["/a/b", "/a/b/c/d"]),
    ("/a/b/c", ["/a/{b}/c", "/a/{b}/{c}", "/a/*b", "/{a}/b/c"], []),
    # A dead end is left again.
    ("/a/x", ["/{a}/x"], ["/a/b", "/a/{b:b}", "/{a:a}/y", "/a{c:x?}/z"]),
    ("/a/b/x", ["/{a}/{b}/x", "/*a/x"], ["/a/b/c", "/a/{b}/c", "/{a}/b/c"]),
    # Equal ranks in the first segment, told apart by a later one, though the
    # first leads into different branches.
    ("/x-x/foo", ["/{a}-x/foo", "/x-{a}/{b}"], []),
    ("/x-x/foo", ["/x-{a}/foo", "/{a}-x/{b}"], []),
    ("/x-x/foo", ["/{a}-x/foo", "/x-{a}/f{b}", "/{a}-x/{b}"], ["/y-{a}/foo"]),
    ("/x-x/foo/1", ["/x-{a}/foo/{b}", "/{a}-x/{b}/1"], []),
    (
        "/x-x/foo/1",
        ["/{a}-x/foo/1", "/x-{a}/foo/{b:1}", "/{a}-x/foo/{b}", "/x-{a}/{b}/1"],
        ["/x-{a}/foo"],
    ),
    ("/xx/y", ["/{a:x+}/y", "/{a:[x]+}/{b:y}", "/{a:x+}/{b}"], []),
    ("/x/y", ["/{a}/y", "/{a}{.f}/{b}"], []),
    ("/x/y", ["/{a}{.f}/y", "/{a}/{b}"], []),
    ("/x.j/y", ["/{a}/y", "/{a}{.f}/{b:y}", "/{a}/{b}"], []),
    ("/x/y/z", ["/{a}/y/{b}", "/{a}{.f}/{b:y}/z", "/{a}/{b}/z"], []),
    # Not by how many characters are literal, as Routes has it.
    ("/abc/d", ["/a{x}/d", "/ab{x}/{y}"], []),
    # Formats.
    ("/x", ["/x", "/x{.f}", "/{a}", "/*a"], ["/x.{f}"]),
    ("/x.json", ["/x.json", "/x{.f}", "/{a:.*}", "/{a}"], ["/x"]),
    ("/1.json", ["/{a}.json", "/{a}{.f:json}", "/{a}{.f}"], ["/{a}.xml"]),
    # Wildcards in the middle.
    ("/a/1/c/2", ["/a/{b}/c/{d}", "/a/*b/c/{d}"], ["/a/*b/d"]),
    ("/a/1/c/2", ["/a/1*b", "/a/*b"], ["/b/*b"]),
    ("/1/x/2", ["/{a}/x/{b}", "/*a/x/{b}", "/*a/{b}/2"], []),
    ("/1/x/2", ["/*a/x/2", "/*a/x/{b}", "/*a/{b}/{c}"], []),
    ("/x1/y/2", ["/x{a}/y/2", "/x{a}/{b}/*c", "/{a}/y/2", "/x*a", "/*a"], []),
    # A wildcard that goes on to say more is more specific than one that takes it all.
    ("/q/x", ["/*a/x", "/*a"], ["/*a/y"]),
    ("/files/a/b/edit", ["/files/*p/edit", "/files/*p"], ["/files/edit"]),
    ("/files/a/b/edit", ["/files/:p+/edit", "/files/:p+"], []),
    ("/files/a/b", ["/files/*p/b", "/files/*p/{q}", "/files/*p"], []),
    ("/1/x", [r"/{a:\d+}/x", "/{a:.+}", "/{a}/x"], []),
    # Optional components.
    ("/x", ["/x", "/:a?", "/:a*"], ["/x/y/:a?", "/:a+/y"]),
    ("/x/", ["/x/:a?", "/*a"], ["/x", "/{a}", "/x/{a}"]),
    ("/x/1", ["/x/1", "/x/:a?", "/x/:a*", "/:a?/1"], ["/x"]),
    ("/x/1", ["/x/:a?/1", "/x/{b}", "/x/:c*", "/{a}/:b?"], []),
    ("/x", ["/x/:a?", "/{a}"], ["/x/{a}"]),
    # Between equals, a template of which fewer parts are missing.
    ("/1", ["/{a}", "/:a?/:b?"], []),
    ("/1", ["/{a}", "/:a/:b?", "/:a?/:b?/:c?"], []),
    ("/x", ["/x", "/x/:a?", "/x/:a?/:b?"], []),
    # Empty segments are segments.
    ("/", ["/", "/{a:x*}", "/*"], ["/{a}", "/*a", "//"]),
    ("//", ["//", "/*a"], ["/", "/{a}/", "//{a}", "/{a}/{b}"]),
    ("//x", ["//x", "//{a}", "/{a:y*}/x", "/*a"], ["/{a}/x", "/x"]),
    ("/x//y", ["/x//y", "/x//{a}", "/x/{a:z?}/y", "/x/*a"], ["/x/{a}/y", "/x/:a+"]),
]


@pytest.mark.parametrize(("path", "ordered", "others"), ORDERS)
def test_all_matches_come_in_the_order_of_specificity_however_declared(
    path: str, ordered: list[str], others: list[str]
) -> None:
    for declared in permutations(ordered):
        assert matches(tree(*others, *declared), path) == ordered
        assert matches(tree(*declared, *others), path) == ordered


@pytest.mark.parametrize(
    ("path", "equals"),
    [
        ("/x", ["/{a}", "/{b}", "/:c", "/{d}{.f}"]),
        ("/x", ["/x", r"/x", "/x"]),
        ("/x-y", ["/x-{a}", "/{a}-y", "/{b}-{c}", "/x{d}"]),
        ("/abc", ["/a{x}", "/ab{x}", "/{x}c"]),
        ("/xx/y", ["/{a:x+}/{b}", "/{a:[x]+}/{b}", "/{a:x{2}}/{b}"]),
        ("/x/y", ["/*a", "/:a+", "/*b", "/:a*", "/*"]),
        ("/x/y", ["/{a:.*}", "/{a:x/y}", "/{a:x|x/y}"]),
        ("/x/y/z", ["/*a/{b}", "/:a+/{b}", "/*a/{c}"]),
        ("/1", ["/:a?", "/{b}", "/:b?"]),
        ("/", ["/:a?", "/:a*", "/:b?"]),
        ("/1", ["/:a/:b?", "/:a?/:b", "/:c?/:d*"]),
        ("/x.y", ["/x{.f}", "/{a}.y", "/x.{g}"]),
    ],
)
def test_between_equals_the_first_declared_wins(path: str, equals: list[str]) -> None:
    for declared in permutations(equals):
        assert matches(tree(*declared), path) == list(declared)


def test_one_template_declared_twice_matches_twice() -> None:
    made: Tree[int] = Tree()
    for number, template in enumerate(("/{a}", "/:b*", "/{a}", "/:b*")):
        made.add(Template(template), number)
    assert matches_of(made, "/x") == [
        (0, {"a": "x"}),
        (2, {"a": "x"}),
        (1, {"b": "x"}),
        (3, {"b": "x"}),
    ]


def matches_of(made: Tree[int], path: str) -> list[tuple[int, dict[str, str]]]:
    return list(made.matches(parse_target(path)))


def test_a_template_of_which_several_forms_match_is_found_once() -> None:
    assert matches(tree("/:a*/:b*"), "/1/2/3") == ["/:a*/:b*"]
    assert matches(tree("/:a?/:b?/:c?"), "/1/2") == ["/:a?/:b?/:c?"]


@pytest.mark.parametrize(
    ("template", "path", "expected"),
    [
        ("/:a", "/1", {"a": "1"}),
        ("/:a", "/", None),
        ("/:a", "/1/", None),
        ("/:a", "/1/2", None),
        ("/x/:a?", "/x", {"a": ""}),
        ("/x/:a?", "/x/", {"a": ""}),
        ("/x/:a?", "/x/1", {"a": "1"}),
        ("/x/:a?", "/x/1/", None),
        ("/x/:a?", "/x/1/2", None),
        ("/x/:a?", "/x//", None),
        ("/x/:a?", "/xy", None),
        ("/x/:a+", "/x", None),
        ("/x/:a+", "/x/", None),
        ("/x/:a+", "/x/1", {"a": "1"}),
        ("/x/:a+", "/x/1/2", {"a": "1/2"}),
        ("/x/:a+", "/x/1//2", None),
        ("/x/:a+", "/x/1/2/", None),
        ("/x/:a*", "/x", {"a": ""}),
        ("/x/:a*", "/x/", {"a": ""}),
        ("/x/:a*", "/x/1", {"a": "1"}),
        ("/x/:a*", "/x/1/2", {"a": "1/2"}),
        ("/x/:a*", "/x/1/2/", None),
        ("/x/:a*", "/x//", None),
        ("/:a?", "/", {"a": ""}),
        ("/:a*", "/", {"a": ""}),
        ("/:a*", "/1/2", {"a": "1/2"}),
        ("/x/:a?/y", "/x/y", {"a": ""}),
        ("/x/:a?/y", "/x//y", {"a": ""}),
        ("/x/:a?/y", "/x/1/y", {"a": "1"}),
        ("/x/:a?/y", "/x/1/2/y", None),
        ("/x/:a*/y", "/x/1/2/y", {"a": "1/2"}),
        ("/x/:a*/y", "/x/y", {"a": ""}),
        ("/x/:a*/y", "/x/y/y", {"a": "y"}),
        ("/:a?/:b?", "/1", {"a": "1", "b": ""}),
        ("/:a?/:b?", "/1/2", {"a": "1", "b": "2"}),
        ("/:a?/:b?", "/", {"a": "", "b": ""}),
        ("/:a/:b*", "/1/2/3", {"a": "1", "b": "2/3"}),
        ("/x/*", "/x/", {}),
        ("/x/*", "/x/1/2", {}),
        ("/x/*", "/x", None),
        ("/*", "/", {}),
        ("/{b}/{a}", "/1/2", {"b": "1", "a": "2"}),
        ("/{b}/*a", "/1/2/3", {"b": "1", "a": "2/3"}),
        ("/x-{b}/{a:y+}", "/x-1/yy", {"b": "1", "a": "yy"}),
        ("/{a}", "/x%2Fy", {"a": "x/y"}),
        ("/{a}/{b}", "/x%2Fy", None),
        ("/x/{a}", "/x%2Fy", None),
        ("/{a}", "/%25%32%35", {"a": "%25"}),
        ("/{a}{.f}", "/x%2ey", {"a": "x", "f": "y"}),
        (r"/\{a\}", "/{a}", {}),
        (r"/\{a\}", "/%7Ba%7D", {}),
        ("/café", "/caf%C3%A9", {}),
        ("/caf{a}", "/caf%C3%A9", {"a": "é"}),
    ],
)
def test_a_template_takes_these_params_from_this_path(
    template: str, path: str, expected: dict[str, str] | None
) -> None:
    found = params(template, path)
    assert found == expected
    if found is not None and expected is not None:
        assert list(found) == list(expected), "in the template's order"


def test_an_empty_tree_matches_nothing() -> None:
    assert matches(tree(), "/") == []


def test_branches_with_many_prefixes_are_told_apart() -> None:
    templates = [f"/v{number}-{{id}}" for number in range(50)]
    made = tree(*templates, "/v7-{id}/x", "/v{id}", "/{id}-x")
    assert matches(made, "/v7-x") == ["/v7-{id}", "/v{id}", "/{id}-x"]
    assert matches(made, "/v7-x/x") == ["/v7-{id}/x"]
    assert matches(made, "/w") == []


def test_matches_are_found_lazily_and_asking_again_begins_anew() -> None:
    made = tree("/x", "/{a}", "/*a")
    target = parse_target("/x")
    found = made.matches(target)
    assert next(found)[0] == "/x"
    assert [template for template, _ in made.matches(target)] == ["/x", "/{a}", "/*a"]
    assert [template for template, _ in found] == ["/{a}", "/*a"]


def test_what_is_added_while_matches_are_read_disturbs_nothing() -> None:
    made = tree("/x", "/x-{a}", "/{a:x.*}", "/{a}", "/*a")
    found = made.matches(parse_target("/x"))
    assert next(found)[0] == "/x"
    for template in ("/x", "/{b:x}", "/{c}", "/*c", "/x{d:.*}"):
        made.add(Template(template), template)
    rest = [template for template, _ in found]
    assert [each for each in rest if each in ("/{a:x.*}", "/{a}", "/*a")] == [
        "/{a:x.*}",
        "/{a}",
        "/*a",
    ]


def test_the_params_of_each_match_are_its_own() -> None:
    made = tree("/{a}", "/{b}")
    (_, first), (_, second) = made.matches(parse_target("/x"))
    first["a"] = "changed"
    assert second == {"b": "x"}
    assert next(made.matches(parse_target("/x")))[1] == {"a": "x"}
