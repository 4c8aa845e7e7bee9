"""The blocks of a prompt as they are remembered."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from prefixcache_integrations.prompt.classes import Likeness


class Step(Struct, frozen=True, array_like=True, gc=False):
    """One block of a prompt as it is remembered: its digest and what kind of prefix ends with it.

    ``writes`` is the lifetime in seconds that a marker here asks for, 0 without one.
    """

    key: bytes
    likeness: Likeness
    writes: float = 0.0


def ending(steps: Sequence[Step]) -> int:
    """Return the step that ends what is said in a prompt; behind it is what primes the reply. -1 without one."""
    places = (place for place in reversed(range(len(steps))) if steps[place].likeness.kind != "framing")
    return next(places, -1)


def beyond_tools(steps: Sequence[Step], path: Sequence[int]) -> Sequence[int]:
    """Return ``path``, with which ``steps`` begin, or nothing where a part of the tools is all that was sent of them.

    How often others had these tools too says nothing of a prompt.
    """
    return path if path and steps[len(path) - 1].likeness.kind != "tools" else ()


def in_many_orders(steps: Sequence[Step]) -> bool:
    """Tell whether a prompt could have been sent in others: documents are new in it."""
    return bool(steps) and steps[-1].likeness.after_documents
