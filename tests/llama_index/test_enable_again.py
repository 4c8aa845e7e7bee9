"""What `enable` does to an LLM that is in use, shared, enabled already, or that it is asked to do something odd with."""

import asyncio
import threading

import httpx
import pytest
from llama_index.core import Settings
from llama_index.core.callbacks import CallbackManager
from llama_index.core.callbacks.base_handler import BaseCallbackHandler
from llama_index.core.llms import ChatMessage
from llama_index.llms.anthropic import Anthropic
from llama_index.llms.openai import OpenAI

from prefixcache_integrations.errors import ConfigurationError
from prefixcache_integrations.events import StoreDegraded
from prefixcache_integrations.llama_index import disable, enable

ASK = [ChatMessage(role="system", content="Be brief."), ChatMessage(content="How long for lamps?")]

ODD = {
    "a layout of another name": {"layout": "everything"},
    "a lifetime below 0": {"cache": "memory://", "ttl": -1},
    "a store of another kind": {"cache": "nonsense://"},
}


@pytest.mark.parametrize("odd", ODD)
def test_settings_that_cannot_be_meant_are_refused_and_the_llm_stays_as_it_was(simulator, llms, odd):
    llm = enable(llms.claude(), cache="memory://")
    kind, client = type(llm), llm._client
    llm.chat(ASK)
    with pytest.raises(ConfigurationError):
        enable(llm, **ODD[odd])
    assert (type(llm), llm._client) == (kind, client)
    llm.chat(ASK)
    assert len(simulator.calls) == 1


@pytest.mark.parametrize("thing", ["gpt-4o", OpenAI, object()])
def test_what_is_no_llm_is_refused(thing):
    with pytest.raises(ConfigurationError, match="is no LLM of LlamaIndex"):
        enable(thing)


def test_enabled_many_times_it_is_enabled_once(llms):
    llm = llms.claude()
    client = llm._client
    for _ in range(5):
        enable(llm, cache="memory://", layout="arrange")
    assert len(llm._client.middleware) == 1
    assert [kind.__name__ for kind in type(llm).__mro__].count("Anthropic") == 2
    disable(llm)
    disable(llm)
    assert (type(llm), llm._client) == (Anthropic, client)


def test_a_copy_stays_enabled_when_the_original_is_not_any_more(simulator, llms):
    llm = enable(llms.claude(), cache="memory://")
    twin = llm.model_copy()
    disable(llm)
    for _ in range(2):
        twin.chat(ASK)
    assert len(simulator.calls) == 1
    disable(twin)
    assert (type(twin), twin._client.middleware) == (Anthropic, ())


@pytest.mark.parametrize("provider", ["openai", "claude"])
def test_calls_go_on_while_it_is_enabled_and_disabled(simulator, llms, provider):
    llm, failed, done = getattr(llms, provider)(), [], threading.Event()

    def call():
        while not done.is_set():
            try:
                assert llm.chat(ASK).message.content
                assert [piece.delta for piece in llm.stream_chat(ASK)]
            except Exception as error:  # noqa: BLE001 - whatever goes wrong is what is asked
                failed.append(error)

    threads = [threading.Thread(target=call) for _ in range(2)]
    for thread in threads:
        thread.start()
    for _ in range(20):
        enable(llm, cache="memory://", layout="arrange")
        llm.chat(ASK)
        disable(llm)
    done.set()
    for thread in threads:
        thread.join()
    assert failed == []
    assert type(llm) in (OpenAI, Anthropic)


def test_loops_that_come_and_go_share_the_answers(simulator, llms):
    Settings.llm = llms.openai()
    enable(cache="memory://")

    async def ask():
        return (await Settings.llm.achat(ASK)).message.content

    assert len({asyncio.run(ask()) for _ in range(3)}) == 1
    assert len(simulator.calls) == 1


def test_an_http_client_of_the_apps_own_is_used_and_left_open(simulator, llms):
    sent = []
    with httpx.Client(event_hooks={"request": [sent.append]}, headers={"Connection": "close"}) as client:
        llm = enable(llms.openai(http_client=client), cache="memory://")
        llm.chat(ASK)
        disable(llm)
        llm.chat(ASK)
        assert len(sent) == len(simulator.calls) == 2
        assert not client.is_closed


class Failing(BaseCallbackHandler):
    """A callback that raises, as LlamaIndex lets it."""

    def __init__(self):
        super().__init__([], [])

    def on_event_start(self, *args, **kwargs):
        raise RuntimeError("no callback")

    on_event_end = start_trace = end_trace = on_event_start


@pytest.mark.parametrize("enabled", [False, True])
def test_a_callback_that_raises_does_what_it_does_in_plain_llama_index(simulator, llms, enabled):
    llm = llms.openai(callback_manager=CallbackManager([Failing()]))
    llm = enable(llm, cache="memory://") if enabled else llm
    with pytest.raises(RuntimeError, match="no callback"):
        llm.chat(ASK)
    llm.callback_manager = CallbackManager([])
    assert llm.chat(ASK).message.content  # nobody waits for the call that failed


STORES_OUT_OF_REACH = ["sqlite:////proc/nowhere/answers.db", "sqlite:////tmp", "redis://127.0.0.1:1/0"]


@pytest.mark.parametrize("url", STORES_OUT_OF_REACH)
def test_a_store_out_of_reach_costs_an_event_and_no_answer(simulator, llms, url):
    told = []
    llm = enable(llms.openai(), cache=url, observers=[told.append])
    assert [bool(llm.chat(ASK).message.content) for _ in range(2)] == [True, True]
    assert [bool(list(llm.stream_chat(ASK)))] == [True]
    assert any(isinstance(fact, StoreDegraded) for fact in told)
    assert len(simulator.calls) == 3


def test_an_observer_that_raises_stops_nothing(simulator, llms, caplog):
    llm = enable(llms.openai(), cache="memory://", observers=[lambda event: 1 / 0])
    assert [llm.chat(ASK).message.content for _ in range(2)]
    assert len(simulator.calls) == 1
    assert "An observer failed" in caplog.text
