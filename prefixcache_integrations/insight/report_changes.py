"""What plans found changed in prompts that were cached, added up by what it is."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

from msgspec import Struct

from prefixcache_integrations.canonical import Finding
from prefixcache_integrations.insight.recording import RecordedCall
from prefixcache_integrations.insight.rewrites import CHANGES


class Change(Struct, frozen=True, kw_only=True):
    """All findings of one kind: in how many calls, the tokens that were not read again, and their price.

    ``cost`` is in uncached input tokens. When a value inside the instructions will change nobody knows: there, both are
    those of one time, the dearest.
    """

    what: str
    count: int
    tokens: int
    cost: float
    remedy: str | None


def changes_of(calls: Iterable[RecordedCall]) -> tuple[Change, ...]:
    """Return what was found in ``calls``, the dearest first."""
    found: defaultdict[str, list[Finding]] = defaultdict(list)
    for call in calls:
        for finding in call.findings:
            if finding.code in CHANGES or finding.code == "volatile_text":
                found[_what(finding)].append(finding)
    rows = [_change(what, findings) for what, findings in found.items()]
    return tuple(sorted(rows, key=lambda row: row.cost, reverse=True))


def _what(finding: Finding) -> str:
    if finding.code != "volatile_text":
        return finding.code.replace("_", " ")
    where = "tools" if finding.at is not None and finding.at.section == "tools" else "instructions"
    return f"{finding.kind or 'text'} inside the {where}, each time"


def _change(what: str, findings: Sequence[Finding]) -> Change:
    add = max if findings[0].code == "volatile_text" else sum
    return Change(
        what=what,
        count=len(findings),
        tokens=add(finding.tokens or 0 for finding in findings),
        cost=add(finding.cost or 0.0 for finding in findings),
        remedy=next((finding.remedies[0] for finding in findings if finding.remedies), None),
    )


def rewrite_lines(call: RecordedCall) -> list[str]:
    """Say what was changed in ``call`` since the one before it, a line each, with its price."""
    return [finding.message for finding in call.findings if finding.code in CHANGES]


def other_lines(call: RecordedCall) -> list[str]:
    """Say what else the plan of ``call`` found, but for what would be the same line in every call."""
    said = CHANGES | {"volatile_text", "volatile_moved"}
    return [finding.message for finding in call.findings if finding.code not in said]
