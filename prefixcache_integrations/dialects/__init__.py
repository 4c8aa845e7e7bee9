"""Floor 2: the wire formats. Bodies, usage and streams to canonical words and back, without loss."""

from __future__ import annotations

import re

from prefixcache_integrations.canonical import DialectName
from prefixcache_integrations.dialects.anthropic_messages import AnthropicMessages
from prefixcache_integrations.dialects.dialect import Dialect
from prefixcache_integrations.dialects.openai_chat import OpenAIChat
from prefixcache_integrations.dialects.openai_responses import OpenAIResponses

__all__ = ["ANTHROPIC_MESSAGES", "OPENAI_CHAT", "OPENAI_RESPONSES", "Dialect", "by_name", "resolve"]

ANTHROPIC_MESSAGES: Dialect = AnthropicMessages()
OPENAI_CHAT: Dialect = OpenAIChat()
OPENAI_RESPONSES: Dialect = OpenAIResponses()

_BY_NAME = {dialect.name: dialect for dialect in (ANTHROPIC_MESSAGES, OPENAI_CHAT, OPENAI_RESPONSES)}

_PATHS = (
    (re.compile(r"(/anthropic)?/v1/messages"), ANTHROPIC_MESSAGES),
    (re.compile(r"(/openai)?/v1/chat/completions|/openai/deployments/[^/]+/chat/completions"), OPENAI_CHAT),
    (re.compile(r"(/openai)?/v1/responses|/openai(/deployments/[^/]+)?/responses"), OPENAI_RESPONSES),
)
"""Azure puts its own roots before the paths: ``/openai`` and ``/openai/deployments/{name}``, ``/anthropic``."""


def by_name(name: DialectName) -> Dialect:
    """Return the dialect called ``name``."""
    return _BY_NAME[name]


def resolve(path: str) -> Dialect | None:
    """Return the dialect that a URL path speaks, ``None`` for a path of another API; a query is passed over."""
    bare = path.partition("?")[0]
    return next((dialect for pattern, dialect in _PATHS if pattern.fullmatch(bare)), None)
