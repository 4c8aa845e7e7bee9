"""Run the support agent in several ways on three kinds of provider cache, and print what each call cost.

As it is; with prompt layout; and twice with a response cache on top, cold and again. Then with a second fault, the
time in its system text, at every level of layout. Without ``--live`` the providers are the local simulator; the
LangChain classes and the SDKs are the real ones either way.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from uuid import uuid4

from langchain_anthropic import ChatAnthropic
from langchain_core.globals import set_llm_cache
from langchain_core.language_models import BaseChatModel
from langchain_openai import ChatOpenAI
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from examples.support_agent.answers import answer
from examples.support_agent.app import CONVERSATIONS, as_they_write, serve_customers
from prefixcache_integrations.canonical import Finding, Level
from prefixcache_integrations.events import Event, PromptPlanned, VolatileFound
from prefixcache_integrations.insight.call_table import CallRecord
from prefixcache_integrations.langchain import CachedTokensHandler, PromptLayoutMiddleware, ResponseCache
from prefixcache_integrations.server import Simulator

QUESTIONS = sum(map(len, CONVERSATIONS))


@dataclass(frozen=True)
class Provider:
    """One kind of prompt cache: the model that shows it, the key that unlocks it, and how it is opened."""

    title: str
    key_name: str
    open: Callable[[str, str | None], BaseChatModel]


def _claude(key: str, base_url: str | None) -> BaseChatModel:
    return ChatAnthropic(model="claude-sonnet-5", api_key=key, base_url=base_url, max_tokens=1024)  # type: ignore[call-arg, arg-type]


def _openai(model: str) -> Callable[[str, str | None], BaseChatModel]:
    def open_model(key: str, base_url: str | None) -> BaseChatModel:
        return ChatOpenAI(model=model, api_key=key, base_url=base_url)  # type: ignore[arg-type]

    return open_model


PROVIDERS = [
    Provider("Claude Sonnet 5: entries at breakpoints, minimum 1,024 tokens", "ANTHROPIC_API_KEY", _claude),
    Provider("gpt-4o-mini: entries every 128 tokens, writes free", "OPENAI_API_KEY", _openai("gpt-4o-mini")),
    Provider("gpt-5.6-luna: entries at breakpoints, writes at 1.25", "OPENAI_API_KEY", _openai("gpt-5.6-luna")),
]


@dataclass(frozen=True)
class Run:
    """One way of running the app: how far it is laid out, and whether a response cache is set."""

    title: str
    level: Level | None = None
    cached: bool = False
    with_time: bool = False


RUNS = [
    Run("as it is"),
    Run("laid out", "canonical"),
    Run("cached, cold", "canonical", cached=True),
    Run("cached, again", "canonical", cached=True),
]
TIMED_RUNS = [
    Run("as it is", with_time=True),
    Run("mark", "mark", with_time=True),
    Run("canonical", "canonical", with_time=True),
    Run("arrange", "arrange", with_time=True),
]
"""The same with the time at the head of the system text, at every level of layout."""


@dataclass(frozen=True)
class Held:
    """What came of a run: what its calls consumed, and what was reported of its prompts."""

    tokens: CachedTokensHandler = field(default_factory=CachedTokensHandler)
    reported: list[Finding] = field(default_factory=list)
    moved: list[Finding] = field(default_factory=list)

    def hear(self, event: Event) -> None:
        """Take note of what changes inside the prompts: of a place that stays, and of values that were moved."""
        if isinstance(event, VolatileFound):
            self.reported.append(event.finding)
        elif isinstance(event, PromptPlanned):
            self.moved.extend(each for each in event.plan.findings if each.code == "volatile_moved")


INTRODUCTION = (
    f"A support agent answers {QUESTIONS} customer messages in {len(CONVERSATIONS)} conversations. It has one ordinary "
    "fault: its tools arrive in another order now and then. It runs as it is; laid out by PromptLayoutMiddleware; and "
    "twice with a ResponseCache as well, cold and again. Then a second fault is added, the time at the head of its "
    "system text, at every level of layout. A dash stands for what the provider does not report."
)


@contextmanager
def providers(console: Console, *, live: bool) -> Iterator[list[tuple[Provider, Callable[[], BaseChatModel], str]]]:
    """Yield what can be run: a provider, how to open its model for one run, and a preface for its prompts.

    Every run starts with a cold provider cache: on the simulator through a key of its own (entries are
    isolated by key), on the real provider through one line at the head of the system text.
    """
    with ExitStack() as stack:
        if live:
            ready = [row for row in PROVIDERS if os.environ.get(row.key_name)]
            if not ready:
                console.print("--live needs a key: set ANTHROPIC_API_KEY or OPENAI_API_KEY.")
                sys.exit(2)
            yield [(row, lambda row=row: row.open(os.environ[row.key_name], None), "live") for row in ready]  # type: ignore[misc]
            return
        simulator = stack.enter_context(Simulator(model=answer))
        urls = {"ANTHROPIC_API_KEY": simulator.base_url("anthropic"), "OPENAI_API_KEY": simulator.base_url("openai")}
        yield [(row, lambda row=row: row.open(f"key-{uuid4().hex}", urls[row.key_name]), "") for row in PROVIDERS]  # type: ignore[misc]


def hold_run(model: BaseChatModel, run: Run, preface: str, cache_file: Path) -> Held:
    """Serve all customers once and return what came of it."""
    held = Held()
    middleware = [PromptLayoutMiddleware(run.level, observers=[held.hear])] if run.level else []
    clock = as_they_write() if run.with_time else None
    set_llm_cache(ResponseCache.from_url(f"sqlite:///{cache_file}") if run.cached else None)
    try:
        for _ in serve_customers(model, preface=preface, middleware=middleware, callbacks=[held.tokens], clock=clock):
            pass
    finally:
        set_llm_cache(None)
    return held


def money(dollars: Decimal | None) -> str:
    """Write an amount in US cents; the unknown as a dash."""
    return "-" if dollars is None else f"{dollars * 100:.3f} ¢"


def count(tokens: int | None) -> str:
    """Write a number of tokens; the unknown as a dash."""
    return "-" if tokens is None else f"{tokens:,}"


def show_run(console: Console, title: str, handler: CachedTokensHandler) -> None:
    """Print one run: a row per call."""
    console.print(f"\n[bold]{title}[/bold]")
    if not handler.totals.calls:
        console.print(f"  no provider call: all {handler.totals.hits} answers came from the response cache")
        return
    table = Table()
    for name in ("call", "input", "read", "written", "uncached", "cost", "without cache"):
        table.add_column(name, justify="right")
    for number, call in enumerate(handler.calls, start=1):
        table.add_row(str(number), *figures(call))
    console.print(table)


def figures(call: CallRecord) -> list[str]:
    """Return the cells of one call."""
    usage = call.usage
    tokens = (usage.input_tokens, usage.cache_read_tokens, usage.cache_write_tokens, usage.uncached_tokens)
    return [*map(count, tokens), money(call.cost), money(call.uncached_cost)]


def show_totals(console: Console, title: str, runs: list[Run], held: list[Held]) -> None:
    """Print several runs of one provider: what was paid, beside the first run."""
    console.print(f"\n[bold]{title}[/bold]")
    table = Table()
    table.add_column("run")
    for name in ("calls", "hits", "input", "read", "written", "cost", "saved"):
        table.add_column(name, justify="right", no_wrap=True)
    first = held[0].tokens.totals.cost
    for run, one in zip(runs, held, strict=True):
        sums = one.tokens.totals
        known = not sums.unknown.get("cost")
        table.add_row(
            run.title,
            str(sums.calls),
            str(sums.hits),
            count(sums.input_tokens),
            count(sums.cache_read_tokens),
            count(None if sums.unknown.get("cache_write_tokens") else sums.cache_write_tokens),
            money(sums.cost if known else None),
            f"{1 - sums.cost / first:.0%}" if known and first else "-",
        )
    console.print(table)


def show_reports(console: Console, runs: list[Run], held: list[Held]) -> None:
    """Print what was reported of the time, at which levels, and what became of it."""
    levels = [run.title for run, one in zip(runs, held, strict=True) if one.reported]
    for finding in next((one.reported for one in held if one.reported), []):
        console.print(f"Reported at {' and '.join(levels)}: {finding.message}.")
        console.print(f"What to do: {'; '.join(finding.remedies)}.")
    for run, one in zip(runs, held, strict=True):
        if one.moved:
            console.print(f"Repaired at {run.title}: {one.moved[0].message}.")


def main() -> None:
    """Run everything and print it."""
    console = Console()
    live = "--live" in sys.argv[1:]
    console.print(INTRODUCTION)
    console.print("The providers are real." if live else "The providers are the local simulator; the SDKs are real.")
    with providers(console, live=live) as ready, tempfile.TemporaryDirectory() as folder:
        for number, (provider, open_model, preface) in enumerate(ready):
            cache_file = Path(folder) / f"answers-{number}.db"
            held = run_all(console, provider, open_model, preface, cache_file, runs=RUNS)
            for run, one in zip(RUNS, held, strict=True):
                show_run(console, f"{provider.title} — {run.title}", one.tokens)
            show_totals(console, f"{provider.title} — all runs", RUNS, held)
            for note in dict.fromkeys(call.note for one in held for call in one.tokens.calls if call.note):
                console.print(f"Note: {note}")
            held = run_all(console, provider, open_model, preface, cache_file, runs=TIMED_RUNS)
            show_totals(console, f"{provider.title} — with the time in the system text", TIMED_RUNS, held)
            show_reports(console, TIMED_RUNS, held)


def run_all(
    console: Console,
    provider: Provider,
    open_model: Callable[[], BaseChatModel],
    preface: str,
    cache_file: Path,
    *,
    runs: list[Run],
) -> list[Held]:
    """Hold ``runs`` on one provider, showing which one is under way."""
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task(provider.title)
        held = []
        answered = preface and f"Run {uuid4().hex[:8]}.\n\n"
        for run in runs:
            progress.update(task, description=f"{provider.title}: {run.title}")
            alone = preface and f"Run {uuid4().hex[:8]}.\n\n"
            held.append(hold_run(open_model(), run, answered if run.cached else alone, cache_file))
        return held


if __name__ == "__main__":
    main()
