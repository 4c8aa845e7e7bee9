import pytest

from prefixcache_integrations import dialects
from prefixcache_integrations.insight import recording
from prefixcache_integrations.insight.recording import RecordedCall
from prefixcache_integrations.server import Simulator


@pytest.fixture
def trace(claude_body):
    history, rows = [], []
    for number in range(4):
        question = f"Question {number}"
        rows.append({"at": number * 20, "body": claude_body(question, history=history), "output_tokens": 50})
        history = [*history, {"role": "user", "content": question}, {"role": "assistant", "content": "yes"}]
    return rows


def outcomes(done):
    return {(row["model"], row["strategy"]): row for row in done.json["outcomes"]}


def test_each_strategy_is_priced_on_each_model(prefixcache, written, trace):
    done = prefixcache(
        "replay", written("t.jsonl", *trace), "--model", "claude-sonnet-4-6", "--model", "claude-haiku-4-5", "--json"
    )
    found = outcomes(done)

    assert done.json["requests"] == 4
    assert {model for model, _ in found} == {"claude-sonnet-4-6", "claude-haiku-4-5"}
    assert {strategy for _, strategy in found} == {"none", "as recorded", "system and last", "planner"}
    plain, planned = found["claude-sonnet-4-6", "none"]["totals"], found["claude-sonnet-4-6", "planner"]["totals"]
    assert plain["cache_read_tokens"] == 0
    assert float(planned["cost"]) < 0.6 * float(plain["cost"])
    assert plain["cost"] == plain["uncached_cost"] == planned["uncached_cost"]
    small = found["claude-haiku-4-5", "planner"]["totals"]
    assert small["cache_read_tokens"] == 0  # 4,096 tokens are this model's minimum


def test_a_trace_may_be_bodies_alone(prefixcache, written, trace):
    timed = [{"at": number, "body": row["body"]} for number, row in enumerate(trace)]
    bare = [row["body"] for row in trace]

    assert (
        prefixcache("replay", written("b.jsonl", *bare), "--json").json["outcomes"]
        == (prefixcache("replay", written("t.jsonl", *timed), "--json").json["outcomes"])
    )


def test_a_replay_is_what_the_simulator_bills(prefixcache, written, trace):
    import anthropic

    with (
        Simulator() as simulator,
        anthropic.Anthropic(base_url=simulator.base_url("anthropic"), api_key="key", max_retries=0) as client,
    ):
        for row in trace:
            client.messages.create(**row["body"])
        billed = [call.usage for call in simulator.calls]

    found = outcomes(prefixcache("replay", written("t.jsonl", *trace), "--json"))["claude-sonnet-4-6", "as recorded"]

    assert found["totals"]["cache_read_tokens"] == sum(usage.cache_read_tokens for usage in billed) > 0
    assert found["totals"]["cache_write_tokens"] == sum(usage.cache_write_tokens for usage in billed)
    assert found["totals"]["input_tokens"] == sum(usage.input_tokens for usage in billed)


def test_times_decide_what_expires(prefixcache, written, trace):
    slow = [{**row, "at": row["at"] * 100} for row in trace]
    found = outcomes(prefixcache("replay", written("t.jsonl", *slow), "--json"))

    assert found["claude-sonnet-4-6", "as recorded"]["totals"]["cache_read_tokens"] == 0


def test_what_the_provider_would_refuse_is_counted_apart(prefixcache, written, claude_body):
    mark = {"cache_control": {"type": "ephemeral"}}
    body = claude_body()
    body["messages"][0]["content"] = [{"type": "text", "text": f"part {n}", **mark} for n in range(5)]
    found = outcomes(prefixcache("replay", written("t.jsonl", {"body": body}), "--json"))

    recorded = found["claude-sonnet-4-6", "as recorded"]
    assert recorded["refused"] == 1
    assert list(recorded["refusals"]) == ["A maximum of 4 blocks with cache_control may be provided. Found 6."]
    assert found["claude-sonnet-4-6", "planner"]["refused"] == 0


def test_it_is_said_why_bodies_would_be_refused(prefixcache, written, claude_body):
    bodies = [{name: value for name, value in claude_body().items() if name != "max_tokens"}] * 2
    done = prefixcache("replay", written("t.jsonl", *bodies))

    assert "Refused, up to 2 times: max_tokens: Field required" in done.out


def test_a_recording_with_content_can_be_replayed(prefixcache, tmp_path, trace):
    path = tmp_path / "run.jsonl"
    calls = [
        RecordedCall(
            at=float(row["at"]),
            conversation="c",
            outcome="provider",
            dialect="anthropic_messages",
            request=dialects.ANTHROPIC_MESSAGES.encode_request(dialects.ANTHROPIC_MESSAGES.decode_request(row["body"])),
        )
        for row in trace
    ]
    calls.append(RecordedCall(at=99, conversation="c", outcome="response_cache"))
    path.write_bytes(b"".join(map(recording.write, calls)))
    done = prefixcache("replay", path, "--json")

    assert (done.json["requests"], done.json["output_unknown"]) == (4, 4)
    assert "Output is left out for 4 of 4 requests" in prefixcache("replay", path).out


def test_openai_traces_are_replayed_on_openai_models(prefixcache, written, claude_body):
    system = claude_body()["system"][0]["text"]
    rows = [
        {
            "body": {
                "model": "gpt-5.6-luna",
                "messages": [{"role": "system", "content": system}, {"role": "user", "content": f"Question {n}"}],
            }
        }
        for n in range(3)
    ]
    path = written("t.jsonl", *rows)
    found = outcomes(prefixcache("replay", path, "--model", "gpt-5.6-luna", "--model", "gpt-4o", "--json"))

    assert found["gpt-4o", "none"]["totals"]["cache_read_tokens"] > 0
    assert found["gpt-5.6-luna", "none"]["totals"]["cache_read_tokens"] == 0
    assert found["gpt-5.6-luna", "planner"]["totals"]["cache_read_tokens"] > 0
    refused = prefixcache("replay", path, "--model", "claude-sonnet-4-6")
    assert (refused.code, refused.err.count("\n")) == (1, 1)
    assert "does not speak openai_chat" in refused.err


def test_a_model_is_priced_for_what_is_in_its_own_format(prefixcache, written, trace):
    chat = {"model": "gpt-5.6-luna", "messages": [{"role": "user", "content": "Hello"}]}
    done = prefixcache("replay", written("t.jsonl", *trace, {"body": chat}), "--json")

    told = {(row["model"], row["requests"], row["refused"]) for row in done.json["outcomes"]}
    assert told == {("claude-sonnet-4-6", 4, 0), ("gpt-5.6-luna", 1, 0)}


def test_people_get_a_table(prefixcache, written, trace):
    done = prefixcache("replay", written("t.jsonl", *trace))

    assert done.code == 0
    assert "claude-sonnet-4-6, 4 requests" in done.out
    assert "system and last" in done.out
    assert "\N{HORIZONTAL ELLIPSIS}" not in done.out  # figures are shown in full
    assert "Green" in done.out


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "no requests"),
        ([{"at": 1}], "line 1: no request body: record with record_content=True"),
        ([[]], "line 1: not a JSON object"),
        ([{"body": {"model": "gpt-4o"}}], "line 1"),
    ],
)
def test_a_trace_that_cannot_be_replayed_is_one_line(prefixcache, written, rows, message):
    done = prefixcache("replay", written("t.jsonl", *rows))

    assert (done.code, done.out) == (1, "")
    assert message in done.err
