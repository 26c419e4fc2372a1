"""Inputs: what a handler declares that it asks for, and what a handshake has of it."""

from __future__ import annotations

import dataclasses
import enum
import functools
from collections.abc import Callable
from decimal import Decimal, InvalidOperation
from http import HTTPStatus
from typing import Any

import pytest
from websockets import Headers

from websockets_routes.endpoint import Endpoint
from websockets_routes.exceptions import BadRequest, EndpointError
from websockets_routes.inputs import Input, header, inputs_of, param, read_inputs
from websockets_routes.path import QueryParams

HANDLER = __name__ + ":handler"


async def handler(ws: Any) -> None: ...


def fresh() -> Callable[..., Any]:
    async def handler(ws: Any) -> None: ...

    handler.__qualname__ = "handler"
    return handler


def declared(*decorators: Callable[[Any], Any]) -> tuple[Input, ...]:
    """Declare inputs as if the decorators stood above a handler in this order."""
    target = fresh()
    for each in reversed(decorators):
        assert each(target) is target
    return inputs_of(target)


def names(target: object) -> list[str]:
    return [each.name for each in inputs_of(target)]


def read(
    *decorators: Callable[[Any], Any],
    headers: list[tuple[str, str]] | None = None,
    query: str = "",
) -> dict[str, Any]:
    return read_inputs(
        declared(*decorators), Headers(headers or []), QueryParams(query)
    )


# Declaring.


def test_a_header_is_declared_with_all_that_is_said_of_it() -> None:
    (each,) = declared(
        header("X-Api-Key", type=int, required=True, description="The key")
    )
    assert (each.source, each.name, each.type_name) == ("header", "X-Api-Key", "int")
    assert (each.required, each.default, each.has_default) == (True, None, False)
    assert each.description == "The key"
    assert each.convert("12") == 12
    assert str(each) == "header 'X-Api-Key'"


def test_a_parameter_is_declared_with_all_that_is_said_of_it() -> None:
    (each,) = declared(param("since", type=float, default=0, description="Seconds"))
    assert (each.source, each.name, each.type_name) == ("query", "since", "float")
    assert (each.required, each.default, each.has_default) == (False, 0, True)
    assert each.description == "Seconds"
    assert each.convert("1") == 1.0
    assert str(each) == "query parameter 'since'"


@pytest.mark.parametrize("declare", [header, param], ids=["header", "param"])
def test_an_input_is_an_optional_str_unless_more_is_said(
    declare: Callable[..., Any],
) -> None:
    (each,) = declared(declare("x"))
    assert (each.type_name, each.convert("1")) == ("str", "1")
    assert (each.required, each.default, each.has_default) == (False, None, False)
    assert each.description == ""


@pytest.mark.parametrize("default", [None, False, 0, ""])
def test_a_default_that_is_false_is_a_default(default: object) -> None:
    (each,) = declared(param("x", default=default))
    assert each.has_default
    assert each.default is default


def test_an_input_cannot_be_changed() -> None:
    (each,) = declared(param("x"))
    with pytest.raises(dataclasses.FrozenInstanceError):
        each.name = "y"  # type: ignore[misc]
    assert not hasattr(each, "__dict__")


def test_inputs_have_the_order_of_the_source() -> None:
    @header("first")
    @param("second")
    @header("third")
    async def handler(ws: Any) -> None: ...

    @header("first")
    @param("second")
    @header("third")
    class Handler: ...

    assert names(handler) == names(Handler) == ["first", "second", "third"]


def test_a_handler_that_declares_nothing_has_no_inputs() -> None:
    class Handler: ...

    assert inputs_of(handler) == inputs_of(Handler) == inputs_of(Handler()) == ()
    assert inputs_of(None) == ()


def test_one_decorator_serves_several_handlers() -> None:
    token = header("token")
    one, other = token(fresh()), token(fresh())
    param("x")(one)
    assert (names(one), names(other)) == (["x", "token"], ["token"])


@param("room")
@header("token")
class Base: ...


