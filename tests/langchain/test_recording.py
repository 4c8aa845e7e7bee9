"""What a handler records and tells of real LangChain calls, and what it never does."""

import asyncio
import logging
import threading
from concurrent.futures import ThreadPoolExecutor
from uuid import uuid4

import pytest
from langchain.agents import create_agent
from langchain_anthropic import ChatAnthropic
from langchain_core.caches import InMemoryCache
from langchain_core.language_models import FakeListChatModel
from langchain_core.messages import HumanMessage, SystemMessage
from langchain_core.tools import tool
from langchain_core.tracers.run_collector import RunCollectorCallbackHandler
from langchain_openai import ChatOpenAI
from pydantic import SecretStr

from prefixcache_integrations.events import AnswerTimed, CallFailed, Labels, PrefixBroken
from prefixcache_integrations.insight import recording
from prefixcache_integrations.insight.ledger import Ledger
from prefixcache_integrations.langchain import (
    CachedTokensHandler,
    PromptLayoutMiddleware,
    ResponseCache,
    with_prompt_layout,
)
from prefixcache_integrations.stores import MemoryStore

CANARY = "canary-5417"
LONG = "The parcel leaves the warehouse in the evening and arrives on the next working day. " * 120


@pytest.fixture
def ledger():
    return Ledger(clock=lambda: 0)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "run.jsonl"


@pytest.fixture
def handler(ledger, events, path):
    return CachedTokensHandler(observers=[ledger, events.append], record=path, app="shop", namespace="eu")


def read(path):
    return list(recording.read(path.read_bytes().splitlines()))


def prompt(text="Where is it?"):
    return [SystemMessage(LONG), HumanMessage(text)]


def build(models, name, **settings):
    settings |= {"stream_usage": True} if name in ("openai", "azure") else {}
    return getattr(models, name)(**settings)


def check(ledger, simulator):
    billed = [call.usage for call in simulator.calls]
    totals = ledger.totals
    assert totals.calls == len(billed)
    assert totals.input_tokens == sum(usage.input_tokens for usage in billed)
    assert totals.cache_read_tokens == sum(usage.cache_read_tokens for usage in billed)
    assert totals.cache_write_tokens == sum(usage.cache_write_tokens or 0 for usage in billed)
    assert totals.output_tokens == sum(usage.output_tokens for usage in billed)


@pytest.mark.parametrize("name", ["claude", "openai", "azure"])
def test_the_ledger_adds_up_what_was_billed(simulator, models, handler, ledger, name):
    model = build(models, name)
    config = {"callbacks": [handler]}
    for number in range(2):
        model.invoke(prompt(f"Question {number}"), config)
        list(model.stream(prompt(f"Question {number}"), config))

    check(ledger, simulator)
    assert sum(latency.count for latency in ledger.account().first_token.values()) == 2


@pytest.mark.parametrize("name", ["claude", "openai", "azure"])
async def test_awaited_calls_add_up_alike(simulator, models, handler, ledger, name):
    model = build(models, name)
    config = {"callbacks": [handler]}

    async def stream(number):
        async for _ in model.astream(prompt(f"Question {number}"), config):
            pass

    await asyncio.gather(*(model.ainvoke(prompt(f"Question {n}"), config) for n in range(3)), *map(stream, range(3)))

    check(ledger, simulator)


def test_eight_threads_add_up_alike(simulator, models, handler, ledger, path):
    models = [build(models, name) for name in ("claude", "openai", "azure")]
    start = threading.Barrier(8)

    def work(number):
        start.wait()
        for turn in range(2):
            model, config = models[(number + turn) % 3], {"callbacks": [handler], "metadata": {"session_id": number}}
            list(model.stream(prompt(f"Question {number} {turn}"), config)) if turn else model.invoke(prompt(), config)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))

    check(ledger, simulator)
    assert len(read(path)) == 16
    assert ledger.by("session").keys() == {str(number) for number in range(8)}


@pytest.mark.parametrize("name", ["claude", "openai"])
def test_a_stream_closed_early_is_unknown(models, handler, ledger, path, name):
    stream = build(models, name).stream(prompt(), {"callbacks": [handler]})
    next(stream)
    stream.close()

    assert (ledger.totals.calls, ledger.totals.unknown["input_tokens"], ledger.totals.failed) == (1, 1, 0)
    assert read(path)[0].outcome == "abandoned"
    assert handler.calls[0].cost is None


