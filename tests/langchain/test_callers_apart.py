"""What callers of one cached model cannot do to each other."""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from copy import copy, deepcopy

import pytest
from langchain_core.language_models import GenericFakeChatModel
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.tools import tool

from prefixcache_integrations.cache import PrefixCache
from prefixcache_integrations.langchain import with_response_cache
from prefixcache_integrations.stores import MemoryStore

MESSAGES = [HumanMessage("Where is my order, and when will it be here, do you think?")]


@tool
def look_up(order: str) -> str:
    """Look up an order."""
    return order


@pytest.fixture
def front():
    return PrefixCache(MemoryStore())


@pytest.fixture(params=["openai", "claude"])
def model(request, models, front):
    view = with_response_cache(getattr(models, request.param)(max_tokens=500), front)
    return view.bind_tools([look_up], tool_choice="none")


def spoil(chunk):
    for block in chunk.content if isinstance(chunk.content, list) else []:
        block.update(text="EVIL")
    for fields in (chunk.additional_kwargs, chunk.response_metadata, chunk.usage_metadata or {}):
        fields["evil"] = 1


def stream(model):
    for chunk in model.stream(MESSAGES):
        spoil(chunk)


def astream(model):
    async def spoiled():
        async for chunk in model.astream(MESSAGES):
            spoil(chunk)

    asyncio.run(spoiled())


def events(model):
    async def spoiled():
        async for event in model.astream_events(MESSAGES, version="v2"):
            if event["event"] == "on_chat_model_stream":
                spoil(event["data"]["chunk"])

    asyncio.run(spoiled())


@pytest.mark.parametrize("ask", [stream, astream, events])
def test_what_a_consumer_does_to_its_chunks_is_not_stored(model, simulator, ask):
    ask(model)
    hit = model.invoke(MESSAGES)
    assert len(simulator.calls) == 1
    assert hit.response_metadata["prefixcache"]["hit"]
    assert hit.text
    assert "evil" not in str(hit).lower()


class Keyed(GenericFakeChatModel):
    """A model whose key counts: with a bad one it fails, once another waits for it."""

    api_key: str
    called: threading.Event

    def _generate(self, messages, stop=None, run_manager=None, **kwargs):
        self.called.set()
        if self.api_key == "bad":
            threading.Event().wait(0.2)
            raise PermissionError("bad key")
        return ChatResult(generations=[ChatGeneration(message=AIMessage("fine"))])

    @property
    def _identifying_params(self):
        return {}

    @classmethod
    def is_lc_serializable(cls):
        return False


@pytest.mark.parametrize("way", ["invoke", "stream"])
def test_an_error_of_one_caller_is_not_anothers(front, way):
    called = threading.Event()
    bad, good = (
        with_response_cache(Keyed(messages=iter([]), api_key=key, called=called), front) for key in ("bad", "good")
    )

    def ask(view):
        return view.invoke("hi").text if way == "invoke" else "".join(chunk.text for chunk in view.stream("hi"))

    with ThreadPoolExecutor(2) as pool:
        refused = pool.submit(ask, bad)
        called.wait(10)
        served = pool.submit(ask, good)
        assert served.result(10) == "fine"
        assert isinstance(refused.exception(10), PermissionError)


@pytest.mark.parametrize("copied", [copy, deepcopy, lambda view: view.model_copy(deep=True)])
def test_copies_of_a_view_share_its_cache(copied, front, model_that_can_be_copied):
    view = with_response_cache(model_that_can_be_copied, front)
    view.invoke("hi")
    assert copied(view).invoke("hi").response_metadata["prefixcache"]["hit"]


@pytest.fixture
def model_that_can_be_copied():
    from langchain_core.language_models import FakeListChatModel

    return FakeListChatModel(responses=["one", "two"])
