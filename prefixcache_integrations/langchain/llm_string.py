"""The string that stands for a model and a call's arguments, read.

It is the JSON dump of the model followed by the ``repr`` of the arguments, or that ``repr`` alone for a model that does
not serialise. What cannot change the answer is left out here.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Mapping
from functools import lru_cache

from msgspec import Struct

from prefixcache_integrations.canonical import JsonObject
from prefixcache_integrations.canonical.json import as_list, as_object, without
from prefixcache_integrations.prompt.keys import settled_options

NOT_IMPLEMENTED = '"type": "not_implemented"'
"""How LangChain's dumps say that an object is not written down in full."""

OWN = "own"
"""The item that a model's class adds to the string; it says nothing where something cannot be written down."""

TRANSPORT_SETTINGS = frozenset(
    {
        "anthropic_proxy",
        "azure_ad_async_token_provider",
        "azure_ad_token_provider",
        "default_request_timeout",
        "disable_streaming",
        "http_socket_options",
        "max_retries",
        "openai_proxy",
        "request_timeout",
        "stream_chunk_timeout",
        "stream_usage",
        "streaming",
        "tiktoken_model_name",
        "timeout",
        "verbose",
    }
)
"""Model settings that decide how a call travels, not what it asks."""

_PASSED_THROUGH = ("model_kwargs", "extra_body")

_KNOWN_NAMESPACES = frozenset(
    {
        ("langchain", "chat_models", "anthropic"),
        ("langchain", "chat_models", "azure_openai"),
        ("langchain", "chat_models", "openai"),
    }
)
"""Where the classes live whose settings are known; classes derived from those keep the namespace."""


class CalledModel(Struct, frozen=True, kw_only=True):
    """A model and the arguments of a call.

    ``foreign``: nobody knows what the settings of this class do, so each of them counts. ``ambiguous`` says why two
    different models or calls could have this very string.
    """

    class_name: str = ""
    foreign: bool = False
    settings: JsonObject = {}
    call: JsonObject = {}
    ambiguous: str | None = None


@lru_cache(maxsize=256)
def read_model(llm_string: str) -> CalledModel | None:
    """Read the model and the call's arguments; ``None`` for a string that LangChain did not write."""
    serialised, arguments = _split(llm_string)
    if not arguments.startswith("[("):
        return None
    try:
        pairs = ast.literal_eval(arguments)
        call = {name: value for name, value in pairs if isinstance(name, str)}
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return CalledModel(ambiguous="an argument of the call is printed by name only, such as a class")
    if OWN in call and call[OWN] is None:
        return CalledModel(ambiguous="a setting of the model is not printed in full")
    if call.get("stop", ()) is None:
        del call["stop"]
    if serialised is None:
        return CalledModel(call=call, foreign=True)
    settings = as_object(serialised.get("kwargs")) or {}
    path = as_list(serialised.get("id")) or ()
    foreign = tuple(path[:-1]) not in _KNOWN_NAMESPACES
    kept = {name: value for name, value in settings.items() if not _is_secret(value)}
    kept = kept if foreign else without(kept, *TRANSPORT_SETTINGS, "name")
    if serialised.get("type") != "constructor" or NOT_IMPLEMENTED in json.dumps(kept):
        return CalledModel(ambiguous="a setting of the model is not printed in full")
    return CalledModel(
        class_name=str(path[-1]) if path else "",
        settings={"path": list(path), **(kept if foreign else _settled(kept))},
        call=call if foreign else _settled(without(call, *TRANSPORT_SETTINGS)),
        foreign=foreign,
    )


def _split(llm_string: str) -> tuple[JsonObject | None, str]:
    if not llm_string.startswith("{"):
        return None, llm_string
    try:
        serialised, end = json.JSONDecoder().raw_decode(llm_string)
    except (ValueError, RecursionError):
        return None, ""
    arguments = llm_string[end:]
    return as_object(serialised), arguments.removeprefix("---") if arguments.startswith("---") else ""


def _settled(options: JsonObject) -> dict[str, object]:
    """Leave out what no model reads, also where it is passed through by ``model_kwargs`` and the like."""
    passed = {name: settled_options(as_object(options.get(name)) or {}) for name in _PASSED_THROUGH}
    own = settled_options(without(options, *_PASSED_THROUGH))
    return own | {name: group for name, group in passed.items() if group}


def _is_secret(value: object) -> bool:
    return isinstance(value, Mapping) and value.get("lc") == 1 and value.get("type") == "secret"
