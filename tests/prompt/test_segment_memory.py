import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from prefixcache_integrations.dialects import ANTHROPIC_MESSAGES, OPENAI_CHAT, OPENAI_RESPONSES
from prefixcache_integrations.profiles import resolve
from prefixcache_integrations.prompt.fingerprint import PrefixNumbers, prefix_digests, tier_seeds
from prefixcache_integrations.prompt.segment_memory import SegmentMemory
from prefixcache_integrations.prompt.segments import segments, token_counts
from tests.prompt.bodies import CHAT_BODIES, CLAUDE_BODIES, RESPONSES_BODIES
from tests.prompt.words import WORDS

DIALECTS = pytest.mark.parametrize(
    ("dialect", "bodies"),
    [(ANTHROPIC_MESSAGES, CLAUDE_BODIES), (OPENAI_CHAT, CHAT_BODIES), (OPENAI_RESPONSES, RESPONSES_BODIES)],
    ids=lambda given: getattr(given, "name", ""),
)


@DIALECTS
def test_what_is_remembered_is_what_would_be_read_anew(dialect, bodies):
    memory = SegmentMemory(WORDS, size=5, max_bytes=2000)

    @given(bodies, st.data())
    def law(body, data):
        request = dialect.decode_request(body)
        for _ in range(3):
            messages = data.draw(st.lists(st.sampled_from(request.messages), max_size=6)) if request.messages else []
            tools = data.draw(st.sampled_from([request.tools, ()]))
            other = replace(request, messages=tuple(messages), tools=tools)
            read = memory.read(other)

            assert read.segments == segments(other)
            assert read.tokens == token_counts(read.segments, WORDS)

    law()


class Counting:
    name, exact = "counting", True

    def __init__(self):
        self.counted = 0

    def encode(self, text):
        return [0] * len(text)

    def count(self, text):
        self.counted += 1
        return len(text)


def test_a_message_is_counted_once_until_too_many_others_were():
    rows = [{"role": "user", "content": f"number {number}"} for number in range(12)]
    request = ANTHROPIC_MESSAGES.decode_request({"model": "m", "max_tokens": 1, "messages": rows})
    tokenizer = Counting()
    memory = SegmentMemory(tokenizer, size=4)
    few, all_of_them = replace(request, messages=request.messages[:3]), request

    memory.read(few)
    memory.read(few)
    assert tokenizer.counted == 3

    memory.read(all_of_them)
    assert tokenizer.counted == 12
    memory.read(few)
    assert tokenizer.counted == 15


def test_long_messages_are_remembered_as_far_as_there_is_room():
    tokenizer = Counting()
    memory = SegmentMemory(tokenizer, max_bytes=10_000)
    bodies = [
        {"model": "m", "max_tokens": 1, "messages": [{"role": "user", "content": f"{n}" * 4_000}]} for n in range(8)
    ]
    requests = [ANTHROPIC_MESSAGES.decode_request(body) for body in bodies]
    for request in requests:
        memory.read(request)
        memory.read(request)
    assert tokenizer.counted == 8

    memory.read(requests[0])
    assert tokenizer.counted == 9


@DIALECTS
def test_numbers_tell_the_prefixes_apart_that_digests_do(dialect, bodies):
    @given(st.lists(bodies, min_size=2, max_size=3))
    def law(given_bodies):
        numbers, found = PrefixNumbers(), []
        for body in given_bodies:
            request = dialect.decode_request(body)
            prompt, seeds = segments(request), tier_seeds(request, resolve(request.model))
            found += zip(prefix_digests(prompt, seeds), numbers(prompt, seeds), strict=True)

        assert len({digest for digest, _ in found}) == len({number for _, number in found}) == len(set(found))

    law()
