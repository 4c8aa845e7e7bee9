"""Which messages of two requests are the same on the wire, cache markers apart: told in bulk, as most are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import chain, compress
from operator import attrgetter, is_not, ne, not_

import msgspec
from msgspec import Struct

from prefixcache_integrations.canonical import JsonObject, Message, Part
from prefixcache_integrations.prompt.content import wire_form

_encoder = msgspec.msgpack.Encoder()


class Layer(Struct, frozen=True):
    """Blocks of one depth, and what to compare of them beside equality.

    ``keys`` are theirs in wire order. ``places`` are the numbers of the blocks that hold more than strings, ``values``
    those blocks: in ``{"a": 1, "b": 2}`` the order counts, and 1 is equal to 1.0.
    """

    count: int
    keys: Sequence[str]
    places: Sequence[int]
    values: Sequence[JsonObject]


class Wording(Struct, frozen=True):
    """Messages, and a layer for each depth to which their blocks are nested."""

    messages: tuple[Message, ...]
    layers: tuple[Layer, ...]


def worded(messages: tuple[Message, ...], known: Wording | None = None) -> Wording:
    """Return ``messages`` with what is to be compared; they may begin with ``known`` ones."""
    layers: list[Layer] = []
    parts = [*chain.from_iterable(map(_parts, messages))]
    while parts:
        depth = len(layers)
        layers.append(_layer(parts, known.layers[depth] if known and depth < len(known.layers) else _NOTHING))
        parts = [*chain.from_iterable(map(_content, parts))]
    return Wording(messages, tuple(layers))


def _layer(parts: Sequence[Part], known: Layer) -> Layer:
    raws = [*map(_raw, parts)]
    later = (number for number in range(known.count, len(raws)) if not _is_plain(raws[number]))
    places = [*known.places, *later]
    return Layer(len(raws), [*chain.from_iterable(raws)], places, [raws[number] for number in places])


_NOTHING = Layer(0, (), (), ())


def grown(known: Wording, messages: tuple[Message, ...]) -> Wording | None:
    """Return ``messages`` if they begin with all the known ones, and these as the very same objects; else ``None``.

    What was decoded from the wire anew is compared once here, and by identity from then on. Messages whose markers
    differ stay the new ones. It is ``None`` also where it is not sure.
    """
    old, new = known.messages, messages[: len(known.messages)]
    if not old or len(new) < len(old):
        return None
    unequal = [*compress(range(len(old)), map(ne, old, new))]
    if not all(_is_marked_otherwise(old[index], new[index]) for index in unequal):
        return None
    now = worded(messages, known)
    if not _are_in_order(known, now):
        return None
    shared = [*old]
    for index in unequal:
        shared[index] = new[index]
    return Wording((*shared, *messages[len(old) :]), now.layers)


def are_same_messages(old: Sequence[Message], new: Sequence[Message]) -> bool:
    """Compare messages but for their markers: most are the same objects or at least equal."""
    changed = [*compress(range(len(old)), map(is_not, old, new))]
    sure = [old[index] == new[index] or _is_marked_otherwise(old[index], new[index]) for index in changed]
    before, after = (tuple(side[index] for index in compress(changed, sure)) for side in (old, new))
    doubtful = [*compress(changed, map(not_, sure))]
    return _are_in_order(worded(before), worded(after)) and are_same_json(
        [_form(old[index]) for index in doubtful], [_form(new[index]) for index in doubtful]
    )


def _are_in_order(known: Wording, now: Wording) -> bool:
    """Tell whether messages that are equal are also the same in what equality passes over."""
    return all(
        later.keys[: len(layer.keys)] == layer.keys and are_same_json(layer.values, later.values[: len(layer.values)])
        for layer, later in zip(known.layers, now.layers, strict=False)
    )


def _is_marked_otherwise(old: Message, new: Message) -> bool:
    """Tell whether nothing but markers differs; it is not sure of nested ones."""
    return (
        old.role == new.role
        and old.raw.get("name") == new.raw.get("name")
        and [*map(_raw, old.parts)] == [*map(_raw, new.parts)]
        and [*map(_content, old.parts)] == [*map(_content, new.parts)]
    )


def _form(message: Message) -> JsonObject:
    """Return what the provider sees of a message, which has no markers."""
    return {
        "role": message.role,
        "name": message.raw.get("name") or "",
        "parts": [wire_form(part) for part in message.parts],
    }


def are_same_json(old: Sequence[JsonObject], new: Sequence[JsonObject]) -> bool:
    """Compare JSON in wire order; what is no JSON is not the same."""
    if len(old) != len(new):
        return False
    if all(left is right for left, right in zip(old, new, strict=True)):
        return True
    try:
        return _encoder.encode(old) == _encoder.encode(new)
    except (TypeError, ValueError, OverflowError):
        return False


_parts: Callable[[Message], tuple[Part, ...]] = attrgetter("parts")
_raw: Callable[[Part], JsonObject] = attrgetter("raw")
_content: Callable[[Part], tuple[Part, ...]] = attrgetter("content")


def _is_plain(raw: JsonObject) -> bool:
    return all(type(value) is str for value in raw.values())
