import pytest
from hypothesis import given
from msgspec.structs import replace

from prefixcache_integrations.dialects import ANTHROPIC_MESSAGES, OPENAI_CHAT, OPENAI_RESPONSES
from prefixcache_integrations.prompt.content import REPLY_TOKENS
from prefixcache_integrations.prompt.lengths import added_tokens
from prefixcache_integrations.prompt.segments import segments, token_counts
from tests.prompt.bodies import CHAT_BODIES, CLAUDE_BODIES, RESPONSES_BODIES
from tests.prompt.words import WORDS


@pytest.mark.parametrize(
    ("dialect", "bodies"),
    [(ANTHROPIC_MESSAGES, CLAUDE_BODIES), (OPENAI_CHAT, CHAT_BODIES), (OPENAI_RESPONSES, RESPONSES_BODIES)],
    ids=lambda given: getattr(given, "name", ""),
)
def test_added_messages_count_what_their_segments_count(dialect, bodies):
    @given(bodies)
    def law(body):
        request = replace(dialect.decode_request(body), tools=(), system=(), options={})
        whole = sum(token_counts(segments(request), WORDS))
        reply = 0 if dialect is ANTHROPIC_MESSAGES else REPLY_TOKENS
        assert added_tokens(request.messages, request.dialect, WORDS) == whole - reply

    law()
