from __future__ import annotations

from prefixcache_integrations.canonical import Tool
from prefixcache_integrations.prompt.typescript import tool_namespace


def function(name: str, description: str = "", **schema: object) -> Tool:
    return Tool(name=name, description=description, schema=schema or None, raw={"type": "function"})


def test_tools_are_declared_in_a_namespace() -> None:
    weather = function(
        "weather",
        "The weather of a city.",
        type="object",
        properties={
            "city": {"type": "string", "description": "Its name."},
            "unit": {"type": "string", "enum": ["celsius", "fahrenheit"]},
            "days": {"type": "integer"},
        },
        required=["city"],
    )
    assert (
        tool_namespace([weather, function("now")])
        == """namespace functions {

// The weather of a city.
type weather = (_: {
// Its name.
city: string,
unit?: "celsius" | "fahrenheit",
days?: number,
}) => any;

type now = () => any;

} // namespace functions"""
    )


def test_nested_objects_arrays_and_unions_are_written_out() -> None:
    order = function(
        "order",
        type="object",
        properties={
            "items": {
                "type": "array",
                "items": {
                    "type": "object",
                    "properties": {"sku": {"type": "string", "description": "too deep to be shown"}},
                    "required": ["sku"],
                },
            },
            "note": {"anyOf": [{"type": "string"}, {"type": "null"}]},
            "size": {"type": ["number", "null"]},
            "tags": {"type": "array"},
            "more": {"type": "object"},
            "any": {},
            "level": {"enum": [1, 2]},
        },
    )
    assert (
        tool_namespace([order])
        == """namespace functions {

type order = (_: {
items?: {
  sku: string,
}[],
note?: string | null,
size?: number | null,
tags?: any[],
more?: object,
any?: any,
level?: 1 | 2,
}) => any;

} // namespace functions"""
    )


def test_the_order_of_tools_and_of_arguments_is_that_of_the_request() -> None:
    one, two = function("a", properties={"x": {}, "b": {}}), function("b")
    assert tool_namespace([one, two]) != tool_namespace([two, one])
    assert tool_namespace([one]) != tool_namespace([function("a", properties={"b": {}, "x": {}})])


def test_a_built_in_tool_stands_as_its_json() -> None:
    assert '{"type":"web_search"}' in tool_namespace([Tool(name="", raw={"type": "web_search"})])


def test_fields_that_are_no_schemas_do_no_harm() -> None:
    assert "x?: any" in tool_namespace([function("a", properties={"x": True, "y": None}, required="x")])


def test_the_closing_brace_of_a_nested_object_stands_at_the_margin() -> None:
    inner = {"type": "object", "properties": {"leaf": {"type": "string"}}}
    outer = {"type": "object", "properties": {"inner": inner}, "required": ["inner"]}
    assert (
        tool_namespace([function("deep", type="object", properties={"outer": outer})])
        == """namespace functions {

type deep = (_: {
outer?: {
  inner: {
    leaf?: string,
},
},
}) => any;

} // namespace functions"""
    )
