from __future__ import annotations

import copy
import json

from hypothesis import given
from hypothesis import strategies as st

from prefixcache_integrations.canonical import DialectName, Tool
from prefixcache_integrations.prompt.tools import canonical_schema, canonical_tools, tool_order


def named(*names: str) -> tuple[Tool, ...]:
    return tuple(Tool(name=name, raw={"n": index}) for index, name in enumerate(names))


def test_tools_are_ordered_by_name_and_equal_names_keep_their_order() -> None:
    assert tool_order(named("b", "a", "c", "a")) == (1, 3, 0, 2)
    assert tool_order(()) == ()


def test_keys_are_sorted_but_for_arguments_and_lists_that_mean_something() -> None:
    schema = {
        "type": "object",
        "required": ["z", "a"],
        "properties": {
            "z": {"type": "string", "enum": ["q", "b"], "default": {"y": 1, "x": 2}},
            "a": {"type": "array", "items": {"type": "object", "properties": {"d": {}, "c": {"type": "null"}}}},
            "required": {"type": "object", "anyOf": [{"type": "string", "const": 1}, {"type": "null"}]},
        },
        "$defs": {"two": {"type": "string"}, "one": {"required": ["b", "a"], "if": {"type": "x", "not": {}}}},
        "additionalProperties": False,
    }
    before = copy.deepcopy(schema)
    result = canonical_schema(schema)
    assert json.dumps(result) == json.dumps(
        {
            "$defs": {"one": {"if": {"not": {}, "type": "x"}, "required": ["a", "b"]}, "two": {"type": "string"}},
            "additionalProperties": False,
            "properties": {
                "z": {"default": {"y": 1, "x": 2}, "enum": ["q", "b"], "type": "string"},
                "a": {"items": {"properties": {"d": {}, "c": {"type": "null"}}, "type": "object"}, "type": "array"},
                "required": {"anyOf": [{"const": 1, "type": "string"}, {"type": "null"}], "type": "object"},
            },
            "required": ["a", "z"],
            "type": "object",
        }
    )
    assert json.dumps(schema) == json.dumps(before)


SCHEMAS = st.recursive(
    st.sampled_from([{}, {"type": "string"}, True, {"required": [1, "a"]}, {"properties": 3, "items": None}]),
    lambda inner: st.one_of(
        st.dictionaries(st.sampled_from(["items", "not", "additionalProperties"]), inner, min_size=1),
        st.builds(
            lambda fields, names: {"type": "object", "properties": fields, "required": names, "$defs": fields},
            st.dictionaries(st.sampled_from("zyxab"), inner),
            st.permutations("abz"),
        ),
        st.builds(lambda members: {"anyOf": members}, st.lists(inner)),
    ),
    max_leaves=8,
).filter(lambda schema: isinstance(schema, dict))


@given(SCHEMAS)
def test_a_canonical_schema_stays_as_it_is_and_says_the_same(schema: dict[str, object]) -> None:
    once = canonical_schema(schema)
    assert json.dumps(canonical_schema(once)) == json.dumps(once)
    assert _as_sets(once) == _as_sets(schema)


def _as_sets(value: object) -> object:
    if isinstance(value, dict):
        return {
            key: sorted(map(str, inner)) if key == "required" and isinstance(inner, list) else _as_sets(inner)
            for key, inner in value.items()
        }
    return [_as_sets(inner) for inner in value] if isinstance(value, list) else value


def test_the_schema_is_found_in_every_format() -> None:
    schema = {"type": "object", "properties": {}}
    raws: dict[DialectName, dict[str, object]] = {
        "anthropic_messages": {"name": "a", "input_schema": schema},
        "openai_chat": {"type": "function", "function": {"name": "a", "parameters": schema}},
        "openai_responses": {"type": "function", "name": "a", "parameters": schema},
    }
    for dialect, raw in raws.items():
        [tool] = canonical_tools([Tool(name="a", raw=raw, schema=schema)], dialect)
        assert '{"properties": {}, "type": "object"}' in json.dumps(tool.raw)
        assert tool.raw == raw
        assert canonical_tools([tool], dialect) == [tool]
        assert canonical_tools([tool], dialect)[0] is tool


def test_a_tool_without_a_schema_is_left_alone() -> None:
    tool = Tool(name="web", raw={"name": "web", "type": "web_search_20260209"})
    assert canonical_tools([tool], "anthropic_messages")[0] is tool


def test_what_an_application_changes_later_does_not_change_what_is_sent_again() -> None:
    names = ["b", "a"]
    raw: dict[str, object] = {"name": "a", "input_schema": {"type": "object", "enum": names}}
    original = copy.deepcopy(raw)
    canonical_tools([Tool(name="a", raw=raw)], "anthropic_messages")
    names.append("c")

    [tool] = canonical_tools([Tool(name="a", raw=original)], "anthropic_messages")
    assert tool.raw == original
