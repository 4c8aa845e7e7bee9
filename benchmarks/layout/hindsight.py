"""What could have been reached: costs with knowledge of the future, and bounds that no layout goes below."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from itertools import accumulate
from typing import NamedTuple

from benchmarks.layout.regimes import Regime
from benchmarks.layout.rules import Bill, Prefixes
from benchmarks.layout.workload import BlockId, Workload

BUDGET = 4
READ = 0.1
"""What reading a token from the cache costs."""


def bills(workload: Workload, orders: Sequence[Sequence[BlockId]], regime: Regime) -> list[Bill]:
    """Return the bills of requests in these orders when markers go, greedily, where later requests find them.

    Each request is marked at the ends of the longest prefixes it has in common with later requests, the most
    valuable four; not an optimum, but reached by no planner that cannot see the future.
    """
    rule, prefixes, written = regime.rule(None), Prefixes(), set[int]()
    numbered = [prefixes.of(order) for order in orders]
    minimum, made = regime.profile.minimum_tokens, list[Bill]()
    for order, numbers, later in zip(orders, numbered, _common(numbered), strict=True):
        tokens = workload.tokens_of(order)
        ends = list(accumulate(tokens))
        wanted = [place for place, count in enumerate(later) if count and ends[place] >= minimum]
        found = [place for place, number in enumerate(numbers) if number in written]
        read = ends[found[-1]] if found else 0
        fee = {place: (ends[place] - read) * (regime.write - 1) for place in wanted}
        paying = [place for place in wanted if _saved(place, wanted, later, ends, read) > fee[place]]
        markers = sorted({*found[-1:], *paying[-(BUDGET - 1) :]})
        written.update(numbers[place] for place in markers)
        made.append(rule.bill(order, tokens, markers))
    return made


def _common(numbered: Sequence[Sequence[int]]) -> list[list[int]]:
    """Return for each request how many later ones diverge from it right after each of its prefixes."""
    last_of: dict[int, int] = {}
    ends: list[list[int]] = [[0] * len(row) for row in numbered]
    where: list[dict[int, int]] = [{number: place for place, number in enumerate(row)} for row in numbered]
    for index, row in enumerate(numbered):
        deepest = next((number for number in reversed(row) if number in last_of), None)
        if deepest is not None:
            earlier = last_of[deepest]
            ends[earlier][where[earlier][deepest]] += 1
        for number in row:
            last_of[number] = index
    return ends


def _saved(place: int, wanted: Sequence[int], later: Sequence[int], ends: Sequence[int], read: int) -> float:
    """Return what later requests save by reading a prefix up to ``place``, beyond what is ``read`` already."""
    each = (later[one] * (min(ends[one], ends[place]) - read) for one in wanted if ends[one] > read)
    return (1 - READ) * sum(each)


def content_bound(workload: Workload, write: float) -> float:
    """Return a cost that no layout of the same content goes below.

    Every block is written at most once, where that pays, and read ever after, whatever stands before it; a cached
    part of a block counts no more than the block.
    """
    uses = Counter(part for call in workload.calls for part in set(call.parts))
    saved = ((count * (1 - READ) - (1 - READ) - (write - 1), part) for part, count in uses.items())
    return workload.tokens - sum(max(0.0, each) * workload.blocks[part].tokens for each, part in saved)


def pair_bound(workload: Workload, minimum: int, increment: int) -> int:
    """Return how many tokens at most are read in any order of the same blocks, where every prefix is stored.

    What a request reads was written by one earlier request: so it is no more than the blocks that the two share.
    """
    everywhere = _in_most(workload)
    having: defaultdict[BlockId, list[int]] = defaultdict(list)
    read = 0
    for number, call in enumerate(workload.calls):
        own = set(call.parts)
        shared: Counter[int] = Counter()
        for part in own - everywhere:
            for earlier in having[part]:
                shared[earlier] += workload.blocks[part].tokens
            having[part].append(number)
        if number:
            always = sum(workload.blocks[part].tokens for part in own & everywhere)
            most = max(shared.values(), default=0) + always
            most = most // increment * increment
            read += most if most >= minimum else 0
    return read


def _in_most(workload: Workload) -> set[BlockId]:
    """Return the blocks of more than half of all requests: they are taken for shared by any two."""
    uses = Counter(part for call in workload.calls for part in set(call.parts))
    return {part for part, count in uses.items() if 2 * count > len(workload.calls)}


class _Pair(NamedTuple):
    tokens: int
    earlier: int
    later: int


def paired(workload: Workload) -> list[tuple[BlockId, ...]]:
    """Return orders found with hindsight: the documents that two requests share lead both, the largest pairs first.

    A request that comes to one whose order is fixed follows it as far as it has those documents.
    """
    documents = [
        [part for part in dict.fromkeys(call.parts) if _is_document(workload, part)] for call in workload.calls
    ]
    fixed: dict[int, list[BlockId]] = {}
    for pair in _pairs(workload, documents):
        one, other = (pair.earlier, pair.later) if pair.earlier in fixed else (pair.later, pair.earlier)
        if other in fixed:
            continue
        if one not in fixed:
            shared = [part for part in documents[one] if part in set(documents[other])]
            fixed[one] = [*shared, *(part for part in documents[one] if part not in set(shared))]
        lead = list(_followed(fixed[one], set(documents[other])))
        fixed[other] = [*lead, *(part for part in documents[other] if part not in set(lead))]
    return [
        _placed(workload, call.parts, fixed.get(number, docs))
        for number, (call, docs) in enumerate(zip(workload.calls, documents, strict=True))
    ]


def _is_document(workload: Workload, part: BlockId) -> bool:
    return workload.blocks[part].kind == "doc"


def _pairs(workload: Workload, documents: Sequence[Sequence[BlockId]]) -> Iterable[_Pair]:
    having: defaultdict[BlockId, list[int]] = defaultdict(list)
    shared: Counter[tuple[int, int]] = Counter()
    for number, row in enumerate(documents):
        for part in row:
            for earlier in having[part]:
                shared[earlier, number] += workload.blocks[part].tokens
            having[part].append(number)
    return sorted((_Pair(tokens, *pair) for pair, tokens in shared.items()), reverse=True)


def _followed(order: Sequence[BlockId], own: set[BlockId]) -> Iterable[BlockId]:
    for part in order:
        if part not in own:
            return
        yield part


def _placed(workload: Workload, parts: Sequence[BlockId], documents: Sequence[BlockId]) -> tuple[BlockId, ...]:
    """Return ``parts`` with its documents, each once, in this order at the places of documents."""
    following = iter(documents)
    if len(documents) != sum(_is_document(workload, part) for part in parts):
        return tuple(parts)
    return tuple(next(following) if _is_document(workload, part) else part for part in parts)
