"""What engines send at level ``arrange``, and what the providers' caches find of it."""

import hashlib
from types import SimpleNamespace

import pytest
from llama_index.core import Document, PromptTemplate, VectorStoreIndex, get_response_synthesizer
from llama_index.core.chat_engine import CondensePlusContextChatEngine, ContextChatEngine
from llama_index.core.llms import ChatMessage, TextBlock
from llama_index.core.memory import Memory
from llama_index.core.retrievers import BaseRetriever
from llama_index.core.schema import NodeWithScore, TextNode

from examples.llama_index.embedding import HashedWords
from prefixcache_integrations.events import PromptPlanned
from prefixcache_integrations.llama_index import StableOrderPostprocessor, enable
from prefixcache_integrations.llama_index.arrange import _cut
from prefixcache_integrations.prompt.document_rules import DocumentRules
from tests.sent import reads

RULES = "Answer from the handbook, name the page, and never promise what it does not say. " * 80
TURNS = [f"Question {number}: how long for {thing}, and what does it cost?" for number, thing in enumerate(
    ("lamps", "chairs", "books", "bikes", "shoes", "plants"))]  # fmt: skip


class Changing(BaseRetriever):
    """Retrieves other documents for each question."""

    def _retrieve(self, query):
        text = f"Page about {query.query_str}. " * 12
        return [NodeWithScore(node=TextNode(text=text, id_=query.query_str), score=1.0)]


class Pages(BaseRetriever):
    """Retrieves 2,000 tokens for each question."""

    def _retrieve(self, query):
        digest = hashlib.sha256(query.query_str.encode()).hexdigest()
        return [NodeWithScore(node=TextNode(text=f"Page {digest}. " + "It costs four. " * 500), score=1.0)]


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


@pytest.mark.parametrize("model", ["claude", "gpt-5.6"])
@pytest.mark.parametrize("kind", [ContextChatEngine, CondensePlusContextChatEngine])
def test_what_is_retrieved_for_each_question_of_a_chat_is_never_written(simulator, llms, model, kind):
    chat = engine(kind, enable(MODELS[model](llms), layout="arrange"), Pages())
    for question in TURNS:
        chat.chat(question)
    asked = [call for call in simulator.calls if "<context>" in str(call.body)]
    assert len(asked) == len(TURNS)
    for usage in (call.usage for call in asked):
        assert usage.cache_read_tokens + usage.cache_write_tokens < usage.input_tokens - 1500


def test_documents_that_come_again_in_other_chats_with_claude_are_read_from_the_third_time_on(simulator, llms):
    class Same(BaseRetriever):
        def _retrieve(self, query):
            return nodes("It costs four. " * 500)

    llm = enable(llms.claude(), layout="arrange")
    for question in TURNS[:4]:
        engine(ContextChatEngine, llm, Same()).chat(question)
    assert [read > 3000 for read in reads(simulator)] == [False, False, True, True]


def test_a_question_of_white_space_is_no_block_of_its_own(simulator, llms):
    engine(ContextChatEngine, enable(llms.claude(), layout="arrange")).chat(" ")
    assert [call.status for call in simulator.calls] == [200]


def test_a_chat_tells_no_loss_of_what_was_retrieved_for_one_question(llms):
    heard = []
    for llm in (llms.claude(), llms.openai(), llms.openai(model="gpt-5.6-sol")):
        chat = engine(ContextChatEngine, enable(llm, layout="arrange", observers=[heard.append]), Pages())
        for question in TURNS:
            chat.chat(question)
    planned = [event for event in heard if isinstance(event, PromptPlanned)]
    assert {finding.code for event in planned for finding in event.plan.findings} == set()
    assert planned == heard


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


