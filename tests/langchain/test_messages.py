"""What the real model classes ask a cache with, and which of it counts."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_anthropic import ChatAnthropic
from langchain_core.caches import BaseCache
from langchain_core.language_models.fake_chat_models import FakeListChatModel
from langchain_core.load import dumps
from langchain_core.messages import (
    AIMessage,
    AIMessageChunk,
    ChatMessage,
    FunctionMessage,
    HumanMessage,
    RemoveMessage,
    SystemMessage,
    ToolMessage,
)
from langchain_core.messages.content import create_text_block
from langchain_core.outputs import ChatGeneration
from langchain_core.tools import tool
from langchain_openai import AzureChatOpenAI, ChatOpenAI
from pydantic import BaseModel

from prefixcache_integrations.errors import MalformedRequest
from prefixcache_integrations.langchain.messages import read_call, read_messages
from prefixcache_integrations.prompt.keys import KeyPolicy, response_key

LLM_STRING = ChatOpenAI(model="gpt-4o-mini", api_key="k")._get_llm_string()


class Recorder(BaseCache):
    """Notes what a model asks with, and answers it."""

    def lookup(self, prompt, llm_string):
        self.asked = prompt, llm_string
        return [ChatGeneration(message=AIMessage("{}"))]

    def update(self, prompt, llm_string, return_val):
        raise AssertionError("nothing is called")

    def clear(self, **kwargs):
        raise AssertionError("nothing is cleared")


def asked(model, messages="hi", **kwargs):
    """Return the two strings that ``model`` would ask a cache with."""
    bound = model
    while hasattr(bound, "bound"):
        bound = bound.bound
    bound.cache = recorder = Recorder()
    model.invoke(messages, **kwargs)
    return recorder.asked


def key(model, messages="hi", **kwargs):
    reading = read_call(*asked(model, messages, **kwargs))
    assert reading.ambiguous is None
    return response_key(reading.request)


def openai(**settings):
    return ChatOpenAI(**{"model": "gpt-4o-mini", "api_key": "k", "temperature": 0.5, **settings})


def claude(**settings):
    return ChatAnthropic(**{"model": "claude-sonnet-4-5", "api_key": "k", **settings})


@tool
def get_order(order_id: str, full: bool = False) -> str:
    """Get an order."""
    return ""


@tool
def cancel(order_id: str) -> str:
    """Cancel an order."""
    return ""


def answered(call_id="call_1", **fields):
    """Return a conversation with one tool call, its answer as a provider's package builds it."""
    given = {
        "content": "Let me see.",
        "tool_calls": [{"name": "get_order", "args": {"order_id": "7", "full": True}, "id": call_id}],
        "response_metadata": {"model_provider": "openai", "id": "chatcmpl-1", "system_fingerprint": "fp_1"},
        "usage_metadata": {"input_tokens": 1, "output_tokens": 2, "total_tokens": 3},
        **fields,
    }
    return [
        SystemMessage("You help."),
        HumanMessage("Where is my order?"),
        AIMessage(**given),
        ToolMessage("shipped", tool_call_id=call_id),
    ]


def replaced(index, message):
    messages = answered()
    messages[index] = message
    return messages


CALL = {"name": "get_order", "args": {"order_id": "7", "full": True}, "id": "call_1"}
PROVIDER = {"model_provider": "openai"}

