"""`ResponseCache` under the real model classes; only the call to the provider is faked."""

import asyncio
import copy
import logging
import sqlite3
import subprocess
import sys

import pytest
from langchain_core.callbacks import get_usage_metadata_callback
from langchain_core.globals import set_llm_cache
from langchain_core.language_models import FakeListChatModel, FakeListLLM
from langchain_core.load import dumps
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.outputs import Generation
from langchain_openai import ChatOpenAI
from langgraph.graph import END, START, MessagesState, StateGraph
from pydantic import BaseModel, PrivateAttr

from prefixcache_integrations.errors import StoreUnavailable
from prefixcache_integrations.events import (
    CacheHit,
    CacheMiss,
    EntryRejected,
    EntryStored,
    PassedThrough,
    StoreDegraded,
)
from prefixcache_integrations.flows.op import EntryKey
from prefixcache_integrations.langchain import ResponseCache, asked
from prefixcache_integrations.langchain.call_site import chat_llm_string
from prefixcache_integrations.stores import MemoryStore, SQLiteStore
from prefixcache_integrations.stores.envelope import pack, unpack

USAGE = {"prompt_tokens": 1200, "completion_tokens": 7, "total_tokens": 1207}


class Model(ChatOpenAI):
    """ChatOpenAI whose provider answers ``Answer 1``, ``Answer 2``, … with the ids and usage of a new call."""

    _calls: list = PrivateAttr(default_factory=list)
    _answer: dict = PrivateAttr(default_factory=dict)

    @property
    def _identifying_params(self):
        return {}

    @property
    def calls(self):
        return len(self._calls)

    def _generate(self, messages, stop=None, run_manager=None, **kwargs):
        self._calls.append(messages)
        number = len(self._calls)
        message = {"role": "assistant", "content": f"Answer {number}", **self._answer.get("message", {})}
        choice = {"index": 0, "finish_reason": self._answer.get("finish_reason", "stop"), "message": message}
        choices = [{**choice, "index": index} for index in range(self.n or 1)]
        body = {"id": f"chatcmpl-{id(self)}-{number}", "model": self.model_name, "choices": choices, "usage": USAGE}
        return self._create_chat_result(body)

    async def _agenerate(self, messages, stop=None, run_manager=None, **kwargs):
        return self._generate(messages, stop, run_manager, **kwargs)


def answering(model, finish_reason="stop", **message):
    model._answer = {"finish_reason": finish_reason, "message": message}
    return model


@pytest.fixture(params=["memory", "sqlite"])
def store(request, tmp_path):
    store = MemoryStore() if request.param == "memory" else SQLiteStore(tmp_path / "answers.db")
    yield store
    store.close()


@pytest.fixture
def seen():
    return []


@pytest.fixture
def cache(store, seen):
    return ResponseCache(store, observers=[seen.append])


@pytest.fixture
def model(cache):
    return Model(model="gpt-4o-mini", api_key="k", cache=cache)


@pytest.fixture(params=["sync", "async"])
def ask(request):
    """Return a function that invokes a model, either way."""
    if request.param == "sync":
        return lambda model, *args, **kwargs: model.invoke(*args, **kwargs)
    return lambda model, *args, **kwargs: asyncio.run(model.ainvoke(*args, **kwargs))


def kinds(seen):
    return [type(event) for event in seen]


def test_a_repeated_question_calls_once(model, ask, seen):
    first, second = ask(model, "hi"), ask(model, "hi")
    assert model.calls == 1
    assert first.content == second.content == "Answer 1"
    assert kinds(seen) == [CacheMiss, EntryStored, CacheHit]
    assert {event.key for event in seen} == {second.response_metadata["prefixcache"]["key"]}
    assert seen[0].model == "gpt-4o-mini"


def test_a_hit_looks_like_a_fresh_answer(model, ask):
    first, second, third = (ask(model, "hi") for _ in range(3))
    assert len({first.id, second.id, third.id}) == 3
    assert second.id.startswith("lc_run--")
    marker = second.response_metadata["prefixcache"]
    assert marker["hit"] is True
    assert marker["usage"]["input_tokens"] == 1200
    assert "prefixcache" not in first.response_metadata
    assert second.usage_metadata["input_tokens"] == second.usage_metadata["total_tokens"] == 0
    assert AIMessage(**second.model_dump()) == second


