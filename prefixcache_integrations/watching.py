"""Watches the requests that are laid out, and tells which of them lose what they could have read."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime

from prefixcache_integrations.canonical import Finding, PromptPlan, Request, Tokenizer, Usage
from prefixcache_integrations.events import Labels, Observer, tell
from prefixcache_integrations.insight.conversations import Turn
from prefixcache_integrations.insight.watch import Watch
from prefixcache_integrations.on_the_wire import is_told
from prefixcache_integrations.profiles import CacheProfile, Provider, resolve


def today() -> date:
    """Return the day it is (UTC)."""
    return datetime.now(UTC).date()


class Watcher:
    """Tells ``observers`` `PrefixBroken`, once per request that loses tokens. Thread-safe.

    Args:
        observers: Who is told; of a call that somebody meters for the same observer, that one tells.
        tokenizer: What counts tokens.
        timer: Seconds of a clock that never goes back.
        day: Which day's prices are in force.
    """

    def __init__(
        self,
        observers: Sequence[Observer],
        tokenizer: Tokenizer,
        *,
        timer: Callable[[], float] = time.monotonic,
        day: Callable[[], date] = today,
    ) -> None:
        self.observers = tuple(observers)
        self.timer = timer
        self.watch = Watch(tokenizer, day, self.observers)

    def begin(self, provider: Provider | None = None, labels: Labels | None = None) -> WatchedCall:
        """Begin a call."""
        return WatchedCall(self, provider, labels or Labels())


class WatchedCall:
    """One call under way: it is sent, then ends once. Of what is sent several times, the last counts."""

    def __init__(self, watcher: Watcher, provider: Provider | None, labels: Labels) -> None:
        self.observers: Sequence[Observer] = watcher.observers
        self.ended = False
        self._watcher = watcher
        self._provider = provider
        self._labels = labels
        self._turn: Turn | None = None
        self._lock = threading.Lock()

    def changes(self, request: Request, profile: CacheProfile, prompt_tokens: int) -> tuple[Finding, ...]:
        """Say what was changed in a request that is about to be sent, since the one before it."""
        now, session = self._watcher.timer(), self._labels.session
        return self._watcher.watch.changes(request, profile, prompt_tokens, at=now, session=session)

    def sent(self, request: Request, plan: PromptPlan | None = None) -> None:
        """Say what is on its way to the provider."""
        if self.ended:
            return
        self.observers = [each for each in self._watcher.observers if not is_told(each, besides=self)]
        now, session = self._watcher.timer(), self._labels.session
        self._turn = self._watcher.watch.place(request, now, session, instead_of=self._turn, plan=plan)

    def begun(self) -> None:
        """Say that the answer has begun: what it wrote can be read from now on."""
        if self._turn is not None:
            self._turn.begun = True

    def answered(self, usage: Usage) -> None:
        """Say what was billed, as far as it is known: without usage, what the requests and the clock say is told."""
        self.begun()
        if self._end() or self._turn is None:
            return
        profile = resolve(self._turn.request.model, self._provider)
        event = self._watcher.watch.broken(self._turn, profile, usage, self._labels)
        if event is not None:
            tell(self.observers, event)

    def left(self) -> None:
        """Say that nobody waits for the answer any more: where none had begun, it may have left nothing."""
        if self._turn is not None and self._turn.begun:
            self._end()
        else:
            self.failed()

    def failed(self) -> None:
        """Say that the call was refused, or never got through: it left nothing in the cache."""
        if not self._end() and self._turn is not None:
            self._watcher.watch.withdraw(self._turn)

    def _end(self) -> bool:
        """Return whether the call had ended before; it has now."""
        with self._lock:
            ended, self.ended = self.ended, True
        return ended
