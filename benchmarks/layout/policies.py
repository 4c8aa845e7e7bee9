"""Fixed policies: where a marker goes whatever the workload. One of them is what every library ships."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple


class Piece(NamedTuple):
    """What a policy sees of one part: its kind, and who says it."""

    kind: str
    role: str


class Marks(NamedTuple):
    """The indices of the parts that are marked, and of those that the provider looks up by itself besides."""

    markers: Sequence[int] = ()
    also: Sequence[int] = ()


Policy = Callable[[Sequence[Piece]], Marks]


def _none(parts: Sequence[Piece]) -> Marks:
    del parts
    return Marks()


def _instructions(parts: Sequence[Piece]) -> list[int]:
    return [index for index, part in enumerate(parts) if part.kind in {"tool", "system"}][-1:]


def _system(parts: Sequence[Piece]) -> Marks:
    return Marks(_instructions(parts))


def _last(parts: Sequence[Piece]) -> Marks:
    return Marks([len(parts) - 1])


def _both(parts: Sequence[Piece]) -> Marks:
    return Marks([*_instructions(parts), len(parts) - 1])


def _everywhere(parts: Sequence[Piece]) -> Marks:
    """LangChain's middleware: the last tool, the last system block, and the top-level marker on the last block."""
    tools = [index for index, part in enumerate(parts) if part.kind == "tool"]
    return Marks([*tools[-1:], *_both(parts).markers])


LOOKED_UP = 20
"""How many earlier ends of messages GPT-5.6's implicit mode looks up (OpenAI docs, prompt caching)."""


def _implicit(parts: Sequence[Piece]) -> Marks:
    """GPT-5.6's implicit mode: the end of the latest message is written, and looked up in later requests.

    They look it up at the ends of earlier messages that are not the model's own, and at that of the instructions.
    """
    said = [index for index, part in enumerate(parts) if part.kind not in {"tool", "system"}]
    ends = [index for index in said if parts[index].kind != "doc" and parts[index].role != "assistant"]
    return Marks(ends[-1:], [*_instructions(parts), *ends[-1 - LOOKED_UP : -1]])


def _implicit_and_system(parts: Sequence[Piece]) -> Marks:
    implicit = _implicit(parts)
    return Marks([*_instructions(parts), *implicit.markers], implicit.also)


AT_MARKERS: Mapping[str, Policy] = {
    "none": _none,
    "system": _system,
    "last": _last,
    "system+last": _both,
    "tools+system+last": _everywhere,
    "automatic": _last,
}
"""Claude. ``automatic`` is its top-level ``cache_control``: the provider marks the last block, and looks back from
there like any marker: under the rule here that is the policy ``last``. ``tools+system+last`` is what LangChain's
middleware does."""

AT_BREAKPOINTS: Mapping[str, Policy] = {
    "none": _none,
    "system": _system,
    "last": _implicit,
    "system+last": _implicit_and_system,
    "automatic": _implicit,
}
"""GPT-5.6 and later. Without its implicit mode nothing is found that was the end of a request before; so that is what
``last`` is. Tools take no breakpoint."""

EVERY_PREFIX: Mapping[str, Policy] = {"as given": _none}
"""Caches that store every prefix: markers mean nothing there, and caching is never off."""
