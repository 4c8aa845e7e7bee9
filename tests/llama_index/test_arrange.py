"""What engines send at level ``arrange``, and what the providers' caches find of it."""

import pytest
from llama_index.core import PromptTemplate, get_response_synthesizer
from llama_index.core.chat_engine import CondensePlusContextChatEngine, ContextChatEngine
from llama_index.core.llms import ChatMessage
from llama_index.core.memory import Memory
from llama_index.core.retrievers import BaseRetriever
from llama_index.core.schema import NodeWithScore, TextNode

from prefixcache_integrations.llama_index import enable

RULES = "Answer from the handbook, name the page, and never promise what it does not say. " * 80
TURNS = [f"Question {number}: how long for {thing}, and what does it cost?" for number, thing in enumerate(
    ("lamps", "chairs", "books", "bikes", "shoes", "plants"))]  # fmt: skip


class Changing(BaseRetriever):
    """Retrieves other documents for each question."""

    def _retrieve(self, query):
        text = f"Page about {query.query_str}. " * 12
        return [NodeWithScore(node=TextNode(text=text, id_=query.query_str), score=1.0)]


class Nothing(BaseRetriever):
    def _retrieve(self, query):
        return []


def engine(kind, llm, retriever=None):
    return kind.from_defaults(
        retriever=retriever or Changing(),
        llm=llm,
        system_prompt=RULES,
        memory=Memory.from_defaults(token_limit=100_000),
    )


def reads(simulator):
    return [call.usage.cache_read_tokens for call in simulator.calls]


@pytest.mark.parametrize("provider", ["openai", "claude"])
def test_cached_tokens_of_a_context_chat_grow_with_its_history(simulator, llms, provider):
    chat = engine(ContextChatEngine, enable(getattr(llms, provider)(), layout="arrange"))
    for question in TURNS:
        chat.chat(question)
    found = reads(simulator)
    assert found[0] == 0
    assert found[1] > 1000
    assert found == sorted(found)
    assert found[-1] > found[2]
    prompt = [call.usage.input_tokens for call in simulator.calls]
    step = 128 if provider == "openai" else 1
    assert all(later_read >= 1000 for later_read in found[1:])
    assert found[-1] >= 0.8 * prompt[-2] - step - 300


@pytest.mark.parametrize("provider", ["openai", "claude"])
def test_plain_context_chats_read_nothing(simulator, llms, provider):
    chat = engine(ContextChatEngine, getattr(llms, provider)())
    for question in TURNS[:3]:
        chat.chat(question)
    assert reads(simulator) == [0, 0, 0]


@pytest.mark.parametrize("kind", [ContextChatEngine, CondensePlusContextChatEngine])
def test_instructions_lead_history_follows_as_it_was_said_and_the_context_stands_before_the_question(
    simulator, llms, kind
):
    chat = engine(kind, enable(llms.openai(), layout="arrange"))
    chat.chat("What is {query_str}, and {context_str}?")
    chat.chat("And books?")
    system, asked, answered, question = simulator.calls[-1].body["messages"]
    assert system["content"].endswith(RULES.strip())
    assert "Page about" not in system["content"]
    assert asked["content"] == "What is {query_str}, and {context_str}?"
    assert answered["role"] == "assistant"
    assert question["content"].startswith("<context>\nPage about")
    assert question["content"].endswith("</context>\n\nAnd books?")


async def test_all_ways_to_chat_send_the_same(simulator, llms):
    llm = enable(llms.openai(), layout="arrange")
    engine(ContextChatEngine, llm).chat(TURNS[0])
    list(engine(ContextChatEngine, llm).stream_chat(TURNS[0]).response_gen)
    await engine(ContextChatEngine, llm).achat(TURNS[0])
    response = await engine(ContextChatEngine, llm).astream_chat(TURNS[0])
    [token async for token in response.async_response_gen()]
    first, *others = [call.body["messages"] for call in simulator.calls]
    assert others == [first] * 3


def test_where_nothing_is_retrieved_the_answer_is_that_of_plain_llama_index(simulator, llms):
    answers = [
        str(engine(ContextChatEngine, llm, Nothing()).chat(TURNS[0]))
        for llm in (llms.openai(), enable(llms.openai(), layout="arrange", cache="memory://"))
    ]
    assert answers[0] == answers[1]
    assert simulator.calls == ()


@pytest.mark.parametrize("mode", ["compact", "refine", "tree_summarize"])
def test_documents_that_stay_are_found_again_under_another_question(simulator, llms, mode):
    llm = enable(llms.claude(), layout="arrange")
    handbook = [NodeWithScore(node=TextNode(text="Lamps are taken back within thirty days. " * 200), score=1.0)]
    for question in TURNS[:2]:
        get_response_synthesizer(llm=llm, response_mode=mode).synthesize(question, handbook)
    assert reads(simulator)[0] == 0
    assert reads(simulator)[1] > 1000


def test_synthesizers_say_the_same_words_as_plain_ones(simulator, llms):
    nodes = [NodeWithScore(node=TextNode(text=RULES), score=1.0)]
    for llm in (llms.claude(), enable(llms.claude(), layout="arrange")):
        get_response_synthesizer(llm=llm).synthesize(TURNS[0], nodes)
    plain, ours = (call.body["messages"][-1]["content"] for call in simulator.calls)
    assert "".join(block["text"] for block in ours) == "".join(block["text"] for block in plain)


def test_other_prompts_are_left_as_they_are(simulator, llms):
    for llm in (llms.openai(), enable(llms.openai(), layout="arrange")):
        llm.predict(PromptTemplate("Say {what}."), what="hello")
        llm.chat([ChatMessage(content="{context_str}")])
    bodies = [call.body["messages"] for call in simulator.calls]
    assert bodies[:2] == bodies[2:]
