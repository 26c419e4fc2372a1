"""Delivery: brings messages to outboxes, and empties these once a turn.

What is published to a connection during one turn of the event loop leaves in one
write, at the beginning of the next. No failure of one connection stops the others.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection

from .backlog import Outcome
from .frames import Batch, Message
from .latency import Latencies
from .outbox import Outbox, flush_all
from .receipt import Receipt

__all__ = ["Delivery"]


class Delivery:
    """The messages that leave in this turn.

    Attributes:
        loop: The event loop; None until there is something to deliver.
        latencies: How long it takes until all is written; None if nobody wants to
            know.
    """

    def __init__(self) -> None:
        self.loop: asyncio.AbstractEventLoop | None = None
        self.latencies: Latencies | None = None
        # Outboxes that had no batch before.
        self._filled: list[Outbox] = []
        # Batches that others were made from.
        self._followed: list[Batch] = []

    def deliver(
        self,
        message: Message,
        audience: Collection[Outbox],
        exclude: Outbox | None = None,
        receipt: Receipt | None = None,
    ) -> Receipt:
        """Put a message into outboxes.

        Args:
            message: The message.
            audience: The outboxes.
            exclude: One of them that is left out, or None.
            receipt: A receipt for the whole audience, or None for a new one.

        Returns:
            The receipt, with the counts.
        """
        if receipt is None:
            receipt = Receipt(len(audience))
        filled = self._filled
        if not filled:
            assert self.loop is not None
            if self.latencies is None:
                self.loop.call_soon(self._flush)
            else:
                self.loop.call_soon(self._flush, self.latencies.clock())
        alone = Batch(None, message)
        for outbox in audience:
            batch = outbox.batch
            if outbox is exclude:
                receipt.matched -= 1
                receipt.queued -= 1
            elif batch is not None:  # and so it is ready, and among the filled
                following = batch.following
                if following is None or following.message is not message:
                    following = batch.following = Batch(batch, message)
                    self._followed.append(batch)
                outbox.batch = following
                if following.size > outbox.limit:
                    outbox.flush()
            elif outbox.ready:
                outbox.batch = alone
                filled.append(outbox)
                if alone.size > outbox.limit:
                    outbox.flush()
            else:
                _put(outbox, message, receipt)
        return receipt

    def bind(self, loop: asyncio.AbstractEventLoop | None) -> None:
        """Deliver on an event loop; what was to leave on another one is dropped."""
        self.loop = loop
        self._filled = []

    def _flush(self, began: float | None = None) -> None:
        filled, self._filled = self._filled, []
        flush_all(filled)
        followed, self._followed = self._followed, []
        for batch in followed:
            batch.following = None
        if began is not None and self.latencies is not None:
            self.latencies.add(began)


def _put(outbox: Outbox, message: Message, receipt: Receipt) -> None:
    outcome, displaced = outbox.put(message)
    receipt.displaced += len(displaced)
    for older in displaced:
        older.lost(outbox.ws)
    if outcome is Outcome.CONFLATED:
        receipt.conflated += 1
    elif outcome is Outcome.DROPPED:
        receipt.queued -= 1
        receipt.dropped += 1
        message.lost(outbox.ws)
    elif outcome is Outcome.CLOSED:
        receipt.queued -= 1
        receipt.closed += 1
