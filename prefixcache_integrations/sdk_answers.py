"""What the answers to the SDKs' clients say of the tokens they took, for those who cannot see the answers."""

from __future__ import annotations

import inspect
from collections.abc import AsyncGenerator, Callable, Generator, Iterator
from contextlib import aclosing, closing, contextmanager
from contextvars import ContextVar
from copy import copy
from typing import Any, TypeAlias

from msgspec.structs import replace

from prefixcache_integrations import dialects
from prefixcache_integrations.canonical import DialectName, Usage
from prefixcache_integrations.canonical.json import as_object, as_text

Listener: TypeAlias = Callable[[Usage, str | None], None]
"""Is told the usage of an answer, and the model that gave it."""

_listener: ContextVar[Listener | None] = ContextVar("prefixcache_answers_listener", default=None)


@contextmanager
def listening(listener: Listener) -> Iterator[None]:
    """Tell ``listener`` of every whole answer that a laid-out client gets in this context; streams are not told."""
    token = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(token)


def tell_answer(dialect: DialectName, read: Callable[[], object]) -> None:
    """Tell who listens; ``read`` returns the body of the answer, or at least the fields about its usage."""
    listener = _listener.get()
    if listener is None:
        return
    try:
        body = as_object(read()) or {}
    except ValueError:  # no JSON: the SDK says so to the caller
        return
    usage = dialects.by_name(dialect).decode_usage(as_object(body.get("usage")) or {})
    tier = usage.service_tier or as_text(body.get("service_tier"))
    listener(replace(usage, service_tier=tier), as_text(body.get("model")))


def free(stream: Any) -> None:  # noqa: ANN401 - a stream of these SDKs
    """Let ``stream``, which nobody has read of yet, be closed as soon as nobody holds it any longer.

    The SDKs' streams hold an iterator that holds them, so that one that is left is closed when memory is collected.
    That may be in the middle of handing out a connection, for whose lock closing then waits, forever.
    """
    if hasattr(stream, "_iterator") and hasattr(stream, "__stream__"):
        source = copy(stream)
        source._iterator = None  # noqa: SLF001 - where they keep it
        stream._iterator = source.__stream__()  # noqa: SLF001


def complete(stream: Any) -> None:  # noqa: ANN401 - a stream of Anthropic's SDK
    """Let the last event of ``stream`` also have the counts that only the first one told, and `free` it.

    The first event of a Claude stream has the input, the reads and the writes by lifetime, the last one the output;
    what the last one repeats of the first varies from server to server, and the lifetimes are never in it.
    """
    free(stream)
    # A subclass would be no instance of the SDK's class, which looks at nothing but exact classes.
    events: Any = getattr(stream, "_iterator", None)
    if events is not None:
        completed: Callable[[Any], object] = _acompleted if inspect.isasyncgen(events) else _completed
        stream._iterator = completed(events)  # noqa: SLF001 - where it keeps them


def _completed(events: Generator[Any, None, None]) -> Generator[Any, None, None]:
    first: object = None
    with closing(events):
        for event in events:
            first = _noted(event, first)
            yield event


async def _acompleted(events: AsyncGenerator[Any, None]) -> AsyncGenerator[Any, None]:
    first: object = None
    async with aclosing(events):
        async for event in events:
            first = _noted(event, first)
            yield event


_REPEATED = (
    "input_tokens", "cache_read_input_tokens", "cache_creation_input_tokens", "cache_creation", "service_tier",
    "speed", "inference_geo",
)  # fmt: skip


def _noted(event: Any, first: object) -> object:  # noqa: ANN401 - of the SDK's
    """Return the usage that ``event`` begins the stream with, else ``first``, which completes that of the last one."""
    if getattr(event, "type", None) == "message_start":
        return event.message.usage
    if getattr(event, "type", None) == "message_delta" and event.usage is not None:
        for name in _REPEATED:
            if getattr(event.usage, name, None) is None and (told := getattr(first, name, None)) is not None:
                setattr(event.usage, name, told)
    return first
