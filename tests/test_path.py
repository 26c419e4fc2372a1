"""RoutedPath: a str in every respect, and what routing adds to it."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Mapping
from itertools import product
from typing import Any

import pytest

from websockets_routes.path import QueryParams, RoutedPath
from websockets_routes.route import Route
from websockets_routes.table import RouteTable
from websockets_routes.target import parse_target

RAW = "/Thing/x%2Fy?a=1&b&a=2"


async def handler(ws: Any, path: Any) -> None: ...


def routed(raw: str = RAW) -> RoutedPath:
    table = RouteTable()
    table.add(Route("/Thing/{id}", handler))
    return table.match(raw)


def test_it_equals_the_target_as_it_came_and_hashes_like_it() -> None:
    path = routed()
    assert path == RAW
    assert path == RAW
    assert hash(path) == hash(RAW)
    assert {RAW: 1}[path] == 1
    assert len({RAW, path}) == 1
    assert str(path) == RAW
    assert repr(path) == repr(RAW)
    assert isinstance(path, str)
    assert path != routed("/Thing/1")
    assert path == RoutedPath(RAW), "equality is that of the text"


def test_it_knows_its_route_its_params_and_its_parts() -> None:
    path = routed()
    assert isinstance(path.route, Route)
    assert str(path.route) == "/Thing/{id}"
    assert path.params == {"id": "x/y"}
    assert path.context == {}
    assert path.path == "/Thing/x/y"
    assert path.query == "a=1&b&a=2"
    assert path.query_params == {"a": "1", "b": ""}


def test_a_path_that_nothing_matches_has_no_route_and_no_params() -> None:
    path = routed("/other?x")
    assert path == "/other?x"
    assert path.route is None
    assert path.params is None
    assert (path.path, path.query) == ("/other", "x")


def test_a_path_made_by_hand_is_decoded_too() -> None:
    path = RoutedPath("/caf%C3%A9?x=1")
    assert (path.path, path.query) == ("/café", "x=1")
    assert (path.route, path.params, path.context) == (None, None, {})
    assert path.outcome is None


@pytest.mark.parametrize(
    ("raw", "path", "query"),
    [("/%ZZ?a=1", "/%ZZ", "a=1"), ("", "", ""), ("*", "*", ""), ("/../x", "/../x", "")],
)
def test_a_malformed_target_stays_as_it_is(raw: str, path: str, query: str) -> None:
    routed = RoutedPath(raw)
    assert routed == raw
    assert (routed.path, routed.query) == (path, query)


def test_a_context_that_is_given_is_shared_and_one_that_is_not_is_its_own() -> None:
    context: dict[Any, Any] = {}
    target = parse_target("/a")
    assert RoutedPath("/a", target, context=context).context is context
    assert RoutedPath("/a").context is not RoutedPath("/a").context


def test_it_has_no_other_attributes() -> None:
    with pytest.raises(AttributeError):
        routed().parms = {}  # type: ignore[attr-defined]


# Every method and operator of str, with arguments that change much and that
# change nothing: where nothing changes, a str may give itself.
CALLS: dict[str, list[tuple[Any, ...]]] = {
    "__add__": [("x",), ("",)],
    "__contains__": [("/",)],
    "__eq__": [("x",)],
    "__format__": [("",), ("s",), ("99",), (">3",)],
    "__ge__": [("x",)],
    "__getitem__": [(0,), (slice(None),), (slice(1, 3),), (slice(None, None, -1),)],
    "__getnewargs__": [()],
    "__gt__": [("x",)],
    "__hash__": [()],
    "__iter__": [()],
    "__le__": [("x",)],
    "__len__": [()],
    "__lt__": [("x",)],
    "__mod__": [((),), ({},)],
    "__mul__": [(0,), (1,), (2,)],
    "__ne__": [("x",)],
    "__repr__": [()],
    "__rmod__": [("%s",), ("x%sy",)],
    "__rmul__": [(0,), (1,), (2,)],
    "__str__": [()],
    "capitalize": [()],
    "casefold": [()],
    "center": [(0,), (99,)],
    "count": [("/",)],
    "encode": [()],
    "endswith": [("x",)],
    "expandtabs": [()],
    "find": [("/",)],
    "format": [()],
    "format_map": [({},)],
    "index": [("/",)],
    "isalnum": [()],
    "isalpha": [()],
    "isascii": [()],
    "isdecimal": [()],
    "isdigit": [()],
    "isidentifier": [()],
    "islower": [()],
    "isnumeric": [()],
    "isprintable": [()],
    "isspace": [()],
    "istitle": [()],
    "isupper": [()],
    "join": [([],), (["x"],), (["x", "y"],)],
    "ljust": [(0,), (99,)],
    "lower": [()],
    "lstrip": [(), ("/",)],
    "partition": [("/",), ("no",)],
    "removeprefix": [("/",), ("no",)],
    "removesuffix": [("x",), ("no",)],
    "replace": [("/", "-"), ("no", "x"), ("/", "/"), ("/", "-", 0)],
    "rfind": [("/",)],
    "rindex": [("/",)],
    "rjust": [(0,), (99,)],
    "rpartition": [("/",), ("no",)],
    "rsplit": [(), ("/",), ("no",), (None, 0), ("/", 0)],
    "rstrip": [(), ("x",)],
    "split": [(), ("/",), ("no",), (None, 0), ("/", 0)],
    "splitlines": [(), (True,)],
    "startswith": [("/",)],
    "strip": [(), ("/",)],
    "swapcase": [()],
    "title": [()],
    "translate": [({},), ({ord("/"): "-"},)],
    "upper": [()],
    "zfill": [(0,), (99,)],
}
# What every object has, and what makes a translation table of other strings.
NO_OPERATIONS = {
    *dir(object),
    "maketrans",
    "__getnewargs_ex__",
} - set(CALLS)
PATHS = ["/x", "/x/y", "/X/Y", "", "/", "x", "/x?y", "123", "/ x\ty"]


def plain(result: object) -> bool:
    """Tell whether a result holds no str but plain ones."""
    if isinstance(result, list | tuple):
        return all(plain(each) for each in result)
    return not isinstance(result, str) or type(result) is str


def outcome(text: str, method: str, arguments: tuple[Any, ...]) -> object:
    """Call a method; tell what it raises like what it returns."""
    try:
        result = getattr(text, method)(*arguments)
    except (ValueError, TypeError, LookupError) as error:
        return type(error)
    return list(result) if method == "__iter__" else result


def test_every_method_of_str_is_in_the_table() -> None:
    assert set(dir(str)) - NO_OPERATIONS == set(CALLS)


@pytest.mark.parametrize("method", CALLS)
def test_every_method_gives_what_str_gives_and_plain_strings(method: str) -> None:
    for raw, arguments in product(PATHS, CALLS[method]):
        result = outcome(RoutedPath(raw), method, arguments)
        assert result == outcome(raw, method, arguments)
        assert plain(result), (raw, arguments)


def operations(path: str) -> list[object]:
    return [
        str(path),
        f"{path}",
        f"{path!s}",
        f"{path:s}",
        "%s" % path,  # noqa: UP031
        "{}".format(path),  # noqa: UP032
        format(path),
        path + "",
        "" + path,
        path + path,
        path * 1,
        1 * path,
        path % (),
        path[:],
        path[0:],
        [*path],
        "".join([path]),
        "".join([path, ""]),
        path.join([path]),
        "".join(path),
    ]


def test_every_operator_gives_what_str_gives_and_plain_strings() -> None:
    for raw in PATHS:
        results = operations(RoutedPath(raw))
        assert results == operations(raw)
        assert plain(results), raw


def assert_whole(copied: RoutedPath, path: RoutedPath) -> None:
    assert type(copied) is type(path)
    assert copied is not path
    assert copied == path
    assert copied.route is path.route
    assert copied.params == path.params
    assert copied.context == path.context
    assert copied.outcome is path.outcome
    assert (copied.path, copied.query) == (path.path, path.query)
    assert copied.query_params == path.query_params


@pytest.mark.parametrize("raw", [RAW, "/none", "/%ZZ?a", "/%25%32?b#c"])
@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy])
def test_a_copy_is_whole(duplicate: Any, raw: str) -> None:
    path = routed(raw) if raw in (RAW, "/none") else RoutedPath(raw)
    path.context["list"] = [1]
    path.outcome = handler
    assert_whole(duplicate(path), path)


def test_a_shallow_copy_shares_its_context_and_a_deep_one_does_not() -> None:
    path = routed()
    path.context["list"] = []
    shallow, deep = copy.copy(path), copy.deepcopy(path)
    path.context["list"].append(1)
    path.params["id"] = "changed"
    assert shallow.context["list"] == [1]
    assert shallow.params == {"id": "changed"}
    assert deep.context["list"] == []
    assert deep.params == {"id": "x/y"}


def test_a_deep_copy_of_a_structure_keeps_one_path_one_path() -> None:
    path = routed()
    path.context["self"] = path
    both = copy.deepcopy([path, path])
    assert both[0] is both[1]
    copied = copy.deepcopy(path)
    assert copied.context["self"] is copied


class Subclass(RoutedPath):
    """A subclass of a user's own."""