SAME_MESSAGES = {
    "response metadata": answered(response_metadata=PROVIDER | {"id": "chatcmpl-2", "token_usage": {"total": 9}}),
    "no usage": answered(usage_metadata=None),
    "the cost that a hit adds": answered(
        usage_metadata={"input_tokens": 0, "output_tokens": 0, "total_tokens": 0, "total_cost": 0}
    ),
    "the marker of a hit": answered(response_metadata=PROVIDER | {"prefixcache": {"hit": True, "key": "v1"}}),
    "message id": answered(id="run-1"),
    "call ids": answered("call_2"),
    "order of arguments": answered(
        tool_calls=[{"id": "call_1", "args": {"full": True, "order_id": "7"}, "name": "get_order"}]
    ),
    "text as a block": answered(content=[{"type": "text", "text": "Let me see."}]),
    "text as a string in a list": answered(content=["Let me see."]),
    "a block numbered by LangChain": replaced(
        1, HumanMessage(content_blocks=[create_text_block("Where is my order?")])
    ),
    "a streamed block": answered(content=[{"type": "text", "text": "Let me see.", "index": 0}]),
    "where a message came from": answered(additional_kwargs={"lc_source": "summarization"}),
    "a parsed answer": answered(additional_kwargs={"parsed": {"order_id": "7"}}),
    "a parsed object": answered(additional_kwargs={"parsed": get_order}),
    "no refusal": answered(additional_kwargs={"refusal": None}),
    "OpenAI's copy of the calls": answered(additional_kwargs={"tool_calls": [{"id": "call_1", "type": "function"}]}),
    "an artifact": replaced(3, ToolMessage("shipped", tool_call_id="call_1", artifact={"raw": object()})),
    "a tool result as a block": replaced(3, ToolMessage([{"type": "text", "text": "shipped"}], tool_call_id="call_1")),
    "a chunk": replaced(
        2,
        AIMessageChunk(
            content="Let me see.",
            tool_calls=[CALL],
            tool_call_chunks=[
                {"name": "get_order", "args": '{"order_id": "7", "full": true}', "id": "call_1", "index": 0}
            ],
            response_metadata=PROVIDER,
        ),
    ),
    "a cache marker": replaced(
        0, SystemMessage([{"type": "text", "text": "You help.", "cache_control": {"type": "ephemeral"}}])
    ),
    "a breakpoint": replaced(
        1,
        HumanMessage([{"type": "text", "text": "Where is my order?", "prompt_cache_breakpoint": {"mode": "explicit"}}]),
    ),
    "white space around system text": replaced(0, SystemMessage("You help.\n")),
    "white space around user text": replaced(1, HumanMessage("  Where is my order?")),
}

OTHER_MESSAGES = {
    "system text": replaced(0, SystemMessage("You don't.")),
    "developer for system": replaced(0, SystemMessage("You help.", additional_kwargs={"__openai_role__": "developer"})),
    "a role spelled out": replaced(0, ChatMessage(role="developer", content="You help.")),
    "user text": replaced(1, HumanMessage("Where is my parcel?")),
    "the name of a speaker": replaced(1, HumanMessage("Where is my order?", name="bob")),
    "an image": replaced(
        1,
        HumanMessage([{"type": "text", "text": "Where is my order?"}, {"type": "image", "url": "https://shop/p.png"}]),
    ),
    "answer text": answered(content="Let me look."),
    "white space in an answer": answered(content="Let me see. "),
    "another call": answered(tool_calls=[CALL | {"name": "cancel"}]),
    "another argument": answered(tool_calls=[CALL | {"args": {"order_id": "8", "full": True}}]),
    "a second call": answered(tool_calls=[CALL, CALL | {"id": "call_2"}]),
    "an invalid call": answered(
        invalid_tool_calls=[{"name": "cancel", "args": "{", "id": "call_2", "error": None, "type": "invalid_tool_call"}]
    ),
    "another provider's answer": answered(response_metadata={"model_provider": "anthropic"}),
    "another output version": answered(response_metadata=PROVIDER | {"output_version": "v1"}),
    "a refusal": answered(additional_kwargs={"refusal": "I cannot"}),
    "a function call of old": answered(additional_kwargs={"function_call": {"name": "f", "arguments": "{}"}}),
    "stored reasoning": answered(additional_kwargs={"reasoning": {"type": "reasoning", "id": "rs_1"}}),
    "a file": answered(content=[{"type": "file", "file_id": "file_1"}]),
    "a tool's answer": replaced(3, ToolMessage("lost", tool_call_id="call_1")),
    "a failed tool": replaced(3, ToolMessage("shipped", tool_call_id="call_1", status="error")),
    "a result of another call": replaced(3, ToolMessage("shipped", tool_call_id="call_2")),
    "a function's result": replaced(3, FunctionMessage("shipped", name="get_order")),
    "one message less": answered()[:-1],
    "another order": answered()[::-1],
}


class Unknown(HumanMessage):
    """A message that a provider's package may translate in its own way."""


def params(table):
    return [pytest.param(value, id=name) for name, value in table.items()]


