"""What is written down of a class: true until one of its members is another, or is changed in place."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from operator import is_
from types import FunctionType

from msgspec import Struct

_UNSAID = frozenset({"_abc_impl", "model_config", "lc_attributes"})


class _Written(Struct, frozen=True):
    """What is ``said`` of a class, and the members of its ``parents``, itself among them, that it was said of."""

    said: dict[str, object]
    parents: tuple[tuple[type, tuple[object, ...]], ...]
    changing: tuple[object, ...]
    printed: list[str]

    def holds(self) -> bool:
        """Say whether it is still true."""
        for parent, members in self.parents:
            now = vars(parent)
            if len(now) != len(members) or not all(map(is_, members, now.values())):
                return False
        return not self.changing or [*map(repr, self.changing)] == self.printed


_MOST_WRITTEN = 256
_written: dict[type, _Written] = {}


def said_of(
    kind: type, is_known: Callable[[type], bool], say: Callable[[Sequence[type]], dict[str, object]]
) -> dict[str, object]:
    """Return what ``say`` says of a class and those of its parents that are not known; the same while it is true."""
    known = _written.get(kind)
    if known is None or not known.holds():
        while len(_written) >= _MOST_WRITTEN:
            _written.pop(next(iter(_written)), None)
        known = _written[kind] = _written_now([parent for parent in kind.__mro__ if not is_known(parent)], say)
    return known.said


def _written_now(parents: Sequence[type], say: Callable[[Sequence[type]], dict[str, object]]) -> _Written:
    held = tuple((parent, tuple(vars(parent).values())) for parent in parents)
    members = (member for parent in parents for _, member in members_of(parent))
    changing = tuple(member for member in members if isinstance(member, list | dict | set))
    printed = [*map(repr, changing)]  # before it is said: what changes meanwhile is said anew next time
    return _Written(say(parents), held, changing, printed)


def members_of(kind: type) -> Iterator[tuple[str, object]]:
    """Return the members of ``kind`` that count, by name."""
    for name, member in vars(kind).items():
        if name not in _UNSAID and (not name.startswith("__") or isinstance(member, FunctionType)):
            yield name, member