@param("since")
@param("until")
class Child(Base): ...


def test_a_subclass_adds_to_what_it_inherits() -> None:
    assert names(Child) == ["room", "token", "since", "until"]
    assert names(Base) == ["room", "token"]


def test_a_subclass_that_adds_nothing_inherits() -> None:
    class Same(Child): ...

    assert inputs_of(Same) == inputs_of(Child)


def test_a_subclass_may_declare_an_input_anew_in_its_place() -> None:
    @param("limit")
    @header("TOKEN", required=True)
    class Strict(Base): ...

    assert names(Strict) == ["room", "TOKEN", "limit"]
    assert inputs_of(Strict)[1].required
    assert not inputs_of(Base)[1].required


def test_what_a_class_declares_later_its_subclasses_have() -> None:
    class Parent: ...

    @param("own")
    class Sub(Parent): ...

    header("late")(Parent)
    assert names(Sub) == ["late", "own"]


@pytest.mark.parametrize("first", [0, 1], ids=["as-written", "swapped"])
def test_a_class_with_two_bases_has_the_inputs_of_both(first: int) -> None:
    @param("x", type=int)
    class Anew(Root): ...

    @param("y")
    class Other(Root): ...

    bases = (Anew, Other) if first == 0 else (Other, Anew)
    both = type("Both", bases, {})
    assert names(both) == ["x", "y"]
    assert inputs_of(both)[0].type_name == "int"


@param("x")
class Root: ...


def test_an_instance_has_the_inputs_of_its_class() -> None:
    instance = Child()
    assert inputs_of(instance) == inputs_of(Child)


def test_a_method_declares_for_whatever_calls_it() -> None:
    class Chat:
        @param("room")
        async def handler(self, ws: Any) -> None: ...

    assert names(Chat.handler) == names(Chat().handler) == ["room"]


def test_a_partial_has_the_inputs_of_its_function_and_its_own() -> None:
    function = param("x")(fresh())
    partial = param("y")(functools.partial(function))
    assert names(functools.partial(partial)) == ["x", "y"]
    assert names(function) == ["x"]


def test_a_wrapper_has_the_inputs_of_what_it_wraps_and_its_own() -> None:
    function = param("x")(fresh())

    @param("y")
    @functools.wraps(function)
    async def wrapper(ws: Any) -> None: ...

    assert names(wrapper) == ["y", "x"]
    assert names(function) == ["x"]


def test_a_class_made_again_by_dataclass_keeps_its_inputs() -> None:
    @param("y")
    @dataclasses.dataclass(slots=True)
    @param("x")
    class Handler: ...

    assert names(Handler) == ["y", "x"]


# What cannot be declared.


@pytest.mark.parametrize("declare", [header, param], ids=["header", "param"])
@pytest.mark.parametrize("name", [None, 1, b"x", "", handler])
def test_a_name_is_a_str(declare: Callable[..., Any], name: object) -> None:
    with pytest.raises(EndpointError, match="must be a str"):
        declare(name)


@pytest.mark.parametrize(
    "name", ["a b", "a:", "é", "a\n", "a/b", "(a)", '"a"', " ", "a,b", "a\0"]
)
def test_a_header_is_named_by_a_token(name: str) -> None:
    with pytest.raises(EndpointError, match="no header may have this name") as caught:
        header(name)
    assert caught.value.endpoint == f"header {name!r}"
    assert names(param(name)(fresh())) == [name]


def test_a_header_may_have_any_token_for_a_name() -> None:
    name = "!#$%&'*+-.^_`|~09azAZ"
    assert read(header(name), headers=[(name, "1")]) == {name: "1"}


@pytest.mark.parametrize("declare", [header, param], ids=["header", "param"])
@pytest.mark.parametrize("kind", [None, "int", enum.Enum, lambda: 1])
def test_a_type_is_a_callable_that_takes_text(
    declare: Callable[..., Any], kind: Any
) -> None:
    with pytest.raises(EndpointError, match="its type must be"):
        declare("x", type=kind)


