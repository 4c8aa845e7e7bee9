"""This package's facts as events of LlamaIndex's instrumentation, so that its tracers show them."""

from __future__ import annotations

from typing import Any

import msgspec
from llama_index.core.instrumentation import get_dispatcher  # type: ignore[attr-defined] # documented there
from llama_index.core.instrumentation.events import BaseEvent
from pydantic import Field

from prefixcache_integrations.events import Event, PromptPlanned

_dispatcher = get_dispatcher(__name__)


class PrefixCacheEvent(BaseEvent):
    """One fact: the name of its class in `prefixcache_integrations.events`, and its fields."""

    fact: str
    details: dict[str, Any] = Field(default_factory=dict)

    @classmethod
    def class_name(cls) -> str:
        """Return the name by which tracers know these events."""
        return "PrefixCacheEvent"


def dispatch(event: Event) -> None:
    """Tell LlamaIndex's dispatcher, in the span that is active. An observer."""
    _dispatcher.event(PrefixCacheEvent(fact=type(event).__name__, details=_details(event)))


def _details(event: Event) -> dict[str, Any]:
    if isinstance(event, PromptPlanned):
        plan = event.plan
        findings = [finding.code for finding in plan.findings]
        return {"model": event.model, "breakpoints": len(plan.breakpoints), "findings": findings}
    details: dict[str, Any] = msgspec.to_builtins(event)
    return details
