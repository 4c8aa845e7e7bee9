"""One call for many alike, through LangChain: and no flight left in the air, however a call ends."""

import asyncio
import contextvars
import gc
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext, suppress

import pytest
from langchain.agents import create_agent
from langchain.agents.middleware import ModelFallbackMiddleware, ModelRetryMiddleware
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.language_models import BaseLLM, SimpleChatModel
from langchain_core.load import dumps
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.outputs import ChatGeneration, ChatResult, Generation, LLMResult
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import RunnableLambda
from pydantic import PrivateAttr

from prefixcache_integrations.cache import PrefixCache
from prefixcache_integrations.events import CacheHit, CacheMiss, CallJoined
from prefixcache_integrations.flows.flights import led_here
from prefixcache_integrations.flows.op import EntryKey
from prefixcache_integrations.flows.response_cache import Terms
from prefixcache_integrations.langchain import ResponseCache
from prefixcache_integrations.langchain.call_site import chat_llm_string
from prefixcache_integrations.stores import MemoryStore, SQLiteStore


class Provider:
    """What both kinds of model below ask: counts, takes its time, and fails as told."""

    def __init__(self, seconds=0.0, errors=()):
        self.calls = 0
        self.seconds = seconds
        self.errors = list(errors)
        self.during = None
        self._lock = threading.Lock()

    def begin(self):
        with self._lock:
            self.calls += 1
            if self.during is not None:
                self.during()
            if self.errors:
                raise self.errors.pop(0)

    def call(self):
        self.begin()
        time.sleep(self.seconds)

    async def acall(self):
        self.begin()
        await asyncio.sleep(self.seconds)


class Chat(SimpleChatModel):
    name: str = "chat"
    _provider: Provider = PrivateAttr()

    def __init__(self, provider, cache, **fields):
        super().__init__(cache=cache, **fields)
        self._provider = provider

    @property
    def _llm_type(self):
        return "chat"

    @property
    def _identifying_params(self):
        return {"name": self.name}

    def bind_tools(self, tools, **kwargs):
        return self

    def _call(self, messages, stop=None, run_manager=None, **kwargs):
        self._provider.call()
        return f"answer to {messages[-1].text}"

    async def _agenerate(self, messages, stop=None, run_manager=None, **kwargs):
        await self._provider.acall()
        message = AIMessage(f"answer to {messages[-1].text}")
        return ChatResult(generations=[ChatGeneration(message=message)])


class Completion(BaseLLM):
    _provider: Provider = PrivateAttr()

    def __init__(self, provider, cache):
        super().__init__(cache=cache)
        self._provider = provider

    @property
    def _llm_type(self):
        return "completion"

    @property
    def _identifying_params(self):
        return {}

    def _generate(self, prompts, stop=None, run_manager=None, **kwargs):
        self._provider.call()
        return LLMResult(generations=[[Generation(text=f"answer to {prompt}")] for prompt in prompts])

    async def _agenerate(self, prompts, stop=None, run_manager=None, **kwargs):
        await self._provider.acall()
        return LLMResult(generations=[[Generation(text=f"answer to {prompt}")] for prompt in prompts])


@pytest.fixture
def seen():
    return []


@pytest.fixture(params=["memory", "sqlite"])
def cache(request, tmp_path, seen):
    store = MemoryStore() if request.param == "memory" else SQLiteStore(tmp_path / "answers.db")
    cache = ResponseCache(store, observers=[seen.append], patience=20)
    yield cache
    cache.close()


@pytest.fixture
def provider():
    return Provider()


@pytest.fixture
def chat(provider, cache):
    return Chat(provider, cache)


@pytest.fixture
def completion(provider, cache):
    return Completion(provider, cache)


def in_the_air(cache):
    return list(cache._cache._flights._in_the_air.values())


def test_two_hundred_threads_make_one_call(chat, provider, seen):
    provider.seconds = 0.2
    together = threading.Barrier(200)

    def ask(_):
        together.wait()
        return chat.invoke("hi")

    with ThreadPoolExecutor(200) as pool:
        answers = list(pool.map(ask, range(200)))
    assert provider.calls == 1
    assert {answer.content for answer in answers} == {"answer to hi"}
    assert len({answer.id for answer in answers}) == 200
    outcomes = [type(event) for event in seen if isinstance(event, CacheHit | CacheMiss | CallJoined)]
    assert (outcomes.count(CacheMiss), len(outcomes)) == (1, 200)
    assert CallJoined in outcomes


