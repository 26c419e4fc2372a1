"""Errors: what they are, what they say, and what a client hears of them."""

from __future__ import annotations

import pickle
from http import HTTPStatus

import pytest

from websockets_routes import exceptions
from websockets_routes.exceptions import (
    BadRequest,
    BuildError,
    DuplicateName,
    EndpointError,
    FileChanged,
    InvalidProxyHeader,
    InvalidResponse,
    InvalidTrustedProxy,
    LoadError,
    NoSuchFile,
    ProxyError,
    RoutesError,
    TemplateError,
    UnknownName,
    UnsafePath,
)

ERRORS: list[tuple[RoutesError, type[Exception], str]] = [
    (
        TemplateError("/{id", 1, "never closed"),
        ValueError,
        "template '/{id', position 1: never closed",
    ),
    (EndpointError("chat:room", "no"), TypeError, "endpoint chat:room: no"),
    (
        DuplicateName("room", "/room/{id}"),
        ValueError,
        "the name 'room' is taken by the route '/room/{id}'",
    ),
    (UnknownName("room", ["zzz"]), LookupError, "no route is named 'room'"),
    (
        UnknownName("rom", ["zzz", "room"]),
        LookupError,
        "no route is named 'rom'; did you mean 'room'?",
    ),
    (
        BuildError("/{id}", "'id' is missing"),
        ValueError,
        "cannot build a URL from '/{id}': 'id' is missing",
    ),
    (BadRequest("a bad path"), RoutesError, "a bad path"),
    (InvalidResponse("not a response"), TypeError, "not a response"),
    (LoadError("no such module"), RoutesError, "no such module"),
    (FileChanged("it is shorter"), RoutesError, "it is shorter"),
    (
        UnsafePath("/x", "it is absolute"),
        ValueError,
        "the file name '/x' is unsafe: it is absolute",
    ),
    (
        NoSuchFile("/x", "it is no regular file"),
        LookupError,
        "the file '/x' cannot be sent: it is no regular file",
    ),
    (ProxyError("no"), ValueError, "no"),
    (InvalidTrustedProxy("x", "no"), ValueError, "trusted proxy 'x': no"),
    (InvalidProxyHeader(3, "no"), ValueError, "PROXY header, byte 3: no"),
]


@pytest.mark.parametrize(("error", "kind", "text"), ERRORS)
def test_every_error_has_one_root_a_builtin_kind_and_a_text(
    error: RoutesError, kind: type[Exception], text: str
) -> None:
    assert isinstance(error, RoutesError)
    assert isinstance(error, kind)
    assert str(error) == text


@pytest.mark.parametrize("error", [error for error, _, _ in ERRORS])
def test_every_error_survives_a_pickle(error: RoutesError) -> None:
    restored = pickle.loads(pickle.dumps(error))
    assert type(restored) is type(error)
    assert str(restored) == str(error)
    assert vars(restored) == vars(error)


def test_every_public_error_is_exported_and_has_the_root() -> None:
    for name in exceptions.__all__:
        assert issubclass(getattr(exceptions, name), RoutesError)


@pytest.mark.parametrize("error", [BadRequest, InvalidProxyHeader])
def test_a_malformed_request_is_a_400_and_a_policy_violation(
    error: type[RoutesError],
) -> None:
    assert error.status == HTTPStatus.BAD_REQUEST
    assert error.close_code == 1008


@pytest.mark.parametrize("kind", [UnsafePath, NoSuchFile])
def test_a_file_that_cannot_be_had_is_a_404(kind: type[RoutesError]) -> None:
    assert kind.status == HTTPStatus.NOT_FOUND
    assert kind.close_code == 4040


@pytest.mark.parametrize("error", [error for error, _, _ in ERRORS])
def test_every_other_error_is_the_fault_of_the_server(error: RoutesError) -> None:
    if not isinstance(error, BadRequest | UnsafePath | NoSuchFile | InvalidProxyHeader):
        assert error.status == HTTPStatus.INTERNAL_SERVER_ERROR
        assert error.close_code == 1011


def test_errors_keep_what_they_say_as_attributes() -> None:
    template = TemplateError("/{id", 1, "never closed")
    assert (template.template, template.position) == ("/{id", 1)
    assert template.problem == "never closed"
    endpoint = EndpointError("chat:room", "no")
    assert (endpoint.endpoint, endpoint.problem) == ("chat:room", "no")
    duplicate = DuplicateName("room", "/room")
    assert (duplicate.name, duplicate.template) == ("room", "/room")
    build = BuildError("/{id}", "missing")
    assert (build.template, build.problem) == ("/{id}", "missing")
    assert BadRequest("bad").problem == "bad"


def test_an_unknown_name_suggests_the_nearest_of_those_declared() -> None:
    error = UnknownName("thing_detial", ["room", "thing", "thing_detail"])
    assert error.name == "thing_detial"
    assert error.nearest == "thing_detail"
    assert UnknownName("qqq", ["room"]).nearest is None
    assert UnknownName("qqq", []).nearest is None
