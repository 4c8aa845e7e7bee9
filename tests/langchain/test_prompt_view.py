import pickle
from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.documents import Document
from langchain_core.example_selectors import BaseExampleSelector
from langchain_core.messages import HumanMessage, SystemMessage
from langchain_core.prompt_values import ChatPromptValue
from langchain_core.prompts import ChatPromptTemplate, FewShotChatMessagePromptTemplate, MessagesPlaceholder
from langchain_core.prompts.structured import StructuredPrompt

from prefixcache_integrations.langchain.prompt_view import ReadPrompt, reading


def nothing(reason):
    raise AssertionError(reason)


def filled(messages, values, passed=nothing, **settings):
    """Return what a prompt says, and each text of it that is filled in as pairs of names and values."""
    prompt = ChatPromptTemplate(messages, **settings)
    value = reading(prompt, passed).invoke(values)
    assert value.messages == prompt.invoke(values).messages
    assert value.to_string() == prompt.invoke(values).to_string()
    return [
        [(slot.name, each.text[slot.start : slot.end]) for slot in each.slots]
        for each in value._known.texts
        if each.slots
    ]


@pytest.mark.parametrize(
    ("messages", "values", "expected"),
    [
        pytest.param([("system", "Be kind."), ("human", "Hi")], {}, [], id="nothing"),
        pytest.param(
            [("system", "It is {date}. {{x}} {name}!"), ("human", "{q}")],
            {"date": "Monday", "name": "Ann", "q": "Hi"},
            [[("date", "Monday"), ("name", "Ann")], [("q", "Hi")]],
            id="variables",
        ),
        pytest.param([("system", "{n:>5}|{n}")], {"n": 7}, [[("n", "    7"), ("n", "7")]], id="formatted ones"),
        pytest.param(
            [("system", "{a}{b}")], {"a": "{b}", "b": "}"}, [[("a", "{b}"), ("b", "}")]], id="braces in values"
        ),
        pytest.param([("system", "It is {date}.")], {"date": ""}, [[("date", "")]], id="an empty value"),
        pytest.param(
            [("system", [{"type": "text", "text": "It is {date}."}, {"type": "text", "text": "Be kind."}])],
            {"date": "Monday"},
            [[("date", "Monday")]],
            id="content blocks",
        ),
        pytest.param(
            [
                (
                    "human",
                    [{"type": "text", "text": "What is {it}?"}, {"type": "image_url", "image_url": {"url": "{u}"}}],
                )
            ],
            {"it": "this", "u": "http://x/y.png"},
            [[("it", "this")]],
            id="an image beside text",
        ),
        pytest.param(
            [SystemMessage("{date} is no variable here"), MessagesPlaceholder("history"), ("human", "{q}")],
            {"history": [HumanMessage("{q}")], "q": "Hi"},
            [[("q", "Hi")]],
            id="messages as they are",
        ),
    ],
)
def test_what_a_call_fills_in_is_told(messages, values, expected):
    assert filled(messages, values) == expected


def test_examples_that_nobody_selects_are_known_to_stay():
    class Latest(BaseExampleSelector):
        def add_example(self, example):
            raise NotImplementedError

        def select_examples(self, input_variables):
            return [{"in": input_variables["q"], "out": "selected"}]

    example = ChatPromptTemplate([("human", "{in}"), ("ai", "{out}")])
    static = FewShotChatMessagePromptTemplate(examples=[{"in": "2+2", "out": "4"}], example_prompt=example)
    selected = FewShotChatMessagePromptTemplate(
        example_selector=Latest(), example_prompt=example, input_variables=["q"]
    )
    prompt = ChatPromptTemplate([("system", "Add."), static, selected, ("human", "It is {q}")])

    known = reading(prompt, nothing).invoke({"q": "1+1"})._known.texts

    assert [each.text for each in known if not each.slots] == ["Add.", "2+2", "4"]
    assert [each.text for each in known if each.slots] == ["It is 1+1"]


def test_mustache_templates_are_read_too():
    messages = [("system", "It is {{date}}, {{{who.name}}}.\nBye")]
    values = {"date": "<Monday>", "who": {"name": "A&B"}}

    assert filled(messages, values, template_format="mustache") == [[("date", "&lt;Monday&gt;"), ("who.name", "A&B")]]


@pytest.mark.parametrize(
    ("template_format", "text"),
    [("jinja2", "{% if date %}It is {{ date }}.{% endif %}"), ("mustache", "{{#date}}It is {{date}}.{{/date}}")],
)
def test_templates_with_more_than_variables_are_passed_on_and_told(template_format, text):
    reasons = []

    assert filled([("system", text)], {"date": "Monday"}, reasons.append, template_format=template_format) == []
    assert [template_format in reason for reason in reasons] == [True]


