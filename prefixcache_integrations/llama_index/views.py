"""The subclasses that enabled LLMs change over to: each does what its parent does, and goes by its parent's name."""

from __future__ import annotations

import sys
from collections.abc import AsyncGenerator, Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, ClassVar, TypeAlias, TypeVar, cast

from llama_index.core.base.llms.types import ChatMessage, ChatResponse, CompletionResponse
from llama_index.core.llms import LLM
from llama_index.core.prompts import BasePromptTemplate
from pydantic import BaseModel

from prefixcache_integrations.cache import PrefixCache
from prefixcache_integrations.canonical import Request
from prefixcache_integrations.errors import ConfigurationError
from prefixcache_integrations.llama_index.answering import Call
from prefixcache_integrations.llama_index.arrange import arranged
from prefixcache_integrations.llama_index.calls import read_chat, read_completion, read_structured
from prefixcache_integrations.llama_index.messages import in_call_order
from prefixcache_integrations.llama_index.shapes import ChatShape, CompletionShape, StructuredShape
from prefixcache_integrations.sdk_hooks import ClientLayout

Output = TypeVar("Output", bound=BaseModel)
Template: TypeAlias = BasePromptTemplate
Arguments: TypeAlias = dict[str, Any] | None

CLIENTS = ("_client", "_aclient")
"""Where LlamaIndex's integrations keep the SDK's clients."""

# Integrations that answer with classes of their own, which other methods of theirs rely on.
_RESPONSE_CLASSES = {"llama_index.llms.anthropic.base": ("AnthropicChatResponse", "AnthropicCompletionResponse")}


@dataclass(frozen=True, eq=False)
class View:
    """What a subclass was made for: the class below, and the settings of `enable`.

    ``originals`` holds the clients that laid-out ones have taken the place of, by the ids of the latter.
    """

    base: type[LLM]
    cache: PrefixCache | None
    layout: ClientLayout | None
    arranges: bool
    originals: dict[int, object] = field(default_factory=dict)
    chat_shape: ChatShape = field(init=False)
    completion_shape: CompletionShape = field(init=False)

    def __post_init__(self) -> None:
        chat, completion = _response_classes(self.base)
        object.__setattr__(self, "chat_shape", ChatShape(chat))
        object.__setattr__(self, "completion_shape", CompletionShape(completion))

    def messages(self, messages: Sequence[ChatMessage]) -> Sequence[ChatMessage]:
        """Return what is asked: at a level that may reorder, parallel tool results stand in the order of the calls."""
        return messages if self.layout is None or self.layout.level == "mark" else in_call_order(messages)

    def lay_out_clients(self, llm: LLM) -> bool:
        """Lay out the clients that ``llm`` holds, or will make; return whether there are any."""
        found = [name for name in CLIENTS if self.lay_out_client(llm, name)]
        return bool(found) or hasattr(llm, "_get_client")

    def lay_out_client(self, llm: LLM, name: str) -> bool:
        """Put a laid-out client in the place of the one that ``llm`` holds as ``name``; return whether it has one."""
        client = (llm.__pydantic_private__ or {}).get(name)
        laid_out = self.laid_out(client)
        if laid_out is None:
            return False
        if laid_out is not client:
            self.originals[id(laid_out)] = client
            setattr(llm, name, laid_out)
        return True

    def laid_out(self, client: object) -> object | None:
        """Return ``client`` laid out; ``None`` for what is no client of the SDKs."""
        try:
            return None if self.layout is None else self.layout.laid_out(client)
        except ConfigurationError:
            return None


