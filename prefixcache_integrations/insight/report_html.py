"""A report as one HTML file that needs nothing else: no network, no fonts, no libraries."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from decimal import Decimal
from html import escape

from prefixcache_integrations.insight.accounting import Totals
from prefixcache_integrations.insight.report import Piece, Report, Row, Slice, Talk
from prefixcache_integrations.insight.report_changes import other_lines, rewrite_lines
from prefixcache_integrations.insight.report_chart import Line, chart
from prefixcache_integrations.insight.report_page import page
from prefixcache_integrations.insight.report_text import (
    break_line,
    count,
    dollars,
    duration,
    moment,
    outcome_line,
    share,
)

OPEN_ROWS = 200
"""How many calls are shown at once; the conversations after them are folded up."""

_LETTER = 0.013
"""How much of the longest bar a letter takes: a part carries its name only where it fits."""


def render(report: Report, title: str = "Prompt caching report") -> str:
    """Return ``report`` as HTML. Of the calls it shows sizes, names and prices, never text."""
    safe = escape(title)
    body = "\n".join((f"<h1>{safe}</h1>", _period(report), *_sections(report)))
    return page(safe, body)


def _sections(report: Report) -> Iterator[str]:
    yield _cards(report)
    if report.slices:
        yield f'<div class="charts">{_read_chart(report)}{_cost_chart(report.slices)}</div>'
    if report.losses:
        yield f"<h2>What was lost, and why</h2>{_losses(report)}"
    if report.changes:
        yield f"<h2>What changed in cached prompts</h2>{_changes(report)}"
    if report.models:
        yield f"<h2>Models</h2>{_models(report)}"
    yield f"<h2>Conversations</h2>{_KEYS}"
    shown = 0
    for talk in report.talks:
        yield _talk(talk, is_open=shown < OPEN_ROWS)
        shown += len(talk.rows)


def _period(report: Report) -> str:
    if not report.slices:
        return '<p class="soft">Nothing was recorded.</p>'
    since, until = report.slices[0].start, report.slices[-1].start + report.slice_seconds
    return f'<p class="soft">{moment(since, date=True)} to {moment(until, date=True)} UTC</p>'


def _cards(report: Report) -> str:
    totals = report.totals
    unknown = totals.unknown.get("cost", 0)
    cards = [
        (count(totals.calls), "calls to providers"),
        (count(totals.hits), "answers from a cache"),
        (share(totals.read_share), "of input tokens read from the cache"),
        (count(totals.input_tokens), "input tokens"),
        (dollars(totals.cost), "spent" + (f", {unknown:,} calls of unknown price" if unknown else "")),
        (dollars(totals.uncached_cost), "without any caching"),
        (dollars(totals.savings), "saved"),
        (dollars(totals.perfect_cost), f"with no prefix broken; {totals.breaks:,} were"),
    ]
    cards += [
        (count(number), name) for number, name in ((totals.failed, "failed"), (report.abandoned, "abandoned")) if number
    ]
    return f'<div class="cards">{"".join(map(_card, cards))}</div>'


def _card(card: tuple[str, str]) -> str:
    return f'<div class="card"><b>{escape(card[0])}</b><span>{escape(card[1])}</span></div>'


def _read_chart(report: Report) -> str:
    middle = report.slice_seconds / 2
    shares = [(row.start + middle, row.totals.read_share) for row in report.slices]
    points = [(at, value) for at, value in shares if value is not None]
    line = Line(name="read from the cache", css="read", points=points)
    return chart("Input tokens read from the cache", [line], top=1, label=lambda value: f"{value:.0%}")


def _cost_chart(slices: Sequence[Slice]) -> str:
    lines = [
        Line(name="without caching", css="uncached", points=_running(slices, "uncached_cost")),
        Line(name="spent", css="written", points=_running(slices, "cost")),
        Line(name="no prefix broken", css="read", points=_running(slices, "perfect_cost")),
    ]
    top = max(value for line in lines for _, value in line.points)
    return chart("Cost, added up", lines, top=top, label=lambda value: dollars(Decimal(repr(value))))


def _running(slices: Sequence[Slice], name: str) -> list[tuple[float, float]]:
    total = Decimal(0)
    points = []
    for row in slices:
        total += getattr(row.totals, name)
        points.append((row.start, float(total)))
    return points


def _losses(report: Report) -> str:
    rows = (
        f'<tr><td>{escape(loss.reason.replace("_", " "))}</td><td class="n">{count(loss.count)}</td>'
        f'<td class="n">{count(loss.tokens)}</td><td class="n">{dollars(loss.cost)}</td>'
        f"<td>{escape(loss.remedy or '')}</td></tr>"
        for loss in report.losses
    )
    return _table(("Reason", "#Breaks", "#Tokens", "#Price", "What to change"), "".join(rows))


def _changes(report: Report) -> str:
    rows = (
        f'<tr><td>{escape(change.what)}</td><td class="n">{count(change.count)}</td>'
        f'<td class="n">{count(change.tokens)}</td><td class="n">{count(change.cost)}</td>'
        f"<td>{escape(change.remedy or '')}</td></tr>"
        for change in report.changes
    )
    heads = ("Change", "#Calls", "#Tokens not read again", "#Price in uncached tokens", "What to do instead")
    return _table(heads, "".join(rows))


def _models(report: Report) -> str:
    rows = (
        f'<tr><td>{escape(name)}</td><td class="n">{count(totals.calls)}</td>'
        f'<td class="n">{count(totals.input_tokens)}</td><td class="n">{share(totals.read_share)}</td>'
        f'<td class="n">{count(totals.cache_write_tokens)}</td><td class="n">{count(totals.output_tokens)}</td>'
        f'<td class="n">{dollars(totals.cost)}</td><td class="n">{dollars(totals.uncached_cost)}</td></tr>'
        for name, totals in report.models
    )
    heads = ("Model", "#Calls", "#Input", "#Read", "#Written", "#Output", "#Spent", "#Without caching")
    return _table(heads, "".join(rows))


def _table(heads: Sequence[str], rows: str) -> str:
    """Return a table; a ``#`` before a head puts its column to the right."""
    cells = "".join(
        f'<th scope="col"{" class=n" if head.startswith("#") else ""}>{head.removeprefix("#")}</th>' for head in heads
    )
    table = f"<table><thead><tr>{cells}</tr></thead><tbody>{rows}</tbody></table>"
    return f'<div class="wide" tabindex="0">{table}</div>'


