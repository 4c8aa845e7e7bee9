"""Messages and generations out of values that are known to be valid, several times faster than by validating again.

They are filled in the way pydantic fills them. Whether that comes to the very same objects is tried out once with
the LangChain that is installed; where it does not, they are made by their constructors.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, TypeAlias

from langchain_core.load import dumpd
from langchain_core.messages import AIMessage
from langchain_core.outputs import ChatGeneration
from pydantic import BaseModel

Fields: TypeAlias = dict[str, Any]
"""The fields of an `AIMessage`, every one of them, in the order that the class has them in."""

_Maker: TypeAlias = Callable[[Fields, dict[str, Any] | None], ChatGeneration]

_GIVEN_MESSAGE = frozenset(
    {
        "content", "additional_kwargs", "response_metadata", "name", "id", "tool_calls", "invalid_tool_calls",
        "usage_metadata",
    }
)  # fmt: skip
_GIVEN_GENERATION = frozenset({"text", "message", "generation_info"})


@cache
def maker() -> _Maker:
    """Return the fastest way of making generations that is right with the LangChain that is installed.

    A generation is made of an `AIMessage` of the fields it is given, which it keeps and does not copy.
    """
    return filled if all(_alike(filled(*sample()), validated(*sample())) for sample in _SAMPLES) else validated


def validated(fields: Fields, info: dict[str, Any] | None) -> ChatGeneration:
    """Make a generation by the constructors."""
    given = {name: fields[name] for name in fields if name in _GIVEN_MESSAGE}
    return ChatGeneration(message=AIMessage(**given), generation_info=info)


def filled(fields: Fields, info: dict[str, Any] | None) -> ChatGeneration:
    """Make a generation by filling its fields in. As on the way of every hit, it calls as little as it can."""
    message, content = _new(AIMessage), fields["content"]
    _set(message, "__dict__", fields)
    _set(message, "__pydantic_fields_set__", set(_GIVEN_MESSAGE))
    _set(message, "__pydantic_extra__", {} if _MORE_IN_MESSAGE else None)
    _set(message, "__pydantic_private__", None)
    if type(content) is not str:
        return ChatGeneration(message=message, generation_info=info)  # works out the text
    generation = _new(ChatGeneration)
    held = {"text": str.__new__(_TEXT, content), "generation_info": info, "type": "ChatGeneration", "message": message}
    _set(generation, "__dict__", held)
    _set(generation, "__pydantic_fields_set__", set(_GIVEN_GENERATION))
    _set(generation, "__pydantic_extra__", {} if _MORE_IN_GENERATION else None)
    _set(generation, "__pydantic_private__", None)
    return generation


_new, _set = object.__new__, object.__setattr__
_MORE_IN_MESSAGE, _MORE_IN_GENERATION = (
    kind.model_config.get("extra") == "allow" for kind in (AIMessage, ChatGeneration)
)
_TEXT: type[str] = type(AIMessage("").text)


def _alike(one: ChatGeneration, other: ChatGeneration) -> bool:
    pairs = ((one, other), (one.message, other.message))
    return dumpd(one) == dumpd(other) and all(_state(some) == _state(others) for some, others in pairs)


def _state(made: BaseModel) -> list[object]:
    kinds = {name: type(value) for name, value in made.__dict__.items()}
    return [made.__dict__, kinds, made.model_fields_set, made.model_extra, made.__pydantic_private__]


def _sample(**fields: object) -> Callable[[], tuple[Fields, dict[str, Any] | None]]:
    def sample() -> tuple[Fields, dict[str, Any] | None]:
        usage = {"input_tokens": 0, "output_tokens": 0, "total_tokens": 0, "input_token_details": {"cache_read": 0}}
        said: Fields = {"content": "text", "additional_kwargs": {}, "response_metadata": {}, "type": "ai"}
        calls: Fields = {"name": None, "id": "id", "tool_calls": [], "invalid_tool_calls": [], "usage_metadata": usage}
        return {**said, **calls, **fields}, {"finish_reason": "stop"}

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
