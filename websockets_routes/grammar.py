"""The grammar of URL templates: text in, parts out, with every fault located.

The grammar is that of Routes 2.5 (``{id}``, ``{id:regex}``, ``:id``, ``:(id)``,
``*rest``, ``*(rest)``, ``{.format}``, backslash escapes), with regexes read to
their end, and three modifiers for a component of its own: ``/:id?``, ``/:id+``
and ``/:id*``. A bare ``/*`` at the end stands for whatever follows.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from .exceptions import TemplateError
from .target import UNFIT

__all__ = ["Kind", "Literal", "Parameter", "Part", "parse_template"]


class Kind(Enum):
    """What text a parameter without a regex stands for."""

    SEGMENT = "one or more characters but no slash"
    FORMAT = "nothing, or a dot and characters that are no slash and no dot"
    WILDCARD = "one or more characters"
    COMPONENTS = "one or more whole components, none of them empty"
    REST = "whatever is left, even nothing; it has no name and gives no param"


@dataclass(frozen=True, slots=True)
class Literal:
    """Text that must stand in the path as it is, once the path is decoded."""

    text: str


@dataclass(frozen=True, slots=True)
class Parameter:
    """A place in the path for a value.

    Attributes:
        name: Its name in ``params``; empty for ``Kind.REST``.
        kind: What it stands for.
        regex: The requirement on its value, or None.
        optional: Whether its component and the slash before it may be missing.
    """

    name: str
    kind: Kind
    regex: str | None = None
    optional: bool = False


Part = Literal | Parameter

_WORD = re.compile(r"\w+")
_ESCAPABLE = frozenset(":*{}\\")
_MODIFIERS = {
    "?": (Kind.SEGMENT, True),
    "+": (Kind.COMPONENTS, False),
    "*": (Kind.COMPONENTS, True),
}
# A reference to a group by number or name means another group once the regexes
# of all parameters are put together.
_BACKREFERENCE = re.compile(r"(?<!\\)(?:\\\\)*(?:\\[1-9]|\(\?P=|\(\?\()")


def parse_template(
    template: str, requirements: Mapping[str, str] | None = None
) -> tuple[Part, ...]:
    """Parse a URL template.

    Args:
        template: The template; begins with a slash.
        requirements: Regexes by parameter name, for parameters that have none
            in the template itself.

    Raises:
        TemplateError: If the template cannot work; says what is wrong, and where.
    """
    return _Parser(template, requirements or {}).parse()


class _Parser:
    def __init__(self, template: str, requirements: Mapping[str, str]) -> None:
        self.template = template
        self.requirements = dict(requirements)
        self.position = 0
        self.text = ""  # literal text not yet made into a part
        self.parts: list[Part] = []
        self.names: set[str] = set()

    def error(self, problem: str, position: int | None = None) -> TemplateError:
        where = self.position if position is None else position
        return TemplateError(self.template, where, problem)

    def parse(self) -> tuple[Part, ...]:
        template = self.template
        if not template.startswith("/"):
            raise self.error("a template begins with a slash")
        while self.position < len(template):
            character = template[self.position]
            if character == "\\":
                self.read_escape()
            elif character == "{":
                self.read_braces()
            elif character == ":":
                self.read_colon()
            elif character == "*":
                self.read_star()
            else:
                self.read_literal(character)
        self.flush()
        if self.requirements:
            unknown = next(iter(self.requirements))
            raise self.error(f"a requirement names {unknown!r}, no parameter here", 0)
        return tuple(self.parts)

    def flush(self) -> None:
        if self.text:
            self.parts.append(Literal(self.text))
            self.text = ""

    def read_literal(self, character: str) -> None:
        if character == "}":
            raise self.error("no brace is open here; write \\} for a literal one")
        if character == "?":
            raise self.error(
                "the query takes no part in matching; "
                "an optional component is written /:name?"
            )
        if UNFIT.match(character):
            raise self.error("no path contains a control character or a lone surrogate")
        self.text += character
        self.position += 1

    def read_escape(self) -> None:
        following = self.template[self.position + 1 : self.position + 2]
        if not following:
            raise self.error("there is nothing to escape after the backslash")
        if following in _ESCAPABLE:
            self.text += following
            self.position += 2
        else:  # as in Routes: the backslash stands for itself
            self.text += "\\"
            self.position += 1

    def read_braces(self) -> None:
        start = self.position
        end = self.closing_brace(start)
        content = self.template[start + 1 : end]
        name, colon, regex = content.partition(":")
        kind = Kind.SEGMENT
        name_start = start + 1
        if name.startswith("."):
            kind, name, name_start = Kind.FORMAT, name[1:], start + 2
        if colon and not regex:
            raise self.error("the regex is empty", start + len(content) + 1)
        regex_start = end - len(regex) if regex else None
        self.add(name, kind, start, name_start, regex or None, regex_start)
        self.position = end + 1

    def closing_brace(self, start: int) -> int:
        """Find the brace that closes the one at ``start``, past those of a regex."""
        template = self.template
        depth = 0
        in_class = False
        in_regex = False
        position = start
        while position < len(template):
            character = template[position]
            if not in_regex:
                in_regex = character == ":"
                if character == "}":
                    return position
            elif character == "\\":
                position += 1
            elif in_class:
                in_class = character != "]"
            elif character == "[":
                in_class = True
                # "[]…]" and "[^]…]": a bracket that comes first closes nothing.
                if template.startswith("^", position + 1):
                    position += 1
                if template.startswith("]", position + 1):
                    position += 1
            elif character == "{":
                depth += 1
            elif character == "}":
                if depth == 0:
                    return position
                depth -= 1
            position += 1
        raise self.error(
            "this brace is never closed; write \\{ for a literal one", start
        )

    def read_colon(self) -> None:
        start = self.position
        name, name_start, bare = self.read_name()
        modifier = self.template[self.position : self.position + 1] if bare else ""
        if modifier not in _MODIFIERS:
            self.add(name, Kind.SEGMENT, start, name_start)
            return
        after = self.template[self.position + 1 : self.position + 2]
        if start == 0 or self.template[start - 1] != "/" or after not in ("", "/"):
            raise self.error(
                f"the modifier {modifier} is for a component of its own, "
                f"as in /:{name}{modifier}"
            )
        kind, optional = _MODIFIERS[modifier]
        self.add(name, kind, start, name_start, optional=optional)
        self.position += 1

    def read_star(self) -> None:
        start = self.position
        if start == len(self.template) - 1 and self.template[start - 1] == "/":
            self.flush()
            self.parts.append(Parameter("", Kind.REST))
            self.position += 1
            return
        name, name_start, _ = self.read_name()
        self.add(name, Kind.WILDCARD, start, name_start)

    def read_name(self) -> tuple[str, int, bool]:
        """Read ``name`` or ``(name)`` after a colon or a star."""
        start = self.position
        if self.template.startswith("(", start + 1):
            end = self.template.find(")", start)
            if end == -1:
                raise self.error("this parenthesis is never closed", start + 1)
            self.position = end + 1
            return self.template[start + 2 : end], start + 2, False
        word = _WORD.match(self.template, start + 1)
        if word is None:
            mark = self.template[start]
            raise self.error(
                f"a name must follow {mark!r}; write \\{mark} for a literal one"
                + (", or * alone as the last component" if mark == "*" else "")
            )
        self.position = word.end()
        return word.group(), start + 1, True

    def add(
        self,
        name: str,
        kind: Kind,
        start: int,
        name_start: int,
        regex: str | None = None,
        regex_start: int | None = None,
        optional: bool = False,
    ) -> None:
        if not name:
            raise self.error("a parameter needs a name", start)
        if not name.isidentifier():
            raise self.error(f"{name!r} is no identifier", name_start)
        if name in self.names:
            raise self.error(f"the name {name!r} is used twice", name_start)
        required = self.requirements.pop(name, None)
        if regex is None:
            regex = required
        elif required is not None:
            raise self.error(f"{name!r} has a regex here and a requirement", start)
        if regex is not None:
            self.check_regex(name, regex, start, regex_start)
        self.flush()
        self.names.add(name)
        self.parts.append(Parameter(name, kind, regex, optional))

    def check_regex(
        self, name: str, regex: str, start: int, regex_start: int | None
    ) -> None:
        what = f"the regex of {name!r}"
        if not isinstance(regex, str):
            raise self.error(f"{what} must be a str, not {type(regex).__name__}", start)
        if not regex:
            raise self.error(f"{what} is empty", start)
        try:
            compiled = re.compile(regex)
            # It has to work inside a longer one too: flags for all of it do not.
            re.compile(f"/(?:{regex})")
        except (re.error, OverflowError, RecursionError) as error:
            if regex_start is not None:  # it stands in the template itself
                start = regex_start + (getattr(error, "pos", None) or 0)
            raise self.error(f"{what} is broken: {error}", start) from error
        if compiled.groupindex:
            raise self.error(f"{what} names a group; write (?:…) instead", start)
        if _BACKREFERENCE.search(regex):
            raise self.error(f"{what} refers back to a group, which cannot work", start)
