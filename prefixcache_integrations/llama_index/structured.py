"""Structured outputs that an integration gets past its own chat methods: answered from the store, and told of."""

from __future__ import annotations

import sys
from collections.abc import AsyncGenerator, Callable, Generator, Mapping
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any, TypeAlias, TypeVar, cast

from llama_index.core.llms import LLM
from llama_index.core.prompts import BasePromptTemplate
from pydantic import BaseModel

from prefixcache_integrations.canonical import Request
from prefixcache_integrations.llama_index.answering import Call
from prefixcache_integrations.llama_index.calls import read_structured
from prefixcache_integrations.llama_index.events import structured_call
from prefixcache_integrations.llama_index.shapes import StructuredShape
from prefixcache_integrations.llama_index.view import Viewed

Output = TypeVar("Output", bound=BaseModel)
Template: TypeAlias = BasePromptTemplate
Arguments: TypeAlias = dict[str, Any] | None


class AnswersStructured(Viewed):
    """Asks the store first where an integration gets structured outputs past its own chat methods."""

    __slots__ = ()

    def structured_predict(
        self, output_cls: type[Output], prompt: Template, llm_kwargs: Arguments = None, **prompt_args: object
    ) -> Output:
        """See `LLM.structured_predict`."""
        ask = partial(cast("Any", super()).structured_predict, output_cls, prompt, llm_kwargs, **prompt_args)
        call = self._structured_call("structured_predict", output_cls, prompt, llm_kwargs, prompt_args)
        return cast("Output", ask() if call is None else call.answer(ask))

    async def astructured_predict(
        self, output_cls: type[Output], prompt: Template, llm_kwargs: Arguments = None, **prompt_args: object
    ) -> Output:
        """See `LLM.astructured_predict`."""
        ask = partial(cast("Any", super()).astructured_predict, output_cls, prompt, llm_kwargs, **prompt_args)
        call = self._structured_call("astructured_predict", output_cls, prompt, llm_kwargs, prompt_args)
        return cast("Output", await (ask() if call is None else call.aanswer(ask)))

    def stream_structured_predict(
        self, output_cls: type[Output], prompt: Template, llm_kwargs: Arguments = None, **prompt_args: object
    ) -> Generator[Output, None, None]:
        """See `LLM.stream_structured_predict`."""
        ask = partial(cast("Any", super()).stream_structured_predict, output_cls, prompt, llm_kwargs, **prompt_args)
        call = self._structured_call("stream_structured_predict", output_cls, prompt, llm_kwargs, prompt_args)
        return cast("Generator[Output, None, None]", ask() if call is None else call.stream(ask))

    async def astream_structured_predict(
        self, output_cls: type[Output], prompt: Template, llm_kwargs: Arguments = None, **prompt_args: object
    ) -> AsyncGenerator[Output, None]:
        """See `LLM.astream_structured_predict`."""
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

        return Call(view.response_cache(), StructuredShape(output_cls), request)


class TellsStructured(Viewed):
    """Tells of the structured outputs that an integration gets past its own chat methods."""

    __slots__ = ()

    def structured_predict(self, *args: object, **kwargs: object) -> object:
        """See `LLM.structured_predict`."""
        with self._told("structured_predict"):
            return cast("Any", super()).structured_predict(*args, **kwargs)

    async def astructured_predict(self, *args: object, **kwargs: object) -> object:
        """See `LLM.astructured_predict`."""
        with self._told("astructured_predict"):
            return await cast("Any", super()).astructured_predict(*args, **kwargs)

    def stream_structured_predict(self, *args: object, **kwargs: object) -> object:
        """See `LLM.stream_structured_predict`."""
        with self._told("stream_structured_predict"):
            return cast("Any", super()).stream_structured_predict(*args, **kwargs)

    async def astream_structured_predict(self, *args: object, **kwargs: object) -> object:
        """See `LLM.astream_structured_predict`."""
        with self._told("astream_structured_predict"):
            return await cast("Any", super()).astream_structured_predict(*args, **kwargs)

    def _told(self, method: str) -> AbstractContextManager[None]:
        llm = cast("LLM", self)
        return structured_call(llm) if _answers_natively(llm, method) else nullcontext()


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


def native_rule(kind: type) -> Callable[[Any, str], bool] | None:
    """Return what tells whether a method of ``kind`` goes past its chat methods; ``None`` where none ever does."""
    return next((_NATIVE[base.__module__] for base in kind.__mro__ if base.__module__ in _NATIVE), None)


def _answers_natively(llm: LLM, method: str) -> bool:
    rule = native_rule(type(llm))
    return rule is not None and rule(llm, method)
