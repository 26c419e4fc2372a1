"""Refusals: what a handshake hook may return, and what a client then gets."""

from __future__ import annotations

from email.utils import parsedate_to_datetime
from http import HTTPStatus
from types import MappingProxyType
from typing import Any

import pytest
from websockets import Headers, Response

from websockets_routes.exceptions import InvalidResponse
from websockets_routes.refusal import text_response, to_response


def test_none_goes_on() -> None:
    assert to_response(None) is None


def test_a_response_of_websockets_is_passed_on_and_stays_as_it_was() -> None:
    """websockets adds headers to what it sends; a hook may return it again."""
    response = Response(403, "Forbidden", Headers({"X-A": "1"}), b"no")
    passed = to_response(response)
    assert passed == response
    assert passed is not None
    passed.headers["X-B"] = "2"
    assert response.headers == Headers({"X-A": "1"})


def answered(result: object) -> Response:
    response = to_response(result)
    assert response is not None
    return response


@pytest.mark.parametrize(
    ("status", "code", "phrase"),
    [
        (HTTPStatus.NOT_FOUND, 404, "Not Found"),
        (404, 404, "Not Found"),
        (200, 200, "OK"),
        (599, 599, ""),
        (299, 299, ""),
    ],
)
def test_a_status_is_an_int_or_an_http_status(
    status: int, code: int, phrase: str
) -> None:
    response = answered((status, [], b""))
    assert response.status_code == code
    assert type(response.status_code) is int
    assert response.reason_phrase == phrase


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"gone\n", b"gone\n"),
        ("gone é\n", "gone é\n".encode()),
        (bytearray(b"gone"), b"gone"),
        (memoryview(b"gone"), b"gone"),
        ("", b""),
    ],
)
def test_a_body_is_bytes_or_str_and_its_length_is_told(
    body: object, expected: bytes
) -> None:
    response = answered((404, [], body))
    assert response.body == expected
    assert type(response.body) is bytes
    assert response.headers["Content-Length"] == str(len(expected))


COOKIES = [("Set-Cookie", "a=1"), ("Set-Cookie", "b=2"), ("X-Reason", "é\t!")]


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ([("X-Reason", "no")], [("X-Reason", "no")]),
        ((("X-Reason", "no"),), [("X-Reason", "no")]),
        ({"X-Reason": "no", "X-Other": ""}, [("X-Reason", "no"), ("X-Other", "")]),
        (MappingProxyType({"X-Reason": "no"}), [("X-Reason", "no")]),
        (iter([("X-Reason", "no")]), [("X-Reason", "no")]),
        (COOKIES, COOKIES),
        (Headers({"X-Reason": "no"}), [("X-Reason", "no")]),
        (Headers(COOKIES), COOKIES),
        ([], []),
        ({}, []),
    ],
)
def test_headers_are_pairs_or_a_mapping(
    fields: Any, expected: list[tuple[str, str]]
) -> None:
    response = answered((404, fields, b""))
    assert list(response.headers.raw_items())[: len(expected)] == expected


def test_what_every_response_needs_is_added() -> None:
    headers = answered((404, [], b"gone")).headers
    assert headers["Connection"] == "close"
    assert headers["Content-Length"] == "4"
    assert headers["Content-Type"] == "text/plain; charset=utf-8"
    assert parsedate_to_datetime(headers["Date"]).tzinfo is not None


def test_what_a_hook_sets_itself_is_left_as_it_is() -> None:
    fields = {"content-type": "application/json", "DATE": "now", "Connection": "x"}
    headers = answered((404, fields, b"{}")).headers
    assert headers.get_all("Content-Type") == ["application/json"]
    assert headers.get_all("Date") == ["now"]
    assert headers.get_all("Connection") == ["x"]


def test_headers_that_were_passed_in_stay_as_they_were() -> None:
    pairs, headers = [("X-A", "1")], Headers({"X-A": "1"})
    to_response((404, pairs, b""))
    to_response((404, headers, b""))
    assert pairs == [("X-A", "1")]
    assert list(headers.raw_items()) == [("X-A", "1")]


@pytest.mark.parametrize(
    ("result", "problem"),
    [
        (404, "not 404"),
        (True, "not True"),
        ("", "not ''"),
        (False, "not False"),
        ([404, [], b""], "a tuple (status, headers, body)"),
        ((404, []), "a tuple (status, headers, body)"),
        ((404, [], b"", None), "a tuple (status, headers, body)"),
        ((), "a tuple (status, headers, body)"),
        (b"x" * 1000, "…"),
        (("404", [], b""), "the status must be an int from 200 to 599, not '404'"),
        ((404.0, [], b""), "the status must be an int"),
        ((None, [], b""), "the status must be an int"),
        ((True, [], b""), "the status must be an int"),
        ((101, [], b""), "the status must be an int"),
        ((HTTPStatus.SWITCHING_PROTOCOLS, [], b""), "the status must be an int"),
        ((199, [], b""), "the status must be an int"),
        ((600, [], b""), "the status must be an int"),
        ((-1, [], b""), "the status must be an int"),
        ((404, None, b""), "the headers must be a mapping or pairs"),
        ((404, 4, b""), "the headers must be a mapping or pairs"),
        ((404, "X-A: 1", b""), "the headers must be a mapping or pairs"),
        ((404, ["X-A"], b""), "the headers must be a mapping or pairs"),
        ((404, {"X-A": None}, b""), "the headers must be a mapping or pairs"),
        ((404, [(b"X-A", b"1")], b""), "the headers must be a mapping or pairs"),
        ((404, {"X-A": b"1"}, b""), "the headers must be a mapping or pairs"),
        ((404, {"": "x"}, b""), "the header '' has a character"),
        ((404, {"X A": "x"}, b""), "the header 'X A' has a character"),
        ((404, {"X:": "x"}, b""), "the header 'X:' has a character"),
        ((404, {"X-A\n": "x"}, b""), "has a character"),
        ((404, {"X-é": "x"}, b""), "has a character"),
        ((404, {"X-A": "x\r\nSet-Cookie: y"}, b""), "the header 'X-A' has a character"),
        ((404, {"X-A": "x\n"}, b""), "has a character"),
        ((404, {"X-A": "\0"}, b""), "has a character"),
        ((404, {"X-A": "€"}, b""), "has a character"),
        ((404, [], None), "the body must be bytes or str, not None"),
        ((404, [], 4), "the body must be bytes or str"),
        ((404, [], [b"x"]), "the body must be bytes or str"),
    ],
)
def test_anything_else_is_an_error_that_says_what_was_wrong(
    result: object, problem: str
) -> None:
    with pytest.raises(InvalidResponse) as raised:
        to_response(result)
    assert problem in str(raised.value)
    assert len(str(raised.value)) < 250


def test_what_is_shown_of_a_value_is_no_longer_than_a_line() -> None:
    with pytest.raises(InvalidResponse, match=r"not 'x{76}…$"):
        to_response("x" * 81)


def test_a_body_that_has_no_utf8_is_an_error_too() -> None:
    with pytest.raises(InvalidResponse):
        to_response((404, [], "\ud800"))


def test_a_text_response_is_one_line_of_plain_text() -> None:
    response = text_response(HTTPStatus.BAD_REQUEST, "a bad é")
    assert response.status_code == 400
    assert response.reason_phrase == "Bad Request"
    assert response.body == "a bad é\n".encode()
    assert response.headers["Content-Type"] == "text/plain; charset=utf-8"
    assert response.headers["Content-Length"] == str(len(response.body))
