"""LLMs whose classes an application wrote: all that their answers may depend on counts, or they are called."""

import threading

import pytest
from llama_index.core.llms import LLM, ChatMessage, CompletionResponse, CustomLLM, LLMMetadata
from llama_index.llms.openai import OpenAI
from pydantic import Field, PrivateAttr

from prefixcache_integrations.events import PassedThrough
from prefixcache_integrations.llama_index import enable
from prefixcache_integrations.stores import MemoryStore

HI = [ChatMessage(content="hi")]


class Styled(CustomLLM):
    """Answers with what it was made with."""

    tone: str = Field(default="", exclude=True)
    secret: str = Field(default="", exclude=True)
    _style: object = PrivateAttr("")
    _api_key: str = PrivateAttr("")
    _lock: object = PrivateAttr(default_factory=threading.Lock)

    def __init__(self, style="", key="", **fields):
        super().__init__(**fields)
        self._style, self._api_key = style, key

    @property
    def metadata(self):
        return LLMMetadata(model_name="styled", is_chat_model=True)

    def complete(self, prompt, formatted=False, **kwargs):
        return CompletionResponse(text=f"{self._api_key} {self._style} {self.tone} {self.secret} {prompt}")

    def stream_complete(self, prompt, formatted=False, **kwargs):
        yield self.complete(prompt)


class Inherits(Styled):
    """Declares nothing itself."""


class Wraps(CustomLLM):
    """Calls another LLM, which its dump shows little of."""

    inner: LLM

    @property
    def metadata(self):
        return LLMMetadata(model_name="wraps")

    def complete(self, prompt, formatted=False, **kwargs):
        return self.inner.complete(prompt)

    def stream_complete(self, prompt, formatted=False, **kwargs):
        yield self.complete(prompt)


PAIRS = {
    "private attributes": [lambda: Styled("formal"), lambda: Styled("rude")],
    "private attributes of a parent": [lambda: Inherits("formal"), lambda: Inherits("rude")],
    "excluded fields": [lambda: Styled(tone="formal"), lambda: Styled(tone="rude")],
    "an excluded field with an odd name": [lambda: Styled(secret="formal"), lambda: Styled(secret="rude")],
    "the LLM inside": [lambda: Wraps(inner=Styled("formal")), lambda: Wraps(inner=Styled("rude"))],
}


@pytest.mark.parametrize("what", PAIRS)
def test_what_no_dump_shows_tells_llms_of_own_classes_apart(what):
    store, told = MemoryStore(), []
    for make in PAIRS[what]:
        plain = make().complete("hi").text
        for _ in range(2):
            llm = enable(make(), cache=store, layout=None, observers=[told.append])
            assert llm.complete("hi").text == plain
    assert [type(fact).__name__ for fact in told if "Cache" in type(fact).__name__] == ["CacheMiss", "CacheHit"] * 2


def test_keys_do_not_count_and_locks_do_not_matter():
    store = MemoryStore()
    first = enable(Styled(key="one"), cache=store, layout=None).complete("hi").text
    assert enable(Styled(key="two"), cache=store, layout=None).complete("hi").text == first


def test_objects_without_a_value_are_called_with_an_event():
    store, told = MemoryStore(), []
    for style in (object(), object()):
        llm = enable(Styled(style), cache=store, layout=None, observers=[told.append])
        assert llm.complete("hi").text == Styled(style).complete("hi").text
    reasons = [fact.reason for fact in told if isinstance(fact, PassedThrough)]
    assert reasons == ["what Styled._style holds cannot be written down"] * 2


def formal(messages):
    return "formal " + messages[-1].content


def rude(messages):
    return "rude " + messages[-1].content


class Formats:
    """Has a method that formats messages."""

    def __init__(self, style):
        self.style = style

    def format(self, messages):
        return f"{self.style} {messages[-1].content}"


FORMATS = {
    "functions": (formal, rude),
    "lambdas": (lambda _: "formal", lambda _: "rude"),
    "methods": (Formats("formal").format, Formats("rude").format),
}


@pytest.mark.parametrize("what", FORMATS)
def test_how_messages_become_a_prompt_tells_custom_chat_models_apart(what):
    store = MemoryStore()
    for made in FORMATS[what]:
        for _ in range(2):
            llm = enable(Styled(messages_to_prompt=made), cache=store, layout=None)
            assert llm.chat(HI).message.content == Styled(messages_to_prompt=made).chat(HI).message.content


def test_a_subclass_of_openais_llm_counts_what_it_adds(simulator, llms):
    class Mine(OpenAI):
        _seasoning: str = PrivateAttr("")

    store = MemoryStore()
    for seasoning in ("salt", "pepper", "salt"):
        llm = llms.openai(kind=Mine)
        llm._seasoning = seasoning
        enable(llm, cache=store).chat(HI)
    assert len(simulator.calls) == 2
