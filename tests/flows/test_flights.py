import asyncio
import contextvars
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest

from prefixcache_integrations.flows.flights import LONGEST_FLIGHT, Flights, landing, led_here, moment
from prefixcache_integrations.flows.op import Entry, EntryKey

KEY, OTHER = EntryKey("tenant", "digest"), EntryKey("tenant", "other")
ENTRY = Entry(codec="test/1", body=b"answer")


@pytest.fixture
def flights():
    return Flights(lambda: 0.0)


def enter(flights, key=KEY, *, awaiting=False, in_loop=False):
    return flights.enter(key, awaiting=awaiting, in_loop=in_loop)


def elsewhere(function, *arguments, **settings):
    """Call ``function`` as a thread or task would that works for nobody here."""
    return contextvars.Context().run(function, *arguments, **settings)


class Lease:
    releases = 0

    def release(self):
        self.releases += 1


def test_who_comes_first_leads_and_who_comes_later_follows_until_it_lands(flights):
    leader, follower = enter(flights), elsewhere(enter, flights)
    assert (leader.role, follower.role) == ("leader", "follower")
    assert follower.flight is leader.flight is flights.find(KEY)
    leader.flight.land(ENTRY)
    assert follower.flight.landing.result(0) == ENTRY
    assert flights.find(KEY) is None
    assert elsewhere(enter, flights).role == "leader"


def test_other_keys_are_other_flights(flights):
    assert elsewhere(enter, flights).role == elsewhere(enter, flights, OTHER).role == "leader"
    assert elsewhere(enter, flights, EntryKey("another tenant", "digest")).role == "leader"


def test_who_leads_anything_never_waits_not_even_for_itself(flights):
    elsewhere(enter, flights, OTHER)
    leader = enter(flights)
    assert enter(flights).role == "bystander"
    assert enter(flights, OTHER).role == "bystander"
    assert enter(Flights(lambda: 0.0), OTHER).may_wait is False
    leader.flight.land("released")
    assert enter(flights, OTHER).role == "follower"


def test_what_a_leader_starts_on_other_threads_and_tasks_works_for_it(flights):
    enter(flights)
    elsewhere(enter, flights, OTHER)
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(contextvars.copy_context().run, enter, flights, OTHER).result().role == "bystander"
        assert pool.submit(enter, flights, OTHER).result().role == "follower"

    async def task():
        return enter(flights, OTHER, awaiting=True, in_loop=True).role

    assert asyncio.run(task()) == "bystander"


def test_what_is_led_is_known_oldest_first_and_forgotten_when_it_has_landed(flights):
    before = moment()
    first, second = enter(flights).flight, enter(flights, OTHER).flight
    assert led_here() == [first, second]
    assert before < first.number < second.number < moment()
    first.land("released")
    assert led_here() == [second]
    assert elsewhere(led_here) == []


def test_who_would_block_a_loop_waits_for_threads_and_not_for_tasks(flights):
    elsewhere(enter, flights, awaiting=True, in_loop=True)
    elsewhere(enter, flights, OTHER)
    assert elsewhere(enter, flights, in_loop=True).role == "bystander"
    assert elsewhere(enter, flights, OTHER, in_loop=True).role == "follower"
    assert elsewhere(enter, flights).role == "follower"
    assert elsewhere(enter, flights, OTHER, awaiting=True, in_loop=True).role == "follower"


def test_only_the_first_landing_counts(flights):
    flight = enter(flights).flight
    for landed in (ENTRY, "released", "declined"):
        flight.land(landed)
    assert flight.landing.result(0) == ENTRY


@pytest.mark.parametrize(
    ("end", "landed"), [(ValueError(), "declined"), (KeyboardInterrupt(), "released"), (None, "declined")], ids=repr
)
def test_who_fails_leaves_everyone_to_himself_and_who_is_interrupted_leaves_the_lead(flights, end, landed):
    flight = enter(flights).flight
    with suppress(ValueError, KeyboardInterrupt), landing(flight):
        if end is not None:
            raise end
    assert flight.landing.result(0) == landed


def test_an_old_flight_lands_beside_the_new_one(flights):
    old = enter(flights).flight
    old.land("released")
    new = enter(flights).flight
    old.land(ENTRY)
    assert flights.find(KEY) is new
    assert not new.landed


def test_a_lease_is_held_as_long_as_the_flight(flights):
    flight, lease, late = enter(flights).flight, Lease(), Lease()
    flight.hold(lease)
    assert lease.releases == 0
    flight.land(ENTRY)
    assert lease.releases == 1
    flight.hold(late)
    assert late.releases == 1


def test_giving_up_lands_the_flights_of_one_namespace_or_of_all(flights):
    keys = (KEY, OTHER, EntryKey("another tenant", "digest"))
    first, second, third = (elsewhere(enter, flights, key).flight for key in keys)
    flights.give_up("tenant")
    assert [flight.landed for flight in (first, second, third)] == [True, True, False]
    assert first.landing.result(0) == "released"
    flights.give_up()
    assert third.landed


def test_a_flight_that_never_lands_is_given_up_in_the_end():
    now = 0.0
    flights = Flights(lambda: now)
    old = elsewhere(enter, flights).flight
    now = LONGEST_FLIGHT
    young = elsewhere(enter, flights, OTHER).flight
    assert not old.landed
    now = LONGEST_FLIGHT + 1
    assert elsewhere(enter, flights).role == "leader"
    assert old.landing.result(0) == "released"
    assert not young.landed


def test_of_many_threads_one_leads(flights):
    together = threading.Barrier(50)

    def work(_):
        together.wait()
        seat = enter(flights)
        if seat.role == "leader":
            seat.flight.land(ENTRY)
        return seat.flight.landing.result(5)

    with ThreadPoolExecutor(50) as pool:
        assert list(pool.map(work, range(50))) == [ENTRY] * 50


def test_nothing_is_kept_of_a_flight_that_is_over(flights):
    flight = enter(flights).flight
    flight.land(ENTRY)
    gone = weakref.ref(flight)
    del flight
    assert gone() is None
