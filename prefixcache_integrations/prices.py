"""What a call cost, and what it would have cost with no prompt cache, in US dollars.

Two sources, both on this machine: genai-prices where it is installed, and the dated rows of the profiles.
genai-prices leads for the present: it is refreshed more often and knows batch, flex and priority tiers. The row leads
for days before its latest price, because genai-prices does not date every change (Claude Sonnet 5.5 before
7 October 2026), and supplies what genai-prices has no figure for (writes for 12 hours, inference in the US). They are
list prices of the first-party APIs: no negotiated ones, and no regional ones that the usage does not tell.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime, time
from decimal import Decimal
from functools import lru_cache
from importlib.util import find_spec
from math import prod
from typing import TYPE_CHECKING

from msgspec import Struct
from msgspec.structs import replace

from prefixcache_integrations.canonical import Usage
from prefixcache_integrations.profiles import CacheProfile, Lifetime, Price, Provider, resolve

if TYPE_CHECKING:
    from genai_prices.types import PriceCalculation, TieredPrices

_LIST_PRICE = frozenset({None, "", "auto", "default", "standard", "global", "not_available"})
"""Tiers, speeds and regions for which the list price holds."""


class PriceBook:
    """Prices calls. Unknown models, tiers and token counts cost ``None``, never 0.

    Args:
        genai_prices: Whether to ask genai-prices too, if it is installed; else the profiles' rows alone answer.
            It is loaded at the first question (about half a second), and never goes to the network by itself.
        own: What you pay yourself, by the name of the model or deployment as calls ask for it, else as answers
            report it: negotiated and regional prices, Azure's provisioned deployments (``Price.dollars("1", "8", "0")``
            takes cached tokens off in full). It holds for every day, tier and prompt length; writes cost the model's
            multiple of it.
    """

    def __init__(self, *, genai_prices: bool = True, own: Mapping[str, Price] | None = None) -> None:
        self._genai_prices = genai_prices and find_spec("genai_prices") is not None
        self._own = dict(own or {})

    def cost(self, usage: Usage, model: str, *, provider: Provider | None = None, on: date) -> Decimal | None:
        """Return the exact price of one call on the day ``on``; ``None`` where any part of it is unknown.

        Writes whose lifetime is not told are priced at the model's default lifetime. Unknown writes count as
        none only where writes are free, unknown reads only where the model has no cache.
        """
        return self.costs(usage, model, provider=provider, on=on)[0]

    def uncached_cost(self, usage: Usage, model: str, *, provider: Provider | None = None, on: date) -> Decimal | None:
        """Return the price of the same tokens with no prompt cache at all: nothing read, nothing written."""
        return self.costs(usage, model, provider=provider, on=on)[1]

    def costs(
        self, usage: Usage, model: str, *, asked: str | None = None, provider: Provider | None = None, on: date
    ) -> tuple[Decimal | None, Decimal | None]:
        """Return `cost` and `uncached_cost`.

        ``asked`` is the name that the request went by, such as a deployment's: an own price for it goes first.
        """
        if usage.iterations:
            parts = [
                self.costs(
                    part.usage, part.model or model, asked=None if part.model else asked, provider=provider, on=on
                )
                for part in usage.iterations
            ]
            return _sum(cost for cost, _ in parts), _sum(cost for _, cost in parts)
        if usage.input_tokens is None or usage.output_tokens is None:
            return None, None
        profile = resolve(model, provider)
        call = _Call(
            model=model, on=on, size=usage.input_tokens, tier=_told(usage.service_tier), speed=_told(usage.speed)
        )
        own = self._own.get(asked or model) or self._own.get(model)
        rates = self._rates(profile, call, _told(usage.region)) if own is None else _own_rates(profile, call, own)
        if rates is None:
            return None, None
        counts = _count(usage, profile)
        plain = _Counts(uncached=usage.input_tokens, read=0, writes={}, output=usage.output_tokens)
        return None if counts is None else _bill(counts, rates), _bill(plain, rates)

    def _rates(self, profile: CacheProfile, call: _Call, region: str | None) -> _Rates | None:
        if region is not None and region not in profile.regions:
            return None
        sources = (_genai_rates, _row_rates) if self._genai_prices else (_row_rates,)
        if _is_past(profile, call.on):
            sources = sources[::-1]
        found = (source(profile, call) for source in sources)
        rates = next((rates for rates in found if rates is not None), None)
        return rates if rates is None or region is None else _scaled(rates, profile.regions[region])


class _Call(Struct, frozen=True, kw_only=True):
    """What decides the rates: model, day, inclusive input tokens; billed tier and speed where they are special."""

    model: str
    on: date
    size: int
    tier: str | None
    speed: str | None = None


class _Counts(Struct, frozen=True, kw_only=True):
    """Tokens by what they cost; ``writes`` by lifetime."""

    uncached: int
    read: int
    writes: Mapping[str, int]
    output: int


class _Rates(Struct, frozen=True, kw_only=True):
    """Dollars per million tokens; ``read`` is ``None`` where no cached price is published."""

    uncached: Decimal
    output: Decimal
    read: Decimal | None
    writes: Mapping[str, Decimal]


def _is_past(profile: CacheProfile, on: date) -> bool:
    return any(price.effective is not None and on < price.effective for price in profile.prices)


def _told(word: str | None) -> str | None:
    """Return a tier, speed or region, ``None`` where the list price holds for it."""
    return None if word in _LIST_PRICE else word


def _sum(costs: Iterable[Decimal | None]) -> Decimal | None:
    known = [*costs]
    return sum((cost for cost in known if cost is not None), Decimal(0)) if None not in known else None


def _scaled(rates: _Rates, factor: Decimal) -> _Rates:
    return _Rates(
        uncached=rates.uncached * factor,
        output=rates.output * factor,
        read=None if rates.read is None else rates.read * factor,
        writes={lifetime: rate * factor for lifetime, rate in rates.writes.items()},
    )


def _bill(counts: _Counts, rates: _Rates) -> Decimal | None:
    if counts.read and rates.read is None:
        return None
    dollars = counts.uncached * rates.uncached + counts.output * rates.output
    dollars += counts.read * (rates.read or 0)
    dollars += sum(tokens * rates.writes[lifetime] for lifetime, tokens in counts.writes.items())
    return dollars.scaleb(-6)


def _count(usage: Usage, profile: CacheProfile) -> _Counts | None:
    """Sort the tokens by what they cost; ``None`` where they are not known, or contradict each other."""
    read = 0 if profile.regime == "none" and usage.cache_read_tokens is None else usage.cache_read_tokens
    writes = _writes(usage, profile)
    if usage.input_tokens is None or usage.output_tokens is None or read is None or writes is None:
        return None
    uncached = usage.input_tokens - read - sum(writes.values())
    if min(uncached, read, usage.output_tokens, *writes.values()) < 0:
        return None
    return _Counts(uncached=uncached, read=read, writes=writes, output=usage.output_tokens)


def _writes(usage: Usage, profile: CacheProfile) -> dict[str, int] | None:
    told = {lifetime: tokens for lifetime, tokens in (usage.cache_write_by_ttl or {}).items() if tokens}
    if any(profile.lifetime(lifetime) is None for lifetime in told):
        return None
    if usage.cache_write_tokens is None:
        return told if told or profile.regime != "breakpoints" else None
    rest = usage.cache_write_tokens - sum(told.values())
    if rest == 0:
        return told
    default = profile.lifetime(None)
    return None if default is None or rest < 0 else {**told, default.name: told.get(default.name, 0) + rest}


def _own_rates(profile: CacheProfile, call: _Call, price: Price) -> _Rates | None:
    agreed = replace(profile, prices=(replace(price, effective=None),), whole_request_tiers=())
    return _row_rates(agreed, replace(call, tier=None, speed=None))


def _row_rates(profile: CacheProfile, call: _Call) -> _Rates | None:
    price = profile.price(call.on)
    special = [word for word in (call.tier, call.speed) if word is not None]
    if price is None or not all(word in profile.processing for word in special):
        return None
    reached = [tier for tier in profile.whole_request_tiers if call.size > tier.above_tokens]
    tier = max(reached, key=lambda tier: tier.above_tokens, default=None)
    uncached = price.input * (tier.input_factor if tier else 1)
    rates = _Rates(
        uncached=uncached,
        output=price.output * (tier.output_factor if tier else 1),
        read=None if price.read_multiplier is None else uncached * price.read_multiplier,
        writes={lifetime.name: uncached * lifetime.write_multiplier for lifetime in profile.lifetimes},
    )
    return _scaled(rates, prod((profile.processing[word] for word in special), start=Decimal(1))) if special else rates


def _genai_rates(profile: CacheProfile, call: _Call) -> _Rates | None:
    found = _ask_genai(profile, call)
    if found is None:
        return None

    def rate(unit: str) -> Decimal | None:
        return _at_size(getattr(found.model_price, unit), call.size)

    uncached, output = rate("input_mtok"), rate("output_mtok")
    if uncached is None or output is None:
        return None
    told = {"1h": rate("cache_write_1h_mtok"), "12h": None}
    default = rate("cache_write_mtok")
    writes = {
        lifetime.name: _or_multiple(told.get(lifetime.name, default), uncached, lifetime)
        for lifetime in profile.lifetimes
    }
    return _Rates(uncached=uncached, output=output, read=rate("cache_read_mtok"), writes=writes)


def _or_multiple(rate: Decimal | None, uncached: Decimal, lifetime: Lifetime) -> Decimal:
    return uncached * lifetime.write_multiplier if rate is None else rate


def _ask_genai(profile: CacheProfile, call: _Call) -> PriceCalculation | None:
    """Return genai-prices' answer for the model by its own name, else by its row's; ``None`` if it has none."""
    if profile.provider == "unknown":  # the same name may be served by anyone, at any price
        return None
    # A fine-tuned model has its base's row, but not its price.
    names = (call.model, profile.models[0]) if profile.known and profile.prices else (call.model,)
    return _asked(profile.provider, names, call.on, call.tier, call.speed)


@lru_cache(maxsize=1024)
def _asked(
    provider: str, names: tuple[str, ...], on: date, tier: str | None, speed: str | None
) -> PriceCalculation | None:
    """Ask once per model, tier, speed and day: an answer takes genai-prices some 200 microseconds."""
    from genai_prices import Usage as GenaiUsage
    from genai_prices import calc_price

    moment = datetime.combine(on, time(12), UTC)
    context = _context(tier, speed)
    for name in names:
        try:
            found = calc_price(
                GenaiUsage(), name, provider_id=provider, genai_request_timestamp=moment, price_context=context
            )
        except LookupError:
            continue
        return found if _has_tier(found, context, moment) else None
    return None


def _context(tier: str | None, speed: str | None) -> dict[str, str] | None:
    context = {"processing": "batch"} if tier == "batch" else {"service_tier": tier} if tier else {}
    return context | ({"speed": speed} if speed else {}) or None


def _has_tier(found: PriceCalculation, context: dict[str, str] | None, moment: datetime) -> bool:
    """Say whether the tier has prices of its own: genai-prices answers with list prices where it has none."""
    if context is None:
        return True
    own = any(model is found.model for model in found.provider.models)
    return own and any(
        variant.when == context and (variant.constraint is None or variant.constraint.active(moment))
        for variant in found.model.price_variants or ()
    )


def _at_size(price: Decimal | TieredPrices | None, size: int) -> Decimal | None:
    """Return the price for a request of ``size`` input tokens: beyond a threshold, of the whole request."""
    if price is None or isinstance(price, Decimal):
        return price
    reached = [tier.price for tier in price.tiers if size > tier.start]
    return reached[-1] if reached else price.base
