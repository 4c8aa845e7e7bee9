"""Whether the answers to laid out requests have begun, told by those who see them, along each call's own context."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from prefixcache_integrations.flows.prepare import Prepared
from prefixcache_integrations.prompt.answers import Answer


class AwaitedCall:
    """A call under way. What is planned in its context is awaited until it says that its answer has begun, or failed.

    It may be planned several times, for each of its attempts and by each of its layers: these wait for one answer.
    """

    def __init__(self, outer: AwaitedCall | None) -> None:
        self.ended = False
        self._outer = outer
        self._own: list[Answer] = []

    @property
    def answers(self) -> list[Answer]:
        """The answers to all that was planned in its context so far."""
        return [*self._own, *([] if self._outer is None else self._outer.answers)]

    def awaits(self, answer: Answer) -> None:
        """Wait for the answer to one more plan."""
        self._own.append(answer)

    def begun(self) -> None:
        """Say that the answer has begun: from now on others can read what was written."""
        if not self.ended:
            self.ended = True
            for each in self._own:
                each.begun()

    def failed(self) -> None:
        """Say that there is none, unless it had begun: nothing was left in the cache."""
        if not self.ended:
            self.ended = True
            for each in self._own:
                each.failed()


_CALL: ContextVar[AwaitedCall | None] = ContextVar("prefixcache_integrations.awaited", default=None)


def begin() -> AwaitedCall:
    """Begin a call, of which it will be told when its answer begins; it is that of this context from now on."""
    outer = _CALL.get()
    call = AwaitedCall(None if outer is None or outer.ended else outer)
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


def planned(prepare: Callable[[], Prepared], now: float) -> Prepared:
    """Return what ``prepare`` makes of a body at ``now``, and wait for its answer if the call of this context tells.

    What the same call has sent before is no reason not to send it again: an attempt follows when one has failed.
    """
    call = _CALL.get()
    if call is None or call.ended:
        return prepare()
    for answer in call.answers:
        answer.begun()
    made = prepare()
    if made.answer is not None:
        call.awaits(made.answer)
    for answer in call.answers:
        answer.await_from(now)
    return made
