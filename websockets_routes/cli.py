"""The command ``websockets-routes``: serves a router, prints its routes, and more."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import importlib.util
import logging
import signal
import socket
import ssl
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from .brokers import open_broker
from .exceptions import RoutesError
from .listing import list_routes
from .loading import load_router
from .outside import add_commands, broker_url
from .pubsub.topics import BROKER_VARIABLE
from .sockets import listening
from .worker import Worker, logger, patience
from .workers import Supervisor, worker_command

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        arguments: What follows the command's name; ``sys.argv`` by default.

    Returns:
        The exit code: 0, 1 for what went wrong, 2 for wrong usage (by SystemExit).
    """
    if arguments is None:
        arguments = sys.argv[1:]
    options = _parser().parse_args(arguments)
    options.arguments = arguments
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
        "--broker",
        metavar="URL",
        help="what carries messages between processes, such as redis://localhost "
        f"(or {BROKER_VARIABLE} in the environment)",
    )
    process.add_argument(
        "--loop",
        default="auto",
        choices=["auto", "asyncio", "uvloop"],
        help="event loop; auto is uvloop where it is installed",
    )
    process.add_argument(
        "--workers",
        type=_count,
        default=1,
        metavar="N",
        help="processes that share the port; SIGHUP restarts them one by one",
    )
    process.add_argument(
        "--reload",
        action="store_true",
        help="start again when a Python file of this folder changes",
    )
    # What a worker has from its supervisor: descriptors of sockets.
    process.add_argument("--inherit", type=_descriptors, help=argparse.SUPPRESS)
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
    routes.set_defaults(function=list_routes)
    _add_router(routes)
    routes.add_argument(
        "--verbose",
        action="store_true",
        help="print the headers and query parameters that they declare, too",
    )
    routes.add_argument(
        "--match", metavar="PATH", help="print what this path meets, and nothing else"
    )
    add_commands(commands)
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


def _count(text: str) -> int:
    if not text.isdecimal() or not 0 < int(text) <= 1024:
        raise argparse.ArgumentTypeError(f"a number from 1 to 1024, not {text!r}")
    return int(text)


def _descriptors(text: str) -> list[int]:
    return [int(each) for each in text.split(",")]


def _or_none(kind: Callable[[str], Any]) -> Callable[[str], Any]:
    def convert(text: str) -> Any:
        return None if text.lower() == "none" else kind(text)

    convert.__name__ = kind.__name__  # argparse names it in its errors
    return convert


def _run(options: argparse.Namespace) -> int:
    if options.inherit is None and (options.workers > 1 or options.reload):
        return _supervise(options)
    worker = None
    if options.inherit is not None:
        control, *listening = options.inherit
        limit = patience(options.close_timeout, options.drain)
        worker = Worker(control, listening, limit)
        worker.start()
    return _serve(options, worker)


def _supervise(options: argparse.Namespace) -> int:
    """Run the workers, each of which runs this command again."""
    if not hasattr(signal, "SIGHUP"):
        raise _CommandError("--workers and --reload need a POSIX system")
    if options.reload and options.workers > 1:
        raise _CommandError("--reload is for development: it has one worker")
    url = broker_url(options)
    if url is not None:
        open_broker(url)  # a URL that is none is told once, here
    _configure_log(options)
    if options.workers > 1 and urlsplit(url or "").scheme == "memory":
        logger.warning(
            "each worker is an island with memory://: what is published in one of "
            "them is not heard in the others"
        )
    if options.reload and importlib.util.find_spec("watchfiles") is None:
        raise _CommandError("--reload needs pip install 'websockets-routes[reload]'")
    with contextlib.ExitStack() as stack:
        try:
            sockets = stack.enter_context(
                listening(options.host, options.port, options.unix)
            )
        except OSError as error:
            raise _cannot_listen(options, error) from error
        return asyncio.run(_run_workers(options, sockets))


async def _run_workers(
    options: argparse.Namespace, sockets: Sequence[socket.socket]
) -> int:
    command = worker_command(options.arguments)
    if options.reload:
        from .reloading import Reloader

        return await Reloader(command, sockets, Path.cwd()).run()
    return await Supervisor(command, sockets, options.workers).run()


def _configure_log(options: argparse.Namespace) -> None:
    several = options.workers > 1 or options.reload
    process = " [%(process)d]" if several else ""
    logging.basicConfig(
        level=options.log_level.upper(),
        format=f"%(asctime)s{process} %(levelname)s %(message)s",
    )
    # It tells of each change; the reloader says what changed.
    level = max(logging.WARNING, logging.getLevelName(options.log_level.upper()))
    logging.getLogger("watchfiles").setLevel(level)


def _cannot_listen(options: argparse.Namespace, error: OSError) -> _CommandError:
    where = options.unix or f"{options.host}:{options.port}"
    return _CommandError(f"cannot listen on {where}: {error}")


def _serve(options: argparse.Namespace, worker: Worker | None) -> int:
    router = load_router(options.router)
    if options.broker is not None:
        router.topics.set_broker(options.broker)
    if options.workers > 1 and broker_url(options) is None and not router.topics.broker:
        # Only who has loaded the router knows whether it names one itself.
        raise _CommandError(
            "--workers needs --broker URL: what is published in one worker is heard "
            "in the others through a broker only (--broker memory:// leaves each "
            "worker an island)"
        )
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
    if worker is not None:
        arguments["sock"] = worker.sockets
        loop_factory = worker.loop_factory(loop_factory)
    elif options.unix is not None:
        arguments |= {"unix": True, "path": options.unix}
    else:
        arguments |= {"host": options.host, "port": options.port}
    if options.ssl_certfile is not None:
        arguments["ssl"] = _tls(options.ssl_certfile, options.ssl_keyfile)
    elif options.ssl_keyfile is not None:
        raise _CommandError("--ssl-keyfile needs --ssl-certfile")
    _configure_log(options)
    try:
        with asyncio.Runner(loop_factory=loop_factory) as runner:
            runner.run(router.run(**arguments))
    except OSError as error:
        raise _cannot_listen(options, error) from error
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
