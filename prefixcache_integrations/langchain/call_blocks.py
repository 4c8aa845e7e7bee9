"""The blocks of an answer that stand for tool calls which the message lists, too."""

from __future__ import annotations

import json

from prefixcache_integrations.canonical import JsonObject
from prefixcache_integrations.canonical.json import as_object, without

_ARGUMENTS = ("arguments", "input", "args")
_CALL_FIELDS = ("id", "call_id", "item_id", "name", "status", "extras", *_ARGUMENTS)


def beyond(call: JsonObject, raw: JsonObject, block: JsonObject) -> dict[str, object]:
    """Return what a block says beyond ``call``, which is listed too.

    ChatOpenAI sends ``function_call`` blocks and the ``extras`` of standard ones as they are; ChatAnthropic sends the
    input of a ``tool_use`` block only if that names its ``caller``, and reads it as it was streamed if it is empty.
    """
    said = without(raw, *_CALL_FIELDS)
    if extras := as_object(raw.get("extras")):
        said["extras"] = {**without(extras, *_CALL_FIELDS), **_otherwise(call, extras)}
    if raw.get("type") == "tool_use":
        if not raw.get("caller"):
            return said
        raw = {**raw, "input": raw.get("input") or block.get("partial_json")}
    return said | _otherwise(call, raw)


def _otherwise(call: JsonObject, said: JsonObject) -> dict[str, object]:
    """Return the name and the arguments where they are not those of ``call``."""
    other = {} if said.get("name", call.get("name")) == call.get("name") else {"name": said["name"]}
    given = {name: said[name] for name in _ARGUMENTS if said.get(name) is not None}
    return other | {name: value for name, value in given.items() if not _is_json_of(value, call.get("args"))}


def _is_json_of(value: object, arguments: object) -> bool:
    try:
        read = json.loads(value) if isinstance(value, str) else value
        return json.dumps(read, sort_keys=True) == json.dumps(arguments, sort_keys=True)
    except (TypeError, ValueError, RecursionError):
        return False
