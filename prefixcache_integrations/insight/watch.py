"""Explains every request by the one before it, for all conversations of a process."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from datetime import date

from msgspec.structs import replace

from prefixcache_integrations.canonical import Finding, PromptPlan, Request, Tokenizer, Usage
from prefixcache_integrations.errors import PrefixCacheError
from prefixcache_integrations.events import DiagnosisFailed, Labels, Observer, PrefixBroken, tell
from prefixcache_integrations.insight.conversations import Conversations, Turn
from prefixcache_integrations.insight.diagnosis import Explainer, Explanation, Sent
from prefixcache_integrations.insight.diagnosis_paths import outside_arguments
from prefixcache_integrations.insight.prompt_runs import PromptRows, Run, prompt_rows
from prefixcache_integrations.insight.rewrites import rewrite
from prefixcache_integrations.insight.verdict import Verdict
from prefixcache_integrations.profiles import CacheProfile
from prefixcache_integrations.prompt.retrieved import retrieved_at
from prefixcache_integrations.prompt.tail_note import question, without_note


class Watch:
    """Thread-safe. ``day`` says which day's prices are in force, for what is lost.

    A note of values at the end of a prompt is left out of account, and so is what a layout has put before the latest
    question: it is not there to be read again. Whatever goes
    wrong here is told ``observers`` as `DiagnosisFailed`, and costs no more than what would have been said.
    """

    def __init__(self, tokenizer: Tokenizer, day: Callable[[], date], observers: Sequence[Observer] = ()) -> None:
        self._tokenizer = tokenizer
        self._day = day
        self._observers = observers
        self._explainer = Explainer(tokenizer)
        self._conversations = Conversations(dropped=self._explainer.forget)
        self._lock = threading.Lock()

    def place(
        self,
        request: Request,
        at: float,
        session: str | None,
        *,
        instead_of: Turn | None = None,
        plan: PromptPlan | None = None,
    ) -> Turn | None:
        """Find the conversation of a request that is sent ``at`` so many seconds; see `Conversations.place`.

        Where a ``plan`` has set its markers, none of them is missing: it weighed what each is worth.
        """
        with self._guard(request.model), self._lock:
            turn = self._conversations.place(without_note(request), at, session, instead_of=instead_of)
            turn.weighed = plan is not None
            return turn
        return None

    def withdraw(self, turn: Turn) -> None:
        """Forget a request that was refused."""
        with self._guard(turn.request.model), self._lock:
            self._conversations.withdraw(turn)

    def changes(
        self, request: Request, profile: CacheProfile, prompt_tokens: int, *, at: float, session: str | None
    ) -> tuple[Finding, ...]:
        """Say what was changed in a request that would be sent ``at``, since the one before it; nothing is remembered.

        It is taken that the answer to that one has begun.
        """
        with self._guard(request.model), self._lock:
            turn = self._conversations.preview(without_note(request), at, session)
            if turn.previous is None:
                return ()
            previous, elapsed = turn.previous.request, turn.elapsed
            beside = [
                Sent(request=each.request, profile=profile, seconds_before=max(turn.previous.at - each.at, 0.0))
                for each in self._conversations.beside(turn.previous)
            ]
            said = self._explainer.explain(previous, turn.request, profile=profile, elapsed=elapsed, beside=beside)
            if _is_behind(said, previous):
                return ()
            found = rewrite(previous, turn.request, said, profile, prompt_tokens)
            return () if found is None else (found,)
        return ()

    def broken(
        self, turn: Turn, profile: CacheProfile, usage: Usage, labels: Labels, verdict: Verdict | None = None
    ) -> PrefixBroken | None:
        """Return what is to be told of a request with this ``usage``, once; ``None`` where nothing was lost.

        It is compared with the one before it. A ``verdict`` on another pair of requests is passed over.
        """
        followed, turn.previous = turn.previous, None
        if followed is None:
            return None
        previous = followed.as_sent
        if verdict is not None and previous.answer_id not in (None, verdict.compared_with):
            verdict = None
        with self._guard(turn.request.model), self._lock:
            said = self._explainer.explain(
                previous.request,
                turn.request,
                profile=profile,
                usage=usage,
                elapsed=turn.elapsed,
                previous_begun=turn.previous_begun,
                price=profile.price(self._day()),
                verdict=verdict,
                extends=turn.extends and previous is followed,
                weighed=previous.weighed,
            )
            event = None if _is_behind(said, previous.request) else said.event(turn.request.model)
            return event and replace(event, path=event.path and outside_arguments(event.path), labels=labels)
        return None

    def runs(self, turn: Turn, profile: CacheProfile, known: PromptRows | None = None) -> tuple[Run, ...]:
        """Return what the prompt of ``turn`` is made of, which begins with all that is ``known``."""
        with self._guard(turn.request.model):
            turn.rows = prompt_rows(turn.request, profile, self._tokenizer, known)
            return turn.rows.runs()
        return ()

    def _guard(self, model: str) -> _Guard:
        return _Guard(self._observers, model)


class _Guard:
    """Lets nothing that fails inside reach the call; of a request that cannot be read there is nothing to tell."""

    def __init__(self, observers: Sequence[Observer], model: str) -> None:
        self._observers = observers
        self._model = model

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> bool:
        if not isinstance(error, Exception):
            return False
        if not isinstance(error, PrefixCacheError):
            tell(self._observers, DiagnosisFailed(error=type(error).__name__, model=self._model))
        return True


def _is_behind(said: Explanation, previous: Request) -> bool:
    """Tell whether ``previous`` is gone on with as far as was to be expected: not what was retrieved for a question."""
    at = None if said.divergence is None else said.divergence.at
    if at is None or at.section != "messages":
        return False
    asked = question(previous)
    return asked is not None and at.index >= asked and retrieved_at(previous, asked) is not None
