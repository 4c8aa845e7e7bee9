"""What was retrieved for the latest question, where a layout has put it: before that, and in no later prompt."""

from __future__ import annotations

import re
from itertools import takewhile

from prefixcache_integrations.canonical import Address, Part, Request
from prefixcache_integrations.prompt.tail_note import stated_before

IN_TAGS = "(It is in the user's latest message, between <{tag}> and </{tag}>.)"
"""What instructions say in its place, where it stands in tags of an application's own."""

_HOLDS = re.compile(r"<(\w+)>\n")


def holds_retrieved(part: Part) -> bool:
    """Tell whether a layout has put what was retrieved into ``part``, in a block of its own."""
    return part.text.startswith("<documents_") and _HOLDS.match(part.text) is not None


def retrieved_at(request: Request, index: int) -> Address | None:
    """Return the block of message ``index`` that holds it, ``None`` where nothing said before tells of it."""
    message, seen = request.messages[index], set[str]()
    for number, part in enumerate(message.parts if message.role == "user" else ()):
        found = _HOLDS.match(part.text) if part.text.startswith("<") else None
        if found is None or found.group(1) in seen:
            continue
        seen.add(found.group(1))
        if _is_told(request, index, found.group(1)):
            return Address("messages", index, number)
    return None


def retrieved_last(request: Request) -> Address | None:
    """Return where it stands if a question is the last that was said, so that no later request has it."""
    return retrieved_at(request, len(request.messages) - 1) if request.messages else None


def _is_told(request: Request, index: int, tag: str) -> bool:
    """Tell whether the instructions say so; LlamaIndex gives those of some models as messages of the user's."""
    told = (stated_before(tag), IN_TAGS.format(tag=tag))
    led = takewhile(lambda message: message.role != "assistant", request.messages[:index])
    texts = (part.text for parts in (request.system, *(message.parts for message in led)) for part in parts)
    return any(words in text for text in texts for words in told)
