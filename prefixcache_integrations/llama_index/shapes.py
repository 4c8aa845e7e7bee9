"""The kinds of answers that LLMs give: how each is taken down, and made live again, whole or in pieces."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol, TypeVar

from llama_index.core.base.llms.types import ChatResponse, CompletionResponse
from pydantic import BaseModel

from prefixcache_integrations.llama_index import answers
from prefixcache_integrations.llama_index.answers import Answer
from prefixcache_integrations.llama_index.usage import AnyResponse, stopped, usage_of

R = TypeVar("R")


class Shape(Protocol[R]):
    """One kind of answer: how it is taken down, and made live again."""

    kind: str

    def taken(self, response: R) -> Answer:
        """Take ``response`` down. Raises for what could not be brought back as it was."""
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
        return answers.of_structured(output, self.output_class)

    def stopped(self, piece: BaseModel) -> str | None:  # noqa: ARG002 - an unfinished output could not be parsed
        """See `Shape.stopped`."""
        return None

    def whole(self, answer: Answer, key: str) -> BaseModel:  # noqa: ARG002 - an output has no room for a marker
        """See `Shape.whole`."""
        return answers.structured(answer, self.output_class)

    def pieces(self, answer: Answer, key: str) -> Iterator[BaseModel]:
        """See `Shape.pieces`."""
        return iter([self.whole(answer, key)])


def _check(response: AnyResponse, expected: type[AnyResponse]) -> None:
    if type(response) is not expected:
        raise TypeError(f"a {type(response).__name__}, not a {expected.__name__}")
