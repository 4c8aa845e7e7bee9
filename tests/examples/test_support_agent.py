"""The demo, as `make demo` runs it: the real LangChain classes and SDKs over HTTP against the simulator."""

from __future__ import annotations

import sys
from itertools import pairwise
from pathlib import Path

import pytest
from rich.console import Console

from examples.support_agent import demo
from examples.support_agent.app import CONVERSATIONS
from examples.support_agent.shop import Shop, as_they_arrive
from prefixcache_integrations.langchain import CachedTokensHandler


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[CachedTokensHandler]]:
    folder = tmp_path_factory.mktemp("answers")
    return {provider: [held.tokens for held in one] for provider, one in all_held(folder, demo.RUNS).items()}


@pytest.fixture(scope="module")
def timed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[demo.Held]]:
    return all_held(tmp_path_factory.mktemp("answers"), demo.TIMED_RUNS)


def all_held(folder: Path, runs: list[demo.Run]) -> dict[str, list[demo.Held]]:
    console = Console(quiet=True)
    with demo.providers(console, live=False) as ready:
        return {
            provider.title.split(":")[0]: demo.run_all(
                console, provider, open_model, preface, folder / f"{number}.db", runs=runs
            )
            for number, (provider, open_model, preface) in enumerate(ready)
        }


@pytest.mark.parametrize("provider", [row.title.split(":")[0] for row in demo.PROVIDERS])
def test_the_second_run_on_the_response_cache_makes_no_call(runs, provider):
    cold, again = runs[provider][2:]
    assert (cold.totals.calls, cold.totals.hits) == (runs[provider][0].totals.calls, 0)
    assert (again.totals.calls, again.totals.hits) == (0, cold.totals.calls)
    assert again.totals.cost == 0


@pytest.mark.parametrize("provider", [row.title.split(":")[0] for row in demo.PROVIDERS])
def test_layout_reads_more_and_costs_less_than_the_app_as_it_is(runs, provider):
    as_it_is, laid_out = runs[provider][:2]
    assert laid_out.totals.cache_read_tokens > as_it_is.totals.cache_read_tokens
    assert laid_out.totals.cost < as_it_is.totals.cost
    assert not laid_out.totals.unknown.get("cost")


@pytest.mark.parametrize("provider", ["Claude Sonnet 5", "gpt-5.6-luna"])
def test_laid_out_calls_read_all_that_the_call_before_in_their_conversation_read_and_wrote(runs, provider):
    usages = [call.usage for call in runs[provider][1].calls]
    follow_ups = [pair for pair in pairwise(usages) if pair[1].input_tokens > pair[0].input_tokens]
    assert len(follow_ups) == len(usages) - len(CONVERSATIONS)
    for before, after in follow_ups:
        assert after.cache_read_tokens == before.cache_read_tokens + before.cache_write_tokens


def test_the_fault_is_another_order_of_the_same_tools_on_every_third_request():
    tools = Shop().tools()
    orders = [[tool.name for tool in as_they_arrive(tools, number)] for number in range(1, 7)]
    assert all(sorted(order) == sorted(orders[0]) for order in orders)
    assert [order == orders[0] for order in orders] == [True, True, False, True, True, False]


@pytest.mark.parametrize("provider", [row.title.split(":")[0] for row in demo.PROVIDERS])
def test_the_time_in_the_system_text_is_reported_below_arrange_and_repaired_there(runs, timed, provider):
    laid_out = runs[provider][1].totals
    as_it_is, *below, arranged = timed[provider]
    assert not as_it_is.reported
    for one in below:
        assert [(finding.code, finding.kind) for finding in one.reported] == [("volatile_text", "timestamp")]
        assert one.reported[0].cost > 500
        assert not one.moved
        assert one.tokens.totals.cost / laid_out.cost > 1.2
    assert not arranged.reported
    assert len(arranged.moved) == arranged.tokens.totals.calls
    assert arranged.tokens.totals.cost / laid_out.cost <= 1.05


def test_the_printed_demo_says_what_was_saved(capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["support_agent"])
    monkeypatch.setenv("COLUMNS", "80")
    demo.main()
    printed = capsys.readouterr().out
    assert "…" not in printed, "a figure was cut off"
    assert printed.count("all 15 answers came from the response cache") == len(demo.PROVIDERS)
    assert printed.count("100%") == len(demo.PROVIDERS)
    assert printed.count("Reported at mark and canonical: a date with the time of day") == len(demo.PROVIDERS)
    assert printed.count("Repaired at arrange: a date with the time of day") == len(demo.PROVIDERS)


def test_live_without_a_key_says_which_to_set(capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["support_agent", "--live"])
    for row in demo.PROVIDERS:
        monkeypatch.delenv(row.key_name, raising=False)
    with pytest.raises(SystemExit) as stopped:
        demo.main()
    assert stopped.value.code == 2
    assert "ANTHROPIC_API_KEY" in capsys.readouterr().out


def test_no_answers_file_is_left_in_the_working_folder(runs):
    assert not list(Path.cwd().glob("*.db"))
