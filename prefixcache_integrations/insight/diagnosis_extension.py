"""The ordinary turn, told quickly: a request that extends the one before it and reads all that this left.

Everything here is sufficient, never necessary: what it is not sure of is measured in full.
"""

from __future__ import annotations

from msgspec import Struct

from prefixcache_integrations.canonical import Part, Request, Tokenizer
from prefixcache_integrations.insight.diagnosis_assumed import is_explicit
from prefixcache_integrations.insight.sameness import are_same_json, are_same_messages
from prefixcache_integrations.insight.simulator_boundaries import EARLIER_MESSAGE_ENDINGS, is_ending
from prefixcache_integrations.profiles.profile import CacheProfile
from prefixcache_integrations.prompt.content import COSTS
from prefixcache_integrations.prompt.fingerprint import PROPERTIES, setting
from prefixcache_integrations.prompt.lengths import added_tokens
from prefixcache_integrations.prompt.segment_memory import SegmentMemory
from prefixcache_integrations.prompt.thinking import kept_thinking, last_said, read_segments, without_thinking


class Reading(Struct, frozen=True, kw_only=True):
    """What is remembered of a request: its prompt's ``length`` up to where an answer begins, in tokens.

    Only requests are remembered that left their whole prompt in the cache, as far as their regime allows, and whose
    last block is one that a marker, or an implicit one, stands on.
    """

    request: Request
    profile: CacheProfile
    length: int

    @property
    def prompt_tokens(self) -> int:
        """The length of the whole prompt, with what primes the reply."""
        return self.length + COSTS[self.request.dialect].reply

    @property
    def left(self) -> int:
        """How many tokens the request left in the cache."""
        return self.length // self.profile.increment * self.profile.increment


def read_in_full(request: Request, profile: CacheProfile, memory: SegmentMemory, left: int) -> Reading | None:
    """Return the reading of a request that ``left`` so much in the cache, ``None`` where it is not to be remembered."""
    if left == 0 or not _ends_marked(request, profile):
        return None
    length = sum(read_segments(request, profile, memory).tokens) - COSTS[request.dialect].reply
    reading = Reading(request=request, profile=profile, length=length)
    return reading if reading.left == left else None


def extended(
    reading: Reading, current: Request, profile: CacheProfile, tokenizer: Tokenizer, *, known: bool = False
) -> Reading | None:
    """Return the reading of ``current`` if it surely reads all that ``reading`` left; else ``None``.

    ``known`` says that its messages begin with all those of the other.
    """
    count = len(reading.request.messages)
    added = current.messages[count:]
    said = last_said(current.messages, max(count, 1)) if profile.strips_thinking else 0
    if (
        reading.profile is not profile
        or not added
        or not _ends_marked(current, profile)
        or not _reaches_back(reading.request, current, profile)
        or not all(is_plain(part) for message in added for part in message.parts)
        or (said and kept_thinking(reading.request, profile, count) is not None)
        or not is_extension(reading.request, current, profile, known=known)
    ):
        return None
    read = (*without_thinking(added[: said - count]), *added[said - count :]) if said else added
    length = reading.length + added_tokens(read, current.dialect, tokenizer)
    return Reading(request=current, profile=profile, length=length)


_PLAIN = frozenset({"text", "tool_call", "tool_result", "thinking", "refusal"})


def is_plain(part: Part) -> bool:
    """Tell whether a block is none that changes how the blocks before it are read."""
    return part.kind in _PLAIN and all(map(is_plain, part.content))


def _ends_marked(request: Request, profile: CacheProfile) -> bool:
    """Tell whether an entry ends with the last block of the request."""
    if profile.regime == "intervals":
        return True
    if not request.messages or not request.messages[-1].parts or profile.regime == "none":
        return False
    if profile.automatic_tail:
        return request.messages[-1].role in ("user", "tool") and not is_explicit(request)
    last = request.messages[-1].parts[-1]
    return last.markable and (last.marker is not None or request.marker is not None)


def _reaches_back(previous: Request, current: Request, profile: CacheProfile) -> bool:
    """Tell whether a look back from some marker passes all blocks that were added before it, counting every one."""
    added = current.messages[len(previous.messages) :]
    if profile.regime == "intervals":
        return True
    if profile.automatic_tail:
        numbers = range(len(previous.messages), len(current.messages))
        endings = sum(is_ending(current.messages, number) for number in numbers)
        return endings <= EARLIER_MESSAGE_ENDINGS and added[0].role not in ("tool", "system", "developer")
    if profile.lookback is None:
        return True
    last = current.messages[len(previous.messages) - 1]
    blocks = (*last.parts[-1:], *(part for message in added for part in message.parts))
    distance = next((number for number, part in enumerate(blocks) if part.marker is not None), len(blocks) - 1)
    return distance < profile.lookback


def is_extension(previous: Request, current: Request, profile: CacheProfile, *, known: bool = False) -> bool:
    """Tell whether ``current`` is ``previous`` with more messages, apart from cache markers.

    ``known`` says that its messages begin with all those of the other: then only the rest is compared.
    """
    return (
        previous.model == current.model
        and previous.dialect == current.dialect
        and _have_same_settings(previous, current, profile)
        and are_same_json(
            [*(tool.raw for tool in previous.tools), *(part.raw for part in previous.system)],
            [*(tool.raw for tool in current.tools), *(part.raw for part in current.system)],
        )
        and len(previous.tools) == len(current.tools)
        and len(previous.messages) <= len(current.messages)
        and (known or are_same_messages(previous.messages, current.messages[: len(previous.messages)]))
    )


def _have_same_settings(previous: Request, current: Request, profile: CacheProfile) -> bool:
    return previous.options == current.options or all(
        setting(previous, name) == setting(current, name) for name in profile.invalidation if name not in PROPERTIES
    )
