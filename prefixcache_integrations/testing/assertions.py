"""Assertions about the calls that a simulator recorded. Their messages name places in the prompt, never its text."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise, takewhile

from prefixcache_integrations import profiles
from prefixcache_integrations.profiles import Provider
from prefixcache_integrations.prompt.fingerprint import prefix_digests, tier_seeds
from prefixcache_integrations.prompt.segments import segments
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
    before, after = _Prompt(earlier), _Prompt(later)
    kept = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(before.digests, after.digests, strict=False)))
    if kept < len(before.digests):
        raise AssertionError(
            f"call {later.number} does not extend call {earlier.number}: {_divergence(before, after, kept)}"
        )


def assert_prefix_kept(conversation: Sequence[Call]) -> None:
    """Assert that every call of one conversation extends the one before it."""
    for earlier, later in pairwise(conversation):
        assert_extends(earlier, later)


class _Prompt:
    """A recorded prompt as the provider compares it, without the framing at its end, which only primes the reply."""

    def __init__(self, call: Call) -> None:
        if call.request is None:
            raise AssertionError(f"call {call.number} had no readable body")
        self.request = call.request
        provider: Provider = "anthropic" if call.request.dialect == "anthropic_messages" else "openai"
        self.profile = profiles.resolve(call.request.model, provider)
        self.segments = list(segments(call.request))
        while self.segments and self.segments[-1].at is None and not self.segments[-1].ends_message:
            self.segments.pop()
        self.digests = prefix_digests(self.segments, tier_seeds(call.request, self.profile))

    def place(self, index: int) -> str:
        """Return where the segment at ``index`` stands; for framing, where what it frames does."""
        return str(next((row.at for row in self.segments[index:] if row.at is not None), self.segments[index].kind))

    def setting(self, name: str) -> object:
        """Return the value of a request field."""
        return self.request.model if name == "model" else self.request.options.get(name)


def _divergence(before: _Prompt, after: _Prompt, kept: int) -> str:
    if kept == len(after.segments):
        return f"it ends before {before.place(kept)}"
    if before.segments[kept].identity != after.segments[kept].identity:
        return f"they part at {before.place(kept)}"
    fields = {"model", *(field.partition(".")[0] for field in before.profile.invalidation)}
    changed = sorted(name for name in fields if before.setting(name) != after.setting(name))
    return f"a setting of the request has changed: {', '.join(changed) or 'images came or went'}"
