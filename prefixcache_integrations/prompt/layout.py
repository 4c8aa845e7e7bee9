"""The plan of one request: what to change so that the provider's cache finds as much of it as it can, and why."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import accumulate
from math import ceil

from msgspec.structs import replace

from prefixcache_integrations.canonical import Finding, Level, PromptPlan, Request, Tokenizer, Tool
from prefixcache_integrations.profiles.profile import CacheProfile
from prefixcache_integrations.prompt.breakpoints import breakpoints, chosen, marker_rules, places
from prefixcache_integrations.prompt.cache_options import repaired_options, with_options
from prefixcache_integrations.prompt.markers import placed, repaired
from prefixcache_integrations.prompt.segments import segments, token_counts
from prefixcache_integrations.prompt.tools import canonical_tool, tool_order

ESTIMATE_UNCERTAINTY = 0.3
"""By which share a count may be off, either way, where no tokeniser is at hand."""


def plan(request: Request, profile: CacheProfile, tokenizer: Tokenizer, *, level: Level = "canonical") -> PromptPlan:
    """Decide how ``request`` should be laid out; `apply` does it. Pure: nothing is changed and nothing remembered.

    Planning a request that a plan was applied to changes nothing. Raises `MalformedRequest` for text that is no
    Unicode and values that are no JSON.
    """
    order = tool_order(request.tools) if level == "canonical" else tuple(range(len(request.tools)))
    tidy, repairs = repaired(_arranged(request, order, level))
    prompt = segments(tidy)
    ends = tuple(accumulate(token_counts(prompt, tokenizer)))
    total = ends[-1] if ends else 0
    guess = 0 if tokenizer.exact else ESTIMATE_UNCERTAINTY
    enough = ceil(profile.minimum_tokens / (1 + profile.tokenizer_uncertainty + guess))
    certain = ceil(profile.minimum_tokens / (1 - guess))
    found, rules = places(tidy, prompt, ends), marker_rules(request, profile)
    reasons, surplus = chosen(tidy, found, rules, enough=enough)
    rows, lifetimes = breakpoints(found, reasons, rules, profile)
    options, refused = repaired_options(request, profile)
    return PromptPlan(
        level=level,
        profile=profile.name,
        prompt_tokens=total,
        exact=tokenizer.exact,
        tool_order=order,
        breakpoints=rows,
        options=options,
        findings=(
            *_about_model(profile, tokenizer),
            *_about_length(total, profile, enough, certain),
            *_about_tools(order),
            *repairs,
            *surplus,
            *lifetimes,
            *refused,
        ),
    )


def apply(request: Request, plan: PromptPlan) -> Request:
    """Return ``request`` as ``plan`` wants it, sharing all that does not change; ``request`` itself stays as it is.

    ``plan`` must have been made for this request.
    """
    tidy, _ = repaired(_arranged(request, plan.tool_order, plan.level))
    return replace(placed(tidy, plan.breakpoints), options=with_options(tidy.options, plan.options))


def _arranged(request: Request, order: Sequence[int], level: Level) -> Request:
    """Return ``request`` with its tools in ``order`` and their schemas in canonical form, beyond level ``mark``.

    Markers stay where they are in the list: one at the end of the tools means all of them, whichever is last.
    """
    if level == "mark" or not request.tools:
        return request
    tools = [canonical_tool(request.tools[index], request.dialect) for index in order]
    if any(index != place for place, index in enumerate(order)):
        tools = _with_markers_of(tools, request.tools)
    return replace(request, tools=tuple(tools))


def _with_markers_of(tools: Sequence[Tool], before: Sequence[Tool]) -> list[Tool]:
    result = [replace(tool, marker=None) if tool.markable else tool for tool in tools]
    for place, old in enumerate(before):
        if old.marker is None or not old.markable:
            continue
        free = (index for index in range(place, -1, -1) if result[index].markable and result[index].marker is None)
        index = next(free, None)
        if index is not None:
            result[index] = replace(result[index], marker=old.marker)
    return result


def _about_model(profile: CacheProfile, tokenizer: Tokenizer) -> Iterator[Finding]:
    if not profile.known:
        yield Finding(code="unknown_model", message="no facts about this model: conservative defaults are used")
    if not tokenizer.exact:
        yield Finding(code="estimated_tokens", message="no tokeniser at hand: token counts are estimates")
    if profile.regime == "none":
        yield Finding(code="no_cache", message="the model has no prompt cache")


def _about_length(total: int, profile: CacheProfile, enough: int, certain: int) -> Iterator[Finding]:
    """Say whether the prompt can be cached: not below ``enough`` tokens by our count, surely from ``certain`` on."""
    minimum = profile.minimum_tokens
    missing = max(minimum - total, 0)
    if profile.regime == "none" or total >= certain:
        return
    if total < enough:
        message = f"{missing} tokens short of this model's minimum of {minimum}"
        yield Finding(code="below_minimum", message=message, tokens=missing)
    else:
        message = f"{total} tokens, by our count, are too close to this model's minimum of {minimum} to be sure"
        yield Finding(code="near_minimum", message=message, tokens=missing)


def _about_tools(order: Sequence[int]) -> Iterator[Finding]:
    if any(index != place for place, index in enumerate(order)):
        yield Finding(code="tools_reordered", message="tools were put in the order of their names")
