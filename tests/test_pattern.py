"""Patterns: which text they match, with which values, and at what cost."""

from __future__ import annotations

import re
from collections.abc import Mapping
from itertools import product
from typing import SupportsIndex

import pytest

from websockets_routes.grammar import Literal, parse_template
from websockets_routes.pattern import Pattern, may_span_segments
from websockets_routes.target import ENCODED_SLASH


def pattern(template: str, requirements: Mapping[str, str] | None = None) -> Pattern:
    return Pattern(parse_template(template, requirements))


@pytest.mark.parametrize(
    ("template", "text", "values"),
    [
        # Literals.
        ("/a", "/a", ()),
        ("/a", "/a/", None),
        ("/a", "/", None),
        ("/a", "/b", None),
        # Parameters: one or more characters, no slash.
        ("/{a}", "/x", ("x",)),
        ("/{a}", "/", None),
        ("/{a}", "/x/", None),
        ("/{a}/{b}", "/x/y", ("x", "y")),
        ("/{a}/{b}", "//y", None),
        ("/{a}x", "/xx", ("x",)),
        ("/{a}x", "/x", None),
        ("/{a}{b}", "/xyz", ("x", "yz")),
        ("/{a}{b}", "/x", None),
        # Several in a segment: as short as can be, from left to right.
        ("/{a}-{b}", "/1-2-3", ("1", "2-3")),
        ("/{a}-{b}", "/--3", ("-", "3")),
        ("/{a}-{b}", "/---", ("-", "-")),
        ("/{a}-{b}", "/--", None),
        ("/{a}-{b}-end", "/1-2-3-end", ("1", "2-3")),
        ("/{a}-{b}-end", "/1-end-end", ("1", "end")),
        ("/{a}-{b}-end", "/1-end", None),
        ("/{a}ab{b}", "/abab", None),
        ("/{a}ab{b}", "/aababa", ("a", "aba")),
        ("/{a}aa{b}aa", "/aaaaaa", ("a", "a")),
        ("/{a}-{b}/{c}", "/1-2-/3", ("1", "2-", "3")),
        ("/{a}/x{b}", "/1/2/x3", None),
        # Wildcards: one or more characters, slashes too.
        ("/*a", "/x/y", ("x/y",)),
        ("/*a", "/", None),
        ("/*a", "//", ("/",)),
        ("/*a/x", "/1/x/2/x", ("1/x/2",)),
        ("/*a/x/*b", "/1/x/2/x/3", ("1", "2/x/3")),
        ("/*a/x/*b", "//x/x", None),
        ("/*a/x/*b", "//x/x/x", ("/x", "x")),
        ("/x*a/y", "/x1/2/y", ("1/2",)),
        ("/*a/{b}", "/1/2/3", ("1/2", "3")),
        ("/*a/{b}/c*d", "/1/2/c/3/c4/5", ("1", "2", "/3/c4/5")),
        ("/*a/{b}/c*d", "/1/2/x/c/3", ("1/2", "x", "/3")),
        ("/*(a)x{b}", "/x/x/x", None),
        ("/*(a)x{b}", "/x/xx/x", None),
        ("/*(a)x{b}", "/x/xyz", ("x/", "yz")),
        # Formats: nothing, or a dot and what has neither a dot nor a slash.
        ("/x{.f}", "/x", ("",)),
        ("/x{.f}", "/x.json", ("json",)),
        ("/x{.f}", "/x.", None),
        ("/x{.f}", "/x.tar.gz", None),
        ("/x{.f}", "/xjson", None),
        ("/{a}{.f}", "/x", ("x", "")),
        ("/{a}{.f}", "/x.json", ("x", "json")),
        ("/{a}{.f}", "/x.tar.gz", ("x.tar", "gz")),
        ("/{a}{.f}", "/x.", ("x.", "")),
        ("/{a}{.f}", "/.x", (".x", "")),
        ("/{.f}", "/", ("",)),
        ("/{.f}", "/.x", ("x",)),
        ("/{.f}{.g}", "/.x", ("", "x")),
        ("/{.f}{.g}", "/.x.y", ("x", "y")),
        ("/x{.f}/y", "/x/y", ("",)),
        ("/x{.f}/y", "/x.a/y", ("a",)),
        ("/x{.f}y", "/x.ay", ("a",)),
        ("/{a}{.f}-{b}{.g}", "/1.2-3.4", ("1", "2", "3", "4")),
        ("/{a}{.f}-{b}{.g}", "/1.2.3-4", ("1.2", "3", "4", "")),
        ("/*a{.f}", "/x/y.z", ("x/y", "z")),
        # Components: whole ones, none of them empty.
        ("/:a+", "/x", ("x",)),
        ("/:a+", "/x/y/z", ("x/y/z",)),
        ("/:a+", "/", None),
        ("/:a+", "/x/", None),
        ("/:a+", "/x//y", None),
        ("/:a+", "//x", None),
        ("/:a+/x", "/1/x", ("1",)),
        ("/:a+/x", "/1/2/x", ("1/2",)),
        ("/:a+/x", "/x/x", ("x",)),
        ("/:a+/x", "//x", None),
        ("/:a+/x", "/1//x", None),
        ("/:a+/x/:b+", "/1/x/2/x/3", ("1", "2/x/3")),
        ("/:a+/x/:b+", "/1/x//2/x/3", None),
        ("/:a+/:b+", "/1/2/3", ("1", "2/3")),
        ("/:a+/{b}", "/1/2/3", ("1/2", "3")),
        ("/*a/:b+", "//1/2", ("/1", "2")),
        # The unnamed rest: even nothing, and no value.
        ("/*", "/", ()),
        ("/*", "/x/y", ()),
        ("/x/*", "/x/", ()),
        ("/x/*", "/x", None),
        ("/{a}/*", "/1/2/3", ("1",)),
        ("/{a}/*", "/1/", ("1",)),
        ("/*a/*", "/1/2/3", ("1",)),
        ("/x{.f}/*", "/x.a/y", ("a",)),
        ("/x{.f}/*", "/x/y", ("",)),
    ],
)
def test_a_pattern_matches_this_text_with_these_values(
    template: str, text: str, values: tuple[str, ...] | None
) -> None:
    assert pattern(template).match(text) == values


