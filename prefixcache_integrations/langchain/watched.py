"""What a view of a model does besides: it tells when answers begin, and which requests lose what they could read."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.outputs import ChatGenerationChunk, ChatResult
from langchain_core.runnables.config import ensure_config

from prefixcache_integrations import awaited
from prefixcache_integrations.awaited import AwaitedCall
from prefixcache_integrations.canonical import Usage
from prefixcache_integrations.events import Labels, session_of
from prefixcache_integrations.langchain.usage import usage_of
from prefixcache_integrations.on_the_wire import listen
from prefixcache_integrations.profiles import Provider
from prefixcache_integrations.watching import WatchedCall, Watcher

_PROVIDERS: Mapping[str, Provider] = {
    "anthropic-chat": "anthropic",
    "openai-chat": "openai",
    "azure-openai-chat": "azure",
}


def provider_of(model: BaseChatModel) -> Provider | None:
    """Return who serves ``model``, as LangChain's own middleware tells it."""
    return _PROVIDERS.get(model._llm_type)  # noqa: SLF001 - the name by which LangChain knows the class


class Watches:
    """Follows each call from its request to its bill, streamed or not, blocking or awaiting."""

    __prefixcache_watcher__: ClassVar[Watcher | None]

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: object,
    ) -> ChatResult:
        with self._followed(run_manager) as call:
            result: ChatResult = super()._generate(messages, stop, run_manager, **kwargs)  # type: ignore[misc] # the model's class has it
            call.answered(lambda: _usage(result))
        return result

    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: object,
    ) -> ChatResult:
        with self._followed(run_manager) as call:
            result: ChatResult = await super()._agenerate(messages, stop, run_manager, **kwargs)  # type: ignore[misc] # as above
            call.answered(lambda: _usage(result))
        return result

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: object,
    ) -> Iterator[ChatGenerationChunk]:
        told: list[AIMessage] = []
        with self._followed(run_manager) as call:
            for piece in super()._stream(messages, stop, run_manager, **kwargs):  # type: ignore[misc] # as above
                call.begun()
                _note(piece, told)
                yield piece
            call.answered(lambda: _usage_of_pieces(told))

    async def _astream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: object,
    ) -> AsyncIterator[ChatGenerationChunk]:
        told: list[AIMessage] = []
        with self._followed(run_manager) as call:
            async for piece in super()._astream(messages, stop, run_manager, **kwargs):  # type: ignore[misc] # as above
                call.begun()
                _note(piece, told)
                yield piece
            call.answered(lambda: _usage_of_pieces(told))

    @contextmanager
    def _followed(self, run: CallbackManagerForLLMRun | AsyncCallbackManagerForLLMRun | None) -> Iterator[_Followed]:
        call = _Followed(awaited.begin(), self._watched(run))
        try:
            yield call
        except Exception:
            call.failed()
            raise
        except BaseException:
            call.left()
            raise

    def _watched(self, run: CallbackManagerForLLMRun | AsyncCallbackManagerForLLMRun | None) -> WatchedCall | None:
        watcher = self.__prefixcache_watcher__
        if watcher is None:
            return None
        metadata = (run.metadata if run is not None else None) or ensure_config().get("metadata") or {}
        labels = Labels(session=session_of(metadata), tags=tuple(run.tags) if run is not None else ())
        call = watcher.begin(provider_of(self), labels)  # type: ignore[arg-type] # a model's class
        listen(watcher, call)
        return call


class _Followed:
    """A call, as those follow it who plan by it, and whoever wants to be told what it lost."""

    def __init__(self, awaited_call: AwaitedCall, watched: WatchedCall | None) -> None:
        self._awaited = awaited_call
        self._watched = watched

    def begun(self) -> None:
        self._awaited.begun()
        if self._watched is not None:
            self._watched.begun()

    def answered(self, usage: Callable[[], Usage]) -> None:
        self._awaited.begun()
        if self._watched is not None:
            self._watched.answered(usage())

    def left(self) -> None:
        self._awaited.failed()
        if self._watched is not None:
            self._watched.left()

    def failed(self) -> None:
        self._awaited.failed()
        if self._watched is not None:
            self._watched.failed()


def _usage(result: ChatResult) -> Usage:
    messages = (each.message for each in result.generations)
    return next((usage_of(message) for message in messages if isinstance(message, AIMessage)), Usage())


def _note(piece: ChatGenerationChunk, told: list[AIMessage]) -> None:
    message = piece.message
    if isinstance(message, AIMessageChunk) and (message.usage_metadata or message.response_metadata):
        whole = AIMessageChunk(content="", response_metadata=message.response_metadata)
        whole.usage_metadata = message.usage_metadata
        told.append(whole)


def _usage_of_pieces(told: Sequence[AIMessage]) -> Usage:
    if not told:
        return Usage()
    first, *others = told
    whole: Any = first
    for each in others:
        whole += each
    return usage_of(whole)
