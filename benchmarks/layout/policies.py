"""Fixed policies: where a marker goes whatever the workload. One of them is what every library ships."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

Policy = Callable[[Sequence[str]], list[int]]
"""From the kinds of a request's parts to the indices that are marked."""


def _none(kinds: Sequence[str]) -> list[int]:
    del kinds
    return []


def _system(kinds: Sequence[str]) -> list[int]:
    static = [index for index, kind in enumerate(kinds) if kind in {"tool", "system"}]
    return static[-1:]


def _last(kinds: Sequence[str]) -> list[int]:
    return [len(kinds) - 1]


def _both(kinds: Sequence[str]) -> list[int]:
    return [*_system(kinds), *_last(kinds)]


def _everywhere(kinds: Sequence[str]) -> list[int]:
    """LangChain's middleware: the last tool, the last system block, and the top-level marker on the last block."""
    tools = [index for index, kind in enumerate(kinds) if kind == "tool"]
    return [*tools[-1:], *_both(kinds)]


FIXED: Mapping[str, Policy] = {
    "none": _none,
    "system": _system,
    "last": _last,
    "system+last": _both,
    "tools+system+last": _everywhere,
    "automatic": _last,
}
"""``automatic`` is Claude's top-level ``cache_control``: the provider marks the last block, and looks back from there
like any marker; under the rule here that is the policy ``last``."""
