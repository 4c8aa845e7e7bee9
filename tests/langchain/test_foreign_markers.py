"""Prompts marked for one provider, sent to another: a fallback that LangChain makes, and a provider would refuse."""

import pytest
from langchain.agents import create_agent
from langchain.agents.middleware import ModelFallbackMiddleware
from langchain_anthropic import ChatAnthropic
from langchain_anthropic.middleware import AnthropicPromptCachingMiddleware
from langchain_core.messages import HumanMessage, SystemMessage

from prefixcache_integrations.langchain import PromptLayoutMiddleware, with_prompt_layout

MARKED = {"type": "text", "text": "Be kind.", "cache_control": {"type": "ephemeral"}}


@pytest.fixture
def unreachable():
    return ChatAnthropic(model="claude-sonnet-4-6", api_key="k", base_url="http://127.0.0.1:9", max_retries=0)


@pytest.mark.parametrize("model", ["gpt-4o-mini", "gpt-5.6-luna"])
def test_a_chain_falls_back_to_the_other_provider(simulator, models, unreachable, model):
    other = models.openai(model=model, use_responses_api=False)
    messages = [SystemMessage([MARKED]), HumanMessage([MARKED])]

    with_prompt_layout(unreachable.with_fallbacks([other])).invoke(messages)

    assert [call.status for call in simulator.calls] == [200]
    assert "cache_control" not in str(simulator.calls[0].body)


@pytest.mark.filterwarnings("ignore:AnthropicPromptCachingMiddleware")
def test_an_agent_with_anthropic_s_own_middleware_falls_back(simulator, models, unreachable):
    middleware = [
        ModelFallbackMiddleware(models.openai()),
        AnthropicPromptCachingMiddleware(),
        PromptLayoutMiddleware(),
    ]
    for order in (middleware, middleware[::-1]):
        agent = create_agent(unreachable, system_prompt=SystemMessage([MARKED]), middleware=order)
        agent.invoke({"messages": [("user", "Where is it?")]})

    assert [call.status for call in simulator.calls] == [200, 200]
