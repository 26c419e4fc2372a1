"""``python -m benchmarks``: run the benchmarks and print their tables as Markdown."""

import argparse
from collections.abc import Callable, Iterator
from functools import partial

from . import (
    composition,
    echo,
    fanout,
    handshake,
    matching,
    memory,
    requests,
    scale,
    topics_memory,
)
from .measurement import Table, environment

# A benchmark yields its tables; it takes True for small numbers.
BENCHMARKS: dict[str, Callable[[bool], Iterator[Table]]] = {
    "matching": matching.run,
    "handshake": handshake.run,
    "memory": memory.run,
    "echo": echo.run,
    "composition": composition.run,
    "requests": requests.run,
    "fanout": fanout.run,
    "topics": topics_memory.run,
    "scale": scale.run,
}


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description="Measure, side by side with peers."
    )
    parser.add_argument(
        "benchmarks",
        nargs="*",
        metavar="BENCHMARK",
        help=f"{', '.join(BENCHMARKS)}; all of them by default",
    )
    parser.add_argument(
        "--quick", action="store_true", help="small numbers: does it run at all?"
    )
    parser.add_argument(
        "--seconds",
        type=float,
        default=0.3,
        help="how long a lap of scale takes; %(default)s by default",
    )
    parser.add_argument(
        "--repeat",
        type=int,
        default=3,
        help="how many rounds of scale; %(default)s by default",
    )
    options = parser.parse_args()
    for name in options.benchmarks:
        if name not in BENCHMARKS:
            parser.error(f"no such benchmark: {name}")

    benchmarks = BENCHMARKS | {
        "scale": partial(scale.run, seconds=options.seconds, repeat=options.repeat)
    }
    print(environment())
    for name in options.benchmarks or BENCHMARKS:
        for table in benchmarks[name](options.quick):
            print(f"\n{table}", flush=True)


if __name__ == "__main__":
    main()
