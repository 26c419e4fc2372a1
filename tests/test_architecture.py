"""The house is kept: imports go down, public names are exact, modules stay small."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import websockets_routes

PACKAGE = Path(websockets_routes.__file__).parent

# From the top of the house down: a module imports from the lines below its own.
ORDER = (
    "pytest_plugin",
    "testing",
    "contract.__init__",
    "contract.engine",
    "contract.history",
    "contract.delivery",
    "contract.node",
    "subscribers",
    "offspring",
    "tls",
    "__main__",
    "cli",
    "listing",
    "reloading",
    "workers",
    "worker",
    "sockets",
    "outside",
    "loading",
    "__init__",
    "router",
    "connecting",
    "http.metrics",
    "requesting",
    "http.publishing",
    "http.front",
    "http.connection",
    "http.parsing",
    "http.dispatching",
    "http.head",
    "http.writing",
    "http.body",
    "http.static",
    "composing",
    "publishing",
    "declaring",
    "http.endpoint",
    "runner",
    "servers",
    "serving",
    "handshake",
    "admissions",
    "stats",
    "checks",
    "host",
    "lifespan",
    "binding",
    "protocol",
    "reporting",
    "sending",
    "table",
    "resource",
    "route",
    "scope",
    "negotiation",
    "pubsub.__init__",
    "pubsub.topics",
    "pubsub.subscribing",
    "pubsub.attending",
    "pubsub.spreading",
    "pubsub.hearing",
    "pubsub.relay",
    "pubsub.last_words",
    "pubsub.node",
    "pubsub.local",
    "pubsub.tracks",
    "pubsub.clients",
    "pubsub.delivery",
    "pubsub.outbox",
    "pubsub.hooks",
    "pubsub.receipt",
    "pubsub.latency",
    "pubsub.attendance",
    "pubsub.presence",
    "pubsub.replicas",
    "pubsub.presence_messages",
    "pubsub.roster",
    "pubsub.backlog",
    "pubsub.frames",
    "pubsub.topic",
    "pubsub.message",
    "pubsub.overflow",
    "pubsub.subscriptions",
    "brokers.__init__",
    "brokers.opening",
    "brokers.memory",
    "brokers.redis",
    "brokers.redis_history",
    "brokers.redis_hearing",
    "brokers.redis_names",
    "brokers.redis_pipe",
    "brokers.nats",
    "brokers.nats_session",
    "brokers.nats_client",
    "brokers.nats_streams",
    "brokers.nats_subjects",
    "pubsub.history",
    "brokers.inbox",
    "brokers.futures",
    "brokers.link",
    "brokers.wire",
    "brokers.base",
    "pubsub.names",
    "deflate",
    "pacing",
    "limits",
    "http.__init__",
    "http.encoding",
    "http.paths",
    "answering",
    "endpoint",
    "inputs",
    "converting",
    "dispatcher",
    "closing",
    "events",
    "extensions",
    "http.request",
    "proxied",
    "proxying",
    "forwarded",
    "proxy",
    "proxy_protocol",
    "cookies",
    "http.response",
    "http.events",
    "http.cookies",
    "http.payloads",
    "http.files",
    "http.conditions",
    "refusal",
    "arity",
    "serializer",
    "tasks",
    "opcodes",
    "path",
    "builder",
    "tree",
    "template",
    "pattern",
    "grammar",
    "target",
    "broker_errors",
    "presence_errors",
    "exceptions",
    "naming",
    "tokens",
)

# What may look up, for the annotations of public attributes and nothing else.
ANNOTATIONS = {
    ("path", "route"),
    ("protocol", "router"),
    ("http.request", "router"),
    ("servers", "http.connection"),
    ("servers", "http.front"),
    ("protocol", "servers"),
    ("proxying", "servers"),
}

MODULES = sorted(PACKAGE.rglob("*.py"))


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts)


def imported(path: Path, node: ast.ImportFrom) -> set[str]:
    """Name the modules of the package that a relative import is about."""
    folder = path.parents[node.level - 1]
    base = folder.joinpath(*(node.module or "").split("."))
    if not base.is_dir():
        return {module_name(base)}
    names = {module_name(base / alias.name) for alias in node.names}
    modules = {module_name(each) for each in MODULES}
    return {
        name if name in modules else module_name(base / "__init__") for name in names
    }


def imports(path: Path) -> tuple[set[str], set[str]]:
    """List the modules of the package that a module imports, and for types only."""
    tree = ast.parse(path.read_text())
    typed = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    real: set[str] = set()
    for_types: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.level:
            into = for_types if id(node) in typed else real
            into |= imported(path, node)
    return real, for_types


def third_party(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            found.add((node.module or "").partition(".")[0])
    return found - set(sys.stdlib_module_names)


def test_every_module_has_its_place() -> None:
    assert sorted(ORDER) == sorted(map(module_name, MODULES))


@pytest.mark.parametrize("path", MODULES, ids=module_name)
def test_imports_go_down_the_house(path: Path) -> None:
    name = module_name(path)
    real, for_types = imports(path)
    below = set(ORDER[ORDER.index(name) + 1 :])
    assert real <= below
    assert {(name, other) for other in for_types - below} <= ANNOTATIONS


def test_only_what_users_begin_with_imports_the_router() -> None:
    importers = {module_name(path) for path in MODULES if "router" in imports(path)[0]}
    assert importers == {"__init__", "loading", "testing"}


def test_only_pattern_imports_routes() -> None:
    importers = {module_name(path) for path in MODULES if "routes" in third_party(path)}
    assert importers == {"pattern"}


def test_importing_the_package_imports_nothing_optional() -> None:
    code = "import sys, websockets_routes; print(*sys.modules)"
    output = subprocess.check_output([sys.executable, "-c", code], text=True)
    assert not {
        "uvloop",
        "h11",
        "redis",
        "nats",
        "argparse",
        "prometheus_client",
    } & set(output.split())


@pytest.mark.parametrize(
    "path", [path for path in MODULES if path.stem != "__main__"], ids=module_name
)
def test_all_names_what_is_public_and_used_elsewhere(path: Path) -> None:
    name = module_name(path).removesuffix("__init__").removesuffix(".")
    module = importlib.import_module(f"websockets_routes.{name}".removesuffix("."))
    assert module.__all__ == sorted(module.__all__, key=sort_key)
    for name in module.__all__:
        assert hasattr(module, name)
    if path.stem != "__init__":
        defined = {
            node.name
            for node in ast.parse(path.read_text()).body
            if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
            and not node.name.startswith("_")
        }
        assert defined <= set(module.__all__)


def sort_key(name: str) -> tuple[int, str]:
    """Sort as ruff does: constants, then classes, then the rest."""
    kind = 0 if name.isupper() else 1 if name[0].isupper() else 2
    return kind, name


def test_the_package_exports_every_error() -> None:
    from websockets_routes import broker_errors, exceptions, presence_errors

    for module in (broker_errors, exceptions, presence_errors):
        assert set(module.__all__) <= set(websockets_routes.__all__)
        for name in module.__all__:
            assert issubclass(getattr(module, name), websockets_routes.RoutesError)


@pytest.mark.parametrize("path", MODULES, ids=module_name)
def test_a_module_holds_one_thing(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 425


@pytest.mark.parametrize("path", MODULES, ids=module_name)
def test_nothing_imports_a_private_name(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.level:
            assert not [each.name for each in node.names if each.name[0] == "_"]


def test_the_version_is_told_once() -> None:
    text = (PACKAGE.parent / "pyproject.toml").read_text()
    assert f'version = "{websockets_routes.__version__}"' in text
