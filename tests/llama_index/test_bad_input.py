"""What is odd, or does not work: the answers are those of plain LlamaIndex, and an event tells."""

import asyncio

import pytest
from llama_index.core import get_response_synthesizer
from llama_index.core.agent.workflow import FunctionAgent
from llama_index.core.base.llms.types import ImageBlock, TextBlock
from llama_index.core.chat_engine import CondensePlusContextChatEngine, ContextChatEngine
from llama_index.core.instrumentation.event_handlers import BaseEventHandler
from llama_index.core.llms import ChatMessage, CompletionResponse, CustomLLM, LLMMetadata
from llama_index.core.llms.callbacks import llm_completion_callback
from llama_index.core.memory import ChatMemoryBuffer
from llama_index.core.query_engine import RetrieverQueryEngine
from llama_index.core.retrievers import BaseRetriever
from llama_index.core.schema import NodeWithScore, TextNode
from llama_index.core.tools import FunctionTool
from pydantic import Field, PrivateAttr

from prefixcache_integrations.errors import StoreUnavailable
from prefixcache_integrations.llama_index import PrefixCacheEvent, StableOrderPostprocessor, enable

PROVIDERS = ("openai", "claude", "responses")
LAYOUTS = (None, "mark", "canonical", "arrange")
ASK = [ChatMessage(content="How long for lamps?")]


class Retrieves(BaseRetriever):
    """Finds the same texts, whatever is asked."""

    def __init__(self, *texts):
        super().__init__()
        self._texts = texts

    def _retrieve(self, query):
        return [NodeWithScore(node=TextNode(text=text), score=1.0) for text in self._texts]


class Down:
    """A store that is down."""

    def _fail(self, *_, **__):
        raise StoreUnavailable("down")

    get = put = delete = invalidate = clear = _fail

    def close(self):
        pass


class Facts(BaseEventHandler):
    """Keeps the facts that LlamaIndex's dispatcher is told."""

    facts: list = Field(default_factory=list)

    def handle(self, event, **_):
        if isinstance(event, PrefixCacheEvent):
            self.facts.append(event)

    def named(self, name):
        return [fact.details for fact in self.facts if fact.fact == name]


@pytest.fixture
def facts(handlers):
    made = Facts()
    handlers(made)
    return made


def look_up(thing: str) -> str:
    """Look a thing up."""
    return f"{thing}: thirty days"


def query(llm, retriever, **settings):
    synthesizer = get_response_synthesizer(llm=llm)
    return str(RetrieverQueryEngine(retriever, synthesizer, **settings).query("How long for lamps?"))


def chat(llm, retriever, kind=ContextChatEngine, **settings):
    engine = kind.from_defaults(retriever=retriever, llm=llm, system_prompt="Be kind.", **settings)
    return [str(engine.chat(question)) for question in ("How long for lamps?", "And books?")]


def condensed(llm, retriever, **settings):
    return chat(llm, retriever, CondensePlusContextChatEngine, **settings)


def agent(llm, retriever=None):
    made = FunctionAgent(
        llm=llm,
        tools=[FunctionTool.from_defaults(look_up, description=f"Calls {look_up}.")],
        system_prompt="Use the tools.",
    )

    async def run():
        return str(await made.run("How long for lamps?", memory=ChatMemoryBuffer.from_defaults(token_limit=10_000)))

    return asyncio.run(run())


ENGINES = {"query": query, "chat": chat, "condensed chat": condensed}


@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize("engine", ENGINES)
def test_a_retriever_that_returns_nothing(simulator, llms, provider, engine):
    make = getattr(llms, provider)
    plain = ENGINES[engine](make(), Retrieves())
    bodies = [call.body["messages" if "messages" in call.body else "input"] for call in simulator.calls]
    simulator.reset()
    assert ENGINES[engine](enable(make(), cache="memory://", layout="arrange"), Retrieves()) == plain
    assert len(simulator.calls) == len(bodies)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("engine", ENGINES)
