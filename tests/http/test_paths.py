"""Paths: no name of a stranger's leads out of its directory."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from websockets_routes.exceptions import RoutesError, UnsafePath
from websockets_routes.http.paths import path_join_safe


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "www"
    (root / "sub").mkdir(parents=True)
    (tmp_path / "www-x").mkdir()
    (tmp_path / "www-x" / "secret").write_text("secret")
    (root / "page.html").write_text("page")
    (root / "sub" / "page.html").write_text("page")
    (root / "inner").symlink_to(root / "sub")
    (root / "outer").symlink_to(tmp_path / "www-x")
    (root / "up").symlink_to("..")
    return root


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("page.html", "page.html"),
        ("sub/page.html", "sub/page.html"),
        ("sub//./page.html", "sub/page.html"),
        ("inner/page.html", "sub/page.html"),
        ("not/there", "not/there"),
        ("…/100%.txt", "…/100%.txt"),
        ("...", "..."),
        ("a..b", "a..b"),
        ("12:30", "12:30"),
        ("sub/", "sub"),
        ("", ""),
    ],
)
def test_a_name_below_its_root_is_an_absolute_path(
    tree: Path, name: str, expected: str
) -> None:
    joined = path_join_safe(tree, name)
    assert joined == os.path.realpath(tree / expected)
    assert path_join_safe(str(tree) + "/", name) == joined


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("..", "a '..'"),
        ("../www-x/secret", "a '..'"),
        ("sub/../page.html", "a '..'"),
        ("/etc/passwd", "absolute"),
        ("//host/share", "absolute"),
        ("page.html\0.png", "NUL"),
        ("sub\\page.html", "backslash"),
        ("..\\www-x", "backslash"),
        ("\\\\host\\share", "backslash"),
        ("C:", "drive"),
        ("c:/windows", "drive"),
        ("sub/C:x", "drive"),
        ("..%2fwww-x", "encoded"),
        ("sub%2Fpage.html", "encoded"),
        ("sub%5cpage.html", "encoded"),
        ("%2e%2e/www-x", "encoded"),
        ("%2E./www-x", "encoded"),
        (".%2e/www-x", "encoded"),
        ("page%00", "encoded"),
        ("outer/secret", "symbolic link"),
        ("outer", "symbolic link"),
        ("up/www-x/secret", "symbolic link"),
        ("x" * 4097, "too long"),
        ("\ud800", "Unicode"),
    ],
)
def test_a_name_that_may_lead_out_is_a_404(tree: Path, name: str, problem: str) -> None:
    with pytest.raises(UnsafePath, match=re.escape(problem)) as raised:
        path_join_safe(tree, name)
    assert isinstance(raised.value, RoutesError)
    assert raised.value.status == 404
    assert raised.value.filename == name
    assert len(str(raised.value)) < 200


def test_the_root_of_the_file_system_is_a_root_too() -> None:
    assert path_join_safe("/", "etc") == os.path.realpath("/etc")


def test_a_root_may_itself_be_a_symbolic_link(tree: Path) -> None:
    assert path_join_safe(tree / "inner", "page.html").endswith("sub/page.html")


def test_a_loop_of_links_leads_nowhere(tree: Path) -> None:
    (tree / "loop").symlink_to(tree / "loop")
    assert path_join_safe(tree, "loop/x").startswith(str(tree))


@given(
    st.lists(
        st.sampled_from(
            ["..", ".", "/", "\\", "%2f", "%2e", "up", "outer", "inner", "sub", "C:"]
        )
        | st.text(max_size=3),
        max_size=8,
    ).map("".join)
)
@example("up/www-x")
@settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_no_name_leads_out(tree: Path, name: str) -> None:
    try:
        joined = path_join_safe(tree, name)
    except UnsafePath:
        return
    assert Path(joined).is_absolute()
    assert Path(joined).is_relative_to(os.path.realpath(tree))


def test_a_name_of_many_parts_costs_little(tree: Path) -> None:
    with pytest.raises(UnsafePath, match="too long"):
        path_join_safe(tree, "a/" * 100_000)
