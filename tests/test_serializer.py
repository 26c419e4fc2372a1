"""Serializer: JSON by whatever module the user trusts with it."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import msgspec
import orjson
import pytest
import ujson

from websockets_routes import EndpointError, InvalidJSON, Router, RoutesError
from websockets_routes.serializer import Serializer

MODULES: list[Any] = [json, orjson, ujson, msgspec.json]
each_module = pytest.mark.parametrize("module", MODULES, ids=lambda m: m.__name__)


@each_module
@pytest.mark.parametrize("value", [None, 1, 1.5, "é", [], {"a": [1]}, "\ud83d\ude00"])
def test_a_value_comes_back(module: Any, value: Any) -> None:
    if value == "\ud83d\ude00":
        value = value.encode("utf-16", "surrogatepass").decode("utf-16")
    serializer = Serializer(module)
    text = serializer.dumps(value)
    assert serializer.loads(text) == value
    if isinstance(text, str):
        assert serializer.loads(text.encode()) == value


def test_the_default_is_the_standard_library() -> None:
    assert Serializer().dumps is json.dumps


def test_a_module_gets_text_even_from_bytes() -> None:
    got: list[object] = []
    module = SimpleNamespace(dumps=json.dumps, loads=got.append)
    Serializer(module).loads(b"[1]")
    Serializer(module).loads("[1]")
    assert got == ["[1]", "[1]"]


def test_dumps_and_loads_come_before_encode_and_decode() -> None:
    module = SimpleNamespace(
        encode=lambda value: "wrong",
        decode=lambda text: "wrong",
        dumps=lambda value: "dumped",
        loads=lambda text: "loaded",
    )
    serializer = Serializer(module)
    assert serializer.dumps(1) == "dumped"
    assert serializer.loads("1") == "loaded"


@pytest.mark.parametrize(
    "module",
    [
        None,
        1,
        "json",
        b"json",
        SimpleNamespace(dumps=json.dumps),
        SimpleNamespace(loads=json.loads),
        SimpleNamespace(dumps=json.dumps, decode=json.loads),
        SimpleNamespace(dumps="dumps", loads="loads"),
    ],
    ids=[
        "nothing",
        "number",
        "str",
        "bytes",
        "only dumps",
        "only loads",
        "one of each pair",
        "no functions",
    ],
)
def test_a_module_without_both_functions_raises_when_it_is_given(module: Any) -> None:
    with pytest.raises(EndpointError, match="takes an object with dumps and loads"):
        Router(json=module)


@each_module
@pytest.mark.parametrize("text", ["", "{", "word", b"\xff", b'"\xff"', "[1,]", "1 2"])
def test_what_is_no_json_raises_invalid_json(module: Any, text: str | bytes) -> None:
    with pytest.raises(InvalidJSON, match="the message is no JSON") as raised:
        Serializer(module).loads(text)
    assert isinstance(raised.value, ValueError)
    assert isinstance(raised.value, RoutesError)
    assert raised.value.__cause__ is not None


@each_module
@pytest.mark.parametrize("text", ["[", '{"a":'])
def test_what_is_nested_too_deeply_raises_invalid_json(module: Any, text: str) -> None:
    with pytest.raises(InvalidJSON):
        Serializer(module).loads(text * 100_000)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32", "utf-8-sig"])
def test_no_encoding_but_utf8_is_guessed(encoding: str) -> None:
    with pytest.raises(InvalidJSON):
        Serializer().loads('{"a": 1}'.encode(encoding))


def test_a_module_that_fails_in_its_own_way_raises_invalid_json() -> None:
    def loads(text: str) -> Any:
        raise KeyError(text)

    with pytest.raises(InvalidJSON, match="no JSON") as raised:
        Serializer(SimpleNamespace(dumps=json.dumps, loads=loads)).loads("a")
    assert isinstance(raised.value.__cause__, KeyError)


def test_a_value_that_is_no_json_raises_what_the_module_raises() -> None:
    with pytest.raises(TypeError, match="not JSON serializable"):
        Serializer().dumps(object())
