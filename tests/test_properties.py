"""Properties: the same matches as Routes, in the order of an independent model.

Routes 2.5.1 itself says which templates match a path, and with which params. Where
this package differs on purpose, the templates and paths that show it are left out
below, and each difference has a test of its own at the end:

- a ``{.format}`` that is missing is ``""`` here and None in Routes;
- ``:x-:y`` keeps its ``-``, which Routes loses;
- a regex in a template may hold braces and colons, at which Routes cuts it off;
- an unclosed brace raises, where Routes makes a wildcard of it;
- ``{controller}`` is a parameter like any other, and never matches in Routes;
- a path with ``.`` or ``..`` segments is malformed;
- a trailing newline, which ``$`` lets pass in Routes, is malformed.

The order is that of a model written from the text of the design, segment by segment:
literal, literal with parameter, constrained parameter, parameter, wildcard.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain, count
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, event, example, given, settings
from hypothesis import strategies as st
from routes import Mapper

from websockets_routes.exceptions import BadRequest, BuildError, TemplateError
from websockets_routes.path import RoutedPath
from websockets_routes.route import Route
from websockets_routes.table import RouteTable
from websockets_routes.target import parse_target

same_every_time = settings(
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)


async def handler(ws: Any, path: Any) -> None: ...


# The model of a template: segments made of pieces.


@dataclass(frozen=True)
class Lit:
    text: str


@dataclass(frozen=True)
class Par:
    name: str
    style: str = "{}"  # as in "{}", ":()" or "{:}", a regex in the template

    regex: str | None = None


@dataclass(frozen=True)
class Wild:
    name: str
    regex: str | None = None


@dataclass(frozen=True)
class Fmt:
    name: str
    regex: str | None = None


@dataclass(frozen=True)
class Mod:
    """A component with a modifier; always a segment of its own."""

    name: str
    modifier: str


Piece = Lit | Par | Wild | Fmt | Mod
Segment = tuple[Piece, ...]
# Literals stand for themselves; Routes and this package escape the same ones.
ESCAPED = re.compile(r"[:*{}\\]")


@dataclass(frozen=True)
class Model:
    segments: tuple[Segment, ...]

    @property
    def text(self) -> str:
        """The template as this package takes it, some regexes in it."""
        return "".join("/" + "".join(map(written, each)) for each in self.segments)

    @property
    def requirements(self) -> dict[str, str]:
        return {
            piece.name: piece.regex
            for piece in chain(*self.segments)
            if isinstance(piece, Par | Wild | Fmt) and piece.regex
            if not (isinstance(piece, Par) and piece.style == "{:}")
        }

    def forms(self) -> list[Form]:
        """What the template stands for, each a template that Routes knows."""
        forms = [Form("", {}, (), 0)]
        for segment in self.segments:
            forms = [longer for form in forms for longer in form.extended(segment)]
        return [form for form in forms if form.template]

    def route(self) -> Route:
        return Route(self.text, handler, requirements=self.requirements)


@dataclass(frozen=True)
class Form:
    template: str
    requirements: dict[str, str]
    ranks: tuple[int, ...]
    left_out: int

    def extended(self, segment: Segment) -> list[Form]:
        template, requirements = self.template + "/", dict(self.requirements)
        for piece in segment:
            template += for_routes(piece)
            if isinstance(piece, Mod):
                if piece.modifier in "+*":
                    requirements[piece.name] = "[^/]+(?:/[^/]+)*?"
            elif not isinstance(piece, Lit) and piece.regex:
                requirements[piece.name] = piece.regex
        taken = Form(
            template, requirements, (*self.ranks, rank(segment)), self.left_out
        )
        if not any(
            isinstance(piece, Mod) and piece.modifier in "?*" for piece in segment
        ):
            return [taken]
        missing = self.left_out + 1
        return [
            taken,
            Form(self.template, self.requirements, self.ranks, missing),
            Form(self.template + "/", self.requirements, (*self.ranks, 0), missing),
        ]

    def match(self, path: str) -> dict[str, str] | None:
        """Ask Routes."""
        mapper = Mapper(controller_scan=None, register=False, explicit=True)
        mapper.connect(None, self.template, requirements=dict(self.requirements))
        mapper.create_regs([])
        found = mapper.match(path)
        if found is None:
            return None
        return {name: value or "" for name, value in found.items()}


def rank(segment: Segment) -> int:
    """How specific a segment is, from the text of the design."""
    literal = any(isinstance(piece, Lit) for piece in segment)
    if all(isinstance(piece, Lit) for piece in segment):
        return 0
    if any(
        (isinstance(piece, Wild) and not piece.regex)
        or (isinstance(piece, Mod) and piece.modifier in "+*")
        for piece in segment
    ):  # a wildcard; between wildcards, one that is glued to a literal says more
        return 4 if literal else 5
    if literal:
        return 1
    if any(not isinstance(piece, Lit | Mod) and piece.regex for piece in segment):
        return 2
    return 3


def order(form: Form) -> tuple[tuple[int, ...], int]:
    # Where one template has ended, in a segment that takes all the rest, and the
    # other has more to say, the other is the more specific.
    return (*form.ranks, 9), form.left_out


def written(piece: Piece) -> str:
    if isinstance(piece, Par) and piece.style == "{:}":
        return f"{{{piece.name}:{piece.regex}}}"
    if isinstance(piece, Mod):
        return f":{piece.name}{piece.modifier}"
    return for_routes(piece)


def for_routes(piece: Piece) -> str:
    match piece:
        case Lit(text):
            return ESCAPED.sub(r"\\\g<0>", text)
        case Wild(name):
            return f"*({name})"
        case Fmt(name):
            return f"{{.{name}}}"
        case Par(name, ":()"):
            return f":({name})"
        case _:
            return f"{{{piece.name}}}"


# Generated templates, weighted towards the nasty.

LITERALS = [
    "a",
    "b",
    "-",
    "a-",
    ".",
    "ab",
    "x",
    "-b",
    "..",
    "a.b",
    "é",
    "{",
    ":",
    "*\\",
]
REGEXES = [
    "a+", "[ab]*", "a|b-", ".*", "[^/]+", ".+?", "a|b/c", "a/b|a", "(?:a|b)-", "a{2}",
    r"\w+", "[^-]+", r"\.?a", "(a)(b)?", "b*?", r"[\w-]+", r"(?=a).+", "[-./]+", "x:a?",
]  # fmt: skip


@st.composite
def models(draw: st.DrawFn, modifiers: bool = False) -> Model:
    names = map("p{}".format, count())
    optional = formats = 0
    segments: list[Segment] = []
    for _ in range(draw(st.integers(1, 3))):
        kinds = draw(
            st.lists(
                st.sampled_from(["lit", "lit", "par", "par", "regex", "wild", "fmt"]),
                max_size=4,
            )
        )
        if modifiers and optional < 2 and draw(st.integers(0, 3)) == 0:
            kinds, optional = ["mod"], optional + 1
        pieces: list[Piece] = []
        for kind in kinds:
            if kind == "lit":
                pieces.append(Lit(draw(st.sampled_from(LITERALS))))
                continue
            name = next(names)
            regex = draw(st.sampled_from(REGEXES))
            constrained = draw(st.integers(0, 3)) == 0
            if kind == "par":
                pieces.append(Par(name, draw(st.sampled_from(["{}", ":()"]))))
            elif kind == "regex":
                style = draw(st.sampled_from(["{}", "{:}", ":()"]))
                pieces.append(Par(name, style, regex))
            elif kind == "wild":
                pieces.append(Wild(name, regex if constrained else None))
            elif kind == "mod":
                pieces.append(Mod(name, draw(st.sampled_from("?+*"))))
            elif formats < 4:
                formats += 1
                pieces.append(Fmt(name, regex if constrained else None))
        segments.append(tuple(pieces))
    model = Model(tuple(segments))
    # A template with a dot segment is an error here, as such a path is a 400.
    assume({".", ".."}.isdisjoint(model.text.split("/")))
    return model


VALUES = ["a", "b", "ab", "a-b", "-", ".", "x", "aa", "a.b", "é", "b-a-"]
SPANNING = [*VALUES, "a/b", "b/c", "/", "a//b", "a/b/a", "/a/"]


@st.composite
def paths_of(draw: st.DrawFn, model: Model) -> str:
    """A path that the template probably matches, or nearly."""
    path = ""
    for segment in model.segments:
        if segment and isinstance(segment[0], Mod) and draw(st.booleans()):
            path += draw(st.sampled_from(["", "/"]))
            continue
        path += "/"
        for piece in segment:
            if isinstance(piece, Lit):
                path += piece.text
            elif isinstance(piece, Fmt):
                path += draw(st.sampled_from(["", ".a", ".b", ".ab"]))
            elif isinstance(piece, Wild | Mod) or piece.regex:
                path += draw(st.sampled_from(SPANNING))
            else:
                path += draw(st.sampled_from(VALUES))
    if draw(st.integers(0, 4)) == 0:
        cut = draw(st.integers(0, len(path)))
        path = path[:cut] + draw(st.sampled_from(["a", "-", "/", "."])) + path[cut:]
    return path or "/"


random_paths = st.text("aab-./x", max_size=9).map("/".__add__)


def well_formed(path: str) -> bool:
    return {".", ".."}.isdisjoint(path.split("/")) and path.startswith("/")


def alone(model: Model, path: str) -> tuple[Form, dict[str, str]] | None:
    """Find the most specific form of a template that matches, by asking Routes."""
    found = [
        (form, params)
        for form in model.forms()
        if (params := form.match(path)) is not None
    ]
    if not found:
        return None
    form, params = min(found, key=lambda each: order(each[0]))
    names = [
        piece.name for piece in chain(*model.segments) if not isinstance(piece, Lit)
    ]
    return form, {name: params.get(name, "") for name in names}


def table(models: Sequence[Model]) -> RouteTable:
    made = RouteTable()
    for model in models:
        made.add(model.route())
    return made


def ours(made: RouteTable, path: str) -> list[tuple[Route, dict[str, str]]]:
    found: list[RoutedPath] = list(made.matches(path, parse_target(path)))
    assert made.match(path).route is (found[0].route if found else None)
    return [(path.route, path.params) for path in found if path.route is not None]


@settings(same_every_time, max_examples=400)
@given(st.data())
def test_a_template_alone_matches_what_routes_matches(data: st.DataObject) -> None:
    model = data.draw(models())
    made = table([model])
    paths = data.draw(
        st.lists(
            paths_of(model) | paths_of(model) | random_paths, min_size=4, max_size=6
        )
    )
    for path in filter(well_formed, paths):
        expected = alone(model, path)
        event("matches" if expected else "does not match")
        found = ours(made, path)
        if expected is None:
            assert found == [], (model.text, path)
        else:
            params = expected[1]
            assert [each for _, each in found] == [params], (model.text, path)
            names = list(made.routes[0].template.parameters)
            assert list(found[0][1]) == names, "in the template's order"


@settings(same_every_time, max_examples=150)
@given(st.data())
def test_a_table_finds_what_matches_alone_in_the_order_of_specificity(
    data: st.DataObject,
) -> None:
    declared = data.draw(st.lists(models(modifiers=True), min_size=2, max_size=5))
    if data.draw(st.booleans()):  # some that are equal
        declared.append(data.draw(st.sampled_from(declared)))
    made = table(declared)
    # In the order of declaration; ``made.routes`` is sorted.
    routes = made._routes
    strategy = st.sampled_from(declared).flatmap(paths_of) | random_paths
    for path in filter(
        well_formed, data.draw(st.lists(strategy, min_size=4, max_size=6))
    ):
        expected = []
        for index, (model, route) in enumerate(zip(declared, routes, strict=True)):
            found = alone(model, path)
            if found is not None:
                form, params = found
                expected.append(((*order(form), index), route, params))
        expected.sort(key=lambda each: each[0])
        event(f"{min(len(expected), 3)} matches")
        texts = [model.text for model in declared]
        assert ours(made, path) == [(r, params) for _, r, params in expected], (
            texts,
            path,
        )


@settings(same_every_time, max_examples=150)
@given(st.data())
def test_the_order_of_declaration_matters_only_between_equals(
    data: st.DataObject,
) -> None:
    declared = data.draw(st.lists(models(modifiers=True), min_size=2, max_size=5))
    shuffled = data.draw(st.permutations(declared))
    path = data.draw(st.sampled_from(declared).flatmap(paths_of) | random_paths)
    assume(well_formed(path))

    def ranked(models: Sequence[Model]) -> list[tuple[str, dict[str, str]]]:
        return [(str(route), params) for route, params in ours(table(models), path)]

    first, second = ranked(declared), ranked(shuffled)
    assert sorted(map(repr, first)) == sorted(map(repr, second))
    if first and second and first[0] != second[0]:
        both = [
            order(found[0])
            for model in declared
            if model.text in (first[0][0], second[0][0])
            if (found := alone(model, path)) is not None
        ]
        assert len(set(both)) == 1, "only equals change places"


@settings(same_every_time, max_examples=300)
@given(st.data())
def test_a_url_leads_back_to_the_params_whenever_it_is_built(
    data: st.DataObject,
) -> None:
    model = data.draw(models(modifiers=True))
    made = table([model])
    path = data.draw(paths_of(model))
    slash = data.draw(st.integers(0, len(path)))
    if data.draw(st.booleans()):
        path = (
            path[:slash]
            + data.draw(st.sampled_from(["%2F", "%20", "%25"]))
            + path[slash:]
        )
    assume(well_formed(path))
    params = made.match(path).params
    assume(params is not None)
    route = made.routes[0]
    try:
        url = route.url(params)
    except BuildError:
        event("not built")
        return
    event("built")
    assert made.match(url).params == params
    assert route.url(made.match(url).params) == url


@settings(same_every_time, max_examples=150)
@given(
    st.dictionaries(
        st.sampled_from("abc"),
        st.text(st.characters(exclude_categories=[]), max_size=5),
    )
)
@example({"a": "..", "b": "."})
@example({"a": "\ud800", "b": "x"})
@example({"a": "\0", "b": "x"})
def test_a_url_from_any_text_leads_back_or_raises(params: dict[str, object]) -> None:
    for template in ("/{a}", "/{a}-{b}", "/*a/{b}", "/{a}/:b*", "/{a}{.b}", "/{a:.*}"):
        made = RouteTable()
        made.add(Route(template, handler, name="it"))
        try:
            url = made.url_for("it", params)
        except BuildError:
            continue
        assert url.isascii()
        found = made.match(url).params
        assert {name: value for name, value in found.items() if value} == {
            name: value for name, value in params.items() if value
        }


anything = st.text(st.characters(exclude_categories=[]))
targets = st.lists(
    st.sampled_from(
        ["/", "%", "%2F", "%2f", "%00", "%C3%A9", "%FF", "%ED%A0%80", "..", ".", "?",
         "#", "http://", "ws://h", "\0", "\n", "é", "\ud800", "a", "4", "%25", "%2e"]
    ) | anything
).map("".join)  # fmt: skip


@settings(same_every_time, max_examples=700)
@given(anything | targets | targets.map("/".__add__))
@example("/%41\udce9")
@example("/\udce9")
def test_any_text_is_a_target_or_a_bad_request(raw: str) -> None:
    try:
        target = parse_target(raw)
    except BadRequest:
        return
    assert target.path.startswith("/")
    assert target.path == "/" + "/".join(target.segments).replace("\0", "/")
    assert not re.search(r"[\0-\x1f\x7f-\x9f]", target.path)
    assert {".", ".."}.isdisjoint(target.segments)
    assert target.path.encode().decode() == target.path
    made = RoutedPath(raw, target)
    assert made == raw
    assert dict(made.query_params) is not None


@settings(same_every_time, max_examples=700)
@given(
    st.text("ab/-.:*{}()[]\\?+|^$,1é \n", max_size=14).map("/".__add__),
    st.text("ab/-.", max_size=6).map("/".__add__),
)
def test_any_text_is_a_template_or_raises_where_it_is_declared(
    text: str, path: str
) -> None:
    made = RouteTable()
    try:
        made.add(Route(text, handler))
    except TemplateError as error:
        where = error.position
        assert 0 <= where <= len(text)
        return
    if well_formed(path):
        made.match(path)


# What differs from Routes on purpose, each with what Routes does.


def by_routes(template: str, path: str, **requirements: str) -> Any:
    mapper = Mapper(controller_scan=None, register=False, explicit=True)
    mapper.connect(None, template, requirements=requirements)
    mapper.create_regs([])
    return mapper.match(path)


def by_us(template: str, path: str, **requirements: str) -> Any:
    made = RouteTable()
    made.add(Route(template, handler, requirements=requirements))
    return made.match(path).params


def test_a_format_that_is_missing_is_empty_and_none_in_routes() -> None:
    assert by_routes("/x{.f}", "/x") == {"f": None}
    assert by_us("/x{.f}", "/x") == {"f": ""}


def test_a_dash_after_a_name_is_kept_and_lost_in_routes() -> None:
    assert by_routes("/a/:x-:y", "/a/1-2") == {"x": "1", "y": "-2"}
    assert by_us("/a/:x-:y", "/a/1-2") == {"x": "1", "y": "2"}
    assert by_us("/a/:x-:y", "/a/12") is None


def test_braces_in_a_regex_are_part_of_it_and_its_end_in_routes() -> None:
    assert by_routes(r"/{id:\d{4}}", "/2024") is None
    assert by_us(r"/{id:\d{4}}", "/2024") == {"id": "2024"}
    assert by_us(r"/{id:\d{4}}", "/202") is None


def test_a_colon_in_a_regex_is_part_of_it_and_its_end_in_routes() -> None:
    assert by_routes("/{id:a:b}", "/a:b") is None
    assert by_us("/{id:a:b}", "/a:b") == {"id": "a:b"}
    with pytest.raises(re.error):
        by_routes("/{id:(?:a|b)}", "/b")
    assert by_us("/{id:(?:a|b)}", "/b") == {"id": "b"}


def test_an_unclosed_brace_raises_and_is_a_wildcard_in_routes() -> None:
    assert by_routes("/{x", "/1/2") == {"x": "1/2"}
    with pytest.raises(TemplateError, match="never closed"):
        by_us("/{x", "/1/2")


def test_controller_is_a_name_like_any_other_and_never_matches_in_routes() -> None:
    assert by_routes("/{controller}", "/x") is None
    assert by_us("/{controller}", "/x") == {"controller": "x"}


@pytest.mark.parametrize("path", ["/.", "/..", "/a/../b", "/a/."])
def test_a_dot_segment_is_malformed_and_a_segment_in_routes(path: str) -> None:
    assert by_routes("/*a", path) == {"a": path[1:]}
    with pytest.raises(BadRequest):
        by_us("/*a", path)


def test_a_trailing_newline_is_malformed_and_lost_in_routes() -> None:
    assert by_routes("/x", "/x\n") == {}
    with pytest.raises(BadRequest):
        by_us("/x", "/x%0A")