@pytest.mark.parametrize(
    ("template", "text", "values"),
    [
        (r"/{a:\d{4}}", "/2024", ("2024",)),
        (r"/{a:\d{4}}", "/20245", None),
        ("/{a:x|y}", "/y", ("y",)),
        ("/{a:x|y}z", "/xz", ("x",)),
        ("/{a:x|y}z", "/x", None),
        ("/{a:x*}", "/", ("",)),
        ("/{a:x*}-{b}", "/-1", ("", "1")),
        ("/{a:(?:x|y):z}", "/y:z", ("y:z",)),
        # Greedy or not is the regex's own affair.
        ("/{a:.*}-{b}", "/1-2-3", ("1-2", "3")),
        ("/{a:.*?}-{b}", "/1-2-3", ("1", "2-3")),
        ("/{a:.*}/{b}", "/1/2/3", ("1/2", "3")),
        ("/{a:a|b/c}/d", "/b/c/d", ("b/c",)),
        ("/{a:(x)(y)}{b}", "/xyz", ("xy", "z")),
        ("/{a:x+}{.f}", "/xx.y", ("xx", "y")),
        ("/{a:x+}{.f}", "/xx", ("xx", "")),
        ("/{a}{.f:y|z}", "/x.y", ("x", "y")),
        ("/{a}{.f:y|z}", "/x.x", ("x.x", "")),
        ("/{a:x+}/*b", "/xx/1/2", ("xx", "1/2")),
        ("/{a:x+}/*", "/xx/1/2", ("xx",)),
        ("/{a:x+}/*", "/xx/", ("xx",)),
        ("/{a:x+}/:b+", "/xx/1/2", ("xx", "1/2")),
        ("/{a:x+}/:b+", "/xx/1//2", None),
        (r"/\{{a:x+}\*\:\\\}", "/{xx*:\\}", ("xx",)),
        ("/{a:x+}.b(c)+", "/xx.b(c)+", ("xx",)),
        ("/{controller:x}-{action}", "/x-y", ("x", "y")),
    ],
)
def test_a_pattern_with_regexes_matches_this_text_with_these_values(
    template: str, text: str, values: tuple[str, ...] | None
) -> None:
    assert pattern(template).match(text) == values


