"""What a recorded prompt is made of. Of one that adds to another, only what it adds is read."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate, chain, compress, pairwise
from operator import attrgetter
from typing import Literal, TypeAlias

from msgspec import Struct

from prefixcache_integrations.canonical import Address, CacheMarker, Part, Request, Tokenizer, Tool
from prefixcache_integrations.canonical.json import as_object, as_text
from prefixcache_integrations.insight.diagnosis_extension import is_extension, is_plain
from prefixcache_integrations.profiles import CacheProfile
from prefixcache_integrations.prompt.content import COSTS
from prefixcache_integrations.prompt.fingerprint import RollingDigest, tier_seeds
from prefixcache_integrations.prompt.segments import Segment, added_segments, segments, token_counts

Group: TypeAlias = Literal["tools", "system", "documents", "history", "question"]
"""What a part of a prompt is for. The question is all that came after the model's latest answer."""


class Run(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Neighbouring segments of one group, up to a breakpoint.

    ``size`` in bytes; ``digest`` of the prefix up to and with it; ``marker`` is the lifetime that the breakpoint at its
    end asks for, ``""`` for one that leaves it to the provider, ``None`` where there is none.
    """

    group: Group
    tokens: int
    size: int
    digest: str
    marker: str | None = None


class PromptRows(Struct, frozen=True, kw_only=True):
    """A request by the segments of its prompt, a row each.

    ``groups`` are ``None`` for what was said, which is history or question; ``tokens`` and ``sizes`` (in bytes) are of
    all before a row, ``digests`` of the prefix up to and with it. ``head`` are the places of the blocks before the
    messages, ``blocks`` the rows of all blocks. What primes the reply is the last row and not in ``rolling``.
    """

    request: Request
    profile: CacheProfile
    groups: tuple[Group | None, ...]
    tokens: tuple[int, ...]
    sizes: tuple[int, ...]
    digests: tuple[bytes, ...]
    head: tuple[Address, ...]
    blocks: tuple[int, ...]
    rolling: RollingDigest

    def runs(self) -> tuple[Run, ...]:
        """Return neighbouring rows of one group together, up to the breakpoints."""
        groups, asked, markers = self.groups, self._asked(), self._markers()
        starts = {0, *(number + 1 for number in markers), len(groups)}
        starts |= {number for number, (left, right) in enumerate(pairwise(groups), start=1) if left is not right}
        if asked < len(groups) and groups[asked] is None:
            starts.add(asked)
        return tuple(
            Run(
                group=groups[start] or ("question" if start >= asked else "history"),
                tokens=self.tokens[end] - self.tokens[start],
                size=self.sizes[end] - self.sizes[start],
                digest=self.digests[end - 1].hex(),
                marker=markers.get(end - 1),
            )
            for start, end in pairwise(sorted(starts))
        )

    def _asked(self) -> int:
        """Return the row with which the question begins."""
        messages, frame = self.request.messages, COSTS[self.request.dialect].frames
        count = next((len(messages) - at for at, each in enumerate(reversed(messages)) if each.role == "assistant"), 0)
        return len(self.groups) - frame - sum(frame + len(message.parts) for message in messages[count:])

    def _markers(self) -> dict[int, str]:
        """Return the lifetimes asked for, by row.

        Claude's automatic marker stands on the last block that can carry one, GPT-5.6's implicit one at the very end.
        """
        request, blocks = self.request, self.blocks
        holders: list[Tool | Part] = [
            *(request.tools[at.index] if at.section == "tools" else request.system[at.index] for at in self.head),
            *chain.from_iterable(map(_parts, request.messages)),
        ]
        marked = compress(zip(blocks, holders, strict=True), map(_marker, holders))
        found = {row: (holder.marker and holder.marker.ttl) or "" for row, holder in marked}
        options = as_object(request.options.get("prompt_cache_options")) or {}
        implicit = self.profile.automatic_tail and options.get("mode") != "explicit"
        ends = (row for row, holder in _backwards(blocks, holders) if implicit or holder.markable)
        end = next(ends, None) if implicit or request.marker is not None else None
        if end is not None:
            found.setdefault(end, (request.marker.ttl if request.marker else as_text(options.get("ttl"))) or "")
        return found


def prompt_rows(
    request: Request, profile: CacheProfile, tokenizer: Tokenizer, known: PromptRows | None = None
) -> PromptRows:
    """Return ``request`` by its segments; it begins with all messages of a ``known`` one.

    Raises `MalformedRequest` for values that no wire has.
    """
    if known is None or not _only_adds(known, request, profile):
        nothing = PromptRows(
            request=request,
            profile=profile,
            groups=(),
            tokens=(0,),
            sizes=(0,),
            digests=(),
            head=(),
            blocks=(),
            rolling=RollingDigest(tier_seeds(request, profile)),
        )
        return _joined(nothing, request, segments(request), tokenizer)
    kept = len(known.groups) - COSTS[request.dialect].frames
    before = PromptRows(
        request=known.request,
        profile=profile,
        groups=known.groups[:kept],
        tokens=known.tokens[: kept + 1],
        sizes=known.sizes[: kept + 1],
        digests=known.digests[:kept],
        head=known.head,
        blocks=known.blocks,
        rolling=known.rolling,
    )
    return _joined(before, request, added_segments(request, len(known.request.messages)), tokenizer)


def _only_adds(known: PromptRows, request: Request, profile: CacheProfile) -> bool:
    old = known.request.messages
    added = request.messages[len(old) :]
    return (
        profile is known.profile
        and not any(message.role in _INSTRUCTIONS for message in added)
        and all(is_plain(part) for message in added for part in message.parts)
        and is_extension(known.request, request, profile, known=True)
    )


def _joined(before: PromptRows, request: Request, added: Sequence[Segment], tokenizer: Tokenizer) -> PromptRows:
    first, rolling, reply = len(before.groups), before.rolling.copy(), len(added) - COSTS[request.dialect].frames
    digests = [rolling.add(segment) for segment in added[:reply]]
    digests += map(rolling.copy().add, added[reply:])
    sizes = (len(segment.text.encode()) for segment in added)
    places = [(number, segment.at) for number, segment in enumerate(added, start=first) if segment.at is not None]
    return PromptRows(
        request=request,
        profile=before.profile,
        groups=(*before.groups, *_groups(request, added)),
        tokens=(*before.tokens[:-1], *accumulate(token_counts(added, tokenizer), initial=before.tokens[-1])),
        sizes=(*before.sizes[:-1], *accumulate(sizes, initial=before.sizes[-1])),
        digests=(*before.digests, *digests),
        head=(*before.head, *(at for _, at in places if at.section != "messages")),
        blocks=(*before.blocks, *(number for number, _ in places)),
        rolling=rolling,
    )


def _groups(request: Request, prompt: Sequence[Segment]) -> list[Group | None]:
    """Return the group of each segment; framing, which has no place, goes with what it frames."""
    groups: list[Group | None] = []
    following: Group | None = None
    for segment in reversed(prompt):
        if segment.kind != "frame":
            following = _group(request, segment)
        groups.append(following)
    return groups[::-1]


def _group(request: Request, segment: Segment) -> Group | None:
    if segment.kind in ("tools", "system"):
        return "tools" if segment.kind == "tools" else "system"
    if segment.at is None:
        return "system"  # the schema of the answer
    kind = None if segment.at.part is None else request.messages[segment.at.index].parts[segment.at.part].kind
    return "documents" if kind in ("document", "image", "audio") else None


def _backwards(blocks: Sequence[int], holders: Sequence[Tool | Part]) -> Iterator[tuple[int, Tool | Part]]:
    return zip(reversed(blocks), reversed(holders), strict=True)


_INSTRUCTIONS = frozenset({"system", "developer"})
_parts: Callable[[object], tuple[Part, ...]] = attrgetter("parts")
_marker: Callable[[object], CacheMarker | None] = attrgetter("marker")
