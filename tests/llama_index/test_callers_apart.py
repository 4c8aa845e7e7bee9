"""What callers of one enabled LLM cannot do to each other."""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from llama_index.core.llms import ChatMessage
from llama_index.llms.openai import OpenAI

from prefixcache_integrations.cache import PrefixCache
from prefixcache_integrations.caching import CacheSettings
from prefixcache_integrations.errors import ConfigurationError
from prefixcache_integrations.llama_index import enable
from prefixcache_integrations.server import Reply, Simulator

QUESTION = "How long for lamps, and what do they cost in the end?"
ASK = [ChatMessage(content=QUESTION)]


def spoil(piece):
    piece.additional_kwargs["evil"] = 1
    message = getattr(piece, "message", None)
    if message is None:
        piece.text = "EVIL"
        return
    message.additional_kwargs["evil"] = 1
    for block in message.blocks:
        block.text = "EVIL"


def chat(llm):
    for piece in llm.stream_chat(ASK):
        spoil(piece)
    return llm.chat(ASK)


def achat(llm):
    async def ask():
        async for piece in await llm.astream_chat(ASK):
            spoil(piece)
        return await llm.achat(ASK)

    return asyncio.run(ask())


def complete(llm):
    for piece in llm.stream_complete(QUESTION):
        spoil(piece)
    return llm.complete(QUESTION)


@pytest.mark.parametrize("ask", [chat, achat, complete])
@pytest.mark.parametrize("kind", ["claude", "openai", "responses"])
def test_what_a_consumer_does_to_its_pieces_is_not_stored(llms, simulator, kind, ask):
    hit = ask(enable(getattr(llms, kind)(), cache="memory://"))
    assert len(simulator.calls) == 1
    assert "evil" not in str(hit.model_dump()).lower()


def test_an_error_of_one_caller_is_not_anothers():
    calls, called = [], threading.Event()

    def first_fails(_):
        calls.append(1)
        if len(calls) == 1:
            called.set()
            threading.Event().wait(0.2)
            raise ValueError("down")
        return Reply(text="Thirty days.")

    with Simulator(model=first_fails) as simulator, ThreadPoolExecutor(2) as pool:
        url = simulator.base_url("openai")
        headers = {"Connection": "close"}
        llm = enable(
            OpenAI(model="gpt-4o-mini", api_key="k", api_base=url, max_retries=0, default_headers=headers),
            cache="memory://",
        )
        for ask in (llm.chat, lambda asked: [*llm.stream_chat(asked)][-1]):
            calls.clear()
            called.clear()
            asked = [ChatMessage(content=f"{QUESTION} {ask}")]
            failing = pool.submit(ask, asked)
            called.wait(10)
            assert pool.submit(ask, asked).result(10).message.content == "Thirty days."
            assert failing.exception(10) is not None


def test_llms_may_share_one_cache_that_is_counted_and_emptied(llms, simulator):
    cache = PrefixCache.from_url("memory://", CacheSettings(namespace="tenant"))
    first, second = (enable(llms.openai(), cache=cache) for _ in range(2))
    first.chat(ASK)
    assert second.chat(ASK).raw["prefixcache"]["hit"]
    assert (cache.stats().misses, cache.stats().hits) == (1, 1)
    cache.clear()
    second.chat(ASK)
    assert len(simulator.calls) == 2


@pytest.mark.parametrize("given", [{"namespace": "tenant"}, {"ttl": 60}, {"exact": True}])
def test_settings_beside_a_shared_cache_are_refused_not_passed_over(llms, given):
    with pytest.raises(ConfigurationError, match="PrefixCache"):
        enable(llms.openai(), cache=PrefixCache.from_url("memory://"), **given)
