"""What could have been reached: costs with knowledge of the future, and bounds that no layout goes below."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from benchmarks.layout.rules import Markers, Prefixes
from benchmarks.layout.workload import Workload

BUDGET = 4


def marked_with_hindsight(workload: Workload, orders: Sequence[Sequence[int]]) -> float:
    """Return the cost of requests in these orders when markers go, greedily, where later requests will find them.

    Each request is marked at the ends of the longest prefixes it has in common with later requests, the most
    valuable four; not an optimum, but reached by no planner that cannot see the future.
    """
    rule, prefixes = Markers(), Prefixes()
    tokens = {block.id: block.tokens for block in workload.blocks.values()}
    numbered = [prefixes.of(order) for order in orders]
    cost = 0.0
    for index, (order, later) in enumerate(zip(orders, _common(numbered), strict=True)):
        markers = _worth(numbered[index], [tokens[part] for part in order], later, rule)
        cost += rule.bill(order, [tokens[part] for part in order], markers).cost
    return cost


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


def _worth(numbers: Sequence[int], tokens: Sequence[int], later: Sequence[int], rule: Markers) -> list[int]:
    total, sums = 0, list[int]()
    for count in tokens:
        total += count
        sums.append(total)
    found = [place for place, number in enumerate(numbers) if number in rule.entries and sums[place] >= rule.minimum]
    read = sums[found[-1]] if found else 0
    wanted = [place for place, count in enumerate(later) if count and sums[place] >= rule.minimum]
    paying = [
        place
        for place in wanted
        if (sums[place] - read) * (rule.write - 1)
        < sum(
            (1 - rule.read) * later[each] * (min(sums[each], sums[place]) - read)
            for each in wanted
            if sums[each] > read
        )
    ]
    return sorted({*found[-1:], *paying[-(BUDGET - 1) :]})


def content_bound(workload: Workload) -> float:
    """Return a cost that no layout of the same content goes below.

    Every block is written at most once, where that pays, and read ever after, whatever stands before it; a cached
    part of a block counts no more than the block.
    """
    uses: defaultdict[int, int] = defaultdict(int)
    for call in workload.calls:
        for part in set(call.parts):
            uses[part] += 1
    cost = 0.0
    for call in workload.calls:
        cost += sum(workload.blocks[part].tokens for part in call.parts)
    for part, count in uses.items():
        saved = (count - 1) * 0.9 - 0.25
        cost -= max(0.0, saved) * workload.blocks[part].tokens
    return cost