def view_class(view: View) -> type[LLM]:
    """Return the subclass of ``view.base`` for ``view``. Raises `TypeError` where there can be none."""
    base = view.base
    wanted: list[tuple[type, bool]] = [
        (_AnswersStructured, view.cache is not None and _native_rule(base) is not None),
        (_Answers, view.cache is not None),
        (_Arranges, view.arranges),
        (_LaysOutNewClients, view.layout is not None and hasattr(base, "_get_client")),
        (_Rebuilt, True),
    ]
    parents = [parent for parent, is_wanted in wanted if is_wanted]
    names = {"__module__": base.__module__, "__qualname__": base.__qualname__, "__doc__": base.__doc__}
    metaclass: Any = type(base)
    made: type[LLM] = metaclass(base.__name__, (*parents, base), {**names, "__prefixcache__": view})
    return made


class _Rebuilt:
    """Pickles as an object of the class below: a store and a client cannot travel."""

    __slots__ = ()
    __prefixcache__: ClassVar[View]

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuilt, (self.__prefixcache__.base, cast("Any", self).__getstate__())


def _rebuilt(base: type[LLM], state: dict[Any, Any]) -> LLM:
    plain = base.__new__(base)
    plain.__setstate__(state)
    return plain


class _Answers(_Rebuilt):
    """Asks the store first, in all eight ways to call an LLM."""

    __slots__ = ()

    def chat(self, messages: Sequence[ChatMessage], **kwargs: object) -> ChatResponse:
        asked = self.__prefixcache__.messages(messages)
        ask = partial(cast("Any", super()).chat, asked, **kwargs)
        return self._chat_call(asked, kwargs).answer(ask)

    async def achat(self, messages: Sequence[ChatMessage], **kwargs: object) -> ChatResponse:
        asked = self.__prefixcache__.messages(messages)
        ask = partial(cast("Any", super()).achat, asked, **kwargs)
        return await self._chat_call(asked, kwargs).aanswer(ask)

    def stream_chat(self, messages: Sequence[ChatMessage], **kwargs: object) -> Generator[ChatResponse, None, None]:
        asked = self.__prefixcache__.messages(messages)
        ask = partial(cast("Any", super()).stream_chat, asked, **kwargs)
        return self._chat_call(asked, kwargs).stream(ask)

    async def astream_chat(
        self, messages: Sequence[ChatMessage], **kwargs: object
    ) -> AsyncGenerator[ChatResponse, None]:
        asked = self.__prefixcache__.messages(messages)
        ask = partial(cast("Any", super()).astream_chat, asked, **kwargs)
        return await self._chat_call(asked, kwargs).astream(ask)

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
        return Call(_cache_of(view), view.chat_shape, request)

    def _completion_call(
        self, prompt: str, formatted: Sequence[object], arguments: Mapping[str, object]
    ) -> Call[CompletionResponse]:
        # The one argument that may follow the prompt says whether it is formatted already.
        given = {"formatted": False, **dict(zip(("formatted",), formatted, strict=False)), **arguments}
        view, request = self.__prefixcache__, partial(read_completion, cast("LLM", self), prompt, given)
        return Call(_cache_of(view), view.completion_shape, request)


