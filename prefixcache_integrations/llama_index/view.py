"""What a subclass of an enabled LLM's class was made for, and what all such subclasses have."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from typing import Any, ClassVar, cast

from llama_index.core.base.llms.types import ChatResponse, CompletionResponse
from llama_index.core.llms import LLM

from prefixcache_integrations.cache import PrefixCache
from prefixcache_integrations.errors import ConfigurationError
from prefixcache_integrations.llama_index.shapes import ChatShape, CompletionShape
from prefixcache_integrations.sdk_hooks import ClientLayout

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

    def response_cache(self) -> PrefixCache:
        """Return the response cache of an LLM that has one."""
        if self.cache is None:
            raise ConfigurationError("this LLM has no response cache")  # pragma: no cover - it has no parent that asks
        return self.cache


class Viewed:
    """Pickles as an object of the class below: a store and a client cannot travel."""

    __slots__ = ()
    __prefixcache__: ClassVar[View]

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuilt, (self.__prefixcache__.base, cast("Any", self).__getstate__())


def _rebuilt(base: type[LLM], state: dict[Any, Any]) -> LLM:
    plain = base.__new__(base)
    plain.__setstate__(state)
    return plain


def _response_classes(base: type[LLM]) -> tuple[type[ChatResponse], type[CompletionResponse]]:
    for parent in base.__mro__:
        if names := _RESPONSE_CLASSES.get(parent.__module__):
            module = sys.modules[parent.__module__]
            return getattr(module, names[0]), getattr(module, names[1])
    return ChatResponse, CompletionResponse