@pytest.mark.parametrize("messages", params(SAME_MESSAGES))
def test_what_the_provider_never_sees_keeps_the_key(messages):
    assert asked(openai(), messages) != asked(openai(), answered()) or any(message.id for message in messages)
    assert key(openai(), messages) == key(openai(), answered())


@pytest.mark.parametrize("messages", params(OTHER_MESSAGES))
def test_what_the_provider_sees_changes_the_key(messages):
    assert key(openai(), messages) != key(openai(), answered())


@pytest.mark.parametrize("messages", params({**SAME_MESSAGES, **OTHER_MESSAGES}))
def test_messages_at_hand_have_the_key_of_their_dump(messages):
    model = openai()
    reading = read_messages(messages, model._get_llm_string())
    assert response_key(reading.request) == key(model, messages)


TEXTS = st.sampled_from(["", "a", " a\n", "long " * 300, " long" * 300, "\N{SNOWMAN}", "\ud800", "x" * 70_000])
METADATA = st.dictionaries(
    st.sampled_from(["model_provider", "output_version", "id"]), st.sampled_from(["openai", "", None, 1, True, 1.0])
)
PLAIN = st.builds(
    lambda kind, text, metadata, more: kind(text, response_metadata=metadata, **more),
    st.sampled_from([SystemMessage, HumanMessage, AIMessage, AIMessageChunk]),
    TEXTS,
    METADATA,
    st.sampled_from([{}, {"name": "bob"}, {"additional_kwargs": {"a": 1}}, {"id": "1"}]),
)


@given(
    st.lists(PLAIN, min_size=1, max_size=3), st.sampled_from([KeyPolicy(), KeyPolicy(exact=True), KeyPolicy.loose()])
)
def test_plain_messages_at_hand_have_the_key_of_their_dump(messages, policy):
    keys = [
        key_of(reading.request, policy)
        for reading in (
            read_messages(messages, LLM_STRING),
            read_messages(messages, LLM_STRING),
            read_call(dumps(messages), LLM_STRING),
        )
    ]
    assert len({*keys}) == 1


def key_of(request, policy):
    """Return a key, ``None`` where the request cannot be written down or was not read."""
    try:
        return None if request is None else response_key(request, policy=policy)
    except MalformedRequest:
        return None


@pytest.mark.parametrize("messages", [[], [Unknown("hi")], [HumanMessage("hi"), Unknown("hi")]], ids=len)
def test_messages_of_unknown_classes_are_not_read(messages):
    reading = read_messages(messages, openai()._get_llm_string())
    assert reading.request is None
    assert reading.ambiguous


def test_no_two_of_all_these_conversations_share_a_key():
    conversations = [answered(), *OTHER_MESSAGES.values()]
    assert len({key(openai(), messages) for messages in conversations}) == len(conversations)


def test_a_streamed_claude_answer_counts_as_the_whole_one():
    def conversation(block):
        content = [{"type": "text", "text": "Let me see."}, block]
        return answered("toolu_1", content=content, response_metadata={"model_provider": "anthropic"})

    whole = {"type": "tool_use", "id": "toolu_1", "name": "get_order", "input": {"order_id": "7", "full": True}}
    streamed = {"type": "tool_use", "id": "toolu_1", "name": "get_order", "input": {}, "index": 1, "partial_json": "{}"}
    assert key(claude(), conversation(whole)) == key(claude(), conversation(streamed))


def by_item(arguments, **fields):
    """Return an answer as the Responses API gives it, whose call is an item of its content."""
    item = {"type": "function_call", "id": "fc_1", "call_id": "call_1", "name": "get_order", "arguments": arguments}
    return answered(content=[item | fields], response_metadata=PROVIDER | {"output_version": "responses/v1"})


def by_block(arguments, **fields):
    """Return an answer of Claude's, whose call is a block of its content."""
    block = {"type": "tool_use", "id": "call_1", "name": "get_order", "input": arguments}
    return answered(content=[block | fields], response_metadata={"model_provider": "anthropic"})


def by_standard_block(arguments):
    """Return an answer in LangChain's own blocks, as ChatOpenAI makes them of an item."""
    block = {"type": "tool_call", "id": "call_1", "name": "get_order", "args": CALL["args"]}
    extras = {"item_id": "fc_1", "arguments": arguments}
    metadata = PROVIDER | {"output_version": "v1"}
    return answered(content=[block | {"extras": extras}], response_metadata=metadata)