def test_a_usage_callback_counts_tokens_once(model):
    with get_usage_metadata_callback() as usage:
        for _ in range(5):
            model.invoke("hi")
    assert usage.usage_metadata["gpt-4o-mini"]["input_tokens"] == 1200


def test_a_chat_replayed_four_times_is_paid_for_once(model, ask):
    calls = []
    for _ in range(4):
        before, messages = model.calls, []
        for question in ("one", "two", "three", "four"):
            messages.append(HumanMessage(question))
            messages.append(ask(model, messages))
        calls.append(model.calls - before)
    assert calls == [4, 0, 0, 0]


def test_two_nodes_with_the_same_prompt_keep_two_messages(model):
    def node(state):
        return {"messages": [model.invoke("hi")]}

    graph = StateGraph(MessagesState)
    graph.add_node("one", node)
    graph.add_node("two", node)
    graph.add_edge(START, "one")
    graph.add_edge("one", "two")
    graph.add_edge("two", END)
    model.invoke("hi")
    messages = graph.compile().invoke({"messages": [HumanMessage("hi")]})["messages"]
    assert model.calls == 1
    assert [message.content for message in messages] == ["hi", "Answer 1", "Answer 1"]


def test_what_callers_do_to_an_answer_changes_no_later_one(model, ask):
    call = {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}
    answering(model, "tool_calls", tool_calls=[call])
    for _ in range(3):
        answer = ask(model, "hi")
        assert answer.tool_calls == [{"name": "f", "args": {"a": 1}, "id": "call_1", "type": "tool_call"}]
        assert answer.name is None
        answer.tool_calls[0]["args"]["a"] = 2
        answer.name, answer.content = "agent", "changed"
        answer.response_metadata.clear()
    assert model.calls == 1


def test_deep_copies_of_a_model_share_its_cache(cache):
    model = FakeListChatModel(responses=["Answer 1", "Answer 2"], cache=cache)
    twin = copy.deepcopy(model)
    assert [model.invoke("hi").content, twin.invoke("hi").content] == ["Answer 1", "Answer 1"]
    assert copy.deepcopy(cache.front) is cache.front


def test_every_one_of_several_answers_is_kept(cache):
    model = Model(model="gpt-4o-mini", api_key="k", cache=cache, n=3)
    first, second = (model.generate([[HumanMessage("hi")]]).generations[0] for _ in range(2))
    assert model.calls == 1
    assert [answer.text for answer in first] == [answer.text for answer in second]
    assert len({answer.message.id for answer in (*first, *second)}) == 6


@pytest.mark.parametrize(
    ("finish_reason", "message", "reason"),
    [
        ("length", {}, "token limit"),
        ("content_filter", {}, "filtered"),
        ("stop", {"content": ""}, "empty"),
        (
            "tool_calls",
            {"tool_calls": [{"id": "1", "type": "function", "function": {"name": "f", "arguments": "{"}}]},
            "invalid tool call",
        ),
    ],
)
def test_broken_answers_are_not_stored(model, seen, finish_reason, message, reason):
    answering(model, finish_reason, **message)
    for _ in range(2):
        model.invoke("hi")
    assert model.calls == 2
    assert kinds(seen) == [CacheMiss, EntryRejected] * 2
    assert reason in seen[1].reason


class Joke(BaseModel):
    setup: str


def test_a_request_that_is_not_printed_in_full_is_passed_by(model, seen):
    for _ in range(2):
        model.invoke("hi", response_format=object())
    assert model.calls == 2
    assert kinds(seen) == [PassedThrough, EntryRejected] * 2
    assert "class" in seen[0].reason


def test_a_request_that_leans_on_server_state_is_passed_by(cache, seen):
    model = Model(model="gpt-4o-mini", api_key="k", cache=cache, use_previous_response_id=True)
    for _ in range(2):
        model.invoke("hi")
    assert model.calls == 2
    assert "use_previous_response_id" in seen[0].reason


def test_namespaces_share_nothing_and_are_cleared_alone(store, ask):
    models = {
        name: Model(model="gpt-4o-mini", api_key="k", cache=ResponseCache(store, namespace=name))
        for name in ("a", "ab", "")
    }
    for model in models.values():
        ask(model, "hi")
    assert [model.calls for model in models.values()] == [1, 1, 1]
    models["a"].cache.clear()
    for model in models.values():
        ask(model, "hi")
    assert [model.calls for model in models.values()] == [2, 1, 1]
    asyncio.run(models["ab"].cache.aclear())
    ask(models["ab"], "hi")
    assert models["ab"].calls == 2


