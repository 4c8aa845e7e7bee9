"""The ordinary turn, told quickly: a request that extends the one before it and reads all that this left.

Everything here is sufficient, never necessary: what it is not sure of is measured in full.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import chain, compress
from operator import attrgetter, eq, is_not, not_
from typing import get_args

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from prefixcache_integrations.canonical import JsonObject, Message, Part, PartKind, Request, Tokenizer
from prefixcache_integrations.insight.diagnosis_moves import message_forms
from prefixcache_integrations.insight.diagnosis_reach import is_explicit
from prefixcache_integrations.insight.simulator_boundaries import EARLIER_MESSAGE_ENDINGS
from prefixcache_integrations.profiles.profile import CacheProfile
from prefixcache_integrations.prompt.fingerprint import PROPERTIES, setting
from prefixcache_integrations.prompt.segments import REPLY_TOKENS, segments, token_counts

_encoder = msgspec.msgpack.Encoder()


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
        return self.length + _reply(self.request)

    @property
    def left(self) -> int:
        """How many tokens the request left in the cache."""
        return self.length // self.profile.increment * self.profile.increment


def read_in_full(request: Request, profile: CacheProfile, tokenizer: Tokenizer, left: int) -> Reading | None:
    """Return the reading of a request that ``left`` so much in the cache, ``None`` where it is not to be remembered."""
    if left == 0 or not _ends_marked(request, profile):
        return None
    length = sum(token_counts(segments(request), tokenizer)) - _reply(request)
    reading = Reading(request=request, profile=profile, length=length)
    return reading if reading.left == left else None


def extended(reading: Reading, current: Request, profile: CacheProfile, tokenizer: Tokenizer) -> Reading | None:
    """Return the reading of ``current`` if it surely reads all that ``reading`` left; else ``None``."""
    added = current.messages[len(reading.request.messages) :]
    if (
        reading.profile is not profile
        or not added
        or not _ends_marked(current, profile)
        or not _reaches_back(added, profile)
        or any(part.kind not in _PLAIN or part.content for message in added for part in message.parts)
        or not is_extension(reading.request, current, profile)
    ):
        return None
    new = segments(replace(current, tools=(), system=(), messages=added, options={}))
    return Reading(
        request=current,
        profile=profile,
        length=reading.length + sum(token_counts(new, tokenizer)) - _reply(current),
    )


_PLAIN = frozenset({"text", "tool_call", "tool_result", "thinking", "refusal"})


def _reply(request: Request) -> int:
    return 0 if request.dialect == "anthropic_messages" else REPLY_TOKENS


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


def _reaches_back(added: Sequence[Message], profile: CacheProfile) -> bool:
    """Tell whether a look back from the end passes all that was added, counting every block."""
    if profile.regime == "intervals":
        return True
    if profile.automatic_tail:
        return len(added) < EARLIER_MESSAGE_ENDINGS and added[0].role not in ("tool", "system", "developer")
    return profile.lookback is None or sum(len(message.parts) for message in added) < profile.lookback


def is_extension(previous: Request, current: Request, profile: CacheProfile) -> bool:
    """Tell whether ``current`` is ``previous`` with more messages, apart from cache markers."""
    return (
        previous.model == current.model
        and previous.dialect == current.dialect
        and _have_same_settings(previous, current, profile)
        and _are_same_json(
            [*(tool.raw for tool in previous.tools), *(part.raw for part in previous.system)],
            [*(tool.raw for tool in current.tools), *(part.raw for part in current.system)],
        )
        and len(previous.tools) == len(current.tools)
        and len(previous.messages) <= len(current.messages)
        and _are_same_messages(previous.messages, current.messages[: len(previous.messages)])
    )


def _are_same_messages(old: Sequence[Message], new: Sequence[Message]) -> bool:
    """Compare messages but for their markers, in bulk: most are the same objects or at least equal."""
    changed = [*map(is_not, old, new)]
    old, new = [*compress(old, changed)], [*compress(new, changed)]
    equal = [*map(eq, old, new)]
    unequal = [*map(not_, equal)]
    return [*map(message_forms, compress(old, unequal))] == [
        *map(message_forms, compress(new, unequal))
    ] and _have_same_order(_parts(compress(old, equal)), _parts(compress(new, equal)))


def _parts(messages: Iterable[Message]) -> list[Part]:
    return [*chain.from_iterable(map(_message_parts, messages))]


def _have_same_order(old: Sequence[Part], new: Sequence[Part]) -> bool:
    """Tell whether equal blocks also have their keys in the same order; texts have no objects in them."""
    if not all(map(eq, map(tuple, map(_raw, old)), map(tuple, map(_raw, new)))):
        return False
    structured = [*map(_STRUCTURED.__contains__, map(_kind, old))]
    before, after = [*compress(old, structured)], [*compress(new, structured)]
    return not before or (
        _are_same_json([*map(_raw, before)], [*map(_raw, after)])
        and _have_same_order(
            [*chain.from_iterable(map(_content, before))], [*chain.from_iterable(map(_content, after))]
        )
    )


_message_parts: Callable[[Message], tuple[Part, ...]] = attrgetter("parts")
_raw: Callable[[Part], JsonObject] = attrgetter("raw")
_kind: Callable[[Part], PartKind] = attrgetter("kind")
_content: Callable[[Part], tuple[Part, ...]] = attrgetter("content")
_STRUCTURED = frozenset(get_args(PartKind)) - {"text"}


def _have_same_settings(previous: Request, current: Request, profile: CacheProfile) -> bool:
    return previous.options == current.options or all(
        setting(previous, name) == setting(current, name) for name in profile.invalidation if name not in PROPERTIES
    )


def _are_same_json(old: Sequence[JsonObject], new: Sequence[JsonObject]) -> bool:
    """Compare JSON in wire order; what is no JSON is not the same."""
    if len(old) != len(new):
        return False
    if all(left is right for left, right in zip(old, new, strict=True)):
        return True
    try:
        return _encoder.encode(old) == _encoder.encode(new)
    except (TypeError, ValueError, OverflowError):
        return False
