"""Settings that cannot be meant are refused where they are given, and the LLM stays as it was."""

import pytest
from llama_index.core.llms.mock import MockLLM

from prefixcache_integrations.errors import ConfigurationError
from prefixcache_integrations.llama_index import enable

WRONG = [
    {"exact": "no"},
    {"namespace": 5},
    {"namespace": 0},
    {"ttl": "x"},
    {"cache": 123},
    {"cache": object()},
    {"observers": [3]},
    {"observers": None},
    {"observers": [None]},
    {"tokenizer": "gpt"},
    {"memory": 4},
    {"memory": False},
    {"documents": None},
    {"documents": "any"},
    {"layout": "all"},
]


@pytest.mark.parametrize("wrong", WRONG, ids=repr)
def test_settings_that_cannot_be_meant_are_refused(wrong):
    llm = MockLLM()
    with pytest.raises(ConfigurationError):
        enable(llm, **{"cache": "memory://", **wrong})
    assert type(llm) is MockLLM
