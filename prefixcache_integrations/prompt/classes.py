"""What prefixes have in common that come back alike: by these classes it is learned how often they do."""

from __future__ import annotations

from typing import ClassVar, NamedTuple, Self, final

from prefixcache_integrations.prompt.priors import SAID, Kind

MANY = 4
"""From how many sightings on a prefix counts as one that is seen all the time."""


class Likeness(NamedTuple):
    """What prefixes have in common that are sent again equally often.

    ``after_documents``: there is a document somewhere in the prefix, one that is new in its conversation.
    ``surprise``: how unlikely its documents come together again, in steps of halving. ``support``: how many similar
    requests had them all. ``last``: it ends in the latest turn, or with the prompt.
    """

    kind: Kind
    after_documents: bool = False
    surprise: int = 0
    support: int = 0
    last: bool = False


ANY = -1


@final
class Class:
    """Prefixes that are waited for alike: of one likeness, sent equally often, up to `MANY`.

    ``begun`` is how the prompt that was sent with them began, `ANY` for all prompts together; ``depth`` how deep
    they lie in what is new of its tools. ``marked``: a marker stands at their end, in a prompt that could have been
    sent in other orders. There is one object of each, of which there are few: what was counted of it is found at once.
    """

    __slots__ = (
        *("likeness", "visits", "begun", "depth", "marked"),
        *("unmarked", "together", "alike", "sorts", "_later", "_once"),
    )

    likeness: Likeness
    visits: int
    begun: int
    depth: int
    marked: bool
    unmarked: Class
    """The same wherever markers stand."""
    together: Class
    """The same of all prompts, however they began."""
    alike: Class
    """The same of all depths as well."""

    sorts: tuple[Class, ...]
    """Those that it counts in: that of all prompts, of those that began like its own, of marked ones."""

    _later: tuple[Class, ...]
    _once: Class | None

    _all: ClassVar[dict[tuple[Likeness, int, int, int, bool], Class]] = {}

    def __new__(
        cls, likeness: Likeness, visits: int, begun: int = ANY, depth: int = 0, *, marked: bool = False
    ) -> Self:
        """Return the one that is called so."""
        key = likeness, visits, begun, depth, marked
        found = cls._all.get(key)
        if found is None:
            made = super().__new__(cls)
            made.likeness, made.visits, made.begun, made.depth, made.marked = key
            made._later, made._once = (), None
            made.unmarked = cls(likeness, visits, begun, depth) if marked else made
            made.together = made.unmarked if begun == ANY else cls(likeness, visits, ANY, depth)
            made.alike = made.together if depth == 0 else cls(likeness, visits)
            made.sorts = tuple(dict.fromkeys((made.together, made.unmarked, made)))
            found = cls._all.setdefault(key, made)
        return found

    @property
    def later(self) -> tuple[Class, ...]:
        """As what they count each time they come again, the last for all others.

        What ends a prompt now will be followed by something then.
        """
        if not self._later:
            likeness = self.likeness._replace(last=False)
            visits = (*range(self.visits + 1, MANY), MANY)
            self._later = tuple(Class(likeness, seen, self.begun, marked=self.marked) for seen in visits)
        return self._later

    @property
    def once(self) -> Class:
        """What was sent but once and is otherwise alike, of all prompts: what is said ended its prompt then."""
        if self._once is None:
            self._once = Class(self.likeness._replace(last=self.likeness.kind in SAID), 1)
        return self._once

    def __repr__(self) -> str:
        """Return it as it is made."""
        return f"Class({self.likeness!r}, {self.visits!r}, {self.begun!r}, {self.depth!r}, marked={self.marked!r})"


def depth(kind: Kind, new: int) -> int:
    """Return how deep a prefix lies in what is new of a prompt's tools, if it ends with the step ``new`` of that.

    Where an application chooses tools anew for each call, some lists begin alike; the longer, the fewer. 0 for all but
    tools, and for what was sent before, of which it is known how often.
    """
    return min(new.bit_length(), DEEPEST) if new > 0 and kind == "tools" else 0


DEEPEST = 3
DEEPER = (1, 2, 4)
"""Up to which `depth` prefixes are told apart, and the steps with which each depth begins."""
