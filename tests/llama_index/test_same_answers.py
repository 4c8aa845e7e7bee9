"""Answers that are those of plain LlamaIndex: of a model that goes by what is said and not by where, side by side, cut off."""

import asyncio
import re

import pytest
from llama_index.core import PromptTemplate, get_response_synthesizer
from llama_index.core.agent.workflow import AgentWorkflow, CodeActAgent, FunctionAgent, ReActAgent
from llama_index.core.base.llms.types import DocumentBlock, ImageBlock, TextBlock
from llama_index.core.chat_engine import CondensePlusContextChatEngine, ContextChatEngine
from llama_index.core.llms import ChatMessage
from llama_index.core.memory import ChatMemoryBuffer
from llama_index.core.query_engine import RetrieverQueryEngine
from llama_index.core.retrievers import BaseRetriever
from llama_index.core.schema import NodeWithScore, TextNode
from llama_index.core.tools import FunctionTool
from llama_index.llms.anthropic import Anthropic
from llama_index.llms.openai import OpenAI, OpenAIResponses

from prefixcache_integrations.events import CacheHit
from prefixcache_integrations.llama_index import enable
from prefixcache_integrations.server import Reply, Simulator, ToolUse

FACT = re.compile(r"Fact [^.]*\.")
QUESTIONS = ("How long for lamps?", "And Fact three.", "Why?")
TEXTS = ("Fact one is lamps.", "Fact one is lamps.", "Fact two is books.", "Fact two is bikes.")
BRACED_QUESTIONS = ("How long, {query_str} or {context_str}?", "And {0}?", "Why?")
BRACED = ("Fact one {context_str}.", "Fact two {query_str} {{x}} {0}.", "Fact two {}.")


def reader(request):
    """Answer with all facts it has been given, whatever their order, and the last words of the question."""
    parts = [*request.system, *(part for message in request.messages for part in message.parts)]
    facts = sorted(set(FACT.findall(" ".join(part.text for part in parts))))
    asked = [words for words in QUESTIONS if words in parts[-1].text]
    return Reply(text=f"{' '.join(facts)} {asked}")


@pytest.fixture(scope="module")
def reading():
    with Simulator(model=reader) as running:
        yield running


def made(simulator, provider):
    headers = {"Connection": "close"}
    if provider == "claude":
        url = simulator.base_url("anthropic")
        return Anthropic(model="claude-sonnet-4-5", api_key="k", base_url=url, default_headers=headers)
    kind = OpenAIResponses if provider == "responses" else OpenAI
    model = "gpt-4o-mini" if provider == "openai" else "gpt-5.6-sol"
    return kind(model=model, api_key="k", api_base=simulator.base_url("openai"), default_headers=headers)


class Facts(BaseRetriever):
    """Finds the same texts, whatever is asked."""

    def __init__(self, texts=TEXTS):
        super().__init__()
        self._texts = texts

    def _retrieve(self, query):
        return [NodeWithScore(node=TextNode(text=text), score=1.0) for text in self._texts]


def query(mode):
    def ask(llm):
        synthesizer = get_response_synthesizer(llm=llm, response_mode=mode)
        return [str(RetrieverQueryEngine(Facts(), synthesizer).query(question)) for question in QUESTIONS]

    return ask


def chat(kind, *, streamed=False, texts=TEXTS, questions=QUESTIONS):
    def ask(llm):
        engine = kind.from_defaults(retriever=Facts(texts), llm=llm, system_prompt="Be kind to {name}.")
        if streamed:
            return ["".join(engine.stream_chat(question).response_gen) for question in questions]
        return [str(engine.chat(question)) for question in questions]

    return ask


MODES = ("compact", "refine", "tree_summarize", "accumulate", "simple_summarize")
ENGINES = {
    **{mode: query(mode) for mode in MODES},
    "context chat": chat(ContextChatEngine),
    "context chat, streamed": chat(ContextChatEngine, streamed=True),
    "condense_plus_context chat": chat(CondensePlusContextChatEngine),
}


@pytest.mark.parametrize("provider", ["openai", "gpt-5.6", "claude", "responses"])
@pytest.mark.parametrize("engine", ENGINES)
def test_a_model_that_reads_all_it_is_given_answers_arranged_prompts_alike(reading, provider, engine):
    plain = ENGINES[engine](made(reading, provider))
    assert ENGINES[engine](enable(made(reading, provider), layout="arrange", cache="memory://")) == plain
    assert "Fact two is books." in plain[0]


@pytest.mark.parametrize("provider", ["openai", "claude"])
@pytest.mark.parametrize("kind", [ContextChatEngine, CondensePlusContextChatEngine])
def test_braces_in_documents_and_history_are_sent_as_they_are(reading, provider, kind):
    reading.reset()
    chat(kind, texts=BRACED, questions=BRACED_QUESTIONS)(enable(made(reading, provider), layout="arrange"))
    request = reading.calls[-1].request
    *history, latest = ["".join(part.text for part in message.parts) for message in request.messages]
    assert [words for words in history if words in BRACED_QUESTIONS] == list(BRACED_QUESTIONS[:2])
    assert all(text in latest for text in BRACED)


@pytest.mark.parametrize("mode", MODES)
def test_braces_in_documents_and_questions_survive(reading, mode):
    reading.reset()
    synthesizer = get_response_synthesizer(llm=enable(made(reading, "claude"), layout="arrange"), response_mode=mode)
    synthesizer.synthesize(BRACED_QUESTIONS[0], Facts(BRACED).retrieve("x"))
    said = "".join(part.text for call in reading.calls for message in call.request.messages for part in message.parts)
    assert all(text in said for text in (BRACED_QUESTIONS[0], *BRACED))


