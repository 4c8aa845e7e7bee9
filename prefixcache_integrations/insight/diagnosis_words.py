"""What a diagnosis says: why a request reads less than it could, where, at what price, and what to change."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from decimal import Decimal

from msgspec import Struct

from prefixcache_integrations.canonical import Address
from prefixcache_integrations.events import BreakReason, PrefixBroken
from prefixcache_integrations.insight.verdict import Verdict


class Excerpt(Struct, frozen=True, kw_only=True):
    """A few characters of the prompt around the place where two requests first differ."""

    before: str
    after: str


class Divergence(Struct, frozen=True, kw_only=True):
    """The first place, in the order the provider renders a prompt, where two requests differ.

    ``path`` is that of the later body as JSON, such as ``tools[3].input_schema.properties.city.description``; where
    something is gone, that of the earlier body. ``offset`` is the index of the first differing character in the text
    there; in the compact JSON of what is no text; and 0 where one of the bodies has nothing there. ``at`` is the tool,
    system block or message part around it. ``added`` and ``removed`` are names of tools.
    """

    reason: BreakReason
    path: str
    offset: int = 0
    at: Address | None = None
    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    excerpt: Excerpt | None = None


class Explanation(Struct, frozen=True, kw_only=True):
    """How the prompt of one request relates to what the request before it left in the provider's cache.

    ``reason`` is ``None`` where the later request extends the earlier one and reads all that it left. With no tokens
    lost it names a difference that costs nothing: behind what was cached, or where nothing was. ``available_tokens``
    is how much the earlier request left, ``readable_tokens`` how much of it this one reads: as predicted, or as
    billed once the usage is known. ``shortfall_tokens``: how many more the earlier one needed to be cached at all.
    ``exact`` is false for counts that are estimates. ``likely``: only the bill will tell whether an entry that can no
    longer be relied on has expired; the provider may keep it for longer. ``verdict`` is what the provider itself said,
    ``disagreement`` where that is something else.
    """

    reason: BreakReason | None = None
    divergence: Divergence | None = None
    available_tokens: int = 0
    readable_tokens: int = 0
    shortfall_tokens: int | None = None
    lost_cost: Decimal | None = None
    exact: bool = True
    likely: bool = False
    verdict: Verdict | None = None
    disagreement: str | None = None

    @property
    def lost_tokens(self) -> int:
        """What could have been read and is not."""
        return max(self.available_tokens - self.readable_tokens, 0)

    @property
    def broken(self) -> bool:
        """Whether the request loses tokens that it could have read."""
        return self.reason is not None and self.lost_tokens > 0

    @property
    def remedy(self) -> str | None:
        """What to change, ``None`` where there is nothing to."""
        return None if self.reason is None else remedy(self.reason)

    def event(self, model: str) -> PrefixBroken | None:
        """Return the event for observers, ``None`` unless tokens are surely lost; it never quotes the prompt."""
        if self.reason is None or not self.broken or self.likely:
            return None
        return PrefixBroken(
            model=model,
            reason=self.reason,
            lost_tokens=self.lost_tokens,
            path=self.divergence.path if self.divergence else None,
            offset=self.divergence.offset if self.divergence else None,
            lost_cost=self.lost_cost,
            remedy=self.remedy,
            provider_reason=self.verdict.reason if self.verdict else None,
            disagreement=self.disagreement,
        )

    def render(self) -> str:
        """Return a few lines of plain text; they quote the prompt only where an excerpt was asked for."""
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        if self.reason is None:
            yield f"nothing lost: {self.readable_tokens:,} tokens can be read from the cache"
            yield from self._provider_line()
            return
        yield self.reason.replace("_", " ") + (f" at {_place(self.divergence)}" if self.divergence else "")
        if self.likely:
            yield "  likely, not certain: the provider may keep it for longer than can be relied on"
        if self.divergence and self.divergence.excerpt:
            yield f"  was {self.divergence.excerpt.before!r}, is {self.divergence.excerpt.after!r}"
        about = "" if self.exact else "about "
        if self.shortfall_tokens is not None:
            yield f"  {about}{self.shortfall_tokens:,} tokens short of what the model caches"
        if self.lost_tokens:
            price = "" if self.lost_cost is None else f", ${self.lost_cost.normalize():f}"
            yield f"  lost: {about}{self.lost_tokens:,} of {self.available_tokens:,} cached tokens{price}"
        yield from self._provider_line()
        yield f"  {self.remedy}"

    def _provider_line(self) -> Iterator[str]:
        if self.disagreement is not None:
            yield f"  {self.disagreement}"
        elif self.verdict is not None:
            yield f"  the provider says {(self.verdict.reason or self.verdict.outcome).replace('_', ' ')}"


def _place(found: Divergence) -> str:
    changes = [f"+{name}" for name in found.added] + [f"-{name}" for name in found.removed]
    return f"{found.path}, character {found.offset}" + (f" ({', '.join(changes)})" if changes else "")


def remedy(reason: BreakReason) -> str:
    """Return what to change so that ``reason`` does not come again."""
    return _REMEDIES[reason]


_KEEP = "keep it the same for the whole conversation"

_REMEDIES: Mapping[BreakReason, str] = {
    "model_changed": "a cache belongs to one model: switch models between conversations, not inside one",
    "tool_set_changed": "send the same tools on every turn, and choose among them with tool_choice",
    "tool_order_changed": 'PromptLayoutMiddleware(level="canonical") puts tools in one order',
    "tool_schema_changed": "build tool definitions once; where only their key order changes, "
    'PromptLayoutMiddleware(level="canonical") writes them one way',
    "system_changed": "keep the system prompt free of what changes; put dates, names and state into the last message",
    "document_order_changed": "send documents in the order they were first sent in, new ones last",
    "documents_changed": "put documents that change behind the history, or leave the earlier ones and add to them",
    "history_rewritten": "append to the history; edit or summarise a message before it is first sent",
    "history_truncated": "drop many messages at a time and seldom, or summarise once",
    "images_changed": "send the same bytes and the same detail for an image on every turn",
    "thinking_changed": f"set thinking once: {_KEEP}",
    "thinking_dropped": "this model no longer reads earlier thinking once its user speaks again: Opus 4.5, Sonnet 4.6 "
    "and later ones go on reading it",
    "effort_changed": f"set the effort once: {_KEEP}",
    "tool_choice_changed": f"set tool_choice once: {_KEEP}",
    "format_changed": f"define the answer's schema once: {_KEEP}",
    "cache_key_changed": f"prompt_cache_key divides the cache: {_KEEP}",
    "settings_changed": f"the cached prefix depends on this field: {_KEEP}",
    "marker_missing": 'PromptLayoutMiddleware(level="mark") marks the end of every request',
    "marker_beyond_lookback": 'PromptLayoutMiddleware(level="mark") marks the previous end again on long turns',
    "below_minimum": "nothing to change, unless what is stable can be made longer or put in front",
    "ttl_expired": "ask for the longer lifetime in cache_control or prompt_cache_options, or send sooner",
    "not_yet_readable": "send the requests that share a prefix once the first one's response has begun",
    "dropped_by_provider": "an eviction passes by itself; with OpenAI, send no more than some 15 requests a minute "
    "with one prefix and prompt_cache_key",
}


def settings_reason(path: str) -> BreakReason:
    """Return the reason that a change of the request field at ``path`` is, the most specific one."""
    steps = path.split(".")
    for length in range(len(steps), 0, -1):
        if found := _SETTINGS.get(".".join(steps[:length])):
            return found
    return "settings_changed"


_SETTINGS: Mapping[str, BreakReason] = {
    "thinking": "thinking_changed",
    "output_config.effort": "effort_changed",
    "output_config.format": "format_changed",
    "reasoning": "effort_changed",
    "reasoning_effort": "effort_changed",
    "tool_choice": "tool_choice_changed",
    "response_format": "format_changed",
    "text.format": "format_changed",
    "prompt_cache_key": "cache_key_changed",
}