async def test_two_hundred_tasks_make_one_call(chat, provider):
    provider.seconds = 0.2
    answers = await asyncio.gather(*(chat.ainvoke("hi") for _ in range(200)))
    assert provider.calls == 1
    assert len({answer.id for answer in answers}) == 200


def test_threads_and_event_loops_join_each_other(chat, provider):
    provider.seconds = 0.3
    together = threading.Barrier(6)

    async def tasks():
        together.wait()
        await asyncio.gather(*(chat.ainvoke("hi") for _ in range(20)))

    def ask(_):
        together.wait()
        chat.invoke("hi")

    with ThreadPoolExecutor(6) as pool:
        loops = [pool.submit(asyncio.run, tasks()) for _ in range(2)]
        list(pool.map(ask, range(4)))
        for loop in loops:
            loop.result()
    assert provider.calls == 1


async def test_a_blocking_call_on_a_loop_does_not_wait_for_a_task_of_that_loop(chat, provider):
    provider.seconds = 0.05
    task = asyncio.create_task(chat.ainvoke("hi"))
    await asyncio.sleep(0.02)
    start = time.monotonic()
    assert chat.invoke("hi").content == "answer to hi"
    assert time.monotonic() - start < 1
    assert (await task).content == "answer to hi"
    assert provider.calls == 2


def test_duplicates_in_a_batch_are_called_once(chat, provider):
    provider.seconds = 0.1
    assert [answer.content for answer in chat.batch(["hi"] * 8)] == ["answer to hi"] * 8
    assert provider.calls == 1
    # One after the other, by a thread that each time has its answer before it asks again.
    chat.generate([[HumanMessage("there")]] * 4)
    assert provider.calls == 2


async def test_duplicates_in_an_awaited_batch_are_called_once(chat, provider):
    provider.seconds = 0.1
    await chat.abatch(["hi"] * 8)
    assert provider.calls == 1
    result = await chat.agenerate([[HumanMessage("there")]] * 4)
    assert provider.calls == 2
    assert [row[0].text for row in result.generations] == ["answer to there"] * 4


async def test_a_completion_asked_twice_in_one_call_does_not_wait_for_itself(completion, provider, cache):
    start = time.monotonic()
    assert [row[0].text for row in completion.generate(["foo", "foo"]).generations] == ["answer to foo"] * 2
    result = await completion.agenerate(["bar", "bar"])
    assert [row[0].text for row in result.generations] == ["answer to bar"] * 2
    assert time.monotonic() - start < 2
    assert provider.calls == 2
    assert in_the_air(cache) == []
    completion.generate(["foo", "bar"])
    assert provider.calls == 2


def test_crossed_batches_do_not_wait_for_each_other(completion, provider, cache):
    provider.seconds = 0.2
    together = threading.Barrier(2)

    def ask(prompts):
        together.wait()
        return [row[0].text for row in completion.generate(prompts).generations]

    start = time.monotonic()
    with ThreadPoolExecutor(2) as pool:
        for _ in range(3):
            assert list(pool.map(ask, [["a", "b"], ["b", "a"]])) == [
                ["answer to a", "answer to b"],
                ["answer to b", "answer to a"],
            ]
            cache.clear()
    assert time.monotonic() - start < 5


async def test_crossed_awaited_batches_do_not_wait_for_each_other(completion, provider):
    provider.seconds = 0.2
    async with asyncio.timeout(5):
        await asyncio.gather(completion.agenerate(["a", "b"]), completion.agenerate(["b", "a"]))


async def test_models_that_ask_each_other_do_not_wait_for_each_other(provider, cache):
    inside, both = contextvars.ContextVar("inside", default=False), asyncio.Barrier(2)

    class Crossed(Chat):
        async def _agenerate(self, messages, stop=None, run_manager=None, **kwargs):
            text = "done"
            if not inside.get():
                inside.set(True)
                await both.wait()
                text = (await self.ainvoke({"a": "b", "b": "a"}[messages[-1].text])).content
            return ChatResult(generations=[ChatGeneration(message=AIMessage(text))])

    model = Crossed(provider, cache)
    async with asyncio.timeout(5):
        answers = await asyncio.gather(model.ainvoke("a"), model.ainvoke("b"))
    assert [answer.content for answer in answers] == ["done", "done"]
    assert in_the_air(cache) == []


