"""Why a request misses the provider's prompt cache: said before it is sent, or after with what was billed."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from decimal import Decimal
from math import ceil
from typing import NamedTuple

from msgspec.structs import replace

from prefixcache_integrations.canonical import Request, Tokenizer, Usage
from prefixcache_integrations.canonical.json import as_text
from prefixcache_integrations.canonical.usage import UNTOLD
from prefixcache_integrations.events import BreakReason
from prefixcache_integrations.insight.diagnosis_extension import Reading, extended, read_in_full
from prefixcache_integrations.insight.diagnosis_reach import Pair, Reach, Sent, Timing, measure
from prefixcache_integrations.insight.diagnosis_thinking import read_divergence
from prefixcache_integrations.insight.diagnosis_verdict import disagreement
from prefixcache_integrations.insight.diagnosis_words import Divergence, Excerpt, Explanation, remedy
from prefixcache_integrations.insight.verdict import Verdict
from prefixcache_integrations.profiles import CacheProfile, Price, resolve
from prefixcache_integrations.prompt.segment_memory import SegmentMemory

__all__ = ["Divergence", "Excerpt", "Explainer", "Explanation", "Sent", "explain", "remedy"]

_SLACK = Decimal("0.05")
"""By which share a bill may fall short of a prediction in another count of tokens before the provider is blamed."""

_MILLION = Decimal(1_000_000)


def explain(
    previous: Request,
    current: Request,
    *,
    profile: CacheProfile,
    tokenizer: Tokenizer,
    usage: Usage | None = None,
    elapsed: float | None = None,
    previous_begun: bool = True,
    earlier: Sequence[Sent] | None = None,
    price: Price | None = None,
    redact: bool = True,
    verdict: Verdict | None = None,
) -> Explanation:
    """Explain one pair of requests; see `Explainer.explain`."""
    return Explainer(tokenizer).explain(
        previous,
        current,
        profile=profile,
        usage=usage,
        elapsed=elapsed,
        previous_begun=previous_begun,
        earlier=earlier,
        price=price,
        redact=redact,
        verdict=verdict,
    )


class _Given(NamedTuple):
    """What is known beside the requests; see `Explainer.explain`."""

    usage: Usage | None
    elapsed: float | None
    previous_begun: bool
    earlier: Sequence[Sent] | None
    beside: Sequence[Sent]
    price: Price | None
    redact: bool
    extends: bool
    weighed: bool


class Explainer:
    """Explains the requests of a process. Not thread-safe: its owner serialises calls.

    It remembers the ``size`` last requests that it saw as ``current``, so that a turn which only adds to one of them
    costs a comparison and the reading of what is new. They are known again by the identity of the object.
    """

    def __init__(self, tokenizer: Tokenizer, *, size: int = 256) -> None:
        self._memory = SegmentMemory(tokenizer)
        self._size = size
        self._readings: OrderedDict[int, Reading] = OrderedDict()

    def explain(
        self,
        previous: Request,
        current: Request,
        *,
        profile: CacheProfile,
        usage: Usage | None = None,
        elapsed: float | None = None,
        previous_begun: bool = True,
        earlier: Sequence[Sent] | None = None,
        beside: Sequence[Sent] = (),
        price: Price | None = None,
        redact: bool = True,
        verdict: Verdict | None = None,
        extends: bool = False,
        weighed: bool = False,
    ) -> Explanation:
        """Say what ``current`` reads of what ``previous`` left in the cache, and why it is not all of it.

        Args:
            previous: The request before, of the same conversation.
            current: The request to explain, before or after it is sent.
            profile: The facts about the model of ``current``.
            usage: What was billed for ``current``. Only with it can the provider be found at fault.
            elapsed: Seconds from the start of ``previous`` to that of ``current``; without it nothing is expired.
            previous_begun: Whether the response to ``previous`` had begun when ``current`` was sent.
            earlier: The requests before ``previous``, oldest first. Without them, it is taken that there was one for
                each answer in the history, marked at its end as these two are.
            beside: Requests before ``previous`` that are no part of its history, such as those with other tools.
            price: Prices in force; without them the loss has no price.
            redact: Leave the prompt's own words out; else the divergence has an excerpt.
            verdict: What the provider itself said of the two (`insight.verdict.read_verdict`).
            extends: Whether it is known already that ``current`` begins with all messages of ``previous``.
            weighed: Whether the markers of ``previous`` were chosen by what they are worth: then none is missing.

        Raises:
            MalformedRequest: Text that is no Unicode, or values that are no JSON.
        """
        given = _Given(usage, elapsed, previous_begun, earlier, beside, price, redact, extends, weighed)
        said = self._said(previous, current, profile, given)
        if verdict is None:
            return said
        return replace(said, verdict=verdict, disagreement=disagreement(verdict, said, current))

    def forget(self, request: Request) -> None:
        """Keep nothing of ``request``: no other will be compared with it."""
        self._readings.pop(id(request), None)

    def _said(self, previous: Request, current: Request, profile: CacheProfile, given: _Given) -> Explanation:
        usage, elapsed, previous_begun, earlier, beside, price, redact, extends, weighed = given
        in_time = previous_begun and (elapsed is None or elapsed < _shortest_life(profile))
        known = self._readings.get(id(previous)) if in_time else None
        reading = self._extended(known, current, profile, extends=extends)
        if known is not None and reading is not None:
            return _settled(self._untouched(known.left), usage, profile, price, reading.prompt_tokens)
        pair = Pair(
            previous=previous,
            current=current,
            previous_profile=_profile_of(previous, current, profile),
            profile=profile,
            weighed=weighed,
        )
        reach = measure(pair, self._memory, Timing(elapsed=elapsed, begun=previous_begun), earlier, beside)
        found = read_divergence(previous, current, profile, redact=redact)
        if found is None and not reach.unmarked:
            self._remember(read_in_full(previous, profile, self._memory, reach.available))
        self._extended(self._readings.get(id(previous)), current, profile, extends=extends)
        explanation = _explanation(reach, found, begun=previous_begun, exact=self._memory.tokenizer.exact)
        explanation = replace(
            explanation,
            lost_cost=_cost(explanation.lost_tokens, reach.usage, profile, price),
            likely=explanation.reason == "ttl_expired" and _may_live(previous, pair.previous_profile, elapsed),
        )
        return _settled(explanation, usage, profile, price, reach.usage.input_tokens or 0)

    def _extended(
        self, known: Reading | None, current: Request, profile: CacheProfile, *, extends: bool
    ) -> Reading | None:
        if known is None:
            return None
        longer = extended(known, current, profile, self._memory.tokenizer, known=extends)
        self._remember(longer)
        return longer

    def _remember(self, reading: Reading | None) -> None:
        """Keep a reading, and with it its request, so that no other object can take its identity."""
        if reading is None:
            return
        self._readings[id(reading.request)] = reading
        self._readings.move_to_end(id(reading.request))
        if len(self._readings) > self._size:
            self._readings.popitem(last=False)

    def _untouched(self, left: int) -> Explanation:
        return Explanation(available_tokens=left, readable_tokens=left, exact=self._memory.tokenizer.exact)


def _shortest_life(profile: CacheProfile) -> float:
    return min((lifetime.seconds for lifetime in profile.lifetimes), default=0)


def _may_live(request: Request, profile: CacheProfile, elapsed: float | None) -> bool:
    """Tell whether an entry of ``request`` may still be there, though it cannot be relied on."""
    lifetime = profile.lifetime(as_text(request.options.get("prompt_cache_retention"))) or profile.lifetime(None)
    return lifetime is not None and (elapsed or 0) < (lifetime.most_seconds or 0)


def _profile_of(previous: Request, current: Request, profile: CacheProfile) -> CacheProfile:
    if previous.model == current.model:
        return profile
    found = resolve(previous.model, profile.provider if previous.dialect == current.dialect else None)
    return found if found.known else profile


def _explanation(reach: Reach, found: Divergence | None, *, begun: bool, exact: bool) -> Explanation:
    return Explanation(
        reason=_reason(reach, found, begun=begun),
        divergence=found,
        available_tokens=reach.available,
        readable_tokens=min(reach.readable, reach.available),
        shortfall_tokens=reach.shortfall,
        exact=exact,
    )


def _reason(reach: Reach, found: Divergence | None, *, begun: bool) -> BreakReason | None:
    if reach.available == 0:
        return found.reason if found else "below_minimum" if reach.shortfall is not None else None
    if not reach.shared:
        return found.reason if found else "settings_changed"
    if reach.readable >= reach.available:
        return found.reason if found else None
    if reach.prompt_readable >= reach.available:
        return "ttl_expired" if begun else "not_yet_readable"
    return "marker_beyond_lookback" if reach.passed and not reach.unmarked else "marker_missing"


# After sending: what was billed decides.


def _settled(
    said: Explanation, usage: Usage | None, profile: CacheProfile, price: Price | None, prompt_tokens: int
) -> Explanation:
    """Put what was read in the place of what was predicted.

    A bill that counts other tokens than we do is compared by its share of the prompt, with some slack.
    """
    if usage is None or usage.cache_read_tokens is None:
        return said
    scale = Decimal(usage.input_tokens or prompt_tokens) / prompt_tokens if prompt_tokens else Decimal(1)
    available, expected = (int(tokens * scale) for tokens in (said.available_tokens, said.readable_tokens))
    slack = 0 if scale == 1 else ceil(expected * _SLACK) + profile.increment
    read = usage.cache_read_tokens
    if read + slack >= expected and (said.reason is None or read + slack >= available):
        reason, available = _kept_reason(said), read
    else:
        reason = said.reason if said.broken else "dropped_by_provider"
    told = {"available_tokens": available, "readable_tokens": min(read, available)}
    settled = replace(said, reason=reason, likely=False, **told)
    return replace(settled, lost_cost=_cost(settled.lost_tokens, usage, profile, price))


def _kept_reason(said: Explanation) -> BreakReason | None:
    """Return what there is to say where nothing was lost: a loss that was predicted did not come."""
    if said.divergence is not None:
        return said.divergence.reason
    return said.reason if said.available_tokens == 0 else None


def _cost(lost: int, usage: Usage, profile: CacheProfile, price: Price | None) -> Decimal | None:
    """Return what ``lost`` tokens cost over the price of reading them, as far as they were sent again.

    They are the first behind what was read: written at the prices of their lifetimes, the longest first, then plain.
    """
    if price is None or usage.input_tokens is None or UNTOLD in (usage.cache_write_by_ttl or ()):
        return None
    if lost == 0:
        return Decimal(0)
    read_price = Decimal(1) if price.read_multiplier is None else price.read_multiplier
    left = min(lost, usage.input_tokens - (usage.cache_read_tokens or 0))
    total = Decimal(0)
    for tokens, multiplier in (*_writes(usage, profile), (left, Decimal(1))):
        part = min(tokens, left)
        total += part * (multiplier - read_price)
        left -= part
    return total * price.input * _factor(usage.input_tokens, profile) / _MILLION


def _writes(usage: Usage, profile: CacheProfile) -> list[tuple[int, Decimal]]:
    """Return the tokens written and their price relative to input, the longest lifetime first."""
    default = profile.lifetime(None)
    split = usage.cache_write_by_ttl or ({default.name: usage.cache_write_tokens or 0} if default else {})
    rows = [(lifetime, split[lifetime.name]) for lifetime in profile.lifetimes if lifetime.name in split]
    rows.sort(key=lambda row: row[0].seconds, reverse=True)
    return [(tokens, lifetime.write_multiplier) for lifetime, tokens in rows]


def _factor(input_tokens: int, profile: CacheProfile) -> Decimal:
    reached = [tier.input_factor for tier in profile.whole_request_tiers if input_tokens > tier.above_tokens]
    return reached[-1] if reached else Decimal(1)
