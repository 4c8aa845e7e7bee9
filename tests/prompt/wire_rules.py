"""The providers' documented rules about cache markers, checked on a body as it goes over the wire.

Written from the providers' documents alone, without the planner's code, so that it can judge the planner.
Each function returns what is wrong, in words; an empty list is a body the provider takes.

Claude docs, *Prompt caching*: where `cache_control` may stand, four at most, longer TTLs first. Claude release
notes: nested blocks. OpenAI docs, *Prompt caching*, and the parameter types of openai 3.52.0: `prompt_cache_breakpoint`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

CLAUDE_TTL_SECONDS = {"5m": 300, "1h": 3600}
CLAUDE_UNMARKABLE = {"thinking", "redacted_thinking", "fallback"}
OPENAI_TTLS = {"30m", "12h"}
CHAT_MARKABLE = {"text", "image_url", "input_audio", "file"}
RESPONSES_MARKABLE = {"input_text", "input_image", "input_file"}


def claude_faults(body: dict[str, Any]) -> list[str]:
    faults = []
    marked = [(path, block) for path, block in _claude_blocks(body) if block.get("cache_control") is not None]
    automatic = body.get("cache_control")
    count = len(marked) + (automatic is not None)
    if count > 4:
        faults.append(f"A maximum of 4 blocks with cache_control may be provided. Found {count}.")
    for path, block in marked:
        faults += [f"{path}: {fault}" for fault in _claude_block_faults(block)]
    faults += list(_claude_nested_faults(body))
    faults += list(_claude_ttl_faults([*marked, *([("top-level", body)] if automatic is not None else [])]))
    faults += list(_claude_automatic_faults(body, automatic))
    return faults


def claude_markers(body: dict[str, Any]) -> list[str]:
    """The paths of all markers, in render order, the top-level one last."""
    paths = [path for path, block in _claude_blocks(body) if block.get("cache_control") is not None]
    return [*paths, *(["top-level"] if body.get("cache_control") is not None else [])]


def _claude_blocks(body: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for index, tool in enumerate(body.get("tools") or []):
        yield f"tools.{index}", tool
    for index, block in enumerate(_blocks(body.get("system") or [])):
        yield f"system.{index}", block
    for number, message in enumerate(body["messages"]):
        for index, block in enumerate(_blocks(message["content"])):
            yield f"messages.{number}.content.{index}", block


def _blocks(content: Any) -> list[dict[str, Any]]:
    """A string is one text block."""
    return [{"type": "text", "text": content}] if isinstance(content, str) else content


def _claude_block_faults(block: dict[str, Any]) -> Iterator[str]:
    marker = block["cache_control"]
    if marker.get("type") != "ephemeral":
        yield "a marker's type must be 'ephemeral'"
    if marker.get("ttl") is not None and marker["ttl"] not in CLAUDE_TTL_SECONDS:
        yield "a marker's ttl must be '5m' or '1h'"
    if set(marker) - {"type", "ttl"}:
        yield "a marker has unknown fields"
    if block.get("type") in CLAUDE_UNMARKABLE:
        yield "cache_control: Extra inputs are not permitted"
    if block.get("type") == "text" and not block["text"]:
        yield "cache_control cannot be set for empty text blocks"
    if block.get("defer_loading") is True:
        yield "a tool with defer_loading cannot have cache_control"
    if (block.get("caller") or {"type": "direct"})["type"] != "direct":
        yield "a block called from code execution cannot have cache_control"


def _nested(block: dict[str, Any]) -> list[Any]:
    for holder in (block, block.get("source")):
        if isinstance(holder, dict) and isinstance(holder.get("content"), list):
            return holder["content"]
    return []


def _claude_nested_faults(body: dict[str, Any]) -> Iterator[str]:
    for path, block in _claude_blocks(body):
        for index, inner in enumerate(_nested(block)):
            if isinstance(inner, dict) and inner.get("cache_control") is not None:
                yield f"{path}.content.{index}: a nested block with cache_control"


def _claude_ttl_faults(marked: list[tuple[str, dict[str, Any]]]) -> Iterator[str]:
    shortest = CLAUDE_TTL_SECONDS["1h"]
    for path, block in marked:
        seconds = CLAUDE_TTL_SECONDS.get(block["cache_control"].get("ttl") or "5m", 0)
        if seconds > shortest:
            yield f"{path}: a ttl='1h' cache_control block must not come after a ttl='5m' cache_control block"
        shortest = min(shortest, seconds)


def _claude_automatic_faults(body: dict[str, Any], automatic: dict[str, Any] | None) -> Iterator[str]:
    blocks = [block for _, block in _claude_blocks(body) if not _is_unmarkable(block)]
    explicit = blocks[-1].get("cache_control") if blocks else None
    if automatic is None or explicit is None:
        return
    if (automatic.get("ttl") or "5m") != (explicit.get("ttl") or "5m"):
        yield "Top-level cache_control has another ttl than the target block"


def _is_unmarkable(block: dict[str, Any]) -> bool:
    bare = {**block, "cache_control": {"type": "ephemeral"}}
    return any(True for _ in _claude_block_faults(bare))


def openai_faults(body: dict[str, Any], *, markers: bool = True) -> list[str]:
    """`markers`: the model takes explicit breakpoints (GPT-5.6 and later); an earlier one answers 400."""
    allowed = dict(_openai_places(body))
    faults = []
    for path, holder in _holders(body, "", "prompt_cache_breakpoint"):
        marker = holder["prompt_cache_breakpoint"]
        if not markers:
            faults.append(f"{path}: prompt_cache_breakpoint is not supported on this model")
        if path not in allowed:
            faults.append(f"{path}: no prompt_cache_breakpoint here")
        if marker.get("mode") != "explicit" or set(marker) - {"mode", "ttl"}:
            faults.append(f"{path}: a breakpoint is {{'mode': 'explicit'}} with at most a ttl")
        if marker.get("ttl") is not None and marker["ttl"] not in OPENAI_TTLS:
            faults.append(f"{path}: a breakpoint's ttl must be '30m' or '12h'")
    return faults


def openai_markers(body: dict[str, Any]) -> list[str]:
    return [path for path, _ in _holders(body, "", "prompt_cache_breakpoint")]


def _openai_places(body: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """The content parts that have the field; not those of assistant messages, instructions and tools."""
    for name, field, kinds in (
        ("messages", "content", CHAT_MARKABLE),
        ("input", "content", RESPONSES_MARKABLE),
        ("input", "output", RESPONSES_MARKABLE),
    ):
        items = body.get(name)
        for number, item in enumerate(items if isinstance(items, list) else []):
            parts = item.get(field)
            if item.get("role") == "assistant" or not isinstance(parts, list):
                continue
            for index, part in enumerate(parts):
                if part.get("type") in kinds and part.get("text", "x"):
                    yield f".{name}[{number}].{field}[{index}]", part["type"]


def _holders(value: Any, path: str, name: str) -> Iterator[tuple[str, dict[str, Any]]]:
    if isinstance(value, dict):
        if isinstance(value.get(name), dict):
            yield path, value
        for key, inner in value.items():
            if key not in (name, "parameters", "schema", "arguments"):
                yield from _holders(inner, f"{path}.{key}", name)
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from _holders(inner, f"{path}[{index}]", name)
