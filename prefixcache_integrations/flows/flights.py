"""Single-flight: of callers who ask the same at the same time one leads, and the others wait for what it gets.

One table serves all threads and event loops of a process. Who leads is known by context variable, so that what
a leader starts in turn, on whatever thread or task, is known to work for it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from contextvars import ContextVar
from itertools import count
from typing import Literal, Protocol, TypeAlias
from weakref import WeakMethod, ref

from msgspec import Struct

from prefixcache_integrations.flows.deletions import Deletions
from prefixcache_integrations.flows.op import Entry, EntryKey, Op

LONGEST_FLIGHT = 600.0
"""Seconds after which a flight is given up whatever its leader does: as long as the SDKs wait for an answer."""


class Lease(Protocol):
    """The right to lead one key among all processes that share a store."""

    def release(self) -> None:
        """Let others lead. Returns at once, on any thread, and never raises; calling it again does nothing."""
        ...


class _Unshared:
    def release(self) -> None:
        """Do nothing."""


UNSHARED: Lease = _Unshared()
"""Stands for a lease where no other process could hold one."""

Landed: TypeAlias = Entry | Literal["released", "declined"]
"""What a flight came to: the answer; "released", somebody else has to lead; "declined", nothing that could be shared,
and everybody asks for himself."""

_numbers = count(1)


def moment() -> int:
    """Return a number larger than those of all flights and deletions so far, and smaller than those to come."""
    return next(_numbers)


class Flight:
    """One call on its way. ``awaited`` says that its leader is a task, ``since`` when it departed.

    ``halt`` is there, another each time, while a stream waits for who reads it (`halt`, `go_on`).
    """

    def __init__(self, key: EntryKey, *, awaited: bool, since: float, leave: Callable[[Flight], bool]) -> None:
        self.key = key
        self.number = moment()
        self.awaited = awaited
        self.since = since
        self.landing: Future[Landed] = Future()
        self.halt: object | None = None
        self._leave = WeakMethod(leave)  # a table that nobody uses any more goes, and its flights with it
        self._lease: Lease | None = None

    @property
    def landed(self) -> bool:
        """Whether it is over."""
        return self.landing.done()

    def hold(self, lease: Lease) -> None:
        """Release ``lease`` when this flight lands."""
        self._lease = lease
        if self.landed:
            lease.release()

    def land(self, landed: Landed) -> None:
        """End the flight and tell who waits for it; only the first time counts. Never blocks."""
        leave = self._leave()
        if leave is not None and leave(self):
            self.landing.set_result(landed)
            if self._lease is not None:
                self._lease.release()


@contextmanager
def landing(flight: Flight | None) -> Iterator[None]:
    """Land ``flight`` in the end, if it has not landed with an answer by then.

    An error may be its caller's alone, whose key or timeout is no part of what was asked, and it may be everybody's:
    all ask for themselves at once, none after the other. Who is cancelled says nothing: another leads.
    """
    landed: Landed = "released"
    try:
        yield
        landed = "declined"
    except Exception:
        landed = "declined"
        raise
    finally:
        if flight is not None:
            flight.land(landed)


def halt(flight: Flight | None) -> None:
    """Say that what leads ``flight`` waits for its own caller now: those who follow need not wait for him too."""
    if flight is not None:
        flight.halt = object()


def go_on(flight: Flight | None) -> None:
    """Say that it waits no longer."""
    if flight is not None:
        flight.halt = None


class Seat(Struct, frozen=True):
    """How a caller takes part in ``flight``; a bystander neither leads nor may wait.

    ``may_wait``: whether a leader may wait for other processes. Who leads anything else never waits: two who wait
    for what the other leads would do so for ever.
    """

    flight: Flight
    role: Literal["leader", "follower", "bystander"]
    may_wait: bool


class Waited(Struct, frozen=True):
    """What waiting for a flight came to, ``None`` if it is still in the air, and how many seconds it took."""

    landed: Landed | None
    seconds: float


class Enter(Op[Seat], frozen=True):
    """Take part in the flight for ``key``; without one, lead."""

    key: EntryKey


class Find(Op[Flight | None], frozen=True):
    """The flight for ``key``, ``None`` if there is none."""

    key: EntryKey


class Join(Op[Waited], frozen=True):
    """Wait for a flight, at most ``patience`` seconds."""

    flight: Flight
    patience: float


class TakeLease(Op[Lease | None], frozen=True):
    """The lease on ``key`` among the processes that share the store; ``None`` while another holds it."""

    key: EntryKey


class GiveUp(Op[None], frozen=True):
    """Let no answer be kept that ``namespace`` has asked for so far, with ``tag`` none that carries it.

    Without ``tag`` every flight lands with nothing, too: whoever asks next leads anew.
    """

    namespace: str
    tag: str | None = None


_led: ContextVar[tuple[ref[Flight], ...]] = ContextVar("prefixcache_flights_led", default=())


def led_here() -> list[Flight]:
    """Return the flights in the air that this thread or task leads, or that whom it works for leads; oldest first."""
    led = _led.get()
    if not led:
        return []
    known = (reference() for reference in led)
    return [flight for flight in known if flight is not None and not flight.landed]


class Flights:
    """The flights of one cache. ``clock`` returns seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._deletions = Deletions()
        self.begin()

    def begin(self) -> None:
        """Begin with no flight, as a forked process does: who leads those in the air is not in it."""
        self._lock = threading.Lock()  # a new one: the old may have been held by a thread that is not here
        self._in_the_air: dict[EntryKey, Flight] = {}  # in order of departure

    def enter(self, key: EntryKey, *, awaiting: bool, in_loop: bool) -> Seat:
        """Take part in the flight for ``key``; without one, lead.

        ``awaiting`` says whether the caller is a task, ``in_loop`` whether an event loop runs on its thread. Who would
        block a loop waits for no task: it might be one that this loop has to run.
        """
        self._give_up_overdue()
        leads = led_here()
        with self._lock:
            flight = self._in_the_air.get(key)
            leading = flight is None
            if flight is None:
                flight = Flight(key, awaited=awaiting, since=self._clock(), leave=self._leave)
                self._in_the_air[key] = flight
        if leading:
            _led.set((*map(ref, leads), ref(flight)))
            return Seat(flight, "leader", not leads)
        may_wait = not leads and (awaiting or not in_loop or not flight.awaited)
        return Seat(flight, "follower" if may_wait else "bystander", may_wait)

    def find(self, key: EntryKey) -> Flight | None:
        """Return the flight for ``key``, ``None`` if there is none."""
        with self._lock:
            return self._in_the_air.get(key)

    def give_up(self, namespace: str | None = None) -> None:
        """Land every flight of ``namespace``, of all with ``None``, with nothing."""
        with self._lock:
            flights = [flight for key, flight in self._in_the_air.items() if namespace in (None, key.namespace)]
        for flight in flights:
            flight.land("released")

    def delete(self, namespace: str, tag: str | None = None) -> None:
        """Do what `GiveUp` asks for."""
        with self._lock:
            self._deletions.note(moment(), namespace, tag)
        if tag is None:
            self.give_up(namespace)

    def outdated(self, began: int | None, namespace: str, tags: Iterable[str]) -> bool:
        """Return what `Outdated` asks."""
        with self._lock:
            return self._deletions.since(began, namespace, tags)

    def _give_up_overdue(self) -> None:
        while oldest := self._overdue():
            oldest.land("released")

    def _overdue(self) -> Flight | None:
        with self._lock:
            oldest = next(iter(self._in_the_air.values()), None)
        return oldest if oldest is not None and self._clock() - oldest.since > LONGEST_FLIGHT else None

    def _leave(self, flight: Flight) -> bool:
        with self._lock:
            if self._in_the_air.get(flight.key) is not flight:
                return False
            del self._in_the_air[flight.key]
            return True
