"""Single-flight in two halves, for frameworks that call them apart: open a call, and settle it with its answer.

Between the two the call may fail, be cancelled, or its process die: whoever opened it lands its flight then.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Generic, Literal, TypeVar

from msgspec import Struct
from msgspec.structs import replace

from prefixcache_integrations.canonical import Response
from prefixcache_integrations.errors import CorruptEntry
from prefixcache_integrations.events import NOBODY, CacheHit, CacheMiss, CallJoined, PassedThrough
from prefixcache_integrations.flows.flights import (
    UNSHARED,
    Enter,
    Find,
    Flight,
    Join,
    Landed,
    Lease,
    Seat,
    TakeLease,
    led_here,
    moment,
)
from prefixcache_integrations.flows.op import Emit, Entry, EntryKey, Flow, Load, Pause
from prefixcache_integrations.flows.response_cache import (
    Reading,
    Terms,
    accepted,
    degraded,
    missing,
    read,
    save,
    unread,
)

T = TypeVar("T")

FIRST_PAUSE, LONGEST_PAUSE = 0.002, 0.05
"""Seconds between looks at what another process has come to: at first, and after some time."""

LONGEST_HALT = 10.0
"""Seconds that who reads a stream may keep those waiting who follow it; then one of them leads."""

_EVENTS: Mapping[str, type[CacheHit | CallJoined | CacheMiss]] = {
    "hit": CacheHit,
    "joined": CallJoined,
    "miss": CacheMiss,
}


class Opened(Struct, Generic[T], frozen=True, kw_only=True):
    """What opening a call came to.

    ``answer`` where there is one: a "hit", or "joined", of another's call. Without, the caller asks for himself; others
    wait for it if there is a ``flight``. ``began`` is the `moment` from which on he does, for `settle`.
    """

    outcome: Literal["hit", "joined", "miss", "bypass"]
    answer: T | None = None
    flight: Flight | None = None
    began: int = 0


def open_call(terms: Terms, revive: Callable[[Entry], T], *, alone: bool = False) -> Flow[Opened[T]]:
    """Return the stored answer, or what another's call of the same gets, or the flight that the caller now leads.

    ``revive`` makes an entry live and raises `CorruptEntry` for what is no answer of its kind; that is then deleted.
    Who is ``alone`` waits for nobody and leads nobody: nobody would tell what becomes of his call. Raises
    `AnswerNotCached` where only what is stored will do.
    """
    if terms.bypass is not None:
        yield from Emit(PassedThrough(reason=terms.bypass, model=terms.model))
        missing(terms)
        return Opened(outcome="bypass")
    reading: Reading[T] = Reading()
    try:  # as `read` does: a hit needs no generator of its own
        if terms.mode == "refresh":
            yield Load(_nobodys(terms.key))  # shows what others have deleted until now, for `SharedStore.put_since`
        elif (entry := (yield Load(terms.key))) is not None:
            reading = Reading(entry, revive(entry))
    except Exception as error:  # noqa: BLE001 - whatever a store raises, the call goes on without it
        reading = yield from unread(terms.key, error)
    if reading.answer is not None:
        opened = Opened(outcome="hit", answer=reading.answer)
    elif terms.mode == "use" and not alone:
        opened = yield from _join_or_lead(terms, revive, reading)
    else:
        opened = Opened(outcome="miss")  # what others are calling for is no refresh, and not stored either
    try:
        labels = terms.labels if terms.tags or terms.key.namespace else NOBODY
        yield Emit(_EVENTS[opened.outcome](key=terms.key.digest, model=terms.model, labels=labels))
    except BaseException:
        _abandon(opened.flight)
        raise
    if opened.outcome == "miss":
        missing(terms)
        return replace(opened, began=moment())
    return opened


def _nobodys(key: EntryKey) -> EntryKey:
    """Return a key beside ``key`` that is never kept."""
    return EntryKey(key.namespace, "")


def _join_or_lead(terms: Terms, revive: Callable[[Entry], T], reading: Reading[T]) -> Flow[Opened[T]]:
    patience = terms.patience
    while True:
        seat = yield from Enter(terms.key)
        if seat.role == "leader":
            return (yield from _lead(terms, revive, seat, reading, patience))
        if seat.role == "bystander" or patience <= 0:
            return Opened(outcome="miss")
        halt = seat.flight.halt
        waited = yield from Join(seat.flight, min(patience, LONGEST_HALT))
        patience -= waited.seconds
        if waited.landed is None:
            if patience <= 0 or (halt is not None and seat.flight.halt is halt):
                seat.flight.land("released")  # so that those who come now need not wait as long for nothing
        elif waited.landed != "released":
            return _shared(waited.landed, revive)


def _shared(landed: Landed, revive: Callable[[Entry], T]) -> Opened[T]:
    if isinstance(landed, str):
        return Opened(outcome="miss")
    try:
        return Opened(outcome="joined", answer=revive(landed))
    except CorruptEntry:
        return Opened(outcome="miss")  # written for another reader


def _lead(
    terms: Terms, revive: Callable[[Entry], T], seat: Seat, reading: Reading[T], patience: float
) -> Flow[Opened[T]]:
    """Lead, unless meanwhile somebody has stored the answer, or another process leads and comes to one in time."""
    opened: Opened[T] | None = None
    try:
        if not reading.failed:
            opened = yield from _found_elsewhere(terms, revive, seat, patience)
    except BaseException:
        _abandon(seat.flight)
        raise
    return opened or Opened(outcome="miss", flight=seat.flight)


def _found_elsewhere(terms: Terms, revive: Callable[[Entry], T], seat: Seat, patience: float) -> Flow[Opened[T] | None]:
    pause, waited = FIRST_PAUSE, 0.0
    while True:
        lease = yield from _lease(terms, seat.flight)
        reading = yield from read(terms, revive)  # after the lease: who held it has stored before he let go
        if reading.answer is not None and reading.entry is not None:
            seat.flight.land(reading.entry)
            return Opened(outcome="joined" if waited else "hit", answer=reading.answer)
        if lease is not None or reading.failed or not seat.may_wait or waited >= patience or seat.flight.landed:
            return None
        yield from Pause(pause)
        waited += pause
        pause = min(1.5 * pause, LONGEST_PAUSE)


def _lease(terms: Terms, flight: Flight) -> Flow[Lease | None]:
    try:
        lease = yield from TakeLease(terms.key)
    except Exception as error:  # noqa: BLE001 - whatever a store raises, the call goes on without it
        yield from degraded("lease", error)
        return UNSHARED
    if lease is not None:
        flight.hold(lease)
    return lease


def _abandon(flight: Flight | None) -> None:
    if flight is not None:
        flight.land("released")


def settle(
    terms: Terms, answers: Sequence[Response], pack: Callable[[], Entry | None], began: int | None
) -> Flow[None]:
    """Keep an answer, unless policy objects, and give it to everyone who waits for it, whoever leads their flight.

    ``pack`` writes it down, ``None`` if that cannot be done in full. Where it is not kept only the leader's own flight
    ends: everyone in it asks for himself. So it does where entries like it were deleted since the call ``began``: of
    those who wait one leads anew.
    """
    flight = yield from Find(terms.key)
    landed: Landed = "declined"
    try:
        entry = yield from accepted(terms, answers, pack)
        if entry is not None:
            landed = entry
            if not (yield from save(terms, entry, began)):
                landed = "released"
    finally:
        if flight is not None and (isinstance(landed, Entry) or flight in led_here()):
            flight.land(landed)