@pytest.mark.parametrize("declare", [header, param], ids=["header", "param"])
@pytest.mark.parametrize("default", [None, 0, "x"])
def test_what_is_required_has_no_default(
    declare: Callable[..., Any], default: object
) -> None:
    with pytest.raises(EndpointError, match="no use for a default"):
        declare("x", required=True, default=default)


@pytest.mark.parametrize(
    ("decorators", "text"),
    [
        ((header("Token"), header("tOKEN")), "header 'Token' is declared twice"),
        ((param("x", type=int), param("x")), "query parameter 'x' is declared twice"),
        ((param("x"), param("y"), param("x")), "parameter 'x' is declared twice"),
        ((header("x"), param("x")), "a header and a query parameter of one name"),
        ((param("x"), header("x")), "a header and a query parameter of one name"),
    ],
    ids=["headers", "parameters", "apart", "header-and-parameter", "swapped"],
)
def test_an_input_is_declared_once(decorators: Any, text: str) -> None:
    target = fresh()
    for each in reversed(decorators[1:]):
        each(target)
    before = inputs_of(target)
    with pytest.raises(EndpointError, match=text) as caught:
        decorators[0](target)
    assert caught.value.endpoint == HANDLER
    assert inputs_of(target) == before


def test_parameters_that_differ_in_case_are_two() -> None:
    inputs = declared(param("x"), param("X"), header("Y"), param("y"))
    values = read_inputs(inputs, Headers({"y": "3"}), QueryParams("X=2&x=1&y=4"))
    assert values == {"x": "1", "X": "2", "Y": "3", "y": "4"}


def test_a_header_and_a_parameter_of_one_name_cannot_be_inherited() -> None:
    @header("room")
    class Other: ...

    class Both(Base, Other): ...

    with pytest.raises(EndpointError, match="of one name"):
        inputs_of(Both)
    with pytest.raises(EndpointError, match="of one name"):
        header("room")(Child)
    assert names(Child) == ["room", "token", "since", "until"]


class Closed:
    __slots__ = ()

    async def handler(self, ws: Any) -> None: ...


@pytest.mark.parametrize(
    "target",
    [print, int, Closed(), Closed().handler, 5],
    ids=["builtin", "builtin-class", "slots", "bound-method", "number"],
)
def test_what_has_no_place_for_inputs_declares_none(target: Any) -> None:
    with pytest.raises(EndpointError, match="declared on a function or class"):
        header("x")(target)
    assert inputs_of(target) == ()


# Reading.


def test_values_are_converted_in_the_order_of_the_declarations() -> None:
    values = read(
        param("since", type=int),
        header("X-Ratio", type=float),
        param("live", type=bool),
        header("authorization"),
        headers=[("Authorization", "Bearer é"), ("x-ratio", "0.5")],
        query="live=on&since=-3&other=1",
    )
    assert list(values.items()) == [
        ("since", -3),
        ("X-Ratio", 0.5),
        ("live", True),
        ("authorization", "Bearer é"),
    ]


def test_nothing_declared_is_nothing_read() -> None:
    assert read(headers=[("X", "1"), ("X", "2")], query="x=1") == {}


def test_what_is_missing_has_its_default_as_it_is_or_none() -> None:
    default: list[int] = []
    values = read(header("a", type=int, default=default), param("b"), param("c"))
    assert values == {"a": [], "b": None, "c": None}
    assert values["a"] is default


def test_what_is_empty_is_not_missing() -> None:
    values = read(
        header("a", required=True),
        param("b", default="x"),
        headers=[("A", "")],
        query="b",
    )
    assert values == {"a": "", "b": ""}


def test_the_first_of_a_repeated_parameter_counts() -> None:
    assert read(param("x", type=int), query="x=1&x=no") == {"x": 1}


def refused(*decorators: Callable[[Any], Any], **given: Any) -> str:
    with pytest.raises(BadRequest) as caught:
        read(*decorators, **given)
    assert caught.value.status == HTTPStatus.BAD_REQUEST
    assert caught.value.__context__ is None
    return str(caught.value)


