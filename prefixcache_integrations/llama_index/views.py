"""The subclasses that enabled LLMs change over to: each does what its parent does, and goes by its parent's name."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Generator, Mapping, Sequence
from functools import partial
from typing import Any, cast

from llama_index.core.base.llms.types import ChatMessage, ChatResponse, CompletionResponse
from llama_index.core.llms import LLM
from llama_index.core.prompts import BasePromptTemplate

from prefixcache_integrations.llama_index.answering import Call
from prefixcache_integrations.llama_index.arrange import arranged
from prefixcache_integrations.llama_index.calls import read_chat, read_completion
from prefixcache_integrations.llama_index.messages import in_call_order
from prefixcache_integrations.llama_index.structured import AnswersStructured, TellsStructured, native_rule
from prefixcache_integrations.llama_index.view import View, Viewed


def view_class(view: View) -> type[LLM]:
    """Return the subclass of ``view.base`` for ``view``. Raises `TypeError` where there can be none."""
    base = view.base
    wanted: list[tuple[type, bool]] = [
        (_InCallOrder, view.layout is not None and view.layout.level != "mark"),
        (AnswersStructured, view.cache is not None and native_rule(base) is not None),
        (TellsStructured, native_rule(base) is not None),
        (_Answers, view.cache is not None),
        (_Arranges, view.arranges),
        (_LaysOutNewClients, view.layout is not None and hasattr(base, "_get_client")),
        (Viewed, True),
    ]
    parents = [parent for parent, is_wanted in wanted if is_wanted]
    names = {"__module__": base.__module__, "__qualname__": base.__qualname__, "__doc__": base.__doc__}
    metaclass: Any = type(base)
    made: type[LLM] = metaclass(base.__name__, (*parents, base), {**names, "__prefixcache__": view})
    return made


class _InCallOrder(Viewed):
    """Puts the results of parallel tool calls in the order of the calls."""

    __slots__ = ()

    def chat(self, messages: Sequence[ChatMessage], **kwargs: object) -> ChatResponse:
        return cast("ChatResponse", cast("Any", super()).chat(in_call_order(messages), **kwargs))

    async def achat(self, messages: Sequence[ChatMessage], **kwargs: object) -> ChatResponse:
        return cast("ChatResponse", await cast("Any", super()).achat(in_call_order(messages), **kwargs))

    def stream_chat(self, messages: Sequence[ChatMessage], **kwargs: object) -> Generator[ChatResponse, None, None]:
        stream = cast("Any", super()).stream_chat(in_call_order(messages), **kwargs)
        return cast("Generator[ChatResponse, None, None]", stream)

    async def astream_chat(
        self, messages: Sequence[ChatMessage], **kwargs: object
    ) -> AsyncGenerator[ChatResponse, None]:
        stream = await cast("Any", super()).astream_chat(in_call_order(messages), **kwargs)
        return cast("AsyncGenerator[ChatResponse, None]", stream)


class _Answers(Viewed):
    """Asks the store first, in all eight ways to call an LLM."""

    __slots__ = ()

    def chat(self, messages: Sequence[ChatMessage], **kwargs: object) -> ChatResponse:
        ask = partial(cast("Any", super()).chat, messages, **kwargs)
        return self._chat_call(messages, kwargs).answer(ask)

    async def achat(self, messages: Sequence[ChatMessage], **kwargs: object) -> ChatResponse:
        ask = partial(cast("Any", super()).achat, messages, **kwargs)
        return await self._chat_call(messages, kwargs).aanswer(ask)

    def stream_chat(self, messages: Sequence[ChatMessage], **kwargs: object) -> Generator[ChatResponse, None, None]:
        ask = partial(cast("Any", super()).stream_chat, messages, **kwargs)
        return self._chat_call(messages, kwargs).stream(ask)

    async def astream_chat(
        self, messages: Sequence[ChatMessage], **kwargs: object
    ) -> AsyncGenerator[ChatResponse, None]:
        ask = partial(cast("Any", super()).astream_chat, messages, **kwargs)
        return await self._chat_call(messages, kwargs).astream(ask)

    def complete(self, prompt: str, *args: object, **kwargs: object) -> CompletionResponse:
        ask = partial(cast("Any", super()).complete, prompt, *args, **kwargs)
        return self._completion_call(prompt, args, kwargs).answer(ask)

    async def acomplete(self, prompt: str, *args: object, **kwargs: object) -> CompletionResponse:
        ask = partial(cast("Any", super()).acomplete, prompt, *args, **kwargs)
        return await self._completion_call(prompt, args, kwargs).aanswer(ask)

    def stream_complete(
        self, prompt: str, *args: object, **kwargs: object
    ) -> Generator[CompletionResponse, None, None]:
        ask = partial(cast("Any", super()).stream_complete, prompt, *args, **kwargs)
        return self._completion_call(prompt, args, kwargs).stream(ask)

    async def astream_complete(
        self, prompt: str, *args: object, **kwargs: object
    ) -> AsyncGenerator[CompletionResponse, None]:
        ask = partial(cast("Any", super()).astream_complete, prompt, *args, **kwargs)
        return await self._completion_call(prompt, args, kwargs).astream(ask)

    def _chat_call(self, messages: Sequence[ChatMessage], arguments: Mapping[str, object]) -> Call[ChatResponse]:
        view, request = self.__prefixcache__, partial(read_chat, cast("LLM", self), messages, arguments)
        return Call(view.response_cache(), view.chat_shape, request)

    def _completion_call(
        self, prompt: str, formatted: Sequence[object], arguments: Mapping[str, object]
    ) -> Call[CompletionResponse]:
        # The one argument that may follow the prompt says whether it is formatted already.
        given = {"formatted": False, **dict(zip(("formatted",), formatted, strict=False)), **arguments}
        view, request = self.__prefixcache__, partial(read_completion, cast("LLM", self), prompt, given)
        return Call(view.response_cache(), view.completion_shape, request)


class _Arranges(Viewed):
    """Arranges the prompts of engines where they are still templates."""

    __slots__ = ()

    def _get_messages(self, prompt: BasePromptTemplate, **prompt_args: object) -> list[ChatMessage]:
        llm = cast("Any", self)
        messages = arranged(llm, prompt, prompt_args) if llm.output_parser is None else None
        made = super()._get_messages(prompt, **prompt_args) if messages is None else llm._extend_messages(messages)  # type: ignore[misc] # noqa: SLF001 - its own
        return cast("list[ChatMessage]", made)


class _LaysOutNewClients(Viewed):
    """Lays out the clients that an integration makes at its first call, or for each call."""

    __slots__ = ()

    def _get_client(self) -> object:
        return self._laid_out("_client", cast("Any", super())._get_client())  # noqa: SLF001 - the parent's

    def _get_aclient(self) -> object:
        return self._laid_out("_aclient", cast("Any", super())._get_aclient())  # noqa: SLF001 - the parent's

    def _laid_out(self, name: str, client: object) -> object:
        view, llm = self.__prefixcache__, cast("LLM", self)
        held = (llm.__pydantic_private__ or {}).get(name)
        if held is not client:  # made for this call alone
            return view.laid_out(client) or client
        view.lay_out_client(llm, name)
        return getattr(llm, name)