def test_braces_of_a_template_of_the_apps_own_are_what_they_are_in_plain_llama_index(reading):
    template = PromptTemplate('Give {{"json": 1}} of {context_str}\nMind the page.\nQuestion: {query_str}')
    reading.reset()
    for llm in (made(reading, "claude"), enable(made(reading, "claude"), layout="arrange")):
        get_response_synthesizer(llm=llm, text_qa_template=template).synthesize("Why?", Facts(BRACED).retrieve("x"))
    plain, ours = (
        "\n".join(part.text for part in (*call.request.system, *call.request.messages[0].parts))
        for call in reading.calls
    )
    assert sorted(ours.split()) == sorted(plain.split())


def look_up(thing: str) -> str:
    """Look a thing up."""
    return f"{thing}: thirty days"


def helper(request):
    """Look up once what a tool may look up, then answer."""
    parts = [*request.system, *(part for message in request.messages for part in message.parts)]
    said = " ".join(part.text for part in parts)
    thing = "books" if "for books" in said else "lamps"
    answered = any(part.kind == "tool_result" for part in parts) or any(
        message.role == "tool" for message in request.messages
    )
    if not answered and any(tool.name == "look_up" for tool in request.tools):
        return Reply(tool_calls=[ToolUse("look_up", {"thing": thing})])
    answer = f"{thing} within thirty days"
    return Reply(text=f"Thought: I can answer.\nAnswer: {answer}" if "Action Input" in said else answer)


@pytest.fixture
def helping():
    with Simulator(model=helper) as running:
        yield running


def agents(llm):
    tools, say = [FunctionTool.from_defaults(look_up)], "Help."
    yield FunctionAgent(llm=llm, tools=tools, system_prompt=say)
    yield ReActAgent(llm=llm, tools=tools, system_prompt=say)
    yield CodeActAgent(llm=llm, tools=tools, system_prompt=say, code_execute_fn=lambda code: "3")
    first = FunctionAgent(name="a", description="Greets.", llm=llm, tools=tools, system_prompt=say)
    yield AgentWorkflow(agents=[first], root_agent="a")


async def all_at_once(llm):
    runs = [
        agent.run(f"How long for {thing}?", memory=ChatMemoryBuffer.from_defaults(token_limit=10_000))
        for thing in ("lamps", "books")
        for agent in agents(llm)
    ]
    return [str(answer) for answer in await asyncio.gather(*runs)]


@pytest.mark.parametrize("provider", ["openai", "claude", "responses"])
def test_agents_side_by_side_answer_as_plain_ones_and_again_without_a_call(helping, provider):
    plain = asyncio.run(all_at_once(made(helping, provider)))
    called = len(helping.calls)
    llm = enable(made(helping, provider), cache="memory://")
    assert asyncio.run(all_at_once(llm)) == plain
    assert {answer.split()[0] for answer in plain} == {"lamps", "books"}
    again = len(helping.calls)
    assert called < again <= 2 * called  # what two of them ask alike is one call
    assert asyncio.run(all_at_once(llm)) == plain
    assert len(helping.calls) == again


async def test_a_stream_that_is_cancelled_is_not_kept_and_who_waits_for_it_is_answered(simulator, llms):
    llm, begun = enable(llms.openai(), cache="memory://"), asyncio.Event()
    ask = [ChatMessage(content="How long for lamps?")]

    async def read():
        async for _ in await llm.astream_chat(ask):
            begun.set()
            await asyncio.sleep(60)

    reader = asyncio.create_task(read())
    await begun.wait()
    waiting = asyncio.create_task(llm.achat(ask))
    await asyncio.sleep(0)
    reader.cancel()
    assert (await asyncio.wait_for(waiting, 30)).message.content
    assert reader.cancelled() or reader.cancelling()
    assert len(simulator.calls) == 2


PIXEL = (
    b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR\x00\x00\x00\x01\x00\x00\x00\x01\x08\x06\x00\x00\x00\x1f\x15\xc4\x89\x00\x00"
    b"\x00\rIDATx\x9cc\xf8\xff\xff?\x00\x05\xfe\x02\xfe\xa75\x81\x84\x00\x00\x00\x00IEND\xaeB`\x82"
)
PICTURES = {
    "inline": lambda: ImageBlock(image=PIXEL, image_mimetype="image/png"),
    "by its address": lambda: ImageBlock(url="https://example.com/lamp.png", image_mimetype="image/png"),
    "a document": lambda: DocumentBlock(data=b"%PDF-1.4 lamps", document_mimetype="application/pdf", title="lamps"),
}


@pytest.mark.parametrize(
    ("provider", "picture"),
    [("openai", "inline"), ("openai", "by its address"), ("claude", "inline"), ("claude", "a document"),
     ("responses", "inline"), ("responses", "by its address")],
)  # fmt: skip
def test_pictures_and_documents_beside_text_are_cached_and_sent_as_they_are(simulator, llms, provider, picture):
    ask = [ChatMessage(blocks=[TextBlock(text="What is it?"), PICTURES[picture]()])]
    plain = getattr(llms, provider)().chat(ask).message.content
    told = []
    llm = enable(getattr(llms, provider)(), cache="memory://", layout="arrange", observers=[told.append])
    assert [llm.chat(ask).message.content for _ in range(2)] == [plain] * 2
    bodies = [call.body["messages" if "messages" in call.body else "input"] for call in simulator.calls]
    assert bodies[0] == bodies[1]
    assert len(bodies) == 2
    assert sum(isinstance(fact, CacheHit) for fact in told) == 1
