"""Folders of workloads as the layout benchmark takes them."""

import json

import pytest

from benchmarks.layout import __main__ as benchmark
from benchmarks.layout.reading import Unreadable, read

BLOCKS = [
    {"id": 1, "kind": "system", "role": "system", "text": "Be kind.", "ntok": 3},
    {"id": "q", "kind": "question", "role": "user", "text": "Who?", "ntok": 2},
]
REQUESTS = [{"rid": "a", "conv": 0, "turn": 0, "ts": None, "parts": [1, "q"]}]
TRACE = [
    {"timestamp": 2000, "input_length": 600, "hash_ids": [1, 2]},
    {"timestamp": 0, "input_length": 5, "hash_ids": [1]},
]


def put(folder, **files):
    folder.mkdir(parents=True, exist_ok=True)
    for name, rows in files.items():
        (folder / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n")
    return folder


def test_folders_inside_folders_are_found_and_named_after_themselves(tmp_path):
    put(tmp_path / "deep" / "rag", blocks=BLOCKS, requests=REQUESTS)
    put(tmp_path / "live", trace=TRACE)

    found = read(tmp_path)

    assert [workload.name for workload in found.workloads] == ["rag"]
    assert found.workloads[0].tokens == 5
    assert [trace.name for trace in found.traces] == ["live"]
    assert [row.at for row in found.traces[0].asked] == [0, 2]


def test_files_are_told_by_what_they_hold_and_paired_by_their_names(tmp_path):
    put(tmp_path, **{"one-content": BLOCKS, "one-calls": REQUESTS, "two-content": BLOCKS, "two-calls": REQUESTS * 2})

    found = read(tmp_path)

    assert {workload.name: len(workload.calls) for workload in found.workloads} == {"one-calls": 1, "two-calls": 2}


@pytest.mark.parametrize("name", ["blocks.jsonl", "requests.jsonl"])
def test_one_file_of_a_workload_brings_the_other(name, tmp_path):
    put(tmp_path / "rag", blocks=BLOCKS, requests=REQUESTS, trace=TRACE)

    found = read(tmp_path / "rag" / name)

    assert [workload.name for workload in found.workloads] == ["rag"]
    assert not found.traces


def test_a_trace_can_be_given_alone(tmp_path):
    put(tmp_path, monday=TRACE)

    assert [trace.name for trace in read(tmp_path / "monday.jsonl").traces] == ["monday"]


def test_what_is_no_workload_is_left_out_and_said(tmp_path):
    put(tmp_path, blocks=BLOCKS, requests=REQUESTS, notes=[{"hello": 1}])
    put(tmp_path / "half", blocks=BLOCKS)
    (tmp_path / "picture.png").write_bytes(b"\x89PNG")
    (tmp_path / "README.md").write_text("# Where it is from")

    assert sorted(read(tmp_path).left_out) == [
        "half/blocks.jsonl: blocks without requests beside them",
        "notes.jsonl: no blocks, requests or trace",
        "picture.png: no blocks, requests or trace",
    ]


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({}, "no workload in it"),
        ({"blocks": [{"id": 1, "kind": "doc", "text": "x"}], "requests": REQUESTS}, "line 1: no ntok"),
        ({"blocks": BLOCKS, "requests": [*REQUESTS, {"rid": "b"}]}, "line 2: no parts"),
        ({"blocks": BLOCKS, "requests": [{"rid": "b", "parts": [7]}]}, "request 'b' has block 7"),
    ],
)
def test_what_cannot_be_read_is_said_with_its_place(files, said, tmp_path, monkeypatch, capsys):
    folder = put(tmp_path / "data", **files)

    with pytest.raises(Unreadable, match=said):
        read(folder)

    monkeypatch.setattr("sys.argv", ["layout", "--data", str(folder)])
    assert benchmark.main() == 2
    assert said in capsys.readouterr().err


def test_a_line_that_is_no_json_is_said_with_its_number(tmp_path):
    folder = put(tmp_path, blocks=BLOCKS, requests=REQUESTS)
    with (folder / "requests.jsonl").open("a") as file:
        file.write("{oops\n")

    with pytest.raises(Unreadable, match=r"requests\.jsonl, line 2: no JSON"):
        read(folder)


def test_a_path_that_does_not_exist_is_said(tmp_path):
    with pytest.raises(Unreadable, match="no such file"):
        read(tmp_path / "nowhere")
