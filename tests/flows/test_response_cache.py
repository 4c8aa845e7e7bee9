"""The flows, driven by hand: what they ask for, and what they make of the answers and errors sent in."""

import pytest

from prefixcache_integrations.canonical import Part, Response
from prefixcache_integrations.errors import CorruptEntry, StoreUnavailable
from prefixcache_integrations.events import (
    CacheHit,
    CacheMiss,
    EntryRejected,
    EntryStored,
    Labels,
    PassedThrough,
    StoreDegraded,
)
from prefixcache_integrations.flows.deletions import Outdated
from prefixcache_integrations.flows.flights import Find, GiveUp, moment
from prefixcache_integrations.flows.op import Emit, Empty, Entry, EntryKey, Invalidate, Load, Remove, Save
from prefixcache_integrations.flows.open_settle import open_call, settle
from prefixcache_integrations.flows.response_cache import Terms, empty, invalidate, model_tag

KEY = EntryKey("tenant", "digest")
TERMS = Terms(key=KEY, model="model", ttl=60)
ENTRY = Entry(codec="test/1", body=b"answer")
ANSWER = Response(dialect="openai_chat", id="", model="", parts=(Part(kind="text", raw={}, text="yes"),))


def drive(flow, replies):
    """Return the ops that ``flow`` asks for when sent ``replies`` in turn, with no flight; and its result or error."""
    ops, reply = [], None
    replies = iter([*replies, *[None] * 10])
    try:
        while True:
            op = flow.throw(reply) if isinstance(reply, Exception) else flow.send(reply)
            if not isinstance(op, Find | Outdated):
                ops.append(op)
            reply = None if isinstance(op, Emit | Find | Outdated) else next(replies)
    except StopIteration as done:
        return ops, done.value
    except StoreUnavailable as error:
        return ops, error


def look_up(terms, revive):
    opened = yield from open_call(terms, revive, alone=True)
    return opened.answer


def body(entry):
    return entry.body


def test_a_hit_is_the_revived_entry():
    ops, answer = drive(look_up(TERMS, body), [ENTRY])
    assert answer == b"answer"
    assert ops == [Load(KEY), Emit(CacheHit(key="digest", model="model", labels=Labels(namespace="tenant")))]


def test_no_entry_is_a_miss():
    ops, answer = drive(look_up(TERMS, body), [None])
    assert answer is None
    assert ops == [Load(KEY), Emit(CacheMiss(key="digest", model="model", labels=Labels(namespace="tenant")))]


def test_an_unreadable_entry_is_deleted_and_a_miss():
    ops, answer = drive(look_up(TERMS, body), [CorruptEntry("checksum does not match")])
    assert answer is None
    assert ops == [
        Load(KEY),
        Emit(EntryRejected(key="digest", reason="checksum does not match")),
        Remove(KEY),
        Emit(CacheMiss(key="digest", model="model", labels=Labels(namespace="tenant"))),
    ]


def test_an_entry_that_cannot_be_revived_is_deleted_and_a_miss():
    def refuse(entry):
        raise CorruptEntry("not generations")

    ops, answer = drive(look_up(TERMS, refuse), [ENTRY])
    assert answer is None
    assert ops[1:3] == [Emit(EntryRejected(key="digest", reason="not generations")), Remove(KEY)]


@pytest.mark.parametrize("error", [StoreUnavailable("down"), OSError("broken pipe"), KeyError("a driver's bug")])
def test_a_store_that_fails_to_read_is_a_miss_and_an_event(error):
    ops, answer = drive(look_up(TERMS, body), [error])
    assert answer is None
    assert ops[1] == Emit(StoreDegraded(operation="get", error=type(error).__name__))
    assert ops[2] == Emit(CacheMiss(key="digest", model="model", labels=Labels(namespace="tenant")))


def test_a_store_that_fails_to_delete_an_unreadable_entry_is_an_event_too():
    ops, answer = drive(look_up(TERMS, body), [CorruptEntry("cut"), StoreUnavailable("down")])
    assert answer is None
    assert Emit(StoreDegraded(operation="delete", error="StoreUnavailable")) in ops


