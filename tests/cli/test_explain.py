import json

import pytest

from tests.cli.conftest import LONG


@pytest.fixture
def files(written, claude_body):
    return written("a.json", claude_body()), written(
        "b.json", claude_body(system="x" + claude_body()["system"][0]["text"])
    )


def test_a_request_that_extends_the_one_before_loses_nothing(prefixcache, files):
    done = prefixcache("explain", files[0], files[0])

    assert (done.code, done.err) == (0, "")
    assert "nothing lost" in done.out


def test_a_broken_prefix_is_named_with_its_place_and_price(prefixcache, files):
    done = prefixcache("explain", *files, "--json")

    assert done.code == 3
    assert (done.json["reason"], done.json["divergence"]["path"]) == ("system_changed", "system[0].text")
    assert done.json["lost_tokens"] > 1_000
    assert float(done.json["lost_cost"]) > 0
    assert done.json["remedy"]


def test_the_prompts_are_quoted_only_when_asked_for(prefixcache, files):
    assert "parcel" not in prefixcache("explain", *files).out
    assert "parcel" in prefixcache("explain", *files, "--show-text").out


def test_what_was_billed_decides(prefixcache, files, written):
    usage = written(
        "usage.json",
        {"input_tokens": 0, "cache_read_input_tokens": 0, "cache_creation_input_tokens": 1_924, "output_tokens": 1},
    )

    assert (
        prefixcache("explain", files[0], files[0], "--usage", usage, "--json").json["reason"] == "dropped_by_provider"
    )


def test_time_that_has_passed_expires_entries(prefixcache, files):
    assert prefixcache("explain", files[0], files[0], "--elapsed", 301, "--json").json["reason"] == "ttl_expired"


def test_the_later_body_may_come_from_a_pipe(prefixcache, files):
    done = prefixcache("explain", files[0], "-", given=files[1].read_text())

    assert done.code == 3


def test_chat_and_responses_bodies_are_told_apart(prefixcache, written):
    chat = written("chat.json", {"model": "gpt-4o", "messages": [{"role": "user", "content": "hi"}]})
    responses = written("responses.json", {"model": "gpt-4o", "input": "hi"})

    assert prefixcache("explain", chat, chat).code == 0
    assert prefixcache("explain", responses, responses).code == 0
    assert "no prefix is shared between formats" in prefixcache("explain", chat, responses).err


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "not JSON"),
        ("[]", "not a JSON object"),
        ('{"model": "claude-sonnet-4-6"}', "messages"),
        (None, "No such file"),
    ],
)
def test_a_file_that_is_no_request_is_one_line(prefixcache, files, tmp_path, content, message):
    bad = tmp_path / "bad.json"
    if content is not None:
        bad.write_text(content)
    done = prefixcache("explain", files[0], bad)

    assert (done.code, done.out) == (1, "")
    assert "bad.json" in done.err
    assert message in done.err
    assert done.err.count("\n") == 1


def test_an_unknown_option_is_a_usage_error(prefixcache, files):
    assert prefixcache("explain", *files, "--nonsense").code == 2


def test_money_is_written_with_all_its_digits(prefixcache, files):
    assert isinstance(json.loads(prefixcache("explain", *files, "--json").out)["lost_cost"], str)


def test_the_providers_own_verdict_is_read_from_the_answer(prefixcache, written, claude_body):
    before = claude_body()
    after = {**before, "diagnostics": {"previous_message_id": "msg_1"}}
    missed = {"type": "tools_changed", "cache_missed_input_tokens": 9}
    answer = {
        "diagnostics": {"cache_miss_reason": missed},
        "usage": {"input_tokens": 0, "cache_read_input_tokens": 0, "cache_creation_input_tokens": 1_924},
    }
    files = written("a.json", before), written("b.json", after), "--answer", written("answer.json", answer)

    done = prefixcache("explain", *files, "--json").json
    assert done["reason"] == "dropped_by_provider"
    assert done["verdict"]["reason"] == "tools_changed"
    assert "we find no difference" in done["disagreement"]
    assert "we find no difference" in prefixcache("explain", *files).out


def test_the_words_of_a_model_are_no_part_of_a_path(prefixcache, written, claude_body):
    def called(**arguments):
        call = {"type": "tool_use", "id": "c", "name": "find", "input": arguments}
        said = [{"role": "user", "content": LONG}, {"role": "assistant", "content": [call]}]
        result = [{"type": "tool_result", "tool_use_id": "c", "content": "x"}]
        return claude_body(history=[*said, {"role": "user", "content": result}])

    files = written("a.json", called(CANARY="1")), written("b.json", called(CANARY="2"))

    for options in ((), ("--json",)):
        done = prefixcache("explain", *files, *options)
        assert done.code == 3
        assert "CANARY" not in done.out
        assert "content[0].input" in done.out
    assert "CANARY" in prefixcache("explain", *files, "--show-text").out
