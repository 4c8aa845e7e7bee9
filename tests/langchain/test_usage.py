import pytest
from langchain_core.messages import AIMessage

from prefixcache_integrations.canonical import Usage
from prefixcache_integrations.langchain.usage import served_by, usage_of, usage_of_metadata


def message(usage_metadata=None, **response_metadata):
    return AIMessage("x", usage_metadata=usage_metadata, response_metadata=response_metadata)


def metadata(input_tokens, output_tokens, **details):
    return {
        "input_tokens": input_tokens,
        "output_tokens": output_tokens,
        "total_tokens": input_tokens + output_tokens,
        "input_token_details": details,
    }


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        pytest.param(
            metadata(
                1_000, 5, cache_read=600, cache_creation=0, ephemeral_5m_input_tokens=100, ephemeral_1h_input_tokens=200
            ),
            Usage(
                input_tokens=1_000,
                cache_read_tokens=600,
                cache_write_tokens=300,
                cache_write_by_ttl={"5m": 100, "1h": 200},
                output_tokens=5,
            ),
            id="claude zeroes the generic count beside the split",
        ),
        pytest.param(
            metadata(1_000, 5, cache_read=600, cache_creation=300),
            Usage(input_tokens=1_000, cache_read_tokens=600, cache_write_tokens=300, output_tokens=5),
            id="claude stream without a split",
        ),
        pytest.param(
            metadata(1_000, 5, cache_read=0, ephemeral_5m_input_tokens=0, ephemeral_1h_input_tokens=0),
            Usage(input_tokens=1_000, cache_read_tokens=0, cache_write_tokens=0, output_tokens=5),
            id="a split of nothing is nothing written",
        ),
        pytest.param(
            metadata(0, 15),
            Usage(output_tokens=15),
            id="claude stream whose last event told the output alone",
        ),
        pytest.param(
            metadata(1_200, 5, priority_cache_read=1_024, priority_cache_creation=10, priority=176),
            Usage(
                input_tokens=1_200,
                cache_read_tokens=1_024,
                cache_write_tokens=10,
                output_tokens=5,
                service_tier="priority",
            ),
            id="openai names carry the tier",
        ),
        pytest.param(
            metadata(1_200, 5),
            Usage(input_tokens=1_200, output_tokens=5),
            id="a server that reports no details",
        ),
        pytest.param({}, Usage(), id="nothing at all"),
    ],
)
def test_usage_metadata_is_read_for_what_it_is(given, expected):
    assert usage_of_metadata(given) == expected


def test_the_providers_own_usage_comes_first():
    raw = {
        "input_tokens": 10,
        "cache_read_input_tokens": 600,
        "cache_creation_input_tokens": 300,
        "cache_creation": {"ephemeral_5m_input_tokens": 300, "ephemeral_1h_input_tokens": 0},
        "output_tokens": 5,
        "service_tier": "standard",
    }

    usage = usage_of(message(metadata(7, 7), model_provider="anthropic", usage=raw))

    assert (usage.input_tokens, usage.cache_read_tokens, usage.cache_write_tokens) == (910, 600, 300)
    assert usage.cache_write_by_ttl == {"5m": 300, "1h": 0}
    assert usage.service_tier == "standard"


def test_what_the_providers_usage_leaves_open_is_filled_from_langchains():
    raw = {"prompt_tokens": 1_200, "completion_tokens": 5, "prompt_tokens_details": None}

    usage = usage_of(
        message(metadata(1_200, 5, cache_read=1_024), model_provider="openai", token_usage=raw, service_tier="flex")
    )

    assert (usage.input_tokens, usage.cache_read_tokens, usage.service_tier) == (1_200, 1_024, "flex")


def test_usage_of_another_shape_is_not_misread():
    raw = {"input_tokens": 10, "cache_read_input_tokens": 600, "output_tokens": 5}

    assert usage_of(message(metadata(7, 7), model_provider="somebody", usage=raw)).input_tokens == 7


def test_a_message_without_usage_is_unknown_throughout():
    assert usage_of(message()) == Usage()


def test_who_answered_is_told_by_the_marks_caches_leave():
    zero = metadata(0, 0)
    assert served_by(message()) == "provider"
    assert served_by(message({**zero, "total_cost": 0})) == "other_cache"
    assert served_by(message({**zero, "total_cost": 0}, prefixcache={"hit": True})) == "response_cache"
    assert served_by(message(zero, prefixcache={"hit": False})) == "provider"
