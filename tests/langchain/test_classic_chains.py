"""The chains of langchain-classic for retrieval, and chains of its older kind."""

import pytest

pytest.importorskip("langchain_classic", reason="its chains are tested with langchain-classic, which is not installed")

from langchain_classic.chains import LLMChain, create_history_aware_retriever, create_retrieval_chain
from langchain_classic.chains.combine_documents import create_stuff_documents_chain
from langchain_core.documents import Document
from langchain_core.prompts import ChatPromptTemplate, MessagesPlaceholder
from langchain_core.runnables import RunnableLambda

from prefixcache_integrations.events import PromptPlanned
from prefixcache_integrations.langchain import with_prompt_layout

pytestmark = pytest.mark.filterwarnings("ignore::langchain_core._api.LangChainDeprecationWarning")

LONG = "The parcel leaves the warehouse in the evening and arrives on the next working day. " * 120
HISTORY = [("human", "Hi"), ("ai", "Good day.")]
ANSWER = ChatPromptTemplate([("system", "Go by this: {context} " + LONG), ("human", "{input}")])
REPHRASE = ChatPromptTemplate([("system", LONG), MessagesPlaceholder("chat_history"), ("human", "{input}")])


def retrieving(model):
    retriever = RunnableLambda(lambda asked: [Document(f"{asked['input']}: in van 3.")])
    return create_retrieval_chain(retriever, create_stuff_documents_chain(model, ANSWER))


def stuffing(model):
    return RunnableLambda(lambda it: {**it, "context": [Document(it["input"])]}) | create_stuff_documents_chain(
        model, ANSWER
    )


def rephrasing(model):
    retriever = RunnableLambda(lambda said: [Document(f"{said}: in van 3.")])
    return create_history_aware_retriever(model, retriever, REPHRASE)


CHAINS = {
    "retrieving": retrieving,
    "stuffing": stuffing,
    "rephrasing": rephrasing,
    "older": lambda model: LLMChain(prompt=REPHRASE, llm=model),
}


@pytest.mark.parametrize("chain", CHAINS.values(), ids=CHAINS)
def test_what_a_classic_chain_says_every_time_is_read(simulator, models, chain):
    events = []
    plain = chain(models.claude())
    laid_out = with_prompt_layout(plain, level="arrange", observers=[events.append])
    calls = [{"input": f"Where is parcel {number}?", "chat_history": HISTORY} for number in range(3)]

    expected = plain.invoke(calls[0])
    simulator.reset()
    answers = [laid_out.invoke(call) for call in calls]

    assert type(answers[0]) is type(expected)
    assert [type(event) for event in events] == [PromptPlanned] * 3
    assert min(call.usage.cache_read_tokens for call in simulator.calls[1:]) > 1_024
    assert laid_out.get_input_jsonschema() == plain.get_input_jsonschema()
    assert laid_out.get_output_jsonschema() == plain.get_output_jsonschema()
