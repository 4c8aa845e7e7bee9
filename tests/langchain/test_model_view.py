import contextvars
import copy
import pickle
from typing import Literal

import pytest
from langchain.chat_models import init_chat_model
from langchain_anthropic import ChatAnthropic
from langchain_core.caches import InMemoryCache
from langchain_core.language_models import FakeListChatModel
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.runnables import ConfigurableField, RunnableLambda
from langchain_core.tools import tool
from langchain_openai import AzureChatOpenAI, ChatOpenAI
from pydantic import BaseModel

from prefixcache_integrations.caching import caching
from prefixcache_integrations.canonical.json import without
from prefixcache_integrations.dialects import OPENAI_CHAT
from prefixcache_integrations.errors import ConfigurationError
from prefixcache_integrations.events import PassedThrough, PromptPlanned
from prefixcache_integrations.langchain.model_view import ModelLayout
from prefixcache_integrations.on_the_wire import listen
from tests.sent import markers, names

LONG = "The parcel leaves the warehouse in the evening and arrives on the next working day. " * 120


@tool
def track(order: str) -> str:
    """Say where a parcel is."""
    return order


@tool
def cancel(order: str) -> str:
    """Cancel an order."""
    return order


class Verdict(BaseModel):
    """What became of a parcel."""

    state: Literal["lost", "found"]


QUESTION = [SystemMessage(LONG), HumanMessage("Where is it?")]
TOOLS = [track, cancel]


@pytest.fixture
def layout(events):
    return ModelLayout(observers=[events.append])


CLAUDE = {"model": "claude-sonnet-4-6", "api_key": "k"}
MODELS = {
    "claude": lambda: ChatAnthropic(**CLAUDE),
    "openai": lambda: ChatOpenAI(model="gpt-4o-mini", api_key="k"),
    "responses": lambda: ChatOpenAI(model="gpt-5.6-luna", api_key="k", use_responses_api=True),
    "azure": lambda: AzureChatOpenAI(
        azure_deployment="gpt-4o-mini", api_version="2024-10-21", azure_endpoint="http://localhost", api_key="k"
    ),
}


@pytest.fixture(params=MODELS.values(), ids=MODELS)
def model(request):
    return request.param()


def bodies(model, view, **options):
    return model._get_request_payload(QUESTION, **options), view._get_request_payload(QUESTION, **options)


def test_a_level_that_is_none_is_refused():
    with pytest.raises(ConfigurationError, match="mark, canonical, arrange, not 'arranged'"):
        ModelLayout(level="arranged")


# What a view shares with its model


def test_a_view_goes_for_its_model_wherever_langchain_asks(model, layout):
    view = layout.laid_out(model)

    assert isinstance(view, type(model))
    assert view is not model
    assert type(view).__name__ == type(model).__name__
    assert view._llm_type == model._llm_type
    assert view.lc_id() == model.lc_id()
    assert view._get_ls_params() == model._get_ls_params() | {"prefixcache_layout": "canonical"}
    assert view._get_invocation_params() == model._get_invocation_params()
    assert view.profile is model.profile
    assert repr(view) == repr(model)


@pytest.mark.parametrize("first", ["model", "view"])
def test_langchains_cache_key_is_the_models(model, layout, first):
    view = layout.laid_out(model)
    expected = type(model).model_validate(model.model_copy())._get_llm_string()

    order = [view, model] if first == "view" else [model, view]

    assert [each._get_llm_string() for each in order] == [expected, expected]
    bound = [each.bind_tools(TOOLS).kwargs for each in order]
    assert bound[0] == bound[1]


def test_a_view_shares_the_models_state_in_both_directions(model, layout):
    view = layout.laid_out(model)
    model.temperature = 0.25
    view.max_retries = 7

    assert (view.temperature, model.max_retries) == (0.25, 7)
    assert model.model_fields_set is view.model_fields_set


