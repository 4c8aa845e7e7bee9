"""Generations that are filled in, beside those that LangChain's constructors make."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.messages import AIMessage

from prefixcache_integrations.langchain import revive

texts = st.text(max_size=8)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | texts, lambda inner: st.lists(inner, max_size=2), max_leaves=4
)
objects = st.dictionaries(texts, values, max_size=3)
blocks = st.fixed_dictionaries({"type": st.just("text"), "text": texts}) | st.fixed_dictionaries({"text": texts})
calls = st.fixed_dictionaries(
    {"name": texts, "args": objects, "id": st.none() | texts, "type": st.just("tool_call")},
)
invalid = st.fixed_dictionaries(
    {
        "name": st.none() | texts,
        "args": st.none() | texts,
        "id": st.none() | texts,
        "error": st.none() | texts,
        "type": st.just("invalid_tool_call"),
    }
)
counts = st.integers(min_value=0, max_value=10)
usage = st.fixed_dictionaries({"input_tokens": counts, "output_tokens": counts, "total_tokens": counts})
messages = st.fixed_dictionaries(
    {
        "content": texts | st.lists(texts | blocks, max_size=3),
        "additional_kwargs": objects,
        "response_metadata": objects,
        "type": st.just("ai"),
        "name": st.none() | texts,
        "id": texts,
        "tool_calls": st.lists(calls, min_size=1, max_size=2),
        "invalid_tool_calls": st.lists(invalid, max_size=2),
        "usage_metadata": st.none() | usage,
    }
)


def test_the_installed_langchain_allows_filling_in():
    assert revive.maker() is revive.filled


@given(messages, st.none() | objects)
def test_what_is_filled_in_is_what_the_constructors_make(fields, info):
    filled, validated = revive.filled(fields, info), revive.validated(fields, info)
    assert filled == validated
    assert revive._alike(filled, validated)
    assert type(filled.text) is type(validated.text)
    assert filled.message.model_copy(update={"id": None}) == validated.message.model_copy(update={"id": None})


def test_a_langchain_that_makes_messages_otherwise_is_left_to_make_them(monkeypatch):
    class Later(AIMessage):
        remembered: int = 0

    revive.maker.cache_clear()
    monkeypatch.setattr(revive, "AIMessage", Later)
    try:
        assert revive.maker() is revive.validated
    finally:
        revive.maker.cache_clear()


@pytest.mark.parametrize("fields", [{"name": 3}, {"content": 3}], ids=str)
def test_the_constructors_refuse_what_is_wrong(fields):
    plain, info = revive._SAMPLES[0]()
    with pytest.raises(ValueError, match="validation error"):
        revive.validated({**plain, **fields}, info)
