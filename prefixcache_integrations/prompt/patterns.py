"""Text that looks as if it changes from call to call: clock readings, dates, ids, counters, object addresses."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from hashlib import blake2b
from typing import TypeAlias

from msgspec import Struct
from msgspec.structs import replace

from prefixcache_integrations.canonical.plan import VolatileKind

_MONTH = (
    r"(?:Jan(?:uary)?|Feb(?:ruary)?|Mar(?:ch)?|Apr(?:il)?|May|June?|July?"
    r"|Aug(?:ust)?|Sep(?:t(?:ember)?)?|Oct(?:ober)?|Nov(?:ember)?|Dec(?:ember)?)\.?"
)
_WEEKDAY = r"(?:(?:Mon|Tues?|Wed(?:nes)?|Thu(?:rs)?|Fri|Sat(?:ur)?|Sun)(?:day)?,?\s+)?"
_DAY = r"(?:0?[1-9]|[12]\d|3[01])"
_ORDINAL = rf"{_DAY}(?:st|nd|rd|th)?"
_YEAR = r"(?:19|20)\d\d"
_DATE = (
    rf"{_WEEKDAY}(?:{_YEAR}-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12]\d|3[01])"
    rf"|{_YEAR}/(?:0?[1-9]|1[0-2])/{_DAY}"
    rf"|(?:{_DAY}[./](?:0?[1-9]|1[0-2])|(?:0?[1-9]|1[0-2])/{_DAY})[./]{_YEAR}"
    rf"|{_MONTH}\s+{_ORDINAL},?\s+{_YEAR}|{_ORDINAL}\s+{_MONTH},?\s+{_YEAR})(?!\d|[-./]\d)"
)
_ZONE = r"(?:\s?(?:Z|UTC|GMT|CES?T|[ECMP][SD]T)\b)?(?:\s?[+-]\d\d:?\d\d)?"
_CLOCK = (
    r"(?:[01]?\d|2[0-3]):(?P<{0}m>[0-5]\d)(?::(?P<{0}s>[0-5]\d|60)(?:[.,]\d{{1,9}})?)?"
    r"(?:\s?(?:[AaPp][Mm]\b|[AaPp]\.[Mm]\.))?"
)
_SPOKEN_NOW = (
    r"(?:\b(?:now|today|tonight|current(?:ly)?|as of|present)\b"
    r"|\b(?:date|time|timestamp|datetime)(?:\s+is\b|\s*[:=]))"
)
_WITHIN = r"[^\n\d]{0,24}?"
_ID_NAMES = (
    r"\b(?:request|session|trace|span|run|thread|conversation|correlation|message|invocation"
    r"|user|customer|account|tenant)"
)

_TIMESTAMP = (
    rf"{_DATE}(?:[T\s]|,\s|\s+at\s+|\s-\s){_CLOCK.format('a')}{_ZONE}"
    rf"|{_WEEKDAY}{_MONTH}\s+{_DAY}\s+{_CLOCK.format('b')}{_ZONE}\s+{_YEAR}"
)

_PATTERNS: Mapping[VolatileKind, str] = {
    "timestamp": (
        rf"(?:(?P<now>(?i:{_SPOKEN_NOW}){_WITHIN}|(?i:\bit(?:'s|\sis)\s)|\A[^\w\n]{{0,4}}))?"
        rf"(?<![\w.-])(?P<timestamp>{_TIMESTAMP})"
    ),
    "date": rf"(?i:{_SPOKEN_NOW}){_WITHIN}(?<![\w.-])(?P<date>{_DATE})",
    "time": rf"(?i:{_SPOKEN_NOW}){_WITHIN}(?<![\w.:-])(?P<time>{_CLOCK.format('c')}{_ZONE})(?![\d:])",
    "epoch": (
        rf"(?:(?P<now>(?i:{_SPOKEN_NOW}))|(?i:\b(?:epoch|unix|ts)\b)){_WITHIN}"
        r"(?<![\w.-])(?P<epoch>1[5-9]\d{8}(?:\d{3}|\.\d{1,9})?)(?![\w-])"
    ),
    "uuid": r"(?<![\w-])[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}(?![\w-])",
    "address": r"(?<=[\w>] )at 0x[0-9a-fA-F]{6,16}(?=>|, file )",
    "id": (
        rf"(?i:{_ID_NAMES}[ _-]?id(?:\s+is\b|\s*[:=])\s*[\"'`]?)(?P<id>(?=[\w-]*\d)[\w-]{{4,64}})"
        r"|(?<![\w/-])(?P<hex>(?=[0-9a-f]*[a-f])(?=[0-9a-f]*\d)[0-9a-f]{24,64})(?![\w-])"
    ),
    "counter": (
        r"(?i:\b(?:request|turn|attempt|iteration|message|call|run)\s*(?:#|number|no\.|count(?:er)?)\s*[:=]?\s*)"
        r"(?P<counter>\d{1,9})(?!\w|\.\d)"
    ),
}

_VALUE_GROUPS = ("timestamp", "date", "time", "epoch", "id", "hex", "counter")
"""What is the value, where a pattern also takes in the words that give it away."""

_COMPILED = {kind: re.compile(pattern) for kind, pattern in _PATTERNS.items()}

_DIGITS = re.compile(r"\d+")

_NEAR = 80
"""How many characters around a digit are looked at: what has none is passed over."""


class Pattern(Struct, frozen=True, order=True):
    """A place in a text: ``start`` and ``end`` in characters.

    ``certain``: nothing but a clock or a running program writes this; it is taken to change without having been seen
    to. A time on the full hour is not, as people write those, and neither is one that is not said to be the present
    one, nor stands first of all: it may be an example.
    """

    start: int
    end: int
    kind: VolatileKind
    certain: bool = False


def patterns(text: str, digest: bytes | None = None) -> tuple[Pattern, ...]:
    """Return what in ``text`` looks as if it changes, in order and without overlaps; ``digest`` is its, if known.

    Years and dates in prose, version numbers, opening hours and numbered steps do not: dates and times of day count
    where the words before say that they are the present ones, numbers where they are said to be ids or counts.
    """
    return _once(text, _in_stretches, digest)


def _in_stretches(text: str) -> Iterator[Pattern]:
    for start, end in _stretches(text):
        for each in _once(text[start:end], _in_one):
            yield replace(each, start=start + each.start, end=start + each.end)


def _stretches(text: str) -> Iterator[tuple[int, int]]:
    """Yield the stretches of ``text`` that are near a digit: of one line each, with the line's break before it."""
    start, end = 0, 0
    for match in _DIGITS.finditer(text):
        near = max(match.start() - _NEAR, text.rfind("\n", end, match.start()), 0)
        if end and near >= end:
            yield start, end
        if near >= end:
            start = near
        if match.end() > end:
            end = match.end() + _NEAR
            line = text.find("\n", match.end(), end)
            end = min(end, len(text)) if line < 0 else line
    if end:
        yield start, end


