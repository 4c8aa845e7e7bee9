"""What an application or a middleware changed in a prompt that was cached, at what price, and how to do without."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain

from prefixcache_integrations.canonical import DialectName, Finding, Message, Part, Request
from prefixcache_integrations.canonical.plan import FindingCode
from prefixcache_integrations.events import BreakReason
from prefixcache_integrations.insight.diagnosis_moves import Form, message_forms
from prefixcache_integrations.insight.diagnosis_words import Divergence, Explanation, remedy
from prefixcache_integrations.profiles.profile import CacheProfile, ToolChange
from prefixcache_integrations.prompt.pricing import lost_read

_CODES: Mapping[BreakReason, FindingCode] = {
    "tool_set_changed": "tools_changed",
    "tool_order_changed": "tools_changed",
    "tool_schema_changed": "tools_changed",
    "system_changed": "system_changed",
    "history_truncated": "history_rewritten",
    "history_rewritten": "history_rewritten",
}


def rewrite(
    previous: Request, current: Request, said: Explanation, profile: CacheProfile, prompt_tokens: int
) -> Finding | None:
    """Return what was done to what ``previous`` left in the cache, ``None`` where that loses nothing.

    ``said`` compares the two; ``prompt_tokens`` is the length of ``current``. The finding's ``tokens`` are those that
    are not read; what of them is sent again has the ``cost`` of its write over that of a read.
    """
    reason, found = said.reason, said.divergence
    if reason is None or reason not in _CODES or found is None or not said.broken:
        return None
    code = _CODES[reason]
    if code == "history_rewritten":
        code = _history(previous, current, found)
    lost = said.lost_tokens
    sent_again = min(lost, max(prompt_tokens - said.readable_tokens, 0))
    cost = sent_again * lost_read(profile)
    what = _TEXTS[code] + _names(current, found, reason)
    return Finding(
        code=code,
        message=f"{what}: {lost:,} cached tokens are not read again, a loss of {cost:,.0f} uncached ones",
        at=found.at,
        tokens=lost,
        cost=cost,
        remedies=(*_remedies(code, current.dialect, profile), remedy(reason)),
    )


_TEXTS: Mapping[FindingCode, str] = {
    "tools_changed": "the tools changed",
    "system_changed": "the instructions changed",
    "history_cleared": "earlier tool calls or results were cleared",
    "history_summarised": "earlier messages were replaced by fewer",
    "history_shortened": "earlier messages were dropped",
    "history_rewritten": "an earlier message was changed",
}

CHANGES = frozenset(_TEXTS)
"""The codes of what `rewrite` finds."""


def _names(current: Request, found: Divergence, reason: BreakReason) -> str:
    changed: tuple[str, ...] = ()
    if reason == "tool_schema_changed" and found.at is not None and found.at.index < len(current.tools):
        changed = (current.tools[found.at.index].name,)
    named = {"removed": found.removed, "added": found.added, "changed": changed}
    return "".join(f", {what}: {', '.join(names)}" for what, names in named.items() if names)


# Which kind of change to the history it is.


def _history(previous: Request, current: Request, found: Divergence) -> FindingCode:
    """Say what was done to the messages from where they differ on, by how many blocks stand in the place of how many.

    Blocks, not messages: some clients join what one side says in a row.
    """
    start = 0 if found.at is None or found.at.section != "messages" else found.at.index
    old, new = previous.messages[start:], current.messages[start:]
    before, after = _forms(old), _forms(new)
    same = _shared(before, after)
    before, after = before[same:], after[same:]
    gone, instead = _replaced(before, after)
    if instead == 0:
        return "history_shortened"
    if instead < gone:
        return "history_summarised"
    changed = [number for number in range(gone) if instead == gone and before[number] != after[number]]
    parts = _parts(old)[same:], _parts(new)[same:]
    is_cleared = changed and all(_is_cleared(parts[0][number], parts[1][number]) for number in changed)
    return "history_cleared" if is_cleared else "history_rewritten"


def _forms(messages: Sequence[Message]) -> list[Form]:
    return [*chain.from_iterable(map(message_forms, messages))]


def _parts(messages: Sequence[Message]) -> list[Part]:
    return [part for message in messages for part in message.parts or (Part(kind="other", raw={}),)]


def _shared(one: Sequence[Form], other: Sequence[Form]) -> int:
    return next((n for n, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))


def _replaced(before: Sequence[Form], after: Sequence[Form]) -> tuple[int, int]:
    """Return how many blocks at the start of ``before`` are gone, and how many stand there instead.

    Both go on with the rest of ``before``; where nothing of it is left, all of it is gone.
    """
    best = (0, len(before), len(after))
    for end, form in enumerate(after, start=1):
        if before and form == before[-1]:
            kept = _shared(before[::-1], after[:end][::-1])
            best = max(best, (kept, len(before) - kept, end - kept))
    return best[1:]


def _is_cleared(old: Part, new: Part) -> bool:
    is_of_tools = old.call_id is not None
    return is_of_tools and (old.kind, old.call_id) == (new.kind, new.call_id) and _size(new) < _size(old)


def _size(part: Part) -> int:
    return len(part.text) + sum(map(_size, part.content))


# What to do instead.


def _remedies(code: FindingCode, dialect: DialectName, profile: CacheProfile) -> Iterator[str]:
    if code == "tools_changed":
        known = _TOOL_CHANGES[dialect]
        yield from (known[change] for change in profile.tool_changes if change in known)
    elif code == "system_changed" and profile.late_instructions is not None:
        yield _LATE.format(role=profile.late_instructions)
    elif code in _HISTORY:
        yield _HISTORY[code]


_DEFERRED = (
    "send every tool on every turn, those that come and go with defer_loading, beside the tool {}; "
    "in LangChain, ProviderToolSearchMiddleware does that"
)
_ALLOWED = 'send every tool on every turn, and name those of this turn in tool_choice={"type": "allowed_tools", …}'

_TOOL_CHANGES: Mapping[DialectName, Mapping[ToolChange, str]] = {
    "anthropic_messages": {
        "deferred": _DEFERRED.format("tool_search_tool_bm25_20251119"),
        "added": "leave tools as they are, and put a tool_addition or tool_removal block into a system message at the "
        "end (beta mid-conversation-tool-changes-2026-07-01)",
    },
    "openai_chat": {"allowed": _ALLOWED},
    "openai_responses": {
        "deferred": _DEFERRED.format("tool_search"),
        "allowed": _ALLOWED,
        "added": "leave tools as they are, and put an additional_tools item at the end of the input",
    },
}

_LATE = "say it in a message of role {role} at the end instead: that leaves the prefix as it is"

_HISTORY: Mapping[FindingCode, str] = {
    "history_cleared": "clear many at a time and seldom; in LangChain, ClearToolUsesEdit(clear_at_least=…)",
    "history_summarised": "summarise seldom and keep little; in LangChain, SummarizationMiddleware(trigger=…, keep=…)",
}
