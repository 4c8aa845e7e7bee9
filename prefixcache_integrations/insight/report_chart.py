"""Lines over time as SVG, drawn with the colours of the page around them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from html import escape

from msgspec import Struct

from prefixcache_integrations.insight.report_text import moment

_WIDTH, _HEIGHT = 560, 180
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 12, 12, 24


class Line(Struct, frozen=True, kw_only=True):
    """One line; ``css`` is the class that colours it, ``points`` are (seconds since the epoch, value)."""

    name: str
    css: str
    points: Sequence[tuple[float, float]]


def chart(title: str, lines: Sequence[Line], *, top: float, label: Callable[[float], str]) -> str:
    """Draw ``lines`` between 0 and ``top``; ``label`` writes a value of the vertical axis."""
    moments = [at for line in lines for at, _ in line.points]
    first, last = min(moments, default=0.0), max(moments, default=0.0)
    top = top or 1.0

    def place(at: float, value: float) -> tuple[float, float]:
        along = (at - first) / (last - first) if last > first else 0.5
        x = _LEFT + along * (_WIDTH - _LEFT - _RIGHT)
        return x, _HEIGHT - _BOTTOM - value / top * (_HEIGHT - _TOP - _BOTTOM)

    return "".join(
        (
            f"<figure><figcaption>{escape(title)}{_legend(lines)}</figcaption>",
            f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escape(_described(title, lines, label))}">',
            *(_gridline(place(first, step * top / 4)[1], label(step * top / 4)) for step in range(5)),
            *(_moment(at, anchor) for at, anchor in ((first, "start"), (last, "end")) if moments),
            *(_path(line, [place(*point) for point in line.points]) for line in lines),
            "</svg></figure>",
        )
    )


def _legend(lines: Sequence[Line]) -> str:
    return "".join(f'<span class="key {line.css}">{escape(line.name)}</span>' for line in lines)


def _described(title: str, lines: Sequence[Line], label: Callable[[float], str]) -> str:
    ends = (f"{line.name}: {label(line.points[-1][1])} at the end" for line in lines if line.points)
    return f"{title}. {'; '.join(ends)}"


def _gridline(y: float, text: str) -> str:
    return (
        f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
        f'<text x="{_LEFT - 6}" y="{y + 3.5:.1f}" text-anchor="end">{escape(text)}</text>'
    )


def _moment(at: float, anchor: str) -> str:
    x = _LEFT if anchor == "start" else _WIDTH - _RIGHT
    return f'<text x="{x}" y="{_HEIGHT - 6}" text-anchor="{anchor}">{moment(at, date=True)}</text>'


def _path(line: Line, points: Sequence[tuple[float, float]]) -> str:
    if len(points) == 1:
        return f'<circle class="{line.css}" cx="{points[0][0]:.1f}" cy="{points[0][1]:.1f}" r="3"/>'
    drawn = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    return f'<polyline class="{line.css}" points="{drawn}"/>'