class _AnswersStructured(_Rebuilt):
    """Asks the store first where an integration gets structured outputs past its own chat methods."""

    __slots__ = ()

    def structured_predict(
        self, output_cls: type[Output], prompt: Template, llm_kwargs: Arguments = None, **prompt_args: object
    ) -> Output:
        ask = partial(cast("Any", super()).structured_predict, output_cls, prompt, llm_kwargs, **prompt_args)
        call = self._structured_call("structured_predict", output_cls, prompt, llm_kwargs, prompt_args)
        return cast("Output", ask() if call is None else call.answer(ask))

    async def astructured_predict(
        self, output_cls: type[Output], prompt: Template, llm_kwargs: Arguments = None, **prompt_args: object
    ) -> Output:
        ask = partial(cast("Any", super()).astructured_predict, output_cls, prompt, llm_kwargs, **prompt_args)
        call = self._structured_call("astructured_predict", output_cls, prompt, llm_kwargs, prompt_args)
        return cast("Output", await (ask() if call is None else call.aanswer(ask)))

    def stream_structured_predict(
        self, output_cls: type[Output], prompt: Template, llm_kwargs: Arguments = None, **prompt_args: object
    ) -> Generator[Output, None, None]:
        ask = partial(cast("Any", super()).stream_structured_predict, output_cls, prompt, llm_kwargs, **prompt_args)
        call = self._structured_call("stream_structured_predict", output_cls, prompt, llm_kwargs, prompt_args)
        return cast("Generator[Output, None, None]", ask() if call is None else call.stream(ask))

    async def astream_structured_predict(
        self, output_cls: type[Output], prompt: Template, llm_kwargs: Arguments = None, **prompt_args: object
    ) -> AsyncGenerator[Output, None]:
        ask = partial(cast("Any", super()).astream_structured_predict, output_cls, prompt, llm_kwargs, **prompt_args)
        call = self._structured_call("astream_structured_predict", output_cls, prompt, llm_kwargs, prompt_args)
        return cast("AsyncGenerator[Output, None]", await (ask() if call is None else call.astream(ask)))

    def _structured_call(
        self,
        method: str,
        output_cls: type[BaseModel],
        prompt: Template,
        given: Arguments,
        prompt_args: dict[str, object],
    ) -> Call[BaseModel] | None:
        view, llm = self.__prefixcache__, cast("LLM", self)
        if not _answers_natively(llm, method):
            return None

        def request() -> Request:
            messages = prompt.format_messages(**cast("Any", prompt_args))
            return read_structured(llm, messages, output_cls, given or {})

        return Call(_cache_of(view), StructuredShape(output_cls), request)


class _Arranges(_Rebuilt):
    """Arranges the prompts of engines where they are still templates."""

    __slots__ = ()

    def _get_messages(self, prompt: Template, **prompt_args: object) -> list[ChatMessage]:
        llm = cast("Any", self)
        messages = arranged(llm, prompt, prompt_args) if llm.output_parser is None else None
        made = super()._get_messages(prompt, **prompt_args) if messages is None else llm._extend_messages(messages)  # type: ignore[misc] # noqa: SLF001 - its own
        return cast("list[ChatMessage]", made)


class _LaysOutNewClients(_Rebuilt):
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


def _cache_of(view: View) -> PrefixCache:
    if view.cache is None:
        raise ConfigurationError("this LLM has no response cache")  # pragma: no cover - such a view has no such parent
    return view.cache


def _response_classes(base: type[LLM]) -> tuple[type[ChatResponse], type[CompletionResponse]]:
    for parent in base.__mro__:
        if names := _RESPONSE_CLASSES.get(parent.__module__):
            module = sys.modules[parent.__module__]
            return getattr(module, names[0]), getattr(module, names[1])
    return ChatResponse, CompletionResponse


def _anthropic_is_native(llm: Any, method: str) -> bool:  # noqa: ANN401, ARG001 - any of Anthropic's LLMs
    names = {base.__name__ for base in type(llm._client).__mro__}  # noqa: SLF001 - where it keeps its client
    supported = sys.modules["llama_index.llms.anthropic.utils"].is_anthropic_structured_output_supported(llm.model)
    return bool(supported) and not names & {"AnthropicVertex", "AnthropicBedrock"}


def _responses_is_native(llm: Any, method: str) -> bool:  # noqa: ANN401, ARG001 - any LLM on the Responses API
    return "stream" not in method


# Integrations whose structured outputs go past their chat methods, and when they do.
_NATIVE: Mapping[str, Callable[[Any, str], bool]] = {
    "llama_index.llms.anthropic.base": _anthropic_is_native,
    "llama_index.llms.openai.responses": _responses_is_native,
}


def _native_rule(kind: type) -> Callable[[Any, str], bool] | None:
    return next((_NATIVE[base.__module__] for base in kind.__mro__ if base.__module__ in _NATIVE), None)


def _answers_natively(llm: LLM, method: str) -> bool:
    rule = _native_rule(type(llm))
    return rule is not None and rule(llm, method)
