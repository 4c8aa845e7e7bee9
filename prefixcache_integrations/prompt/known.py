"""Texts of a request of which the application's templates say what in them differs from call to call."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Literal, TypeAlias

from msgspec import Struct

from prefixcache_integrations.canonical import Address, Part, Request
from prefixcache_integrations.prompt.retrieved import retrieved_last
from prefixcache_integrations.prompt.tail_note import own_words

SlotKind: TypeAlias = Literal["value", "documents"]

RETRIEVED = "<documents_"
"""How a block begins that holds what was retrieved for a question."""

_INSTRUCTIONS = frozenset({"system", "developer"})


class Slot(Struct, frozen=True, kw_only=True):
    """What was filled in, from ``start`` to ``end`` in characters; ``documents``: what was looked up for a question."""

    name: str
    start: int
    end: int
    kind: SlotKind = "value"


class KnownText(Struct, frozen=True):
    """A text as it was filled in: but for its ``slots``, in order, it is the same in every call."""

    text: str
    slots: tuple[Slot, ...] = ()


class KnownPrompt(Struct, frozen=True):
    """What is known of a prompt. ``extended``: it may hold a conversation, which a later request goes on with."""

    texts: tuple[KnownText, ...] = ()
    extended: bool = True


NOTHING_KNOWN = KnownPrompt()
"""Of a prompt that no template tells of."""


def filled_texts(instructions: Iterable[Part], known: KnownPrompt) -> Mapping[str, Sequence[Slot]]:
    """Return the slots of the texts of ``instructions`` that a call filled in.

    A text with a value longer than all that the template itself says in them is left out: that value is no detail of
    the instructions but their body, and nobody said that it changes. So is a text with nothing in it.
    """
    slots = {each.text: each.slots for each in known.texts if each.slots}
    if not slots:
        return {}
    found = {part.text: slots.get(part.text, ()) for part in instructions}
    said = sum(len(own_words(text)) - sum(slot.end - slot.start for slot in rows) for text, rows in found.items())
    values = {
        text: max((slot.end - slot.start for slot in rows if slot.kind == "value"), default=0)
        for text, rows in found.items()
    }
    return {text: rows for text, rows in found.items() if text and rows and values[text] <= said}


def was_cut(texts: Sequence[str], known: KnownPrompt) -> bool:
    """Tell whether ``texts``, one after the other, are what an earlier plan left of texts that a call filled in."""
    said = [text for text in texts if text]
    if any(own_words(text) != text for text in said):
        return True
    wholes = [each.text for each in known.texts if each.slots]
    return any(_joined(said[start:], whole) > 1 for whole in wholes for start in range(len(said)))


def _joined(texts: Sequence[str], whole: str) -> int:
    """Return how many of ``texts`` are ``whole`` together, 0 where that is none."""
    done = 0
    for count, text in enumerate(texts, start=1):
        if not whole.startswith(text, done):
            return 0
        done += len(text)
        if done == len(whole):
            return count
    return 0


def conversation(request: Request) -> Iterator[tuple[Address, Part]]:
    """Yield every block that follows the instructions in front, in order."""
    opening = True
    for index, message in enumerate(request.messages):
        opening = opening and message.role in _INSTRUCTIONS
        if not opening:
            for number, part in enumerate(message.parts):
                yield Address("messages", index, number), part


def heads(
    request: Request, known: KnownPrompt, loose: Collection[Address] = ()
) -> tuple[Address | None, Address | None]:
    """Return the last block behind the instructions that every call begins with, and the first that others differ in.

    Those of the first kind are examples, and what a template says before it is filled in. Blocks that are ``loose``
    count as if they stood elsewhere.
    """
    static = {each.text[: each.slots[0].start] if each.slots else each.text for each in known.texts}
    last: Address | None = None
    for at, part in conversation(request):
        if at in loose:
            continue
        if part.kind != "text" or part.text not in static:
            return last, at
        last = at
    return last, None


def marked_range(
    request: Request, known: KnownPrompt, loose: Collection[Address] = ()
) -> tuple[Address | None, Address | None]:
    """Return the last block that every call begins with, and the first that no later request is expected to have.

    A prompt without a place for a conversation is never gone on with; what was retrieved for the latest question is
    not there when the next one is asked. An application that asks for its end to be marked knows better. ``loose`` as
    in `heads`.
    """
    until = retrieved_last(request) if request.marker is None else None
    if known is NOTHING_KNOWN:
        return None, until
    head, first = heads(request, known, loose)
    return head, until if known.extended or request.marker is not None else first