def test_a_view_uses_the_models_clients(layout):
    claude, openai = MODELS["claude"](), MODELS["openai"]()

    assert layout.laid_out(claude)._client is claude._client
    assert layout.laid_out(openai).root_client is openai.root_client


def test_the_model_itself_stays_as_it_is(model, layout):
    before = model._get_request_payload(QUESTION)
    layout.laid_out(model)._get_request_payload(QUESTION)

    assert model._get_request_payload(QUESTION) == before
    assert type(model) in {ChatAnthropic, ChatOpenAI, AzureChatOpenAI}


def test_one_class_serves_all_models_of_a_kind_and_a_view_of_a_view_is_itself(layout):
    first, second = layout.laid_out(ChatAnthropic(**CLAUDE)), layout.laid_out(ChatAnthropic(**CLAUDE))

    assert type(first) is type(second)
    assert layout.laid_out(first) is first


def test_two_layouts_do_not_meet(events):
    model = ChatAnthropic(**CLAUDE)
    other = []
    ModelLayout(observers=[other.append]).laid_out(model)._get_request_payload(QUESTION)

    ModelLayout(observers=[events.append]).laid_out(model)._get_request_payload(QUESTION)

    assert (len(events), len(other)) == (1, 1)


def test_a_copy_of_a_view_lays_out_too(layout):
    view = layout.laid_out(ChatAnthropic(**CLAUDE))

    for each in (copy.copy(view), copy.deepcopy(view), view.model_copy(update={"temperature": 0.5})):
        assert markers(each._get_request_payload(QUESTION)) > 0


# What it does to bodies


def test_tools_are_sent_in_one_order_and_the_rest_as_it_was(model, layout):
    kwargs = model.bind_tools(TOOLS).kwargs
    swapped = model.bind_tools(TOOLS[::-1]).kwargs
    view = layout.laid_out(model)

    plain, sent = bodies(model, view, **kwargs)

    assert names(plain) == ["track", "cancel"]
    assert names(sent) == ["cancel", "track"]
    assert bodies(model, view, **swapped)[1] == sent
    assert without(sent, "prompt_cache_key").keys() == plain.keys()


def test_claude_gets_markers_within_the_budget(layout, events):
    view = layout.laid_out(ChatAnthropic(**CLAUDE))

    body = view.bind_tools(TOOLS).bound._get_request_payload(QUESTION, **view.bind_tools(TOOLS).kwargs)

    assert 1 <= markers(body) <= 4
    assert events == [PromptPlanned(model="claude-sonnet-4-6", plan=events[0].plan)]


def test_newer_openai_models_get_breakpoints(layout):
    for settings in ({"use_responses_api": True}, {"use_responses_api": False}):
        view = layout.laid_out(ChatOpenAI(model="gpt-5.6-luna", api_key="k", **settings))
        assert markers(view._get_request_payload(QUESTION)) >= 1


def test_openai_is_told_which_requests_share_a_prefix_and_other_servers_are_not(layout):
    def key(**settings):
        view = layout.laid_out(ChatOpenAI(**{"model": "gpt-4o-mini", "api_key": "k", **settings}))
        return view._get_request_payload(QUESTION).get("prompt_cache_key")

    with caching(namespace="acme"):
        acme = key()
    assert len({key(), acme, None}) == 3
    assert key(model_kwargs={"prompt_cache_key": "shop"}) == "shop"
    assert key(extra_body={"prompt_cache_key": "shop"}) is None, "it stands where it was"
    assert key(base_url="https://openrouter.ai/api/v1") is None
    assert "prompt_cache_key" not in layout.laid_out(MODELS["azure"]())._get_request_payload(QUESTION)


def test_an_azure_deployment_without_a_model_name_keeps_none_in_the_body(layout, events):
    view = layout.laid_out(MODELS["azure"]())

    body = view._get_request_payload(QUESTION)

    assert not body.get("model")
    assert events[0].model == "gpt-4o-mini"
    assert events[0].plan.profile.startswith("azure/")


