"""Assertions about the calls that a simulator recorded. Their messages name places in the prompt, never its text."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from prefixcache_integrations import profiles
from prefixcache_integrations.canonical import Request
from prefixcache_integrations.prompt.fingerprint import prefix_digests, tier_seeds
from prefixcache_integrations.prompt.segments import Segment, segments
from prefixcache_integrations.server import Call


def assert_reads(call: Call, *, at_least: float) -> None:
    """Assert that ``call`` read at least this share of its input tokens from the provider's cache, 0.9 being 90 %."""
    if call.usage is None:
        raise AssertionError(f"call {call.number} was refused: {call.error}")
    total, read = call.usage.input_tokens or 0, call.usage.cache_read_tokens or 0
    if read < at_least * total:
        share = read / total
        raise AssertionError(
            f"call {call.number} read {read} of {total} input tokens from the cache: {share:.1%}, not {at_least:.0%}"
        )


def assert_extends(earlier: Call, later: Call) -> None:
    """Assert that the prompt of ``later`` begins with the whole prompt of ``earlier``, as the provider compares them.

    Cache markers do not count; the model, the order of tools and keys, and every setting that loses the cache do.
    """
    before, after = _prompt(earlier), _prompt(later)
    old, new = _digests(earlier, before), _digests(later, after)
    kept = next((index for index, pair in enumerate(zip(old, new, strict=False)) if pair[0] != pair[1]), len(new))
    if kept < len(old):
        raise AssertionError(
            f"call {later.number} does not extend call {earlier.number}: {_divergence(before, after, kept)}"
        )


def assert_prefix_kept(conversation: Sequence[Call]) -> None:
    """Assert that every call of one conversation extends the one before it."""
    for earlier, later in pairwise(conversation):
        assert_extends(earlier, later)


def _request(call: Call) -> Request:
    if call.request is None:
        raise AssertionError(f"call {call.number} had no readable body")
    return call.request


def _prompt(call: Call) -> list[Segment]:
    """Return the prompt without the framing at its end, which only primes the reply."""
    prompt = list(segments(_request(call)))
    while prompt and prompt[-1].at is None and not prompt[-1].ends_message:
        prompt.pop()
    return prompt


def _digests(call: Call, prompt: Sequence[Segment]) -> tuple[bytes, ...]:
    request = _request(call)
    provider = "anthropic" if request.dialect == "anthropic_messages" else "openai"
    return prefix_digests(prompt, tier_seeds(request, profiles.resolve(request.model, provider)))


def _divergence(before: Sequence[Segment], after: Sequence[Segment], kept: int) -> str:
    if kept == len(after):
        return f"it ends before {before[kept].at}"
    if before[kept].identity == after[kept].identity:
        return f"the model or a setting that {before[kept].tier} depend on has changed"
    return f"they part at {before[kept].at or before[kept].kind}"