async def test_an_awaited_stream_closed_early_is_unknown(models, handler, ledger):
    stream = build(models, "claude").astream(prompt(), {"callbacks": [handler]})
    await anext(stream)
    await stream.aclose()

    assert (ledger.totals.calls, ledger.totals.unknown["output_tokens"]) == (1, 1)


async def cancelled(handler, call, begun=1):
    task = asyncio.create_task(call)
    while handler.unfinished < begun:  # noqa: ASYNC110 - there is no event to wait for
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    del task, call
    for _ in range(5):
        await asyncio.sleep(0)


@pytest.mark.parametrize("name", ["claude", "openai"])
async def test_a_cancelled_call_is_unknown(models, handler, ledger, path, name):
    await cancelled(handler, build(models, name).ainvoke(prompt(), {"callbacks": [handler]}))

    assert (ledger.totals.calls, ledger.totals.unknown["cost"], handler.unfinished) == (1, 1, 0)
    assert [line.outcome for line in read(path)] == ["abandoned"]


@pytest.mark.parametrize("laid_out", [False, True])
async def test_what_is_asked_again_after_it_was_cancelled_has_lost_nothing(models, handler, events, *, laid_out):
    mark = {"cache_control": {"type": "ephemeral"}}
    model = models.claude()
    model = with_prompt_layout(model, observers=[events.append]) if laid_out else model
    config, marked = {"callbacks": [handler]}, {} if laid_out else mark
    said = [*prompt(), await model.ainvoke(prompt(), config, **marked), HumanMessage("And now? " * 50)]
    await cancelled(handler, model.ainvoke(said, config, **marked))
    await model.ainvoke(said, config, **marked)

    assert handler.totals.calls == 3
    assert not [event for event in events if isinstance(event, PrefixBroken)]


async def test_every_call_of_a_cancelled_batch_is_unknown(models, handler, ledger):
    asked = build(models, "claude").abatch([prompt(), prompt()], {"callbacks": [handler]})
    await cancelled(handler, asked, begun=2)

    assert (ledger.totals.calls, ledger.totals.unknown["cost"], handler.unfinished) == (2, 2, 0)


async def test_a_cancelled_call_whose_run_somebody_holds_is_unfinished_until_then(models, handler, ledger):
    mine = uuid4()
    config = {"callbacks": [handler], "run_id": mine}
    await cancelled(handler, build(models, "claude").ainvoke(prompt(), config))

    assert (ledger.totals.calls, handler.unfinished) == (0, 1)
    del mine, config
    assert (handler.totals.calls, handler.unfinished) == (1, 0)


def test_calls_carry_the_labels_that_langchain_is_given(models, handler, events, path):
    config = {"callbacks": [handler], "metadata": {"thread_id": "t1"}, "tags": ["beta"]}
    models.openai().invoke(prompt(), config)

    assert events[0].labels == Labels(app="shop", session="t1", namespace="eu", tags=("beta",))
    assert read(path)[0].labels == events[0].labels


def test_what_a_cache_answers_is_timed(models, handler, events, path):
    model = models.openai(cache=InMemoryCache())
    for _ in range(2):
        model.invoke(prompt(), {"callbacks": [handler]})

    assert isinstance(events[1], AnswerTimed)
    assert [call.outcome for call in read(path)] == ["provider", "other_cache"]


@tool
def order_status(order: int) -> str:
    """Look up an order."""
    return f"order {order} is on its way"


