"""Follows calls from request to bill, and tells what they cost and why they missed: the same for every adapter.

An adapter says what it knows when it knows it; what it never says stays unknown.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Hashable, Sequence
from contextlib import suppress
from datetime import date
from pathlib import Path

from prefixcache_integrations import tokens
from prefixcache_integrations.canonical import JsonObject, Tokenizer
from prefixcache_integrations.canonical.json import as_text
from prefixcache_integrations.dialects import Dialect
from prefixcache_integrations.dialects.reader import BodyReader
from prefixcache_integrations.events import Labels, Observer, checked_observers
from prefixcache_integrations.flows.prepare import MISREAD
from prefixcache_integrations.insight.recording import RecordedCall
from prefixcache_integrations.insight.watch import Watch
from prefixcache_integrations.metered_call import MeteredCall
from prefixcache_integrations.prices import PriceBook
from prefixcache_integrations.profiles import Provider
from prefixcache_integrations.recorder import Recorder
from prefixcache_integrations.watching import today

__all__ = ["Meter", "MeteredCall", "today"]


class Meter:
    """Meters the calls of a process. Thread-safe.

    Args:
        observers: Told `UsageRecorded`, `AnswerTimed`, `CallFailed`, `PrefixBroken` and `DiagnosisFailed`.
        prices: What calls cost; by default the prices at hand.
        diagnose: Compare each request with the one before it in its conversation. That needs the requests
            (`MeteredCall.sent`), and counts their tokens: a few milliseconds for a long prompt that is new.
        record: A file to which a line of JSON is added per call (`RecordedCall`); implies ``diagnose``.
        record_content: Also write prompts and answers into it.
        tokenizer: What counts tokens; by default the best at hand.
        clock: Seconds since the epoch.
        timer: Seconds of a clock that never goes back.
        day: Which day's prices are in force.
    """

    def __init__(
        self,
        *,
        observers: Sequence[Observer] = (),
        prices: PriceBook | None = None,
        diagnose: bool = False,
        record: str | Path | None = None,
        record_content: bool = False,
        tokenizer: Tokenizer | None = None,
        clock: Callable[[], float] = time.time,
        timer: Callable[[], float] = time.monotonic,
        day: Callable[[], date] = today,
    ) -> None:
        self.observers = checked_observers(observers)
        self.prices = PriceBook() if prices is None else prices
        self.reads_requests = diagnose or record is not None
        self.records = record is not None
        self.record_content = self.records and record_content
        self.clock = clock
        self.timer = timer
        self.day = day
        self.reader = BodyReader()
        self._recorder = None if record is None else Recorder(record)
        self._tokenizer = tokenizer
        self._watch: Watch | None = None
        self._lock = threading.Lock()

    def begin(
        self,
        model: str | None = None,
        provider: Provider | None = None,
        *,
        labels: Labels | None = None,
        known_as: Hashable = None,
    ) -> MeteredCall:
        """Begin a call whose request is not known in full, or not yet (`MeteredCall.sent`).

        Of several meters that know a call by the same name, one tells an observer that they share.
        """
        return MeteredCall(self, model, provider, labels or Labels(), known_as)

    def send(
        self, dialect: Dialect, body: JsonObject, provider: Provider | None = None, *, labels: Labels | None = None
    ) -> MeteredCall:
        """Begin the call that ``body`` is sent in. A body that cannot be read is metered without its request."""
        call = self.begin(as_text(body.get("model")), provider, labels=labels)
        call.dialect = dialect
        if self.reads_requests:
            with suppress(*MISREAD):
                call.sent(self.reader.read(dialect, body))
        return call

    @property
    def tokenizer(self) -> Tokenizer:
        """What counts tokens; loaded when it is first needed."""
        return self._tokenizer or tokens.load()

    @property
    def watch(self) -> Watch:
        """What compares requests; made when it is first needed."""
        with self._lock:
            if self._watch is None:
                self._watch = Watch(self.tokenizer, self.day, self.observers)
            return self._watch

    def write(self, call: RecordedCall) -> None:
        """Add a line to the recording, if there is one."""
        if self._recorder is not None:
            self._recorder.write(call)
