"""The order in which documents came, said in a line at the end of a prompt that has them in another one."""

from __future__ import annotations

import re
from collections.abc import Iterator

from prefixcache_integrations.canonical import Part, Request
from prefixcache_integrations.prompt.content import looks_like_document

_LINE = "[ranking] Documents for this question, the most relevant first, counted from the top: {}."
_RANKING = re.compile(r"(?:.*\n)?" + re.escape(_LINE).replace(r"\{\}", r"\d+(?:, \d+)+"), re.DOTALL)


def ends_in_ranking(text: str) -> bool:
    """Tell whether the last line of ``text`` is a `ranking`."""
    return _RANKING.fullmatch(text) is not None


def is_ranking(text: str) -> bool:
    """Tell whether ``text`` is a `ranking` and nothing else."""
    return "\n" not in text and ends_in_ranking(text)


def ranking(before: Request, after: Request, message: int) -> str | None:
    """Return the line about documents that came with ``message`` of ``before``, and stand as they do in ``after``.

    They are counted among all documents of the user's messages. ``None`` where the order is the same. Both requests
    share their blocks.
    """
    places = {id(part): number for number, (_, part) in enumerate(_documents(after), start=1)}
    ranked = [places[id(part)] for index, part in _documents(before) if index == message]
    return None if ranked == sorted(ranked) else _LINE.format(", ".join(map(str, ranked)))


def _documents(request: Request) -> Iterator[tuple[int, Part]]:
    for index, message in enumerate(request.messages):
        if message.role == "user":
            yield from ((index, part) for part in message.parts if looks_like_document(part))
