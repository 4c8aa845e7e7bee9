"""`CachedTokensHandler`: what every call read from, wrote to and missed in the provider's cache, and what it cost."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple
from uuid import UUID

from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.outputs import ChatGeneration, LLMResult
from msgspec.structs import replace
from typing_extensions import override

from prefixcache_integrations.call_log import CallLog
from prefixcache_integrations.canonical import JsonObject, Request
from prefixcache_integrations.canonical.json import as_object, as_text
from prefixcache_integrations.events import Labels, Observer, session_of
from prefixcache_integrations.insight.accounting import Totals
from prefixcache_integrations.insight.call_table import CallRecord, call_record
from prefixcache_integrations.langchain.asked_terms import AskedTerms, asked_terms, completed
from prefixcache_integrations.langchain.open_runs import OpenRuns
from prefixcache_integrations.langchain.stand_in import request_of
from prefixcache_integrations.langchain.traces import LAYOUT
from prefixcache_integrations.langchain.usage import served_by, usage_of
from prefixcache_integrations.metering import Meter, MeteredCall, today
from prefixcache_integrations.on_the_wire import listen
from prefixcache_integrations.prices import PriceBook
from prefixcache_integrations.profiles import Provider

_PROVIDERS: Mapping[object, Provider] = {"anthropic": "anthropic", "openai": "openai", "azure": "azure"}


class _Run(NamedTuple):
    """A run under way; ``stand_in`` finds out what is sent, where a layout has not told of it until the run ends."""

    call: MeteredCall
    terms: AskedTerms
    stand_in: Callable[[], Request | None] | None = None


class CachedTokensHandler(BaseCallbackHandler):
    """A callback that records the cached tokens and the cost of every model call, streamed or not, sync or async.

    Give it to a model, a chain or an agent as ``config={"callbacks": [handler]}``. ``keep`` bounds `calls`,
    the oldest go first; `totals` cover all. ``prices`` are those in force on the day of the call, ``today``
    says which day that is (UTC). Observers get a `UsageRecorded` for each call a provider answered, with nothing known
    where the caller stopped listening or waiting; `AnswerTimed` for what came out of a response cache, which is
    recorded as a hit, with no tokens; `CallFailed` for an error. LangChain tells nobody of a cancelled ``ainvoke``: it
    is counted, with nothing known, once nobody holds its run any longer. Safe to share between threads.

    Claude's streams are priced by what the request asks for where LangChain keeps the provider's own words back
    (`with_prompt_layout` passes them on): at an unknown price where that leaves more than one open, and as standard
    where it asks for no tier, speed or place, whatever the workspace's default is.

    ``record`` names a file to which a line of JSON is added per call: sizes, digests, tokens, breakpoints, cost,
    times, and why the call missed; prompts and answers only with ``record_content``. ``diagnose`` also compares each
    request with the one before it, and tells observers `PrefixBroken`. Both read each request on the calling thread.
    Calls are labelled with ``app``, with ``namespace``, with the run's tags, and with the session that its metadata
    names: ``session_id``, ``thread_id`` or ``conversation_id``, as LangSmith does.
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
        today: Callable[[], date] = today,
        record: str | Path | None = None,
        record_content: bool = False,
        diagnose: bool = False,
        app: str | None = None,
        namespace: str | None = None,
    ) -> None:
        self._meter = Meter(
            observers=observers,
            prices=prices,
            day=today,
            record=record,
            record_content=record_content,
            diagnose=diagnose,
        )
        # What is sent is told along the call's own context, which a handler in another thread would not be in.
        self.run_inline = self._meter.reads_requests
        self._labels = Labels(app=app, namespace=namespace)
        self._log = log = CallLog(keep)
        self._runs: OpenRuns[_Run] = OpenRuns(lambda run: log.add(run.call.abandoned()))

    @property
    def calls(self) -> list[CallRecord]:
        """The latest calls, oldest first."""
        self._runs.catch_up()
        return [call_record(call) for call in self._log.calls]

    @property
    def totals(self) -> Totals:
        """The sum over all calls since this handler was made."""
        self._runs.catch_up()
        return self._log.totals

    def report(self) -> str:
        """Return a plain-text table with a row per call, and the totals under it."""
        self._runs.catch_up()
        return self._log.report()

    @property
    def unfinished(self) -> int:
        """How many calls have begun and not ended."""
        self._runs.catch_up()
        return len(self._runs)

    @override
    def on_chat_model_start(
        self,
        serialized: dict[str, Any],
        messages: list[list[BaseMessage]],
        *,
        run_id: UUID,
        tags: list[str] | None = None,
        metadata: dict[str, Any] | None = None,
        **kwargs: object,
    ) -> None:
        """Remember which model was asked for what; its answer does not always say."""
        parameters = as_object(kwargs.get("invocation_params")) or {}
        settings = as_object(serialized.get("kwargs")) or {}
        terms = asked_terms(settings, parameters, messages[0]) if _is_claude(metadata) and messages else AskedTerms()
        stand_in = None
        if self._meter.reads_requests and messages:
            stand_in = partial(request_of, serialized, messages[0], parameters, self._meter.reader)
        is_laid_out = LAYOUT in (metadata or {})
        later = stand_in if is_laid_out else None
        call = self._open(run_id, metadata or {}, tags or (), parameters, terms, stand_in=later)
        if stand_in is None:
            return
        listen(self, call)
        if not is_laid_out:
            _tell_sent(call, stand_in)

    @override
    def on_llm_start(
        self,
        serialized: dict[str, Any],
        prompts: list[str],
        *,
        run_id: UUID,
        tags: list[str] | None = None,
        metadata: dict[str, Any] | None = None,
        **kwargs: object,
    ) -> None:
        """Remember which completion model was asked."""
        parameters = as_object(kwargs.get("invocation_params")) or {}
        self._open(run_id, metadata or {}, tags or (), parameters, AskedTerms())

    @override
    def on_llm_new_token(self, token: Any, *, run_id: UUID, **kwargs: object) -> None:
        """Note when the first piece of a stream came."""
        self._first_piece(run_id)

    @override
    def on_stream_event(self, event: Any, *, run_id: UUID, **kwargs: object) -> None:
        """Note when the first typed event of a stream came."""
        self._first_piece(run_id)

    @override
    def on_llm_error(self, error: BaseException, *, run_id: UUID, **kwargs: object) -> None:
        """End a call that failed; one that was cut off, or took too long, may be billed, and nobody knows for what."""
        run = self._runs.end(run_id)
        if run is None:
            return
        ended = run.call.broken_off(error)
        if ended is not None and ended.outcome != "failed":
            self._log.add(ended)

    @override
    def on_llm_end(self, response: LLMResult, *, run_id: UUID, **kwargs: object) -> None:
        """Record the call. All its generations share one usage, which each of them carries."""
        message = _message_of(response)
        run = self._runs.end(run_id) or _Run(self._meter.begin(), AskedTerms())
        call = run.call
        metadata = message.response_metadata
        model = as_text(metadata.get("model_name")) or as_text(metadata.get("model")) or call.model
        call.provider = call.provider or _PROVIDERS.get(metadata.get("model_provider"))
        served = served_by(message)
        # Where a cache answered no body was built: only a recording wants to know of it.
        if run.stand_in is not None and not call.is_sent and (served == "provider" or self._meter.records):
            _tell_sent(call, run.stand_in)
        if served != "provider":
            self._log.add(call.served(served, model=model))
        else:
            answer = message.model_dump(mode="json") if self._meter.record_content else None
            usage = completed(usage_of(message), message, run.terms)
            self._log.add(call.answered(usage, model=model, answer=answer, fields=metadata))

    def _open(
        self,
        run_id: UUID,
        metadata: Mapping[str, object],
        tags: Sequence[str],
        parameters: JsonObject,
        terms: AskedTerms,
        *,
        stand_in: Callable[[], Request | None] | None = None,
    ) -> MeteredCall:
        names = (metadata.get("ls_model_name"), parameters.get("model"), parameters.get("model_name"))
        self._runs.end_abandoned(run_id)
        call = self._meter.begin(
            next(filter(None, map(as_text, names)), None),
            _PROVIDERS.get(metadata.get("ls_provider")),
            labels=replace(
                self._labels,
                session=session_of(metadata),
                tags=tuple(tag for tag in tags if not tag.startswith("seq:step:")),
            ),
            known_as=run_id.int,
        )
        call.asked = as_text(parameters.get("azure_deployment")) or call.asked
        self._runs.open(run_id, _Run(call, terms, stand_in))
        return call

    def _first_piece(self, run_id: UUID) -> None:
        run = self._runs.get(run_id)
        if run is not None:
            run.call.first_piece()


def _tell_sent(call: MeteredCall, stand_in: Callable[[], Request | None]) -> None:
    request = stand_in()
    if request is not None:
        call.sent(request)


def _is_claude(metadata: Mapping[str, object] | None) -> bool:
    return (metadata or {}).get("ls_provider") == "anthropic"


def _message_of(response: LLMResult) -> AIMessage:
    generation = next((each for row in response.generations for each in row), None)
    if isinstance(generation, ChatGeneration) and isinstance(generation.message, AIMessage):
        return generation.message
    # Completion models have no messages; what they report is beside the texts.
    return AIMessage(content="", response_metadata={"model_provider": "openai", **(response.llm_output or {})})
