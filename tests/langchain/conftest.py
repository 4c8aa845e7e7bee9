"""The real LangChain classes over the real SDKs, pointed at one simulator per test module."""

from types import SimpleNamespace

import pytest
from langchain_anthropic import ChatAnthropic
from langchain_openai import AzureChatOpenAI, ChatOpenAI

from prefixcache_integrations.server import Simulator

# LangChain keeps its HTTP clients for good: connections that stay open would be warned about, and belong to one loop.
COMMON = {"api_key": "k", "max_retries": 0, "default_headers": {"Connection": "close"}}


@pytest.fixture(scope="module")
def server():
    with Simulator(deployments={"our-deployment": "gpt-4o-mini"}) as running:
        yield running


@pytest.fixture
def simulator(server):
    server.reset()
    return server


@pytest.fixture
def models(simulator):
    """Build chat models that talk to the simulator: ``models.claude(**settings)`` and so on."""

    def claude(model="claude-sonnet-4-6", **settings):
        return ChatAnthropic(model=model, base_url=simulator.base_url("anthropic"), **COMMON, **settings)

    def openai(model="gpt-4o-mini", **settings):
        return ChatOpenAI(model=model, base_url=simulator.base_url("openai"), **COMMON, **settings)

    def azure(**settings):
        return AzureChatOpenAI(
            azure_deployment="our-deployment",
            api_version="2024-10-21",
            azure_endpoint=simulator.base_url("azure"),
            **COMMON,
            **settings,
        )

    return SimpleNamespace(claude=claude, openai=openai, azure=azure)
