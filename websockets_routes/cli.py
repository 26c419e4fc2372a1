"""The command ``websockets-routes``: serves a router, or prints its routes."""

from __future__ import annotations

import argparse
import asyncio
import importlib.util
import logging
import ssl
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from .exceptions import RoutesError
from .loading import load_router
from .path import RoutedPath
from .resource import WEBSOCKET
from .route import Route

if TYPE_CHECKING:
    from .router import Router

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        arguments: What follows the command's name; ``sys.argv`` by default.

    Returns:
        The exit code: 0, 1 for what went wrong, 2 for wrong usage (by SystemExit).
    """
    options = _parser().parse_args(arguments)
    try:
        return int(options.function(options))
    except (RoutesError, _CommandError) as error:
        print(f"websockets-routes: {error}", file=sys.stderr)
        return 1


class _CommandError(Exception):
    """What the user has to be told in one line."""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="websockets-routes", description="Serve a router, or look at it."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    run = commands.add_parser(
        "run",
        help="serve a router until SIGINT or SIGTERM",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    run.set_defaults(function=_run)
    _add_router(run)
    listen = run.add_argument_group("where to listen")
    listen.add_argument("--host", default="localhost", help="interface")
    listen.add_argument("--port", type=_port, default=8765, help="port")
    listen.add_argument("--unix", metavar="PATH", help="Unix socket instead of a port")
    listen.add_argument("--ssl-certfile", metavar="FILE", help="certificate, for TLS")
    listen.add_argument("--ssl-keyfile", metavar="FILE", help="its key")
    process = run.add_argument_group("the process")
    process.add_argument(
        "--log-level",
        default="info",
        choices=["critical", "error", "warning", "info", "debug"],
        help="least level to log",
    )
    process.add_argument(
        "--loop",
        default="auto",
        choices=["auto", "asyncio", "uvloop"],
        help="event loop; auto is uvloop where it is installed",
    )
    limits = run.add_argument_group("what websockets.serve takes; 'none' for no limit")
    for name, kind, default, what in (
        ("open-timeout", float, 10.0, "seconds for the handshake"),
        ("ping-interval", float, 20.0, "seconds between keepalive pings"),
        ("ping-timeout", float, 20.0, "seconds to wait for their pongs"),
        ("close-timeout", float, 10.0, "seconds for closing"),
        ("max-size", int, 2**20, "bytes of an incoming message"),
        ("max-queue", int, 16, "incoming frames to hold for a handler"),
    ):
        limits.add_argument(
            f"--{name}", type=_or_none(kind), default=default, metavar="N", help=what
        )
    limits.add_argument(
        "--write-limit", type=int, default=2**15, metavar="N", help="bytes to buffer"
    )
    limits.add_argument(
        "--compression",
        type=_or_none(str),
        default="shared",
        choices=["shared", "deflate", None],
        metavar="{shared,deflate,none}",
        help="extension to offer",
    )
    process.add_argument(
        "--drain",
        type=_or_none(float),
        metavar="N",
        help="seconds in which a signal closes connections, one by one",
    )
    process.add_argument(
        "--shutdown-code",
        type=int,
        default=1001,
        metavar="CODE",
        help="close code on a signal; 1012 says that the service restarts",
    )
    limits.add_argument(
        "--origin",
        action="append",
        dest="origins",
        metavar="ORIGIN",
        help="acceptable Origin; may be repeated",
    )

    proxies = run.add_argument_group("proxies in front")
    proxies.add_argument(
        "--proxy-protocol",
        action="store_true",
        help="expect a PROXY header before anything else",
    )
    proxies.add_argument(
        "--trusted-proxy",
        action="append",
        dest="trusted_proxies",
        metavar="NETWORK",
        help="address, network or 'unix' that is believed; may be repeated",
    )
    proxies.add_argument(
        "--forwarded-header",
        type=_or_none(str),
        default="x-forwarded-for",
        choices=["x-forwarded-for", "forwarded", None],
        metavar="{x-forwarded-for,forwarded,none}",
        help="headers that they set",
    )

    routes = commands.add_parser("routes", help="print the routes of a router")
    routes.set_defaults(function=_routes)
    _add_router(routes)
    routes.add_argument(
        "--verbose",
        action="store_true",
        help="print the headers and query parameters that they declare, too",
    )
    routes.add_argument(
        "--match", metavar="PATH", help="print what this path meets, and nothing else"
    )
    return parser


def _add_router(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "router",
        metavar="MODULE:ROUTER",
        help="a router, or a function that makes one, as in chat:router",
    )


def _port(text: str) -> int:
    # uvloop would take any other number modulo 65,536.
    if not text.isdecimal() or int(text) > 65535:
        raise argparse.ArgumentTypeError(
            f"a port is a number up to 65535, not {text!r}"
        )
    return int(text)


def _or_none(kind: Callable[[str], Any]) -> Callable[[str], Any]:
    def convert(text: str) -> Any:
        return None if text.lower() == "none" else kind(text)

    convert.__name__ = kind.__name__  # argparse names it in its errors
    return convert


def _run(options: argparse.Namespace) -> int:
    router = load_router(options.router)
    loop_factory = _loop_factory(options.loop)
    arguments: dict[str, Any] = {
        name: getattr(options, name)
        for name in (
            "open_timeout",
            "ping_interval",
            "ping_timeout",
            "close_timeout",
            "max_size",
            "max_queue",
            "write_limit",
            "compression",
            "origins",
            "drain",
            "shutdown_code",
            "proxy_protocol",
            "trusted_proxies",
            "forwarded_header",
        )
    }
    if options.unix is not None:
        arguments |= {"unix": True, "path": options.unix}
    else:
        arguments |= {"host": options.host, "port": options.port}
    if options.ssl_certfile is not None:
        arguments["ssl"] = _tls(options.ssl_certfile, options.ssl_keyfile)
    elif options.ssl_keyfile is not None:
        raise _CommandError("--ssl-keyfile needs --ssl-certfile")
    logging.basicConfig(
        level=options.log_level.upper(), format="%(asctime)s %(levelname)s %(message)s"
    )
    where = options.unix or f"{options.host}:{options.port}"
    try:
        with asyncio.Runner(loop_factory=loop_factory) as runner:
            runner.run(router.run(**arguments))
    except OSError as error:
        raise _CommandError(f"cannot listen on {where}: {error}") from error
    return 0


def _loop_factory(
    choice: str,
) -> Callable[[], asyncio.AbstractEventLoop] | None:
    installed = importlib.util.find_spec("uvloop") is not None
    if choice == "uvloop" and not installed:
        raise _CommandError(
            "uvloop is not installed: pip install 'websockets-routes[uvloop]'"
        )
    if choice == "asyncio" or not installed:
        return None
    import uvloop

    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory


def _tls(certificate: str, key: str | None) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(certificate, key)
    except (OSError, ssl.SSLError) as error:
        raise _CommandError(
            f"cannot use the certificate {certificate}: {error}"
        ) from error
    return context


def _routes(options: argparse.Namespace) -> int:
    router = load_router(options.router)
    if options.match is not None:
        return _print_matches(router, options.match)
    _print_routes(router.routes, options.verbose)
    for host, routes in router.hosts:
        print(f"\n{host}")
        _print_routes(routes, options.verbose)
    return 0


def _print_routes(routes: Sequence[Route], verbose: bool) -> None:
    rows: list[tuple[str, ...]]
    rows = [("TEMPLATE", "NAME", "ENDPOINT")]
    rows += [(str(each), each.name or "", each.endpoint.name) for each in routes]
    if any(each.methods is not None for each in routes):
        methods = ["METHOD", *map(_method, routes)]
        rows = [(method, *row) for method, row in zip(methods, rows, strict=True)]
    for line, route in zip(_align(rows), [None, *routes], strict=True):
        print(line)
        if verbose and route is not None:
            for text in route.describe():
                print(f"    {text}")


def _method(route: Route) -> str:
    if route.methods is None:
        return WEBSOCKET
    return ", ".join(sorted(route.methods)) or "any"


def _print_matches(router: Router, target: str) -> int:
    path = router.match(target)
    found = [] if path.route is None else [path]
    declared = {each for route in router.routes for each in route.methods or ()}
    # What answers any method answers one that nobody has heard of.
    for method in (*sorted(declared), "*"):
        path = router.match(target, method=method)
        if path.route is not None and path.route not in {each.route for each in found}:
            found.append(path)
    if not found:
        print(f"{target} matches nothing")
        return 1
    for index, path in enumerate(found):
        if index:
            print()
        _print_match(path)
    return 0


def _print_match(path: RoutedPath) -> None:
    route = path.route
    assert route is not None, "it matches"
    rows = [("template", str(route)), ("endpoint", route.endpoint.name)]
    if route.methods is not None:
        rows.insert(0, ("method", _method(route)))
    if route.name is not None:
        rows.insert(-1, ("name", route.name))
    rows += [(f"params[{name!r}]", repr(value)) for name, value in path.params.items()]
    _print_rows(rows)


def _print_rows(rows: Sequence[tuple[str, ...]]) -> None:
    for line in _align(rows):
        print(line)


def _align(rows: Sequence[tuple[str, ...]]) -> list[str]:
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)
        ).rstrip()
        for row in rows
    ]