MODELS = {
    "claude": lambda llms: llms.claude(),
    "gpt-5.6": lambda llms: llms.openai(model="gpt-5.6-sol"),
    "gpt-5.6, responses": lambda llms: llms.responses(model="gpt-5.6-sol"),
    "gpt-4o": lambda llms: llms.openai(),
}
EXPLICIT = ("claude", "gpt-5.6", "gpt-5.6, responses")


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("mode", MODES)
def test_documents_that_stay_are_found_again_under_another_question(simulator, llms, model, mode):
    llm = enable(MODELS[model](llms), layout="arrange")
    for question in TURNS[:3]:
        synthesize(llm, question, nodes("Lamps are taken back within thirty days. " * 200), mode)
    first, *others = [call.usage for call in simulator.calls]
    assert first.cache_read_tokens == 0
    for usage in others:  # all but the question is read: nothing that stays stands behind it
        assert usage.input_tokens - usage.cache_read_tokens < (40 if model in EXPLICIT else 128 + 40)


@pytest.mark.parametrize("model", EXPLICIT)
def test_without_arranging_documents_in_one_text_with_the_question_are_not(simulator, llms, model):
    llm = enable(MODELS[model](llms))
    for question in TURNS[:3]:
        synthesize(llm, question, nodes("Lamps are taken back within thirty days. " * 200))
    assert reads(simulator) == [0, 0, 0]


@pytest.mark.parametrize("model", ["claude", "gpt-5.6"])
@pytest.mark.parametrize("layout", ["canonical", "arrange"])
def test_documents_that_change_with_every_question_are_soon_not_written_any_more(
    simulator, llms, monkeypatch, model, layout
):
    llm = enable(MODELS[model](llms), layout=layout)
    for number in range(20):
        minute = SimpleNamespace(time=lambda number=number: 60.0 * number)
        monkeypatch.setattr("prefixcache_integrations.sdk_hooks.time", minute)
        synthesize(llm, f"Question {number}?", nodes(f"Page {number} says that lamps are lamps. " * 200))
    assert reads(simulator) == [0] * 20
    assert not any(call.usage.cache_write_tokens for call in simulator.calls[-3:])


def test_a_query_engine_reads_the_documents_that_it_retrieves_again(simulator, llms):
    documents = [Document(text=f"Page {number}: " + "lamps are taken back. " * 80) for number in range(6)]
    index = VectorStoreIndex.from_documents(documents, embed_model=HashedWords())
    settings = {"similarity_top_k": 6, "node_postprocessors": [StableOrderPostprocessor()]}
    for model in EXPLICIT:
        simulator.reset()
        engine = index.as_query_engine(llm=enable(MODELS[model](llms), layout="arrange"), **settings)
        for question in ("Which lamps?", "How are lamps taken back?", "And page 3?"):
            engine.query(question)
        assert all(read > 2000 for read in reads(simulator)[1:])


@pytest.mark.parametrize("model", [*MODELS, "gpt-4o, responses"])
def test_the_instructions_of_synthesizers_lead_and_no_word_is_lost(simulator, llms, model):
    make = {**MODELS, "gpt-4o, responses": lambda llms: llms.responses()}[model]
    for llm in (make(llms), enable(make(llms), layout="arrange")):
        synthesize(llm, TURNS[0], nodes(RULES))
    roles = [[message.role for message in call.request.messages] for call in simulator.calls]
    assert list(dict.fromkeys(roles[1])) == roles[0]
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


@pytest.mark.parametrize(("rules", "times"), [(DocumentRules(), 1), (DocumentRules(drop_copies=False), 2)])
def test_a_document_is_sent_twice_only_if_told_to(simulator, llms, rules, times):
    page = "<document>Lamps take three days.</document>"
    blocks = [TextBlock(text=text) for text in (page, page, "How long do lamps take?")]
    enable(llms.claude(), layout="arrange", documents=rules).chat([ChatMessage(role="user", blocks=blocks)])
    sent = [block["text"] for block in simulator.calls[-1].body["messages"][0]["content"]]
    assert sent == [page] * times + ["How long do lamps take?"]
