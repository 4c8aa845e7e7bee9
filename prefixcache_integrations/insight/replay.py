"""What recorded requests would have been billed under another way of marking them, or another model.

The provider's cache is simulated (`PromptCache`), one for the whole trace; requests go in their order, each response
begins before the next request is sent.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Literal, TypeAlias, get_args

from msgspec import Struct
from msgspec.structs import replace

from prefixcache_integrations.canonical import Address, Breakpoint, Part, Request, Tokenizer, Usage
from prefixcache_integrations.canonical.json import without
from prefixcache_integrations.insight.simulator import PromptCache, refusal
from prefixcache_integrations.insight.simulator_rules import Refusal
from prefixcache_integrations.profiles import CacheProfile
from prefixcache_integrations.prompt.layout import apply, plan
from prefixcache_integrations.prompt.markers import placed

Strategy: TypeAlias = Literal["none", "as recorded", "system and last", "planner"]
"""``none``: no markers, only what the provider caches by itself. ``as recorded``: the markers that were sent.
``system and last``: one behind the system prompt, one at the end. ``planner``: what this package lays out."""

STRATEGIES: tuple[Strategy, ...] = get_args(Strategy)


class Sent(Struct, frozen=True, kw_only=True):
    """One request of a trace, ``at`` so many seconds; ``output_tokens`` is ``None`` where nobody counted."""

    request: Request
    at: float
    output_tokens: int | None = None


def replay(
    trace: Iterable[Sent], model: str, profile: CacheProfile, tokenizer: Tokenizer, strategy: Strategy
) -> Iterator[Usage | Refusal]:
    """Yield what each request of ``trace`` would be billed as, or why the provider would refuse it.

    Output is taken to be what it was. Raises `MalformedRequest` for values that no wire has.
    """
    cache = PromptCache(tokenizer)
    for sent in trace:
        request = _MARKED[strategy](replace(sent.request, model=model), profile, tokenizer)
        if (refused := refusal(request, profile)) is not None:
            yield refused
            continue
        ticket = cache.begin(request, profile, scope="trace", now=sent.at)
        cache.started(ticket, now=sent.at)
        yield replace(ticket.usage, output_tokens=sent.output_tokens)


def _as_recorded(request: Request, _profile: CacheProfile, _tokenizer: Tokenizer) -> Request:
    return request


def _unmarked(request: Request, _profile: CacheProfile, _tokenizer: Tokenizer) -> Request:
    bare = replace(request, marker=None, options=without(request.options, "prompt_cache_options"))
    return placed(bare, ())


def _system_and_last(request: Request, profile: CacheProfile, tokenizer: Tokenizer) -> Request:
    bare = _unmarked(request, profile, tokenizer)
    ends = filter(None, (_end_of_system(bare), _end(bare)))
    rows = [Breakpoint(at=at, reason="application", prefix_tokens=0) for at in dict.fromkeys(ends)]
    return placed(bare, rows) if profile.regime == "breakpoints" else bare


def _planned(request: Request, profile: CacheProfile, tokenizer: Tokenizer) -> Request:
    bare = _unmarked(request, profile, tokenizer)
    return apply(bare, plan(bare, profile, tokenizer))


def _end_of_system(request: Request) -> Address | None:
    found = [Address("system", index) for index, part in enumerate(request.system) if part.markable]
    for index, message in enumerate(request.messages):
        if message.role not in ("system", "developer"):
            break
        found += _markable(index, message.parts)
    return found[-1] if found else None


def _end(request: Request) -> Address | None:
    found = [at for index, message in enumerate(request.messages) for at in _markable(index, message.parts)]
    return found[-1] if found else None


def _markable(index: int, parts: Iterable[Part]) -> list[Address]:
    return [Address("messages", index, number) for number, part in enumerate(parts) if part.markable]


_MARKED: Mapping[Strategy, Callable[[Request, CacheProfile, Tokenizer], Request]] = {
    "none": _unmarked,
    "as recorded": _as_recorded,
    "system and last": _system_and_last,
    "planner": _planned,
}
