"""`CachedTokensEventHandler`: what every call read from and wrote to the provider's cache, and what it cost."""

from __future__ import annotations

import sys
import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import msgspec
from llama_index.core.base.llms.types import ChatResponse
from llama_index.core.instrumentation.event_handlers import BaseEventHandler
from llama_index.core.instrumentation.events import BaseEvent
from llama_index.core.instrumentation.events.exception import ExceptionEvent
from llama_index.core.instrumentation.events.llm import (
    LLMChatEndEvent,
    LLMChatInProgressEvent,
    LLMChatStartEvent,
    LLMCompletionEndEvent,
    LLMCompletionInProgressEvent,
    LLMCompletionStartEvent,
)
from llama_index.core.instrumentation.events.span import SpanDropEvent  # type: ignore[attr-defined] # documented
from msgspec.structs import replace
from pydantic import PrivateAttr

from prefixcache_integrations.call_log import CallLog
from prefixcache_integrations.canonical import JsonObject, Usage
from prefixcache_integrations.canonical.json import as_text
from prefixcache_integrations.canonical.usage import written_for
from prefixcache_integrations.events import Labels, Observer, session_of
from prefixcache_integrations.insight.accounting import Totals
from prefixcache_integrations.insight.recording import RecordedCall
from prefixcache_integrations.llama_index.events import PrefixCacheEvent, StructuredCallEvent, dispatch
from prefixcache_integrations.llama_index.usage import AnyResponse, fields_of, lifetimes_of, usage_of
from prefixcache_integrations.metered_call import MeteredCall
from prefixcache_integrations.metering import Meter, today
from prefixcache_integrations.on_the_wire import listen
from prefixcache_integrations.prices import PriceBook
from prefixcache_integrations.profiles import Provider

_PROVIDERS: Mapping[str, Provider] = {
    "Anthropic_LLM": "anthropic",
    "openai_llm": "openai",
    "openai_responses_llm": "openai",
    "azure_openai_llm": "azure",
    "azure_openai_responses_llm": "azure",
}
# Streams that were dropped without a word never end.
_MOST_OPEN_CALLS = 10_000

# How many answers are remembered to tell that another call passes one on.
_REMEMBERED = 64
# An LLM around another, whose calls are those of the other.
_WRAPPERS = ("structured_llm",)

_latest: ContextVar[str | None] = ContextVar("prefixcache_latest_call", default=None)


@dataclass
class _Open:
    """A call under way, ``raw`` being what its latest piece came from; ``outer`` once it passes on another's answer.

    ``lifetimes`` are those that its cache points ask for.
    """

    call: MeteredCall
    before: str | None = None
    raw: object = None
    outer: bool = False
    lifetimes: frozenset[str] = frozenset()


