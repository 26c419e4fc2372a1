"""``python -m benchmarks``: run the benchmarks and print their tables as Markdown."""

import argparse
from collections.abc import Callable, Iterator

from . import (
    composition,
    echo,
    fanout,
    handshake,
    matching,
    memory,
    requests,
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
    options = parser.parse_args()
    for name in options.benchmarks:
        if name not in BENCHMARKS:
            parser.error(f"no such benchmark: {name}")

    print(environment())
    for name in options.benchmarks or BENCHMARKS:
        for table in BENCHMARKS[name](options.quick):
            print(f"\n{table}", flush=True)


if __name__ == "__main__":
    main()
