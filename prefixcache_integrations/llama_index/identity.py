"""What an LLM is: its class, where it sends to, and whatever of its settings and state can change an answer.

LlamaIndex's own integrations show their settings as fields. Classes of an application may also keep them in private
attributes, and in fields that are not dumped: there these count too.
"""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from inspect import get_annotations
from types import MethodType
from typing import Any, TypeGuard, cast

from llama_index.core.llms import LLM, CustomLLM
from pydantic import BaseModel

from prefixcache_integrations.canonical.json import without
from prefixcache_integrations.llama_index.plain import Uncacheable, plain, plain_arguments
from prefixcache_integrations.prompt.headers import routing
from prefixcache_integrations.sdk_headers import sent_by

# Settings that are applied before a call is made, or that say how it travels.
_NO_SETTINGS = frozenset(
    {
        "cache_idx", "callback_manager", "class_name", "default_headers", "max_retries", "num_retries", "output_parser",
        "pydantic_program_mode", "query_wrapper_prompt", "rate_limiter", "reuse_client", "system_prompt", "timeout",
        "messages_to_prompt", "completion_to_prompt", "user", "call_metadata",
    }
)  # fmt: skip
_SECRET = re.compile(
    r"(api|access|secret|subscription|private)_?key(_id)?$|password|credential|[a-z]_?secret|secret_?[a-z]"
    r"|(^|_)(access|api|auth|azure_ad|bearer|hf|id|refresh|security|session)_token(_provider)?$",
    re.IGNORECASE,
)
# LLMs whose behaviour is in an object inside, which their fields do not show.
_OPAQUE = ("llama_index.llms.langchain",)
_CLIENTS = ("_client", "_aclient")
_SAYS_NOTHING = (logging.Logger, type(threading.Lock()), type(threading.RLock()))


def settings_of(llm: LLM) -> dict[str, Any]:
    """Return the settings of ``llm`` that can change an answer. Raises `Uncacheable`, and what its class raises."""
    inner = {name: value for name in type(llm).model_fields if isinstance(value := getattr(llm, name, None), LLM)}
    # What supplies a token is a function, which could not be written down.
    left_out = _NO_SETTINGS | {name for name in type(llm).model_fields if _SECRET.search(name)} | inner.keys()
    fields = cast("dict[str, Any]", _without_secrets(llm.model_dump(mode="json", exclude=set(left_out))))
    _check_state(llm, fields)
    if isinstance(extra := fields.get("additional_kwargs"), dict):
        fields["additional_kwargs"] = plain_arguments(extra)
    fields |= {name: {"settings": settings_of(each), **sent_to(each)} for name, each in inner.items()}
    return {**without(fields, "api_base", "base_url"), **_hidden(llm)}


def _check_state(llm: LLM, fields: Mapping[str, object]) -> None:
    private = llm.__pydantic_private__ or {}
    tells = {
        "track_previous_responses": fields.get("track_previous_responses"),
        "previous_response_id": private.get("_previous_response_id"),
    }
    if named := next((name for name, value in tells.items() if value), None):
        raise Uncacheable(f"its answer depends on server state ({named})")


def _hidden(llm: LLM) -> dict[str, Any]:
    """Return what no dump shows: the private attributes and excluded fields that classes of an application declare."""
    private = llm.__pydantic_private__ or {}
    values = {name: private.get(name, getattr(llm, name, None)) for name in _hidden_names(type(llm))}
    shown = {name: value for name, value in values.items() if not (_SECRET.search(name) or _is_told(name, value))}
    return {"hidden": {name: _state(llm, name, value) for name, value in shown.items()}} if shown else {}


def _hidden_names(kind: type[LLM]) -> Iterator[str]:
    for owner in filter(_is_foreign, kind.__mro__):
        inherited = {name for parent in owner.__mro__[1:] for name in getattr(parent, "__private_attributes__", ())}
        yield from sorted(owner.__private_attributes__.keys() - inherited)
        declared = get_annotations(owner)
        yield from (name for name, field in kind.model_fields.items() if field.exclude and name in declared)


def _is_told(name: str, value: object) -> bool:
    """Tell whether ``value`` changes no answer, or only in ways that `sent_to` says: locks and logs, the client."""
    return isinstance(value, _SAYS_NOTHING) or (name in _CLIENTS and hasattr(value, "base_url"))


def _state(llm: LLM, name: str, value: object) -> object:
    try:
        return plain(value)
    except Uncacheable as error:
        raise Uncacheable(f"what {type(llm).__name__}.{name} holds cannot be written down") from error


def _is_foreign(kind: type) -> TypeGuard[type[BaseModel]]:
    """Tell whether ``kind`` is a model of an application, not of LlamaIndex's packages or below them."""
    return issubclass(kind, BaseModel) and kind.__module__.partition(".")[0] not in ("llama_index", "pydantic")


def sent_to(llm: LLM) -> dict[str, Any]:
    """Return whose API is called and how its bodies are made, as far as the settings do not say."""
    kind = type(llm)
    if kind.__module__.startswith(_OPAQUE):
        raise Uncacheable(f"{kind.__name__} does not show its settings")
    private = llm.__pydantic_private__ or {}
    clients = [client for name in _CLIENTS if (client := private.get(name)) is not None]
    # A client may be made at the first call: what it is made from comes first where its own URL would be another.
    places = [(llm, "azure_endpoint"), *((client, "base_url") for client in clients)]
    places += [(llm, "api_base"), (llm, "base_url")]
    endpoint = next((url for holder, name in places if (url := getattr(holder, name, None))), "")
    return {
        "class": f"{kind.__module__}.{kind.__qualname__}",
        "endpoint": str(endpoint).rstrip("/"),
        # A client that is made at the first call is one of OpenAI's.
        "headers": routing(sent_by(next(iter(clients), None), getattr(llm, "default_headers", None), "openai")),
        "formats": _formats(llm) if _makes_prompts(llm) else [],
    }


def _makes_prompts(llm: LLM) -> bool:
    """Tell whether ``llm`` may turn messages into a prompt: as `CustomLLM.chat` does, whatever its metadata say."""
    return not llm.metadata.is_chat_model or isinstance(llm, CustomLLM) or any(map(_is_foreign, type(llm).__mro__))


def _formats(llm: LLM) -> list[str]:
    """Return the names of the functions that turn messages into a prompt, for models that take one."""
    return [_name(llm.messages_to_prompt), _name(llm.completion_to_prompt)]


def _name(function: Callable[..., object] | None) -> str:
    name = getattr(function, "__qualname__", "<")
    if "<" in name or isinstance(function, MethodType):
        raise Uncacheable("its prompt is made by a function without a name")
    return f"{function.__module__}.{name}"


def _without_secrets(value: object) -> object:
    if isinstance(value, Mapping):
        kept = {
            name: item for name, item in value.items() if name not in _NO_SETTINGS and not _SECRET.search(str(name))
        }
        return {name: _without_secrets(item) for name, item in kept.items()}
    return [_without_secrets(item) for item in value] if isinstance(value, list | tuple) else value