class CachedTokensEventHandler(BaseEventHandler):
    """An event handler that records the cached tokens and the cost of every model call, streamed or not.

    Put it on the root dispatcher: ``get_dispatcher().add_event_handler(handler)``. A call inside a call
    (`Anthropic.complete` calls `chat`) is counted once; an answer out of the response cache of `enable` is a hit,
    with no tokens; a stream that its consumer leaves is counted with unknown usage. Structured outputs that an
    integration gets past its own chat methods (Claude, OpenAI Responses) are seen where `enable` was called on the
    LLM, and their tokens where it lays out the client; so is the name of an Azure deployment, for its own price, and
    the tier and place of a Claude stream, which is priced as standard otherwise. Safe to share between threads.

    Calls are labelled with ``app``, with ``namespace``, and with the session that LlamaIndex's tags name
    (``with instrument_tags({"session_id": …})``): ``session_id``, ``thread_id`` or ``conversation_id``.

    Args:
        prices: What calls cost; by default the prices at hand.
        observers: Told `UsageRecorded`, `AnswerTimed`, `CallFailed` and `PrefixBroken`, beside LlamaIndex's dispatcher.
        keep: Bounds `calls`, the oldest go first; `totals` cover all.
        today: Which day's prices are in force (UTC).
        record: A file to which a line of JSON is added per call: sizes, digests, tokens, breakpoints, cost, times, and
            why the call missed.
        record_content: Also write prompts and answers into it.
        diagnose: Compare each request with the one before it in its conversation, and tell `PrefixBroken`. Requests are
            seen where they are sent: where `enable` lays out the client, at any level; recorded prompts are too.
        app: The name that calls are labelled with.
        namespace: The tenant that calls are labelled with.
    """

    _meter: Meter = PrivateAttr()
    _labels: Labels = PrivateAttr()
    _lock: Any = PrivateAttr(default_factory=threading.Lock)
    _open: OrderedDict[str, _Open] = PrivateAttr(default_factory=OrderedDict)
    _answered: deque[object] = PrivateAttr(default_factory=lambda: deque(maxlen=_REMEMBERED))
    _log: CallLog = PrivateAttr()

    def __init__(
        self,
        *,
        prices: PriceBook | None = None,
        observers: Sequence[Observer] = (),
        keep: int = 10_000,
        today: Callable[[], date] = today,
        record: str | Path | None = None,
        record_content: bool = False,
        diagnose: bool = False,
        app: str | None = None,
        namespace: str | None = None,
    ) -> None:
        super().__init__()
        self._meter = Meter(
            observers=(*observers, dispatch),
            prices=prices,
            day=today,
            record=record,
            record_content=record_content,
            diagnose=diagnose,
        )
        self._labels = Labels(app=app, namespace=namespace)
        self._log = CallLog(keep)

    @classmethod
    def class_name(cls) -> str:
        """Return the name LlamaIndex knows this class by."""
        return "CachedTokensEventHandler"

    @property
    def calls(self) -> list[RecordedCall]:
        """The latest calls, oldest first."""
        return self._log.calls

    @property
    def totals(self) -> Totals:
        """The sum over all calls since this handler was made."""
        return self._log.totals

    def report(self) -> str:
        """Return a plain-text table with a row per call, and the totals under it."""
        return self._log.report()

    def handle(self, event: BaseEvent, **kwargs: Any) -> None:  # noqa: ANN401, ARG002 - LlamaIndex's signature
        """Take note of an event; those of other things are passed over."""
        span = event.span_id or ""
        match event:
            case LLMChatStartEvent() | LLMCompletionStartEvent():
                asked = lifetimes_of(getattr(event, "messages", ()))
                self._begin(span, event.model_dict, event.tags, asked)
            case LLMChatInProgressEvent() | LLMCompletionInProgressEvent():
                self._progress(span, event.response.raw)
            case LLMChatEndEvent() | LLMCompletionEndEvent():
                self._end(span, event.response)
            case ExceptionEvent():
                self._broken_off(span, event.exception)
            case SpanDropEvent():
                self._broken_off(span, sys.exception() or RuntimeError())  # it is told while the error is handled
            case StructuredCallEvent(stage="began"):
                self._begin(event.call, event.model_dict, event.tags)
            case StructuredCallEvent(stage="ended"):
                self._answered_by(event.call, msgspec.convert(event.usage, Usage), event.model)
            case StructuredCallEvent(stage="failed"):
                self._broken_off(event.call, event.error)
            case PrefixCacheEvent(fact="CacheHit" | "CallJoined"):
                model = as_text(event.details.get("model"))
                self._log.add(self._meter.begin(model, labels=self._labelled(event.tags)).served("response_cache"))

    def _begin(
        self,
        span: str,
        model: Mapping[str, Any],
        tags: Mapping[str, Any],
        lifetimes: frozenset[str] = frozenset(),
    ) -> None:
        provider = _PROVIDERS.get(str(model.get("class_name")))
        name, labels = as_text(model.get("model_name")), self._labelled(tags)
        call = self._meter.begin(name, provider, labels=labels, known_as=span or None)
        if provider == "azure":
            call.asked = None  # the deployment, which LlamaIndex tells nobody: the request names it
        if self._meter.reads_requests or provider == "azure":
            listen(id(self), call)
        left = None
        with self._lock:
            outer = model.get("class_name") in _WRAPPERS
            self._open[span] = _Open(call, before=_latest.get(), outer=outer, lifetimes=lifetimes)
            if len(self._open) > _MOST_OPEN_CALLS:
                left = self._open.popitem(last=False)[1]
        _latest.set(span)
        if left is not None and left.outer:
            left.call.passed_on()
        elif left is not None:
            self._log.add(left.call.abandoned())

    def _progress(self, span: str, raw: object) -> None:
        with self._lock:
            found = self._open.get(span)
            if found is None:
                return
            if raw is not None and not found.call.answering:
                found.outer |= any(raw is other.raw for other in self._open.values() if other is not found)
            found.raw = raw
        found.call.first_piece()

    def _end(self, span: str, response: AnyResponse | None) -> None:
        raw = None if response is None else response.raw
        with self._lock:
            passed_on = raw is not None and any(raw is other for other in self._answered)
            self._answered.append(raw)
            found = self._open.get(span)
        if passed_on:
            call = self._close(span)
            if call is not None:
                call.passed_on()
        elif response is None:
            self._answered_by(span, Usage(), None)
        else:
            usage = written_for(usage_of(response), found.lifetimes if found else ())
            self._answered_by(span, usage, _model_of(response), response)

    def _answered_by(self, span: str, usage: Usage, model: str | None, response: AnyResponse | None = None) -> None:
        call = self._close(span)
        if call is None:
            return
        fields = None if response is None else _fields_of(response)
        answer = _content_of(response) if self._meter.record_content else None
        self._log.add(call.answered(usage, model=model, answer=answer, fields=fields))

    def _broken_off(self, span: str, error: BaseException) -> None:
        with self._lock:
            found = self._open.get(span)
            around = self._open.get(found.before or "") if found is not None else None
        call = self._close(span)
        if call is None:
            return
        self._log.add(call.broken_off(error))
        if around is not None and not around.call.answering:
            around.outer = True  # it ends with this one

    def _close(self, span: str) -> MeteredCall | None:
        with self._lock:
            found = self._open.pop(span, None)
        if found is None:
            return None
        if found.outer:
            found.call.passed_on()
            return None
        return found.call

    def _labelled(self, tags: Mapping[str, Any]) -> Labels:
        session = session_of(tags)
        return self._labels if session is None else replace(self._labels, session=session)


def _model_of(response: AnyResponse) -> str | None:
    """Return the model that answered, as the provider names it."""
    return as_text(fields_of(response.raw).get("model")) or as_text(_fields_of(response).get("model"))


def _fields_of(response: AnyResponse) -> JsonObject:
    """Return the fields of the provider's own response, as far as LlamaIndex passes them on."""
    raw = fields_of(response.raw)
    return fields_of(raw.get("response")) or raw


def _content_of(response: AnyResponse | None) -> object:
    if response is None:
        return None
    return response.message.model_dump(mode="json") if isinstance(response, ChatResponse) else response.text
