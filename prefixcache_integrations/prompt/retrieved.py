"""What was retrieved for the latest question, where a layout has put it: before that, and in no later prompt."""

from __future__ import annotations

import re
from itertools import takewhile

from prefixcache_integrations.canonical import Address, Part, Request
from prefixcache_integrations.prompt.tail_note import question, stated_before

IN_TAGS = "(It is in the user's latest message, between <{tag}> and </{tag}>.)"
"""What instructions say in its place, where it stands in tags of an application's own."""

_HOLDS = re.compile(r"<(\w+)>\n")


def holds_retrieved(part: Part) -> bool:
    """Tell whether a layout has put what was retrieved into ``part``, in a block of its own."""
    return part.text.startswith("<documents_") and _HOLDS.match(part.text) is not None


def retrieved_at(request: Request) -> Address | None:
    """Return the block of the latest question that holds it, ``None`` where nothing said before tells of it."""
    index = question(request)
    for number, part in enumerate(() if index is None else request.messages[index].parts):
        found = _HOLDS.match(part.text) if part.text.startswith("<") else None
        if found is not None and index is not None and _is_told(request, found.group(1)):
            return Address("messages", index, number)
    return None


def _is_told(request: Request, tag: str) -> bool:
    """Tell whether the instructions say so; LlamaIndex gives those of some models as messages of the user's."""
    told = (stated_before(tag), IN_TAGS.format(tag=tag))
    led = takewhile(lambda message: message.role != "assistant", request.messages)
    texts = (part.text for parts in (request.system, *(message.parts for message in led)) for part in parts)
    return any(words in text for text in texts for words in told)
