"""The model behind the simulator: a function from request to reply, so that every answer is known beforehand."""

from __future__ import annotations

import json as json_text
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeAlias

from msgspec import Struct

from prefixcache_integrations.canonical import Request


class ToolUse(Struct, frozen=True):
    """One tool the model calls, with its arguments."""

    name: str
    arguments: Mapping[str, object]


class Reply(Struct, frozen=True, kw_only=True):
    """What the model answers: text, tool calls (several are parallel calls), or both.

    ``json`` is an object to answer with as JSON text; it takes the place of ``text``.
    """

    text: str = ""
    tool_calls: Sequence[ToolUse] = ()
    json: Mapping[str, object] | None = None

    @property
    def written(self) -> str:
        """The text as the model writes it."""
        return self.text if self.json is None else json_text.dumps(self.json, ensure_ascii=False)


Model: TypeAlias = Callable[[Request], Reply]
"""Answers a request. It is called from several threads at once, and may block: the response begins when it returns."""


def echo(request: Request) -> Reply:
    """Repeat the last text of the request: the same prompt always gets the same answer."""
    texts = [part.text for message in request.messages for part in message.parts if part.text]
    return Reply(text=texts[-1] if texts else "(nothing was said)")


def script(replies: Iterable[Reply]) -> Model:
    """Return a model that gives ``replies`` in order, whoever asks; raises `LookupError` once they are used up."""
    left = list(replies)
    total = len(left)
    lock = threading.Lock()

    def model(_: Request) -> Reply:
        with lock:
            if not left:
                raise LookupError(f"the script has only {total} replies")
            return left.pop(0)

    return model