async def test_a_follower_that_is_cancelled_disturbs_nobody(chat, provider):
    provider.seconds = 0.2
    tasks = [asyncio.create_task(chat.ainvoke("hi")) for _ in range(5)]
    await asyncio.sleep(0.05)
    tasks[2].cancel()
    done = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(answer) for answer in done].count(AIMessage) == 4
    assert isinstance(done[2], asyncio.CancelledError)
    assert provider.calls == 1


async def test_when_the_leader_is_cancelled_one_of_the_others_leads(chat, provider, cache):
    provider.seconds = 0.2
    tasks = [asyncio.create_task(chat.ainvoke("hi")) for _ in range(5)]
    await asyncio.sleep(0.05)
    tasks[0].cancel()
    done = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(answer) for answer in done].count(AIMessage) == 4
    assert provider.calls == 2
    assert in_the_air(cache) == []


def test_when_the_leader_fails_everyone_asks_for_himself_at_once(chat, provider, cache):
    provider.seconds, provider.errors = 0.2, [ConnectionError("reset")]
    provider.during = lambda: time.sleep(0.1)
    start = time.monotonic()
    with ThreadPoolExecutor(4) as pool:
        asking = [pool.submit(chat.invoke, "hi") for _ in range(4)]
        failed = [future.exception() for future in asking]
    assert [type(error) for error in failed].count(ConnectionError) == 1
    assert time.monotonic() - start < 3
    assert in_the_air(cache) == []


def test_an_answer_that_is_not_kept_lets_everyone_ask_for_himself(cache, provider):
    provider.seconds = 0.2

    class Cut(Chat):
        def _generate(self, messages, stop=None, run_manager=None, **kwargs):
            self._provider.call()
            message = AIMessage("half an ans", response_metadata={"finish_reason": "length"})
            return ChatResult(generations=[ChatGeneration(message=message)])

    model, start = Cut(provider, cache), time.monotonic()
    with ThreadPoolExecutor(4) as pool:
        assert [answer.content for answer in pool.map(model.invoke, ["hi"] * 4)] == ["half an ans"] * 4
    assert time.monotonic() - start < 1
    assert provider.calls == 4
    assert in_the_air(cache) == []


def test_who_runs_out_of_patience_asks_for_himself_and_who_comes_later_waits_for_him(seen):
    cache, provider = ResponseCache(MemoryStore(), patience=0.1, observers=[seen.append]), Provider()
    stuck, model = threading.Event(), Chat(provider, cache)

    class Stuck(Chat):
        def _call(self, messages, stop=None, run_manager=None, **kwargs):
            self._provider.begin()
            stuck.wait(10)
            return "late"

    with ThreadPoolExecutor(3) as pool:
        leader = pool.submit(Stuck(provider, cache).invoke, "hi")
        while provider.calls < 1:
            time.sleep(0.001)
        provider.seconds = 0.3
        impatient = pool.submit(model.invoke, "hi")
        while provider.calls < 2:
            time.sleep(0.001)
        assert in_the_air(cache)
        stuck.set()
        assert leader.result().content == "late"
        assert impatient.result().content == "answer to hi"


def test_a_lookup_by_hand_leads_nothing_and_waits_for_nobody(cache, chat, provider):
    question = (dumps([HumanMessage("hi")]), chat_llm_string(chat, None, {}))
    assert cache.lookup(*question) is None
    assert in_the_air(cache) == [] == led_here()
    began, go_on = threading.Event(), threading.Event()
    provider.during = lambda: (began.set(), go_on.wait(20))
    with ThreadPoolExecutor(1) as pool:
        asking = pool.submit(chat.invoke, "hi")
        began.wait(20)
        assert cache.lookup(*question) is None
        go_on.set()
        assert asking.result().content == "answer to hi"
    assert cache.lookup(*question)[0].text == "answer to hi"


