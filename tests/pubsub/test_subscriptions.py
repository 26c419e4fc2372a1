"""Subscriptions: who hears what, against a naive model and paho's matcher."""

from __future__ import annotations

import gc
import random
import weakref
from collections.abc import Callable, Collection
from functools import partial
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from paho.mqtt.client import topic_matches_sub

from websockets_routes import Filter
from websockets_routes.pubsub.subscriptions import Subscriptions

same_every_time = settings(
    derandomize=True, database=None, deadline=None, max_examples=200
)

levels = st.sampled_from(["", "a", "b", "$a"])
names = st.lists(levels, min_size=1, max_size=4).map("/".join).filter(bool)
parents = st.lists(st.one_of(levels, st.just("+")), max_size=3)
filters = (
    st.tuples(parents, st.one_of(levels, st.sampled_from(["+", "#"])))
    .map(lambda parts: "/".join([*parts[0], parts[1]]))
    .filter(bool)
    .map(Filter)
)
topics = st.one_of(names, filters)
subscribers = st.integers(0, 4)

Topic = str | Filter


def is_heard(topic: Topic, name: str) -> bool:
    if isinstance(topic, Filter):
        return topic_matches_sub(topic.text, name)
    return topic == name


class Keeping(RuleBasedStateMachine):
    """Subscriptions and a list of them do the same."""

    def __init__(self) -> None:
        super().__init__()
        self.real: Subscriptions[int] = Subscriptions()
        self.model: list[tuple[int, Topic]] = []

    @rule(subscriber=subscribers, topic=topics)
    def add(self, subscriber: int, topic: Topic) -> None:
        new = (subscriber, topic) not in self.model
        assert self.real.add(subscriber, topic) is new
        if new:
            self.model.append((subscriber, topic))

    @rule(subscriber=subscribers, topic=topics)
    def remove_any(self, subscriber: int, topic: Topic) -> None:
        there = (subscriber, topic) in self.model
        assert self.real.remove(subscriber, topic) is there
        if there:
            self.model.remove((subscriber, topic))

    @rule(index=st.integers(0, 100))
    def remove_one_that_is_there(self, index: int) -> None:
        if self.model:
            subscriber, topic = self.model.pop(index % len(self.model))
            assert self.real.remove(subscriber, topic)

    @rule(subscriber=subscribers)
    def remove_all(self, subscriber: int) -> None:
        removed = [topic for each, topic in self.model if each == subscriber]
        assert self.real.remove_all(subscriber) == removed
        self.model = [each for each in self.model if each[0] != subscriber]

    @rule(name=names)
    def ask(self, name: str) -> None:
        audience = list(self.real.audience(name))
        assert len(set(audience)) == len(audience)
        assert set(audience) == {
            subscriber for subscriber, topic in self.model if is_heard(topic, name)
        }
        exact = [subscriber for subscriber, topic in self.model if topic == name]
        if exact:
            assert audience[: len(exact)] == exact

    @rule(topic=topics)
    def count(self, topic: Topic) -> None:
        expected = [subscriber for subscriber, each in self.model if each == topic]
        assert list(self.real.subscribers_of(topic)) == expected
        assert self.real.count(topic) == len(expected)

    @invariant()
    def holds_what_the_model_holds(self) -> None:
        assert len(self.real) == len(self.model)
        assert set(self.real.subscribers) == {each for each, _ in self.model}
        assert {name: list(who) for name, who in self.real.names.items()} == {
            name: [each for each, topic in self.model if topic == name]
            for _, name in self.model
            if isinstance(name, str)
        }
        for subscriber in range(5):
            assert list(self.real.topics_of(subscriber)) == [
                topic for each, topic in self.model if each == subscriber
            ]

    def teardown(self) -> None:
        for subscriber in {each for each, _ in self.model}:
            self.real.remove_all(subscriber)
        assert held(self.real) == held(Subscriptions())


def held(root: object) -> int:
    """Count the objects that are reachable and belong to nobody else."""
    seen: dict[int, object] = {}
    waiting = [root]
    while waiting:
        each = waiting.pop()
        if id(each) not in seen and not isinstance(each, type | int):
            seen[id(each)] = each
            waiting += gc.get_referents(each)
    return len(seen)