SAID, SAID_OTHERWISE = '{"order_id":"7","full":true}', '{"order_id":"8","full":true}'
CALLER = {"type": "code_execution_20250825", "tool_id": "srvtoolu_1"}


@pytest.mark.parametrize(
    ("one", "other"),
    [
        pytest.param(by_item(SAID), by_item(SAID_OTHERWISE), id="an item"),
        pytest.param(by_item(SAID), by_item('{"order_id":"7","full":1}'), id="what Python takes for the same"),
        pytest.param(by_item(SAID), by_item("{"), id="an item that is no JSON"),
        pytest.param(by_item(SAID), by_item(SAID, name="cancel"), id="the name in an item"),
        pytest.param(by_item(SAID), by_item(SAID, namespace="shop"), id="the namespace of an item"),
        pytest.param(by_standard_block(SAID), by_standard_block(SAID_OTHERWISE), id="a standard block"),
        pytest.param(by_block({}, caller=CALLER), by_block({"a": 2}, caller=CALLER), id="a block with a caller"),
        pytest.param(
            by_block({}, caller=CALLER, partial_json=SAID),
            by_block({}, caller=CALLER, partial_json=SAID_OTHERWISE),
            id="a streamed block with a caller",
        ),
        pytest.param(by_block({}), by_block({}, caller=CALLER), id="a caller"),
    ],
)
def test_what_the_block_of_a_call_says_otherwise_than_the_list_counts(one, other):
    assert key(openai(), one) != key(openai(), other)
    assert key(openai(), one) == key(openai(), [*one])


@pytest.mark.parametrize(
    ("one", "other"),
    [
        pytest.param(by_item(SAID), by_item('{"full": true, "order_id": "7"}'), id="an item"),
        pytest.param(by_item(SAID), by_item(SAID, id="fc_2", status="completed"), id="the item's id and status"),
        pytest.param(by_block({}), by_block({"a": 2}), id="a block of Claude's, which is not sent"),
    ],
)
def test_what_the_block_of_a_call_says_like_the_list_does_not_count(one, other):
    assert key(openai(), one) == key(openai(), other)


def test_ids_of_server_tools_are_numbered_too():
    def conversation(call_id):
        content = [
            {"type": "server_tool_use", "id": call_id, "name": "web_search", "input": {"query": "weather"}},
            {"type": "web_search_tool_result", "tool_use_id": call_id, "content": [{"type": "web_search_result"}]},
        ]
        return [HumanMessage("hi"), AIMessage(content), HumanMessage("and?")]

    assert key(claude(), conversation("srvtoolu_1")) == key(claude(), conversation("srvtoolu_2"))


SAME_MODELS = {
    "openai": {
        "timeout": openai(timeout=3),
        "retries": openai(max_retries=7),
        "streaming": openai(streaming=False),
        "stream usage": openai(stream_usage=True),
        "no streaming": openai(disable_streaming=True),
        "runnable name": openai(name="helper"),
        "key": openai(api_key="another"),
        "tags": openai(tags=["a"], metadata={"b": 1}, verbose=True),
        "user": openai(model_kwargs={"user": "u2"}),
        "cache key": openai(model_kwargs={"prompt_cache_key": "shard"}),
        "cache options": openai(prompt_cache_options={"mode": "explicit"}),
        "cache retention": openai(model_kwargs={"prompt_cache_retention": "24h"}),
        "caller in the extra body": openai(extra_body={"user": "u2"}),
        "bound key": openai().bind(prompt_cache_key="shard"),
        "bound user": openai().bind(user="u2", safety_identifier="s"),
        "bound timeout": openai().bind(timeout=3),
        "a whole temperature": openai(temperature=0.5),
    },
    "claude": {
        "timeout": claude(default_request_timeout=3),
        "bound marker": claude().bind(cache_control={"type": "ephemeral", "ttl": "1h"}),
    },
}