def test_an_awaited_lookup_by_hand_leads_nothing(cache):
    async def ask():
        assert await cache.alookup("prompt", "llm") is None
        assert in_the_air(cache) == []

    asyncio.run(ask())


def test_clearing_the_cache_ends_every_wait(cache, chat, provider):
    began, go_on, calls = threading.Event(), threading.Event(), []

    def call():
        calls.append("hi")
        began.set()
        assert len(calls) > 1 or go_on.wait(20)

    provider.call = call
    with ThreadPoolExecutor(2) as pool:
        asking = pool.submit(chat.invoke, "hi")
        began.wait(20)
        cache.clear()
        assert pool.submit(chat.invoke, "hi").result(10).content == "answer to hi"
        go_on.set()
        assert asking.result().content == "answer to hi"
    assert len(calls) == 2


def test_an_answer_from_anyone_lands_the_flight(cache, chat, provider, seen):
    question = (dumps([HumanMessage("hi")]), chat_llm_string(chat, None, {}))
    began, go_on = threading.Event(), threading.Event()
    provider.during = lambda: (began.set(), go_on.wait(20))
    with ThreadPoolExecutor(2) as pool:
        leader = pool.submit(chat.invoke, "hi")
        began.wait(20)
        follower = pool.submit(chat.invoke, "hi")
        cache.update(*question, [ChatGeneration(message=AIMessage("told by another"))])
        assert follower.result(10).content == "told by another"
        go_on.set()
        leader.result()
    assert provider.calls == 1


def test_a_cache_that_is_gone_leaves_nobody_leading(provider):
    """Whoever leads waits for no other call: a forgotten cache must not keep its callers from sharing theirs."""
    forgotten = PrefixCache(MemoryStore(), observers=[lambda event: None])
    collecting = gc.isenabled()
    gc.disable()
    try:
        opened = forgotten.open(Terms(key=EntryKey("", "digest")), lambda entry: entry)
        assert led_here() == [opened.flight]
        del forgotten, opened
        assert led_here() == []
    finally:
        if collecting:
            gc.enable()


def test_what_changes_during_a_call_changes_no_key(cache, provider):
    class Counting(Chat):
        number: int = 0

        @property
        def _identifying_params(self):
            return {"number": self.number}

        def _call(self, messages, stop=None, run_manager=None, **kwargs):
            self.number += 1
            return super()._call(messages, stop, run_manager, **kwargs)

    model = Counting(provider, cache)
    model.invoke("hi")
    assert in_the_air(cache) == []
    assert Counting(provider, cache).invoke("hi").content == "answer to hi"
    assert provider.calls == 1


class World:
    """Everything a case below needs; each of the first calls to ``provider`` fails."""

    def __init__(self, provider, cache):
        self.provider, self.cache = provider, cache
        self.chat, self.completion = Chat(provider, cache), Completion(provider, cache)
        self.spare = Chat(Provider(), cache, name="spare")

    def agent(self, *middleware):
        return create_agent(self.chat, [], middleware=middleware)


def state(text):
    return {"messages": [HumanMessage(text)]}


async def streamed(agent):
    return [chunk async for chunk in agent.astream(state("hi"), stream_mode="messages")]


