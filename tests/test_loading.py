"""``module:attribute`` becomes a router, or one clear line."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from websockets_routes import LoadError, Router
from websockets_routes.loading import load_router

Write = Callable[[str], str]


@pytest.fixture
def write_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Write]:
    """Write a module into a current folder of the test's own; return its name."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    name = f"served_{tmp_path.name.replace('-', '_')}"

    def write(text: str) -> str:
        Path(f"{name}.py").write_text(text)
        return name

    yield write
    sys.modules.pop(name, None)


HEAD = "from websockets_routes import Router\n"


@pytest.mark.parametrize(
    ("text", "attribute"),
    [
        ("router = Router()", "router"),
        ("def make(): return Router()", "make"),
        ("class Site: router = Router()", "Site.router"),
        ("class Made(Router): pass", "Made"),
    ],
)
def test_a_router_or_what_makes_one_is_loaded_from_the_current_folder(
    write_module: Write, text: str, attribute: str
) -> None:
    name = write_module(f"{HEAD}{text}\n")
    assert isinstance(load_router(f"{name}:{attribute}"), Router)


@pytest.mark.parametrize(
    ("text", "attribute", "problem"),
    [
        ("", "router", "has no attribute 'router'"),
        ("class Site: pass", "Site.router", "has no attribute 'Site.router'"),
        ("router = 1", "router", "is no router and makes none, but a int"),
        ("def make(): return 'x'", "make", "is no router and makes none, but a str"),
    ],
)
def test_an_attribute_that_is_no_router_is_a_clear_error(
    write_module: Write, text: str, attribute: str, problem: str
) -> None:
    name = write_module(text)
    with pytest.raises(LoadError, match=problem):
        load_router(f"{name}:{attribute}")


@pytest.mark.parametrize("spec", ["", "chat", ":router", "chat:"])
def test_a_spec_without_both_parts_is_a_clear_error(spec: str) -> None:
    with pytest.raises(LoadError, match="write module:attribute"):
        load_router(spec)


@pytest.mark.parametrize("module", ["no_such_module", "no_such_package.module"])
def test_a_missing_module_is_a_clear_error(module: str) -> None:
    with pytest.raises(LoadError, match=f"there is no module '{module}'"):
        load_router(f"{module}:router")


def test_a_module_that_misses_another_one_tells_so_itself(write_module: Write) -> None:
    name = write_module("import no_such_module_either\n")
    with pytest.raises(ModuleNotFoundError, match="no_such_module_either"):
        load_router(f"{name}:router")


def test_the_current_folder_is_searched_once(write_module: Write) -> None:
    name = write_module(f"{HEAD}router = Router()\n")
    load_router(f"{name}:router")
    before = list(sys.path)
    load_router(f"{name}:router")
    assert sys.path == before
