"""This package's facts as events of LlamaIndex's instrumentation, so that its tracers show them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal
from uuid import uuid4

import msgspec
from llama_index.core.instrumentation import get_dispatcher  # type: ignore[attr-defined] # documented there
from llama_index.core.instrumentation.events import BaseEvent
from llama_index.core.llms import LLM
from pydantic import Field

from prefixcache_integrations.canonical import Usage
from prefixcache_integrations.events import Event, PromptPlanned
from prefixcache_integrations.sdk_answers import listening

_dispatcher = get_dispatcher(__name__)


class PrefixCacheEvent(BaseEvent):
    """One fact: the name of its class in `prefixcache_integrations.events`, and its fields."""

    fact: str
    details: dict[str, Any] = Field(default_factory=dict)

    @classmethod
    def class_name(cls) -> str:
        """Return the name by which tracers know these events."""
        return "PrefixCacheEvent"


class StructuredCallEvent(BaseEvent):
    """A structured output that an integration gets past its chat methods, for which LlamaIndex has no LLM events.

    ``call`` is the same from ``began`` to ``ended`` or ``failed``; ``usage`` are the fields of `Usage` that are known.
    """

    call: str
    stage: Literal["began", "ended", "failed"]
    model_dict: dict[str, Any] = Field(default_factory=dict)
    model: str | None = None
    usage: dict[str, Any] = Field(default_factory=dict)
    error: Any = Field(default=None, exclude=True)

    @classmethod
    def class_name(cls) -> str:
        """Return the name by which tracers know these events."""
        return "StructuredCallEvent"


@contextmanager
def structured_call(llm: LLM) -> Iterator[None]:
    """Tell LlamaIndex's dispatcher of the one call of ``llm`` in this block, and what it took."""
    call, heard = str(uuid4()), list[tuple[Usage, str | None]]()
    _dispatcher.event(StructuredCallEvent(call=call, stage="began", model_dict=llm.to_payload()))
    try:
        with listening(lambda usage, model: heard.append((usage, model))):
            yield
    except BaseException as error:
        if not heard:  # what was answered is paid for, whatever came of it
            _dispatcher.event(StructuredCallEvent(call=call, stage="failed", error=error))
            raise
        _ended(call, *heard[-1])
        raise
    _ended(call, *(heard[-1] if heard else (Usage(), None)))


def _ended(call: str, usage: Usage, model: str | None) -> None:
    known = {name: value for name, value in msgspec.to_builtins(usage).items() if value is not None}
    _dispatcher.event(StructuredCallEvent(call=call, stage="ended", model=model, usage=known))


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
