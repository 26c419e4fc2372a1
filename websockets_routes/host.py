"""Hosts: templates of their names, such as ``*.example.com``, and what they lead to."""

from __future__ import annotations

import re
from collections.abc import Iterator
from ipaddress import IPv6Address
from typing import Generic, TypeVar

from .exceptions import TemplateError

__all__ = ["HostTable", "HostTemplate", "host_name"]

T = TypeVar("T")

_LITERAL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]*[a-z0-9_])?", re.IGNORECASE | re.ASCII)
# At the end of a Host header.
_PORT = re.compile(r":[0-9]+\Z")
_PARAMETER = re.compile(r"\{([^{}]*)\}")


class HostTemplate:
    """A template of host names, label by label.

    ``*`` stands for any one label, ``{name}`` too, and keeps it as a param. Labels
    are compared without regard to case.

    Args:
        text: The template, without a port; or an IPv6 address in brackets.

    Raises:
        TemplateError: If it cannot work; says what is wrong, and where.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        self.parameters: list[str] = []
        self._labels: list[str | None] = []
        if isinstance(text, str) and text.startswith("["):
            address = _address(text[1:-1]) if text.endswith("]") else None
            if address is None:
                raise TemplateError(text, 0, "it is no IPv6 address")
            self._labels.append(address)
            self._names: list[str | None] = [None]
            return
        if not isinstance(text, str) or not text.removesuffix("."):
            raise TemplateError(str(text), 0, "a host is a name such as *.example.com")
        self._names = []
        position = 0
        for label in text.removesuffix(".").split("."):
            self._add(label, position)
            position += len(label) + 1

    def _add(self, label: str, position: int) -> None:
        parameter = _PARAMETER.fullmatch(label)
        if parameter is not None:
            name = parameter.group(1)
            if not name.isidentifier():
                problem = f"{name!r} is no identifier"
                raise TemplateError(self.text, position, problem)
            if name in self.parameters:
                problem = f"the name {name!r} is used twice"
                raise TemplateError(self.text, position, problem)
            self.parameters.append(name)
            self._labels.append(None)
            self._names.append(name)
        elif label == "*":
            self._labels.append(None)
            self._names.append(None)
        elif _LITERAL.fullmatch(label):
            self._labels.append(label.lower())
            self._names.append(None)
        else:
            problem = (
                f"{label!r} is no label; a port is not part of it, and * or {{name}} "
                "stand alone between dots"
            )
            raise TemplateError(self.text, position, problem)

    def __repr__(self) -> str:
        return f"HostTemplate({self.text!r})"

    @property
    def key(self) -> tuple[str | None, ...]:
        """What two templates that match the same names have in common."""
        return tuple(self._labels)

    @property
    def rank(self) -> tuple[bool, ...]:
        """How specific it is, the last label first; the least wins."""
        return tuple(label is None for label in reversed(self._labels))

    def match(self, host: str) -> dict[str, str] | None:
        """Return the params that a name, as ``host_name`` gives it, has; or None."""
        labels = [host] if host.startswith("[") else host.split(".")
        if len(labels) != len(self._labels):
            return None
        params = {}
        for expected, name, label in zip(
            self._labels, self._names, labels, strict=True
        ):
            if not label or (expected is not None and expected != label):
                return None
            if name is not None:
                params[name] = label
        return params

    def find(self, header: str) -> str:
        """Find what to write into a ``Host`` header in order to come here.

        Args:
            header: One that leads here or to another host of the same server.

        Returns:
            That one if it leads here, else the name that this is with the same port;
            nothing if it is the template of several names.
        """
        if self.match(host_name(header)) is not None:
            return header
        if None in self._labels:
            return ""
        port = _PORT.search(header)
        return self.text.removesuffix(".") + ("" if port is None else port[0])


class HostTable(Generic[T]):
    """What hosts lead to; the most specific template of a host wins."""

    def __init__(self) -> None:
        self._entries: dict[tuple[str | None, ...], tuple[HostTemplate, T]] = {}
        self._sorted: tuple[tuple[HostTemplate, T], ...] = ()

    def __bool__(self) -> bool:
        return bool(self._entries)

    def __iter__(self) -> Iterator[tuple[HostTemplate, T]]:
        """Iterate over templates and what they lead to, the most specific first."""
        return iter(self._sorted)

    def add(self, template: HostTemplate, value: T) -> None:
        """Add a template.

        Raises:
            TemplateError: If one that matches the same hosts is there already.
        """
        if template.key in self._entries:
            taken = self._entries[template.key][0].text
            problem = f"the same hosts have a router already, by {taken!r}"
            raise TemplateError(template.text, 0, problem)
        self._entries[template.key] = template, value
        self._sort()

    def remove(self, template: HostTemplate) -> bool:
        """Remove a template; tell whether it was there."""
        found = self._entries.pop(template.key, None) is not None
        self._sort()
        return found

    def _sort(self) -> None:
        # Replaced rather than changed: a match may be iterating over it.
        self._sorted = tuple(
            sorted(self._entries.values(), key=lambda entry: entry[0].rank)
        )

    def match(self, host: str) -> tuple[T, dict[str, str]] | None:
        """Find what a host leads to, and the params of its name."""
        for template, value in self._sorted:
            params = template.match(host)
            if params is not None:
                return value, params
        return None


def _address(text: str) -> str | None:
    """Write an IPv6 address, in brackets, in its one canonical form (RFC 5952)."""
    try:
        return f"[{IPv6Address(text)}]"
    except ValueError:
        return None


def host_name(header: str) -> str:
    """Take the name out of a ``Host`` header: no port, no trailing dot, lower case."""
    name = header.strip().lower()
    if name.startswith("["):
        return _address(name[1:].partition("]")[0]) or name
    return name.partition(":")[0].removesuffix(".")