def test_a_copy_of_a_subclass_is_one_too() -> None:
    path = Subclass("/x")
    for copied in (copy.copy(path), copy.deepcopy(path)):
        assert_whole(copied, path)
    assert type(pickle.loads(pickle.dumps(path))) is Subclass


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("raw", [RAW, "/none?x=1", "/Thing/caf%C3%A9"])
def test_a_pickle_keeps_the_text_and_the_params(raw: str, protocol: int) -> None:
    path = routed(raw)
    path.context["connection"] = lambda: None  # what no pickle could hold
    restored = pickle.loads(pickle.dumps(path, protocol))
    assert type(restored) is RoutedPath
    assert restored == path
    assert restored.params == path.params
    assert (restored.path, restored.query) == (path.path, path.query)
    assert restored.query_params == path.query_params
    assert restored.route is None
    assert restored.context == {}


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_pickle_of_a_malformed_target_comes_back(protocol: int) -> None:
    path = RoutedPath("/%ZZ?a=1")
    restored = pickle.loads(pickle.dumps(path, protocol))
    assert restored == path
    assert (restored.path, restored.query) == ("/%ZZ", "a=1")


@pytest.mark.parametrize(
    ("query", "first", "everything"),
    [
        ("", {}, {}),
        ("a=1", {"a": "1"}, {"a": ["1"]}),
        ("a=1&a=2&b=3", {"a": "1", "b": "3"}, {"a": ["1", "2"], "b": ["3"]}),
        ("a", {"a": ""}, {"a": [""]}),
        ("a=&b", {"a": "", "b": ""}, {"a": [""], "b": [""]}),
        ("=1", {"": "1"}, {"": ["1"]}),
        ("a=b=c", {"a": "b=c"}, {"a": ["b=c"]}),
        ("&&a=1&", {"a": "1"}, {"a": ["1"]}),
        ("a=1;b=2", {"a": "1;b=2"}, {"a": ["1;b=2"]}),
        ("a=x+y%20z%2B", {"a": "x y z+"}, {"a": ["x y z+"]}),
        ("%C3%A9=%C3%A9", {"é": "é"}, {"é": ["é"]}),
        ("a=%FF", {"a": "�"}, {"a": ["�"]}),
        ("a=%ZZ%", {"a": "%ZZ%"}, {"a": ["%ZZ%"]}),
        ("a=%00", {"a": "\0"}, {"a": ["\0"]}),
    ],
)
def test_query_params_are_a_mapping_to_first_values(
    query: str, first: dict[str, str], everything: dict[str, list[str]]
) -> None:
    params = QueryParams(query)
    assert isinstance(params, Mapping)
    assert params == first
    assert dict(params) == first
    assert list(params) == list(first)
    assert len(params) == len(first)
    assert {name: params.get_all(name) for name in params} == everything
    assert repr(params) == f"QueryParams({everything})"


def test_query_params_are_read_only() -> None:
    params = QueryParams("a=1")
    params.get_all("a").append("2")
    assert params.get_all("a") == ["1"]
    assert params.get_all("b") == []
    assert params.get("b") is None
    with pytest.raises(KeyError):
        params["b"]
    with pytest.raises(TypeError):
        params["a"] = "2"  # type: ignore[index]
    with pytest.raises(AttributeError):
        params.other = 1  # type: ignore[attr-defined]


def test_query_params_are_parsed_once() -> None:
    path = RoutedPath("/?a=1")
    assert path.query_params is path.query_params
    assert QueryParams() == {}
