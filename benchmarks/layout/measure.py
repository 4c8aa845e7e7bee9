"""What every policy costs under one rule: each request of a workload billed, one after the other."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from benchmarks.layout import hindsight
from benchmarks.layout.ours import Replayer, Sent
from benchmarks.layout.policies import Marks, Piece, Policy
from benchmarks.layout.regimes import Regime
from benchmarks.layout.rules import Bills
from benchmarks.layout.workload import BlockId, Workload


@dataclass
class Run:
    """One workload under one rule: ``lifetime`` in seconds with its times, ``None`` where entries never end."""

    workload: Workload
    regime: Regime
    lifetime: float | None = None

    @cached_property
    def fixed(self) -> Mapping[str, Bills]:
        """The bills of every fixed policy."""
        return {name: self._billed(policy) for name, policy in self.regime.policies.items()}

    @cached_property
    def replayer(self) -> Replayer:
        """The planner's side of it."""
        return Replayer(self.workload)

    @cached_property
    def sent(self) -> tuple[Sent, ...]:
        """Every request as our planner lays it out."""
        return tuple(self.replayer.replay(self.regime, lifetime=self.lifetime))

    @cached_property
    def ours(self) -> Bills:
        """The bills of our planner."""
        rule = self.regime.rule(self.lifetime)
        return Bills(
            rule.bill(row.parts, self.workload.tokens_of(row.parts), marks.markers, row.call.at, marks.also)
            for row, marks in ((row, self._marks(row)) for row in self.sent)
        )

    @property
    def best_fixed(self) -> str:
        """The reference policy that costs least."""
        return min(self.regime.reference, key=lambda name: self.fixed[name].cost)

    @cached_property
    def hindsight(self) -> Mapping[str, Bills]:
        """What knowing the future gives, in the orders that are given, in ours, and in those found by pairs."""
        orders: dict[str, Sequence[Sequence[BlockId]]] = {"as given": [call.parts for call in self.workload.calls]}
        if any(row.parts != row.call.parts for row in self.sent):
            orders["in our orders"] = [row.parts for row in self.sent]
        if any(block.kind == "doc" for block in self.workload.blocks.values()):
            orders["documents paired"] = hindsight.paired(self.workload)
        return {name: Bills(hindsight.bills(self.workload, order, self.regime)) for name, order in orders.items()}

    @property
    def gap_closed(self) -> float | None:
        """Which share of the way from the best fixed policy to the best hindsight ours goes; ``None`` without a way."""
        best, reached = self.fixed[self.best_fixed].cost, min(bills.cost for bills in self.hindsight.values())
        return (best - self.ours.cost) / (best - reached) if best - reached > 1e-4 * best else None

    @property
    def bounds(self) -> tuple[float, float]:
        """Costs that no order of the same blocks, and no layout whatever, goes below."""
        minimum, increment = self.regime.profile.minimum_tokens, self.regime.profile.increment
        read = hindsight.pair_bound(self.workload, minimum, increment)
        orders = self.workload.tokens - (1 - hindsight.READ) * read
        return orders, hindsight.content_bound(self.workload, self.regime.write)

    def _billed(self, policy: Policy) -> Bills:
        rule = self.regime.rule(self.lifetime)
        rows = ((call, policy(_pieces(self.workload, call.parts))) for call in self.workload.calls)
        return Bills(
            rule.bill(call.parts, self.workload.tokens_of(call.parts), marks.markers, call.at, marks.also)
            for call, marks in rows
        )

    def _marks(self, row: Sent) -> Marks:
        """Return where a request is marked; by the provider itself too where it was not told to leave that."""
        automatic = self.regime.policies.get("automatic")
        if not (self.regime.profile.automatic_tail and row.implicit and automatic):
            return Marks(row.marked)
        implicit = automatic(_pieces(self.workload, row.parts))
        return Marks([*row.marked[-3:], *implicit.markers], [*row.marked, *implicit.also])


def _pieces(workload: Workload, parts: Iterable[BlockId]) -> list[Piece]:
    return [Piece(block.kind, block.role) for block in (workload.blocks[part] for part in parts)]
