"""Every kind of chain that LangChain makes reaches the model in it, and stays the chain it was."""

from typing import Any

import pytest
from langchain.chat_models import init_chat_model
from langchain_core.chat_history import InMemoryChatMessageHistory
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate, MessagesPlaceholder, PromptTemplate
from langchain_core.runnables import (
    ConfigurableField,
    RouterRunnable,
    RunnableBranch,
    RunnableLambda,
    RunnableParallel,
    RunnablePassthrough,
    RunnableSerializable,
)
from langchain_core.runnables.history import RunnableWithMessageHistory
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from langgraph.graph import END, START, MessagesState, StateGraph

from prefixcache_integrations.events import PassedThrough, PromptPlanned
from prefixcache_integrations.langchain import with_prompt_layout
from tests.sent import reads

pytestmark = pytest.mark.filterwarnings("ignore::langchain_core._api.LangChainDeprecationWarning")

LONG = "The parcel leaves the warehouse in the evening and arrives on the next working day. " * 120
PROMPT = ChatPromptTemplate([("system", LONG), MessagesPlaceholder("history", optional=True), ("human", "{question}")])
TEXT = PromptTemplate.from_template(LONG + "{question}")
QUESTIONS = [{"question": "Where is my parcel?"}, {"question": "And the other one?"}]


@tool
def track(order: str) -> str:
    """Say where a parcel is."""
    return order


@tool
def cancel(order: str) -> str:
    """Cancel an order that has not been sent."""
    return order


class Clerk(RunnableSerializable[dict[str, Any], Any]):
    """A class of the application's own that holds a model."""

    model: Any

    def invoke(self, input, config=None, **kwargs):  # noqa: A002 - the name that LangChain gives it
        return (PROMPT | self.model).invoke(input, config, **kwargs)


def remembering(chain, **keys):
    histories: dict[str, InMemoryChatMessageHistory] = {}

    def history(session_id: str) -> InMemoryChatMessageHistory:
        return histories.setdefault(session_id, InMemoryChatMessageHistory())

    with_history = RunnableWithMessageHistory(chain, history, **keys)
    return with_history.with_config(configurable={"session_id": "one"})


def made_by_the_call(model):
    """Return a model whose settings come with each call, of the same provider as ``model``."""
    return init_chat_model(
        model.model,
        model_provider="anthropic",
        configurable_fields=("max_tokens",),
        api_key="k",
        base_url=model.anthropic_api_url,
        default_headers=model.default_headers,
    )


def chosen_by_a_function(model):
    return RunnableLambda(lambda given: PROMPT | model if given["question"] else "Nothing to say.")


def chosen_by_an_awaited_function(model):
    chain = PROMPT | model

    async def achoose(given):
        return chain

    return RunnableLambda(lambda _: chain, achoose)


CHAINS = {
    "a model": lambda model: PROMPT | model,
    "with a parser": lambda model: PROMPT | model | StrOutputParser(),
    "with an assignment before": lambda model: (
        RunnablePassthrough.assign(history=lambda given: given.get("history", [])) | PROMPT | model
    ),
    "with a dict before": lambda model: {"question": lambda given: given["question"]} | PROMPT | model,
    "inside an assignment": lambda model: RunnablePassthrough.assign(answer=PROMPT | model) | (lambda it: it["answer"]),
    "inside a dict": lambda model: RunnableParallel(one=PROMPT | model) | (lambda it: it["one"]),
    "bound": lambda model: PROMPT | model.bind(stop=["Bye"]),
    "with tools": lambda model: PROMPT | model.bind_tools([track, cancel]),
    "retried": lambda model: (PROMPT | model).with_retry(),
    "a retried model": lambda model: PROMPT | model.with_retry(),
    "a fallback": lambda model: PROMPT | unreachable().with_fallbacks([model]),
    "a fallback chain": lambda model: (PROMPT | unreachable()).with_fallbacks([PROMPT | model]),
    "with a configuration": lambda model: (PROMPT | model).with_config(run_name="parcels", tags=["t"]),
    "configurable": lambda model: PROMPT | model.configurable_fields(max_tokens=ConfigurableField(id="size")),
    "alternatives": lambda model: (
        PROMPT | model.configurable_alternatives(ConfigurableField(id="which"), other=unreachable())
    ),
    "made by the call": lambda model: PROMPT | made_by_the_call(model),
    "a branch": lambda model: RunnableBranch((lambda _: False, RunnableLambda(str)), PROMPT | model),
    "a router": lambda model: (
        {"key": lambda _: "one", "input": RunnablePassthrough()} | RouterRunnable({"one": PROMPT | model})
    ),
    "listened to": lambda model: (PROMPT | model).with_listeners(on_end=lambda _: None),
    "typed": lambda model: (PROMPT | model).with_types(input_type=dict),
    "a nested prompt": lambda model: ChatPromptTemplate([PROMPT, ("ai", "Yes?"), ("human", "Please.")]) | model,
    "a configurable prompt": lambda model: PROMPT.configurable_fields(messages=ConfigurableField(id="said")) | model,
    "a history around": lambda model: remembering(
        PROMPT | model, input_messages_key="question", history_messages_key="history"
    ),
    "a history inside": lambda model: (
        RunnablePassthrough()
        | remembering(PROMPT | model | StrOutputParser(), input_messages_key="question", history_messages_key="history")
    ),
    "a history of a model": lambda model: TEXT | (lambda said: said.to_messages()) | remembering(model),
    "chosen by a function": chosen_by_a_function,
    "chosen by an awaited function": chosen_by_an_awaited_function,
    "a class of its own": lambda model: Clerk(model=model) | RunnablePassthrough(),
    "each": lambda model: RunnableLambda(lambda it: [it]) | (PROMPT | model).map() | (lambda them: them[0]),
}