@pytest.mark.parametrize("responses", [False, True])
def test_a_pydantic_response_format_stays_a_class_and_is_counted_as_its_schema(layout, events, responses):
    model = ChatOpenAI(model="gpt-4o-mini", api_key="k", use_responses_api=responses)
    plain, sent = bodies(model, layout.laid_out(model), response_format=Verdict)
    layout.laid_out(model)._get_request_payload(QUESTION)

    assert Verdict in sent.values()
    assert without(sent, "prompt_cache_key") == plain
    assert events[0].plan.prompt_tokens > events[1].plan.prompt_tokens


def test_arguments_of_the_sdk_pass_by(layout):
    model = ChatOpenAI(model="gpt-4o-mini", api_key="k", extra_body={"top_k": 3})
    options = {"extra_headers": {"x": "1"}, "timeout": object()}

    plain, sent = bodies(model, layout.laid_out(model), **options)

    assert without(sent, "prompt_cache_key") == plain
    assert sent["timeout"] is options["timeout"]
    assert sent["extra_body"] == {"top_k": 3}


def test_what_cannot_be_understood_is_sent_as_it_is(layout, events):
    model = ChatOpenAI(model="gpt-4o-mini", api_key="k")
    messages = [HumanMessage("\ud800")]

    assert layout.laid_out(model)._get_request_payload(messages) == model._get_request_payload(messages)
    assert [type(event) for event in events] == [PassedThrough]


def test_a_defect_in_reading_loses_no_request_that_somebody_follows(layout, events, monkeypatch):
    class Call:
        observers, ended = (), False

    def defect(*_):
        raise KeyError

    model = ChatOpenAI(model="gpt-4o-mini", api_key="k")
    monkeypatch.setattr(type(OPENAI_CHAT), "decode_request", defect)
    context = contextvars.copy_context()
    context.run(listen, layout, Call())

    assert context.run(layout.laid_out(model)._get_request_payload, QUESTION) == model._get_request_payload(QUESTION)
    assert events == [PassedThrough(reason="KeyError", model="gpt-4o-mini")]


def test_the_messages_given_are_not_touched(model, layout):
    conversation = [
        SystemMessage([{"type": "text", "text": LONG}], id="s", name="boss"),
        HumanMessage("Where is A-1?"),
        AIMessage("", tool_calls=[{"name": "track", "args": {"order": "A-1"}, "id": "call_1"}]),
        ToolMessage("In Bonn", tool_call_id="call_1"),
    ]
    before = copy.deepcopy(conversation)

    layout.laid_out(model)._get_request_payload(conversation)

    assert conversation == before


@pytest.mark.parametrize("kind", ["claude", "openai"])
def test_a_string_at_the_end_of_a_list_of_blocks_is_not_lost(layout, kind):
    system = SystemMessage([{"type": "text", "text": LONG}, "and a plain string"])

    body = layout.laid_out(MODELS[kind]())._get_request_payload([system, HumanMessage("Where is it?")])

    assert "and a plain string" in str(body)


# Streams


@pytest.mark.parametrize("kind", ["openai", "azure"])
def test_streams_are_asked_for_usage_where_the_app_left_it_open(models, layout, kind):
    view = layout.laid_out(getattr(models, kind)())

    *_, last = view.stream(QUESTION)
    chunks = [chunk.usage_metadata for chunk in view.stream(QUESTION)]

    assert last is not None
    assert sum(bool(usage) for usage in chunks) == 1
    assert max(usage["input_tokens"] for usage in chunks if usage) > 1_024


async def test_awaited_streams_are_asked_too(models, layout):
    view = layout.laid_out(models.openai())

    usage = [chunk.usage_metadata async for chunk in view.astream(QUESTION)]

    assert any(usage)


@pytest.mark.parametrize(
    ("settings", "options"),
    [
        ({"stream_usage": False}, {}),
        ({}, {"stream_usage": False}),
        ({}, {"stream_options": {"include_usage": False}}),
        ({"model_kwargs": {"stream_options": {"include_usage": False}}}, {}),
    ],
)
def test_an_app_that_wants_no_usage_gets_none(models, layout, settings, options):
    view = layout.laid_out(models.openai(**settings))

    assert not any(chunk.usage_metadata for chunk in view.stream(QUESTION, **options))


