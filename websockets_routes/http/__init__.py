"""HTTP on the port of the WebSocket server: requests, responses and files."""

from .events import Event
from .files import File
from .paths import path_join_safe
from .request import Request
from .response import ErrorResponse, Response

__all__ = ["ErrorResponse", "Event", "File", "Request", "Response", "path_join_safe"]