PROMPT = ChatPromptTemplate.from_messages([("human", "{question}")])
TWO = [[HumanMessage("hi")], [HumanMessage("there")]]
RETRY = {"stop_after_attempt": 2, "wait_exponential_jitter": False}
SYNC = {
    "invoke": lambda w: w.chat.invoke("hi"),
    "two lists": lambda w: w.chat.generate(TWO),
    "batch": lambda w: w.chat.batch(["a", "b", "c"]),
    "chain": lambda w: (PROMPT | w.chat | RunnableLambda(lambda message: message)).invoke({"question": "hi"}),
    "retry": lambda w: w.chat.with_retry(**RETRY).invoke("hi"),
    "fallback": lambda w: w.chat.with_fallbacks([w.spare]).invoke("hi"),
    "completion": lambda w: w.completion.invoke("hi"),
    "completions": lambda w: w.completion.generate(["a", "b"]),
    "completion batch": lambda w: w.completion.batch(["a", "b", "c"]),
    "agent": lambda w: w.agent().invoke(state("hi")),
    "agent, streamed": lambda w: list(w.agent().stream(state("hi"), stream_mode="messages")),
    "agent, retry": lambda w: w.agent(ModelRetryMiddleware(max_retries=1, initial_delay=0)).invoke(state("hi")),
    "agent, fallback": lambda w: w.agent(ModelFallbackMiddleware(w.spare)).invoke(state("hi")),
}
ASYNC = {
    "invoke": lambda w: w.chat.ainvoke("hi"),
    "two lists": lambda w: w.chat.agenerate(TWO),
    "batch": lambda w: w.chat.abatch(["a", "b", "c"]),
    "chain": lambda w: (PROMPT | w.chat | RunnableLambda(lambda message: message)).ainvoke({"question": "hi"}),
    "retry": lambda w: w.chat.with_retry(**RETRY).ainvoke("hi"),
    "fallback": lambda w: w.chat.with_fallbacks([w.spare]).ainvoke("hi"),
    "completion": lambda w: w.completion.ainvoke("hi"),
    "completions": lambda w: w.completion.agenerate(["a", "b"]),
    "agent": lambda w: w.agent().ainvoke(state("hi")),
    "agent, streamed": lambda w: streamed(w.agent()),
    "agent, retry": lambda w: w.agent(ModelRetryMiddleware(max_retries=1, initial_delay=0)).ainvoke(state("hi")),
    "agent, fallback": lambda w: w.agent(ModelFallbackMiddleware(w.spare)).ainvoke(state("hi")),
}
RECOVERS = ("retry", "fallback", "agent, retry", "agent, fallback")


@pytest.fixture
def world(provider, cache):
    return World(provider, cache)


@pytest.mark.parametrize("case", SYNC)
def test_no_call_that_fails_stays_in_the_air(world, case):
    world.provider.errors = [ValueError("down")] * (1 if case in RECOVERS else 3)
    with nullcontext() if case in RECOVERS else pytest.raises(ValueError, match="down"):
        SYNC[case](world)
    assert in_the_air(world.cache) == []
    world.provider.errors.clear()
    with ThreadPoolExecutor(1) as pool:  # of another owner
        assert pool.submit(world.chat.invoke, "hi").result(5).content == "answer to hi"


@pytest.mark.parametrize("case", [case for case in SYNC if "batch" not in case])  # those run on other threads
def test_no_call_that_is_interrupted_stays_in_the_air(world, case):
    world.provider.errors = [KeyboardInterrupt()]
    with pytest.raises(KeyboardInterrupt):
        SYNC[case](world)
    assert in_the_air(world.cache) == []


@pytest.mark.parametrize("case", ASYNC)
async def test_no_awaited_call_that_fails_stays_in_the_air(world, case):
    world.provider.errors = [ValueError("down")] * (1 if case in RECOVERS else 3)
    with nullcontext() if case in RECOVERS else pytest.raises(ValueError, match="down"):
        await ASYNC[case](world)
    await asyncio.sleep(0)
    assert in_the_air(world.cache) == []


@pytest.mark.parametrize("case", ASYNC)
async def test_no_awaited_call_that_is_cancelled_stays_in_the_air(world, case):
    world.provider.seconds = 30
    calling = asyncio.Event()
    world.provider.during = calling.set
    task = asyncio.create_task(ASYNC[case](world))
    await calling.wait()
    assert in_the_air(world.cache)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.sleep(0.01)
    assert in_the_air(world.cache) == []


def test_a_model_inside_another_that_fails_lands_its_own_flight_alone(provider, cache):
    flights = []

    class Router(Chat):
        def _call(self, messages, stop=None, run_manager=None, **kwargs):
            with suppress(ValueError):
                inner.invoke("inner question")
            flights.extend(in_the_air(cache))
            return "routed"

    inner = Chat(provider, cache)
    provider.errors = [ValueError("down")]
    assert Router(Provider(), cache, name="router").invoke("hi").content == "routed"
    assert len(flights) == 1
    assert flights[0].landing.result(0).codec.startswith("langchain")


async def test_other_handlers_hear_of_awaited_completions(completion, provider):
    started = []

    class Handler(BaseCallbackHandler):
        def on_llm_start(self, *args, **kwargs):
            started.append(args)

    await completion.ainvoke("hi", config={"callbacks": [Handler()]})
    assert len(started) == 1
