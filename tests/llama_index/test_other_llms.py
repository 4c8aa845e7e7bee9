"""LLMs other than those of OpenAI's and Anthropic's own APIs: each is cached and laid out, or called with an event."""

import asyncio
from collections.abc import Sequence
from decimal import Decimal

import anthropic
import httpx
import pytest
from llama_index.core.llms import ChatMessage, ChatResponse, CompletionResponse, CustomLLM, LLMMetadata
from llama_index.core.llms.function_calling import FunctionCallingLLM
from llama_index.core.llms.mock import MockFunctionCallingLLM, MockLLM
from llama_index.core.tools import FunctionTool
from llama_index.llms.anthropic import Anthropic
from llama_index.llms.azure_openai import AzureOpenAI, AzureOpenAIResponses
from llama_index.llms.openai import OpenAI
from llama_index.llms.openai_like import OpenAILike, OpenAILikeResponses

from prefixcache_integrations.events import CacheHit, PassedThrough, PromptPlanned
from prefixcache_integrations.llama_index import CachedTokensEventHandler, disable, enable
from prefixcache_integrations.prices import PriceBook
from prefixcache_integrations.profiles import Price
from prefixcache_integrations.server import Reply, Simulator

ASK = [ChatMessage(role="system", content="Answer from the handbook. " * 400), ChatMessage(content="How long?")]
CLOSE = {"Connection": "close"}
ASKED = []  # who was, by a call


@pytest.fixture(autouse=True)
def nobody_was_asked():
    ASKED.clear()


async def collected(stream):
    return "".join([piece.delta or "" async for piece in await stream])


WAYS = {
    "chat": lambda llm: llm.chat(ASK).message.content,
    "stream_chat": lambda llm: "".join(piece.delta or "" for piece in llm.stream_chat(ASK)),
    "achat": lambda llm: asyncio.run(llm.achat(ASK)).message.content,
    "astream_chat": lambda llm: asyncio.run(collected(llm.astream_chat(ASK))),
}


def answers(llm):
    return [ask(llm) for ask in WAYS.values()]


@pytest.fixture(scope="module")
def server():
    with Simulator(deployments={"ours": "gpt-4o-mini"}, model=lambda _: Reply(text="Thirty days it is.")) as running:
        yield running


class Mine(OpenAI):
    """A subclass as apps write it."""

    def chat(self, messages, **kwargs):
        ASKED.append(self)
        return super().chat(messages, **kwargs)


def azure(kind):
    def made(simulator):
        url = simulator.base_url("azure")
        return kind(
            engine="ours",
            model="gpt-4o-mini",
            api_key="k",
            azure_endpoint=url,
            api_version="2025-04-01-preview",
            default_headers=CLOSE,
        )

    return made


def openai(kind, **settings):
    def made(simulator):
        url = simulator.base_url("openai")
        return kind(model="gpt-4o-mini", api_key="k", api_base=url, default_headers=CLOSE, **settings)

    return made


ON_OPENAI = {
    "AzureOpenAI": azure(AzureOpenAI),
    "AzureOpenAIResponses": azure(AzureOpenAIResponses),
    "OpenAILike": openai(OpenAILike, is_chat_model=True),
    "OpenAILike with tools": openai(OpenAILike, is_chat_model=True, is_function_calling_model=True),
    "OpenAILikeResponses": openai(OpenAILikeResponses, is_chat_model=True),
    "a subclass of OpenAI": openai(Mine),
}


@pytest.mark.parametrize("name", ON_OPENAI)
def test_llms_on_openais_clients_are_laid_out_and_called_once(simulator, name):
    make, told = ON_OPENAI[name], []
    plain = answers(make(simulator))
    simulator.reset()
    llm = enable(make(simulator), cache="memory://", observers=[told.append])
    assert answers(llm) == plain
    assert len(simulator.calls) == 1
    assert sum(isinstance(fact, PromptPlanned) for fact in told) == 1
    assert not any(isinstance(fact, PassedThrough) for fact in told)


@pytest.mark.parametrize("diagnose", [False, True])
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", ["AzureOpenAI", "AzureOpenAIResponses"])
def test_a_deployments_own_price_holds_where_its_requests_are_seen(simulator, handlers, name, way, *, diagnose):
    own = PriceBook(genai_prices=False, own={"ours": Price.dollars("1", "8", "0")})
    handler = CachedTokensEventHandler(prices=own, diagnose=diagnose)
    handlers(handler)
    WAYS[way](enable(ON_OPENAI[name](simulator)))

    [call], usage = handler.calls, handler.totals
    assert usage.cost == (usage.uncached_tokens * 1 + usage.output_tokens * 8) / Decimal(1_000_000) > 0
    assert call.model == "gpt-4o-mini"


def test_a_function_that_supplies_azures_tokens_does_not_count(simulator):
    llm = AzureOpenAI(
        engine="ours",
        model="gpt-4o-mini",
        azure_endpoint=simulator.base_url("azure"),
        api_version="2025-04-01-preview",
        use_azure_ad=True,
        azure_ad_token_provider=lambda: "token",
        default_headers=CLOSE,
    )
    enable(llm, cache="memory://")
    assert [llm.chat(ASK).message.content for _ in range(2)] == ["Thirty days it is."] * 2
    assert len(simulator.calls) == 1


