"""One recorded call as a line of JSON: what it was made of and what it cost, without what it said.

Digests are of whole prefixes: they tell equal prompts from different ones and give nothing of them back.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from decimal import Decimal
from itertools import groupby
from typing import Literal, TypeAlias

import msgspec
from msgspec import Struct

from prefixcache_integrations.canonical import DialectName, Finding, JsonObject, Request, Tokenizer, Usage
from prefixcache_integrations.canonical.json import as_object, as_text
from prefixcache_integrations.errors import MalformedRecording
from prefixcache_integrations.events import BreakReason, Labels
from prefixcache_integrations.profiles import CacheProfile, Provider
from prefixcache_integrations.prompt.fingerprint import prefix_digests, tier_seeds
from prefixcache_integrations.prompt.segments import Segment, segments, token_counts

Group: TypeAlias = Literal["tools", "system", "documents", "history", "question"]
"""What a part of a prompt is for. The question is all that came after the model's latest answer."""

Outcome: TypeAlias = Literal["provider", "response_cache", "other_cache", "failed", "abandoned"]
"""Who answered; ``abandoned``: the caller stopped listening, and nobody knows what was billed."""


VERSION = 1


class Run(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Neighbouring segments of one group, up to a breakpoint.

    ``size`` in bytes; ``digest`` of the prefix up to and with it; ``marker`` is the lifetime that the breakpoint at its
    end asks for, ``""`` for one that leaves it to the provider, ``None`` where there is none.
    """

    group: Group
    tokens: int
    size: int
    digest: str
    marker: str | None = None


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
    """Return the line, its end included."""
    return _encoder.encode(call) + b"\n"


def read(lines: Iterable[bytes]) -> Iterator[RecordedCall]:
    """Read a recording; empty lines are passed over. Raises `MalformedRecording`, naming the line."""
    for number, line in enumerate(lines, start=1):
        if line.strip():
            try:
                yield _decoder.decode(line)
            except (msgspec.DecodeError, RecursionError) as error:
                raise MalformedRecording(f"line {number} is no recorded call: {error}") from error


def prompt_runs(request: Request, profile: CacheProfile, tokenizer: Tokenizer) -> tuple[Run, ...]:
    """Return what the prompt is made of, in the provider's order. Raises `MalformedRequest` for values no wire has."""
    prompt = segments(request)
    counts = token_counts(prompt, tokenizer)
    digests = prefix_digests(prompt, tier_seeds(request, profile))
    markers = _markers(request, profile, prompt)
    runs: list[Run] = []
    for (group, _), numbers in groupby(range(len(prompt)), key=_places(request, prompt, markers).__getitem__):
        run = list(numbers)
        runs.append(
            Run(
                group=group,
                tokens=sum(counts[number] for number in run),
                size=sum(len(prompt[number].text.encode()) for number in run),
                digest=digests[run[-1]].hex(),
                marker=markers.get(run[-1]),
            )
        )
    return tuple(runs)


def _markers(request: Request, profile: CacheProfile, prompt: Sequence[Segment]) -> dict[int, str]:
    """Return the lifetimes asked for, by segment.

    Claude's automatic marker stands on the last block that can carry one, GPT-5.6's implicit one at the very end.
    """
    found = {number: row.marker.ttl or "" for number, row in enumerate(prompt) if row.marker is not None}
    options = as_object(request.options.get("prompt_cache_options")) or {}
    implicit = profile.automatic_tail and options.get("mode") != "explicit"
    ends = [number for number, row in enumerate(prompt) if (row.at is not None if implicit else row.markable)]
    if ends and (implicit or request.marker is not None):
        found.setdefault(ends[-1], (request.marker.ttl if request.marker else as_text(options.get("ttl"))) or "")
    return found


def _places(request: Request, prompt: Sequence[Segment], markers: dict[int, str]) -> list[tuple[Group, int]]:
    """Return for each segment its group and how many breakpoints stand before it: equal neighbours are one run."""
    groups = _groups(request, prompt)
    places: list[tuple[Group, int]] = []
    passed = 0
    for number, group in enumerate(groups):
        places.append((group, passed))
        passed += number in markers
    return places


def _groups(request: Request, prompt: Sequence[Segment]) -> list[Group]:
    """Return the group of each segment; framing, which has no place, goes with what it frames."""
    answers = (index for index, message in enumerate(request.messages) if message.role == "assistant")
    asked_from = max(answers, default=-1) + 1
    groups: list[Group] = []
    following: Group = "question"
    for segment in reversed(prompt):
        following = _group(request, segment, asked_from) or following
        groups.append(following)
    return groups[::-1]


def _group(request: Request, segment: Segment, asked_from: int) -> Group | None:
    if segment.kind in ("tools", "system"):
        return "tools" if segment.kind == "tools" else "system"
    if segment.at is None:
        return "system" if segment.kind == "format" else None
    message = request.messages[segment.at.index]
    if segment.at.part is not None and message.parts[segment.at.part].kind in ("document", "image", "audio"):
        return "documents"
    return "question" if segment.at.index >= asked_from else "history"
