"""What can go wrong on the bus, each kind with one fate. Pure."""

from __future__ import annotations


class Conflict(Exception):
    """A compare-and-set lost, for certain: fold what was missed and decide again. `last_seq` is the subject's, where known."""

    def __init__(self, message: str, last_seq: int | None = None) -> None:
        """Keep the last sequence that the server named."""
        super().__init__(message)
        self.last_seq = last_seq


class AlreadyThere(Exception):
    """A write-once subject has its message already, for certain."""


class Unavailable(Exception):
    """The outcome is unknown, or the server is not there: back off, look, try again. Never read as success or failure."""


class NotSent(Unavailable):
    """Nothing was sent, for certain: there is no connection, or nobody who listens."""


class Rejected(Exception):
    """The server refused the write for good: too large, stream full, no such stream."""


class Denied(Exception):
    """The server refused the identity."""


class ConsumerGone(Exception):
    """The durable consumer that is pulled from does not exist (any more)."""
