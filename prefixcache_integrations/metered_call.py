"""One call under way: what is told of it becomes events, a diagnosis and a line of the recording."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Hashable, Iterable, Iterator, Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Literal

from prefixcache_integrations import dialects
from prefixcache_integrations.canonical import Finding, JsonObject, PromptPlan, Request, Usage
from prefixcache_integrations.canonical.json import as_text
from prefixcache_integrations.claims import claims_of, release
from prefixcache_integrations.dialects import Dialect
from prefixcache_integrations.errors import ConfigurationError, MalformedRequest
from prefixcache_integrations.events import AnswerTimed, CallFailed, Labels, PrefixBroken, UsageRecorded, tell
from prefixcache_integrations.insight.conversations import Turn
from prefixcache_integrations.insight.prompt_runs import Run
from prefixcache_integrations.insight.recording import Break, Outcome, RecordedCall
from prefixcache_integrations.insight.verdict import Verdict, read_verdict
from prefixcache_integrations.profiles import CacheProfile, Provider, resolve

if TYPE_CHECKING:
    from prefixcache_integrations.metering import Meter

# What HTTP libraries call it where nothing was sent yet: there was no connection.
_NEVER_SENT = frozenset({"ConnectError", "ConnectTimeout", "PoolTimeout"})

_NOTHING = Usage(input_tokens=0, cache_read_tokens=0, cache_write_tokens=0, output_tokens=0)


class MeteredCall:
    """One call under way. It ends once: whatever is told after that is passed over. For one caller at a time.

    ``asked`` is the model or deployment that the request names, ``model`` the one that answers, once that is known.
    ``observers`` are told why it misses, if anybody is to find out.
    """

    def __init__(
        self, meter: Meter, model: str | None, provider: Provider | None, labels: Labels, known_as: Hashable
    ) -> None:
        self.asked = model
        self.model = model
        self.provider = provider
        self.labels = labels
        self.dialect: Dialect | None = None
        self._meter = meter
        self._at = meter.clock()
        self._started = meter.timer()
        self._first: float | None = None
        self._turn: Turn | None = None
        self._request: Request | None = None
        self._extended: Turn | None = None
        self._verdict: Verdict | None = None
        self._findings: tuple[Finding, ...] = ()
        self._known_as = known_as
        self._claims = claims_of(known_as)
        self._billed_to = self._claims.claim("bill", meter.observers)
        self.observers = self._claims.claim("break", meter.observers) if meter.reads_requests else ()
        self.ended = False

    def sent(self, request: Request, plan: PromptPlan | None = None) -> None:
        """Say what is on its way to the provider; of several, the last counts."""
        if self.ended:
            return
        self.asked = self.asked or request.model or self.model
        if not self._meter.reads_requests:
            return
        self.model, self.dialect = request.model or self.model, dialects.by_name(request.dialect)
        self._findings = plan.findings if plan else ()
        self._request = request
        self._turn = self._meter.watch.place(
            request, self._started, self.labels.session, instead_of=self._turn, plan=plan
        )
        self._extended = self._turn.previous if self._turn and self._turn.extends else None

    @property
    def is_sent(self) -> bool:
        """Whether anybody has said what is on its way."""
        return self._request is not None

    def first_piece(self) -> None:
        """Say that the first piece of a stream has come."""
        if self._first is None:
            self._first = self._meter.timer()
            self._begun()

    @property
    def answering(self) -> bool:
        """Whether a piece of the answer has come."""
        return self._first is not None

    def answered(
        self, usage: Usage, *, model: str | None = None, answer: object = None, fields: JsonObject | None = None
    ) -> RecordedCall | None:
        """Say what the call consumed, as far as the provider told.

        ``fields`` are those of the response: its id, and the provider's own diagnosis where the request asked for it.
        """
        self.model = model or self.model
        self._begun()
        if self._turn is not None and fields is not None:
            self._turn.answer_id = as_text(fields.get("id"))
            self._verdict = read_verdict(self._turn.request, fields)
        return self._billed("provider", usage, answer)

    def received(self, body: JsonObject) -> RecordedCall | None:
        """Say what the provider answered, by the body of a response. Raises `MalformedRequest` for what is none."""
        response = self._dialect().decode_response(body)
        return self.answered(response.usage, model=response.model or None, answer=body, fields=body)

    def events(self, events: Iterable[JsonObject]) -> Iterator[JsonObject]:
        """Pass on the events of a stream, and end the call with them; closed early, its usage is unknown."""
        seen: list[JsonObject] = []
        try:
            for event in events:
                self.first_piece()
                seen.append(event)
                yield event
        finally:
            self._folded(seen)

    async def aevents(self, events: AsyncIterable[JsonObject]) -> AsyncIterator[JsonObject]:
        """Do what `events` does, awaiting."""
        seen: list[JsonObject] = []
        try:
            async for event in events:
                self.first_piece()
                seen.append(event)
                yield event
        finally:
            self._folded(seen)

    def abandoned(self, answer: object = None) -> RecordedCall | None:
        """Say that nobody waits for the answer any more: it may be billed, and nobody will say for what.

        Where nothing of it had come, nobody knows either whether it left anything for the next one to read.
        """
        return self._billed("abandoned", Usage(), answer)

    def broken_off(self, error: BaseException) -> RecordedCall | None:
        """Say that the call ended in ``error``: `abandoned` if a provider may have gone on with it, else `failed`.

        It may where it was answering, where the caller was interrupted, and where the caller's patience ran out.
        """
        if self.answering or not isinstance(error, Exception) or _waited_in_vain(error):
            return self.abandoned()
        return self.failed(error)

    def served(
        self, cache: Literal["response_cache", "other_cache"], *, model: str | None = None
    ) -> RecordedCall | None:
        """Say that the answer came out of a cache, and there was no call."""
        if self._end():
            return None
        self.model = model or self.model
        self._forget()
        seconds = self._meter.timer() - self._started
        tell(self._billed_to, AnswerTimed(seconds=seconds, model=self.model, labels=self.labels))
        return self._record(cache, usage=_NOTHING, cost=Decimal(0), seconds=seconds)

    def passed_on(self) -> None:
        """Say that it was no call: it passed on the answer of another, which is followed by itself."""
        self._end()

    def failed(self, error: BaseException) -> RecordedCall | None:
        """Say that the call was refused, or never got through: it is not billed. Only the error's name is kept."""
        if self._end():
            return None
        self._forget()
        name, seconds = type(error).__name__, self._meter.timer() - self._started
        event = CallFailed(error=name, model=self.model, provider=self.provider, seconds=seconds, labels=self.labels)
        tell(self._billed_to, event)
        return self._record("failed", error=name, seconds=seconds)

    def _billed(self, outcome: Outcome, usage: Usage, answer: object) -> RecordedCall | None:
        if self._end():
            return None
        prices, seconds = self._meter.prices, self._meter.timer() - self._started
        cost, uncached_cost = prices.costs(
            usage, self.model or "", asked=self.asked, provider=self.provider, on=self._meter.day()
        )
        if outcome == "abandoned" and not self.answering:
            self._forget()
            broken = None
        else:
            broken = self._broken(usage)
        event = UsageRecorded(
            model=self.model,
            asked=self.asked or self.model,
            usage=usage,
            cost=cost,
            uncached_cost=uncached_cost,
            provider=self.provider,
            seconds=seconds,
            first_token_seconds=None if self._first is None else self._first - self._started,
            labels=self.labels,
            broken=broken,
        )
        tell(self._billed_to, event)
        if broken is not None:
            tell(self.observers, broken)
        return self._record(
            outcome,
            usage=usage,
            cost=cost,
            uncached_cost=uncached_cost,
            seconds=seconds,
            broken=None if broken is None else Break.of(broken),
            answer=answer if self._meter.record_content else None,
        )

    def _broken(self, usage: Usage) -> PrefixBroken | None:
        if self._turn is None:
            return None
        return self._meter.watch.broken(self._turn, self._profile(), usage, self.labels, self._verdict)

    def _record(self, outcome: Outcome, **facts: Any) -> RecordedCall:  # noqa: ANN401 - the fields of the line
        call = RecordedCall(
            at=self._at,
            conversation=self._turn.conversation if self._turn else self.labels.session or "",
            outcome=outcome,
            model=self.model,
            provider=self.provider,
            dialect=self.dialect.name if self.dialect else None,
            labels=self.labels,
            first_token_seconds=None if self._first is None else self._first - self._started,
            prompt=self._runs(self._turn),
            exact=self._meter.reads_requests and self._meter.tokenizer.exact,
            findings=self._findings,
            request=self._dialect().encode_request(self._request)
            if self._request is not None and self._meter.record_content
            else None,
            **facts,
        )
        self._meter.write(call)
        return call

    def _runs(self, turn: Turn | None) -> tuple[Run, ...]:
        if turn is None or not self._meter.records:
            return ()
        return self._meter.watch.runs(turn, self._profile(), self._extended.rows if self._extended else None)

    def _profile(self) -> CacheProfile:
        return resolve(self.model or "", self.provider)

    def _dialect(self) -> Dialect:
        if self.dialect is None:
            raise ConfigurationError("the call was begun without a dialect: use Meter.send")
        return self.dialect

    def _folded(self, events: Sequence[JsonObject]) -> None:
        try:
            response = self._dialect().decode_stream(events)
        except MalformedRequest:
            response = None
        if response is None:
            self.abandoned()
        else:
            body = self._dialect().encode_response(response)
            self.answered(response.usage, model=response.model or None, answer=body, fields=body)

    def _begun(self) -> None:
        if self._turn is not None:
            self._turn.begun = True

    def _forget(self) -> None:
        if self._turn is not None:
            self._meter.watch.withdraw(self._turn)

    def _end(self) -> bool:
        """Return whether the call had ended before; it has now."""
        ended, self.ended = self.ended, True
        release(self._known_as, self._claims)
        return ended


def _waited_in_vain(error: BaseException) -> bool:
    """Say whether the caller's time ran out: by the names that the SDKs and HTTP libraries give to it."""
    names: set[str] = set()
    cause: BaseException | None = error
    while cause is not None:
        names |= {kind.__name__ for kind in type(cause).__mro__}
        cause = cause.__cause__
    return names.isdisjoint(_NEVER_SENT) and any(name.endswith(("Timeout", "TimeoutError")) for name in names)
