"""Places in the instructions and tools that change: each is told of once, and known again by a digest."""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from hashlib import blake2b

from prefixcache_integrations.canonical import Address, Finding, Request

PLACES = 1024
"""How many places are remembered, at most."""


class Noticed:
    """The places that were told of: a bounded number, those that were not seen for longest go first."""

    def __init__(self) -> None:
        self._places: OrderedDict[bytes, None] = OrderedDict()

    def unknown(self, findings: Sequence[Finding], places: Sequence[bytes]) -> tuple[Finding, ...]:
        """Return those findings whose place, beside them in ``places``, was not told of."""
        return tuple(each for each, place in zip(findings, places, strict=True) if place not in self._places)

    def observe(self, places: Iterable[bytes]) -> None:
        """Remember places that were told of, now or before."""
        for place in places:
            self._places[place] = None
            self._places.move_to_end(place)
        while len(self._places) > PLACES:
            self._places.popitem(last=False)


def places_of(findings: Sequence[Finding], request: Request, names: Mapping[Address, bytes]) -> Iterator[bytes]:
    """Yield a digest for the place of each finding.

    It is the same in later requests, wherever the place has moved to by then: the name of its tool, or that which
    ``names`` has for its text, what is found there, and the how-manieth of its kind it is.
    """
    before = Counter[bytes]()
    for each in findings:
        kind = f"{each.kind} in ".encode() + _holder(each, request, names)
        before[kind] += 1
        yield blake2b(f"{before[kind]}. ".encode() + kind, digest_size=16).digest()


def _holder(finding: Finding, request: Request, names: Mapping[Address, bytes]) -> bytes:
    if finding.at is None:
        return b""
    if finding.at.section == "tools":
        return b"tool " + request.tools[finding.at.index].name.encode()
    return names.get(finding.at, b"")
