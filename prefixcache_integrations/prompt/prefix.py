"""One prefix that was sent: when and how often, and until when the provider holds an entry for it."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from prefixcache_integrations.prompt.answers import Answer
from prefixcache_integrations.prompt.classes import MANY
from prefixcache_integrations.prompt.rates import Wait
from prefixcache_integrations.prompt.steps import Step

SHORTEST = 300.0
"""For how many seconds any provider keeps an entry at least."""


class Prefix(Struct, gc=False):
    """What is known of one prefix. ``alive_until``: when its entry at the provider ends, 0 where none was written.

    ``visits`` is how often it was sent, up to `MANY`. ``wait`` is what is waited for since then, ``turns`` how many
    prompts ended with it or before it; ``as_it_came``: the latest of these was sent as it came, which was in another
    order. ``answer`` is that to the request which was the first to send it, or to write it anew, and
    ``before`` when it had been sent last by then, 0 where it had not.
    """

    parent: int
    key: bytes
    visits: int = 0
    turns: int = 0
    as_it_came: bool = False
    seen_at: float = 0.0
    lifetime: float = 0.0
    alive_until: float = 0.0
    wait: Wait | None = None
    children: dict[bytes, int] | None = None
    answer: Answer | None = None
    before: float = 0.0

    def alive(self, now: float) -> bool:
        """Tell whether an entry should be read at ``now``, where entries stand at markers."""
        return self.alive_until > 0 and self.alive_until >= now and (self.answer is None or self.answer.readable(now))

    def awaited(self, now: float) -> bool:
        """Tell whether it is on its way to the provider, so that nobody else can read it yet."""
        return self.answer is not None and self.answer.awaited(now)

    def is_new(self, now: float) -> bool:
        """Tell whether it is on its way for the first time."""
        return not self.before and self.awaited(now)

    def lasts(self, now: float) -> bool:
        """Tell whether it was sent lately, so that it could be read if it was written then."""
        lost = self.answer is not None and self.answer.lost
        return self.visits > 0 and now - self.seen_at <= SHORTEST and not lost


def begin(seen: Sequence[Prefix], answer: Answer | None, now: float) -> None:
    """Note of which of the prefixes ``seen`` it is this ``answer`` that counts: those that nobody sent lately."""
    for prefix in reversed(seen):
        if prefix.lasts(now) or prefix.alive(now):
            return
        prefix.answer, prefix.before = answer, prefix.seen_at


def visit(seen: Sequence[Prefix], steps: Sequence[Step], answer: Answer | None, now: float) -> None:
    """Note that the prefixes ``seen``, with which ``steps`` end, are sent at ``now``."""
    for prefix, step in zip(seen, steps, strict=True):
        if prefix.visits < MANY and not (prefix.visits and prefix.is_new(now)):
            prefix.visits += 1
        if step.writes:
            alive = prefix.alive(now)
            if not alive and not prefix.awaited(now):
                prefix.answer, prefix.before = answer, prefix.seen_at
            prefix.lifetime = max(step.writes, prefix.lifetime if alive else 0.0)
            prefix.alive_until = max(prefix.alive_until, now + prefix.lifetime)
        if prefix.seen_at < now:  # noqa: PLR1730 - for each block of each prompt, and max takes three times as long
            prefix.seen_at = now
