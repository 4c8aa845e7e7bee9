"""What was deleted and when: an answer that was asked for before is out of date, and is not kept after."""

from __future__ import annotations

from collections.abc import Iterable

from prefixcache_integrations.flows.op import Op

MOST_REMEMBERED = 1024
"""Of how many namespaces and tags the last deletion is known; to what was asked before the others, all are one."""


class Outdated(Op[bool], frozen=True):
    """Whether an answer to what was asked at the moment ``began`` would have been deleted since; ``None``: just now."""

    namespace: str
    tags: tuple[str, ...]
    began: int | None


class Deletions:
    """The last deletion of each namespace, and of each tag in it. Not locked."""

    def __init__(self) -> None:
        self._latest: dict[tuple[str, str | None], int] = {}  # the longest ago first
        self._forgotten = 0

    def note(self, number: int, namespace: str, tag: str | None) -> None:
        """Remember that at the moment ``number`` entries with ``tag`` were deleted, or of ``None`` any."""
        self._latest.pop((namespace, tag), None)
        self._latest[namespace, tag] = number
        if len(self._latest) > MOST_REMEMBERED:
            self._forgotten = self._latest.pop(next(iter(self._latest)))

    def since(self, began: int | None, namespace: str, tags: Iterable[str]) -> bool:
        """Return whether entries of ``namespace`` with one of ``tags`` may have been deleted after ``began``."""
        if began is None:
            return False
        numbers = (self._latest.get((namespace, tag), 0) for tag in (None, *tags))
        return began < max(self._forgotten, *numbers)