class Bedrock:
    """Answers as Claude on Bedrock does, and keeps what it is asked."""

    def __init__(self):
        self.bodies = []

    def __call__(self, request):
        self.bodies.append(request.read())
        content = [{"type": "text", "text": "Thirty days it is."}]
        usage = {"input_tokens": 9, "output_tokens": 4}
        answer = {"id": "m", "type": "message", "role": "assistant", "model": "claude", "content": content}
        return httpx.Response(200, json={**answer, "stop_reason": "end_turn", "stop_sequence": None, "usage": usage})


CLOUDS = {
    "Bedrock": lambda transport: anthropic.AnthropicBedrock(
        aws_region="eu-west-1", aws_access_key="a", aws_secret_key="s", http_client=httpx.Client(transport=transport)
    ),
    "Vertex": lambda transport: anthropic.AnthropicVertex(
        region="europe-west1", project_id="p", access_token="t", http_client=httpx.Client(transport=transport)
    ),
}


@pytest.mark.parametrize("cloud", CLOUDS)
def test_claude_on_other_clouds_is_laid_out_and_called_once(cloud):
    endpoint, told = Bedrock(), []
    llm = Anthropic(model="claude-sonnet-4-5", api_key="k")
    llm._client = CLOUDS[cloud](httpx.MockTransport(endpoint))
    enable(llm, cache="memory://", observers=[told.append])
    assert [llm.chat(ASK).message.content for _ in range(2)] == ["Thirty days it is."] * 2
    [body] = endpoint.bodies
    assert b'"cache_control"' in body
    assert any(isinstance(fact, CacheHit) for fact in told)


class OwnWays(FunctionCallingLLM):
    """Calls tools without its chat methods, as a few integrations do."""

    @property
    def metadata(self):
        return LLMMetadata(model_name="own", is_chat_model=True, is_function_calling_model=True)

    def _answer(self):
        ASKED.append(self)
        return ChatResponse(message=ChatMessage(role="assistant", content="Thirty days it is."))

    def chat(self, messages: Sequence[ChatMessage], **kwargs):
        return self._answer()

    def chat_with_tools(self, tools, user_msg=None, **kwargs):
        return self._answer()

    def complete(self, prompt, formatted=False, **kwargs):
        return CompletionResponse(text="Thirty days it is.")

    def _not_there(self, *args, **kwargs):
        raise NotImplementedError

    stream_chat = stream_complete = achat = acomplete = astream_chat = astream_complete = _not_there
    _prepare_chat_with_tools = get_tool_calls_from_response = _not_there


def test_who_calls_tools_in_a_way_of_his_own_is_told_and_called():
    told = []
    llm = enable(OwnWays(), cache="memory://", layout=None, observers=[told.append])
    assert [type(fact) for fact in told] == [PassedThrough]
    assert "in a way of its own" in told[0].reason
    for _ in range(2):
        llm.chat_with_tools([FunctionTool.from_defaults(lambda thing: thing, name="look")], user_msg="How long?")
    assert len(ASKED) == 2
    for _ in range(2):
        assert llm.chat(ASK).message.content == "Thirty days it is."
    assert len(ASKED) == 3


class Shouting(CustomLLM):
    """A completion model that an app has written."""

    @property
    def metadata(self):
        return LLMMetadata(model_name="shouting")

    def complete(self, prompt, formatted=False, **kwargs):
        ASKED.append(self)
        return CompletionResponse(text="THIRTY DAYS IT IS.")

    def stream_complete(self, prompt, formatted=False, **kwargs):
        ASKED.append(self)
        yield CompletionResponse(text="THIRTY DAYS IT IS.", delta="THIRTY DAYS IT IS.")


LOCAL = {"MockLLM": MockLLM, "a CustomLLM": Shouting}


@pytest.mark.parametrize("name", LOCAL)
def test_llms_without_a_client_are_cached_and_it_is_told_that_they_cannot_be_laid_out(name):
    told = []
    plain = answers(LOCAL[name]())
    llm = enable(LOCAL[name](), cache="memory://", observers=[told.append])
    assert "has no client whose requests can be laid out" in told[0].reason
    assert answers(llm) == plain
    assert sum(isinstance(fact, CacheHit) for fact in told) == len(WAYS) - 1
    disable(llm)
    assert type(llm) is LOCAL[name]


def test_what_an_llm_counts_in_its_fields_may_change_its_answers():
    class Counting(Shouting):
        temperature: float = 0.0

    llm = enable(Counting(), cache="memory://", layout=None)
    for temperature in (0.0, 0.0, 0.1):
        llm.temperature = temperature
        llm.complete("Once")
    assert len(ASKED) == 2


def test_an_llm_that_a_function_answers_for_is_called_with_an_event():
    told = []
    plain = answers(MockFunctionCallingLLM())
    llm = enable(MockFunctionCallingLLM(), cache="memory://", layout=None, observers=[told.append])
    assert answers(llm) == answers(llm) == plain
    assert sum(isinstance(fact, PassedThrough) for fact in told) == 2 * len(WAYS)
    assert all("cannot be written down" in fact.reason for fact in told)