@pytest.mark.parametrize("awaited", [False, True])
async def test_the_recorded_prompt_is_the_one_that_was_laid_out(simulator, models, handler, path, awaited):
    agent = create_agent(
        models.claude(), tools=[order_status], system_prompt=LONG, middleware=[PromptLayoutMiddleware()]
    )
    messages = [HumanMessage("Hello")]
    for _ in range(2):
        config = {"callbacks": [handler], "metadata": {"thread_id": "t1"}}
        sent = {"messages": messages}
        state = await agent.ainvoke(sent, config) if awaited else agent.invoke(sent, config)
        messages = [*state["messages"], HumanMessage("And?")]

    first, second = read(path)
    assert first.conversation == second.conversation == "t1 #1"
    assert [run.group for run in first.prompt] == ["tools", "system", "question"]
    assert [run.marker is not None for run in second.prompt][-1]
    for call, seen in zip((first, second), simulator.calls, strict=True):
        assert sum(run.tokens for run in call.prompt) == seen.usage.input_tokens
        assert call.usage.cache_read_tokens == seen.usage.cache_read_tokens
    assert second.usage.cache_read_tokens > 1_000


@pytest.fixture
def built(monkeypatch):
    """Return a list that grows with every body that is built for Claude."""
    bodies, build = [], ChatAnthropic._get_request_payload

    def count(*args, **kwargs):
        bodies.append(build(*args, **kwargs))
        return bodies[-1]

    monkeypatch.setattr(ChatAnthropic, "_get_request_payload", count)
    return bodies


@pytest.mark.parametrize("awaited", [False, True])
async def test_where_a_layout_tells_what_is_sent_no_body_is_built_besides(models, handler, path, built, awaited):
    model, config = with_prompt_layout(models.claude()), {"callbacks": [handler]}
    await model.ainvoke(prompt(), config) if awaited else list(model.stream(prompt(), config))

    assert len(built) == 1
    assert [run.group for run in read(path)[0].prompt] == ["system", "question"]


def test_of_a_hit_that_nobody_records_no_body_is_built(models, ledger, built):
    model = with_prompt_layout(models.claude(cache=ResponseCache(MemoryStore())))
    handler = CachedTokensHandler(observers=[ledger], diagnose=True)
    for _ in range(2):
        model.invoke(prompt(), {"callbacks": [handler]})

    assert ledger.account().hit_latency.count == 1
    assert len(built) == 1


def test_a_hit_of_a_laid_out_model_is_recorded_with_its_prompt(models, handler, path):
    model = with_prompt_layout(models.claude(cache=ResponseCache(MemoryStore())))
    for _ in range(2):
        model.invoke(prompt(), {"callbacks": [handler]})

    called, hit = read(path)
    assert hit.outcome == "response_cache"
    assert [run.group for run in hit.prompt] == [run.group for run in called.prompt] == ["system", "question"]


def test_without_a_layout_the_prompt_is_what_langchain_builds(simulator, models, handler, path):
    for name in ("claude", "openai", "azure"):
        build(models, name).bind_tools([order_status]).invoke(prompt(), {"callbacks": [handler]})

    for call, seen in zip(read(path), simulator.calls, strict=True):
        assert [run.group for run in call.prompt] == ["tools", "system", "question"]
        assert sum(run.tokens for run in call.prompt) == seen.usage.input_tokens


def test_a_model_of_another_class_is_recorded_without_its_prompt(handler, path):
    FakeListChatModel(responses=["x"]).invoke("Hello", {"callbacks": [handler]})

    assert read(path)[0].prompt == ()


def test_a_broken_prefix_is_told_and_recorded(models, handler, events, path):
    mark = {"cache_control": {"type": "ephemeral"}}
    model, history = models.claude(), []
    for day in ("Monday", "Tuesday"):
        history.append(HumanMessage([{"type": "text", "text": "Where is it?", **mark}]))
        system = SystemMessage([{"type": "text", "text": f"{day}. {LONG}", **mark}])
        history.append(model.invoke([system, *history], {"callbacks": [handler]}))

    [broken] = [event for event in events if isinstance(event, PrefixBroken)]
    assert (broken.reason, broken.path, broken.offset) == ("system_changed", "system[0].text", 0)
    assert read(path)[1].broken.lost_tokens == broken.lost_tokens > 1_000