TestKeeping = Keeping.TestCase
TestKeeping.settings = settings(
    derandomize=True,
    database=None,
    deadline=None,
    max_examples=70,
    stateful_step_count=40,
)


@same_every_time
@given(st.lists(topics, max_size=8), names)
@example([Filter("$a/#"), Filter("#"), Filter("+")], "$a")
@example([Filter("+/+"), Filter("#")], "$a/b")
@example([Filter("a/#")], "a")
@example([Filter("+/#"), Filter("/#"), Filter("/+")], "/")
def test_each_topic_is_heard_as_by_paho(given_topics: list[Topic], name: str) -> None:
    subscriptions: Subscriptions[int] = Subscriptions()
    for subscriber, topic in enumerate(given_topics):
        subscriptions.add(subscriber, topic)
    assert set(subscriptions.audience(name)) == {
        subscriber
        for subscriber, topic in enumerate(given_topics)
        if is_heard(topic, name)
    }


# One by one


@pytest.mark.parametrize(
    "overlapping",
    [
        ["a/b", Filter("a/b")],
        [Filter("a/+"), Filter("a/#"), Filter("#"), Filter("+/b"), Filter("+/+")],
        ["a/b", Filter("a/b/#"), Filter("+/b/#"), Filter("a/b")],
    ],
    ids=["name-and-filter", "filters", "parents"],
)
def test_whoever_hears_a_name_in_many_ways_is_there_once(
    overlapping: list[Topic],
) -> None:
    subscriptions: Subscriptions[str] = Subscriptions()
    for topic in overlapping:
        assert subscriptions.add("x", topic)
    assert list(subscriptions.audience("a/b")) == ["x"]
    for topic in overlapping:
        assert list(subscriptions.audience("a/b")) == ["x"]
        subscriptions.remove("x", topic)
    assert list(subscriptions.audience("a/b")) == []


def test_a_name_and_a_filter_of_the_same_text_are_two_topics() -> None:
    subscriptions: Subscriptions[str] = Subscriptions()
    subscriptions.add("x", "a")
    subscriptions.add("y", Filter("a"))
    assert subscriptions.count("a") == subscriptions.count(Filter("a")) == 1
    assert list(subscriptions.names) == ["a"]
    assert not subscriptions.remove("x", Filter("a"))
    assert not subscriptions.remove("y", "a")
    assert len(subscriptions) == 2


def test_an_audience_is_in_the_order_of_subscribing() -> None:
    order = list(range(100))
    random.Random(1).shuffle(order)
    subscriptions: Subscriptions[int] = Subscriptions()
    for each in order:
        subscriptions.add(each, "a")
    assert list(subscriptions.audience("a")) == order
    subscriptions.add(order[0], "a")
    assert list(subscriptions.audience("a")) == order
    subscriptions.remove(order[0], "a")
    subscriptions.add(order[0], "a")
    assert list(subscriptions.audience("a")) == [*order[1:], order[0]]


def test_nobody_hears_what_nobody_subscribed() -> None:
    subscriptions: Subscriptions[int] = Subscriptions()
    assert not subscriptions.audience("a")
    assert not subscriptions.topics_of(1)
    assert subscriptions.remove_all(1) == []
    assert not subscriptions.remove(1, "a")
    subscriptions.add(1, Filter("b/+"))
    assert not subscriptions.audience("a")
    assert not subscriptions.audience("b")
    assert subscriptions.count(Filter("b")) == subscriptions.count(Filter("b/#")) == 0
    assert not subscriptions.remove(1, Filter("b"))
    assert not subscriptions.remove(1, Filter("b/+/c"))


def test_leaving_one_filter_keeps_those_that_share_its_levels() -> None:
    subscriptions: Subscriptions[str] = Subscriptions()
    for topic in ("a", "a/b", "a/b/c", "a/b/#", "a/+/c"):
        subscriptions.add(topic, Filter(topic))
    subscriptions.remove("a/b", Filter("a/b"))
    assert set(subscriptions.audience("a/b/c")) == {"a/b/c", "a/b/#", "a/+/c"}
    assert set(subscriptions.audience("a/b")) == {"a/b/#"}
    subscriptions.remove("a/b/c", Filter("a/b/c"))
    assert set(subscriptions.audience("a/b/c")) == {"a/b/#", "a/+/c"}
    assert set(subscriptions.audience("a")) == {"a"}


