from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from prefixcache_integrations.dialects import OPENAI_CHAT
from prefixcache_integrations.insight.diagnosis_tokens import PrefixNames, shared_tokens
from prefixcache_integrations.insight.simulator_boundaries import Rendering, boundaries, render
from prefixcache_integrations.profiles import resolve
from prefixcache_integrations.prompt.segment_memory import SegmentMemory
from tests.prompt.words import WORDS

PROFILE = replace(resolve("gpt-4o"), increment=2, minimum_tokens=2)
TEXTS = st.sampled_from(["", "one", "one two", "one two three four five", "two", "three four five six seven eight"])
CONTENTS = TEXTS | st.lists(TEXTS.map(lambda text: {"type": "text", "text": text}), min_size=1, max_size=3)
ROLES = st.sampled_from(["system", "user", "user"])
MESSAGES = st.lists(st.builds(lambda role, content: {"role": role, "content": content}, ROLES, CONTENTS), max_size=3)
TOOL = {"type": "function", "function": {"name": "look_up", "parameters": {"type": "object"}}}
FORMAT = {"type": "json_schema", "json_schema": {"name": "found", "schema": {"type": "object"}}}
FIELDS = st.sampled_from([{}, {}, {"tools": [TOOL]}, {"response_format": FORMAT}, {"tool_choice": "none"}])


@given(MESSAGES, MESSAGES, MESSAGES, FIELDS, FIELDS)
def test_names_are_the_same_where_digests_are(start, one, other, fields, other_fields):
    last = {"role": "user", "content": "what now"}
    both = [
        OPENAI_CHAT.decode_request({"model": "gpt-4o", **given, "messages": [*start, *rest, last]})
        for given, rest in ((fields, one), (other_fields, other))
    ]
    previous, current = (render(each, PROFILE, Rendering(SegmentMemory(WORDS)), scope="") for each in both)
    shared = shared_tokens(previous, current, WORDS)
    named = replace(previous, names=PrefixNames(shared, b"p")), replace(current, names=PrefixNames(shared, b"c"))

    by_digest, by_name = ([boundaries(each).reads for each in pair] for pair in ((previous, current), named))
    assert [[row.tokens for row in rows] for rows in by_digest] == [[row.tokens for row in rows] for rows in by_name]
    assert common(*by_digest) == common(*by_name)


def common(one, other):
    keys = {row.key for row in one}
    return [row.tokens for row in other if row.key in keys]


@given(MESSAGES)
def test_what_is_cut_off_has_the_names_of_the_whole(start):
    messages = [{"role": "user", "content": "what now"}, *start, {"role": "user", "content": "and now"}]
    request = OPENAI_CHAT.decode_request({"model": "gpt-4o", "messages": messages})
    whole = replace(render(request, PROFILE, Rendering(SegmentMemory(WORDS)), scope=""), names=PrefixNames(7, b"p"))
    cut = replace(whole, segments=whole.segments[:-3], tokens=whole.tokens[:-3], digests=whole.digests[:-3])

    rows = boundaries(cut).reads
    assert rows == boundaries(whole).reads[: len(rows)]
