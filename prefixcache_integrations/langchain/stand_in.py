"""The request behind a call of a chat model, from what LangChain tells a callback about it.

A callback is told the model as LangChain would save it, without its secrets, and the arguments of the call. A model
made of that builds the same body as the one that is called; it is never called itself.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from importlib import import_module
from typing import Any

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import BaseMessage

from prefixcache_integrations.canonical import Request
from prefixcache_integrations.dialects.reader import BodyReader
from prefixcache_integrations.langchain.model_view import wire_body

_CLASSES = {
    "ChatAnthropic": "langchain_anthropic",
    "ChatOpenAI": "langchain_openai",
    "AzureChatOpenAI": "langchain_openai",
}
_SECRET = "none-needed"  # noqa: S105 - stands where a model insists on a key


def request_of(
    serialized: Mapping[str, Any], messages: Sequence[BaseMessage], parameters: Mapping[str, Any], reader: BodyReader
) -> Request | None:
    """Return the request as it goes on the wire if nothing lays it out, ``None`` where that cannot be said."""
    try:
        model = _model(json.dumps(serialized, sort_keys=True))
        if model is None:
            return None
        own = model._get_invocation_params()  # noqa: SLF001 - what LangChain itself told the callback
        call = {name: value for name, value in parameters.items() if name not in own or own[name] != value}
        payload: dict[str, Any] = model._get_request_payload(list(messages), **call)  # type: ignore[attr-defined] # noqa: SLF001 - see model_view
        dialect, fields = wire_body(model, payload)
        return reader.read(dialect, fields)
    except Exception:  # noqa: BLE001 - their code, on a model we made up: whatever it raises, the call goes on
        return None


@lru_cache(maxsize=64)
def _model(serialized: str) -> BaseChatModel | None:
    saved = json.loads(serialized)
    name = (saved.get("id") or [""])[-1]
    if saved.get("type") != "constructor" or name not in _CLASSES:
        return None
    settings = {field: _SECRET if _is_secret(value) else value for field, value in saved["kwargs"].items()}
    made: BaseChatModel = getattr(import_module(_CLASSES[name]), name)(**settings)
    return made


def _is_secret(value: object) -> bool:
    return isinstance(value, Mapping) and value.get("type") == "secret"
