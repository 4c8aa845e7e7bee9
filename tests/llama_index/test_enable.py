"""What stays as it is when an LLM is enabled, what counts for a key, and what goes wrong without anybody noticing."""

import copy
import pickle
from itertools import pairwise

import anthropic
import openai
import pytest
from llama_index.core import Settings
from llama_index.core.agent.workflow import FunctionAgent
from llama_index.core.base.llms.types import (
    CacheControl,
    CachePoint,
    ImageBlock,
    TextBlock,
    ThinkingBlock,
    ToolCallBlock,
)
from llama_index.core.llms import ChatMessage, CompletionResponse, CustomLLM, LLMMetadata
from llama_index.core.llms.function_calling import FunctionCallingLLM
from llama_index.core.llms.mock import MockFunctionCallingLLM, MockLLM
from llama_index.core.program.utils import get_program_for_llm
from llama_index.llms.anthropic.base import AnthropicChatResponse, AnthropicCompletionResponse

from prefixcache_integrations.errors import ConfigurationError, StoreUnavailable
from prefixcache_integrations.events import CacheHit, EntryRejected, EntryStored, PassedThrough, StoreDegraded
from prefixcache_integrations.flows.op import Entry, EntryKey
from prefixcache_integrations.llama_index import disable, enable
from prefixcache_integrations.llama_index.calls import read_chat
from prefixcache_integrations.llama_index.plain import Uncacheable
from prefixcache_integrations.prompt.keys import response_key
from prefixcache_integrations.server import Reply, Simulator, ToolUse
from prefixcache_integrations.stores import MemoryStore
from prefixcache_integrations.stores.envelope import pack

LONG = "The handbook says that lamps are taken back within thirty days, and books within forty. " * 3
ASK = [ChatMessage(role="system", content="Be brief."), ChatMessage(content=LONG)]
PROVIDERS = ("openai", "claude", "responses")


class Broken:
    """A store that is down."""

    def _fail(self, *_, **__):
        raise StoreUnavailable("down")

    get = put = delete = invalidate = clear = _fail

    def close(self):
        pass


class Scripted:
    """A simulator with one answer, and an LLM on it."""

    def __init__(self, reply):
        self.simulator = Simulator(model=lambda _: reply)

    def __enter__(self):
        from llama_index.llms.openai import OpenAI

        self.simulator.start()
        url = self.simulator.base_url("openai")
        llm = OpenAI(
            model="gpt-4o-mini", api_key="k", api_base=url, max_retries=0, default_headers={"Connection": "close"}
        )
        return self.simulator, llm

    def __exit__(self, *_):
        self.simulator.stop()


@pytest.mark.parametrize("provider", PROVIDERS)
def test_the_object_its_class_and_its_parents_stay_what_they_were(llms, provider):
    llm = getattr(llms, provider)()
    kind = type(llm)
    assert enable(llm, cache="memory://") is llm
    assert isinstance(llm, kind)
    assert isinstance(llm, FunctionCallingLLM)
    assert (type(llm).__name__, type(llm).__module__, llm.class_name()) == (
        kind.__name__,
        kind.__module__,
        kind.class_name(),
    )
    assert llm.model_dump() == getattr(llms, provider)().model_dump()
    disable(llm)
    assert type(llm) is kind


def test_settings_hold_the_llm_that_is_enabled_without_an_argument(simulator, llms):
    Settings.llm = llms.openai()
    assert enable(cache="memory://") is Settings.llm
    Settings.llm.chat(ASK)
    Settings.llm.chat(ASK)
    assert len(simulator.calls) == 1


@pytest.mark.parametrize("provider", PROVIDERS)
def test_copies_are_enabled_and_pickled_ones_are_plain(simulator, llms, provider):
    llm = enable(getattr(llms, provider)(), cache="memory://")
    for twin in (copy.copy(llm), llm.model_copy(), llm):
        twin.chat(ASK)
    assert len(simulator.calls) == 1
    plain = pickle.loads(pickle.dumps(llm))  # noqa: S301 - our own bytes
    assert type(plain).__mro__[0] is type(getattr(llms, provider)())
    assert plain.model == llm.model


