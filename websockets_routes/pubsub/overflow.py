"""Overflow: what happens to a topic's messages when a subscriber is too slow."""

from __future__ import annotations

from enum import Enum

__all__ = ["Overflow"]


class Overflow(Enum):
    """What happens to the messages of a topic that a subscriber has no room for.

    Only its own messages are touched, never those of another topic.
    """

    #: The subscriber is closed with 1013 and all that waits for it is discarded:
    #: it connects again, and knows that it missed something.
    CLOSE = "close"
    #: Its oldest waiting messages make room for the new one.
    DROP_OLDEST = "drop_oldest"
    #: The new one is dropped.
    DROP_NEWEST = "drop_newest"
    #: As soon as anything waits, a new message takes the place of the waiting one
    #: that has the same key; if there is none, and no room, the oldest makes room.
    CONFLATE = "conflate"