OTHER_MODELS = {
    "openai": {
        "model": openai(model="gpt-4o"),
        "temperature": openai(temperature=0.6),
        "base URL": openai(base_url="http://gateway/v1"),
        "organisation": openai(organization="org"),
        "headers": openai(default_headers={"x-tenant": "a"}),
        "query": openai(default_query={"a": "b"}),
        "service tier": openai(service_tier="flex"),
        "output version": openai(output_version="v1"),
        "responses API": openai(use_responses_api=True),
        "seed": openai(seed=1),
        "max tokens": openai(max_tokens=1),
        "stop": openai(stop=["x"]),
        "n": openai(n=2),
        "effort": openai(reasoning_effort="low"),
        "logprobs": openai(logprobs=True),
        "extra body": openai(extra_body={"top_k": 3}),
        "bound temperature": openai().bind(temperature=0.6),
        "bound stop": openai().bind(stop=["y"]),
        "tool": openai().bind_tools([get_order]),
        "tools": openai().bind_tools([get_order, cancel]),
        "tools in another order": openai().bind_tools([cancel, get_order]),
        "tool choice": openai().bind_tools([get_order], tool_choice="required"),
        "strict tool": openai().bind_tools([get_order], strict=True),
        "azure": AzureChatOpenAI(
            model="gpt-4o-mini", api_key="k", azure_endpoint="https://x", api_version="v", temperature=0.5
        ),
    },
    "claude": {
        "thinking": claude(thinking={"type": "enabled", "budget_tokens": 1024}, max_tokens=2048),
        "betas": claude(betas=["x"]),
        "stop": claude(stop=["x"]),
        "tool": claude().bind_tools([get_order]),
    },
}
PLAIN = {"openai": openai(), "claude": claude()}


def model_params(table):
    return [
        pytest.param(provider, model, id=f"{provider}: {name}")
        for provider, models in table.items()
        for name, model in models.items()
    ]


@pytest.mark.parametrize(("provider", "model"), model_params(SAME_MODELS))
def test_how_a_call_travels_keeps_the_key(provider, model):
    assert key(model) == key(PLAIN[provider])


@pytest.mark.parametrize(("provider", "model"), model_params(OTHER_MODELS))
def test_what_a_call_asks_changes_the_key(provider, model):
    assert key(model) != key(PLAIN[provider])


def test_no_two_of_all_these_models_share_a_key():
    models = [*PLAIN.values(), *(model for models in OTHER_MODELS.values() for model in models.values())]
    assert len({key(model) for model in models}) == len(models)


@pytest.mark.parametrize("model", [openai(), claude()])
def test_key_order_and_markers_in_bound_tools_do_not_count(model):
    schema = {"type": "object", "properties": {"a": {"type": "string"}}}
    one = {"name": "f", "description": "d", "input_schema": schema}
    other = {"input_schema": dict(reversed(schema.items())), "description": "d", "name": "f"}
    marked = one | {"cache_control": {"type": "ephemeral"}}
    assert key(model.bind(tools=[one])) == key(model.bind(tools=[other])) == key(model.bind(tools=[marked]))
    assert key(model.bind(tools=[one])) != key(model.bind(tools=[one | {"description": "e"}]))


def test_key_order_of_a_response_format_does_not_count():
    def bound(*fields):
        schema = dict(fields)
        return openai().bind(response_format={"type": "json_schema", "json_schema": {"name": "a", "schema": schema}})

    assert key(bound(("type", "object"), ("title", "A"))) == key(bound(("title", "A"), ("type", "object")))
    assert key(bound(("type", "object"), ("title", "A"))) != key(bound(("type", "object"), ("title", "B")))


def test_no_stop_is_the_same_spelled_or_left_out():
    assert key(openai(stop=["x"]), stop=None) == key(openai(stop=["x"]))


class Joke(BaseModel):
    setup: str


def redefined():
    class Joke(BaseModel):
        setup: str
        punchline: str

    Joke.__qualname__ = "Joke"
    return Joke


def test_two_classes_that_print_alike_make_a_request_ambiguous():
    one = asked(openai().with_structured_output(Joke).first)
    other = asked(openai().with_structured_output(redefined()).first)
    assert one == other
    assert "class" in read_call(*one).ambiguous


