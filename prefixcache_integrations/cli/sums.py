"""What processes have added up together in a server, as a table."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from rich.table import Table

from prefixcache_integrations.cli.output import console, plain
from prefixcache_integrations.insight.accounting import Totals
from prefixcache_integrations.insight.latency import Latency
from prefixcache_integrations.insight.ledger import Account
from prefixcache_integrations.insight.report_text import count, dollars, duration, share

if TYPE_CHECKING:
    from prefixcache_integrations.stores.shared_sums import SharedBook

_HEADS = ("calls", "hits", "input", "read", "output", "cost", "uncached", "lost")


def read_book(url: str, book: str) -> SharedBook | None:
    """Return what was added to ``book``, ``None`` if nothing is there."""
    from prefixcache_integrations.stores.shared_sums import read_sums

    found = read_sums(url, book=book)
    return found if found.windows else None


def print_book(book: SharedBook) -> None:
    """Print a row per model, app and namespace, and the sum since the first window."""
    table = Table("", "name", box=None, header_style="bold")
    for head in _HEADS:
        table.add_column(head, justify="right")
    for dimension, named in book.sums.by.items():
        for name, account in sorted(named.items(), key=lambda row: row[1].totals.cost, reverse=True):
            table.add_row(dimension, plain(name or "(others)"), *_cells(account.totals))
    table.add_row("all", "", *_cells(book.sums.totals))
    console.print()
    console.print(table)
    if rows := [*_latencies(book.sums.account)]:
        console.print()
        console.print(_latency_table(rows))
    since = datetime.fromtimestamp(book.windows[0].start, UTC)
    console.print(f"since {since:%Y-%m-%d %H:%M} UTC, in {len(book.windows):,} windows", markup=False)


def _latencies(account: Account) -> Iterator[tuple[str, Latency]]:
    whole = (("answers from the cache", account.hit_latency), ("calls", account.call_latency))
    yield from ((name, latency) for name, latency in whole if latency is not None)
    for read, latency in account.first_token.items():
        yield f"first token, {read} read", latency


def _latency_table(rows: Sequence[tuple[str, Latency]]) -> Table:
    table = Table("latency", box=None, header_style="bold")
    for head in ("count", "average", "p50", "p99"):
        table.add_column(head, justify="right")
    for name, latency in rows:
        times = map(duration, (latency.mean, latency.p50, latency.p99))
        table.add_row(name, count(latency.count), *times)
    return table


def _cells(totals: Totals) -> tuple[str, ...]:
    return (
        count(totals.calls),
        count(totals.hits + totals.joined),
        count(totals.input_tokens),
        share(totals.read_share),
        count(totals.output_tokens),
        dollars(totals.cost),
        dollars(totals.uncached_cost),
        count(totals.lost_tokens),
    )
