"""Explains every request by the one before it, for all conversations of a process."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import date

from prefixcache_integrations.canonical import Request, Tokenizer, Usage
from prefixcache_integrations.errors import PrefixCacheError
from prefixcache_integrations.insight.conversations import Conversations, Turn
from prefixcache_integrations.insight.diagnosis import Explainer, Explanation
from prefixcache_integrations.profiles import CacheProfile


class Watch:
    """Thread-safe. ``day`` says which day's prices are in force, for what is lost."""

    def __init__(self, tokenizer: Tokenizer, day: Callable[[], date]) -> None:
        self._day = day
        self._conversations = Conversations()
        self._explainer = Explainer(tokenizer)
        self._lock = threading.Lock()

    def place(self, request: Request, at: float, session: str | None, *, instead_of: Turn | None = None) -> Turn:
        """Find the conversation of a request that is sent ``at`` so many seconds; see `Conversations.place`."""
        with self._lock:
            return self._conversations.place(request, at, session, instead_of=instead_of)

    def withdraw(self, turn: Turn) -> None:
        """Forget a request that was refused."""
        with self._lock:
            self._conversations.withdraw(turn)

    def explain(self, turn: Turn, profile: CacheProfile, usage: Usage) -> Explanation | None:
        """Compare a request with the one before it, once; ``None`` where there is none, or one cannot be read."""
        previous, turn.previous = turn.previous, None
        if previous is None:
            return None
        with self._lock:
            try:
                return self._explainer.explain(
                    previous.request,
                    turn.request,
                    profile=profile,
                    usage=usage,
                    elapsed=turn.at - previous.at,
                    previous_begun=turn.previous_begun,
                    price=profile.price(self._day()),
                )
            except PrefixCacheError:
                return None
