from __future__ import annotations

import pytest

from prefixcache_integrations.canonical import Iteration, Usage
from prefixcache_integrations.dialects.usage import CHAT_USAGE, RESPONSES_USAGE, decode_claude, encode_claude


def test_claude_input_leaves_the_cache_out_and_ours_includes_it() -> None:
    usage = decode_claude({"input_tokens": 7, "cache_read_input_tokens": 100, "cache_creation_input_tokens": 20})
    assert usage == Usage(input_tokens=127, cache_read_tokens=100, cache_write_tokens=20)
    assert usage.uncached_tokens == 7
    assert encode_claude(usage)["input_tokens"] == 7


def test_claude_writes_are_known_from_their_split_alone() -> None:
    split = {"ephemeral_5m_input_tokens": 3, "ephemeral_1h_input_tokens": 4}
    usage = decode_claude({"input_tokens": 1, "cache_read_input_tokens": 0, "cache_creation": split})
    assert usage.cache_write_tokens == 7
    assert usage.input_tokens == 8


def test_a_bare_delta_leaves_the_input_unknown() -> None:
    assert decode_claude({"output_tokens": 15}) == Usage(output_tokens=15)


def test_claude_iterations_are_what_is_billed() -> None:
    row = {"input_tokens": 10, "cache_creation_input_tokens": 5, "cache_read_input_tokens": 85, "output_tokens": 2}
    advisor = {"type": "advisor_message", "model": "claude-opus-5", **row}
    usage = decode_claude({**row, "iterations": [{"type": "message", **row}, advisor], "service_tier": "batch"})
    one = Usage(input_tokens=100, cache_read_tokens=85, cache_write_tokens=5, output_tokens=2, service_tier="batch")
    assert usage == Usage(
        input_tokens=200,
        cache_read_tokens=170,
        cache_write_tokens=10,
        output_tokens=4,
        service_tier="batch",
        iterations=(Iteration(model=None, usage=one), Iteration(model="claude-opus-5", usage=one)),
    )
    assert decode_claude({**row, "iterations": []}).input_tokens == 100
    assert decode_claude({**row, "iterations": None}).input_tokens == 100


@pytest.mark.parametrize("count", [-1, 1.5, "12", True, None, {}])
def test_what_is_no_count_is_unknown(count: object) -> None:
    assert decode_claude({"input_tokens": count, "cache_read_input_tokens": count}) == Usage()
    assert CHAT_USAGE.decode({"prompt_tokens": count, "prompt_tokens_details": {"cached_tokens": count}}) == Usage()


def test_openai_input_already_includes_the_cache() -> None:
    usage = CHAT_USAGE.decode({
        "prompt_tokens": 7540,
        "prompt_tokens_details": {"cached_tokens": 6002, "cache_write_tokens": 1535},
        "completion_tokens": 3,
    })  # fmt: skip
    assert usage.input_tokens == 7540
    assert usage.uncached_tokens == 3
    assert CHAT_USAGE.encode(usage)["total_tokens"] == 7543


@pytest.mark.parametrize("details", [{}, {"prompt_tokens_details": None}, {"prompt_tokens_details": {}}])
def test_openai_reads_are_unknown_unless_reported(details: dict[str, object]) -> None:
    usage = CHAT_USAGE.decode({"prompt_tokens": 10, **details})
    assert usage.cache_read_tokens is None
    assert usage.uncached_tokens is None
    assert "prompt_tokens_details" not in CHAT_USAGE.encode(usage)


def test_responses_require_counts_that_chat_leaves_out() -> None:
    usage = Usage(input_tokens=10, output_tokens=1)
    assert RESPONSES_USAGE.encode(usage) == {
        "input_tokens": 10,
        "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "output_tokens": 1,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": 11,
    }
    assert CHAT_USAGE.encode(usage) == {"prompt_tokens": 10, "completion_tokens": 1, "total_tokens": 11}


def test_openai_writes_are_split_by_lifetime_where_reported() -> None:
    split = {"ttl_30m_tokens": 30, "ttl_12h_tokens": 12}
    details = {"cached_tokens": 0, "cache_write_tokens": 42, "cache_write_tokens_details": split}
    usage = RESPONSES_USAGE.decode({"input_tokens": 50, "input_tokens_details": details})
    assert usage.cache_write_by_ttl == {"30m": 30, "12h": 12}
