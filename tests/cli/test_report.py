import re

import pytest

from prefixcache_integrations.canonical import Finding
from prefixcache_integrations.insight import recording
from tests.insight.report_calls import call, many


@pytest.fixture
def run(tmp_path):
    def write(calls, name="run.jsonl"):
        path = tmp_path / name
        path.write_bytes(b"".join(map(recording.write, calls)))
        return path

    return write


def test_the_terminal_shows_totals_losses_and_conversations(prefixcache, run):
    done = prefixcache("report", run(many(40)))

    assert (done.code, done.err) == (0, "")
    assert re.search(r"^ calls +\d+, \d+ answers from a cache", done.out, re.MULTILINE)
    assert "lost by" in done.out
    assert "keep the system prompt" in done.out
    assert "failed: RateLimitError" in done.out
    assert "system[0].text, character 41" in done.out


def test_a_bar_is_as_long_as_its_share_of_the_longest_prompt(prefixcache, run):
    calls = [
        call(0, read=0, written=500, uncached=0),
        call(1, read=500, written=400, uncached=100),
    ]
    lines = [line for line in prefixcache("report", run(calls)).out.splitlines() if re.match(r" +\d ", line)]

    assert [line[14:54] for line in lines] == ["▓" * 20 + " " * 20, "█" * 20 + "▓" * 16 + "▒" * 4]


def test_only_the_latest_calls_are_shown_and_it_says_so(prefixcache, run):
    done = prefixcache("report", run([call(number, conversation=str(number)) for number in range(9)]), "--most", 3)

    assert re.findall(r"^(\d)$", done.out, re.MULTILINE) == ["6", "7", "8"]
    assert "The latest 3 of 9 calls" in done.out


def test_what_changed_in_cached_prompts_has_a_line_and_a_sum(prefixcache, run):
    cleared = Finding(
        code="history_cleared", message="results cleared: 700", tokens=700, cost=805.0, remedies=("seldom",)
    )
    clock = Finding(code="volatile_text", message="a clock", kind="time", tokens=900, cost=1035.0)
    path = run([call(0, findings=(clock,)), call(1, findings=(cleared, clock)), call(2, findings=(cleared,))])

    done = prefixcache("report", path)
    assert re.search(r"history cleared +2 +1,400 +1,610 +seldom", done.out)
    assert re.search(r"time inside the.* +2 +900 +1,035 *$", done.out, re.MULTILINE)
    assert done.out.count("results cleared: 700") == 2
    assert "a clock" not in done.out
    assert [each["what"] for each in prefixcache("report", path, "--json").json["changes"]] == [
        "history cleared",
        "time inside the instructions, each time",
    ]


def test_html_is_written_where_asked(prefixcache, run, tmp_path):
    done = prefixcache("report", run(many(10)), "-o", tmp_path / "out.html", "--title", "Shop & Co")

    assert done.code == 0
    html = (tmp_path / "out.html").read_text()
    assert html.startswith("<!doctype html>")
    assert "<title>Shop &amp; Co</title>" in html


def test_programs_get_the_sums(prefixcache, run, tmp_path):
    path = run([call(read=600, uncached=500), call(1, outcome="failed", error="X", cost=None)])
    found = prefixcache("report", path, "--json", "-o", tmp_path / "out.html").json

    assert (found["totals"]["calls"], found["totals"]["failed"], found["conversations"]) == (1, 1, 1)
    assert found["totals"]["cost"] == found["perfect_cost"] == "0.01"
    assert found["output"].endswith("out.html")


def test_an_empty_recording_is_no_error(prefixcache, run):
    assert prefixcache("report", run([])).code == 0


def test_markup_in_names_is_only_text(prefixcache, run):
    done = prefixcache("report", run([call(conversation="[red]x[/nonsense]", model="[bold]")]))

    assert "[red]x[/nonsense]" in done.out


@pytest.mark.parametrize(
    ("content", "message"), [(b"{\n", "run.jsonl: line 1 is no recorded call"), (None, "No such file")]
)
def test_what_cannot_be_read_is_one_line(prefixcache, tmp_path, content, message):
    path = tmp_path / "run.jsonl"
    if content is not None:
        path.write_bytes(content)
    done = prefixcache("report", path)

    assert (done.code, done.out, done.err.count("\n")) == (1, "", 1)
    assert message in done.err


def test_a_file_that_cannot_be_written_is_one_line(prefixcache, run, tmp_path):
    done = prefixcache("report", run([call()]), "-o", tmp_path / "missing" / "out.html")

    assert (done.code, done.err.count("\n")) == (1, 1)


@pytest.mark.parametrize("line", ['{"at":1e300', '{"at":-1', '{"at":1,"cost":"NaN"', '{"at":1,"cost":"1E+999999"'])
def test_numbers_that_cannot_be_are_named_with_their_line(prefixcache, tmp_path, line):
    path = tmp_path / "run.jsonl"
    path.write_text(line + ',"conversation":"c","outcome":"provider"}\n')

    for options in ((), ("--json",), ("-o", tmp_path / "run.html")):
        done = prefixcache("report", path, *options)
        assert done.code == 1
        assert done.err == f"{path}: line 1 is no recorded call: a number is out of range\n"


def test_words_of_others_are_no_orders_to_a_terminal(prefixcache, run):
    lost = recording.Break(reason="system_changed", lost_tokens=9, path="system\x1b[2J", remedy="[bold]keep\x9b")
    done = prefixcache("report", run([call(0, conversation="\x1b]0;owned\x07", broken=lost)]))

    assert done.code == 0
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]", done.out)
    assert "[bold]keep" in done.out
