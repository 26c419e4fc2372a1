"""What README says is so: its examples run, its tables hold."""

from __future__ import annotations

import re
import runpy
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from tests.integration.servers import until
from tests.processes import ROOT
from websockets_routes import Router

README = (ROOT / "README.md").read_text()
EXAMPLES = re.findall(r"^```python\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def namespace(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Run all the examples, one after the other, as one module."""
    path: Path = tmp_path_factory.mktemp("readme") / "readme.py"
    path.write_text("\n".join(EXAMPLES))
    return runpy.run_path(str(path))


def test_the_examples_run(namespace: dict[str, Any]) -> None:
    assert len(EXAMPLES) >= 8
    assert isinstance(namespace["router"], Router)


async def test_the_first_example_and_its_classes_serve(
    namespace: dict[str, Any],
) -> None:
    router: Router = namespace["router"]
    async with router.serve("127.0.0.1", 0) as server:
        base = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        async with connect(f"{base}/hello/Ada") as ws:
            assert await ws.recv() == "Hello Ada!"
        async with connect(f"{base}/room/7") as one, connect(f"{base}/room/7") as two:
            await until(lambda: router.num_subscribers("room/7") == 2)
            await one.send("hi")
            assert await two.recv() == "hi"
        async with connect(f"{base}/thing/1") as ws:
            assert await ws.recv() == "a bell"
        with pytest.raises(InvalidStatus) as refused:
            await connect(f"{base}/thing/2")
        assert refused.value.response.body == b"no such thing\n"


async def test_its_not_found_answers(namespace: dict[str, Any]) -> None:
    router = Router()
    router.not_found(namespace["explain"])
    async with router.serve("127.0.0.1", 0) as server:
        base = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        with pytest.raises(InvalidStatus) as refused:
            await connect(f"{base}/")
        assert refused.value.response.body == b"see /hello/{name}\n"


def table_rows(heading: str) -> list[tuple[str, ...]]:
    table = README.partition(f"| {heading}")[2].partition("\n\n")[0]
    rows = [line for line in table.splitlines() if line.startswith("| ")][1:]
    return [tuple(cell.strip() for cell in row.strip("|").split(" | ")) for row in rows]


@pytest.mark.parametrize(
    "row", table_rows("template | matches"), ids=lambda row: row[0]
)
def test_the_table_of_templates_holds(row: tuple[str, ...]) -> None:
    templates, paths, params = (re.findall(r"`([^`]+)`", cell) for cell in row)
    if "none" in row[2]:
        params = []
    for template in templates:
        router = Router()
        router.add_route(template, namespace_free_handler)
        found = [router.match(path).params for path in paths]
        assert None not in found
        shown = [f'{name}="{value}"' for each in found for name, value in each.items()]
        assert shown == params


async def namespace_free_handler(ws: Any) -> None:
    pass


@pytest.mark.parametrize("name", ["serve", "test"])
def test_its_commands_are_found_by_the_checks(name: str) -> None:
    command = README.partition(f"<!-- command: {name} -->\n```console\n")[2]
    assert command.startswith("python3 -m venv .venv && .venv/bin/pip install ")
