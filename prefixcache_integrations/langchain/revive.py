"""Messages and generations out of values that are known to be valid, several times faster than by validating again.

They are filled in the way pydantic fills them. Whether that comes to the very same objects is tried out once with
the LangChain that is installed; where it does not, they are made by their constructors.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, TypeAlias

from langchain_core.load import dumpd
from langchain_core.messages import AIMessage
from langchain_core.outputs import ChatGeneration
from pydantic import BaseModel

Fields: TypeAlias = Mapping[str, Any]
"""The fields of an `AIMessage`, every one of them, but ``type``."""

_MESSAGE_ORDER = (
    "content", "additional_kwargs", "response_metadata", "type", "name", "id", "tool_calls", "invalid_tool_calls",
    "usage_metadata",
)  # fmt: skip

_Maker: TypeAlias = Callable[[Fields, dict[str, Any] | None], ChatGeneration]


def revived(fields: Fields, info: dict[str, Any] | None) -> ChatGeneration:
    """Return a generation of an `AIMessage` of ``fields``, which it keeps and does not copy."""
    return maker()(fields, info)


@cache
def maker() -> _Maker:
    """Return the fastest way of making generations that is right with the LangChain that is installed."""
    return filled if all(_alike(filled(*sample()), validated(*sample())) for sample in _SAMPLES) else validated


def validated(fields: Fields, info: dict[str, Any] | None) -> ChatGeneration:
    """Make a generation by the constructors."""
    return ChatGeneration(message=AIMessage(**fields), generation_info=info)


def filled(fields: Fields, info: dict[str, Any] | None) -> ChatGeneration:
    """Make a generation by filling its fields in."""
    message = _fill(AIMessage, {name: fields.get(name, "ai") for name in _MESSAGE_ORDER}, set(fields))
    if not isinstance(message.content, str):
        return ChatGeneration(message=message, generation_info=info)  # works out the text
    held = {"text": message.text, "generation_info": info, "type": "ChatGeneration", "message": message}
    generation: ChatGeneration = _fill(ChatGeneration, held, {"text", "message", "generation_info"})
    return generation


def _fill(kind: type[BaseModel], fields: dict[str, Any], given: set[str]) -> Any:  # noqa: ANN401 - an instance of kind
    made = kind.__new__(kind)
    object.__setattr__(made, "__dict__", fields)
    object.__setattr__(made, "__pydantic_fields_set__", given)
    object.__setattr__(made, "__pydantic_extra__", {} if kind.model_config.get("extra") == "allow" else None)
    object.__setattr__(made, "__pydantic_private__", None)
    return made


def _alike(one: ChatGeneration, other: ChatGeneration) -> bool:
    pairs = ((one, other), (one.message, other.message))
    return dumpd(one) == dumpd(other) and all(_state(some) == _state(others) for some, others in pairs)


def _state(made: BaseModel) -> list[object]:
    return [made.__dict__, made.model_fields_set, made.model_extra, made.__pydantic_private__]


def _sample(**fields: object) -> Callable[[], tuple[Fields, dict[str, Any] | None]]:
    def sample() -> tuple[Fields, dict[str, Any] | None]:
        usage = {"input_tokens": 0, "output_tokens": 0, "total_tokens": 0, "input_token_details": {"cache_read": 0}}
        empty: dict[str, Any] = {"content": "text", "additional_kwargs": {}, "response_metadata": {}, "name": None}
        calls = {"tool_calls": [], "invalid_tool_calls": [], "usage_metadata": usage, "id": "id"}
        return {**empty, **calls, **fields}, {"finish_reason": "stop"}

    return sample


_SAMPLES = (
    _sample(),
    _sample(name="bob", response_metadata={"model_provider": "openai", "prefixcache": {"hit": True}}),
    _sample(tool_calls=[{"name": "search", "args": {"q": ["a", 1]}, "id": "call_1", "type": "tool_call"}]),
    _sample(content=[{"type": "text", "text": "a"}, "b", {"type": "thinking", "thinking": "hm"}]),
    _sample(
        content="",
        additional_kwargs={"refusal": None, "parsed": {"a": 1}},
        invalid_tool_calls=[
            {"name": "search", "args": "{", "id": None, "error": None, "type": "invalid_tool_call"},
        ],
    ),
)