def test_nodes_with_equal_texts(simulator, llms, engine, layout):
    retriever = Retrieves(*["Lamps come back within thirty days."] * 3, "Books within forty.")
    ours = ENGINES[engine](enable(llms.openai(), cache="memory://", layout=layout), retriever)
    if layout != "arrange":  # there the words stand in another order, and this model goes by that
        assert ours == ENGINES[engine](llms.openai(), retriever)
    assert "".join(ours)


def test_nodes_with_equal_texts_are_told_where_they_are_dropped(llms, facts):
    retriever = Retrieves(*["Lamps come back within thirty days."] * 3, "Books within forty.")
    once = Retrieves("Books within forty.", "Lamps come back within thirty days.")
    llm = llms.openai()
    assert query(llm, retriever, node_postprocessors=[StableOrderPostprocessor()]) == query(
        llm, once, node_postprocessors=[StableOrderPostprocessor()]
    )
    assert facts.named("DuplicatesDropped") == [{"count": 2}]


@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_tool_whose_description_has_the_address_of_an_object(simulator, llms, provider, facts):
    plain = agent(getattr(llms, provider)())
    assert " at 0x" in str(simulator.calls[0].body["tools"])
    assert agent(enable(getattr(llms, provider)(), cache="memory://")) == plain


@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize("ask", [query, chat, agent])
def test_a_store_that_is_down(simulator, llms, facts, provider, ask):
    retriever = Retrieves("Lamps come back within thirty days.")
    plain = ask(getattr(llms, provider)(), retriever)
    called = len(simulator.calls)
    assert ask(enable(getattr(llms, provider)(), cache=Down()), retriever) == plain
    assert len(simulator.calls) == 2 * called
    assert facts.named("StoreDegraded")


@pytest.mark.parametrize("provider", ["openai", "claude"])
def test_pictures_that_are_read_from_a_file(simulator, llms, tmp_path, facts, provider):
    picture = tmp_path / "picture.png"
    picture.write_bytes(b"\x89PNG\r\n\x1a\n")
    ask = [ChatMessage(blocks=[TextBlock(text="What is it?"), ImageBlock(path=picture)])]
    plain = getattr(llms, provider)().chat(ask).message.content
    llm = enable(getattr(llms, provider)(), cache="memory://", layout="arrange")
    assert [llm.chat(ask).message.content for _ in range(2)] == [plain, plain]
    assert "".join(piece.delta for piece in llm.stream_chat(ask)) == plain
    assert len(simulator.calls) == 4
    assert len(facts.named("PassedThrough")) == 3


class Wrapping(CustomLLM):
    """An LLM around an object of which its fields show nothing, as LlamaIndex's ``LangChainLLM`` is."""

    __module__ = "llama_index.llms.langchain.base"
    _answers: list = PrivateAttr(default_factory=lambda: ["First.", "Second."])

    @property
    def metadata(self):
        return LLMMetadata(model_name="unknown")

    @llm_completion_callback()
    def complete(self, prompt, formatted=False, **kwargs):
        return CompletionResponse(text=self._answers.pop(0))

    @llm_completion_callback()
    def stream_complete(self, prompt, formatted=False, **kwargs):
        yield CompletionResponse(text=(text := self._answers.pop(0)), delta=text)


WRAPPED = {
    "chat": lambda llm: llm.chat(ASK).message.content,
    "achat": lambda llm: asyncio.run(llm.achat(ASK)).message.content,
    "complete": lambda llm: llm.complete("Once").text,
    "stream_chat": lambda llm: "".join(piece.delta for piece in llm.stream_chat(ASK)),
    "stream_complete": lambda llm: "".join(piece.delta for piece in llm.stream_complete("Once")),
}


@pytest.mark.parametrize("call", WRAPPED)
def test_an_llm_that_does_not_show_its_settings_is_called_every_time(facts, call):
    llm = enable(Wrapping(), cache="memory://")
    assert [WRAPPED[call](llm) for _ in range(2)] == ["First.", "Second."]
    assert [told["reason"] for told in facts.named("PassedThrough")][-2:] == ["Wrapping does not show its settings"] * 2
