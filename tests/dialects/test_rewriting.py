import copy

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from prefixcache_integrations.canonical import CacheMarker
from prefixcache_integrations.dialects import ANTHROPIC_MESSAGES, OPENAI_CHAT, OPENAI_RESPONSES
from prefixcache_integrations.dialects.reader import BodyReader
from prefixcache_integrations.dialects.rewriting import rewritten
from tests.prompt.bodies import CHAT_BODIES, CLAUDE_BODIES, RESPONSES_BODIES

DIALECTS = [
    pytest.param(ANTHROPIC_MESSAGES, CLAUDE_BODIES, id="claude"),
    pytest.param(OPENAI_CHAT, CHAT_BODIES, id="chat"),
    pytest.param(OPENAI_RESPONSES, RESPONSES_BODIES, id="responses"),
]


@pytest.mark.parametrize("reads", [False, True], ids=["dialect", "reader"])
@pytest.mark.parametrize(("dialect", "bodies"), DIALECTS)
def test_whatever_messages_become_of_a_body_it_says_them(dialect, bodies, reads):
    @settings(max_examples=30)
    @given(bodies, bodies, st.data())
    def law(body, other, data):
        form = BodyReader().reading(dialect) if reads else dialect
        read = form.decode_request(body)
        pool = [*read.messages, *dialect.decode_request(other).messages]
        messages = data.draw(
            st.just(read.messages) | st.lists(st.sampled_from(pool or [None]), max_size=len(pool)).map(tuple)
        )
        request = replace(read, messages=() if None in messages else messages)

        before = copy.deepcopy(body)
        sent = rewritten(form, body, read, request)
        assert body == before
        assert sent == dialect.encode_request(request)
        assert list(sent) == list(dialect.encode_request(request))

    law()


def test_messages_that_stay_as_they_are_are_those_of_the_body():
    body = {"model": "m", "max_tokens": 1, "messages": [{"role": "user", "content": text} for text in "abc"]}
    read = ANTHROPIC_MESSAGES.decode_request(body)
    part = replace(read.messages[1].parts[0], marker=CacheMarker())
    marked = replace(read.messages[1], parts=(part,))
    sent = rewritten(ANTHROPIC_MESSAGES, body, read, replace(read, messages=(read.messages[0], marked)))

    assert [new is old for new, old in zip(sent["messages"], body["messages"], strict=False)] == [True, False]
    assert sent["messages"][1]["content"][0]["cache_control"] == {"type": "ephemeral"}
