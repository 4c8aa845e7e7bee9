"""How a call of an enabled LLM is answered: from the store, or by the LLM, and then kept.

Written out for the shapes that calls have: whole or streamed, blocking or awaiting. Only the outermost call is
cached: `Anthropic.complete` calls `chat`, and one answer is kept once.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, Protocol, TypeVar, cast

from llama_index.core.base.llms.types import ChatResponse, CompletionResponse
from pydantic import BaseModel

from prefixcache_integrations.canonical import Request
from prefixcache_integrations.flows.response_cache import Terms
from prefixcache_integrations.llama_index import answers
from prefixcache_integrations.llama_index.answers import Answer
from prefixcache_integrations.llama_index.cache import AnswerCache
from prefixcache_integrations.llama_index.usage import AnyResponse, stopped, usage_of

R = TypeVar("R")

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


@dataclass(frozen=True)
class Call(Generic[R]):
    """One call of an LLM: what it asks, and the shape of its answer."""

    cache: AnswerCache
    shape: Shape[R]
    request: Callable[[], Request]

    def answer(self, ask: Callable[[], R]) -> R:
        """Return the stored answer, else that of ``ask``, which is kept."""
        terms = self._terms()
        if terms is None:
            return ask()
        found = self.cache.look_up(terms, self.shape.kind, self.shape.whole)
        if found is not None:
            return found
        with _nested():
            response = ask()
        self.cache.keep(terms, partial(self.shape.taken, response), self.shape.stopped(response))
        return response

    async def aanswer(self, ask: Callable[[], Awaitable[R]]) -> R:
        """Do what `answer` does, awaiting."""
        terms = self._terms()
        if terms is None:
            return await ask()
        found = await self.cache.alook_up(terms, self.shape.kind, self.shape.whole)
        if found is not None:
            return found
        with _nested():
            response = await ask()
        await self.cache.akeep(terms, partial(self.shape.taken, response), self.shape.stopped(response))
        return response

    def stream(self, ask: Callable[[], Generator[R, None, None]]) -> Generator[R, None, None]:
        """Return the stored answer in pieces, else the stream of ``ask``, kept once it was consumed to its end."""
        terms = self._terms()
        if terms is None:
            return ask()
        found = self.cache.look_up(terms, self.shape.kind, self.shape.pieces)
        if found is not None:
            return _generated(found)
        with _nested():
            stream = ask()
        return self._recorded(terms, stream)

    async def astream(self, ask: Callable[[], Awaitable[AsyncGenerator[R, None]]]) -> AsyncGenerator[R, None]:
        """Do what `stream` does, awaiting."""
        terms = self._terms()
        if terms is None:
            return await ask()
        found = await self.cache.alook_up(terms, self.shape.kind, self.shape.pieces)
        if found is not None:
            return _agenerated(found)
        with _nested():
            stream = await ask()
        return self._arecorded(terms, stream)

    def _terms(self) -> Terms | None:
        return None if _inside.get() else self.cache.terms(self.request)

    def _recorded(self, terms: Terms, stream: Generator[R, None, None]) -> Generator[R, None, None]:
        last, reason = _NOTHING, None
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
            self.cache.keep(terms, partial(self.shape.taken, last), reason)

    async def _arecorded(self, terms: Terms, stream: AsyncGenerator[R, None]) -> AsyncGenerator[R, None]:
        last, reason = _NOTHING, None
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
            await self.cache.akeep(terms, partial(self.shape.taken, last), reason)

    def _held(self, piece: R, reason: str | None) -> tuple[Any, str | None]:
        return self.shape.held(piece), self.shape.stopped(piece) or reason


_NOTHING: Any = object()


def _generated(pieces: Iterator[R]) -> Generator[R, None, None]:
    yield from pieces


async def _agenerated(pieces: Iterator[R]) -> AsyncGenerator[R, None]:
    for piece in pieces:
        yield piece
