from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefixcache_integrations import dialects
from prefixcache_integrations.canonical import Address, Finding, Usage
from prefixcache_integrations.errors import MalformedRecording
from prefixcache_integrations.events import Labels
from prefixcache_integrations.insight.recording import Break, RecordedCall, Run, prompt_runs, read, write
from prefixcache_integrations.profiles import resolve
from prefixcache_integrations.prompt.segments import segments, token_counts
from prefixcache_integrations.tokens import EstimateTokenizer

TOKENS = EstimateTokenizer()
MARK = {"cache_control": {"type": "ephemeral", "ttl": "1h"}}
CALL = RecordedCall(
    at=1_795_255_139.5,
    conversation="c",
    outcome="provider",
    model="claude-sonnet-4-6",
    provider="anthropic",
    dialect="anthropic_messages",
    labels=Labels(app="shop", tags=("a",)),
    usage=Usage(input_tokens=10, cache_read_tokens=4, cache_write_by_ttl={"5m": 6}),
    cost=Decimal("0.00000001"),
    seconds=0.25,
    prompt=(Run(group="system", tokens=10, size=40, digest="00", marker=""),),
    findings=(Finding(code="below_minimum", message="short", at=Address("system", 0), tokens=3),),
    broken=Break(reason="system_changed", lost_tokens=4, lost_cost=Decimal("0.1")),
)


def test_what_is_written_is_read_again():
    line = write(CALL)

    assert line.endswith(b"\n")
    assert list(read([line, b"\n", line])) == [CALL, CALL]


@pytest.mark.parametrize("line", [b"{", b"[]", b'{"at": 1}', b'{"at":1,"conversation":"c","outcome":"?"}', b"\xff"])
def test_a_line_that_is_no_recorded_call_is_named(line):
    with pytest.raises(MalformedRecording, match="line 2 is no recorded call"):
        list(read([write(CALL), line]))


def runs(body, dialect="anthropic_messages", model="claude-sonnet-4-6"):
    request = dialects.by_name(dialect).decode_request({"model": model, "max_tokens": 1, **body})
    return request, prompt_runs(request, resolve(model), TOKENS)


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