def test_the_cause_of_a_failure_is_named_and_never_quoted():
    error = StoreUnavailable("secret value in the driver's message")
    error.__cause__ = TimeoutError("the prompt")
    ops, _ = drive(look_up(TERMS, body), [error])
    assert ops[1] == Emit(StoreDegraded(operation="get", error="StoreUnavailable (TimeoutError)"))


def test_an_interrupt_goes_through():
    flow = look_up(TERMS, body)
    flow.send(None)
    with pytest.raises(KeyboardInterrupt):
        flow.throw(KeyboardInterrupt())


def test_an_answer_is_kept_under_the_terms_and_its_size_told():
    ops, _ = drive(settle(TERMS, [ANSWER], lambda: ENTRY, began := moment()), [123])
    assert ops == [Save(KEY, ENTRY, 60, ("model:model",), began), Emit(EntryStored(key="digest", size=123))]


def test_an_answer_carries_its_tags_and_its_model_as_one_if_it_is_known():
    for model, tags in ((None, ("a", "b")), ("claude", ("a", "b", model_tag("claude")))):
        ops, _ = drive(settle(Terms(key=KEY, model=model, tags=("a", "b")), [ANSWER], lambda: ENTRY, None), [123])
        assert ops[0] == Save(KEY, ENTRY, None, tags)


def test_a_store_that_fails_to_invalidate_is_an_error_and_an_event():
    flow = invalidate("tenant", "tag")
    assert flow.send(None) == GiveUp("tenant", "tag")
    assert flow.send(None) == Invalidate("tenant", "tag")
    degraded = flow.throw(StoreUnavailable("down"))
    assert degraded == Emit(StoreDegraded(operation="invalidate", error="StoreUnavailable"))
    with pytest.raises(StoreUnavailable):
        flow.send(None)


def test_an_answer_that_is_refused_is_not_even_packed():
    def pack():
        pytest.fail("packed")

    cut = Response(dialect="openai_chat", id="", model="", parts=ANSWER.parts, stop_reason="length")
    ops, _ = drive(settle(TERMS, [ANSWER, cut], pack, moment()), [])
    assert ops == [Emit(EntryRejected(key="digest", reason="cut short by the token limit"))]


def test_an_answer_that_cannot_be_written_down_is_rejected():
    ops, _ = drive(settle(TERMS, [ANSWER], lambda: None, moment()), [])
    assert ops == [Emit(EntryRejected(key="digest", reason="cannot be written down in full"))]


def test_an_answer_larger_than_the_store_is_rejected():
    ops, _ = drive(settle(TERMS, [ANSWER], lambda: ENTRY, moment()), [None])
    assert ops[1:] == [Emit(EntryRejected(key="digest", reason="not taken by the store"))]


def test_a_store_that_fails_to_write_loses_no_answer():
    ops, _ = drive(settle(TERMS, [ANSWER], lambda: ENTRY, moment()), [StoreUnavailable("full")])
    assert ops[1:] == [Emit(StoreDegraded(operation="put", error="StoreUnavailable"))]


def test_a_bypassed_request_never_touches_the_store():
    terms = Terms(key=KEY, model="model", bypass="its answer depends on server state (conversation)")
    ops, answer = drive(look_up(terms, body), [])
    assert answer is None
    assert ops == [Emit(PassedThrough(reason=terms.bypass, model="model"))]
    ops, _ = drive(settle(terms, [ANSWER], lambda: ENTRY, moment()), [])
    assert ops == [Emit(EntryRejected(key="digest", reason=terms.bypass))]


def test_emptying_names_one_namespace_and_fails_aloud():
    assert drive(empty("tenant"), []) == ([GiveUp("tenant"), Empty("tenant")], None)
    error = StoreUnavailable("down")
    ops, raised = drive(empty("tenant"), [None, error])
    assert raised is error
    assert ops[2:] == [Emit(StoreDegraded(operation="clear", error="StoreUnavailable"))]
