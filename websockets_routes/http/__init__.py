"""HTTP on the port of the WebSocket server: requests, responses and files."""

from .files import File, FileChanged, NoSuchFile, UnsafePath, path_join_safe
from .request import Request
from .response import ErrorResponse, Event, Response

__all__ = [
    "ErrorResponse",
    "Event",
    "File",
    "FileChanged",
    "NoSuchFile",
    "Request",
    "Response",
    "UnsafePath",
    "path_join_safe",
]
