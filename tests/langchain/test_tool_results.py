"""`ToolResultCache` in real agents; only the model is scripted."""

import asyncio
import threading
from typing import Annotated

import pytest
from langchain.agents import create_agent
from langchain.tools import ToolRuntime, tool
from langchain_core.language_models import GenericFakeChatModel
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langgraph.prebuilt import InjectedState
from langgraph.types import Command

from prefixcache_integrations.cache import PrefixCache
from prefixcache_integrations.caching import caching
from prefixcache_integrations.flows.op import Entry, EntryKey
from prefixcache_integrations.langchain import ResponseCache, ToolResultCache
from prefixcache_integrations.prompt.keys import tool_key
from prefixcache_integrations.stores import MemoryStore
from prefixcache_integrations.stores.envelope import pack


class Scripted(GenericFakeChatModel):
    def bind_tools(self, tools, **kwargs):
        return self


@pytest.fixture
def called():
    return []


@pytest.fixture
def store():
    return MemoryStore()


@pytest.fixture
def front(store):
    return PrefixCache(store)


@pytest.fixture
def look_up(called):
    @tool
    def look_up(order: str, full: bool = False) -> str:
        """Look an order up."""
        called.append((order, full))
        return f"order {order} was sent"

    return look_up


@pytest.fixture(params=["sync", "async"])
def run(request):
    """Return a function that lets an agent make these calls of tools, and returns what they came to."""

    def run(cache, tools, *calls):
        made = [{"name": name, "args": args, "id": f"call_{place}"} for place, (name, args) in enumerate(calls)]
        model = Scripted(messages=iter([AIMessage("", tool_calls=made), AIMessage("done")]))
        agent = create_agent(model, tools, middleware=[cache])
        asked = {"messages": [HumanMessage("hi")]}
        state = agent.invoke(asked) if request.param == "sync" else asyncio.run(agent.ainvoke(asked))
        return [message for message in state["messages"] if isinstance(message, ToolMessage)]

    return run


def test_a_pure_tool_is_called_once_for_the_same_arguments(front, look_up, called, run):
    cache = ToolResultCache(front, ["look_up"])
    (first,) = run(cache, [look_up], ("look_up", {"order": "7", "full": True}))
    (second,) = run(cache, [look_up], ("look_up", {"full": True, "order": "7"}))
    assert called == [("7", True)]
    assert first.content == second.content == "order 7 was sent"
    assert (second.tool_call_id, second.name, second.status) == ("call_0", "look_up", "success")
    assert first.id != second.id


def test_other_arguments_are_another_call(front, look_up, called, run):
    cache = ToolResultCache(front, [look_up])
    run(cache, [look_up], ("look_up", {"order": "7"}), ("look_up", {"order": "8"}))
    run(cache, [look_up], ("look_up", {"order": "7", "full": True}))
    assert len(called) == 3


def test_a_tool_that_was_not_declared_is_always_called(front, look_up, called, run):
    for _ in range(2):
        run(ToolResultCache(front, ["another"]), [look_up], ("look_up", {"order": "7"}))
    assert len(called) == 2


def test_each_tool_has_its_own_ttl(look_up, called, run):
    now = [0.0]
    front = PrefixCache(MemoryStore(clock=lambda: now[0]))
    cache = ToolResultCache(front, {"look_up": 10.0})
    run(cache, [look_up], ("look_up", {"order": "7"}))
    now[0] = 9.0
    run(cache, [look_up], ("look_up", {"order": "7"}))
    assert len(called) == 1
    now[0] = 11.0
    run(cache, [look_up], ("look_up", {"order": "7"}))
    assert len(called) == 2


def test_namespaces_and_modes_hold_for_tools_too(front, look_up, called, run):
    cache = ToolResultCache(front, ["look_up"])
    for namespace in ("acme", "other", "acme"):
        with caching(namespace=namespace):
            run(cache, [look_up], ("look_up", {"order": "7"}))
    assert len(called) == 2
    with caching(namespace="acme", mode="refresh"):
        run(cache, [look_up], ("look_up", {"order": "7"}))
    assert len(called) == 3


