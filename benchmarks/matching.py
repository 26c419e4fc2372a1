"""What a match costs, by the number of routes and by the length of the path."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from statistics import median

from routes import Mapper
from werkzeug.exceptions import NotFound
from werkzeug.routing import Map, MapAdapter, Rule

from websockets_routes import Protocol, Router

from .measurement import Ratio, Table, interleave, time_calls

__all__ = ["run"]

OURS, WERKZEUG, ROUTES = "websockets_routes", "werkzeug", "Routes"
SIZES = (10, 100, 1_000, 10_000)

Call = Callable[[], object]


async def handler(ws: Protocol) -> None:
    await ws.wait_closed()


def run(quick: bool) -> Iterator[Table]:
    rounds, seconds = (3, 0.001) if quick else (41, 0.01)
    yield by_number(
        "µs to match the last declared of n routes `/resource{i}/{id}/action`",
        lambda i: f"/resource{i}/{{id}}/action",
        lambda i: f"/resource{i}/42/action",
        rounds,
        seconds,
    )
    yield by_number(
        "µs to match the last declared of n static routes `/resource{i}/action`",
        lambda i: f"/resource{i}/action",
        lambda i: f"/resource{i}/action",
        rounds,
        seconds,
    )
    yield by_length(rounds, seconds)


def by_number(
    title: str,
    template: Callable[[int], str],
    path: Callable[[int], str],
    rounds: int,
    seconds: float,
) -> Table:
    calls: dict[tuple[str, int], Call] = {}
    for size in SIZES:
        templates = [template(i) for i in range(size)]
        last = path(size - 1)
        router = build_router(templates)
        assert router.match(last).route is router.routes[-1]
        calls[OURS, size] = partial(router.match, last)
        calls[WERKZEUG, size] = partial(build_adapter(templates).match, last)
        calls[ROUTES, size] = partial(build_mapper(templates).match, last)
    measured = interleave(
        {f"{peer} {n}": time_calls(call, seconds) for (peer, n), call in calls.items()},
        rounds,
    )

    ours = {size: measured[f"{OURS} {size}"] for size in SIZES}
    table = Table(title, ("", *(f"{size:,}" for size in SIZES), "10,000 : 10"))
    for peer in (OURS, WERKZEUG, ROUTES):
        values = [measured[f"{peer} {size}"] for size in SIZES]
        cells = [f"{median(each):.1f}" for each in values]
        table.rows.append((peer, *cells, f"{Ratio.of(values[-1], values[0])}"))
    ratios = [Ratio.of(ours[n], measured[f"{WERKZEUG} {n}"]) for n in SIZES]
    table.rows.append((f"{OURS} : {WERKZEUG}", *(str(ratio) for ratio in ratios), ""))
    growth = Ratio.of(ours[SIZES[-1]], ours[SIZES[0]])
    table.notes.append(f"10,000 routes : 10 routes = {growth.against(1.5)}")
    table.notes += [
        f"{OURS} : {WERKZEUG}, {size:,} routes = {ratio.against(1)}"
        for size, ratio in zip(SIZES, ratios, strict=True)
    ]
    return table


def by_length(rounds: int, seconds: float) -> Table:
    """The worst that a template without a regex of its own has to offer."""
    template = "/{a}-{b}-{c}-{d}"
    lengths = (64, 128, 2_048, 4_096, 8_192)
    most_for_routes = 128  # beyond it a match takes seconds, then days
    router = build_router([template])
    adapter = build_adapter([template])
    mapper = build_mapper([template])
    calls: dict[tuple[str, int], Call] = {}
    for length in lengths:
        matching = "/" + "-" * (length - 1)
        # As many dashes, and a slash at which no choice among them can end.
        failing = matching[:-1] + "/"
        assert router.match(matching).route is not None
        assert router.match(failing).route is None
        calls[f"{OURS}, a match", length] = partial(router.match, matching)
        calls[f"{OURS}, no match", length] = partial(router.match, failing)
        calls[f"{WERKZEUG}, no match", length] = partial(miss, adapter.match, failing)
        if length <= most_for_routes:
            calls[f"{ROUTES}, no match", length] = partial(mapper.match, failing)
    measured = interleave(
        {f"{row} {n}": time_calls(call, seconds) for (row, n), call in calls.items()},
        min(rounds, 11),
    )
    table = Table(
        f"µs to match `{template}` on dashes, by the length of the path",
        ("", *(f"{length:,}" for length in lengths)),
    )
    for row in dict.fromkeys(row for row, _ in calls):
        cells = [
            f"{median(measured[f'{row} {n}']):,.1f}" if (row, n) in calls else "–"
            for n in lengths
        ]
        table.rows.append((row, *cells))
    for row in (f"{OURS}, a match", f"{OURS}, no match"):
        ratio = Ratio.of(measured[f"{row} 8192"], measured[f"{row} 4096"])
        table.notes.append(f"{row}, 8,192 : 4,096 = {ratio} ({ratio.spread})")
    return table


def build_router(templates: list[str]) -> Router:
    router = Router()
    for template in templates:
        router.add_route(template, handler)
    return router


def build_adapter(templates: list[str]) -> MapAdapter:
    """Build werkzeug's table, bound once.

    Each rule has an endpoint of its own: to rules that share one, werkzeug looks
    for redirects among all of them.
    """
    rules = [
        Rule(template.translate({123: "<", 125: ">"}), endpoint=i, websocket=True)
        for i, template in enumerate(templates)
    ]
    return Map(rules).bind("localhost", url_scheme="ws")


def build_mapper(templates: list[str]) -> Mapper:
    mapper = Mapper(controller_scan=None, register=False, explicit=True)
    mapper.minimization = False
    for i, template in enumerate(templates):
        mapper.connect(None, template, endpoint=i)
    mapper.create_regs()
    return mapper


def miss(match: Callable[[str], object], path: str) -> None:
    try:
        match(path)
    except NotFound:
        return
    raise AssertionError(f"{path} matches")