def test_clear_takes_no_filter_it_would_have_to_ignore(cache):
    with pytest.raises(TypeError, match="llm_string"):
        cache.clear(llm_string="x")


def test_exact_lets_white_space_count(store):
    lenient = Model(model="gpt-4o-mini", api_key="k", cache=ResponseCache(store))
    exact = Model(model="gpt-4o-mini", api_key="k", cache=ResponseCache(store, exact=True))
    for model in (lenient, exact):
        model.invoke("hi")
        model.invoke(" hi\n")
    assert (lenient.calls, exact.calls) == (1, 2)


def test_answers_live_for_their_ttl():
    now = 0.0
    cache = ResponseCache(MemoryStore(clock=lambda: now), ttl=60)
    model = Model(model="gpt-4o-mini", api_key="k", cache=cache)
    for now, calls in ((0.0, 1), (59.0, 1), (61.0, 2), (119.0, 2)):  # noqa: B007 - the store's clock
        model.invoke("hi")
        assert model.calls == calls


def test_ids_of_hits_come_from_where_they_are_told(store):
    model = Model(model="gpt-4o-mini", api_key="k", cache=ResponseCache(store, new_id=lambda: "mine"))
    model.invoke("hi")
    assert model.invoke("hi").id == "mine"


def test_a_global_cache_from_a_url_survives_the_process(tmp_path):
    script = """
import sys, warnings
from langchain_core.globals import set_llm_cache
from langchain_core.language_models.fake_chat_models import FakeListChatModel
from prefixcache_integrations.langchain import ResponseCache
from prefixcache_integrations.langchain import asked
cache = ResponseCache.from_url(sys.argv[1])
set_llm_cache(cache)
model = FakeListChatModel(responses=["answer"])
print(model.invoke("hi").content, model.invoke("hi").content, cache.stats().misses)
"""
    command = [sys.executable, "-W", "error", "-c", script, f"sqlite:///{tmp_path}/answers.db"]
    for calls in (1, 0):
        run = subprocess.run(command, capture_output=True, text=True, check=True)  # noqa: S603 - our own interpreter
        assert run.stdout == f"answer answer {calls}\n"


def test_a_completion_model_is_answered_by_its_raw_strings(cache):
    set_llm_cache(cache)
    try:
        model = FakeListLLM(responses=["first", "second"])
        assert [model.invoke("hi"), model.invoke("hi"), model.invoke("hi ")] == ["first", "first", "second"]
        assert model.generate(["hi", "hi"]).generations[0][0] == Generation(text="first")
    finally:
        set_llm_cache(None)


@pytest.mark.parametrize("damage", ["cut", "flipped", "garbage", "empty", "text", "swapped", "another codec", "forged"])
def test_a_damaged_row_is_a_miss_is_deleted_and_heals(tmp_path, ask, damage, seen):
    path = tmp_path / "answers.db"
    store = SQLiteStore(path)
    cache = ResponseCache(store, observers=[seen.append])
    model = Model(model="gpt-4o-mini", api_key="k", cache=cache)
    ask(model, "hi")
    ask(model, "other")
    keys = {event.key for event in seen if isinstance(event, EntryStored)}
    key, other = (EntryKey("", event.key) for event in seen if isinstance(event, EntryStored))
    assert len(keys) == 2
    value = store.get(key)
    entry = unpack(key, value)
    damaged = {
        "cut": value[:-3],
        "flipped": value[:40] + bytes([value[40] ^ 1]) + value[41:],
        "garbage": b'{"content": "I am an answer"}',
        "empty": b"",
        "text": "I am an answer",
        "swapped": store.get(other),
        "another codec": pack(key, type(entry)(codec="pickle/1", body=entry.body)),
        "forged": pack(key, type(entry)(codec=entry.codec, body=b"\x91\xa4text")),
    }[damage]
    foreign = sqlite3.connect(path)
    with foreign:
        foreign.execute("UPDATE entries_v2 SET value = ? WHERE digest = ?", (damaged, key.digest))
    del seen[:]
    assert cache.lookup(*asked_by(model)) is None
    assert kinds(seen) == [EntryRejected, CacheMiss]
    assert store.get(key) is None
    assert ask(model, "hi").content == "Answer 3"
    assert ask(model, "hi").content == "Answer 3"
    assert ask(model, "other").content == "Answer 2"
    assert foreign.execute("SELECT count(*) FROM entries_v2").fetchone() == (2,)
    foreign.close()
    store.close()