def test_results_with_artifacts_and_blocks_come_back(front, called, run):
    @tool(response_format="content_and_artifact")
    def fetch(page: int):
        """Fetch a page."""
        called.append(page)
        return [{"type": "text", "text": "a page"}], {"rows": [1, 2]}

    cache = ToolResultCache(front, ["fetch"])
    (first,), (second,) = (run(cache, [fetch], ("fetch", {"page": 1})) for _ in range(2))
    assert called == [1]
    assert (first.content, first.artifact) == (second.content, second.artifact)
    second.artifact["rows"].append(3)
    (third,) = run(cache, [fetch], ("fetch", {"page": 1}))
    assert third.artifact == {"rows": [1, 2]}


def test_an_empty_result_is_a_result(front, called, run):
    @tool
    def find(name: str) -> str:
        """Find."""
        called.append(name)
        return ""

    for _ in range(2):
        run(ToolResultCache(front, ["find"]), [find], ("find", {"name": "x"}))
    assert called == ["x"]


def test_what_is_no_whole_result_is_not_kept(front, called, run):
    @tool(response_format="content_and_artifact")
    def odd(page: int):
        """Return something that cannot be written down."""
        called.append("odd")
        return "text", object()

    @tool
    def fails(page: int) -> str:
        """Say that it failed."""
        called.append("fails")
        return ToolMessage("no", tool_call_id="call_1", status="error")

    @tool
    def commands(page: int, runtime: ToolRuntime) -> Command:
        """Change the state."""
        called.append("commands")
        return Command(update={"messages": [ToolMessage("x", tool_call_id=runtime.tool_call_id)]})

    @tool
    def stateful(page: int, state: Annotated[dict, InjectedState]) -> str:
        """Read the state."""
        called.append("stateful")
        return str(len(state["messages"]))

    tools = [odd, fails, commands, stateful]
    names = [each.name for each in tools]
    for _ in range(2):
        run(ToolResultCache(front, names), tools, *((name, {"page": 1}) for name in names))
    assert sorted(called) == sorted(names * 2)


def test_an_error_of_a_tool_comes_out_and_is_not_kept(front, called, run):
    @tool
    def breaks(page: int) -> str:
        """Break, the first time."""
        called.append(page)
        if len(called) == 1:
            raise ConnectionError("down")
        return "up"

    cache = ToolResultCache(front, ["breaks"])
    with pytest.raises(ConnectionError):
        run(cache, [breaks], ("breaks", {"page": 1}))
    assert run(cache, [breaks], ("breaks", {"page": 1}))[0].content == "up"


def test_identical_calls_at_once_are_made_once(front, called):
    others_wait = threading.Event()

    @tool
    def slow(page: int) -> str:
        """Take as long as the others need to ask the same."""
        called.append(page)
        others_wait.wait(0.2)
        return "page"

    ResponseCache(front).lookup("asked by hand", "and never answered")  # keeps nobody from sharing calls
    cache = ToolResultCache(front, ["slow"])
    made = [{"name": "slow", "args": {"page": 1}, "id": f"call_{place}"} for place in range(4)]
    model = Scripted(messages=iter([AIMessage("", tool_calls=made), AIMessage("done")]))
    state = create_agent(model, [slow], middleware=[cache]).invoke({"messages": [HumanMessage("hi")]})
    results = [message for message in state["messages"] if isinstance(message, ToolMessage)]
    assert [message.tool_call_id for message in results] == ["call_0", "call_1", "call_2", "call_3"]
    assert called == [1]


@pytest.mark.parametrize(
    "entry", [Entry(codec="pickle/1", body=b""), Entry(codec="langchain-tool-result/1", body=b"x")]
)
def test_a_damaged_result_is_a_miss(store, look_up, called, run, entry):
    key = EntryKey("", tool_key("look_up", {"order": "7"}))
    store.put(key, pack(key, entry))
    assert run(ToolResultCache(PrefixCache(store), ["look_up"]), [look_up], ("look_up", {"order": "7"}))[0].content
    assert len(called) == 1


def test_a_cache_may_be_named_by_its_url(tmp_path, look_up, called, run):
    for _ in range(2):
        cache = ToolResultCache(f"sqlite:///{tmp_path}/tools.db", ["look_up"])
        run(cache, [look_up], ("look_up", {"order": "7"}))
    assert len(called) == 1