class Color(enum.Enum):
    RED = "red"
    GREEN = "green"


@pytest.mark.parametrize(
    ("decorator", "given", "text"),
    [
        (
            header("authorization", required=True),
            {"query": "authorization=1"},
            "header 'authorization' is required",
        ),
        (
            param("since", type=int, required=True),
            {"headers": [("since", "1")]},
            "query parameter 'since' is required",
        ),
        (
            param("since", type=int, default=0),
            {"query": "since=abc"},
            "query parameter 'since' must be int, not 'abc'",
        ),
        (
            param("since", type=int, required=True),
            {"query": "since"},
            "query parameter 'since' must be int, not ''",
        ),
        (
            header("X-Color", type=Color),
            {"headers": [("x-color", "pink")]},
            "header 'X-Color' must be red | green, not 'pink'",
        ),
        (
            header("X-Id"),
            {"headers": [("x-id", "1"), ("X-ID", "1")]},
            "header 'X-Id' must not be repeated",
        ),
    ],
    ids=["header", "parameter", "bad", "empty", "enum", "repeated"],
)
def test_the_text_names_what_is_missing_or_wrong(
    decorator: Callable[[Any], Any], given: dict[str, Any], text: str
) -> None:
    assert refused(decorator, **given) == text


def test_one_text_tells_of_all_problems() -> None:
    text = refused(
        header("a", required=True),
        param("b", type=int),
        param("fine"),
        header("c"),
        headers=[("C", "1"), ("C", "2")],
        query="b=x&fine=1",
    )
    assert text == (
        "header 'a' is required; query parameter 'b' must be int, not 'x'; "
        "header 'c' must not be repeated"
    )


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("a" * 38, "'" + "a" * 38 + "'"),
        ("a" * 39, "'" + "a" * 38 + "…"),
        ("a" * 5000, "'" + "a" * 38 + "…"),
    ],
)
def test_a_bad_value_is_shown_with_40_characters(value: str, shown: str) -> None:
    text = refused(param("x", type=int), query=f"x={value}")
    assert text == f"query parameter 'x' must be int, not {shown}"


def test_a_bad_value_cannot_break_the_line() -> None:
    text = refused(param("x", type=int), query="x=%0d%0a%1b%00")
    assert text == r"query parameter 'x' must be int, not '\r\n\x1b\x00'"


def test_only_a_value_error_is_a_bad_value() -> None:
    with pytest.raises(InvalidOperation):
        read(param("x", required=True), param("d", type=Decimal), query="d=x")


def test_a_subclass_of_value_error_is_a_bad_value() -> None:
    def ascii_only(text: str) -> bytes:
        return text.encode("ascii")

    text = refused(param("x", type=ascii_only), query="x=%C3%A9")
    assert text == "query parameter 'x' must be ascii_only, not 'é'"


def test_the_headers_are_left_as_they_were() -> None:
    headers = Headers([("X", "1"), ("X", "2")])
    with pytest.raises(BadRequest):
        read_inputs(declared(header("x")), headers, QueryParams())
    assert headers.get_all("x") == ["1", "2"]


@pytest.mark.parametrize("method", ["process_request", "handle", "on_open"])
def test_a_method_of_a_handler_class_may_declare_too(method: str) -> None:
    class Handles:
        async def process_request(self, path: Any, headers: Any) -> None: ...

        async def handle(self, ws: Any) -> None: ...

    class Hears:
        async def process_request(self, path: Any, headers: Any) -> None: ...

        def on_open(self, ws: Any) -> None: ...

    target: Any = Hears if method == "on_open" else Handles
    param("since")(getattr(target, method))
    header("authorization")(target)
    assert [each.name for each in Endpoint(target).inputs] == ["authorization", "since"]


def test_what_is_declared_above_a_route_comes_too_late() -> None:
    async def handler(ws: Any) -> None: ...

    Endpoint(handler)
    with pytest.raises(EndpointError, match="declare inputs below the route"):
        param("since")(handler)
