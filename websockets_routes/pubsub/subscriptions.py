"""Subscriptions: who hears what.

Exact names are in one dictionary, filters in a tree of their levels. Finding who
hears a name costs the same however many other topics there are; subscribing and
leaving cost what the topic has levels.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Iterator, Mapping
from itertools import chain
from typing import Generic, TypeVar

from .names import ANY, REST, Filter, is_hidden

__all__ = ["Subscriptions"]

S = TypeVar("S", bound=Hashable)

# Dictionaries rather than sets: all subscribers are served in a lasting order.
_Subscribers = dict[S, None]


class _Node(Generic[S]):
    """A level of filters: those that end here, those that go on."""

    __slots__ = ("children", "subscribers")

    def __init__(self) -> None:
        self.children: dict[str, _Node[S]] = {}
        self.subscribers: _Subscribers[S] = {}


class Subscriptions(Generic[S]):
    """Subscribers by topic, and topics by subscriber. A topic is a name or a Filter.

    What has no subscriber is forgotten.
    """

    def __init__(self) -> None:
        self._by_name: dict[str, _Subscribers[S]] = {}
        self._filters: _Node[S] = _Node()
        self._topics: dict[S, dict[str | Filter, None]] = {}
        self._size = 0

    def __len__(self) -> int:
        """Count the subscriptions."""
        return self._size

    @property
    def names(self) -> Mapping[str, Collection[S]]:
        """The subscribers of each name that has any, filters left aside."""
        return self._by_name

    @property
    def subscribers(self) -> Collection[S]:
        """Whoever has a subscription."""
        return self._topics.keys()

    def topics(self) -> list[str | Filter]:
        """List the names and filters that have a subscriber; costs all of them."""
        return list(dict.fromkeys(chain.from_iterable(self._topics.values())))

    def topics_of(self, subscriber: S) -> Collection[str | Filter]:
        """Return what a subscriber hears, in the order in which it subscribed."""
        return self._topics.get(subscriber, {}).keys()

    def count(self, topic: str | Filter) -> int:
        """Count the subscribers of this very name, or of this very filter."""
        return len(self.subscribers_of(topic))

    def subscribers_of(self, topic: str | Filter) -> Collection[S]:
        """Return the subscribers of this very name, or of this very filter."""
        if not isinstance(topic, Filter):
            return self._by_name.get(topic, ())
        node = self._filters
        for level in topic.levels:
            following = node.children.get(level)
            if following is None:
                return ()
            node = following
        return node.subscribers

    def add(self, subscriber: S, topic: str | Filter) -> bool:
        """Subscribe; tell whether it is new."""
        topics = self._topics.setdefault(subscriber, {})
        if topic in topics:
            return False
        topics[topic] = None
        self._size += 1
        if isinstance(topic, Filter):
            node = self._filters
            for level in topic.levels:
                node = node.children.setdefault(level, _Node())
            node.subscribers[subscriber] = None
        else:
            self._by_name.setdefault(topic, {})[subscriber] = None
        return True

    def remove(self, subscriber: S, topic: str | Filter) -> bool:
        """Unsubscribe; tell whether there was such a subscription."""
        topics = self._topics.get(subscriber)
        if topics is None or topic not in topics:
            return False
        del topics[topic]
        if not topics:
            del self._topics[subscriber]
        self._forget(subscriber, topic)
        return True

    def remove_all(self, subscriber: S) -> list[str | Filter]:
        """End all subscriptions of one subscriber; return what they were."""
        topics = list(self._topics.pop(subscriber, ()))
        for topic in topics:
            self._forget(subscriber, topic)
        return topics

    def _forget(self, subscriber: S, topic: str | Filter) -> None:
        self._size -= 1
        if isinstance(topic, Filter):
            self._forget_filter(subscriber, topic)
            return
        subscribers = self._by_name[topic]
        del subscribers[subscriber]
        if not subscribers:
            del self._by_name[topic]

    def _forget_filter(self, subscriber: S, topic: Filter) -> None:
        nodes = [self._filters]
        for level in topic.levels:
            nodes.append(nodes[-1].children[level])
        del nodes[-1].subscribers[subscriber]
        for level in reversed(topic.levels):
            node = nodes.pop()
            if node.children or node.subscribers:
                return
            del nodes[-1].children[level]

    def audience(self, name: str) -> Collection[S]:
        """Return whoever hears a name, each of them once.

        It must not be kept: it may be the very collection that subscribing changes.
        """
        exact = self._by_name.get(name)
        if not self._filters.children:
            return () if exact is None else exact
        found = list(self._matching(name.split("/")))
        if exact is not None:
            found.insert(0, exact)
        if len(found) == 1:
            return found[0]
        merged: _Subscribers[S] = {}
        for subscribers in found:
            merged |= subscribers
        return merged

    def _matching(self, levels: list[str]) -> Iterator[_Subscribers[S]]:
        """Find the filters that match a name (MQTT 5, section 4.7)."""
        nodes = [self._filters]
        wild = not is_hidden(levels)
        for level in levels:
            following = []
            for node in nodes:
                children = node.children
                if wild:
                    if (rest := children.get(REST)) is not None:
                        yield rest.subscribers
                    if (one := children.get(ANY)) is not None:
                        following.append(one)
                if (same := children.get(level)) is not None:
                    following.append(same)
            nodes = following
            wild = True
        for node in nodes:
            if node.subscribers:
                yield node.subscribers
            # "sport/#" also matches the parent level, "sport".
            if (rest := node.children.get(REST)) is not None:
                yield rest.subscribers
