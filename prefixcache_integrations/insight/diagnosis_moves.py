"""What happened between two runs of blocks that are not the same: moved, cut off, or rewritten."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Hashable, Iterator, Sequence
from itertools import chain
from operator import is_
from typing import TypeAlias

from prefixcache_integrations.canonical import Message, Part
from prefixcache_integrations.insight.diagnosis_differences import Difference
from prefixcache_integrations.prompt.content import wire_form
from prefixcache_integrations.prompt.identity import wire_text

Form: TypeAlias = tuple[str, str, str]
"""What the provider sees of a block: role, participant's name, and its JSON."""

_MOVABLE = frozenset({"text", "document", "other"})


def block_forms(role: str, parts: Sequence[Part], name: str = "") -> tuple[Form, ...]:
    """Return the forms of ``parts``; cache markers are no part of them."""
    return tuple((role, name, wire_text(wire_form(part))) for part in parts)


def message_forms(message: Message) -> tuple[Form, ...]:
    """Return the forms of a message's parts, and one that stands for a message without any."""
    name = str(message.raw.get("name") or "")
    return block_forms(message.role, message.parts, name) or ((message.role, name, ""),)


def first_unequal(old: Sequence[Hashable], new: Sequence[Hashable]) -> int | None:
    """Return the first index at which two sequences differ, one that only one of them has included."""
    for index, (left, right) in enumerate(zip(old, new, strict=False)):
        if left != right:
            return index
    return None if len(old) == len(new) else min(len(old), len(new))


def innermost(old: Sequence[Part], new: Sequence[Part], number: int) -> tuple[Sequence[Part], Sequence[Part], int]:
    """Follow a difference at ``number`` into the blocks nested there."""
    while number < min(len(old), len(new)) and old[number].content and new[number].content:
        before, after = old[number].content, new[number].content
        inner = first_unequal(block_forms("", before), block_forms("", after))
        if inner is None:
            break
        old, new, number = before, after, inner
    return old, new, number


def is_reordered(old: Sequence[Part], new: Sequence[Part], start: int) -> bool:
    """Tell whether texts and documents from ``start`` on are the same ones in another order."""
    pairs = zip(_movable(old[start:]), _movable(new[start:]), strict=False)
    return _is_permuted(pairs)


def _movable(parts: Sequence[Part]) -> Iterator[str]:
    """Yield the forms of the blocks up to the first that stays where it is."""
    for part in parts:
        if part.kind not in _MOVABLE:
            return
        yield wire_text(wire_form(part))


def are_messages_reordered(old: Sequence[Message], new: Sequence[Message]) -> bool:
    """Tell whether a run of messages, documents one by one, is the same in another order."""
    return _is_permuted(zip(_movable_run(old), _movable_run(new), strict=False))


def _movable_run(messages: Sequence[Message]) -> Iterator[tuple[Form, ...]]:
    for message in messages:
        is_said = message.role == messages[0].role and message.role in _SPOKEN
        if not is_said or any(part.kind not in _MOVABLE for part in message.parts):
            return
        yield message_forms(message)


_SPOKEN = frozenset({"user", "system", "developer"})


def _is_permuted(pairs: Iterator[tuple[Hashable, Hashable]]) -> bool:
    """Tell whether the left items are the right ones in another order, up to some length."""
    balance: Counter[Hashable] = Counter()
    for left, right in pairs:
        balance[left] += 1
        balance[right] -= 1
        if left != right and not any(balance.values()):
            return True
    return False


def is_shuffled(place: Difference) -> bool:
    """Tell whether two texts have the same lines in another order: documents put into one text."""
    if place.old is None or place.new is None or len(place.old) != len(place.new) or "\n" not in place.old:
        return False
    return place.old != place.new and Counter(place.old.splitlines()) == Counter(place.new.splitlines())


_SUMMARY = 2
"""How many messages may stand for dropped ones: a summary, or one that is asked for and the one that gives it."""


def is_truncated(old: Sequence[Message], new: Sequence[Message]) -> bool:
    """Tell whether messages at the start of ``old`` are gone and the rest goes on, a summary in their place or not.

    All are gone where nothing of them is left and less was said than before.
    """
    if 1 < len(old) <= len(new) and all(map(is_, old[1:], new[1:])):
        return False
    before, after = _named(old, new)
    if len(before) > 1 and after[1 : len(before)] == before[1:]:
        return False
    if any(_goes_on(before, dropped, after) for dropped in range(1, len(before))):
        return True
    return len(after) < len(before) and not {*before} & {*after}


def _goes_on(before: Sequence[Hashable], dropped: int, after: Sequence[Hashable]) -> bool:
    """Tell whether ``after`` has what is left of ``before`` at its start, or behind fewer than were dropped."""
    behind = range(min(dropped, _SUMMARY + 1))
    starts = (start for start in behind if after[start : start + 1] == before[dropped : dropped + 1])
    return any(after[start : start + len(before) - dropped] == before[dropped:] for start in starts)


def _named(*runs: Sequence[Message]) -> list[list[Hashable]]:
    """Return a name for each message, the same for those of the same form: most are told apart by what they say."""
    alike: defaultdict[Hashable, dict[int, Message]] = defaultdict(dict)
    for message in chain.from_iterable(runs):
        alike[message.role, *((part.text, part.call_id) for part in message.parts)][id(message)] = message
    names: dict[int, Hashable] = {}
    for group in alike.values():
        names |= {key: message_forms(message) if len(group) > 1 else key for key, message in group.items()}
    return [[names[id(message)] for message in run] for run in runs]