def asked_by(model):
    """Return the two strings that ``model`` asks with for ``hi``."""
    return dumps([HumanMessage("hi")]), chat_llm_string(model, None, {})


class BrokenStore:
    """A store that is down."""

    def _fail(self, *args):
        raise self.error

    def __init__(self, error):
        self.error = error

    get = put = delete = clear = _fail

    def close(self):
        pass


@pytest.mark.parametrize("error", [StoreUnavailable("down"), ConnectionError("refused"), ValueError("a bug")], ids=repr)
def test_a_store_that_is_down_costs_an_event_and_nothing_else(ask, error, seen, caplog):
    cache = ResponseCache(BrokenStore(error), observers=[seen.append])
    model = Model(model="gpt-4o-mini", api_key="k", cache=cache)
    with caplog.at_level(logging.WARNING):
        assert [ask(model, "hi").content for _ in range(2)] == ["Answer 1", "Answer 2"]
    assert kinds(seen) == [StoreDegraded, CacheMiss, StoreDegraded] * 2
    assert [event.operation for event in seen if isinstance(event, StoreDegraded)] == ["get", "put"] * 2
    assert len(caplog.records) == 1
    with pytest.raises(type(error)):
        cache.clear()


def test_a_database_that_is_none_stops_no_call(tmp_path, seen):
    path = tmp_path / "answers.db"
    path.write_bytes(b"no database at all" * 100)
    cache = ResponseCache.from_url(f"sqlite:///{path}", observers=[seen.append])
    model = Model(model="gpt-4o-mini", api_key="k", cache=cache)
    assert [model.invoke("hi").content for _ in range(2)] == ["Answer 1", "Answer 2"]
    assert seen[0] == StoreDegraded(operation="get", error="StoreUnavailable (DatabaseError)")


def test_an_observer_that_fails_stops_no_call(store):
    def fail(event):
        raise RuntimeError

    model = Model(model="gpt-4o-mini", api_key="k", cache=ResponseCache(store, observers=[fail]))
    assert [model.invoke("hi").content for _ in range(2)] == ["Answer 1", "Answer 1"]


def test_no_event_and_no_log_carries_a_prompt_or_an_answer(model, seen, caplog):
    with caplog.at_level(logging.DEBUG, logger="prefixcache_integrations"):
        for _ in range(2):
            model.invoke("a very secret question")
        answering(model, "length", content="a very secret answer")
        model.invoke("another very secret question")
    assert len(seen) == 5
    assert "secret" not in repr(seen) + caplog.text


def test_no_prompt_is_stored(tmp_path):
    path = tmp_path / "answers.db"
    cache = ResponseCache.from_url(f"sqlite:///{path}")
    Model(model="gpt-4o-mini", api_key="k", cache=cache).invoke("a very secret question")
    cache.close()
    stored = b"".join(file.read_bytes() for file in tmp_path.rglob("*") if file.is_file())
    assert b"Answer 1" in stored
    assert b"secret" not in stored


def test_requests_beyond_the_memo_are_answered_the_same(monkeypatch, model):
    monkeypatch.setattr(asked, "MEMO_SIZE", 3)
    for _ in range(2):
        for number in range(6):
            assert model.invoke(f"question {number}").content == f"Answer {number + 1}"
    assert model.calls == 6
    assert len(model.cache._asked._memo) == 3


def test_the_same_two_strings_are_read_once(monkeypatch, model):
    reads = []
    read = asked.read_call
    monkeypatch.setattr(asked, "read_call", lambda *strings: reads.append(strings) or read(*strings))
    for _ in range(3):
        model.invoke("hi")
    assert len(reads) == 1


def test_many_threads_and_tasks_share_one_cache(model):
    questions = [f"question {number % 5}" for number in range(40)]
    answers = {question: model.invoke(question).content for question in questions[:5]}
    assert [answer.content for answer in model.batch(questions)] == [answers[question] for question in questions]
    tasks = asyncio.run(model.abatch(questions))
    assert [answer.content for answer in tasks] == [answers[question] for question in questions]
    assert model.calls == 5
