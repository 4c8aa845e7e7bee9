"""Whether the answers to laid out requests have begun, told by those who see them, along each call's own context."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from prefixcache_integrations.prompt.answers import Answer
from prefixcache_integrations.prompt.stability import PromptMemory


class AwaitedCall:
    """A call under way. What is planned in its context is awaited until it says that its answer has begun, or failed.

    It may be planned several times, for each of its attempts and by each of its layers: these wait for one answer.
    """

    def __init__(self, outer: AwaitedCall | None) -> None:
        self.ended = False
        self.outer = outer
        self.answers: dict[PromptMemory, Answer] = {}

    @property
    def under_way(self) -> Iterator[AwaitedCall]:
        """This call and those around it, as far as they have not ended."""
        call: AwaitedCall | None = self
        while call is not None:
            if not call.ended:
                yield call
            call = call.outer

    def answer(self, memory: PromptMemory, now: float) -> Answer:
        """Return the answer to what is planned by ``memory``; what all layers planned is awaited from ``now``."""
        known: dict[PromptMemory, Answer] = {}
        for layer in self.under_way:
            known = layer.answers | known
        for answer in known.values():
            answer.await_from(now)
        return self.answers.setdefault(memory, known.get(memory) or Answer())

    def begun(self) -> None:
        """Say that the answer has begun: from now on others can read what was written."""
        for each in self._end():
            each.begun()

    def failed(self) -> None:
        """Say that there is none, unless it had begun: nothing was left in the cache."""
        for each in self._end():
            each.failed()

    def _end(self) -> Iterable[Answer]:
        """Return what was awaited until now: the context of a call may live long, and keeps no memory alive."""
        self.ended, answers, self.answers = True, self.answers, {}
        return answers.values()


_CALL: ContextVar[AwaitedCall | None] = ContextVar("prefixcache_integrations.awaited", default=None)


def begin() -> AwaitedCall:
    """Begin a call, of which it will be told when its answer begins; it is that of this context from now on."""
    call = AwaitedCall(_under_way())
    _CALL.set(call)
    return call


@contextmanager
def answered_at_once() -> Iterator[AwaitedCall]:
    """Follow a call that returns when its answer has begun, and raises where there is none."""
    call = begin()
    try:
        yield call
    except BaseException:
        call.failed()
        raise
    call.begun()


def answer_to(memory: PromptMemory | None, now: float) -> Answer | None:
    """Return the answer to what is planned in this context at ``now`` by ``memory``; ``None`` where nobody tells."""
    call = _under_way()
    return None if memory is None or call is None else call.answer(memory, now)


def _under_way() -> AwaitedCall | None:
    latest = _CALL.get()
    return None if latest is None else next(latest.under_way, None)