def unreachable():
    return ChatOpenAI(model="gpt-4o-mini", api_key="k", base_url="http://127.0.0.1:9/v1", max_retries=0)


@pytest.mark.parametrize("chain", CHAINS.values(), ids=CHAINS)
def test_requests_of_a_chain_are_laid_out(simulator, models, events, chain):
    plain = chain(models.claude())
    laid_out = with_prompt_layout(plain, observers=[events.append])

    for question in QUESTIONS:
        plain.invoke(question)
    assert reads(simulator) == [0, 0]
    simulator.reset()
    answers = [laid_out.invoke(question) for question in QUESTIONS]

    assert [event.model for event in events].count("claude-sonnet-4-6") == 2
    assert {type(event) for event in events} == {PromptPlanned}
    assert reads(simulator)[0] == 0
    assert reads(simulator)[1] > 1_024
    assert {type(answer) for answer in answers} == {type(plain.invoke(QUESTIONS[0]))}


@pytest.mark.parametrize("chain", CHAINS.values(), ids=CHAINS)
def test_input_and_output_are_described_as_before(models, chain):
    plain = chain(models.claude())
    laid_out = with_prompt_layout(plain, level="arrange")

    assert type(laid_out) is type(plain)
    assert laid_out.get_name() == plain.get_name()
    assert laid_out.get_input_jsonschema() == plain.get_input_jsonschema()
    assert laid_out.get_output_jsonschema() == plain.get_output_jsonschema()
    assert laid_out.config_schema().model_json_schema() == plain.config_schema().model_json_schema()
    assert [spec.id for spec in laid_out.config_specs] == [spec.id for spec in plain.config_specs]
    assert laid_out.get_graph().to_json() == plain.get_graph().to_json()


# Functions and graphs around a chain


@pytest.mark.parametrize("level", ["canonical", "arrange"])
async def test_functions_of_every_kind_give_on_what_they_gave(simulator, models, events, level):
    chain = PROMPT | models.claude() | StrOutputParser()

    def pieces(given):
        yield from chain.stream(given)

    async def apieces(given):
        async for piece in chain.astream(given):
            yield piece

    table = {"one": chain}
    kinds = {
        "sync": RunnableLambda(lambda _: chain),
        "of a table": RunnableLambda(lambda _: table["one"]),
        "with its own await": chosen_by_an_awaited_function(models.claude()) | StrOutputParser(),
        "in pieces": RunnableLambda(pieces, apieces),
        "no chain": RunnableLambda(chain.invoke),
    }
    expected = chain.invoke(QUESTIONS[0])
    for kind in kinds.values():
        laid_out = with_prompt_layout(kind, level=level, observers=[events.append])
        assert laid_out.invoke(QUESTIONS[0]) == await laid_out.ainvoke(QUESTIONS[0]) == expected
        assert "".join(laid_out.stream(QUESTIONS[0])) == expected
        assert "".join([piece async for piece in laid_out.astream(QUESTIONS[0])]) == expected
        assert laid_out.batch(QUESTIONS) == await laid_out.abatch(QUESTIONS) == chain.batch(QUESTIONS)

    assert len([event for event in events if isinstance(event, PromptPlanned)]) == 3 * 8
    assert len([event for event in events if isinstance(event, PassedThrough)]) == 1


def test_a_function_that_builds_its_chain_anew_is_followed(simulator, models, events):
    chain = with_prompt_layout(chosen_by_a_function(models.claude()), observers=[events.append])

    assert chain.invoke({"question": ""}) == "Nothing to say."
    for question in QUESTIONS * 50:
        chain.invoke(question)

    assert [type(event) for event in events] == [PassedThrough] + [PromptPlanned] * 100
    assert min(reads(simulator)[1:]) > 1_024


@pytest.mark.filterwarnings("ignore::langchain_core._api.LangChainBetaWarning")
async def test_a_chain_is_laid_out_where_a_graph_or_a_tool_calls_it(simulator, models):
    chain = with_prompt_layout(PROMPT | models.claude())

    def answer(state):
        return {"messages": [chain.invoke({"question": state["messages"][-1].text})]}

    graph = StateGraph(MessagesState)
    graph.add_node("answer", answer)
    graph.add_edge(START, "answer")
    graph.add_edge("answer", END)
    asks = chain.as_tool(name="clerk", description="Knows of parcels.", arg_types={"question": str})

    graph.compile().invoke({"messages": [("human", "Where is it?")]})
    await graph.compile().ainvoke({"messages": [("human", "Where is the other?")]})
    asks.invoke(QUESTIONS[0])

    assert min(reads(simulator)[1:]) > 1_024


async def test_a_batch_gives_errors_in_the_place_of_answers(simulator, models):
    chain = with_prompt_layout(PROMPT | models.claude() | StrOutputParser(), level="arrange")
    calls = [QUESTIONS[0], {"no": "question"}, QUESTIONS[1]]

    for answers in (chain.batch(calls, return_exceptions=True), await chain.abatch(calls, return_exceptions=True)):
        assert [isinstance(answer, KeyError) for answer in answers] == [False, True, False]


def test_of_two_layouts_the_outer_one_counts(simulator, models):
    inner, outer = [], []
    chain = with_prompt_layout(PROMPT | models.claude(), observers=[inner.append])
    configurable = init_chat_model(
        "claude-sonnet-4-6", model_provider="anthropic", api_key="k", base_url=simulator.base_url("anthropic")
    )
    for each in (
        chain,
        with_prompt_layout(PROMPT | configurable.configurable_fields(max_tokens=ConfigurableField("n"))),
    ):
        with_prompt_layout(each, observers=[outer.append]).invoke(QUESTIONS[0])

    assert (len(inner), len(outer)) == (0, 2)
