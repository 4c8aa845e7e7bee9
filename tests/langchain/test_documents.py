"""Documents that LangChain apps look up: what of them a layout moves, leaves out and says, by the rules of the app."""

import time

import pytest
from anthropic import Anthropic
from langchain.agents import create_agent
from langchain_core.documents import Document
from langchain_core.messages import HumanMessage
from langchain_core.prompts import ChatPromptTemplate

from prefixcache_integrations import dialects, profiles, tokens
from prefixcache_integrations.events import PromptPlanned
from prefixcache_integrations.flows.prepare import prepare
from prefixcache_integrations.langchain import PromptLayoutMiddleware, document_blocks, with_prompt_layout
from prefixcache_integrations.prompt.document_rules import DocumentRules
from prefixcache_integrations.prompt.stability import PromptMemory
from prefixcache_integrations.sdk_hooks import lay_out_client

FOUND = [
    Document(f"Parcel {name} is {place}. " * 100, metadata={"source": f"{name}.txt", "score": number / 10})
    for number, (name, place) in enumerate([("A", "here"), ("B", "there"), ("C", "gone"), ("D", "lost")])
]
RANKINGS = [(0, 1, 2, 3), (3, 2, 1, 0), (1, 3, 0, 2), (2, 0, 3, 1)] * 2
MODEL = "claude-sonnet-4-6"


def asked(ranking, number):
    return [*document_blocks([FOUND[each] for each in ranking]), {"type": "text", "text": f"Question {number}?"}]


def experienced(rules):
    """Return a memory that has seen that these documents come again: nothing is risked on them before."""
    memory = PromptMemory()
    for number, ranking in enumerate(RANKINGS * 16):
        prepare(
            {"model": MODEL, "max_tokens": 10, "messages": [{"role": "user", "content": asked(ranking, -number)}]},
            dialects.by_name("anthropic_messages"),
            profiles.resolve,
            tokens.load(),
            level="arrange",
            memory=memory,
            now=time.time(),
            documents=rules,
        )
    return memory


def agent(models, simulator, settings):
    layout = PromptLayoutMiddleware("arrange", **settings)
    made = create_agent(models.claude(MODEL), middleware=[layout])
    return lambda content: made.invoke({"messages": [HumanMessage(content)]})


def chain(models, simulator, settings):
    prompt = ChatPromptTemplate([("placeholder", "{said}")])
    made = with_prompt_layout(prompt | models.claude(MODEL), level="arrange", **settings)
    return lambda content: made.invoke({"said": [HumanMessage(content)]})


def client(models, simulator, settings):
    plain = Anthropic(base_url=simulator.base_url("anthropic"), api_key="k", default_headers={"Connection": "close"})
    made = lay_out_client(plain, level="arrange", **settings)
    return lambda content: made.messages.create(
        model=MODEL, max_tokens=10, messages=[{"role": "user", "content": content}]
    )


@pytest.fixture(params=[agent, chain, client], ids=["agent", "chain", "client"])
def sends(request, models, simulator):
    """Send every ranking of the documents by some rules; return what of each was sent, and the plans."""

    def send(**rules):
        plans = []
        settings = {
            "documents": DocumentRules(**rules),
            "memory": experienced(DocumentRules(**rules)),
            "observers": [lambda event: plans.append(event.plan) if isinstance(event, PromptPlanned) else None],
        }
        ask = request.param(models, simulator, settings)
        for number, ranking in enumerate(RANKINGS):
            ask(asked(ranking, number))
        return [[block["text"] for block in call.body["messages"][0]["content"]] for call in simulator.calls], plans

    return send


def ranking_of(texts):
    names = [document["text"] for document in document_blocks(FOUND)]
    return tuple(names.index(text) for text in texts if text in names)


def read(simulator):
    return sum(call.usage.cache_read_tokens for call in simulator.calls)


def test_documents_that_come_again_in_another_order_are_read(sends, simulator):
    sent, plans = sends()
    assert len({ranking_of(texts) for texts in sent}) < len(set(RANKINGS))
    assert read(simulator) > 6 * 2000
    assert {move.reason for plan in plans for move in plan.moves} == {"documents"}


def test_documents_stay_where_they_are_if_told_to(sends, simulator):
    sent, plans = sends(move=False)
    assert [ranking_of(texts) for texts in sent] == RANKINGS
    assert all(plan.moves == () for plan in plans)


def test_the_most_relevant_stays_in_front(sends):
    sent, _ = sends(keep_top=1)
    assert [ranking_of(texts)[0] for texts in sent] == [ranking[0] for ranking in RANKINGS]
    assert any(ranking_of(texts) != ranking for texts, ranking in zip(sent, RANKINGS, strict=True))


def test_an_order_too_far_from_the_ranking_is_not_taken(sends):
    sent, _ = sends(max_distance=0.5)
    for texts, ranking in zip(sent, RANKINGS, strict=True):
        found = ranking_of(texts)
        pairs = [(one, other) for at, one in enumerate(found) for other in found[at + 1 :]]
        assert sum(ranking.index(one) > ranking.index(other) for one, other in pairs) <= 0.5 * len(pairs)
    assert any(ranking_of(texts) != ranking for texts, ranking in zip(sent, RANKINGS, strict=True))


def test_the_ranking_is_said_behind_the_question_where_it_was_changed(sends, simulator):
    sent, plans = sends(ranking_note=True)
    changed = 0
    for number, (texts, ranking) in enumerate(zip(sent, RANKINGS, strict=True)):
        found = ranking_of(texts)
        if found == ranking:
            assert texts[-1] == f"Question {number}?"
            continue
        changed += 1
        places = ", ".join(str(found.index(each) + 1) for each in ranking)
        assert texts[-2] == f"Question {number}?"
        assert texts[-1].endswith(f"counted from the top: {places}.")
    assert changed >= 4
    assert read(simulator) > 6 * 2000
    assert any(move.reason == "ranking" for plan in plans for move in plan.moves)


@pytest.mark.parametrize(("drop_copies", "times"), [(True, 1), (False, 2)])
def test_what_the_conversation_has_already_is_left_out(models, simulator, drop_copies, times):
    plans = []
    laid_out = with_prompt_layout(
        models.claude(MODEL),
        level="arrange",
        documents=DocumentRules(drop_copies=drop_copies),
        observers=[plans.append],
    )
    history = [HumanMessage(asked((0, 1), 1)), laid_out.invoke([HumanMessage(asked((0, 1), 1))])]
    laid_out.invoke([*history, HumanMessage(asked((1, 2), 2))])
    body = simulator.calls[-1].body
    texts = [block["text"] for message in body["messages"][::2] for block in message["content"]]
    second = document_blocks(FOUND)[1]["text"]
    assert texts.count(second) == times
    assert texts[-1] == "Question 2?"
    plan = [event.plan for event in plans if isinstance(event, PromptPlanned)][-1]
    assert [(str(move.source), str(move.target), move.reason) for move in plan.moves] == (
        [("messages[2].parts[0]", "messages[0].parts[1]", "copy")] if drop_copies else []
    )
    assert any(finding.code == "documents_dropped" for finding in plan.findings) == drop_copies


def test_a_document_is_the_same_block_whatever_its_rank():
    again = Document(FOUND[0].page_content, metadata={"source": "A.txt", "score": 0.9})
    assert document_blocks([FOUND[0]]) == document_blocks([again])
    assert (
        "<source>A &amp; B.txt</source>" in document_blocks([Document("", metadata={"source": "A & B.txt"})])[0]["text"]
    )