@pytest.mark.parametrize(
    ("template", "requirement", "text", "values"),
    [
        ("/*a", r"\d+", "/12", ("12",)),
        ("/*a", r"\d+", "/1/2", None),
        ("/*a", r"\d/\d", "/1/2", ("1/2",)),
        ("/:a+", r"\d", "/1/2/3", ("1/2/3",)),
        ("/:a+", r"\d", "/1/x/3", None),
        ("/:a+", r"\d", "/12/3", None),
        ("/:a+/x", "x|y", "/x/y/x", ("x/y",)),
        ("/:a+/x", "x|y", "/x/z/x", None),
    ],
)
def test_a_requirement_on_a_modifier_holds_for_each_component(
    template: str, requirement: str, text: str, values: tuple[str, ...] | None
) -> None:
    assert pattern(template, {"a": requirement}).match(text) == values


@pytest.mark.parametrize(
    ("template", "requirements"),
    [
        ("/:a+/x/:b+", {"a": r"\w+"}),
        ("/:a+/x/:b+", {"b": r"\w+"}),
        ("/:a+/x/:b+/{c}", {"c": r"\w+"}),
    ],
)
def test_a_requirement_that_all_values_meet_changes_no_value(
    template: str, requirements: dict[str, str]
) -> None:
    for text in ("/1/x/2/x/3", "/1/2/x/3/x/4/x/5", "/x/x/x/x/x/x"):
        values = pattern(template).match(text)
        assert values is not None
        assert pattern(template, requirements).match(text) == values


def test_an_encoded_slash_is_a_character_of_a_segment_like_any_other() -> None:
    s = ENCODED_SLASH
    assert pattern("/{a}").match(f"/x{s}y") == ("x/y",)
    assert pattern("/{a}/{b}").match(f"/x{s}y/{s}") == ("x/y", "/")
    assert pattern("/:a+").match(f"/x{s}/y") == ("x//y",)
    assert pattern("/{a:[^/]+}-{b}").match(f"/x{s}y-{s}") == ("x/y", "/")
    assert pattern("/x/{a}").match(f"/x{s}y") is None


LETTERS = "a-./"


def as_regex(template: str) -> re.Pattern[str]:
    """Turn a template into the non-greedy regex that it stands for."""
    tokens = {
        r"\{\.\w\}": r"(?:\\.([^/.]+?))??",
        r"\{\w\}": "([^/]+?)",
        r":\w\+": "([^/]+(?:/[^/]+)*?)",
        r"\*\w": "(.+?)",
        r"\*": "(?:.*)",
        r".": None,
    }
    regex = ""
    for token in re.findall("|".join(tokens), template):
        kind = next(each for each in tokens if re.fullmatch(each, token))
        regex += re.escape(token) if tokens[kind] is None else str(tokens[kind])
    return re.compile(regex.replace(r"\\.", r"\."))


@pytest.mark.parametrize(
    "template",
    [
        "/{a}-{b}",
        "/{a}-{b}-a",
        "/{a}{b}{c}",
        "/{a}--{b}",
        "/{a}-{b}/{c}",
        "/*a/{b}",
        "/*a-*b",
        "/{a}/*b/{c}",
        "/*a/a/*b",
        "/a{.f}",
        "/{a}{.f}",
        "/{.f}{.g}",
        "/{a}{.f}-{b}{.g}",
        "/*a{.f}",
        "/{.f}/*a",
        "/:a+",
        "/:a+/a",
        "/:a+/a/:b+",
        "/:a+/{b}-{c}",
        "/*a/:b+",
        "/-*a/:b+/*c",
        "/{a}/*",
        "/*a/*",
    ],
)
def test_every_short_text_matches_as_the_non_greedy_regex_would(template: str) -> None:
    found, regex = pattern(template), as_regex(template)
    for length in range(7):
        for letters in product(LETTERS, repeat=length):
            text = "/" + "".join(letters)
            match = regex.fullmatch(text)
            expected = match and tuple(group or "" for group in match.groups())
            assert found.match(text) == expected, text