def test_a_deep_copy_of_an_llm_without_a_live_client_is_enabled(simulator, llms):
    llm = enable(llms.openai(), cache="memory://")
    twin = copy.deepcopy(llm)
    llm.chat(ASK)
    twin.chat(ASK)
    assert len(simulator.calls) == 1


def test_enabling_again_replaces_the_settings_and_disabling_restores_the_clients(simulator, llms):
    llm = llms.claude()
    client = llm._client
    enable(llm, cache="memory://")
    enable(llm, layout="mark")
    llm.chat(ASK)
    llm.chat(ASK)
    assert len(simulator.calls) == 2
    disable(llm)
    assert llm._client is client


def test_an_openai_client_of_the_apps_own_is_not_changed(simulator, llms):
    with openai.OpenAI(
        base_url=simulator.base_url("openai"), api_key="k", default_headers={"Connection": "close"}
    ) as client:
        llm = enable(llms.openai(openai_client=client), cache="memory://")
        list(llm.stream_chat(ASK))
        assert simulator.calls[0].body["stream_options"] == {"include_usage": True}
        list(
            client.chat.completions.create(
                model="gpt-4o-mini", messages=[{"role": "user", "content": "x"}], stream=True
            )
        )
        assert "stream_options" not in simulator.calls[1].body


def test_clients_made_for_each_call_are_laid_out(simulator, llms):
    llm = enable(llms.openai(reuse_client=False))
    list(llm.stream_chat(ASK))
    assert simulator.calls[0].body["stream_options"] == {"include_usage": True}


def test_claude_answers_keep_their_classes(llms):
    llm = enable(llms.claude(), cache="memory://")
    for _ in range(2):
        assert type(llm.chat(ASK)) is AnthropicChatResponse
        assert type(llm.complete("Once")) is AnthropicCompletionResponse
        assert list(llm.stream_chat(ASK))[-1].citations == []


@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_hit_says_that_it_is_one_and_what_the_original_used(simulator, llms, provider):
    llm = enable(getattr(llms, provider)(), cache="memory://")
    llm.chat(ASK)
    hit = llm.chat(ASK)
    marker = hit.raw["prefixcache"]
    assert marker["hit"]
    assert marker["usage"]["input_tokens"] == simulator.calls[0].usage.input_tokens
    assert "usage" not in hit.raw
    assert not any("tokens" in name for name in hit.additional_kwargs)


@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_stream_is_replayed_in_pieces_that_add_up(llms, provider):
    llm = enable(getattr(llms, provider)(), cache="memory://")
    first = [piece.delta or "" for piece in llm.stream_chat(ASK)]
    pieces = list(llm.stream_chat(ASK))
    assert len(pieces) > 10
    assert "".join(piece.delta for piece in pieces) == "".join(first) == pieces[-1].message.content
    assert all(before.message.content + after.delta == after.message.content for before, after in pairwise(pieces))


@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_stream_left_early_is_not_kept(simulator, llms, provider):
    llm = enable(getattr(llms, provider)(), cache="memory://")
    stream = llm.stream_chat(ASK)
    next(stream)
    stream.close()
    del stream
    llm.chat(ASK)
    assert len(simulator.calls) == 2


def test_the_consumer_of_a_stream_cannot_change_what_is_kept(llms):
    llm = enable(llms.openai(), cache="memory://")
    for piece in llm.stream_chat(ASK):
        piece.message.blocks[:] = [TextBlock(text="spoilt")]
    kept = llm.chat(ASK)
    kept.message.blocks.clear()
    assert "spoilt" not in llm.chat(ASK).message.content
    assert llm.chat(ASK).message.content