_KEYS = (
    '<p class="soft">Each bar is a prompt, in tokens, as the provider reads it.'
    '<span class="key read">read</span><span class="key written">written</span>'
    '<span class="key uncached">uncached</span><span class="key unknown">unknown</span>'
    '<span class="key mark">breakpoint</span></p>'
    '<p class="soft"><kbd>j</kbd> <kbd>k</kbd> next and previous call · <kbd>n</kbd> <kbd>p</kbd> next and previous '
    "break · <kbd>e</kbd> open or close all</p>"
)


def _talk(talk: Talk, *, is_open: bool) -> str:
    rows = "".join(_row(row, talk.longest) for row in talk.rows)
    return f"<details{' open' if is_open else ''}><summary>{_talk_head(talk)}</summary><ol>{rows}</ol></details>"


def _talk_head(talk: Talk) -> str:
    totals: Totals = talk.totals
    breaks = f' · <span class="alarm">{totals.breaks:,} broken</span>' if totals.breaks else ""
    calls = "1 call" if len(talk.rows) == 1 else f"{len(talk.rows):,} calls"
    return (
        f"<b>{escape(talk.name or 'without a conversation')}</b><span class=soft>{calls} · "
        f"{share(totals.read_share)} read · {dollars(totals.cost)}</span>{breaks}"
    )


def _row(row: Row, longest: int) -> str:
    call = row.call
    notes = "".join(
        f'<div class="note{css}">{escape(text)}</div>'
        for text, css in (
            (break_line(call), " alarm"),
            (call.broken.disagreement if call.broken else None, " soft"),
            (outcome_line(call), " soft"),
            *((line, "") for line in rewrite_lines(call)),
            *((line, " soft") for line in other_lines(call)),
        )
        if text
    )
    return (
        f"<li tabindex=-1{' class=broken' if call.broken else ''}><span class=soft>{row.number}</span>"
        f"<span class=soft>{moment(call.at)}</span>{_bar(row, longest)}<span class=n>{_numbers(row)}</span>{notes}</li>"
    )


def _numbers(row: Row) -> str:
    usage = row.call.usage
    read = None
    if usage.input_tokens and usage.cache_read_tokens is not None:
        read = usage.cache_read_tokens / usage.input_tokens
    return f"{count(row.tokens)} · {share(read)} read · {dollars(row.call.cost)} · {duration(row.call.seconds)}"


def _bar(row: Row, longest: int) -> str:
    width = 100 * row.tokens / longest if longest else 0
    pieces = "".join(_piece(piece, longest) for piece in row.pieces)
    marks = "".join(f'<s style="left:{100 * at / row.tokens:.2f}%"></s>' for at in row.marks if row.tokens)
    return (
        f'<div class="bar-cell"><div class="bar" role="img" aria-label="{escape(_spoken(row))}" '
        f'style="width:{width:.2f}%">{pieces}{marks}</div></div>'
    )


def _piece(piece: Piece, longest: int) -> str:
    name = piece.group or "prompt"
    label = name if piece.tokens >= _LETTER * len(name) * longest else ""
    return (
        f'<i class="{piece.state}" style="flex:{piece.tokens:.0f}" '
        f'title="{name}: {count(piece.tokens)} tokens {piece.state}">{label}</i>'
    )


def _spoken(row: Row) -> str:
    parts = ", ".join(f"{piece.group or 'prompt'} {count(piece.tokens)} {piece.state}" for piece in row.pieces)
    return f"{row.call.model or 'unknown model'}, {count(row.tokens)} tokens: {parts}; {len(row.marks)} breakpoints"
