"""The real LangChain classes over the real SDKs, pointed at one simulator per test module."""

import asyncio
from types import SimpleNamespace

import pytest
from langchain_anthropic import ChatAnthropic
from langchain_openai import AzureChatOpenAI, ChatOpenAI

from prefixcache_integrations.langchain import ResponseCache
from prefixcache_integrations.server import Simulator
from prefixcache_integrations.stores import MemoryStore

# LangChain keeps its HTTP clients for good: connections that stay open would be warned about, and belong to one loop.
COMMON = {"api_key": "k", "max_retries": 0, "default_headers": {"Connection": "close"}}


@pytest.fixture(scope="module")
def server():
    with Simulator(deployments={"our-deployment": "gpt-4o-mini"}) as running:
        yield running


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


@pytest.fixture
def cache():
    return ResponseCache(MemoryStore())


@pytest.fixture(params=["sync", "async"])
def ask(request):
    """Return a function that asks a model, blocking or awaiting: a test that uses it runs both ways."""
    if request.param == "sync":
        return lambda model, *args, **kwargs: model.invoke(*args, **kwargs)
    return lambda model, *args, **kwargs: asyncio.run(model.ainvoke(*args, **kwargs))