def test_tool_calls_are_in_the_last_piece_only(simulator):
    reply = Reply(
        text="Let me look that up for you, it takes a moment.",
        tool_calls=[ToolUse("look", {"x": 1}), ToolUse("see", {})],
    )
    tools = [
        {"type": "function", "function": {"name": name, "parameters": {"type": "object"}}} for name in ("look", "see")
    ]
    with Scripted(reply) as (server, llm):
        enable(llm, cache="memory://")
        list(llm.stream_chat(ASK, tools=tools))
        pieces = list(llm.stream_chat(ASK, tools=tools))
        assert len(server.calls) == 1
    names = [
        [call.tool_name for call in llm.get_tool_calls_from_response(piece, error_on_no_tool_call=False)]
        for piece in pieces
    ]
    assert names[-1] == ["look", "see"]
    assert not any(names[:-1])


@pytest.mark.parametrize("reply", [Reply(text="  "), Reply(tool_calls=[])])
def test_empty_answers_are_not_kept(reply):
    seen = []
    with Scripted(reply) as (server, llm):
        enable(llm, cache="memory://", observers=[seen.append])
        llm.chat(ASK)
        llm.chat(ASK)
        assert len(server.calls) == 2
    assert any(isinstance(event, EntryRejected) for event in seen)


def test_a_store_that_is_down_costs_events_and_nothing_else(simulator, llms):
    seen = []
    llm = enable(llms.openai(), cache=Broken(), observers=[seen.append])
    plain = llms.openai()
    assert llm.chat(ASK).message.content == plain.chat(ASK).message.content
    assert [piece.delta for piece in llm.stream_chat(ASK)]
    assert {event.operation for event in seen if isinstance(event, StoreDegraded)} == {"get", "put"}


@pytest.mark.parametrize("body", [b"", b"\x97\xa4chat", b"\x91\xa4chat", b"not msgpack at all"])
def test_broken_entries_are_misses(simulator, llms, body):
    store = MemoryStore()
    llm = enable(llms.openai(), cache=store)
    llm.chat(ASK)
    key = next(iter(store._slots))
    store.put(key, pack(key, Entry(codec="llama-index-answers/1", body=body)))
    llm.chat(ASK)
    assert len(simulator.calls) == 2
    assert llm.chat(ASK).raw["prefixcache"]["hit"]


def test_entries_of_other_frameworks_are_never_read(simulator, llms):
    store = MemoryStore()
    llm = enable(llms.openai(), cache=store)
    llm.chat(ASK)
    key = next(iter(store._slots))
    store.put(EntryKey(key.namespace, key.digest), pack(key, Entry(codec="langchain-generations/1", body=b"\x90")))
    assert llm.chat(ASK).message.content
    assert len(simulator.calls) == 2


def key(llm, messages=None, **arguments):
    return response_key(read_chat(llm, messages or ASK, arguments))


SAME = {
    "a header that is traced": lambda llms: (
        llms.openai(),
        llms.openai(default_headers={"Connection": "close", "traceparent": "00-1-2-01", "X-Request-ID": "7"}),
    ),
    "an API key": lambda llms: (llms.openai(), _with(llms.openai(), api_key="other")),
    "a timeout": lambda llms: (llms.openai(), llms.openai(timeout=5)),
    "a system prompt, which is in the messages": lambda llms: (llms.openai(), llms.openai(system_prompt="Be kind.")),
    "a cache key": lambda llms: (llms.openai(), llms.openai(additional_kwargs={"prompt_cache_key": "k"})),
    "a cache index": lambda llms: (llms.claude(), llms.claude(cache_idx=-1)),
    "a cache marker": lambda llms: (
        llms.claude(),
        llms.claude(additional_kwargs={"cache_control": {"type": "ephemeral"}}),
    ),
    "stream options": lambda llms: (
        llms.openai(),
        llms.openai(additional_kwargs={"stream_options": {"include_usage": True}}),
    ),
}
OTHER = {
    "the model": lambda llms: (llms.openai(), llms.openai(model="gpt-4o")),
    "the temperature": lambda llms: (llms.openai(), llms.openai(temperature=1.0)),
    "the limit": lambda llms: (llms.openai(), llms.openai(max_tokens=5)),
    "the class": lambda llms: (llms.openai(), llms.responses()),
    "an argument": lambda llms: (llms.openai(), llms.openai(additional_kwargs={"seed": 1})),
    "the endpoint": lambda llms: (llms.openai(), _with(llms.openai(), api_base="http://127.0.0.1:1/v1")),
    "a beta": lambda llms: (llms.openai(), llms.openai(additional_kwargs={"extra_headers": {"openai-beta": "x"}})),
    "a header that routes": lambda llms: (
        llms.openai(default_headers={"Connection": "close", "x-portkey-provider": "a"}),
        llms.openai(default_headers={"Connection": "close", "x-portkey-provider": "b"}),
    ),
    "thinking": lambda llms: (llms.claude(), llms.claude(thinking_dict={"type": "enabled", "budget_tokens": 2000})),
}


