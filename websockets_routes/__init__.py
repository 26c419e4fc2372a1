"""Routing, topics and scale-out for the websockets library."""

from .exceptions import (
    BacklogFull,
    BadRequest,
    BuildError,
    DuplicateName,
    EndpointError,
    ExtensionError,
    InvalidJSON,
    InvalidResponse,
    LoadError,
    NotServing,
    RoutesError,
    TemplateError,
    UnknownName,
)
from .extensions import Registrar
from .opcodes import OpCode
from .path import QueryParams, RoutedPath
from .protocol import Protocol
from .resource import Resource, websocket
from .route import Route
from .router import Router

__all__ = [
    "BacklogFull",
    "BadRequest",
    "BuildError",
    "DuplicateName",
    "EndpointError",
    "ExtensionError",
    "InvalidJSON",
    "InvalidResponse",
    "LoadError",
    "NotServing",
    "OpCode",
    "Protocol",
    "QueryParams",
    "Registrar",
    "Resource",
    "Route",
    "RoutedPath",
    "Router",
    "RoutesError",
    "TemplateError",
    "UnknownName",
    "websocket",
]

__version__ = "1.0.0a1"
