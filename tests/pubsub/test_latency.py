"""Latencies: buckets of times, and what is forgotten."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from websockets_routes.pubsub.latency import Latencies


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_nothing_was_measured() -> None:
    assert Latencies(Clock()).last_minute() is None


@given(
    st.lists(
        st.floats(min_value=2e-6, max_value=100, allow_subnormal=False),
        min_size=1,
        max_size=300,
    )
)
def test_percentiles_are_right_to_within_a_tenth(times: list[float]) -> None:
    clock = Clock()
    latencies = Latencies(clock)
    for each in times:
        latencies.add(clock.now - each)
    taken = sorted(times)
    found = latencies.last_minute()
    assert found is not None
    assert found.count == len(times)
    assert found.highest == pytest.approx(taken[-1], rel=1e-3, abs=1e-9)
    half = taken[(len(taken) + 1) // 2 - 1]
    assert found.p50 == pytest.approx(half, rel=0.1)
    most = taken[-(-len(taken) * 99 // 100) - 1]
    assert found.p99 == pytest.approx(most, rel=0.1)


@pytest.mark.parametrize("seconds", [0.0, 1e-7, 1e-6])
def test_what_takes_less_than_a_microsecond_took_no_more_than_that(
    seconds: float,
) -> None:
    clock = Clock()
    latencies = Latencies(clock)
    latencies.add(clock.now - seconds)
    found = latencies.last_minute()
    assert found is not None
    assert 0 <= found.p50 <= found.highest < 1.1e-6


def test_what_takes_longer_than_the_last_bucket_is_in_it() -> None:
    clock = Clock()
    latencies = Latencies(clock)
    latencies.add(clock.now - 1000)
    found = latencies.last_minute()
    assert found is not None
    assert found.highest == 1000
    assert 100 < found.p50 <= 1000


def test_after_a_minute_it_is_forgotten() -> None:
    clock = Clock()
    latencies = Latencies(clock)
    latencies.add(clock.now - 5)
    clock.now += 30
    latencies.add(clock.now - 1)
    found = latencies.last_minute()
    assert found is not None
    assert (found.count, found.highest) == (2, 5)
    clock.now += 35
    found = latencies.last_minute()
    assert found is not None
    assert (found.count, found.highest) == (1, 1)
    clock.now += 60
    assert latencies.last_minute() is None


def test_a_day_of_times_takes_no_more_memory_than_a_minute() -> None:
    clock = Clock()
    latencies = Latencies(clock)
    for _ in range(8640):
        latencies.add(clock.now - 0.01)
        clock.now += 10
    found = latencies.last_minute()
    assert found is not None
    assert found.count == 5
