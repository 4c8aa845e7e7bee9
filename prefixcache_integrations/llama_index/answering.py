"""How a call of an enabled LLM is answered: from the store, or by the LLM, and then kept.

Written out for the shapes that calls have: whole or streamed, blocking or awaiting. Only the outermost call is
cached: `Anthropic.complete` calls `chat`, and one answer is kept once.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, TypeVar, cast
from weakref import finalize

from prefixcache_integrations.cache import PrefixCache
from prefixcache_integrations.canonical import Request, Response
from prefixcache_integrations.errors import CorruptEntry
from prefixcache_integrations.flows.flights import Flight
from prefixcache_integrations.flows.op import Entry, EntryKey
from prefixcache_integrations.flows.response_cache import Terms
from prefixcache_integrations.llama_index import answers
from prefixcache_integrations.llama_index.answers import Answer
from prefixcache_integrations.llama_index.calls import Uncacheable
from prefixcache_integrations.llama_index.shapes import Shape

R = TypeVar("R")
L = TypeVar("L")
S = TypeVar("S")

_inside: ContextVar[bool] = ContextVar("prefixcache_inside_a_call", default=False)


@contextmanager
def _nested() -> Iterator[None]:
    token = _inside.set(True)
    try:
        yield
    finally:
        _inside.reset(token)


class Written(Generic[R]):
    """How answers of one shape are kept: the `Codec` of one call. ``live`` makes a kept answer one for the caller."""

    def __init__(self, shape: Shape[Any], live: Callable[[Answer, str], R], key: str) -> None:
        self._shape = shape
        self._live = live
        self._key = key

    def read(self, entry: Entry) -> R:
        """Return the answer in ``entry``. Raises `CorruptEntry` for what is none of this shape."""
        answer = answers.read(entry, self._shape.kind)
        try:
            return self._live(answer, self._key)
        except Exception as error:
            raise CorruptEntry("cannot be made an answer of this class") from error

    def write(self, response: Any) -> Entry | None:  # noqa: ANN401 - a response or the last piece of a stream
        """Return ``response`` as an entry; ``None`` where it would not come back as it was."""
        answer = self._taken(response)
        return None if answer is None else answers.write(answer)

    def responses(self, response: Any, reason: str | None = None) -> Sequence[Response]:  # noqa: ANN401 - as above
        """Return what policy asks of ``response``; ``reason`` is why a stream said that it stopped."""
        answer = self._taken(response)
        # What cannot be taken down is kept from the store when it is to be written.
        taken = answer or Answer(kind="completion", text=_UNSAID)
        return [answers.as_response(taken, reason or self._shape.stopped(response))]

    def _taken(self, response: Any) -> Answer | None:  # noqa: ANN401 - as above
        try:
            return self._shape.taken(response)
        except Exception:  # noqa: BLE001 - a response of a foreign class may hold anything; its caller has it already
            return None


_UNSAID = "(not written down)"


@dataclass(frozen=True)
class Call(Generic[R]):
    """One call of an LLM: what it asks, and the shape of its answer."""

    cache: PrefixCache
    shape: Shape[R]
    request: Callable[[], Request]

    def answer(self, ask: Callable[[], R]) -> R:
        """Return the stored answer, or that of another who asks the same, else that of ``ask``, which is kept."""
        if _inside.get():
            return ask()
        terms = self._terms()

        def call() -> R:
            with _nested():
                return ask()

        served = self.cache.serve_as(terms, call, self._written(terms, self.shape.whole))
        return cast("R", served.answer)

    async def aanswer(self, ask: Callable[[], Awaitable[R]]) -> R:
        """Do what `answer` does, awaiting."""
        if _inside.get():
            return await ask()
        terms = self._terms()

        async def call() -> R:
            with _nested():
                return await ask()

        served = await self.cache.aserve_as(terms, call, self._written(terms, self.shape.whole))
        return cast("R", served.answer)

    def stream(self, ask: Callable[[], Generator[R, None, None]]) -> Generator[R, None, None]:
        """Return the stored answer in pieces, else the stream of ``ask``, kept once it was consumed to its end."""
        if _inside.get():
            return ask()
        terms = self._terms()
        written = self._written(terms, self.shape.pieces)
        opened = self.cache.open(terms, written.read)
        if opened.error is not None:
            raise opened.error
        if opened.answer is not None:
            return _generated(opened.answer)
        with _landing_on_error(opened.flight), _nested():
            stream = ask()
        return _landed_by(self._recorded(terms, written, stream, opened.flight), opened.flight)

    async def astream(self, ask: Callable[[], Awaitable[AsyncGenerator[R, None]]]) -> AsyncGenerator[R, None]:
        """Do what `stream` does, awaiting."""
        if _inside.get():
            return await ask()
        terms = self._terms()
        written = self._written(terms, self.shape.pieces)
        opened = await self.cache.aopen(terms, written.read)
        if opened.error is not None:
            raise opened.error
        if opened.answer is not None:
            return _agenerated(opened.answer)
        with _landing_on_error(opened.flight), _nested():
            stream = await ask()
        return _landed_by(self._arecorded(terms, written, stream, opened.flight), opened.flight)

    def _terms(self) -> Terms:
        try:
            return self.cache.terms(self.request())
        except Uncacheable as error:
            return Terms(key=EntryKey("", ""), bypass=str(error))

    def _written(self, terms: Terms, live: Callable[[Answer, str], L]) -> Written[L]:
        return Written(self.shape, live, terms.key.digest)

    def _recorded(
        self, terms: Terms, written: Written[Any], stream: Generator[R, None, None], flight: Flight | None
    ) -> Generator[R, None, None]:
        last, reason = _NOTHING, None
        with _landing(flight):
            try:
                while True:
                    with _nested():
                        piece = next(stream, _NOTHING)
                    if piece is _NOTHING:
                        break
                    last, reason = self._held(piece, reason)
                    yield cast("R", piece)
            finally:
                stream.close()
            if last is not _NOTHING:
                self.cache.settle(terms, written.responses(last, reason), partial(written.write, last))

    async def _arecorded(
        self, terms: Terms, written: Written[Any], stream: AsyncGenerator[R, None], flight: Flight | None
    ) -> AsyncGenerator[R, None]:
        last, reason = _NOTHING, None
        with _landing(flight):
            try:
                while True:
                    with _nested():
                        piece = await anext(stream, _NOTHING)
                    if piece is _NOTHING:
                        break
                    last, reason = self._held(piece, reason)
                    yield cast("R", piece)
            finally:
                await stream.aclose()
            if last is not _NOTHING:
                await self.cache.asettle(terms, written.responses(last, reason), partial(written.write, last))

    def _held(self, piece: R, reason: str | None) -> tuple[Any, str | None]:
        return self.shape.held(piece), self.shape.stopped(piece) or reason


_NOTHING: Any = object()


@contextmanager
def _landing(flight: Flight | None) -> Iterator[None]:
    """End ``flight`` with nothing where it has not ended with an answer: who waits for it calls."""
    try:
        yield
    finally:
        if flight is not None:
            flight.land("released")


@contextmanager
def _landing_on_error(flight: Flight | None) -> Iterator[None]:
    """End ``flight`` with the error of a call that does not get as far as a stream."""
    try:
        yield
    except BaseException as error:
        if flight is not None:
            flight.land(error if isinstance(error, Exception) else "released")
        raise


def _landed_by(stream: S, flight: Flight | None) -> S:
    """Return ``stream``; nobody waits any longer for one that its caller drops without having read any of it."""
    if flight is not None:
        finalize(stream, flight.land, "released").atexit = False
    return stream


def _generated(pieces: Iterator[R]) -> Generator[R, None, None]:
    yield from pieces


async def _agenerated(pieces: Iterator[R]) -> AsyncGenerator[R, None]:
    for piece in pieces:
        yield piece
