"""The two halves of single-flight, driven by hand: what is asked of the outside, and in which order."""

import contextvars

import pytest
from msgspec import structs

from prefixcache_integrations.canonical import Part, Response
from prefixcache_integrations.errors import AnswerNotCached, CorruptEntry, StoreUnavailable
from prefixcache_integrations.events import (
    CacheHit,
    CacheMiss,
    CallJoined,
    EntryRejected,
    EntryStored,
    Labels,
    PassedThrough,
    StoreDegraded,
)
from prefixcache_integrations.flows.deletions import Outdated
from prefixcache_integrations.flows.flights import Enter, Find, Flights, Join, TakeLease, Waited, go_on, halt, moment
from prefixcache_integrations.flows.op import Emit, Entry, EntryKey, Load, Pause, Save
from prefixcache_integrations.flows.open_settle import Opened, open_call, settle
from prefixcache_integrations.flows.response_cache import Terms

KEY = EntryKey("tenant", "digest")
TERMS = Terms(key=KEY, model="model", patience=10)
ENTRY = Entry(codec="test/1", body=b"answer")
LABELS = Labels(namespace="tenant")
MISS, HIT, JOINED = (
    Emit(kind(key="digest", model="model", labels=LABELS)) for kind in (CacheMiss, CacheHit, CallJoined)
)


class Lease:
    released = False

    def release(self):
        self.released = True


class Outside:
    """Answers the operations of flows: from a flight table, and else from ``replies`` in their order."""

    def __init__(self, *replies):
        self.replies = list(replies)
        self.flights = Flights(lambda: 0.0)
        self.ops = []

    def run(self, flow):
        return contextvars.copy_context().run(self._run, flow)

    def _run(self, flow):
        reply, error = None, None
        while True:
            try:
                op = flow.send(reply) if error is None else flow.throw(error)
            except StopIteration as done:
                return done.value
            if not isinstance(op, Outdated):
                self.ops.append(op)
            reply, error = self._reply(op), None
            if isinstance(reply, BaseException):
                reply, error = None, reply

    def _reply(self, op):
        match op:
            case Enter(key=key):
                return self.flights.enter(key, awaiting=False, in_loop=False)
            case Find(key=key):
                return self.flights.find(key)
            case Outdated(namespace=namespace, tags=tags, began=began):
                return self.flights.outdated(began, namespace, tags)
            case Emit() | Pause():
                return None
        return self.replies.pop(0)

    def led_by_another(self):
        return contextvars.Context().run(self.flights.enter, KEY, awaiting=False, in_loop=False).flight


def revive(entry):
    if entry.codec != "test/1":
        raise CorruptEntry("foreign")
    return entry.body


def answer(text="answer", stop_reason="stop"):
    parts = (Part(kind="text", raw={}, text=text),)
    return Response(dialect="openai_chat", id="", model="", parts=parts, stop_reason=stop_reason)


def test_a_hit_enters_no_flight():
    outside = Outside(ENTRY)
    assert outside.run(open_call(TERMS, revive)) == Opened(outcome="hit", answer=b"answer")
    assert outside.ops == [Load(KEY), HIT]


def test_who_leads_takes_the_lease_and_then_looks_again():
    lease = Lease()
    outside = Outside(None, lease, None)
    opened = outside.run(open_call(TERMS, revive))
    assert (opened.outcome, opened.answer) == ("miss", None)
    assert outside.ops == [Load(KEY), Enter(KEY), TakeLease(KEY), Load(KEY), MISS]
    assert outside.flights.find(KEY) is opened.flight
    opened.flight.land("released")
    assert lease.released


def test_what_was_stored_in_between_is_a_hit_for_everyone():
    lease = Lease()
    outside = Outside(None, lease, ENTRY)
    assert outside.run(open_call(TERMS, revive)) == Opened(outcome="hit", answer=b"answer")
    assert outside.ops[-1] == HIT
    assert outside.flights.find(KEY) is None
    assert lease.released


def test_another_process_is_waited_for_until_it_has_stored_its_answer():
    outside = Outside(None, None, None, None, None, None, ENTRY)
    assert outside.run(open_call(TERMS, revive)) == Opened(outcome="joined", answer=b"answer")
    look = [TakeLease(KEY), Load(KEY)]
    first, second = (op for op in outside.ops if isinstance(op, Pause))
    assert outside.ops == [Load(KEY), Enter(KEY), *look, first, *look, second, *look, JOINED]
    assert 0 < first.seconds < second.seconds


