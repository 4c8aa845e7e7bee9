from decimal import Decimal

import pytest

from prefixcache_integrations.canonical import Address, Finding, Usage
from prefixcache_integrations.errors import MalformedRecording
from prefixcache_integrations.events import Labels
from prefixcache_integrations.insight.prompt_runs import Run
from prefixcache_integrations.insight.recording import Break, RecordedCall, read, write

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


def test_text_that_no_file_can_hold_is_written_with_question_marks():
    labels = Labels(app="\ud800", session="Zoë \udc00", tags=("\ud800", "plain"))
    call = RecordedCall(at=1.0, conversation="\ud800", outcome="provider", labels=labels, answer={"\udc00": ["\ud800"]})
    [told] = read([write(call)])

    assert (told.conversation, told.answer) == ("?", {"?": ["?"]})
    assert told.labels == labels == Labels(app="?", session="Zoë ?", tags=("?", "plain"))