def test_calls_that_do_not_stream_are_not_asked(layout):
    model = MODELS["openai"]()

    assert "stream_options" not in layout.laid_out(model)._get_request_payload(QUESTION)


# What wraps a model


def laid_out_calls(simulator):
    return [names(call.body) == ["cancel", "track"] for call in simulator.calls]


@pytest.mark.parametrize(
    "wrap",
    [
        pytest.param(lambda m: m.bind_tools(TOOLS), id="bind_tools"),
        pytest.param(lambda m: m.bind_tools(TOOLS).with_config(tags=["x"]), id="with_config"),
        pytest.param(lambda m: m.bind_tools(TOOLS).with_retry(), id="with_retry"),
        pytest.param(lambda m: m.bind_tools(TOOLS).with_fallbacks([m.bind_tools(TOOLS)]), id="with_fallbacks"),
        pytest.param(lambda m: m.with_fallbacks([m]).bind_tools(TOOLS), id="fallbacks, then tools"),
        pytest.param(
            lambda m: m.configurable_fields(temperature=ConfigurableField("t")).bind_tools(TOOLS),
            id="configurable fields",
        ),
        pytest.param(
            lambda m: m.bind_tools(TOOLS).configurable_alternatives(
                ConfigurableField("which"), default_key="one", two=m.bind_tools(TOOLS)
            ),
            id="configurable alternatives",
        ),
    ],
)
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("config", [{}, {"t": 0.5, "which": "two"}])
def test_wrapped_models_are_laid_out(simulator, models, layout, *, wrap, when, config):
    model = models.openai()
    runnable = wrap(layout.laid_out(model)) if when == "before" else layout.laid_out(wrap(model))

    runnable.invoke(QUESTION, config={"configurable": config})

    assert laid_out_calls(simulator) == [True]


def test_fallbacks_are_laid_out(simulator, models, layout):
    broken = models.openai(model="gpt-4o-mini", default_query={"x": "1"})
    broken.root_client.base_url = "http://127.0.0.1:9"
    broken = broken.model_copy(update={"client": broken.root_client.chat.completions})
    runnable = layout.laid_out(broken.bind_tools(TOOLS).with_fallbacks([models.claude().bind_tools(TOOLS)]))

    runnable.invoke(QUESTION)

    assert laid_out_calls(simulator) == [True]
    assert 1 <= markers(simulator.calls[-1].body) <= 4


@pytest.fixture
def configurable(simulator, monkeypatch):
    monkeypatch.setenv("OPENAI_BASE_URL", simulator.base_url("openai"))
    monkeypatch.setenv("OPENAI_API_KEY", "k")
    return init_chat_model(
        "openai:gpt-4o-mini",
        configurable_fields=("model", "temperature"),
        default_headers={"Connection": "close"},
        stream_usage=True,
    )


@pytest.mark.parametrize(
    "wrap",
    [
        lambda m: m.bind_tools(TOOLS),
        lambda m: m.bind_tools(TOOLS).with_config(tags=["x"]),
        lambda m: m.with_config(configurable={"temperature": 0.1}).bind_tools(TOOLS),
    ],
)
@pytest.mark.parametrize("when", ["before", "after"])
async def test_models_made_from_configuration_are_laid_out(simulator, configurable, layout, wrap, when):
    runnable = wrap(layout.laid_out(configurable)) if when == "before" else layout.laid_out(wrap(configurable))

    runnable.invoke(QUESTION, config={"configurable": {"model": "gpt-4.1-mini"}})
    await runnable.ainvoke(QUESTION)
    list(runnable.stream(QUESTION))

    assert laid_out_calls(simulator) == [True, True, True]
    assert [call.body["model"] for call in simulator.calls] == ["gpt-4.1-mini", "gpt-4o-mini", "gpt-4o-mini"]


