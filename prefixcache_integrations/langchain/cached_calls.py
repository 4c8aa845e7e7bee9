"""What a chat model does that asks a response cache by itself: in the place of LangChain's own methods."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, ClassVar, cast

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessageChunk, BaseMessage, message_chunk_to_message
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult, Generation
from langchain_core.outputs.chat_generation import merge_chat_generation_chunks

from prefixcache_integrations.cache import PrefixCache
from prefixcache_integrations.canonical import Response
from prefixcache_integrations.flows.flights import go_on, halt, landing
from prefixcache_integrations.flows.op import Entry
from prefixcache_integrations.flows.open_settle import Opened
from prefixcache_integrations.flows.response_cache import Terms
from prefixcache_integrations.langchain import generations
from prefixcache_integrations.langchain.asked import Asked
from prefixcache_integrations.langchain.call_site import chat_llm_string, streaming_call
from prefixcache_integrations.langchain.message_ids import new_message_id
from prefixcache_integrations.langchain.messages import read_messages
from prefixcache_integrations.langchain.pieces import pieces
from prefixcache_integrations.langchain.traces import mark_traces

_calling: ContextVar[object] = ContextVar("prefixcache_integrations.calling", default=None)


class Door:
    """How the views of models ask one cache."""

    def __init__(self, front: PrefixCache) -> None:
        self.front = front
        self._asked = Asked(front.settings, secret=front.secret, require_namespace=front.require_namespace)

    def terms(
        self, model: BaseChatModel, messages: Sequence[BaseMessage], stop: list[str] | None, arguments: dict[str, Any]
    ) -> Terms:
        """Return how this call is cached."""
        return self._asked.terms_of(read_messages(messages, chat_llm_string(model, stop, arguments)))


class GenerationsCodec:
    """Answers of one request, as `PrefixCache.serve_as` reads and writes them."""

    def __init__(self, terms: Terms) -> None:
        self._digest = terms.key.digest

    def read(self, entry: Entry) -> list[Generation]:
        """Return new generations. Raises `CorruptEntry`."""
        return generations.read(entry, key=self._digest, new_id=new_message_id)

    def write(self, answer: Sequence[Generation]) -> Entry | None:
        """Return ``answer`` as an entry, ``None`` where it cannot be written down in full."""
        return generations.write(answer)

    def responses(self, answer: Sequence[Generation]) -> Sequence[Response]:
        """Return what policy asks of ``answer``."""
        return [generations.as_response(generation) for generation in answer]


@contextmanager
def _called(model: object) -> Iterator[None]:
    """Let ``model`` call its provider: what it streams on the way is no question of its own."""
    token = _calling.set(model)
    try:
        yield
    finally:
        _calling.reset(token)


class Asks:
    """What a view does in the place of its model's class: it asks the cache before it calls."""

    __prefixcache_door__: ClassVar[Door]

    def _generate_with_cache(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: object,
    ) -> ChatResult:
        model: Any = self
        plain: Any = super()
        door = self.__prefixcache_door__
        results: list[ChatResult] = []

        def call() -> list[Generation]:
            with _called(self):
                results.append(plain._generate_with_cache(messages, stop=stop, run_manager=run_manager, **kwargs))  # noqa: SLF001 - what it overrides
            return list(results[0].generations)

        terms = door.terms(model, messages, stop, kwargs)
        answer = door.front.serve_as(terms, call, GenerationsCodec(terms)).answer
        if results:
            return results[0]
        told = cast("list[ChatGeneration]", answer)
        mark_traces(run_manager, told)
        if run_manager and model._should_stream(async_api=False, run_manager=run_manager, **kwargs):  # noqa: SLF001
            for piece in pieces(told[0]):
                run_manager.on_llm_new_token(piece.message.content, chunk=piece)
        model._replay_v2_events_for_cache_hit(told, run_manager=run_manager, **kwargs)  # noqa: SLF001
        return ChatResult(generations=told)

    async def _agenerate_with_cache(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: object,
    ) -> ChatResult:
        model: Any = self
        plain: Any = super()
        door = self.__prefixcache_door__
        results: list[ChatResult] = []

        async def call() -> list[Generation]:
            with _called(self):
                results.append(
                    await plain._agenerate_with_cache(messages, stop=stop, run_manager=run_manager, **kwargs)  # noqa: SLF001 - what it overrides
                )
            return list(results[0].generations)

        terms = door.terms(model, messages, stop, kwargs)
        answer = (await door.front.aserve_as(terms, call, GenerationsCodec(terms))).answer
        if results:
            return results[0]
        told = cast("list[ChatGeneration]", answer)
        mark_traces(run_manager, told)
        if run_manager and model._should_stream(async_api=True, run_manager=run_manager, **kwargs):  # noqa: SLF001
            for piece in pieces(told[0]):
                await run_manager.on_llm_new_token(piece.message.content, chunk=piece)
        await model._areplay_v2_events_for_cache_hit(told, run_manager=run_manager, **kwargs)  # noqa: SLF001
        return ChatResult(generations=told)


