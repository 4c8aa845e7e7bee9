"""Whether the answer to a request has begun: before that, no other request can read what it writes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from msgspec import Struct

BEGINS = 1.0
"""For how many seconds an answer of which nothing was heard is taken not to have begun.

A marker costs a quarter of a token's price where it is too early, and saves nine tenths where it is not: so it is set
again as soon as one answer in five should have begun. Answers that are not streamed are heard of when they are whole.
"""


class Answer(Struct, gc=False):
    """What is known of the answer to one request; in doubt, that it has begun.

    Claude docs, *Prompt caching*: "a cache entry only becomes available after the first response begins". Whoever will
    tell says so (`await_from`), and then that it has `begun`, or `failed`, which leaves no entry. Thread-safe. Several
    attempts, of which one follows when another has failed, have one answer.
    """

    until: float = 0.0
    lost: bool = False

    def await_from(self, now: float) -> None:
        """Take the answer for one that has not begun at ``now``, for as long as `BEGINS`."""
        self.until = now + BEGINS

    @contextmanager
    def attempted(self, now: float) -> Iterator[None]:
        """Take it for begun while an attempt is planned, and await it from then on: it may write what another wrote."""
        self.begun()
        try:
            yield
        finally:
            self.await_from(now)

    def begun(self) -> None:
        """Note that the answer has begun."""
        self.until, self.lost = 0.0, False

    def failed(self) -> None:
        """Note that there will be no answer."""
        self.until, self.lost = 0.0, True

    def readable(self, now: float) -> bool:
        """Tell whether others should be able to read what the request has written."""
        return now >= self.until and not self.lost

    def awaited(self, now: float) -> bool:
        """Tell whether the answer should not have begun yet."""
        return now < self.until
