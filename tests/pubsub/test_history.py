"""History: offsets, limits, positions that are right or said not to be; keys."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from websockets_routes import InvalidLimit
from websockets_routes.brokers import Envelope, HistoryPolicy, Position, Published
from websockets_routes.pubsub.history import History, IdempotencyKeys


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def envelope(data: bytes = b"x") -> Envelope:
    return Envelope("room", data, False, None, "id", 0.0)


def filled(count: int, policy: HistoryPolicy, clock: Clock | None = None) -> History:
    history = History(clock=clock or Clock())
    for number in range(count):
        history.append(envelope(str(number + 1).encode()), policy)
    return history


def offsets(history: History, policy: HistoryPolicy, **options: object) -> list[object]:
    page = history.page(policy, **options)  # type: ignore[arg-type]
    assert page.recovered
    assert (page.epoch, page.offset) == (history.epoch, history.offset)
    return [each.offset for each in page.messages]


@pytest.mark.parametrize(
    "arguments",
    [(0,), (-1,), (1.5,), (True,), (1, 0), (1, -1), (1, float("nan")), (1, 1e10)],
    ids=str,
)
def test_a_policy_that_is_none_is_refused(arguments: tuple[int, float]) -> None:
    with pytest.raises(InvalidLimit):
        HistoryPolicy(*arguments)


def test_offsets_begin_with_one_and_messages_learn_theirs() -> None:
    policy = HistoryPolicy(10)
    history = History()
    assert (history.offset, len(history)) == (0, 0)
    first = history.append(envelope(), policy)
    assert first == envelope()._replace(offset=1, epoch=history.epoch)
    assert history.append(envelope(), policy).offset == 2
    assert History().epoch != history.epoch


def test_the_oldest_go_beyond_the_length() -> None:
    policy = HistoryPolicy(3)
    assert offsets(filled(5, policy), policy) == [3, 4, 5]
    assert offsets(filled(5, policy), HistoryPolicy(2)) == [4, 5]


def test_the_oldest_go_beyond_the_bytes_and_too_large_ones_are_not_kept() -> None:
    policy = HistoryPolicy(100)
    history = History(max_bytes=10)
    for size in (4, 4, 4):
        history.append(envelope(b"x" * size), policy)
    assert offsets(history, policy) == [2, 3]
    assert history.size == 8
    history.append(envelope(b"x" * 11), policy)
    assert offsets(history, policy) == []
    assert (history.size, history.offset) == (0, 4)
    since = Position(history.epoch, 4)
    assert history.page(policy, since).recovered
    assert not history.page(policy, since._replace(offset=3)).recovered


def test_the_oldest_go_with_time() -> None:
    policy, clock = HistoryPolicy(100, ttl=10), Clock()
    history = filled(2, policy, clock)
    clock.now += 9
    history.append(envelope(), policy)
    assert offsets(history, policy) == [1, 2, 3]
    clock.now += 1
    assert offsets(history, policy) == [3]
    clock.now += 10
    assert offsets(history, policy) == []
    assert (history.size, history.used) == (0, clock.now)


def test_pages_go_forward_and_back() -> None:
    policy = HistoryPolicy(5)
    history = filled(8, policy)
    assert offsets(history, policy, limit=2) == [4, 5]
    assert offsets(history, policy, limit=2, reverse=True) == [8, 7]
    since = Position(history.epoch, 5)
    assert offsets(history, policy, since=since) == [6, 7, 8]
    assert offsets(history, policy, since=since, limit=2) == [6, 7]
    assert offsets(history, policy, since=since, reverse=True) == [4]
    since = Position(history.epoch, 2)
    assert offsets(history, policy, since=since, reverse=True) == []


@pytest.mark.parametrize("reverse", [False, True])
def test_a_position_that_cannot_be_right_is_not_recovered(reverse: bool) -> None:
    policy = HistoryPolicy(5)
    history = filled(8, policy)
    for since in (
        Position(history.epoch, 9),
        Position(history.epoch, -1),
        Position("another", 8),
    ):
        page = history.page(policy, since, reverse=reverse)
        assert page == ((), history.epoch, 8, False)


def test_a_position_older_than_what_is_kept_is_not_recovered() -> None:
    policy = HistoryPolicy(5)
    history = filled(8, policy)
    assert not history.page(policy, Position(history.epoch, 2)).recovered
    assert offsets(history, policy, since=Position(history.epoch, 3)) == [4, 5, 6, 7, 8]


@settings(derandomize=True, database=None, deadline=None, max_examples=200)
@given(
    length=st.integers(1, 6),
    steps=st.lists(st.sampled_from([0, 1, 5]), max_size=20),
    since=st.integers(-2, 22),
    limit=st.none() | st.integers(1, 5),
    reverse=st.booleans(),
)
def test_it_is_a_list_of_which_the_beginning_is_cut_off(
    length: int, steps: list[int], since: int, limit: int | None, reverse: bool
) -> None:
    policy, clock = HistoryPolicy(length, ttl=8), Clock()
    history = History(clock=clock)
    times: list[float] = []
    for step in steps:
        clock.now += step
        history.append(envelope(), policy)
        times.append(clock.now)
    kept = [
        index + 1
        for index, moment in enumerate(times)
        if index >= len(times) - length and clock.now - moment < 8
    ]
    page = history.page(policy, Position(history.epoch, since), limit, reverse)
    valid = 0 <= since <= len(times)
    if reverse:
        expected = [each for each in kept if each < since][::-1]
    else:
        expected = [each for each in kept if each > since]
        valid = valid and len(expected) == len(times) - since
    assert page.recovered is valid
    assert [each.offset for each in page.messages] == (
        expected[:limit] if valid else []
    )


# Idempotency keys


def test_a_key_is_known_within_its_window() -> None:
    clock = Clock()
    keys = IdempotencyKeys(clock)
    assert keys.find("room", "k") is None
    keys.remember("room", "k", Published(1, "e"), 10)
    assert keys.find("room", "k") == Published(1, "e", duplicate=True)
    assert keys.find("other", "k") is None
    clock.now += 10
    assert keys.find("room", "k") is None
    keys.remember("room", "k", Published(2, "e"), 10)
    assert keys.find("room", "k") == Published(2, "e", duplicate=True)


def test_keys_are_forgotten_when_their_time_is_over() -> None:
    clock = Clock()
    keys = IdempotencyKeys(clock)
    for number in range(10):
        keys.remember("room", str(number), Published(), 5)
        clock.now += 1
    assert len(keys) == 5
    clock.now += 100
    keys.remember("room", "new", Published(), 5)
    assert len(keys) == 1