def test_another_process_that_gives_its_lease_back_with_no_answer_is_followed():
    outside = Outside(None, None, None, Lease(), None)
    opened = outside.run(open_call(TERMS, revive))
    assert opened.outcome == "miss"
    assert opened.flight is outside.flights.find(KEY)


def test_another_process_is_waited_for_no_longer_than_patience():
    outside = Outside(*[None] * 10_000)
    opened = outside.run(open_call(TERMS, revive))
    assert opened.flight is not None
    pauses = [op.seconds for op in outside.ops if isinstance(op, Pause)]
    assert 10 <= sum(pauses) < 10.1
    assert max(pauses) <= 0.05


def test_a_store_that_fails_is_asked_for_no_lease_and_callers_still_join_each_other():
    outside = Outside(StoreUnavailable("down"))
    opened = outside.run(open_call(TERMS, revive))
    assert outside.ops == [Load(KEY), Emit(StoreDegraded(operation="get", error="StoreUnavailable")), Enter(KEY), MISS]
    assert opened.flight is outside.flights.find(KEY)


def test_a_lease_that_cannot_be_had_is_gone_without():
    outside = Outside(None, StoreUnavailable("down"), None)
    opened = outside.run(open_call(TERMS, revive))
    assert opened.flight is not None
    assert Emit(StoreDegraded(operation="lease", error="StoreUnavailable")) in outside.ops


@pytest.mark.parametrize("interrupted", ["lease", "look", "told"])
def test_who_is_interrupted_while_he_begins_to_lead_leads_no_more(interrupted):
    replies = {"lease": [None, KeyboardInterrupt()], "look": [None, Lease(), KeyboardInterrupt()]}
    outside = Outside(*replies.get(interrupted, [None, Lease(), None]))
    flow = open_call(TERMS, revive)
    if interrupted == "told":
        outside.replies.append(KeyboardInterrupt())
        outside._reply = lambda op: outside.replies.pop(0) if isinstance(op, Emit) else Outside._reply(outside, op)
    with pytest.raises(KeyboardInterrupt):
        outside.run(flow)
    assert outside.flights.find(KEY) is None


def test_who_follows_gets_what_the_leader_got():
    outside = Outside(None, Waited(ENTRY, 1.0))
    flight = outside.led_by_another()
    assert outside.run(open_call(TERMS, revive)) == Opened(outcome="joined", answer=b"answer")
    assert outside.ops == [Load(KEY), Enter(KEY), Join(flight, 10), JOINED]


@pytest.mark.parametrize("landed", ["declined", Entry(codec="foreign/1", body=b"")])
def test_where_a_leader_got_nothing_to_share_everyone_asks_for_himself(landed):
    outside = Outside(None, Waited(landed, 1.0))
    outside.led_by_another()
    assert outside.run(open_call(TERMS, revive)).outcome == "miss"


def test_a_stream_whose_reader_pauses_is_led_by_another():
    outside = Outside(None, Waited(None, 10.0), Lease(), None)
    old = outside.led_by_another()
    halt(old)
    opened = outside.run(open_call(structs.replace(TERMS, patience=60), revive))
    assert old.landing.result(0) == "released"
    assert opened.flight is outside.flights.find(KEY) is not None


def test_a_stream_that_is_read_is_waited_for_as_long_as_it_takes():
    outside = Outside(None)
    flight = outside.led_by_another()
    halt(flight)

    def read_on(op):
        if not isinstance(op, Join):
            return Outside._reply(outside, op)
        go_on(flight)
        if op.patience < 10:
            return Waited(ENTRY, 1.0)
        halt(flight)
        return Waited(None, 10.0)

    outside._reply = read_on
    assert outside.run(open_call(structs.replace(TERMS, patience=25), revive)).outcome == "joined"
    assert [op.patience for op in outside.ops if isinstance(op, Join)] == [10, 10, 5]
    assert not flight.landed


def test_when_a_leader_is_gone_one_who_followed_leads():
    outside = Outside(None)
    flight = outside.led_by_another()

    def land_and_go_on(op):
        if isinstance(op, Join):
            flight.land("released")
            outside.replies = [Lease(), None]
            return Waited("released", 1.0)
        return Outside._reply(outside, op)

    outside._reply = land_and_go_on
    opened = outside.run(open_call(TERMS, revive))
    assert opened.flight is outside.flights.find(KEY) is not flight