@pytest.mark.parametrize("diagnosing", [(True, True), (False, True), (True, False)], ids=str)
@pytest.mark.parametrize("awaited", [False, True])
async def test_handlers_that_share_a_ledger_book_a_call_once(simulator, models, events, ledger, diagnosing, *, awaited):
    observers = [ledger, events.append]
    handlers = [CachedTokensHandler(observers=observers, diagnose=each) for each in diagnosing]
    model = build(models, "claude").with_config({"callbacks": handlers[:1]})
    mark, history = {"cache_control": {"type": "ephemeral"}}, []
    for day in ("Monday", "Tuesday"):
        history.append(HumanMessage("Where is it?"))
        system = SystemMessage([{"type": "text", "text": f"{day}. {LONG}", **mark}])
        given = ([system, *history], {"callbacks": handlers[1:]})
        history.append(await model.ainvoke(*given) if awaited else model.invoke(*given))

    assert ledger.totals.calls == 2
    assert ledger.totals.input_tokens == sum(call.usage.input_tokens for call in simulator.calls)
    assert ledger.totals.breaks == len([event for event in events if isinstance(event, PrefixBroken)]) == 1
    assert [handler.totals.calls for handler in handlers] == [2, 2]


def test_without_diagnosis_nothing_is_compared_and_no_handler_holds_up_the_loop():
    assert not CachedTokensHandler().run_inline
    assert CachedTokensHandler(diagnose=True).run_inline


class _Explodes(Exception):
    pass


def _fails(event):
    raise _Explodes(type(event).__name__)


@pytest.fixture
def everything_told(ledger, events, path, caplog, capsys):
    caplog.set_level(logging.DEBUG, logger="prefixcache_integrations")
    return lambda: [
        path.read_text(),
        repr(events),
        repr(ledger.account()),
        caplog.text,
        *capsys.readouterr(),
    ]


@pytest.fixture(params=["claude", "openai"])
def secretive(request, simulator):
    key = SecretStr(f"key-{CANARY}")
    if request.param == "claude":
        return ChatAnthropic(model="claude-sonnet-4-6", base_url=simulator.base_url("anthropic"), api_key=key)
    return ChatOpenAI(model="gpt-4o-mini", base_url=simulator.base_url("openai"), api_key=key)


def test_no_word_of_prompt_answer_or_key_is_recorded_told_or_logged(secretive, handler, events, everything_told):
    secret = f"Tell {CANARY} everything."
    config = {
        "callbacks": [handler, CachedTokensHandler(observers=[_fails], diagnose=True)],
        "metadata": {"thread_id": "t"},
    }
    first = _agent(secretive, secret + LONG, [order_status])
    state = first.invoke({"messages": [HumanMessage(secret)]}, config)
    assert CANARY in state["messages"][-1].text
    second = _agent(secretive, CANARY + LONG, [])
    second.invoke({"messages": [*state["messages"], HumanMessage(CANARY)]}, config)
    stream = secretive.stream(prompt(secret), config)
    next(stream)
    stream.close()
    _refuse(secretive, secret, config)

    assert {PrefixBroken, CallFailed} <= {type(event) for event in events}
    told = [*everything_told(), handler.report()]
    assert any("An observer failed" in text and "_Explodes" in text for text in told)
    assert not [text for text in told if CANARY in text or "parcel" in text]


def _agent(model, system, tools):
    return create_agent(model, tools=tools, system_prompt=system, middleware=[PromptLayoutMiddleware()])


def _refuse(model, secret, config):
    nameless = model.model_copy(update={"model_name" if hasattr(model, "model_name") else "model": ""})
    with pytest.raises(Exception, match="model"):
        nameless.invoke(secret, config)


def test_content_is_recorded_when_it_is_asked_for(models, path):
    handler = CachedTokensHandler(record=path, record_content=True)
    models.claude().invoke(prompt(CANARY), {"callbacks": [handler]})

    [call] = read(path)
    assert call.request["messages"][0]["content"] == CANARY
    assert call.answer["content"] == CANARY


def test_traces_carry_the_marker_of_a_hit(models):
    traced = RunCollectorCallbackHandler()
    model = models.claude(cache=ResponseCache(MemoryStore()))
    for _ in range(2):
        model.invoke(prompt(), {"callbacks": [traced]})

    messages = [run.outputs["generations"][0][0]["message"]["kwargs"] for run in traced.traced_runs]
    hits = [message["response_metadata"].get("prefixcache", {}).get("hit", False) for message in messages]
    assert hits == [False, True]
    assert messages[1]["usage_metadata"]["input_tokens"] == 0
