"""Routing, topics and scale-out for the websockets library."""

from .exceptions import (
    BacklogFull,
    BadRequest,
    BodyTooLarge,
    BuildError,
    CertificateError,
    ClientDisconnected,
    DuplicateName,
    EndpointError,
    ExtensionError,
    InvalidCloseCode,
    InvalidJSON,
    InvalidLimit,
    InvalidResponse,
    InvalidTopic,
    LoadError,
    MountError,
    MustAwait,
    NextRoute,
    NotServing,
    RoutesError,
    SubscriptionDenied,
    TemplateError,
    TooManySubscriptions,
    UnknownName,
    WrongThread,
)
from .extensions import Registrar
from .inputs import header, param
from .opcodes import OpCode
from .path import QueryParams, RoutedPath
from .protocol import Protocol
from .pubsub import Filter, Overflow, Receipt, Statistics, Subscribed, Topic, Topics
from .resource import Resource, delete, get, patch, post, put, websocket
from .route import Route
from .router import Router

__all__ = [
    "BacklogFull",
    "BadRequest",
    "BodyTooLarge",
    "BuildError",
    "CertificateError",
    "ClientDisconnected",
    "DuplicateName",
    "EndpointError",
    "ExtensionError",
    "Filter",
    "InvalidCloseCode",
    "InvalidJSON",
    "InvalidLimit",
    "InvalidResponse",
    "InvalidTopic",
    "LoadError",
    "MountError",
    "MustAwait",
    "NextRoute",
    "NotServing",
    "OpCode",
    "Overflow",
    "Protocol",
    "QueryParams",
    "Receipt",
    "Registrar",
    "Resource",
    "Route",
    "RoutedPath",
    "Router",
    "RoutesError",
    "Statistics",
    "Subscribed",
    "SubscriptionDenied",
    "TemplateError",
    "TooManySubscriptions",
    "Topic",
    "Topics",
    "UnknownName",
    "WrongThread",
    "delete",
    "get",
    "header",
    "param",
    "patch",
    "post",
    "put",
    "websocket",
]

__version__ = "1.0.0a1"