@pytest.mark.parametrize(
    ("template", "prefix"),
    [("/a{b}", "/a"), ("/{a:x}", "/"), ("/abc", "/abc"), ("/a/*b", "/a/")],
)
def test_the_prefix_is_the_literal_that_comes_first(template: str, prefix: str) -> None:
    assert pattern(template).prefix == prefix


def test_a_pattern_that_begins_with_a_parameter_has_no_prefix() -> None:
    assert Pattern(parse_template("/{a}b")[1:]).prefix == ""
    assert Pattern([Literal("ab")]).match("ab") == ()


def test_patterns_that_differ_in_names_alone_have_one_key() -> None:
    assert pattern("/{a}-{b}").key == pattern("/{c}-:d").key
    assert pattern("/{a:x}").key == pattern("/{b}", {"b": "x"}).key
    distinct = ["/{a}", "/{a:x}", "/{a:y}", "/{.a}", "/*a", "/:a+", "/a", "/{a}-"]
    assert len({pattern(template).key for template in distinct}) == len(distinct)


@pytest.mark.parametrize(
    "regex",
    [
        "a", "ab|c", "a{2,3}", r"\d+", r"\w", r"\s", r"\b", r"\B", r"\-", r"\.", r"\\",
        "[a-z]+", "[]a]", r"[\]a]", r"[\d\w]", r"[.$^]", "(a|b)", "(?:a|b)+", "(?:)",
        "a*?", "",
    ],
)  # fmt: skip
def test_a_regex_that_can_match_no_slash_stays_in_its_segment(regex: str) -> None:
    assert not may_span_segments(regex)


@pytest.mark.parametrize(
    "regex",
    [
        ".", "a.b", "/", "a/b", r"\/", "^a", "a$", r"\D", r"\W", r"\S", r"\A", r"\Z",
        r"\x2f", r"\057", r"\u002f", r"\t", "[^a]", "[/]", "[+-9]", r"[\D]", r"[\x2f]",
        "(?=a)", "(?!a)", "(?<=a)b", "(?i:a)", "(?#a)", "a|[^b]", r"[]/]",
    ],
)  # fmt: skip
def test_a_regex_that_may_match_a_slash_or_look_around_sees_the_path_whole(
    regex: str,
) -> None:
    assert may_span_segments(regex)


class Counted(str):
    """A text that counts the characters that are looked at, and the calls."""

    steps = 0

    def find(
        self,
        sub: str,
        start: SupportsIndex | None = None,
        end: SupportsIndex | None = None,
        /,
    ) -> int:
        found = super().find(sub, start, end)
        first, stop, _ = slice(start, end).indices(len(self))
        self.steps += 1 + max(0, (found if found != -1 else stop) - first)
        return found


NASTY_TEMPLATES = [
    "/{a}-{b}-{c}-{d}",
    "/{a}-{b}-end",
    "/{a}ab{b}ab{c}",
    "/*a/x/*b/{c}-{d}/*e/end",
    "/{a}{.f}-{b}{.g}",
    "/{a}{.f}{.g}{.h}x",
    "/{a}{.f}-{b}{.g}/x",
    "/*a{.f}x*b{.g}y",
    "/:a+/x/:b+",
    "/:a+/x/:b+/y",
    "/*a/:b+/x/{c}-*d/y",
]
NASTY_UNITS = ["-", ".", "a", "/", "ab", "a/", "x/", ".-", "a-", ".x", "a.-/", "x-x/"]
NASTY_ENDS = ["", "-", "-end", "x", "/", "/end", "/x", "/y", "-en"]


@pytest.mark.parametrize("template", NASTY_TEMPLATES)
@pytest.mark.parametrize("unit", NASTY_UNITS)
def test_the_steps_of_a_match_grow_no_faster_than_the_text(
    template: str, unit: str
) -> None:
    """Eight times the text costs about eight times the steps, never sixty-four."""
    found = pattern(template)

    def steps(size: int, end: str) -> int:
        text = Counted("/" + unit * (size // len(unit)) + end)
        found.match(text)
        return text.steps

    for end in NASTY_ENDS:
        assert steps(2048, end) <= 12 * steps(256, end) + 500, end
        assert steps(2048, end) <= 40 * 2048, end
