"""Routing, topics and scale-out for the websockets library."""

from .exceptions import (
    BadRequest,
    BuildError,
    DuplicateName,
    EndpointError,
    InvalidResponse,
    LoadError,
    RoutesError,
    TemplateError,
    UnknownName,
)
from .path import QueryParams, RoutedPath
from .protocol import Protocol
from .route import Route
from .router import Router

__all__ = [
    "BadRequest",
    "BuildError",
    "DuplicateName",
    "EndpointError",
    "InvalidResponse",
    "LoadError",
    "Protocol",
    "QueryParams",
    "Route",
    "RoutedPath",
    "Router",
    "RoutesError",
    "TemplateError",
    "UnknownName",
]

__version__ = "1.0.0a1"
