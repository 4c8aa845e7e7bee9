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
from typing import Any, Generic, Protocol, TypeVar, cast
from weakref import finalize

from llama_index.core.base.llms.types import ChatResponse, CompletionResponse
from pydantic import BaseModel

from prefixcache_integrations.cache import PrefixCache
from prefixcache_integrations.canonical import Request, Response
from prefixcache_integrations.errors import CorruptEntry
from prefixcache_integrations.flows.flights import Flight
from prefixcache_integrations.flows.op import Entry, EntryKey
from prefixcache_integrations.flows.response_cache import Terms
from prefixcache_integrations.llama_index import answers
from prefixcache_integrations.llama_index.answers import Answer
from prefixcache_integrations.llama_index.calls import Uncacheable
from prefixcache_integrations.llama_index.usage import AnyResponse, stopped, usage_of

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


class Shape(Protocol[R]):
    """One kind of answer: how it is taken down, and made live again."""

    kind: str

    def taken(self, response: R) -> Answer:
        """Take ``response`` down. Raises for what could not be brought back as it was."""
        ...

    def held(self, piece: R) -> R:
        """Return a copy of the latest piece of a stream that its consumer cannot change."""
        ...

    def stopped(self, piece: R) -> str | None:
        """Return why the model stopped, where this response or piece says so."""
        ...

    def whole(self, answer: Answer, key: str) -> R:
        """Return a fresh response."""
        ...

    def pieces(self, answer: Answer, key: str) -> Iterator[R]:
        """Return a fresh response in pieces, as a stream would give it."""
        ...


@dataclass(frozen=True)
class ChatShape:
    """Chat responses, all of one class."""

    response_class: type[ChatResponse] = ChatResponse
    kind = "chat"

    def taken(self, response: ChatResponse) -> Answer:
        """See `Shape.taken`."""
        _check(response, self.response_class)
        return answers.of_chat(response, usage_of(response))

    def held(self, piece: ChatResponse) -> ChatResponse:
        """See `Shape.held`."""
        message = piece.message.model_copy(update={"blocks": list(piece.message.blocks)})
        return piece.model_copy(update={"message": message})

    def stopped(self, piece: ChatResponse) -> str | None:
        """See `Shape.stopped`."""
        return stopped(piece)

    def whole(self, answer: Answer, key: str) -> ChatResponse:
        """See `Shape.whole`."""
        return answers.chat(answer, key, self.response_class)

    def pieces(self, answer: Answer, key: str) -> Iterator[ChatResponse]:
        """See `Shape.pieces`."""
        return answers.chat_pieces(answer, key, self.response_class)


@dataclass(frozen=True)
class CompletionShape:
    """Completions, all of one class."""

    response_class: type[CompletionResponse] = CompletionResponse
    kind = "completion"

    def taken(self, response: CompletionResponse) -> Answer:
        """See `Shape.taken`."""
        _check(response, self.response_class)
        return answers.of_completion(response, usage_of(response))

    def held(self, piece: CompletionResponse) -> CompletionResponse:
        """See `Shape.held`."""
        return piece.model_copy()

    def stopped(self, piece: CompletionResponse) -> str | None:
        """See `Shape.stopped`."""
        return stopped(piece)

    def whole(self, answer: Answer, key: str) -> CompletionResponse:
        """See `Shape.whole`."""
        return answers.completion(answer, key, self.response_class)

    def pieces(self, answer: Answer, key: str) -> Iterator[CompletionResponse]:
        """See `Shape.pieces`."""
        return answers.completion_pieces(answer, key, self.response_class)


@dataclass(frozen=True)
class StructuredShape:
    """Structured outputs of one class; a stream of them is the finished one alone."""

    output_class: type[BaseModel]
    kind = "structured"

    def taken(self, output: BaseModel) -> Answer:
        """See `Shape.taken`."""
        return answers.of_structured(output)

    def held(self, piece: BaseModel) -> BaseModel:
        """See `Shape.held`."""
        return piece

    def stopped(self, piece: BaseModel) -> str | None:  # noqa: ARG002 - an unfinished output could not be parsed
        """See `Shape.stopped`."""
        return None

    def whole(self, answer: Answer, key: str) -> BaseModel:  # noqa: ARG002 - an output has no room for a marker
        """See `Shape.whole`."""
        return self.output_class.model_validate_json(answer.text)

    def pieces(self, answer: Answer, key: str) -> Iterator[BaseModel]:
        """See `Shape.pieces`."""
        return iter([self.whole(answer, key)])


def _check(response: AnyResponse, expected: type[AnyResponse]) -> None:
    if type(response) is not expected:
        raise TypeError(f"a {type(response).__name__}, not a {expected.__name__}")


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
