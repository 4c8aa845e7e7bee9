"""What engines send at level ``arrange``, and what the providers' caches find of it."""

import pytest
from llama_index.core import PromptTemplate, get_response_synthesizer
from llama_index.core.chat_engine import CondensePlusContextChatEngine, ContextChatEngine
from llama_index.core.llms import ChatMessage
from llama_index.core.memory import Memory
from llama_index.core.retrievers import BaseRetriever
from llama_index.core.schema import NodeWithScore, TextNode

from prefixcache_integrations.llama_index import enable
from prefixcache_integrations.llama_index.arrange import _cut

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


MODES = ["compact", "refine", "tree_summarize", "accumulate", "simple_summarize"]
INSTRUCTION = "Given the context information and not prior knowledge, answer the query."


def nodes(text):
    return [NodeWithScore(node=TextNode(text=text), score=1.0)]


def synthesize(llm, question, found, mode="compact", **settings):
    return get_response_synthesizer(llm=llm, response_mode=mode, **settings).synthesize(question, found)


@pytest.mark.parametrize("mode", MODES)
def test_documents_that_stay_are_found_again_under_another_question(simulator, llms, mode):
    llm = enable(llms.claude(), layout="arrange")
    for question in TURNS[:2]:
        synthesize(llm, question, nodes("Lamps are taken back within thirty days. " * 200), mode)
    assert reads(simulator)[0] == 0
    assert reads(simulator)[1] > 1000
    # All but the question is read: nothing that stays stands behind it.
    usage = simulator.calls[1].usage
    assert usage.input_tokens - usage.cache_read_tokens < 40


@pytest.mark.parametrize("provider", ["openai", "claude", "responses"])
def test_the_instructions_of_synthesizers_lead_and_no_word_is_lost(simulator, llms, provider):
    for llm in (getattr(llms, provider)(), enable(getattr(llms, provider)(), layout="arrange")):
        synthesize(llm, TURNS[0], nodes(RULES))
    plain, ours = ([part.text for part in prompt(call.request)] for call in simulator.calls)
    assert not plain[0].endswith(INSTRUCTION)
    assert ours[0].endswith("\n\n" + INSTRUCTION)
    assert sorted(" ".join(ours).split()) == sorted(" ".join(plain).split())
    assert "".join(ours[1:]) == "".join(plain[1:]).replace(INSTRUCTION + "\n", "")


def prompt(request):
    return [*request.system, *(part for message in request.messages for part in message.parts)]


@pytest.mark.parametrize("provider", ["openai", "claude"])
@pytest.mark.parametrize("layout", ["canonical", "arrange"])
def test_long_instructions_behind_documents_that_change_are_found_again_once_arranged(
    simulator, llms, provider, layout
):
    llm = enable(getattr(llms, provider)(), layout=layout)
    template = PromptTemplate("<documents>\n{context_str}\n</documents>\n" + RULES + "\n\nQuestion: {query_str}\n")
    for question in TURNS[:3]:
        synthesize(llm, question, nodes(f"Page about {question} " * 5), text_qa_template=template)
    found = reads(simulator)
    assert found[0] == 0
    assert all(read > 1000 for read in found[1:]) == (layout == "arrange")


@pytest.mark.parametrize(
    ("tail", "parts"),
    [
        ("\n---\nAnswer it.\nQuery: {query_str}\nAnswer: ", ("\n---\n", "Answer it.", "Query: {query_str}\nAnswer: ")),
        ("\n</context>\nBe brief.\n\nQuestion:\n{query_str}", ("\n</context>\n", "Be brief.", "\nQuestion:\n{query_str}")),
        ("\nQuery: {query_str}", ("\n", "", "Query: {query_str}")),
        ("\n- be brief\n- be kind\n{query_str}", ("\n", "", "- be brief\n- be kind\n{query_str}")),
        ("\nUse {language}.\nNow answer.\n{query_str}", ("\n", "", "Use {language}.\nNow answer.\n{query_str}")),
        (" is what we know. {query_str}", ("", "", " is what we know. {query_str}")),
        ("\n", ("\n", "", "")),
    ],
)  # fmt: skip
def test_only_whole_sentences_between_the_documents_and_the_question_move(tail, parts):
    assert _cut(tail) == parts
    assert sorted(" ".join(_cut(tail)).split()) == sorted(tail.split())


def test_other_prompts_are_left_as_they_are(simulator, llms):
    for llm in (llms.openai(), enable(llms.openai(), layout="arrange")):
        llm.predict(PromptTemplate("Say {what}."), what="hello")
        llm.chat([ChatMessage(content="{context_str}")])
    bodies = [call.body["messages"] for call in simulator.calls]
    assert bodies[:2] == bodies[2:]