def _with(llm, **fields):
    for name, value in fields.items():
        setattr(llm, name, value)
    return llm


@pytest.mark.parametrize("what", SAME)
def test_what_cannot_change_the_answer_does_not_count(llms, what):
    left, right = SAME[what](llms)
    assert key(left) == key(right)


@pytest.mark.parametrize("what", OTHER)
def test_what_can_change_the_answer_counts(llms, what):
    left, right = OTHER[what](llms)
    assert key(left) != key(right)


def test_headers_of_the_environment_count_before_and_after_a_client_is_made(simulator, llms, monkeypatch):
    keys = []
    for variables in ({}, {"OPENAI_CUSTOM_HEADERS": "x-route: a\nno header"}, {"OPENAI_PROJECT_ID": "p"}):
        with monkeypatch.context() as environment:
            for name, value in variables.items():
                environment.setenv(name, value)
            llm = llms.openai()
            keys.append(key(llm))
            llm.chat(ASK)
            assert llm._client is not None
            assert key(llm) == keys[-1]
    assert len(set(keys)) == 3


def test_markers_sessions_and_call_ids_in_messages_do_not_count(llms):
    def history(call_id, **extra):
        marker = [CachePoint(cache_control=CacheControl(type="ephemeral"))] if extra else []
        call = ToolCallBlock(tool_call_id=call_id, tool_name="look", tool_kwargs={"x": 1})
        return [
            ChatMessage(blocks=[TextBlock(text="Look."), *marker], additional_kwargs=extra),
            ChatMessage(role="assistant", blocks=[TextBlock(text=""), call], additional_kwargs={"usage": extra}),
            ChatMessage(role="tool", content="3", additional_kwargs={"tool_call_id": call_id}),
        ]

    llm = llms.claude()
    assert key(llm, history("a")) == key(llm, history("b", session_id="s", cache_control={"type": "ephemeral"}))
    other = history("a")
    other[1].blocks[1].tool_kwargs = {"x": 2}
    assert key(llm, history("a")) != key(llm, other)


@pytest.mark.parametrize(
    "messages",
    [
        [ChatMessage(content="Hello")],
        [ChatMessage(role="assistant", content=LONG)],
        [*ASK, ChatMessage(role="assistant", blocks=[ThinkingBlock(content="hm")])],
        [ChatMessage(content=LONG), ChatMessage(role="system", content="Be brief.")],
        [ASK[0], ChatMessage(blocks=[TextBlock(text=LONG), ImageBlock(url="http://x/y.png")])],
    ],
)
def test_messages_count(llms, messages):
    assert key(llms.openai(), messages) != key(llms.openai())


def test_no_secret_is_in_what_is_hashed(llms):
    llm = _with(llms.openai(additional_kwargs={"extra_headers": {"authorization": "sk-header"}}), api_key="sk-secret")
    assert "sk-" not in repr(read_chat(llm, ASK, {}).options)