def _in_one(stretch: str) -> Iterator[Pattern]:
    matches = ((kind, match) for kind, expression in _COMPILED.items() for match in expression.finditer(stretch))
    rows = (_pattern(match, kind) for kind, match in matches)
    yield from _apart(sorted(rows, key=lambda each: (each.start, -each.end)))


def text_digest(text: str) -> bytes:
    """Return by what a text is known. Instructions are the same in most calls, and their hash is at hand."""
    number = hash(text)
    found = _digests.get(number)
    if found is None:
        if len(_digests) >= _MOST_KNOWN:
            _digests.clear()
        found = _digests[number] = blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()
    return found


_Find: TypeAlias = Callable[[str], Iterable[Pattern]]
_known: dict[tuple[_Find, bytes], tuple[Pattern, ...]] = {}
_digests: dict[int, bytes] = {}
_MOST_KNOWN = 4096


def _once(text: str, find: _Find, digest: bytes | None = None) -> tuple[Pattern, ...]:
    """Return what ``find`` finds in a text or stretch; most requests have it in common, by its digest, with others."""
    key = (find, digest or text_digest(text))
    found = _known.get(key)
    if found is None:
        if len(_known) >= _MOST_KNOWN:
            _known.clear()
        found = _known[key] = tuple(find(text))
    return found


def _pattern(match: re.Match[str], kind: VolatileKind) -> Pattern:
    groups = match.groupdict()
    name = next((name for name in _VALUE_GROUPS if groups.get(name) is not None), 0)
    start, end = match.span(name)
    return Pattern(start, end, kind, _is_certain(kind, groups))


def _is_certain(kind: VolatileKind, groups: Mapping[str, str | None]) -> bool:
    if kind == "address":
        return True
    if kind in {"timestamp", "epoch"} and groups["now"] is None:
        return False
    if kind == "epoch":
        return True
    minutes = next((groups[name] for name in ("am", "bm", "cm") if groups.get(name)), "00")
    seconds = next((groups[name] for name in ("as", "bs", "cs") if groups.get(name)), "00")
    return (minutes, seconds) != ("00", "00")


def _apart(found: list[Pattern]) -> Iterator[Pattern]:
    end = 0
    for each in found:
        if each.start >= end:
            yield each
            end = each.end