def test_a_subscriber_that_left_is_let_go() -> None:
    class Subscriber:
        pass

    subscriptions: Subscriptions[Any] = Subscriptions()
    subscriber = Subscriber()
    for topic in ("a", "a/b", Filter("a/+"), Filter("#"), Filter("x/y/z/#")):
        subscriptions.add(subscriber, topic)
    gone = weakref.ref(subscriber)
    subscriptions.remove_all(subscriber)
    del subscriber
    assert gone() is None
    assert held(subscriptions) == held(Subscriptions())


def test_nothing_grows_over_many_rounds() -> None:
    subscriptions: Subscriptions[int] = Subscriptions()
    for number in range(20_000):
        subscriptions.add(number, f"room/{number}")
        subscriptions.add(number, Filter(f"room/{number}/+/x{number}/#"))
        if number % 2:
            subscriptions.remove_all(number)
        else:
            subscriptions.remove(number, f"room/{number}")
            subscriptions.remove(number, Filter(f"room/{number}/+/x{number}/#"))
    assert held(subscriptions) == held(Subscriptions())
    assert len(subscriptions) == 0


# Cost, counted in comparisons and hashes


class Level(str):
    """A level that counts how often it is looked at."""

    __slots__ = ()
    looks = 0

    def __hash__(self) -> int:
        Level.looks += 1
        return super().__hash__()

    def __eq__(self, other: object) -> bool:
        Level.looks += 1
        return super().__eq__(other)

    def split(self, *args: Any, **kwargs: Any) -> list[str]:
        return [Level(level) for level in super().split(*args, **kwargs)]


class Subscriber:
    """A subscriber that counts how often any of them is looked at."""

    looks = 0

    def __hash__(self) -> int:
        Subscriber.looks += 1
        return id(self)


def looks(action: Callable[[], object]) -> tuple[int, int]:
    Level.looks = Subscriber.looks = 0
    action()
    return Level.looks, Subscriber.looks


def filled(others: int) -> Subscriptions[Subscriber]:
    subscriptions: Subscriptions[Subscriber] = Subscriptions()
    for number in range(others):
        other = Subscriber()
        subscriptions.add(other, Level(f"room/{number}/news"))
        subscriptions.add(other, Filter(Level(f"room/{number}/+")))
        subscriptions.add(other, Filter(Level(f"hall/{number}/news/#")))
    return subscriptions


def costs(others: int) -> list[tuple[int, int]]:
    subscriptions = filled(others)
    mine = Subscriber()
    wanted: Collection[Topic] = [
        Level("room/mine/news"),
        Filter(Level("room/mine/+")),
        Filter(Level("hall/+/news")),
    ]
    name = Level("room/mine/news")
    steps: list[Callable[[], object]] = [
        *(partial(subscriptions.add, mine, topic) for topic in wanted),
        lambda: list(subscriptions.audience(name)),
        *(partial(subscriptions.count, topic) for topic in wanted),
        lambda: subscriptions.remove_all(mine),
    ]
    return [looks(step) for step in steps]


def test_no_step_costs_more_where_there_are_many_other_topics() -> None:
    few, many = costs(10), costs(10_000)
    for (few_levels, few_subscribers), (levels, subscribers) in zip(
        few, many, strict=True
    ):
        # Chance may have two hashes fall together.
        assert few_levels > 0
        assert levels <= few_levels + 8
        assert subscribers <= few_subscribers + 8


def test_leaving_costs_what_its_own_topics_cost() -> None:
    subscriptions: Subscriptions[Subscriber] = Subscriptions()
    crowd = [Subscriber() for _ in range(5_000)]
    for each in crowd:
        subscriptions.add(each, "all")
        subscriptions.add(each, Filter("all/#"))
    _, looked = looks(lambda: subscriptions.remove_all(crowd[2_500]))
    assert looked < 20
    assert len(subscriptions.audience("all")) == 4_999


def test_an_audience_by_name_alone_is_not_copied() -> None:
    subscriptions: Subscriptions[Subscriber] = Subscriptions()
    for _ in range(1_000):
        subscriptions.add(Subscriber(), "all")
    assert looks(lambda: subscriptions.audience("all"))[1] == 0
    subscriptions.add(Subscriber(), Filter("other/#"))
    assert looks(lambda: subscriptions.audience("all"))[1] == 0
