"""``prefixcache replay``: what a trace would have cost under other ways of marking it, and other models."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, date, datetime
from itertools import groupby
from pathlib import Path
from typing import Annotated

import typer
from msgspec import Struct
from msgspec.structs import replace
from rich.table import Table

from prefixcache_integrations import tokens
from prefixcache_integrations.canonical import Usage
from prefixcache_integrations.cli.bodies import Format, read_trace
from prefixcache_integrations.cli.output import AsJson, answer_json, console, explained, plain, progress_bar
from prefixcache_integrations.errors import ConfigurationError
from prefixcache_integrations.insight import replay as engine
from prefixcache_integrations.insight.accounting import Totals
from prefixcache_integrations.insight.replay import STRATEGIES, Sent, Strategy
from prefixcache_integrations.insight.report_text import count, dollars, share
from prefixcache_integrations.insight.simulator_rules import Refusal
from prefixcache_integrations.prices import PriceBook
from prefixcache_integrations.profiles import resolve

_MOST_REASONS = 5


class Outcome(Struct, frozen=True, kw_only=True):
    """One strategy on one model, of all ``requests`` in its format.

    Those ``refused``, which it would answer 400, are in no sum; ``refusals`` counts them by what it would say.
    """

    model: str
    strategy: Strategy
    requests: int
    totals: Totals
    refused: int
    refusals: Mapping[str, int]


def replay(
    trace: Annotated[
        Path, typer.Argument(metavar="TRACE.jsonl", help="A recording with content, or a request body a line.")
    ],
    model: Annotated[
        list[str] | None, typer.Option(help="A model to price; may be repeated. Default: the trace's.")
    ] = None,
    *,
    wire_format: Annotated[Format, typer.Option("--format", help="The format of the bodies.")] = Format.AUTO,
    as_json: AsJson = False,
) -> None:
    """Say what a trace would have cost under each strategy and model, by simulating the provider's cache.

    Strategies: no markers (what the provider caches by itself), as recorded, system and last, and this package's
    planner. Prices are today's; output whose length the trace does not tell is left out. A model is priced for the
    requests of the trace that are in its own format.
    """
    with explained():
        sent = list(read_trace(trace, wire_format))
        if not sent:
            raise ConfigurationError(f"{trace}: no requests")
        models = model or list(dict.fromkeys(row.request.model for row in sent))
        outcomes = list(_outcomes(sent, models))
    silent = sum(row.output_tokens is None for row in sent)
    tokenizer = tokens.load()
    if as_json:
        answer_json({"requests": len(sent), "output_unknown": silent, "exact": tokenizer.exact, "outcomes": outcomes})
        return
    for _, rows in groupby(outcomes, key=lambda row: row.model):
        console.print(_table([*rows]))
    console.print("Of plain: the cost as a share of that without any caching. Green: the cheapest of a model.")
    for why, times in _refusals(outcomes):
        console.print(plain(f"Refused, up to {times:,} times: {why}"))
    if silent:
        console.print(f"Output is left out for {silent:,} of {len(sent):,} requests: the trace does not tell it.")
    if not tokenizer.exact:
        console.print(f"Tokens are estimates; {tokens.remedy()}.")


def _outcomes(sent: Sequence[Sent], models: Sequence[str]) -> Iterator[Outcome]:
    prices, today = PriceBook(), datetime.now(UTC).date()
    spoken = {model: _spoken(sent, model) for model in models}
    with progress_bar("replaying", total=len(STRATEGIES) * sum(map(len, spoken.values()))) as progress:
        done = 0
        for model in models:
            for strategy in STRATEGIES:
                usages = []
                for usage in engine.replay(spoken[model], model, resolve(model), tokens.load(), strategy):
                    usages.append(usage)
                    done += 1
                    progress(done)
                billed = [usage for usage in usages if isinstance(usage, Usage)]
                refusals = Counter(usage.message for usage in usages if isinstance(usage, Refusal))
                yield Outcome(
                    model=model,
                    strategy=strategy,
                    requests=len(usages),
                    totals=sum((_priced(usage, model, prices, today) for usage in billed), Totals()),
                    refused=refusals.total(),
                    refusals=refusals,
                )


def _spoken(sent: Sequence[Sent], model: str) -> list[Sent]:
    """Return the requests in the model's own format."""
    speaks_claude = resolve(model).provider == "anthropic"
    found = [row for row in sent if (row.request.dialect == "anthropic_messages") == speaks_claude]
    if not found:
        raise ConfigurationError(f"{model} does not speak {sent[0].request.dialect}, the format of this trace")
    return found


def _priced(usage: Usage, model: str, prices: PriceBook, today: date) -> Totals:
    told = usage if usage.output_tokens is not None else replace(usage, output_tokens=0)
    return Totals.of_call(told, prices.cost(told, model, on=today), prices.uncached_cost(told, model, on=today))


def _refusals(outcomes: Sequence[Outcome]) -> list[tuple[str, int]]:
    """Return why requests are refused, and how often at most under any strategy."""
    most: Counter[str] = Counter()
    for row in outcomes:
        most |= Counter(row.refusals)
    return most.most_common(_MOST_REASONS)


def _table(outcomes: Sequence[Outcome]) -> Table:
    """Return the strategies of one model."""
    title = f"{outcomes[0].model}, {outcomes[0].requests:,} requests"
    table = Table(title=plain(title), title_justify="left", title_style="bold", box=None, header_style="dim")
    table.add_column("strategy", no_wrap=True)
    for name in ("input", "read", "written", "cost", "of plain", "refused"):
        table.add_column(name, justify="right", no_wrap=True)
    cheapest = min((row.totals.cost for row in outcomes if not row.refused), default=None)
    for row in outcomes:
        totals = row.totals
        unpriced = totals.unknown.get("cost", 0)
        ratio = None if unpriced or not totals.uncached_cost else float(totals.cost / totals.uncached_cost)
        table.add_row(
            row.strategy,
            count(totals.input_tokens),
            share(totals.read_share),
            count(totals.cache_write_tokens),
            dollars(None if unpriced else totals.cost),
            share(ratio),
            str(row.refused or ""),
            style="green" if not row.refused and not unpriced and totals.cost == cheapest else None,
        )
    return table
