"""Every way in which LlamaIndex calls a model: asked again, nothing is called, and the user sees the same."""

import asyncio
from functools import cache

import pytest
from llama_index.core import Document, PromptTemplate, VectorStoreIndex
from llama_index.core.agent.workflow import AgentWorkflow, FunctionAgent, ReActAgent
from llama_index.core.llms import ChatMessage
from llama_index.core.memory import ChatMemoryBuffer
from llama_index.core.tools import FunctionTool
from pydantic import BaseModel

from examples.llama_index.embedding import HashedWords
from prefixcache_integrations.llama_index import enable

TEXTS = [
    f"Paragraph {number}: returns of {thing} are taken back within {number + 10} days."
    for number, thing in enumerate(("lamps", "chairs", "books", "bikes", "shoes", "plants"))
]
QUESTION = "How long can I return lamps and books?"
MESSAGES = [ChatMessage(role="system", content="Be brief."), ChatMessage(content=QUESTION)]
PROMPT = PromptTemplate("Describe {thing}.")


class Term(BaseModel):
    """The terms of a return."""

    thing: str
    days: int


def days_for(thing: str) -> int:
    """Return how many days a thing can be returned."""
    return len(thing)


def price_of(thing: str, count: int) -> int:
    """Return the price of some things."""
    return count * len(thing)


@cache
def index():
    return VectorStoreIndex.from_documents(
        [Document(text=text, doc_id=f"doc-{number}") for number, text in enumerate(TEXTS)], embed_model=HashedWords()
    )


def tools():
    return [FunctionTool.from_defaults(days_for), FunctionTool.from_defaults(price_of)]


async def consumed(stream):
    return [piece async for piece in stream]


def blocks(response):
    return [block.model_dump(exclude={"tool_call_id"}) for block in response.message.blocks]


def joined(pieces):
    return "".join(piece.delta or "" for piece in pieces)


def query(**settings):
    return lambda llm: str(index().as_query_engine(llm=llm, **settings).query(QUESTION))


def aquery(**settings):
    async def ask(llm):
        return str(await index().as_query_engine(llm=llm, **settings).aquery(QUESTION))

    return ask


def streamed_query(llm):
    return "".join(index().as_query_engine(llm=llm, streaming=True).query(QUESTION).response_gen)


def chats(mode, **settings):
    def talk(llm):
        engine = index().as_chat_engine(chat_mode=mode, llm=llm, **settings)
        return [str(engine.chat(QUESTION)), str(engine.chat("And bikes?"))]

    return talk


def achats(mode):
    async def talk(llm):
        engine = index().as_chat_engine(chat_mode=mode, llm=llm, system_prompt="Be kind.")
        return [str(await engine.achat(QUESTION)), str(await engine.achat("And bikes?"))]

    return talk


def streamed_chats(mode):
    def talk(llm):
        engine = index().as_chat_engine(chat_mode=mode, llm=llm, system_prompt="Be kind.")
        return ["".join(engine.stream_chat(question).response_gen) for question in (QUESTION, "And bikes?")]

    return talk


def astreamed_chats(mode):
    async def talk(llm):
        engine = index().as_chat_engine(chat_mode=mode, llm=llm, system_prompt="Be kind.")
        response = await engine.astream_chat(QUESTION)
        return "".join([token async for token in response.async_response_gen()])

    return talk


def agent(kind, **settings):
    async def run(llm):
        made = kind(llm=llm, tools=tools(), system_prompt="Use the tools.", **settings)
        handler = made.run(QUESTION, memory=ChatMemoryBuffer.from_defaults(token_limit=50_000))
        deltas = [event.delta async for event in handler.stream_events() if type(event).__name__ == "AgentStream"]
        output = await handler
        return str(output), "".join(deltas), [(call.tool_name, call.tool_kwargs) for call in output.tool_calls]

    return run


async def workflow(llm):
    first = FunctionAgent(name="first", description="Greets.", llm=llm, tools=tools()[:1], system_prompt="Greet.")
    made = AgentWorkflow(agents=[first], root_agent="first")
    return str(await made.run(QUESTION, memory=ChatMemoryBuffer.from_defaults(token_limit=50_000)))