@pytest.mark.parametrize(
    ("model", "method"),
    [(openai(), "function_calling"), (claude(), "function_calling"), (claude(), "json_schema")],
    ids=["openai tool", "claude tool", "claude schema"],
)
def test_a_schema_that_is_printed_in_full_counts(model, method):
    def structured(schema):
        return model.with_structured_output(schema, method=method).first

    assert key(structured(Joke)) != key(structured(redefined()))


def test_an_object_that_is_not_printed_in_full_makes_a_request_ambiguous():
    model = openai(model_kwargs={"logit_bias_of": object()})
    assert read_call(*asked(model)).ambiguous is not None
    prompt = dumps([HumanMessage([{"type": "text", "text": "hi", "extra": object()}])])
    assert read_call(prompt, asked(openai())[1]).ambiguous is not None
    assert read_call(*asked(openai().bind(callback=print))).ambiguous is not None


def test_how_a_token_is_fetched_does_not_make_it_ambiguous():
    def provider():
        return "token"

    common = {"azure_endpoint": "https://x", "api_version": "v", "model": "gpt-4o"}
    fetched = AzureChatOpenAI(**common, azure_ad_token_provider=provider)
    assert key(fetched) == key(AzureChatOpenAI(**common, azure_ad_token="token"))


def test_a_model_that_does_not_serialise_is_read_too():
    one, other = FakeListChatModel(responses=["a"]), FakeListChatModel(responses=["b"])
    assert key(one, answered("call_1")) == key(one, answered("call_2"))
    assert key(one) != key(other)


@pytest.mark.parametrize(
    "prompt",
    [
        "Sample prompt",
        "",
        "[]",
        "{}",
        "[1]",
        "null",
        "[" * 100_000,
        '[{"lc": 1, "type": "constructor", "id": ["langchain", "schema", "messages", "HumanMessage"]}]',
        '[{"lc": 1, "type": "constructor", "id": ["my", "HumanMessage"], "kwargs": {"content": "hi"}}]',
        dumps([RemoveMessage(id="1")]),
        dumps([ChatMessage(role="critic", content="hi")]),
        dumps([HumanMessage("hi")]).replace('"type": "human"', '"colour": "red"'),
        dumps([HumanMessage("\ud800")]),
    ],
)
def test_what_is_not_fully_understood_is_not_read(prompt):
    reading = read_call(prompt, asked(openai())[1])
    assert reading.request is None
    assert reading.ambiguous is None


@pytest.mark.parametrize(
    "llm_string", ["Sample LLM string configuration.", "", "{", "{}", '{"a": 1}---', "[]", "x" * 9]
)
def test_a_model_string_of_another_make_is_not_read(llm_string):
    reading = read_call(asked(openai())[0], llm_string)
    assert reading.request is None
    assert reading.ambiguous is None


def test_dashes_in_a_setting_do_not_cut_the_model_string():
    assert key(openai(default_headers={"a": "---[('stop', None)]"})) != key(openai(default_headers={"a": ""}))


def test_the_model_is_named():
    assert read_call(*asked(openai())).request.model == "gpt-4o-mini"
    assert read_call(*asked(claude())).request.model == "claude-sonnet-4-5"
    assert read_call(*asked(openai().bind(model="gpt-4o"))).request.model == "gpt-4o"


def test_the_recorder_sees_what_langchain_documents():
    prompt, llm_string = asked(openai())
    assert json.loads(prompt)[0]["kwargs"]["content"] == "hi"
    assert llm_string.endswith("---[('stop', None)]")


class Custom(FakeListChatModel):
    """A model of somebody's own, whose settings nobody else knows."""

    settings: dict[str, object]

    @property
    def _identifying_params(self):
        return self.settings


@pytest.mark.parametrize("name", ["user", "metadata", "request_id", "stream", "timeout", "max_retries", "verbose"])
def test_every_setting_of_a_foreign_model_counts(name):
    first, same, other = (key(Custom(settings={name: value}, responses=["-"])) for value in "aab")
    assert first == same
    assert first != other


def test_the_settings_of_a_model_derived_from_a_known_one_are_known():
    class Derived(ChatOpenAI):
        pass

    make = {"model": "gpt-4o-mini", "api_key": "k"}
    assert key(Derived(**make, timeout=1)) == key(Derived(**make, timeout=2))
    assert key(Derived(**make, temperature=0.1)) != key(Derived(**make, temperature=0.2))
