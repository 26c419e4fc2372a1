"""Prices of 1,000 symbols, ten times a second; slow readers get the newest ones.

    python examples/ticker.py

``ws://localhost:8765/price/S7`` hears one symbol, ``ws://localhost:8765/prices`` all
of them. What waits for a reader that does not keep up is replaced by what is newer,
so that it never sees old prices, and never costs more than one message a symbol.
"""

import asyncio
import logging
import random

from websockets_routes import Filter, Protocol, Router

SYMBOLS = [f"S{number}" for number in range(1000)]

router = Router()
price = router.topic("price/{symbol}", overflow="conflate")


@router.route("/price/{symbol}", subscribe=price)
async def one(ws: Protocol) -> None:
    await ws.wait_closed()


@router.route("/prices")
async def all_of_them(ws: Protocol) -> None:
    await ws.subscribe(Filter("price/+"))
    await ws.wait_closed()


async def tick() -> None:
    prices = dict.fromkeys(SYMBOLS, 100.0)
    while True:
        for symbol in SYMBOLS:
            prices[symbol] *= random.uniform(0.99, 1.01)  # noqa: S311
            value = {"symbol": symbol, "price": round(prices[symbol], 2)}
            router.publish_json(price(symbol=symbol), value)
        await asyncio.sleep(0.1)


async def main() -> None:
    ticking = asyncio.create_task(tick())
    try:
        await router.run("localhost", 8765)
    finally:
        ticking.cancel()


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    asyncio.run(main())
