"""Values that an application hands to an LLM, as plain JSON: what a key can be made of."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Any

from pydantic import BaseModel

from prefixcache_integrations.canonical.json import without
from prefixcache_integrations.errors import PrefixCacheError
from prefixcache_integrations.prompt.headers import routing
from prefixcache_integrations.prompt.keys import settled_options


class Uncacheable(PrefixCacheError):
    """A call cannot be told from others, so it is neither looked up nor kept; the message quotes no prompt."""


def plain_arguments(arguments: Mapping[str, object]) -> dict[str, Any]:
    """Return the arguments of a call as JSON, without what no model reads."""
    given = settled_options({name: plain(value) for name, value in arguments.items()})
    if isinstance(body := given.get("extra_body"), Mapping):
        given["extra_body"] = settled_options(body)
    if "extra_headers" in given:
        given["extra_headers"] = routing(given["extra_headers"]) or None
    return without(given, "timeout", "extra_query")


def plain(value: object) -> Any:  # noqa: ANN401, PLR0911 - arguments are anything; this is where that ends
    """Return ``value`` as JSON. Raises `Uncacheable` for what has no value to write down."""
    match value:
        case None | bool() | int() | float() | str() if not isinstance(value, Enum):
            return value
        case Enum():
            return plain(value.value)
        case Mapping() if all(isinstance(name, str) for name in value):
            return {name: plain(item) for name, item in value.items()}
        case list() | tuple():
            return [plain(item) for item in value]
        case BaseModel():
            return value.model_dump(mode="json")
        case type() if issubclass(value, BaseModel):
            return {"class": f"{value.__module__}.{value.__qualname__}", "schema": value.model_json_schema()}
        case _ if (type(value).__module__, type(value).__name__) in _ABSENT:
            return None
        case _:
            raise Uncacheable(f"an argument of class {type(value).__name__} cannot be written down")


_ABSENT = {("openai", "NotGiven"), ("openai", "Omit"), ("anthropic", "NotGiven"), ("anthropic", "Omit")}
