"""JSON on the wire: as the standard library writes it, whoever writes it."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefixcache_integrations.errors import MalformedRequest
from prefixcache_integrations.prompt.identity import wire_bytes, wire_text

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
leaves = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts
values = st.recursive(
    leaves, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3), max_leaves=12
)


@given(values)
def test_values_are_written_in_order_and_without_blanks(value: Any) -> None:
    expected = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    assert wire_text(value) == expected
    assert wire_bytes([value, {"type": "text"}]) == f'[{expected},{{"type":"text"}}]'.encode()


@pytest.mark.parametrize(
    "value",
    ["\ud800", ["a", {"\ud800": "b"}], {"a": "\ud800"}, [float("nan")], {"a": Decimal(1)}, [b"a"], {"a": {1, 2}}],
)
def test_what_is_no_json_is_refused_with_its_path(value: object) -> None:
    with pytest.raises(MalformedRequest) as refusal:
        wire_bytes(value, "here")
    assert refusal.value.path == "here"


def test_deep_values_are_written_too() -> None:
    deep: object = "bottom"
    for _ in range(50):
        deep = [deep]
    assert wire_text(deep) == json.dumps(deep)