def test_calls_that_cannot_be_told_apart_are_made_with_an_event(simulator, llms, tmp_path):
    picture = tmp_path / "picture.png"
    picture.write_bytes(b"\x89PNG\r\n\x1a\n")
    seen = []
    llm = enable(llms.openai(), cache="memory://", observers=[seen.append])
    for _ in range(2):
        llm.chat([ChatMessage(blocks=[TextBlock(text="What is it?"), ImageBlock(path=picture)])])
    assert len(simulator.calls) == 2
    assert sum(isinstance(event, PassedThrough) for event in seen) == 2


def test_llms_that_cannot_be_written_down_are_called_with_an_event():
    seen = []
    llm = enable(
        MockFunctionCallingLLM(response_generator=lambda messages: ChatMessage(role="assistant", content="x")),
        cache="memory://",
        observers=[seen.append],
    )
    llm.chat(ASK)
    llm.chat(ASK)
    assert not any(isinstance(event, CacheHit) for event in seen)
    assert any(isinstance(event, PassedThrough) and "written down" in event.reason for event in seen)


def test_conversations_kept_by_the_provider_are_not_cached(llms):
    for settings in (
        {"track_previous_responses": True},
        {"previous_response_id": "resp_1"},
        {"additional_kwargs": {"conversation": "conv_1"}},
    ):
        with pytest.raises(Uncacheable, match="server state"):
            read_chat(llms.responses(**settings), ASK, {})


def test_custom_llms_are_cached_and_their_nested_calls_kept_once():
    seen, prompts = [], []

    class Shouting(CustomLLM):
        loudness: int = 1

        @property
        def metadata(self):
            return LLMMetadata(model_name="shouting")

        def complete(self, prompt, formatted=False, **kwargs):
            prompts.append(prompt)
            return CompletionResponse(text=prompt.upper() + "!" * self.loudness)

        def stream_complete(self, prompt, formatted=False, **kwargs):
            prompts.append(prompt)
            yield CompletionResponse(text=prompt.upper(), delta=prompt.upper())

    llm = enable(Shouting(), cache="memory://", layout=None, observers=[seen.append])
    for _ in range(2):
        assert llm.chat([ChatMessage(content="hello")]).message.content.endswith("!")
        assert llm.complete("hello").text == "HELLO!"
    assert len(prompts) == 2
    assert sum(isinstance(event, EntryStored) for event in seen) == 2
    assert llm.complete("hello ").text == "HELLO !"  # to a completion model white space is text


def test_the_echo_of_a_mock_streams_in_many_pieces_from_the_store_too():
    llm = enable(MockLLM(), cache="memory://", layout=None)
    assert len(list(llm.stream_chat(ASK))) > 10
    assert len(list(llm.stream_chat(ASK))) > 10


def test_errors_of_the_provider_pass_through_and_are_not_kept(simulator, llms):
    llm = enable(llms.claude(), cache="memory://")
    for _ in range(2):
        with pytest.raises(anthropic.BadRequestError):
            llm.chat(ASK, tools=[{"name": "", "input_schema": 3}])
    assert len(simulator.calls) == 2


def test_a_layout_for_an_llm_without_a_client_is_told():
    seen = []
    enable(MockLLM(), observers=[seen.append])
    assert [type(event) for event in seen] == [PassedThrough]


def test_what_is_no_store_is_refused(llms):
    with pytest.raises(ConfigurationError):
        enable(llms.openai(), cache="nonsense://")


def test_tools_and_programs_still_see_a_function_calling_llm(llms):
    llm = enable(llms.openai(), cache="memory://")
    FunctionAgent(llm=llm, tools=[])
    from pydantic import BaseModel

    class Term(BaseModel):
        days: int

    assert type(get_program_for_llm(Term, _template(), llm)).__name__ == "FunctionCallingProgram"


def _template():
    from llama_index.core import PromptTemplate

    return PromptTemplate("Describe {thing}.")
