"""`CachedTokensHandler`: what every call read from, wrote to and missed in the provider's cache, and what it cost."""

from __future__ import annotations

import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.outputs import ChatGeneration, LLMResult
from msgspec import Struct
from typing_extensions import override

from prefixcache_integrations.canonical import Usage
from prefixcache_integrations.canonical.json import as_object, as_text
from prefixcache_integrations.events import Observer, UsageRecorded, tell
from prefixcache_integrations.insight.accounting import Totals
from prefixcache_integrations.langchain.report import CallRecord, render
from prefixcache_integrations.langchain.usage import NOTHING, served_by, usage_of
from prefixcache_integrations.prices import PriceBook
from prefixcache_integrations.profiles import CacheProfile, Provider, resolve

_PROVIDERS: Mapping[object, Provider] = {"anthropic": "anthropic", "openai": "openai", "azure": "azure"}
# Runs that were cancelled never end: LangChain tells neither their end nor an error.
_MOST_OPEN_RUNS = 10_000


def _today() -> date:
    return datetime.now(UTC).date()


class _Run(Struct, frozen=True):
    """What is known of a call before its answer: the model asked for, and who sells it."""

    model: str | None = None
    provider: Provider | None = None


class CachedTokensHandler(BaseCallbackHandler):
    """A callback that records the cached tokens and the cost of every model call, streamed or not, sync or async.

    Give it to a model, a chain or an agent as ``config={"callbacks": [handler]}``. ``keep`` bounds `calls`,
    the oldest go first; `totals` cover all. ``prices`` are those in force on the day of the call, ``today``
    says which day that is (UTC). Observers get a `UsageRecorded` for each call a provider answered; what came
    out of a response cache is recorded as a hit, with no tokens. Safe to share between threads.
    """

    ignore_chain = True
    ignore_agent = True
    ignore_retriever = True
    ignore_retry = True
    ignore_custom_event = True

    def __init__(
        self,
        *,
        prices: PriceBook | None = None,
        observers: Sequence[Observer] = (),
        keep: int = 10_000,
        today: Callable[[], date] = _today,
    ) -> None:
        self._prices = PriceBook() if prices is None else prices
        self._observers = tuple(observers)
        self._today = today
        self._lock = threading.Lock()
        self._runs: OrderedDict[UUID, _Run] = OrderedDict()
        self._calls: deque[CallRecord] = deque(maxlen=keep)
        self._totals = Totals()

    @property
    def calls(self) -> list[CallRecord]:
        """The latest calls, oldest first."""
        with self._lock:
            return list(self._calls)

    @property
    def totals(self) -> Totals:
        """The sum over all calls since this handler was made."""
        with self._lock:
            return self._totals

    def report(self) -> str:
        """Return a plain-text table with a row per call, and the totals under it."""
        with self._lock:
            calls, totals = tuple(self._calls), self._totals
        return render(calls, totals)

    @override
    def on_chat_model_start(
        self,
        serialized: dict[str, Any],
        messages: list[list[BaseMessage]],
        *,
        run_id: UUID,
        metadata: dict[str, Any] | None = None,
        **kwargs: object,
    ) -> None:
        """Remember which model was asked; its answer does not always say."""
        self._open(run_id, metadata or {}, kwargs)

    @override
    def on_llm_start(
        self,
        serialized: dict[str, Any],
        prompts: list[str],
        *,
        run_id: UUID,
        metadata: dict[str, Any] | None = None,
        **kwargs: object,
    ) -> None:
        """Remember which completion model was asked."""
        self._open(run_id, metadata or {}, kwargs)

    @override
    def on_llm_error(self, error: BaseException, *, run_id: UUID, **kwargs: object) -> None:
        """Forget a call that failed; what it consumed is not told."""
        with self._lock:
            self._runs.pop(run_id, None)

    @override
    def on_llm_end(self, response: LLMResult, *, run_id: UUID, **kwargs: object) -> None:
        """Record the call. All its generations share one usage, which each of them carries."""
        with self._lock:
            run = self._runs.pop(run_id, _Run())
        record = self._record(_message_of(response), run)
        hit = record.served != "provider"
        totals = Totals.of_hit() if hit else Totals.of_call(record.usage, record.cost, record.uncached_cost)
        with self._lock:
            self._calls.append(record)
            self._totals += totals
        if not hit:
            tell(self._observers, _recorded(record))

    def _open(self, run_id: UUID, metadata: Mapping[str, object], details: Mapping[str, object]) -> None:
        parameters = as_object(details.get("invocation_params")) or {}
        names = (metadata.get("ls_model_name"), parameters.get("model"), parameters.get("model_name"))
        run = _Run(next(filter(None, map(as_text, names)), None), _PROVIDERS.get(metadata.get("ls_provider")))
        with self._lock:
            self._runs[run_id] = run
            if len(self._runs) > _MOST_OPEN_RUNS:
                self._runs.popitem(last=False)

    def _record(self, message: AIMessage, run: _Run) -> CallRecord:
        metadata = message.response_metadata
        model = as_text(metadata.get("model_name")) or as_text(metadata.get("model")) or run.model
        served = served_by(message)
        if served != "provider":
            return CallRecord(model=model, served=served, usage=NOTHING, cost=Decimal(0))
        usage = usage_of(message)
        name, provider = model or "", run.provider or _PROVIDERS.get(metadata.get("model_provider"))
        today = self._today()
        return CallRecord(
            model=model,
            usage=usage,
            cost=self._prices.cost(usage, name, provider=provider, on=today),
            uncached_cost=self._prices.uncached_cost(usage, name, provider=provider, on=today),
            note=_note(usage, resolve(name, provider)),
        )


def _message_of(response: LLMResult) -> AIMessage:
    generation = next((each for row in response.generations for each in row), None)
    if isinstance(generation, ChatGeneration) and isinstance(generation.message, AIMessage):
        return generation.message
    # Completion models have no messages; what they report is beside the texts.
    return AIMessage(content="", response_metadata={"model_provider": "openai", **(response.llm_output or {})})


def _recorded(record: CallRecord) -> UsageRecorded:
    return UsageRecorded(model=record.model, usage=record.usage, cost=record.cost, uncached_cost=record.uncached_cost)


def _note(usage: Usage, profile: CacheProfile) -> str | None:
    if usage.input_tokens is None:
        return "the provider did not say what this call consumed"
    short = profile.minimum_tokens - usage.input_tokens
    if profile.regime == "none" or not profile.known or usage.cache_read_tokens or usage.cache_write_tokens:
        return None
    return f"{short:,} tokens short of this model's minimum of {profile.minimum_tokens:,}" if short > 0 else None
