"""HTTP on the port of the WebSocket server: responses and files."""

from .files import File, FileChanged, NoSuchFile, UnsafePath, path_join_safe
from .response import ErrorResponse, Event, Response

__all__ = [
    "ErrorResponse",
    "Event",
    "File",
    "FileChanged",
    "NoSuchFile",
    "Response",
    "UnsafePath",
    "path_join_safe",
]
