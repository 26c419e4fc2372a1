"""Hosts: which template matches which name, and which one wins."""

from __future__ import annotations

from typing import Any

import pytest

from websockets_routes import TemplateError
from websockets_routes.host import HostTable, HostTemplate, host_name


@pytest.mark.parametrize(
    ("header", "name"),
    [
        ("example.com", "example.com"),
        ("EXAMPLE.com", "example.com"),
        ("example.com:8080", "example.com"),
        ("example.com:", "example.com"),
        ("example.com.", "example.com"),
        ("example.com.:443", "example.com"),
        (" example.com ", "example.com"),
        ("127.0.0.1:80", "127.0.0.1"),
        ("[::1]", "[::1]"),
        ("[::1]:8080", "[::1]"),
        ("[2001:DB8::1]:80", "[2001:db8::1]"),
        ("", ""),
        (":80", ""),
    ],
)
def test_a_name_has_no_port_no_case_and_no_last_dot(header: str, name: str) -> None:
    assert host_name(header) == name


@pytest.mark.parametrize(
    ("template", "host", "params"),
    [
        ("example.com", "example.com", {}),
        ("EXAMPLE.com.", "example.com", {}),
        ("example.com", "example.org", None),
        ("example.com", "www.example.com", None),
        ("example.com", "xexample.com", None),
        ("*.example.com", "www.example.com", {}),
        ("*.example.com", "example.com", None),
        ("*.example.com", "a.b.example.com", None),
        ("*.example.com", ".example.com", None),
        ("*.*.example.com", "a.b.example.com", {}),
        ("*.google.*", "www.google.de", {}),
        ("*.google.*", "www.google.co.uk", None),
        ("{tenant}.example.com", "acme.example.com", {"tenant": "acme"}),
        ("{tenant}.{zone}.com", "acme.eu.com", {"tenant": "acme", "zone": "eu"}),
        ("{tenant}.example.com", ".example.com", None),
        ("*", "localhost", {}),
        ("{any}", "localhost", {"any": "localhost"}),
        ("*", "", None),
        ("*", "[::1]", {}),
        ("[::1]", "[::1]", {}),
        ("[2001:DB8::1]", "[2001:db8::1]", {}),
        ("[::1]", "[::2]", None),
        ("127.0.0.1", "127.0.0.1", {}),
        ("*.0.0.1", "127.0.0.1", {}),
        ("my_host", "my_host", {}),
        ("xn--bcher-kva.example", "xn--bcher-kva.example", {}),
    ],
)
def test_a_template_matches_label_by_label(
    template: str, host: str, params: dict[str, str] | None
) -> None:
    assert HostTemplate(template).match(host) == params


@pytest.mark.parametrize(
    ("template", "position"),
    [
        ("", 0),
        (".", 0),
        ("..", 0),
        ("a..com", 2),
        (".com", 0),
        ("example.com:80", 8),
        ("a*.com", 0),
        ("www.*x.com", 4),
        ("{}.com", 0),
        ("{1}.com", 0),
        ("{a-b}.com", 0),
        ("{a}x.com", 0),
        ("{a}.{a}", 4),
        ("-a.com", 0),
        ("a-.com", 0),
        ("a b.com", 0),
        ("a/b", 0),
        ("bücher.example", 0),
        ("\u017fite.example", 0),
        ("a.com\n", 2),
        ("::1", 0),
        ("[::1]:80", 0),
        ("[]", 0),
        (None, 0),
    ],
)
def test_a_template_that_cannot_work_raises_with_its_position(
    template: Any, position: int
) -> None:
    with pytest.raises(TemplateError) as raised:
        HostTemplate(template)
    assert raised.value.position == position


ORDERED = [
    "www.example.com",
    "*.example.com",
    "www.*.com",
    "*.*.com",
    "www.example.*",
    "*.example.*",
    "www.*.*",
    "*.*.*",
]


@pytest.mark.parametrize("backwards", [False, True])
def test_the_most_specific_template_wins_whatever_the_order(backwards: bool) -> None:
    table: HostTable[str] = HostTable()
    assert not table
    for text in reversed(ORDERED) if backwards else ORDERED:
        table.add(HostTemplate(text), text)
    assert [template.text for template, _ in table] == ORDERED
    for text in ORDERED:
        assert table.match("www.example.com") == (text, {})
        assert table.remove(HostTemplate(text))
    assert table.match("www.example.com") is None
    assert not table


@pytest.mark.parametrize(
    ("taken", "template"),
    [
        ("*.example.com", "{tenant}.example.com"),
        ("Example.com.", "example.COM"),
        ("{a}.{b}", "*.*"),
        ("[::A]", "[::a]"),
    ],
)
def test_the_same_hosts_are_added_once_only(taken: str, template: str) -> None:
    table: HostTable[int] = HostTable()
    table.add(HostTemplate(taken), 1)
    with pytest.raises(TemplateError):
        table.add(HostTemplate(template), 2)
    assert [value for _, value in table] == [1]
    assert table.remove(HostTemplate(template)), "it is the same"
    assert not table.remove(HostTemplate(template))
    table.add(HostTemplate(template), 2)
    assert [value for _, value in table] == [2]


def test_params_come_from_the_template_that_won() -> None:
    table: HostTable[str] = HostTable()
    table.add(HostTemplate("{tenant}.example.com"), "tenants")
    table.add(HostTemplate("www.example.com"), "www")
    assert table.match("acme.example.com") == ("tenants", {"tenant": "acme"})
    assert table.match("www.example.com") == ("www", {})
    assert table.match("example.com") is None


def test_a_table_may_change_while_it_is_iterated_over() -> None:
    table: HostTable[str] = HostTable()
    for text in ("a.com", "b.com"):
        table.add(HostTemplate(text), text)
    for template, _ in table:
        table.remove(template)
    assert not table


def test_a_template_shows_itself() -> None:
    assert repr(HostTemplate("*.example.com")) == "HostTemplate('*.example.com')"
