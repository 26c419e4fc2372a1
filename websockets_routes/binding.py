"""Binding: connection classes and factories whose connections know a router."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from .exceptions import EndpointError
from .extensions import Extensions
from .naming import endpoint_name
from .protocol import Protocol

__all__ = ["bind_class", "bind_factory"]


def bind_class(
    base: type[Protocol], extensions: Extensions | None, attributes: Mapping[str, Any]
) -> type[Protocol]:
    """Make a subclass that looks like its base.

    Args:
        base: ``Protocol`` or a subclass.
        extensions: What adds to it, if anything; takes no more from now on.
        attributes: What else it has.

    Raises:
        EndpointError: If the base is no ``Protocol``.
        ExtensionError: If the base has a name that an extension adds.
    """
    if not (isinstance(base, type) and issubclass(base, Protocol)):
        raise EndpointError(
            endpoint_name(base), "it must be a subclass of websockets_routes.Protocol"
        )
    looks = {
        "__doc__": base.__doc__,
        "__module__": base.__module__,
        "__qualname__": base.__qualname__,
    }
    added = {} if extensions is None else extensions.close(base)
    namespace = {**added, **attributes, **looks}
    return type(base.__name__, (base,), namespace)


def bind_factory(
    create: Callable[..., Protocol], bind: Callable[[type[Protocol]], type[Protocol]]
) -> Callable[..., Protocol]:
    """Wrap a function that makes connections, so that their class is bound."""
    bind(Protocol)  # so that extensions come too late from now on

    def create_connection(*args: Any, **kwargs: Any) -> Protocol:
        connection = create(*args, **kwargs)
        connection.__class__ = bind(type(connection))
        return connection

    return create_connection
