"""The decisions that the layout benchmark writes, priced again by code that shares nothing with it."""

import json
import re
from dataclasses import replace

import pytest

from benchmarks.layout import __main__ as benchmark
from benchmarks.layout import traces
from benchmarks.layout.generated import generated, generated_trace


def first(workload, calls):
    return replace(workload, calls=workload.calls[:calls])


AGENT, _, SINGLE, _ = (first(workload, 90) for workload in generated())


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def priced(workload, decisions):
    """Claude's rule: entries at markers of 1,024 tokens and more, looked for up to 20 blocks back; they never end."""
    entries, cost = set(), 0.0
    for decision in decisions:
        sizes = [workload.blocks[part].tokens for part in decision["parts"]]
        prefixes = [tuple(decision["parts"][: end + 1]) for end in range(len(sizes))]
        marked = [row["at"] for row in decision["markers"] if sum(sizes[: row["at"] + 1]) >= 1024]
        reach = {end for at in marked for end in range(max(0, at - 19), at + 1) if prefixes[end] in entries}
        read = sum(sizes[: max(reach) + 1]) if reach else 0
        written = max(0, sum(sizes[: max(marked) + 1]) - read) if marked else 0
        cost += sum(sizes) - 0.9 * read + 0.25 * written
        entries |= {prefixes[at] for at in marked}
    return cost / workload.tokens


@pytest.mark.parametrize("workload", [AGENT, SINGLE], ids=lambda workload: workload.name)
def test_the_decisions_written_cost_what_the_table_says(workload, tmp_path, capsys):
    benchmark.measured(workload, tmp_path)

    printed = re.search(r"ours +(\d\.\d{4})", capsys.readouterr().out)
    decisions = lines(tmp_path / f"{workload.name}.jsonl")
    assert f"{priced(workload, decisions):.4f}" == printed[1]
    assert [row["rid"] for row in decisions] == [call.rid for call in workload.calls]
    assert all(sorted(row["parts"]) == sorted(call.parts) for row, call in zip(decisions, workload.calls, strict=True))
    assert max(len(row["markers"]) for row in decisions) <= 4


def priced_trace(trace, decisions, seconds):
    """All up to the last marker is written, and read again up to any block for so long; a read begins that anew."""
    until, cost, sent = {}, 0.0, 0
    for asked, decision in zip(trace.asked, decisions, strict=True):
        assert decision["rid"] == asked.rid
        assert decision["parts"] == [block for block, _ in asked.blocks]
        last = max((row["at"] for row in decision["markers"]), default=-1)
        read_to = 0
        while read_to < len(asked.blocks) and until.get(asked.blocks[read_to][0], -1) >= asked.at:
            read_to += 1
        for at, (block, tokens) in enumerate(asked.blocks):
            cost += tokens * (0.1 if at < read_to else 1.25 if at <= last else 1)
            sent += tokens
            if at < read_to or at <= last:
                until[block] = asked.at + seconds
    return cost / sent


def test_the_decisions_written_for_a_trace_cost_what_the_table_says(tmp_path, capsys):
    trace = generated_trace(documents=60)
    traces.report(trace, tmp_path)

    five, thirty = re.search(r"ours +(\d\.\d{4}) +(\d\.\d{4})", capsys.readouterr().out).groups()
    assert f"{priced_trace(trace, lines(tmp_path / f'{trace.name}.jsonl'), 300):.4f}" == five
    assert f"{priced_trace(trace, lines(tmp_path / f'{trace.name}-30m.jsonl'), 1800):.4f}" == thirty


def test_a_later_request_changes_no_decision_before_it(tmp_path):
    whole, part = (tmp_path / name for name in ("whole", "part"))
    benchmark.measured(SINGLE, whole)
    benchmark.measured(first(SINGLE, 60), part)

    name = f"{SINGLE.name}.jsonl"
    assert lines(part / name) == lines(whole / name)[:60]
