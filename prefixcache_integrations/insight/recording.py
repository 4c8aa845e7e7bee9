"""One recorded call as a line of JSON: what it was made of and what it cost, without what it said.

Digests are of whole prefixes: they tell equal prompts from different ones and give nothing of them back.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from decimal import Decimal
from typing import Literal, TypeAlias

import msgspec
from msgspec import Struct

from prefixcache_integrations.canonical import DialectName, Finding, JsonObject, Usage
from prefixcache_integrations.canonical.json import readable
from prefixcache_integrations.errors import MalformedRecording
from prefixcache_integrations.events import BreakReason, Labels, PrefixBroken
from prefixcache_integrations.insight.prompt_runs import Run
from prefixcache_integrations.profiles import Provider

Outcome: TypeAlias = Literal["provider", "response_cache", "other_cache", "failed", "abandoned"]
"""Who answered; ``abandoned``: the caller stopped listening, and nobody knows what was billed."""


VERSION = 1

_LATEST = 253_402_300_800.0  # the end of the year 9999
_DIGITS = 12


class Break(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Why the call read less than the one before it had left; as in `PrefixBroken`."""

    reason: BreakReason
    lost_tokens: int
    path: str | None = None
    offset: int | None = None
    lost_cost: Decimal | None = None
    remedy: str | None = None
    provider_reason: str | None = None
    disagreement: str | None = None

    @classmethod
    def of(cls, event: PrefixBroken) -> Break:
        """Return what ``event`` tells of the call."""
        return cls(
            reason=event.reason,
            lost_tokens=event.lost_tokens,
            path=event.path,
            offset=event.offset,
            lost_cost=event.lost_cost,
            remedy=event.remedy,
            provider_reason=event.provider_reason,
            disagreement=event.disagreement,
        )


class RecordedCall(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One call. ``at`` is when it began, in seconds since the epoch; money is in US dollars.

    ``tokens`` of the runs are our count, estimates unless ``exact``; ``usage`` is the provider's. ``request`` and
    ``answer`` are there only where content is recorded. ``error`` is the name of an exception, without its message.
    """

    at: float
    conversation: str
    outcome: Outcome
    model: str | None = None
    provider: Provider | None = None
    dialect: DialectName | None = None
    labels: Labels = Labels()
    usage: Usage = Usage()
    cost: Decimal | None = None
    uncached_cost: Decimal | None = None
    seconds: float | None = None
    first_token_seconds: float | None = None
    prompt: tuple[Run, ...] = ()
    exact: bool = False
    findings: tuple[Finding, ...] = ()
    broken: Break | None = None
    error: str | None = None
    request: JsonObject | None = None
    answer: object = None
    version: int = VERSION


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(RecordedCall)


def write(call: RecordedCall) -> bytes:
    """Return the line, its end included; a lone surrogate in any text of it is a question mark."""
    try:
        return _encoder.encode(call) + b"\n"
    except UnicodeEncodeError:
        return _encoder.encode(_readable(msgspec.to_builtins(call))) + b"\n"


def _readable(value: object) -> object:
    if isinstance(value, str):
        return readable(value)
    if isinstance(value, dict):
        return {_readable(name): _readable(each) for name, each in value.items()}
    return [*map(_readable, value)] if isinstance(value, list | tuple) else value


def read(lines: Iterable[bytes]) -> Iterator[RecordedCall]:
    """Read a recording; empty lines are passed over. Raises `MalformedRecording`, naming the line."""
    for number, line in enumerate(lines, start=1):
        if line.strip():
            try:
                call = _decoder.decode(line)
                _check(call)
            except (msgspec.DecodeError, RecursionError) as error:
                raise MalformedRecording(f"line {number} is no recorded call: {error}") from error
            yield call


def _check(call: RecordedCall) -> None:
    """Refuse a moment that no calendar has, and sums that nobody can be billed."""
    lost = call.broken.lost_cost if call.broken else None
    money = (each for each in (call.cost, call.uncached_cost, lost) if each is not None)
    if not 0 <= call.at < _LATEST or not all(each.is_finite() and each.adjusted() < _DIGITS for each in money):
        raise msgspec.ValidationError("a number is out of range")
