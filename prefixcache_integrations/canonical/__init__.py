"""Floor 0: the words. Frozen, provider-neutral values that every other floor speaks in."""

from prefixcache_integrations.canonical.json import JsonObject
from prefixcache_integrations.canonical.plan import Breakpoint, Finding, Level, Move, PromptPlan, VolatileKind
from prefixcache_integrations.canonical.request import (
    Address,
    CacheMarker,
    DialectName,
    Kept,
    Message,
    Part,
    PartKind,
    Request,
    Role,
    Section,
    Tool,
)
from prefixcache_integrations.canonical.response import Response, StopReason
from prefixcache_integrations.canonical.tokens import Tokenizer
from prefixcache_integrations.canonical.usage import Iteration, Usage

__all__ = [
    "Address",
    "Breakpoint",
    "CacheMarker",
    "DialectName",
    "Finding",
    "Iteration",
    "JsonObject",
    "Kept",
    "Level",
    "Message",
    "Move",
    "Part",
    "PartKind",
    "PromptPlan",
    "Request",
    "Response",
    "Role",
    "Section",
    "StopReason",
    "Tokenizer",
    "Tool",
    "Usage",
    "VolatileKind",
]
