"""Requests that are sent once more as they were: by an SDK that tries again, or through two layouts."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

from msgspec import Struct

SECONDS = 30.0
"""For how long the same request is taken for another attempt: SDKs wait some seconds in between."""

ATTEMPTS = 2
"""How often it is: the SDKs of OpenAI and Anthropic try that often again. After that it is asked for itself."""

LATEST = 1024
"""How many requests are known that might be sent once more."""


class Laid(Struct, frozen=True, gc=False):
    """How a request was sent: its blocks by number in the order sent, those that were marked, and for how long."""

    order: Sequence[int]
    marks: tuple[int, ...]
    ttl: str | None

    def sent(self) -> Laid:
        """Return the same for the request as it was sent, whose order stays as it is."""
        return Laid(range(len(self.order)), tuple(sorted(map(self.order.index, self.marks))), self.ttl)


class Attempts(Struct, frozen=True):
    """A request to remember: its digest as it came and as it was sent, and how; ``laid`` is ``None`` for a repeat."""

    given: bytes
    sent: bytes
    laid: Laid | None


class _Known(Struct, gc=False):
    laid: Laid
    at: float
    times: int = 0


class Repeats:
    """The latest requests by digest, and how they were laid out."""

    def __init__(self) -> None:
        self._known: OrderedDict[bytes, _Known] = OrderedDict()

    def observe(self, attempts: Attempts, now: float) -> None:
        """Remember how a request was sent at ``now``, or that it was sent once more."""
        if attempts.laid is None:
            for digest in {attempts.given, attempts.sent}:
                if digest in self._known:
                    self._known[digest].times += 1
            return
        self._known[attempts.sent] = _Known(attempts.laid.sent(), now)
        self._known[attempts.given] = _Known(attempts.laid, now)
        while len(self._known) > LATEST:
            self._known.popitem(last=False)

    def find(self, digest: bytes, now: float) -> Laid | None:
        """Return how this very request was just sent, ``None`` if it was not."""
        known = self._known.get(digest)
        if known is None or known.times >= ATTEMPTS or now - known.at > SECONDS:
            return None
        return known.laid
