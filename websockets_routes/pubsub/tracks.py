"""Tracks: where a node and a connection stand in a topic with history. No I/O."""

from __future__ import annotations

from collections.abc import Collection

from ..brokers.base import Envelope, Position
from .outbox import Outbox

__all__ = ["Joiner", "Track", "is_after"]

# What a held message costs beside its payload, about, in bytes.
_OVERHEAD = 500


def is_after(envelope: Envelope, position: Position | None) -> bool:
    """Tell whether a message is news for whoever has all up to a position.

    What is of another epoch is news: the engine has begun anew.
    """
    return (
        position is None
        or envelope.offset is None
        or envelope.epoch != position.epoch
        or envelope.offset > position.offset
    )


def _position_of(envelope: Envelope) -> Position | None:
    if envelope.offset is None or envelope.epoch is None:
        return None
    return Position(envelope.epoch, envelope.offset)


class _Held:
    """What came live and has to wait.

    Args:
        limit: Bytes beyond which it is let go: the history has it.

    Attributes:
        missed: Whether something was let go, and the history has to be read again.
    """

    __slots__ = ("_envelopes", "_limit", "_size", "missed")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self.missed = False
        self.clear()

    def clear(self) -> list[Envelope]:
        """Take everything."""
        envelopes = getattr(self, "_envelopes", [])
        self._envelopes: list[Envelope] = []
        self._size = 0
        return envelopes

    def add(self, envelope: Envelope) -> None:
        """Hold a message."""
        if self.missed:
            return
        self._size += len(envelope.data) + _OVERHEAD
        self._envelopes.append(envelope)
        if self._size > self._limit:
            self.miss()

    def miss(self) -> None:
        """Let go what is held; what comes is not held either."""
        self.missed = True
        self.clear()


class Joiner:
    """A connection that gets what was before, while what comes live waits for it.

    Args:
        limit: Bytes that may wait.

    Attributes:
        position: Up to where it has everything; None until that is known.
        held: What waits.
    """

    __slots__ = ("held", "position")

    def __init__(self, limit: int) -> None:
        self.position: Position | None = None
        self.held = _Held(limit)

    def take(self) -> list[Envelope]:
        """Take what waits and is news; go on behind it."""
        envelopes = []
        for envelope in self.held.clear():
            if is_after(envelope, self.position):
                envelopes.append(envelope)
                self.position = _position_of(envelope) or self.position
        return envelopes


class Track:
    """Where a node stands in a topic that it hears.

    Args:
        start: Where the first subscriber began.
        limit: Bytes that may wait while it recovers.

    Attributes:
        position: The last message that was delivered; None before the first.
        held: What waits while the node recovers, or None.
    """

    __slots__ = ("_floors", "_limit", "_start", "held", "position")

    def __init__(self, start: Position, limit: int) -> None:
        self._start = start
        self._limit = limit
        self.position: Position | None = None
        self.held: _Held | None = None
        # Subscribers that have more than was delivered here, and up to where.
        self._floors: dict[Outbox, Position] = {}

    @property
    def since(self) -> Position:
        """Behind what this node recovers."""
        return self.position or self._start

    def advance(self, envelope: Envelope) -> bool:
        """Go on to a message; tell whether it is news."""
        if not is_after(envelope, self.position):
            return False
        # What was published without history moves nobody.
        self.position = _position_of(envelope) or self.position
        return True

    def restart(self, position: Position) -> None:
        """Begin anew where nothing is known of what was before."""
        self.position = None
        self._start = position

    def begin(self) -> bool:
        """Begin to recover; tell whether that has not begun yet."""
        if self.held is None:
            self.held = _Held(self._limit)
            return True
        self.held.miss()
        return False

    def join(self, outbox: Outbox, position: Position) -> None:
        """Let a subscriber in who has all up to a position."""
        at, start = self.position, self._start
        if at is None and start.epoch == position.epoch:
            # Whoever came first may have read further.
            self._start = min(start, position)
        if at is None or at.epoch != position.epoch or at.offset < position.offset:
            self._floors[outbox] = position

    def leave(self, outbox: Outbox) -> None:
        """Forget a subscriber."""
        self._floors.pop(outbox, None)

    def lacking(
        self, audience: Collection[Outbox], envelope: Envelope
    ) -> Collection[Outbox]:
        """Find those in the audience that do not have a message yet."""
        floors = self._floors
        if not floors or envelope.offset is None:
            return audience
        found = [each for each in audience if is_after(envelope, floors.get(each))]
        for outbox, floor in tuple(floors.items()):
            if is_after(envelope, floor) or envelope.offset == floor.offset:
                del floors[outbox]  # what comes now is news for all
        return found
