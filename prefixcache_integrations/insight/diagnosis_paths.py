"""Where a block stands in the body it came from, and its JSON there."""

from __future__ import annotations

import re
from collections.abc import Sequence

from prefixcache_integrations.canonical import JsonObject, Message, Part, Request
from prefixcache_integrations.canonical.json import as_object, as_text
from prefixcache_integrations.insight.diagnosis_differences import joined
from prefixcache_integrations.prompt.content import unmarked

# The names inside a tool call's arguments are the model's words.
_ARGUMENT = re.compile(r"(\.(?:input|arguments))[.\[].*")


def outside_arguments(path: str) -> str:
    """Return a path that ends before the words of a model: at the arguments of the call that it leads into."""
    return _ARGUMENT.sub(r"\1", path)


def message_path(request: Request, index: int) -> str:
    """Return the path of a message; of an item of ``input`` in Responses."""
    if request.dialect != "openai_responses":
        return f"messages[{index}]"
    return "input" if _is_bare_input(request) else f"input[{index}]"


def part_path(request: Request, index: int, number: int) -> str:
    """Return the path of a message's part, which may be one behind the last."""
    message, head = request.messages[index], message_path(request, index)
    if request.dialect == "openai_responses" and (_is_bare_input(request) or not message.raw):
        return head
    field = "output" if (as_text(message.raw.get("type")) or "").endswith("_output") else "content"
    if request.dialect == "openai_chat" and number < len(message.parts) and message.parts[number].kind == "tool_call":
        calls = sum(part.kind == "tool_call" for part in message.parts[:number])
        return f"{head}.tool_calls[{calls}]"
    return _block_path(joined(head, field), message.parts, number, bare=message.bare)


def system_path(request: Request, index: int) -> str:
    """Return the path of a block of the top-level system prompt."""
    field = "instructions" if request.dialect == "openai_responses" else "system"
    return _block_path(field, request.system, index, bare=request.bare_system)


def _block_path(field: str, parts: Sequence[Part], number: int, *, bare: bool) -> str:
    return field if bare and len(parts) == 1 and number == 0 else f"{field}[{number}]"


def _is_bare_input(request: Request) -> bool:
    first = request.messages[0]
    return len(request.messages) == 1 and first.bare and not first.raw


def is_bare(message: Message) -> bool:
    """Tell whether the message's content is a plain string on the wire."""
    return message.bare and len(message.parts) == 1


def part_json(part: Part, *, plain_content: bool) -> JsonObject:
    """Return the block as the wire has it, markers left out, its nested blocks where they belong.

    ``plain_content``: nested content that was a plain string stays one.
    """
    raw = unmarked(part.raw)
    if not part.content:
        return raw
    nested: object = [part_json(inner, plain_content=plain_content) for inner in part.content]
    if plain_content and part.bare:
        nested = part.content[0].text
    source = as_object(raw.get("source"))
    if part.kind == "document" and source is not None:
        return {**raw, "source": {**source, "content": nested}}
    return {**raw, "content": nested}