def test_a_flight_that_outlasts_patience_is_led_anew_by_who_gives_it_up():
    outside = Outside(None, Waited(None, 10.0), None, None)
    old = outside.led_by_another()
    opened = outside.run(open_call(TERMS, revive))
    assert old.landing.result(0) == "released"
    assert opened.flight is outside.flights.find(KEY) is not None
    assert not [op for op in outside.ops if isinstance(op, Pause)]


def test_waiting_for_one_leader_after_another_takes_no_longer_than_patience():
    outside = Outside(None, Waited("released", 6.0), Waited("released", 6.0))
    outside.led_by_another()
    assert outside.run(open_call(TERMS, revive)).outcome == "miss"
    assert [op.patience for op in outside.ops if isinstance(op, Join)] == [10, 4]


def test_who_has_no_patience_never_waits():
    outside = Outside(None)
    outside.led_by_another()
    assert outside.run(open_call(Terms(key=KEY, patience=0), revive)).outcome == "miss"
    outside = Outside(None, None, None)
    assert outside.run(open_call(Terms(key=KEY, patience=0), revive)).flight is not None
    assert not [op for op in outside.ops if isinstance(op, Pause)]


def test_who_leads_something_else_waits_for_no_process():
    outside = Outside(None, None, None)

    def leading():
        outside.flights.enter(EntryKey("tenant", "other"), awaiting=False, in_loop=False)
        return outside._run(open_call(TERMS, revive))

    assert contextvars.copy_context().run(leading).outcome == "miss"
    assert not [op for op in outside.ops if isinstance(op, Pause)]


def test_what_is_not_to_be_cached_enters_no_flight():
    outside = Outside()
    bypassed = Terms(key=KEY, model="model", bypass="reasons")
    assert outside.run(open_call(bypassed, revive)) == Opened(outcome="bypass")
    assert outside.ops == [Emit(PassedThrough(reason="reasons", model="model"))]


def test_a_refresh_reads_no_answer_and_leads_nothing():
    outside = Outside(None)
    assert outside.run(open_call(Terms(key=KEY, model="model", mode="refresh"), revive)).outcome == "miss"
    assert outside.ops == [Load(EntryKey("tenant", "")), MISS]  # what others have deleted until now


def test_a_refresh_goes_on_without_a_store_that_fails():
    outside = Outside(StoreUnavailable("down"))
    assert outside.run(open_call(Terms(key=KEY, model="model", mode="refresh"), revive)).outcome == "miss"
    assert outside.ops[1:] == [Emit(StoreDegraded(operation="get", error="StoreUnavailable")), MISS]


def test_who_wants_only_what_is_stored_leads_nothing():
    outside = Outside(None)
    with pytest.raises(AnswerNotCached):
        outside.run(open_call(Terms(key=KEY, model="model", mode="only"), revive))
    assert outside.flights.find(KEY) is None


def test_an_answer_is_stored_before_it_is_shared():
    outside = Outside(7)
    flight = outside.led_by_another()
    shared = []
    flight.landing.add_done_callback(lambda _: shared.append(len(outside.ops)))
    outside.run(settle(TERMS, [answer()], lambda: ENTRY, began := moment()))
    save = Save(KEY, ENTRY, None, ("model:model",), began)
    assert outside.ops == [Find(KEY), save, Emit(EntryStored(key="digest", size=7))]
    assert shared == [3]
    assert flight.landing.result(0) == ENTRY


@pytest.mark.parametrize("error", [StoreUnavailable("down"), KeyboardInterrupt()], ids=repr)
def test_an_answer_that_could_not_be_stored_is_shared_all_the_same(error):
    outside = Outside(error)
    flight = outside.led_by_another()
    try:
        outside.run(settle(TERMS, [answer()], lambda: ENTRY, moment()))
    except KeyboardInterrupt:
        assert isinstance(error, KeyboardInterrupt)
    assert flight.landing.result(0) == ENTRY


def test_an_answer_that_is_refused_ends_the_flight_of_its_leader_and_no_other():
    outside = Outside()
    refused = [answer(stop_reason="length")]
    other = outside.led_by_another()
    outside.run(settle(TERMS, refused, lambda: ENTRY, moment()))
    assert isinstance(outside.ops[-1].event, EntryRejected)
    assert not other.landed
    other.land("released")

    def lead_and_settle():
        flight = outside.flights.enter(KEY, awaiting=False, in_loop=False).flight
        outside._run(settle(TERMS, refused, lambda: ENTRY, moment()))
        return flight

    assert contextvars.copy_context().run(lead_and_settle).landing.result(0) == "declined"
