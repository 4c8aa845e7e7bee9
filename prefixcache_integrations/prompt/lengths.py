"""How long messages are, told without reading them as segments: of an ordinary turn nothing else is asked."""

from __future__ import annotations

from collections.abc import Sequence

from prefixcache_integrations.canonical import DialectName, Message, Tokenizer
from prefixcache_integrations.canonical.json import as_text
from prefixcache_integrations.prompt.content import COSTS, fixed_tokens, part_text
from prefixcache_integrations.prompt.segments import NAME_TOKENS


def added_tokens(messages: Sequence[Message], dialect: DialectName, tokenizer: Tokenizer) -> int:
    """Return by how many tokens ``messages`` make a prompt longer at whose end they are put: what its segments count.

    They are not the first instructions.
    """
    costs = COSTS[dialect]
    total = costs.message * len(messages)
    for message in messages:
        name = (as_text(message.raw.get("name")) or "") if costs.frames else ""
        total += tokenizer.count(name) + NAME_TOKENS if name else 0
        for part in message.parts:
            text = part_text(part, "")
            total += fixed_tokens(part, costs) + (tokenizer.count(text) if text else 0)
    return total
