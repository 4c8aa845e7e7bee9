"""What changes in the head of a prompt: told once per place, whatever engine or agent asks, with its price."""

import asyncio
from itertools import count, pairwise

import pytest
from llama_index.core import get_response_synthesizer
from llama_index.core.agent.workflow import FunctionAgent
from llama_index.core.chat_engine import ContextChatEngine, SimpleChatEngine
from llama_index.core.memory import ChatMemoryBuffer
from llama_index.core.query_engine import RetrieverQueryEngine
from llama_index.core.retrievers import BaseRetriever
from llama_index.core.schema import NodeWithScore, TextNode
from llama_index.core.tools import FunctionTool

from prefixcache_integrations.events import VolatileFound
from prefixcache_integrations.llama_index import enable

PROVIDERS = ("openai", "claude")
RULES = "Use the tools, one after the other, and name what each of them said. " * 100


class Retrieves(BaseRetriever):
    """Finds another text each time."""

    def __init__(self):
        super().__init__()
        self._numbers = count()

    def _retrieve(self, query):
        return [NodeWithScore(node=TextNode(text=f"Lamps come back in {next(self._numbers)} days."), score=1.0)]


def look_up(thing: str) -> str:
    """Look a thing up."""
    return f"{thing}: thirty days"


class Heard(list):
    """Keeps what was told of places that change."""

    def __call__(self, event):
        if isinstance(event, VolatileFound):
            self.append(event)

    @property
    def kinds(self):
        return [event.finding.kind for event in self]


@pytest.fixture
def heard():
    return Heard()


@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_tool_whose_description_has_the_address_of_an_object(llms, heard, provider):
    tools = [FunctionTool.from_defaults(look_up, description=f"Calls {look_up}.")]
    agent = FunctionAgent(llm=enable(getattr(llms, provider)(), observers=[heard]), tools=tools, system_prompt=RULES)

    async def run(question):
        return str(await agent.run(question, memory=ChatMemoryBuffer.from_defaults(token_limit=100_000)))

    for question in ("How long for lamps?", "And books?"):
        asyncio.run(run(question))

    assert heard.kinds == ["address"]
    assert heard[0].finding.at.section == "tools"
    assert heard[0].finding.tokens > 1000


@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_date_in_the_system_prompt_of_a_chat_engine(llms, heard, provider):
    llm = enable(getattr(llms, provider)(), observers=[heard])
    engine = SimpleChatEngine.from_defaults(llm=llm, system_prompt=f"Today is Monday, 5 January 2026. {RULES}")
    for question in ("How long for lamps?", "And books?", "And chairs?"):
        engine.chat(question)

    assert heard.kinds == ["date"]
    assert heard[0].finding.tokens > 1000
    assert heard[0].finding.cost > 500
    assert "2026" not in repr(heard)


@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_clock_in_the_system_prompt_of_engines_that_share_an_llm(llms, heard, provider):
    llm, retriever = enable(getattr(llms, provider)(), observers=[heard]), Retrieves()
    for second in range(10, 13):
        prompt = f"It is 2026-01-05 08:17:{second}. {RULES}"
        ContextChatEngine.from_defaults(retriever=retriever, llm=llm, system_prompt=prompt).chat("And lamps?")

    # What is retrieved changes as well, right before it: from then on the two are one place.
    assert heard.kinds == ["timestamp"]


def test_a_query_engine_with_nothing_that_changes_in_its_head(llms, heard):
    llm = enable(llms.openai(system_prompt=RULES), observers=[heard])
    synthesizer = get_response_synthesizer(llm=llm)
    for question in ("How long for lamps?", "And books?", "And chairs?"):
        RetrieverQueryEngine(Retrieves(), synthesizer).query(question)

    assert heard.kinds == []


def test_two_llms_are_two_layouts(llms, heard):
    prompt = f"Today is 2026-01-05. {RULES}"
    for _ in range(2):
        llm = enable(llms.claude(), observers=[heard])
        for question in ("How long for lamps?", "And books?"):
            SimpleChatEngine.from_defaults(llm=llm, system_prompt=prompt).chat(question)

    assert heard.kinds == ["date", "date"]


@pytest.mark.parametrize("provider", PROVIDERS)
def test_at_arrange_a_clock_goes_to_the_end_and_the_conversation_is_read_again(simulator, llms, heard, provider):
    llm = enable(getattr(llms, provider)(), layout="arrange", observers=[heard])
    memory = ChatMemoryBuffer.from_defaults(token_limit=100_000)
    for minute in range(10, 13):
        prompt = f"Current time: 2026-01-05 08:{minute}:23.\n{RULES}"
        SimpleChatEngine.from_defaults(llm=llm, system_prompt=prompt, memory=memory).chat("How long for lamps?")

    assert heard.kinds == []
    assert "value1" not in "".join(str(message.content) for message in memory.get_all())
    bodies = [str(call.body) for call in simulator.calls]
    assert [body.count("[value1] 2026-01-05") for body in bodies] == [1, 1, 1]
    assert not any("Current time: 2026" in body for body in bodies)
    for before, after in pairwise(call.usage for call in simulator.calls):
        assert after.cache_read_tokens > before.input_tokens - 150 > 1000
