"""``prefixcache report``: a recorded run as an HTML file, in the terminal, or as JSON."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, BinaryIO

import typer
from rich.table import Table
from rich.text import Text

from prefixcache_integrations.cli.output import AsJson, answer_json, console, explained, plain, progress_bar
from prefixcache_integrations.errors import MalformedRecording
from prefixcache_integrations.insight import recording
from prefixcache_integrations.insight.recording import RecordedCall
from prefixcache_integrations.insight.report import Report, Row, State, Talk
from prefixcache_integrations.insight.report import report as summarise
from prefixcache_integrations.insight.report_changes import rewrite_lines
from prefixcache_integrations.insight.report_html import render
from prefixcache_integrations.insight.report_text import (
    break_line,
    count,
    dollars,
    moment,
    outcome_line,
    share,
)

_BAR = 40
_LOOKS: dict[State, tuple[str, str]] = {
    "read": ("█", "green"),
    "written": ("▓", "yellow"),
    "uncached": ("▒", "bright_black"),
    "unknown": ("░", "bright_black"),
}


def report(
    run: Annotated[Path, typer.Argument(metavar="RUN.jsonl", help="What a handler recorded (record=…).")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write one HTML file, which needs no network.")
    ] = None,
    title: Annotated[str, typer.Option(help="The title of the HTML file.")] = "Prompt caching report",
    *,
    most: Annotated[int, typer.Option("--most", min=0, help="How many calls the terminal shows; the latest.")] = 50,
    as_json: AsJson = False,
) -> None:
    """Show what a run read from the provider's cache, what it cost, and where prefixes broke. No text is shown."""
    with explained():
        found = _summary(run)
        if output is not None:
            output.write_text(render(found, title), encoding="utf-8")
    if as_json:
        answer_json(_facts(found, output))
    elif output is not None:
        console.print(f"{output}: {count(found.totals.calls)} calls, {dollars(found.totals.cost)}", markup=False)
    else:
        _show(found, most)


def _summary(run: Path) -> Report:
    try:
        return summarise(_read(run))
    except MalformedRecording as error:
        raise MalformedRecording(f"{run}: {error}") from error


def _read(path: Path) -> Iterator[RecordedCall]:
    with path.open("rb") as file, progress_bar(f"reading {path.name}", total=path.stat().st_size) as progress:
        yield from recording.read(_counted(file, progress))


def _counted(file: BinaryIO, progress: Callable[[int], object]) -> Iterator[bytes]:
    done = 0
    for line in file:
        done += len(line)
        progress(done)
        yield line


def _facts(found: Report, output: Path | None) -> dict[str, object]:
    totals = found.totals
    return {
        "totals": totals,
        "read_share": totals.read_share,
        "perfect_cost": totals.perfect_cost,
        "abandoned": found.abandoned,
        "conversations": len(found.talks),
        "models": dict(found.models),
        "losses": found.losses,
        "changes": found.changes,
        "output": None if output is None else str(output),
    }


def _show(found: Report, most: int) -> None:
    console.print(_totals(found))
    if found.losses:
        console.print(_losses(found))
    if found.changes:
        console.print(_changes(found))
    chosen: list[tuple[Talk, tuple[Row, ...]]] = []
    left = most
    for talk in reversed(found.talks):
        rows = talk.rows[-left:] if left else ()
        left -= len(rows)
        chosen.append((talk, rows))
    for talk, rows in reversed(chosen):
        if rows:
            _show_talk(talk, rows)
    total = sum(len(talk.rows) for talk in found.talks)
    if most - left:
        console.print(_legend())
    if most - left < total:
        console.print(f"The latest {most - left:,} of {total:,} calls; --most shows more, -o writes all to a file.")


def _legend() -> Text:
    legend = Text("\n")
    for state, (character, style) in _LOOKS.items():
        legend.append(character * 2, style).append(f" {state}  ")
    return legend


def _totals(found: Report) -> Table:
    totals = found.totals
    prefixes = "1 broken prefix" if totals.breaks == 1 else f"{count(totals.breaks)} broken prefixes"
    rows = (
        ("calls", f"{count(totals.calls)}, {count(totals.hits)} answers from a cache"),
        ("read", f"{share(totals.read_share)} of {count(totals.input_tokens)} input tokens"),
        ("spent", f"{dollars(totals.cost)}, without caching {dollars(totals.uncached_cost)}"),
        (
            "lost",
            f"{dollars(totals.lost_cost)} by {prefixes}",
        ),
        (
            "unknown",
            f"{count(totals.unknown.get('cost', 0))} calls without a price, {count(found.abandoned)} abandoned",
        ),
        ("failed", count(totals.failed)),
    )
    table = Table(box=None, show_header=False)
    for row in rows:
        table.add_row(*row)
    return table


def _losses(found: Report) -> Table:
    table = Table("lost by", box=None, header_style="bold")
    for name in ("breaks", "tokens", "price"):
        table.add_column(name, justify="right")
    table.add_column("what to change")
    for loss in found.losses:
        reason = loss.reason.replace("_", " ")
        table.add_row(reason, count(loss.count), count(loss.tokens), dollars(loss.cost), plain(loss.remedy or ""))
    return table


def _changes(found: Report) -> Table:
    table = Table("changed", box=None, header_style="bold")
    for name in ("calls", "not read", "uncached tokens"):
        table.add_column(name, justify="right")
    table.add_column("what to do instead")
    for change in found.changes:
        figures = map(count, (change.count, change.tokens, change.cost))
        table.add_row(plain(change.what), *figures, plain(change.remedy or ""))
    return table


def _show_talk(talk: Talk, rows: tuple[Row, ...]) -> None:
    console.print()
    console.print(plain(talk.name or "without a conversation"), style="bold")
    for row in rows:
        line = Text(f"{row.number:>4} {moment(row.call.at)} ")
        line.append_text(_bar(row, talk.longest))
        line.append(f" {count(row.tokens):>8} {dollars(row.call.cost):>10}")
        console.print(line)
        differs = row.call.broken.disagreement if row.call.broken else None
        changed = ((line, "yellow") for line in rewrite_lines(row.call))
        faint = ((differs, "bright_black"), (outcome_line(row.call), "bright_black"))
        for note, style in ((break_line(row.call), "red"), *changed, *faint):
            if note:
                console.print(Text(" " * 14).append_text(plain(note)), style=style)


def _bar(row: Row, longest: int) -> Text:
    """Return the prompt as blocks, each of the same number of tokens, padded to the longest prompt's length."""
    step = longest / _BAR or 1.0
    bar, at, drawn = Text(), 0.0, 0
    for piece in row.pieces:
        at += piece.tokens
        blocks = round(at / step) - drawn
        drawn += blocks
        character, style = _LOOKS[piece.state]
        bar.append(character * blocks, style)
    return bar.append(" " * (_BAR - drawn))
