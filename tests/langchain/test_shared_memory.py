"""Two processes of one application, with the real ChatAnthropic, that share what they have sent."""

import os
import subprocess
import sys

import pytest
from langchain_core.messages import HumanMessage, SystemMessage
from langchain_core.tools import tool
from redis import Redis

from prefixcache_integrations.langchain import with_prompt_layout
from prefixcache_integrations.memories import chosen_memory

POLICY = SystemMessage("The parcel leaves the warehouse in the evening and arrives on the next working day. " * 100)


@tool
def zones(parcel: str) -> str:
    """Return the zones that a parcel passes."""
    return parcel


@tool
def address(parcel: str) -> str:
    """Return where a parcel goes."""
    return parcel


def ask(model, memory, question, tools):
    with_prompt_layout(model.bind_tools(tools), memory=memory).invoke([POLICY, HumanMessage(question)])


_OTHER = """
import sys
from langchain_anthropic import ChatAnthropic
from tests.langchain.conftest import COMMON
from tests.langchain.test_shared_memory import address, ask, zones
url, memory = sys.argv[1:]
model = ChatAnthropic(model="claude-sonnet-4-6", base_url=url, **COMMON)
ask(model, memory, "Where is A-4711?", [zones])
ask(model, memory, "Where does it go?", [zones, address])
"""


@pytest.fixture
def url(shared_redis):
    with Redis.from_url(shared_redis.url()) as client:
        client.flushall()
    return shared_redis.url()


def ask_in_another_process(simulator, url):
    words = [sys.executable, "-c", _OTHER, simulator.base_url("anthropic"), url]
    subprocess.run(words, check=True, env=os.environ | {"PYTHONPATH": "."})  # noqa: S603 - our own interpreter


def names(body):
    return [each["name"] for each in body["tools"]]


async def test_what_another_process_sent_is_read(simulator, models, url):
    ask_in_another_process(simulator, url)
    ask(models.claude(), url, "Where is A-4712?", [address, zones])
    awaiting = with_prompt_layout(models.claude().bind_tools([address, zones]), memory=url)
    await awaiting.ainvoke([POLICY, HumanMessage("Where is A-4713?")])
    chosen_memory(url).close()
    ask(models.claude(), "own", "Where is A-4712?", [address, zones])
    *_, shared, awaited, alone = simulator.calls
    for call in (shared, awaited):
        assert names(call.body) == ["zones", "address"]
        assert call.usage.cache_read_tokens > 1024
    assert names(alone.body) == ["address", "zones"]
    assert not alone.usage.cache_read_tokens