class _Streamed:
    """The chunks of a stream so far, and what they add up to."""

    def __init__(self, *, as_blocks: bool) -> None:
        self._as_blocks = as_blocks
        self._chunks: list[ChatGenerationChunk] = []

    def saw(self, chunk: ChatGenerationChunk) -> None:
        """Remember a chunk as it is now: LangChain and the application go on to change theirs."""
        message = chunk.message.model_copy(update=_own(chunk.message.__dict__))
        self._chunks.append(ChatGenerationChunk(message=message, generation_info=_own(chunk.generation_info)))

    def finished(self) -> list[Generation]:
        """Return the answer that the stream came to."""
        merged = merge_chat_generation_chunks(self._chunks)
        if merged is None:
            return []
        message = message_chunk_to_message(cast("AIMessageChunk", merged.message))
        metadata = {**(merged.generation_info or {}), **message.response_metadata}
        update: dict[str, Any] = {"response_metadata": metadata}
        if self._as_blocks:
            update |= {"content": message.content_blocks, "response_metadata": {**metadata, "output_version": "v1"}}
        return [ChatGeneration(message=message.model_copy(update=update), generation_info=merged.generation_info)]


def _own(value: Any) -> Any:  # noqa: ANN401 - whatever a provider's integration puts into a chunk
    """Return ``value`` with dicts and lists of its own; anything else that could be changed is never stored."""
    if type(value) is dict:
        return {name: _own(item) for name, item in value.items()}
    return [_own(item) for item in value] if type(value) is list else value


def _replayed(opened: Opened[list[Generation]]) -> Iterator[ChatGenerationChunk] | None:
    """Return the pieces of a stored answer, ``None`` where there is none or it is several."""
    sole = opened.answer[0] if opened.answer is not None and len(opened.answer) == 1 else None
    if not isinstance(sole, ChatGeneration):
        return None
    call = streaming_call()
    mark_traces(call.run_manager if call is not None else None, [sole])
    return pieces(sole)


class Streams:
    """What a view of a model that streams does besides."""

    __prefixcache_door__: ClassVar[Door]

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: object,
    ) -> Iterator[ChatGenerationChunk]:
        model: Any = self
        plain: Any = super()
        chunks: Iterator[ChatGenerationChunk] = plain._stream(messages, stop=stop, run_manager=run_manager, **kwargs)  # noqa: SLF001 - what it overrides
        if _calling.get() is self:
            yield from chunks
            return
        door = self.__prefixcache_door__
        terms = door.terms(model, messages, stop, kwargs)
        codec = GenerationsCodec(terms)
        opened = door.front.open(terms, codec.read)
        replayed = _replayed(opened)
        if replayed is not None:
            for piece in replayed:
                if run_manager:
                    run_manager.on_llm_new_token(piece.message.content, chunk=piece)
                yield piece
            return
        streamed = _Streamed(as_blocks=model.output_version == "v1")
        with landing(opened.flight):
            for chunk in chunks:
                streamed.saw(chunk)
                halt(opened.flight)
                yield chunk
                go_on(opened.flight)
            answer = streamed.finished()
            door.front.settle(terms, codec.responses(answer), lambda: codec.write(answer), opened.began)


class StreamsAwaited:
    """The same for a model that streams awaiting."""

    __prefixcache_door__: ClassVar[Door]

    async def _astream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: object,
    ) -> AsyncIterator[ChatGenerationChunk]:
        model: Any = self
        plain: Any = super()
        chunks = plain._astream(messages, stop=stop, run_manager=run_manager, **kwargs)  # noqa: SLF001 - what it overrides
        if _calling.get() is self:
            async for chunk in chunks:
                yield chunk
            return
        door = self.__prefixcache_door__
        terms = door.terms(model, messages, stop, kwargs)
        codec = GenerationsCodec(terms)
        opened = await door.front.aopen(terms, codec.read)
        replayed = _replayed(opened)
        if replayed is not None:
            for piece in replayed:
                if run_manager:
                    await run_manager.on_llm_new_token(piece.message.content, chunk=piece)
                yield piece
            return
        streamed = _Streamed(as_blocks=model.output_version == "v1")
        with landing(opened.flight):
            async for chunk in chunks:
                streamed.saw(chunk)
                halt(opened.flight)
                yield chunk
                go_on(opened.flight)
            answer = streamed.finished()
            await door.front.asettle(terms, codec.responses(answer), lambda: codec.write(answer), opened.began)