def test_a_view_of_a_configurable_model_still_has_its_attributes(configurable, layout):
    view = layout.laid_out(configurable)

    assert view.model_name == "gpt-4o-mini"
    assert layout.laid_out(view) is view
    assert layout.laid_out(configurable) is not configurable
    with pytest.raises(AttributeError):
        _ = view.nothing_of_the_kind


def test_structured_output_of_a_view_is_laid_out_and_parsed(simulator, models, layout):
    echo = '{"state": "found"}'

    for method in ("json_schema", "json_mode"):
        answer = layout.laid_out(models.openai()).with_structured_output(Verdict, method=method)
        assert answer.invoke([SystemMessage(LONG + "json"), HumanMessage(echo)]) == Verdict(state="found")

    assert len(simulator.calls) == 2


# langchain-openai dumps the parsed chunks with warnings, view or not.
@pytest.mark.filterwarnings("ignore:Pydantic serializer warnings")
def test_streamed_structured_output_of_a_view_is_parsed(models, layout):
    answer = layout.laid_out(models.openai()).with_structured_output(Verdict)

    *_, last = answer.stream([SystemMessage(LONG), HumanMessage('{"state": "lost"}')])

    assert last == Verdict(state="lost")


def test_langchains_cache_finds_with_a_view_what_it_stored_without(simulator, models, layout):
    model = models.openai(cache=InMemoryCache())

    model.invoke(QUESTION)
    layout.laid_out(model).invoke(QUESTION)

    assert len(simulator.calls) == 1


# What cannot be laid out


class OwnModel(FakeListChatModel):
    """A model that builds a body nobody knows."""

    def _get_request_payload(self, input_, **kwargs):
        return {}


@pytest.mark.parametrize("kind", [FakeListChatModel, OwnModel])
def test_models_that_build_no_known_body_are_passed_through_and_told_once(layout, events, kind):
    for _ in range(3):
        model = kind(responses=["x"])
        assert layout.laid_out(model) is model

    assert events == [PassedThrough(reason=f"{kind.__name__} builds no request body that can be laid out")]


def test_other_runnables_are_passed_through(layout):
    runnable = RunnableLambda(str)

    assert layout.laid_out(runnable) is runnable


def test_a_subclass_of_a_known_model_is_laid_out(layout):
    class HouseClaude(ChatAnthropic):
        """An app's own class."""

    view = layout.laid_out(HouseClaude(**CLAUDE))

    assert isinstance(view, HouseClaude)
    assert markers(view._get_request_payload(QUESTION)) > 0


def test_pickling_a_view_is_refused_as_of_any_local_class(layout):
    with pytest.raises(pickle.PicklingError):
        pickle.dumps(layout.laid_out(ChatAnthropic(**CLAUDE)))


def test_fields_of_the_extra_body_are_planned_with_and_stay_where_they_were(models, simulator):
    system = "word " * 1500
    automatic = {"cache_control": {"type": "ephemeral", "ttl": "1h"}}
    claude = models.claude(model_kwargs={"extra_body": {**automatic, "metadata": {"user_id": "u"}}})
    ModelLayout().laid_out(claude).invoke([("system", system), ("user", "hi")])
    (call,) = simulator.calls
    assert call.error is None
    assert call.body["cache_control"] == automatic["cache_control"]
    assert call.body["metadata"] == {"user_id": "u"}
    assert call.body["system"][0]["cache_control"]["ttl"] == "1h"


def test_explicit_mode_in_the_extra_body_gets_its_tail_marked(models, simulator):
    model = models.openai(model="gpt-5.6-luna", extra_body={"prompt_cache_options": {"mode": "explicit"}})
    ModelLayout().laid_out(model).invoke([("system", "word " * 1500), ("user", "hi")])
    (call,) = simulator.calls
    assert call.body["messages"][-1]["content"][-1]["prompt_cache_breakpoint"] == {"mode": "explicit"}
