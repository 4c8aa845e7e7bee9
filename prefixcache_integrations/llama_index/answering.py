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

from llama_index.core.base.llms.types import ChatResponse

from prefixcache_integrations.cache import PrefixCache
from prefixcache_integrations.canonical import Request, Response
from prefixcache_integrations.errors import CorruptEntry
from prefixcache_integrations.flows.flights import Flight, go_on, halt, landing
from prefixcache_integrations.flows.op import Entry, EntryKey
from prefixcache_integrations.flows.open_settle import Opened
from prefixcache_integrations.flows.response_cache import Terms
from prefixcache_integrations.llama_index import answers
from prefixcache_integrations.llama_index.answers import Answer
from prefixcache_integrations.llama_index.plain import Uncacheable
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

    def write(self, response: Any) -> Entry | None:  # noqa: ANN401 - a response or a piece of a stream
        """Return ``response`` as an entry; ``None`` where it would not come back as it was."""
        return packed(self.taken(response))

    def responses(self, response: Any) -> Sequence[Response]:  # noqa: ANN401 - as above
        """Return what policy asks of ``response``."""
        return said(self.taken(response), self._shape.stopped(response))

    def stopped(self, response: Any) -> str | None:  # noqa: ANN401 - as above
        """Return why the model stopped, where this response or piece says so."""
        return self._shape.stopped(response)

    def taken(self, response: Any) -> Answer | None:  # noqa: ANN401 - as above
        """Take down ``response``; ``None`` where it would not come back as it was."""
        try:
            return self._shape.taken(response)
        except Exception:  # noqa: BLE001 - a response of a foreign class may hold anything; its caller has it already
            return None


_UNSAID = "(not written down)"


def packed(answer: Answer | None) -> Entry | None:
    """Return ``answer`` as an entry, ``None`` where there is none or it would not come back as it was."""
    return None if answer is None else answers.write(answer)


def said(answer: Answer | None, reason: str | None) -> Sequence[Response]:
    """Return what policy asks of ``answer``; ``reason`` is why it stopped."""
    # What cannot be taken down is kept from the store when it is to be written.
    return [answers.as_response(answer or Answer(kind="completion", text=_UNSAID), reason)]


class _Streamed(Generic[R]):
    """What a stream has said so far, taken down before its consumer can change it."""

    def __init__(self, written: Written[Any]) -> None:
        self._written = written
        self.answer: Answer | None = None
        self.reason: str | None = None
        self.began = False

    def saw(self, piece: R) -> None:
        """Take down a piece, which holds all that came before."""
        self.began = True
        self.answer, self.reason = self._written.taken(piece), self._written.stopped(piece) or self.reason


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
        if opened.answer is not None:
            return _generated(opened.answer)
        with _landing_on_error(opened.flight), _nested():
            stream = ask()
        return _landed_by(self._recorded(terms, written, stream, opened), opened.flight)

    async def astream(self, ask: Callable[[], Awaitable[AsyncGenerator[R, None]]]) -> AsyncGenerator[R, None]:
        """Do what `stream` does, awaiting."""
        if _inside.get():
            return await ask()
        terms = self._terms()
        written = self._written(terms, self.shape.pieces)
        opened = await self.cache.aopen(terms, written.read)
        if opened.answer is not None:
            return _agenerated(opened.answer)
        with _landing_on_error(opened.flight), _nested():
            stream = await ask()
        return _landed_by(self._arecorded(terms, written, stream, opened), opened.flight)

    def _terms(self) -> Terms:
        try:
            return self.cache.terms(self.request())
        except Uncacheable as error:
            return Terms(key=EntryKey("", ""), bypass=str(error))

    def _written(self, terms: Terms, live: Callable[[Answer, str], L]) -> Written[L]:
        return Written(self.shape, live, terms.key.digest)

    def _recorded(
        self, terms: Terms, written: Written[Any], stream: Generator[R, None, None], opened: Opened[Any]
    ) -> Generator[R, None, None]:
        streamed: _Streamed[R] = _Streamed(written)
        with landing(opened.flight):
            try:
                while True:
                    go_on(opened.flight)
                    with _nested():
                        piece = next(stream, _NOTHING)
                    if piece is _NOTHING:
                        break
                    streamed.saw(piece)
                    halt(opened.flight)
                    yield _apart(cast("R", piece))
            finally:
                stream.close()
            if streamed.began:
                answer = streamed.answer
                self.cache.settle(terms, said(answer, streamed.reason), partial(packed, answer), opened.began)

    async def _arecorded(
        self, terms: Terms, written: Written[Any], stream: AsyncGenerator[R, None], opened: Opened[Any]
    ) -> AsyncGenerator[R, None]:
        streamed: _Streamed[R] = _Streamed(written)
        with landing(opened.flight):
            try:
                while True:
                    go_on(opened.flight)
                    with _nested():
                        piece = await anext(stream, _NOTHING)
                    if piece is _NOTHING:
                        break
                    streamed.saw(piece)
                    halt(opened.flight)
                    yield _apart(cast("R", piece))
            finally:
                await stream.aclose()
            if streamed.began:
                answer = streamed.answer
                await self.cache.asettle(terms, said(answer, streamed.reason), partial(packed, answer), opened.began)


_NOTHING: Any = object()


@contextmanager
def _landing_on_error(flight: Flight | None) -> Iterator[None]:
    """End ``flight`` where a call does not get as far as a stream."""
    try:
        yield
    except BaseException:
        with landing(flight):
            raise


def _apart(piece: R) -> R:
    """Return a copy of ``piece`` for its consumer: an integration goes on building on the blocks that it handed out."""
    if not isinstance(piece, ChatResponse):
        return piece
    try:
        return piece.model_copy(update={"message": piece.message.model_copy(deep=True)})
    except Exception:  # noqa: BLE001 - what cannot be copied cannot be written down either
        return piece


def _landed_by(stream: S, flight: Flight | None) -> S:
    """Return ``stream``; nobody waits any longer for one that its caller drops without having read any of it."""
    halt(flight)
    if flight is not None:
        finalize(stream, flight.land, "released").atexit = False
    return stream


def _generated(pieces: Iterator[R]) -> Generator[R, None, None]:
    yield from pieces


async def _agenerated(pieces: Iterator[R]) -> AsyncGenerator[R, None]:
    for piece in pieces:
        yield piece
