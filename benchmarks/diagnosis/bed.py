"""Plays cases to the simulator and to the diagnosis, and compares."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.diagnosis.faults import Case
from benchmarks.diagnosis.shapes import Body, Shape
from prefixcache_integrations import dialects, profiles
from prefixcache_integrations.canonical import Request, Tokenizer, Usage
from prefixcache_integrations.insight.diagnosis import Explainer, Explanation, Sent
from prefixcache_integrations.insight.simulator import PromptCache

PAUSE = 1.0
"""Seconds between the requests of a clean conversation."""


@dataclass(frozen=True)
class Verdict:
    """What was right about one diagnosis. ``said`` is the explanation before sending, ``settled`` after."""

    case: Case
    said: Explanation
    settled: Explanation
    lost: int
    reason: bool
    place: bool
    numbers: bool

    @property
    def right(self) -> bool:
        """Whether all of it was."""
        return self.reason and self.place and self.numbers


class Bed:
    """The simulator and the diagnosis with one tokenizer."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer

    def request(self, body: Body, shape: Shape) -> Request:
        """Return the body as it was sent."""
        return dialects.by_name(shape.dialect).decode_request(body)

    def profile(self, request: Request, shape: Shape) -> profiles.CacheProfile:
        """Return the facts about the request's model."""
        return profiles.resolve(request.model, shape.provider)

    def play(self, cache: PromptCache, body: Body, shape: Shape, now: float, *, begun: bool = True) -> Usage:
        """Send a body to the simulated cache and return what is billed."""
        request = self.request(body, shape)
        ticket = cache.begin(request, self.profile(request, shape), scope="", now=now)
        if begun:
            cache.started(ticket, now=now)
        return ticket.usage

    def usage(self, case: Case, shape: Shape, *, clean: bool) -> Usage:
        """Return what the simulator bills for the later request, of the clean pair or the spoiled one."""
        cache = PromptCache(self.tokenizer)
        previous, current = case.clean if clean else (case.previous, case.current)
        kept = [*case.earlier, previous]
        if not clean and case.dropped:
            kept = kept[: -case.dropped]
        for number, body in enumerate(kept):
            last = body is previous
            before = len(case.earlier) - number
            self.play(cache, body, shape, -PAUSE * before, begun=clean or not last or case.begun)
        return self.play(cache, current, shape, PAUSE if clean else case.elapsed)

    def lost(self, case: Case, shape: Shape) -> int:
        """Return how many tokens fewer the simulator reads for the spoiled pair than for the clean one."""
        clean, spoiled = (self.usage(case, shape, clean=clean).cache_read_tokens or 0 for clean in (True, False))
        return max(clean - spoiled, 0)

    def has_effect(self, case: Case, shape: Shape) -> bool:
        """Tell whether the fault is one: the requests differ, or nothing is cached by design, or tokens are lost."""
        return case.path is not None or case.reason == "below_minimum" or self.lost(case, shape) > 0

    def judge(self, case: Case, shape: Shape, *, told: bool) -> Verdict:
        """Explain a case before and after sending; ``told``: with the requests before it."""
        explainer = Explainer(self.tokenizer)
        previous, current = self.request(case.previous, shape), self.request(case.current, shape)
        common = {
            "profile": self.profile(current, shape),
            "elapsed": case.elapsed,
            "previous_begun": case.begun,
            "earlier": self.earlier(case.earlier, shape) if told else None,
        }
        billed, lost = self.usage(case, shape, clean=False), self.lost(case, shape)
        said = explainer.explain(previous, current, **common)
        settled = explainer.explain(previous, current, usage=billed, **common)
        first = settled if case.dropped else said
        found = first.divergence
        return Verdict(
            case=case,
            said=said,
            settled=settled,
            lost=lost,
            reason=first.reason == settled.reason == case.reason,
            place=(found is None and case.path is None)
            or (found is not None and (found.path, found.offset) == (case.path, case.offset)),
            numbers=first.lost_tokens == settled.lost_tokens == lost,
        )

    def earlier(self, bodies: Sequence[Body], shape: Shape) -> list[Sent]:
        """Return the requests before the pair as the diagnosis takes them."""
        requests = [self.request(body, shape) for body in bodies]
        return [
            Sent(request=row, profile=self.profile(row, shape), seconds_before=PAUSE * (len(requests) - number))
            for number, row in enumerate(requests)
        ]

    def alarms(self, bodies: Sequence[Body], shape: Shape) -> list[Explanation]:
        """Return what the diagnosis finds broken in a clean conversation, before and after each request."""
        cache, explainer, found = PromptCache(self.tokenizer), Explainer(self.tokenizer), []
        previous = None
        for number, body in enumerate(bodies):
            current = self.request(body, shape)
            usage = self.play(cache, body, shape, PAUSE * number)
            if previous is not None:
                profile = self.profile(current, shape)
                for bill in (None, usage):
                    said = explainer.explain(previous, current, profile=profile, elapsed=PAUSE, usage=bill)
                    found += [said] if said.broken or said.reason not in (None, "below_minimum") else []
                    if bill and said.readable_tokens != usage.cache_read_tokens:
                        found.append(said)
            previous = current
        return found
