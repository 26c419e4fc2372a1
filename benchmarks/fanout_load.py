"""What the servers of a fan-out are asked to publish, and the client expects."""

from __future__ import annotations

import json
import random
import string
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from typing import Self

__all__ = ["CONTROL", "COUNT", "SUBSCRIBE", "TOPIC", "Load"]

TOPIC = "quotes"
#: The paths of the servers: one for subscribers, one for who tells them what to do.
SUBSCRIBE, CONTROL = "/subscribe", "/control"
#: Asks how many subscribers there are; anything else is a ``Load`` to publish.
COUNT = "count"

# What the texts talk about.
VOCABULARY = """
    after ahead analysts bank before below bond close cut deal demand down earnings
    end fall figures for from fund gain growth high hold index inflation interest
    issue less long low margin market more of on open order over price profit quarter
    rate report rise share short slow stock strong supply than the to trade under up
    value volume weak week with yield
"""


@dataclass(frozen=True)
class Load:
    """Some ticks of the event loop, and the messages that are published in each.

    Attributes:
        mode: What to publish them with, where a server has several ways.
        size: Bytes of a message.
        ticks: How many ticks.
        number: Messages a tick.
        start: Which messages: it differs from load to load, so that no compressor
            finds a message in its window that it has seen before.
    """

    mode: str
    size: int
    ticks: int
    number: int
    start: int = 0

    def dump(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def parse(cls, text: str) -> Self:
        return cls(**json.loads(text))

    def messages(self) -> Iterator[Sequence[str]]:
        """The messages of each tick."""
        texts = make_texts(self.size)
        for tick in range(self.ticks):
            start = self.start + tick * self.number
            yield [texts[(start + i) % len(texts)] for i in range(self.number)]


@cache
def make_texts(size: int) -> Sequence[str]:
    """Make different messages of one size, always the same; 64 KiB and more in all."""
    generator = random.Random(size)
    return [_make_text(generator, size) for _ in range(max(8, 2**16 // size))]


def _make_text(generator: random.Random, size: int) -> str:
    rows: list[str] = []
    left = size - len('{"quotes":[],"news":""}')
    while True:
        bid = generator.uniform(1, 500)
        quote = {
            "symbol": "".join(generator.choices(string.ascii_uppercase, k=4)),
            "bid": round(bid, 2),
            "ask": round(bid * generator.uniform(1, 1.01), 2),
            "volume": generator.randrange(10**6),
        }
        row = json.dumps(quote, separators=(",", ":"))
        if len(row) + 1 > left:
            break
        rows.append(row)
        left -= len(row) + 1
    if rows:
        left += 1  # there is one comma less than rows
    news = " ".join(generator.choices(VOCABULARY.split(), k=left))[:left]
    return f'{{"quotes":[{",".join(rows)}],"news":"{news}"}}'
