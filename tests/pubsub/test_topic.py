"""Topics as they are declared: names built, names matched, filters held off."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from websockets_routes import (
    BuildError,
    Filter,
    InvalidTopic,
    Overflow,
    SubscriptionDenied,
    TemplateError,
    Topic,
)
from websockets_routes.pubsub.names import check_name
from websockets_routes.pubsub.topic import Declarations

same_every_time = settings(
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)


def declared(*topics: Topic) -> Declarations:
    declarations = Declarations()
    for topic in topics:
        declarations.add(topic)
    return declarations


def read_back(topic: Topic, name: str) -> dict[str, str] | None:
    found = declared(topic).match(name)
    if found is None:
        return None
    assert found[0] is topic
    return dict(found[1])


# Names are built


@pytest.mark.parametrize(
    ("template", "params", "name"),
    [
        ("room", {}, "room"),
        ("room/{name}", {"name": "a"}, "room/a"),
        ("room/{name}", {"name": "a/b"}, "room/a%2Fb"),
        ("room/{name}", {"name": "+"}, "room/%2B"),
        ("room/{name}", {"name": "#"}, "room/%23"),
        ("room/{name}", {"name": "50%"}, "room/50%25"),
        ("room/{name}", {"name": "%2F"}, "room/%252F"),
        ("room/{name}", {"name": "%25"}, "room/%2525"),
        ("room/{name}", {"name": "$x"}, "room/$x"),
        ("room/{name}", {"name": "é 日😀"}, "room/é 日😀"),
        ("room/{name}", {"name": ".."}, "room/.."),
        ("room/{name}", {"name": "?*:{}\\"}, "room/?*:{}\\"),
        ("room/{name}", {"name": 7}, "room/7"),
        ("room/{name}", {"name": False}, "room/False"),
        ("{name}", {"name": "$x"}, "%24x"),
        ("{name}", {"name": "$"}, "%24"),
        ("{name}", {"name": "%24x"}, "%2524x"),
        ("{name}", {"name": "x$"}, "x$"),
        ("*rest", {"rest": "$x/y"}, "%24x/y"),
        ("$SYS/{name}", {"name": "x"}, "$SYS/x"),
        ("${name}", {"name": "x"}, "$x"),
        ("100%/{name}", {"name": "x"}, "100%25/x"),
        ("a%2Fb/{name}", {"name": "x"}, "a%252Fb/x"),
        ("room/*rest", {"rest": "a/b"}, "room/a/b"),
        ("room/*rest", {"rest": "a/+/#"}, "room/a/%2B/%23"),
        ("room/:rest+", {"rest": "a/b"}, "room/a/b"),
        ("room/:name?", {"name": "a/b"}, "room/a%2Fb"),
        ("room/:name?", {}, "room"),
        ("/room//{name}/", {"name": "a"}, "/room//a/"),
        ("log{.kind}", {"kind": "txt"}, "log.txt"),
        ("log{.kind}", {}, "log"),
        ("{a}-{b}", {"a": "1", "b": "2-3"}, "1-2-3"),
    ],
)
def test_a_name_is_built_and_read_back(
    template: str, params: dict[str, object], name: str
) -> None:
    topic = Topic(template)
    assert topic(**params) == name
    check_name(name)
    found = read_back(topic, name)
    assert found is not None
    assert {key: value for key, value in found.items() if value} == {
        key: str(value) for key, value in params.items()
    }


fit = st.text(
    st.characters(exclude_categories=("Cc", "Cs")), min_size=1, max_size=12
) | st.text("ab%/+#$2F4.-:\\", min_size=1, max_size=8)


@same_every_time
@given(fit)
@example("%2F")
@example("/")
@example("//")
@example("$")
@example(".")
@example("\u2028")
@example("\xa0")
@pytest.mark.parametrize(
    "template",
    ["room/{v}", "{v}", "{v}/x", "a{v}", "${v}", "room/:v?", ":(v)", "*v", "r/*v"],
)
def test_every_value_comes_back_as_it_is(template: str, value: str) -> None:
    topic = Topic(template)
    name = topic(v=value)
    check_name(name)
    assert read_back(topic, name) == {"v": value}


@same_every_time
@given(fit)
def test_a_value_never_leaves_its_level(value: str) -> None:
    for template, heard in (
        ("room/{v}", "room/+"),
        ("{v}", "+"),
        ("{v}", "#"),
        ("{v}/x", "+/x"),
        ("a{v}/b", "+/b"),
        ("*v", "#"),
    ):
        assert Filter(heard).matches(Topic(template)(v=value))


pieces = st.lists(
    st.sampled_from(["a", "%", "/", "2F", "$", "24", "+", "-", "."]), max_size=4
).map("".join)


@settings(same_every_time, max_examples=120)
@given(st.tuples(pieces, pieces), st.tuples(pieces, pieces))
@example(("a", "-a"), ("a-", "a"))
@example(("a/", "a"), ("a", "/a"))
@example(("", "a"), ("a", ""))
@pytest.mark.parametrize(
    "template",
    [
        "{a}-{b}",
        "{a}/{b}",
        "*a/{b}",
        "{a}/*b",
        "{a}{b}",
        "{a}{.b}",
        ":a?/:b?",
        ":a*/:b*",
        "{a:.*}/{b:.*}",
        "$x/:a?/{b}",
        "*(a)*(b)",
    ],
)
def test_different_params_never_give_one_name(
    template: str, one: tuple[str, str], other: tuple[str, str]
) -> None:
    topic = Topic(template)
    try:
        names = [topic(a=each[0] or None, b=each[1] or None) for each in (one, other)]
    except BuildError:
        return  # one of them has no name at all
    assert (names[0] == names[1]) is (one == other)
    for name in names:
        check_name(name)


@pytest.mark.parametrize(
    ("template", "params", "reason"),
    [
        ("room/{name}", {}, "'name' is missing"),
        ("room/{name}", {"name": ""}, "'name' is missing"),
        ("room/{name}", {"name": None}, "'name' is missing"),
        ("room/{name}", {"nam": "a"}, "did you mean 'name'"),
        ("room/{name}", {"name": "a", "x": "b"}, "'x' is no parameter"),
        ("room", {"x": "b"}, "'x' is no parameter"),
        ("room/{name}", {"name": b"a"}, "not bytes"),
        ("room/{name}", {"name": "a\0"}, "control character"),
        ("room/{name}", {"name": "\n"}, "control character"),
        ("room/{name}", {"name": "\x85"}, "control character"),
        ("room/{name}", {"name": "\ud800"}, "surrogate"),
        ("room/{id:\\d+}", {"id": "x"}, "does not match"),
        ("room/{id:\\d+}", {"id": "1\n"}, "control character"),
        ("{a}-{b}", {"a": "1-2", "b": "3"}, "read back"),
        ("log{.kind}", {"kind": "a.b"}, "read back"),
        ("room/:rest+", {"rest": "a//b"}, "read back"),
        ("*", {}, "empty"),
        (":name?", {}, "empty"),
    ],
)
def test_a_name_that_would_not_be_read_back_is_not_built(
    template: str, params: dict[str, object], reason: str
) -> None:
    with pytest.raises(BuildError) as caught:
        Topic(template)(**params)
    assert reason in str(caught.value)


def test_the_error_names_the_template_as_it_was_declared() -> None:
    with pytest.raises(BuildError) as caught:
        Topic("room/{name}")()
    assert caught.value.template == "room/{name}"
    with pytest.raises(BuildError) as caught:
        Topic("{a}-{b}")(a="1-2", b="3")
    assert caught.value.template == "{a}-{b}"


def test_a_topic_tells_what_it_is() -> None:
    topic = Topic("room/{name}/:page?")
    assert str(topic) == topic.text == "room/{name}/:page?"
    assert repr(topic) == "Topic('room/{name}/:page?')"
    assert topic.parameters == ("name", "page")
    assert topic.overflow is Overflow.CLOSE
    assert topic.key is None
    assert topic.authorize is None
    assert not topic.filters


# Declarations that cannot work


@pytest.mark.parametrize("template", ["", None, 7, b"room"], ids=repr)
def test_a_topic_is_declared_by_a_template(template: Any) -> None:
    with pytest.raises(InvalidTopic, match="template"):
        Topic(template)


@pytest.mark.parametrize(
    ("template", "position", "problem"),
    [
        ("room/+", 5, "+ is a wildcard"),
        ("room/#", 5, "# is a wildcard"),
        ("a+b/{x}", 1, "+ is a wildcard"),
        ("#", 0, "# is a wildcard"),
        ("{x}#", 3, "# is a wildcard"),
        ("room/{x", 5, "never closed"),
        ("room/{x}/{x}", 10, "used twice"),
        ("room/{1}", 6, "no identifier"),
        ("room/{}", 5, "needs a name"),
        ("room?", 4, "query"),
        ("a\n", 1, "control character"),
        ("\ud800", 0, "surrogate"),
        ("}", 0, "no brace"),
        ("room/{x:(}", 8, "broken"),
        ("x\\", 1, "nothing to escape"),
        (":x+/a+b", 5, "+ is a wildcard"),
        ("{x:a+}/b+", 8, "+ is a wildcard"),
        ("{x:a#}/b#", 8, "# is a wildcard"),
    ],
)
def test_a_template_that_cannot_work_raises_with_the_place(
    template: str, position: int, problem: str
) -> None:
    with pytest.raises(TemplateError) as caught:
        Topic(template)
    assert problem in caught.value.problem
    assert caught.value.template == template
    assert caught.value.position == position


def test_wildcards_are_fine_where_they_are_none() -> None:
    assert read_back(Topic("room/{x:[+#]}"), "room/%23") == {"x": "#"}
    assert Topic("room/{x:[+#]}")(x="+") == "room/%2B"
    assert Topic(":x+")(x="a/b") == "a/b"


def test_requirements_are_regexes_by_name() -> None:
    topic = Topic("room/{id}", requirements={"id": r"\d+"})
    assert read_back(topic, "room/12") == {"id": "12"}
    assert read_back(topic, "room/x") is None
    with pytest.raises(BuildError, match="does not match"):
        topic(id="x")
    with pytest.raises(TemplateError, match="'other'"):
        Topic("room/{id}", requirements={"other": "x"})
    with pytest.raises(TemplateError, match="broken"):
        Topic("room/{id}", requirements={"id": "("})


@pytest.mark.parametrize("overflow", ["drop", "", "CLOSE", None, 0, [], object])
def test_an_unknown_overflow_raises_with_the_choices(overflow: Any) -> None:
    with pytest.raises(InvalidTopic) as caught:
        Topic("a", overflow=overflow)
    assert caught.value.topic == "a"
    for choice in ("'close'", "'drop_oldest'", "'drop_newest'", "'conflate'"):
        assert choice in caught.value.problem


@pytest.mark.parametrize("overflow", Overflow, ids=lambda each: each.value)
def test_an_overflow_is_given_as_itself_or_as_its_value(overflow: Overflow) -> None:
    assert Topic("a", overflow=overflow).overflow is overflow
    assert Topic("a", overflow=overflow.value).overflow is overflow


async def coroutine(*args: object) -> bool:
    return True


async def generator(*args: object) -> Any:
    yield True


class AsyncCallable:
    async def __call__(self, message: object) -> str:
        return ""


class Asked:
    def one(self, message: object) -> str:
        return ""

    def __call__(self, ws: object, topic: object, params: object) -> bool:
        return True


@pytest.mark.parametrize("overflow", ["close", "drop_oldest", "drop_newest"])
def test_a_key_is_for_conflate_only(overflow: str) -> None:
    with pytest.raises(InvalidTopic, match="conflate"):
        Topic("a", overflow=overflow, key=len)
    with pytest.raises(InvalidTopic, match="conflate"):
        Topic("a", key=len)


@pytest.mark.parametrize(
    "key",
    [
        coroutine,
        generator,
        AsyncCallable(),
        functools.partial(coroutine),
        lambda: None,
        lambda message, other: None,
        lambda message, *, other: None,
        "key",
        7,
    ],
    ids=[
        "coroutine",
        "async-generator",
        "async-callable",
        "partial-of-coroutine",
        "none",
        "two",
        "keyword-only",
        "str",
        "int",
    ],
)
def test_a_key_is_a_plain_function_of_the_message(key: Any) -> None:
    with pytest.raises(InvalidTopic, match="plain function"):
        Topic("a", overflow="conflate", key=key)


@pytest.mark.parametrize(
    "key",
    [
        len,
        hash,
        str,
        lambda message: 1,
        lambda *messages: 1,
        lambda message, other=1: 1,
        functools.partial(max, 1),
        Asked().one,
    ],
)
def test_a_key_may_be_any_callable_that_takes_the_message(key: Any) -> None:
    assert Topic("a", overflow="conflate", key=key).key is key


@pytest.mark.parametrize(
    "authorize",
    [
        lambda: True,
        lambda ws: True,
        lambda ws, topic: True,
        lambda ws, topic, params, more: True,
        lambda ws, topic, params, *, more: True,
        True,
        "yes",
    ],
)
def test_an_authorize_takes_three_arguments(authorize: Any) -> None:
    with pytest.raises(InvalidTopic, match=r"f\(ws, topic, params\)"):
        Topic("a", authorize=authorize)


@pytest.mark.parametrize(
    "authorize",
    [
        lambda ws, topic, params: True,
        lambda ws, topic, params, more=None: True,
        lambda *args: True,
        functools.partial(coroutine, 1),
        coroutine,
        Asked(),
    ],
)
def test_an_authorize_may_be_any_callable(authorize: Any) -> None:
    assert Topic("a", authorize=authorize).authorize is authorize


# Which declaration holds


@pytest.mark.parametrize(
    ("name", "expected", "params"),
    [
        ("room/lobby", "room/lobby", {}),
        ("room/12", "room/{id:\\d+}", {"id": "12"}),
        ("room/x", "room/{name}", {"name": "x"}),
        ("room/x12", "room/x{n}", {"n": "12"}),
        ("room/a%2Fb", "room/{name}", {"name": "a/b"}),
        ("room/a/b", "room/*rest", {"rest": "a/b"}),
        ("hall/x", "{kind}/{name}", {"kind": "hall", "name": "x"}),
        ("hall/x/y", "*all", {"all": "hall/x/y"}),
        ("room/", "*all", {"all": "room/"}),
        ("room", "*all", {"all": "room"}),
        ("%72oom/%6Cobby", "room/lobby", {}),
    ],
)
def test_the_most_specific_declaration_holds_in_whatever_order(
    name: str, expected: str, params: dict[str, str]
) -> None:
    templates = ["room/lobby", "room/{id:\\d+}", "room/x{n}", "room/{name}"]
    templates += ["room/*rest", "{kind}/{name}", "*all"]
    for start in range(len(templates)):
        ordered = templates[start:] + templates[:start]
        for order in (ordered, ordered[::-1]):
            found = declared(*map(Topic, order)).match(name)
            assert found is not None
            assert (found[0].text, found[1]) == (expected, params)


def test_between_equals_the_first_declared_holds() -> None:
    found = declared(Topic("a/{x}"), Topic("a/{y}")).match("a/b")
    assert found is not None
    assert (found[0].text, found[1]) == ("a/{x}", {"x": "b"})


def test_a_later_declaration_holds_for_names_that_were_matched_before() -> None:
    declarations = declared(Topic("a/{x}"))
    first = declarations.match("a/b")
    assert first is not None
    assert declarations.match("b") is None
    declarations.add(Topic("a/b"))
    declarations.add(Topic("b"))
    second, third = declarations.match("a/b"), declarations.match("b")
    assert second is not None
    assert third is not None
    assert (first[0].text, second[0].text, third[0].text) == ("a/{x}", "a/b", "b")


def test_a_template_is_declared_once() -> None:
    first = Topic("a/{x}")
    declarations = declared(first)
    with pytest.raises(InvalidTopic, match="declared already") as caught:
        declarations.add(Topic("a/{x}", overflow="conflate"))
    assert caught.value.topic == "a/{x}"
    found = declarations.match("a/b")
    assert found is not None
    assert found[0] is first


def test_declarations_know_whether_there_are_any() -> None:
    assert not Declarations()
    assert declared(Topic("a"))
    assert Declarations().match("a") is None
    assert list(Declarations().guards("a")) == []
    assert list(Declarations().guards(Filter("#"))) == []


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("room/%", "%"),
        ("room/%zz", "%zz"),
        ("room/%2", "%2"),
        ("room/%FF", "%FF"),
        ("room/%C3%28", "%C3%28"),
        ("room/%C3%A9", "é"),
        ("room/%c3%a9", "é"),
        ("room/%00", "%00"),
        ("room/a%0Ab", "a%0Ab"),
        ("room/%ED%A0%80", "%ED%A0%80"),
        ("room/%2f", "/"),
        ("room/%252F", "%2F"),
        ("room/é", "é"),
    ],
)
def test_a_name_that_nobody_built_is_read_as_well_as_can_be(
    name: str, value: str
) -> None:
    assert read_back(Topic("room/{name}"), name) == {"name": value}


def test_what_is_remembered_of_names_has_an_end() -> None:
    declarations = declared(Topic("a/{x}"))
    for number in range(10_000):
        assert declarations.match(f"a/{number}") is not None
    assert declarations.match.cache_info().currsize <= 4096


# Filters and authorization


def allow(ws: object, topic: object, params: Mapping[str, str]) -> bool:
    return True


def deny(ws: object, topic: object, params: Mapping[str, str]) -> bool:
    return False


def test_a_name_is_guarded_by_its_best_declaration_alone() -> None:
    declarations = declared(
        Topic("room/{name}", authorize=deny),
        Topic("room/open"),
        Topic("room/closed", authorize=allow),
        Topic("*all", authorize=deny),
    )
    assert list(declarations.guards("room/open")) == []
    assert list(declarations.guards("room/closed")) == [(allow, {})]
    assert list(declarations.guards("room/a%2Fb")) == [(deny, {"name": "a/b"})]
    assert list(declarations.guards("elsewhere")) == [(deny, {"all": "elsewhere"})]


def test_a_guard_may_change_the_params_that_it_gets() -> None:
    declarations = declared(Topic("room/{name}", authorize=allow))
    for _ in range(2):
        [(_, params)] = declarations.guards("room/a")
        assert params == {"name": "a"}
        assert isinstance(params, dict)
        params.clear()
    found = declarations.match("room/a")
    assert found is not None
    assert found[1] == {"name": "a"}


def test_a_filter_over_a_guarded_topic_is_denied_unless_it_takes_filters() -> None:
    shut = Topic("room/{name}", authorize=allow)
    declarations = declared(Topic("news/{x}"), shut, Topic("a/b", filters=True))
    for text in ("#", "room/#", "room/+", "+/+", "+/x", "room/x", "room/x/#"):
        with pytest.raises(
            SubscriptionDenied, match=r"room/\{name\}.*filters"
        ) as denied:
            list(declarations.guards(Filter(text)))
        assert denied.value.topic == Filter(text)
    for text in ("news/#", "+", "+/+/+", "room", "a/#", "room/+/x", "$SYS/#"):
        assert list(declarations.guards(Filter(text))) == []


def test_every_topic_that_a_filter_may_match_is_asked_about_it() -> None:
    declarations = declared(
        Topic("room/{name}", authorize=allow, filters=True),
        Topic("room/closed", authorize=deny, filters=True),
        Topic("hall/{name}", authorize=deny, filters=True),
        Topic("open/{name}", filters=True),
    )
    assert list(declarations.guards(Filter("room/#"))) == [(allow, {}), (deny, {})]
    assert list(declarations.guards(Filter("room/x"))) == [(allow, {})]
    assert list(declarations.guards(Filter("open/+"))) == []
    assert len(list(declarations.guards(Filter("#")))) == 3


def test_nobody_is_asked_about_a_filter_that_is_denied() -> None:
    declarations = declared(
        Topic("room/{name}", authorize=allow, filters=True),
        Topic("hall/{name}", authorize=allow),
    )
    guards = declarations.guards(Filter("#"))
    with pytest.raises(SubscriptionDenied):
        next(guards)


def test_a_topic_that_is_declared_elsewhere_is_asked_too() -> None:
    elsewhere = Topic("room/{name}", authorize=deny)
    here: list[tuple[Declarations, list[Any]]] = [
        (Declarations(), []),
        (declared(Topic("hall/{name}", authorize=allow)), []),
        (declared(Topic("room/{name}", authorize=allow)), [(allow, {"name": "a"})]),
        (declared(Topic("room/a")), []),
    ]
    for declarations, guards in here:
        expected = [(deny, {"name": "a"}), *guards]
        assert list(declarations.guards("room/a", elsewhere)) == expected
        assert list(declarations.guards("room/a")) == guards


def test_a_topic_that_is_declared_here_is_asked_once() -> None:
    here = Topic("room/{name}", authorize=allow)
    assert list(declared(here).guards("room/a", here)) == [(allow, {"name": "a"})]
    assert list(Declarations().guards("room/a", Topic("room/{name}"))) == []


@pytest.mark.parametrize(
    ("template", "text", "overlaps"),
    [
        ("room/{name}", "room/+", True),
        ("room/{name}", "room", False),
        ("room/{name}", "room/a/b", False),
        ("room/{name}", "hall/+", False),
        ("room/{name}", "+/+/+", False),
        ("room/{name}", "room/a/#", True),
        ("room", "room/#", True),
        ("room", "room/+", False),
        ("room/*rest", "room/+/+/+", True),
        ("room/*rest", "room/#", True),
        ("room/*rest", "hall/#", False),
        ("room/*rest", "room", False),
        ("room/:x?", "room", True),
        ("room/:x?", "room/+/+", False),
        ("room/:x*", "room", True),
        ("room/:x*", "room/a/b/c", True),
        ("{a}/b", "x/c", False),
        ("$SYS/{x}", "#", True),
        ("$SYS/{x}", "+/+", True),
        ("$SYS/{x}", "$SYS/#", True),
        ("a/$b", "a/+", True),
        ("a%2Fb", "a%252Fb", True),
        ("é", "%C3%A9", True),
    ],
)
def test_a_topic_knows_whether_a_filter_may_match_it(
    template: str, text: str, overlaps: bool
) -> None:
    assert Topic(template).overlaps(Filter(text)) is overlaps


# All templates of at most two segments, with each of these in either.
SEGMENTS = ["", "a", "$a", "a%b", "{%s}", "a{%s}", "$a{%s}", "{%s}-{y%s}", "*%s"]
SEGMENTS += ["{%s:\\d+}", "{%s:[^b]+}", "{%s:.*}", "{%s:a/b}", "{%s:(?:a/)?b}", "a*%s"]
SEGMENTS += [":%s?", ":%s+", ":%s*", "a{.%s}", "\\:a", "*"]
LEVELS = ["", "a", "b", "ab", "$a", "$ab", "a.a", "a-b", "1", "%61", "a%2Fb", ":a"]
LEVELS += ["a%25b", "a%b", "$"]


def all_names(levels: list[str], depth: int) -> Iterator[str]:
    for length in range(1, depth + 1):
        for each in itertools.product(levels, repeat=length):
            if name := "/".join(each):
                yield name


def all_filters(levels: list[str], depth: int) -> Iterator[Filter]:
    for name in all_names([*levels, "+"], depth):
        yield Filter(name)
        yield Filter(name + "/#")
    yield Filter("#")


def written(segments: tuple[str, ...]) -> str:
    return "/".join(
        each.replace("%s", f"x{index}") for index, each in enumerate(segments)
    )


def check_overlaps(
    templates: list[str], names: list[str], filters: list[Filter]
) -> Iterator[tuple[str, str, str]]:
    heard_by = {
        name: {each for each in filters if each.matches(name)} for name in names
    }
    for template in templates:
        try:
            topic = Topic(template)
        except (TemplateError, InvalidTopic):
            continue
        declarations = declared(topic)
        matched = [name for name in names if declarations.match(name) is not None]
        heard = set[Filter]().union(*(heard_by[name] for name in matched))
        for each in heard:
            if not topic.overlaps(each):
                name = next(name for name in matched if each in heard_by[name])
                yield template, each.text, name


def test_no_filter_that_matches_a_name_of_a_topic_is_overlooked() -> None:
    templates = [
        written(segments)
        for length in (1, 2)
        for segments in itertools.product(SEGMENTS, repeat=length)
    ]
    names = list(all_names(LEVELS, 2))
    names += ["a/b/a", "a/a/b", "ab/a/b", "$a/b/a", "a//b", "/a/b", "b/a/b", "1/1/b"]
    filters = list(all_filters(["", "a", "b", "$a", "%61", "a%25b"], 2))
    overlooked = list(check_overlaps(templates, names, filters))
    assert not overlooked, f"{len(overlooked)}: {overlooked[:5]}"


@pytest.mark.parametrize("name", ["%24a/b", "%24a"])
def test_an_encoded_dollar_hides_from_no_filter(name: str) -> None:
    templates = ["$a/{x}", "$a/b", "$a/*x", "$a", "$a/:x?", "${x}", "{x}"]
    filters = [Filter(text) for text in ("#", "+", "+/b", "+/+", "+/#")]
    overlooked = list(check_overlaps(templates, [name], filters))
    assert not overlooked, f"{len(overlooked)}: {overlooked[:5]}"


def from_lists(levels: list[str], most: int) -> st.SearchStrategy[str]:
    each = st.lists(st.sampled_from(levels), min_size=1, max_size=most)
    return each.map("/".join).filter(bool)


@settings(same_every_time, max_examples=200)
@given(
    st.lists(st.sampled_from(SEGMENTS), min_size=1, max_size=4).map(tuple),
    st.lists(from_lists(LEVELS, 5), min_size=1, max_size=30),
    from_lists(["", "a", "b", "$a", "+", "+", "+"], 5),
    st.booleans(),
)
def test_no_filter_is_overlooked_in_longer_names(
    segments: tuple[str, ...], names: list[str], text: str, rest: bool
) -> None:
    heard = Filter(text + "/#" if rest else text)
    assert not list(check_overlaps([written(segments)], names, [heard]))
