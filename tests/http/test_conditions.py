"""Conditions: RFC 9110, sections 13 and 14, without a file."""

from __future__ import annotations

import time
from email.utils import formatdate

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets import Headers

from websockets_routes.http.conditions import asked_range, parsed_date, precondition

SIZE = 1000
ETAG = '"x-1"'
MODIFIED = 784111777
NOW = "Sun, 06 Nov 1994 08:49:37 GMT"
EARLIER = "Sun, 06 Nov 1994 08:49:36 GMT"


def request(**fields: str | list[str]) -> Headers:
    headers = Headers()
    for name, values in fields.items():
        for value in [values] if isinstance(values, str) else values:
            headers[name.replace("_", "-")] = value
    return headers


@pytest.mark.parametrize(
    ("fields", "verdict"),
    [
        ({}, None),
        ({"If_None_Match": ETAG}, 304),
        ({"If_None_Match": f"W/{ETAG}"}, 304),
        ({"If_None_Match": f'"a", {ETAG}'}, 304),
        ({"If_None_Match": ['"a"', ETAG]}, 304),
        ({"If_None_Match": "*"}, 304),
        ({"If_None_Match": '"a"'}, None),
        ({"If_None_Match": "rubbish"}, None),
        ({"If_None_Match": '"a"', "If_Modified_Since": NOW}, None),
        ({"If_Modified_Since": NOW}, 304),
        ({"If_Modified_Since": "Sunday, 06-Nov-94 08:49:37 GMT"}, 304),
        ({"If_Modified_Since": "Sun Nov  6 08:49:37 1994"}, 304),
        ({"If_Modified_Since": EARLIER}, None),
        ({"If_Modified_Since": "never"}, None),
        ({"If_Modified_Since": [NOW, NOW]}, None),
        ({"If_Match": ETAG}, None),
        ({"If_Match": "*"}, None),
        ({"If_Match": f"W/{ETAG}"}, 412),
        ({"If_Match": '"a"'}, 412),
        ({"If_Match": ETAG, "If_Unmodified_Since": EARLIER}, None),
        ({"If_Match": ETAG, "If_None_Match": ETAG}, 304),
        ({"If_Unmodified_Since": NOW}, None),
        ({"If_Unmodified_Since": EARLIER}, 412),
        ({"If_Unmodified_Since": "never"}, None),
    ],
)
def test_preconditions_are_met_in_their_order(
    fields: dict[str, str | list[str]], verdict: int | None
) -> None:
    assert precondition(request(**fields), ETAG, MODIFIED) == verdict


def test_a_weak_etag_is_matched_weakly_only() -> None:
    weak = f"W/{ETAG}"
    assert precondition(request(If_Match=weak), weak, MODIFIED) == 412
    assert precondition(request(If_None_Match=ETAG), weak, MODIFIED) == 304


@pytest.mark.parametrize(
    ("asked", "span"),
    [
        ("bytes=0-0", range(1)),
        ("bytes=1-300", range(1, 301)),
        ("Bytes= 5-9 ", range(5, 10)),
        ("bytes=700-", range(700, SIZE)),
        ("bytes=-5", range(SIZE - 5, SIZE)),
        (f"bytes=-{SIZE + 1}", range(SIZE)),
        (f"bytes=5-{10**17}", range(5, SIZE)),
        (f"bytes={SIZE - 1}-", range(SIZE - 1, SIZE)),
        *((f"bytes={each}", range(0)) for each in (f"{SIZE}-", f"{SIZE}-{SIZE + 1}")),
        (f"bytes={10**17}-", range(0)),
        ("bytes=-0", range(0)),
    ],
)
def test_a_range_is_found(asked: str, span: range) -> None:
    assert asked_range(request(Range=asked), ETAG, MODIFIED, SIZE) == span


@pytest.mark.parametrize(
    "asked",
    [
        *("bytes=0-0,2-2", "bytes=2-1", "bytes=-", "bytes=", "lines=0-1", "0-1"),
        *("bytes=a-b", "bytes=0-" + "9" * 5000, ["bytes=0-0", "bytes=0-0"], []),
    ],
)
def test_other_ranges_are_ignored(asked: str | list[str]) -> None:
    assert asked_range(request(Range=asked), ETAG, MODIFIED, SIZE) is None


def test_nothing_has_no_last_bytes() -> None:
    assert asked_range(request(Range="bytes=-5"), ETAG, MODIFIED, 0) is None
    assert asked_range(request(Range="bytes=0-"), ETAG, MODIFIED, 0) == range(0)


@given(
    st.from_regex(r"bytes=[0-9]{0,4}-[0-9]{0,4}", fullmatch=True),
    st.integers(0, 3000),
)
def test_no_range_leads_beyond_the_end(asked: str, size: int) -> None:
    span = asked_range(request(Range=asked), ETAG, MODIFIED, size)
    if span:
        assert 0 <= span.start < span.stop <= size


@pytest.mark.parametrize(
    ("validator", "counts"),
    [
        (ETAG, True),
        (f"W/{ETAG}", False),
        ('"a"', False),
        (NOW, True),
        (EARLIER, False),
        ("rubbish", False),
        ([NOW, NOW], False),
    ],
)
def test_if_range_asks_for_the_same_thing(
    validator: str | list[str], counts: bool
) -> None:
    headers = request(Range="bytes=0-4", If_Range=validator)
    span = asked_range(headers, ETAG, MODIFIED, SIZE)
    assert span == (range(5) if counts else None)


def test_a_weak_etag_is_no_if_range() -> None:
    headers = request(Range="bytes=0-4", If_Range='W/"x"')
    assert asked_range(headers, 'W/"x"', MODIFIED, SIZE) is None


def test_what_changed_this_second_is_not_told_by_its_date() -> None:
    for ago, span in ((0, None), (10, range(5))):
        modified = int(time.time()) - ago
        told = formatdate(modified, usegmt=True)
        headers = request(Range="bytes=0-4", If_Range=told)
        assert asked_range(headers, ETAG, modified, SIZE) == span


@pytest.mark.parametrize(
    "text",
    [
        *(None, "", "never", "Sun, 06 Nov 1994 08:49:37 +9999999999"),
        *("Sun, 99 Nov 1994 08:49:37 GMT", "9" * 5000, "Sun, 06 Nov 99999 0:0:0 GMT"),
    ],
)
def test_what_is_no_date_is_none(text: str | None) -> None:
    assert parsed_date(text) is None