def test_partials_are_part_of_the_text_unless_they_are_functions_or_given():
    calls = count()
    prompt = ChatPromptTemplate([("system", "{app} {now} {tone}")])
    prompt = prompt.partial(app="Shop", now=lambda: f"{next(calls)} o'clock", tone="kind")
    view = reading(prompt, nothing)

    told = [view.invoke(values)._known.texts[0] for values in ({}, {"tone": "stern"})]

    assert [each.text for each in told] == ["Shop 0 o'clock kind", "Shop 1 o'clock stern"]
    assert [[slot.name for slot in each.slots] for each in told] == [["now"], ["now", "tone"]]
    assert next(calls) == 2, "called once each"


@pytest.mark.parametrize(
    ("name", "value", "kind"),
    [
        ("context", "a\n\nb", "documents"),
        ("notes", [Document("a"), Document("b")], "documents"),
        ("notes", [], "value"),
        ("name", "Ann", "value"),
    ],
)
def test_documents_are_known_by_their_type_and_by_what_chains_call_them(name, value, kind):
    view = reading(ChatPromptTemplate([("system", "Here: {" + name + "}")]), nothing)

    assert [slot.kind for each in view.invoke({name: value})._known.texts for slot in each.slots] == [kind]


async def test_awaited_it_tells_the_same():
    view = reading(ChatPromptTemplate([("system", "It is {date}."), ("human", "{q}")]), nothing)
    values = {"date": "Monday", "q": "Hi"}

    assert (await view.ainvoke(values)) == view.invoke(values)
    assert (await view.ainvoke(values))._known == view.invoke(values)._known != ()


def test_a_view_goes_for_its_prompt():
    prompt = ChatPromptTemplate([("system", "It is {date}.")], metadata={"a": 1}, tags=["t"])
    view = reading(prompt, nothing)

    assert isinstance(view, ChatPromptTemplate)
    assert (view.get_name(), view.lc_id(), repr(view)) == (prompt.get_name(), prompt.lc_id(), repr(prompt))
    assert view.get_input_jsonschema() == prompt.get_input_jsonschema()
    assert reading(view, nothing) is view
    assert type(prompt) is ChatPromptTemplate


@pytest.mark.filterwarnings("ignore:The class `StructuredPrompt` is in beta")
def test_structured_prompts_keep_their_class():
    prompt = StructuredPrompt([("human", "{q}")], {"title": "A", "type": "object", "properties": {}})

    assert isinstance(reading(prompt, nothing), StructuredPrompt)


def test_prompts_that_make_messages_in_their_own_way_are_left_alone_and_told():
    class Own(ChatPromptTemplate):
        def format_messages(self, **kwargs):
            return [HumanMessage("x")]

    prompt, reasons = Own([("system", "It is {date}.")]), []

    assert reading(prompt, reasons.append) is prompt
    assert [reason.startswith("Own ") for reason in reasons] == [True]


def test_what_is_missing_is_said_as_before():
    prompt = ChatPromptTemplate([("system", "It is {date}.")])
    for each in (prompt, reading(prompt, nothing)):
        with pytest.raises(KeyError, match="missing variables"):
            each.invoke({})


def test_a_prompt_is_kept_as_its_messages():
    value = reading(ChatPromptTemplate([("system", "It is {date}.")]), nothing).invoke({"date": "Monday"})

    assert type(value) is ReadPrompt
    kept = pickle.loads(pickle.dumps(value))  # noqa: S301 - our own
    assert type(kept) is ChatPromptValue
    assert kept.messages == value.messages


TEXTS = st.text(st.sampled_from("a {}\n"), max_size=8)


@given(st.lists(st.tuples(TEXTS, st.sampled_from(["one", "two", None])), max_size=6), TEXTS, TEXTS)
def test_slots_are_where_values_were_put(pieces, one, two):
    values = {"one": one, "two": two}
    escaped = [(text.replace("{", "{{").replace("}", "}}"), name) for text, name in pieces]
    template = "".join(text + ("{" + name + "}" if name else "") for text, name in escaped)
    value = reading(ChatPromptTemplate([("system", template)]), nothing).invoke(values)

    names = [name for _, name in pieces if name]
    assert value.messages[0].content == "".join(text + (values[name] if name else "") for text, name in pieces)
    assert [each.text[slot.start : slot.end] for each in value._known.texts for slot in each.slots] == [
        values[name] for name in names
    ]
    assert [slot.name for each in value._known.texts for slot in each.slots] == names