def called_with_tools(llm):
    return blocks(llm.chat_with_tools(tools(), user_msg=QUESTION, allow_parallel_tool_calls=True))


async def streamed_with_tools(llm):
    pieces = await consumed(await llm.astream_chat_with_tools(tools(), user_msg=QUESTION))
    return [call.tool_name for call in llm.get_tool_calls_from_response(pieces[-1])]


async def astructured(llm):
    return await llm.astructured_predict(Term, PROMPT, thing="lamps")


async def astreamed_structure(llm):
    return (await consumed(await llm.astream_structured_predict(Term, PROMPT, thing="lamps")))[-1].model_dump()


async def astreamed_chat(llm):
    pieces = await consumed(await llm.astream_chat(MESSAGES))
    return joined(pieces), pieces[-1].message.content


async def astreamed_completion(llm):
    return joined(await consumed(await llm.astream_complete("Once")))


async def achat(llm):
    return blocks(await llm.achat(MESSAGES))


async def acomplete(llm):
    return (await llm.acomplete("Once")).text


STYLES = {
    "chat": lambda llm: blocks(llm.chat(MESSAGES)),
    "achat": achat,
    "stream_chat": lambda llm: joined(llm.stream_chat(MESSAGES)),
    "astream_chat": astreamed_chat,
    "complete": lambda llm: llm.complete("Once").text,
    "acomplete": acomplete,
    "stream_complete": lambda llm: joined(llm.stream_complete("Once")),
    "astream_complete": astreamed_completion,
    "predict": lambda llm: llm.predict(PROMPT, thing="lamps"),
    "stream": lambda llm: "".join(llm.stream(PROMPT, thing="lamps")),
    "chat_with_tools": called_with_tools,
    "astream_chat_with_tools": streamed_with_tools,
    "predict_and_call": lambda llm: str(llm.predict_and_call(tools()[:1], user_msg=QUESTION)),
    "structured_predict": lambda llm: llm.structured_predict(Term, PROMPT, thing="lamps"),
    "astructured_predict": astructured,
    "stream_structured_predict": lambda llm: list(llm.stream_structured_predict(Term, PROMPT, thing="lamps"))[-1].model_dump(),
    "astream_structured_predict": astreamed_structure,
    "as_structured_llm": lambda llm: llm.as_structured_llm(Term).complete("Describe lamps.").raw,
    "compact": query(),
    "compact, awaited": aquery(),
    "compact, streamed": streamed_query,
    "refine": query(response_mode="refine", similarity_top_k=3),
    "tree_summarize": query(response_mode="tree_summarize"),
    "accumulate": query(response_mode="accumulate", similarity_top_k=3),
    "output_cls": query(output_cls=Term),
    "context chat": chats("context", system_prompt="Be kind."),
    "context chat, awaited": achats("context"),
    "context chat, streamed": streamed_chats("context"),
    "context chat, streamed and awaited": astreamed_chats("context"),
    "condense_plus_context chat": chats("condense_plus_context", system_prompt="Be kind."),
    "condense_question chat": chats("condense_question"),
    "simple chat": chats("simple"),
    "FunctionAgent": agent(FunctionAgent),
    "FunctionAgent, not streaming": agent(FunctionAgent, streaming=False),
    "ReActAgent": agent(ReActAgent),
    "AgentWorkflow": workflow,
}  # fmt: skip


def run(style, llm):
    result = STYLES[style](llm)
    return asyncio.run(result) if asyncio.iscoroutine(result) else result


@pytest.mark.parametrize("provider", ["openai", "claude", "responses"])
@pytest.mark.parametrize("style", STYLES)
def test_asked_again_nothing_is_called_and_the_result_is_that_of_plain_llama_index(simulator, llms, provider, style):
    plain = run(style, getattr(llms, provider)())
    simulator.reset()
    llm = enable(getattr(llms, provider)(), cache="memory://")
    first = run(style, llm)
    called = len(simulator.calls)
    assert called
    assert run(style, llm) == first == plain
    assert len(simulator.calls) == called
