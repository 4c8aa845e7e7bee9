"""What a plan says about a request as a whole: its model, its length, its tools, and what was moved."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from math import ceil
from operator import is_not

from msgspec import Struct

from prefixcache_integrations.canonical import Finding, Message, Move, Tokenizer
from prefixcache_integrations.profiles.profile import CacheProfile

ESTIMATE_UNCERTAINTY = 0.3
"""By which share a count may be off, either way, where no tokeniser is at hand."""


class Bounds(Struct, frozen=True):
    """The minimum in our tokens: a prefix below ``enough`` cannot be cached, one of ``certain`` surely is."""

    enough: int
    certain: int


def bounds(profile: CacheProfile, tokenizer: Tokenizer) -> Bounds:
    """Return the minimum of a model, as far as our counts can tell."""
    return _bounds(
        profile.minimum_tokens, profile.tokenizer_uncertainty, 0 if tokenizer.exact else ESTIMATE_UNCERTAINTY
    )


@lru_cache(maxsize=256)
def _bounds(minimum: int, uncertainty: float, guess: float) -> Bounds:
    return Bounds(ceil(minimum / (1 + uncertainty + guess)), ceil(minimum / (1 - guess)))


def about_model(profile: CacheProfile, tokenizer: Tokenizer) -> Iterator[Finding]:
    """Say what is not known of the model and its tokens."""
    if not profile.known:
        yield Finding(code="unknown_model", message="no facts about this model: conservative defaults are used")
    if not tokenizer.exact:
        yield Finding(code="estimated_tokens", message="no tokeniser at hand: token counts are estimates")
    if profile.regime == "none":
        yield Finding(code="no_cache", message="the model has no prompt cache")


def about_length(total: int, profile: CacheProfile, bounds: Bounds) -> Iterator[Finding]:
    """Say whether the prompt can be cached."""
    minimum = profile.minimum_tokens
    missing = max(minimum - total, 0)
    if profile.regime == "none" or total >= bounds.certain:
        return
    if total < bounds.enough:
        message = f"{missing} tokens short of this model's minimum of {minimum}"
        yield Finding(code="below_minimum", message=message, tokens=missing)
    else:
        message = f"{total} tokens, by our count, are too close to this model's minimum of {minimum} to be sure"
        yield Finding(code="near_minimum", message=message, tokens=missing)


def about_tools(order: Sequence[int]) -> Iterator[Finding]:
    """Say whether tools change places."""
    if any(index != place for place, index in enumerate(order)):
        yield Finding(code="tools_reordered", message="tools were put in an order that stays the same")


def about_results(before: Sequence[Message], after: Sequence[Message]) -> Iterator[Finding]:
    """Say whether results of parallel calls change places."""
    if any(map(is_not, before, after)):
        yield Finding(code="results_reordered", message="results of parallel tool calls were put in the calls' order")


def about_moves(moves: Sequence[Move], dropped: Sequence[Move]) -> Iterator[Finding]:
    """Say how many documents change places, and how many are left out."""
    count = sum(move.reason == "documents" and move.source != move.target for move in moves)
    if count:
        yield Finding(code="documents_moved", message=f"{count} documents were moved to extend a cached prefix")
    if dropped:
        message = f"{len(dropped)} documents were left out that the conversation has already"
        yield Finding(code="documents_dropped", message=message)
