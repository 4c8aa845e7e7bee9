import random

import pytest

from prefixcache_integrations import profiles, tokens
from prefixcache_integrations.dialects import ANTHROPIC_MESSAGES
from prefixcache_integrations.insight.diagnosis import Explainer, explain

MODEL = "claude-sonnet-4-5"
SONNET = profiles.resolve(MODEL, "anthropic")
TOKENIZER = tokens.load()


def asked(name, length):
    contents = [f"{name} " + "alpha beta " * 800, *(f"turn {number}" for number in range(length - 1))]
    rows = [{"role": ("user", "assistant")[at % 2], "content": content} for at, content in enumerate(contents)]
    marked = {"cache_control": {"type": "ephemeral"}}
    return ANTHROPIC_MESSAGES.decode_request({"model": MODEL, "max_tokens": 1, **marked, "messages": rows})


@pytest.mark.parametrize("size", [1, 2, 5])
def test_however_little_is_remembered_of_many_conversations_each_is_explained_as_by_itself(size):
    explainer, chance, latest = Explainer(TOKENIZER, size=size), random.Random(0), {}  # noqa: S311 - no secret
    for _ in range(60):
        name = chance.randrange(size + 1)
        previous, length = latest.get(name, (None, -1))
        current = asked(name, length + 2)
        if previous is not None:
            given = {"profile": SONNET, "elapsed": 1.0}
            alone = explain(previous, current, tokenizer=TOKENIZER, **given)
            assert explainer.explain(previous, current, **given) == alone
        latest[name] = (current, length + 2)
