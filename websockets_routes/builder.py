"""Builder: builds texts from templates, and only such as are read back as they were."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property

from .exceptions import BuildError
from .target import Target
from .template import Template
from .tree import Tree

__all__ = ["Builder"]


class Builder:
    """Builds what a template matches.

    Args:
        template: The template.
        build: Puts params into their places, escaped.
        parse: Takes apart what was built.
    """

    def __init__(
        self,
        template: Template,
        build: Callable[[Mapping[str, object]], str],
        parse: Callable[[str], Target],
    ) -> None:
        self._template = template
        self._build = build
        self._parse = parse

    @cached_property
    def _tree(self) -> Tree[None]:
        """A tree of this one template, to read back what is built."""
        tree: Tree[None] = Tree()
        tree.add(self._template, None)
        return tree

    def build(self, params: Mapping[str, object]) -> str:
        """Build the text from which these very params are read.

        Raises:
            BuildError: If there is none.
        """
        template = self._template
        text = self._build(params)
        wanted = template.params(
            {
                name: str(value)
                for name, value in params.items()
                if name in template.parameters and value is not None
            }
        )
        matches = self._tree.matches(self._parse(text))
        if next((found for _, found in matches), None) != wanted:
            raise BuildError(
                template.text, f"{text!r} would not be read back as {wanted}"
            )
        return text
