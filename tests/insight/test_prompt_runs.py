import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from prefixcache_integrations import dialects
from prefixcache_integrations.insight.conversations import Conversations
from prefixcache_integrations.insight.prompt_runs import prompt_rows
from prefixcache_integrations.profiles import resolve
from prefixcache_integrations.prompt.segments import segments, token_counts
from prefixcache_integrations.tokens import EstimateTokenizer
from tests.prompt.bodies import CHAT_BODIES, CLAUDE_BODIES, RESPONSES_BODIES

TOKENS = EstimateTokenizer()
MARK = {"cache_control": {"type": "ephemeral", "ttl": "1h"}}


def runs(body, dialect="anthropic_messages", model="claude-sonnet-4-6"):
    request = dialects.by_name(dialect).decode_request({"model": model, "max_tokens": 1, **body})
    return request, prompt_rows(request, resolve(model), TOKENS).runs()


def test_a_prompt_is_split_by_what_its_parts_are_for():
    _, found = runs(
        {
            "tools": [{"name": "search", "input_schema": {}}],
            "system": [{"type": "text", "text": "You help.", **MARK}, {"type": "text", "text": "Be kind."}],
            "messages": [
                {"role": "user", "content": "first"},
                {"role": "assistant", "content": "answer"},
                {
                    "role": "user",
                    "content": [
                        {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "paper"}},
                        {"type": "text", "text": "second"},
                    ],
                },
            ],
        }
    )

    assert [(run.group, run.marker) for run in found] == [
        ("tools", None),
        ("system", "1h"),
        ("system", None),
        ("history", None),
        ("documents", None),
        ("question", None),
    ]
    assert found[1].size == len("You help.")


def test_tool_results_after_the_last_answer_belong_to_the_question():
    _, found = runs(
        {
            "messages": [
                {"role": "user", "content": "weather?"},
                {"role": "assistant", "content": [{"type": "tool_use", "id": "t", "name": "w", "input": {}}]},
                {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t", "content": "rain"}]},
            ]
        }
    )

    assert [run.group for run in found] == ["history", "question"]


def test_an_automatic_marker_stands_where_it_will_be_put():
    _, claude = runs({"messages": [{"role": "user", "content": "hi"}], **MARK})
    _, implicit = runs({"messages": [{"role": "user", "content": "hi"}]}, "openai_chat", "gpt-5.6-luna")
    _, explicit = runs(
        {"messages": [{"role": "user", "content": "hi"}], "prompt_cache_options": {"mode": "explicit"}},
        "openai_chat",
        "gpt-5.6-luna",
    )

    assert [run.marker for run in claude] == ["1h"]
    assert [run.marker for run in implicit] == ["", None]
    assert [run.marker for run in explicit] == [None]


@given(
    st.lists(
        st.tuples(st.sampled_from(["user", "assistant"]), st.text(max_size=40), st.booleans()), min_size=1, max_size=8
    ),
    st.sampled_from(["anthropic_messages", "openai_chat"]),
)
def test_the_runs_add_up_to_the_prompt(messages, dialect):
    body = {
        "messages": [
            {"role": role, "content": [{"type": "text", "text": text, **(MARK if marked else {})}]}
            for role, text, marked in messages
        ]
    }
    request, found = runs(body, dialect)

    assert sum(run.tokens for run in found) == sum(token_counts(segments(request), TOKENS))
    assert len(found) <= 2 * len(messages) + 2


@pytest.mark.parametrize(
    ("dialect", "bodies", "model"),
    [
        ("anthropic_messages", CLAUDE_BODIES, "claude-sonnet-4-6"),
        ("openai_chat", CHAT_BODIES, "gpt-5.6-luna"),
        ("openai_chat", CHAT_BODIES, "gpt-4o"),
        ("openai_responses", RESPONSES_BODIES, "gpt-5.6-luna"),
    ],
)
def test_what_is_added_to_a_prompt_makes_the_same_runs_as_the_whole_prompt(dialect, bodies, model):
    profile = resolve(model)

    @given(bodies, st.integers(0, 6))
    def law(body, kept):
        whole = dialects.by_name(dialect).decode_request({**json.loads(json.dumps(body)), "model": model})
        conversations, known = Conversations(), None
        for request in (replace(whole, messages=whole.messages[:kept]), whole, whole):
            turn = conversations.place(request, 0, "s")
            before = turn.previous.rows if turn.previous and turn.extends else None
            turn.rows = known = prompt_rows(turn.request, profile, TOKENS, before)
            assert known.runs() == prompt_rows(request, profile, TOKENS).runs()

    law()


class Counting(EstimateTokenizer):
    def count(self, text):
        self.asked = [*getattr(self, "asked", ()), text]
        return super().count(text)


@pytest.mark.parametrize(("dialect", "model"), [("anthropic_messages", "claude-opus-5"), ("openai_chat", "gpt-4o")])
def test_only_what_is_added_is_counted(dialect, model):
    messages = [{"role": ("user", "assistant")[n % 2], "content": f"text {n}"} for n in range(9)]
    first, second = (
        dialects.by_name(dialect).decode_request({"model": model, "max_tokens": 1, "messages": messages[:count]})
        for count in (7, 9)
    )
    tokenizer, profile = Counting(), resolve(model)
    known = prompt_rows(first, profile, tokenizer)
    tokenizer.asked = []
    prompt_rows(replace(second, messages=(*first.messages, *second.messages[7:])), profile, tokenizer, known)

    assert tokenizer.asked == ["text 7", "text 8"]
